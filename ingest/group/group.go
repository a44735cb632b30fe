package group

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// State is where a group is; doc.go draws it.
type State int

const (
	// Empty: no members. Simple consumers may commit.
	Empty State = iota
	// PreparingRebalance: members are to join.
	PreparingRebalance
	// CompletingRebalance: the generation is being made durable, or its leader has not brought the assignments yet.
	CompletingRebalance
	// Stable: every member can have its assignment.
	Stable
	// Dead: deleted, or coordinated elsewhere. There is no way back.
	Dead
)

// String is the state's name as Kafka's tools show it.
func (s State) String() string {
	return [...]string{"Empty", "PreparingRebalance", "CompletingRebalance", "Stable", "Dead"}[s]
}

// Group is the machine of one consumer group. It has no clock, does no I/O and starts no goroutine; its methods are called by
// one goroutine at a time.
//
// Generations, where told is the last one that members could hear of:
//
//	told <= generation            they differ only from complete to release
//	storing: the outcome of Store{generation} is not known yet; there is no next generation before it is
//	member.generation <= told
type Group struct {
	name   string
	limits Limits
	now    time.Time // the latest that Step heard

	state   State
	members map[string]*member
	// statics are the members with an instance id, by it.
	statics map[string]*member
	// pending are ids that were given out (MEMBER_ID_REQUIRED) and have not joined, with their deadlines.
	pending map[string]time.Time
	waiting map[Token]*member
	arrived uint64
	joined  int // members whose join waits
	bytes   int // of all members
	kept    int // what all members take in memory, with their assignments and without what they hold

	kind         kind
	protocolType string
	knowing      map[string]int // how many members know each protocol
	protocol     string         // of the last completed rebalance; a strategy for subscribed members
	leader       string

	generation, told int32
	storing          bool
	storeUntil       time.Time

	// Of the rebalance that is prepared: complete when all have joined, but not before gatherUntil, nor before there are
	// expected members or it is expectUntil; at completeUntil with those that are there.
	gatherUntil, expectUntil, completeUntil time.Time
	// expected is how many members the coordinator before had; 0 once this one has completed a rebalance.
	expected int
	// leftBefore are the members of the coordinator before that have left this one, so that each counts once.
	leftBefore map[string]struct{}
	// returnUntil is how long members of the coordinator before count as members.
	returnUntil time.Time
	// syncUntil is when members that have not synced are removed; zero: all have.
	syncUntil time.Time

	// What subscribed members want and have.
	topics     map[string]*topic
	partitions int // of all topics
	holders    map[TopicPartition]*member
	withheld   bool

	out  Effects
	wake time.Time
}

// topic is one that subscribed members want.
type topic struct {
	subscribers int
	partitions  int32
}

// New makes the machine of a group that this node coordinates from now on.
func New(name string, restored Restored, limits Limits) *Group {
	generation := max(restored.Generation, 0)
	return &Group{
		name: name, limits: limits.withDefaults(),
		members: make(map[string]*member), statics: make(map[string]*member), pending: make(map[string]time.Time),
		waiting: make(map[Token]*member), knowing: make(map[string]int), topics: make(map[string]*topic), holders: make(map[TopicPartition]*member),
		generation: generation, told: generation, expected: max(restored.Members, 0),
		leftBefore: make(map[string]struct{}), returnUntil: restored.At.Add(limits.withDefaults().ReturnDelay),
	}
}

// Step applies one event and says what is to be done. Time that goes back stands still.
func (g *Group) Step(now time.Time, event Event) Effects {
	if now.After(g.now) {
		g.now = now
	}
	switch e := event.(type) {
	case Join:
		g.join(e)
	case Sync:
		g.sync(e)
	case Heartbeat:
		g.reply(Reply{Token: e.Token, Err: g.heartbeat(e)})
	case Leave:
		g.leave(e)
	case Delete:
		g.reply(Reply{Token: e.Token, Err: g.remove()})
	case Tick:
		g.tick()
	case PartitionsChanged:
		g.partitionsChanged(e)
	case Cancel:
		g.cancel(e.Token)
	case Stored:
		g.stored(e.Generation)
	case StoreFailed, Resign:
		g.die()
	}
	out := g.out
	out.Wake = g.wake
	g.out = Effects{}
	return out
}

// State is where the group is.
func (g *Group) State() State { return g.state }

// Size is how many members there are, without those of the coordinator before.
func (g *Group) Size() int { return len(g.members) }

// ProtocolType is that of the members; empty for subscribed members, and without any.
func (g *Group) ProtocolType() string { return g.protocolType }

// CheckEmpty says whether somebody outside may change the group: it has no members, and none of the coordinator before that may come back.
func (g *Group) CheckEmpty(now time.Time) error {
	switch {
	case g.state == Dead:
		return ErrNotCoordinator
	case g.state != Empty:
		return fmt.Errorf("%w: it is %s", ErrNonEmptyGroup, g.state)
	case g.takenOver() && now.Before(g.returnUntil):
		return fmt.Errorf("%w: its coordinator has changed, and its %d members may come back until %v have passed", ErrNonEmptyGroup,
			g.expected, g.returnUntil.Sub(now).Round(time.Second))
	}
	return nil
}

