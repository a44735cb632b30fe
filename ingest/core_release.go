package ingest

import (
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

// The core's way of letting partitions go, so that another node may lead them: stop, flush, release with the last commit, forget.
//
//	index: LetGo ──► leaving: takes nothing more ──► flushed at once ──► nothing uncommitted ──► release/<node> ──► lost
//
// A partition is let go with the transaction of its last commit, or with one that lets go alone when it has nothing to commit. While
// that transaction is in doubt the partition takes nothing and gives what it has to readers; after it, it is not led at this
// epoch any more, by no incarnation. A partition that cannot be led, say for a hole in its log, is let go only when the log on
// disk has nothing of it.

// begin: the log on disk is replayed. Nothing is let go before, for what is to be flushed is not known yet.
func (c *core) begin(now time.Time) {
	if c.ended {
		return
	}
	c.begun, c.letGoDue = true, true
	c.tick(now)
}

// askLetGo notes whether the index's wishes have changed.
func (c *core) askLetGo() {
	if at := c.index.LetGoRevision(); at > c.letGo {
		c.letGo, c.letGoDue = at, true
	}
}

// lookLetGo follows the index's wish which partitions are to be let go.
func (c *core) lookLetGo(now time.Time) {
	if c.ended || !c.begun || !c.letGoDue {
		return
	}
	c.letGoDue = false
	changed := make(map[meta.Partition]bool)
	for id, epoch := range c.assignment.Epochs {
		_, leaves := c.leaving[id]
		if wanted := c.mayLetGo(id, epoch) && c.index.LetGo(c.settings.node, id, epoch); wanted != leaves {
			changed[id] = wanted
		}
	}
	flush := false
	for _, id := range sortedPartitions(changed) {
		if _, sent := c.commit.releasing[id]; sent && !changed[id] {
			continue // too late: etcd may have it
		}
		if p := c.partitions[id]; p != nil {
			c.effects.reset()
			c.stepPartition(p, leaves{going: changed[id]})
			c.deliver(p)
			flush = flush || p.end > p.committed
		}
		if !changed[id] {
			delete(c.leaving, id)
			continue
		}
		if len(c.leaving) == 0 {
			c.leavingFrom = now
		}
		c.leaving[id] = c.assignment.Epochs[id]
	}
	if len(changed) == 0 {
		return
	}
	for _, call := range c.admission.pull(c.leaving) {
		c.append(call, now) // a retry of what has offsets waits for that, the others are refused
	}
	if flush {
		c.flush.Step(flushForced{})
	}
	c.stepCommit(leavingChanged{}, now)
}

// mayLetGo tells whether a partition can be let go at its epoch: it is led, or this is the disk that it was assigned and nothing of it is in
// the log there.
func (c *core) mayLetGo(id meta.Partition, epoch meta.Epoch) bool {
	if c.partitions[id] != nil {
		return true
	}
	return c.assignment.Disk == c.settings.disk && len(c.unreplayed[id]) == 0 && !c.commit.hasReleased(id, epoch)
}

// ready is what can be let go with the next transaction; see leavingView.
func (c *core) ready(ends func() map[meta.Partition]int64) map[meta.Partition]meta.Epoch {
	if len(c.leaving) == 0 {
		return nil
	}
	out := make(map[meta.Partition]meta.Epoch, len(c.leaving))
	committed := ends()
	for id, epoch := range c.leaving {
		if p := c.partitions[id]; p == nil || p.end == max(p.committed, committed[id]) {
			out[id] = epoch
		}
	}
	return out
}

// left: these partitions are let go.
func (c *core) left(released map[meta.Partition]meta.Epoch) {
	if len(released) == 0 {
		return
	}
	for _, id := range sortedPartitions(released) {
		delete(c.leaving, id)
		if p := c.partitions[id]; p != nil {
			c.lose(p, movingAway(p.topic, id.Partition))
		}
	}
	c.outside.letGo(len(released), c.leavingFrom)
}

// stayed forgets what was to be let go at an epoch that is not assigned any more.
func (c *core) stayed() {
	for id, epoch := range c.leaving {
		if c.assignment.Epochs[id] != epoch {
			delete(c.leaving, id)
		}
	}
}

// handedOver tells whether a node that is draining has let go what it is to.
func (c *core) handedOver() bool { return c.drained() && (c.ended || len(c.leaving) == 0) }

// movingAway refuses what comes for a partition that is or was let go.
func movingAway(topic string, partition int32) *Error {
	return Errorf(ReasonNotLeader, "topic %s partition %d is moving to another node; nothing of this request was taken", topic, partition).
		WithRetryAfter(50 * time.Millisecond)
}
