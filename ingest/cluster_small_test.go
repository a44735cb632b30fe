package ingest

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/proof/mutant"
)

// The exhaustive mode: every order of what may happen to a very small cluster, breadth first, so that a violation comes with the
// shortest trace there is. A state is reached by replaying its steps from the start, since the machines cannot be copied; states
// with one fingerprint are looked at once.

// smallScope says what may happen how often.
type smallScope struct {
	name                             string
	nodes, batches                   int
	crashes, expiries, losses, folds int
	durability                       meta.Durability
	power                            bool // a crash takes what was not synced
	states                           int  // of the short form
}

var smallScopes = []smallScope{
	{name: "failover", nodes: 2, batches: 2, expiries: 1, losses: 1, states: 2500},
	{name: "restart", nodes: 1, batches: 3, crashes: 2, losses: 1, states: 2500},
	{name: "fold", nodes: 1, batches: 3, crashes: 1, losses: 1, folds: 1, states: 2500},
	{name: "disk", nodes: 2, batches: 2, crashes: 2, expiries: 1, durability: meta.DurabilityDisk, power: true, states: 2500},
}

// small is a small world with what is left of its budget.
type small struct {
	*cluster

	scope smallScope
	left  smallScope
}

func newSmall(s smallScope) *small {
	w := &small{scope: s, left: s}
	w.cluster = newCluster(scope{
		nodes: s.nodes, ttl: 6 * time.Second, tailBytes: 1 << 20, tick: time.Millisecond, batches: s.batches,
		flush:     flushSettings{bytes: 1, interval: time.Millisecond, idleInterval: time.Millisecond, maxUploads: 2},
		admission: admissionLimits{unlogged: 1 << 20, uncommitted: 1 << 20, batches: 100, parked: 1 << 20, delay: time.Hour},
		topics:    []scopeTopic{{partitions: 1, durability: s.durability, producers: 1}},
	}, func(n int) int {
		if n == 100 {
			return 99 // a chance that is not taken: what may happen is an action of its own
		}
		return 0
	})
	w.consumers = []*clusterConsumer{{c: w.cluster, id: w.producers[0].id}}
	w.begin()
	return w
}

// begin has every node lead what it is given: the search starts from there.
func (w *small) begin() {
	for _, n := range w.nodes {
		n.register()
		n.lead()
	}
	for done := false; !done; {
		done = true
		for _, n := range w.nodes {
			l := n.life
			w.advance(l.index, w.etcd.revision)
			l.core.indexAdvanced(l.now())
			if step, err := l.index.PlanPlacement(l.reg, false); err == nil && len(step.Txn.Then) > 0 {
				w.mustApply(step.Txn)
				done = false
			}
		}
	}
	w.settled()
}

// smallAction is one thing that can happen now.
type smallAction struct {
	name string
	do   func()
}

// actions lists what can happen, in one order.
func (w *small) actions() []smallAction {
	var out []smallAction
	add := func(do func(), format string, args ...any) {
		out = append(out, smallAction{fmt.Sprintf(format, args...), do})
	}
	p := w.producers[0]
	for _, n := range w.nodes {
		l := n.life
		if l == nil {
			if n.starting == nil {
				add(func() { n.register() }, "%s registers", n.id)
			} else {
				add(n.lead, "%s leads", n.id)
			}
			continue
		}
		if p.inFlight == 0 && (len(p.unacked) > 0 || p.sent < w.scope.batches) {
			add(func() { w.send(l) }, "the producer sends to %s", n.id)
		}
		if l.index.Revision() < w.etcd.revision {
			add(func() {
				w.advance(l.index, w.etcd.revision)
				l.core.indexAdvanced(l.now())
			}, "index of %s", n.id)
		}
		if step, err := l.index.PlanPlacement(l.reg, false); err == nil && len(step.Txn.Then) > 0 && !l.placing && l.index.Revision() >= l.placeAfter {
			add(func() {
				l.placing = true
				w.network = append(w.network, &clusterRequest{owner: l, txn: step.Txn, place: &step, waited: true})
			}, "%s plans (%s to %s)", n.id, step.What, step.To)
		}
		if !l.core.retryAt.IsZero() {
			add(func() {
				w.now = w.now.Add(2 * time.Second)
				l.core.tick(l.now())
			}, "%s sends its commit again", n.id)
		}
		if l.syncWanted {
			add(func() {
				l.syncWanted = false
				n.wal.synced = n.wal.end
				l.core.logSynced(n.wal.end, l.now())
			}, "%s syncs", n.id)
		}
		if records := l.index.Records(n.id); w.left.folds > 0 && l.folding == nil && len(records) >= 2 && (l.index.Revision() >= l.foldRev || mutant.On(mutant.C6)) {
			add(func() {
				w.left.folds--
				w.stepFold()
			}, "%s folds", n.id)
		}
		if _, alive := w.etcd.leases[l.reg.Lease]; alive && w.left.expiries > 0 {
			add(func() {
				w.left.expiries--
				if err := w.etcd.Revoke(context.Background(), l.reg.Lease); err != nil {
					panic(err)
				}
			}, "the lease of %s expires", n.id)
		} else if !alive {
			add(func() { l.core.leaseStep(leaseGone{}, l.now()) }, "%s hears that its lease is gone", n.id)
		}
		if w.left.crashes > 0 {
			add(func() {
				w.left.crashes--
				if w.scope.power {
					n.wal.frames = slices.DeleteFunc(slices.Clone(n.wal.frames), func(f simFrame) bool { return f.end() > n.wal.synced })
					n.wal.end = n.wal.synced
				}
				n.stop()
			}, "%s crashes", n.id)
		}
	}
	for i, put := range w.puts {
		add(func() { w.land(put) }, "object %d is stored", i)
	}
	for i, r := range w.network {
		if !r.applied {
			add(func() { r.applied = true; r.result, r.err = w.etcd.apply(r.txn) }, "etcd applies %d", i)
		} else if r.waited && r.owner.alive() {
			add(func() { w.answer(r) }, "etcd answers %d", i)
		}
		if r.waited && r.owner.alive() && w.left.losses > 0 {
			add(func() { w.lose(r) }, "answer %d is lost", i)
		}
	}
	if p.inFlight > 0 && p.at != nil && w.left.losses > 0 {
		add(func() { w.left.losses--; p.giveUp() }, "the producer gives up waiting")
	}
	return out
}