// Generation is the last one that members could hear of.
func (g *Group) Generation() int32 { return g.told }

func (g *Group) reply(r Reply) { g.out.Replies = append(g.out.Replies, r) }

// watch makes sure that a Tick comes by then. What is later already counts on it.
func (g *Group) watch(deadline time.Time) {
	if g.wake.IsZero() || deadline.Before(g.wake) {
		g.wake = deadline
	}
}

// inOrder are the members by arrival.
func (g *Group) inOrder() []*member {
	members := make([]*member, 0, len(g.members))
	for _, m := range g.members {
		members = append(members, m)
	}
	slices.SortFunc(members, func(a, b *member) int { return cmp.Compare(a.order, b.order) })
	return members
}

// alive begins the member's session anew.
func (g *Group) alive(m *member) {
	m.silentUntil = g.now.Add(m.sessionTimeout)
	g.watch(m.silentUntil)
}

// openJoin lets the member's join wait; an earlier one is sent away.
func (g *Group) openJoin(m *member, token Token) {
	if m.joining.open {
		g.closeJoin(m, Reply{Err: ErrRebalanceInProgress})
	}
	m.joining = call{token: token, open: true}
	g.waiting[token] = m
	g.joined++
	if g.storing {
		if !g.storeUntil.After(g.now) {
			g.storeUntil = g.now.Add(m.rebalanceTimeout)
		}
		g.watch(g.storeUntil)
	}
}

// closeJoin answers the member's join, if one waits; its session goes on from here.
func (g *Group) closeJoin(m *member, r Reply) {
	if m.joining.open {
		r.Token = m.joining.token
		m.told = m.told || r.Join != nil
		g.reply(r)
		g.forgetJoin(m)
	}
}

func (g *Group) forgetJoin(m *member) {
	delete(g.waiting, m.joining.token)
	m.joining = call{}
	g.joined--
	g.alive(m)
}

func (g *Group) openSync(m *member, token Token) {
	if m.syncing.open {
		g.closeSync(m, Reply{Err: ErrRebalanceInProgress})
	}
	m.syncing = call{token: token, open: true}
	g.waiting[token] = m
}

// closeSync answers the member's sync, if one waits.
func (g *Group) closeSync(m *member, r Reply) {
	if m.syncing.open {
		r.Token = m.syncing.token
		g.reply(r)
		g.forgetSync(m)
	}
}

func (g *Group) forgetSync(m *member) {
	delete(g.waiting, m.syncing.token)
	m.syncing = call{}
	g.alive(m)
}

// cancel forgets a waiting call without an answer.
func (g *Group) cancel(token Token) {
	m, ok := g.waiting[token]
	if !ok {
		return
	}
	if m.syncing.open && m.syncing.token == token {
		g.forgetSync(m)
		return
	}
	g.forgetJoin(m)
	if !m.told {
		g.drop(m, ErrUnknownMemberID)
		g.membersLeft()
	}
}

// drop takes a member out and tells its calls why. membersLeft comes after the last of a step.
func (g *Group) drop(m *member, why error) {
	g.closeJoin(m, Reply{Err: why})
	g.closeSync(m, Reply{Err: why})
	delete(g.members, m.id)
	if m.instance != "" {
		delete(g.statics, m.instance)
	}
	for p := range m.holds {
		delete(g.holders, p)
	}
	g.unsubscribe(m.topics)
	g.know(m.protocols, -1)
	g.bytes -= m.bytes
	g.setAssignment(m, nil)
	g.keep(m, 0)
	if g.leader == m.id {
		g.leader = ""
	}
}

// know counts a member in or out on its protocols.
func (g *Group) know(protocols []Protocol, by int) {
	for _, p := range protocols {
		if g.knowing[p.Name] += by; g.knowing[p.Name] == 0 {
			delete(g.knowing, p.Name)
		}
	}
}

// membersLeft goes on after members were dropped.
func (g *Group) membersLeft() {
	switch {
	case g.state == Dead || g.state == Empty:
	case len(g.members) == 0:
		g.empty()
	case g.state == PreparingRebalance:
		g.completeIfDue()
	default:
		g.prepare()
	}
}

// empty is the state after the last member.
func (g *Group) empty() {
	g.state = Empty
	g.kind, g.protocolType, g.protocol, g.leader = noKind, "", "", ""
	g.withheld = false
	g.syncUntil = time.Time{}
}

// remove deletes the group if it is empty.
func (g *Group) remove() error {
	if err := g.CheckEmpty(g.now); err != nil {
		return err
	}
	if g.storing {
		return ErrCoordinatorNotAvailable // or what is on its way would be stored after the group is gone
	}
	g.die()
	return nil
}

// die sends everyone away for good.
func (g *Group) die() {
	for _, m := range g.inOrder() {
		g.drop(m, ErrNotCoordinator)
	}
	g.empty()
	clear(g.pending)
	g.storing = false
	g.state = Dead
	g.wake = time.Time{}
}
