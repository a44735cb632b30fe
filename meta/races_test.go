package meta_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/meta/metafake"
)

// TestLateCommitOfAnEarlierLife is A6 and A7 of the protocol: a commit of the incarnation before arrives at every place in the
// start of the next one. Either it came before the registration, and the new incarnation reads it, or it never counts.
func TestLateCommitOfAnEarlierLife(t *testing.T) {
	for place, name := range []string{"before the registration", "between registration and reading", "after reading", "after the next commit"} {
		t.Run(name, func(t *testing.T) {
			store := newStore()
			c := newClient(t, store)
			topic := makeTopic(t, c, "t", 1)
			p := meta.Partition{Topic: topic.ID}
			old := startWriter(t, c, 1)
			old.commit(record("first", span{topic: topic.ID, count: 1}))
			store.FailTxns(metafake.Detach)
			late := old.request(record("late", span{topic: topic.ID, base: 1, count: 1}))
			if d := old.send(late); d.Outcome != meta.CommitInDoubt {
				t.Fatalf("outcome %d of a commit without an answer", d.Outcome)
			}
			arrives := func(now int) {
				if now != place {
					return
				}
				result, err := store.Release(0)
				if err != nil || result.Succeeded != (place == 0) {
					t.Errorf("the late commit: %+v, %v", result, err)
				}
			}

			arrives(0)
			reg, err := c.Register(t.Context(), nodeInfo(2), leaseTime)
			if err != nil {
				t.Fatal(err)
			}
			if reg.PreviousHead == nil || reg.PreviousHead.Incarnation != 1 || (reg.PreviousHead.Seq == 2) != (place == 0) {
				t.Errorf("the head before was %+v", reg.PreviousHead)
			}
			arrives(1)
			next := &writer{t: t, client: c, reg: reg}
			next.lead()
			f := follow(t, c)
			end := f.End(p)
			if want := int64(1); place == 0 && end != want+1 || place != 0 && end != want {
				t.Errorf("the next incarnation begins at %d", end)
			}
			arrives(2)
			_, at := next.commit(record("next", span{topic: topic.ID, base: end, count: 1}))
			arrives(3)
			waitFor(t, f, at)
			if err := f.Hole(p); err != nil || f.End(p) != end+1 {
				t.Errorf("end %d, %v", f.End(p), err)
			}
			// The old incarnation asks on: it learns nothing that it could take for a refusal.
			if d := old.send(late); d.Outcome != meta.CommitSuperseded {
				t.Errorf("outcome %d for the incarnation before", d.Outcome)
			}
		})
	}
}

// TestRefusedCommit: a deletion between two commits refuses the second, whose answer says what is still led.
func TestRefusedCommit(t *testing.T) {
	store := newStore()
	c := newClient(t, store)
	gone, kept := makeTopic(t, c, "gone", 1), makeTopic(t, c, "kept", 1)
	w := startWriter(t, c, 1)
	if _, err := c.DeleteTopic(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	d := w.send(w.request(record("o", span{topic: gone.ID, count: 1}, span{topic: kept.ID, count: 1})))
	if d.Outcome != meta.CommitRefused || d.NodeGone || len(d.Assignment.Epochs) != 1 || d.Assignment.Epochs[meta.Partition{Topic: kept.ID}] != 1 {
		t.Fatalf("got %+v", d)
	}
	w.guards = d.Guards
	r := record("o", span{topic: gone.ID, count: 1}, span{topic: kept.ID, count: 1})
	r.Excluded = []meta.Partition{{Topic: gone.ID}}
	w.commit(r)
	f := follow(t, c)
	if f.End(meta.Partition{Topic: gone.ID}) != 0 || f.End(meta.Partition{Topic: kept.ID}) != 1 {
		t.Error("a block that was excluded counts, or one that was not does not")
	}
	store.Expire(w.reg.Lease)
	if d := w.send(w.request(record("p", span{topic: kept.ID, base: 1, count: 1}))); d.Outcome != meta.CommitRefused || !d.NodeGone {
		t.Errorf("after the lease: %+v", d)
	}
}

// TestLateAssignment is B1 and B2: an assignment that was planned from an earlier state never applies after a later one.
func TestLateAssignment(t *testing.T) {
	store := newStore()
	c := newClient(t, store)
	topic := makeTopic(t, c, "t", 2)
	reg, err := c.Register(t.Context(), nodeInfo(1), leaseTime)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	store.FailTxns(metafake.Delay)
	slow := make(chan error)
	go func() {
		_, err := leadEverything(ctx, c, reg)
		slow <- err
	}()
	if err := store.AwaitHeld(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-slow; !errors.Is(err, context.Canceled) {
		t.Fatalf("a caller that gave up: %v", err)
	}
	w := &writer{t: t, client: c, reg: reg}
	w.lead()
	w.commit(record("o", span{topic: topic.ID, count: 1}))
	if result, err := store.Release(0); err != nil || result.Succeeded {
		t.Errorf("the late assignment: %+v, %v", result, err)
	}
	w.commit(record("p", span{topic: topic.ID, base: 1, count: 1}))

	// The same when there was an assignment before, and the controller stays who it is.
	makeTopic(t, c, "u", 1)
	store.FailTxns(metafake.Detach)
	w.lead()
	if result, err := store.Release(0); err != nil || result.Succeeded {
		t.Errorf("the second late assignment: %+v, %v", result, err)
	}
	w.commit(record("q", span{topic: topic.ID, base: 2, count: 1}))
	f := follow(t, c)
	a, _ := f.Assignment("a")
	if len(a.Epochs) != 3 || a.Epochs[meta.Partition{Topic: topic.ID}] != 1 || a.Disk != "disk-a" {
		t.Errorf("assigned: %+v", a)
	}
}

// TestLateCreation: a copy of a creation that arrives after the deletion does not bring the topic back.
func TestLateCreation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		c := newClient(t, store)
		store.FailTxns(metafake.Detach)
		makeTopic(t, c, "t", 1)
		if _, err := c.DeleteTopic(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		if result, err := store.Release(0); err != nil || result.Succeeded {
			t.Errorf("the late copy: %+v, %v", result, err)
		}
		if f := follow(t, c); len(f.Topics()) != 0 {
			t.Error("the topic is back")
		}
	})
}

