-- Messages that can't be published and were given up by somebody: at their seq stands the event `withheld`. Not published
-- itself; the CDC worker reads it when it starts, readers of the tables with each message.
CREATE TABLE cdc_withheld (
    chat_id          text NOT NULL,
    sequence_number  bigint NOT NULL,
    actor_id         text NOT NULL,
    occurred_at      timestamptz NOT NULL,
    decided_at       timestamptz NOT NULL,
    PRIMARY KEY (chat_id, sequence_number)
);
