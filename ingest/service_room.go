package ingest

import (
	"context"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/tidemark-io/tidemark/clock"
)

// Limits of what waits for clients to read it, all streams of records together.
const (
	sendBytes = 256 << 20
	// sendPatience is how long a client may take to read one piece while other streams wait for room.
	sendPatience = 30 * time.Second
	// crowdedEvery is how often a stream that waits for room looks for such clients.
	crowdedEvery = time.Second
)

// sendRoom bounds the bytes of records that streams have read and their clients have not taken.
//
//	fetch ── take: room at once ──► send ──► give
//	          └ none: drop what was fetched ── wait ──► fetch again
//
// So a stream that waits for records holds nothing, one that waits for room holds nothing either, and however many clients do not read, together they
// hold no more than the room. They cannot keep it from others for ever: while somebody waits, a stream whose client has not
// read a piece for sendPatience is ended, and its client may open another.
type sendRoom struct {
	limit int64
	clock clock.Clock
	free  *semaphore.Weighted

	mu    sync.Mutex
	taken map[*sendShare]struct{}
}

// sendShare is what one stream holds of the room while it sends. Its fields are guarded by sendRoom.mu.
type sendShare struct {
	room    *sendRoom
	size    int64
	since   time.Time // its client has taken nothing
	evict   func()    // make Send fail; called at most once, and not after give
	evicted bool
}

func newSendRoom(limit int64, c clock.Clock) *sendRoom {
	return &sendRoom{limit: limit, clock: c, free: semaphore.NewWeighted(limit), taken: make(map[*sendShare]struct{})}
}

// try takes so many bytes of the room, all of it when there are more; nil when there is not as much, or others have waited longer. Whoever gets a
// share gives it back.
func (r *sendRoom) try(size int64, evict func()) *sendShare {
	size = min(size, r.limit)
	if size > 0 && !r.free.TryAcquire(size) {
		return nil
	}
	return r.share(size, evict)
}

// take is try that waits, first come first served, until ctx ends.
func (r *sendRoom) take(ctx context.Context, size int64, evict func()) (*sendShare, error) {
	size = min(size, r.limit)
	waiting, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		for pause(waiting, r.clock, crowdedEvery) {
			r.evictStalled()
		}
	})
	err := r.free.Acquire(ctx, size)
	stop()
	watch.Wait()
	if err != nil {
		return nil, context.Cause(ctx)
	}
	return r.share(size, evict), nil
}

func (r *sendRoom) share(size int64, evict func()) *sendShare {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &sendShare{room: r, size: size, since: r.clock.Now(), evict: evict}
	r.taken[s] = struct{}{}
	return s
}

// evictStalled ends the streams whose clients keep others waiting.
func (r *sendRoom) evictStalled() {
	r.mu.Lock()
	defer r.mu.Unlock()
	stalled := r.clock.Now().Add(-sendPatience)
	for s := range r.taken {
		if !s.evicted && s.since.Before(stalled) {
			s.evicted = true
			s.evict()
		}
	}
}

// sent says that the client has taken a piece of so many bytes.
func (s *sendShare) sent(size int64) {
	s.room.mu.Lock()
	size = min(size, s.size)
	s.size -= size
	s.since = s.room.clock.Now()
	s.room.mu.Unlock()
	s.room.free.Release(size)
}

// give gives back what is left.
func (s *sendShare) give() {
	s.room.mu.Lock()
	size := s.size
	s.size = 0
	delete(s.room.taken, s)
	s.room.mu.Unlock()
	s.room.free.Release(size)
}

// piecesSize is what the batches of pieces hold.
func piecesSize(pieces []PartitionBatches) int64 {
	size := int64(0)
	for _, p := range pieces {
		size += pieceSize(p)
	}
	return size
}

func pieceSize(p PartitionBatches) int64 {
	size := int64(0)
	for _, b := range p.Batches {
		size += int64(len(b))
	}
	return size
}

type sendRoomKey struct{}

// withSendRoom gives the streams of a service their room.
func withSendRoom(r *sendRoom, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		next.ServeHTTP(w, q.WithContext(context.WithValue(q.Context(), sendRoomKey{}, r)))
	})
}

// sendRoomOf finds the room that all streams of the process share.
func sendRoomOf(ctx context.Context) *sendRoom {
	r, _ := ctx.Value(sendRoomKey{}).(*sendRoom)
	return r
}

// evictor makes the Send of a stream fail, whatever it waits for.
func evictor(ctx context.Context) func() {
	control, ok := ctx.Value(streamControlKey{}).(*http.ResponseController)
	if !ok {
		return func() {}
	}
	// Only a writer without a connection refuses deadlines, and such a one ends with its request.
	return func() { _ = control.SetWriteDeadline(time.Unix(1, 0)) }
}
