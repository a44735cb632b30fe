package tail

import (
	"context"
	"sync"

	"github.com/tidemark-io/tidemark/query/column"
)

// request is a Snapshot that somebody waits for.
type request struct {
	topic   Topic
	atLeast map[int32]int64
	schema  *column.Schema
	answer  chan answer // has room for the one answer

	mu    sync.Mutex
	ended bool // answered, or nobody waits any more
}

type answer struct {
	snapshot *Snapshot
	err      error
}

// give answers, and tells whether anybody was there to take it.
func (r *request) give(a answer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return false
	}
	r.ended = true
	r.answer <- a
	return true
}

// leave says that nobody waits any more; false when there is an answer already.
func (r *request) leave() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return false
	}
	r.ended = true
	return true
}

func (r *request) left() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended
}

// ask hands a request to the tail and waits for the answer.
func (t *tail) ask(ctx context.Context, r *request) (*Snapshot, error) {
	select {
	case t.requests <- r:
	case <-t.done:
		return nil, t.ended
	case <-ctx.Done():
		return nil, t.lag(ctx, r)
	}
	select {
	case a := <-r.answer:
		return a.snapshot, a.err
	case <-ctx.Done():
		if r.leave() {
			return nil, t.lag(ctx, r)
		}
	case <-t.done: // a panic may have come before the answer
		if r.leave() {
			return nil, t.ended
		}
	}
	a := <-r.answer // it came at the same moment
	return a.snapshot, a.err
}

// lag says why a request whose context ended has no answer.
func (t *tail) lag(ctx context.Context, r *request) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return &LagError{Topic: t.name, Partitions: lagging(t.position, r.atLeast), Reading: t.trouble, cause: context.Cause(ctx)}
}
