package metatest

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/tidemark-io/tidemark/meta"
)

func (s *suite) txn() {
	a, b := s.key("a"), s.key("b")
	r := s.do(meta.Txn{
		If:   []meta.Compare{meta.IfAbsent(a), meta.IfAbsent(b)},
		Then: []meta.Op{meta.PutOp(a, []byte("1")), meta.PutOp(b, nil)},
		Else: []meta.Op{meta.GetOp(a)},
	})
	if !r.Succeeded || len(r.Gets) != 0 {
		s.Fatalf("first: %+v", r)
	}
	kv := s.value(a)
	if kv == nil || kv.Key != a || string(kv.Value) != "1" || kv.Create != r.Revision || kv.Mod != r.Revision || kv.Lease != 0 {
		s.Fatalf("a is %+v after revision %d", kv, r.Revision)
	}
	if kv := s.value(b); kv == nil || len(kv.Value) != 0 || kv.Mod != r.Revision {
		s.Fatalf("b is %+v after revision %d", kv, r.Revision)
	}
	again := s.do(meta.Txn{
		If:   []meta.Compare{meta.IfAbsent(a)},
		Then: []meta.Op{meta.PutOp(a, []byte("2"))},
		Else: []meta.Op{meta.GetOp(s.key("none")), meta.GetOp(a), meta.DeleteOp(b), meta.GetOp(b)},
	})
	if again.Succeeded || again.Revision != r.Revision+1 || len(again.Gets) != 3 {
		s.Fatalf("second: %+v", again)
	}
	if again.Gets[0] != nil || string(again.Gets[1].Value) != "1" || again.Gets[2] != nil {
		s.Fatalf("second read %+v", again.Gets)
	}
	if kv := s.value(b); kv != nil {
		s.Fatalf("b is still %+v", kv)
	}
	// A key that comes back is another one.
	third := s.set(b, "new")
	if kv := s.value(b); kv.Create != third || kv.Mod != third {
		s.Fatalf("b came back as %+v at %d", kv, third)
	}
}

func (s *suite) txnCompares() {
	a, none := s.key("a"), s.key("none")
	create := s.set(a, "1")
	mod := s.set(a, "2")
	for _, c := range []struct {
		compare meta.Compare
		holds   bool
	}{
		{meta.IfMod(a, mod), true},
		{meta.IfMod(a, create), false},
		{meta.IfMod(a, mod+1), false},
		{meta.IfMod(a, 0), false},
		{meta.IfAbsent(a), false},
		{meta.IfCreate(a, create), true},
		{meta.IfCreate(a, mod), false},
		{meta.IfCreate(a, 0), false},
		{meta.Compare{Key: a, Mod: mod, Create: create}, true},
		{meta.Compare{Key: a, Mod: create, Create: create}, false},
		{meta.Compare{Key: a, Mod: mod, Create: mod}, false},
		{meta.IfAbsent(none), true},
		{meta.IfMod(none, 0), true},
		{meta.IfCreate(none, 0), true},
		{meta.IfMod(none, mod), false},
		{meta.IfCreate(none, create), false},
	} {
		if r := s.do(meta.Txn{If: []meta.Compare{c.compare}}); r.Succeeded != c.holds {
			s.Errorf("%+v with create %d, mod %d: got %v, want %v", c.compare, create, mod, r.Succeeded, c.holds)
		}
		// One compare that fails is enough, wherever it stands.
		r := s.do(meta.Txn{If: []meta.Compare{meta.IfMod(a, mod), c.compare, meta.IfAbsent(none)}})
		if r.Succeeded != c.holds {
			s.Errorf("%+v among others: got %v, want %v", c.compare, r.Succeeded, c.holds)
		}
	}
}

func (s *suite) txnReadsItsWrites() {
	a, b := s.key("a"), s.key("b")
	s.set(b, "old")
	r := s.do(meta.Txn{Then: []meta.Op{
		meta.GetOp(a), meta.PutOp(a, []byte("1")), meta.GetOp(a), meta.GetOp(b), meta.DeleteOp(b), meta.GetOp(b),
	}})
	if len(r.Gets) != 4 || r.Gets[0] != nil || r.Gets[3] != nil {
		s.Fatalf("read %+v", r.Gets)
	}
	if kv := r.Gets[1]; kv == nil || string(kv.Value) != "1" || kv.Mod != r.Revision {
		s.Errorf("a within is %+v", kv)
	}
	if kv := r.Gets[2]; kv == nil || string(kv.Value) != "old" {
		s.Errorf("b within is %+v", kv)
	}
}

func (s *suite) txnWithoutChange() {
	before := s.set(s.key("a"), "1")
	for what, txn := range map[string]meta.Txn{
		"empty":             {},
		"reads":             {Then: []meta.Op{meta.GetOp(s.key("a"))}},
		"removes an absent": {Then: []meta.Op{meta.DeleteOp(s.key("none"))}},
		"branch not taken":  {If: []meta.Compare{meta.IfAbsent(s.key("a"))}, Then: []meta.Op{meta.DeleteOp(s.key("a"))}},
	} {
		if r := s.do(txn); r.Revision != before {
			s.Errorf("%s: revision %d, want still %d", what, r.Revision, before)
		}
	}
	// Putting the same value again is a change.
	s.equal("same value", s.set(s.key("a"), "1"), before+1)
}

