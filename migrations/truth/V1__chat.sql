-- The source of truth. What makes an event is an INSERT into message, chat_change or user_change, and only that: the
-- publication publishes inserts of these three and nothing else. All other tables are state beside them.

CREATE TABLE "user" (
    id          text PRIMARY KEY,
    name        text,
    email       text,
    avatar_url  text,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    removed_at  timestamptz
);
CREATE INDEX user_email ON "user" (lower(email)) WHERE removed_at IS NULL;

-- Every change of a person, published to chat.users.
CREATE TABLE user_change (
    user_id       text NOT NULL,
    version       bigint NOT NULL,
    name          text,
    email         text,
    avatar_url    text,
    is_removed    boolean NOT NULL,
    changed_at    timestamptz NOT NULL,
    PRIMARY KEY (user_id, version)
);

CREATE TABLE chat (
    id                       text PRIMARY KEY,
    name                     text,
    is_group                 boolean NOT NULL,
    created_at               timestamptz NOT NULL,
    app_data                 text,
    avatar_url               text,
    deleted_shown_as         text NOT NULL CHECK (deleted_shown_as IN ('tombstone', 'hidden')),
    history_for_new_members  boolean NOT NULL,
    changed_seq              bigint NOT NULL,
    changed_session          text NOT NULL
);

-- The chat's order: whoever holds this row's lock gives the next seq. A table of its own, so that the hot row stays
-- small and is updated in place; a sequence would give numbers in another order than commits and leave gaps.
CREATE TABLE chat_counter (
    chat_id   text PRIMARY KEY,
    last_seq  bigint NOT NULL,
    last_at   timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Membership as intervals: one row a stay. The stay that is open has no left_seq.
CREATE TABLE chat_member (
    chat_id           text NOT NULL,
    user_id           text NOT NULL,
    joined_at         timestamptz NOT NULL,
    role              text NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
    joined_seq        bigint NOT NULL,
    left_seq          bigint,
    left_at           timestamptz,
    visible_from_seq  bigint NOT NULL,
    changed_seq       bigint NOT NULL,
    changed_session   text NOT NULL,
    PRIMARY KEY (chat_id, user_id, joined_seq)
);
CREATE INDEX chat_member_of_user ON chat_member (user_id, chat_id);
CREATE UNIQUE INDEX chat_member_open ON chat_member (chat_id, user_id) WHERE left_seq IS NULL;

-- Sends. The body stays as it was written until it is deleted; edits are rows of chat_change.
CREATE TABLE message (
    message_id         uuid NOT NULL,
    chat_id            text NOT NULL,
    sender_id          text NOT NULL,
    content            text,
    file_url           text,
    parent_message_id  uuid,
    parent_seq         bigint,
    sequence_number    bigint NOT NULL,
    app_data           text,
    attachments        jsonb,
    edited_seq         bigint,
    edit_session       text,
    is_delete          boolean NOT NULL DEFAULT false,
    created_at         timestamptz NOT NULL,
    deleted_at         timestamptz,
    PRIMARY KEY (chat_id, sequence_number)
) PARTITION BY HASH (chat_id);

-- Everything else that has a seq, with the full new state. content stands alone so that a delete can empty it.
CREATE TABLE chat_change (
    chat_id          text NOT NULL,
    sequence_number  bigint NOT NULL,
    event_type       text NOT NULL,
    actor_id         text NOT NULL,
    occurred_at      timestamptz NOT NULL,
    message_seq      bigint,
    content          text,
    message          jsonb,
    memberships      jsonb,
    chat             jsonb,
    PRIMARY KEY (chat_id, sequence_number)
) PARTITION BY HASH (chat_id);

DO $$
BEGIN
    FOR part IN 0..7 LOOP
        EXECUTE format('CREATE TABLE message_p%s PARTITION OF message FOR VALUES WITH (MODULUS 8, REMAINDER %s)', part, part);
        EXECUTE format('CREATE TABLE chat_change_p%s PARTITION OF chat_change FOR VALUES WITH (MODULUS 8, REMAINDER %s)', part, part);
    END LOOP;
END $$;

-- Changes of one message: its latest edit, and all of them when it is deleted.
CREATE INDEX chat_change_of_message ON chat_change (chat_id, message_seq, sequence_number) WHERE message_seq IS NOT NULL;

-- A message_id is unique. The tables above are partitioned by chat, so the constraint stands here. body_hash is a keyed
-- hash of the original body, so that a repeated send is known even after an edit or a delete.
CREATE TABLE message_key (
    message_id       uuid PRIMARY KEY,
    chat_id          text NOT NULL,
    sender_id        text NOT NULL,
    sequence_number  bigint NOT NULL,
    body_hash        bytea NOT NULL
);

CREATE TABLE media (
    id          text PRIMARY KEY,
    user_id     text NOT NULL,
    file_name   text NOT NULL,
    url         text NOT NULL,
    created_at  timestamptz NOT NULL
);

-- What became of commands whose answer can't be found in message_key: refusals, and all that isn't a send.
CREATE TABLE command_result (
    command_id  uuid PRIMARY KEY,
    answer      jsonb NOT NULL,
    decided_at  timestamptz NOT NULL
);
CREATE INDEX command_result_decided_at ON command_result (decided_at);

-- Kafka offsets of the persister, advanced by compare-and-set in the transaction of the rows.
CREATE TABLE consumer_offset (
    consumer      text NOT NULL,
    topic         text NOT NULL,
    partition     int NOT NULL,
    next_offset   bigint NOT NULL,
    -- Cluster and topic id: offsets of another log mean nothing here.
    log_id        text NOT NULL,
    PRIMARY KEY (consumer, topic, partition)
) WITH (fillfactor = 50);

-- Who streams the slot. Decided by this server's clock; see the worker's takeover.
CREATE TABLE cdc_lease (
    slot        text PRIMARY KEY,
    holder      text NOT NULL,
    expires_at  timestamptz NOT NULL
);

-- Facts about this installation: prefix, epoch, the key of body_hash.
CREATE TABLE installation (
    name   text PRIMARY KEY,
    value  text NOT NULL
);
