package history

import (
	"maps"
	"math"
	"slices"
	"testing"
)

// twin looks for some of the anomalies in the dumbest way: maps of everything, no slots, no segments, no order of placing.
type twin struct {
	sent   map[uint64]*Produce
	starts map[Partition]int64
	losses []*lostRange
	seen   map[place]map[uint64]int // values at an offset: read (1), in a final read (2), acknowledged (4)
	finals map[Partition]bool       // partitions with a final read
	from   map[Partition]int64
}

type place struct {
	partition Partition
	offset    int64
}

func newTwin(s *script) *twin {
	w := &twin{
		sent: map[uint64]*Produce{}, starts: map[Partition]int64{}, seen: map[place]map[uint64]int{}, finals: map[Partition]bool{},
		from: map[Partition]int64{1: math.MaxInt64, 2: math.MaxInt64, 3: math.MaxInt64},
	}
	see := func(p Partition, o int64, v uint64, how int) {
		if w.seen[place{p, o}] == nil {
			w.seen[place{p, o}] = map[uint64]int{}
		}
		w.seen[place{p, o}][v] |= how
	}
	for _, e := range s.events {
		switch e := e.(type) {
		case *Produce:
			for i := range max(e.Count, 1) {
				w.sent[e.Value+uint64(i)] = e
				if e.Outcome == OK {
					see(e.Partition, e.Offset+int64(i), e.Value+uint64(i), 4)
				}
			}
		case *Poll:
			for _, r := range e.Records {
				see(e.Partition, r.Offset, r.Value, 1)
			}
		case *FinalRead:
			for _, r := range e.Records {
				see(e.Partition, r.Offset, r.Value, 3)
			}
			w.finals[e.Partition] = true
			w.from[e.Partition] = min(w.from[e.Partition], e.From)
		case *lostRange:
			w.losses = append(w.losses, e)
		case *logStart:
			w.starts[e.partition] = e.offset
		}
	}
	return w
}

func (w *twin) excused(p place) bool {
	for _, l := range w.losses {
		if l.partition == p.partition && p.offset >= l.from && p.offset < l.to {
			return true
		}
	}
	return p.offset < w.starts[p.partition]
}

// kinds returns what the twin finds.
func (w *twin) kinds() map[Kind]bool {
	found := map[Kind]bool{}
	final := map[place]bool{}
	offsets := map[uint64]map[place]bool{}
	inFinal := map[uint64]map[Partition]bool{}
	for at, values := range w.seen {
		acks, reads := 0, 0
		for v, how := range values {
			if how&4 != 0 {
				acks++
			}
			if how&1 == 0 {
				continue
			}
			reads++
			final[at] = final[at] || how&2 != 0
			if how&2 != 0 {
				if inFinal[v] == nil {
					inFinal[v] = map[Partition]bool{}
				}
				inFinal[v][at.partition] = true
			}
			if offsets[v] == nil {
				offsets[v] = map[place]bool{}
			}
			offsets[v][at] = true
			switch p := w.sent[v]; {
			case p == nil || p.Partition != at.partition:
				found[Phantom] = true
			case p.Outcome == Fail:
				found[AbortedRead] = true
			}
		}
		if len(values) > 1 && reads > 0 {
			found[InconsistentOffsets] = true
		}
		if acks > 1 {
			found[ReusedOffset] = true
		}
		for _, how := range values {
			if how&2 != 0 && w.excused(at) && at.offset >= w.starts[at.partition] {
				found[ReusedOffset] = true
			}
		}
	}
	for at, values := range w.seen {
		for v, how := range values {
			if how&4 != 0 && how&2 == 0 && !inFinal[v][at.partition] && w.finals[at.partition] && at.offset >= w.from[at.partition] && !w.excused(at) {
				found[LostWrite] = true
			}
		}
	}
	for v, at := range offsets {
		p, n := w.sent[v], 0
		for a := range at {
			givenUp := w.excused(a) && a.offset >= w.starts[a.partition] && w.seen[a][v]&2 == 0
			if p != nil && a.partition == p.Partition && !givenUp {
				n++
			}
		}
		if n > 1 && !p.MayRepeat {
			found[Duplicate] = true
		}
	}
	for p := Partition(1); p <= scriptPartitions; p++ {
		var all []int64
		for at := range final {
			if at.partition == p && final[at] {
				all = append(all, at.offset)
			}
		}
		slices.Sort(all)
		next := max(w.from[p], w.starts[p])
		for _, o := range all {
			for h := next; h < o; h++ {
				if w.excused(place{p, h}) {
					if h > 1000 || o-h > jump/2 { // a loss is too wide to walk
						break
					}
					continue
				}
				found[Gap] = true
				break
			}
			next = max(next, o+1)
		}
	}
	return found
}

