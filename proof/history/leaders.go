package history

import (
	"cmp"
	"slices"
)

// checkLeaders checks that an epoch has one leader, that epochs rise with time, and that no two appends are given the same offsets.
func (c *checker) checkLeaders() {
	if c.leads.len() == 0 {
		return
	}
	order := make([]int32, c.leads.len())
	for i := range order {
		order[i] = int32(i)
	}
	at := func(i int32) *Lead { return c.leads.at(int(i)) }
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(at(a).Complete, at(b).Complete) })
	nodes := map[[2]int32]int32{}
	reached := make([]timeline, len(c.logs))
	for _, i := range order {
		l := at(i)
		key := [2]int32{int32(l.Partition), l.Epoch}
		if first, ok := nodes[key]; !ok {
			nodes[key] = i
		} else if at(first).Node != l.Node {
			c.foundf(TwoLeaders, "%s; and %s", c.leadText(at(first)), c.leadText(l))
		}
		if earlier, ok := reached[l.Partition].before(l.Invoke); ok && earlier.reach > int64(l.Epoch) {
			c.foundf(EpochBack, "%s; but before it: %s", c.leadText(l), c.leadText(at(earlier.who)))
		}
		reached[l.Partition].add(l.Complete, int64(l.Epoch), i)
	}
	slices.SortStableFunc(order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(at(a).Partition, at(b).Partition), cmp.Compare(at(a).From, at(b).From))
	})
	for i := 1; i < len(order); i++ {
		a, b := at(order[i-1]), at(order[i])
		if a.Partition == b.Partition && a.To > b.From && a.From < a.To && b.From < b.To {
			c.foundf(ReusedOffset, "%s; and %s", c.leadText(a), c.leadText(b))
		}
	}
}
