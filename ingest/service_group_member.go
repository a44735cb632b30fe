package ingest

import (
	"context"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// member keeps the stream a member: it joins, gives up what others are to have, and joins again when it is told to. It returns
// why it cannot go on.
//
// With cooperative-sticky the client goes on reading while the member joins. What the answer takes away is revoked: its records stop,
// the client finishes, commits and says so, and the member joins again with what is left, upon which others get it. With range and
// roundrobin everything is revoked before the member joins.
func (st *groupStream) member(ctx context.Context) error {
	defer st.stopFetching()
	for {
		if err := st.rejoin(ctx); err != nil {
			return err
		}
		again, err := st.beat(ctx)
		if err != nil || !again {
			return err
		}
	}
}

func (st *groupStream) eager() bool {
	s := group.Strategy(st.join.GetStrategy())
	return s == group.Range || s == group.RoundRobin
}

// rejoin joins until what the member has is what it is to have.
func (st *groupStream) rejoin(ctx context.Context) error {
	for {
		if st.eager() {
			if err := st.revoke(ctx, st.all()); err != nil {
				return err
			}
		}
		joined, err := st.joinAgain(ctx)
		if err != nil {
			return err
		}
		lost, err := st.takeMembership(joined)
		if err != nil {
			return err
		}
		if err := st.revoke(ctx, lost); err != nil {
			return err
		}
		untold := st.takeAssignment(joined)
		if !st.put(ctx, &tidemarkv1.GroupServiceConsumeResponse{Event: &tidemarkv1.GroupServiceConsumeResponse_Assign{Assign: &tidemarkv1.GroupAssign{
			MemberId: joined.GetMemberId(), Generation: joined.GetGeneration(), Assigned: joined.GetAssigned(), Lost: untold,
		}}}) {
			return context.Cause(ctx)
		}
		st.startFetching(ctx)
		if len(lost) == 0 {
			return nil
		}
	}
}

// joinAgain sends the join until there is an answer that the member can go on with.
func (st *groupStream) joinAgain(ctx context.Context) (*tidemarkv1.JoinResponse, error) {
	until := st.service.Clock.Now().Add(st.rebalance)
	for {
		request, ok := proto.Clone(st.join).(*tidemarkv1.JoinRequest)
		if !ok {
			panic("ingest: a clone of another type")
		}
		st.mu.Lock()
		request.MemberId = st.memberID
		st.mu.Unlock()
		request.Owned = byTopic(st.all())
		joined, err := st.service.join(ctx, request)
		if err == nil {
			return joined, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		switch reason := ReasonOf(err); {
		case reason == ReasonUnknownMemberID && request.GetMemberId() != "":
			st.lose()
			st.rename("")
		case reason == ReasonRebalanceInProgress, reason == ReasonTimeout, coordinatorAway(err):
			if !st.service.Clock.Now().Before(until) || !pause(ctx, st.service.Clock, 100*time.Millisecond) {
				return nil, err
			}
		default:
			return nil, err
		}
	}
}

// beat sends heartbeats until the member is to join again.
func (st *groupStream) beat(ctx context.Context) (again bool, err error) {
	clk := st.service.Clock
	kept := clk.Now()
	for {
		if !pause(ctx, clk, min(st.session/6, longestBeat)) {
			return false, context.Cause(ctx)
		}
		rejoin, err := st.heartbeat(ctx)
		switch {
		case err == nil && !rejoin:
			kept = clk.Now()
		case err == nil:
			return true, nil
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		case ReasonOf(err) == ReasonUnknownMemberID:
			st.lose()
			st.rename("")
			return true, nil
		case ReasonOf(err) == ReasonIllegalGeneration, clk.Now().Sub(kept) >= st.session:
			// The group may have gone on without this member: what it has may be another's.
			st.lose()
			return true, nil
		case !coordinatorAway(err) && ReasonOf(err) != ReasonTimeout:
			return false, err
		}
	}
}

func (st *groupStream) heartbeat(ctx context.Context) (rejoin bool, err error) {
	st.mu.Lock()
	m := st.membership()
	st.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, st.session)
	defer cancel()
	out, err := st.service.heartbeat(ctx, &tidemarkv1.HeartbeatRequest{Member: m})
	return out.GetRejoin(), err
}

// all lists the partitions that the member has, sorted.
func (st *groupStream) all() []group.TopicPartition {
	st.mu.Lock()
	defer st.mu.Unlock()
	return slices.SortedFunc(maps.Keys(st.partitions), func(a, b group.TopicPartition) int {
		return compareTopicPartition(a.Topic, a.Partition, b.Topic, b.Partition)
	})
}

// change tells whoever waits for the membership. Called with mu.
func (st *groupStream) change() {
	close(st.changed)
	st.changed = make(chan struct{})
}

func (st *groupStream) rename(id string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.memberID = id
	st.change()
}

// lose drops every partition: they may be another's already. The client is told at once if it reads, and else with what it is assigned next.
func (st *groupStream) lose() {
	st.stopFetching()
	st.mu.Lock()
	defer st.mu.Unlock()
	for at, p := range st.partitions {
		p.stopped = true
		st.lost = append(st.lost, at)
	}
	clear(st.partitions)
	st.change()
	if len(st.lost) == 0 {
		return
	}
	assign := &tidemarkv1.GroupAssign{MemberId: st.memberID, Generation: st.generation, Lost: lostByTopic(st.lost)}
	if st.offer(&tidemarkv1.GroupServiceConsumeResponse{Event: &tidemarkv1.GroupServiceConsumeResponse_Assign{Assign: assign}}) {
		st.lost = nil
	}
}

func lostByTopic(lost []group.TopicPartition) []*tidemarkv1.TopicPartitions {
	slices.SortFunc(lost, func(a, b group.TopicPartition) int {
		return compareTopicPartition(a.Topic, a.Partition, b.Topic, b.Partition)
	})
	return byTopic(slices.Compact(lost))
}

// takeMembership takes over who the member is, and tells which of its partitions it is to give up. One whose topic was made anew is lost
// at once: what is committed of it now is about other records.
func (st *groupStream) takeMembership(joined *tidemarkv1.JoinResponse) ([]group.TopicPartition, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.memberID, st.generation = joined.GetMemberId(), joined.GetGeneration()
	assigned := make(map[group.TopicPartition]meta.TopicID, len(joined.GetAssigned()))
	for _, p := range joined.GetAssigned() {
		id, err := meta.ParseTopicID(p.GetTopicId())
		if err != nil {
			return nil, Errorf(ReasonInternal, "the coordinator assigns a partition of %w", err)
		}
		assigned[group.TopicPartition{Topic: p.GetTopic(), Partition: p.GetPartition()}] = id
	}
	var lost []group.TopicPartition
	for at, p := range st.partitions {
		id, kept := assigned[at]
		switch {
		case !kept:
			lost = append(lost, at)
		case id != p.topic:
			p.stopped = true
			st.lost = append(st.lost, at)
			delete(st.partitions, at)
		}
	}
	slices.SortFunc(lost, func(a, b group.TopicPartition) int {
		return compareTopicPartition(a.Topic, a.Partition, b.Topic, b.Partition)
	})
	st.change()
	return lost, nil
}

// takeAssignment adds the partitions that are new, and gives those that were lost and of which the client has not heard.
func (st *groupStream) takeAssignment(joined *tidemarkv1.JoinResponse) (untold []*tidemarkv1.TopicPartitions) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, p := range joined.GetAssigned() {
		at := group.TopicPartition{Topic: p.GetTopic(), Partition: p.GetPartition()}
		if st.partitions[at] == nil {
			id, _ := meta.ParseTopicID(p.GetTopicId()) // takeMembership has read it
			st.partitions[at] = &memberPartition{at: at, topic: id, since: joined.GetGeneration(), next: p.GetCommitted()}
		}
	}
	untold, st.lost = lostByTopic(st.lost), nil
	st.change()
	return untold
}

