-- Projections that are kept where `projector.also` names them.

-- The newest messages of each chat, as they are now.
CREATE TABLE timeline (
    chat_id      text NOT NULL,
    message_seq  bigint NOT NULL,
    message      jsonb NOT NULL,
    PRIMARY KEY (chat_id, message_seq)
);

-- Messages sent, by chat and day (UTC), and by how many people.
CREATE TABLE chat_activity (
    chat_id   text NOT NULL,
    day       date NOT NULL,
    messages  bigint NOT NULL,
    senders   bigint NOT NULL,
    PRIMARY KEY (chat_id, day)
) WITH (fillfactor = 70);
CREATE INDEX chat_activity_day ON chat_activity (day);
CREATE TABLE chat_activity_sender (
    chat_id    text NOT NULL,
    day        date NOT NULL,
    sender_id  text NOT NULL,
    messages   bigint NOT NULL,
    PRIMARY KEY (chat_id, day, sender_id)
) WITH (fillfactor = 70);

-- Every message of a person, as it is now: what an access request asks for.
CREATE TABLE user_export (
    user_id      text NOT NULL,
    chat_id      text NOT NULL,
    message_seq  bigint NOT NULL,
    message      jsonb NOT NULL,
    PRIMARY KEY (user_id, chat_id, message_seq)
);
