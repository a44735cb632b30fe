package ingest

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/tidemark-io/tidemark/ingest/wal"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/proof/mutant"
)

// core is one incarnation without its surroundings: the step machines and the tail, wired together. Every method is an
// event; it runs to its end without I/O, without a clock and without goroutines, and what must be done outside goes through
// outside. So the same events in the same order always do the same, which is what a simulation needs. One caller at a time.
type core struct {
	settings coreSettings
	outside  outside
	index    logIndex

	partitions map[meta.Partition]*partition
	tail       *tail
	flush      flusher
	commit     committer
	fetch      fetcher
	lease      *lease
	admission  admission

	assignment meta.Assignment // as applied; its epochs are what is led or will be
	newest     *meta.Assignment
	topics     meta.Revision // topics/ as applied

	unflushed     queue[*entry] // has offsets, not cut
	objectWaiting int           // of unflushed, those that wait for the object
	unsynced      queue[*entry] // of disk topics, in log order, not synced
	logOrder      queue[*entry] // in log order, not committed: the oldest holds the log back
	indexing      queue[indexedBy]

	logEnd     wal.LSN // everything appended lies below
	logSyncEnd wal.LSN // everything below is durable
	heldSync   wal.LSN // durable, but acknowledgements wait for the lease

	flushWaits []flushWait
	leadDue    bool // assignment or topics have changed since leadAssigned looked

	// leaving are the assigned partitions that take nothing more, because another node is to lead them; core_release.go.
	leaving     map[meta.Partition]meta.Epoch
	leavingFrom time.Time                   // since when leaving is not empty
	letGo       meta.Revision               // of the index's wishes that were looked at
	letGoDue    bool                        // they, or leadership, have changed since leaving was brought up to date
	unreplayed  map[meta.Partition][]*entry // frames of assigned partitions that are not led: the log on disk is all there is of them

	coming     queue[parkedCall] // produces to partitions that are about to be led; core_lead.go
	comingDue  bool              // leadership has changed since coming was looked at
	newestFrom time.Time         // when newest, or the assignment that is not led yet, was first heard of

	begun      bool // the log is replayed; see begin
	draining   bool
	ended      bool
	remembered map[meta.Partition]*partition // only with a mutant
	logCause   string                        // why the log takes nothing, "" when it does
	storeCause string
	metaCause  string
	retryAt    time.Time // when a commit in doubt is sent again

	effects partitionEffects // reused
	scratch []*entry
}

// coreSettings are what the core needs to know of a node.
type coreSettings struct {
	node        meta.NodeID
	disk        string
	incarnation meta.Incarnation
	flush       flushSettings
	admission   admissionLimits
	tailBytes   int64
}

// outside performs effects. No method blocks, and none calls back into the core before it returns.
type outside interface {
	// appendLog queues a batch for the log; its place comes back by logWritten. sync asks for an fsync behind it.
	appendLog(e *entry, sync bool)
	// trimLog lets the log forget what lies below.
	trimLog(below wal.LSN)
	// upload builds and stores the object of a job, however long it takes; it comes back by uploaded.
	upload(job *commitJob, batches []plannedBatch)
	// sendCommit sends a transaction once; it comes back by commitAnswered or commitFailed.
	sendCommit(txn *meta.Txn)
	// keepAlive renews the lease once; it comes back by leaseKept, leaseFailed or leaseGone.
	keepAlive()
	// wake asks for a tick at the time, at the latest.
	wake(at time.Time)
	// committed tells that the records of this node have changed.
	committed()
	// letGo tells that partitions were let go for another node, and since when the first of them had taken nothing.
	letGo(partitions int, since time.Time)
	// tookOver tells that partitions are led that somebody led before, and when that was first asked for.
	tookOver(partitions int, since time.Time)
	// changed tells that leadership or a high watermark may have changed.
	changed()
	// troubled tells what has begun to hold writes back; "" tells that nothing does any more.
	troubled(cause string)
	// end ends the incarnation with its cause.
	end(cause error)
}

