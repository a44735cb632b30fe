package group

import (
	"bytes"
	"fmt"
)

// sync gives a protocol member its assignment, or lets it wait for the leader's sync.
func (g *Group) sync(e Sync) {
	m, err := g.checkSync(&e)
	if err != nil {
		g.reply(Reply{Token: e.Token, Err: err})
		return
	}
	g.alive(m)
	m.synced = true
	g.openSync(m, e.Token)
	switch {
	case g.state == Stable:
		g.closeSync(m, g.assignmentOf(m))
	case g.leader == m.id:
		g.state = Stable
		for _, other := range g.inOrder() {
			g.setAssignment(other, bytes.Clone(e.Assignments[other.id]))
			g.closeSync(other, g.assignmentOf(other))
		}
	}
}

func (g *Group) assignmentOf(m *member) Reply {
	return Reply{Sync: &SyncResult{ProtocolType: g.protocolType, Protocol: g.protocol, Assignment: m.assignment}}
}

func (g *Group) checkSync(e *Sync) (*member, error) {
	m, err := g.findIn(e.MemberID, e.InstanceID, e.Generation)
	if err != nil {
		return nil, err
	}
	if g.kind == subscribedKind {
		return nil, fmt.Errorf("%w: the assignment came with the join", ErrInconsistentGroupProtocol)
	}
	if g.rebalancing() {
		return nil, ErrRebalanceInProgress
	}
	if e.ProtocolType != "" && e.ProtocolType != g.protocolType || e.ProtocolName != "" && e.ProtocolName != g.protocol {
		return nil, fmt.Errorf("%w: the group chose %q of type %q", ErrInconsistentGroupProtocol, g.protocol, g.protocolType)
	}
	if g.state == Stable || g.leader != m.id {
		return m, nil // what it brings is not looked at
	}
	size := 0
	for id, assignment := range e.Assignments {
		if _, ok := g.members[id]; !ok {
			continue // left meanwhile, or never was there: it is not kept
		}
		if len(assignment) > g.limits.MaxMemberBytes {
			return nil, fmt.Errorf("%w: the assignment of a member has %d bytes, at most %d are allowed", ErrInvalidRequest, len(assignment), g.limits.MaxMemberBytes)
		}
		size += len(assignment)
	}
	if size > g.limits.MaxGroupBytes {
		return nil, fmt.Errorf("%w: the assignments have %d bytes, at most %d are allowed", ErrInvalidRequest, size, g.limits.MaxGroupBytes)
	}
	return m, nil
}
