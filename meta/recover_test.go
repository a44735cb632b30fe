package meta_test

import (
	"context"
	"errors"
	"testing"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/meta/metafake"
)

// TestRecover: after a recovery no offset, epoch or producer id is given out again, and what the store has lost is named.
func TestRecover(t *testing.T) {
	store := newStore()
	c := newClient(t, store)
	begun := false
	exists := func(_ context.Context, object string) (bool, error) {
		if begun { // a recovery is under way
			if _, err := c.Register(t.Context(), nodeInfo(7), leaseTime); !errors.Is(err, meta.ErrRecovering) {
				t.Errorf("a node joins a cluster that is being recovered: %v", err)
			}
		}
		return object != "gone", nil
	}
	if _, err := c.Recover(t.Context(), nil, exists); !errors.Is(err, meta.ErrUnknownCluster) {
		t.Errorf("without a cluster: %v", err)
	}
	if _, err := c.EnsureCluster(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	topic := makeTopic(t, c, "t", 70)
	w := startWriter(t, c, 1)
	w.commit(record("kept", span{topic: topic.ID, count: 3}))
	w.commit(record("gone", span{topic: topic.ID, base: 3, count: 4}))
	before, err := c.NextProducerID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Recover(t.Context(), nil, exists); !errors.Is(err, meta.ErrNodeAlive) {
		t.Errorf("with a node alive: %v", err)
	}
	store.Expire(w.reg.Lease)
	begun = true
	for run := range int64(2) {
		report, err := c.Recover(t.Context(), nil, exists)
		if err != nil {
			t.Fatal(err)
		}
		if report.Generation != 2+run || report.Partitions != 70 || len(report.Moved) != 70 || len(report.Missing) != 1 || report.Missing[0].Object != "gone" ||
			report.Missing[0].Blocks[0].BaseOffset != 3 {
			t.Errorf("run %d: generation %d, %d partitions, %d moved, missing %+v", run, report.Generation, report.Partitions, len(report.Moved), report.Missing)
		}
		if from := report.ProducersFrom; from < before+(1<<32)*(run+1) {
			t.Errorf("producer ids go on at %d", from)
		}
	}
	if n, err := meta.Generation(t.Context(), store, "test"); err != nil || n != 3 {
		t.Errorf("generation %d, %v", n, err)
	}
	f, err := c.Follow(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := meta.Partition{Topic: topic.ID}
	if lost := f.Lost(p); len(lost) != 1 || lost[0] != (meta.OffsetRange{From: 7, To: 7 + 2<<40}) || f.End(p) != 7+2<<40 || f.Hole(p) != nil {
		t.Errorf("lost %v, end %d, %v", lost, f.End(p), f.Hole(p))
	}
	if l, ok := f.Leader(p); !ok || l.Epoch != 3 {
		t.Errorf("leader %+v", l)
	}
	// A commit that was on its way from before is refused: its node is not registered, and its assignment is another.
	if d := w.send(w.request(record("late", span{topic: topic.ID, base: 7, count: 1}))); d.Outcome != meta.CommitRefused {
		t.Errorf("a late commit: %+v", d)
	}
	// A node that starts now goes on behind the gap.
	w = startWriter(t, c, 2)
	w.commit(record("later", span{topic: topic.ID, base: 7 + 2<<40, count: 1}))
	if err := f.WaitFor(t.Context(), w.mod(c.Keys().Head("a"))); err != nil {
		t.Fatal(err)
	}
	if err := f.Hole(p); err != nil {
		t.Error(err)
	}
}

// TestRefusedRecovery leaves the cluster as it was: its node may begin anew.
func TestRefusedRecovery(t *testing.T) {
	store := newStore()
	c := newClient(t, store)
	if _, err := c.EnsureCluster(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	makeTopic(t, c, "t", 3)
	w := startWriter(t, c, 1)
	exists := func(context.Context, string) (bool, error) { return true, nil }
	if _, err := c.Recover(t.Context(), nil, exists); !errors.Is(err, meta.ErrNodeAlive) {
		t.Fatal(err)
	}
	store.Expire(w.reg.Lease)
	if _, err := c.Register(t.Context(), nodeInfo(2), leaseTime); err != nil {
		t.Errorf("a node of a cluster that was not recovered cannot begin anew: %v", err)
	}
}

// TestRecoveryWhoseMarkWasDropped: the first attempt to mark the cluster never reaches etcd. Nobody may join while the recovery runs.
func TestRecoveryWhoseMarkWasDropped(t *testing.T) {
	store := newStore()
	c := newClient(t, store)
	if _, err := c.EnsureCluster(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	topic := makeTopic(t, c, "t", 3)
	w := startWriter(t, c, 1)
	w.commit(record("kept", span{topic: topic.ID, count: 3}))
	store.Expire(w.reg.Lease)
	asked := false
	exists := func(context.Context, string) (bool, error) {
		if !asked {
			asked = true
			if _, err := c.Register(t.Context(), nodeInfo(7), leaseTime); !errors.Is(err, meta.ErrRecovering) {
				t.Errorf("a node joins a cluster that is being recovered: %v", err)
			}
		}
		return true, nil
	}
	store.FailTxns(metafake.Drop)
	if _, err := c.Recover(t.Context(), nil, exists); err != nil {
		t.Error(err)
	}
	if !asked {
		t.Fatal("nothing was asked")
	}
}
