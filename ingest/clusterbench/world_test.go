package clusterbench

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/meta/embedded"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier"
)

// What a PUT and a read of the object store take besides writing and reading the files that it consists of, about what S3 takes in its own
// region.
const (
	putLatency  = 20 * time.Millisecond
	readLatency = 10 * time.Millisecond
)

// world is a cluster in this process: a real etcd, an object store of files that answers as slowly as one on the network, and nodes with
// their logs on the disk, all with the settings that they have by default.
type world struct {
	b     *testing.B
	dir   string
	etcd  *embedded.Server
	store *slowStore
	nodes map[meta.NodeID]*node
}

// node is one node and its ways to etcd and to the object store, which are counted, and can be cut.
type node struct {
	*ingest.Node

	id     meta.NodeID
	kv     *countedKV
	client *meta.Client
}

func openWorld(b *testing.B, nodes ...meta.NodeID) *world {
	b.Helper()
	w := &world{b: b, dir: b.TempDir(), nodes: make(map[meta.NodeID]*node)}
	var err error
	if w.etcd, err = embedded.Start(embedded.Config{Dir: w.dir + "/etcd"}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = w.etcd.Close() })
	local, err := tier.OpenLocal(disk.OS(), w.dir+"/objects")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = local.Close() })
	w.store = &slowStore{Store: local}
	for _, id := range nodes {
		w.open(id, "")
	}
	return w
}

