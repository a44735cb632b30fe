package meta

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
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
	view    *Index
	told    Revision      // onChange has returned for it
	moved   chan struct{} // closed and replaced at every revision
	broken  error         // ended by itself
	waiting int           // callers of WaitFor that do not have their revision yet
	wanted  chan struct{} // holds a value when waiting went up

	cancel context.CancelFunc
	done   chan struct{}
}

// How a follower learns the revision when nothing happens under its prefix.
const (
	askAfter       = 5 * time.Millisecond   // since somebody waits
	askEvery       = 500 * time.Millisecond // while somebody waits
	asksUnanswered = 10                     // before the watch is made anew
	loadsAtOnce    = 16                     // indexes read from objects
)

// Follow starts a follower and returns when it has read a revision that is not older than the call. onChange is called after
// each applied revision, one at a time; it must not block. ctx is the follower's life.
func (c *Client) Follow(ctx context.Context, load LoadIndex, onChange func(Revision)) (*Follower, error) {
	ctx, cancel := context.WithCancel(ctx)
	f := &Follower{client: c, load: load, onChange: onChange, moved: make(chan struct{}), wanted: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{})}
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
	loaded, err := f.loadRecords(ctx, change)
	if err != nil {
		return err
	}
	v := NewIndex(f.client.keys)
	if err := v.Apply(change, loaded); err != nil {
		return err
	}
	f.mu.Lock()
	if f.view != nil {
		if revision < f.view.revision {
			f.mu.Unlock()
			return fmt.Errorf("%w: etcd was at revision %d and is at %d now", ErrRestored, f.view.revision, revision)
		}
		v.Inherit(f.view)
	}
	f.view = v
	f.mu.Unlock()
	f.tell(revision)
	return nil
}

// loadRecords decodes the L0 records that a revision put, and reads the indexes that they leave in their objects.
func (f *Follower) loadRecords(ctx context.Context, change Change) (map[string]*L0Record, error) {
	var out map[string]*L0Record
	var elsewhere []*L0Record
	for _, e := range change.Events {
		if e.Type != EventPut || !strings.HasPrefix(e.KV.Key, f.client.keys.prefix+dirL0) {
			continue
		}
		r, err := f.client.keys.DecodeRecord(e.KV)
		if err != nil {
			return nil, err
		}
		if !r.Inline {
			elsewhere = append(elsewhere, r)
		}
		if out == nil {
			out = make(map[string]*L0Record)
		}
		out[e.KV.Key] = r
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(loadsAtOnce)
	for _, r := range elsewhere {
		group.Go(func() (err error) {
			if r.Index, err = f.load(ctx, r); err != nil {
				return fmt.Errorf("load the index of object %s: %w", r.Object, err)
			}
			return nil
		})
	}
	return out, group.Wait()
}

// DecodeRecord reads the record of an L0 object with what its key says. Errors are ErrFormat.
func (k Keys) DecodeRecord(kv KeyValue) (*L0Record, error) {
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
		case errors.Is(err, ErrCompacted):
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

// errStalled: somebody waits for a revision, and the watch does not even say how far it is.
var errStalled = errors.New("watch is silent")

// watch applies revisions until something ends it.
func (f *Follower) watch(ctx context.Context) error {
	w, err := f.client.kv.Watch(ctx, f.client.keys.prefix, f.Revision()+1)
	if err != nil {
		return err
	}
	defer w.Close()
	watching, cancel := context.WithCancelCause(ctx)
	asking := make(chan struct{})
	go func() {
		defer close(asking)
		f.ask(watching, cancel, w)
	}()
	defer func() {
		cancel(nil)
		<-asking
	}()
	for {
		change, err := w.Next(watching)
		if err != nil {
			if cause := context.Cause(watching); cause != nil && ctx.Err() == nil {
				return cause
			}
			return err
		}
		if err := f.apply(ctx, change); err != nil {
			return err
		}
	}
}

// ask asks the watch how far it is while somebody waits for a revision, since a revision may have touched other prefixes only.
// A watch that does not answer is ended, and so is every watch of an etcd that went back in time.
func (f *Follower) ask(ctx context.Context, end context.CancelCauseFunc, w Watcher) {
	timer := f.client.clock.NewTimer(askEvery)
	defer timer.Stop()
	timer.Stop()
	at, soon, unanswered := f.Revision(), false, 0
	for {
		select {
		case <-f.wanted: // what is wanted comes by itself, most of the time: it is asked for after a moment
			if !soon {
				timer.Reset(askAfter)
				soon = true
			}
		case <-timer.C():
			if now := f.Revision(); now != at || !f.awaited() {
				at, unanswered = now, 0
			} else if !soon {
				unanswered++
			}
			soon = false
			if !f.awaited() {
				continue
			}
			if unanswered > asksUnanswered {
				end(errStalled)
				return
			}
			if err := w.RequestProgress(ctx); err != nil && ctx.Err() == nil {
				f.client.logger.DebugContext(ctx, "ask how far the watch is", "cause", err)
			}
			timer.Reset(askEvery)
		case <-f.client.guard.restored:
			end(f.client.guard.cause)
			return
		case <-ctx.Done():
			return
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
	err = f.view.Apply(change, loaded)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	f.tell(change.Revision)
	return nil
}

// tell calls back, and then wakes who waits: whoever has waited for a revision knows that it was told.
func (f *Follower) tell(revision Revision) {
	if f.onChange != nil {
		f.onChange(revision)
	}
	f.mu.Lock()
	f.told = max(f.told, revision)
	close(f.moved)
	f.moved = make(chan struct{})
	f.mu.Unlock()
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

// WaitFor returns when the follower has reached a revision, or cannot any more.
func (f *Follower) WaitFor(ctx context.Context, revision Revision) error {
	f.mu.Lock()
	if f.told >= revision {
		f.mu.Unlock()
		return nil
	}
	f.waiting++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.waiting--
		f.mu.Unlock()
	}()
	select {
	case f.wanted <- struct{}{}:
	default:
	}
	for {
		f.mu.RLock()
		at, moved, broken := f.told, f.moved, f.broken
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
			if err := f.Err(); err != nil {
				return err
			}
			return fmt.Errorf("%w: the index has ended at revision %d", ErrUnavailable, at)
		case <-ctx.Done():
			return fmt.Errorf("wait for revision %d, now at %d: %w", revision, at, ctx.Err())
		}
	}
}
