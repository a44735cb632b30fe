package history

import (
	"cmp"
	"math"
	"slices"
)

// position is where a process stands in a partition.
type position struct {
	next     int64 // the offset it needs next; -1 when only its next poll tells
	last     int   // number of its last poll or assignment, for examples
	assigned int   // number of a group assignment whose offset is open, or -1
}

// followConsumers follows each process through each partition: what it skipped, what it saw again, what it should have been given.
func (c *checker) followConsumers() {
	if c.positions == nil {
		c.positions = map[[2]int32]position{}
	}
	clear(c.positions)
	c.assigned = c.assigned[:0]
	for i := range c.polls.len() {
		p := c.polls.at(i)
		key := [2]int32{p.Process, int32(p.partition)}
		if p.assign {
			at := position{next: p.from, last: i, assigned: -1}
			if p.group != 0 && p.from < 0 {
				at.assigned = i
			} else if p.group != 0 {
				c.assigned = append(c.assigned, fetched{assign: true, FetchCommitted: FetchCommitted{
					Call: p.Call, Group: p.group, Partition: p.partition, Offset: p.from,
				}})
			}
			c.positions[key] = at
			continue
		}
		l := &c.logs[p.partition]
		at, ok := c.positions[key]
		switch {
		case !ok || at.next < 0:
			if ok && at.assigned >= 0 { // now it is known where the group put it
				a := c.polls.at(at.assigned)
				c.assigned = append(c.assigned, fetched{assign: true, FetchCommitted: FetchCommitted{
					Call:  Call{Process: p.Process, Invoke: a.Invoke, Complete: p.Complete},
					Group: a.group, Partition: p.partition, Offset: p.from,
				}})
			}
		case p.from < at.next:
			c.foundf(NonmonotonicPoll, "process %d was at offset %d: %s; then: %s", p.Process, at.next, c.pollText(at.last), c.pollText(i))
		case p.from > at.next:
			if o, skipped := c.knownBetween(l, at.next, p.from); skipped {
				c.foundf(PollSkip, "process %d was at offset %d: %s; then: %s; it missed offset %d%s",
					p.Process, at.next, c.pollText(at.last), c.pollText(i), o, lazy(func() string { return c.witnesses(p.partition, o) }))
			}
		}
		c.positions[key] = position{next: c.followPoll(l, p, i), last: i, assigned: -1}
	}
}

// followPoll checks one poll and returns the offset that the process needs next.
func (c *checker) followPoll(l *partitionLog, p *polled, number int) int64 {
	if p.linearizable {
		c.checkFresh(l, p, number)
	}
	if p.n == 0 {
		return p.from
	}
	switch {
	case p.first < p.from:
		c.foundf(NonmonotonicPoll, "asked from offset %d on: %s", p.from, c.pollText(number))
	case p.first > p.from:
		if o, skipped := c.knownBetween(l, p.from, p.first); skipped {
			c.foundf(PollSkip, "%s; it missed offset %d%s", c.pollText(number), o, lazy(func() string { return c.witnesses(p.partition, o) }))
		}
	}
	if !p.sparse {
		return p.first + int64(p.n)
	}
	last := p.first
	for j := 1; j < int(p.n); j++ {
		o, v := p.at(j)
		switch {
		case o <= last:
			c.foundf(IntNonmonotonicPoll, "value %d at offset %d behind offset %d: %s", v, o, last, c.pollText(number))
		case o > last+1:
			if missed, skipped := c.knownBetween(l, last+1, o); skipped {
				c.foundf(IntPollSkip, "offset %d behind offset %d: %s; it missed offset %d%s",
					o, last, c.pollText(number), missed, lazy(func() string { return c.witnesses(p.partition, missed) }))
			}
		}
		last = o
	}
	return last + 1
}

// checkFresh asks whether a linearizable poll was given what had been acknowledged before it began.
func (c *checker) checkFresh(l *partitionLog, p *polled, number int) {
	acked, ok := c.acked[p.partition].before(p.Invoke)
	if !ok || acked.reach <= p.from {
		return
	}
	missed := p.from
	if p.n > 0 {
		if p.water == 0 {
			return // it may have had no room
		}
		missed = max(missed, p.water)
	}
	if o, known := c.knownBetween(l, missed, acked.reach); known {
		c.foundf(StaleRead, "%s; offset %d was acknowledged before: %s", c.pollText(number), o, c.sentText(c.sends.at(int(acked.who))))
	}
}

// watchWaters checks that high watermarks do not go back, and that nobody read above them.
func (c *checker) watchWaters() {
	if c.waters.len() == 0 {
		return
	}
	order := make([]int32, c.waters.len())
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(c.waters.at(int(a)).Complete, c.waters.at(int(b)).Complete) })
	reached := make([]timeline, len(c.logs))
	for _, i := range order {
		w := c.waters.at(int(i))
		if earlier, ok := reached[w.Partition].before(w.Invoke); ok && earlier.reach > w.Offset {
			c.foundf(HighWatermarkBack, "%s; but before it: %s", c.waterText(w), c.waterText(c.waters.at(int(earlier.who))))
		}
		reached[w.Partition].add(w.Complete, w.Offset, i)
	}
	for p := range reached {
		l, n := &c.logs[p], len(reached[p].steps)
		if n == 0 || !l.toTheEnd() {
			continue
		}
		top := reached[p].steps[n-1]
		if hole, ok := l.hole(l.end, top.reach); ok {
			c.foundf(HighWatermarkBack, "%s ends at offset %d, and offset %d is missing; but before: %s",
				c.partitions.name(int32(p)), l.end, hole, c.waterText(c.waters.at(int(top.who))))
		}
	}

	// Whoever was given an offset before the high watermark was observed at or below it was given it too early.
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(c.waters.at(int(b)).Invoke, c.waters.at(int(a)).Invoke) })
	later := make([]timeline, len(c.logs)) // times and offsets negated: the lowest water observed after a time
	for _, i := range order {
		w := c.waters.at(int(i))
		later[w.Partition].add(-w.Invoke, -w.Offset, i)
	}
	for i := range c.polls.len() {
		p := c.polls.at(i)
		if p.n == 0 {
			continue
		}
		lowest, ok := later[p.partition].before(-p.Complete)
		if !ok {
			continue
		}
		if _, hi := p.bounds(); hi > -lowest.reach {
			c.foundf(PrecommittedRead, "%s; but after it: %s", c.pollText(i), c.waterText(c.waters.at(int(lowest.who))))
		}
	}
}

// toTheEnd tells whether a final read says where the log ends.
func (l *partitionLog) toTheEnd() bool {
	for _, told := range l.covered {
		for _, t := range told {
			if t.to == math.MaxInt64 {
				return true
			}
		}
	}
	return false
}
