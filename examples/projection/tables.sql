-- Run at each start: it must do nothing where the tables are there.
CREATE TABLE IF NOT EXISTS talkers (
    chat_id    text NOT NULL,
    user_id    text NOT NULL,
    messages   bigint NOT NULL,
    PRIMARY KEY (chat_id, user_id)
);
