-- Answers to POSTs with an Idempotency-Key, kept for a day; no status yet while the first request is under way, no claim
-- once it was given up without an end. Bodies of messages are not in them.
CREATE TABLE idempotent_answer (
    user_id       text NOT NULL,
    service       text NOT NULL,
    key           text NOT NULL,
    request_hash  bytea NOT NULL,
    operation     uuid NOT NULL,
    claim         uuid,
    claimed_at    timestamptz NOT NULL,
    status        smallint,
    body          jsonb,
    PRIMARY KEY (user_id, service, key)
);
CREATE INDEX idempotent_answer_claimed_at ON idempotent_answer (claimed_at);

-- How a person wants to be told of messages. No row: as the program has it.
CREATE TABLE user_settings (
    user_id     text PRIMARY KEY,
    settings    jsonb NOT NULL,
    updated_at  timestamptz NOT NULL
);

-- Where a person can be told of messages.
CREATE TABLE user_device (
    user_id     text NOT NULL,
    device_id   text NOT NULL,
    platform    text NOT NULL CHECK (platform IN ('web', 'android', 'ios')),
    name        text,
    address     text NOT NULL,
    keys        jsonb,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    PRIMARY KEY (user_id, device_id)
);
