package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
)

// GroupJoined is the answer to a join.
type GroupJoined struct {
	group.JoinResult
	// Begin says where a subscribed member begins, for each partition of JoinResult.Assigned.
	Begin []GroupPosition
	// Members is how many the group has.
	Members int
}

// GroupPosition is a partition with what its group has committed.
type GroupPosition struct {
	Topic     string
	TopicID   meta.TopicID
	Partition int32
	// Committed is -1 when the group has committed nothing.
	Committed int64
}

// GroupCommit is a commit of offsets. With a negative generation and no member it comes from outside any generation, and is taken
// while the group has no members, as for Seek.
type GroupCommit struct {
	Group, MemberID, InstanceID string
	Generation                  int32
	Offsets                     []GroupCommitOffset
}

// GroupCommitOffset is one offset to commit.
type GroupCommitOffset struct {
	Topic string
	// TopicID, unless zero, is that of the topic which was read. When the name is another topic's the offset is refused.
	TopicID     meta.TopicID
	Partition   int32
	Offset      int64
	LeaderEpoch int32 // -1 when not known
	Metadata    string
}

// GroupListing is what a node knows of a group in use without asking anybody. While the group is being claimed only its name and coordinator are
// known.
type GroupListing struct {
	Name         string
	Coordinator  meta.NodeID
	Known        bool
	State        group.State
	Members      int
	ProtocolType string
}

// GroupView is a group as its coordinator has it.
type GroupView struct {
	group.Description
	Coordinator meta.NodeID
	// Epoch is the coordinator epoch.
	Epoch int64
	// Offsets are durable. They are shared, and must not be changed.
	Offsets map[meta.TopicID]meta.GroupOffsets
}

// Join makes a member, or has one join again, and waits until the rebalance that it belongs to is complete and durable: at most for
// the longest rebalance timeout of the group. The caller's member id, token and partitions of topics are filled in. With MEMBER_ID_REQUIRED
// the answer has the member id. When ctx ends before Join returns, it fails, the join is taken back, and a member whose id nobody can know goes at
// once: one that joined without member id and instance id.
func (g *Groups) Join(ctx context.Context, name string, join group.Join) (GroupJoined, error) {
	if g.joins.Add(1) > maxWaitingJoins {
		g.joins.Add(-1)
		return GroupJoined{}, Errorf(ReasonBackPressure, "%d members wait to join on this node already; join again later", maxWaitingJoins).WithRetryAfter(time.Second)
	}
	defer g.joins.Add(-1)
	id, err := g.newMemberID(join.ClientID)
	if err != nil {
		return GroupJoined{}, Errorf(ReasonInternal, "%w", err)
	}
	join.NewMemberID = id
	a, refused := g.find(ctx, name, createAbsent)
	if refused != nil {
		return GroupJoined{}, refused
	}
	unnamed := join.MemberID == "" && join.InstanceID == ""
	takeBack := func(id string) {
		if unnamed && id != "" {
			a.disown(id)
		}
	}
	var joined GroupJoined
	err = g.ask(ctx, a, joinBytes(join), func(now time.Time, token group.Token) group.Event {
		join.Token = token
		if join.Subscription != nil {
			subscription := *join.Subscription
			subscription.Partitions = a.partitions(subscription.Topics)
			join.Subscription = &subscription
		}
		return join
	}, func(r group.Reply) {
		if r.Join == nil {
			return
		}
		joined.JoinResult = *r.Join
		joined.Members = a.membersOf(r.Join.Generation)
		joined.Begin = a.positions(r.Join.Assigned)
	}, func(r group.Reply) {
		if r.Join != nil {
			takeBack(r.Join.MemberID)
		}
	})
	if ctx.Err() != nil && joined.MemberID != "" { // it was answered, and nobody is there to hear it
		takeBack(joined.MemberID)
		return GroupJoined{}, callerGone(ctx, fmt.Sprintf("join group %q", name))
	}
	return joined, err
}

// disown takes out a member whose id nobody was told.
func (a *groupActor) disown(id string) {
	token := group.Token(a.owner.tokens.Add(1))
	a.post(groupCall{run: func(now time.Time) {
		if a.releasing == nil {
			a.step(now, group.Leave{Token: token, Members: []group.LeavingMember{{MemberID: id}}})
		}
	}})
}

