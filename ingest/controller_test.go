package ingest

import (
	"context"
	"crypto/rand"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk/crashdisk"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/tier"
)

// deniedStore is an object store that one node cannot read some objects of, such as for a proxy, a policy or a link of its own.
type deniedStore struct {
	tier.Store
}

func (s *deniedStore) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	if strings.HasPrefix(name, "l0/x/") {
		return tier.ErrUnavailable
	}
	return s.Store.ReadAt(ctx, name, p, off)
}

// electKV calls before just ahead of a transaction that makes a node the controller.
type electKV struct {
	meta.KV
	key    string
	before func()
	once   atomic.Bool
}

func (k *electKV) Txn(ctx context.Context, txn meta.Txn) (meta.TxnResult, error) {
	for _, op := range txn.Then {
		if op.Kind == meta.Put && op.Key == k.key && k.before != nil && !k.once.Swap(true) {
			k.before()
		}
	}
	return k.KV.Txn(ctx, txn)
}

// otherCommit is a commit of another node whose record leaves its index in the object, as records of a thousand partitions do.
func (w *nodeWorld) otherCommit() {
	keys := meta.NewKeys("test")
	batch := oneBatch("x")
	batch.Stamp(0, 1)
	object, err := tier.BuildL0([]tier.L0Batch{{Topic: meta.TopicID{9}, Batch: batch}})
	if err != nil {
		panic(err)
	}
	name := meta.L0ObjectName("x", 7, 1, 0)
	if err := w.store.Put(context.Background(), name, object.Body); err != nil {
		panic(err)
	}
	r := &meta.L0Record{Object: name, Size: object.Size, IndexOffset: object.IndexOffset, IndexLength: int32(len(object.IndexBytes)), IndexCRC: object.IndexCRC, Index: object.Index}
	if _, err := w.kv.Txn(context.Background(), meta.Txn{Then: []meta.Op{meta.PutOp(keys.L0("x", 7, 1), r.Encode())}}); err != nil {
		panic(err)
	}
}

func (w *nodeWorld) joinWith(name string, kv meta.KV, store tier.Store) *Node {
	client, err := meta.New(meta.Config{KV: kv, Cluster: "test", Clock: clock.System(), Random: rand.Reader})
	if err != nil {
		w.t.Fatal(err)
	}
	node, err := Open(Config{Node: meta.NodeID(name), Disk: "disk-of-" + name, LogDir: "wal", FlushInterval: 10 * time.Millisecond, LogFileBytes: 1 << 20},
		Dependencies{FS: crashdisk.New(), Clock: clock.System(), Store: store, Meta: client, Random: rand.Reader})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	if err := node.WaitReady(ctx); err != nil {
		w.t.Fatal(err)
	}
	return node
}

func (w *nodeWorld) closeNode(n *Node) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = n.Close(ctx)
}

// TestControllerThatNeverHeard: a node is elected, and its index has stopped just before it would have seen so. It begins anew, and another node gives out
// partitions.
func TestControllerThatNeverHeard(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		t.Run(map[bool]string{false: "healthy", true: "stuck"}[stuck], func(t *testing.T) {
			inNodeWorld(t, nil, func(w *nodeWorld) {
				kv := &electKV{KV: w.kv, key: meta.NewKeys("test").Controller()}
				if stuck {
					kv.before = w.otherCommit
				}
				second := w.joinWith("n2", kv, &deniedStore{w.store})
				defer w.closeNode(second)
				w.after(5 * time.Second)
				w.kv.Expire(w.node.current.Load().registration.Lease) // the controller is away for a moment
				w.after(30 * time.Second)
				w.ready()
				if _, err := w.node.deps.Meta.CreateTopic(w.ctx, "later", 4, meta.DefaultTopicConfig()); err != nil {
					w.t.Fatal(err)
				}
				w.after(30 * time.Minute)
				i := w.node.current.Load()
				controller, _ := i.follower.Controller()
				topic, _ := i.follower.Topic("later")
				led := 0
				for n := range topic.Partitions {
					if _, ok := i.follower.Leader(meta.Partition{Topic: topic.ID, Partition: n}); ok {
						led++
					}
				}
				if led != 4 {
					w.t.Errorf("after half an hour %d of 4 partitions are assigned; the controller is %s, both nodes are alive: %d", led, controller, len(i.follower.Nodes()))
				}
			})
		})
	}
}

// TestLeaderThatNeverHears: a node whose index stands still begins anew, cannot read the index, and leaves what it was given to the other.
func TestLeaderThatNeverHears(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		t.Run(map[bool]string{false: "healthy", true: "stuck"}[stuck], func(t *testing.T) {
			inNodeWorld(t, nil, func(w *nodeWorld) {
				second := w.joinWith("n2", w.kv, &deniedStore{w.store})
				defer w.closeNode(second)
				w.after(10 * time.Second)
				if stuck {
					w.otherCommit()
				}
				topic, err := w.node.deps.Meta.CreateTopic(w.ctx, "later", 4, meta.DefaultTopicConfig())
				if err != nil {
					w.t.Fatal(err)
				}
				w.after(30 * time.Minute)
				for n := range topic.Partitions {
					at, _ := w.node.current.Load().follower.Leader(meta.Partition{Topic: topic.ID, Partition: n})
					var errs []error
					for _, node := range []*Node{w.node, second} {
						_, err := node.Produce(w.ctx, ProduceRequest{Topic: "later", Partition: n, Batch: oneBatch("v")})
						errs = append(errs, err)
					}
					if errs[0] != nil && errs[1] != nil {
						w.t.Errorf("after half an hour nobody takes partition %d, which %s is to lead; both nodes are alive: %v", n, at.Node, errs)
					}
				}
			})
		})
	}
}
