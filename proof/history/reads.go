package history

import "math"

// placeFinals puts the final reads into the slots: they say first what the log is.
func (c *checker) placeFinals() {
	for i := range c.finals.len() {
		f := c.finals.at(i)
		l := &c.logs[f.partition]
		last := int64(-1)
		for j := range int(f.n) {
			o, v := f.at(j)
			if o <= last {
				c.foundAtf(IntNonmonotonicPoll, f.partition, o, "the final read of %q has it behind offset %d", c.sources.name(f.source), last)
			}
			last = o
			slot := l.slot(o)
			c.place(f.partition, o, slot, v, isFinal)
			c.state.have[slot] |= 1 << (f.source - 1)
			if len(l.losses) > 0 && l.lost(o) {
				c.foundAtf(ReusedOffset, f.partition, o, "a record in a range that was declared lost")
			}
		}
	}
}

// placePolls adds what consumers were given.
func (c *checker) placePolls() {
	for i := range c.polls.len() {
		p := c.polls.at(i)
		if p.n == 0 {
			continue
		}
		l := &c.logs[p.partition]
		if !p.sparse { // one slot after the other
			slot := l.slot(p.first)
			for j, v := range p.data {
				if c.state.flags[slot+j]&isRead != 0 && c.state.value[slot+j] == v {
					c.state.flags[slot+j] |= isPolled
				} else {
					c.place(p.partition, p.first+int64(j), slot+j, v, isPolled)
				}
			}
		} else {
			for j := range int(p.n) {
				o, v := p.at(j)
				c.place(p.partition, o, l.slot(o), v, isPolled)
			}
		}
		if _, hi := p.bounds(); p.water > 0 && hi > p.water {
			c.foundAtf(PrecommittedRead, p.partition, hi-1, "polled though the answer says that the high watermark was %d", p.water)
		}
	}
}

// place notes that a value was read at an offset, and compares it with what is there already.
func (c *checker) place(p Partition, offset int64, slot int, value uint64, flag uint8) {
	switch {
	case c.state.flags[slot]&isRead == 0:
		c.state.value[slot] = value
	case c.state.value[slot] != value:
		c.foundAtf(InconsistentOffsets, p, offset, "values %d and %d", c.state.value[slot], value)
		if c.state.flags[slot]&isFinal != 0 {
			if flag == isFinal {
				c.foundAtf(SourcesDisagree, p, offset, "values %d and %d", c.state.value[slot], value)
			} else if !c.logs[p].lost(offset) {
				c.foundAtf(PrecommittedRead, p, offset, "value %d was polled, at the end it is %d", value, c.state.value[slot])
			}
		}
		c.state.flags[slot] |= isOther
		if record := c.judge(p, offset, value); record >= 0 && flag == isFinal && c.places[record] == 0 {
			c.places[record] = uint32(slot + 1) // it is in the log, if only one source says so
		}
		return // the slot was not read with its own value
	}
	c.state.flags[slot] |= flag
}

// judge looks at whether a value may be in a partition at all; it returns the record's number when it may, or -1.
func (c *checker) judge(p Partition, offset int64, value uint64) int {
	s, record := c.sender(value)
	switch {
	case s == nil:
		c.foundAtf(Phantom, p, offset, "value %d, which nobody sent", value)
		return -1
	case s.partition != p:
		c.foundAtf(Phantom, p, offset, "value %d, which was sent elsewhere: %s", value, c.sentText(s))
		return -1
	case s.outcome == Fail:
		c.foundAtf(AbortedRead, p, offset, "value %d of a produce that failed: %s", value, c.sentText(s))
	}
	return record
}

// placeAcks compares the offsets that producers were told with what was read there, and with each other.
func (c *checker) placeAcks() {
	for i := range c.sends.len() {
		s := c.sends.at(i)
		if s.outcome != OK {
			continue
		}
		slot := c.logs[s.partition].slot(s.offset)
		for j := range int(s.count) {
			at, o, v := slot+j, s.offset+int64(j), s.value+uint64(j)
			flags := c.state.flags[at]
			c.state.flags[at] |= isAcked
			if flags&(isAcked|isRead) == 0 {
				c.state.value[at] = v
				continue
			}
			if c.state.value[at] != v && flags&isRead != 0 {
				c.foundAtf(InconsistentOffsets, s.partition, o, "acknowledged for value %d, read as %d", v, c.state.value[at])
			}
			if flags&isAcked != 0 {
				c.foundAtf(ReusedOffset, s.partition, o, "acknowledged for value %d and for another", v)
			}
		}
	}
}

