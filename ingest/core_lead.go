package ingest

import (
	"time"

	"github.com/tidemark-io/tidemark/ingest/wal"
	"github.com/tidemark-io/tidemark/meta"
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
	if a, ok := c.index.Assignment(c.settings.node); ok && a.Revision > c.assignment.Revision {
		if c.newest == nil || a.Revision > c.newest.Revision {
			c.newest = &a
		}
	}
	if c.commit.idle() && c.applyAssignment() {
		c.stepCommit(assignmentRead{assignment: c.assignment})
	}
	c.leadAssigned()
	c.settle(now)
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
	if !c.leadDue || c.index.Revision() < c.assignment.Revision || c.assignment.Disk != c.settings.disk {
		return
	}
	c.leadDue = false
	for _, id := range sortedPartitions(c.assignment.Epochs) {
		if c.partitions[id] == nil {
			c.lead(id, c.assignment.Epochs[id])
		}
	}
}

func (c *core) lead(id meta.Partition, epoch meta.Epoch) {
	topic, ok := c.index.TopicByID(id.Topic)
	if !ok || c.index.Hole(id) != nil || c.index.Released(c.settings.node, id, epoch) {
		return
	}
	end := c.index.End(id)
	c.partitions[id] = newPartition(id, topic, epoch, c.index.Start(id), end, c.index.Producers(id))
	c.tail.lead(id, end)
	c.outside.changed()
}

// replay takes back a batch that recovery found in the log. Only before the first produce.
func (c *core) replay(id meta.Partition, epoch meta.Epoch, at wal.LSN, appendTime int64, b record.Batch, now time.Time) error {
	p := c.partitions[id]
	if p == nil && c.assignment.Epochs[id] == epoch {
		// Ours, but it cannot be led, say for a hole in its log. The log on disk is all there is of what was acknowledged:
		// it must outlive the mending.
		c.logOrder.push(&entry{partition: id, epoch: epoch, at: at, inLog: true})
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
