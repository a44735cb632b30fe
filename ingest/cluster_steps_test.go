package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/proof/mutant"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier"
)

func (s simClock) Now() time.Time { return s.c.now }

func (s simClock) NewTimer(time.Duration) clock.Timer {
	fired := make(chan time.Time, 1)
	fired <- s.c.now
	return firedTimer(fired)
}

type firedTimer chan time.Time

func (f firedTimer) C() <-chan time.Time        { return f }
func (f firedTimer) Stop() bool                 { return false }
func (f firedTimer) Reset(d time.Duration) bool { return false }

// lives lists the nodes that run and are not paused, those for which want holds.
func (c *cluster) lives(want func(*clusterLife) bool) []*clusterLife {
	var out []*clusterLife
	for _, n := range c.nodes {
		if l := n.life; l != nil && l.ended == nil && !n.paused && want(l) {
			out = append(out, l)
		}
	}
	return out
}

func oneOf[T any](c *cluster, list []T) (T, bool) {
	var none T
	if len(list) == 0 {
		return none, false
	}
	return list[c.choose(len(list))], true
}

// after looks at what a step has done to the nodes.
func (c *cluster) after() {
	for _, n := range c.nodes {
		l := n.life
		if l == nil {
			continue
		}
		if l.ended == nil {
			c.watchMarks(l)
			if l.folding != nil {
				select {
				case l.foldRev = <-l.folding.committed:
					l.folding = nil
					c.folds++
				default:
				}
			}
		}
		if l.ended != nil {
			// The node closes its log, which syncs it, gives its lease back, and begins anew in the same process.
			c.notef("%s: incarnation %s ends: %v", n.id, l.reg.Incarnation, l.ended)
			n.wal.synced = n.wal.end
			n.stop()
			if !n.cutEtcd && c.chance(50) {
				if err := c.etcd.Revoke(context.Background(), l.reg.Lease); err != nil && !errors.Is(err, meta.ErrLeaseGone) && !errors.Is(err, meta.ErrUnavailable) {
					panic(err)
				}
			}
		}
	}
}

// stop forgets everything volatile of a node. What is on its way stays on its way.
func (n *clusterNode) stop() {
	l := n.life
	n.life, n.starting = nil, nil
	if l == nil {
		return
	}
	for _, p := range n.c.producers {
		p.lostConnection(l)
	}
	n.c.puts = slices.DeleteFunc(n.c.puts, func(p *clusterPut) bool { return p.owner == l && p.object == nil })
	for _, r := range n.c.network {
		if r.owner == l {
			r.waited = false
		}
	}
}

// ---- the log on disk

func (c *cluster) stepWriteLog() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool { return len(l.queue) > 0 }))
	if !ok {
		return false
	}
	if l.node.diskFull {
		l.core.logStalled(errors.New("no space left on device"))
		c.fault("disk full met")
		return true
	}
	w := &l.node.wal
	n := 1 + c.choose(len(l.queue))
	group := simGroup{}
	for _, q := range l.queue[:n] {
		f := simFrame{at: w.end, id: q.entry.partition, epoch: q.frame.Epoch, appendTime: q.frame.AppendTime, batch: q.frame.Batch}
		w.frames = append(w.frames, f)
		w.end = f.end()
		group.entries, group.at = append(group.entries, q.entry), append(group.at, f.at)
	}
	group.end = w.end
	l.queue = slices.Clone(l.queue[n:])
	l.written = append(l.written, group)
	c.notef("%s: log: %d frames to %d", l.node.id, n, w.end)
	return true
}

func (c *cluster) stepReportWritten() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool { return len(l.written) > 0 }))
	if !ok {
		return false
	}
	g := l.written[0]
	l.written = l.written[1:]
	l.syncWanted = true
	l.core.logWritten(g.entries, g.at, g.end, l.now())
	return true
}

