package metatest

import (
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

func (s *suite) grant(ttl time.Duration) meta.LeaseID {
	s.Helper()
	id, err := s.Grant(s.ctx, ttl)
	if err != nil || id == 0 {
		s.Fatalf("Grant: %d, %v", id, err)
	}
	return id
}

// lend puts keys on a lease and returns the revision.
func (s *suite) lend(id meta.LeaseID, keys ...string) meta.Revision {
	s.Helper()
	var txn meta.Txn
	for _, key := range keys {
		txn.Then = append(txn.Then, meta.PutLeasedOp(key, []byte("leased"), id))
	}
	return s.do(txn).Revision
}

func (s *suite) leaseRevoked() {
	id := s.grant(time.Minute)
	put := s.lend(id, s.key("a"), s.key("b"))
	s.set(s.key("c"), "stays")
	s.equal("lease of a", s.value(s.key("a")).Lease, id)
	left, err := s.KeepAlive(s.ctx, id)
	if err != nil || left < time.Minute {
		s.Errorf("KeepAlive: %v, %v", left, err)
	}
	w := s.watch(put + 2)
	if err := s.Revoke(s.ctx, id); err != nil {
		s.Fatalf("Revoke: %v", err)
	}
	s.equal("what is left", s.list(0), "c=stays ")
	// All keys of a lease go in one revision.
	c := s.next(w)
	if c.Revision != put+2 || len(c.Events) != 2 || c.Events[0].Type != meta.EventDelete || c.Events[1].Type != meta.EventDelete {
		s.Errorf("the end of the lease was %+v", c)
	}
	// A lease without keys ends without a revision.
	before := s.now()
	if err := s.Revoke(s.ctx, s.grant(time.Minute)); err != nil {
		s.Fatalf("Revoke: %v", err)
	}
	s.equal("revision", s.now(), before)
}

func (s *suite) leaseExpired() {
	id := s.grant(time.Millisecond) // the shortest there is
	put := s.lend(id, s.key("a"))
	w := s.watch(put + 1)
	if store, ok := s.KV.(interface{ Expire(id meta.LeaseID) bool }); ok {
		store.Expire(id)
	}
	c := s.next(w)
	if len(c.Events) != 1 || c.Events[0].Type != meta.EventDelete || c.Events[0].KV.Key != s.key("a") {
		s.Errorf("the end of the lease was %+v", c)
	}
	_, err := s.KeepAlive(s.ctx, id)
	s.wants("KeepAlive", err, meta.ErrLeaseGone)
}

func (s *suite) leaseMoves() {
	first, second := s.grant(time.Minute), s.grant(time.Minute)
	s.lend(first, s.key("a"), s.key("b"), s.key("c"))
	s.lend(second, s.key("a"))
	s.set(s.key("b"), "free")
	s.equal("lease of a", s.value(s.key("a")).Lease, second)
	s.equal("lease of b", s.value(s.key("b")).Lease, meta.LeaseID(0))
	if err := s.Revoke(s.ctx, first); err != nil {
		s.Fatal(err)
	}
	s.equal("after the first", s.list(0), "a=leased b=free ")
	// A key that was removed and put again owes the old lease nothing.
	s.remove(s.key("a"))
	s.set(s.key("a"), "new")
	if err := s.Revoke(s.ctx, second); err != nil {
		s.Fatal(err)
	}
	s.equal("after the second", s.list(0), "a=new b=free ")
}

func (s *suite) leaseGone() {
	id := s.grant(time.Minute)
	if err := s.Revoke(s.ctx, id); err != nil {
		s.Fatal(err)
	}
	before := s.now()
	s.wants("Revoke", s.Revoke(s.ctx, id), meta.ErrLeaseGone)
	_, err := s.KeepAlive(s.ctx, id)
	s.wants("KeepAlive", err, meta.ErrLeaseGone)
	_, err = s.Txn(s.ctx, meta.Txn{Then: []meta.Op{meta.PutOp(s.key("a"), nil), meta.PutLeasedOp(s.key("b"), nil, id)}})
	s.wants("Txn", err, meta.ErrLeaseGone)
	s.equal("revision", s.now(), before)
	s.equal("keys", s.list(0), "")
	// The branch that is not taken does not matter.
	r := s.do(meta.Txn{If: []meta.Compare{meta.IfMod(s.key("a"), 1)}, Then: []meta.Op{meta.PutLeasedOp(s.key("b"), nil, id)}})
	s.equal("succeeded", r.Succeeded, false)
}