func (s *suite) txnLimits() {
	var full meta.Txn
	for n := range meta.MaxTxnOps {
		full.If = append(full.If, meta.IfAbsent(s.key("%03d", n)))
		full.Then = append(full.Then, meta.PutOp(s.key("%03d", n), []byte("x")))
		full.Else = append(full.Else, meta.GetOp(s.key("%03d", n)))
	}
	if r := s.do(full); !r.Succeeded {
		s.Error("a transaction of full length was refused")
	}
	if r := s.do(full); r.Succeeded || len(r.Gets) != meta.MaxTxnOps {
		s.Errorf("a transaction of full length read %d keys", len(r.Gets))
	}
	large := meta.Txn{Then: []meta.Op{meta.PutOp(s.key("large"), nil)}}
	large.Then[0].Value = bytes.Repeat([]byte("x"), meta.MaxTxnBytes-large.Size())
	s.equal("size", large.Size(), meta.MaxTxnBytes)
	before := s.do(large).Revision
	if kv := s.value(s.key("large")); !bytes.Equal(kv.Value, large.Then[0].Value) {
		s.Error("a large value came back changed")
	}

	large.Then[0].Value = append(large.Then[0].Value, 'x')
	_, err := s.Txn(s.ctx, large)
	s.wants("too many bytes", err, meta.ErrTooLarge)
	long := full
	long.Then = append(append([]meta.Op(nil), full.Then...), meta.PutOp(s.key("one more"), nil))
	_, err = s.Txn(s.ctx, long)
	s.wants("too many operations", err, meta.ErrTooLarge)
	twice := meta.Txn{Then: []meta.Op{meta.PutOp(s.key("a"), nil), meta.DeleteOp(s.key("a"))}}
	if _, err = s.Txn(s.ctx, twice); err == nil {
		s.Error("a key written twice in one branch was let through")
	}
	s.equal("revision after what was refused", s.now(), before)
}

// txnConcurrent has writers that each compare what they read: none may be lost.
func (s *suite) txnConcurrent() {
	const writers, rounds = 4, 20
	key := s.key("counter")
	var wait sync.WaitGroup
	failed := make(chan error, writers)
	for range writers {
		wait.Go(func() {
			for done := 0; done < rounds; {
				kv, _, err := s.Get(s.ctx, key)
				if err != nil {
					failed <- err
					return
				}
				count, mod := 0, meta.Revision(0)
				if kv != nil {
					count, mod = len(kv.Value), kv.Mod
				}
				r, err := s.Txn(s.ctx, meta.Txn{
					If:   []meta.Compare{meta.IfMod(key, mod)},
					Then: []meta.Op{meta.PutOp(key, bytes.Repeat([]byte("x"), count+1))},
				})
				if err != nil {
					failed <- err
					return
				}
				if r.Succeeded {
					done++
				}
			}
		})
	}
	wait.Wait()
	close(failed)
	for err := range failed {
		s.Fatal(err)
	}
	s.equal("count", len(s.value(key).Value), writers*rounds)
}

func (s *suite) doneContext() {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err := s.Txn(ctx, meta.Txn{Then: []meta.Op{meta.GetOp(s.key("a"))}})
	s.wants("Txn", err, context.Canceled)
	_, _, err = s.Get(ctx, s.key("a"))
	s.wants("Get", err, context.Canceled)
	_, _, err = s.Range(ctx, s.prefix, 0)
	s.wants("Range", err, context.Canceled)
	_, err = s.Watch(ctx, s.prefix, 1)
	s.wants("Watch", err, context.Canceled)
	_, err = s.Grant(ctx, patience)
	s.wants("Grant", err, context.Canceled)
	_, err = s.KeepAlive(ctx, 1)
	s.wants("KeepAlive", err, context.Canceled)
	s.wants("Revoke", s.Revoke(ctx, 1), context.Canceled)
	s.wants("Compact", s.Compact(ctx, 1), context.Canceled)
	_, err = s.Status(ctx)
	s.wants("Status", err, context.Canceled)
}

func (s *suite) get() {
	revision := s.set(s.key("a"), "1")
	s.set(s.key("ab"), "2")
	kv, at, err := s.Get(s.ctx, s.key("a"))
	if err != nil || string(kv.Value) != "1" || kv.Mod != revision || at != revision+1 {
		s.Errorf("got %+v at %d, %v", kv, at, err)
	}
	s.remove(s.key("a"))
	kv, at, err = s.Get(s.ctx, s.key("a"))
	if err != nil || kv != nil || at != revision+2 {
		s.Errorf("got %+v at %d, %v after removal", kv, at, err)
	}
}

func (s *suite) status() {
	revision := s.set(s.key("a"), "1")
	status, err := s.Status(s.ctx)
	if err != nil {
		s.Fatal(err)
	}
	s.equal("revision", status.Revision, revision)
	s.equal("leader", status.Leader, true)
	s.equal("alarms", fmt.Sprint(status.Alarms), "[]")
	if status.ClusterID == 0 || status.Version == "" || status.DBSize <= 0 || status.DBInUse > status.DBSize {
		s.Errorf("status is %+v", status)
	}
}