func (c *cluster) stepSync() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool { return l.syncWanted }))
	if !ok {
		return false
	}
	l.syncWanted = false
	l.node.wal.synced = l.node.wal.end
	l.synced = append(l.synced, l.node.wal.end)
	return true
}

func (c *cluster) stepReportSynced() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool { return len(l.synced) > 0 }))
	if !ok {
		return false
	}
	end := l.synced[0]
	l.synced = l.synced[1:]
	c.notef("%s: log: synced to %d", l.node.id, end)
	l.core.logSynced(end, l.now())
	return true
}

func (c *cluster) stepTrim() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool { f := l.node.wal.frames; return len(f) > 0 && f[0].end() <= l.trimTo }))
	if !ok {
		return false
	}
	w := &l.node.wal
	n := 0
	for n < len(w.frames) && w.frames[n].end() <= l.trimTo {
		n++
	}
	n = 1 + c.choose(n) // whole files only: some stay
	w.frames = slices.Clone(w.frames[n:])
	return true
}

// ---- the object store

func (c *cluster) stepBuild() bool {
	for _, p := range c.puts {
		if p.object != nil || !p.owner.alive() || p.owner.node.paused {
			continue
		}
		var input []tier.L0Batch
		for _, b := range p.batch {
			bytes := record.Batch(b.bytes)
			if bytes == nil {
				f, ok := p.owner.node.wal.read(b.at)
				if !ok || f.id != b.id || f.epoch != b.epoch || f.batch.BaseOffset() != b.base {
					c.failf("the log of %s does not have %s offset %d at %d", p.owner.node.id, c.name(b.id), b.base, b.at)
				}
				bytes = f.batch
			}
			input = append(input, tier.L0Batch{Topic: b.id.Topic, Partition: b.id.Partition, AppendTime: b.appendTime, Batch: slices.Clone(bytes)})
		}
		object, err := tier.BuildL0(input)
		if err != nil {
			c.failf("build %s: %v", p.name, err)
		}
		p.object = object
		return true
	}
	return false
}

func (c *cluster) stepStore() bool {
	var ready []*clusterPut
	for _, p := range c.puts {
		if p.object != nil && (!p.owner.alive() || !p.owner.node.cutStore) {
			ready = append(ready, p)
		}
	}
	p, ok := oneOf(c, ready)
	if !ok {
		return false
	}
	if p.owner.alive() && !c.calm && c.chance(8) {
		what := "store fails before"
		if c.chance(50) {
			what = "store fails after" // it is there, and nobody knows
			c.put(p.name, p.object)
		}
		c.fault(what)
		c.notef("%s: store: %s fails (%s)", p.owner.node.id, p.name, what)
		if mutant.On(mutant.K3) && !p.owner.node.paused {
			c.stored(p)
		} else if !p.job.isFold() && !p.owner.node.paused {
			p.owner.core.uploadFailing(errors.New("503"))
		}
		return true
	}
	if p.owner.node.paused && p.owner.alive() {
		return false // it lands; its owner hears when it wakes
	}
	c.put(p.name, p.object)
	if !p.owner.alive() {
		c.puts = slices.DeleteFunc(c.puts, func(o *clusterPut) bool { return o == p })
		c.fault("put lands after its node died")
		return true
	}
	c.notef("%s: store: %s is there", p.owner.node.id, p.name)
	c.stored(p)
	return true
}

// stored tells a node that an object of its is there.
func (c *cluster) stored(p *clusterPut) {
	c.puts = slices.DeleteFunc(c.puts, func(o *clusterPut) bool { return o == p })
	p.job.record = &meta.L0Record{
		Node: p.owner.node.id, Incarnation: p.owner.reg.Incarnation, Object: p.name, Size: p.object.Size, IndexOffset: p.object.IndexOffset,
		IndexLength: int32(len(p.object.IndexBytes)), IndexCRC: p.object.IndexCRC, Inline: true, Index: p.object.Index,
	}
	p.owner.core.uploaded(p.job, p.owner.now())
}

