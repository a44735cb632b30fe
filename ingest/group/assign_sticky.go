package group

import (
	"cmp"
	"container/heap"
	"slices"
)

// sticky lets members keep what they own, gives what is free to those with the least, and evens out what is left.
func (a *assignment) sticky() {
	if len(a.topics) == 0 {
		return
	}
	owners := a.owners()
	for i := 1; i < len(a.topicsOf); i++ {
		if !slices.Equal(a.topicsOf[0], a.topicsOf[i]) {
			newBalance(a, owners).run()
			return
		}
	}
	a.stickyEqual(owners)
}

// free marks a partition that nobody owns.
const free = -1

// owners is the member that owns each partition, by topic and partition; free for nobody.
func (a *assignment) owners() [][]int {
	owners := make([][]int, len(a.topics))
	for t := range owners {
		owners[t] = slices.Repeat([]int{free}, int(a.counts[t]))
	}
	for i, member := range a.members {
		for _, p := range member.Owned {
			t, ok := a.topicNumbers[p.Topic]
			if !ok || p.Partition < 0 || p.Partition >= a.counts[t] || owners[t][p.Partition] != free {
				continue
			}
			if _, subscribed := slices.BinarySearch(a.topicsOf[i], t); subscribed {
				owners[t][p.Partition] = i
			}
		}
	}
	return owners
}

// stickyEqual is for members that all subscribe to the same topics. With n partitions and m members everyone gets n/m, and
// n%m members get one more. Whoever owns more than n/m is first among those; so no even assignment keeps more.
func (a *assignment) stickyEqual(owners [][]int) {
	total := 0
	owned := make([]int, len(a.members))
	for t := range owners {
		total += len(owners[t])
		for _, owner := range owners[t] {
			if owner != free {
				owned[owner]++
			}
		}
	}
	each, more := total/len(a.members), total%len(a.members)
	quota := make([]int, len(a.members))
	for i := range quota {
		quota[i] = min(owned[i], each)
		if owned[i] > each && more > 0 {
			quota[i]++
			more--
		}
	}
	for t := range owners {
		for partition, owner := range owners[t] {
			if owner == free || len(a.assigned[owner]) == quota[owner] {
				owners[t][partition] = free
				continue
			}
			a.give(owner, t, int32(partition))
		}
	}
	least := leastLoaded{load: quota, members: make([]int, len(a.members))}
	for i := range least.members {
		least.members[i] = i
	}
	heap.Init(&least)
	for t := range owners {
		for partition, owner := range owners[t] {
			if owner == free {
				a.give(least.take(), t, int32(partition))
			}
		}
	}
}

// leastLoaded is a heap of members by load, then by number. load is shared with its user.
type leastLoaded struct {
	load    []int
	members []int
}

func (h *leastLoaded) Len() int { return len(h.members) }
func (h *leastLoaded) Less(i, j int) bool {
	x, y := h.members[i], h.members[j]
	return cmp.Or(cmp.Compare(h.load[x], h.load[y]), cmp.Compare(x, y)) < 0
}
func (h *leastLoaded) Swap(i, j int) { h.members[i], h.members[j] = h.members[j], h.members[i] }

// Push and Pop are there for container/heap; members neither come nor go.
func (h *leastLoaded) Push(any) {}
func (h *leastLoaded) Pop() any { return nil }

// take adds one to the load of the member that has the least, and is that member.
func (h *leastLoaded) take() int {
	member := h.members[0]
	h.load[member]++
	heap.Fix(h, 0)
	return member
}

// searchBudget is how many (topic, member) pairs the search for moves looks at before it is content: one or two tenths of a
// second. A hundred members with a hundred topics stay far below it, whatever they subscribe to.
const searchBudget = 10_000_000

// balance evens out members with different subscriptions.
//
// Loads are as even as they can be when no chain c ← m ← … ← a exists along which each gives one partition to its neighbour
// on the left, which must subscribe to its topic, and a has at least two more than c. (This is the semi-matching problem; such
// chains are its cost-reducing paths.) Each chain lowers the sum of the squares of the loads, so it ends.
type balance struct {
	*assignment
	load []int
	// has are the partitions of each member, by topic; those that it owned before come first, and are moved last.
	has    []map[int][]int32
	budget int

	// The search, marked by its number so that nothing is cleared: who has been seen, and to whom through what they would give.
	search             int
	seenMember         []int
	seenTopic          []int
	giveTo, giveTopic  []int
	queue, byLoadFirst []int
	// settled is the round in which a search that failed came by the member.
	settled []int
}

