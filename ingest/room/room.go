// Package room bounds the bytes that clients can make the process hold, all of them together, without letting those that hold some
// keep it from the others for ever.
//
//	take: room at once, or wait ──► hold ──► sent: the peer has taken a part ──► give
//
// While somebody waits, a holder whose peer has made no progress for the room's patience is evicted: its connection ends, and it gives back what it
// held. Who waits is served first come first served, so that whoever comes back waits behind the others.
package room

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/tidemark-io/tidemark/clock"
)

// crowdedEvery is how often peers that make no progress are looked for while somebody waits for room.
const crowdedEvery = time.Second

// Room is so many bytes. Its methods may be called from any goroutine.
type Room struct {
	limit    int64
	patience time.Duration
	clock    clock.Clock
	free     *semaphore.Weighted

	mu sync.Mutex
	// watched is the ring of the shares that may be evicted: behind it is the one whose peer made its last progress longest ago.
	watched Share
	waiting int
	calm    chan struct{} // closed when nobody waits any more
}

// Share is what one holder has of a room.
type Share struct {
	room  *Room
	size  int64
	since time.Time   // its peer has made no progress
	evict func() bool // nil when it is not watched
	// Its neighbours among the watched, nil when it is none of them.
	before, behind *Share
}

// New makes a room of so many bytes, above 0. patience is how long a peer may make no progress while others wait.
func New(limit int64, patience time.Duration, c clock.Clock) *Room {
	r := &Room{limit: limit, patience: patience, clock: c, free: semaphore.NewWeighted(limit)}
	r.watched.before, r.watched.behind = &r.watched, &r.watched
	return r
}

// Patience is how long a peer may make no progress while others wait.
func (r *Room) Patience() time.Duration { return r.patience }

// Try takes so many bytes, all of the room when there are more; nil when there is not as much, or others have waited longer. evict, if not nil, makes
// the peer's connection end and tells so, or that the peer is not to blame: then it is asked again. It is called with the room locked, and not after
// Give. Whoever gets a share gives it back.
func (r *Room) Try(size int64, evict func() bool) *Share {
	size = min(size, r.limit)
	if size > 0 && !r.free.TryAcquire(size) {
		return nil
	}
	return r.share(size, evict)
}

// Take is Try that waits, first come first served, until ctx ends; the error is the context's cause then.
func (r *Room) Take(ctx context.Context, size int64, evict func() bool) (*Share, error) {
	size = min(size, r.limit)
	if err := r.acquire(ctx, size); err != nil {
		return nil, err
	}
	return r.share(size, evict), nil
}

// Grow takes so many bytes more, all of the room at most, and waits as Take does. Who waits for more keeps what it has from the others: so it is
// evicted like one whose peer makes no progress, and of many who wait for each other some go.
func (s *Share) Grow(ctx context.Context, more int64) error {
	s.room.mu.Lock()
	more = min(more, s.room.limit-s.size)
	s.room.mu.Unlock()
	if err := s.room.acquire(ctx, more); err != nil {
		return err
	}
	s.room.mu.Lock()
	s.size += more
	s.progress()
	s.room.mu.Unlock()
	return nil
}

func (r *Room) acquire(ctx context.Context, size int64) error {
	if r.free.TryAcquire(size) {
		return nil
	}
	r.wait()
	defer r.waited()
	if err := r.free.Acquire(ctx, size); err != nil {
		return context.Cause(ctx)
	}
	return nil
}

// wait has the peers watched for one more that waits. However many do, one goroutine watches.
func (r *Room) wait() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting++; r.waiting == 1 {
		calm := make(chan struct{})
		r.calm = calm
		go r.watch(calm)
	}
}

func (r *Room) waited() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting--; r.waiting == 0 {
		close(r.calm)
	}
}

// watch evicts for as long as somebody waits.
func (r *Room) watch(calm <-chan struct{}) {
	timer := r.clock.NewTimer(crowdedEvery)
	defer timer.Stop()
	for {
		select {
		case <-timer.C():
			r.evictStalled()
			timer.Reset(crowdedEvery)
		case <-calm:
			return
		}
	}
}

func (r *Room) share(size int64, evict func() bool) *Share {
	s := &Share{room: r, size: size, evict: evict}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.progress()
	return s
}

// evictStalled ends the peers that keep others waiting.
func (r *Room) evictStalled() {
	r.mu.Lock()
	defer r.mu.Unlock()
	stalled := r.clock.Now().Add(-r.patience)
	for s := r.watched.behind; s != &r.watched && s.since.Before(stalled); {
		next := s.behind
		if s.evict() {
			s.forget()
		}
		s = next
	}
}

// progress puts the share behind all others that are watched. The room is locked.
func (s *Share) progress() {
	s.unwatch()
	s.since = s.room.clock.Now()
	if s.evict == nil {
		return
	}
	last := &s.room.watched
	s.before, s.behind = last.before, last
	s.before.behind, last.before = s, s
}

// forget has the share watched no more.
func (s *Share) forget() {
	s.unwatch()
	s.evict = nil
}

func (s *Share) unwatch() {
	if s.before != nil {
		s.before.behind, s.behind.before = s.behind, s.before
		s.before, s.behind = nil, nil
	}
}

// Progress says that the peer does its part.
func (s *Share) Progress() { s.Sent(0) }

// Settle has another evict asked from now on, as Try does; with nil nothing depends on the peer any more, and the share is held without being evicted.
func (s *Share) Settle(evict func() bool) {
	s.room.mu.Lock()
	s.evict = evict
	s.progress()
	s.room.mu.Unlock()
}

// Size is how many bytes the share has.
func (s *Share) Size() int64 {
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	return s.size
}

// Shrink gives back what the share has beyond so many bytes.
func (s *Share) Shrink(to int64) {
	s.room.mu.Lock()
	more := max(s.size-to, 0)
	s.size -= more
	s.room.mu.Unlock()
	s.room.free.Release(more)
}

// Sent says that the peer has taken so many bytes, and gives them back.
func (s *Share) Sent(size int64) {
	s.room.mu.Lock()
	size = min(size, s.size)
	s.size -= size
	s.progress()
	s.room.mu.Unlock()
	s.room.free.Release(size)
}

// Give gives back what is left. Safe to call twice.
func (s *Share) Give() {
	s.room.mu.Lock()
	size := s.size
	s.size = 0
	s.forget()
	s.room.mu.Unlock()
	s.room.free.Release(size)
}
