package group

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"
)

func (g *Group) join(e Join) {
	refuse := func(err error) { g.reply(Reply{Token: e.Token, Err: err}) }
	if g.state == Dead {
		refuse(ErrNotCoordinator)
		return
	}
	if err := g.checkJoin(&e); err != nil {
		refuse(err)
		return
	}
	if e.MemberID != "" {
		g.joinKnown(e, refuse)
		return
	}
	if m, ok := g.statics[e.InstanceID]; ok && e.InstanceID != "" {
		g.joinInstance(m, e, refuse)
		return
	}
	if err := g.checkRoom(e.NewMemberID); err != nil {
		refuse(err)
		return
	}
	if e.InstanceID == "" && e.RequireKnownMemberID {
		g.pending[e.NewMemberID] = g.now.Add(e.SessionTimeout)
		g.watch(g.pending[e.NewMemberID])
		g.reply(Reply{Token: e.Token, Err: ErrMemberIDRequired, Join: &JoinResult{MemberID: e.NewMemberID}})
		return
	}
	g.joinNew(e.NewMemberID, e, false, refuse)
}

// checkNewID says whether a member may get this id.
func (g *Group) checkNewID(id string) error {
	_, member := g.members[id]
	_, pending := g.pending[id]
	if member || pending || id == "" {
		return fmt.Errorf("%w: the new member id is empty or taken; draw another one", ErrInvalidRequest)
	}
	return nil
}

// checkRoom says whether there may be one more member, with this id.
func (g *Group) checkRoom(id string) error {
	if len(g.members)+len(g.pending) >= g.limits.MaxMembers {
		return fmt.Errorf("%w: it has %d members", ErrGroupMaxSizeReached, g.limits.MaxMembers)
	}
	return g.checkNewID(id)
}

// joinKnown is a member that names its id.
func (g *Group) joinKnown(e Join, refuse func(error)) {
	if _, ok := g.pending[e.MemberID]; ok && e.InstanceID == "" {
		g.joinNew(e.MemberID, e, true, refuse)
		return
	}
	m, err := g.find(e.MemberID, e.InstanceID)
	if errors.Is(err, ErrRebalanceInProgress) {
		// A member of the coordinator before: it joins under its id, with what it owns.
		if err := g.checkRoom(e.MemberID); err != nil {
			refuse(err)
			return
		}
		g.joinNew(e.MemberID, e, true, refuse)
		return
	}
	if err != nil {
		refuse(err)
		return
	}
	asked, size, err := g.checkWants(m, &e)
	if err != nil {
		refuse(err)
		return
	}
	m.told = true
	same := m.equal(&asked)
	leads := g.kind == protocolKind && g.leader == m.id
	changed := g.update(m, &e, asked, size) || !same
	if g.state == Stable && (changed || leads) || g.state == CompletingRebalance && changed {
		g.prepareWith(m, e.Token)
		return
	}
	g.joinAgain(m, e.Token)
}

// joinAgain is a member for which nothing changed: it joins the rebalance that is under way, or hears of its place again.
func (g *Group) joinAgain(m *member, token Token) {
	switch {
	case g.state == PreparingRebalance:
		g.openJoin(m, token)
		g.completeIfDue()
	case g.storing:
		g.openJoin(m, token)
	case g.followUpDue():
		g.prepareWith(m, token)
	default:
		g.openJoin(m, token)
		g.hold(m, m.assigned)
		g.closeJoin(m, Reply{Join: g.place(m)})
	}
}

// joinInstance is a process that starts anew under the instance id of m: it takes m's place, whoever had it is fenced.
func (g *Group) joinInstance(m *member, e Join, refuse func(error)) {
	if err := g.checkNewID(e.NewMemberID); err != nil {
		refuse(err)
		return
	}
	asked, size, err := g.checkWants(m, &e)
	if err != nil {
		refuse(err)
		return
	}
	g.closeJoin(m, Reply{Err: ErrFencedInstanceID})
	g.closeSync(m, Reply{Err: ErrFencedInstanceID})
	before := g.leader
	delete(g.members, m.id)
	if g.leader == m.id {
		g.leader = e.NewMemberID
	}
	m.id = e.NewMemberID
	g.members[m.id] = m

	same := m.sameSubscription(&asked)
	suits := !g.update(m, &e, asked, size) && same
	switch {
	case g.state == PreparingRebalance, suits && g.storing, suits && g.state == Stable && g.kind == subscribedKind:
		g.joinAgain(m, e.Token)
	case suits && g.state == Stable:
		result := g.place(m)
		result.SkipAssignment = e.SkipAssignment && result.Leader == m.id
		if !result.SkipAssignment {
			// Whoever cannot skip would assign on reading its own id as the leader's, and its Sync would count for nothing.
			result.Leader, result.Members = before, nil
		}
		g.openJoin(m, e.Token)
		g.closeJoin(m, Reply{Join: result})
	default:
		// The leader may have been told the old id already, or the assignment does not suit any more.
		g.prepareWith(m, e.Token)
	}
}

