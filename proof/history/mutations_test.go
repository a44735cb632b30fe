package history

import (
	"slices"
	"testing"
)

// mutation breaks a healthy history in one way; mutate returns false when the history has no place for it.
type mutation struct {
	name   string
	want   Kind
	mutate func(*script) bool
}

var mutations = []mutation{
	{"an acknowledged record is in no final read", LostWrite, func(s *script) bool {
		p := one(s, s.stays)
		if p != nil {
			s.erase(p.Partition, p.Value, false, true)
		}
		return p != nil
	}},
	{"an acknowledged record is gone for everybody", LostWrite, func(s *script) bool {
		p := one(s, s.stays)
		if p != nil {
			s.erase(p.Partition, p.Value, true, true)
		}
		return p != nil
	}},
	{"the last acknowledged record is cut off", LostWrite, func(s *script) bool {
		p := one(s, func(p *Produce) bool {
			all := s.final(p.Partition).Records
			return s.stays(p) && p.Count == 1 && p.Offset == all[len(all)-1].Offset
		})
		if p != nil {
			s.erase(p.Partition, p.Value, true, true)
		}
		return p != nil
	}},
	{"without final reads, a poll has a hole where a record was acknowledged", LostWrite, func(s *script) bool {
		p := one(s, func(p *Produce) bool {
			all := s.final(p.Partition).Records
			return s.stays(p) && p.Offset > all[0].Offset && p.Offset+int64(p.Count) < all[len(all)-1].Offset
		})
		if p != nil {
			s.erase(p.Partition, p.Value, true, false)
			s.events = slices.DeleteFunc(s.events, func(e any) bool { _, is := e.(*FinalRead); return is })
		}
		return p != nil
	}},
	{"a record is in the log again", Duplicate, func(s *script) bool {
		p := one(s, s.stays)
		return p != nil && s.appendFinal(p.Partition, p.Value)
	}},
	{"a repetition was not announced", Duplicate, func(s *script) bool {
		p := one(s, func(p *Produce) bool {
			n := 0
			for _, r := range s.final(p.Partition).Records {
				if r.Value == p.Value {
					n++
				}
			}
			return p.MayRepeat && n == 2
		})
		if p != nil {
			p.MayRepeat = false
		}
		return p != nil
	}},
	{"a poll shows the value of another offset", InconsistentOffsets, func(s *script) bool {
		p := one(s, func(p *Poll) bool { return len(p.Records) > 1 && p.Records[0].Value != p.Records[1].Value })
		if p != nil {
			p.Records[0].Value = p.Records[1].Value
		}
		return p != nil
	}},
	{"an acknowledgement names the next offset", InconsistentOffsets, func(s *script) bool {
		p := one(s, func(p *Produce) bool {
			all := s.final(p.Partition).Records
			return s.stays(p) && p.Offset+int64(p.Count) < all[len(all)-1].Offset
		})
		if p != nil {
			p.Offset++
		}
		return p != nil
	}},
	{"an acknowledgement names an offset far behind the end", Duplicate, func(s *script) bool {
		p := one(s, s.stays)
		if p != nil {
			p.Offset += 1 << 40
		}
		return p != nil
	}},
	{"two values are swapped in one source", SourcesDisagree, func(s *script) bool {
		f := one(s, func(f *FinalRead) bool {
			return f.Source == "log on disk" && len(f.Records) > 1 && f.Records[0].Value != f.Records[1].Value
		})
		if f != nil {
			f.Records[0].Value, f.Records[1].Value = f.Records[1].Value, f.Records[0].Value
		}
		return f != nil
	}},
	{"one source lacks a record", SourcesDisagree, func(s *script) bool {
		f := one(s, func(f *FinalRead) bool { return f.Source == "object store" && len(f.Records) > 2 })
		if f != nil {
			f.Records = slices.Delete(f.Records, 1, 2)
		}
		return f != nil
	}},
	{"one source lacks the last record", SourcesDisagree, func(s *script) bool {
		f := one(s, func(f *FinalRead) bool { return f.Source == "log on disk" && len(f.Records) > 1 })
		if f != nil {
			f.Records = f.Records[:len(f.Records)-1]
		}
		return f != nil
	}},
	{"a source has its records in the wrong order", IntNonmonotonicPoll, func(s *script) bool {
		f := one(s, func(f *FinalRead) bool { return len(f.Records) > 1 })
		if f != nil {
			f.Records[0], f.Records[1] = f.Records[1], f.Records[0]
		}
		return f != nil
	}},
	{"an offset has no record", Gap, func(s *script) bool {
		f := one(s, func(f *FinalRead) bool { return f.Source == "memory" && len(f.Records) > 2 })
		if f != nil {
			s.erase(f.Partition, f.Records[s.rng.IntN(len(f.Records)-2)].Value, true, true)
		}
		return f != nil
	}},
	{"the reader never gets a record", Unseen, func(s *script) bool {
		polls := find(s, func(p *Poll) bool { return manual(p) && len(p.Records) > 0 })
		if len(polls) == 0 || polls[0].Records[0].Offset < s.final(polls[0].Partition).From {
			return false
		}
		_, ok := s.inLog(polls[0].Partition, polls[0].Records[0].Value)
		s.remove(polls[0])
		return ok
	}},
	{"the reader's next poll starts too high", PollSkip, func(s *script) bool {
		p, later := pair(s, func(a, b *Poll) bool {
			return manual(a) && manual(b) && a.Partition == b.Partition && len(a.Records) > 0 && b.From > a.From &&
				a.Records[0].Offset >= s.final(a.Partition).From && s.here(a)
		})
		if later == nil {
			return false
		}
		s.remove(p)
		return one(s, func(b *Poll) bool { return manual(b) && b.Partition == p.Partition && b.From < p.From }) != nil
	}},
	{"a poll begins above the offset that was asked for", PollSkip, func(s *script) bool {
		p := one(s, func(p *Poll) bool {
			return len(p.Records) > 1 && p.Records[0].Offset >= s.final(p.Partition).From && s.here(p)
		})
		if p != nil {
			p.Records = p.Records[1:]
		}
		return p != nil
	}},
	{"a consumer is given again what it had", NonmonotonicPoll, func(s *script) bool {
		p := one(s, func(p *Poll) bool { return len(p.Records) > 0 })
		if p != nil {
			s.events = slices.Insert(s.events, slices.Index(s.events, any(p))+1, any(new(*p)))
		}
		return p != nil
	}},
	{"a poll begins below the offset that was asked for", NonmonotonicPoll, func(s *script) bool {
		p := one(s, func(p *Poll) bool { return manual(p) && len(p.Records) > 0 && p.From > 0 && p.From < jump })
		if p != nil {
			p.From = p.Records[len(p.Records)-1].Offset + 1
		}
		return p != nil
	}},
	{"a poll lacks a record in its middle", IntPollSkip, func(s *script) bool {
		p := one(s, func(p *Poll) bool {
			return len(p.Records) > 2 && p.Records[1].Offset >= s.final(p.Partition).From && s.here(p)
		})
		if p != nil {
			p.Records = slices.Delete(p.Records, 1, 2)
		}
		return p != nil
	}},
	{"a poll has its records in the wrong order", IntNonmonotonicPoll, func(s *script) bool {
		p := one(s, func(p *Poll) bool { return len(p.Records) > 2 })
		if p != nil {
			p.Records[1], p.Records[2] = p.Records[2], p.Records[1]
		}
		return p != nil
	}},
	{"a poll has a record twice", IntNonmonotonicPoll, func(s *script) bool {
		p := one(s, func(p *Poll) bool { return len(p.Records) > 1 })
		if p != nil {
			p.Records = slices.Insert(p.Records, 1, p.Records[0])
		}
		return p != nil
	}},
	{"a linearizable poll finds nothing where records were acknowledged", StaleRead, func(s *script) bool {
		p := one(s, func(p *Poll) bool { return len(p.Records) > 0 && s.ackedBefore(p.Partition, p.From, p.Invoke) })
		if p != nil {
			p.Records = nil
		}
		return p != nil
	}},
	{"a linearizable poll tells an old high watermark", StaleRead, func(s *script) bool {
		p := one(s, func(p *Poll) bool {
			n := len(p.Records)
			return n > 0 && s.ackedBefore(p.Partition, p.Records[n-1].Offset+1, p.Invoke)
		})
		if p != nil {
			p.HighWatermark = p.Records[len(p.Records)-1].Offset + 1
		}
		return p != nil
	}},
	{"a producer's later record lies before its earlier one", NonmonotonicSend, func(s *script) bool {
		a, b := pair(s, func(a, b *Produce) bool {
			return a.Process == b.Process && a.Partition == b.Partition && s.stays(a) && s.stays(b) && a.Complete < b.Invoke && a.Offset < b.Offset
		})
		if a != nil {
			a.Offset, b.Offset = b.Offset, a.Offset
		}
		return a != nil
	}},
	{"a record sent after an acknowledgement lies before that record", RealtimeSend, func(s *script) bool {
		a, b := pair(s, func(a, b *Produce) bool {
			return a.Process != b.Process && a.Partition == b.Partition && s.stays(a) && s.stays(b) && a.Complete < b.Invoke && a.Offset < b.Offset &&
				one(s, func(c *Produce) bool {
					return c != b && c.Process == b.Process && c.Partition == b.Partition && c.Outcome == OK
				}) == nil
		})
		if a != nil {
			a.Offset, b.Offset = b.Offset, a.Offset
		}
		return a != nil
	}},
	{"a batch is in the log in the wrong order", IntNonmonotonicSend, func(s *script) bool {
		p := one(s, func(p *Produce) bool {
			_, ok := s.inLog(p.Partition, p.Value)
			return ok && p.Count > 1 && !p.MayRepeat
		})
		if p == nil {
			return false
		}
		if _, ok := s.inLog(p.Partition, p.Value+1); !ok {
			return false
		}
		s.replace(p.Partition, p.Value, 1)
		s.replace(p.Partition, p.Value+1, p.Value)
		s.replace(p.Partition, 1, p.Value+1)
		return true
	}},
	{"a produce that is readable was answered with a failure", AbortedRead, func(s *script) bool {
		p := one(s, s.stays)
		if p != nil {
			p.Outcome = Fail
		}
		return p != nil
	}},
	{"a produce that failed shows up at the end", AbortedRead, func(s *script) bool {
		p := one(s, func(p *Produce) bool { return p.Outcome == Fail })
		return p != nil && s.appendFinal(p.Partition, p.Value)
	}},
	{"a consumer has a record behind the end of the log", PrecommittedRead, func(s *script) bool {
		p := one(s, func(p *Produce) bool { _, ok := s.inLog(p.Partition, p.Value); return !ok && p.Outcome == Info })
		if p == nil || len(s.final(p.Partition).Records) == 0 {
			return false
		}
		all := s.final(p.Partition).Records
		o := all[len(all)-1].Offset + 1
		s.events = append(s.events, &Poll{
			Call: Call{Process: 99, Invoke: 1, Complete: 2}, Partition: p.Partition, From: o, Records: []Record{{Offset: o, Value: p.Value}},
		})
		return true
	}},
	{"a consumer saw another value than there is at the end", PrecommittedRead, func(s *script) bool {
		p := one(s, func(p *Poll) bool {
			return len(p.Records) > 1 && p.Records[0].Offset >= s.final(p.Partition).From && s.here(p)
		})
		if p != nil {
			p.Records[0].Value = 1 << 62
		}
		return p != nil
	}},
	{"a consumer read above the high watermark that was seen later", PrecommittedRead, func(s *script) bool {
		w := one(s, func(w *HighWatermark) bool {
			return one(s, func(p *Poll) bool { return p.Partition == w.Partition && p.Complete < w.Invoke && len(p.Records) > 0 }) != nil
		})
		if w != nil {
			w.Offset = 0
		}
		return w != nil
	}},
	{"a poll's own high watermark lies below its records", PrecommittedRead, func(s *script) bool {
		p := one(s, func(p *Poll) bool { return len(p.Records) > 1 })
		if p != nil {
			p.HighWatermark = p.Records[0].Offset + 1
		}
		return p != nil
	}},
	{"the high watermark goes back", HighWatermarkBack, func(s *script) bool {
		a, b := pair(s, func(a, b *HighWatermark) bool {
			return a.Partition == b.Partition && a.Complete < b.Invoke && a.Offset > 0
		})
		if a != nil {
			b.Offset = a.Offset - 1
		}
		return a != nil
	}},
	{"the log ends below a high watermark", HighWatermarkBack, func(s *script) bool {
		w := one(s, func(w *HighWatermark) bool { return true })
		if w != nil {
			w.Offset += 1000 + jump + jump
		}
		return w != nil
	}},
	{"two acknowledgements name one offset", ReusedOffset, func(s *script) bool {
		a, b := pair(s, func(a, b *Produce) bool { return a.Partition == b.Partition && s.stays(a) && s.stays(b) })
		if a != nil {
			a.Offset = b.Offset
		}
		return a != nil
	}},
	{"a lost range was filled again", ReusedOffset, func(s *script) bool {
		f := one(s, func(f *FinalRead) bool { return len(f.Records) > 1 })
		if f != nil {
			s.events = append(s.events, &lostRange{partition: f.Partition, from: f.Records[0].Offset, to: f.Records[1].Offset})
		}
		return f != nil
	}},
	{"a stale generation's commit is accepted", StaleGenerationCommit, staleCommit},
	{"a committed offset goes back", CommitBack, func(s *script) bool {
		a, b := pair(s, func(a, b *Commit) bool {
			return a.Partition == b.Partition && a.Outcome == OK && b.Outcome == OK && a.Generation == b.Generation && a.Complete < b.Invoke && a.Offset > 0
		})
		if a != nil {
			b.Offset = a.Offset - 1
		}
		return a != nil
	}},
	{"a commit is not there when it is read", LostCommit, func(s *script) bool {
		f := one(s, func(f *FetchCommitted) bool { return s.committedBefore(f.Partition, f.Invoke) })
		if f != nil {
			f.Offset = -1
		}
		return f != nil
	}},
	{"an overwritten commit is read again", LostCommit, func(s *script) bool {
		f, c := s.overwritten()
		if f != nil {
			f.Offset = c.Offset
		}
		return f != nil
	}},
	{"an offset is read that nobody committed", UncommittedOffset, func(s *script) bool {
		f := one(s, func(f *FetchCommitted) bool { return true })
		if f != nil {
			f.Offset += 5000
		}
		return f != nil
	}},
	{"a member is put where its group never was", UncommittedOffset, func(s *script) bool {
		a := one(s, func(a *Assign) bool { return s.committedBefore(a.Partition, a.Invoke) })
		if a != nil {
			a.Offset = 1 << 50
		}
		return a != nil
	}},
	{"a query counts one too many", WrongQuery, func(s *script) bool {
		return s.answer(func(a *Answer) { a.Count++ })
	}},
	{"a query's sum is off by one", WrongQuery, func(s *script) bool {
		return s.answer(func(a *Answer) { a.Sum-- })
	}},
	{"a query's position is not where it counted", WrongQuery, func(s *script) bool {
		return s.answer(func(a *Answer) { a.End-- })
	}},
	{"a query does not see what was acknowledged before it", StaleQuery, func(s *script) bool {
		for _, q := range find(s, func(q *Query) bool { return !q.AsOf }) {
			a := &q.Answers[s.rng.IntN(len(q.Answers))]
			p := one(s, func(p *Produce) bool { return s.stays(p) && p.Partition == a.Partition && p.Complete < q.Invoke })
			if p != nil {
				a.End = p.Offset
				return true
			}
		}
		return false
	}},
	{"a value is read that nobody sent", Phantom, func(s *script) bool {
		p := one(s, s.stays)
		if p != nil {
			s.replace(p.Partition, p.Value, 1<<63+p.Value)
		}
		return p != nil
	}},
	{"a record is in another partition", Phantom, func(s *script) bool {
		p := one(s, s.stays)
		return p != nil && s.appendFinal(p.Partition%scriptPartitions+1, p.Value)
	}},
	{"two nodes append at one epoch", TwoLeaders, twoLeaders},
	{"an older epoch appends", EpochBack, func(s *script) bool {
		a, b := pair(s, func(a, b *Lead) bool { return a.Partition == b.Partition && a.Complete < b.Invoke })
		if a != nil {
			b.Epoch = a.Epoch - 1
		}
		return a != nil
	}},
	{"two appends are given the same offset", ReusedOffset, func(s *script) bool {
		a, b := pair(s, func(a, b *Lead) bool { return a.Partition == b.Partition && a.To == b.From })
		if a != nil {
			b.From--
		}
		return a != nil
	}},
	{"the register of commits sees a stale generation", CommitRegister, staleCommit},
	{"the register of commits sees an overwritten commit", CommitRegister, func(s *script) bool {
		f, c := s.overwritten()
		if f != nil {
			f.Offset = c.Offset
		}
		return f != nil
	}},
	{"the register of leaders sees two of them", LeaderRegister, twoLeaders},
	{"a value was sent twice", Malformed, func(s *script) bool {
		p := one(s, func(p *Produce) bool { return true })
		if p != nil {
			s.events = append(s.events, new(*p))
		}
		return p != nil
	}},
	{"an operation ends before it begins", Malformed, func(s *script) bool {
		p := one(s, func(p *Produce) bool { return p.Complete > p.Invoke && p.Outcome != Info })
		if p != nil {
			p.Invoke, p.Complete = p.Complete, p.Invoke
		}
		return p != nil
	}},
}

// Each way of breaking a history is caught under its name, for 50 histories each.
func TestEveryMutationIsCaught(t *testing.T) {
	const wanted, patience = 50, 20_000
	h := New()
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			caught := 0
			for seed := uint64(1); caught < wanted; seed++ {
				if seed > patience {
					t.Fatalf("only %d of %d histories have a place for it", caught, patience)
				}
				s := healthy(seed)
				if !m.mutate(s) {
					continue
				}
				h.Reset()
				s.record(h)
				r := h.Check(Options{MustSee: mustSee, Registers: m.want == CommitRegister || m.want == LeaderRegister})
				if f := r.Anomalies[m.want]; f.Count == 0 || len(f.Examples) == 0 || f.Examples[0] == "" {
					t.Fatalf("seed %d: found %v and not %s", seed, r.Bad(), m.want)
				}
				caught++
			}
		})
	}
}

// There is a mutation for every kind of anomaly.
func TestEveryKindHasItsMutation(t *testing.T) {
	for _, k := range kinds {
		if !k.Allowed() && !slices.ContainsFunc(mutations, func(m mutation) bool { return m.want == k }) {
			t.Errorf("nothing is broken so that %s must be found", k)
		}
	}
}