// membersOf is how many members a generation has. That of the last one is stored; counting them for every answer would take the square of
// their number.
func (a *groupActor) membersOf(generation int32) int {
	if generation == a.state.Generation {
		return a.state.Members
	}
	return len(a.machine.Describe().Members)
}

// positions says what is committed for partitions.
func (a *groupActor) positions(partitions []group.TopicPartition) []GroupPosition {
	out := make([]GroupPosition, 0, len(partitions))
	for _, p := range partitions {
		topic, there := a.seat.Index.Topic(p.Topic)
		if !there {
			continue // gone since; a rebalance follows
		}
		at := GroupPosition{Topic: p.Topic, TopicID: topic.ID, Partition: p.Partition, Committed: -1}
		if o, ok := a.offsets[topic.ID].offsets[p.Partition]; ok {
			at.Committed = o.Offset
		}
		out = append(out, at)
	}
	return out
}

// Sync gives a protocol member its assignment.
func (g *Groups) Sync(ctx context.Context, name string, request group.Sync) (group.SyncResult, error) {
	a, refused := g.findMember(ctx, name)
	if refused != nil {
		return group.SyncResult{}, refused
	}
	var result group.SyncResult
	err := g.ask(ctx, a, syncBytes(request), func(_ time.Time, token group.Token) group.Event {
		request.Token = token
		return request
	}, func(r group.Reply) {
		if r.Sync != nil {
			result = *r.Sync
		}
	}, nil)
	return result, err
}

// Heartbeat keeps a member alive. REBALANCE_IN_PROGRESS says to join again.
func (g *Groups) Heartbeat(ctx context.Context, name string, beat group.Heartbeat) error {
	a, refused := g.findMember(ctx, name)
	if refused != nil {
		return refused
	}
	return g.ask(ctx, a, 0, func(_ time.Time, token group.Token) group.Event {
		beat.Token = token
		return beat
	}, func(group.Reply) {}, nil)
}

// Leave takes members out, and says for each what came of it.
func (g *Groups) Leave(ctx context.Context, name string, members []group.LeavingMember) ([]group.LeftMember, error) {
	a, refused := g.findMember(ctx, name)
	if refused != nil {
		return nil, refused
	}
	var left []group.LeftMember
	err := g.ask(ctx, a, leaveBytes(members), func(_ time.Time, token group.Token) group.Event {
		return group.Leave{Token: token, Members: members}
	}, func(r group.Reply) {
		if r.Leave != nil {
			left = r.Leave.Members
		}
	}, nil)
	return left, err
}

// findMember is find for calls of members: a group that is not there has none.
func (g *Groups) findMember(ctx context.Context, name string) (*groupActor, *Error) {
	a, refused := g.find(ctx, name, recallAbsent)
	if refused != nil && refused.Reason == ReasonUnknownGroup {
		return nil, groupError(name, group.ErrUnknownMemberID)
	}
	return a, refused
}

// ask steps the machine of a group with an event that has an answer, and waits for it. An answer that is there counts, though ctx has ended. take is
// called before ask returns, also with an error, or not at all: late, unless nil, is then called with an answer that comes behind the end of ctx, on the
// actor's goroutine. bytes is about what the event takes in memory.
func (g *Groups) ask(
	ctx context.Context, a *groupActor, bytes int, event func(time.Time, group.Token) group.Event, take, late func(group.Reply),
) error {
	token := group.Token(g.tokens.Add(1))
	var mu sync.Mutex // between take and a caller that goes
	gone := false
	answered := make(chan error, 1)
	leave := a.postUnlessLeft(groupCall{
		bytes: bytes,
		run: func(now time.Time) {
			if ctx.Err() != nil {
				return
			}
			if a.releasing != nil {
				answered <- a.releasing
				return
			}
			a.used = now
			event := event(now, token)
			if refused := a.reserve(event); refused != nil {
				answered <- refused
				return
			}
			a.waiting[token] = func(r group.Reply) {
				mu.Lock()
				defer mu.Unlock()
				if gone {
					if late != nil {
						late(r)
					}
					return
				}
				take(r)
				if r.Err != nil {
					answered <- groupError(a.name, r.Err)
					return
				}
				answered <- nil
			}
			a.step(now, event)
		},
		fail: func(cause *Error) { answered <- cause },
	})
	select {
	case err := <-answered:
		return err
	case <-ctx.Done():
	}
	leave()
	mu.Lock()
	gone = true
	mu.Unlock()
	select {
	case err := <-answered: // it was quicker
		return err
	default:
	}
	a.post(groupCall{run: func(now time.Time) {
		if a.waiting[token] != nil {
			delete(a.waiting, token)
			a.step(now, group.Cancel{Token: token})
		}
	}})
	return callerGone(ctx, fmt.Sprintf("group %q", a.name))
}

