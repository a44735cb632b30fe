package history

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// longestPiece is how many operations a piece of a register has before it is cut at the next place where that is exact.
const longestPiece = 200

// checkRegisters asks Porcupine about each committed offset and each partition's leadership.
func (c *checker) checkRegisters() {
	for _, all := range c.byOffset() {
		ops := c.commitOperations(all)
		what := fmt.Sprintf("commits of group %s on %s", c.groups.name(int32(all.key.group)), c.partitions.name(int32(all.key.partition)))
		c.checkRegister(CommitRegister, what, commitModel(), ops, commitSettles)
	}
	leads := make([][]porcupine.Operation, len(c.logs))
	for i := range c.leads.len() {
		l := c.leads.at(i)
		leads[l.Partition] = append(leads[l.Partition], porcupine.Operation{
			ClientId: int(l.Node), Input: *l, Call: l.Invoke, Return: l.Complete, Metadata: c.leadText(l),
		})
	}
	for p, ops := range leads {
		c.checkRegister(LeaderRegister, "leadership of "+c.partitions.name(int32(p)), leaderModel(), ops,
			func(porcupine.Operation) bool { return true })
	}
}

// checkRegister decides one register, piece by piece up to the first that is not linearizable.
func (c *checker) checkRegister(k Kind, what string, m porcupine.Model, ops []porcupine.Operation, settles func(porcupine.Operation) bool) {
	timeout := c.options.RegisterTimeout
	for _, piece := range pieces(ops, longestPiece, settles) {
		switch porcupine.CheckOperationsTimeout(m, piece, timeout) {
		case porcupine.Ok:
		case porcupine.Unknown:
			c.report.Unknown = append(c.report.Unknown, fmt.Sprintf("%s: %d operations from time %d on, after %s", what, len(piece), piece[0].Call, timeout))
		case porcupine.Illegal:
			c.foundf(k, "%s are not linearizable; the first operation that fits nowhere: %s", what, lazy(func() string { return firstMisfit(m, piece, timeout) }))
			return
		}
	}
}

// pieces cuts the operations on one register. A piece ends with an operation that overlaps no other and that alone decides the state (settles);
// the next piece begins with the same operation. So the register is linearizable if and only if each piece is, and the search stays short.
func pieces(ops []porcupine.Operation, longest int, settles func(porcupine.Operation) bool) [][]porcupine.Operation {
	slices.SortStableFunc(ops, func(a, b porcupine.Operation) int {
		return cmp.Or(cmp.Compare(a.Call, b.Call), cmp.Compare(a.Return, b.Return))
	})
	var cut [][]porcupine.Operation
	from, busy := 0, int64(math.MinInt64)
	for i, op := range ops {
		last := i+1 == len(ops)
		alone := op.Call > busy && (last || ops[i+1].Call > op.Return)
		busy = max(busy, op.Return)
		if last || i+1-from >= longest && alone && settles(op) {
			cut = append(cut, ops[from:i+1])
			from = i
		}
	}
	return cut
}

