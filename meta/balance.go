package meta

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/tidemark-io/tidemark/proof/mutant"
)

// PlacementStep is the next transaction on the way to the assignment that should be.
type PlacementStep struct {
	// Txn has nothing in Then when nothing is to be done, or not by this node.
	Txn Txn
	// Controls: the node is the controller.
	Controls bool
	// Moves counts the partitions that are assigned, or asked for; What and To say so for people.
	Moves    int
	What, To string
}

// PlanPlacement plans one step. Pure.
//
// Who controls: the node that holds the key controller, on its lease. When nobody does, every node tries. What is safe does not
// rest on it: every assignment also is a link in the chain of the key placement, of which it compares the revision and which it writes
// anew. So of two transactions planned from the same state at most one applies, however late, also when they touch different nodes.
//
// What moves: a partition that nobody leads; one that its node has let go at the epoch at which it led it; and when the node is not
// alive, or has another disk, whatever promises nothing that only that disk has. Everything else stays where it is. It goes to
// the node that leads the fewest, then to the one that leads the fewest of its topic, then to the zone that does. One
// transaction moves partitions from one node to one other, and raises the epoch of each, also of one that comes back to the same node.
//
// With balance, and when nothing else is to be done, the node that leads most is asked to let as many go as are above its share.
func (v *Index) PlanPlacement(reg Registration, balance bool) (PlacementStep, error) {
	if v.registered[reg.Node] != reg.NodeRev {
		return PlacementStep{}, fmt.Errorf("incarnation %s of node %s is not registered any more: %w", reg.Incarnation, reg.Node, ErrLeaseGone)
	}
	switch {
	case v.controller == nil, v.controller.node == reg.Node && v.controller.incarnation != reg.Incarnation:
		return v.elect(reg), nil
	case v.controller.node != reg.Node:
		return PlacementStep{}, nil
	}
	b := v.seats()
	if step := b.assign(); len(step.Txn.Then) > 0 {
		return step, nil
	}
	if step := b.tidy(); len(step.Txn.Then) > 0 {
		return step, nil
	}
	if balance {
		if step := b.balance(); len(step.Txn.Then) > 0 {
			return step, nil
		}
	}
	return PlacementStep{Controls: true}, nil
}

// elect makes the caller's node the controller. One that is being drained leaves that to others, while there are any.
func (v *Index) elect(reg Registration) PlacementStep {
	if _, draining := v.drains[reg.Node]; draining && v.heir(reg.Node) {
		return PlacementStep{}
	}
	compare := IfAbsent(v.keys.Controller())
	if v.controller != nil {
		compare = IfMod(v.keys.Controller(), v.controller.rev)
	}
	return PlacementStep{What: electedStep, Txn: Txn{
		If: []Compare{compare, IfMod(v.keys.Node(reg.Node), reg.NodeRev)},
		Then: []Op{PutLeasedOp(v.keys.Controller(), encodeJSON(controllerValue{
			Version: valueVersion, Node: string(reg.Node), Incarnation: reg.Incarnation.String(),
		}), reg.Lease)},
	}}
}

// seat is a node that partitions can be given to.
type seat struct {
	node    NodeID
	disk    string
	zone    string
	led     int
	byTopic map[TopicID]int
	room    int // partitions that still fit
	bytes   int // of its assignment's value, at most
}

// seating is an index on its way to a plan.
type seating struct {
	v     *Index
	seats []*seat // by node
	byID  map[NodeID]*seat
	zones map[string]map[TopicID]int
	due   []dueMove
	last  bool // every node is being drained, and those that do not stop have to do
}

// dueMove is a partition that needs another leader.
type dueMove struct {
	p     Partition
	from  NodeID // "" when nobody had it
	epoch Epoch  // the next
}

// seats looks at every partition: who keeps it, and which are due to move.
func (v *Index) seats() *seating {
	b := &seating{v: v, byID: make(map[NodeID]*seat), zones: make(map[string]map[TopicID]int)}
	add := func(n NodeInfo) {
		s := &seat{node: n.ID, disk: n.Disk, zone: n.Zone, byTopic: make(map[TopicID]int)}
		s.bytes = len(encodeAssignment(n.Disk, v.assigned[n.ID].Epochs))
		s.room = maxAssigned - len(v.assigned[n.ID].Epochs)
		b.seats, b.byID[n.ID] = append(b.seats, s), s
	}
	for _, n := range v.Nodes() {
		if _, draining := v.drains[n.ID]; leads(n) && !draining && !v.holdsBack(n) {
			add(n)
		}
	}
	if len(b.seats) == 0 { // nobody else is there: better a node that is being drained than none
		b.last = true
		for _, n := range v.Nodes() {
			if leads(n) && !v.drains[n.ID].Stopping && !v.holdsBack(n) {
				add(n)
			}
		}
	}
	topics := slices.Collect(maps.Values(v.byID))
	slices.SortFunc(topics, func(a, b Topic) int {
		return cmp.Or(cmp.Compare(a.CreateRevision, b.CreateRevision), slices.Compare(a.ID[:], b.ID[:]))
	})
	for _, t := range topics {
		for n := range t.Partitions {
			b.look(t, Partition{Topic: t.ID, Partition: n})
		}
	}
	return b
}