// logIndex is the committed log as etcd has it, at one revision; *meta.Follower is one.
type logIndex interface {
	Revision() meta.Revision
	TopicsRevision() meta.Revision
	TopicByID(id meta.TopicID) (meta.Topic, bool)
	Assignment(node meta.NodeID) (meta.Assignment, bool)
	Start(p meta.Partition) int64
	End(p meta.Partition) int64
	Producers(p meta.Partition) []meta.L0Producer
	Hole(p meta.Partition) error
	// Lost lists the offsets that were given up with a disk, ascending. No record stands there, and the log goes on behind.
	Lost(p meta.Partition) []meta.OffsetRange
	// Released tells whether the node has let a partition go at this epoch, ReleasedBy lists all of them; shared, read only.
	Released(node meta.NodeID, p meta.Partition, epoch meta.Epoch) bool
	ReleasedBy(node meta.NodeID) map[meta.Partition]meta.Epoch
	// LetGo tells whether the node ought to let a partition go that it leads at this epoch; LetGoRevision goes up whenever an answer
	// may have changed.
	LetGo(node meta.NodeID, p meta.Partition, epoch meta.Epoch) bool
	LetGoRevision() meta.Revision
}

// indexedBy are partitions whose committed end the index shows from a revision on.
type indexedBy struct {
	revision meta.Revision
	ends     map[meta.Partition]int64
	from     wal.LSN // where the log has the first of them
}

// newCore makes the core of an incarnation that is registered. index is at or above its registration.
func newCore(s coreSettings, out outside, index logIndex, keys meta.Keys, guards meta.Guards, l *lease) *core {
	c := &core{
		settings: s, outside: out, index: index, lease: l,
		partitions: make(map[meta.Partition]*partition),
		tail:       newTail(s.tailBytes),
		flush:      flusher{settings: s.flush},
		admission:  admission{limits: s.admission},
		leaving:    make(map[meta.Partition]meta.Epoch),
		unreplayed: make(map[meta.Partition][]*entry),
	}
	c.commit = committer{
		keys: keys, node: s.node, disk: s.disk, incarnation: s.incarnation, leaving: c, guards: guards, numbers: make(map[meta.Seq]bool),
		released: index.ReleasedBy(s.node),
	}
	if mutant.Built {
		c.remembered = make(map[meta.Partition]*partition)
	}
	c.fetch = fetcher{view: c, byPartition: make(map[meta.Partition][]fetchWait)}
	return c
}

// produce takes a validated batch. The caller is answered by call.done.
func (c *core) produce(id meta.Partition, call *produceCall, now time.Time) {
	if c.refuseEnded(call) {
		return
	}
	call.id = id
	if c.isComing(id) {
		c.waitForLead(call, now)
	} else {
		c.take(call, now)
	}
	c.settle(now)
}

// take appends a batch, or has it wait for room.
func (c *core) take(call *produceCall, now time.Time) {
	_, leaves := c.leaving[call.id] // it only wants its answer, and waits for no room
	admitted, refused := true, (*Error)(nil)
	if !leaves {
		admitted, refused = c.admission.offer(call, now, c.cause)
	}
	switch {
	case refused != nil:
		call.done(ProduceResult{}, refused)
	case admitted:
		c.append(call, now)
	}
}

func (c *core) refuseEnded(call *produceCall) bool {
	if !c.draining && !c.ended {
		return false
	}
	call.done(ProduceResult{}, Errorf(ReasonShuttingDown, "the node is stopping; nothing of this request was taken"))
	return true
}

func (c *core) append(call *produceCall, now time.Time) {
	p := c.partitions[call.id]
	if p == nil {
		call.done(ProduceResult{}, c.notLed(call.id, call.request.Topic))
		return
	}
	c.effects.reset()
	c.stepPartition(p, produced{call: call})
	if c.effects.appended {
		b := call.batch
		e := &entry{
			partition: p.id, epoch: p.epoch, base: b.BaseOffset(), next: b.NextOffset(), size: len(b),
			appendTime: now.UnixMilli(), maxTimestamp: b.MaxTimestamp(), batch: b,
			waitsObject: p.durability == meta.DurabilityObject, call: call,
		}
		c.admission.unlogged += int64(e.size)
		c.gather(e, now)
		c.outside.appendLog(e, !e.waitsObject)
	} else {
		call.drop() // it is refused, or a retry of what is in the log
	}
	c.deliver(p)
}

// gather takes a batch that has its offsets into the tail and towards the next object.
func (c *core) gather(e *entry, now time.Time) {
	c.tail.append(e)
	c.unflushed.push(e)
	if e.waitsObject {
		c.objectWaiting++
	}
	c.admission.taken(e.size)
	c.flush.Step(gatheredBatch{bytes: e.size, waitsObject: e.waitsObject, now: now})
}

