package metafake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
)

// Config is what a store is told. The zero value will do.
type Config struct {
	// Clock ends leases in time. Without one a lease ends only by Expire and Revoke.
	Clock clock.Clock
	// ClusterID is that of the Status; 1 when 0.
	ClusterID uint64
}

// Store is a metadata store in memory. Every method may be called from any goroutine.
type Store struct {
	clock   clock.Clock
	cluster uint64

	mu      sync.Mutex
	history history
	leases  map[meta.LeaseID]*lease
	next    meta.LeaseID
	moved   chan struct{} // closed and replaced when a watch may have something to deliver
	faults  faults
}

var _ meta.KV = (*Store)(nil)

// New makes an empty store.
func New(c Config) *Store {
	if c.ClusterID == 0 {
		c.ClusterID = 1
	}
	return &Store{
		clock: c.Clock, cluster: c.ClusterID, history: newHistory(), leases: make(map[meta.LeaseID]*lease),
		next: 1, moved: make(chan struct{}),
	}
}

// errFault is the cause of every error that a fault makes.
var errFault = errors.New("fault injected")

// enter begins a request: it takes the lock, unless the store does not answer.
func (s *Store) enter(ctx context.Context, what string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	s.mu.Lock()
	if s.faults.unavailable {
		s.mu.Unlock()
		return fmt.Errorf("%s: %w: %w", what, meta.ErrUnavailable, errFault)
	}
	s.expire()
	return nil
}

// wake tells the watches to look again. The lock is held.
func (s *Store) wake() {
	close(s.moved)
	s.moved = make(chan struct{})
}

// Txn implements meta.KV.
func (s *Store) Txn(ctx context.Context, txn meta.Txn) (meta.TxnResult, error) {
	if err := txn.Validate(); err != nil {
		return meta.TxnResult{}, err
	}
	if err := s.enter(ctx, "change metadata"); err != nil {
		return meta.TxnResult{}, err
	}
	fault := s.faults.of(txn)
	if fault == Delay || fault == Detach {
		held := &held{txn: clone(txn), done: make(chan struct{})}
		s.faults.held = append(s.faults.held, held)
		s.wakeHeld()
		s.mu.Unlock()
		if fault == Detach {
			return meta.TxnResult{}, doubt()
		}
		select {
		case <-held.done:
			return held.result, held.err
		case <-ctx.Done():
			return meta.TxnResult{}, fmt.Errorf("change metadata: %w", ctx.Err())
		}
	}
	defer s.mu.Unlock()
	if fault == Drop {
		return meta.TxnResult{}, doubt()
	}
	result, err := s.apply(txn)
	if fault == LoseReply {
		return meta.TxnResult{}, doubt()
	}
	return result, err
}

func doubt() error {
	return fmt.Errorf("change metadata: %w: %w", meta.ErrUnavailable, errFault)
}

// apply decides a transaction. The lock is held.
func (s *Store) apply(txn meta.Txn) (meta.TxnResult, error) {
	if s.faults.full && writes(txn) {
		return meta.TxnResult{}, fmt.Errorf("change metadata: %w", meta.ErrNoSpace)
	}
	h := &s.history
	result := meta.TxnResult{Succeeded: true}
	for _, c := range txn.If {
		var mod, create meta.Revision
		if kv := h.at(c.Key, h.revision); kv != nil {
			mod, create = kv.Mod, kv.Create
		}
		if (c.Mod != 0 || c.Create == 0) && mod != c.Mod || c.Create != 0 && create != c.Create {
			result.Succeeded = false
		}
	}
	branch := txn.Else
	if result.Succeeded {
		branch = txn.Then
	}
	for _, op := range branch {
		if op.Kind == meta.Put && op.Lease != 0 && s.leases[op.Lease] == nil {
			return meta.TxnResult{}, fmt.Errorf("change metadata: lease %d: %w", op.Lease, meta.ErrLeaseGone)
		}
	}
	var events []meta.Event
	for _, op := range branch {
		now := h.at(op.Key, h.revision+1)
		switch op.Kind {
		case meta.Get:
			result.Gets = append(result.Gets, now)
		case meta.Put:
			s.attach(now, op.Key, op.Lease)
			events = append(events, h.put(op.Key, op.Value, op.Lease, h.revision+1))
		case meta.Delete:
			if now != nil {
				s.attach(now, op.Key, 0)
				events = append(events, h.remove(op.Key, h.revision+1))
			}
		}
	}
	h.commit(events)
	result.Revision = h.revision
	if len(events) > 0 {
		s.wake()
	}
	return result, nil
}

// writes tells whether a full store refuses a transaction: a put in either branch is enough.
func writes(txn meta.Txn) bool {
	put := func(op meta.Op) bool { return op.Kind == meta.Put }
	return slices.ContainsFunc(txn.Then, put) || slices.ContainsFunc(txn.Else, put)
}

// clone copies a transaction that outlives its call.
func clone(txn meta.Txn) meta.Txn {
	out := meta.Txn{If: slices.Clone(txn.If), Then: slices.Clone(txn.Then), Else: slices.Clone(txn.Else)}
	for _, ops := range [2][]meta.Op{out.Then, out.Else} {
		for n := range ops {
			ops[n].Value = slices.Clone(ops[n].Value)
		}
	}
	return out
}

// Get implements meta.KV.
func (s *Store) Get(ctx context.Context, key string) (*meta.KeyValue, meta.Revision, error) {
	if err := s.enter(ctx, "read "+key); err != nil {
		return nil, 0, err
	}
	defer s.mu.Unlock()
	return s.history.at(key, s.history.revision), s.history.revision, nil
}

