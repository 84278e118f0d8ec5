-- The notifier's own state. It isn't made again from the history: it says what was done already.

-- Messages of which somebody looked online: decided again at due_at.
CREATE TABLE notify_look (
    look_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chat_id   text NOT NULL,
    seq       bigint NOT NULL,
    user_ids  text[] NOT NULL,
    -- Of a large chat: what it leads to waits for other things.
    is_bulk   boolean NOT NULL,
    due_at    timestamptz NOT NULL
);
CREATE INDEX notify_look_due ON notify_look (due_at);

-- Unread messages on their way into a mail, by person.
CREATE TABLE notify_digest (
    user_id  text PRIMARY KEY,
    digest   jsonb NOT NULL,
    -- Null while nothing waits; the row then only knows when the last mail was.
    due_at   timestamptz
) WITH (fillfactor = 70);
CREATE INDEX notify_digest_due ON notify_digest (due_at) WHERE due_at IS NOT NULL;

-- What was taken up, once a person, message and channel. Kept longer than a record can come again.
CREATE TABLE notify_sent (
    user_id     text NOT NULL,
    message_id  text NOT NULL,
    channel     text NOT NULL,
    taken_at    timestamptz NOT NULL,
    PRIMARY KEY (user_id, message_id, channel)
);
CREATE INDEX notify_sent_taken_at ON notify_sent (taken_at);

-- What is to be sent. Whoever works on a row has put due_at into the future: if the worker dies, it is due again then.
CREATE TABLE notify_task (
    task_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         text NOT NULL CHECK (kind IN ('push', 'clear', 'mail', 'group')),
    is_bulk      boolean NOT NULL,
    -- What reaches it: apns, fcm, web/<host of the push service>, smtp. A circuit breaker each.
    service      text NOT NULL,
    user_id      text NOT NULL,
    device_id    text NOT NULL,
    chat_id      text NOT NULL,
    seq          bigint NOT NULL,
    message_id   text NOT NULL,
    cause        text NOT NULL,
    occurred_at  timestamptz NOT NULL,
    -- A digest's content; of a large chat, up to which member it is done.
    payload      jsonb,
    attempt      int NOT NULL DEFAULT 0,
    due_at       timestamptz NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX notify_task_due ON notify_task (is_bulk, due_at);
CREATE UNIQUE INDEX notify_task_clear ON notify_task (user_id, device_id, chat_id) WHERE kind = 'clear';

-- What devices show of a chat, so that it can be taken away once it is read.
CREATE TABLE notify_shown (
    user_id    text NOT NULL,
    chat_id    text NOT NULL,
    device_id  text NOT NULL,
    first_seq  bigint NOT NULL,
    last_seq   bigint NOT NULL,
    shown_at   timestamptz NOT NULL,
    PRIMARY KEY (user_id, chat_id, device_id)
) WITH (fillfactor = 70);