// Commit stores offsets and returns when they are durable. Each offset that could not be stored has its error, in the order of the commit;
// the others are stored. An error of the whole commit claims nothing about any of them when it is NOT_COORDINATOR.
func (g *Groups) Commit(ctx context.Context, c GroupCommit) ([]*Error, error) {
	find := g.findMember
	if c.MemberID == "" && c.InstanceID == "" && c.Generation < 0 {
		find = func(ctx context.Context, name string) (*groupActor, *Error) { return g.find(ctx, name, createAbsent) }
	}
	a, refused := find(ctx, c.Group)
	if refused != nil {
		return nil, refused
	}
	return g.commit(ctx, a, c.Offsets, func(now time.Time) error {
		return a.machine.CheckCommit(now, c.MemberID, c.InstanceID, c.Generation)
	})
}

// Seek sets committed offsets of a group without members. After its coordinator has changed a group that had some counts as one with members for
// as long as they may come back: GROUP_NOT_EMPTY.
func (g *Groups) Seek(ctx context.Context, name string, offsets []GroupCommitOffset) ([]*Error, error) {
	a, refused := g.find(ctx, name, createAbsent)
	if refused != nil {
		return nil, refused
	}
	return g.commit(ctx, a, offsets, func(now time.Time) error { return a.machine.CheckEmpty(now) })
}

// commit resolves topics and has the actor store what check lets through.
func (g *Groups) commit(ctx context.Context, a *groupActor, offsets []GroupCommitOffset, check func(now time.Time) error) ([]*Error, error) {
	commit := &groupCommit{errors: make([]*Error, len(offsets)), offsets: make([]resolvedOffset, 0, len(offsets))}
	for i, o := range offsets {
		resolved, refused := a.resolve(o)
		if refused != nil {
			commit.errors[i] = refused
			continue
		}
		resolved.at = i
		commit.offsets = append(commit.offsets, resolved)
	}
	return g.store(ctx, a, commit, check)
}

// store has the actor store a commit that check lets through, which runs on the actor's goroutine.
func (g *Groups) store(ctx context.Context, a *groupActor, commit *groupCommit, check func(now time.Time) error) ([]*Error, error) {
	type outcome struct {
		errs  []*Error
		cause *Error
	}
	answered := make(chan outcome, 1)
	commit.done = func(errs []*Error, cause *Error) { answered <- outcome{errs, cause} }
	leave := a.postUnlessLeft(groupCall{
		bytes: commit.size(),
		run: func(now time.Time) {
			if ctx.Err() != nil { // it has been told that nothing is known of it; nothing of it is stored later than need be
				return
			}
			if a.releasing != nil {
				commit.done(nil, a.releasing)
				return
			}
			a.used = now
			if err := check(now); err != nil {
				commit.done(nil, groupError(a.name, err))
				return
			}
			for i := range commit.offsets {
				commit.offsets[i].Committed = max(now.UnixMilli(), 0)
			}
			a.enqueue(commit)
		},
		fail: func(cause *Error) { commit.done(nil, cause) },
	})
	select {
	case out := <-answered:
		if out.cause != nil {
			return nil, out.cause
		}
		return out.errs, nil
	case <-ctx.Done():
		leave() // once it is taken it goes on, and nobody waits for it
		return nil, callerGone(ctx, fmt.Sprintf("commit offsets of group %q", a.name))
	}
}

