package ingest

import (
	"errors"
	"time"

	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
)

// Limits of what waits to be written, and of one write.
const (
	maxQueuedCommits = 10_000
	maxQueuedOffsets = 100_000
	maxQueuedBytes   = 4 << 20
	// maxWriteBytes leaves room below etcd's limit of a request.
	maxWriteBytes = 1 << 20
	// maxGroupTopics caps the topics in which a group has offsets.
	maxGroupTopics = 1000
)

// groupWriter is what a group has to write. One write is under way at a time; what comes meanwhile goes with the next one.
type groupWriter struct {
	// under is the write under way, nil when there is none.
	under *groupPlan
	// snapshot is the generation to be stored, until it is.
	snapshot *group.Snapshot
	queue    queue[*groupCommit]
	// queuedOffsets and queuedBytes are those of the queue.
	queuedOffsets, queuedBytes int
	// topicsDirty: offsets of topics that are gone may be there. emptied: that the members are gone is to be written.
	topicsDirty, emptied bool
	// removed is called when the group is deleted; nil when it is not being.
	removed func(*Error)
	// farewell is removed once the group is deleted, to be called when nobody finds the actor any more: whoever asks after that is told that there
	// is no such group.
	farewell func(*Error)
	// releasing is why nothing more is taken; the write under way is waited for.
	releasing *Error
}

// groupCommit is one commit on its way. Offsets are written in order; next is the first that no write holds yet.
type groupCommit struct {
	offsets []resolvedOffset
	next    int
	bytes   int
	errors  []*Error // one for each offset
	// done is called once, on the actor's goroutine, and does not block. With a cause nothing is known of those without an error.
	done func(errs []*Error, cause *Error)
}

// resolvedOffset is an offset of a topic that was there when the commit came.
type resolvedOffset struct {
	at        int // in groupCommit.errors
	topic     meta.TopicID
	name      string
	partition int32
	forget    bool // what is committed, if anything is, is removed
	meta.GroupOffset
}

// groupPlan is a write and what it carries.
type groupPlan struct {
	write    meta.GroupWrite
	topics   map[meta.TopicID]groupTopic
	commits  []*groupCommit // answered when it is done
	snapshot *group.Snapshot
}

// busy tells whether anything waits to be written.
func (w *groupWriter) busy() bool {
	return w.under != nil || w.snapshot != nil || w.queue.len() > 0 || w.removed != nil || w.emptied
}

// enqueue takes a commit, or refuses it when too much waits.
func (a *groupActor) enqueue(c *groupCommit) {
	if a.removed != nil {
		c.done(nil, notCoordinator(a.name, "it is being deleted"))
		return
	}
	if len(c.offsets) == 0 {
		c.done(c.errors, nil)
		return
	}
	for _, o := range c.offsets {
		c.bytes += o.Size()
	}
	if n := a.queue.len(); n > 0 && (n >= maxQueuedCommits || a.queuedOffsets+len(c.offsets) > maxQueuedOffsets || a.queuedBytes+c.bytes > maxQueuedBytes) {
		c.done(nil, Errorf(ReasonBackPressure, "too many commits of group %q wait for etcd; commit again later", a.name).WithRetryAfter(time.Second))
		return
	}
	a.queue.push(c)
	a.queuedOffsets += len(c.offsets)
	a.queuedBytes += c.bytes
}

func (a *groupActor) dequeue() *groupCommit {
	c := a.queue.pop()
	a.queuedOffsets -= len(c.offsets)
	a.queuedBytes -= c.bytes
	return c
}

// writeNext sends the next write, if none is under way and there is something to write.
func (a *groupActor) writeNext(now time.Time) {
	if a.ended != nil || a.under != nil {
		return
	}
	if a.releasing != nil {
		a.end(a.releasing)
		return
	}
	p := a.plan(now)
	if p == nil {
		return
	}
	a.under = p
	claim := a.claim
	a.owner.work.Go(func() {
		next, err := a.owner.config.Store.WriteGroup(a.ctx, claim, p.write)
		a.post(groupCall{run: func(now time.Time) { a.wrote(p, next, err, now) }})
	})
}

// plan gathers what is to be written now; nil when there is nothing.
//
// A generation is written with or after every commit that was let through before it, so that whoever begins in it begins at what they
// have committed. None is let through while it waits.
func (a *groupActor) plan(now time.Time) *groupPlan {
	p := &groupPlan{topics: make(map[meta.TopicID]groupTopic), write: meta.GroupWrite{State: a.state, Offsets: make(map[meta.TopicID]meta.GroupOffsets)}}
	changed := false
	if a.emptied && a.snapshot == nil {
		a.emptied = false
		if a.machine.CheckEmpty(now) == nil && a.state.Members > 0 {
			p.write.State.Members, p.write.State.Digest, p.write.State.Changed = 0, "", now.UnixMilli()
			changed = true
		}
	}
	a.planGone(p)
	changed = changed || len(p.topics) > 0
	bytes, before := 0, len(p.topics)
	for a.queue.len() > 0 && a.planCommit(p, *a.queue.peek(), &bytes) {
		p.commits = append(p.commits, a.dequeue())
	}
	if len(p.topics) > before {
		p.write.State.Changed, changed = now.UnixMilli(), true
	}
	if a.snapshot != nil && a.queue.len() == 0 {
		p.snapshot, changed = a.snapshot, true
		p.write.State = snapshotOf(a.snapshot, now)
	}
	if !changed && a.removed != nil && a.queue.len() == 0 {
		a.planRemoval(p)
		changed = true
	}
	for id, t := range p.topics {
		p.write.Offsets[id] = t.offsets
	}
	if changed {
		return p
	}
	p.answer()
	return nil
}

