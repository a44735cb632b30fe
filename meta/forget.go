package meta

import (
	"context"
	"fmt"
	"slices"

	"github.com/tidemark-io/tidemark/proof/mutant"
)

// LostRange is what a decision gave up of one partition: offsets From up to, not including, To.
type LostRange struct {
	Partition Partition
	Topic     string
	OffsetRange
}

// ForgetResult says what giving up a node costs.
type ForgetResult struct {
	Moved int         // partitions that others lead from where they were
	Lost  []LostRange // partitions that only the node's disk had the end of
}

// forgetAtOnce is how many partitions with lost ranges one transaction holds: each takes a compare and a put.
const forgetAtOnce = 60

// Forget gives up a node that is not alive, for good: what it led goes to others. Where only its disk may have had the end of a log, the
// log goes on LostGap above the committed end, and the manifest says that the offsets between are lost. With dryRun it only
// tells. A node that holds its lease is ErrNodeAlive, one that nobody knows ErrUnknownNode, and one whose partitions nobody
// could take ErrLastNode. A node of this name that comes back leads nothing of what it had.
//
// The caller's decision is the one thing that may lose what was acknowledged; a node that is only cut off from etcd stops
// acknowledging on its disk when its last keep-alive is older than its lease, by its own clock.
func (c *Client) Forget(ctx context.Context, f *Follower, node NodeID, dryRun bool) (ForgetResult, error) {
	var done ForgetResult
	for {
		var step ForgetResult
		final := false
		err := c.retry(ctx, "forget node "+string(node), func() (bool, error) {
			revision, err := c.Revision(ctx)
			if err != nil {
				return !retryable(err), err
			}
			if err := f.WaitFor(ctx, revision); err != nil {
				return true, err
			}
			f.mu.RLock()
			all, part, txn, err := f.view.PlanForget(node)
			f.mu.RUnlock()
			if err != nil || dryRun || len(txn.Then) == 0 {
				step, final = ForgetResult{}, true
				if dryRun {
					step = all
				}
				return true, err
			}
			result, err := c.kv.Txn(ctx, txn)
			if err == nil {
				err = f.WaitFor(ctx, result.Revision)
			}
			step = part
			return err == nil && result.Succeeded, err // the next plan sees what is left
		})
		if err == nil {
			done.Moved += step.Moved
			done.Lost = append(done.Lost, step.Lost...)
		}
		if err != nil || final {
			return done, err
		}
	}
}

// PlanForget plans the next transaction of giving up a node, one without operations when nothing is left of it, and tells all that there
// is to give up, and what this transaction does. Pure.
func (v *Index) PlanForget(node NodeID) (all, part ForgetResult, txn Txn, err error) {
	var out ForgetResult
	a, ok := v.assigned[node]
	_, marked := v.drains[node]
	if n, alive := v.nodes[node]; alive {
		return out, part, Txn{}, fmt.Errorf("%w: %s at %s; stop it first, or drain it", ErrNodeAlive, node, n.HTTP)
	}
	if !ok && !marked {
		if _, known := v.heads[node]; known {
			return out, part, Txn{}, nil // forgotten already
		}
		return out, part, Txn{}, fmt.Errorf("%w: %s", ErrUnknownNode, node)
	}
	b := v.seats()
	if len(b.seats) == 0 && len(a.Epochs) > 0 {
		return out, part, Txn{}, fmt.Errorf("%w: start another node before node %s is forgotten", ErrLastNode, node)
	}
	var moves []dueMove
	var lost []LostRange
	for _, p := range sortPartitions(a.Epochs) {
		t, known := v.byID[p.Topic]
		if !known {
			continue
		}
		out.Moved++
		m := dueMove{p: p, from: node, epoch: a.Epochs[p] + 1}
		if t.OnDisk() && !v.Released(node, p, a.Epochs[p]) {
			out.Moved--
			end := v.End(p)
			l := LostRange{Partition: p, Topic: t.Name, OffsetRange: OffsetRange{From: end, To: end + LostGap}}
			out.Lost = append(out.Lost, l)
			if len(lost) == forgetAtOnce {
				continue
			}
			lost = append(lost, l)
		}
		moves = append(moves, m)
	}
	if len(moves) == 0 {
		txn = Txn{
			If: []Compare{IfMod(v.keys.Placement(), v.placementRev), IfAbsent(v.keys.Node(node))},
			Then: []Op{
				DeleteOp(v.keys.Assign(node)), DeleteOp(v.keys.Drain(node)), DeleteOp(v.keys.Moves(node)), DeleteOp(v.keys.Release(node)),
				placementOp(v.keys, v.placementCount),
			},
		}
		return out, part, txn, nil
	}
	to := b.pick(moves[0])
	if to == nil {
		return out, part, Txn{}, fmt.Errorf("forget node %s: %w", node, ErrRoom)
	}
	if len(moves) > to.room {
		moves = moves[:to.room]
		lost = slices.DeleteFunc(lost, func(l LostRange) bool {
			return !slices.ContainsFunc(moves, func(m dueMove) bool { return m.p == l.Partition })
		})
	}
	step := b.move(node, to, moves)
	if step.Moves < len(moves) { // no room for all: none of those that lose something may go without saying so
		moves = moves[:step.Moves]
		lost = slices.DeleteFunc(lost, func(l LostRange) bool {
			return !slices.ContainsFunc(moves, func(m dueMove) bool { return m.p == l.Partition })
		})
	}
	if len(step.Txn.Then) == 0 {
		return out, part, Txn{}, fmt.Errorf("forget node %s: %w", node, ErrRoom)
	}
	txn = step.Txn
	part = ForgetResult{Moved: len(moves) - len(lost), Lost: lost}
	// Whoever controls takes no part: the chain alone orders this among assignments.
	txn.If = append([]Compare{IfMod(v.keys.Placement(), v.placementRev), IfAbsent(v.keys.Node(node)), IfMod(v.keys.Head(node), v.headRevs[node])},
		v.receiverGuards(to.node)...)
	for _, l := range lost {
		m := v.lost[l.Partition]
		if len(m.Lost) >= maxLost {
			return out, part, Txn{}, fmt.Errorf("forget node %s: topic %s partition %d has lost offsets %d times, as often as it may: delete the topic", node, l.Topic, l.Partition.Partition, len(m.Lost))
		}
		key := v.keys.Manifest(l.Partition)
		compare := IfAbsent(key)
		if m.Version > 0 {
			compare = IfMod(key, v.manifestRevs[l.Partition])
		}
		txn.If = append(txn.If, compare)
		if mutant.On(mutant.B8) {
			continue
		}
		txn.Then = append(txn.Then, PutOp(key, encodeManifest(Manifest{Version: m.Version + 1, Lost: append(slices.Clone(m.Lost), l.OffsetRange)})))
	}
	return out, part, txn, txn.Validate()
}
