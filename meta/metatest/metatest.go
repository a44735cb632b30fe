package metatest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

// patience ends a test that waits for what never comes.
const patience = 30 * time.Second

// Run checks that a store obeys the contract. open is called for every test; it may return the same store each time, since
// each test keeps to a prefix of its own. If the store has a method Expire(meta.LeaseID) bool, it is used where a lease
// must end; otherwise the test waits for the shortest lease.
func Run(t *testing.T, open func(t *testing.T) meta.KV) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"Txn", (*suite).txn},
		{"TxnCompares", (*suite).txnCompares},
		{"TxnReadsItsWrites", (*suite).txnReadsItsWrites},
		{"TxnWithoutChange", (*suite).txnWithoutChange},
		{"TxnLimits", (*suite).txnLimits},
		{"TxnConcurrent", (*suite).txnConcurrent},
		{"DoneContext", (*suite).doneContext},
		{"Get", (*suite).get},
		{"RangePinned", (*suite).rangePinned},
		{"RangeManyPages", (*suite).rangeManyPages},
		{"RangeRevisions", (*suite).rangeRevisions},
		{"WatchFromThePast", (*suite).watchFromThePast},
		{"WatchFromTheFuture", (*suite).watchFromTheFuture},
		{"WatchWholeRevisions", (*suite).watchWholeRevisions},
		{"WatchLargeRevisions", (*suite).watchLargeRevisions},
		{"WatchCompacted", (*suite).watchCompacted},
		{"WatchProgress", (*suite).watchProgress},
		{"WatchNextGivenUp", (*suite).watchNextGivenUp},
		{"WatchClose", (*suite).watchClose},
		{"Compact", (*suite).compact},
		{"LeaseRevoked", (*suite).leaseRevoked},
		{"LeaseExpired", (*suite).leaseExpired},
		{"LeaseMoves", (*suite).leaseMoves},
		{"LeaseGone", (*suite).leaseGone},
		{"Status", (*suite).status},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			test.run(&suite{T: t, KV: open(t), ctx: ctx, prefix: "/metatest/" + test.name + "/"})
		})
	}
}

// suite is one test, its store, and helpers that fail the test.
type suite struct {
	*testing.T
	meta.KV

	ctx    context.Context
	prefix string
}

func (s *suite) key(format string, args ...any) string {
	return s.prefix + fmt.Sprintf(format, args...)
}

func (s *suite) do(txn meta.Txn) meta.TxnResult {
	s.Helper()
	r, err := s.Txn(s.ctx, txn)
	if err != nil {
		s.Fatalf("Txn: %v", err)
	}
	return r
}

// set puts a key and returns the revision.
func (s *suite) set(key, value string) meta.Revision {
	s.Helper()
	return s.do(meta.Txn{Then: []meta.Op{meta.PutOp(key, []byte(value))}}).Revision
}

func (s *suite) remove(key string) meta.Revision {
	s.Helper()
	return s.do(meta.Txn{Then: []meta.Op{meta.DeleteOp(key)}}).Revision
}

func (s *suite) value(key string) *meta.KeyValue {
	s.Helper()
	kv, _, err := s.Get(s.ctx, key)
	if err != nil {
		s.Fatalf("Get %s: %v", key, err)
	}
	return kv
}

func (s *suite) now() meta.Revision {
	s.Helper()
	_, revision, err := s.Get(s.ctx, s.prefix)
	if err != nil {
		s.Fatalf("Get: %v", err)
	}
	return revision
}

func (s *suite) list(at meta.Revision) string {
	s.Helper()
	kvs, revision, err := s.Range(s.ctx, s.prefix, at)
	if err != nil {
		s.Fatalf("Range at %d: %v", at, err)
	}
	if at != 0 && revision != at {
		s.Fatalf("Range at %d answered for %d", at, revision)
	}
	var out strings.Builder
	for _, kv := range kvs {
		fmt.Fprintf(&out, "%s=%s ", kv.Key[len(s.prefix):], kv.Value)
	}
	return out.String()
}

func (s *suite) watch(from meta.Revision) meta.Watcher {
	s.Helper()
	w, err := s.Watch(s.ctx, s.prefix, from)
	if err != nil {
		s.Fatalf("Watch from %d: %v", from, err)
	}
	s.Cleanup(w.Close)
	return w
}

func (s *suite) next(w meta.Watcher) meta.Change {
	s.Helper()
	c, err := w.Next(s.ctx)
	if err != nil {
		s.Fatalf("Next: %v", err)
	}
	return c
}

// wants fails unless err is of a kind.
func (s *suite) wants(what string, err, kind error) {
	s.Helper()
	if !errors.Is(err, kind) {
		s.Errorf("%s: got error %v, want %v", what, err, kind)
	}
}

func (s *suite) equal(what string, got, want any) {
	s.Helper()
	if got != want {
		s.Errorf("%s: got %v, want %v", what, got, want)
	}
}
