package history

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// Cutting a register into pieces changes no verdict.
func TestPiecesDecideAsTheWhole(t *testing.T) {
	verdicts, pieced := map[porcupine.CheckResult]int{}, 0
	for seed := range uint64(1000) {
		rng := rand.New(rand.NewPCG(seed, 3))
		ops := randomOperations(rng, 30)
		whole := porcupine.CheckOperationsTimeout(commitModel(), slices.Clone(ops), time.Minute)
		cut := pieces(slices.Clone(ops), 3, commitSettles)
		verdict := porcupine.Ok
		for _, piece := range cut {
			if porcupine.CheckOperationsTimeout(commitModel(), piece, time.Minute) == porcupine.Illegal {
				verdict = porcupine.Illegal
			}
		}
		if verdict != whole {
			t.Fatalf("seed %d: whole %s, in %d pieces %s", seed, whole, len(cut), verdict)
		}
		verdicts[whole]++
		if len(cut) > 1 {
			pieced++
		}
	}
	if verdicts[porcupine.Ok] < 100 || verdicts[porcupine.Illegal] < 100 || pieced < 300 {
		t.Errorf("the drawn registers are too much alike: %v, %d in pieces", verdicts, pieced)
	}
}

// randomOperations draws operations on a register that is right but for a wrong read here and there.
func randomOperations(rng *rand.Rand, n int) []porcupine.Operation {
	var ops []porcupine.Operation
	state := commitState{offset: -1, generation: -1}
	now := int64(0)
	for i := range n {
		now += int64(1 + rng.IntN(10))
		in := commitInput{offset: state.offset}
		switch rng.IntN(3) {
		case 0:
			if rng.IntN(40) == 0 {
				in.offset = int64(rng.IntN(4))
			}
		default:
			in = commitInput{commit: true, offset: int64(i % 4), generation: max(0, state.generation) + int32(rng.IntN(2)), unknown: rng.IntN(8) == 0}
			if rng.IntN(40) == 0 {
				in.generation--
			}
			if !in.unknown || rng.IntN(2) == 0 {
				state = commitState{offset: in.offset, generation: max(state.generation, in.generation)}
			}
		}
		op := porcupine.Operation{ClientId: i, Input: in, Call: now - int64(rng.IntN(8)), Return: now + int64(rng.IntN(8)), Metadata: "operation"}
		if in.unknown {
			op.Return += int64(rng.IntN(60))
		}
		ops = append(ops, op)
	}
	return ops
}

// What the direct check of commits finds, the register finds too: the direct one raises no alarm of its own.
func TestDirectCheckAgreesWithTheRegister(t *testing.T) {
	h := New()
	both, none, onlyRegister := 0, 0, 0
	for seed := range uint64(800) {
		s := healthy(seed)
		for _, f := range find(s, func(*FetchCommitted) bool { return true }) {
			if c := one(s, func(c *Commit) bool { return c.Partition == f.Partition && c.Outcome != Fail }); c != nil && s.rng.IntN(4) == 0 {
				f.Offset = c.Offset
			}
		}
		h.Reset()
		s.record(h)
		r := h.Check(Options{Registers: true})
		direct := r.Anomalies[LostCommit].Count + r.Anomalies[UncommittedOffset].Count
		register := r.Anomalies[CommitRegister].Count
		switch {
		case direct > 0 && register == 0:
			t.Fatalf("seed %d: only the direct check finds %v", seed, r.Anomalies)
		case direct > 0:
			both++
		case register > 0:
			onlyRegister++
		default:
			none++
		}
	}
	if both < 50 || none < 50 {
		t.Errorf("%d found by both, %d by none: the draw is too much alike", both, none)
	}
	t.Logf("found by both %d, by the register alone %d, by none %d", both, onlyRegister, none)
}

// A register that cannot be decided in time is reported as such and is no anomaly.
func TestUndecidedRegisterIsReported(t *testing.T) {
	h := New()
	p, g := h.Partition("p"), h.Group("g")
	// Unknown commits that all end at the end, each read once: nothing orders them, and the reads cannot be had in any order.
	for i := range 60 {
		at := int64(i)
		h.Commit(Commit{Call: Call{Process: int32(i), Invoke: at}, Group: g, Partition: p, Offset: at % 30, Outcome: Info})
		h.FetchCommitted(FetchCommitted{Call: Call{Process: 100, Invoke: 1000 + at, Complete: 1001 + at}, Group: g, Partition: p, Offset: at % 30})
		h.FetchCommitted(FetchCommitted{Call: Call{Process: 101, Invoke: 2000 + 2*at, Complete: 2001 + 2*at}, Group: g, Partition: p, Offset: at * at % 29})
	}
	r := h.Check(Options{Registers: true, RegisterTimeout: time.Nanosecond})
	if len(r.Unknown) != 1 {
		t.Errorf("unknown: %v, found %v", r.Unknown, r.Bad())
	}
	if slices.Contains(r.Bad(), CommitRegister) {
		t.Errorf("undecided, and yet found: %v", r.Anomalies[CommitRegister])
	}
}

// Fifty thousand commits and reads are decided quickly, for they are cut.
func TestLongRegisterIsQuick(t *testing.T) {
	h := New()
	p, g := h.Partition("p"), h.Group("g")
	for i := range int64(25_000) {
		h.Commit(Commit{Call: Call{Process: 1, Invoke: 10 * i, Complete: 10*i + 2}, Group: g, Partition: p, Offset: i, Generation: int32(i / 1000)})
		h.FetchCommitted(FetchCommitted{Call: Call{Process: 2, Invoke: 10*i + 1, Complete: 10*i + 5}, Group: g, Partition: p, Offset: i})
		h.Commit(Commit{Call: Call{Process: 1, Invoke: 10*i + 6, Complete: 10*i + 7}, Group: g, Partition: p, Offset: i, Generation: int32(i / 1000)})
	}
	if r := h.Check(Options{Registers: true}); r.Bad() != nil || r.Unknown != nil {
		t.Fatalf("found %v, undecided %v", r.Bad(), r.Unknown)
	}
	h.FetchCommitted(FetchCommitted{Call: Call{Process: 2, Invoke: 240_008, Complete: 240_009}, Group: g, Partition: p, Offset: 17})
	r := h.Check(Options{Registers: true})
	if f := r.Anomalies[CommitRegister]; f.Count != 1 || f.Examples[0] != "commits of group g on p are not linearizable; the first operation that fits nowhere: "+
		"committed offset of p in group g read by process 2 in [240008, 240009]: 17" {
		t.Errorf("found %v", r.Anomalies)
	}
}
