package meta

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// LoadIndex reads the index of an object whose record does not carry it, and checks it against the record.
type LoadIndex func(ctx context.Context, r *L0Record) (L0Index, error)

// Follower keeps the index of the log: everything under the cluster's prefix at one revision. It lists once, at one pinned
// revision, and then follows one watch, whole revisions in order, so its state always is the log as it was at one revision.
// When the watch's history is gone it lists again. Reads may run from any goroutine and see whole revisions.
type Follower struct {
	client   *Client
	load     LoadIndex
	onChange func(Revision)

	mu      sync.RWMutex
	view    *view
	moved   chan struct{} // closed and replaced at every revision
	broken  error         // ended by itself
	waiting int           // callers of WaitFor

	cancel context.CancelFunc
	done   chan struct{}
}

// stalled is how long the watch may be silent while somebody waits for a revision, before the follower lists to learn
// whether the revision only touched other prefixes.
const stalled = 500 * time.Millisecond

// Follow starts a follower and returns when it has read a revision that is not older than the call. onChange is called after
// each applied revision, one at a time; it must not block. ctx is the follower's life.
func (c *Client) Follow(ctx context.Context, load LoadIndex, onChange func(Revision)) (*Follower, error) {
	ctx, cancel := context.WithCancel(ctx)
	f := &Follower{client: c, load: load, onChange: onChange, moved: make(chan struct{}), cancel: cancel, done: make(chan struct{})}
	if err := f.list(ctx); err != nil {
		cancel()
		return nil, err
	}
	go f.run(ctx)
	return f, nil
}

// Close ends the follower; what it knows stays readable.
func (f *Follower) Close() {
	f.cancel()
	<-f.done
}

func (f *Follower) list(ctx context.Context) error {
	kvs, revision, err := f.client.kv.Range(ctx, f.client.keys.prefix, 0)
	if err != nil {
		return fmt.Errorf("list %s: %w", f.client.keys.prefix, err)
	}
	change := Change{Revision: revision, Events: make([]Event, len(kvs))}
	for i, kv := range kvs {
		change.Events[i] = Event{Type: EventPut, KV: kv}
	}
	// Records last, so that deleted topics are known when their blocks are indexed.
	slices.SortStableFunc(change.Events, func(a, b Event) int { return rank(f.client.keys, a) - rank(f.client.keys, b) })
	loaded, err := f.loadRecords(ctx, change)
	if err != nil {
		return err
	}
	v := newView(f.client.keys)
	if err := v.apply(change, loaded); err != nil {
		return err
	}
	for p, log := range v.logs {
		log.sort(p)
	}
	for _, t := range v.topics {
		v.topicsRev = max(v.topicsRev, t.Revision)
	}
	f.mu.Lock()
	if f.view != nil {
		if revision < f.view.revision {
			f.mu.Unlock()
			return fmt.Errorf("%w: etcd was at revision %d and is at %d now", ErrRestored, f.view.revision, revision)
		}
		v.topicsRev = max(v.topicsRev, f.view.topicsRev+1) // a deletion may hide in the gap
		for p, log := range v.logs {
			if old := f.view.logs[p]; old != nil {
				log.end = max(log.end, old.end)
			}
		}
	}
	f.view = v
	f.mu.Unlock()
	f.tell(revision)
	return nil
}

func rank(k Keys, e Event) int {
	if strings.HasPrefix(e.KV.Key, k.prefix+dirL0) {
		return 1
	}
	return 0
}

// loadRecords decodes the L0 records that a revision put.
func (f *Follower) loadRecords(ctx context.Context, change Change) (map[string]*L0Record, error) {
	var out map[string]*L0Record
	for _, e := range change.Events {
		if e.Type != EventPut || !strings.HasPrefix(e.KV.Key, f.client.keys.prefix+dirL0) {
			continue
		}
		r, err := f.client.keys.decodeRecord(e.KV)
		if err != nil {
			return nil, err
		}
		if !r.Inline {
			if r.Index, err = f.load(ctx, r); err != nil {
				return nil, fmt.Errorf("load the index of object %s: %w", r.Object, err)
			}
		}
		if out == nil {
			out = make(map[string]*L0Record)
		}
		out[e.KV.Key] = r
	}
	return out, nil
}