func (w *small) send(l *clusterLife) {
	p := w.producers[0]
	p.at = l
	p.resend = false
	if len(p.unacked) == 0 {
		p.newBatch()
	}
	for i, b := range slices.Clone(p.unacked) {
		p.send(b, i == 0)
	}
}

func (w *small) land(put *clusterPut) {
	if put.object == nil && put.owner.alive() {
		w.puts = append([]*clusterPut{put}, slices.DeleteFunc(w.puts, func(o *clusterPut) bool { return o == put })...)
		w.stepBuild()
	}
	w.puts = slices.DeleteFunc(w.puts, func(o *clusterPut) bool { return o == put })
	if put.object == nil {
		return
	}
	w.put(put.name, put.object)
	if put.owner.alive() {
		w.stored(put)
	}
}

func (w *small) answer(r *clusterRequest) {
	w.drop(r)
	switch {
	case r.place != nil:
		r.owner.placing, r.owner.placeAfter = false, r.result.Revision
	case r.err != nil:
		r.owner.core.commitFailed(r.err, r.owner.now())
	default:
		r.owner.core.commitAnswered(r.result, r.owner.now())
	}
}

func (w *small) lose(r *clusterRequest) {
	w.left.losses--
	r.waited = false
	if r.place != nil {
		r.owner.placing, r.owner.placeAfter = false, w.etcd.revision
		return
	}
	r.owner.core.commitFailed(errors.New("deadline exceeded"), r.owner.now())
}

// settled does what leaves nothing to choose: the log is written, what is due is cut, answers that nobody waits for are gone, and every
// reader reads all it can.
func (w *small) settled() {
	for _, n := range w.nodes {
		if l := n.life; l != nil && l.ended == nil {
			for len(l.queue) > 0 {
				w.stepWriteLog()
				for len(l.written) > 0 {
					w.stepReportWritten()
				}
			}
			w.now = w.now.Add(2 * time.Millisecond)
			if l.core.retryAt.IsZero() {
				l.core.tick(l.now())
			}
			l.keepAlives = nil
		}
	}
	w.after()
	w.network = slices.DeleteFunc(w.network, func(r *clusterRequest) bool { return r.applied && (!r.waited || !r.owner.alive()) })
	for _, n := range w.nodes {
		if l := n.life; l != nil && l.ended == nil {
			w.read(l)
		}
	}
	w.truthStands()
}

