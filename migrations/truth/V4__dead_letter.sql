-- What an operator did about a record of a dead-letter topic, which itself can't be changed.
CREATE TABLE dead_letter_settled (
    topic          text NOT NULL,
    -- Cluster and topic id: offsets of another log mean nothing here.
    log_id         text NOT NULL,
    partition      int NOT NULL,
    record_offset  bigint NOT NULL,
    outcome        text NOT NULL CHECK (outcome IN ('retried', 'dropped')),
    settled_at     timestamptz NOT NULL,
    PRIMARY KEY (log_id, partition, record_offset)
);