// joinNew makes a member.
func (g *Group) joinNew(id string, e Join, told bool, refuse func(error)) {
	asked, size, err := g.checkWants(nil, &e)
	if err != nil {
		refuse(err)
		return
	}
	delete(g.pending, id)
	g.arrived++
	m := &member{
		id: id, instance: e.InstanceID, order: g.arrived, generation: -1, holds: make(map[TopicPartition]struct{}),
		told: told || e.InstanceID != "", // by its instance id it can always come back
	}
	g.members[id] = m
	if m.instance != "" {
		g.statics[m.instance] = m
	}
	g.kind, g.protocolType = asked.kind, asked.protocolType
	g.update(m, &e, asked, size)
	g.prepareWith(m, e.Token)
}

// prepareWith begins a rebalance, unless one is prepared already, in which m has joined.
func (g *Group) prepareWith(m *member, token Token) {
	g.openJoin(m, token)
	if g.state != PreparingRebalance {
		g.prepare()
		return
	}
	if g.gatherUntil.After(g.now) && m.generation < 0 {
		g.gatherUntil = earlier(g.now.Add(g.limits.InitialDelay), g.completeUntil)
	}
	g.completeIfDue()
}

// update takes over what a join says about its member. changed says that a topic has another number of partitions than was
// known, or that the member holds something else than the generation that is being stored was made for.
func (g *Group) update(m *member, e *Join, asked wants, size int) (changed bool) {
	m.clientID, m.host = cut(e.ClientID), cut(e.Host)
	m.sessionTimeout, m.rebalanceTimeout = e.SessionTimeout, e.RebalanceTimeout
	g.bytes += size - m.bytes
	m.bytes = size
	g.keep(m, asked.keeps(size))
	g.alive(m)
	if len(g.members) == 1 {
		g.kind, g.protocolType = asked.kind, asked.protocolType
	}
	g.subscribe(asked.topics)
	g.unsubscribe(m.topics)
	if m.kind != asked.kind {
		g.setAssignment(m, nil)
		m.assigned, m.target = nil, nil
	}
	g.know(m.protocols, -1)
	g.know(asked.protocols, 1)
	m.wants = asked
	if asked.kind != subscribedKind {
		g.own(m, nil)
		return false
	}
	counted := g.count(e.Subscription.Partitions)
	owned := g.own(m, e.Subscription.Owned)
	return counted || owned && g.storing
}

// checkJoin checks what does not depend on who is there, and fills in defaults.
func (g *Group) checkJoin(e *Join) error {
	for _, id := range []string{e.MemberID, e.NewMemberID, e.InstanceID, e.ProtocolType} {
		if len(id) > maxIDBytes {
			return fmt.Errorf("%w: an id has %d bytes, at most %d are allowed", ErrInvalidRequest, len(id), maxIDBytes)
		}
	}
	if e.SessionTimeout < g.limits.MinSessionTimeout || e.SessionTimeout > g.limits.MaxSessionTimeout {
		return fmt.Errorf("%w: it is %v, between %v and %v is allowed", ErrInvalidSessionTimeout,
			e.SessionTimeout, g.limits.MinSessionTimeout, g.limits.MaxSessionTimeout)
	}
	if e.RebalanceTimeout <= 0 {
		e.RebalanceTimeout = e.SessionTimeout
	}
	e.RebalanceTimeout = min(e.RebalanceTimeout, g.limits.MaxRebalanceTimeout)
	if e.Subscription != nil {
		if len(e.Protocols) > 0 || e.ProtocolType != "" {
			return fmt.Errorf("%w: a member has protocols or a subscription, not both", ErrInvalidRequest)
		}
		return g.checkSubscription(e.Subscription)
	}
	return g.checkProtocols(e)
}

func (g *Group) checkProtocols(e *Join) error {
	if e.ProtocolType == "" || len(e.Protocols) == 0 {
		return fmt.Errorf("%w: a member needs a protocol type and a protocol", ErrInconsistentGroupProtocol)
	}
	if len(e.Protocols) > g.limits.MaxProtocols {
		return fmt.Errorf("%w: %d protocols, at most %d are allowed", ErrInvalidRequest, len(e.Protocols), g.limits.MaxProtocols)
	}
	for i, p := range e.Protocols {
		if p.Name == "" || len(p.Name) > maxIDBytes {
			return fmt.Errorf("%w: a protocol's name has between 1 and %d bytes", ErrInvalidRequest, maxIDBytes)
		}
		if slices.ContainsFunc(e.Protocols[:i], func(q Protocol) bool { return q.Name == p.Name }) {
			return fmt.Errorf("%w: protocol %q is there twice", ErrInvalidRequest, p.Name)
		}
	}
	return nil
}

