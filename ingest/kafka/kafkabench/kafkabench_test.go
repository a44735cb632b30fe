package kafkabench

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
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

// settles is how long the disk has to be through with what was deleted: some hear of every freed block, and are slow meanwhile.
const settles = 5 * time.Second

// TestSideBySide is `make bench-kafka`. It takes some ten minutes, and is skipped without TIDEMARK_BENCH_KAFKA=1, because it measures and proves
// nothing. TIDEMARK_BENCH_SECONDS is how long each load lasts (10), TIDEMARK_BENCH_TURNS how often everything is done (2).
func TestSideBySide(t *testing.T) {
	if os.Getenv("TIDEMARK_BENCH_KAFKA") != "1" {
		t.Skip("a measurement: make bench-kafka")
	}
	if _, err := exec.LookPath("mvn"); err != nil {
		t.Fatal("the peer is Apache Kafka, which takes java and mvn: ", err)
	}
	lasts := time.Duration(setting(t, "TIDEMARK_BENCH_SECONDS", 10)) * time.Second
	turns := setting(t, "TIDEMARK_BENCH_TURNS", 2)
	dir := t.TempDir()
	path := classpath(t, dir)
	ours, theirs, onS3 := tidemark(t, dir), kafka(t, dir, path), tidemarkOnMinIO(t, dir)
	peers := []peerTopics{
		{"tidemark-disk", ours, map[string]string{"tidemark.durability": "disk"}},
		{"tidemark-object", ours, map[string]string{"tidemark.durability": "object"}},
		{"kafka", theirs, nil},
	}
	var table strings.Builder
	table.WriteString("| load | turn | peer | records/s | MB/s | p50 ms | p99 ms | server CPU s/GiB | resident MB |\n|---|---|---|---|---|---|---|---|---|\n")
	row := func(load string, turn int, p peerTopics, records, bytes int64, took time.Duration, cpu time.Duration, p50, p99 float64) {
		gib := float64(bytes) / (1 << 30)
		line := fmt.Sprintf("| %s | %d | %s | %.0f | %.1f | %.1f | %.1f | %.2f | %d |\n", load, turn, p.name, float64(records)/took.Seconds(), float64(bytes)/1e6/took.Seconds(),
			p50, p99, cpu.Seconds()/gib, p.server.resident(t)>>20)
		table.WriteString(line)
		t.Log(strings.TrimSpace(line))
	}
	// Everybody is warm when it is measured: a JVM that has just started compiles while it serves.
	warm := rawLoad{topic: "warm", partitions: 16, valueBytes: 1024, batchBytes: 64 << 10, codec: record.None, connections: 4, inFlight: 5, lasts: 15 * time.Second}
	for _, s := range []*server{ours, theirs} {
		createTopic(t, s, warm.topic, warm.partitions, nil)
		consumeRecords(t, s, warm.topic, min(warm.run(t, s.address).bytes, 2<<30))
		deleteTopic(t, s, warm.topic)
	}
	sleep(settles)
	count := 0
	var used []string
	topicOf := func(p peerTopics, partitions int32) string {
		count++
		name := fmt.Sprintf("bench-%d", count)
		createTopic(t, p.server, name, partitions, p.config)
		used = append(used, name)
		return name
	}
	clear := func(p peerTopics) {
		for _, name := range used {
			deleteTopic(t, p.server, name)
		}
		used = nil
		sleep(settles)
	}
	for turn := range turns {
		for _, codec := range []record.Codec{record.None, record.LZ4} {
			for _, partitions := range []int32{1, 16} {
				for _, size := range []int{1024, 100} {
					for _, p := range peers {
						load := rawLoad{topic: topicOf(p, partitions), partitions: partitions, valueBytes: size, batchBytes: 256 << 10, codec: codec, connections: 4, inFlight: 5, lasts: lasts}
						before := p.server.cpu(t)
						r := load.run(t, p.server.address)
						row(fmt.Sprintf("raw produce, %d B, %d partitions, %s", size, partitions, codec), turn+1, p, r.records, r.bytes, r.took, p.server.cpu(t)-before,
							float64(r.latency.ValueAtQuantile(50))/1000, float64(r.latency.ValueAtQuantile(99))/1000)
						if partitions == 16 && codec == record.None && size == 1024 {
							half := load
							half.topic, half.batchBytes = topicOf(p, partitions), 16<<10
							half.inFlight = 100
							half.perSecond = min(float64(r.bytes)/r.took.Seconds()/2/float64(half.batchBytes), 4000)
							before := p.server.cpu(t)
							h := half.run(t, p.server.address)
							row(fmt.Sprintf("the same, batches of 16 KiB, paced at half (%.0f batches/s at most)", half.perSecond), turn+1, p, h.records, h.bytes, h.took, p.server.cpu(t)-before,
								float64(h.latency.ValueAtQuantile(50))/1000, float64(h.latency.ValueAtQuantile(99))/1000)
							before = p.server.cpu(t)
							want := min(r.bytes, 2<<30)
							read, took := consumeRecords(t, p.server, load.topic, want)
							row("franz-go reads it from the beginning", turn+1, p, read, want, took, p.server.cpu(t)-before, 0, 0)
							before = p.server.cpu(t)
							half.topic = topicOf(p, partitions)
							h, read, took = half.runRead(t, p.server)
							row("16 KiB at half again, and franz-go reads it as it comes", turn+1, p, read, h.bytes, took, p.server.cpu(t)-before,
								float64(h.latency.ValueAtQuantile(50))/1000, float64(h.latency.ValueAtQuantile(99))/1000)
						}
						clear(p)
					}
				}
			}
		}
		for _, size := range []int{1024, 100} {
			for _, p := range peers {
				topic := topicOf(p, 16)
				before := p.server.cpu(t)
				acked, took := produceRecords(t, p.server, topic, size, lasts)
				row(fmt.Sprintf("franz-go produces, idempotent, %d B, 16 partitions", size), turn+1, p, acked, acked*int64(size), took, p.server.cpu(t)-before, 0, 0)
				clear(p)
			}
		}
		for _, codec := range []string{"none", "lz4"} {
			for _, p := range peers {
				topic := topicOf(p, 16)
				const records, size = 500_000, 1024
				before := p.server.cpu(t)
				perf := perfProduce(t, p.server, path, topic, records, size, codec)
				took := time.Duration(records / perf.perSecond * float64(time.Second))
				row("kafka-producer-perf-test, 1024 B, 16 partitions, "+codec, turn+1, p, records, records*size, took, p.server.cpu(t)-before, float64(perf.p50), float64(perf.p99))
				before = p.server.cpu(t)
				mb := perfConsume(t, p.server, path, topic, records)
				row("kafka-consumer-perf-test, the same topic", turn+1, p, records, records*size, time.Duration(records*size/1048576/mb*float64(time.Second)), p.server.cpu(t)-before, 0, 0)
				clear(p)
			}
		}
	}
	stored := peerTopics{"tidemark-object on MinIO", onS3.server, peers[1].config}
	for turn := range turns {
		full := rawLoad{topic: topicOf(stored, 16), partitions: 16, valueBytes: 1024, batchBytes: 256 << 10, codec: record.None, connections: 8, inFlight: 40, lasts: lasts} // an answer takes 300 ms
		before := stored.server.cpu(t)
		r := full.run(t, stored.server.address)
		row("raw produce, 1024 B, 16 partitions, none", turn+1, stored, r.records, r.bytes, r.took, stored.server.cpu(t)-before,
			float64(r.latency.ValueAtQuantile(50))/1000, float64(r.latency.ValueAtQuantile(99))/1000)
		half := full
		half.topic, half.batchBytes, half.connections, half.inFlight = topicOf(stored, 16), 16<<10, 16, 200
		half.perSecond = min(float64(r.bytes)/r.took.Seconds()/2/float64(half.batchBytes), 4000)
		before, puts := stored.server.cpu(t), onS3.puts(t)
		h := half.run(t, stored.server.address)
		row(fmt.Sprintf("the same, batches of 16 KiB, paced at half (%.0f batches/s; %s)", half.perSecond, putsWithin(puts, onS3.puts(t))), turn+1, stored,
			h.records, h.bytes, h.took, stored.server.cpu(t)-before, float64(h.latency.ValueAtQuantile(50))/1000, float64(h.latency.ValueAtQuantile(99))/1000)
	}
	if file := os.Getenv("TIDEMARK_BENCH_TABLE"); file != "" {
		if err := os.WriteFile(file, []byte(table.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Log("\n" + table.String())
}

func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	return int(number(t, text))
}
