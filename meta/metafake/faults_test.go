package metafake

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
)

func put(key string) meta.Txn { return meta.Txn{Then: []meta.Op{meta.PutOp(key, []byte("x"))}} }

func has(t *testing.T, s *Store, key string) bool {
	t.Helper()
	kv, _, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return kv != nil
}

func TestLostRepliesAndDrops(t *testing.T) {
	s := New(Config{})
	s.FailTxns(None, LoseReply, Drop)
	if _, err := s.Txn(t.Context(), put("a")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Txn(t.Context(), put("b")); !errors.Is(err, meta.ErrUnavailable) || !has(t, s, "b") {
		t.Errorf("LoseReply: error %v, applied %v", err, has(t, s, "b"))
	}
	if _, err := s.Txn(t.Context(), put("c")); !errors.Is(err, meta.ErrUnavailable) || has(t, s, "c") {
		t.Errorf("Drop: error %v, applied %v", err, has(t, s, "c"))
	}
	if _, err := s.Txn(t.Context(), put("d")); err != nil {
		t.Errorf("after the faults: %v", err)
	}
}

func TestDelayAppliesAfterItsCallerGaveUp(t *testing.T) {
	s := New(Config{})
	s.OnTxn(func(meta.Txn) Fault { return Delay })
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	value := []byte("as sent")
	go func() {
		_, err := s.Txn(ctx, meta.Txn{Then: []meta.Op{meta.PutOp("a", value)}})
		failed <- err
	}()
	if err := s.AwaitHeld(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Fatalf("got error %v", err)
	}
	copy(value, "changed")
	if has(t, s, "a") {
		t.Fatal("applied while held")
	}
	if r, err := s.Release(0); err != nil || !r.Succeeded {
		t.Fatalf("released: %+v, %v", r, err)
	}
	if kv, _, err := s.Get(t.Context(), "a"); err != nil || string(kv.Value) != "as sent" {
		t.Fatalf("applied as %+v, %v", kv, err)
	}
}

func TestDelayAnswersACallerThatWaits(t *testing.T) {
	s := New(Config{})
	s.FailTxns(Delay, Delay, Detach)
	answers := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := s.Txn(t.Context(), put("a"))
			answers <- err
		}()
	}
	if err := s.AwaitHeld(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Txn(t.Context(), put("b")); !errors.Is(err, meta.ErrUnavailable) || s.Held() != 3 {
		t.Fatalf("Detach: error %v, %d held", err, s.Held())
	}
	s.Discard(1)
	if err := <-answers; !errors.Is(err, meta.ErrUnavailable) {
		t.Errorf("discarded: got error %v", err)
	}
	if _, err := s.Release(0); err != nil {
		t.Fatal(err)
	}
	if err := <-answers; err != nil {
		t.Errorf("released: got error %v", err)
	}
	if _, err := s.Release(0); err != nil || !has(t, s, "b") {
		t.Errorf("detached: error %v, applied %v", err, has(t, s, "b"))
	}
}

func TestUnavailableAndFull(t *testing.T) {
	s := New(Config{})
	if _, err := s.Txn(t.Context(), put("a")); err != nil {
		t.Fatal(err)
	}
	s.SetUnavailable(true)
	if _, err := s.Txn(t.Context(), put("b")); !errors.Is(err, meta.ErrUnavailable) {
		t.Errorf("Txn: got error %v", err)
	}
	if _, _, err := s.Range(t.Context(), "", 0); !errors.Is(err, meta.ErrUnavailable) {
		t.Errorf("Range: got error %v", err)
	}
	s.SetUnavailable(false)
	if has(t, s, "b") {
		t.Error("an unavailable store has applied a transaction")
	}
	s.SetFull(true)
	if _, err := s.Txn(t.Context(), put("b")); !errors.Is(err, meta.ErrNoSpace) {
		t.Errorf("Txn on a full store: got error %v", err)
	}
	if _, err := s.Txn(t.Context(), meta.Txn{Then: []meta.Op{meta.DeleteOp("a")}}); err != nil {
		t.Errorf("removing from a full store: %v", err)
	}
	if status, err := s.Status(t.Context()); err != nil || len(status.Alarms) != 1 {
		t.Errorf("status %+v, %v", status, err)
	}
}

func TestHeldWatches(t *testing.T) {
	s := New(Config{})
	w, err := s.Watch(t.Context(), "", 1)
	if err != nil {
		t.Fatal(err)
	}
	s.HoldWatches()
	for _, key := range []string{"a", "b", "c"} {
		if _, err := s.Txn(t.Context(), put(key)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.RequestProgress(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect := func(revision meta.Revision, events int) {
		t.Helper()
		if c, err := w.Next(t.Context()); err != nil || c.Revision != revision || len(c.Events) != events {
			t.Fatalf("got %+v, %v; want revision %d", c, err, revision)
		}
	}
	expect(1, 0)
	s.ReleaseWatches(3)
	expect(2, 1)
	expect(3, 1)
	if err := w.RequestProgress(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(3, 0)
	s.ReleaseWatches(0)
	expect(4, 1)
}

// Leases end by the clock, also under a watch on which nothing else happens.
func TestLeasesEndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.System()
		s := New(Config{Clock: c})
		began := c.Now()
		id, err := s.Grant(t.Context(), 1500*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Txn(t.Context(), meta.Txn{Then: []meta.Op{meta.PutLeasedOp("a", nil, id)}})
		if err != nil {
			t.Fatal(err)
		}
		<-c.NewTimer(time.Second).C()
		if left, err := s.KeepAlive(t.Context(), id); err != nil || left != 2*time.Second {
			t.Fatalf("renewed for %v, %v", left, err)
		}
		w, err := s.Watch(t.Context(), "", r.Revision+1)
		if err != nil {
			t.Fatal(err)
		}
		change, err := w.Next(t.Context())
		if err != nil || change.Events[0].Type != meta.EventDelete {
			t.Fatalf("got %+v, %v", change, err)
		}
		if took := c.Now().Sub(began); took != 3*time.Second {
			t.Errorf("the lease ended after %v", took)
		}
		if _, err := s.KeepAlive(t.Context(), id); !errors.Is(err, meta.ErrLeaseGone) {
			t.Errorf("renewed after its end: %v", err)
		}
	})
}

func TestRestoreGoesBack(t *testing.T) {
	s := New(Config{})
	if _, err := s.Txn(t.Context(), put("a")); err != nil {
		t.Fatal(err)
	}
	backup := s.Snapshot()
	if _, err := s.Txn(t.Context(), put("b")); err != nil {
		t.Fatal(err)
	}
	s.Restore(backup)
	if s.Revision() != 2 || has(t, s, "b") || !has(t, s, "a") {
		t.Fatalf("revision %d after the restore", s.Revision())
	}
	if _, _, err := s.Range(t.Context(), "", 3); !errors.Is(err, meta.ErrFutureRevision) {
		t.Errorf("Range at a revision from before the restore: %v", err)
	}
	if r, err := s.Txn(t.Context(), put("c")); err != nil || r.Revision != 3 {
		t.Errorf("revisions come again: %+v, %v", r, err)
	}
}