func (g *Group) checkSubscription(s *Subscription) error {
	if s.Strategy != "" && !s.Strategy.known() {
		return fmt.Errorf("%w: there is no strategy %q; use %s, %s or %s", ErrInconsistentGroupProtocol,
			cut(string(s.Strategy)), Range, RoundRobin, CooperativeSticky)
	}
	if len(s.Topics) > g.limits.MaxTopics {
		return fmt.Errorf("%w: %d topics, at most %d are allowed", ErrInvalidRequest, len(s.Topics), g.limits.MaxTopics)
	}
	for _, topic := range s.Topics {
		if topic == "" || len(topic) > maxIDBytes {
			return fmt.Errorf("%w: a topic's name has between 1 and %d bytes", ErrInvalidRequest, maxIDBytes)
		}
	}
	if len(s.Owned) > g.limits.MaxPartitions {
		return fmt.Errorf("%w: %d partitions owned, at most %d are allowed", ErrInvalidRequest, len(s.Owned), g.limits.MaxPartitions)
	}
	for _, p := range s.Owned {
		if p.Partition < 0 || p.Topic == "" || len(p.Topic) > maxIDBytes {
			return fmt.Errorf("%w: an owned partition has no topic, a long one, or a negative number", ErrInvalidRequest)
		}
	}
	if len(s.Owned) > 0 && s.Strategy != "" && s.Strategy.eager() {
		return fmt.Errorf("%w: with strategy %s members give up all partitions before they join", ErrInvalidRequest, s.Strategy)
	}
	return nil
}

// checkWants says whether what e asks for fits the group with old (nil for a new member) in its new shape. It copies what
// will be kept.
func (g *Group) checkWants(old *member, e *Join) (asked wants, size int, err error) {
	size = askedBytes(e)
	if size > g.limits.MaxMemberBytes {
		return wants{}, 0, fmt.Errorf("%w: %d bytes of protocols or topics, at most %d are allowed", ErrInvalidRequest, size, g.limits.MaxMemberBytes)
	}
	others, rest := len(g.members), g.bytes
	if old != nil {
		others--
		rest -= old.bytes
	}
	if rest+size > g.limits.MaxGroupBytes {
		return wants{}, 0, fmt.Errorf("%w: its members would have more than %d bytes of protocols or topics", ErrGroupMaxSizeReached, g.limits.MaxGroupBytes)
	}
	if more := g.growsBy(e); more > 0 && g.Memory()+more > g.limits.MaxGroupMemory {
		return wants{}, 0, fmt.Errorf("%w: with this member it would take more than %d MiB of memory; subscribe to fewer topics or partitions", ErrGroupMaxSizeReached,
			g.limits.MaxGroupMemory>>20)
	}
	asked = askedOf(e)
	if others > 0 {
		if err := g.checkShared(old, &asked); err != nil {
			return wants{}, 0, err
		}
	}
	if e.Subscription != nil {
		if err := g.checkPartitions(old, &asked, e.Subscription); err != nil {
			return wants{}, 0, err
		}
	}
	return asked, size, nil
}

// checkShared says whether the other members and asked have something in common.
func (g *Group) checkShared(old *member, asked *wants) error {
	if asked.kind != g.kind || asked.protocolType != g.protocolType {
		return fmt.Errorf("%w: the group has members of another kind", ErrInconsistentGroupProtocol)
	}
	if asked.kind == subscribedKind {
		for _, other := range g.members {
			if other == old {
				continue
			}
			if asked.strategy != other.strategy { // they all have the same
				return fmt.Errorf("%w: the strategy of the group is %s", ErrInconsistentGroupProtocol, other.strategy)
			}
			break
		}
		return nil
	}
	for _, p := range asked.protocols {
		if g.allKnow(p.Name, old) {
			return nil
		}
	}
	return fmt.Errorf("%w: no protocol that all members know", ErrInconsistentGroupProtocol)
}

// allKnow says whether all members, but for one (nil for none), know a protocol.
func (g *Group) allKnow(protocol string, but *member) bool {
	if but == nil {
		return g.knowing[protocol] == len(g.members)
	}
	knowing := g.knowing[protocol]
	if but.knows(protocol) {
		knowing--
	}
	return knowing == len(g.members)-1
}

func askedBytes(e *Join) int {
	size := 0
	for _, p := range e.Protocols {
		size += len(p.Name) + len(p.Metadata)
	}
	if e.Subscription != nil {
		for _, topic := range e.Subscription.Topics {
			size += len(topic)
		}
	}
	return size
}

func askedOf(e *Join) wants {
	if s := e.Subscription; s != nil {
		asked := wants{kind: subscribedKind, topics: slices.Clone(s.Topics), strategy: s.Strategy}
		if asked.strategy == "" {
			asked.strategy = CooperativeSticky
		}
		slices.Sort(asked.topics)
		asked.topics = slices.Compact(asked.topics)
		return asked
	}
	asked := wants{kind: protocolKind, protocolType: e.ProtocolType, protocols: slices.Clone(e.Protocols)}
	for i := range asked.protocols {
		asked.protocols[i].Metadata = bytes.Clone(asked.protocols[i].Metadata)
	}
	return asked
}

// cut shortens what is only for people, at a character's border.
func cut(s string) string {
	if len(s) <= maxIDBytes {
		return s
	}
	end := maxIDBytes
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