// perturb changes a few things at random.
func perturb(s *script) {
	rng := s.rng
	for range 1 + rng.IntN(3) {
		switch e := s.events[rng.IntN(len(s.events))].(type) {
		case *Poll:
			e.Records = perturbRecords(s, e.Records)
		case *FinalRead:
			e.Records = perturbRecords(s, e.Records)
			e.Records = slices.DeleteFunc(e.Records, func(r Record) bool { return r.Offset < e.From || e.End > 0 && r.Offset >= e.End })
		case *Produce:
			switch rng.IntN(5) {
			case 0:
				e.Outcome = Outcome(rng.IntN(3))
			case 1:
				e.Offset = max(0, e.Offset+int64(rng.IntN(5))-2)
			case 2:
				e.Offset += 1 << (10 + rng.IntN(40))
			case 3:
				e.Partition = e.Partition%scriptPartitions + 1
			default:
				e.MayRepeat = !e.MayRepeat
			}
		case *logStart:
			e.offset++
		}
	}
}

func perturbRecords(s *script, records []Record) []Record {
	if len(records) == 0 {
		return records
	}
	rng, records := s.rng, slices.Clone(records)
	i, j := rng.IntN(len(records)), rng.IntN(len(records))
	switch rng.IntN(6) {
	case 0:
		return slices.Delete(records, i, i+1)
	case 1:
		records[i].Value = records[j].Value
	case 2:
		records[i], records[j] = records[j], records[i]
	case 3:
		records[i].Value, records[j].Value = records[j].Value, records[i].Value
	case 4:
		records[i].Value ^= 1 << rng.IntN(64)
	default:
		records[i].Offset += int64(rng.IntN(40))
	}
	return records
}

// The checker finds what the twin finds and nothing else, in histories that are broken at random.
func TestCheckerAgreesWithItsDumbTwin(t *testing.T) {
	h := New()
	times := map[Kind]int{}
	for seed := range uint64(1500) {
		s := healthy(seed)
		perturb(s)
		h.Reset()
		s.record(h)
		r := h.Check(Options{})
		want := newTwin(s).kinds()
		for _, k := range []Kind{LostWrite, InconsistentOffsets, ReusedOffset, Phantom, AbortedRead, Gap} {
			if want[k] != (r.Anomalies[k].Count > 0) {
				t.Fatalf("seed %d, %s: the twin says %v; the checker found %v\n%v\n%v", seed, k, want[k], r.Bad(), r.Anomalies[k], want)
			}
		}
		// A value that was read at the offset of another, and at its own, is told as the inconsistency that it is.
		if want[Duplicate] && r.Anomalies[Duplicate].Count+r.Anomalies[InconsistentOffsets].Count == 0 {
			t.Fatalf("seed %d: the twin says duplicate; the checker found %v", seed, r.Bad())
		}
		for k := range maps.Keys(want) {
			times[k]++
		}
	}
	for _, k := range []Kind{LostWrite, InconsistentOffsets, Phantom, AbortedRead, Gap, Duplicate, ReusedOffset} {
		if times[k] < 10 {
			t.Errorf("%s came up only %d times", k, times[k])
		}
	}
	t.Logf("%v", times)
}