// notLed says why a partition is not led here.
func (c *core) notLed(id meta.Partition, topic string) *Error {
	known, ok := c.index.TopicByID(id.Topic)
	if !ok {
		return Errorf(ReasonUnknownTopic, "topic %s does not exist any more: create it with tidemark topic create", topic)
	}
	if id.Partition < 0 || id.Partition >= known.Partitions {
		return Errorf(ReasonUnknownPartition, "topic %s has no partition %d: it has %d, from 0", topic, id.Partition, known.Partitions)
	}
	if err := c.index.Hole(id); err != nil {
		return Errorf(ReasonCorruptData, "topic %s partition %d: %w", topic, id.Partition, err)
	}
	if c.commit.hasReleased(id, c.assignment.Epochs[id]) {
		return movingAway(topic, id.Partition)
	}
	return Errorf(ReasonNotLeader, "node %s does not lead topic %s partition %d", c.settings.node, topic, id.Partition).WithRetryAfter(100 * time.Millisecond)
}

// logWritten: the log file has these entries, each where at says, and ends at end.
func (c *core) logWritten(entries []*entry, at []wal.LSN, end wal.LSN, now time.Time) {
	if c.ended {
		return
	}
	c.setCause(&c.logCause, "")
	c.logEnd = end
	for i, e := range entries {
		e.at, e.inLog = at[i], true
		c.admission.unlogged -= int64(e.size)
		if e.call != nil {
			e.call.drop()
			e.call = nil
		}
		if e.dropped {
			continue
		}
		c.logOrder.push(e)
		if !e.waitsObject {
			c.unsynced.push(e)
		}
		if p := c.partitions[e.partition]; p != nil && p.epoch == e.epoch {
			c.effects.reset()
			c.stepPartition(p, logWritten{end: e.next})
			c.deliver(p)
		}
	}
	c.settle(now)
}

// logSynced: everything in the log below end is on the disk.
func (c *core) logSynced(end wal.LSN, now time.Time) {
	if c.ended {
		return
	}
	c.logSyncEnd = max(c.logSyncEnd, end)
	// This event may be older than a long pause of the whole process: look at the lease before anybody is promised anything.
	c.leaseStep(leaseTick{now: now}, now)
	if c.ended {
		return
	}
	if c.lease.stale {
		// Somebody may have told the cluster to forget this node; a promise that rests on this disk alone must wait.
		c.heldSync = max(c.heldSync, end)
		return
	}
	c.releaseSynced(end)
	c.settle(now)
}

func (c *core) releaseSynced(end wal.LSN) {
	for c.unsynced.len() > 0 && (*c.unsynced.peek()).at < end {
		e := c.unsynced.pop()
		if p := c.partitions[e.partition]; p != nil && p.epoch == e.epoch && !e.dropped {
			c.effects.reset()
			c.stepPartition(p, logSynced{end: e.next})
			c.deliver(p)
		}
	}
}

// logStalled: the log takes nothing for now; it is tried again.
func (c *core) logStalled(cause error) {
	c.setCause(&c.logCause, "the disk of the node: "+cause.Error())
}

// setCause notes what holds writes back, or that it does no more, and tells who runs the node of each change, once: the same
// trouble in other words, as every attempt may have them, is none.
func (c *core) setCause(of *string, cause string) {
	news := (*of == "") != (cause == "")
	*of = cause
	if !news || c.ended {
		return
	}
	if cause == "" && c.logCause+c.metaCause+c.storeCause != "" {
		return // something else still does
	}
	c.outside.troubled(cause)
}

func (c *core) leaseStep(event leaseEvent, now time.Time) {
	if c.ended {
		return
	}
	wasStale := c.lease.stale
	out := c.lease.Step(event)
	if out.lost {
		c.end(&lostError{cause: fmt.Errorf("node %s: its lease in etcd is gone", c.settings.node)})
		return
	}
	if out.send {
		c.outside.keepAlive()
	}
	if !out.wake.IsZero() {
		c.outside.wake(out.wake)
	}
	if wasStale && !out.stale && c.heldSync > 0 {
		c.releaseSynced(c.heldSync)
		c.heldSync = 0
		c.settle(now)
	}
}

// tick: time has passed.
func (c *core) tick(now time.Time) {
	if c.ended {
		return
	}
	c.leaseStep(leaseTick{now: now}, now)
	if c.ended {
		return
	}
	if !c.retryAt.IsZero() {
		if now.Before(c.retryAt) {
			c.outside.wake(c.retryAt)
		} else {
			c.retryAt = time.Time{}
			c.stepCommit(commitRetry{}, now)
		}
	}
	c.wakeFetch(c.fetch.Step(fetchTick{now: now}))
	c.settle(now)
}

