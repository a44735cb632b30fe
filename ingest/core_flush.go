package ingest

import (
	"slices"
	"time"

	"github.com/tidemark-io/tidemark/ingest/wal"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/proof/mutant"
)

// The core's way from batches to the log of the cluster: cut, upload, commit, trim.

// cut takes the oldest batches into an object, as many as one object holds.
func (c *core) cut(now time.Time) {
	var taken []*entry
	var batches []plannedBatch
	size := int64(0)
	for c.unflushed.len() > 0 && size < c.settings.flush.bytes {
		e := c.unflushed.pop()
		if e.waitsObject {
			c.objectWaiting--
		}
		if e.dropped {
			continue
		}
		size += int64(e.size)
		taken = append(taken, e)
		batches = append(batches, planned(e))
	}
	c.flush.Step(c.leftBehind(size, now))
	if len(taken) == 0 {
		c.flush.Step(uploadEnded{})
		return
	}
	job := &commitJob{number: c.commit.nextNumber(), entries: taken, cutAt: now}
	c.stepCommit(flushCut{job: job}, now)
	c.outside.upload(job, batches)
}

// leftBehind tells the flusher what a cut of size bytes leaves.
func (c *core) leftBehind(size int64, now time.Time) cutTaken {
	if c.unflushed.len() == 0 {
		return cutTaken{}
	}
	// An append time may lie ahead when the clock has gone back since; a batch is never younger than now.
	since := func(e *entry) time.Time {
		if at := time.UnixMilli(e.appendTime); at.Before(now) {
			return at
		}
		return now
	}
	out := cutTaken{left: max(c.flush.gathered-size, 1), oldestAny: since(*c.unflushed.peek())}
	if c.objectWaiting == 0 {
		return out
	}
	for _, e := range c.unflushed.live() {
		if e.waitsObject {
			out.oldestObject = since(e)
			break
		}
	}
	return out
}

func planned(e *entry) plannedBatch {
	return plannedBatch{bytes: e.batch, at: e.at, base: e.base, next: e.next, size: e.size, appendTime: e.appendTime, id: e.partition, epoch: e.epoch}
}

// uploaded: the object of a job is in the store; the job has its record.
func (c *core) uploaded(job *commitJob, now time.Time) {
	if c.ended {
		return
	}
	c.setCause(&c.storeCause, "")
	if !job.isFold() {
		c.flush.Step(uploadEnded{})
	}
	c.stepCommit(objectStored{job: job}, now)
	c.settle(now)
}

// uploadFailing: the store does not take an object for now; it is tried again.
func (c *core) uploadFailing(cause error) {
	c.setCause(&c.storeCause, "the object store: "+cause.Error())
}

// commitAnswered: etcd answered the transaction.
func (c *core) commitAnswered(result meta.TxnResult, now time.Time) {
	if c.ended {
		return
	}
	c.setCause(&c.metaCause, "")
	c.stepCommit(commitAnswered{result: result, now: now}, now)
	c.settle(now)
}

// commitFailed: the transaction's outcome is unknown.
func (c *core) commitFailed(err error, now time.Time) {
	if c.ended {
		return
	}
	c.setCause(&c.metaCause, "etcd: "+err.Error())
	c.stepCommit(commitFailed{err: err, now: now}, now)
}

// foldNumber gives a number to an object that a fold is about to write.
func (c *core) foldNumber() meta.Seq {
	number := c.commit.nextNumber()
	if mutant.On(mutant.C5) {
		delete(c.commit.numbers, number)
	}
	return number
}

// foldAbandoned: a fold came to nothing.
func (c *core) foldAbandoned(number meta.Seq, now time.Time) {
	if c.ended {
		return
	}
	c.stepCommit(foldAbandoned{number: number}, now)
}

// recordsFull tells whether the node has as many L0 records as it may. Folds keep it from that up to some terabytes; beyond,
// produces wait for compaction or for topics to be deleted.
func (c *core) recordsFull(full bool, now time.Time) {
	if c.ended || full == c.admission.full {
		return
	}
	c.admission.full = full
	c.settle(now)
}

