package metafake

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

// watcher is a place in the history.
type watcher struct {
	store  *Store
	prefix string

	// Under the store's lock:
	next     meta.Revision // the first that was not looked at
	progress bool          // asked for

	once   sync.Once
	closed chan struct{}
}

// Watch implements meta.KV.
func (s *Store) Watch(ctx context.Context, prefix string, from meta.Revision) (meta.Watcher, error) {
	if from <= 0 {
		return nil, fmt.Errorf("watch %s from revision %d: revisions begin at 1", prefix, from)
	}
	if err := s.enter(ctx, "watch "+prefix); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return &watcher{store: s, prefix: prefix, next: from, closed: make(chan struct{})}, nil
}

// Next implements meta.Watcher.
func (w *watcher) Next(ctx context.Context) (meta.Change, error) {
	for {
		select {
		case <-w.closed:
			return meta.Change{}, fmt.Errorf("watch: %w", meta.ErrWatchClosed)
		default:
		}
		s := w.store
		s.mu.Lock()
		s.expire()
		change, found, err := w.look()
		moved := s.moved
		_, ends, leased := s.firstToEnd()
		s.mu.Unlock()
		if found || err != nil {
			return change, err
		}
		if err := w.wait(ctx, moved, ends, leased); err != nil {
			return meta.Change{}, err
		}
	}
}

// wait returns when there may be something new: after a change, or when a lease ends.
func (w *watcher) wait(ctx context.Context, moved <-chan struct{}, ends time.Time, leased bool) error {
	var expired <-chan time.Time
	if leased {
		timer := w.store.clock.NewTimer(ends.Sub(w.store.clock.Now()))
		defer timer.Stop()
		expired = timer.C()
	}
	select {
	case <-moved:
	case <-expired:
	case <-w.closed:
	case <-ctx.Done():
		return fmt.Errorf("watch: %w", ctx.Err())
	}
	return nil
}

// look finds the next change to deliver. The store's lock is held.
func (w *watcher) look() (meta.Change, bool, error) {
	s := w.store
	if w.next <= s.history.compacted {
		return meta.Change{}, false, fmt.Errorf("watch: %w: history begins above revision %d", meta.ErrCompacted, s.history.compacted)
	}
	visible := s.faults.visible(s.history.revision)
	changes := s.history.changes
	from := sort.Search(len(changes), func(n int) bool { return changes[n].Revision >= w.next })
	for _, c := range changes[from:] {
		if c.Revision > visible {
			break
		}
		w.next = c.Revision + 1
		if part, some := under(w.prefix, c); some {
			return part, true, nil
		}
	}
	if w.progress {
		w.progress, w.next = false, max(w.next, visible+1)
		return meta.Change{Revision: visible}, true, nil
	}
	return meta.Change{}, false, nil
}

// RequestProgress implements meta.Watcher.
func (w *watcher) RequestProgress(ctx context.Context) error {
	select {
	case <-w.closed:
		return fmt.Errorf("ask how far the watch is: %w", meta.ErrWatchClosed)
	default:
	}
	s := w.store
	if err := s.enter(ctx, "ask how far the watch is"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	w.progress = true
	s.wake()
	return nil
}

// Close implements meta.Watcher.
func (w *watcher) Close() {
	w.once.Do(func() { close(w.closed) })
}
