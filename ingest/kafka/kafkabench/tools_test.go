package kafkabench

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// perfProduced is what kafka-producer-perf-test says at its end.
type perfProduced struct {
	perSecond     float64
	p50, p99, max int // ms
}

var producerLine = regexp.MustCompile(`([0-9.]+) records/sec .* ([0-9.]+) ms max latency, (\d+) ms 50th, \d+ ms 95th, (\d+) ms 99th`)

func perfProduce(t *testing.T, s *server, classpath, topic string, records, size int, codec string) perfProduced {
	t.Helper()
	out := output(t.Context(), t, "java", "-Xmx512M", "-cp", classpath, "org.apache.kafka.tools.ProducerPerformance", "--topic", topic,
		"--num-records", strconv.Itoa(records), "--record-size", strconv.Itoa(size), "--throughput", "-1",
		"--producer-props", "bootstrap.servers="+s.address, "acks=all", "compression.type="+codec)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	last := lines[len(lines)-1]
	m := producerLine.FindStringSubmatch(last)
	if m == nil {
		t.Fatalf("kafka-producer-perf-test at %s said\n%s", s.name, out)
	}
	return perfProduced{perSecond: number(t, m[1]), max: int(number(t, m[2])), p50: int(number(t, m[3])), p99: int(number(t, m[4]))}
}

// perfConsume is how many MB a second kafka-consumer-perf-test fetched, without the time in which it joined its group.
func perfConsume(t *testing.T, s *server, classpath, topic string, records int) float64 {
	t.Helper()
	out := output(t.Context(), t, "java", "-Xmx512M", "-cp", classpath, "org.apache.kafka.tools.ConsumerPerformance", "--bootstrap-server", s.address,
		"--topic", topic, "--messages", strconv.Itoa(records), "--timeout", "60000", "--group", fmt.Sprintf("perf-%s", topic))
	lines := strings.Split(strings.TrimSpace(out), "\n")
	// start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec
	fields := strings.Split(lines[len(lines)-1], ", ")
	if len(fields) != 10 {
		t.Fatalf("kafka-consumer-perf-test at %s said\n%s", s.name, out)
	}
	return number(t, strings.TrimSpace(fields[8]))
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