func (c *core) stepCommit(event commitEvent, now time.Time) {
	out, err := c.commit.Step(event, uint64(c.logSyncEnd))
	for {
		if err != nil {
			c.end(err)
			return
		}
		if out.send != nil {
			c.outside.sendCommit(out.send)
		}
		if out.abandoned != nil {
			c.abandon(out.abandoned)
		}
		if !out.retryAt.IsZero() {
			c.retryAt = out.retryAt
			c.outside.wake(out.retryAt)
		}
		switch {
		case out.lost != nil:
			c.end(&lostError{cause: out.lost})
			return
		case out.assignment != nil:
			c.heardOf(out.assignment, now)
		case out.done != nil:
			c.jobDone(out)
		default:
			if !c.commit.idle() {
				return
			}
		}
		// Between two transactions: the one moment at which an assignment may change what is led.
		if applied := c.applyAssignment(); applied {
			out, err = c.commit.Step(assignmentRead{assignment: c.assignment}, uint64(c.logSyncEnd))
			continue
		}
		if out.done == nil && out.assignment == nil {
			return
		}
		out, err = c.commit.nudge(uint64(c.logSyncEnd))
	}
}

// abandon gives up a job whose commit is taken for failed, and what came after it: only a mutant does.
func (c *core) abandon(job *commitJob) {
	for _, e := range job.entries {
		if p := c.partitions[e.partition]; p != nil && p.epoch == e.epoch {
			c.lose(p, c.lossOf(p))
			c.lead(e.partition, e.epoch)
		}
	}
}

func (c *core) jobDone(out commitEffects) {
	job := out.done
	ends := endsOf(job.entries, out.excluded)
	for _, e := range job.entries {
		c.admission.settled(e.size)
		e.committed = true
	}
	for _, id := range sortedPartitions(ends) {
		p := c.partitions[id]
		if p == nil {
			continue
		}
		c.effects.reset()
		c.stepPartition(p, committedTo{end: ends[id]})
		c.deliver(p)
	}
	if out.revision > 0 {
		if len(ends) > 0 {
			c.indexing.push(indexedBy{revision: out.revision, ends: ends, from: c.oldestOf(job.entries)})
			c.coverIndexed()
		}
		if job.committed != nil {
			job.committed <- out.revision
		}
		if !job.isRelease() {
			c.outside.committed()
		}
	}
	c.left(out.released)
	c.endFlushWaits()
	c.trim()
}

// trim lets the log go up to the oldest batch that is not committed, or that the index does not show yet: until it does, a
// reader finds the batch only here.
func (c *core) trim() {
	below := c.logEnd
	for c.logOrder.len() > 0 {
		if e := *c.logOrder.peek(); !e.committed {
			below = e.at
			break
		}
		c.logOrder.pop()
	}
	for _, x := range c.indexing.live() {
		below = min(below, x.from)
	}
	c.outside.trimLog(below)
}

// oldestOf is where the log has the first of some batches; what it does not have yet stands at its end or behind.
func (c *core) oldestOf(entries []*entry) wal.LSN {
	oldest := c.logEnd
	for _, e := range entries {
		if e.inLog {
			oldest = min(oldest, e.at)
		}
	}
	return oldest
}

// flushTopic sends everything on its way and closes done when what the topic has taken so far is committed.
func (c *core) flushTopic(id meta.TopicID, done chan struct{}, now time.Time) {
	ends := make(map[meta.Partition]int64)
	for p, state := range c.partitions {
		if p.Topic == id && state.end > state.committed {
			ends[p] = state.end
		}
	}
	wait := flushWait{ends: ends, done: done}
	for p := range c.unreplayed {
		if p.Topic == id {
			wait.unreplayed = append(wait.unreplayed, p)
		}
	}
	c.flushWaits = append(c.flushWaits, wait)
	c.flush.Step(flushForced{})
	c.settle(now)
	c.endFlushWaits()
}

// flushWait is somebody who waits for commits; partitions that are lost meanwhile are not waited for.
type flushWait struct {
	ends map[meta.Partition]int64
	// unreplayed are partitions that cannot be led, of which the log on disk has what nobody else may have: as long as it has, nothing of
	// the topic is flushed.
	unreplayed []meta.Partition
	done       chan struct{}
}

func (c *core) endFlushWaits() {
	c.flushWaits = slices.DeleteFunc(c.flushWaits, func(w flushWait) bool {
		for _, id := range w.unreplayed {
			if len(c.unreplayed[id]) > 0 {
				return false
			}
		}
		for id, end := range w.ends {
			if p := c.partitions[id]; p != nil && p.committed < end {
				return false
			}
		}
		close(w.done)
		return true
	})
}
