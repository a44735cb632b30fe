package meta

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
)

// RecoverReport says what a recovery found and did.
type RecoverReport struct {
	Generation int64
	Partitions int
	// Moved are the partitions that go on further up; nothing is known of what lay between.
	Moved []LostRange
	// Missing are objects that a record names and the store does not have.
	Missing []MissingObject
	// ProducersFrom is the first producer id from now on.
	ProducersFrom int64
}

// MissingObject is an object that was deleted after the backup was made: what it held is not readable any more.
type MissingObject struct {
	Object string
	Blocks []L0Entry
}

// producerGap is how far producer ids go forward: more than were given out since any backup.
const producerGap = 1 << 32

// recoverAtOnce is how many partitions one transaction moves forward.
const recoverAtOnce = 60

// recoveryGap is how far the end of a partition goes forward: more than any partition was given since any backup, 3 weeks at 500,000
// records a second.
const recoveryGap = 1 << 40

// Recover makes a cluster whose etcd was restored from a backup safe to use. Everything that was given out since the backup may
// have been seen by somebody: so the end of every partition goes 2^40 further, which readers step over as a lost range, every epoch goes
// up, so that no log on disk is replayed, and producer ids go forward. The generation in the key cluster goes up last, by which nodes
// know that an etcd which went back may be believed again.
//
// While a node is alive it is refused with ErrNodeAlive, and nothing is changed: wait until the leases of the backup have ended. It begins with a
// mark in the key cluster, which keeps nodes from joining until it has ended. It may be run again after it was cut short; each run moves everything forward once more. exists asks
// the object store. A record whose object is missing stays, and its offsets are named; one whose index was in the object can say
// nothing any more: it is removed, and what it leaves open is a lost range.
func (c *Client) Recover(ctx context.Context, load LoadIndex, exists func(ctx context.Context, object string) (bool, error)) (RecoverReport, error) {
	var report RecoverReport
	if err := c.nobodyAlive(ctx); err != nil {
		return report, fmt.Errorf("recover the cluster: %w", err)
	}
	v, guard, marked, err := c.markRecovering(ctx)
	if err == nil {
		err = c.nobodyAlive(ctx)
	}
	if errors.Is(err, ErrNodeAlive) {
		// It has joined in between. Whoever marked the cluster before is another matter: that recovery may have moved something.
		undone := errors.New("another recovery, or an attempt of this one whose answer was lost, has marked the cluster")
		if marked {
			before := v
			before.Recovering = false
			undone = c.recoverStep(ctx, Txn{If: []Compare{guard}, Then: []Op{PutOp(c.keys.Cluster(), encodeJSON(before))}})
		}
		if undone != nil {
			err = fmt.Errorf("%w; no node joins until a recovery has ended: %w", err, undone)
		}
	}
	if err != nil {
		return report, fmt.Errorf("recover the cluster: %w", err)
	}
	unreadable := make(map[string]bool)
	var mu sync.Mutex
	index, err := c.readAll(ctx, func(ctx context.Context, r *L0Record) (L0Index, error) {
		if there, err := exists(ctx, r.Object); err != nil || there {
			if err != nil {
				return L0Index{}, err
			}
			return load(ctx, r)
		}
		mu.Lock()
		defer mu.Unlock()
		unreadable[c.keys.L0(r.Node, r.Incarnation, r.Seq)] = true
		return L0Index{}, nil
	})
	if err != nil {
		return report, fmt.Errorf("recover the cluster: %w", err)
	}
	if report.Missing, err = missing(ctx, index, exists); err != nil {
		return report, fmt.Errorf("recover the cluster: %w", err)
	}
	if err := c.moveForward(ctx, index, guard, &report); err != nil {
		return report, fmt.Errorf("recover the cluster: %w", err)
	}
	for _, key := range slices.Sorted(maps.Keys(unreadable)) {
		if err := c.recoverStep(ctx, Txn{If: []Compare{guard}, Then: []Op{DeleteOp(key)}}); err != nil {
			return report, fmt.Errorf("recover the cluster: %w", err)
		}
	}
	v.Generation++
	v.Recovering = false
	report.Generation = v.Generation
	err = c.finishRecovery(ctx, index, guard, v, &report)
	return report, err
}

