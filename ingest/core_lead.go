package ingest

import (
	"time"

	"github.com/tidemark-io/tidemark/ingest/wal"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/proof/mutant"
	"github.com/tidemark-io/tidemark/record"
)

// The core's leadership: what the index and the assignment make of it.

// indexAdvanced: the index has applied another revision.
func (c *core) indexAdvanced(now time.Time) {
	if c.ended {
		return
	}
	if c.coverIndexed() {
		c.trim()
	}
	c.tail.evict()
	if c.index.TopicsRevision() > c.topics {
		c.topics = c.index.TopicsRevision()
		c.leadDue = true
		c.configure()
	}
	if a, ok := c.index.Assignment(c.settings.node); ok {
		c.heardOf(&a, now)
	}
	if c.commit.idle() && c.applyAssignment() {
		c.stepCommit(assignmentRead{assignment: c.assignment}, now)
	}
	c.leadAssigned()
	c.askLetGo()
	c.settle(now)
}

// heardOf notes an assignment that is newer than what is known. It waits until no commit is under way.
func (c *core) heardOf(a *meta.Assignment, now time.Time) {
	if a.Revision <= c.assignment.Revision || c.newest != nil && a.Revision <= c.newest.Revision {
		return
	}
	if c.newest == nil && !c.leadDue {
		c.newestFrom = now
	}
	c.newest = a
	c.comingDue = true
}

// coverIndexed notes what the index shows by now, and tells whether that is more than before.
func (c *core) coverIndexed() bool {
	at := c.index.Revision()
	more := false
	for c.indexing.len() > 0 && c.indexing.peek().revision <= at {
		for id, end := range c.indexing.pop().ends {
			c.tail.covered(id, end)
		}
		more = true
	}
	return more
}

func (c *core) configure() {
	for _, p := range c.partitions {
		topic, ok := c.index.TopicByID(p.id.Topic)
		if !ok {
			continue // deleted; the assignment says so too
		}
		c.effects.reset()
		c.stepPartition(p, configured{durability: topic.Config.Durability, messageBytes: topic.Config.MaxMessageBytes})
		c.deliver(p)
	}
}

// applyAssignment makes the newest assignment the one that counts: what it does not name at the same epoch is lost at once.
// Only between commits.
func (c *core) applyAssignment() bool {
	if c.newest == nil || !c.commit.idle() {
		return false
	}
	if c.newest.Revision <= c.assignment.Revision {
		c.newest = nil
		return false
	}
	c.assignment, c.newest = *c.newest, nil
	for _, id := range sortedPartitions(c.partitions) {
		if p := c.partitions[id]; c.assignment.Epochs[id] != p.epoch {
			c.lose(p, c.lossOf(p))
		}
	}
	for _, e := range c.unflushed.live() {
		if e.dropped && !e.committed {
			c.admission.settled(e.size)
			e.committed = true // counted off, and no reason to keep the log; dropped keeps it out of the next cut
		}
	}
	for id, frames := range c.unreplayed {
		if c.assignment.Epochs[id] != frames[0].epoch {
			for _, e := range frames {
				e.committed = true
			}
			delete(c.unreplayed, id)
		}
	}
	c.stayed()
	c.leadDue = true
	c.leadAssigned()
	return true
}

func (c *core) lossOf(p *partition) *Error {
	if topic, ok := c.index.TopicByID(p.id.Topic); !ok || topic.ID != p.id.Topic {
		return Errorf(ReasonUnknownTopic, "topic %s was deleted meanwhile; this batch is not in the log", p.topic)
	}
	return Errorf(ReasonNotLeader, "node %s does not lead topic %s partition %d any more; this batch is not in the log", c.settings.node, p.topic, p.id.Partition).
		WithRetryAfter(100 * time.Millisecond)
}

func (c *core) lose(p *partition, cause *Error) {
	if mutant.On(mutant.K1) {
		c.remembered[p.id] = p
	}
	delete(c.partitions, p.id)
	c.tail.lose(p.id)
	c.effects.reset()
	c.stepPartition(p, leadershipLost{cause: cause})
	c.deliver(p)
	c.fetch.Step(fetchAdvanced{id: p.id})
	c.outside.changed()
}

// leadAssigned begins to lead what is assigned and not led, from an index that is at or above the assignment's revision.
func (c *core) leadAssigned() {
	if !c.leadDue || c.index.Revision() < c.assignment.Revision && !mutant.On(mutant.B3) {
		return
	}
	c.leadDue, c.comingDue, c.letGoDue = false, true, true
	over := 0
	for _, id := range sortedPartitions(c.assignment.Epochs) {
		epoch := c.assignment.Epochs[id]
		if c.partitions[id] != nil || !c.mayLead(id, epoch, c.assignment.Disk) {
			continue
		}
		c.lead(id, epoch)
		if epoch > 1 {
			over++
		}
	}
	if over > 0 && c.begun {
		c.outside.tookOver(over, c.newestFrom)
	}
}

