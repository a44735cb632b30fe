package kafkabench

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/record"
)

// peerTopics is one of those who are compared: a server and the settings that its topics get.
type peerTopics struct {
	name   string
	server *server
	config map[string]string
}

// TestSideBySide is `make bench-kafka`. It takes some ten minutes, and is skipped without TIDEMARK_BENCH_KAFKA=1, because it measures and proves
// nothing. TIDEMARK_BENCH_SECONDS is how long each load lasts (10), TIDEMARK_BENCH_TURNS how often everything is done (2).
func TestSideBySide(t *testing.T) {
	skipUnlessAsked(t)
	if _, err := exec.LookPath("mvn"); err != nil {
		t.Fatal("the peer is Apache Kafka, which takes java and mvn: ", err)
	}
	lasts, turns := lasting(t)
	dir := t.TempDir()
	path := classpath(t, dir)
	ours, theirs := tidemark(t, dir), kafka(t, dir, path)
	peers := []peerTopics{
		{"tidemark-disk", ours, map[string]string{"tidemark.durability": "disk"}},
		{"tidemark-object", ours, map[string]string{"tidemark.durability": "object"}},
		{"kafka", theirs, nil},
	}
	b := newBench(t)
	// Everybody is warm when it is measured: a JVM that has just started compiles while it serves.
	warm := rawLoad{topic: "warm", partitions: 16, valueBytes: 1024, batchBytes: 64 << 10, codec: record.None, connections: 4, inFlight: 5, lasts: 15 * time.Second}
	for _, s := range []*server{ours, theirs} {
		createTopic(t, s, warm.topic, warm.partitions, nil)
		consumeRecords(t, s, warm.topic, min(warm.run(t, s.address).bytes, 2<<30))
		deleteTopic(t, s, warm.topic)
	}
	sleep(settles)
	for turn := range turns {
		for _, codec := range []record.Codec{record.None, record.LZ4} {
			for _, partitions := range []int32{1, 16} {
				for _, size := range []int{1024, 100} {
					for _, p := range peers {
						load := rawLoad{topic: b.topic(p, partitions), partitions: partitions, valueBytes: size, batchBytes: 256 << 10, codec: codec, connections: 4, inFlight: 5, lasts: lasts}
						before := p.server.cpu(t)
						r := load.run(t, p.server.address)
						b.row(fmt.Sprintf("raw produce, %d B, %d partitions, %s", size, partitions, codec), turn+1, p, r.records, r.bytes, r.took, p.server.cpu(t)-before,
							float64(r.latency.ValueAtQuantile(50))/1000, float64(r.latency.ValueAtQuantile(99))/1000)
						if partitions == 16 && codec == record.None && size == 1024 {
							half := load
							half.topic, half.batchBytes = b.topic(p, partitions), 16<<10
							half.inFlight = 100
							half.perSecond = min(float64(r.bytes)/r.took.Seconds()/2/float64(half.batchBytes), 4000)
							before := p.server.cpu(t)
							h := half.run(t, p.server.address)
							b.row(fmt.Sprintf("the same, batches of 16 KiB, paced at half (%.0f batches/s at most)", half.perSecond), turn+1, p, h.records, h.bytes, h.took, p.server.cpu(t)-before,
								float64(h.latency.ValueAtQuantile(50))/1000, float64(h.latency.ValueAtQuantile(99))/1000)
							before = p.server.cpu(t)
							want := min(r.bytes, 2<<30)
							read, took := consumeRecords(t, p.server, load.topic, want)
							b.row("franz-go reads it from the beginning", turn+1, p, read, want, took, p.server.cpu(t)-before, 0, 0)
							before = p.server.cpu(t)
							half.topic = b.topic(p, partitions)
							h, read, took = half.runRead(t, p.server)
							b.row("16 KiB at half again, and franz-go reads it as it comes", turn+1, p, read, h.bytes, took, p.server.cpu(t)-before,
								float64(h.latency.ValueAtQuantile(50))/1000, float64(h.latency.ValueAtQuantile(99))/1000)
						}
						b.clear(p)
					}
				}
			}
		}
		for _, size := range []int{1024, 100} {
			for _, p := range peers {
				topic := b.topic(p, 16)
				before := p.server.cpu(t)
				acked, took := produceRecords(t, p.server, topic, size, lasts)
				b.row(fmt.Sprintf("franz-go produces, idempotent, %d B, 16 partitions", size), turn+1, p, acked, acked*int64(size), took, p.server.cpu(t)-before, 0, 0)
				b.clear(p)
			}
		}
		for _, codec := range []string{"none", "lz4"} {
			for _, p := range peers {
				topic := b.topic(p, 16)
				const records, size = 500_000, 1024
				before := p.server.cpu(t)
				perf := perfProduce(t, p.server, path, topic, records, size, codec)
				took := time.Duration(records / perf.perSecond * float64(time.Second))
				b.row("kafka-producer-perf-test, 1024 B, 16 partitions, "+codec, turn+1, p, records, records*size, took, p.server.cpu(t)-before, float64(perf.p50), float64(perf.p99))
				before = p.server.cpu(t)
				mb := perfConsume(t, p.server, path, topic, records)
				b.row("kafka-consumer-perf-test, the same topic", turn+1, p, records, records*size, time.Duration(records*size/1048576/mb*float64(time.Second)), p.server.cpu(t)-before, 0, 0)
				b.clear(p)
			}
		}
	}
	b.end()
}

func skipUnlessAsked(t *testing.T) {
	t.Helper()
	if os.Getenv("TIDEMARK_BENCH_KAFKA") != "1" {
		t.Skip("a measurement: make bench-kafka")
	}
}

// lasting is how long a load lasts, and how often everything is done.
func lasting(t *testing.T) (time.Duration, int) {
	t.Helper()
	return time.Duration(setting(t, "TIDEMARK_BENCH_SECONDS", 10)) * time.Second, setting(t, "TIDEMARK_BENCH_TURNS", 2)
}

func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	return int(number(t, text))
}
