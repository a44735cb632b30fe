package history

import "slices"

// find returns, in a random order, the events of a type for which ok holds.
func find[T any](s *script, ok func(*T) bool) []*T {
	var all []*T
	for _, e := range s.events {
		if e, is := e.(*T); is && ok(e) {
			all = append(all, e)
		}
	}
	s.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// one returns a random event of a type for which ok holds, or nil.
func one[T any](s *script, ok func(*T) bool) *T {
	if all := find(s, ok); len(all) > 0 {
		return all[0]
	}
	return nil
}

// pair returns two events of a type for which ok holds, or nil.
func pair[T any](s *script, ok func(a, b *T) bool) (a, b *T) {
	all := find(s, func(*T) bool { return true })
	for _, a := range all {
		for _, b := range all {
			if a != b && ok(a, b) {
				return a, b
			}
		}
	}
	return nil, nil
}

// reads returns pointers to the record lists of all reads of a partition.
func (s *script) reads(p Partition, polls, finals bool) []*[]Record {
	var all []*[]Record
	for _, e := range s.events {
		switch e := e.(type) {
		case *Poll:
			if polls && e.Partition == p {
				all = append(all, &e.Records)
			}
		case *FinalRead:
			if finals && e.Partition == p {
				all = append(all, &e.Records)
			}
		}
	}
	return all
}

// final returns the complete read of a partition.
func (s *script) final(p Partition) *FinalRead {
	for _, e := range s.events {
		if f, ok := e.(*FinalRead); ok && f.Partition == p && f.Source == "memory" {
			return f
		}
	}
	return nil
}

// inLog finds the offset of a value in the final log.
func (s *script) inLog(p Partition, value uint64) (int64, bool) {
	for _, r := range s.final(p).Records {
		if r.Value == value {
			return r.Offset, true
		}
	}
	return 0, false
}

// erase takes a value out of polls, final reads, or both.
func (s *script) erase(p Partition, value uint64, polls, finals bool) {
	for _, records := range s.reads(p, polls, finals) {
		*records = slices.DeleteFunc(slices.Clone(*records), func(r Record) bool { return r.Value == value })
	}
}

// replace puts one value in the place of another in all reads.
func (s *script) replace(p Partition, from, to uint64) {
	for _, records := range s.reads(p, true, true) {
		for i := range *records {
			if (*records)[i].Value == from {
				(*records)[i].Value = to
			}
		}
	}
}

// appendFinal puts a value behind the end of the final log of every source that tells about the end.
func (s *script) appendFinal(p Partition, value uint64) bool {
	n := len(s.final(p).Records)
	if n == 0 {
		return false
	}
	end := s.final(p).Records[n-1].Offset + 1
	for _, e := range s.events {
		if f, ok := e.(*FinalRead); ok && f.Partition == p && f.End == 0 {
			f.Records = append(slices.Clone(f.Records), Record{Offset: end, Value: value})
		}
	}
	return true
}

func (s *script) remove(event any) {
	i := slices.Index(s.events, event)
	s.events = slices.Delete(s.events, i, i+1)
}

// stays tells whether a produce is acknowledged, sent once, and at its place in the final log.
func (s *script) stays(p *Produce) bool {
	o, ok := s.inLog(p.Partition, p.Value)
	return p.Outcome == OK && !p.MayRepeat && ok && o == p.Offset
}

func manual(p *Poll) bool { return p.Process == reader }

// here tells whether everything that a poll was given is in the final log.
func (s *script) here(p *Poll) bool {
	for _, r := range p.Records {
		if o, ok := s.inLog(p.Partition, r.Value); !ok || o != r.Offset {
			return false
		}
	}
	return true
}

func (s *script) ackedBefore(p Partition, from, time int64) bool {
	return one(s, func(a *Produce) bool { return a.Partition == p && s.stays(a) && a.Offset >= from && a.Complete < time }) != nil
}

func (s *script) committedBefore(p Partition, time int64) bool {
	return one(s, func(c *Commit) bool { return c.Outcome == OK && c.Partition == p && c.Complete < time }) != nil
}

// overwritten finds a read of a committed offset, and a commit of another offset that was overwritten before that read.
func (s *script) overwritten() (*FetchCommitted, *Commit) {
	for _, f := range find(s, func(*FetchCommitted) bool { return true }) {
		c, _ := pair(s, func(a, b *Commit) bool {
			same := func(c *Commit) bool {
				return c != a && c.Partition == a.Partition && c.Offset == a.Offset && c.Outcome != Fail
			}
			return a.Partition == f.Partition && b.Partition == f.Partition && a.Outcome == OK && b.Outcome == OK && a.Offset != b.Offset &&
				a.Complete < b.Invoke && b.Complete < f.Invoke && one(s, same) == nil
		})
		if c != nil {
			return f, c
		}
	}
	return nil, nil
}

func (s *script) answer(change func(*Answer)) bool {
	for _, q := range find(s, func(*Query) bool { return true }) {
		a := &q.Answers[s.rng.IntN(len(q.Answers))]
		f := s.final(a.Partition)
		lost := one(s, func(l *lostRange) bool { return l.partition == a.Partition }) != nil
		if f.From == 0 && len(f.Records) > 0 && !lost && a.End > f.Records[0].Offset {
			change(a)
			return true
		}
	}
	return false
}

func staleCommit(s *script) bool {
	a, b := pair(s, func(a, b *Commit) bool {
		return a.Partition == b.Partition && a.Outcome == OK && b.Outcome == OK && a.Complete < b.Invoke
	})
	if a != nil {
		b.Generation = a.Generation - 1
	}
	return a != nil
}

func twoLeaders(s *script) bool {
	a, b := pair(s, func(a, b *Lead) bool { return a.Partition == b.Partition && a.Epoch == b.Epoch })
	if a != nil {
		b.Node = a.Node + 1
	}
	return a != nil
}
