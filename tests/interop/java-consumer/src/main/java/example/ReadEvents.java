package example;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Prints each event up to the present end of the topic, then messages per chat and minute, as JSON lines. */
public final class ReadEvents {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Set<String> KNOWN = Set.of(
            "message.persisted", "message.edited", "message.deleted", "chat.created", "chat.updated",
            "member.joined", "member.left", "member.updated", "withheld");

    private final Map<String, Map<Instant, Integer>> messages = new TreeMap<>();
    private int events;
    private int skipped;

    public static void main(String[] args) throws Exception {
        Map<String, String> env = System.getenv();
        Properties props = new Properties();
        props.setProperty("bootstrap.servers", env.getOrDefault("BOOTSTRAP_SERVERS", "localhost:9092"));
        props.setProperty("schema.registry.url", env.getOrDefault("SCHEMA_REGISTRY_URL", "http://localhost:8081"));
        props.setProperty("group.id", env.getOrDefault("GROUP", "java-consumer"));
        props.setProperty("auto.offset.reset", "earliest");
        // The log holds aborted transactions: without this line they would be read too.
        props.setProperty("isolation.level", "read_committed");
        props.setProperty("key.deserializer", StringDeserializer.class.getName());
        props.setProperty("value.deserializer", ConfluentAvroDeserializer.class.getName());
        String topic = env.getOrDefault("EVENTS_TOPIC", "chat.events");
        try (KafkaConsumer<String, GenericRecord> consumer = new KafkaConsumer<>(props)) {
            new ReadEvents().run(consumer, topic);
        }
    }

    private void run(KafkaConsumer<String, GenericRecord> consumer, String topic) throws Exception {
        int partitions = consumer.partitionsFor(topic).size();
        Map<TopicPartition, Long> ends = null;
        consumer.subscribe(List.of(topic));
        while (ends == null || !isAtEnd(consumer, ends)) {
            for (ConsumerRecord<String, GenericRecord> record : consumer.poll(Duration.ofMillis(100))) {
                take(record.value());
            }
            if (ends == null && consumer.assignment().size() == partitions) {
                // Of a reader of committed records: no further than the first transaction that is still open.
                ends = consumer.endOffsets(consumer.assignment());
            }
        }
        consumer.commitSync();
        for (Map.Entry<String, Map<Instant, Integer>> chat : messages.entrySet()) {
            for (Map.Entry<Instant, Integer> minute : chat.getValue().entrySet()) {
                print("chat_id", chat.getKey(), "minute", minute.getKey().toString(), "messages", minute.getValue());
            }
        }
        print("events", events, "skipped", skipped);
    }

    /** By position, not by the last record seen: markers of transactions take offsets too, and no poll returns them. */
    private static boolean isAtEnd(KafkaConsumer<?, ?> consumer, Map<TopicPartition, Long> ends) {
        return ends.entrySet().stream().allMatch(end -> consumer.position(end.getKey()) >= end.getValue());
    }

    private void take(GenericRecord event) throws Exception {
        String type = event.get("event_type").toString();
        if (!KNOWN.contains(type)) {
            skipped++; // A later version's: the rest of the history is as readable as before.
            return;
        }
        events++;
        String chat = event.get("chat_id").toString();
        long at = (long) event.get("occurred_at");
        GenericRecord message = (GenericRecord) event.get("message");
        Object content = message == null ? null : message.get("content");
        print("event_id", event.get("event_id").toString(), "event_type", type, "chat_id", chat,
                "seq", event.get("seq"), "actor_id", event.get("actor_id").toString(), "occurred_at", at,
                "content", content == null ? null : content.toString());
        if (type.equals("message.persisted")) {
            Instant minute = Instant.ofEpochMilli(at).truncatedTo(ChronoUnit.MINUTES);
            messages.computeIfAbsent(chat, id -> new TreeMap<>()).merge(minute, 1, Integer::sum);
        }
    }

    private static void print(Object... namesAndValues) throws Exception {
        Map<String, Object> line = new LinkedHashMap<>();
        for (int i = 0; i < namesAndValues.length; i += 2) {
            line.put((String) namesAndValues[i], namesAndValues[i + 1]);
        }
        System.out.println(JSON.writeValueAsString(line));
    }
}
