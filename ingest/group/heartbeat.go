package group

import (
	"errors"
	"fmt"
	"time"
)

// find is the member of these ids.
func (g *Group) find(id, instance string) (*member, error) {
	if g.state == Dead {
		return nil, ErrNotCoordinator
	}
	if instance != "" {
		m, ok := g.statics[instance]
		if !ok {
			return nil, g.stranger(id)
		}
		if m.id != id {
			return nil, ErrFencedInstanceID
		}
		return m, nil
	}
	m, ok := g.members[id]
	if !ok {
		return nil, g.stranger(id)
	}
	return m, nil
}

// stranger is what somebody hears who is no member. After a takeover it may well have been one: then it joins under its id.
func (g *Group) stranger(id string) error {
	if g.takenOver() && id != "" {
		return ErrRebalanceInProgress
	}
	return ErrUnknownMemberID
}

// takenOver says that members of the coordinator before may still come, which this one cannot know.
func (g *Group) takenOver() bool { return g.expected > 0 }

// findIn is the member of these ids, if it speaks of the generation that it was told last.
func (g *Group) findIn(id, instance string, generation int32) (*member, error) {
	m, err := g.find(id, instance)
	if err != nil {
		return nil, err
	}
	if generation != g.told || generation != m.generation {
		return nil, fmt.Errorf("%w: it names %d, the group is at %d", ErrIllegalGeneration, generation, g.told)
	}
	return m, nil
}

// rebalancing says that members are to join, or wait for the answers to their joins.
func (g *Group) rebalancing() bool { return g.state == PreparingRebalance || g.storing }

func (g *Group) heartbeat(e Heartbeat) error {
	m, err := g.findIn(e.MemberID, e.InstanceID, e.Generation)
	if err != nil {
		return err
	}
	g.alive(m)
	if e.Acknowledged && g.kind == subscribedKind {
		g.acknowledge(m)
		if g.followUpDue() {
			g.prepare()
		}
	}
	if g.rebalancing() {
		return ErrRebalanceInProgress
	}
	return nil
}

// CheckCommit says whether a commit of offsets may go on, and takes it as a sign of life. With no member and a negative
// generation it is of a simple consumer, which may commit only while CheckEmpty says so. Members may commit what they had
// read while the others join, but not while a new generation is being stored: then they try again with their next one.
func (g *Group) CheckCommit(now time.Time, memberID, instanceID string, generation int32) error {
	if now.After(g.now) {
		g.now = now
	}
	if g.state == Empty && memberID == "" && instanceID == "" && generation < 0 {
		return g.CheckEmpty(g.now)
	}
	m, err := g.findIn(memberID, instanceID, generation)
	if err != nil {
		return err
	}
	g.alive(m)
	// In CompletingRebalance the member has been told a generation, but not what it is to read.
	if g.storing || g.state == CompletingRebalance {
		return ErrRebalanceInProgress
	}
	return nil
}

// leave removes the members that want to go.
func (g *Group) leave(e Leave) {
	if g.state == Dead {
		g.reply(Reply{Token: e.Token, Err: ErrNotCoordinator})
		return
	}
	if len(e.Members) > g.limits.MaxMembers {
		g.reply(Reply{Token: e.Token, Err: fmt.Errorf("%w: %d members leave at once, a group has at most %d", ErrInvalidRequest, len(e.Members), g.limits.MaxMembers)})
		return
	}
	result := &LeaveResult{Members: make([]LeftMember, len(e.Members))}
	left := false
	for i, leaving := range e.Members {
		result.Members[i] = LeftMember{MemberID: leaving.MemberID, InstanceID: leaving.InstanceID}
		if _, ok := g.pending[leaving.MemberID]; ok && leaving.InstanceID == "" {
			delete(g.pending, leaving.MemberID)
			continue
		}
		if m, ok := g.statics[leaving.InstanceID]; ok && leaving.InstanceID != "" && leaving.MemberID == "" {
			leaving.MemberID = m.id
		}
		m, err := g.find(leaving.MemberID, leaving.InstanceID)
		if errors.Is(err, ErrRebalanceInProgress) {
			g.leftOld(leaving.MemberID)
			continue
		}
		if err != nil {
			result.Members[i].Err = err
			continue
		}
		g.drop(m, ErrUnknownMemberID)
		left = true
	}
	g.reply(Reply{Token: e.Token, Leave: result})
	if left {
		g.membersLeft()
	} else {
		g.completeIfDue() // it may have waited for one that was not a member yet
	}
}

// leftOld takes one of the coordinator before out: nobody waits for it any more. One that says so twice counts once.
func (g *Group) leftOld(id string) {
	if _, twice := g.leftBefore[id]; twice || len(id) > maxIDBytes {
		return
	}
	if g.expected--; g.expected == 0 {
		clear(g.leftBefore)
		return
	}
	g.leftBefore[id] = struct{}{}
}
