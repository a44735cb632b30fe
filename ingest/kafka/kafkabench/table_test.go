package kafkabench

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// settles is how long the disk has to be through with what was deleted: some hear of every freed block, and are slow meanwhile.
const settles = 5 * time.Second

// bench makes topics for loads and a table of what came of them.
type bench struct {
	t      *testing.T
	table  strings.Builder
	topics int
	used   []string // topics that are there
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t}
	b.table.WriteString("| load | turn | peer | records/s | MB/s | p50 ms | p99 ms | server CPU s/GiB | resident MB |\n|---|---|---|---|---|---|---|---|---|\n")
	return b
}

// row is what a load has come to; latencies of 0 were not measured.
func (b *bench) row(load string, turn int, p peerTopics, records, bytes int64, took time.Duration, cpu time.Duration, p50, p99 float64) {
	b.t.Helper()
	latencies := " | "
	if p99 > 0 {
		latencies = fmt.Sprintf("%.1f | %.1f", p50, p99)
	}
	line := fmt.Sprintf("| %s | %d | %s | %.0f | %.1f | %s | %.2f | %d |", load, turn, p.name, float64(records)/took.Seconds(), float64(bytes)/1e6/took.Seconds(),
		latencies, cpu.Seconds()/(float64(bytes)/(1<<30)), p.server.resident(b.t)>>20)
	b.table.WriteString(line + "\n")
	b.t.Log(line)
}

// topic makes one for a load.
func (b *bench) topic(p peerTopics, partitions int32) string {
	b.t.Helper()
	b.topics++
	name := fmt.Sprintf("bench-%d", b.topics)
	createTopic(b.t, p.server, name, partitions, p.config)
	b.used = append(b.used, name)
	return name
}

// clear deletes the topics of a peer.
func (b *bench) clear(p peerTopics) {
	b.t.Helper()
	for _, name := range b.used {
		deleteTopic(b.t, p.server, name)
	}
	b.used = nil
	sleep(settles)
}

// end adds the table to the file that TIDEMARK_BENCH_TABLE names.
func (b *bench) end() {
	b.t.Helper()
	file := os.Getenv("TIDEMARK_BENCH_TABLE")
	if file == "" {
		return
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := f.WriteString(b.table.String()); err != nil {
		b.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.t.Fatal(err)
	}
}
