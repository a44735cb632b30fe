package meta_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/meta/metafake"
)

// grow makes n revisions.
func grow(t *testing.T, kv meta.KV, n int) {
	t.Helper()
	for range n {
		if _, err := kv.Txn(t.Context(), meta.Txn{Then: []meta.Op{meta.PutOp("a", nil)}}); err != nil {
			t.Fatal(err)
		}
	}
}

// oldest finds the first revision that the store still has.
func oldest(t *testing.T, store *metafake.Store) meta.Revision {
	t.Helper()
	low, high := meta.Revision(1), store.Revision()
	for low < high {
		middle := (low + high) / 2
		_, _, err := store.Range(t.Context(), "none", middle)
		switch {
		case errors.Is(err, meta.ErrCompacted):
			low = middle + 1
		case err == nil:
			high = middle
		default:
			t.Fatal(err)
		}
	}
	return low
}

func TestCompactor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := metafake.New(metafake.Config{})
		var reclaimed atomic.Int64
		compactor := meta.NewCompactor(meta.CompactorConfig{KV: store, Clock: clock.System(), Reclaim: func(context.Context) error {
			reclaimed.Add(1)
			store.SetFull(false)
			return nil
		}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			compactor.Run(ctx)
		}()
		pass := func(d time.Duration) {
			<-clock.System().NewTimer(d).C()
			synctest.Wait()
		}
		keep, every := int(meta.KeepRevisions), int(meta.CompactRevisions)

		grow(t, store, keep+every-2) // the first revision is 1
		pass(time.Minute)
		if got := oldest(t, store); got != 1 {
			t.Fatalf("compacted up to %d too soon", got)
		}
		grow(t, store, 1)
		pass(time.Minute)
		if got := oldest(t, store); got != meta.CompactRevisions {
			t.Fatalf("compacted up to %d, want %d", got, meta.CompactRevisions)
		}
		grow(t, store, 100)
		pass(meta.CompactInterval - time.Minute)
		if got := oldest(t, store); got != meta.CompactRevisions {
			t.Fatalf("compacted up to %d before its time", got)
		}
		pass(time.Minute)
		if got := oldest(t, store); got != meta.CompactRevisions+100 {
			t.Fatalf("compacted up to %d after its time, want %d", got, meta.CompactRevisions+100)
		}

		// Another node compacts, the store goes and comes: it goes on.
		grow(t, store, 2*every)
		if err := store.Compact(t.Context(), store.Revision()-1); err != nil {
			t.Fatal(err)
		}
		store.SetUnavailable(true)
		pass(time.Minute)
		store.SetUnavailable(false)
		pass(time.Minute)
		grow(t, store, every+1)
		pass(time.Minute)
		if got := oldest(t, store); got != store.Revision()-meta.KeepRevisions {
			t.Fatalf("compacted up to %d of %d", got, store.Revision())
		}

		if reclaimed.Load() != 0 {
			t.Fatal("space was reclaimed where there is none")
		}
		store.SetFull(true)
		pass(time.Minute)
		if reclaimed.Load() != 1 {
			t.Fatalf("a full store was reclaimed %d times", reclaimed.Load())
		}
		cancel()
		<-ended
	})
}
