-- The history. Of the Avro record only the columns are read that are named here; the rest is passed over.
CREATE TABLE chat_events (
    event_type  STRING,
    chat_id     STRING,
    seq         BIGINT,
    occurred_at TIMESTAMP(3),
    message     ROW<sender_id STRING, content STRING>,
    sender_id   AS message.sender_id,
    -- Time runs forward within a chat; between the chats of a partition it may step back a little.
    WATERMARK FOR occurred_at AS occurred_at - INTERVAL '1' MINUTE
) WITH (
    'connector' = 'kafka',
    'topic' = '${EVENTS_TOPIC}',
    'properties.bootstrap.servers' = '${BOOTSTRAP_SERVERS}',
    'properties.group.id' = '${GROUP}',
    -- The log holds aborted transactions: without this line they would be read too.
    'properties.isolation.level' = 'read_committed',
    'scan.startup.mode' = 'earliest-offset',
    -- To the present end. Without this line the job goes on for ever.
    'scan.bounded.mode' = 'latest-offset',
    'format' = 'avro-confluent',
    'avro-confluent.url' = '${SCHEMA_REGISTRY_URL}'
);

-- People, as a table with versions: what somebody was called at any time.
CREATE TABLE chat_users (
    user_id      STRING,
    display_name STRING,
    updated_at   TIMESTAMP(3),
    PRIMARY KEY (user_id) NOT ENFORCED,
    WATERMARK FOR updated_at AS updated_at
) WITH (
    'connector' = 'upsert-kafka',
    'topic' = '${USERS_TOPIC}',
    'properties.bootstrap.servers' = '${BOOTSTRAP_SERVERS}',
    'properties.group.id' = '${GROUP}',
    'properties.isolation.level' = 'read_committed',
    'scan.bounded.mode' = 'latest-offset',
    'key.format' = 'raw',
    'value.format' = 'avro-confluent',
    'value.avro-confluent.url' = '${SCHEMA_REGISTRY_URL}'
);

-- Messages per chat and minute.
SELECT
    chat_id,
    DATE_FORMAT(window_start, 'yyyy-MM-dd''T''HH:mm:ss''Z''') AS `minute`,
    COUNT(*) AS messages
FROM TABLE(TUMBLE(TABLE chat_events, DESCRIPTOR(occurred_at), INTERVAL '1' MINUTE))
WHERE event_type = 'message.persisted'
GROUP BY chat_id, window_start, window_end;

-- Each message with its sender's name as it was then. Senders that are nobody, as a service, have none.
SELECT e.chat_id, e.seq, e.sender_id, u.display_name AS sender_name, e.message.content AS content
FROM chat_events AS e
LEFT JOIN chat_users FOR SYSTEM_TIME AS OF e.occurred_at AS u ON e.sender_id = u.user_id
WHERE e.event_type = 'message.persisted';
