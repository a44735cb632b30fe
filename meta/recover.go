package meta

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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

// Recover makes a cluster whose etcd was restored from a backup safe to use. Everything that was given out since the backup may
// have been seen by somebody: so the end of every partition goes LostGap further, which readers step over as a lost range, every epoch goes
// up, so that no log on disk is replayed, and producer ids go forward. The generation in the key cluster goes up last, by which nodes
// know that an etcd which went back may be believed again.
//
// No node may be alive: wait until the leases of the backup have ended. It may be run again after it was cut short; each run moves
// everything forward once more. exists asks the object store.
func (c *Client) Recover(ctx context.Context, load LoadIndex, exists func(ctx context.Context, object string) (bool, error)) (RecoverReport, error) {
	index, cluster, err := c.readAll(ctx, load)
	if err != nil {
		return RecoverReport{}, fmt.Errorf("recover the cluster: %w", err)
	}
	if cluster == nil {
		return RecoverReport{}, fmt.Errorf("recover the cluster: %w: etcd holds no cluster %s", ErrUnknownCluster, c.name)
	}
	for _, n := range index.Nodes() {
		return RecoverReport{}, fmt.Errorf("recover the cluster: %w: %s at %s; stop every node, and wait until their leases have ended", ErrNodeAlive, n.ID, n.HTTP)
	}
	var report RecoverReport
	if report.Missing, err = missing(ctx, index, exists); err != nil {
		return report, fmt.Errorf("recover the cluster: %w", err)
	}
	var v clusterValue
	if err := decodeJSON(cluster.Key, cluster.Value, &v); err != nil {
		return report, err
	}
	guard := IfMod(cluster.Key, cluster.Mod)
	if err := c.moveForward(ctx, index, guard, &report); err != nil {
		return report, fmt.Errorf("recover the cluster: %w", err)
	}
	v.Generation++
	report.Generation = v.Generation
	return report, c.finishRecovery(ctx, index, guard, v, &report)
}

// ErrUnknownCluster says that there is no cluster of this name.
var ErrUnknownCluster = errors.New("unknown cluster")

// readAll makes an index of everything, at one revision.
func (c *Client) readAll(ctx context.Context, load LoadIndex) (*Index, *KeyValue, error) {
	f := &Follower{client: c, load: load, moved: make(chan struct{})}
	if err := f.list(ctx); err != nil {
		return nil, nil, err
	}
	kv, _, err := c.kv.Get(ctx, c.keys.Cluster())
	return f.view, kv, err
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
			m, end, key := index.lost[p], index.End(p), c.keys.Manifest(p)
			lost := append(slices.Clone(m.Lost), OffsetRange{From: end, To: end + LostGap})
			if k := len(m.Lost); k > 0 && m.Lost[k-1].To == end { // nothing was written since the last one: it grows
				lost = slices.Clone(m.Lost)
				lost[k-1].To += LostGap
			}
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