// walkLog goes through each partition's slots in order: what is there twice, what should not be there, what is missing.
func (c *checker) walkLog() {
	for p := range c.logs {
		l := &c.logs[p]
		next := int64(math.MaxInt64) // where the next record of the final log must be
		for _, told := range l.covered {
			for _, t := range told {
				next = min(next, t.from)
			}
		}
		next = max(next, l.start)
		for _, s := range l.segments {
			for o := s.base; o < s.end; o++ {
				slot := s.slot + int(o-s.base)
				flags := c.state.flags[slot]
				if flags&isRead != 0 {
					if l.firstRead < 0 {
						l.firstRead = o
					}
					l.lastRead = o
					c.walkRecord(Partition(p), o, slot)
				}
				have, covered := c.state.have[slot], c.state.covered[slot]
				if have != 0 {
					if o > next {
						if hole, ok := l.hole(next, o); ok {
							c.foundAtf(Gap, Partition(p), hole, "no record from here to offset %d", o)
						}
					}
					next = max(next, o+1)
					if covered&^have != 0 && !l.excused(o) {
						c.foundAtf(SourcesDisagree, Partition(p), o, "value %d is missing in %s", c.state.value[slot], c.sourceNames(covered&^have))
					}
				} else if covered != 0 && flags&isPolled != 0 && !l.excused(o) {
					c.foundAtf(PrecommittedRead, Partition(p), o, "value %d was polled and is not there at the end", c.state.value[slot])
				}
			}
		}
	}
}

func (c *checker) walkRecord(p Partition, offset int64, slot int) {
	record := c.judge(p, offset, c.state.value[slot])
	switch {
	case record < 0:
	case c.places[record] == 0:
		c.places[record] = uint32(slot + 1)
	default:
		place := int(c.places[record] - 1)
		in, other := c.whereIs(place)
		s, _ := c.sender(c.state.value[slot])
		// What was given up with a disk, after somebody had read it there, may be sent again by a producer that had no answer.
		if given := &c.logs[in]; given.lost(other) && c.state.have[place] == 0 {
			c.places[record] = uint32(slot + 1)
			c.foundAtf(DeclaredLoss, in, other, "value %d was read and is at offset %d now: %s", c.state.value[slot], offset, c.sentText(s))
			return
		}
		if c.logs[p].lost(offset) && c.state.have[slot] == 0 {
			return
		}
		kind := Duplicate
		if s.mayRepeat {
			kind = RepeatedSend
		}
		c.foundAtf(kind, p, offset, "value %d is also at offset %d: %s", c.state.value[slot], other, c.sentText(s))
		if c.state.have[slot] != 0 && c.state.have[c.places[record]-1] == 0 {
			c.places[record] = uint32(slot + 1) // the final reads say best where it is
		}
	}
}

// checkSeen looks for records that a set of consumers should have polled and did not.
func (c *checker) checkSeen() {
	for _, set := range c.options.MustSee {
		members := map[int32]bool{}
		for _, m := range set {
			members[m] = true
		}
		for i := range c.state.flags {
			c.state.flags[i] &^= isMarked
		}
		for i := range c.polls.len() {
			p := c.polls.at(i)
			if !members[p.Process] {
				continue
			}
			for j := range int(p.n) {
				o, _ := p.at(j)
				c.state.flags[c.logs[p.partition].slot(o)] |= isMarked
			}
		}
		for slot, flags := range c.state.flags {
			if flags&isFinal == 0 || flags&isMarked != 0 {
				continue
			}
			if p, o := c.whereIs(slot); !c.logs[p].excused(o) {
				c.foundAtf(Unseen, p, o, "value %d was polled by none of the processes %v", c.state.value[slot], set)
			}
		}
	}
}
