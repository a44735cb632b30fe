package metatest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/tidemark-io/tidemark/meta"
)

func (s *suite) rangePinned() {
	first := s.set(s.key("b"), "1")
	s.set(s.key("a"), "2")
	s.set(s.key("b"), "3")
	last := s.remove(s.key("a"))
	s.set("/metatest/RangePinned0", "a neighbour of the prefix")
	s.equal("at the first", s.list(first), "b=1 ")
	s.equal("at the second", s.list(first+1), "a=2 b=1 ")
	s.equal("at the third", s.list(first+2), "a=2 b=3 ")
	s.equal("at the last", s.list(last), "b=3 ")
	s.equal("now", s.list(0), "b=3 ")
	_, revision, err := s.Range(s.ctx, s.prefix, 0)
	if err != nil || revision != last+1 {
		s.Errorf("now is %d, want %d; %v", revision, last+1, err)
	}
	_, _, err = s.Range(s.ctx, s.prefix, last+100)
	s.wants("Range above the current revision", err, meta.ErrFutureRevision)
}

func (s *suite) rangeManyPages() {
	const keys = 2500
	for n := 0; n < keys; n += meta.MaxTxnOps {
		var txn meta.Txn
		for m := n; m < min(n+meta.MaxTxnOps, keys); m++ {
			txn.Then = append(txn.Then, meta.PutOp(s.key("%06d", m), []byte("x")))
		}
		s.do(txn)
	}
	kvs, _, err := s.Range(s.ctx, s.prefix, 0)
	if err != nil || len(kvs) != keys {
		s.Fatalf("listed %d keys, want %d; %v", len(kvs), keys, err)
	}
	for n, kv := range kvs {
		if kv.Key != s.key("%06d", n) {
			s.Fatalf("key %d is %s", n, kv.Key)
		}
	}
}

// rangeRevisions lists while keys move from one name to the next: at every single revision there are as many.
func (s *suite) rangeRevisions() {
	const keys = 1500 // more than a page
	for n := 0; n < keys; n += 100 {
		var txn meta.Txn
		for m := n; m < n+100; m++ {
			txn.Then = append(txn.Then, meta.PutOp(s.key("a%06d", m), nil))
		}
		s.do(txn)
	}
	stop, moved := make(chan struct{}), make(chan error, 1)
	go func() {
		for n := range keys {
			select {
			case <-stop:
				moved <- nil
				return
			default:
			}
			_, err := s.Txn(s.ctx, meta.Txn{Then: []meta.Op{
				meta.DeleteOp(s.key("a%06d", n)), meta.PutOp(s.key("b%06d", n), nil),
			}})
			if err != nil {
				moved <- err
				return
			}
		}
		moved <- nil
	}()
	for range 10 {
		kvs, revision, err := s.Range(s.ctx, s.prefix, 0)
		if err != nil {
			s.Fatal(err)
		}
		s.equal("keys at one revision", len(kvs), keys)
		for _, kv := range kvs {
			if kv.Mod > revision {
				s.Fatalf("a listing at %d holds %s of %d", revision, kv.Key, kv.Mod)
			}
		}
	}
	close(stop)
	if err := <-moved; err != nil {
		s.Fatal(err)
	}
}

func (s *suite) compact() {
	first := s.set(s.key("a"), "1")
	second := s.set(s.key("a"), "2")
	s.set(s.key("gone"), "1")
	third := s.remove(s.key("gone"))
	last := s.set(s.key("b"), "3")
	s.wants("Compact above the current revision", s.Compact(s.ctx, last+100), meta.ErrFutureRevision)
	if err := s.Compact(s.ctx, third); err != nil {
		s.Fatalf("Compact: %v", err)
	}
	s.wants("Compact again", s.Compact(s.ctx, third), meta.ErrCompacted)
	s.wants("Compact below", s.Compact(s.ctx, first), meta.ErrCompacted)
	_, _, err := s.Range(s.ctx, s.prefix, second)
	s.wants("Range below", err, meta.ErrCompacted)
	s.equal("at the compacted revision", s.list(third), "a=2 ")
	s.equal("above", s.list(last), "a=2 b=3 ")
	kv := s.value(s.key("a"))
	if kv.Create != first || kv.Mod != second {
		s.Errorf("compaction changed a to %+v", kv)
	}
	if r := s.do(meta.Txn{If: []meta.Compare{meta.IfMod(s.key("a"), second), meta.IfCreate(s.key("a"), first)}}); !r.Succeeded {
		s.Error("compaction changed the outcome of a compare")
	}
}

func (s *suite) watchFromThePast() {
	first := s.set(s.key("a"), "1")
	s.set("/metatest/elsewhere", "x")
	s.set(s.key("a"), "2")
	last := s.remove(s.key("a"))
	w := s.watch(first)
	for n, want := range []meta.Event{
		{Type: meta.EventPut, KV: meta.KeyValue{Value: []byte("1"), Create: first, Mod: first}},
		{Type: meta.EventPut, KV: meta.KeyValue{Value: []byte("2"), Create: first, Mod: first + 2}},
		{Type: meta.EventDelete, KV: meta.KeyValue{Mod: last}},
	} {
		c := s.next(w)
		if c.Revision != want.KV.Mod || len(c.Events) != 1 {
			s.Fatalf("change %d is %+v", n, c)
		}
		got := c.Events[0]
		if got.Type != want.Type || got.KV.Key != s.key("a") || !bytes.Equal(got.KV.Value, want.KV.Value) ||
			got.KV.Create != want.KV.Create || got.KV.Mod != want.KV.Mod {
			s.Errorf("event %d is %+v, want %+v", n, got, want)
		}
	}
	// What comes later is seen too, and by every watcher.
	other := s.watch(last)
	s.equal("last", s.next(other).Revision, last)
	fresh := s.set(s.key("b"), "3")
	s.equal("live", s.next(w).Revision, fresh)
	s.equal("live, other watcher", s.next(other).Revision, fresh)
}

