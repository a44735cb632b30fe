package client_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

// fleetGroup is a group as its coordinator sees it. Which node is asked does not matter.
type fleetGroup struct {
	fleet      *fleet
	generation int32
	rebalances int
	members    map[string]*fleetMember // by id
	nextID     int
	preparing  bool
	limit      time.Time // of the rebalance
	committed  map[fleetKey]int64
	owner      map[fleetKey]string
	backwards  int // commits below what was committed
	heartbeats int
	leaves     int
	ended      chan struct{}
	sweeping   chan struct{}
}

// coordinator is GroupService.
type coordinator struct {
	tidemarkv1connect.UnimplementedGroupServiceHandler
	fleet *fleet
}

type fleetKey struct {
	topic     string
	partition int32
}

type fleetMember struct {
	id, instance string
	topics       []string
	strategy     string
	owned        map[fleetKey]bool
	session      time.Duration
	rebalance    time.Duration
	deadline     time.Time
	waiting      chan *tidemarkv1.JoinResponse // of a join; nil when none waits
}

// group is called with mu held.
func (f *fleet) group(name string) *fleetGroup {
	g := f.groups[name]
	if g == nil {
		g = &fleetGroup{
			fleet: f, members: map[string]*fleetMember{}, committed: map[fleetKey]int64{}, owner: map[fleetKey]string{},
			ended: make(chan struct{}), sweeping: make(chan struct{}),
		}
		f.groups[name] = g
		go g.sweep()
	}
	return g
}

// stop is called with mu held.
func (g *fleetGroup) stop() {
	close(g.ended)
	g.fleet.mu.Unlock()
	<-g.sweeping
	g.fleet.mu.Lock()
}

// sweep removes members that are silent, and ends a rebalance that waits too long.
func (g *fleetGroup) sweep() {
	defer close(g.sweeping)
	for {
		t := clock.System().NewTimer(100 * time.Millisecond)
		select {
		case <-t.C():
		case <-g.ended:
			t.Stop()
			return
		}
		g.fleet.mu.Lock()
		now := clock.System().Now()
		if !g.fleet.coordinatorAway {
			for id, m := range g.members {
				if m.waiting == nil && now.After(m.deadline) {
					delete(g.members, id)
					g.prepare()
				}
			}
			if g.preparing && now.After(g.limit) {
				for id, m := range g.members {
					if m.waiting == nil {
						delete(g.members, id)
					}
				}
			}
			g.complete()
		}
		g.fleet.mu.Unlock()
	}
}

func (g *fleetGroup) prepare() {
	if g.preparing {
		return
	}
	g.preparing = true
	longest := time.Duration(0)
	for _, m := range g.members {
		longest = max(longest, m.rebalance)
	}
	g.limit = clock.System().Now().Add(longest)
}

// complete ends the rebalance when every member waits for it.
func (g *fleetGroup) complete() {
	if !g.preparing {
		return
	}
	for _, m := range g.members {
		if m.waiting == nil {
			return
		}
	}
	g.preparing = false
	g.generation++
	g.rebalances++
	g.share()
	for _, m := range g.members {
		m.deadline = clock.System().Now().Add(m.session)
		m.waiting <- g.answer(m)
		m.waiting = nil
	}
}

// share gives every partition to one member: those that claim it keep it up to their part. With the cooperative strategy what another one
// still has is nobody's until that has joined without it.
func (g *fleetGroup) share() {
	clear(g.owner)
	ids := slices.Sorted(maps.Keys(g.members))
	if len(ids) == 0 {
		return
	}
	var all []fleetKey
	for name, t := range g.fleet.topics {
		if !slices.Contains(g.members[ids[0]].topics, name) {
			continue
		}
		for p := range t.parts {
			all = append(all, fleetKey{name, int32(p)})
		}
	}
	slices.SortFunc(all, func(a, b fleetKey) int { return int(a.partition) - int(b.partition) })
	count := map[string]int{}
	most := (len(all) + len(ids) - 1) / len(ids)
	claims := map[fleetKey]string{}
	for _, id := range ids {
		for key := range g.members[id].owned {
			claims[key] = id
		}
	}
	var free []fleetKey
	for _, key := range all {
		if id := claims[key]; id != "" && count[id] < most {
			count[id]++
			g.owner[key] = id
		} else {
			free = append(free, key)
		}
	}
	for _, key := range free {
		least := ids[0]
		for _, id := range ids {
			if count[id] < count[least] {
				least = id
			}
		}
		count[least]++
		if claims[key] == "" || claims[key] == least {
			g.owner[key] = least
		}
	}
}

func (g *fleetGroup) answer(m *fleetMember) *tidemarkv1.JoinResponse {
	out := &tidemarkv1.JoinResponse{MemberId: m.id, Generation: g.generation, Strategy: m.strategy, Members: int32(len(g.members))}
	for key, id := range g.owner {
		if id != m.id {
			continue
		}
		at, ok := g.committed[key]
		if !ok {
			at = -1
		}
		out.Assigned = append(out.Assigned, &tidemarkv1.AssignedPartition{Topic: key.topic, TopicId: g.fleet.topics[key.topic].id, Partition: key.partition, Committed: at})
	}
	return out
}

