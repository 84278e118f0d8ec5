-- Messages per chat and day, as `bench rebuild --peer` has Flink count them. Nobody is to be printed: that would take longer.
CREATE TABLE chat_events (
    event_type  STRING,
    chat_id     STRING,
    occurred_at TIMESTAMP(3),
    WATERMARK FOR occurred_at AS occurred_at - INTERVAL '1' MINUTE
) WITH (
    'connector' = 'kafka',
    'topic' = '${EVENTS_TOPIC}',
    'properties.bootstrap.servers' = '${BOOTSTRAP_SERVERS}',
    'properties.group.id' = '${GROUP}',
    'properties.isolation.level' = 'read_committed',
    'scan.startup.mode' = 'earliest-offset',
    'scan.bounded.mode' = 'latest-offset',
    'format' = 'avro-confluent',
    'avro-confluent.url' = '${SCHEMA_REGISTRY_URL}'
);

SELECT chat_id, window_start, COUNT(*) AS messages
FROM TABLE(TUMBLE(TABLE chat_events, DESCRIPTOR(occurred_at), INTERVAL '1' DAY))
WHERE event_type = 'message.persisted'
GROUP BY chat_id, window_start, window_end
HAVING COUNT(*) > 1000000;
