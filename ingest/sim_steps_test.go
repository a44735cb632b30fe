package ingest

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier"
)

// simStep is something that may happen. run tells whether it could.
type simStep struct {
	name   string
	weight int
	run    func(s *sim) bool
	rude   bool // only while the adversary is awake
}

var simSteps = []simStep{
	{name: "produce", weight: 22, run: (*sim).stepProduce},
	{name: "give up", weight: 2, run: (*sim).stepGiveUp, rude: true},
	{name: "write log", weight: 12, run: (*sim).stepWriteLog},
	{name: "report written", weight: 12, run: (*sim).stepReportWritten},
	{name: "sync", weight: 8, run: (*sim).stepSync},
	{name: "report synced", weight: 8, run: (*sim).stepReportSynced},
	{name: "trim", weight: 3, run: (*sim).stepTrim},
	{name: "build", weight: 8, run: (*sim).stepBuild},
	{name: "store", weight: 10, run: (*sim).stepStore},
	{name: "apply", weight: 12, run: (*sim).stepApply},
	{name: "answer", weight: 12, run: (*sim).stepAnswer},
	{name: "lose answer", weight: 5, run: (*sim).stepLoseAnswer, rude: true},
	{name: "lose request", weight: 1, run: (*sim).stepLoseRequest, rude: true},
	{name: "index", weight: 14, run: (*sim).stepIndex},
	{name: "tick", weight: 16, run: (*sim).stepTick},
	{name: "fetch", weight: 6, run: (*sim).stepFetch},
	{name: "fold", weight: 3, run: (*sim).stepFold},
	{name: "sweep", weight: 2, run: (*sim).stepSweep},
	{name: "lease", weight: 4, run: (*sim).stepLease},
	{name: "take away", weight: 3, run: (*sim).stepTakeAway, rude: true},
	{name: "ask", weight: 3, run: (*sim).stepAsk, rude: true},
	{name: "withdraw", weight: 1, run: (*sim).stepWithdraw, rude: true},
	{name: "move", weight: 5, run: (*sim).stepMove},
	{name: "stop", weight: 1, run: (*sim).stepStop, rude: true},
	{name: "go on stopping", weight: 6, run: (*sim).stepGoOnStopping},
	{name: "other commits", weight: 3, run: (*sim).stepOtherCommits},
	{name: "give back", weight: 4, run: (*sim).stepGiveBack},
	{name: "expire", weight: 1, run: (*sim).stepExpire, rude: true},
	{name: "crash", weight: 1, run: (*sim).stepCrash, rude: true},
	{name: "start", weight: 20, run: (*sim).stepStart},
	{name: "delete topic", weight: 1, run: (*sim).stepDeleteTopic, rude: true},
	{name: "alter topic", weight: 1, run: (*sim).stepAlterTopic, rude: true},
}

// step does one thing.
func (s *sim) step() {
	total := 0
	for _, step := range simSteps {
		if !step.rude || !s.calm {
			total += step.weight
		}
	}
	for range 20 { // most steps cannot happen at most times
		n := s.random.IntN(total)
		for _, step := range simSteps {
			if step.rude && s.calm {
				continue
			}
			if n -= step.weight; n >= 0 {
				continue
			}
			if step.run(s) {
				s.after()
				return
			}
			break
		}
	}
	s.stepTick()
	s.after()
}

func (s *sim) after() {
	s.watchMarks()
	l := s.life
	if l == nil {
		return
	}
	if l.ended == nil && l.folding != nil {
		select {
		case l.foldRev = <-l.folding.committed:
			l.folding = nil
			s.folds++
		default:
		}
	}
	if l.ended != nil {
		// The node closes its log, which syncs it, and begins anew in the same process.
		s.notef("incarnation %s ends: %v", l.incarnation, l.ended)
		s.disk.synced = s.disk.end
		s.down()
	}
}

// down forgets everything volatile. What is on its way stays on its way.
func (s *sim) down() {
	s.life = nil
	for _, p := range s.producers {
		p.inFlight = 0
		p.round++ // nobody answers what was asked
		p.resend = true
	}
	s.puts = slices.DeleteFunc(s.puts, func(p *simPut) bool { return p.object == nil })
	for _, r := range s.requests {
		r.waited = false
	}
}

// ---- the log on disk

func (s *sim) stepWriteLog() bool {
	l := s.life
	if l == nil || len(l.queue) == 0 {
		return false
	}
	n := 1 + s.random.IntN(len(l.queue))
	group := simGroup{}
	for _, q := range l.queue[:n] {
		f := simFrame{
			at: s.disk.end, id: q.entry.partition, epoch: q.frame.Epoch, appendTime: q.frame.AppendTime, batch: q.frame.Batch,
		}
		s.disk.frames = append(s.disk.frames, f)
		s.disk.end = f.end()
		group.entries, group.at = append(group.entries, q.entry), append(group.at, f.at)
	}
	group.end = s.disk.end
	l.queue = slices.Clone(l.queue[n:])
	l.written = append(l.written, group)
	s.notef("log: %d frames to %d", n, s.disk.end)
	return true
}

