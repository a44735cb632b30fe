package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest/kafka"
	"github.com/tidemark-io/tidemark/meta"
)

// kafkaConfig is devConfig with a Kafka listener on a port of the system's choice.
func kafkaConfig(dir string) serverConfig {
	cfg := devConfig(dir)
	cfg.kafka, cfg.kafkaAutoCreate, cfg.kafkaPartitions = "127.0.0.1:0", true, 3
	return cfg
}

func kafkaClient(t *testing.T, address string, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(address), kgo.MetadataMinAge(50 * time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// A Kafka client writes to a topic that was not there, and everybody else finds it: with the partitions that were set, in the log and in the metrics.
func TestKafkaListener(t *testing.T) {
	p := startNode(t, kafkaConfig(t.TempDir()), testDeps(t.Output()))
	waitNode(t, p)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	producer := kafkaClient(t, p.kafkaAddress(), kgo.AllowAutoTopicCreation())
	if err := producer.ProduceSync(ctx, &kgo.Record{Topic: "by-kafka", Key: []byte("k"), Value: []byte("v")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{Server: p.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	topic, states, err := c.GetTopic(ctx, "by-kafka")
	if err != nil || topic.GetPartitions() != 3 {
		t.Fatalf("topic %v, %v", topic, err)
	}
	var records int64
	for _, s := range states {
		records += s.GetHighWatermark()
	}
	if records != 1 {
		t.Errorf("%d records", records)
	}
	cluster, err := c.GetCluster(ctx)
	if err != nil || len(cluster.GetNodes()) != 1 || cluster.GetNodes()[0].GetKafka() != p.kafkaAddress() {
		t.Errorf("the cluster knows %v, %v; the listener is at %s", cluster.GetNodes(), err, p.kafkaAddress())
	}
	if _, body := httpGet(t, p.URL()+"/metrics"); !strings.Contains(body, `tidemark_kafka_requests_total{api="Produce"} 1`) {
		t.Errorf("/metrics does not count the request:\n%s", body)
	}
	began := clock.System().Now()
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	if took := clock.System().Now().Sub(began); took > callsPatience/2 {
		t.Errorf("a client that is idle held the stop up: it took %s", took)
	}
}

// What keeps the listener from opening is said in one line, with the flag and what else there is, and leaves nothing open.
func TestKafkaPortIsTaken(t *testing.T) {
	p := startNode(t, kafkaConfig(t.TempDir()), testDeps(t.Output()))
	for _, c := range []struct{ address, says, next string }{
		{p.kafkaAddress(), "listen for Kafka: port " + p.kafkaAddress()[strings.LastIndex(p.kafkaAddress(), ":")+1:] + " on 127.0.0.1 is taken", "--kafka off"},
		{"0.0.0.0:0", "listen for Kafka: 0.0.0.0 is not a loopback address", "--insecure"},
		{":0", "listen for Kafka: an empty host means every address", "--insecure"},
	} {
		cfg := kafkaConfig(t.TempDir())
		cfg.kafka = c.address
		_, err := openNode(t.Context(), cfg, testDeps(io.Discard))
		var f *failure
		if !errors.As(err, &f) || !strings.Contains(err.Error(), c.says) || !strings.Contains(f.next, c.next) {
			t.Errorf("%s: %v, next %q", c.address, err, f.next)
		}
	}
	for _, off := range []func(*serverConfig){func(c *serverConfig) { c.kafka = "off" }, func(c *serverConfig) { c.kafka, c.roles = p.kafkaAddress(), []string{roleQuery} }} {
		cfg := kafkaConfig(t.TempDir())
		off(&cfg)
		if cfg.kafkaOn() {
			t.Errorf("--kafka %s with roles %v listens", cfg.kafka, cfg.roles)
		}
	}
}

// Two names that Kafka's clients could not tell apart: the second node is refused, with what to do, and one without a listener is not.
func TestKafkaBrokerIDIsTaken(t *testing.T) {
	const first, second = "n12074", "n89342"
	if kafka.BrokerID(meta.NodeID(first)) != kafka.BrokerID(meta.NodeID(second)) {
		t.Fatal("the two names have broker ids of their own: look for two others")
	}
	c := newTestCluster(t)
	listening := func(id string) serverConfig {
		cfg := kafkaConfig(t.TempDir())
		cfg.nodeID, cfg.store = id, c.store
		return cfg
	}
	waitNode(t, startNode(t, listening(first), c.deps))
	p := startNode(t, listening(second), c.deps)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := p.wait(ctx)
	var f *failure
	if !errors.As(err, &f) || !strings.Contains(err.Error(), "which node "+first+" has") || !strings.Contains(f.next, "--node-id") {
		t.Fatalf("error %v", err)
	}
	without := listening(second)
	without.kafka = kafkaOff
	waitNode(t, startNode(t, without, c.deps))
}

// One of two nodes stops in order while a Kafka client writes: every record that was acknowledged is there once, in the order in which it was sent.
func TestKafkaClientsFollowAStop(t *testing.T) {
	c := newTestCluster(t)
	for _, id := range []string{"a", "b"} {
		cfg := kafkaConfig(t.TempDir())
		cfg.nodeID, cfg.store = id, c.store
		c.nodes[id] = startNode(t, cfg, c.deps)
		waitNode(t, c.nodes[id])
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const partitions = 4
	if _, _, err := c.client("a").CreateTopic(ctx, "moved", partitions, nil, false); err != nil {
		t.Fatal(err)
	}
	c.until("the topic is shared out", func(ctx context.Context) bool {
		got := c.leaders(ctx, c.client("a"), "moved")
		return got["a"] == 2 && got["b"] == 2
	})
	producer := kafkaClient(t, c.nodes["b"].kafkaAddress(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	failed := make(chan error, 1)
	sent := 0
	send := func() {
		producer.Produce(ctx, &kgo.Record{Topic: "moved", Partition: int32(sent % partitions), Value: fmt.Append(nil, sent)}, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
		sent++
	}
	closed := make(chan error, 1)
	for ; ; send() {
		if sent == 200 {
			if err := producer.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			go func() { closed <- c.nodes["b"].close() }()
		}
		if sent < 200 {
			continue
		}
		if err := producer.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		if len(closed) > 0 && sent > 400 {
			break
		}
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if err := producer.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	consumer := kafkaClient(t, c.nodes["a"].kafkaAddress(), kgo.ConsumeTopics("moved"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	next := map[int32]int{0: 0, 1: 1, 2: 2, 3: 3}
	for got := 0; got < sent; {
		fetched := consumer.PollFetches(ctx)
		if err := fetched.Err(); err != nil {
			t.Fatalf("%d of %d records: %v", got, sent, err)
		}
		fetched.EachRecord(func(r *kgo.Record) {
			if want := fmt.Sprint(next[r.Partition]); string(r.Value) != want {
				t.Fatalf("partition %d, offset %d: record %s, want %s", r.Partition, r.Offset, r.Value, want)
			}
			next[r.Partition] += partitions
			got++
		})
	}
}

// A node that leads partitions and does not listen for Kafka's clients, in a cluster of which others do, is told of on both sides.
func TestNodesThatKafkasClientsCannotReach(t *testing.T) {
	for what, s := range map[string]struct {
		other meta.NodeInfo
		warns bool
	}{
		"another that listens": {other: meta.NodeInfo{ID: "b", Kafka: "b:9092", Roles: []string{roleIngest}}, warns: true},
		"one that asks only":   {other: meta.NodeInfo{ID: "b", Roles: []string{roleQuery}}},
		"one that does not":    {other: meta.NodeInfo{ID: "b", Roles: []string{roleIngest}}},
		"itself":               {other: meta.NodeInfo{ID: "a", Kafka: "a:9092", Roles: []string{roleIngest}}},
	} {
		log := new(syncBuffer)
		p := &nodeProcess{deps: testDeps(log), id: identity{node: "a"}}
		p.greetKafka([]meta.NodeInfo{s.other})
		if warned := strings.Contains(log.String(), "cannot reach"); warned != s.warns {
			t.Errorf("%s: %q", what, log.String())
		}
	}
	log, listener := new(syncBuffer), mustListen(t)
	p := &nodeProcess{deps: testDeps(log), id: identity{node: "a"}, kafka: &kafkaRole{listener: listener}}
	p.greetKafka([]meta.NodeInfo{{ID: "b", Roles: []string{roleIngest}}, {ID: "a", Kafka: p.kafkaAddress()}})
	if !strings.Contains(log.String(), "cannot reach what a node leads") {
		t.Errorf("it says %q", log.String())
	}
}

func mustListen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // nobody has dialled it
	return l
}
