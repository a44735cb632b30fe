package kafka

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/disk/crashdisk"
	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/meta/metafake"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier"
	"github.com/tidemark-io/tidemark/tier/tierfake"
)

// world is a cluster of real nodes with Kafka listeners on loopback, over metadata, objects and disks in memory. It runs in real time: sockets
// know no other. Everything ends with the test.
type world struct {
	t     testing.TB
	ctx   context.Context //nolint:containedctx // the test's, with a bound
	kv    *metafake.Store
	store *tierfake.Fake
	nodes []*worldNode
}

// worldNode is one process.
type worldNode struct {
	*ingest.Node

	id      meta.NodeID
	disk    disk.FS
	router  *ingest.Router
	groups  *ingest.Groups
	server  *Server
	address string // of its Kafka listener
}

// storyPatience bounds everything that a test of a world waits for.
const storyPatience = 30 * time.Second

// newWorld opens a cluster of so many nodes, n1, n2 and so on, and waits until they are ready. change, when given, may change a node's settings before
// it is opened, and a server's before it serves.
func newWorld(tb testing.TB, nodes int, change ...func(*ingest.Config, *Config)) *world {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), storyPatience)
	tb.Cleanup(cancel)
	w := &world{t: tb, ctx: ctx, kv: metafake.New(metafake.Config{Clock: clock.System()}), store: tierfake.New()}
	for n := range nodes {
		w.open(meta.NodeID(fmt.Sprintf("n%d", n+1)), crashdisk.New(), w.store, change...)
	}
	return w
}

// open starts one more node.
func (w *world) open(id meta.NodeID, fs disk.FS, store tier.Store, change ...func(*ingest.Config, *Config)) *worldNode {
	w.t.Helper()
	n := &worldNode{id: id, disk: fs}
	client, err := meta.New(meta.Config{KV: w.kv, Cluster: "test", Clock: clock.System(), Random: rand.Reader})
	w.must(err)
	_, err = client.EnsureCluster(w.ctx, "")
	w.must(err)
	web, listener := w.listen(), w.listen()
	n.address = listener.Addr().String()
	telemetry, err := ingest.NewTelemetry(nil, nil)
	w.must(err)
	quiet := slog.New(slog.DiscardHandler)
	config := ingest.Config{
		Node: id, Disk: "disk-" + string(id), LogDir: "wal", FlushInterval: 10 * time.Millisecond, LogFileBytes: 4 << 20,
		Info: meta.NodeInfo{HTTP: "http://" + web.Addr().String(), Kafka: n.address, Roles: []string{"ingest"}},
	}
	served := Config{
		Self: id, Log: func() (Log, error) { return n.Node, nil }, Advertise: n.address, Clock: clock.System(), Logger: quiet,
	}
	for _, c := range change {
		c(&config, &served)
	}
	n.Node, err = ingest.Open(config, ingest.Dependencies{FS: fs, Clock: clock.System(), Store: store, Meta: client, Random: rand.Reader, Logger: quiet, Telemetry: telemetry})
	w.must(err)
	n.router, err = ingest.NewRouter(ingest.RouterConfig{
		Self: id, Node: func() (*ingest.Node, error) { return n.Node, nil }, Clock: clock.System(), Logger: quiet, Telemetry: telemetry,
	})
	w.must(err)
	n.groups, err = ingest.NewGroups(ingest.GroupsConfig{Store: client, Seat: n.GroupSeat, Clock: clock.System(), Random: rand.Reader, Logger: quiet})
	w.must(err)
	services, err := ingest.NewServices(ingest.ServicesConfig{Node: n.router, Cluster: n.router, Clock: clock.System(), Logger: quiet, Telemetry: telemetry})
	w.must(err)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	between := &http.Server{Handler: services, Protocols: protocols, ReadHeaderTimeout: time.Minute}
	go func() { _ = between.Serve(web) }()
	served.Cluster, served.Groups = n.router, n.groups
	n.server, err = New(served)
	w.must(err)
	ended := make(chan error, 1)
	go func() { ended <- n.server.Serve(listener) }()
	w.t.Cleanup(func() {
		n.server.Close()
		if err := <-ended; err != nil {
			w.t.Errorf("serve Kafka clients of node %s: %v", id, err)
		}
		services.Close()
		n.groups.Close()
		n.router.Close()
		_ = between.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			w.t.Errorf("close node %s: %v", id, err)
		}
	})
	w.must(n.WaitReady(w.ctx))
	w.nodes = append(w.nodes, n)
	return n
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) listen() net.Listener {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	return l
}

