package ingest

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
)

// groupActor is one group in use: a mailbox, and a goroutine that owns everything below it.
//
//	calls ──► mailbox ──► machine ──► replies
//	                 │       └─ Store ─┐
//	                 └─ commits ───────┴─► the next write ──► etcd, one at a time ──► mailbox
//
// The offsets here are those that are durable: a write builds new ones from them, and they take their place when it is done.
// The maps of a topic are never changed, so that readers may keep them.
type groupActor struct {
	owner *Groups
	name  string
	seat  GroupSeat

	ctx    context.Context //nolint:containedctx // the life of the actor
	cancel context.CancelFunc

	// topicsSeen is the topics' revision of the index that the actor was told about last.
	topicsSeen atomic.Int64

	// listing is what ListGroups says of the group; nil while it is being claimed.
	listing atomic.Pointer[GroupListing]

	mu        sync.Mutex
	mailbox   []groupCall
	mailBytes int    // of calls whose callers still wait for them to be taken
	counted   bool   // out, as a whole: the actor has ended
	closed    *Error // why calls are not taken any more
	ready     chan struct{}

	// The goroutine's.
	machine *group.Group
	claim   meta.GroupClaim
	state   meta.GroupState
	offsets map[meta.TopicID]groupTopic
	waiting map[group.Token]func(group.Reply)
	memory  int // of the machine, as it is counted in owner.memberBytes
	wakeAt  time.Time
	used    time.Time // of the last call
	ended   *Error    // nothing more happens here

	groupWriter
}

// groupTopic is what a group has committed in one topic.
type groupTopic struct {
	offsets meta.GroupOffsets
	bytes   int // as meta.GroupOffset.Size counts
}

// groupCall is something for the actor to do. One of the two is called, once, on the actor's goroutine or, when the actor has ended, on
// that of the caller; neither blocks. fail may be nil.
type groupCall struct {
	run  func(now time.Time)
	fail func(cause *Error)
	// bytes is what the mailbox counts until free is called with it.
	bytes int
}

func newGroupActor(g *Groups, name string, seat GroupSeat) *groupActor {
	a := &groupActor{
		owner: g, name: name, seat: seat, ready: make(chan struct{}, 1),
		offsets: make(map[meta.TopicID]groupTopic), waiting: make(map[group.Token]func(group.Reply)),
	}
	a.ctx, a.cancel = context.WithCancel(seat.Context)
	a.topicsSeen.Store(seat.Index.TopicsRevision())
	return a
}

// post hands the actor something to do.
func (a *groupActor) post(c groupCall) {
	a.mu.Lock()
	closed := a.closed
	switch {
	case closed != nil:
	case c.fail != nil && (len(a.mailbox) >= maxMailbox || c.bytes > 0 && a.mailBytes > 0 && a.mailBytes+c.bytes > maxMailboxBytes):
		closed = Errorf(ReasonBackPressure, "too many calls wait for group %q; try again later", a.name).WithRetryAfter(time.Second)
	case c.bytes > 0 && a.owner.mailBytes.Load() > maxMailboxesBytes:
		closed = Errorf(ReasonBackPressure, "the calls that wait for groups of this node take more than %d MiB; try again later",
			maxMailboxesBytes>>20).WithRetryAfter(time.Second)
	default:
		a.mailbox = append(a.mailbox, c)
		a.mailBytes += c.bytes
		a.owner.mailBytes.Add(int64(c.bytes))
	}
	a.mu.Unlock()
	if closed != nil {
		if c.fail != nil {
			c.fail(closed)
		}
		return
	}
	notify(a.ready)
}

// free counts bytes of a call out of the mailbox.
func (a *groupActor) free(bytes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.counted {
		return
	}
	a.mailBytes -= bytes
	a.owner.mailBytes.Add(int64(-bytes))
}

// postUnlessLeft is post for a caller that may leave before the actor takes the call, which it says by leave. Then neither run nor fail is called,
// and what they hold goes at once.
func (a *groupActor) postUnlessLeft(c groupCall) (leave func()) {
	var slot atomic.Pointer[groupCall]
	slot.Store(&c)
	bytes := c.bytes
	a.post(groupCall{
		bytes: bytes,
		run: func(now time.Time) {
			if c := slot.Swap(nil); c != nil {
				a.free(bytes)
				c.run(now)
			}
		},
		fail: func(cause *Error) { // it is not in the mailbox, or the mailbox is no more
			if c := slot.Swap(nil); c != nil {
				c.fail(cause)
			}
		},
	})
	return func() {
		if slot.Swap(nil) != nil {
			a.free(bytes)
		}
	}
}

func (a *groupActor) take() []groupCall {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.mailbox
	a.mailbox = nil
	return out
}

