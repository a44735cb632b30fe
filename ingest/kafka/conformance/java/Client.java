import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Apache Kafka's Java client behind the JSON lines of process_test.go: java Client.java BROKER [PROTOCOL], with PROTOCOL classic or consumer. */
public class Client {
    static final ObjectMapper json = new ObjectMapper();
    static String broker, protocol;
    static final List<Member> members = new ArrayList<>();

    static class Member {
        Consumer<byte[], byte[]> consumer;
        Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
    }

    public static void main(String[] args) throws Exception {
        broker = args[0];
        protocol = args.length > 1 ? args[1] : "classic";
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        System.setOut(System.err);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        try (Admin admin = Admin.create(with(new Properties()))) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                JsonNode call = json.readTree(line);
                ObjectNode answer = json.createObjectNode();
                try {
                    serve(admin, call, answer);
                } catch (ExecutionException e) {
                    answer.put("error", String.valueOf(e.getCause()));
                } catch (Exception e) {
                    answer.put("error", String.valueOf(e));
                }
                answer.put("id", call.get("id").asLong());
                out.println(json.writeValueAsString(answer));
            }
        }
        System.exit(0); // a test that failed may have left members behind
    }

    static Properties with(Properties p) {
        p.put("bootstrap.servers", broker);
        return p;
    }

    static void serve(Admin admin, JsonNode call, ObjectNode answer) throws Exception {
        String topic = call.path("topic").asText();
        switch (call.get("do").asText()) {
            case "createTopic" ->
                admin.createTopics(List.of(new NewTopic(topic, Optional.of(call.get("partitions").asInt()), Optional.empty()))).all().get();
            case "deleteTopic" -> admin.deleteTopics(List.of(topic)).all().get();
            case "produce" -> produce(topic, call, answer);
            case "consume" -> {
                List<TopicPartition> all = new ArrayList<>();
                for (int p = 0; p < call.get("partitions").asInt(); p++) all.add(new TopicPartition(topic, p));
                try (Consumer<byte[], byte[]> c = consumer(null)) {
                    c.assign(all);
                    c.seekToBeginning(all);
                    read(c, call.get("n").asInt(), answer);
                }
            }
            case "seek" -> {
                TopicPartition at = new TopicPartition(topic, call.path("partition").asInt());
                try (Consumer<byte[], byte[]> c = consumer(null)) {
                    c.assign(List.of(at));
                    c.seek(at, c.offsetsForTimes(Map.of(at, call.get("ms").asLong())).get(at).offset());
                    read(c, 1, answer);
                }
            }
            case "join" -> {
                Member m = new Member();
                m.consumer = consumer(call.get("group").asText());
                m.consumer.subscribe(List.of(topic));
                members.add(m);
                answer.put("member", members.size() - 1);
            }
            case "poll" -> {
                Member m = members.get(call.path("member").asInt());
                ArrayNode records = answer.putArray("records");
                for (ConsumerRecord<byte[], byte[]> r : m.consumer.poll(Duration.ofMillis(call.get("ms").asLong()))) {
                    records.add(toJSON(r));
                    m.next.put(new TopicPartition(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1));
                }
            }
            case "commit" -> {
                Member m = members.get(call.path("member").asInt());
                Map<TopicPartition, OffsetAndMetadata> next = m.next;
                m.next = new HashMap<>();
                m.consumer.commitSync(next);
            }
            case "leave" -> members.get(call.path("member").asInt()).consumer.close();
            default -> throw new IllegalArgumentException("unknown call " + call);
        }
    }

    static Consumer<byte[], byte[]> consumer(String group) {
        Properties p = with(new Properties());
        p.put("key.deserializer", ByteArrayDeserializer.class);
        p.put("value.deserializer", ByteArrayDeserializer.class);
        p.put("auto.offset.reset", "earliest");
        p.put("enable.auto.commit", "false");
        if (group != null) {
            p.put("group.id", group);
            p.put("group.protocol", protocol);
            if (protocol.equals("classic")) {
                p.put("session.timeout.ms", "8000");
                p.put("heartbeat.interval.ms", "300");
            }
        }
        return new KafkaConsumer<>(p);
    }

    static void read(Consumer<byte[], byte[]> c, int n, ObjectNode answer) {
        ArrayNode records = answer.putArray("records");
        while (records.size() < n) {
            for (ConsumerRecord<byte[], byte[]> r : c.poll(Duration.ofMillis(200))) {
                if (records.size() < n) records.add(toJSON(r));
            }
        }
    }

    static void produce(String topic, JsonNode call, ObjectNode answer) throws Exception {
        JsonNode how = call.get("how");
        Properties p = with(new Properties());
        p.put("key.serializer", ByteArraySerializer.class);
        p.put("value.serializer", ByteArraySerializer.class);
        p.put("acks", how.get("Acks").asText());
        p.put("enable.idempotence", how.get("Idempotent").asText());
        p.put("compression.type", how.get("Codec").asText());
        boolean byKey = how.get("ByKey").asBoolean();
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        ArrayNode records = answer.putArray("records");
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(p)) {
            for (JsonNode r : call.get("records")) {
                Integer partition = byKey ? null : r.get("partition").asInt();
                ProducerRecord<byte[], byte[]> record =
                    new ProducerRecord<>(topic, partition, r.get("timestamp").asLong(), bytes(r.get("key")), bytes(r.get("value")));
                for (JsonNode h : r.path("headers")) record.headers().add(h.get("key").asText(), bytes(h.get("value")));
                sent.add(producer.send(record));
            }
            int i = 0;
            for (JsonNode r : call.get("records")) {
                RecordMetadata at = sent.get(i++).get();
                ObjectNode told = r.deepCopy();
                told.put("partition", at.partition()).put("offset", at.hasOffset() ? at.offset() : -1);
                records.add(told);
            }
        }
    }

    static byte[] bytes(JsonNode n) {
        return n == null || n.isNull() ? null : Base64.getDecoder().decode(n.asText());
    }

    static String text(byte[] b) {
        return b == null ? null : Base64.getEncoder().encodeToString(b);
    }

    static ObjectNode toJSON(ConsumerRecord<byte[], byte[]> r) {
        ObjectNode n = json.createObjectNode();
        n.put("partition", r.partition()).put("offset", r.offset()).put("timestamp", r.timestamp());
        n.put("key", text(r.key())).put("value", text(r.value())).put("encoding", "base64");
        if (r.headers().toArray().length > 0) {
            ArrayNode headers = n.putArray("headers");
            for (Header h : r.headers()) headers.addObject().put("key", h.key()).put("value", text(h.value()));
        }
        return n;
    }
}