// nobodyAlive is ErrNodeAlive, with the node, unless every node is gone.
func (c *Client) nobodyAlive(ctx context.Context) error {
	return c.retry(ctx, "look for nodes that are alive", func() (bool, error) {
		nodes, err := c.Nodes(ctx)
		if err != nil {
			return !retryable(err), err
		}
		for _, n := range nodes {
			return true, fmt.Errorf("%w: %s at %s; stop every node, wait until their leases have ended, and run it again", ErrNodeAlive, n.ID, n.HTTP)
		}
		return true, nil
	})
}

// markRecovering keeps nodes from joining, and returns the cluster's value with what guards every step, and whether the mark is this call's.
func (c *Client) markRecovering(ctx context.Context) (v clusterValue, guard Compare, marked bool, err error) {
	err = c.retry(ctx, "mark the cluster as being recovered", func() (bool, error) {
		kv, _, err := c.kv.Get(ctx, c.keys.Cluster())
		switch {
		case err != nil:
			return !retryable(err), err
		case kv == nil:
			return true, fmt.Errorf("%w: etcd holds no cluster %s", ErrUnknownCluster, c.name)
		}
		v = clusterValue{} // of an attempt before it says Recovering
		if err := decodeJSON(kv.Key, kv.Value, &v); err != nil {
			return true, err
		}
		if v.Recovering {
			guard = IfMod(kv.Key, kv.Mod)
			return true, nil
		}
		v.Recovering = true
		result, err := c.kv.Txn(ctx, Txn{If: []Compare{IfMod(kv.Key, kv.Mod)}, Then: []Op{PutOp(kv.Key, encodeJSON(v))}})
		guard = IfMod(kv.Key, result.Revision)
		marked = marked || err == nil && result.Succeeded
		return err == nil && result.Succeeded, err
	})
	return v, guard, marked, err
}

// ErrUnknownCluster says that there is no cluster of this name.
var ErrUnknownCluster = errors.New("unknown cluster")

// readAll makes an index of everything, at one revision.
func (c *Client) readAll(ctx context.Context, load LoadIndex) (*Index, error) {
	f := &Follower{client: c, load: load, moved: make(chan struct{})}
	if err := f.list(ctx); err != nil {
		return nil, err
	}
	return f.view, nil
}

func missing(ctx context.Context, index *Index, exists func(context.Context, string) (bool, error)) ([]MissingObject, error) {
	var out []MissingObject
	for _, key := range slices.Sorted(maps.Keys(index.records)) {
		r := index.records[key]
		there, err := exists(ctx, r.Object)
		if err != nil {
			return nil, fmt.Errorf("look for object %s: %w", r.Object, err)
		}
		if !there {
			out = append(out, MissingObject{Object: r.Object, Blocks: r.Index.Entries})
		}
	}
	return out, nil
}

// moveForward gives every partition a lost range at its end.
func (c *Client) moveForward(ctx context.Context, index *Index, guard Compare, report *RecoverReport) error {
	txn := Txn{If: []Compare{guard}}
	send := func() error {
		if len(txn.Then) == 0 {
			return nil
		}
		if err := c.recoverStep(ctx, txn); err != nil {
			return err
		}
		txn = Txn{If: []Compare{guard}}
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(index.topics)) {
		t := index.topics[name]
		for n := range t.Partitions {
			p := Partition{Topic: t.ID, Partition: n}
			report.Partitions++
			m, key := index.lost[p], c.keys.Manifest(p)
			lost := forward(index, p)
			txn.If = append(txn.If, IfMod(key, index.manifestRevs[p]))
			txn.Then = append(txn.Then, PutOp(key, encodeManifest(Manifest{Version: m.Version + 1, Lost: lost})))
			report.Moved = append(report.Moved, LostRange{Partition: p, Topic: name, OffsetRange: lost[len(lost)-1]})
			if len(txn.Then) == recoverAtOnce {
				if err := send(); err != nil {
					return err
				}
			}
		}
	}
	return send()
}

