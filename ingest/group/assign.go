package group

import (
	"cmp"
	"maps"
	"slices"
)

// Strategy is how partitions are given to subscribed members.
type Strategy string

const (
	// Range gives each member neighbouring partitions of each topic. Topics with as many partitions are assigned alike, so the
	// same member has the same partitions of both. Eager.
	Range Strategy = "range"
	// RoundRobin deals the partitions of all topics one by one. Eager.
	RoundRobin Strategy = "roundrobin"
	// CooperativeSticky is even and moves as little as it can; members go on reading while they rebalance.
	CooperativeSticky Strategy = "cooperative-sticky"
)

// known says whether there is such a strategy.
func (s Strategy) known() bool { return s == Range || s == RoundRobin || s == CooperativeSticky }

// eager says whether members give up everything before they join.
func (s Strategy) eager() bool { return s != CooperativeSticky }

// TopicPartition is a partition of a topic.
type TopicPartition struct {
	Topic     string
	Partition int32
}

func (p TopicPartition) compare(q TopicPartition) int {
	return cmp.Or(cmp.Compare(p.Topic, q.Topic), cmp.Compare(p.Partition, q.Partition))
}

// AssignMember is a member as the assignors see it.
type AssignMember struct {
	ID string
	// InstanceID orders the members instead of ID when it is not empty, so that a restart changes nothing.
	InstanceID string
	Topics     []string
	// Owned is what CooperativeSticky should let it keep. What does not exist, is not subscribed or is owned by a member
	// before it counts for nothing.
	Owned []TopicPartition
}

// Assign gives every partition of partitions (topic to count) that somebody subscribed to exactly one member that did. Every
// member is in the answer; its partitions are sorted. The same input gives the same output, whatever the order of members.
// Ids are unique. An unknown strategy is CooperativeSticky.
//
// CooperativeSticky: when all subscribe to the same topics, members differ by at most one partition and no assignment with
// that property keeps more. Otherwise no chain of moves makes it more even, unless the search for one got too long (see
// searchBudget). What it answered, given back as Owned, it answers again.
func Assign(strategy Strategy, members []AssignMember, partitions map[string]int32) map[string][]TopicPartition {
	a := newAssignment(members, partitions)
	switch strategy {
	case Range:
		a.byRange()
	case RoundRobin:
		a.roundRobin()
	default:
		a.sticky()
	}
	result := make(map[string][]TopicPartition, len(members))
	for i := range a.members {
		slices.SortFunc(a.assigned[i], TopicPartition.compare)
		result[a.members[i].ID] = a.assigned[i]
	}
	return result
}

// assignment is an assignor at work. Members and topics are numbers here: indexes in members and topics.
type assignment struct {
	members []AssignMember // sorted
	topics  []string       // sorted; those with partitions and a subscriber
	counts  []int32        // by topic
	// subscribers of each topic and topics of each member, ascending.
	subscribers  [][]int
	topicsOf     [][]int
	topicNumbers map[string]int

	assigned [][]TopicPartition // by member
}

func newAssignment(members []AssignMember, partitions map[string]int32) *assignment {
	a := &assignment{
		members:      slices.Clone(members),
		topicsOf:     make([][]int, len(members)),
		topicNumbers: make(map[string]int),
		assigned:     make([][]TopicPartition, len(members)),
	}
	slices.SortFunc(a.members, func(x, y AssignMember) int {
		return cmp.Or(cmp.Compare(x.order(), y.order()), cmp.Compare(x.ID, y.ID))
	})
	for _, member := range a.members {
		for _, topic := range member.Topics {
			if partitions[topic] > 0 {
				a.topicNumbers[topic] = 0
			}
		}
	}
	a.topics = slices.Sorted(maps.Keys(a.topicNumbers))
	a.counts = make([]int32, len(a.topics))
	a.subscribers = make([][]int, len(a.topics))
	for t, topic := range a.topics {
		a.topicNumbers[topic] = t
		a.counts[t] = partitions[topic]
	}
	for i, member := range a.members {
		for _, topic := range member.Topics {
			if t, ok := a.topicNumbers[topic]; ok {
				a.topicsOf[i] = append(a.topicsOf[i], t)
			}
		}
		slices.Sort(a.topicsOf[i])
		a.topicsOf[i] = slices.Compact(a.topicsOf[i])
		for _, t := range a.topicsOf[i] {
			a.subscribers[t] = append(a.subscribers[t], i)
		}
	}
	return a
}

func (m AssignMember) order() string { return cmp.Or(m.InstanceID, m.ID) }

func (a *assignment) give(member, topic int, partition int32) {
	a.assigned[member] = append(a.assigned[member], TopicPartition{a.topics[topic], partition})
}

// byRange cuts each topic into as many runs as it has subscribers; the first ones are longer by one where it does not divide.
func (a *assignment) byRange() {
	for t, subscribers := range a.subscribers {
		each, longer := a.counts[t]/int32(len(subscribers)), a.counts[t]%int32(len(subscribers))
		next := int32(0)
		for i, member := range subscribers {
			length := each
			if int32(i) < longer {
				length++
			}
			for range length {
				a.give(member, t, next)
				next++
			}
		}
	}
}

// roundRobin deals all partitions in their order to the members in theirs; who did not subscribe is passed over.
func (a *assignment) roundRobin() {
	turn := 0
	for t, subscribers := range a.subscribers {
		for partition := range a.counts[t] {
			// The next subscriber at or behind the turn, or from the front.
			at, _ := slices.BinarySearch(subscribers, turn)
			member := subscribers[at%len(subscribers)]
			a.give(member, t, partition)
			turn = (member + 1) % len(a.members)
		}
	}
}
