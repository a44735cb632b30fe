package meta_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

// TestFoldUnderReaders: while records are replaced again and again, every offset below the end is found at any moment.
func TestFoldUnderReaders(t *testing.T) {
	c := newClient(t, newStore())
	topic := makeTopic(t, c, "t", 2)
	w := startWriter(t, c, 1)
	f := follow(t, c)
	p, q := meta.Partition{Topic: topic.ID}, meta.Partition{Topic: topic.ID, Partition: 1}

	done := make(chan struct{})
	var readers sync.WaitGroup
	var looked atomic.Int64
	for range 2 {
		readers.Go(func() {
			last := int64(0)
			for {
				select {
				case <-done:
					return
				default:
				}
				end := f.End(p)
				if end < last {
					t.Errorf("the end goes back from %d to %d", last, end)
				}
				last = end
				for offset := range end {
					b, ok := f.Lookup(p, offset)
					if !ok || offset < b.BaseOffset || offset >= b.End() || b.Object == "" {
						t.Errorf("offset %d of %d: %+v %t", offset, end, b, ok)
						return
					}
					looked.Add(1)
				}
				if err := f.Hole(p); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}

	var keys []string
	var from, end int64
	for n := range 200 {
		key, _ := w.commit(record(fmt.Sprintf("o%d", n), span{topic.ID, 0, end, 2}, span{topic.ID, 1, end, 2}))
		end += 2
		keys = append(keys, key)
		if len(keys) == 5 {
			key, _ := w.commit(record(fmt.Sprintf("fold%d", n), span{topic.ID, 0, from, end - from}, span{topic.ID, 1, from, end - from}), keys...)
			keys, from = nil, end
			_ = key
		}
	}
	waitFor(t, f, w.guards.HeadRev)
	close(done)
	readers.Wait()
	if f.End(p) != 400 || f.End(q) != 400 || len(f.Records("a")) != 40 || looked.Load() == 0 {
		t.Errorf("ends %d and %d, %d records, %d looked up", f.End(p), f.End(q), len(f.Records("a")), looked.Load())
	}
}

// TestFoldAcrossLives: records of several incarnations, whose keys sort in no order of time, are listed and folded.
func TestFoldAcrossLives(t *testing.T) {
	c := newClient(t, newStore())
	topic := makeTopic(t, c, "t", 1)
	p := meta.Partition{Topic: topic.ID}
	live := follow(t, c)
	var keys []string
	end := int64(0)
	var w *writer
	for _, incarnation := range []meta.Incarnation{0xffffffffffffffff, 3, 0x8000000000000000, 1} {
		w = startWriter(t, c, incarnation)
		for range 3 {
			r := record(fmt.Sprintf("o%d", end), span{topic.ID, 0, end, 1})
			r.Index.Producers = []meta.L0Producer{{
				Topic: topic.ID, ProducerID: 7, FirstSequence: int32(end), LastSequence: int32(end), BaseOffset: end, AppendTime: end,
			}}
			key, _ := w.commit(seal(r, 10))
			keys = append(keys, key)
			end++
		}
	}
	fresh := follow(t, c)
	waitFor(t, live, w.guards.HeadRev)
	check := func(f *meta.Follower) {
		t.Helper()
		if err := f.Hole(p); err != nil || f.End(p) != end {
			t.Errorf("end %d, %v", f.End(p), err)
		}
		for offset := range end {
			if b, ok := f.Lookup(p, offset); !ok || b.BaseOffset > offset || b.End() <= offset {
				t.Errorf("offset %d is in %+v %t", offset, b, ok)
			}
		}
		producers := f.Producers(p)
		if len(producers) != meta.ProducerRanges || producers[0].BaseOffset != end-meta.ProducerRanges || producers[4].BaseOffset != end-1 {
			t.Errorf("producers %+v", producers)
		}
	}
	check(live)
	check(fresh)
	records := fresh.Records("a")
	for n := 1; n < len(records); n++ {
		if a, b := records[n-1], records[n]; a.Incarnation > b.Incarnation || a.Incarnation == b.Incarnation && a.Seq >= b.Seq {
			t.Errorf("records %d and %d are not in the order of their keys", n-1, n)
		}
	}

	fold := record("fold", span{topic.ID, 0, 0, end})
	fold.Index.Producers = fresh.Producers(p)
	_, at := w.commit(seal(fold, 100), keys...)
	waitFor(t, live, at)
	waitFor(t, fresh, at)
	check(live)
	check(fresh)
	check(follow(t, c))
	if r := live.Records("a"); len(r) != 1 || r[0].Object != "fold" {
		t.Errorf("%d records are left", len(r))
	}
}

// TestDeletedTopic: its blocks go, those of others in the same records stay, and a fold that still has them brings nothing back.
func TestDeletedTopic(t *testing.T) {
	c := newClient(t, newStore())
	gone, kept := makeTopic(t, c, "gone", 1), makeTopic(t, c, "kept", 1)
	w := startWriter(t, c, 1)
	live := follow(t, c)
	first, _ := w.commit(record("o1", span{gone.ID, 0, 0, 3}, span{kept.ID, 0, 0, 3}))
	second, _ := w.commit(record("o2", span{gone.ID, 0, 3, 3}, span{kept.ID, 0, 3, 3}))
	before := live.TopicsRevision()
	at, err := c.DeleteTopic(t.Context(), "gone")
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, live, at)
	if live.TopicsRevision() <= before {
		t.Error("a deletion does not show in the revision of the topics")
	}
	check := func(f *meta.Follower, end int64) {
		t.Helper()
		p, q := meta.Partition{Topic: gone.ID}, meta.Partition{Topic: kept.ID}
		if _, ok := f.Lookup(p, 0); ok || f.End(p) != 0 || f.Hole(p) != nil || f.Producers(p) != nil {
			t.Errorf("the deleted topic has blocks up to %d", f.End(p))
		}
		if _, ok := f.TopicByID(gone.ID); ok {
			t.Error("the deleted topic is there")
		}
		if a, _ := f.Assignment("a"); len(a.Epochs) != 1 {
			t.Errorf("assigned: %v", a.Epochs)
		}
		for offset := range end {
			if _, ok := f.Lookup(q, offset); !ok {
				t.Errorf("offset %d of the other topic is gone", offset)
			}
		}
		if f.End(q) != end || f.Hole(q) != nil {
			t.Errorf("the other topic ends at %d, %v", f.End(q), f.Hole(q))
		}
	}
	check(live, 6)
	check(follow(t, c), 6)

	again := makeTopic(t, c, "gone", 1) // the name is free, the id another
	w.lead()
	_, at = w.commit(record("fold", span{gone.ID, 0, 0, 6}, span{kept.ID, 0, 0, 6}), first, second)
	waitFor(t, live, at)
	if live.End(meta.Partition{Topic: again.ID}) != 0 {
		t.Error("the new topic has blocks of the old one")
	}
	if _, err := c.DeleteTopic(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	w.lead()
	_, at = w.commit(record("o3", span{kept.ID, 0, 6, 1}))
	waitFor(t, live, at)
	check(live, 7)
	check(follow(t, c), 7)
}

// countingKV counts listings.
type countingKV struct {
	meta.KV

	ranges atomic.Int64
}

func (k *countingKV) Range(ctx context.Context, prefix string, at meta.Revision) ([]meta.KeyValue, meta.Revision, error) {
	k.ranges.Add(1)
	return k.KV.Range(ctx, prefix, at)
}

// TestResync: a follower whose history was compacted lists again, and its ends do not go back meanwhile.
func TestResync(t *testing.T) {
	store := newStore()
	kv := &countingKV{KV: store}
	c := newClient(t, kv)
	topic := makeTopic(t, c, "t", 1)
	p := meta.Partition{Topic: topic.ID}
	w := startWriter(t, c, 1)
	var last int64
	var following atomic.Pointer[meta.Follower]
	f, err := c.Follow(t.Context(), noLoad, func(r meta.Revision) {
		f := following.Load()
		if f == nil {
			return
		}
		if end := f.End(p); end < last || f.Revision() != r {
			t.Errorf("end %d after %d, at revision %d of %d", end, last, f.Revision(), r)
		} else {
			last = end
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	following.Store(f)
	end := int64(0)
	commit := func() (key string) {
		key, _ = w.commit(record(fmt.Sprintf("o%d", end), span{topic.ID, 0, end, 1}))
		end++
		return key
	}
	for round := range 5 {
		commit()
		waitFor(t, f, w.guards.HeadRev)
		store.HoldWatches()
		replaced := []string{commit(), commit()}
		w.commit(record(fmt.Sprintf("fold%d", round), span{topic.ID, 0, end - 2, 2}), replaced...)
		if err := store.Compact(t.Context(), store.Revision()); err != nil {
			t.Fatal(err)
		}
		before := kv.ranges.Load()
		store.ReleaseWatches(0)
		waitFor(t, f, w.guards.HeadRev)
		if f.End(p) != end || f.Hole(p) != nil || kv.ranges.Load() != before+1 {
			t.Errorf("end %d of %d, %v, %d listings", f.End(p), end, f.Hole(p), kv.ranges.Load()-before)
		}
	}
}

// TestResyncAfterLoss: a record that vanished while the follower could not see it leaves a hole, not a shorter log.
func TestResyncAfterLoss(t *testing.T) {
	store := newStore()
	c := newClient(t, store)
	topic := makeTopic(t, c, "t", 1)
	p := meta.Partition{Topic: topic.ID}
	w := startWriter(t, c, 1)
	f := follow(t, c)
	w.commit(record("o1", span{topic.ID, 0, 0, 1}))
	key, at := w.commit(record("o2", span{topic.ID, 0, 1, 1}))
	waitFor(t, f, at)
	store.HoldWatches()
	result, err := store.Txn(t.Context(), meta.Txn{Then: []meta.Op{meta.DeleteOp(key)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Compact(t.Context(), result.Revision); err != nil {
		t.Fatal(err)
	}
	store.ReleaseWatches(0)
	waitFor(t, f, result.Revision)
	if f.End(p) != 2 || f.Hole(p) == nil {
		t.Errorf("end %d, hole %v", f.End(p), f.Hole(p))
	}
}

// TestLag: a follower that lags waits, and says so; a revision that touched other prefixes is asked for, without a listing.
func TestLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		kv := &countingKV{KV: store}
		c := newClient(t, kv)
		topic := makeTopic(t, c, "t", 1)
		w := startWriter(t, c, 1)
		f := follow(t, c)
		defer f.Close()
		store.HoldWatches()
		_, one := w.commit(record("o1", span{topic.ID, 0, 0, 1}))
		_, two := w.commit(record("o2", span{topic.ID, 0, 1, 1}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := f.WaitFor(ctx, one); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a revision that did not come: %v", err)
		}
		store.ReleaseWatches(one)
		waitFor(t, f, one)
		if end := f.End(meta.Partition{Topic: topic.ID}); end != 1 || f.Revision() >= two {
			t.Errorf("end %d at revision %d", end, f.Revision())
		}
		store.ReleaseWatches(0)
		waitFor(t, f, two)

		ranges := kv.ranges.Load()
		result, err := store.Txn(t.Context(), meta.Txn{Then: []meta.Op{meta.PutOp("/elsewhere", nil)}})
		if err != nil {
			t.Fatal(err)
		}
		waitFor(t, f, result.Revision)
		if kv.ranges.Load() != ranges {
			t.Error("it lists to learn a revision")
		}
		// etcd away and back: the follower goes on.
		store.SetUnavailable(true)
		synctest.Wait()
		store.SetUnavailable(false)
		_, three := w.commit(record("o3", span{topic.ID, 0, 2, 1}))
		waitFor(t, f, three)
		f.Close()
		if err := f.WaitFor(t.Context(), three+1); !errors.Is(err, meta.ErrUnavailable) {
			t.Errorf("after Close: %v", err)
		}
		if err := f.WaitFor(t.Context(), three); err != nil {
			t.Errorf("what it knows, after Close: %v", err)
		}
	})
}

// TestLoadedIndex: an index that its record leaves in the object is loaded, again while that fails, and one that cannot be
// read ends the follower with its cause.
func TestLoadedIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, newStore())
		topic := makeTopic(t, c, "t", 2)
		w := startWriter(t, c, 1)
		indexes := map[string]meta.L0Index{}
		big := func(object string, base int64) *meta.L0Record {
			r := record(object, span{topic.ID, 0, base, 5}, span{topic.ID, 1, base, 5})
			indexes[object] = r.Index
			r.Inline, r.Index = false, meta.L0Index{}
			return r
		}
		w.commit(big("o1", 0))
		failures := 0
		load := func(_ context.Context, r *meta.L0Record) (meta.L0Index, error) {
			if failures > 0 {
				failures--
				return meta.L0Index{}, errors.New("the store is away")
			}
			x, ok := indexes[r.Object]
			if !ok {
				return x, fmt.Errorf("object %s: %w", r.Object, meta.ErrFormat)
			}
			return x, nil
		}
		f, err := c.Follow(t.Context(), load, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		p, q := meta.Partition{Topic: topic.ID}, meta.Partition{Topic: topic.ID, Partition: 1}
		failures = 20
		second := big("o2", 5)
		second.Excluded = []meta.Partition{q}
		_, at := w.commit(second)
		waitFor(t, f, at)
		if b, ok := f.Lookup(p, 7); !ok || b.Object != "o2" || f.End(p) != 10 || f.End(q) != 5 {
			t.Errorf("ends %d and %d, offset 7 in %+v", f.End(p), f.End(q), b)
		}
		if b, ok := f.LookupTime(p, 1006); !ok || b.Object != "o2" {
			t.Errorf("time 1006 is in %+v %t", b, ok)
		}
		if _, ok := f.LookupTime(p, 1011); ok {
			t.Error("a time behind all is found")
		}
		third := big("o3", 10)
		delete(indexes, "o3")
		_, at = w.commit(third)
		if err := f.WaitFor(t.Context(), at); !errors.Is(err, meta.ErrFormat) || !errors.Is(f.Err(), meta.ErrFormat) {
			t.Errorf("an index that cannot be read: %v", err)
		}
	})
}

// TestIsGarbage: what a record names stays; else an object goes when its incarnation is dead or has settled its number.
func TestIsGarbage(t *testing.T) {
	store := newStore()
	c := newClient(t, store)
	topic := makeTopic(t, c, "t", 1)
	dead := startWriter(t, c, 1)
	dead.commit(record(meta.L0ObjectName("a", 1, 1, 0), span{topic.ID, 0, 0, 1}))
	w := startWriter(t, c, 2)
	request := w.request(record(meta.L0ObjectName("a", 2, 1, 1), span{topic.ID, 0, 1, 1}))
	request.Settled = 3
	w.send(request)
	f := follow(t, c)
	for name, want := range map[string]bool{
		meta.L0ObjectName("a", 1, 1, 0): false, // named
		meta.L0ObjectName("a", 1, 2, 0): true,  // of a dead incarnation
		meta.L0ObjectName("a", 2, 1, 1): false, // named
		meta.L0ObjectName("a", 2, 1, 0): true,  // an attempt that was given up, settled
		meta.L0ObjectName("a", 2, 3, 0): true,  // settled
		meta.L0ObjectName("a", 2, 4, 0): false, // on its way
		meta.L0ObjectName("b", 9, 1, 0): true,  // of a node that is not there
		"segments/x":                    false, // none of ours
	} {
		if f.IsGarbage(name) != want {
			t.Errorf("%s: garbage is %t", name, !want)
		}
	}
	store.Expire(w.reg.Lease)
	f = follow(t, c)
	if name := meta.L0ObjectName("a", 2, 4, 0); !f.IsGarbage(name) {
		t.Error("what a dead incarnation left is kept")
	}
}