// revoke has the client give partitions up. What else the member has goes on being read.
func (st *groupStream) revoke(ctx context.Context, lost []group.TopicPartition) error {
	if len(lost) == 0 {
		return nil
	}
	st.stopFetching()
	st.mu.Lock()
	for _, at := range lost {
		st.partitions[at].stopped = true
	}
	generation := st.generation
	st.revoking = true
	st.mu.Unlock()
	if !st.put(ctx, &tidemarkv1.GroupServiceConsumeResponse{Event: &tidemarkv1.GroupServiceConsumeResponse_Revoke{Revoke: &tidemarkv1.GroupRevoke{
		Generation: generation, Revoked: byTopic(lost),
	}}}) {
		return context.Cause(ctx)
	}
	st.startFetching(ctx)
	if err := st.awaitRevoked(ctx); err != nil {
		return err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, at := range lost {
		delete(st.partitions, at)
	}
	st.change()
	return nil
}

// awaitRevoked waits until the client says that it has given up what was revoked, and keeps the member alive meanwhile.
func (st *groupStream) awaitRevoked(ctx context.Context) error {
	clk := st.service.Clock
	until := clk.Now().Add(st.rebalance)
	every := min(st.session/6, longestBeat)
	timer := clk.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-st.revoked:
			return nil
		case <-timer.C():
			if !clk.Now().Before(until) {
				return Errorf(ReasonTimeout, "the client has not given up its partitions within its rebalance timeout of %v", st.rebalance)
			}
			// Whatever it says, the client finishes first: joining again tells the rest.
			if _, err := st.heartbeat(ctx); ReasonOf(err) == ReasonFencedInstanceID {
				return err
			}
			timer.Reset(every)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