func newBalance(a *assignment, owners [][]int) *balance {
	b := &balance{
		assignment: a, load: make([]int, len(a.members)), has: make([]map[int][]int32, len(a.members)), budget: searchBudget,
		seenMember: make([]int, len(a.members)), seenTopic: make([]int, len(a.topics)),
		giveTo: make([]int, len(a.members)), giveTopic: make([]int, len(a.members)),
		byLoadFirst: make([]int, len(a.members)), settled: make([]int, len(a.members)),
	}
	for i := range b.has {
		b.has[i] = make(map[int][]int32)
		b.byLoadFirst[i] = i
	}
	for t := range owners {
		for partition, owner := range owners[t] {
			if owner != free {
				b.put(owner, t, int32(partition))
			}
		}
	}
	// What has the fewest takers is given first.
	order := make([]int, len(a.topics))
	for t := range order {
		order[t] = t
	}
	slices.SortStableFunc(order, func(x, y int) int { return cmp.Compare(len(a.subscribers[x]), len(a.subscribers[y])) })
	for _, t := range order {
		least := leastLoaded{load: b.load, members: slices.Clone(a.subscribers[t])}
		heap.Init(&least)
		for partition, owner := range owners[t] {
			if owner == free {
				member := least.take()
				b.has[member][t] = append(b.has[member][t], int32(partition))
			}
		}
	}
	return b
}

func (b *balance) put(member, topic int, partition int32) {
	b.has[member][topic] = append(b.has[member][topic], partition)
	b.load[member]++
}

// run goes through the members from the least loaded on, until a round moves nothing.
//
// When no chain ends at c, none ends at a member m that the search came by either: m gives to c, so a chain to m that began at
// somebody with two more than m, who has no less than c, would have gone on to c.
func (b *balance) run() {
	for round, moved := 1, true; moved; round++ {
		moved = false
		slices.SortFunc(b.byLoadFirst, func(x, y int) int {
			return cmp.Or(cmp.Compare(b.load[x], b.load[y]), cmp.Compare(x, y))
		})
		for _, member := range b.byLoadFirst {
			if b.settled[member] == round {
				continue
			}
			for b.budget > 0 && b.raise(member) {
				moved = true
			}
			for _, other := range b.queue {
				b.settled[other] = round
			}
		}
	}
	for i := range b.members {
		for _, t := range b.topicsOf[i] {
			for _, partition := range b.has[i][t] {
				b.give(i, t, partition)
			}
		}
	}
}

// raise finds the shortest chain that ends at member, and moves along it. False: there is none.
func (b *balance) raise(member int) bool {
	b.search++
	b.seenMember[member] = b.search
	b.queue = append(b.queue[:0], member)
	for at := 0; at < len(b.queue) && b.budget > 0; at++ {
		to := b.queue[at]
		from := free // the most loaded that would do
		for _, t := range b.topicsOf[to] {
			if b.seenTopic[t] == b.search {
				continue
			}
			b.seenTopic[t] = b.search
			b.budget -= len(b.subscribers[t])
			for _, other := range b.subscribers[t] {
				if b.seenMember[other] == b.search || len(b.has[other][t]) == 0 {
					continue
				}
				b.seenMember[other], b.giveTo[other], b.giveTopic[other] = b.search, to, t
				b.queue = append(b.queue, other)
				if b.load[other] >= b.load[member]+2 && (from == free || b.load[other] > b.load[from]) {
					from = other
				}
			}
		}
		if from != free {
			b.move(from, member)
			return true
		}
	}
	return false
}

// move gives one partition on at each step of the chain from from to end.
func (b *balance) move(from, end int) {
	for from != end {
		to, t := b.giveTo[from], b.giveTopic[from]
		mine := b.has[from][t]
		last := len(mine) - 1
		b.load[from]--
		b.has[from][t] = mine[:last]
		b.put(to, t, mine[last])
		from = to
	}
}