// open starts a node that says it is reached at url.
func (w *world) open(id meta.NodeID, url string) *node {
	w.b.Helper()
	n := &node{id: id, kv: &countedKV{KV: w.etcd.KV()}}
	var err error
	if n.client, err = meta.New(meta.Config{KV: n.kv, Cluster: "bench", Clock: clock.System(), Random: rand.Reader}); err != nil {
		w.b.Fatal(err)
	}
	n.Node, err = ingest.Open(ingest.Config{
		Node: id, Disk: "disk-" + string(id), LogDir: w.dir + "/log-" + string(id), Info: meta.NodeInfo{HTTP: url, Roles: []string{"ingest"}},
	}, ingest.Dependencies{
		FS: disk.OS(), Clock: clock.System(), Store: cutStore{w.store, &n.kv.cut}, Meta: n.client, Random: rand.Reader, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.b.Fatal(err)
	}
	w.b.Cleanup(func() {
		patience := 30 * time.Second
		if n.kv.cut.Load() {
			patience = time.Millisecond
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Close(ctx); err != nil && !n.kv.cut.Load() {
			w.b.Errorf("close node %s: %v", id, err)
		}
	})
	if err := n.WaitReady(w.b.Context()); err != nil {
		w.b.Fatal(err)
	}
	w.nodes[id] = n
	return n
}

// kill takes a node away as a power cut does: neither etcd nor the object store hears anything of it any more.
func (n *node) kill() { n.kv.cut.Store(true) }

func (n *node) index() *meta.Follower {
	seat, err := n.GroupSeat()
	if err != nil {
		return nil // it begins anew
	}
	return seat.Index.(*meta.Follower)
}

// create makes a topic, and waits until every node knows a leader of every partition.
func (w *world) create(via *node, name string, partitions int32) meta.Topic {
	w.b.Helper()
	topic, err := via.client.CreateTopic(w.b.Context(), name, partitions, meta.DefaultTopicConfig())
	if err != nil {
		w.b.Fatal(err)
	}
	for _, n := range w.nodes {
		n.until(w.b, func(f *meta.Follower) bool {
			for p := range partitions {
				if _, ok := f.Leader(meta.Partition{Topic: topic.ID, Partition: p}); !ok {
					return false
				}
			}
			return true
		})
	}
	return topic
}

// until waits until a node's index shows something.
func (n *node) until(b *testing.B, shows func(*meta.Follower) bool) {
	b.Helper()
	for {
		f := n.index()
		if f == nil {
			wait(10 * time.Millisecond)
			continue
		}
		changed := f.Changed()
		if shows(f) {
			return
		}
		select {
		case <-changed:
		case <-b.Context().Done():
			b.Fatal(b.Context().Err())
		}
	}
}

// leader is the node that leads a partition, as via knows it; nil when that node is away.
func (w *world) leader(via *node, p meta.Partition) *node {
	f := via.index()
	if f == nil {
		return nil
	}
	l, ok := f.Leader(p)
	if _, alive := f.Node(l.Node); !ok || !alive {
		return nil
	}
	return w.nodes[l.Node]
}

// led lists the partitions of a topic that a node leads.
func (w *world) led(topic meta.Topic, id meta.NodeID) []meta.Partition {
	var out []meta.Partition
	f := w.nodes[id].index()
	for n := range topic.Partitions {
		p := meta.Partition{Topic: topic.ID, Partition: n}
		if l, ok := f.Leader(p); ok && l.Node == id {
			out = append(out, p)
		}
	}
	return out
}

func now() time.Time { return clock.System().Now() }

func wait(d time.Duration) { <-clock.System().NewTimer(d).C() }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// producer is an idempotent producer of one partition. One goroutine at a time.
type producer struct {
	id       int64
	sequence int32
	value    []byte
}

func newProducer(b *testing.B, via *node) *producer {
	b.Helper()
	id, _, err := via.InitProducer(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return &producer{id: id, value: make([]byte, 100)}
}

// batch is the next batch: one record of 100 bytes.
func (p *producer) batch() record.Batch {
	out := p.build(p.sequence)
	p.sequence++
	return out
}

// again is the last batch once more; the node has stamped and keeps the bytes of the first attempt.
func (p *producer) again() record.Batch { return p.build(p.sequence - 1) }

func (p *producer) build(sequence int32) record.Batch {
	builder := record.NewBuilder(record.None)
	if err := builder.Append(record.Record{Timestamp: now().UnixMilli(), Value: p.value}); err != nil {
		panic(err)
	}
	out, err := builder.Build(p.id, 0, sequence)
	if err != nil {
		panic(err)
	}
	return bytes.Clone(out) // what the builder took is more
}

// countedKV is a node's way to etcd.
type countedKV struct {
	meta.KV

	cut  atomic.Bool
	txns atomic.Int64
	// bytes of the keys and values of transactions that were sent.
	bytes atomic.Int64
}

var errCut = fmt.Errorf("%w: the way is cut", meta.ErrUnavailable)

func (c *countedKV) Txn(ctx context.Context, txn meta.Txn) (meta.TxnResult, error) {
	if c.cut.Load() {
		return meta.TxnResult{}, errCut
	}
	c.txns.Add(1)
	for _, op := range txn.Then {
		c.bytes.Add(int64(len(op.Key) + len(op.Value)))
	}
	return c.KV.Txn(ctx, txn)
}

func (c *countedKV) Get(ctx context.Context, key string) (*meta.KeyValue, meta.Revision, error) {
	if c.cut.Load() {
		return nil, 0, errCut
	}
	return c.KV.Get(ctx, key)
}

func (c *countedKV) Range(ctx context.Context, prefix string, at meta.Revision) ([]meta.KeyValue, meta.Revision, error) {
	if c.cut.Load() {
		return nil, 0, errCut
	}
	return c.KV.Range(ctx, prefix, at)
}

func (c *countedKV) Grant(ctx context.Context, ttl time.Duration) (meta.LeaseID, error) {
	if c.cut.Load() {
		return 0, errCut
	}
	return c.KV.Grant(ctx, ttl)
}

func (c *countedKV) KeepAlive(ctx context.Context, lease meta.LeaseID) (time.Duration, error) {
	if c.cut.Load() {
		return 0, errCut
	}
	return c.KV.KeepAlive(ctx, lease)
}

func (c *countedKV) Revoke(ctx context.Context, lease meta.LeaseID) error {
	if c.cut.Load() {
		return errCut
	}
	return c.KV.Revoke(ctx, lease)
}

func (c *countedKV) Watch(ctx context.Context, prefix string, from meta.Revision) (meta.Watcher, error) {
	if c.cut.Load() {
		return nil, errCut
	}
	w, err := c.KV.Watch(ctx, prefix, from)
	if err != nil {
		return nil, err
	}
	return cutWatcher{w, c}, nil
}

type cutWatcher struct {
	meta.Watcher

	kv *countedKV
}

func (w cutWatcher) Next(ctx context.Context) (meta.Change, error) {
	change, err := w.Watcher.Next(ctx)
	if w.kv.cut.Load() {
		return meta.Change{}, errCut
	}
	return change, err
}

// slowStore is an object store that takes its time, and counts.
type slowStore struct {
	tier.Store

	puts, reads atomic.Int64
}

func (s *slowStore) Put(ctx context.Context, name string, body [][]byte) error {
	s.puts.Add(1)
	wait(putLatency)
	return s.Store.Put(ctx, name, body)
}

func (s *slowStore) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	s.reads.Add(1)
	wait(readLatency)
	return s.Store.ReadAt(ctx, name, p, off)
}

// cutStore is a node's way to the object store.
type cutStore struct {
	*slowStore

	cut *atomic.Bool
}

func (s cutStore) Put(ctx context.Context, name string, body [][]byte) error {
	if s.cut.Load() {
		return fmt.Errorf("%w: the way is cut", tier.ErrUnavailable)
	}
	return s.slowStore.Put(ctx, name, body)
}