// run is the actor.
func (a *groupActor) run() {
	defer a.cancel()
	stop := context.AfterFunc(a.owner.ctx, a.cancel)
	defer stop()
	clk := a.owner.config.Clock
	if err := a.begin(); err != nil {
		a.ended = groupMetaError("take over", a.name, err)
		a.finish()
		return
	}
	a.publish()
	timer := clk.NewTimer(0)
	defer timer.Stop()
	var armed time.Time
	for a.ended == nil {
		now := clk.Now()
		for _, c := range a.take() {
			a.handle(c, now)
		}
		a.writeNext(now)
		a.publish()
		if a.ended != nil {
			break
		}
		if !a.wakeAt.Equal(armed) {
			armed = a.wakeAt
			timer.Stop()
			if !armed.IsZero() {
				timer.Reset(max(armed.Sub(now), 0))
			}
		}
		select {
		case <-a.ready:
		case <-timer.C():
			armed, a.wakeAt = time.Time{}, time.Time{}
			a.step(clk.Now(), group.Tick{})
		case <-a.ctx.Done():
			a.end(notCoordinator(a.name, "this node gives it up"))
		}
	}
	a.finish()
}

// handle runs a call, or tells it that the group is being given up.
func (a *groupActor) handle(c groupCall, now time.Time) {
	switch {
	case a.ended != nil && c.fail != nil:
		c.fail(a.ended)
	case a.ended == nil:
		c.run(now)
	}
}

// begin claims the group and reads what the coordinators before have left. It gives up when etcd does not answer for long, so that what waits
// here is told, and does not wait for ever.
func (a *groupActor) begin() error {
	ctx, cancel := context.WithTimeout(a.ctx, groupPatience)
	defer cancel()
	claim, state, offsets, err := a.owner.config.Store.ClaimGroup(ctx, a.name, a.seat.Registration)
	if err != nil {
		return err
	}
	// A topic in which the group has committed is older than the claim. Once the index is there, one that it does not know is gone.
	if err := a.seat.Index.WaitFor(ctx, claim.Revision); err != nil {
		return fmt.Errorf("wait for the index to reach the claim: %w", err)
	}
	a.claim, a.state = claim, state
	for id, o := range offsets {
		t := groupTopic{offsets: o}
		for _, at := range o {
			t.bytes += at.Size()
		}
		a.set(id, t)
	}
	now := a.owner.config.Clock.Now()
	a.used, a.topicsDirty = now, true
	a.machine = group.New(a.name, group.Restored{Generation: state.Generation, Members: state.Members, At: now}, a.owner.limits)
	a.weigh(a.machine.Memory())
	a.owner.config.Logger.Debug("a group is coordinated here", "group", a.name, "epoch", claim.Epoch, "generation", state.Generation)
	return nil
}

// end tells everybody who waits, and ends the actor.
func (a *groupActor) end(cause *Error) {
	if a.ended != nil {
		return
	}
	a.ended = cause
	if a.machine != nil {
		a.perform(a.machine.Step(a.owner.config.Clock.Now(), group.Resign{}))
	}
	a.failWrites(cause)
}

// release gives the group up because it falls to another node. A write that is under way is waited for.
func (a *groupActor) release(cause *Error, now time.Time) {
	if a.releasing != nil {
		return
	}
	a.releasing = cause
	a.perform(a.machine.Step(now, group.Resign{}))
	a.failQueue(cause)
}

// set changes the durable offsets of a topic; without any it goes.
func (a *groupActor) set(id meta.TopicID, t groupTopic) {
	a.owner.bytes.Add(int64(t.bytes - a.offsets[id].bytes))
	if len(t.offsets) == 0 {
		delete(a.offsets, id)
		return
	}
	a.offsets[id] = t
}

// finish closes the mailbox behind the actor.
func (a *groupActor) finish() {
	for id := range a.offsets {
		a.set(id, groupTopic{})
	}
	a.weigh(0)
	a.owner.forget(a)
	a.mu.Lock()
	a.closed = a.ended
	rest := a.mailbox
	a.mailbox = nil
	a.owner.mailBytes.Add(int64(-a.mailBytes))
	a.mailBytes, a.counted = 0, true
	a.mu.Unlock()
	a.listing.Store(nil)
	for _, c := range rest {
		if c.fail != nil {
			c.fail(a.ended)
		}
	}
	for token, answer := range a.waiting {
		answer(group.Reply{Token: token, Err: group.ErrNotCoordinator})
	}
	clear(a.waiting)
	if a.farewell != nil {
		a.farewell(nil)
	}
}

// step steps the machine and does what it says.
func (a *groupActor) step(now time.Time, event group.Event) {
	before := a.machine.State()
	a.perform(a.machine.Step(now, event))
	if before != group.Empty && a.machine.State() == group.Empty {
		a.emptied = true
	}
}

func (a *groupActor) perform(e group.Effects) {
	for _, r := range e.Replies {
		if answer := a.waiting[r.Token]; answer != nil {
			delete(a.waiting, r.Token)
			answer(r)
		}
	}
	if e.Store != nil {
		a.snapshot = e.Store
	}
	a.wakeAt = e.Wake
	a.weigh(a.machine.Memory())
}

// weigh counts what the machine takes in memory.
func (a *groupActor) weigh(memory int) {
	a.owner.memberBytes.Add(int64(memory - a.memory))
	a.memory = memory
}