// stepFold merges some neighbours among the records that a node's index shows as its own.
func (c *cluster) stepFold() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool {
		return l.folding == nil && (l.index.Revision() >= l.foldRev || mutant.On(mutant.C6)) && !l.node.cutStore && len(l.index.Records(l.node.id)) >= 2
	}))
	if !ok {
		return false
	}
	records := l.index.Records(l.node.id)
	from := c.choose(len(records) - 1)
	inputs := records[from:min(len(records), from+2+c.choose(3))]
	var keys []string
	for _, r := range inputs {
		if _, there := c.store[r.Object]; !there {
			if l.index.Revision() == c.etcd.revision {
				c.failf("a record names object %s, which does not exist", r.Object)
			}
			return false // folded since: the node will see
		}
		keys = append(keys, c.keys.L0(r.Node, r.Incarnation, r.Seq))
	}
	object, err := tier.Fold(context.Background(), c.store, inputs, func(e meta.L0Entry) bool {
		_, alive := l.index.TopicByID(e.Topic)
		return alive
	})
	if err != nil {
		c.failf("fold: %v", err)
	}
	number := l.core.foldNumber()
	job := &commitJob{number: number, replaces: keys, cutAt: l.now(), committed: make(chan meta.Revision, 1)}
	if c.chance(10) {
		l.core.foldAbandoned(number, l.now())
		return true
	}
	l.folding = job
	c.notef("%s: fold %d of %d records", l.node.id, number, len(keys))
	if len(object.Index.Entries) == 0 {
		l.core.uploaded(job, l.now())
		return true
	}
	c.puts = append(c.puts, &clusterPut{owner: l, job: job, object: object, name: meta.L0ObjectName(l.node.id, l.reg.Incarnation, number, 0)})
	return true
}

// stepSweep deletes an object that nothing refers to, as a node's index has it.
func (c *cluster) stepSweep() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool { return !l.node.cutStore }))
	if !ok {
		return false
	}
	var garbage []string
	mine := fmt.Sprintf("l0/%s/", l.node.id)
	for object := range c.store {
		if strings.HasPrefix(object, mine) && l.index.IsGarbage(object) {
			garbage = append(garbage, object)
		}
	}
	slices.Sort(garbage)
	object, ok := oneOf(c, garbage)
	if !ok {
		return false
	}
	delete(c.store, object)
	c.notef("%s: store: %s deleted", l.node.id, object)
	if c.truth.Names(object) {
		c.failf("object %s was deleted, and a record names it", object)
	}
	return true
}

// ---- etcd

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

// ---- time, start

func (c *cluster) stepTime() bool {
	c.now = c.now.Add(time.Duration(1 + c.choose(int(c.scope.tick))))
	if !c.etcd.down && c.etcd.expire(c.now) > 0 {
		c.notef("etcd: a lease expires")
	}
	return true
}

func (c *cluster) stepWake() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool { return !l.wakeAt.IsZero() && !l.now().Before(l.wakeAt) }))
	if !ok {
		return false
	}
	l.wakeAt = time.Time{}
	l.core.tick(l.now())
	return true
}

func (c *cluster) stepStart() bool {
	var down []*clusterNode
	for _, n := range c.nodes {
		if n.life == nil && !n.paused && !n.cutEtcd && (!n.down || c.calm) {
			down = append(down, n)
		}
	}
	n, ok := oneOf(c, down)
	if !ok || c.etcd.down {
		return false
	}
	switch {
	case n.starting == nil && mutant.On(mutant.A7):
		n.starting = &clusterStart{index: c.listed()}
	case n.starting == nil || n.starting.reg.Node == "":
		return n.register()
	default:
		n.lead()
	}
	return true
}

