package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

// clusterEtcd is a model of etcd that executes a transaction when it is told to. As a meta.KV it answers at once: that is how the
// world registers nodes and changes topics; what a node sends while it runs goes through requests that the world delays, doubles and
// loses.
type clusterEtcd struct {
	prefix   string
	revision meta.Revision
	now      map[string]meta.KeyValue
	changes  []meta.Change // by revision, from 1 on
	leases   map[meta.LeaseID]*clusterLease
	granted  meta.LeaseID
	clock    func() time.Time
	down     bool // no quorum
	applied  func(meta.Change)
}

type clusterLease struct {
	ttl      time.Duration
	deadline time.Time
}

var _ meta.KV = (*clusterEtcd)(nil)

func newClusterEtcd(prefix string, clock func() time.Time) *clusterEtcd {
	return &clusterEtcd{prefix: prefix, now: make(map[string]meta.KeyValue), leases: make(map[meta.LeaseID]*clusterLease), clock: clock}
}

var errSimUnavailable = fmt.Errorf("%w: the simulation says so", meta.ErrUnavailable)

func (e *clusterEtcd) Txn(_ context.Context, txn meta.Txn) (meta.TxnResult, error) {
	if e.down {
		return meta.TxnResult{}, errSimUnavailable
	}
	return e.apply(txn)
}

// apply executes a transaction.
func (e *clusterEtcd) apply(txn meta.Txn) (meta.TxnResult, error) {
	if err := txn.Validate(); err != nil {
		return meta.TxnResult{}, err
	}
	succeeded := true
	for _, c := range txn.If {
		kv := e.now[c.Key]
		if c.Create != 0 {
			succeeded = succeeded && kv.Create == c.Create
		}
		if c.Mod != 0 || c.Create == 0 {
			succeeded = succeeded && kv.Mod == c.Mod
		}
	}
	ops := txn.Else
	if succeeded {
		ops = txn.Then
	}
	result := meta.TxnResult{Succeeded: succeeded, Revision: e.revision}
	for _, op := range ops {
		if op.Kind == meta.Put && op.Lease != 0 && e.leases[op.Lease] == nil {
			return meta.TxnResult{}, meta.ErrLeaseGone
		}
	}
	change := meta.Change{Revision: e.revision + 1}
	for _, op := range ops {
		switch op.Kind {
		case meta.Get:
			var found *meta.KeyValue
			if kv, ok := e.now[op.Key]; ok {
				found = &kv
			}
			result.Gets = append(result.Gets, found)
		case meta.Put:
			kv := meta.KeyValue{Key: op.Key, Value: slices.Clone(op.Value), Mod: change.Revision, Create: change.Revision, Lease: op.Lease}
			if before, ok := e.now[op.Key]; ok {
				kv.Create = before.Create
			}
			change.Events = append(change.Events, meta.Event{Type: meta.EventPut, KV: kv})
		case meta.Delete:
			if _, ok := e.now[op.Key]; ok {
				change.Events = append(change.Events, meta.Event{Type: meta.EventDelete, KV: meta.KeyValue{Key: op.Key, Mod: change.Revision}})
			}
		}
	}
	if len(change.Events) == 0 {
		return result, nil
	}
	result.Revision = change.Revision
	e.commit(change)
	return result, nil
}

func (e *clusterEtcd) commit(change meta.Change) {
	slices.SortFunc(change.Events, func(a, b meta.Event) int { return strings.Compare(a.KV.Key, b.KV.Key) })
	for _, event := range change.Events {
		if event.Type == meta.EventPut {
			e.now[event.KV.Key] = event.KV
		} else {
			delete(e.now, event.KV.Key)
		}
	}
	e.revision = change.Revision
	e.changes = append(e.changes, change)
	if e.applied != nil {
		e.applied(change)
	}
}

func (e *clusterEtcd) Get(_ context.Context, key string) (*meta.KeyValue, meta.Revision, error) {
	if e.down {
		return nil, 0, errSimUnavailable
	}
	if kv, ok := e.now[key]; ok {
		return &kv, e.revision, nil
	}
	return nil, e.revision, nil
}

func (e *clusterEtcd) Range(_ context.Context, prefix string, _ meta.Revision) ([]meta.KeyValue, meta.Revision, error) {
	if e.down {
		return nil, 0, errSimUnavailable
	}
	return e.list(prefix), e.revision, nil
}

func (e *clusterEtcd) list(prefix string) []meta.KeyValue {
	var out []meta.KeyValue
	for _, key := range slices.Sorted(maps.Keys(e.now)) {
		if strings.HasPrefix(key, prefix) {
			out = append(out, e.now[key])
		}
	}
	return out
}

func (e *clusterEtcd) Watch(context.Context, string, meta.Revision) (meta.Watcher, error) {
	return nil, errors.New("the simulation advances its indexes itself")
}

func (e *clusterEtcd) Grant(_ context.Context, ttl time.Duration) (meta.LeaseID, error) {
	if e.down {
		return 0, errSimUnavailable
	}
	e.granted++
	e.leases[e.granted] = &clusterLease{ttl: ttl, deadline: e.clock().Add(ttl)}
	return e.granted, nil
}

func (e *clusterEtcd) KeepAlive(_ context.Context, lease meta.LeaseID) (time.Duration, error) {
	if e.down {
		return 0, errSimUnavailable
	}
	l := e.leases[lease]
	if l == nil {
		return 0, meta.ErrLeaseGone
	}
	l.deadline = e.clock().Add(l.ttl)
	return l.ttl, nil
}

func (e *clusterEtcd) Revoke(_ context.Context, lease meta.LeaseID) error {
	if e.down {
		return errSimUnavailable
	}
	if e.leases[lease] == nil {
		return meta.ErrLeaseGone
	}
	delete(e.leases, lease)
	change := meta.Change{Revision: e.revision + 1}
	for _, key := range slices.Sorted(maps.Keys(e.now)) {
		if e.now[key].Lease == lease {
			change.Events = append(change.Events, meta.Event{Type: meta.EventDelete, KV: meta.KeyValue{Key: key, Mod: change.Revision}})
		}
	}
	if len(change.Events) > 0 {
		e.commit(change)
	}
	return nil
}

// expire ends the leases whose time is over, and returns how many.
func (e *clusterEtcd) expire(now time.Time) int {
	n := 0
	for _, id := range slices.Sorted(maps.Keys(e.leases)) {
		if e.leases[id].deadline.Before(now) {
			if err := e.Revoke(context.Background(), id); err != nil {
				panic(err)
			}
			n++
		}
	}
	return n
}

// elect gives every lease its whole time again, as a new leader of etcd does.
func (e *clusterEtcd) elect(now time.Time) {
	for _, l := range e.leases {
		l.deadline = now.Add(l.ttl)
	}
}

func (e *clusterEtcd) Compact(context.Context, meta.Revision) error { return nil }

func (e *clusterEtcd) Status(context.Context) (meta.Status, error) {
	return meta.Status{Revision: e.revision, Leader: !e.down}, nil
}

// records decodes the L0 records that a change puts.
func (e *clusterEtcd) records(keys meta.Keys, change meta.Change) map[string]*meta.L0Record {
	var out map[string]*meta.L0Record
	for _, event := range change.Events {
		if event.Type != meta.EventPut || !strings.HasPrefix(event.KV.Key, keys.Prefix()+"l0/") {
			continue
		}
		r, err := keys.DecodeRecord(event.KV)
		if err != nil {
			panic(err)
		}
		if out == nil {
			out = make(map[string]*meta.L0Record)
		}
		out[event.KV.Key] = r
	}
	return out
}