func (s *sim) stepReportWritten() bool {
	l := s.life
	if l == nil || len(l.written) == 0 {
		return false
	}
	g := l.written[0]
	l.written = l.written[1:]
	s.notef("log: written to %d is told", g.end)
	l.syncWanted = true
	l.core.logWritten(g.entries, g.at, g.end, s.now)
	return true
}

func (s *sim) stepSync() bool {
	l := s.life
	if l == nil || !l.syncWanted {
		return false
	}
	l.syncWanted = false
	s.disk.synced = s.disk.end
	l.synced = append(l.synced, s.disk.end)
	s.notef("log: synced to %d", s.disk.end)
	return true
}

func (s *sim) stepReportSynced() bool {
	l := s.life
	if l == nil || len(l.synced) == 0 {
		return false
	}
	end := l.synced[0]
	l.synced = l.synced[1:]
	s.notef("log: synced to %d is told", end)
	l.core.logSynced(end, s.now)
	return true
}

func (s *sim) stepTrim() bool {
	l := s.life
	if l == nil || len(s.disk.frames) == 0 || s.disk.frames[0].at >= l.trimTo {
		return false
	}
	n := 0
	for n < len(s.disk.frames) && s.disk.frames[n].end() <= l.trimTo {
		n++
	}
	if n == 0 {
		return false
	}
	n = 1 + s.random.IntN(n) // whole files only: some stay
	s.disk.frames = slices.Clone(s.disk.frames[n:])
	s.notef("log: trimmed %d frames below %d", n, l.trimTo)
	return true
}

// ---- the object store

func (s *sim) stepBuild() bool {
	for _, p := range s.puts {
		if p.object != nil || p.owner != s.life {
			continue
		}
		var input []tier.L0Batch
		for _, b := range p.batch {
			bytes := record.Batch(b.bytes)
			if bytes == nil {
				f, ok := s.disk.read(b.at)
				if !ok || f.id != b.id || f.epoch != b.epoch || f.batch.BaseOffset() != b.base {
					s.failf("the log does not have %s offset %d at %d", name(b.id), b.base, b.at)
				}
				bytes = f.batch
			}
			input = append(input, tier.L0Batch{Topic: b.id.Topic, Partition: b.id.Partition, AppendTime: b.appendTime, Batch: slices.Clone(bytes)})
		}
		object, err := tier.BuildL0(input)
		if err != nil {
			s.failf("build %s: %v", p.name, err)
		}
		p.object = object
		s.notef("store: %s is on its way", p.name)
		return true
	}
	return false
}

func (s *sim) stepStore() bool {
	var ready []int
	for i, p := range s.puts {
		if p.object != nil {
			ready = append(ready, i)
		}
	}
	if len(ready) == 0 {
		return false
	}
	i := ready[s.random.IntN(len(ready))]
	p := s.puts[i]
	if p.owner == s.life && !s.calm && s.chance(15) {
		s.notef("store: %s fails", p.name)
		if !p.job.isFold() {
			p.owner.core.uploadFailing(errors.New("503"))
		}
		return true
	}
	s.puts = removeAt(s.puts, i)
	if err := s.store.Put(context.Background(), p.name, p.object.Body); err != nil {
		panic(err)
	}
	s.notef("store: %s is there", p.name)
	if p.owner != s.life {
		return true
	}
	p.job.record = &meta.L0Record{
		Node: simNode, Incarnation: p.owner.incarnation, Object: p.name, Size: p.object.Size, IndexOffset: p.object.IndexOffset,
		IndexLength: int32(len(p.object.IndexBytes)), IndexCRC: p.object.IndexCRC, Inline: true, Index: p.object.Index,
	}
	s.life.core.uploaded(p.job, s.now)
	return true
}

