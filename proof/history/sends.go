package history

import (
	"cmp"
	"slices"
)

// walkSends asks of each send where its records are.
func (c *checker) walkSends() {
	for i := range c.sends.len() {
		s := c.sends.at(i)
		l := &c.logs[s.partition]
		if s.outcome == OK {
			slot := l.slot(s.offset)
			for j := range int(s.count) {
				c.walkAcked(l, s, j, slot+j)
			}
		}
		if s.count > 1 && !s.mayRepeat {
			c.walkBatch(s)
		}
	}
}

func (c *checker) walkAcked(l *partitionLog, s *sent, j, slot int) {
	o, v := s.offset+int64(j), s.value+uint64(j)
	here := c.state.value[slot] == v && c.state.flags[slot]&isRead != 0
	if here && (c.state.have[slot] != 0 || c.state.covered[slot] == 0) {
		return
	}
	if place := int(c.places[int(s.first)+j]) - 1; place >= 0 {
		_, other := c.whereIs(place)
		if l.lost(o) && l.lost(other) && c.state.have[place] == 0 {
			place = slot // read where it was given up, acknowledged where it was given up again
		}
		if !here && place != slot && !(s.mayRepeat && l.excused(o)) {
			c.foundAtf(Duplicate, s.partition, o, "value %d was acknowledged here and is at offset %d: %s", v, other, c.sentText(s))
		}
		if c.state.have[place] != 0 || s.mayRepeat && l.excused(o) {
			return
		}
	}
	switch {
	case o < l.start:
	case l.lost(o):
		c.foundAtf(DeclaredLoss, s.partition, o, "value %d was acknowledged: %s", v, c.sentText(s))
	case c.state.covered[slot] != 0,
		!l.finals && c.state.flags[slot]&isPolled == 0 && o > l.firstRead && o < l.lastRead:
		c.foundAtf(LostWrite, s.partition, o, "value %d was acknowledged and is not in the log: %s", v, c.sentText(s))
	}
}

// walkBatch looks at the order of one batch's records in the log.
func (c *checker) walkBatch(s *sent) {
	last, skipped := -1, false
	for j := range int(s.count) {
		place := int(c.places[int(s.first)+j]) - 1
		if place < 0 {
			skipped = true
			continue
		}
		if last >= 0 && place < last {
			p, o := c.whereIs(place)
			c.foundAtf(IntNonmonotonicSend, p, o, "value %d is before %d: %s", s.value+uint64(j), s.value+uint64(j-1), c.sentText(s))
		}
		if last >= 0 && (skipped || place > last+1) {
			p, o := c.whereIs(place)
			c.foundAtf(IntSendSkip, p, o, "value %d does not follow on the record sent before it: %s", s.value+uint64(j), c.sentText(s))
		}
		last, skipped = place, false
	}
}

// orderSends compares the order of acknowledgements with the order of offsets: what was sent after an acknowledgement lies behind it. A send whose outcome
// is not known has the offset at which it is in the log, if it is.
func (c *checker) orderSends() {
	c.order = c.order[:0]
	for i := range c.sends.len() {
		if c.sends.at(i).outcome == OK {
			c.order = append(c.order, int32(i))
		}
	}
	byCompletion := func(a, b int32) int {
		return cmp.Compare(c.sends.at(int(a)).Complete, c.sends.at(int(b)).Complete)
	}
	if !slices.IsSortedFunc(c.order, byCompletion) {
		slices.SortStableFunc(c.order, byCompletion)
	}
	for len(c.acked) < len(c.logs) {
		c.acked = append(c.acked, timeline{})
	}
	for i := range c.acked {
		c.acked[i].steps = c.acked[i].steps[:0]
	}
	c.orderOwn(byCompletion)
	for _, i := range c.order {
		s, all := c.sends.at(int(i)), &c.acked[c.sends.at(int(i)).partition]
		if earlier, ok := all.before(s.Invoke); ok && earlier.reach > s.offset && !c.disordered[i] {
			c.foundf(RealtimeSend, "%s; but before it: %s", c.sentText(s), c.sentText(c.sends.at(int(earlier.who))))
		}
		all.add(s.Complete, s.offset+int64(s.count), i)
	}
	for i := range c.sends.len() {
		s := c.sends.at(i)
		if s.outcome != Info {
			continue
		}
		place := int(c.places[s.first]) - 1
		if place < 0 || s.mayRepeat { // of one that may be in the log twice, that place may be the second
			continue
		}
		if earlier, ok := c.acked[s.partition].before(s.Invoke); ok {
			if _, offset := c.whereIs(place); earlier.reach > offset {
				c.foundAtf(RealtimeSend, s.partition, offset, "%s; but before it: %s", c.sentText(s), c.sentText(c.sends.at(int(earlier.who))))
			}
		}
	}
}

// orderOwn does the same for each producer and partition alone, and notes which sends it found.
func (c *checker) orderOwn(byCompletion func(a, b int32) int) {
	if c.disordered == nil {
		c.disordered, c.firstOf = map[int32]bool{}, map[[2]int32]int32{}
	}
	clear(c.disordered)
	clear(c.firstOf)
	// The acknowledged sends of a producer to a partition are a chain of numbers, so that no list for each is needed.
	c.nextOf = zeroed(c.nextOf, c.sends.len())
	for _, i := range slices.Backward(c.order) {
		s := c.sends.at(int(i))
		key := [2]int32{s.Process, int32(s.partition)}
		next, ok := c.firstOf[key]
		if !ok {
			next = -1
		}
		c.nextOf[i], c.firstOf[key] = next, i
	}
	c.firsts = c.firsts[:0]
	for _, i := range c.firstOf {
		c.firsts = append(c.firsts, i)
	}
	slices.SortFunc(c.firsts, func(a, b int32) int { return cmp.Or(byCompletion(a, b), cmp.Compare(a, b)) })
	for _, i := range c.firsts {
		c.own.steps = c.own.steps[:0]
		for ; i >= 0; i = c.nextOf[i] {
			s := c.sends.at(int(i))
			if earlier, ok := c.own.before(s.Invoke); ok && earlier.reach > s.offset {
				c.disordered[i] = true
				c.foundf(NonmonotonicSend, "%s; but before it: %s", c.sentText(s), c.sentText(c.sends.at(int(earlier.who))))
			}
			c.own.add(s.Complete, s.offset+int64(s.count), i)
		}
	}
}
