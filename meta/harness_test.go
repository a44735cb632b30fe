package meta_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/meta/metafake"
)

const leaseTime = 6 * time.Second

// newClient makes a client of cluster "test" that draws from a fixed seed.
func newClient(t *testing.T, kv meta.KV) *meta.Client {
	t.Helper()
	var seed [32]byte
	copy(seed[:], t.Name())
	c, err := meta.New(meta.Config{KV: kv, Cluster: "test", Clock: clock.System(), Random: rand.NewChaCha8(seed)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func nodeInfo(incarnation meta.Incarnation) meta.NodeInfo {
	return meta.NodeInfo{ID: "a", Incarnation: incarnation, Disk: "disk-a", HTTP: "127.0.0.1:8640", Version: "test"}
}

// writer is a node as far as the log's metadata sees one: it registers, leads everything, and commits.
type writer struct {
	t      *testing.T
	client *meta.Client
	reg    meta.Registration
	guards meta.Guards
	seq    meta.Seq
}

func startWriter(t *testing.T, c *meta.Client, incarnation meta.Incarnation) *writer {
	t.Helper()
	reg, err := c.Register(t.Context(), nodeInfo(incarnation), leaseTime)
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{t: t, client: c, reg: reg}
	w.lead()
	return w
}

// lead takes every partition and reads the guards anew.
func (w *writer) lead() {
	w.t.Helper()
	if _, err := leadEverything(w.t.Context(), w.client, w.reg); err != nil {
		w.t.Fatal(err)
	}
	w.guards = meta.Guards{NodeRev: w.reg.NodeRev, AssignRev: w.mod(w.client.Keys().Assign(w.reg.Node)), HeadRev: w.mod(w.client.Keys().Head(w.reg.Node))}
}

func (w *writer) mod(key string) meta.Revision {
	w.t.Helper()
	kv, _, err := w.client.KV().Get(w.t.Context(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	if kv == nil {
		return 0
	}
	return kv.Mod
}

// request is the next link of the chain.
func (w *writer) request(r *meta.L0Record, replaces ...string) meta.CommitRequest {
	return meta.CommitRequest{Node: w.reg.Node, Incarnation: w.reg.Incarnation, Seq: w.seq + 1, Record: r, Replaces: replaces}
}

// send sends one commit and says what came of it. Done moves the chain on.
func (w *writer) send(r meta.CommitRequest) meta.CommitDecision {
	w.t.Helper()
	keys := w.client.Keys()
	txn, err := keys.CommitTxn(w.guards, r)
	if err != nil {
		w.t.Fatal(err)
	}
	result, err := w.client.KV().Txn(w.t.Context(), txn)
	if err != nil {
		return meta.CommitDecision{Outcome: meta.CommitInDoubt}
	}
	decision, err := keys.DecideCommit(r, w.guards, result)
	if err != nil {
		w.t.Fatal(err)
	}
	if decision.Outcome == meta.CommitDone {
		w.guards, w.seq = decision.Guards, r.Seq
	}
	return decision
}

// commit must succeed. It returns the key of the record and the revision.
func (w *writer) commit(r *meta.L0Record, replaces ...string) (string, meta.Revision) {
	w.t.Helper()
	if d := w.send(w.request(r, replaces...)); d.Outcome != meta.CommitDone {
		w.t.Fatalf("commit %d: outcome %d", w.seq+1, d.Outcome)
	}
	return w.client.Keys().L0(w.reg.Node, w.reg.Incarnation, w.seq), w.guards.HeadRev
}

// span is count offsets of a partition from base on.
type span struct {
	topic       meta.TopicID
	partition   int32
	base, count int64
}

// record makes an L0 record with one block for each span.
func record(object string, spans ...span) *meta.L0Record {
	r := &meta.L0Record{Object: object, Inline: true}
	position := int64(0)
	for _, s := range spans {
		r.Index.Entries = append(r.Index.Entries, meta.L0Entry{
			Topic: s.topic, Partition: s.partition, Epoch: 1, BaseOffset: s.base, Count: int32(s.count), Position: position,
			Length: int32(10 * s.count), Batches: 1, MaxTimestamp: 1000 + s.base + s.count, FirstAppend: 500, LastAppend: 600,
		})
		position += 10 * s.count
	}
	return seal(r, position)
}

// seal fills in what follows from the index.
func seal(r *meta.L0Record, size int64) *meta.L0Record {
	encoded := r.Index.Encode()
	r.IndexOffset, r.IndexLength, r.IndexCRC = size, int32(len(encoded)), meta.CRC32C(encoded)
	r.Size = size + int64(len(encoded)) + 32
	return r
}

func noLoad(_ context.Context, r *meta.L0Record) (meta.L0Index, error) {
	return meta.L0Index{}, fmt.Errorf("object %s was read, but its record has the index", r.Object)
}

func follow(t *testing.T, c *meta.Client) *meta.Follower {
	t.Helper()
	f, err := c.Follow(t.Context(), noLoad, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func waitFor(t *testing.T, f *meta.Follower, revision meta.Revision) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := f.WaitFor(ctx, revision); err != nil {
		t.Fatal(err)
	}
}

func makeTopic(t *testing.T, c *meta.Client, name string, partitions int32) meta.Topic {
	t.Helper()
	topic, err := c.CreateTopic(t.Context(), name, partitions, meta.DefaultTopicConfig())
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

// dump is everything under the cluster's prefix, without revisions.
func dump(t *testing.T, kv meta.KV) string {
	t.Helper()
	kvs, _, err := kv.Range(t.Context(), "/", 0)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, kv := range kvs {
		if bytes.HasPrefix(kv.Value, []byte("{")) {
			fmt.Fprintf(&out, "%s %s leased=%t\n", kv.Key, kv.Value, kv.Lease != 0)
		} else {
			fmt.Fprintf(&out, "%s %x\n", kv.Key, kv.Value)
		}
	}
	return out.String()
}

func newStore() *metafake.Store { return metafake.New(metafake.Config{}) }

// leadEverything has a node that is alone assigned whatever nobody leads, and returns a revision at which that holds.
func leadEverything(ctx context.Context, c *meta.Client, reg meta.Registration) (meta.Revision, error) {
	f, err := c.Follow(ctx, nil, nil)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	at, _, err := c.Place(ctx, f, reg, true)
	if err == nil {
		err = f.HeldBack(reg.Node)
	}
	return at, err
}