// create makes a topic, and waits until every node knows who leads its partitions. Settings are pairs of names and values.
func (w *world) create(name string, partitions int32, settings ...string) meta.Topic {
	w.t.Helper()
	config := make(map[string]string)
	for i := 0; i < len(settings); i += 2 {
		config[settings[i]] = settings[i+1]
	}
	topic, _, err := w.nodes[0].router.CreateTopic(w.ctx, name, partitions, config, false)
	w.must(err)
	for _, n := range w.nodes {
		for p := range partitions {
			w.until(n, func(index ingest.ClusterIndex) bool {
				_, ok := ingest.LeaderNow(index, topic, p)
				return ok
			})
		}
	}
	return topic
}

// until waits until a node's index shows something.
func (w *world) until(n *worldNode, shows func(ingest.ClusterIndex) bool) {
	w.t.Helper()
	for {
		index, err := n.router.Index()
		w.must(err)
		changed := index.Changed()
		if shows(index) {
			return
		}
		select {
		case <-changed:
		case <-w.ctx.Done():
			w.t.Fatal("node ", n.id, " never learnt of it: ", w.ctx.Err())
		}
	}
}

// leader is the node that leads a partition, as the first node knows it.
func (w *world) leader(topic meta.Topic, partition int32) *worldNode {
	w.t.Helper()
	index, err := w.nodes[0].router.Index()
	w.must(err)
	l, ok := ingest.LeaderNow(index, topic, partition)
	for _, n := range w.nodes {
		if ok && n.id == l.Node {
			return n
		}
	}
	w.t.Fatalf("nobody leads partition %d of %s", partition, topic.Name)
	return nil
}

// addresses are those of all nodes.
func (w *world) addresses() []string {
	var out []string
	for _, n := range w.nodes {
		out = append(out, n.address)
	}
	return out
}

// newClient is a client that knows all nodes and is quick to look again. It is closed before the nodes.
func (w *world) newClient(opts ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(w.addresses()...), kgo.MetadataMinAge(20 * time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
	}, opts...)...)
	w.must(err)
	w.t.Cleanup(client.Close)
	return client
}

// ask sends one request to one node, and nowhere else.
func ask[A kmsg.Response](w *world, client *kgo.Client, n *worldNode, q kmsg.Request) A {
	w.t.Helper()
	answer, err := client.Broker(int(BrokerID(n.id))).Request(w.ctx, q)
	w.must(err)
	return answer.(A) // another type is a bug of the test
}

// read is a whole partition of the log, as its leader has it, checked for offsets that join.
func (w *world) read(topic meta.Topic, partition int32) (batches []record.Batch) {
	w.t.Helper()
	n, next := w.leader(topic, partition), int64(0)
	for {
		got, err := n.Fetch(w.ctx, ingest.FetchRequest{Topic: topic.Name, Partitions: []ingest.FetchPartition{{Partition: partition, Offset: next}}})
		w.must(err)
		if len(got[0].Batches) == 0 {
			return batches
		}
		for rest := bytes.Join(got[0].Batches, nil); len(rest) > 0; {
			var b record.Batch
			b, rest, err = record.Next(rest)
			w.must(err)
			if b.BaseOffset() != next {
				w.t.Fatalf("partition %d of %s has offset %d where %d is due", partition, topic.Name, b.BaseOffset(), next)
			}
			next = b.NextOffset()
			batches = append(batches, b)
		}
	}
}

// values are those of a whole partition.
func (w *world) values(topic meta.Topic, partition int32) (out []string) {
	w.t.Helper()
	for _, b := range w.read(topic, partition) {
		for r, err := range b.Records(record.DefaultLimits()) {
			w.must(err)
			out = append(out, string(r.Value))
		}
	}
	return out
}
