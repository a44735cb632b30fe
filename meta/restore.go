package meta

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Seen is what tells that etcd was restored from a backup: revisions and leases go back then, which no compare can see.
type Seen struct {
	// Revision is the highest that any answer or watch showed.
	Revision Revision
	// EtcdCluster is etcd's own cluster id, which a restore changes; 0 when it was not read yet.
	EtcdCluster uint64
}

// guard is a KV that remembers the highest revision seen and refuses an answer from below it. What is read is linearizable,
// so an answer can never lie below what was seen before its request was sent.
type guard struct {
	KV

	highest  atomic.Int64
	cluster  atomic.Uint64
	once     sync.Once
	restored chan struct{} // closed when etcd went back; for ever, as far as this process is concerned
	cause    error         // set before restored is closed
}

func newGuard(kv KV, lowest Revision, cluster uint64) *guard {
	g := &guard{KV: kv, restored: make(chan struct{})}
	g.highest.Store(lowest)
	g.cluster.Store(cluster)
	return g
}

func (g *guard) trip(err error) error {
	g.once.Do(func() {
		g.cause = err
		close(g.restored)
	})
	return g.cause
}

// before is called before a request is sent: it gives the least revision that the answer may have.
func (g *guard) before() (Revision, error) {
	select {
	case <-g.restored:
		return 0, g.cause
	default:
		return g.highest.Load(), nil
	}
}

func (g *guard) saw(revision Revision) {
	for {
		highest := g.highest.Load()
		if revision <= highest || g.highest.CompareAndSwap(highest, revision) {
			return
		}
	}
}

func (g *guard) answered(least, revision Revision) error {
	if revision < least {
		return g.trip(fmt.Errorf("%w: it was at revision %d and is at %d now: stop every node and recover the cluster before anything writes to it", ErrRestored, least, revision))
	}
	g.saw(revision)
	return nil
}

func (g *guard) Txn(ctx context.Context, txn Txn) (TxnResult, error) {
	least, err := g.before()
	if err != nil {
		return TxnResult{}, err
	}
	result, err := g.KV.Txn(ctx, txn)
	if err != nil {
		return TxnResult{}, err
	}
	return result, g.answered(least, result.Revision)
}

func (g *guard) Get(ctx context.Context, key string) (*KeyValue, Revision, error) {
	least, err := g.before()
	if err != nil {
		return nil, 0, err
	}
	kv, revision, err := g.KV.Get(ctx, key)
	if err != nil {
		return nil, 0, err
	}
	return kv, revision, g.answered(least, revision)
}

func (g *guard) Range(ctx context.Context, prefix string, at Revision) ([]KeyValue, Revision, error) {
	least, err := g.before()
	if err != nil {
		return nil, 0, err
	}
	kvs, revision, err := g.KV.Range(ctx, prefix, at)
	if err != nil {
		return nil, 0, err
	}
	if at != 0 {
		least = at // asked for: it says nothing about the present
	}
	return kvs, revision, g.answered(least, revision)
}

func (g *guard) KeepAlive(ctx context.Context, lease LeaseID) (time.Duration, error) {
	if _, err := g.before(); err != nil {
		return 0, err
	}
	return g.KV.KeepAlive(ctx, lease)
}

func (g *guard) Watch(ctx context.Context, prefix string, from Revision) (Watcher, error) {
	if _, err := g.before(); err != nil {
		return nil, err
	}
	w, err := g.KV.Watch(ctx, prefix, from)
	if err != nil {
		return nil, err
	}
	return &guardedWatcher{Watcher: w, guard: g}, nil
}

func (g *guard) Status(ctx context.Context) (Status, error) {
	s, err := g.KV.Status(ctx)
	if err != nil {
		return Status{}, err
	}
	if known := g.cluster.Load(); known != 0 && s.ClusterID != known {
		return Status{}, g.trip(fmt.Errorf("%w: its cluster id was %x and is %x now: stop every node and recover the cluster before anything writes to it", ErrRestored, known, s.ClusterID))
	}
	g.cluster.Store(s.ClusterID)
	return s, nil // a member may lag: its revision says nothing
}

type guardedWatcher struct {
	Watcher

	guard *guard
}

func (w *guardedWatcher) Next(ctx context.Context) (Change, error) {
	change, err := w.Watcher.Next(ctx)
	if err == nil {
		w.guard.saw(change.Revision)
	}
	return change, err
}

// Seen is what the node keeps in its data directory (say each minute and when it stops: the revision need not be the last) and
// gives to Config.LowestRevision and Config.EtcdCluster at its next start.
func (c *Client) Seen() Seen {
	return Seen{Revision: c.guard.highest.Load(), EtcdCluster: c.guard.cluster.Load()}
}

// Restored is closed when etcd turned out to have gone back in time; every call fails with ErrRestored from then on.
func (c *Client) Restored() <-chan struct{} { return c.guard.restored }