func (k Keys) decodeRecord(kv KeyValue) (*L0Record, error) {
	node, incarnation, seq, err := k.parseL0(kv.Key)
	if err != nil {
		return nil, err
	}
	r, err := DecodeL0Record(kv.Value)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", kv.Key, err)
	}
	r.Node, r.Incarnation, r.Seq = node, incarnation, seq
	return r, nil
}

func (f *Follower) run(ctx context.Context) {
	defer close(f.done)
	wait := 10 * time.Millisecond
	for ctx.Err() == nil {
		began := f.Revision()
		err := f.watch(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrFormat), errors.Is(err, ErrRestored):
			f.fail(err)
			return
		case errors.Is(err, ErrCompacted), errors.Is(err, errStalled):
			if err = f.list(ctx); errors.Is(err, ErrFormat) || errors.Is(err, ErrRestored) {
				f.fail(err)
				return
			}
		}
		if err == nil || f.Revision() != began {
			wait = 10 * time.Millisecond
			continue
		}
		f.client.logger.Debug("follow etcd; trying again", "cause", err)
		t := f.client.clock.NewTimer(wait)
		select {
		case <-t.C():
		case <-ctx.Done():
			t.Stop()
			return
		}
		wait = min(2*wait, time.Second)
	}
}

// errStalled: somebody waits for a revision that the watch does not bring.
var errStalled = errors.New("watch is silent")

// watch applies revisions until something ends it.
func (f *Follower) watch(ctx context.Context) error {
	w, err := f.client.kv.Watch(ctx, f.client.keys.prefix, f.Revision()+1)
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		next, cancel := context.WithCancel(ctx)
		timer := f.client.clock.NewTimer(stalled)
		silent := make(chan struct{})
		go func() {
			defer close(silent)
			for {
				select {
				case <-timer.C():
					if f.awaited() {
						cancel()
						return
					}
					timer.Reset(stalled)
				case <-next.Done():
					return
				}
			}
		}()
		change, err := w.Next(next)
		late := next.Err() != nil && ctx.Err() == nil
		cancel()
		timer.Stop()
		<-silent
		switch {
		case late && err != nil:
			return errStalled
		case err != nil:
			return err
		}
		if err := f.apply(ctx, change); err != nil {
			return err
		}
	}
}

func (f *Follower) awaited() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.waiting > 0
}

func (f *Follower) apply(ctx context.Context, change Change) error {
	loaded, err := f.loadRecords(ctx, change)
	if err != nil {
		return err
	}
	f.mu.Lock()
	err = f.view.apply(change, loaded)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	f.tell(change.Revision)
	return nil
}

// tell wakes who waits and calls back.
func (f *Follower) tell(revision Revision) {
	f.mu.Lock()
	close(f.moved)
	f.moved = make(chan struct{})
	f.mu.Unlock()
	if f.onChange != nil {
		f.onChange(revision)
	}
}

func (f *Follower) fail(err error) {
	f.client.logger.Error("following etcd ends", "cause", err)
	f.mu.Lock()
	f.broken = err
	close(f.moved)
	f.moved = make(chan struct{})
	f.mu.Unlock()
	if f.onChange != nil {
		f.onChange(f.Revision())
	}
}

// Err is why the follower ended by itself, nil while it follows.
func (f *Follower) Err() error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.broken
}

// Revision is the one that every read now answers for.
func (f *Follower) Revision() Revision {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.revision
}

// WaitFor returns when the follower has reached a revision.
func (f *Follower) WaitFor(ctx context.Context, revision Revision) error {
	f.mu.Lock()
	f.waiting++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.waiting--
		f.mu.Unlock()
	}()
	for {
		f.mu.RLock()
		at, moved, broken := f.view.revision, f.moved, f.broken
		f.mu.RUnlock()
		switch {
		case at >= revision:
			return nil
		case broken != nil:
			return broken
		}
		select {
		case <-moved:
		case <-f.done:
			return fmt.Errorf("%w: the index has ended at revision %d", ErrUnavailable, at)
		case <-ctx.Done():
			return fmt.Errorf("wait for revision %d, now at %d: %w", revision, at, ctx.Err())
		}
	}
}

// TopicsRevision goes up whenever a topic is made, changed or deleted.
func (f *Follower) TopicsRevision() Revision {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.topicsRev
}