// Range implements meta.KV.
func (s *Store) Range(ctx context.Context, prefix string, at meta.Revision) ([]meta.KeyValue, meta.Revision, error) {
	if err := s.enter(ctx, "list "+prefix); err != nil {
		return nil, 0, err
	}
	defer s.mu.Unlock()
	switch {
	case at == 0:
		at = s.history.revision
	case at > s.history.revision:
		return nil, 0, fmt.Errorf("list %s: %w", prefix, meta.ErrFutureRevision)
	case at < s.history.compacted:
		return nil, 0, fmt.Errorf("list %s: %w", prefix, meta.ErrCompacted)
	}
	return s.history.list(prefix, at), at, nil
}

// Compact implements meta.KV.
func (s *Store) Compact(ctx context.Context, revision meta.Revision) error {
	if err := s.enter(ctx, "compact history"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	switch {
	case revision > s.history.revision:
		return fmt.Errorf("compact history: %w", meta.ErrFutureRevision)
	case revision <= s.history.compacted:
		return fmt.Errorf("compact history: %w", meta.ErrCompacted)
	}
	s.history.compact(revision)
	s.wake()
	return nil
}

// Status implements meta.KV. The sizes are those of keys and values: all versions, and the latest.
func (s *Store) Status(ctx context.Context) (meta.Status, error) {
	if err := s.enter(ctx, "ask for the status"); err != nil {
		return meta.Status{}, err
	}
	defer s.mu.Unlock()
	out := meta.Status{Version: "fake", ClusterID: s.cluster, Leader: true, Revision: s.history.revision}
	for key, versions := range s.history.versions {
		for n, v := range versions {
			size := int64(len(key) + len(v.kv.Value))
			out.DBSize += size
			if n == len(versions)-1 && !v.deleted {
				out.DBInUse += size
			}
		}
	}
	if s.faults.full {
		out.Alarms = []string{"NOSPACE"}
	}
	return out, nil
}

// lease is one lease that has not ended.
type lease struct {
	ttl  time.Duration
	ends time.Time // by the clock, if there is one
	keys map[string]struct{}
}

// attach moves a key from the lease it had to another one, 0 for none. The lock is held.
func (s *Store) attach(now *meta.KeyValue, key string, to meta.LeaseID) {
	if now != nil && now.Lease != 0 && s.leases[now.Lease] != nil {
		delete(s.leases[now.Lease].keys, key)
	}
	if to != 0 {
		s.leases[to].keys[key] = struct{}{}
	}
}

// Grant implements meta.KV.
func (s *Store) Grant(ctx context.Context, ttl time.Duration) (meta.LeaseID, error) {
	if err := s.enter(ctx, "take a lease"); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	if s.faults.full {
		return 0, fmt.Errorf("take a lease: %w", meta.ErrNoSpace)
	}
	id := s.next
	s.next++
	l := &lease{ttl: max(ttl.Truncate(time.Second), time.Second), keys: make(map[string]struct{})}
	if l.ttl < ttl {
		l.ttl += time.Second
	}
	if s.clock != nil {
		l.ends = s.clock.Now().Add(l.ttl)
	}
	s.leases[id] = l
	s.wake() // watches wait for the first lease that ends
	return id, nil
}

// KeepAlive implements meta.KV.
func (s *Store) KeepAlive(ctx context.Context, id meta.LeaseID) (time.Duration, error) {
	if err := s.enter(ctx, "renew the lease"); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	l := s.leases[id]
	if l == nil {
		return 0, fmt.Errorf("renew the lease: %w", meta.ErrLeaseGone)
	}
	if s.clock != nil {
		l.ends = s.clock.Now().Add(l.ttl)
	}
	return l.ttl, nil
}

// Revoke implements meta.KV.
func (s *Store) Revoke(ctx context.Context, id meta.LeaseID) error {
	if err := s.enter(ctx, "give the lease back"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if s.leases[id] == nil {
		return fmt.Errorf("give the lease back: %w", meta.ErrLeaseGone)
	}
	s.end(id)
	return nil
}

// Expire ends a lease as if nobody had renewed it, and reports whether there was one.
func (s *Store) Expire(id meta.LeaseID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leases[id] == nil {
		return false
	}
	s.end(id)
	return true
}

// end ends a lease and deletes its keys in one revision. The lock is held.
func (s *Store) end(id meta.LeaseID) {
	keys := make([]string, 0, len(s.leases[id].keys))
	for key := range s.leases[id].keys {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	delete(s.leases, id)
	events := make([]meta.Event, len(keys))
	for n, key := range keys {
		events[n] = s.history.remove(key, s.history.revision+1)
	}
	s.history.commit(events)
	s.wake()
}

// expire ends the leases whose time is over, in the order of their ends. The lock is held.
func (s *Store) expire() {
	for {
		id, ends, ok := s.firstToEnd()
		if !ok || ends.After(s.clock.Now()) {
			return
		}
		s.end(id)
	}
}

// firstToEnd finds the lease that ends first, if leases end by themselves.
func (s *Store) firstToEnd() (first meta.LeaseID, ends time.Time, ok bool) {
	if s.clock == nil {
		return 0, time.Time{}, false
	}
	for id, l := range s.leases {
		if !ok || l.ends.Before(ends) || l.ends.Equal(ends) && id < first {
			first, ends, ok = id, l.ends, true
		}
	}
	return first, ends, ok
}
