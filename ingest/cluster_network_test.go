package ingest

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/tidemark-io/tidemark/meta"
)

// What can happen between nodes and etcd: transactions and their answers on their way, watches, plans of leadership, leases.

func (c *cluster) requests(want func(*clusterRequest) bool) []*clusterRequest {
	var out []*clusterRequest
	for _, r := range c.network {
		if want(r) {
			out = append(out, r)
		}
	}
	return out
}

func (c *cluster) stepApply() bool {
	if c.etcd.down {
		return false
	}
	// What its sender has given up often takes long.
	reaches := func(r *clusterRequest) bool { return !r.owner.alive() || !r.owner.node.cutEtcd }
	list := c.requests(func(r *clusterRequest) bool { return !r.applied && (r.waited || c.calm) && reaches(r) })
	if len(list) == 0 && c.chance(30) || c.chance(4) {
		list = c.requests(func(r *clusterRequest) bool { return !r.applied && reaches(r) })
	}
	r, ok := oneOf(c, list)
	if !ok {
		return false
	}
	late := !r.waited
	r.applied = true
	r.result, r.err = c.etcd.apply(r.txn)
	what := "commit"
	if r.place != nil {
		what = "assignment (" + r.place.What + ")"
	}
	if late {
		c.fault("transaction applied late")
		what += ", given up by its sender,"
	}
	c.notef("etcd: %s of %s/%s applied at %d: %t", what, r.owner.node.id, r.owner.reg.Incarnation, r.result.Revision, r.result.Succeeded)
	if r.place != nil && r.result.Succeeded && r.err == nil && r.place.To != "" {
		c.moves += r.place.Moves
	}
	if !c.calm && c.chance(3) { // the network delivers it twice
		c.fault("transaction doubled")
		c.network = append(c.network, &clusterRequest{owner: r.owner, txn: r.txn, place: r.place})
	}
	return true
}

func (c *cluster) stepAnswer() bool {
	r, ok := oneOf(c, c.requests(func(r *clusterRequest) bool {
		return r.applied && (!r.owner.alive() || !r.waited || !r.owner.node.paused && !r.owner.node.cutEtcd)
	}))
	if !ok {
		return false
	}
	c.drop(r)
	if !r.waited || !r.owner.alive() {
		return true
	}
	if r.place != nil {
		r.owner.placing = false
		r.owner.placeAfter = r.result.Revision
		if r.err != nil { // its lease is gone
			r.owner.placeAfter = math.MaxInt64
		}
		return true
	}
	if r.err != nil {
		r.owner.core.commitFailed(r.err, r.owner.now())
		return true
	}
	r.owner.core.commitAnswered(r.result, r.owner.now())
	return true
}

func (c *cluster) drop(r *clusterRequest) {
	c.network = slices.DeleteFunc(c.network, func(o *clusterRequest) bool { return o == r })
}

// stepLoseAnswer has a node give up on an answer; the request may apply later.
func (c *cluster) stepLoseAnswer() bool {
	r, ok := oneOf(c, c.requests(func(r *clusterRequest) bool { return r.waited && r.owner.alive() && !r.owner.node.paused }))
	if !ok {
		return false
	}
	r.waited = false
	what := "request"
	if r.applied {
		what = "reply"
	}
	c.fault(what + " lost")
	c.notef("%s: etcd: no answer (%s)", r.owner.node.id, what)
	if r.place != nil {
		// It plans again from an index that is not older than now.
		r.owner.placing, r.owner.placeAfter = false, c.etcd.revision
		return true
	}
	r.owner.core.commitFailed(errors.New("deadline exceeded"), r.owner.now())
	return true
}

// stepLoseNew has a controller give up on an assignment of partitions that nobody leads: it may go to another node, and the first
// be made later.
func (c *cluster) stepLoseNew() bool {
	r, ok := oneOf(c, c.requests(func(r *clusterRequest) bool {
		return r.waited && !r.applied && r.place != nil && r.place.What == "new" && r.owner.alive() && !r.owner.node.paused
	}))
	if !ok {
		return false
	}
	r.waited = false
	r.owner.placing, r.owner.placeAfter = false, c.etcd.revision
	c.fault("request lost")
	return true
}

func (c *cluster) stepLoseRequest() bool {
	r, ok := oneOf(c, c.requests(func(r *clusterRequest) bool { return !r.waited && !r.applied }))
	if !ok {
		return false
	}
	c.drop(r)
	return true
}

