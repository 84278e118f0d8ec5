-- Whose tokens count. One row for everybody whose tokens were ever revoked: those issued before `refused_before` are
-- refused. Gateways ask for rows past the last position that they have seen.
CREATE TABLE user_revocation (
    user_id         text PRIMARY KEY,
    refused_before  timestamptz NOT NULL,
    is_removed      boolean NOT NULL,
    position        bigint NOT NULL
);
CREATE INDEX user_revocation_position ON user_revocation (position);

-- Whoever holds this row's lock gives the next position, so that positions follow commits.
CREATE TABLE revocation_counter (
    is_only        boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    last_position  bigint NOT NULL
);
INSERT INTO revocation_counter (last_position) VALUES (0);

-- People who were removed lately, and whose memberships may still have to end.
CREATE TABLE user_removal (
    user_id   text PRIMARY KEY,
    asked_at  timestamptz NOT NULL
);
