package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/meta/metafake"
	"github.com/tidemark-io/tidemark/record"
)

// testCluster is several nodes of one etcd and one object store in this process, each with a directory and a port of its own.
type testCluster struct {
	t     *testing.T
	deps  processDeps
	store string
	log   *syncBuffer
	nodes map[string]*nodeProcess
}

func newTestCluster(t *testing.T, ids ...string) *testCluster {
	t.Helper()
	kv := metafake.New(metafake.Config{Clock: clock.System()})
	c := &testCluster{t: t, store: "file://" + t.TempDir(), log: new(syncBuffer), nodes: map[string]*nodeProcess{}}
	c.deps = testDeps(c.log)
	c.deps.connect = func(context.Context, serverConfig, *dataDir, *slog.Logger) (metadata, error) {
		return metadata{kv: kv, where: "etcd of the test", close: func() error { return nil }}, nil
	}
	for _, id := range ids {
		c.start(id, t.TempDir())
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the nodes said:\n%s", c.log)
		}
	})
	return c
}

func (c *testCluster) start(id, dir string) *nodeProcess {
	c.t.Helper()
	p := startNode(c.t, c.config(id, dir), c.deps)
	waitNode(c.t, p)
	c.nodes[id] = p
	return p
}

func (c *testCluster) config(id, dir string) serverConfig {
	cfg := devConfig(dir)
	cfg.nodeID, cfg.store = id, c.store
	return cfg
}

// client talks to one node, which does all that is for others.
func (c *testCluster) client(id string) *client.Client {
	c.t.Helper()
	out, err := client.New(client.Config{Server: c.nodes[id].URL(), DisableDirect: true})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(out.Close)
	return out
}

// until asks again and again until a condition holds.
func (c *testCluster) until(what string, holds func(ctx context.Context) bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	for !holds(ctx) {
		select {
		case <-clock.System().NewTimer(20 * time.Millisecond).C():
		case <-ctx.Done():
			c.t.Fatalf("%s: not within 30 s", what)
		}
	}
}

// leaders counts the partitions of topics that each node leads, as one node sees it, and under "" those that nobody serves.
func (c *testCluster) leaders(ctx context.Context, asked *client.Client, topics ...string) map[string]int {
	c.t.Helper()
	leaders, err := asked.ListLeaders(ctx, topics...)
	if err != nil {
		c.t.Fatal(err)
	}
	out := map[string]int{}
	for _, l := range leaders {
		if l.GetAlive() {
			out[l.GetNode()]++
		} else {
			out[""]++
		}
	}
	return out
}