// register is the first part of a start: from here on no commit of an earlier incarnation can succeed.
func (n *clusterNode) register() bool {
	c := n.c
	start := n.starting
	if start == nil {
		start = &clusterStart{}
	}
	var random [8]byte
	c.values++
	for i := range random {
		random[i] = byte(c.values >> (8 * i))
	}
	info := meta.NodeInfo{ID: n.id, Disk: n.disk, Incarnation: meta.Incarnation(c.values), Roles: []string{meta.RoleIngest}}
	reg, err := c.admin.Register(context.Background(), info, c.scope.ttl)
	if err != nil {
		if _, held := errors.AsType[*meta.HeldError](err); held {
			return false // another disk of its name is alive
		}
		c.failf("register %s: %v", n.id, err)
	}
	if reg.PreviousHead != nil && reg.PreviousHead.WAL > uint64(n.wal.end) {
		c.notef("%s: its disk ends at %d, and a commit said %d: it does not start", n.id, n.wal.end, reg.PreviousHead.WAL)
		n.down = true
		return true
	}
	start.reg = reg
	n.starting = start
	c.notef("%s: incarnation %s registered at %d", n.id, reg.Incarnation, reg.Revision)
	return true
}

// lead is what is behind the registration, in the order of Node.begin.
func (n *clusterNode) lead() {
	c, start := n.c, n.starting
	n.starting = nil
	l := &clusterLife{node: n, reg: start.reg, index: meta.NewIndex(c.keys), calmSince: c.now.Add(n.skew), born: c.now}
	switch {
	case start.index != nil: // a mutant
		l.index = start.index
	case mutant.On(mutant.C2):
		l.index = c.listedTwice()
	default:
		l.index = c.listed() // and what the listing of an earlier moment has yet to see comes by steps
	}
	if err := l.index.HeldBack(n.id); err != nil {
		c.notef("%s: %v", n.id, err)
		n.down = true
		if err := c.etcd.Revoke(context.Background(), start.reg.Lease); err != nil && !errors.Is(err, meta.ErrLeaseGone) {
			panic(err)
		}
		return
	}
	if !mutant.On(mutant.B9) {
		n.wal.synced = n.wal.end // recovery
	}
	n.life = l
	c.starts++
	l.core = newCore(coreSettings{
		node: n.id, disk: n.disk, incarnation: l.reg.Incarnation, tailBytes: c.scope.tailBytes, flush: c.scope.flush, admission: c.scope.admission,
	}, l, l.index, c.keys, meta.Guards{NodeRev: l.reg.NodeRev, HeadRev: l.reg.HeadRev}, newLease(c.scope.ttl, l.now()))
	l.core.logEnd, l.core.logSyncEnd = n.wal.end, n.wal.synced
	c.notef("%s: incarnation %s leads from index %d", n.id, l.reg.Incarnation, l.index.Revision())
	l.core.indexAdvanced(l.now())
	for _, f := range n.wal.frames {
		if err := l.core.replay(f.id, f.epoch, f.at, f.appendTime, slices.Clone(f.batch), l.now()); err != nil {
			c.failf("%s: replay: %v", n.id, err)
		}
	}
	for id, m := range l.core.partitions {
		if c.everOnDisk[id.Topic] && m.durability == meta.DurabilityObject {
			// What was readable from the disk when the topic was changed to object is readable again when it is committed.
			c.hwm[id] = min(c.hwm[id], m.hwm)
		}
	}
	l.core.begin(l.now())
}

// durableOnDisk tells whether a node's log has a batch at an offset, synced.
func (n *clusterNode) durableOnDisk(p meta.Partition, base int64, epoch meta.Epoch) bool {
	return slices.ContainsFunc(n.wal.frames, func(f simFrame) bool {
		return f.id == p && f.batch.BaseOffset() == base && f.epoch == epoch && f.end() <= n.wal.synced
	})
}

func (c *cluster) value() uint64 {
	c.values++
	return c.values
}

func (n *clusterNode) String() string {
	return fmt.Sprintf("%s paused=%t etcd=%t store=%t clients=%t", n.id, n.paused, !n.cutEtcd, !n.cutStore, !n.cutClients)
}
