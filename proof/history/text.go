package history

import (
	"fmt"
	"math"
	"strings"
)

// lazy is text that is only made when an example is printed.
type lazy func() string

func (l lazy) String() string { return l() }

// String is the word of the outcome, as reports print it.
func (o Outcome) String() string {
	switch o {
	case OK:
		return "ok"
	case Fail:
		return "fail"
	case Info:
		return "unknown"
	default:
		return fmt.Sprintf("outcome %d", uint8(o))
	}
}

// String returns the process and the time of a call.
func (c Call) String() string {
	if c.Complete == math.MaxInt64 {
		return fmt.Sprintf("process %d from %d on", c.Process, c.Invoke)
	}
	return fmt.Sprintf("process %d in [%d, %d]", c.Process, c.Invoke, c.Complete)
}

func (c *checker) sentText(s *sent) lazy {
	return func() string {
		var b strings.Builder
		fmt.Fprintf(&b, "produce %s by %s: ", c.partitions.name(int32(s.partition)), s.Call)
		if s.count == 1 {
			fmt.Fprintf(&b, "value %d %s", s.value, s.outcome)
		} else {
			fmt.Fprintf(&b, "values %d to %d %s", s.value, s.value+uint64(s.count)-1, s.outcome)
		}
		if s.outcome == OK {
			fmt.Fprintf(&b, " at offset %d", s.offset)
		}
		return b.String()
	}
}

// pollText describes a poll or an assignment, with its first and last records.
func (c *checker) pollText(number int) lazy {
	return func() string {
		p := c.polls.at(number)
		var b strings.Builder
		if p.assign {
			fmt.Fprintf(&b, "assign %s to offset %d for %s", c.partitions.name(int32(p.partition)), p.from, p.Call)
		} else {
			fmt.Fprintf(&b, "poll %s from offset %d by %s", c.partitions.name(int32(p.partition)), p.from, p.Call)
		}
		if p.group != 0 {
			fmt.Fprintf(&b, " of group %s, generation %d", c.groups.name(int32(p.group)), p.generation)
		}
		if p.assign {
			return b.String()
		}
		if p.water > 0 {
			fmt.Fprintf(&b, ", high watermark %d", p.water)
		}
		fmt.Fprintf(&b, ": %d records", p.n)
		for i := range int(p.n) {
			if i >= 6 && i < int(p.n)-2 {
				if i == 6 {
					b.WriteString(" …")
				}
				continue
			}
			o, v := p.at(i)
			fmt.Fprintf(&b, " %d=%d", o, v)
		}
		return b.String()
	}
}

func (c *checker) commitText(t *Commit) lazy {
	return func() string {
		s := fmt.Sprintf("commit %s of group %s by %s: offset %d %s at generation %d", c.partitions.name(int32(t.Partition)),
			c.groups.name(int32(t.Group)), t.Call, t.Offset, t.Outcome, t.Generation)
		if t.Reset {
			s += " (reset)"
		}
		return s
	}
}

func (c *checker) fetchText(f *fetched) lazy {
	return func() string {
		what := "committed offset"
		if f.assign {
			what = "assignment"
		}
		return fmt.Sprintf("%s of %s in group %s read by %s: %d", what, c.partitions.name(int32(f.Partition)), c.groups.name(int32(f.Group)), f.Call, f.Offset)
	}
}

func (c *checker) answerText(a *answered) lazy {
	return func() string {
		return fmt.Sprintf("query %s [%d, %d) by %s: count %d, sum %d", c.partitions.name(int32(a.Partition)), a.From, a.End, a.Call, a.Count, a.Sum)
	}
}

func (c *checker) waterText(w *HighWatermark) lazy {
	return func() string {
		return fmt.Sprintf("high watermark %d of %s seen by %s", w.Offset, c.partitions.name(int32(w.Partition)), w.Call)
	}
}

func (c *checker) leadText(l *Lead) lazy {
	return func() string {
		return fmt.Sprintf("lead %s: node %d appended [%d, %d) at epoch %d, %s", c.partitions.name(int32(l.Partition)), l.Node, l.From, l.To, l.Epoch, l.Call)
	}
}

func (c *checker) sourceNames(mask uint8) lazy {
	return func() string {
		var all []string
		for i := range c.sources.all {
			if mask&(1<<i) != 0 {
				all = append(all, c.sources.all[i])
			}
		}
		return strings.Join(all, " and ")
	}
}

// witnesses lists, one a line, the first operations that named an offset.
func (c *checker) witnesses(p Partition, offset int64) string {
	const most = 8
	var lines []string
	for i := 0; i < c.sends.len() && len(lines) < most; i++ {
		if s := c.sends.at(i); s.partition == p && s.outcome == OK && offset >= s.offset && offset < s.offset+int64(s.count) {
			lines = append(lines, c.sentText(s)())
		}
	}
	for i := 0; i < c.finals.len() && len(lines) < most; i++ {
		if f := c.finals.at(i); f.partition == p {
			if v, ok := f.value(offset); ok {
				lines = append(lines, fmt.Sprintf("final read of %s: %d=%d", c.sources.name(f.source), offset, v))
			}
		}
	}
	for i := 0; i < c.polls.len() && len(lines) < most; i++ {
		if q := c.polls.at(i); q.partition == p && !q.assign {
			if v, ok := q.value(offset); ok {
				lines = append(lines, fmt.Sprintf("%d=%d in %s", offset, v, c.pollText(i)))
			}
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return "\n    " + strings.Join(lines, "\n    ")
}
