-- Read models: what projections make of the history. Everything here can be made again by replaying it.

-- Kafka offsets of projections, advanced by compare-and-set in the transaction of the rows.
CREATE TABLE consumer_offset (
    consumer      text NOT NULL,
    topic         text NOT NULL,
    partition     int NOT NULL,
    next_offset   bigint NOT NULL,
    -- Cluster and topic id: offsets of another log mean nothing here.
    log_id        text NOT NULL,
    PRIMARY KEY (consumer, topic, partition)
) WITH (fillfactor = 50);

-- Projection `membership`: stays of people in chats.
CREATE TABLE membership (
    chat_id           text NOT NULL,
    user_id           text NOT NULL,
    joined_seq        bigint NOT NULL,
    left_seq          bigint,
    visible_from_seq  bigint NOT NULL,
    member_role       text NOT NULL,
    PRIMARY KEY (chat_id, user_id, joined_seq)
);
CREATE INDEX membership_of_user ON membership (user_id, chat_id);

-- Projection `cursor`: how far each member has come, the maximum of all marks.
CREATE TABLE chat_cursor (
    chat_id        text NOT NULL,
    user_id        text NOT NULL,
    delivered_seq  bigint NOT NULL,
    read_seq       bigint NOT NULL,
    updated_at     timestamptz NOT NULL,
    PRIMARY KEY (chat_id, user_id)
) WITH (fillfactor = 70);

-- Projection `chat_head`: the newest event and the newest message of each chat.
CREATE TABLE chat_head (
    chat_id            text PRIMARY KEY,
    head_seq           bigint NOT NULL,
    last_activity_at   timestamptz NOT NULL,
    message_seq        bigint,
    message            jsonb
) WITH (fillfactor = 50);

-- Projection `inbox`: messages that have not reached a member yet.
CREATE TABLE inbox (
    user_id          text NOT NULL,
    message_id       uuid NOT NULL,
    chat_id          text NOT NULL,
    sequence_number  bigint NOT NULL,
    is_delivered     boolean NOT NULL DEFAULT false,
    is_deleted       boolean NOT NULL DEFAULT false,
    created_at       timestamptz NOT NULL,
    PRIMARY KEY (user_id, chat_id, sequence_number)
);
CREATE INDEX inbox_of_message ON inbox (chat_id, sequence_number);
CREATE INDEX inbox_delivered ON inbox (user_id) WHERE is_delivered;

-- The inbox's own view of who is a member and how far each has come: a projection reads no other's tables.
CREATE TABLE inbox_member (
    chat_id     text NOT NULL,
    user_id     text NOT NULL,
    joined_seq  bigint NOT NULL,
    left_seq    bigint,
    PRIMARY KEY (chat_id, user_id, joined_seq)
);
CREATE TABLE inbox_cursor (
    chat_id        text NOT NULL,
    user_id        text NOT NULL,
    delivered_seq  bigint NOT NULL,
    PRIMARY KEY (chat_id, user_id)
) WITH (fillfactor = 70);
