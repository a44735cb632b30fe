package history

import (
	"cmp"
	"slices"
)

// checkQueries compares answers with the log below the position that they name, and the position with what was acknowledged.
func (c *checker) checkQueries() {
	c.report.Seen.Queries, c.report.Seen.Answers = c.queries, c.answers.len()
	if c.answers.len() == 0 {
		return
	}
	bounds := make([][]bound, len(c.logs))
	sums := make([]prefix, c.answers.len())
	for i := range c.answers.len() {
		a := c.answers.at(i)
		if acked, ok := c.acked[a.Partition].before(a.Invoke); ok && !a.asOf && acked.reach > a.End {
			if o, known := c.knownBetween(&c.logs[a.Partition], a.End, acked.reach); known {
				c.foundf(StaleQuery, "%s; offset %d was acknowledged before it: %s", c.answerText(a), o, c.sentText(c.sends.at(int(acked.who))))
			}
		}
		if c.countable(a) {
			bounds[a.Partition] = append(bounds[a.Partition], bound{offset: a.From, answer: int32(i), minus: true}, bound{offset: a.End, answer: int32(i)})
		}
	}
	for p, bs := range bounds {
		if len(bs) == 0 {
			continue
		}
		slices.SortFunc(bs, func(a, b bound) int { return cmp.Compare(a.offset, b.offset) })
		var below prefix
		for _, s := range c.logs[p].segments {
			for o := s.base; o < s.end; o++ {
				for len(bs) > 0 && bs[0].offset <= o {
					bs = sums[bs[0].answer].take(bs, below)
				}
				if slot := s.slot + int(o-s.base); c.state.have[slot] != 0 {
					below.count, below.sum = below.count+1, below.sum+c.state.value[slot]
				}
			}
		}
		for len(bs) > 0 {
			bs = sums[bs[0].answer].take(bs, below)
		}
	}
	for i := range c.answers.len() {
		a := c.answers.at(i)
		if c.countable(a) && (sums[i].count != a.Count || sums[i].sum != a.Sum) {
			c.foundf(WrongQuery, "%s; the log has count %d and sum %d there", c.answerText(a), sums[i].count, sums[i].sum)
		} else if c.countable(a) && a.End > c.logs[a.Partition].end && c.logs[a.Partition].toTheEnd() {
			if hole, ok := c.logs[a.Partition].hole(max(a.From, c.logs[a.Partition].end), a.End); ok {
				c.foundf(WrongQuery, "%s; the log ends before offset %d", c.answerText(a), hole)
			}
		}
	}
}

// prefix is count and sum of the records below an offset; bound is an offset at which an answer wants it.
type (
	prefix struct {
		count int64
		sum   uint64
	}
	bound struct {
		offset int64
		answer int32
		minus  bool
	}
)

func (p *prefix) take(bs []bound, below prefix) []bound {
	if bs[0].minus {
		p.count, p.sum = p.count-below.count, p.sum-below.sum
	} else {
		p.count, p.sum = p.count+below.count, p.sum+below.sum
	}
	return bs[1:]
}

// countable tells whether the final reads say what an answer should be: they must go back as far as it does, and no loss that
// may have come after it may cut what it counted.
func (c *checker) countable(a *answered) bool {
	l := &c.logs[a.Partition]
	told, to := false, int64(0)
	for _, ranges := range l.covered {
		for _, t := range ranges {
			told, to = told || t.from <= a.From, max(to, t.to)
		}
	}
	for _, i := range l.losses {
		if a.From < i.to && a.End > i.from && a.End < i.to {
			return false
		}
	}
	return told && a.End <= to && a.From >= l.start
}
