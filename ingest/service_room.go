package ingest

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/tidemark-io/tidemark/clock"
)

// Limits of what waits for clients to read it: records, of all streams and fetches together, and whatever else is large.
const (
	sendBytes = 256 << 20
	// nodeSendBytes is the same for answers to other nodes, which wait for no client.
	nodeSendBytes = 128 << 20
	// sendPatience is how long a client may take to read one piece while other streams wait for room.
	sendPatience = 30 * time.Second
	// crowdedEvery is how often a stream that waits for room looks for such clients.
	crowdedEvery = time.Second
)

// sendRoom bounds the bytes that were read for clients and that they have not taken.
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

// sendReader is a client as the room sees it: whether it takes what it is sent. A stream has one for everything that it holds.
type sendReader struct {
	since atomic.Int64 // nanoseconds of the clock: since when a message waits for the client to take it; 0: none does
	evict func()       // make Send fail; called at most once
	ended atomic.Bool  // evict was called
}

// begin says that a message is being written to the client, rest that it has taken everything.
func (r *sendReader) begin(now time.Time) { r.since.Store(now.UnixNano()) }
func (r *sendReader) rest()               { r.since.Store(0) }

// sendShare is what one stream, or one message of it, holds of the room.
type sendShare struct {
	room   *sendRoom
	size   int64 // guarded by sendRoom.mu
	reader *sendReader
}

func newSendRoom(limit int64, c clock.Clock) *sendRoom {
	return &sendRoom{limit: limit, clock: c, free: semaphore.NewWeighted(limit), taken: make(map[*sendShare]struct{})}
}

// reader makes the reader of a message that is written as soon as there is room for it. evict makes the writing fail.
func (r *sendRoom) reader(evict func()) *sendReader {
	out := &sendReader{evict: evict}
	out.begin(r.clock.Now())
	return out
}

// try takes so many bytes of the room, all of it when there are more; nil when there is not as much, or others have waited longer. Whoever gets a
// share gives it back. evict is not called after that.
func (r *sendRoom) try(size int64, evict func()) *sendShare { return r.tryFor(r.reader(evict), size) }

// tryFor is try for a reader that may have other shares.
func (r *sendRoom) tryFor(reader *sendReader, size int64) *sendShare {
	size = min(size, r.limit)
	if size > 0 && !r.free.TryAcquire(size) {
		return nil
	}
	return r.share(reader, size)
}

// take is try that waits, first come first served, until ctx ends.
func (r *sendRoom) take(ctx context.Context, size int64, evict func()) (*sendShare, error) {
	reader := &sendReader{evict: evict}
	share, err := r.takeFor(ctx, reader, size)
	if err == nil {
		reader.begin(r.clock.Now())
	}
	return share, err
}

// takeFor is take for a reader that may have other shares.
func (r *sendRoom) takeFor(ctx context.Context, reader *sendReader, size int64) (*sendShare, error) {
	size = min(size, r.limit)
	if share := r.tryFor(reader, size); share != nil {
		return share, nil
	}
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
	return r.share(reader, size), nil
}

func (r *sendRoom) share(reader *sendReader, size int64) *sendShare {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &sendShare{room: r, size: size, reader: reader}
	r.taken[s] = struct{}{}
	return s
}

// evictStalled ends the streams whose clients keep others waiting.
func (r *sendRoom) evictStalled() {
	r.mu.Lock()
	defer r.mu.Unlock()
	stalled := r.clock.Now().Add(-sendPatience).UnixNano()
	for s := range r.taken {
		if since := s.reader.since.Load(); since != 0 && since < stalled && !s.reader.ended.Swap(true) {
			s.reader.evict()
		}
	}
}

// sent says that the client has taken a piece of so many bytes.
func (s *sendShare) sent(size int64) {
	s.room.mu.Lock()
	size = min(size, s.size)
	s.size -= size
	s.room.mu.Unlock()
	s.reader.begin(s.room.clock.Now())
	s.room.free.Release(size)
}

// part takes at most so many bytes out of the share, for a message that is sent and given back by itself.
func (s *sendShare) part(size int64) *sendShare {
	s.room.mu.Lock()
	size = min(size, s.size)
	s.size -= size
	s.room.mu.Unlock()
	return s.room.share(s.reader, size)
}

// give gives back what is left; nothing when there is no share.
func (s *sendShare) give() {
	if s == nil {
		return
	}
	s.room.mu.Lock()
	size := s.size
	s.size = 0
	delete(s.room.taken, s)
	s.room.mu.Unlock()
	s.room.free.Release(size)
}

// fetchInto fetches with room for what comes. Whoever waits for room waits without holding anything, and fetches again.
func (r *sendRoom) fetchInto(ctx context.Context, reader *sendReader, request FetchRequest,
	fetch func(context.Context, FetchRequest) ([]PartitionBatches, error),
) ([]PartitionBatches, *sendShare, error) {
	pieces, err := fetch(ctx, request)
	if err != nil {
		return nil, nil, err
	}
	if share := r.tryFor(reader, piecesSize(pieces)); share != nil {
		return pieces, share, nil
	}
	clear(pieces) // not to be held while this waits
	share, err := r.takeFor(ctx, reader, int64(request.MaxBytes))
	if err != nil {
		return nil, nil, err
	}
	request.MaxWait = 0
	if pieces, err = fetch(ctx, request); err != nil {
		share.give()
		return nil, nil, err
	}
	return pieces, share, nil
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

// withSendRoom gives the calls of a service their room: those of clients one, and those that other nodes forward another, so that no node ever
// waits for room at a node that waits for room at it.
func withSendRoom(clients, nodes *sendRoom, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		room := clients
		if forwardedOf(q.Context()) != nil {
			room = nodes
		}
		next.ServeHTTP(w, q.WithContext(context.WithValue(q.Context(), sendRoomKey{}, room)))
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
