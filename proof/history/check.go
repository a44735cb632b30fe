package history

import (
	"fmt"
	"slices"
	"time"
)

// Options say what is asked of a history beyond what holds for every log.
type Options struct {
	// Examples is how many examples of each kind the report keeps; 0 means 3.
	Examples int
	// MustSee lists the sets of processes of which each, together, must have polled every record that is in the log at the end.
	MustSee [][]int32
	// Registers asks Porcupine whether commits and leadership are linearizable. It starts goroutines.
	Registers bool
	// RegisterTimeout bounds the time for one piece of one register; 0 means 5 s. What it stops is reported as unknown.
	RegisterTimeout time.Duration
}

// Check looks for every anomaly. It needs about 50 bytes a send and 11 an offset, which the next Check
// of this History uses again. Nothing may be recorded meanwhile.
func (h *History) Check(o Options) Report {
	if o.Examples == 0 {
		o.Examples = 3
	}
	if o.RegisterTimeout == 0 {
		o.RegisterTimeout = 5 * time.Second
	}
	c := &h.check
	c.History, c.options = h, o
	c.report = Report{Anomalies: map[Kind]Finding{}}

	c.layOut()
	c.indexValues()
	c.placeFinals()
	c.placePolls()
	c.placeAcks()
	c.walkLog()
	c.walkSends()
	c.orderSends()
	c.followConsumers()
	c.watchWaters()
	c.checkCommits()
	c.checkQueries()
	c.checkLeaders()
	c.checkSeen()
	if o.Registers {
		c.checkRegisters()
	}
	for _, m := range h.malformed {
		c.foundf(Malformed, "%s", m)
	}
	return c.report
}

// checker holds the log as the history shows it, in flat arrays with one slot for each offset that anybody named.
type checker struct {
	*History

	options Options
	report  Report

	logs  []partitionLog
	state slots

	table  []uint32 // values: open addressing, number of the send plus one
	shift  uint
	places []uint32 // for each record sent: one above the first slot where it was read

	acked      []timeline         // for each partition: the end of what was acknowledged
	order      []int32            // acknowledged sends in the order of their completion
	firstOf    map[[2]int32]int32 // by process and partition: its first acknowledged send
	firsts     []int32            // the same, in order
	nextOf     []int32            // by send: the next of the same process and partition, or -1
	own        timeline           // of one process and partition
	disordered map[int32]bool     // sends that lie before an earlier one of their own producer
	positions  map[[2]int32]position
	assigned   []fetched // what group assignments tell about committed offsets
}

// partitionLog is what is known of one partition's log.
type partitionLog struct {
	segments []segment
	start    int64 // below it records may be gone
	losses   []interval
	covered  [maxSources][]interval // what each source claims to tell
	finals   bool                   // a final read told about it
	end      int64                  // one above the last record of the final reads

	firstRead, lastRead int64 // by anyone; -1 when nothing was
}

func (c *checker) foundf(k Kind, format string, args ...any) {
	f := c.report.Anomalies[k]
	f.Count++
	if len(f.Examples) < c.options.Examples {
		f.Examples = append(f.Examples, fmt.Sprintf(format, args...))
	}
	c.report.Anomalies[k] = f
}

// foundAtf reports something about an offset, with the operations that named it.
func (c *checker) foundAtf(k Kind, p Partition, offset int64, format string, args ...any) {
	if len(c.report.Anomalies[k].Examples) < c.options.Examples {
		c.foundf(k, "%s at offset %d: %s%s", c.partitions.name(int32(p)), offset, fmt.Sprintf(format, args...), c.witnesses(p, offset))
		return
	}
	c.foundf(k, "")
}

// layOut finds out which offsets need a slot.
func (c *checker) layOut() {
	n := len(c.partitions.all) + 1
	for len(c.logs) < n {
		c.logs = append(c.logs, partitionLog{})
	}
	c.logs = c.logs[:n]
	for i := range c.logs {
		l := &c.logs[i]
		l.segments, l.losses, l.start, l.finals, l.end = l.segments[:0], l.losses[:0], 0, false, 0
		l.firstRead, l.lastRead = -1, -1
		for s := range l.covered {
			l.covered[s] = l.covered[s][:0]
		}
	}
	for _, i := range c.losses {
		c.logs[i.partition].losses = append(c.logs[i.partition].losses, i)
	}
	for _, s := range c.starts {
		l := &c.logs[s.partition]
		l.start = max(l.start, s.offset)
	}
	for i := range c.finals.len() {
		f := c.finals.at(i)
		l := &c.logs[f.partition]
		l.finals = true
		told := &l.covered[f.source-1]
		if n := len(*told); n > 0 && (*told)[n-1].to == f.from { // most reads go on where the last part ended
			(*told)[n-1].to = f.end
		} else {
			*told = append(*told, interval{from: f.from, to: f.end})
		}
		l.note(&f.run)
		if f.n > 0 {
			_, hi := f.bounds()
			l.end = max(l.end, hi)
		}
		c.report.Seen.Final += int(f.n)
	}
	for i := range c.polls.len() {
		p := c.polls.at(i)
		if p.assign {
			continue
		}
		c.logs[p.partition].note(&p.run)
		c.report.Seen.Polls++
		c.report.Seen.Polled += int(p.n)
	}
	for i := range c.sends.len() {
		s := c.sends.at(i)
		switch s.outcome {
		case OK:
			c.logs[s.partition].noteRange(s.offset, s.offset+int64(s.count))
			c.report.Seen.Acked += int(s.count)
		case Fail:
			c.report.Seen.Failed += int(s.count)
		case Info:
			c.report.Seen.Unknown += int(s.count)
		}
	}
	total := 0
	for i := range c.logs {
		total = c.logs[i].join(total)
	}
	c.state.resize(total)
	for i := range c.logs {
		c.cover(&c.logs[i])
	}
}

// cover marks, for each source, the slots about which it tells.
func (c *checker) cover(l *partitionLog) {
	for source, told := range l.covered {
		bit := uint8(1) << source
		for _, t := range told {
			for _, s := range l.segments {
				from, to := max(t.from, s.base), min(t.to, s.end)
				for o := from; o < to; o++ {
					c.state.covered[s.slot+int(o-s.base)] |= bit
				}
			}
		}
	}
}

// timeline tells the greatest number that was reached before a time.
type timeline struct{ steps []step }

type step struct {
	time  int64
	reach int64
	who   int32
}

// add wants times that do not fall; what does not reach higher is not kept.
func (t *timeline) add(time, reach int64, who int32) {
	if n := len(t.steps); n == 0 || reach > t.steps[n-1].reach {
		t.steps = append(t.steps, step{time: time, reach: reach, who: who})
	}
}

// before returns the highest step that was complete strictly before a time.
func (t *timeline) before(time int64) (step, bool) {
	n := len(t.steps)
	// Most questions are about the recent past.
	for back := 1; back <= 8 && back <= n; back++ {
		if t.steps[n-back].time < time {
			return t.steps[n-back], true
		}
	}
	i, _ := slices.BinarySearchFunc(t.steps, time, func(s step, time int64) int {
		if s.time < time {
			return -1
		}
		return 1
	})
	if i == 0 {
		return step{}, false
	}
	return t.steps[i-1], true
}