// Three nodes share two topics. Records go in by one, come out by another to two members of a group, while the third is stopped and
// started again: each record that was acknowledged comes, once, in order, and nothing waits for a lease to run out.
func TestThreeNodes(t *testing.T) {
	c := newTestCluster(t, "a", "b", "c")
	a, b := c.client("a"), c.client("b")
	const partitions = 3
	topics := []string{"object", "disk"}
	for _, topic := range topics {
		if _, _, err := a.CreateTopic(t.Context(), topic, partitions, map[string]string{"durability": topic}, false); err != nil {
			t.Fatal(err)
		}
	}
	c.until("the topics are shared out", func(ctx context.Context) bool {
		got := c.leaders(ctx, b, topics...)
		return got["a"] == 2 && got["b"] == 2 && got["c"] == 2
	})

	reading, stopReading := context.WithCancel(t.Context())
	defer stopReading()
	var members sync.WaitGroup
	got := newReceived()
	for range 2 {
		members.Go(func() { got.read(reading, t, b, topics) })
	}

	producer, err := a.NewProducer(client.ProducerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{}
	produce := func(from, to int) {
		t.Helper()
		for n := from; n < to; n++ {
			value, topic, partition := fmt.Sprint("record ", n), topics[n%2], int32(n/2%partitions)
			answered := make(chan client.Result, 1)
			err := producer.ProduceTo(t.Context(), topic, partition, record.Record{Value: []byte(value)}, func(r client.Result) { answered <- r })
			if err != nil {
				t.Fatalf("%s: %v", value, err)
			}
			at, key := <-answered, fmt.Sprint(topic, "/", partition)
			if at.Err != nil || at.Offset != int64(len(want[key])) {
				t.Fatalf("%s has offset %d of %s, want %d: %v", value, at.Offset, key, len(want[key]), at.Err)
			}
			want[key] = append(want[key], value)
		}
	}
	produce(0, 60)
	// Stop one while records go on.
	stopped := make(chan time.Duration, 1)
	dir := c.nodes["c"].cfg.dataDir
	go func() {
		began := clock.System().Now()
		if err := c.nodes["c"].close(); err != nil {
			t.Error(err)
		}
		stopped <- clock.System().Now().Sub(began)
	}()
	produce(60, 240)
	if took := <-stopped; took > handedOverWithin {
		t.Errorf("the node took %s to hand over and stop", took)
	}
	if got := c.leaders(t.Context(), a, topics...); got["a"]+got["b"] != 2*partitions {
		t.Errorf("after the stop they are led by %v", got)
	}
	produce(240, 270)
	c.start("c", dir)
	c.until("the node that came back leads again", func(ctx context.Context) bool { return c.leaders(ctx, a, topics...)["c"] > 0 })
	produce(270, 300)
	if err := producer.Close(t.Context()); err != nil {
		t.Error(err)
	}
	c.until("everything is read", func(context.Context) bool { return got.total() >= 300 })
	stopReading()
	members.Wait()
	for key, values := range want {
		if have := got.of(key); strings.Join(have, ",") != strings.Join(values, ",") {
			t.Errorf("%s: read %v, want %v", key, have, values)
		}
	}
}

// handedOverWithin is less than any lease: a node that stops in order makes nobody wait for one.
const handedOverWithin = 5 * time.Second

// received is what the members of a group have read, together.
type received struct {
	mu sync.Mutex
	by map[string][]string // by topic/partition
	n  int
}

func newReceived() *received { return &received{by: map[string][]string{}} }

// read is a member until ctx ends.
func (r *received) read(ctx context.Context, t *testing.T, c *client.Client, topics []string) {
	g, err := c.NewGroupConsumer("readers", topics, client.GroupConfig{AutoCommit: 50 * time.Millisecond})
	if err != nil {
		t.Error(err)
		return
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := g.CommitPolled(closing); err != nil {
			t.Error(err)
		}
		if err := g.Close(closing); err != nil {
			t.Error(err)
		}
	}()
	for ctx.Err() == nil {
		batches, err := g.Poll(ctx)
		if err != nil {
			if ctx.Err() == nil && !mayPassFor(err) {
				t.Errorf("poll: %v", err)
				return
			}
			continue
		}
		for rec, err := range batches.Records() {
			if err != nil {
				t.Error(err)
				return
			}
			r.mu.Lock()
			key := fmt.Sprint(batches.Topic, "/", batches.Partition)
			r.by[key] = append(r.by[key], string(rec.Value))
			r.n++
			r.mu.Unlock()
		}
	}
}

// mayPassFor tells errors after which a consumer goes on.
func mayPassFor(err error) bool {
	e, ok := errors.AsType[*client.Error](err)
	return ok && e.Retryable
}

func (r *received) total() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

func (r *received) of(key string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.by[key]
}

// A node that starts while it is drained leads nothing and says so; so does one that has the address of another.
func TestNodeSaysWhatItsOperatorForgot(t *testing.T) {
	c := newTestCluster(t, "a", "b")
	if _, err := c.client("a").DrainNode(t.Context(), "b", false); err != nil {
		t.Fatal(err)
	}
	dir := c.nodes["b"].cfg.dataDir
	if err := c.nodes["b"].close(); err != nil {
		t.Fatal(err)
	}
	cfg := c.config("b", dir)
	cfg.advertise = c.nodes["a"].URL()
	p := startNode(t, cfg, c.deps)
	waitNode(t, p)
	if status, body := httpGet(t, p.URL()+"/readyz"); status != 200 {
		t.Errorf("/readyz of a node that leads nothing: %d %s", status, body)
	}
	c.until("the log tells", func(context.Context) bool {
		text := c.log.String()
		return strings.Contains(text, "tidemark cluster drain b --cancel") && strings.Contains(text, "another node advertises the same address")
	})
}

// Two nodes with one name, a node with another disk than it had, and one whose etcd was emptied: each ends with one line and what to
// do.
func TestNodeRefusesAnothersPlace(t *testing.T) {
	ends := func(p *nodeProcess, wants ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		err := p.wait(ctx)
		if err == nil {
			t.Fatal("the node did not end by itself")
		}
		a := &app{stderr: new(syncBuffer)}
		code := a.report(t.Context(), err)
		text := fmt.Sprint(a.stderr)
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%q does not say %q", text, want)
			}
		}
		if code != exitFailed || strings.Count(text, "\n") != 2 {
			t.Errorf("exit code %d and not one line with a next step:\n%s", code, text)
		}
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}
	c := newTestCluster(t, "a")
	ends(startNode(t, c.config("a", t.TempDir()), c.deps), "node a", "--node-id")

	alone := newTestCluster(t, "a")
	if _, _, err := alone.client("a").CreateTopic(t.Context(), "kept", 4, map[string]string{"durability": "disk"}, false); err != nil {
		t.Fatal(err)
	}
	if err := alone.nodes["a"].close(); err != nil {
		t.Fatal(err)
	}
	ends(startNode(t, alone.config("a", t.TempDir()), alone.deps), "disk", "forget-node")

	emptied := newTestCluster(t) // another etcd, with nothing in it
	dir := alone.nodes["a"].cfg.dataDir
	ends(startNode(t, alone.config("a", dir), emptied.deps), "etcd was restored to an earlier state", nextAfterRestore)
	if err := disk.OS().Remove(filepath.Join(dir, seenFile)); err != nil { // nothing tells how far the old one had come
		t.Fatal(err)
	}
	ends(startNode(t, alone.config("a", dir), emptied.deps), "none, as if it had been emptied", "--cluster of its own cluster")
}
