package example;

import com.fasterxml.jackson.databind.ObjectMapper;
import io.apicurio.registry.serde.Legacy4ByteIdHandler;
import io.apicurio.registry.serde.avro.AvroSerde;
import java.time.Duration;
import java.time.Instant;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.TopicConfig;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.serialization.LongDeserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.streams.CloseOptions;
import org.apache.kafka.streams.CloseOptions.GroupMembershipOperation;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.TimeWindowedDeserializer;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.kstream.WindowedSerdes;

/** Counts messages per chat and minute into a topic, exactly once; ends when it has caught up, and prints the topic. */
public final class MessagesPerMinute {
    private static final Map<String, String> ENV = System.getenv();
    private static final String BROKERS = ENV.getOrDefault("BOOTSTRAP_SERVERS", "localhost:9092");
    private static final String EVENTS = ENV.getOrDefault("EVENTS_TOPIC", "chat.events");
    private static final String APPLICATION = ENV.getOrDefault("GROUP", "messages-per-minute");
    private static final String OUTPUT = ENV.getOrDefault("OUTPUT_TOPIC", "messages-per-minute");
    private static final Duration WINDOW =
            Duration.ofMinutes(Long.parseLong(ENV.getOrDefault("WINDOW_MINUTES", "1")));

    public static void main(String[] args) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", BROKERS))) {
            Map<TopicPartition, Long> ends = ends(EVENTS);
            makeOutput(admin, ends.size());
            CountDownLatch failed = new CountDownLatch(1);
            try (KafkaStreams streams = new KafkaStreams(topology(), settings())) {
                streams.setUncaughtExceptionHandler(error -> {
                    error.printStackTrace();
                    failed.countDown();
                    return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
                });
                streams.start();
                while (failed.getCount() > 0 && !hasCommitted(admin, ends)) {
                    Thread.sleep(100);
                }
                // It ends for good: without this the next start waits until the group has missed it, 45 seconds.
                streams.close(CloseOptions.groupMembershipOperation(GroupMembershipOperation.LEAVE_GROUP));
            }
            if (failed.getCount() == 0) {
                System.exit(1);
            }
        }
        if (!ENV.containsKey("QUIET")) {
            printOutput();
        }
    }

    private static Topology topology() {
        StreamsBuilder builder = new StreamsBuilder();
        Serde<GenericRecord> avro = new AvroSerde<>();
        avro.configure(Map.of(
                "apicurio.registry.url",
                ENV.getOrDefault("APICURIO_REGISTRY_URL", "http://localhost:8081/apis/registry/v2"),
                // Confluent's wire format: the id in four bytes, as Confluent's API of the same registry gives it.
                "apicurio.registry.id-handler", Legacy4ByteIdHandler.class.getName(),
                "apicurio.registry.use-id", "contentId"), false);
        builder.stream(EVENTS, Consumed.with(Serdes.String(), avro))
                .filter((chat, event) -> event.get("event_type").toString().equals("message.persisted"))
                // The key is the chat already, so nothing is sent around. The record's timestamp is occurred_at.
                .groupByKey(Grouped.with(Serdes.String(), avro))
                // Time runs forward within a chat, not between the chats of a partition: without grace, messages of one
                // chat would be dropped because another one's minute has begun.
                .windowedBy(TimeWindows.ofSizeAndGrace(WINDOW, Duration.ofDays(1)))
                .count(Materialized.as("counts"))
                .toStream()
                .to(OUTPUT, Produced.with(
                        WindowedSerdes.timeWindowedSerdeFrom(String.class, WINDOW.toMillis()), Serdes.Long()));
        return builder.build();
    }

    private static Properties settings() {
        Properties props = new Properties();
        props.put(StreamsConfig.APPLICATION_ID_CONFIG, APPLICATION);
        props.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, BROKERS);
        // This makes its consumers read committed records only.
        props.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        if (ENV.containsKey("STATE_DIR")) {
            props.put(StreamsConfig.STATE_DIR_CONFIG, ENV.get("STATE_DIR"));
        }
        return props;
    }

    /** A Streams application's own topics are made by it, those it shares with others aren't. */
    private static void makeOutput(Admin admin, int partitions) throws Exception {
        NewTopic topic = new NewTopic(OUTPUT, Optional.of(partitions), Optional.empty())
                .configs(Map.of(TopicConfig.CLEANUP_POLICY_CONFIG, TopicConfig.CLEANUP_POLICY_COMPACT));
        try {
            admin.createTopics(List.of(topic)).all().get();
        } catch (ExecutionException error) {
            if (!(error.getCause() instanceof TopicExistsException)) {
                throw error;
            }
        }
    }

    /** Where each partition ends for readers of committed records. */
    private static Map<TopicPartition, Long> ends(String topic) {
        try (KafkaConsumer<String, String> consumer =
                new KafkaConsumer<>(consumerSettings(), new StringDeserializer(), new StringDeserializer())) {
            return assignAll(consumer, topic);
        }
    }

    /** Assigns every partition of a topic, from its beginning; gives their ends. */
    private static Map<TopicPartition, Long> assignAll(KafkaConsumer<?, ?> consumer, String topic) {
        List<TopicPartition> partitions = consumer.partitionsFor(topic).stream()
                .map(info -> new TopicPartition(topic, info.partition()))
                .collect(Collectors.toList());
        consumer.assign(partitions);
        consumer.seekToBeginning(partitions);
        return consumer.endOffsets(partitions);
    }

    /** Streams commits past markers of transactions too, so it reaches the end whatever stands there. */
    private static boolean hasCommitted(Admin admin, Map<TopicPartition, Long> ends) throws Exception {
        Map<TopicPartition, OffsetAndMetadata> committed =
                admin.listConsumerGroupOffsets(APPLICATION).partitionsToOffsetAndMetadata().get();
        return ends.entrySet().stream().allMatch(end -> {
            OffsetAndMetadata offset = committed.get(end.getKey());
            return end.getValue() == 0 || offset != null && offset.offset() >= end.getValue();
        });
    }

    private static Properties consumerSettings() {
        Properties props = new Properties();
        props.put("bootstrap.servers", BROKERS);
        props.put("isolation.level", "read_committed");
        return props;
    }

    /** The topic holds every step of each count; the last one is the count. */
    private static void printOutput() throws Exception {
        Map<String, Map<Instant, Long>> counts = new TreeMap<>();
        var keys = new TimeWindowedDeserializer<>(new StringDeserializer(), WINDOW.toMillis());
        try (KafkaConsumer<Windowed<String>, Long> consumer =
                new KafkaConsumer<>(consumerSettings(), keys, new LongDeserializer())) {
            Map<TopicPartition, Long> ends = assignAll(consumer, OUTPUT);
            while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
                for (ConsumerRecord<Windowed<String>, Long> record : consumer.poll(Duration.ofMillis(100))) {
                    counts.computeIfAbsent(record.key().key(), chat -> new TreeMap<>())
                            .put(record.key().window().startTime(), record.value());
                }
            }
        }
        ObjectMapper json = new ObjectMapper();
        for (var chat : counts.entrySet()) {
            for (var minute : chat.getValue().entrySet()) {
                Map<String, Object> line = new LinkedHashMap<>();
                line.put("chat_id", chat.getKey());
                line.put("minute", minute.getKey().toString());
                line.put("messages", minute.getValue());
                System.out.println(json.writeValueAsString(line));
            }
        }
    }
}