// Topic finds a topic by name.
func (f *Follower) Topic(name string) (Topic, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	t, ok := f.view.topics[name]
	return t, ok
}

// TopicByID finds a topic by id.
func (f *Follower) TopicByID(id TopicID) (Topic, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	t, ok := f.view.byID[id]
	return t, ok
}

// Topics lists all topics, in no order.
func (f *Follower) Topics() []Topic {
	f.mu.RLock()
	defer f.mu.RUnlock()
	out := make([]Topic, 0, len(f.view.topics))
	for _, t := range f.view.topics {
		out = append(out, t)
	}
	return out
}

// Assignment is what a node leads; its map is shared and read only.
func (f *Follower) Assignment(node NodeID) (Assignment, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	a, ok := f.view.assigned[node]
	return a, ok
}

// Released tells whether a node has let a partition go at this epoch; it never leads it again at that one.
func (f *Follower) Released(node NodeID, p Partition, epoch Epoch) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	e, ok := f.view.released[node][p]
	return ok && e == epoch
}

// Node is a registered node.
func (f *Follower) Node(id NodeID) (NodeInfo, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	n, ok := f.view.nodes[id]
	return n, ok
}

// Head is a node's last commit.
func (f *Follower) Head(id NodeID) (Head, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	h, ok := f.view.heads[id]
	return h, ok
}

// Start is the first offset of a partition that is kept. Nothing removes records yet, so it is 0.
func (f *Follower) Start(Partition) int64 { return 0 }

// End is the first offset behind what is committed.
func (f *Follower) End(p Partition) int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if log := f.view.logs[p]; log != nil {
		return log.end
	}
	return 0
}

// Hole is an error when the blocks of a partition do not join; it must then be neither led nor read.
func (f *Follower) Hole(p Partition) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if log := f.view.logs[p]; log != nil {
		return log.hole
	}
	return nil
}

// Lookup finds the block that holds an offset.
func (f *Follower) Lookup(p Partition, offset int64) (Block, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	log := f.view.logs[p]
	if log == nil {
		return Block{}, false
	}
	b, ok := log.lookup(offset)
	if !ok {
		return Block{}, false
	}
	return Block{L0Entry: b.entry, Object: b.record.Object}, true
}

// LookupTime finds the first block with a record whose timestamp (ms, as producers set it) is this one or later.
func (f *Follower) LookupTime(p Partition, timestampMs int64) (Block, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	log := f.view.logs[p]
	if log == nil {
		return Block{}, false
	}
	for _, b := range log.blocks { // timestamps are the producers' and follow no order
		if b.entry.MaxTimestamp >= timestampMs {
			return Block{L0Entry: b.entry, Object: b.record.Object}, true
		}
	}
	return Block{}, false
}

// Producers is the committed state of a partition's idempotent producers: of each the last ProducerRanges batches, in
// offset order.
func (f *Follower) Producers(p Partition) []L0Producer {
	f.mu.RLock()
	defer f.mu.RUnlock()
	log := f.view.logs[p]
	if log == nil {
		return nil
	}
	var out []L0Producer
	for _, list := range log.producers {
		out = append(out, list...)
	}
	return out
}

// Records lists the records of a node, by incarnation and sequence as their keys sort. The records are shared and read only.
func (f *Follower) Records(node NodeID) []*L0Record {
	f.mu.RLock()
	defer f.mu.RUnlock()
	var out []*L0Record
	for _, r := range f.view.records {
		if r.Node == node {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *L0Record) int {
		if a.Incarnation != b.Incarnation {
			if a.Incarnation < b.Incarnation {
				return -1
			}
			return 1
		}
		return int(int64(a.Seq) - int64(b.Seq))
	})
	return out
}

// IsGarbage tells whether an object of this name is in nobody's way: no record names it, and none ever will, because its
// incarnation is dead or has settled its number.
func (f *Follower) IsGarbage(name string) bool {
	node, incarnation, number, _, err := ParseL0ObjectName(name)
	if err != nil {
		return false
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.view.objects[name] > 0 {
		return false
	}
	alive, ok := f.view.nodes[node]
	if !ok || alive.Incarnation != incarnation {
		return true
	}
	head, ok := f.view.heads[node]
	return ok && head.Incarnation == incarnation && number <= head.Settled
}