// mayLead tells whether this incarnation may lead a partition at an epoch that it is assigned, with this disk. What was let go is
// not led again at the same epoch, also when this incarnation did not hear that an earlier one had. What the log on disk has of a partition was
// replayed when the incarnation began, or must be by the next one.
func (c *core) mayLead(id meta.Partition, epoch meta.Epoch, disk string) bool {
	_, known := c.index.TopicByID(id.Topic)
	if mutant.On(mutant.B6) {
		return known && disk == c.settings.disk && c.index.Hole(id) == nil
	}
	return known && disk == c.settings.disk && c.index.Hole(id) == nil && len(c.unreplayed[id]) == 0 &&
		!c.commit.hasReleased(id, epoch) && !c.index.Released(c.settings.node, id, epoch)
}

func (c *core) lead(id meta.Partition, epoch meta.Epoch) {
	topic, _ := c.index.TopicByID(id.Topic)
	end := c.index.End(id)
	if p := c.remembered[id]; p != nil {
		end = p.committed
		delete(c.remembered, id)
	}
	c.partitions[id] = newPartition(id, topic, epoch, c.index.Start(id), end, c.index.Producers(id))
	c.tail.lead(id, end)
	if c.leaving[id] == epoch {
		c.effects.reset()
		c.stepPartition(c.partitions[id], leaves{going: true})
	}
	c.outside.changed()
}

// isComing tells whether a partition is about to be led: the newest assignment that was heard of says so, and a commit is under
// way, or the index is a moment behind it.
func (c *core) isComing(id meta.Partition) bool {
	if c.partitions[id] != nil {
		return false
	}
	a := c.newest
	if a == nil && c.leadDue {
		a = &c.assignment
	}
	if a == nil {
		return false
	}
	epoch, ok := a.Epochs[id]
	return ok && c.mayLead(id, epoch, a.Disk)
}

// waitForLead has a produce wait until its partition is led, no longer than for room, and no more of them than for room.
func (c *core) waitForLead(call *produceCall, now time.Time) {
	if !c.admission.hold(len(call.batch)) {
		call.done(ProduceResult{}, c.notLed(call.id, call.request.Topic))
		return
	}
	c.coming.push(parkedCall{call: call, until: now.Add(c.settings.admission.delay)})
}

func (c *core) unparkComing() *produceCall {
	call := c.coming.pop().call
	c.admission.unhold(len(call.batch))
	return call
}

// settleComing takes, in order, what has waited for the lead of a partition that is led now, and refuses what waits in vain or for
// too long.
func (c *core) settleComing(now time.Time) {
	if c.comingDue {
		c.comingDue = false
		for range c.coming.len() {
			p := c.coming.pop()
			if c.isComing(p.call.id) {
				c.coming.push(p)
				continue
			}
			c.admission.unhold(len(p.call.batch))
			c.take(p.call, now)
		}
		for _, id := range sortedPartitions(c.fetch.byPartition) {
			c.fetch.Step(fetchAdvanced{id: id})
		}
	}
	for c.coming.len() > 0 {
		if until := c.coming.peek().until; now.Before(until) {
			c.outside.wake(until)
			return
		}
		call := c.unparkComing()
		call.done(ProduceResult{}, c.notLed(call.id, call.request.Topic))
	}
}

// replay takes back a batch that recovery found in the log. Only before the first produce.
func (c *core) replay(id meta.Partition, epoch meta.Epoch, at wal.LSN, appendTime int64, b record.Batch, now time.Time) error {
	p := c.partitions[id]
	if p == nil && c.assignment.Epochs[id] == epoch && !c.commit.hasReleased(id, epoch) {
		// Ours, but it cannot be led, say for a hole in its log. The log on disk is all there is of what was acknowledged:
		// it must outlive the mending.
		e := &entry{partition: id, epoch: epoch, at: at, inLog: true}
		c.logOrder.push(e)
		c.unreplayed[id] = append(c.unreplayed[id], e)
		return nil
	}
	if p == nil || p.epoch != epoch {
		return nil // written under another epoch, or for a topic that is gone: not ours to replay
	}
	c.effects.reset()
	if err := p.Step(replayed{batch: b}, &c.effects); err != nil {
		return err
	}
	if c.effects.appended {
		e := &entry{
			partition: id, epoch: epoch, base: b.BaseOffset(), next: b.NextOffset(), size: len(b), appendTime: appendTime,
			maxTimestamp: b.MaxTimestamp(), at: at, inLog: true, waitsObject: p.durability == meta.DurabilityObject,
		}
		c.logOrder.push(e)
		c.gather(e, now)
	}
	return nil
}