func (s *suite) watchFromTheFuture() {
	now := s.set(s.key("a"), "1")
	w := s.watch(now + 2)
	s.set(s.key("a"), "2")
	second := s.set(s.key("a"), "3")
	s.equal("first", s.next(w).Revision, second)
}

func (s *suite) watchWholeRevisions() {
	const revisions = 40
	from := s.now() + 1
	w := s.watch(from)
	for n := range revisions {
		var txn meta.Txn
		for m := range 1 + n%meta.MaxTxnOps {
			txn.Then = append(txn.Then, meta.PutOp(s.key("%03d", m), []byte{byte(n)}))
		}
		s.do(txn)
	}
	check := func(w meta.Watcher) {
		for n := range revisions {
			c := s.next(w)
			if c.Revision != from+meta.Revision(n) || len(c.Events) != 1+n%meta.MaxTxnOps {
				s.Fatalf("change %d is revision %d with %d events", n, c.Revision, len(c.Events))
			}
			for _, e := range c.Events {
				if e.KV.Mod != c.Revision || e.KV.Value[0] != byte(n) {
					s.Fatalf("revision %d holds %+v", c.Revision, e)
				}
			}
		}
	}
	check(w)
	check(s.watch(from))
}

// watchLargeRevisions has revisions so large that etcd sends answers in fragments.
func (s *suite) watchLargeRevisions() {
	const revisions, keys, size = 6, 120, 11 << 10
	from := s.now() + 1
	for n := range revisions {
		var txn meta.Txn
		for m := range keys {
			txn.Then = append(txn.Then, meta.PutOp(s.key("%03d", m), bytes.Repeat([]byte{byte(n)}, size)))
		}
		s.do(txn)
	}
	w := s.watch(from)
	for n := range revisions {
		c := s.next(w)
		if c.Revision != from+meta.Revision(n) || len(c.Events) != keys {
			s.Fatalf("change %d is revision %d with %d events", n, c.Revision, len(c.Events))
		}
		slices.SortFunc(c.Events, func(a, b meta.Event) int { return strings.Compare(a.KV.Key, b.KV.Key) })
		for m, e := range c.Events {
			if e.KV.Key != s.key("%03d", m) || len(e.KV.Value) != size || e.KV.Value[0] != byte(n) {
				s.Fatalf("event %d of revision %d is wrong: %s", m, c.Revision, e.KV.Key)
			}
		}
	}
}

func (s *suite) watchCompacted() {
	first := s.set(s.key("a"), "1")
	s.set(s.key("a"), "2")
	third := s.set(s.key("a"), "3")
	last := s.set(s.key("a"), "4")
	if err := s.Compact(s.ctx, third); err != nil {
		s.Fatal(err)
	}
	w, err := s.Watch(s.ctx, s.prefix, first)
	if err == nil {
		defer w.Close()
		_, err = w.Next(s.ctx)
		s.wants("Next", err, meta.ErrCompacted)
		_, err = w.Next(s.ctx)
	}
	s.wants("watch below what was compacted", err, meta.ErrCompacted)
	s.equal("watch above", s.next(s.watch(last)).Revision, last)
}

func (s *suite) watchProgress() {
	from := s.set(s.key("a"), "1")
	w := s.watch(from)
	target := s.set("/metatest/elsewhere", "not under the prefix")
	s.equal("first", s.next(w).Revision, from)
	for {
		if err := w.RequestProgress(s.ctx); err != nil {
			s.Fatalf("RequestProgress: %v", err)
		}
		c := s.next(w)
		if len(c.Events) != 0 {
			s.Fatalf("got %+v where nothing happened", c)
		}
		if c.Revision >= target {
			break
		}
	}
	// The watch goes on after that.
	live := s.set(s.key("a"), "2")
	for c := s.next(w); c.Revision != live || len(c.Events) != 1; c = s.next(w) {
		if len(c.Events) != 0 || c.Revision > live {
			s.Fatalf("got %+v, want revision %d", c, live)
		}
	}
}

func (s *suite) watchNextGivenUp() {
	from := s.now() + 1
	w := s.watch(from)
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err := w.Next(ctx)
	s.wants("Next", err, context.Canceled)
	s.set(s.key("a"), "1")
	s.equal("the watch goes on", s.next(w).Revision, from)
}

func (s *suite) watchClose() {
	w := s.watch(s.now() + 1)
	ended := make(chan error, 1)
	go func() {
		_, err := w.Next(s.ctx)
		ended <- err
	}()
	w.Close()
	w.Close()
	if err := <-ended; !errors.Is(err, meta.ErrWatchClosed) {
		s.Errorf("Next beside Close: got error %v", err)
	}
	_, err := w.Next(s.ctx)
	s.wants("Next after Close", err, meta.ErrWatchClosed)
	s.wants("RequestProgress after Close", w.RequestProgress(s.ctx), meta.ErrWatchClosed)
}
