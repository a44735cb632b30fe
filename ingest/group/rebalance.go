package group

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"time"
)

// prepare begins a rebalance: every member is to join. Joins that wait for an earlier one count for this one.
func (g *Group) prepare() {
	fromEmpty := g.state == Empty
	g.state = PreparingRebalance
	g.syncUntil = time.Time{}
	g.withheld = false
	for _, m := range g.inOrder() {
		m.blocks = false
		g.closeSync(m, Reply{Err: ErrRebalanceInProgress})
	}
	g.completeUntil = g.now.Add(g.longestRebalance())
	g.watch(g.completeUntil)
	g.gatherUntil = g.now
	if fromEmpty && g.limits.InitialDelay > 0 {
		g.gatherUntil = earlier(g.now.Add(g.limits.InitialDelay), g.completeUntil)
		g.watch(g.gatherUntil)
	}
	if fromEmpty && g.expected > 0 {
		g.expectUntil = g.now.Add(g.limits.TakeoverDelay)
		g.watch(g.expectUntil)
	}
	g.completeIfDue()
}

// longestRebalance is how long the slowest member may take.
func (g *Group) longestRebalance() time.Duration {
	longest := time.Duration(0)
	for _, m := range g.members {
		longest = max(longest, m.rebalanceTimeout)
	}
	return longest
}

// completeIfDue ends the preparation when everyone has joined, or when it has lasted long enough.
func (g *Group) completeIfDue() {
	if g.state != PreparingRebalance || g.storing {
		return
	}
	if g.now.Before(g.completeUntil) {
		gathering := g.now.Before(g.gatherUntil) || len(g.members) < g.expected && g.now.Before(g.expectUntil)
		if gathering || g.joined < len(g.members) || len(g.pending) > 0 {
			return
		}
	} else if !g.dropLate() {
		return
	}
	g.complete()
}

// dropLate removes who has not joined in time; static members stay until their session expires. False: nobody is there to
// go on with yet.
func (g *Group) dropLate() bool {
	for _, m := range g.inOrder() {
		if !m.joining.open && m.instance == "" {
			g.drop(m, ErrUnknownMemberID)
		}
	}
	if len(g.members) == 0 {
		g.empty()
		return false
	}
	if g.joined == 0 {
		g.completeUntil = g.now.Add(g.longestRebalance())
		g.watch(g.completeUntil)
		return false
	}
	return true
}

// complete makes the next generation of the members that are there, to be stored before they hear of it.
func (g *Group) complete() {
	if g.generation == math.MaxInt32 {
		g.die() // none can follow; the group must be deleted
		return
	}
	members := g.inOrder()
	g.expected = 0
	clear(g.leftBefore)
	if leader, ok := g.members[g.leader]; !ok || !leader.joining.open {
		g.leader = members[slices.IndexFunc(members, func(m *member) bool { return m.joining.open })].id
	}
	g.generation++
	g.state = CompletingRebalance
	if g.kind == subscribedKind {
		g.protocol = string(members[0].strategy)
		g.assign(members)
	} else {
		g.protocol = g.choose()
	}
	g.storing = true
	g.storeUntil = g.now.Add(g.longestRebalance())
	g.watch(g.storeUntil)
	g.out.Store = &Snapshot{
		Generation: g.generation, ProtocolType: g.protocolType, Protocol: g.protocol,
		Members: len(members), Digest: digest(members),
	}
}

// choose is the protocol that all members know and most want first. When as many want another, the leader decides.
func (g *Group) choose() string {
	members := g.inOrder()
	leader := g.members[g.leader]
	if leader == nil {
		leader = members[0]
	}
	votes := make(map[string]int)
	for _, p := range leader.protocols {
		if g.allKnow(p.Name, nil) {
			votes[p.Name] = 0
		}
	}
	for _, m := range members {
		for _, p := range m.protocols {
			if _, ok := votes[p.Name]; ok {
				votes[p.Name]++
				break
			}
		}
	}
	chosen := ""
	for _, p := range leader.protocols {
		if count, ok := votes[p.Name]; ok && (chosen == "" || count > votes[chosen]) {
			chosen = p.Name
		}
	}
	return chosen
}

func digest(members []*member) [sha256.Size]byte {
	sorted := slices.Clone(members)
	slices.SortFunc(sorted, func(a, b *member) int { return cmp.Compare(a.id, b.id) })
	hash := sha256.New()
	for _, m := range sorted {
		for _, id := range [2]string{m.id, m.instance} {
			hash.Write(binary.BigEndian.AppendUint16(nil, uint16(len(id))))
			hash.Write([]byte(id))
		}
	}
	return [sha256.Size]byte(hash.Sum(nil))
}

// stored goes on when a generation is durable: its members hear of it, unless a new rebalance has begun meanwhile.
func (g *Group) stored(generation int32) {
	if !g.storing || generation != g.generation {
		return
	}
	g.storing = false
	switch g.state {
	case CompletingRebalance:
		g.release()
	case PreparingRebalance:
		if !g.now.Before(g.completeUntil) {
			// What was late is the store, not the members.
			g.completeUntil = g.now.Add(g.longestRebalance())
		}
		g.watch(g.completeUntil)
		g.watch(g.gatherUntil)
		g.completeIfDue()
	default: // everyone left
	}
}

// release tells the members their place in the generation.
func (g *Group) release() {
	g.told = g.generation
	members := g.inOrder()
	for _, m := range members {
		m.generation = g.told
		g.setAssignment(m, nil)
		m.synced = false
		g.alive(m)
	}
	if g.kind == subscribedKind {
		g.state = Stable
		g.handOut(members)
	} else {
		g.syncUntil = g.now.Add(g.longestRebalance())
		g.watch(g.syncUntil)
	}
	for _, m := range members {
		if m.joining.open {
			g.closeJoin(m, Reply{Join: g.place(m)})
		}
	}
	if g.followUpDue() {
		g.prepare()
	}
}

// place is what a member hears of the generation that was told last.
func (g *Group) place(m *member) *JoinResult {
	result := &JoinResult{
		Generation: g.told, MemberID: m.id, Leader: g.leader,
		ProtocolType: g.protocolType, Protocol: g.protocol,
	}
	if g.kind == subscribedKind {
		result.Assigned = m.assigned
		result.Revoked = m.beyond()
		result.Acknowledge = m.blocks
		result.Withheld = g.withheld
	} else if g.leader == m.id {
		for _, other := range g.inOrder() {
			result.Members = append(result.Members, JoinedMember{
				MemberID: other.id, InstanceID: other.instance, Metadata: other.metadata(g.protocol),
			})
		}
	}
	return result
}