func (c *cluster) stepIndex() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool {
		return l.index.Revision() < c.etcd.revision && !l.node.cutEtcd && !c.etcd.down
	}))
	if !ok {
		return false
	}
	at := l.index.Revision()
	c.advance(l.index, at+1+int64(c.choose(int(c.etcd.revision-at))))
	l.core.indexAdvanced(l.now())
	return true
}

func (c *cluster) advance(index *meta.Index, to meta.Revision) {
	for index.Revision() < to {
		change := c.etcd.changes[index.Revision()]
		if err := index.Apply(change, c.etcd.records(c.keys, change)); err != nil {
			panic(err)
		}
	}
}

// stepResync has a node's watch lose its history: it lists everything anew.
func (c *cluster) stepResync() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool { return !l.node.cutEtcd && !c.etcd.down }))
	if !ok || c.chance(70) {
		return false
	}
	fresh := c.listed()
	fresh.Inherit(l.index)
	*l.index = *fresh
	c.fault("watch compacted")
	c.notef("%s: index listed anew at %d", l.node.id, fresh.Revision())
	l.core.indexAdvanced(l.now())
	return true
}

// listed is the index of a listing of now.
func (c *cluster) listed() *meta.Index {
	change := meta.Change{Revision: c.etcd.revision}
	for _, kv := range c.etcd.list(c.keys.Prefix()) {
		change.Events = append(change.Events, meta.Event{Type: meta.EventPut, KV: kv})
	}
	index := meta.NewIndex(c.keys)
	if err := index.Apply(change, c.etcd.records(c.keys, change)); err != nil {
		panic(err)
	}
	return index
}

// listedTwice is a listing whose records are of an earlier revision than the rest: only a mutant makes one.
func (c *cluster) listedTwice() *meta.Index {
	earlier := max(0, len(c.etcd.changes)-c.choose(60))
	records := make(map[string]meta.Event)
	for _, change := range c.etcd.changes[:earlier] {
		for _, event := range change.Events {
			if strings.HasPrefix(event.KV.Key, c.keys.Prefix()+"l0/") {
				records[event.KV.Key] = event
			}
		}
	}
	change := meta.Change{Revision: c.etcd.revision}
	for _, kv := range c.etcd.list(c.keys.Prefix()) {
		if !strings.HasPrefix(kv.Key, c.keys.Prefix()+"l0/") {
			change.Events = append(change.Events, meta.Event{Type: meta.EventPut, KV: kv})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(records)) {
		if records[key].Type == meta.EventPut {
			change.Events = append(change.Events, records[key])
		}
	}
	index := meta.NewIndex(c.keys)
	if err := index.Apply(change, c.etcd.records(c.keys, change)); err != nil {
		panic(err)
	}
	return index
}

// stepPlace has a node plan an assignment, if it is the controller or nobody is.
func (c *cluster) stepPlace() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool { return !l.placing && l.index.Revision() >= l.placeAfter && !l.node.cutEtcd }))
	if !ok {
		return false
	}
	if l.index.NodesRevision() != l.nodesRev {
		l.nodesRev, l.calmSince = l.index.NodesRevision(), l.now()
	}
	step, err := l.index.PlanPlacement(l.reg, l.now().Sub(l.calmSince) > balanceAfter)
	if err != nil {
		if errors.Is(err, meta.ErrLeaseGone) {
			return false // the lease says the rest
		}
		c.failf("plan: %v", err)
	}
	if len(step.Txn.Then) == 0 {
		return false
	}
	l.placing = true
	c.notef("%s: plans at %d: %s, %d to %s", l.node.id, l.index.Revision(), step.What, step.Moves, step.To)
	if step.What == "elected" {
		c.elections++
	}
	c.network = append(c.network, &clusterRequest{owner: l, txn: step.Txn, place: &step, waited: true})
	return true
}

func (c *cluster) stepLease() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool { return len(l.keepAlives) > 0 }))
	if !ok {
		return false
	}
	sentAt := l.keepAlives[0]
	l.keepAlives = l.keepAlives[1:]
	switch {
	case l.node.cutEtcd, c.etcd.down, !c.calm && c.chance(5):
		l.core.leaseStep(leaseFailed{now: l.now()}, l.now())
		return true
	}
	if _, err := c.etcd.KeepAlive(context.Background(), l.reg.Lease); err != nil {
		c.notef("%s: lease: gone", l.node.id)
		c.fault("lease lost")
		l.core.leaseStep(leaseGone{}, l.now())
		return true
	}
	if !c.calm && c.chance(5) { // kept, and nobody hears
		l.core.leaseStep(leaseFailed{now: l.now()}, l.now())
		return true
	}
	l.core.leaseStep(leaseKept{sentAt: sentAt, now: l.now()}, l.now())
	return true
}