// holdsBack tells whether a node that has come back with another disk may lead nothing: its name still stands for the old disk, which may
// hold what nobody else has.
func (v *Index) holdsBack(n NodeInfo) bool {
	a, ok := v.assigned[n.ID]
	if !ok || a.Disk == n.Disk || mutant.On(mutant.B7) {
		return false
	}
	for p := range a.Epochs {
		if t, known := v.byID[p.Topic]; known && t.OnDisk() && v.released[n.ID][p] != a.Epochs[p] {
			return true
		}
	}
	return false
}

func (b *seating) look(t Topic, p Partition) {
	l, led := b.v.leaders[p]
	if !led {
		b.due = append(b.due, dueMove{p: p, epoch: 1})
		return
	}
	n, alive := b.v.nodes[l.Node]
	released, isReleased := b.v.released[l.Node][p]
	isReleased = isReleased && (released == l.Epoch || mutant.On(mutant.B5))
	switch {
	case isReleased:
	case alive && n.Disk == l.Disk:
		b.keep(l.Node, p.Topic)
		return
	case t.OnDisk() && !mutant.On(mutant.B4) && (!mutant.On(mutant.B7) || !alive):
		return // what only the disk has waits for it
	}
	b.due = append(b.due, dueMove{p: p, from: l.Node, epoch: l.Epoch + 1})
}

func (b *seating) keep(node NodeID, topic TopicID) {
	if s := b.byID[node]; s != nil {
		b.take(s, topic)
	}
}

func (b *seating) take(s *seat, topic TopicID) {
	s.led++
	s.byTopic[topic]++
	if b.zones[s.zone] == nil {
		b.zones[s.zone] = make(map[TopicID]int)
	}
	b.zones[s.zone][topic]++
}

// pick finds who leads a partition next, nil when nobody has room.
func (b *seating) pick(m dueMove) *seat {
	var best *seat
	for _, s := range b.seats {
		if s.room == 0 || s.bytes+topicBytes > maxAssignBytes {
			continue
		}
		if best == nil || cmp.Or(
			cmp.Compare(s.led, best.led), cmp.Compare(s.byTopic[m.p.Topic], best.byTopic[m.p.Topic]),
			cmp.Compare(b.zones[s.zone][m.p.Topic], b.zones[best.zone][m.p.Topic])) < 0 {
			best = s
		}
	}
	return best
}

// topicBytes is more than one run of one topic adds to an assignment's value.
const topicBytes = 48

// assign moves what is due from one node to one other: of all such pairs the one with most partitions.
func (b *seating) assign() PlacementStep {
	type pair struct{ from, to NodeID }
	moves := make(map[pair][]dueMove)
	var order []pair
	for _, m := range b.due {
		s := b.pick(m)
		if s == nil {
			continue // it waits until somebody has room
		}
		b.take(s, m.p.Topic)
		s.room--
		if s.byTopic[m.p.Topic] == 1 {
			s.bytes += topicBytes
		}
		at := pair{m.from, s.node}
		if moves[at] == nil {
			order = append(order, at)
		}
		moves[at] = append(moves[at], m)
	}
	if len(order) == 0 {
		return PlacementStep{Controls: true}
	}
	chosen := slices.MaxFunc(order, func(a, b pair) int { return cmp.Compare(len(moves[a]), len(moves[b])) })
	return b.move(chosen.from, b.byID[chosen.to], moves[chosen])
}

// move builds the transaction. What does not fit into the value of one assignment goes with a later one.
func (b *seating) move(from NodeID, to *seat, moves []dueMove) PlacementStep {
	v := b.v
	given := maps.Clone(v.assigned[to.node].Epochs)
	if given == nil {
		given = make(map[Partition]Epoch)
	}
	left := maps.Clone(v.assigned[from].Epochs)
	if before := v.assigned[to.node]; before.Revision > 0 && before.Disk != to.disk {
		// The value is of another disk now: nothing in it may stand at an epoch at which the former one wrote.
		for p, e := range given {
			given[p] = e + 1
		}
	}
	n := 0
	for _, m := range moves {
		given[m.p] = m.epoch
		if from != to.node {
			delete(left, m.p)
		}
		n++
	}
	value := encodeAssignment(to.disk, given)
	for len(value) > maxAssignBytes && n > 0 { // runs that fall apart take more than was reckoned
		half := n / 2
		for _, m := range moves[half:n] {
			delete(given, m.p)
			if before, ok := v.assigned[to.node].Epochs[m.p]; ok {
				given[m.p] = before + 1 // it comes back to its node with another disk
			}
			if from != "" && from != to.node {
				left[m.p] = v.assigned[from].Epochs[m.p]
			}
		}
		n = half
		value = encodeAssignment(to.disk, given)
	}
	if n == 0 {
		return PlacementStep{Controls: true}
	}
	step := PlacementStep{Controls: true, Moves: n, What: "taken over from " + string(from), To: string(to.node), Txn: Txn{
		// A node that has begun to stop since this was planned would take what it will not lead.
		If: append(v.placementGuards(from, to.node), v.receiverGuards(to.node)...),
		Then: []Op{
			PutOp(v.keys.Assign(to.node), value),
			placementOp(v.keys, v.placementCount),
		},
	}}
	if from == "" {
		step.What = "new"
	}
	if from != "" && from != to.node {
		step.Txn.Then = append(step.Txn.Then, PutOp(v.keys.Assign(from), encodeAssignment(v.assigned[from].Disk, left)))
	}
	return step
}

