package kafkabench

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier/tiertest"
)

// onMinIO is a node on a MinIO and an etcd of their own: with its settings for S3, among them a flush interval of 250 ms.
type onMinIO struct {
	*server
	http string
}

func tidemarkOnMinIO(t *testing.T, dir string) onMinIO {
	t.Helper()
	store := tiertest.StartMinIO(t)
	store.MakeBucket(t, "bench")
	etcd := filepath.Join(dir, "etcd")
	build := exec.Command("go", "build", "-o", etcd, "github.com/tidemark-io/tidemark/deploy/etcd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	clients, peers := fmt.Sprintf("127.0.0.1:%d", freePort(t)), fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	begin(t, "etcd", clients, dir, exec.Command(etcd, "--name", "bench", "--data-dir", filepath.Join(dir, "etcd-data"), "--log-level", "error",
		"--listen-client-urls", "http://"+clients, "--advertise-client-urls", "http://"+clients,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", "bench="+peers))
	address, web := fmt.Sprintf("127.0.0.1:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	serve := exec.Command(tidemarkBinary(t, dir), "serve", "--data-dir", filepath.Join(dir, "minio-node"), "--etcd", "http://"+clients,
		"--store", "s3://bench/log", "--s3-endpoint", store.Endpoint, "--http", web, "--kafka", address, "--log-level", "warn")
	serve.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+store.AccessKey, "AWS_SECRET_ACCESS_KEY="+store.SecretKey)
	return onMinIO{server: begin(t, "tidemark-on-minio", address, dir, serve), http: web}
}

// TestOnMinIO is the second part of `make bench-kafka`: durability=object on S3, where an acknowledgement waits for a flush interval and an upload.
func TestOnMinIO(t *testing.T) {
	skipUnlessAsked(t)
	lasts, turns := lasting(t)
	node := tidemarkOnMinIO(t, t.TempDir())
	p := peerTopics{"tidemark-object on MinIO", node.server, map[string]string{"tidemark.durability": "object"}}
	b := newBench(t)
	for turn := range turns {
		full := rawLoad{
			topic: b.topic(p, 16), partitions: 16, valueBytes: 1024, batchBytes: 256 << 10, codec: record.None, lasts: lasts,
			connections: 8, inFlight: 20, // an answer takes 300 ms
		}
		before := p.server.cpu(t)
		r := full.run(t, p.server.address)
		b.row("raw produce, 1024 B, 16 partitions, none", turn+1, p, r.records, r.bytes, r.took, p.server.cpu(t)-before,
			float64(r.latency.ValueAtQuantile(50))/1000, float64(r.latency.ValueAtQuantile(99))/1000)
		half := full
		half.topic, half.batchBytes, half.connections, half.inFlight = b.topic(p, 16), 16<<10, 16, 200
		half.perSecond = min(float64(r.bytes)/r.took.Seconds()/2/float64(half.batchBytes), 4000)
		before, puts := p.server.cpu(t), node.puts(t)
		h := half.run(t, p.server.address)
		b.row(fmt.Sprintf("the same, batches of 16 KiB, paced at half (%.0f batches/s; %s)", half.perSecond, putsWithin(puts, node.puts(t))), turn+1, p,
			h.records, h.bytes, h.took, p.server.cpu(t)-before, float64(h.latency.ValueAtQuantile(50))/1000, float64(h.latency.ValueAtQuantile(99))/1000)
		b.clear(p)
	}
	b.end()
}

// puts counts what its uploads have taken so far: the upper bounds of durations in seconds, with how many took no longer.
func (s onMinIO) puts(t *testing.T) map[float64]float64 {
	t.Helper()
	answer, err := http.Get("http://" + s.http + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	out := make(map[float64]float64)
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), `tidemark_flush_duration_seconds_bucket{le="`)
		if !ok {
			continue
		}
		bound, count, _ := strings.Cut(rest, `"} `)
		if bound != "+Inf" {
			out[number(t, bound)] = number(t, count)
		}
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil || lines.Err() != nil || len(out) == 0 {
		t.Fatalf("no durations of uploads in the metrics: %v, %v", err, lines.Err())
	}
	return out
}

// putsWithin is the bound within which 99 % of the uploads between two counts lie, in words.
func putsWithin(before, after map[float64]float64) string {
	all, within := 0.0, -1.0
	for bound, n := range after {
		all = max(all, n-before[bound])
	}
	for bound, n := range after {
		if n-before[bound] >= 0.99*all && (within < 0 || bound < within) {
			within = bound
		}
	}
	return fmt.Sprintf("%.0f uploads, 99 %% within %s ms", all, strconv.FormatFloat(within*1000, 'f', -1, 64))
}
