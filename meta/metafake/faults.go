package metafake

import (
	"context"
	"fmt"

	"github.com/tidemark-io/tidemark/meta"
)

// Fault is what happens to one transaction. The zero value is nothing.
type Fault uint8

// The faults of a transaction.
const (
	None      Fault = iota
	LoseReply       // it takes effect, the caller gets an error
	Drop            // it never takes effect, the caller gets an error
	Delay           // it is held, and the caller waits for Release or the end of its context
	Detach          // it is held, and the caller gets an error at once
)

// faults is what is wrong with a store. The store's lock guards it.
type faults struct {
	decide      func(meta.Txn) Fault
	coming      []Fault
	unavailable bool
	full        bool
	held        []*held
	heldMoved   chan struct{}
	lag         bool
	shown       meta.Revision // of a store whose watches lag
}

// held is a transaction on its way.
type held struct {
	txn    meta.Txn
	done   chan struct{}
	result meta.TxnResult
	err    error
}

func (f *faults) of(txn meta.Txn) Fault {
	if len(f.coming) > 0 {
		fault := f.coming[0]
		f.coming = f.coming[1:]
		return fault
	}
	if f.decide != nil {
		return f.decide(txn)
	}
	return None
}

// visible is the last revision that watches deliver.
func (f *faults) visible(current meta.Revision) meta.Revision {
	if f.lag {
		return f.shown
	}
	return current
}

// FailTxns sets the faults of the transactions that come next, one each, after those set before.
func (s *Store) FailTxns(coming ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.coming = append(s.faults.coming, coming...)
}

// OnTxn makes decide choose the fault of every transaction that FailTxns says nothing about; nil for none. It is called
// with the store locked: it must not call the store, nor keep the transaction.
func (s *Store) OnTxn(decide func(meta.Txn) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.decide = decide
}

// Held returns how many transactions are held.
func (s *Store) Held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.faults.held)
}

// AwaitHeld returns when n or more transactions are held.
func (s *Store) AwaitHeld(ctx context.Context, n int) error {
	for {
		s.mu.Lock()
		have := len(s.faults.held)
		if s.faults.heldMoved == nil {
			s.faults.heldMoved = make(chan struct{})
		}
		moved := s.faults.heldMoved
		s.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait for %d held transactions, have %d: %w", n, have, ctx.Err())
		}
	}
}

func (s *Store) wakeHeld() {
	if s.faults.heldMoved != nil {
		close(s.faults.heldMoved)
		s.faults.heldMoved = nil
	}
}

// Release lets the held transaction number n, counted from 0 in the order of their arrival, be decided now, whether or not
// its caller still waits, and returns what a caller that waits gets. It panics when there is none.
func (s *Store) Release(n int) (meta.TxnResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	h := s.take(n)
	h.result, h.err = s.apply(h.txn)
	close(h.done)
	return h.result, h.err
}

// Discard loses the held transaction number n for ever. A caller that waits gets an error.
func (s *Store) Discard(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.take(n)
	h.err = doubt()
	close(h.done)
}

func (s *Store) take(n int) *held {
	if n < 0 || n >= len(s.faults.held) {
		panic(fmt.Sprintf("metafake: transaction %d of %d held", n, len(s.faults.held)))
	}
	h := s.faults.held[n]
	s.faults.held = append(s.faults.held[:n:n], s.faults.held[n+1:]...)
	return h
}

// SetUnavailable makes every request fail with ErrUnavailable and no effect. Watches that run fall silent only if
// HoldWatches says so.
func (s *Store) SetUnavailable(unavailable bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.unavailable = unavailable
}

// SetFull raises or lowers the NOSPACE alarm: transactions with a put, and new leases, fail with ErrNoSpace.
func (s *Store) SetFull(full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.full = full
}

// HoldWatches makes watches deliver nothing above the present revision, until ReleaseWatches.
func (s *Store) HoldWatches() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.faults.lag {
		s.faults.lag, s.faults.shown = true, s.history.revision
	}
}

// ReleaseWatches lets held watches deliver up to a revision; 0 ends the holding.
func (s *Store) ReleaseWatches(upTo meta.Revision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if upTo == 0 {
		s.faults.lag = false
	} else if s.faults.lag {
		s.faults.shown = max(s.faults.shown, upTo)
	}
	s.wake()
}

// Revision returns the current revision without a request.
func (s *Store) Revision() meta.Revision {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.history.revision
}

// Snapshot is everything a store knew at one moment.
type Snapshot struct {
	history history
	leases  map[meta.LeaseID]*lease
	next    meta.LeaseID
}

// Snapshot copies the store, as a backup does.
func (s *Store) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Snapshot{history: s.history.clone(), leases: cloneLeases(s.leases), next: s.next}
}

// Restore puts the store back to a snapshot: its revision and leases go back, which is what meta.Revision warns of.
// Watches stay where they were.
func (s *Store) Restore(from Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history, s.leases, s.next = from.history.clone(), cloneLeases(from.leases), from.next
	s.wake()
}