// stepFold merges some neighbours among the records that the node's index shows.
func (s *sim) stepFold() bool {
	l := s.life
	if l == nil || l.folding != nil || l.ended != nil || l.index.revision < l.foldRev {
		return false
	}
	var keys []string
	for key, r := range l.index.records {
		if r.Node == simNode {
			keys = append(keys, key)
		}
	}
	if len(keys) < 2 {
		return false
	}
	slices.Sort(keys)
	from := s.random.IntN(len(keys) - 1)
	keys = keys[from:min(len(keys), from+2+s.random.IntN(3))]
	var inputs []*meta.L0Record
	for _, key := range keys {
		inputs = append(inputs, l.index.records[key])
	}
	object, err := tier.Fold(context.Background(), s.store, inputs, func(e meta.L0Entry) bool {
		_, alive := l.index.TopicByID(e.Topic)
		return alive
	})
	if err != nil {
		s.failf("fold: %v", err)
	}
	number := l.core.foldNumber()
	job := &commitJob{number: number, replaces: keys, cutAt: s.now, committed: make(chan meta.Revision, 1)}
	if s.chance(10) {
		s.notef("fold %d of %v comes to nothing", number, keys)
		l.core.foldAbandoned(number, s.now)
		return true
	}
	l.folding = job
	s.notef("fold %d of %v", number, keys)
	if len(object.Index.Entries) == 0 {
		l.core.uploaded(job, s.now)
		return true
	}
	s.puts = append(s.puts, &simPut{owner: l, job: job, object: object, name: meta.L0ObjectName(simNode, l.incarnation, number, 0)})
	return true
}

// stepSweep deletes an object that nothing refers to, as the node's index has it.
func (s *sim) stepSweep() bool {
	if s.life == nil {
		return false
	}
	names := make([]string, 0, len(s.store))
	for object := range s.store {
		names = append(names, object)
	}
	slices.Sort(names)
	for _, object := range names {
		if s.life.index.isGarbage(object) {
			delete(s.store, object)
			s.notef("store: %s deleted", object)
			s.truthStands()
			return true
		}
	}
	return false
}

// truthStands checks that every record names an object that exists.
func (s *sim) truthStands() {
	for key, r := range s.truth.records {
		if _, ok := s.store[r.Object]; !ok {
			s.failf("record %s names object %s, which does not exist", key, r.Object)
		}
	}
}

// ---- etcd

func (s *sim) pick(want func(*simRequest) bool) int {
	var found []int
	for i, r := range s.requests {
		if want(r) {
			found = append(found, i)
		}
	}
	if len(found) == 0 {
		return -1
	}
	return found[s.random.IntN(len(found))]
}

func (s *sim) stepApply() bool {
	// What its sender has given up often takes long.
	i := s.pick(func(r *simRequest) bool { return !r.applied && (r.waited || s.calm) })
	if i < 0 && s.chance(30) || s.chance(4) {
		i = s.pick(func(r *simRequest) bool { return !r.applied })
	}
	if i < 0 {
		return false
	}
	r := s.requests[i]
	r.applied, r.result = true, s.etcd.apply(r.txn)
	s.notef("etcd: commit of %s applied at %d: %t", r.owner.incarnation, r.result.Revision, r.result.Succeeded)
	s.changed()
	s.truthStands()
	return true
}

func (s *sim) stepAnswer() bool {
	i := s.pick(func(r *simRequest) bool { return r.applied })
	if i < 0 {
		return false
	}
	r := s.requests[i]
	s.requests = removeAt(s.requests, i)
	if r.waited && r.owner == s.life {
		s.notef("etcd: answered")
		s.life.core.commitAnswered(r.result, s.now)
	}
	return true
}

// stepLoseAnswer has the node give up on an answer; the request may apply later.
func (s *sim) stepLoseAnswer() bool {
	i := s.pick(func(r *simRequest) bool { return r.waited && r.owner == s.life })
	if i < 0 {
		return false
	}
	s.requests[i].waited = false
	s.notef("etcd: no answer")
	s.life.core.commitFailed(errors.New("deadline exceeded"), s.now)
	return true
}

func (s *sim) stepLoseRequest() bool {
	i := s.pick(func(r *simRequest) bool { return !r.waited && !r.applied })
	if i < 0 {
		return false
	}
	s.requests = removeAt(s.requests, i)
	s.notef("etcd: a request is lost")
	return true
}

func (s *sim) stepIndex() bool {
	l := s.life
	if l == nil || l.index.revision == s.etcd.revision {
		return false
	}
	l.index.advance(l.index.revision + 1 + s.random.Int64N(s.etcd.revision-l.index.revision))
	s.notef("index at %d", l.index.revision)
	l.core.indexAdvanced(s.now)
	return true
}

func (s *sim) stepLease() bool {
	l := s.life
	if l == nil || len(l.keepAlives) == 0 {
		return false
	}
	sentAt := l.keepAlives[0]
	l.keepAlives = l.keepAlives[1:]
	switch {
	case s.truth.alive != l.incarnation.String():
		s.notef("lease: gone")
		l.core.leaseStep(leaseGone{}, s.now)
	case !s.calm && s.chance(30):
		s.notef("lease: no answer")
		l.core.leaseStep(leaseFailed{now: s.now}, s.now)
	default:
		l.core.leaseStep(leaseKept{sentAt: sentAt, now: s.now}, s.now)
	}
	return true
}

