package ingest

import (
	"context"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

// lookPatience bounds the question to etcd whether there is a topic that the index does not know.
const lookPatience = 5 * time.Second

// revisionReads asks etcd for its revision on behalf of everybody who needs one that is not older than their call. One question is under way
// at a time; whoever comes meanwhile shares the next one, because the answer of this one may be older than they are. So requests for topics
// that are not there cost etcd no more than one read after the other, however many come.
//
// Nothing is remembered: somebody who asks whether there is a topic, makes it through another node and uses it here must find it.
type revisionReads struct {
	life context.Context //nolint:containedctx // the life of the router or the node
	work *sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	running bool
	next    *revisionRead // that nobody asks yet; nil when nobody waits for one
}

// revisionRead is one question. What it brought may be read once done is closed.
type revisionRead struct {
	done     chan struct{}
	revision meta.Revision
	err      error
}

// read returns a revision that is not older than the call.
func (r *revisionReads) read(ctx context.Context, ask func(context.Context) (meta.Revision, error)) (meta.Revision, error) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return 0, errClosing
	}
	if r.next == nil {
		r.next = &revisionRead{done: make(chan struct{})}
	}
	mine := r.next
	if !r.running {
		r.running = true
		r.work.Go(func() { r.run(ask) })
	}
	r.mu.Unlock()
	select {
	case <-mine.done:
		return mine.revision, mine.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// run asks until nobody waits any more.
func (r *revisionReads) run(ask func(context.Context) (meta.Revision, error)) {
	for {
		r.mu.Lock()
		now := r.next
		r.next = nil
		r.running = now != nil
		r.mu.Unlock()
		if now == nil {
			return
		}
		ctx, cancel := context.WithTimeout(r.life, lookPatience)
		now.revision, now.err = ask(ctx)
		cancel()
		close(now.done)
	}
}

// close makes whoever asks later fail. What is under way ends with life.
func (r *revisionReads) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
}