// forward is what is lost of a partition after a recovery: what was before, what its blocks leave open, and recoveryGap above its end.
func forward(index *Index, p Partition) []OffsetRange {
	var lost []OffsetRange
	at := int64(0)
	open := func(to int64) {
		if to <= at {
			return
		}
		if n := len(lost); n > 0 && lost[n-1].To == at {
			lost[n-1].To = to
			return
		}
		lost = append(lost, OffsetRange{From: at, To: to})
	}
	known := index.lost[p].Lost
	step := func(upTo int64) {
		for len(known) > 0 && known[0].From <= upTo {
			open(known[0].From)
			at = max(at, known[0].From)
			open(known[0].To)
			at = max(at, known[0].To)
			known = known[1:]
		}
	}
	for _, b := range index.Blocks(p) {
		step(b.BaseOffset)
		open(b.BaseOffset)
		at = max(at, b.End())
	}
	step(math.MaxInt64)
	at = max(at, index.End(p))
	open(at + recoveryGap)
	return lost
}

// finishRecovery raises epochs, producer ids and, with the last transaction, the generation.
func (c *Client) finishRecovery(ctx context.Context, index *Index, guard Compare, v clusterValue, report *RecoverReport) error {
	for _, node := range slices.Sorted(maps.Keys(index.assigned)) {
		a := index.assigned[node]
		epochs := make(map[Partition]Epoch, len(a.Epochs))
		for p, e := range a.Epochs {
			epochs[p] = e + 1
		}
		txn := Txn{
			If:   []Compare{guard, IfMod(c.keys.Assign(node), a.Revision)},
			Then: []Op{PutOp(c.keys.Assign(node), encodeAssignment(a.Disk, epochs)), placementOp(c.keys, index.placementCount)},
		}
		if err := c.recoverStep(ctx, txn); err != nil {
			return fmt.Errorf("recover the cluster: raise the epochs of node %s: %w", node, err)
		}
	}
	at := counterValue{Version: valueVersion, Next: 1}
	producers, _, err := c.kv.Get(ctx, c.keys.ProducersNext())
	if err != nil {
		return fmt.Errorf("recover the cluster: %w", err)
	}
	compare := IfAbsent(c.keys.ProducersNext())
	if producers != nil {
		if err := decodeJSON(producers.Key, producers.Value, &at); err != nil {
			return err
		}
		compare = IfMod(producers.Key, producers.Mod)
	}
	at.Next += producerGap
	report.ProducersFrom = at.Next
	err = c.recoverStep(ctx, Txn{
		If:   []Compare{guard, compare},
		Then: []Op{PutOp(c.keys.ProducersNext(), encodeJSON(at)), PutOp(c.keys.Cluster(), encodeJSON(v))},
	})
	if err != nil {
		return fmt.Errorf("recover the cluster: %w", err)
	}
	return nil
}

// recoverStep makes one transaction. A refusal means that something else is at work, or that an earlier copy has applied: either way the
// whole is begun again by whoever runs it.
func (c *Client) recoverStep(ctx context.Context, txn Txn) error {
	result, err := c.kv.Txn(ctx, txn)
	switch {
	case err != nil:
		return err
	case !result.Succeeded:
		return errors.New("something else changed the cluster meanwhile: stop every node, and run it again")
	}
	return nil
}

// Generation reads how often a cluster was recovered, from an etcd that may not be believed otherwise: 0 when it holds no cluster of this
// name.
func Generation(ctx context.Context, kv KV, cluster string) (int64, error) {
	key := NewKeys(cluster).Cluster()
	at, _, err := kv.Get(ctx, key)
	if err != nil || at == nil {
		return 0, err
	}
	var v clusterValue
	if err := decodeJSON(key, at.Value, &v); err != nil {
		return 0, err
	}
	return v.Generation, nil
}