// resolve finds the topic of an offset, and refuses what can never be stored.
func (a *groupActor) resolve(o GroupCommitOffset) (resolvedOffset, *Error) {
	topic, there := a.seat.Index.Topic(o.Topic)
	switch {
	case !there:
		return resolvedOffset{}, Errorf(ReasonUnknownTopic, "there is no topic %q", o.Topic)
	case o.TopicID != (meta.TopicID{}) && o.TopicID != topic.ID:
		return resolvedOffset{}, Errorf(ReasonUnknownTopic, "topic %q is another one than was read: that was deleted, and one of the same name was made", o.Topic)
	}
	if o.Partition < 0 || o.Partition >= topic.Partitions {
		return resolvedOffset{}, AsError(unknownPartition(o.Topic, o.Partition, topic.Partitions))
	}
	out := resolvedOffset{topic: topic.ID, name: o.Topic, partition: o.Partition, GroupOffset: meta.GroupOffset{
		Offset: o.Offset, LeaderEpoch: max(o.LeaderEpoch, -1), Metadata: o.Metadata,
	}}
	if err := out.Validate(); err != nil {
		reason := ReasonInvalidRequest
		if errors.Is(err, meta.ErrTooLarge) {
			reason = ReasonTooLarge
		}
		return resolvedOffset{}, Errorf(reason, "topic %q, partition %d: %w", o.Topic, o.Partition, err)
	}
	return out, nil
}

// View describes a group with its committed offsets. It sees every commit that was answered before the call, whoever answered it:
// that costs one read of etcd. A group that is not there is UNKNOWN_GROUP.
func (g *Groups) View(ctx context.Context, name string) (GroupView, error) {
	a, refused := g.find(ctx, name, askAbsent)
	if refused != nil {
		return GroupView{}, refused
	}
	view, claim, err := a.view(ctx)
	if err != nil {
		return GroupView{}, err
	}
	// What was read is as fresh as the claim is at some later moment: until then nobody else can have written.
	if err := g.config.Store.HoldsGroup(ctx, claim); err != nil {
		if ctx.Err() != nil {
			return GroupView{}, callerGone(ctx, fmt.Sprintf("describe group %q", name))
		}
		cause := groupMetaError("check who coordinates", name, err)
		if errors.Is(err, meta.ErrNotCoordinator) {
			a.post(groupCall{run: func(now time.Time) {
				if a.claim.Epoch == claim.Epoch {
					a.release(cause, now)
				}
			}})
		}
		return GroupView{}, cause
	}
	return view, nil
}

// view asks the actor.
func (a *groupActor) view(ctx context.Context) (GroupView, meta.GroupClaim, error) {
	type seen struct {
		view    GroupView
		claim   meta.GroupClaim
		refused *Error
	}
	answered := make(chan seen, 1)
	a.post(groupCall{
		run: func(now time.Time) {
			if a.releasing != nil {
				answered <- seen{refused: a.releasing}
				return
			}
			view := GroupView{
				Description: a.machine.Describe(), Coordinator: a.seat.Registration.Node, Epoch: a.claim.Epoch, Offsets: a.committed(),
			}
			if view.ProtocolType == "" && len(view.Members) > 0 {
				view.ProtocolType = nativeProtocolType
			}
			answered <- seen{view: view, claim: a.claim}
		},
		fail: func(cause *Error) { answered <- seen{refused: cause} },
	})
	select {
	case s := <-answered:
		if s.refused != nil {
			return GroupView{}, meta.GroupClaim{}, s.refused
		}
		return s.view, s.claim, nil
	case <-ctx.Done():
		return GroupView{}, meta.GroupClaim{}, callerGone(ctx, fmt.Sprintf("describe group %q", a.name))
	}
}

// Listings tells of the groups in memory, without anybody being asked or waited for. They are those in use, and may be another node's already.
func (g *Groups) Listings() []GroupListing {
	actors := g.all()
	out := make([]GroupListing, 0, len(actors))
	for _, a := range actors {
		if listing := a.listing.Load(); listing != nil {
			out = append(out, *listing)
		} else {
			out = append(out, GroupListing{Name: a.name, Coordinator: a.seat.Registration.Node})
		}
	}
	return out
}
