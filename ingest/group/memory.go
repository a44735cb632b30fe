package group

import "slices"

// About what a group takes in memory, in bytes. It is counted as the group changes, so that asking costs nothing.
const (
	// groupMemory is a group without members, memberMemory a member with its ids, as long as they may be, and pendingMemory an id that was given
	// out.
	groupMemory   = 4 << 10
	memberMemory  = 2 << 10
	pendingMemory = 512
	// protocolMemory and wantedMemory are a protocol of a member and a topic that it wants, beside their text, topicMemory is a topic of the group.
	protocolMemory = 64
	wantedMemory   = 48
	topicMemory    = 256
	// partitionMemory is a partition with who gets it, who has it and who holds it.
	partitionMemory = 192
)

// Memory is about how many bytes the group takes: what its members want, what they are assigned, and what they hold.
func (g *Group) Memory() int {
	return groupMemory + g.kept + len(g.pending)*pendingMemory + len(g.topics)*topicMemory + max(g.partitions, len(g.holders))*partitionMemory
}

// Grows is about how many bytes more the group would take when it accepted a Join or a Sync: never less. What other events add,
// such as topics that grow, is counted by Memory alone.
func (g *Group) Grows(event Event) int {
	switch e := event.(type) {
	case Join:
		return g.growsBy(&e)
	case Sync:
		if g.leader != e.MemberID {
			return 0
		}
		size := 0
		for id, assignment := range e.Assignments {
			if m := g.members[id]; m != nil {
				size += len(assignment) - len(m.assignment)
			}
		}
		return max(size, 0)
	default:
		return 0
	}
}

func (g *Group) growsBy(e *Join) int {
	old := g.members[e.MemberID]
	if old == nil && e.InstanceID != "" {
		old = g.statics[e.InstanceID]
	}
	kept := memberMemory + askedBytes(e) + len(e.Protocols)*protocolMemory
	before := 0
	if old != nil {
		before = old.kept
	}
	partitions, holders, topics := g.partitions, len(g.holders), 0
	if s := e.Subscription; s != nil {
		kept += len(s.Topics) * wantedMemory
		holders += holdsMore(old, s.Owned)
		for _, name := range s.Topics {
			if g.topics[name] == nil {
				topics++
			}
		}
		for name, count := range s.Partitions {
			if t := g.topics[name]; t != nil {
				count -= t.partitions
			}
			partitions += int(max(count, 0))
		}
	}
	more := max(partitions, holders) - max(g.partitions, len(g.holders))
	return max(kept-before, 0) + topics*topicMemory + more*partitionMemory
}

// holdsMore is how many partitions more a member, nil for a new one, holds when it joins with what it owns: that, and what is assigned to it
// when the join is answered with that.
func holdsMore(m *member, owned []TopicPartition) int {
	if m == nil {
		return len(owned)
	}
	holds := len(m.assigned)
	for _, p := range owned {
		if _, assigned := slices.BinarySearchFunc(m.assigned, p, TopicPartition.compare); !assigned {
			holds++
		}
	}
	return max(holds-len(m.holds), 0)
}

// keeps is what a member with such wants takes, beside its assignment and what it holds. Size is askedBytes.
func (w *wants) keeps(size int) int {
	return memberMemory + size + len(w.protocols)*protocolMemory + len(w.topics)*wantedMemory
}

// keep counts what a member takes.
func (g *Group) keep(m *member, bytes int) {
	g.kept += bytes - m.kept
	m.kept = bytes
}

// setAssignment takes an assignment of a leader over, which the group keeps from here on; nil for none.
func (g *Group) setAssignment(m *member, assignment []byte) {
	g.kept += len(assignment) - len(m.assignment)
	m.assignment = assignment
}