// TestRegister: who may take a node's name.
func TestRegister(t *testing.T) {
	store := newStore()
	c := newClient(t, store)
	first, err := c.Register(t.Context(), nodeInfo(1), leaseTime)
	if err != nil || first.PreviousHead != nil {
		t.Fatalf("%+v, %v", first, err)
	}
	other := nodeInfo(2)
	other.Disk = "disk-b"
	var held *meta.HeldError
	if _, err := c.Register(t.Context(), other, leaseTime); !errors.As(err, &held) || held.Disk != "disk-a" || held.HTTP != "127.0.0.1:8640" {
		t.Errorf("another disk: %v", err)
	}
	second, err := c.Register(t.Context(), nodeInfo(3), leaseTime)
	if err != nil || second.PreviousHead == nil || second.PreviousHead.Incarnation != 1 || second.NodeRev <= first.NodeRev {
		t.Errorf("the same disk: %+v, %v", second, err)
	}
	// The lease of the life before ends; the key is on the new one.
	store.Expire(first.Lease)
	if n, ok := follow(t, c).Node("a"); !ok || n.Incarnation != 3 {
		t.Errorf("registered: %+v %t", n, ok)
	}
	store.Expire(second.Lease)
	if _, err := c.Register(t.Context(), other, leaseTime); err != nil {
		t.Errorf("another disk when the name is free: %v", err)
	}
}

// TestLead: epochs, disks and controllers.
func TestLead(t *testing.T) {
	store := newStore()
	c := newClient(t, store)
	topic := makeTopic(t, c, "t", 2)
	w := startWriter(t, c, 1)
	epoch := func() meta.Epoch {
		t.Helper()
		a, _ := follow(t, c).Assignment("a")
		return a.Epochs[meta.Partition{Topic: topic.ID}]
	}
	revision := store.Revision()
	w.lead()
	if store.Revision() != revision || epoch() != 1 {
		t.Error("leading again writes, or changes the epoch")
	}
	// The same disk goes on at its epoch: the log on it is replayed.
	w = startWriter(t, c, 2)
	if epoch() != 1 {
		t.Errorf("epoch %d on the same disk", epoch())
	}
	// What was released comes back at the next epoch.
	request := w.request(nil)
	request.Release = []meta.PartitionEpoch{{Partition: meta.Partition{Topic: topic.ID}, Epoch: 1}}
	if d := w.send(request); d.Outcome != meta.CommitDone {
		t.Fatalf("release: %+v", d)
	}
	if f := follow(t, c); !f.Released("a", meta.Partition{Topic: topic.ID}, 1) || f.Released("a", meta.Partition{Topic: topic.ID}, 2) {
		t.Error("the release is not heard of")
	}
	w.lead()
	if epoch() != 2 {
		t.Errorf("epoch %d after a release", epoch())
	}
	// Another disk raises the epochs, and is refused where the first one held more than objects.
	store.Expire(w.reg.Lease)
	other := nodeInfo(3)
	other.Disk = "disk-b"
	reg, err := c.Register(t.Context(), other, leaseTime)
	if err != nil {
		t.Fatal(err)
	}
	(&writer{t: t, client: c, reg: reg}).lead()
	if epoch() != 3 {
		t.Errorf("epoch %d on another disk", epoch())
	}
	if _, err := c.AlterTopic(t.Context(), "t", map[string]string{"durability": "disk"}); err != nil {
		t.Fatal(err)
	}
	store.Expire(reg.Lease)
	reg, err = c.Register(t.Context(), nodeInfo(4), leaseTime)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := leadEverything(t.Context(), c, reg); !errors.Is(err, meta.ErrDiskChanged) {
		t.Errorf("a third disk of a disk topic: %v", err)
	}
}

