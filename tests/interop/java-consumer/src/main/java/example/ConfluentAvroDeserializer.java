package example;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.serialization.Deserializer;

/**
 * Confluent's wire format: byte 0, the schema's id in four bytes, the Avro datum. Each id is asked of the registry
 * once.
 *
 * <p>Confluent's own {@code KafkaAvroDeserializer} does the same; it is not on Maven Central.
 */
public final class ConfluentAvroDeserializer implements Deserializer<GenericRecord> {
    private final HttpClient http = HttpClient.newHttpClient();
    private final ObjectMapper json = new ObjectMapper();
    private final Map<Integer, GenericDatumReader<GenericRecord>> readers = new HashMap<>();
    private String registry;

    @Override
    public void configure(Map<String, ?> configs, boolean isKey) {
        registry = configs.get("schema.registry.url").toString();
    }

    @Override
    public GenericRecord deserialize(String topic, byte[] value) {
        if (value == null) {
            return null; // A tombstone.
        }
        ByteBuffer buffer = ByteBuffer.wrap(value);
        if (value.length < 5 || buffer.get() != 0) {
            throw new SerializationException(topic + ": a value that isn't in Confluent's wire format");
        }
        GenericDatumReader<GenericRecord> reader = readers.computeIfAbsent(buffer.getInt(), this::reader);
        try {
            int start = buffer.position();
            return reader.read(null, DecoderFactory.get().binaryDecoder(value, start, value.length - start, null));
        } catch (Exception error) {
            throw new SerializationException(topic + ": a value that its schema doesn't fit", error);
        }
    }

    private GenericDatumReader<GenericRecord> reader(int id) {
        URI address = URI.create(registry + "/schemas/ids/" + id);
        try {
            HttpRequest request = HttpRequest.newBuilder(address).timeout(Duration.ofSeconds(10)).build();
            HttpResponse<String> answer = http.send(request, HttpResponse.BodyHandlers.ofString());
            if (answer.statusCode() != 200) {
                throw new SerializationException(address + " answers " + answer.statusCode());
            }
            String schema = json.readTree(answer.body()).get("schema").asText();
            return new GenericDatumReader<>(new Schema.Parser().parse(schema));
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new SerializationException(error);
        } catch (java.io.IOException error) {
            throw new SerializationException(address + " can't be read", error);
        }
    }
}