// stepExpire ends the node's lease.
func (s *sim) stepExpire() bool {
	key := s.etcd.keys.Node(simNode)
	if _, ok := s.etcd.now[key]; !ok || s.chance(60) {
		return false
	}
	s.etcd.apply(meta.Txn{Then: []meta.Op{meta.DeleteOp(key), meta.DeleteOp(s.etcd.keys.Prefix() + simStopping)}})
	s.notef("etcd: the lease expires")
	s.changed()
	s.truth.alive = ""
	return true
}

// ---- time, crash, start

func (s *sim) stepTick() bool {
	s.now = s.now.Add(time.Duration(1+s.random.IntN(15)) * time.Millisecond)
	if l := s.life; l != nil && !l.wakeAt.IsZero() && !s.now.Before(l.wakeAt) {
		l.wakeAt = time.Time{}
		s.notef("tick")
		l.core.tick(s.now)
	}
	return true
}

func (s *sim) stepCrash() bool {
	if s.life == nil && s.registered == nil || s.chance(50) {
		return false
	}
	if s.chance(50) { // the machine, not the process: what was not synced goes, from some point on
		kept := 0
		for kept < len(s.disk.frames) && (s.disk.frames[kept].at < s.disk.synced || s.chance(60)) {
			kept++
		}
		s.disk.frames = slices.Clone(s.disk.frames[:kept])
		s.disk.end = s.disk.synced
		if kept > 0 {
			s.disk.end = max(s.disk.synced, s.disk.frames[kept-1].end())
		}
	}
	s.notef("crash; the log has %d frames to %d", len(s.disk.frames), s.disk.end)
	s.registered = nil
	s.down()
	return true
}

func (s *sim) stepStart() bool {
	if s.life != nil {
		return false
	}
	if s.registered == nil {
		s.register()
		return true
	}
	s.lead()
	return true
}

func (s *sim) register() {
	s.incarnations++
	r := &simRegistration{incarnation: meta.Incarnation(s.incarnations)}
	node, head := s.etcd.keys.Node(simNode), s.etcd.keys.Head(simNode)
	next := simHead{Version: 1, Incarnation: r.incarnation.String()}
	if kv, ok := s.etcd.now[head]; ok {
		next.WAL = decodeSimHead(kv.Value).WAL
	}
	if next.WAL > uint64(s.disk.end) {
		s.failf("a commit said that the log is durable to %d, and it ends at %d", next.WAL, s.disk.end)
	}
	result := s.etcd.apply(meta.Txn{Then: []meta.Op{
		meta.PutOp(node, []byte(r.incarnation.String())), meta.PutOp(head, next.encode()), meta.DeleteOp(s.etcd.keys.Prefix() + simStopping),
	}})
	r.nodeRev, r.headRev, r.revison = result.Revision, result.Revision, result.Revision
	s.registered = r
	s.notef("incarnation %s registered at %d", r.incarnation, r.revison)
	s.changed()
}

// lead does what is behind the registration, in the order of Node.begin.
func (s *sim) lead() {
	r := s.registered
	s.registered = nil
	l := &simLife{sim: s, incarnation: r.incarnation, index: newSimIndex(s.etcd, simNode, s.assignments)}
	l.index.story = s.story
	atLeast := max(r.revison, s.etcd.now[s.etcd.keys.Assign(simNode)].Mod)
	l.index.advance(atLeast + s.random.Int64N(s.etcd.revision-atLeast+1))
	s.disk.synced = s.disk.end // recovery
	s.life = l
	s.restarts++
	l.core = newCore(coreSettings{
		node: simNode, disk: simDisk, incarnation: l.incarnation, tailBytes: 1500,
		flush:     flushSettings{bytes: 2000, interval: 10 * time.Millisecond, idleInterval: 60 * time.Millisecond, maxUploads: 3},
		admission: admissionLimits{unlogged: 3000, uncommitted: 8000, batches: 40, parked: 1500, delay: 50 * time.Millisecond},
	}, l, l.index, s.etcd.keys, meta.Guards{NodeRev: r.nodeRev, HeadRev: r.headRev}, newLease(200*time.Millisecond, s.now))
	l.core.logEnd, l.core.logSyncEnd = s.disk.end, s.disk.synced
	s.notef("incarnation %s leads from index %d", l.incarnation, l.index.revision)
	l.core.indexAdvanced(s.now)
	for _, f := range s.disk.frames {
		if err := l.core.replay(f.id, f.epoch, f.at, f.appendTime, slices.Clone(f.batch), s.now); err != nil {
			s.failf("replay: %v", err)
		}
	}
	if m := l.core.partitions[meta.Partition{Topic: s.topics[1].ID}]; m != nil && m.durability == meta.DurabilityObject {
		// What was readable from the disk when the topic was changed to object is readable again when it is committed.
		s.hwm[m.id] = min(s.hwm[m.id], m.hwm)
	}
	l.core.begin(s.now)
}