// planGone removes the offsets of topics that are gone.
func (a *groupActor) planGone(p *groupPlan) {
	if !a.topicsDirty {
		return
	}
	a.topicsDirty = false
	for id := range a.offsets {
		if _, there := a.seat.Index.TopicByID(id); there {
			continue
		}
		if len(p.topics) == meta.MaxGroupWriteTopics {
			a.topicsDirty = true
			return
		}
		p.topics[id] = groupTopic{}
	}
}

// topicsWith is in how many topics the group has offsets once a plan is written.
func (a *groupActor) topicsWith(p *groupPlan) int {
	count := len(a.offsets)
	for id := range p.topics {
		if _, known := a.offsets[id]; !known {
			count++
		}
	}
	return count
}

// planCommit puts as much of a commit into the plan as has room. True: all of it.
func (a *groupActor) planCommit(p *groupPlan, c *groupCommit, bytes *int) bool {
	for ; c.next < len(c.offsets); c.next++ {
		o := c.offsets[c.next]
		if _, there := a.seat.Index.TopicByID(o.topic); !there {
			c.errors[o.at] = Errorf(ReasonUnknownTopic, "topic %q was deleted", o.name)
			continue
		}
		t, planned := p.topics[o.topic]
		if !planned {
			var known bool
			if t, known = a.offsets[o.topic]; !known && !o.forget && a.topicsWith(p) >= maxGroupTopics {
				c.errors[o.at] = Errorf(ReasonTooLarge, "group %q has committed in %d topics, which is the most that a group can", a.name, maxGroupTopics)
				continue
			}
		}
		if o.forget {
			if _, ok := t.offsets[o.partition]; !ok {
				continue
			}
			if !planned && len(p.topics) >= meta.MaxGroupWriteTopics || *bytes > 0 && !planned && *bytes+t.bytes > maxWriteBytes {
				return false
			}
			if !planned {
				*bytes += t.bytes
			}
			p.topics[o.topic] = t.without(o.partition, planned)
			continue
		}
		after := t.bytes + o.Size()
		if old, ok := t.offsets[o.partition]; ok {
			after -= old.Size()
		} else if a.owner.bytes.Load() > maxOffsetBytes {
			c.errors[o.at] = Errorf(ReasonBackPressure, "the offsets of the groups of this node take more than %d MiB, and it takes no new partitions now; commit again later",
				maxOffsetBytes>>20).WithRetryAfter(5 * time.Second)
			continue
		}
		if after > meta.MaxGroupOffsetsBytes {
			c.errors[o.at] = Errorf(ReasonTooLarge, "the offsets of group %q in topic %q would take %d bytes with their metadata, at most %d are kept: commit less metadata",
				a.name, o.name, after, meta.MaxGroupOffsetsBytes)
			continue
		}
		grows := after
		if planned {
			grows -= t.bytes
		} else if len(p.topics) >= meta.MaxGroupWriteTopics {
			return false
		}
		if *bytes > 0 && *bytes+grows > maxWriteBytes {
			return false
		}
		*bytes += grows
		p.topics[o.topic] = t.with(o.partition, o.GroupOffset, planned)
	}
	return true
}

// planRemoval removes offsets, and with the last ones the group.
func (a *groupActor) planRemoval(p *groupPlan) {
	p.write.Delete = len(a.offsets) <= meta.MaxGroupWriteTopics
	for id := range a.offsets {
		if len(p.topics) == meta.MaxGroupWriteTopics {
			return
		}
		p.topics[id] = groupTopic{}
	}
}

// wrote takes the outcome of a write.
func (a *groupActor) wrote(p *groupPlan, next meta.GroupClaim, err error, now time.Time) {
	a.under = nil
	if err != nil {
		cause := groupMetaError("write", a.name, err)
		p.fail(cause)
		if errors.Is(err, meta.ErrTooLarge) { // that of etcd is lower than ours: nothing was written, but nothing else will be either
			cause = notCoordinator(a.name, cause.Message)
		}
		if cause.Reason != ReasonNotCoordinator {
			a.owner.config.Logger.Warn("a group is given up because it cannot be written", "group", a.name, "cause", err)
		}
		a.end(cause)
		return
	}
	a.claim, a.state = next, p.write.State
	for id, t := range p.topics {
		a.set(id, t)
	}
	p.answer()
	if p.snapshot != nil {
		a.snapshot = nil
		a.step(now, group.Stored{Generation: p.snapshot.Generation})
	}
	if p.write.Delete {
		a.farewell, a.removed = a.removed, nil
		a.end(notCoordinator(a.name, "it was deleted"))
	}
}

// answer tells the commits of a plan that they are durable.
func (p *groupPlan) answer() {
	for _, c := range p.commits {
		c.done(c.errors, nil)
	}
}

func (p *groupPlan) fail(cause *Error) {
	for _, c := range p.commits {
		c.done(nil, cause)
	}
}

// failQueue tells those whose commits were not sent.
func (a *groupActor) failQueue(cause *Error) {
	for a.queue.len() > 0 {
		a.dequeue().done(nil, cause)
	}
	if a.removed != nil && a.under == nil {
		a.removed(cause)
		a.removed = nil
	}
}

// failWrites tells everybody who waits for a write.
func (a *groupActor) failWrites(cause *Error) {
	if a.under != nil {
		a.under.fail(cause)
		a.under = nil
	}
	a.failQueue(cause)
}

// remove deletes the group, whose machine is dead already, after what was committed before. done is called once.
func (a *groupActor) remove(now time.Time, done func(*Error)) {
	a.step(now, group.Resign{})
	a.removed = done
}