// receiverGuards are what an assignment compares of the node that it gives to: it is the one that was alive, with this disk, and it has not begun to
// stop since, or it would hold what it will not lead.
func (v *Index) receiverGuards(node NodeID) []Compare {
	if mutant.On(mutant.B1) || mutant.On(mutant.B2) {
		return nil
	}
	return []Compare{IfMod(v.keys.Node(node), v.registered[node]), IfMod(v.keys.Drain(node), v.drainRevs[node])}
}

// placementGuards are what every assignment compares: the chain, and who controls.
func (v *Index) placementGuards(from, to NodeID) []Compare {
	controller := IfAbsent(v.keys.Controller())
	if v.controller != nil {
		controller = IfMod(v.keys.Controller(), v.controller.rev)
	}
	switch {
	case mutant.On(mutant.B1):
		return []Compare{controller}
	case mutant.On(mutant.B2):
		out := []Compare{controller, IfMod(v.keys.Assign(to), v.assigned[to].Revision)}
		if from != "" && from != to {
			out = append(out, IfMod(v.keys.Assign(from), v.assigned[from].Revision))
		}
		return out
	}
	return []Compare{IfMod(v.keys.Placement(), v.placementRev), controller}
}

// tidy removes requests to let go that have been met or have no meaning any more.
func (b *seating) tidy() PlacementStep {
	for _, node := range slices.Sorted(maps.Keys(b.v.asked)) {
		if b.open(node) > 0 && b.v.nodesRev <= b.v.askedRevs[node] {
			continue // it may yet be met; when nodes have come or gone since, it is made anew
		}
		return PlacementStep{Controls: true, Txn: Txn{
			If:   []Compare{IfMod(b.v.keys.Controller(), b.v.controller.rev)},
			Then: []Op{DeleteOp(b.v.keys.Moves(node))},
		}}
	}
	return PlacementStep{Controls: true}
}

// open counts what a node was asked to let go and still leads at that epoch.
func (b *seating) open(node NodeID) int {
	if _, alive := b.v.nodes[node]; !alive {
		return 0
	}
	n := 0
	for p, e := range b.v.asked[node] {
		if l, ok := b.v.leaders[p]; ok && l.Node == node && l.Epoch == e {
			n++
		}
	}
	return n
}

// balance asks the node that leads most for what is above its share. One node at a time, and nothing while a request is open.
func (b *seating) balance() PlacementStep {
	if b.last || len(b.seats) < 2 || len(b.v.asked) > 0 || len(b.due) > 0 {
		return PlacementStep{Controls: true}
	}
	total := 0
	most, least := b.seats[0], b.seats[0]
	for _, s := range b.seats {
		total += s.led
		if s.led > most.led {
			most = s
		}
		if s.led < least.led && s.room > 0 {
			least = s
		}
	}
	share := (total + len(b.seats) - 1) / len(b.seats)
	surplus := most.led - share
	if most.led-least.led < 2 {
		return PlacementStep{Controls: true}
	}
	surplus = max(surplus, 1)
	asked := make(map[Partition]Epoch, surplus)
	// Of the topics of which it leads most, so that each is spread.
	counts := maps.Clone(most.byTopic)
	byTopic := make(map[TopicID][]Partition)
	a := b.v.assigned[most.node]
	for _, p := range sortPartitions(a.Epochs) {
		if _, known := b.v.byID[p.Topic]; known && b.v.Hole(p) == nil && !b.v.Released(most.node, p, a.Epochs[p]) {
			byTopic[p.Topic] = append(byTopic[p.Topic], p)
		}
	}
	topics := slices.SortedFunc(maps.Keys(byTopic), func(x, y TopicID) int { return slices.Compare(x[:], y[:]) })
	for len(asked) < surplus && len(topics) > 0 {
		id := slices.MaxFunc(topics, func(x, y TopicID) int { return cmp.Compare(counts[x], counts[y]) })
		list := byTopic[id]
		if len(list) == 0 {
			topics = slices.DeleteFunc(topics, func(t TopicID) bool { return t == id })
			continue
		}
		last := list[len(list)-1]
		byTopic[id], counts[id] = list[:len(list)-1], counts[id]-1
		asked[last] = a.Epochs[last]
	}
	if len(asked) == 0 {
		return PlacementStep{Controls: true}
	}
	return PlacementStep{Controls: true, Moves: len(asked), What: "asked for by balance", To: string(least.node), Txn: Txn{
		If:   []Compare{IfMod(b.v.keys.Controller(), b.v.controller.rev), IfAbsent(b.v.keys.Moves(most.node))},
		Then: []Op{PutOp(b.v.keys.Moves(most.node), encodeMoves(asked))},
	}}
}
