package nemesis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/proof/history"
)

// journal follows all that the nodes write to etcd, past every link, and so knows who led what: a committed object names its node, and
// its blocks their partitions, offsets and epochs. It tells the history of each block (history.Lead), and keeps the turns.
//
// Its times are those at which it heard, which for what it tells the history are in the order of commits, as etcd's watch is.
type journal struct {
	work   *Workload
	keys   meta.Keys
	cancel context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	topics  map[meta.TopicID]string
	turns   map[string][]turn // by partition
	marks   []mark
	reached int64 // revision
	last    time.Duration
	broken  string // why it does not know everything
}

// turn is a time in which one life of a node appended to a partition at one epoch.
type turn struct {
	node        meta.NodeID
	incarnation meta.Incarnation
	epoch       meta.Epoch
	from, to    int64         // offsets
	at          time.Duration // of its first commit
	// first and last are when its leader took the first and the last batch, by the clock of this machine, in ms.
	first, last int64
}

// mark is a change of placement.
type mark struct {
	at   time.Duration
	what string // the key, without the cluster's prefix; a deletion begins with "-"
}

// follow begins at the revision of the moment, or fails.
func (w *Workload) follow(ctx context.Context) error {
	now, err := w.cluster.etcdClient.Get(ctx, "nothing")
	if err != nil {
		return fmt.Errorf("follow etcd: %w", err)
	}
	j := w.journal
	j.keys, j.ended = meta.NewKeys(clusterName), make(chan struct{})
	j.turns, j.reached = make(map[string][]turn), now.Header.GetRevision()
	ctx, j.cancel = context.WithCancel(clientv3.WithRequireLeader(ctx))
	go func() {
		defer close(j.ended)
		for ctx.Err() == nil && j.ok() {
			j.watch(ctx)
			wait(ctx, 100*time.Millisecond) // etcd is being broken
		}
	}()
	return nil
}

func (j *journal) ok() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.broken == ""
}

func (j *journal) stop() {
	if j.cancel != nil {
		j.cancel()
		<-j.ended
	}
}

// watch takes what comes until the stream breaks.
func (j *journal) watch(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	j.mu.Lock()
	from := j.reached + 1
	j.mu.Unlock()
	for answer := range j.work.cluster.etcdClient.Watch(ctx, j.keys.Prefix(), clientv3.WithPrefix(), clientv3.WithRev(from)) {
		if answer.CompactRevision > 0 {
			j.mu.Lock()
			j.broken = fmt.Sprintf("etcd has forgotten the revisions from %d to %d", from, answer.CompactRevision)
			j.mu.Unlock()
		}
		if answer.Err() != nil {
			return
		}
		for events := answer.Events; len(events) > 0; {
			n := slices.IndexFunc(events, func(e *clientv3.Event) bool { return e.Kv.ModRevision != events[0].Kv.ModRevision })
			if n < 0 {
				n = len(events)
			}
			j.take(events[:n])
			events = events[n:]
		}
	}
}

// take takes one revision.
func (j *journal) take(events []*clientv3.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.reached = events[0].Kv.ModRevision
	now := max(j.work.Now(), j.last+1) // no two revisions at once
	j.last = now
	// Small objects that are merged into one contribute what they did before: only a revision without a deletion appends.
	merged := slices.ContainsFunc(events, func(e *clientv3.Event) bool {
		return e.Type == mvccpb.DELETE && strings.HasPrefix(string(e.Kv.Key), j.keys.Prefix()+"l0/")
	})
	for _, e := range events {
		name := strings.TrimPrefix(string(e.Kv.Key), j.keys.Prefix())
		switch dir, _, _ := strings.Cut(name, "/"); dir {
		case "drain", "release", "assign", "moves", "controller", "nodes":
			if e.Type == mvccpb.DELETE {
				name = "-" + name
			}
			j.marks = append(j.marks, mark{at: now, what: name})
		case "l0":
			if e.Type == mvccpb.PUT && !merged {
				j.commit(e, now)
			}
		}
	}
}