// firstMisfit finds, by halving, the shortest prefix of the history that is not linearizable, and tells its last operation.
func firstMisfit(m porcupine.Model, ops []porcupine.Operation, timeout time.Duration) string {
	byReturn := slices.Clone(ops)
	slices.SortStableFunc(byReturn, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	legal, illegal := 0, len(byReturn) // numbers of operations that have returned
	for legal+1 < illegal {
		middle := (legal + illegal) / 2
		if porcupine.CheckOperationsTimeout(m, prefixUntil(ops, byReturn[middle-1].Return), timeout) == porcupine.Illegal {
			illegal = middle
		} else {
			legal = middle
		}
	}
	return fmt.Sprint(byReturn[illegal-1].Metadata)
}

// prefixUntil returns what had returned by a time, and the unknown that had begun.
func prefixUntil(ops []porcupine.Operation, end int64) []porcupine.Operation {
	var prefix []porcupine.Operation
	for _, op := range ops {
		if in, ok := op.Input.(commitInput); op.Return <= end || ok && in.commit && op.Call <= end {
			if op.Return > end {
				in.unknown = true
				op.Input, op.Return = in, math.MaxInt64
			}
			prefix = append(prefix, op)
		}
	}
	return prefix
}

// commitInput is an operation on a committed offset; commitState is the register.
type (
	commitInput struct {
		offset     int64
		generation int32
		commit     bool // otherwise a read
		unknown    bool // may have had no effect
		assign     bool // a read that may also find nothing and start anywhere
	}
	commitState struct {
		offset     int64
		generation int32
	}
)

// commitModel is a register that refuses commits of generations below the highest it has accepted.
func commitModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return commitState{offset: -1, generation: -1} },
		Step: func(state, input, _ any) (bool, any) {
			s, _ := state.(commitState)
			in, _ := input.(commitInput)
			switch {
			case !in.commit:
				return s.offset == in.offset || in.assign && s.offset < 0, s
			case in.generation >= 0 && in.generation < s.generation:
				return in.unknown, s
			default:
				return true, commitState{offset: in.offset, generation: max(in.generation, s.generation)}
			}
		},
	}
}

// commitSettles tells whether an operation leaves only one state behind: a fenced commit that was accepted.
func commitSettles(op porcupine.Operation) bool {
	in, ok := op.Input.(commitInput)
	return ok && in.commit && !in.unknown && in.generation >= 0
}

// commitOperations translates the commits and reads of one offset. Two reductions are exact and keep unknown commits from overlapping everything
// that follows: one that no read shows need not have happened, and one that a read shows, and only it can explain, had happened by the end of that read.
func (c *checker) commitOperations(all *committed) []porcupine.Operation {
	type ends struct{ first, last int64 }
	shown := map[int64]ends{} // when the first read that shows an offset, and cannot mean anything else, and the last that shows it ended
	for _, f := range all.fetches {
		e, ok := shown[f.Offset]
		if !ok {
			e = ends{first: math.MaxInt64}
		}
		if !f.assign {
			e.first = min(e.first, f.Complete)
		}
		e.last = max(e.last, f.Complete)
		shown[f.Offset] = e
	}
	attempts := map[int64]int{}
	for _, i := range all.commits {
		attempts[c.commits.at(int(i)).Offset]++
	}
	var ops []porcupine.Operation
	for _, i := range all.commits {
		t := c.commits.at(int(i))
		op := porcupine.Operation{
			ClientId: int(t.Process), Call: t.Invoke, Return: t.Complete, Metadata: c.commitText(t),
			Input: commitInput{offset: t.Offset, generation: t.Generation, commit: true, unknown: t.Outcome == Info},
		}
		if t.Outcome == Info {
			e, ok := shown[t.Offset]
			if !ok || e.last < t.Invoke {
				continue
			}
			if attempts[t.Offset] == 1 {
				op.Return = max(t.Invoke, e.first)
			}
		}
		ops = append(ops, op)
	}
	for _, f := range all.fetches {
		if f.assign && c.moved(f.Partition, f.Offset) {
			continue
		}
		ops = append(ops, porcupine.Operation{
			ClientId: int(f.Process), Call: f.Invoke, Return: f.Complete, Metadata: c.fetchText(f),
			Input: commitInput{offset: f.Offset, assign: f.assign},
		})
	}
	return ops
}

// leaderModel is a register that holds who appended last: epochs only rise, an epoch is one node's, and offsets go on where they ended or above.
func leaderModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return Lead{Epoch: -1} },
		Step: func(state, input, _ any) (bool, any) {
			s, _ := state.(Lead)
			in, _ := input.(Lead)
			ok := in.Epoch > s.Epoch || in.Epoch == s.Epoch && in.Node == s.Node
			return ok && in.From >= s.To, Lead{Epoch: in.Epoch, Node: in.Node, To: in.To}
		},
	}
}
