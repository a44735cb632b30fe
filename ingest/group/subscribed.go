package group

import (
	"fmt"
	"slices"
)

// subscribe counts a subscriber in on topics, unsubscribe out. What nobody subscribes to is forgotten.
func (g *Group) subscribe(topics []string) {
	for _, name := range topics {
		t := g.topics[name]
		if t == nil {
			t = &topic{}
			g.topics[name] = t
		}
		t.subscribers++
	}
}

func (g *Group) unsubscribe(topics []string) {
	for _, name := range topics {
		t := g.topics[name]
		if t.subscribers--; t.subscribers == 0 {
			g.partitions -= int(t.partitions)
			delete(g.topics, name)
		}
	}
}

// count takes over numbers of partitions, and says whether one that matters is new.
func (g *Group) count(partitions map[string]int32) (changed bool) {
	for name, count := range partitions {
		if t, ok := g.topics[name]; ok && t.partitions != max(count, 0) {
			g.partitions += int(max(count, 0) - t.partitions)
			t.partitions = max(count, 0)
			changed = true
		}
	}
	return changed
}

// checkPartitions says whether the group can have the topics of one more subscription, in the place of old's.
func (g *Group) checkPartitions(old *member, asked *wants, s *Subscription) error {
	total := g.partitions
	for _, name := range asked.topics {
		known := int32(0)
		if t, ok := g.topics[name]; ok {
			known = t.partitions
		}
		if count, ok := s.Partitions[name]; ok {
			total += int(max(count, 0)) - int(known)
		}
	}
	if old != nil {
		for _, name := range old.topics {
			if _, still := slices.BinarySearch(asked.topics, name); !still && g.topics[name].subscribers == 1 {
				total -= int(g.topics[name].partitions)
			}
		}
	}
	if total > g.limits.MaxPartitions && total > g.partitions {
		return fmt.Errorf("%w: the topics of the group would have %d partitions, at most %d are allowed", ErrInvalidRequest, total, g.limits.MaxPartitions)
	}
	if len(g.holders)+len(s.Owned) > 2*g.limits.MaxPartitions {
		return fmt.Errorf("%w: the members would own more than %d partitions", ErrInvalidRequest, 2*g.limits.MaxPartitions)
	}
	return nil
}

// partitionsChanged takes over new numbers of partitions.
func (g *Group) partitionsChanged(e PartitionsChanged) {
	if g.count(e.Partitions) && (g.state == Stable || g.state == CompletingRebalance) {
		g.prepare()
	}
}

// own sets what a member holds to what it says it owns. What another member holds it cannot: that was given to the other, or
// claimed first. It says whether anything changed.
func (g *Group) own(m *member, owned []TopicPartition) (changed bool) {
	before := m.holds
	m.holds = make(map[TopicPartition]struct{}, len(owned))
	for p := range before {
		delete(g.holders, p)
	}
	g.hold(m, owned)
	changed = len(before) != len(m.holds)
	for p := range m.holds {
		if _, held := before[p]; !held {
			changed = true
		}
	}
	m.blocks = m.blocks && len(m.beyond()) > 0
	return changed
}

// hold adds to what a member holds what nobody else does.
func (g *Group) hold(m *member, partitions []TopicPartition) {
	for _, p := range partitions {
		if _, held := g.holders[p]; !held {
			g.holders[p] = m
			m.holds[p] = struct{}{}
		}
	}
}

// beyond is what a member holds that is not assigned to it, sorted.
func (m *member) beyond() []TopicPartition {
	var beyond []TopicPartition
	for p := range m.holds {
		if _, assigned := slices.BinarySearchFunc(m.assigned, p, TopicPartition.compare); !assigned {
			beyond = append(beyond, p)
		}
	}
	slices.SortFunc(beyond, TopicPartition.compare)
	return beyond
}

// acknowledge takes a member's word that it holds nothing beyond what is assigned.
func (g *Group) acknowledge(m *member) {
	for _, p := range m.beyond() {
		delete(m.holds, p)
		delete(g.holders, p)
	}
	m.blocks = false
}

// assign makes targets of the members, and of them what each gets in the next generation: what nobody else holds. The rest
// is withheld until its holder has acknowledged.
//
// A target is also what the next target is made from, before what members hold. So the generation that follows when
// everything was given up gives everybody its target, and there is no third one.
func (g *Group) assign(members []*member) {
	targeted := make(map[TopicPartition]struct{}, g.partitions)
	for _, m := range members {
		for _, p := range m.target {
			targeted[p] = struct{}{}
		}
	}
	input := make([]AssignMember, len(members))
	for i, m := range members {
		owned := slices.Clone(m.target)
		for p := range m.holds {
			if _, ok := targeted[p]; !ok {
				owned = append(owned, p)
			}
		}
		input[i] = AssignMember{ID: m.id, InstanceID: m.instance, Topics: m.topics, Owned: owned}
	}
	partitions := make(map[string]int32, len(g.topics))
	for name, t := range g.topics {
		partitions[name] = t.partitions
	}
	targets := Assign(Strategy(g.protocol), input, partitions)
	for _, m := range members {
		m.target = targets[m.id]
		m.next = make([]TopicPartition, 0, len(m.target))
		for _, p := range m.target {
			if holder := g.holders[p]; holder == nil || holder == m {
				m.next = append(m.next, p)
			}
		}
	}
}

// handOut makes the stored generation the one that counts: from here on members may read what it assigns to them.
func (g *Group) handOut(members []*member) {
	for _, m := range members {
		m.assigned, m.next = m.next, nil
		g.hold(m, m.assigned)
	}
	g.withheld = false
	for _, m := range members {
		if len(m.assigned) == len(m.target) {
			continue
		}
		g.withheld = true
		for _, p := range m.target {
			if holder := g.holders[p]; holder != nil && holder != m && !holder.blocks {
				holder.blocks = true
				holder.blocksUntil = g.now.Add(holder.rebalanceTimeout)
				g.watch(holder.blocksUntil)
			}
		}
	}
}

// followUpDue says that what was withheld can be given out: nobody holds it any more.
func (g *Group) followUpDue() bool {
	if g.state != Stable || !g.withheld {
		return false
	}
	for _, m := range g.members {
		if m.blocks {
			return false
		}
	}
	return true
}
