package history

import (
	"cmp"
	"slices"
)

// nearby is how many unnamed offsets may lie between two named ones of a segment. Logs that jump by 2^32, and offsets that
// are plain nonsense, so take no memory.
const nearby = 16

// segment maps the offsets [base, end) to slots that follow each other.
type segment struct {
	base, end int64
	slot      int
}

// slots has one entry for each offset of each segment.
type slots struct {
	value   []uint64
	flags   []uint8
	have    []uint8 // bit for each source that has a record here
	covered []uint8 // bit for each source that tells about this offset
}

const (
	isAcked  = 1 << iota // an acknowledgement names the offset
	isPolled             // a consumer was given a record here
	isFinal              // a final read has it
	isOther              // somebody was given another value than the first
	isMarked             // scratch

	isRead = isPolled | isFinal
)

func (s *slots) resize(n int) {
	s.value, s.flags, s.have, s.covered = zeroed(s.value, n), zeroed(s.flags, n), zeroed(s.have, n), zeroed(s.covered, n)
}

func zeroed[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	s = s[:n]
	clear(s)
	return s
}

func (l *partitionLog) note(r *run) {
	switch {
	case r.n == 0:
	case !r.sparse:
		l.noteRange(r.bounds())
	default:
		for i := range int(r.n) {
			o, _ := r.at(i)
			l.noteRange(o, o+1)
		}
	}
}

func (l *partitionLog) noteRange(from, to int64) {
	if n := len(l.segments); n > 0 {
		if last := &l.segments[n-1]; from >= last.base && from <= last.end+nearby {
			last.end = max(last.end, to)
			return
		}
	}
	l.segments = append(l.segments, segment{base: from, end: to})
}

// join sorts the noted ranges, merges them, and numbers their slots from first on; it returns the next free number.
func (l *partitionLog) join(first int) int {
	slices.SortFunc(l.segments, func(a, b segment) int { return cmp.Compare(a.base, b.base) })
	joined := l.segments[:0]
	for _, s := range l.segments {
		if n := len(joined); n > 0 && s.base <= joined[n-1].end+nearby {
			joined[n-1].end = max(joined[n-1].end, s.end)
		} else {
			joined = append(joined, s)
		}
	}
	l.segments = joined
	for i := range l.segments {
		l.segments[i].slot = first
		first += int(l.segments[i].end - l.segments[i].base)
	}
	return first
}

// slot returns the slot of an offset that was noted, or -1.
func (l *partitionLog) slot(offset int64) int {
	i := 0
	if len(l.segments) > 1 {
		i, _ = slices.BinarySearchFunc(l.segments, offset, func(s segment, offset int64) int { return cmp.Compare(s.end, offset+1) })
	}
	if i == len(l.segments) || offset < l.segments[i].base || offset >= l.segments[i].end {
		return -1
	}
	return l.segments[i].slot + int(offset-l.segments[i].base)
}

// lost tells whether an offset lies in a declared loss.
func (l *partitionLog) lost(offset int64) bool {
	for _, i := range l.losses {
		if offset >= i.from && offset < i.to {
			return true
		}
	}
	return false
}

// excused tells whether nobody need have a record at an offset.
func (l *partitionLog) excused(offset int64) bool { return offset < l.start || l.lost(offset) }

// hole returns the first offset of [from, to) that is not excused.
func (l *partitionLog) hole(from, to int64) (int64, bool) {
	from = max(from, l.start)
	for moved := true; moved && from < to; {
		moved = false
		for _, i := range l.losses {
			if from >= i.from && from < i.to {
				from, moved = i.to, true
			}
		}
	}
	return from, from < to
}

// knownBetween returns the first offset of [from, to) at which somebody saw, or was promised, a record that is not excused.
func (c *checker) knownBetween(l *partitionLog, from, to int64) (int64, bool) {
	for _, s := range l.segments {
		for o := max(from, s.base); o < min(to, s.end); o++ {
			if c.state.flags[s.slot+int(o-s.base)]&(isAcked|isRead) != 0 && !l.excused(o) {
				return o, true
			}
		}
	}
	return 0, false
}

// whereIs turns a slot back into the partition and offset that it stands for.
func (c *checker) whereIs(slot int) (Partition, int64) {
	for p := range c.logs {
		for _, s := range c.logs[p].segments {
			if slot >= s.slot && slot < s.slot+int(s.end-s.base) {
				return Partition(p), s.base + int64(slot-s.slot)
			}
		}
	}
	panic("history: slot of no partition")
}

// indexValues builds the table that finds the send of a value.
func (c *checker) indexValues() {
	size, bits := 16, uint(4)
	for size < 2*c.records {
		size, bits = 2*size, bits+1
	}
	c.table, c.shift = zeroed(c.table, size), 64-bits
	c.places = zeroed(c.places, c.records)
	for i := range c.sends.len() {
		s := c.sends.at(i)
	values:
		for v := s.value; v < s.value+uint64(s.count); v++ {
			at := c.hash(v)
			for ; c.table[at] != 0; at = (at + 1) & (size - 1) {
				if other := c.sends.at(int(c.table[at] - 1)); v-other.value < uint64(other.count) {
					c.foundf(Malformed, "value %d was sent twice: %s; %s", v, c.sentText(other), c.sentText(s))
					continue values
				}
			}
			c.table[at] = uint32(i + 1)
		}
	}
}

func (c *checker) hash(value uint64) int { return int(value * 0x9e3779b97f4a7c15 >> c.shift) }

// sender returns the send of a value and the number of the record, or nil when nobody sent it.
func (c *checker) sender(value uint64) (s *sent, record int) {
	for at := c.hash(value); c.table[at] != 0; at = (at + 1) & (len(c.table) - 1) {
		if s := c.sends.at(int(c.table[at] - 1)); value-s.value < uint64(s.count) {
			return s, int(s.first) + int(value-s.value)
		}
	}
	return nil, 0
}
