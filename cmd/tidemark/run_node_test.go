package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
)

// devConfig is what `tidemark dev` has, on a port of the system's choice.
func devConfig(dir string) serverConfig {
	return serverConfig{dataDir: dir, http: "127.0.0.1:0", cluster: "dev", roles: []string{roleIngest}}
}

func testDeps(log io.Writer) processDeps {
	return processDeps{
		fs: disk.OS(), clock: clock.System(), random: rand.Reader, logger: slog.New(slog.NewTextHandler(log, nil)),
		holder: "a test", connect: openMetadata,
	}
}

func startNode(t *testing.T, cfg serverConfig, deps processDeps) *nodeProcess {
	t.Helper()
	p, err := openNode(t.Context(), cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func waitNode(t *testing.T, p *nodeProcess) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := p.waitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

func httpGet(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func httpPost(t *testing.T, url, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// What was written before a stop is there after the next start, and offsets go on.
func TestNodeKeepsWhatItTook(t *testing.T) {
	dir := t.TempDir()
	for life := range 2 {
		func() {
			p, err := openNode(t.Context(), devConfig(dir), testDeps(io.Discard))
			if err != nil {
				t.Fatal(err)
			}
			waitNode(t, p)
			c, err := client.New(client.Config{Server: p.URL()})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for _, durability := range []string{"object", "disk"} {
				if _, _, err := c.CreateTopic(t.Context(), durability, 2, map[string]string{"durability": durability}, true); err != nil {
					t.Fatal(err)
				}
				producer, err := c.NewProducer(client.ProducerConfig{})
				if err != nil {
					t.Fatal(err)
				}
				for i := range 10 {
					got, err := producer.ProduceSync(t.Context(), durability, record.Record{Key: []byte("k"), Value: fmt.Append(nil, life, i), Timestamp: 1})
					if err != nil || got.Offset != int64(10*life+i) {
						t.Fatalf("life %d, record %d on %s: offset %d, %v", life, i, durability, got.Offset, err)
					}
				}
				if err := producer.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if status, body := httpGet(t, p.URL()+"/metrics"); status != 200 || !strings.Contains(body, "tidemark_produce_records_total{") || !strings.Contains(body, "go_goroutines") {
				t.Errorf("/metrics: %d %.300s", status, body)
			}
			if status, body := httpPost(t, p.URL()+"/tidemark.v1.TopicService/ListTopics", "{}"); status != 415 && status != 200 {
				t.Errorf("JSON: %d %s", status, body)
			}
			if err := p.close(); err != nil {
				t.Fatal(err)
			}
		}()
	}
}

func TestNodeRefusesForeignData(t *testing.T) {
	dir := t.TempDir()
	p, err := openNode(t.Context(), devConfig(dir), testDeps(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	waitNode(t, p)
	own := p.id.cluster
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	rewrite := func(text string) {
		t.Helper()
		d, err := openDataDir(disk.OS(), dir, "the test")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(d.write(clusterFile, text), d.close()); err != nil {
			t.Fatal(err)
		}
	}
	ends := func(cfg serverConfig, wants ...string) {
		t.Helper()
		p := startNode(t, cfg, testDeps(io.Discard))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		err := p.wait(ctx)
		if err == nil {
			t.Fatal("the node did not end by itself")
		}
		for _, want := range wants {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q does not say %q", err, want)
			}
		}
		var f *failure
		if !errors.As(err, &f) || f.next == "" {
			t.Errorf("error %v has no next step", err)
		}
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}
	foreign := strings.Repeat("ab", 16)
	rewrite(foreign)
	ends(devConfig(dir), "is of cluster "+foreign, own)
	rewrite(own)

	// Another cluster's object store.
	other := devConfig(t.TempDir())
	other.store = "file://" + dir + "/store"
	ends(other, "object store", own)
}

// etcd comes late: the port is open and tells the cause, each cause costs one log line, and the node starts by itself.
func TestNodeWaitsForEtcd(t *testing.T) {
	var log syncBuffer
	deps := testDeps(&log)
	var tries atomic.Int32
	tried := make(chan struct{}, 100)
	var allow atomic.Bool
	deps.connect = func(ctx context.Context, cfg serverConfig, data *dataDir, logger *slog.Logger) (metadata, error) {
		tries.Add(1)
		tried <- struct{}{}
		if !allow.Load() {
			return metadata{}, fmt.Errorf("connect to etcd at http://127.0.0.1:1: %w", meta.ErrUnavailable)
		}
		return openMetadata(ctx, cfg, data, logger)
	}
	p := startNode(t, devConfig(t.TempDir()), deps)
	for range 3 {
		<-tried
	}
	if status, body := httpGet(t, p.URL()+"/readyz"); status != 503 || !strings.Contains(body, "etcd at http://127.0.0.1:1") {
		t.Errorf("/readyz: %d %s", status, body)
	}
	if status, _ := httpGet(t, p.URL()+"/healthz"); status != 200 {
		t.Errorf("/healthz: %d", status)
	}
	if status, body := httpPost(t, p.URL()+"/v1/topics/a/records", "{}"); status != 503 || !strings.Contains(body, "etcd at http://127.0.0.1:1") {
		t.Errorf("produce: %d %s", status, body)
	}
	if got := strings.Count(log.String(), "\n"); got != 1 {
		t.Errorf("%d log lines for one cause:\n%s", got, log.String())
	}
	allow.Store(true)
	waitNode(t, p)
	if status, _ := httpGet(t, p.URL()+"/readyz"); status != 200 {
		t.Errorf("/readyz: %d", status)
	}
}

func TestStartThatFailsGivesEverythingBack(t *testing.T) {
	dir := t.TempDir()
	first := startNode(t, devConfig(dir), testDeps(io.Discard))
	waitNode(t, first)
	// The directory is taken; the port that the second one opened is free again afterwards.
	if _, err := openNode(t.Context(), devConfig(dir), testDeps(io.Discard)); err == nil || !strings.Contains(err.Error(), "a test at "+first.URL()) {
		t.Errorf("error %v", err)
	}
	cfg := devConfig(t.TempDir())
	cfg.http = strings.TrimPrefix(first.URL(), "http://")
	if _, err := openNode(t.Context(), cfg, testDeps(io.Discard)); err == nil || !strings.Contains(err.Error(), "is taken") {
		t.Errorf("error %v", err)
	}
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	cfg.http = strings.TrimPrefix(first.URL(), "http://")
	again := startNode(t, cfg, testDeps(io.Discard))
	waitNode(t, again)
}

func TestDevCommand(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	var log syncBuffer
	a := &app{stdin: strings.NewReader(""), stdout: in, stderr: &log, environ: func() []string { return nil }, clock: clock.System(), fs: disk.OS()}
	code := make(chan int, 1)
	go func() {
		code <- a.run(ctx, []string{"dev", "--demo", "--data-dir", t.TempDir(), "--http", "127.0.0.1:0", "--kafka", "127.0.0.1:0"})
		in.Close()
	}()
	var banner bytes.Buffer
	buf := make([]byte, 4096)
	for !strings.Contains(banner.String(), "Ctrl-C") {
		n, err := out.Read(buf)
		if err != nil {
			t.Fatalf("dev ended: %v\n%s", err, log.String())
		}
		banner.Write(buf[:n])
	}
	_, rest, ok := strings.Cut(banner.String(), "Connect, gRPC, JSON   ")
	if !ok {
		t.Fatalf("banner %s", banner.String())
	}
	url, _, _ := strings.Cut(rest, "\n")
	_, rest, _ = strings.Cut(rest, "Kafka                 ")
	kafkaAddress, _, _ := strings.Cut(rest, "\n")
	if want := "kcat -b " + kafkaAddress + " -t orders -C"; kafkaAddress == "" || !strings.Contains(rest, want) {
		t.Errorf("the banner has no line %q:\n%s", want, banner.String())
	}
	c, err := client.New(client.Config{Server: url})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The demo writes: its topics come, and records with them.
	deadline, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	for {
		_, states, err := c.GetTopic(deadline, demoOrders)
		if err != nil && !client.IsNotFound(err) {
			t.Fatal(err)
		}
		var total int64
		for _, s := range states {
			total += s.GetHighWatermark()
		}
		if total > 20 {
			break
		}
	}
	cancel()
	if got := <-code; got != exitOK {
		t.Errorf("exit code %d\n%s", got, log.String())
	}
}