// TestTopics: what is refused, and that nothing is stored then.
func TestTopics(t *testing.T) {
	store := newStore()
	c := newClient(t, store)
	topic := makeTopic(t, c, "t", 4)
	for name, err := range map[string]error{
		"taken":          second(c.CreateTopic(t.Context(), "t", 1, meta.DefaultTopicConfig())),
		"no partitions":  second(c.CreateTopic(t.Context(), "x", 0, meta.DefaultTopicConfig())),
		"too many":       second(c.CreateTopic(t.Context(), "x", meta.MaxPartitions+1, meta.DefaultTopicConfig())),
		"bad name":       second(c.CreateTopic(t.Context(), "a/b", 1, meta.DefaultTopicConfig())),
		"fewer":          second(c.AddPartitions(t.Context(), "t", 3)),
		"as many":        second(c.AddPartitions(t.Context(), "t", 4)),
		"alter none":     second(c.AlterTopic(t.Context(), "x", nil)),
		"bad setting":    second(c.AlterTopic(t.Context(), "t", map[string]string{"retention": "1"})),
		"delete none":    second(c.DeleteTopic(t.Context(), "x")),
		"delete invalid": second(c.DeleteTopic(t.Context(), "..")),
	} {
		want := meta.ErrInvalidTopic
		switch name {
		case "taken":
			want = meta.ErrTopicExists
		case "alter none", "delete none":
			want = meta.ErrUnknownTopic
		case "bad setting":
			want = meta.ErrInvalidConfig
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if store.Revision() != topic.Revision {
		t.Error("something was stored")
	}
	altered, err := c.AlterTopic(t.Context(), "t", map[string]string{"max.message.bytes": "2048"})
	if err != nil || altered.Config.MaxMessageBytes != 2048 || altered.ID != topic.ID || altered.CreateRevision != topic.CreateRevision {
		t.Errorf("altered: %+v, %v", altered, err)
	}
	if same, err := c.AlterTopic(t.Context(), "t", nil); err != nil || same.Revision != altered.Revision {
		t.Errorf("nothing altered: %+v, %v", same, err)
	}
	if _, err := c.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	if again := makeTopic(t, c, "t", 1); again.ID == topic.ID {
		t.Error("a new topic has the id of the old one")
	}
}

func second[T any](_ T, err error) error { return err }

// TestSwapPointer: one of two swaps from one value wins, and the other says who did.
func TestSwapPointer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		c := newClient(t, store)
		key := c.Keys().Schema(meta.TopicID{1})
		if p, err := c.GetPointer(t.Context(), key); err != nil || p.Revision != 0 || p.Value != nil {
			t.Fatalf("a new pointer: %+v, %v", p, err)
		}
		one, err := c.SwapPointer(t.Context(), meta.Swap{Key: key, Value: []byte("1")})
		if err != nil {
			t.Fatal(err)
		}
		if p, err := c.SwapPointer(t.Context(), meta.Swap{Key: key, Value: []byte("2")}); !errors.Is(err, meta.ErrPointerMoved) || p.Revision != one.Revision {
			t.Errorf("a swap from before: %+v, %v", p, err)
		}
		guarded := meta.Swap{Key: key, From: one.Revision, Value: []byte("2"), Guards: []meta.Compare{meta.IfMod(c.Keys().Node("a"), 7)}}
		if p, err := c.SwapPointer(t.Context(), guarded); !errors.Is(err, meta.ErrGuardChanged) || p.Revision != one.Revision {
			t.Errorf("a guard that fails: %+v, %v", p, err)
		}
		// In doubt, then overtaken: the late copy does not count.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		store.FailTxns(metafake.Delay)
		if _, err := c.SwapPointer(ctx, meta.Swap{Key: key, From: one.Revision, Value: []byte("late")}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no answer: %v", err)
		}
		two, err := c.SwapPointer(t.Context(), meta.Swap{Key: key, From: one.Revision, Value: []byte("2")})
		if err != nil {
			t.Fatal(err)
		}
		release(store)
		if p, err := c.GetPointer(t.Context(), key); err != nil || p.Revision != two.Revision || string(p.Value) != "2" {
			t.Errorf("the pointer is %+v, %v", p, err)
		}
	})
}