// known finds a member by what it calls itself; mu is held.
func (g *fleetGroup) known(r *tidemarkv1.Membership) (*fleetMember, error) {
	if g.fleet.coordinatorAway {
		return nil, reasonError(connect.CodeUnavailable, "NOT_COORDINATOR", nil)
	}
	m := g.members[r.GetMemberId()]
	if m == nil {
		for _, other := range g.members {
			if r.GetInstanceId() != "" && other.instance == r.GetInstanceId() {
				return nil, reasonError(connect.CodeFailedPrecondition, client.ReasonFencedInstance, nil)
			}
		}
		return nil, reasonError(connect.CodeFailedPrecondition, client.ReasonUnknownMember, nil)
	}
	if r.GetGeneration() != g.generation {
		return nil, reasonError(connect.CodeFailedPrecondition, client.ReasonIllegalGeneration, nil)
	}
	m.deadline = clock.System().Now().Add(m.session)
	return m, nil
}

func (n coordinator) Join(ctx context.Context, r *tidemarkv1.JoinRequest) (*tidemarkv1.JoinResponse, error) {
	f := n.fleet
	f.mu.Lock()
	g := f.group(r.GetGroup())
	if f.coordinatorAway {
		f.mu.Unlock()
		return nil, reasonError(connect.CodeUnavailable, "NOT_COORDINATOR", nil)
	}
	m := g.members[r.GetMemberId()]
	switch {
	case m == nil && r.GetMemberId() != "":
		_, err := g.known(&tidemarkv1.Membership{MemberId: r.GetMemberId(), InstanceId: r.GetInstanceId()})
		f.mu.Unlock()
		return nil, err
	case m == nil:
		g.nextID++
		id := fmt.Sprintf("m%d", g.nextID)
		for _, old := range g.members {
			if r.GetInstanceId() == "" || old.instance != r.GetInstanceId() {
				continue
			}
			delete(g.members, old.id)
			old.id, old.deadline = id, clock.System().Now().Add(old.session)
			g.members[id] = old
			for key, owner := range g.owner {
				if g.members[owner] == nil {
					g.owner[key] = id
				}
			}
			if !g.preparing {
				out := g.answer(old)
				f.mu.Unlock()
				return out, nil
			}
			m = old
		}
		if m == nil {
			m = &fleetMember{id: id, instance: r.GetInstanceId()}
			g.members[id] = m
		}
	}
	m.topics, m.strategy, m.owned = r.GetTopics(), r.GetStrategy(), map[fleetKey]bool{}
	m.session, m.rebalance = time.Duration(r.GetSessionTimeoutMs())*time.Millisecond, time.Duration(r.GetRebalanceTimeoutMs())*time.Millisecond
	for _, t := range r.GetOwned() {
		for _, p := range t.GetPartitions() {
			m.owned[fleetKey{t.GetTopic(), p}] = true
		}
	}
	waiting := make(chan *tidemarkv1.JoinResponse, 1)
	m.waiting = waiting
	g.prepare()
	f.mu.Unlock()
	select {
	case out := <-waiting:
		return out, nil
	case <-ctx.Done():
		f.mu.Lock()
		defer f.mu.Unlock()
		if m.waiting == waiting {
			m.waiting = nil
			m.deadline = clock.System().Now().Add(m.session)
		}
		return nil, ctx.Err()
	}
}

func (n coordinator) Heartbeat(_ context.Context, r *tidemarkv1.HeartbeatRequest) (*tidemarkv1.HeartbeatResponse, error) {
	n.fleet.mu.Lock()
	defer n.fleet.mu.Unlock()
	g := n.fleet.group(r.GetMember().GetGroup())
	g.heartbeats++
	if _, err := g.known(r.GetMember()); err != nil {
		return nil, err
	}
	return &tidemarkv1.HeartbeatResponse{Rejoin: g.preparing}, nil
}

func (n coordinator) Leave(_ context.Context, r *tidemarkv1.LeaveRequest) (*tidemarkv1.LeaveResponse, error) {
	n.fleet.mu.Lock()
	defer n.fleet.mu.Unlock()
	g := n.fleet.group(r.GetMember().GetGroup())
	if g.members[r.GetMember().GetMemberId()] == nil {
		return nil, reasonError(connect.CodeFailedPrecondition, client.ReasonUnknownMember, nil)
	}
	delete(g.members, r.GetMember().GetMemberId())
	g.leaves++
	g.prepare()
	return &tidemarkv1.LeaveResponse{}, nil
}

func (n coordinator) Commit(_ context.Context, r *tidemarkv1.CommitRequest) (*tidemarkv1.CommitResponse, error) {
	n.fleet.mu.Lock()
	defer n.fleet.mu.Unlock()
	g := n.fleet.group(r.GetMember().GetGroup())
	unanswered := connect.NewError(connect.CodeUnavailable, errors.New("the connection broke"))
	if _, err := g.known(r.GetMember()); err != nil {
		if n.fleet.commitsUnanswered {
			return nil, unanswered
		}
		return nil, err
	}
	for _, o := range r.GetOffsets() {
		key := fleetKey{o.GetTopic(), o.GetPartition()}
		if old, ok := g.committed[key]; ok && o.GetOffset() < old {
			g.backwards++
		}
		g.committed[key] = o.GetOffset()
	}
	if n.fleet.commitsUnanswered {
		return nil, unanswered
	}
	return &tidemarkv1.CommitResponse{}, nil
}