// settle runs what follows from any event: parked produces, due cuts, eviction.
func (c *core) settle(now time.Time) {
	c.lookLetGo(now)
	c.settleComing(now)
	for {
		call, ok := c.admission.next()
		if !ok {
			break
		}
		c.append(call, now)
	}
	for {
		call, at := c.admission.expired(now)
		if call == nil {
			if !at.IsZero() {
				c.outside.wake(at)
			}
			break
		}
		call.done(ProduceResult{}, backPressure(c.cause()))
	}
	for !c.ended {
		due, at := c.flush.due(now)
		if !due {
			if !at.IsZero() {
				c.outside.wake(at)
			}
			break
		}
		c.cut(now)
	}
	c.tail.evict()
}

// drain takes no more produces and sends everything on its way; drained tells when it has arrived.
func (c *core) drain(now time.Time) {
	c.draining = true
	for c.admission.parked.len() > 0 {
		c.refuseEnded(c.admission.unpark())
	}
	for c.coming.len() > 0 {
		c.refuseEnded(c.unparkComing())
	}
	c.flush.Step(flushForced{})
	c.askLetGo() // what the index shows by now counts, whether or not it has been told already
	c.settle(now)
}

// drained tells whether everything is committed that was taken. What is to be let go has its turn after that; see left.
func (c *core) drained() bool {
	return c.ended || (c.unflushed.len() == 0 && c.commit.pending() == 0 && !c.commit.sent)
}

// cause names what holds the node back, for people.
func (c *core) cause() string {
	for _, cause := range []string{c.logCause, c.metaCause, c.storeCause} {
		if cause != "" {
			return cause
		}
	}
	if c.admission.full {
		return "this node has as many objects as it can keep an index of: delete topics, nothing compacts yet"
	}
	if c.admission.unlogged >= c.admission.limits.unlogged {
		return "the disk of the node writes slower than producers send"
	}
	return "the object store takes objects slower than producers send"
}

// end ends the incarnation. Everyone who waits is told that the outcome is not known: what has offsets is in the log on
// disk, and the next incarnation may commit it.
func (c *core) end(cause error) {
	if c.ended {
		return
	}
	c.ended = true
	unknown := Errorf(ReasonOutcomeUnknown, "the node had to begin anew before it knew whether this batch is in the log (%v); only an idempotent producer may repeat it", cause).
		WithRetryAfter(time.Second)
	for _, id := range sortedPartitions(c.partitions) {
		c.effects.reset()
		c.stepPartition(c.partitions[id], leadershipLost{cause: unknown})
		for _, a := range c.effects.answers {
			a.deliver()
		}
	}
	for c.admission.parked.len() > 0 {
		call := c.admission.unpark()
		call.done(ProduceResult{}, Errorf(ReasonUnavailable, "the node begins anew (%v); nothing of this request was taken", cause).WithRetryAfter(time.Second))
	}
	for c.coming.len() > 0 {
		call := c.unparkComing()
		call.done(ProduceResult{}, Errorf(ReasonUnavailable, "the node begins anew (%v); nothing of this request was taken", cause).WithRetryAfter(time.Second))
	}
	c.fetch.Step(fetchEnded{cause: Errorf(ReasonUnavailable, "the node begins anew: %v", cause).WithRetryAfter(time.Second)})
	c.outside.end(cause)
}

func (c *core) stepPartition(p *partition, event partitionEvent) {
	if err := p.Step(event, &c.effects); err != nil {
		panic(fmt.Sprintf("partition refused %T: %v", event, err)) // only replayed may
	}
}

// deliver performs the effects of a partition's step.
func (c *core) deliver(p *partition) {
	for _, a := range c.effects.answers {
		a.deliver()
	}
	if c.effects.advanced {
		c.wakeFetch(c.fetch.Step(fetchAdvanced{id: p.id}))
	}
}

// lostError says that the incarnation is over and another may begin.
type lostError struct{ cause error }

func (e *lostError) Error() string { return e.cause.Error() }
func (e *lostError) Unwrap() error { return e.cause }

// sortedPartitions gives the keys of a map in one order, so that the same events always do the same.
func sortedPartitions[V any](m map[meta.Partition]V) []meta.Partition {
	out := make([]meta.Partition, 0, len(m))
	for id := range m {
		out = append(out, id)
	}
	slices.SortFunc(out, func(a, b meta.Partition) int {
		if a.Topic == b.Topic {
			return int(a.Partition) - int(b.Partition)
		}
		return bytes.Compare(a.Topic[:], b.Topic[:])
	})
	return out
}
