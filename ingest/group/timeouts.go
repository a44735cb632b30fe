package group

import "time"

// tick applies every deadline that has passed, and finds the next.
func (g *Group) tick() {
	if g.state == Dead {
		return
	}
	if g.storing && g.joined > 0 && g.passed(g.storeUntil) {
		g.storeLate()
	}
	for id, until := range g.pending {
		if g.passed(until) {
			delete(g.pending, id)
		}
	}
	dropped := false
	for _, m := range g.inOrder() {
		silent := !m.waits() && g.passed(m.silentUntil)
		unsynced := g.syncing() && !m.synced && g.passed(g.syncUntil)
		stubborn := m.blocks && g.state == Stable && g.passed(m.blocksUntil)
		if silent || unsynced || stubborn {
			g.drop(m, ErrUnknownMemberID)
			dropped = true
		}
	}
	if g.syncing() && g.passed(g.syncUntil) {
		g.syncUntil = time.Time{}
	}
	if dropped {
		g.membersLeft()
	}
	g.completeIfDue()
	g.wake = g.nextDeadline()
}

func (g *Group) passed(deadline time.Time) bool { return !g.now.Before(deadline) }

// syncing says that members which have been told their generation must sync by syncUntil.
func (g *Group) syncing() bool { return !g.syncUntil.IsZero() }

// storeLate answers the joins that have waited too long for their generation to be stored. Whoever knows its id can ask again.
func (g *Group) storeLate() {
	g.storeUntil = g.now.Add(g.longestRebalance())
	dropped := false
	for _, m := range g.inOrder() {
		if !m.joining.open {
			continue
		}
		g.closeJoin(m, Reply{Err: ErrCoordinatorNotAvailable})
		if !m.told {
			g.drop(m, ErrUnknownMemberID)
			dropped = true
		}
	}
	if dropped {
		g.membersLeft()
	}
}

// nextDeadline is the earliest of all; zero when there is none.
func (g *Group) nextDeadline() time.Time {
	var next time.Time
	consider := func(deadline time.Time) {
		if next.IsZero() || deadline.Before(next) {
			next = deadline
		}
	}
	if g.storing && g.joined > 0 {
		consider(g.storeUntil)
	}
	if g.state == PreparingRebalance && !g.storing {
		consider(g.completeUntil)
		if g.now.Before(g.gatherUntil) {
			consider(g.gatherUntil)
		}
		if g.takenOver() && g.now.Before(g.expectUntil) {
			consider(g.expectUntil)
		}
	}
	for _, until := range g.pending {
		consider(until)
	}
	if g.syncing() {
		consider(g.syncUntil)
	}
	for _, m := range g.members {
		if !m.waits() {
			consider(m.silentUntil)
		}
		if m.blocks {
			consider(m.blocksUntil)
		}
	}
	return next
}