// TestRestore: etcd that goes back in time is noticed by the running client and follower, and at the next start.
func TestRestore(t *testing.T) {
	store := newStore()
	c := newClient(t, store)
	if _, err := c.EnsureCluster(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	backup := store.Snapshot()
	f := follow(t, c)
	watching := newClient(t, store)
	watcher := follow(t, watching)
	topic := makeTopic(t, c, "t", 1)
	waitFor(t, f, topic.Revision)
	waitFor(t, watcher, topic.Revision)
	if seen := watching.Seen(); seen.Revision != topic.Revision {
		t.Errorf("a client that only watches has seen %+v", seen)
	}
	seen := c.Seen()
	if seen.Revision != topic.Revision || seen.EtcdCluster != 1 {
		t.Fatalf("seen %+v at revision %d", seen, topic.Revision)
	}
	store.Restore(backup)

	if _, err := c.Revision(t.Context()); !errors.Is(err, meta.ErrRestored) {
		t.Errorf("the next read: %v", err)
	}
	<-c.Restored()
	if err := f.WaitFor(t.Context(), topic.Revision+100); !errors.Is(err, meta.ErrRestored) || !errors.Is(f.Err(), meta.ErrRestored) {
		t.Errorf("the follower: %v", err)
	}
	for name, err := range map[string]error{
		"txn":    second(c.KV().Txn(t.Context(), meta.Txn{Then: []meta.Op{meta.DeleteOp("x")}})),
		"watch":  second(c.KV().Watch(t.Context(), "x", 1)),
		"range":  third(c.KV().Range(t.Context(), "x", 0)),
		"renew":  second(c.KV().KeepAlive(t.Context(), 1)),
		"create": second(c.CreateTopic(t.Context(), "u", 1, meta.DefaultTopicConfig())),
	} {
		if !errors.Is(err, meta.ErrRestored) {
			t.Errorf("%s: %v", name, err)
		}
	}

	restart := func(lowest meta.Revision, etcd uint64) error {
		client, err := meta.New(meta.Config{KV: store, Cluster: "test", Clock: clock.System(), Random: rand.NewChaCha8([32]byte{}), LowestRevision: lowest, EtcdCluster: etcd})
		if err != nil {
			t.Fatal(err)
		}
		return second(client.EnsureCluster(t.Context(), ""))
	}
	if err := restart(seen.Revision, seen.EtcdCluster); !errors.Is(err, meta.ErrRestored) {
		t.Errorf("a start that remembers the revision: %v", err)
	}
	if err := restart(0, 7); !errors.Is(err, meta.ErrRestored) {
		t.Errorf("a start that remembers another etcd: %v", err)
	}
	if err := restart(0, 0); err != nil {
		t.Errorf("a start that remembers nothing: %v", err)
	}
}

func third[T, U any](_ T, _ U, err error) error { return err }

// TestForeignCluster: a data directory of another cluster is refused, and names both.
func TestForeignCluster(t *testing.T) {
	c := newClient(t, newStore())
	for range 2 { // a read makes nothing
		if read, err := c.Cluster(t.Context()); err == nil {
			t.Errorf("read what is not there: %+v", read)
		}
	}
	info, err := c.EnsureCluster(t.Context(), "")
	if err != nil || info.Generation != 1 {
		t.Fatal(info, err)
	}
	if read, err := c.Cluster(t.Context()); err != nil || read != info {
		t.Errorf("read: %+v, %v", read, err)
	}
	if again, err := c.EnsureCluster(t.Context(), info.ID); err != nil || again != info {
		t.Errorf("again: %+v, %v", again, err)
	}
	var foreign *meta.ForeignClusterError
	other := fmt.Sprintf("%032x", 1)
	if _, err := c.EnsureCluster(t.Context(), other); !errors.As(err, &foreign) || foreign.Want != other || foreign.Have != info.ID {
		t.Errorf("another: %v", err)
	}
}