// read reads a node's partition from its start on.
func (w *small) read(l *clusterLife) {
	id := w.producers[0].id
	m := l.core.partitions[id]
	if m == nil {
		return
	}
	for offset := m.start; offset < m.hwm; {
		b, ok := l.index.Lookup(id, offset)
		if first, inTail := l.core.tail.first(id); inTail && offset >= first {
			for _, e := range l.core.tail.from(id, offset, m.hwm, 1<<20, nil) {
				bytes := e.batch
				if bytes == nil {
					f, there := l.node.wal.read(e.at)
					if !there {
						w.failf("the log of %s does not have offset %d at %d", l.node.id, e.base, e.at)
					}
					bytes = f.batch
				}
				for i, v := range batchValues(bytes) {
					w.claim(w.observed, "read", id, e.base+int64(i), v)
				}
				offset = e.next
			}
			continue
		}
		if !ok {
			w.failf("offset %d is neither in the tail nor in the index of %s at %d", offset, l.node.id, l.index.Revision())
		}
		for i, v := range w.valuesOf(b) {
			w.claim(w.observed, "read", id, b.BaseOffset+int64(i), v)
		}
		offset = b.End()
	}
}

// fingerprint tells states apart by what decides what can happen to them.
func (w *small) fingerprint() uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, w.left, w.etcd.revision, w.etcd.list(w.keys.Prefix()))
	for _, n := range w.nodes {
		fmt.Fprint(h, "|", n.id, n.wal.end, n.wal.synced, len(n.wal.frames), n.starting != nil)
		l := n.life
		if l == nil {
			continue
		}
		c := l.core
		fmt.Fprint(h, l.reg.Incarnation, l.index.Revision(), l.placing, l.placeAfter, l.syncWanted, l.folding != nil, l.foldRev, c.assignment.Revision, c.newest != nil,
			c.commit.seq, c.commit.sent, c.commit.failures > 0, c.commit.guards, c.commit.flushes.len(), c.commit.folds.len(), c.commit.highest,
			c.flush.uploads, c.flush.gathered, c.unflushed.len(), c.unsynced.len(), c.leaving, c.commit.releasing, c.commit.released)
		for _, id := range sortedPartitions(c.partitions) {
			m := c.partitions[id]
			fmt.Fprint(h, m.epoch, m.committed, m.synced, m.end, m.hwm, len(m.allWaiters), m.going)
		}
	}
	for _, put := range w.puts {
		fmt.Fprint(h, "put", put.name, put.object != nil, put.owner.alive())
	}
	for _, r := range w.network {
		fmt.Fprint(h, "txn", r.txn.If, r.txn.Then, r.applied, r.waited)
	}
	p := w.producers[0]
	fmt.Fprint(h, "producer", p.sent, p.sequence, p.inFlight, len(p.unacked), p.at != nil && p.at.alive())
	return h.Sum64()
}

// replay walks a path and returns the world at its end, or what it found wrong on the last step.
func replay(s smallScope, path []uint8, tracing bool) (w *small, failure string) {
	w = newSmall(s)
	w.tracing = tracing
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(simStopped)
			if !ok {
				panic(fmt.Sprintf("path %v: %v", path, r))
			}
			failure = f.message
		}
	}()
	for _, choice := range path {
		action := w.actions()[choice]
		w.notef("%s", action.name)
		action.do()
		w.settled()
	}
	return w, ""
}

// exploration is how far a search went.
type exploration struct {
	states, depth int
	exhausted     bool
	path          []uint8
	failure       string
}

// exploreSmall looks at states breadth first until one fails, none is left, or the limit is reached.
func exploreSmall(s smallScope, limit int) exploration {
	out := exploration{exhausted: true}
	seen := map[uint64]bool{}
	frontier := [][]uint8{{}}
	for len(frontier) > 0 {
		var next [][]uint8
		for _, path := range frontier {
			w, failure := replay(s, path, false)
			if failure != "" {
				out.path, out.failure, out.exhausted = path, failure, false
				return out
			}
			state := w.fingerprint()
			if seen[state] {
				continue
			}
			seen[state] = true
			out.states++
			out.depth = len(path)
			if out.states >= limit {
				out.exhausted = false
				return out
			}
			for n := range w.actions() {
				next = append(next, append(slices.Clone(path), uint8(n)))
			}
		}
		frontier = next
	}
	return out
}

// TestClusterSmall searches small clusters exhaustively, as far as TIDEMARK_SIM_STATES goes.
func TestClusterSmall(t *testing.T) {
	for _, s := range smallScopes {
		t.Run(s.name, func(t *testing.T) {
			limit := int(envNumber("TIDEMARK_SIM_STATES", uint64(s.states)))
			found := exploreSmall(s, limit)
			if found.failure != "" {
				w, _ := replay(s, found.path, true)
				t.Fatalf("after %d states, at depth %d: %s\n%s", found.states, len(found.path), found.failure, w)
			}
			t.Logf("%d states to depth %d, exhausted: %t", found.states, found.depth, found.exhausted)
		})
	}
}