// reserve counts what the machine will take when it accepts an event, until the step counts what it does take. It refuses what would make it
// larger when the groups of the node together are as large as they may be.
func (a *groupActor) reserve(event group.Event) *Error {
	more := a.machine.Grows(event)
	if more == 0 {
		return nil
	}
	if total := a.owner.memberBytes.Add(int64(more)); total > maxMemberBytes {
		a.owner.memberBytes.Add(int64(-more))
		return Errorf(ReasonBackPressure, "group %q would take %d KiB more, and the members of the groups of this node take %d MiB of the %d that they may; try again later, "+
			"with fewer members or subscriptions of fewer partitions, or add a node", a.name, (more+1023)>>10, (total-int64(more))>>20, maxMemberBytes>>20).WithRetryAfter(5 * time.Second)
	}
	a.memory += more
	return nil
}

// topicsChanged looks at the topics anew.
func (a *groupActor) topicsChanged(now time.Time) {
	if a.releasing != nil {
		return
	}
	a.topicsDirty = true
	if names := a.machine.Topics(); len(names) > 0 {
		a.step(now, group.PartitionsChanged{Partitions: a.partitions(names)})
	}
}

// partitions is how many partitions topics have; 0 for those that are not there.
func (a *groupActor) partitions(names []string) map[string]int32 {
	out := make(map[string]int32, len(names))
	for _, name := range names {
		t, _ := a.seat.Index.Topic(name)
		out[name] = t.Partitions
	}
	return out
}

// sweep lets the group go when nobody has used it for long; it is claimed again when it is needed. One that keeps nothing is deleted.
func (a *groupActor) sweep(now time.Time) {
	if a.releasing != nil || a.machine.State() != group.Empty || a.busy() || now.Sub(a.used) < idleGroup {
		return
	}
	if a.state.Members > 0 {
		a.emptied = true // its members never came back; the next sweep lets go
		return
	}
	if len(a.offsets) == 0 {
		a.remove(now, func(*Error) {})
		return
	}
	a.mu.Lock()
	idle := len(a.mailbox) == 0
	if idle {
		a.closed = notCoordinator(a.name, "it was not used for long")
	}
	a.mu.Unlock()
	if idle {
		a.end(a.closed)
	}
}

// expire deletes the group when nobody has used it for longer than offsets are kept.
func (a *groupActor) expire(now time.Time) {
	age := now.Sub(time.UnixMilli(a.state.Changed))
	if a.releasing != nil || a.machine.State() != group.Empty || a.busy() || a.state.Members > 0 || age < OffsetsRetention {
		return
	}
	a.owner.config.Logger.Info("a group that nobody has used for long is deleted with its offsets", "group", a.name, "unused", age.Round(time.Hour).String())
	a.remove(now, func(*Error) {})
}

// snapshotOf is the state to store with a generation.
func snapshotOf(s *group.Snapshot, now time.Time) meta.GroupState {
	protocolType := s.ProtocolType
	if protocolType == "" {
		protocolType = nativeProtocolType
	}
	return meta.GroupState{
		Generation: s.Generation, ProtocolType: cutText(protocolType, 255), Protocol: cutText(s.Protocol, 255),
		Members: s.Members, Digest: hex.EncodeToString(s.Digest[:]), Changed: now.UnixMilli(),
	}
}

// publish lets ListGroups see how the group is now.
func (a *groupActor) publish() {
	if a.ended != nil {
		return
	}
	now := GroupListing{
		Name: a.name, State: a.machine.State(), Members: a.machine.Size(), ProtocolType: a.machine.ProtocolType(), Coordinator: a.seat.Registration.Node, Known: true,
	}
	if now.ProtocolType == "" && now.Members > 0 {
		now.ProtocolType = nativeProtocolType
	}
	if last := a.listing.Load(); last == nil || *last != now {
		a.listing.Store(&now)
	}
}

// nativeProtocolType is what the members that subscribe by this system's own services are called beside Kafka's.
const nativeProtocolType = "tidemark"

// committed are the durable offsets, by topic. The maps inside are shared and must not be changed.
func (a *groupActor) committed() map[meta.TopicID]meta.GroupOffsets {
	out := make(map[meta.TopicID]meta.GroupOffsets, len(a.offsets))
	for id, t := range a.offsets {
		out[id] = t.offsets
	}
	return out
}

// without is a copy of a topic's offsets that lacks one.
func (t groupTopic) without(partition int32, copied bool) groupTopic {
	if !copied {
		t.offsets = maps.Clone(t.offsets)
	}
	t.bytes -= t.offsets[partition].Size()
	delete(t.offsets, partition)
	return t
}

// with is a copy of a topic's offsets that takes one more.
func (t groupTopic) with(partition int32, o meta.GroupOffset, copied bool) groupTopic {
	if !copied {
		t.offsets = maps.Clone(t.offsets)
		if t.offsets == nil {
			t.offsets = make(meta.GroupOffsets, 1)
		}
	}
	if old, ok := t.offsets[partition]; ok {
		t.bytes -= old.Size()
	}
	t.bytes += o.Size()
	t.offsets[partition] = o
	return t
}