// commit is for holders of mu.
func (j *journal) commit(e *clientv3.Event, now time.Duration) {
	r, err := j.keys.DecodeRecord(meta.KeyValue{Key: string(e.Kv.Key), Value: e.Kv.Value})
	if err == nil && !r.Inline {
		err = fmt.Errorf("%s: its index is in the object", e.Kv.Key)
	}
	if err != nil {
		j.broken = err.Error()
		return
	}
	for _, block := range r.Index.Entries {
		topic, ours := j.topics[block.Topic]
		if !ours || r.Excludes(block.Where()) {
			continue
		}
		j.work.history.Lead(history.Lead{
			Call:      history.Call{Process: number(r.Node), Invoke: int64(now), Complete: int64(now)},
			Partition: j.work.Partition(topic, block.Partition), Epoch: block.Epoch, Node: number(r.Node), From: block.BaseOffset, To: block.End(),
		})
		j.work.count.leads.Add(1)
		name := j.work.names[topic][block.Partition]
		turns := j.turns[name]
		if n := len(turns); n > 0 && turns[n-1].node == r.Node && turns[n-1].incarnation == r.Incarnation && turns[n-1].epoch == block.Epoch {
			turns[n-1].to, turns[n-1].last = block.End(), block.LastAppend
			continue
		}
		j.turns[name] = append(turns, turn{
			node: r.Node, incarnation: r.Incarnation, epoch: block.Epoch, from: block.BaseOffset, to: block.End(), at: now,
			first: block.FirstAppend, last: block.LastAppend,
		})
	}
}

// number is the 2 of n2.
func number(id meta.NodeID) int32 {
	n, err := strconv.Atoi(strings.TrimPrefix(string(id), "n"))
	if err != nil {
		return 0
	}
	return int32(n)
}

// caughtUp waits until everything that is in etcd now was heard of.
func (j *journal) caughtUp(ctx context.Context, c *Cluster) error {
	now, err := c.etcdClient.Get(ctx, "nothing")
	if err != nil {
		return fmt.Errorf("catch up with etcd: %w", err)
	}
	// Revisions that only touch other keys are not heard of: the last of ours is what counts.
	ours, err := c.etcdClient.Get(ctx, j.keys.Prefix(), clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithRev(now.Header.GetRevision()))
	if err != nil {
		return fmt.Errorf("catch up with etcd: %w", err)
	}
	var last int64
	for _, kv := range ours.Kvs {
		last = max(last, kv.ModRevision)
	}
	return c.until(ctx, "all of etcd is heard of", func(context.Context) error {
		j.mu.Lock()
		defer j.mu.Unlock()
		switch {
		case j.broken != "":
			return nil // it is told where it matters
		case j.reached < last:
			return fmt.Errorf("heard of revision %d of %d", j.reached, last)
		}
		return nil
	})
}

// covers is nil when the commits that were heard of reach an end of the log, or when commits are not heard of.
func (j *journal) covers(partition string, end int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	turns := j.turns[partition]
	if j.broken != "" || end == 0 || len(turns) > 0 && turns[len(turns)-1].to >= end {
		return nil
	}
	return fmt.Errorf("%s ends at %d, and nobody has committed up to there", partition, end)
}

// appended tells whether a batch of the log has the epoch at which its offsets were committed.
func (j *journal) appended(partition string, from, last int64, epoch int32) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != "" {
		return nil
	}
	turns := j.turns[partition]
	i, found := slices.BinarySearchFunc(turns, from, func(t turn, offset int64) int { return cmp.Compare(t.from, offset) })
	if !found {
		i--
	}
	switch {
	case i < 0 || turns[i].to <= last:
		return fmt.Errorf("%s: the log has the offsets %d to %d, and nobody has committed them", partition, from, last)
	case turns[i].epoch != epoch:
		return fmt.Errorf("%s: the batch at offset %d has epoch %d, and %s committed it at epoch %d", partition, from, epoch, turns[i].node, turns[i].epoch)
	}
	return nil
}

// after is the first turn of a partition that began after a time and is not one that went on then.
func (j *journal) after(partition string, at time.Duration) (turn, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, t := range j.turns[partition] {
		if t.at > at {
			return t, true
		}
	}
	return turn{}, false
}

// before is the last turn of a partition that had begun by a time.
func (j *journal) before(partition string, at time.Duration) (turn, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, t := range slices.Backward(j.turns[partition]) {
		if t.at <= at {
			return t, true
		}
	}
	return turn{}, false
}

// between are the changes of placement of a time.
func (j *journal) between(from, to time.Duration) []mark {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []mark
	for _, m := range j.marks {
		if m.at >= from && m.at < to {
			out = append(out, m)
		}
	}
	return out
}

// knows says, as an error, why the journal does not know everything.
func (j *journal) knows() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != "" {
		return errors.New("not all appends of leaders are known: " + j.broken)
	}
	return nil
}
