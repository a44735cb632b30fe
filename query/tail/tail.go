package tail

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/query/column"
)

// tail follows one topic. Its loop owns all that is not said to be shared.
type tail struct {
	store  *Store
	pool   *pool
	usage  *usage
	id     string
	name   string
	ctx    context.Context
	cancel context.CancelCauseFunc

	requests chan *request
	done     chan struct{} // closed when the loop has ended, with ended set
	ended    error

	topic      Topic
	partitions map[int32]*partition
	wanted     bool // partitions were added that the reader does not read yet
	pump       *pump
	waiters    []*request
	full       error // why nothing more is read, when there is no room

	shape    *shape                    // of the newest schema known
	shapes   map[int64]*shape          // by version
	mappings map[int64]*column.Mapping // from that version to the newest
	fitting  map[fit]bool              // to the newest

	runs    []*run // in order; the last may be open
	recount bool   // chunks were made anew, so that misfits must be counted again

	// Shared, under mu.
	mu       sync.Mutex
	position map[int32]int64
	trouble  error // of reading or of the schema, the last one, until it is over
	rows     int64
	misfits  misfits
	held     int // snapshots that were not released
	used     time.Time
}

// partition is what a tail has of one partition that is not in a run: first the young chunks, then the rest, then the open rows.
type partition struct {
	number int32
	next   int64 // every record below is in
	rows   *column.Rows
	rest   *column.Raw // records of before rows that are in no chunk yet: there was no room; or nil
	bytes  int64       // of rows and rest, as counted
	young  []*block
}

func newTail(s *Store, topic Topic) *tail {
	t := &tail{
		store: s, pool: s.pool, usage: &usage{}, id: topic.ID, name: topic.Name, topic: topic,
		requests: make(chan *request), done: make(chan struct{}),
		partitions: map[int32]*partition{}, shapes: map[int64]*shape{}, position: map[int32]int64{}, misfits: misfits{},
		used: s.config.Clock.Now(),
	}
	t.ctx, t.cancel = context.WithCancelCause(s.ctx)
	return t
}

// run is the loop, from its first request to its end.
func (t *tail) run() {
	err := t.guarded(t.follow)
	t.cancel(err)
	t.pump.stop()
	t.store.forget(t)
	for _, r := range t.waiters {
		r.give(answer{err: err})
	}
	_ = t.guarded(t.release) // after a panic all may be out of joint: what cannot be given back is lost
	t.ended = err
	close(t.done)
}

// guarded makes a *PanicError of a panic.
func (t *tail) guarded(do func() error) (err error) {
	defer caught(t.store.config.Logger, t.name, &err)
	return do()
}

// release gives back all that the tail holds.
func (t *tail) release() error {
	for _, p := range t.partitions {
		p.rows.Release()
		if p.rest != nil {
			p.rest.Release()
		}
		t.pool.give(t.usage, p.bytes)
		releaseAll(p.young)
	}
	for _, r := range t.runs {
		r.release()
	}
	return nil
}

func (t *tail) follow() error {
	schema, err := t.store.config.Schemas.Load(t.ctx, t.topic)
	if err != nil {
		return t.cause(&SchemaError{Topic: t.name, Err: err, doing: "load"})
	}
	t.adopt(schema)
	idle := t.store.config.Clock.NewTimer(t.store.config.IdleAfter)
	defer idle.Stop()
	for {
		if err := t.read(); err != nil {
			return err
		}
		var pieces chan polled
		if t.pump != nil {
			pieces = t.pump.out
		}
		select {
		case <-t.ctx.Done():
			return context.Cause(t.ctx)
		case r := <-t.requests:
			err = t.asked(r)
		case got := <-pieces:
			err = t.polled(got)
		case <-idle.C():
			left := t.idle()
			if left <= 0 {
				return errIdle
			}
			idle.Reset(left)
		}
		if err != nil {
			return err
		}
	}
}

// cause prefers why the tail was ended to what that led to.
func (t *tail) cause(err error) error {
	if t.ctx.Err() != nil {
		return context.Cause(t.ctx)
	}
	return err
}

// read opens a reader of all partitions, if there are some that none reads.
func (t *tail) read() error {
	if !t.wanted {
		return nil
	}
	t.pump.stop()
	t.pump = nil
	from := make(map[int32]int64, len(t.partitions))
	for n, p := range t.partitions {
		from[n] = p.next
	}
	r, err := t.store.config.Log.Open(t.topic, from)
	if err != nil {
		return t.cause(fmt.Errorf("follow topic %q: %w", t.name, err))
	}
	t.pump = startPump(t.ctx, r, t)
	t.wanted = false
	return nil
}

// polled takes what the reader gave.
func (t *tail) polled(got polled) error {
	switch {
	case got.final && outOfRange(got.err):
		// What comes next was deleted meanwhile: what is still there is read from its beginning.
		return t.cause(fmt.Errorf("%w: %w", errRebuild, &RangeError{Topic: t.name, Err: got.err}))
	case got.final:
		return t.cause(fmt.Errorf("follow topic %q: %w", t.name, got.err))
	}
	t.ail(got.err)
	if got.piece.Records == nil {
		t.store.config.Logger.Info("following a topic is in trouble, trying again", "topic", t.name, "error", got.err)
		return nil
	}
	if err := t.ingest(got.piece); err != nil {
		return t.cause(err)
	}
	return t.answer()
}

// ail notes trouble, or that it is over.
func (t *tail) ail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.trouble = err
}

// asked takes a request: it is answered now or waits.
func (t *tail) asked(r *request) error {
	t.use()
	if r.topic.Revision > t.topic.Revision {
		t.topic.Revision = r.topic.Revision
	}
	if r.topic.Partitions > t.topic.Partitions {
		t.topic.Partitions = r.topic.Partitions
	}
	for n := range t.topic.Partitions {
		t.add(n)
	}
	for n := range r.atLeast {
		t.add(n)
	}
	if r.schema != nil {
		t.adopt(r.schema)
	}
	t.waiters = append(t.waiters, r)
	return t.answer()
}

// add begins with a partition that is not followed.
func (t *tail) add(n int32) {
	if t.partitions[n] != nil {
		return
	}
	t.partitions[n] = &partition{number: n, rows: column.NewRows(t.pool.mem, n)}
	t.wanted = true
	t.mu.Lock()
	defer t.mu.Unlock()
	t.position[n] = 0
}

func (t *tail) reached(atLeast map[int32]int64) bool {
	for n, at := range atLeast {
		if t.partitions[n].next < at {
			return false
		}
	}
	return true
}

// answer gives snapshots to those whose position is reached, and the reason to the others when nothing more is read. An error ends
// the tail.
func (t *tail) answer() error {
	waiting := t.waiters[:0]
	defer func() {
		clear(t.waiters[len(waiting):])
		t.waiters = waiting
	}()
	for i, r := range t.waiters {
		switch {
		case r.left():
		case t.reached(r.atLeast):
			s, err := t.snapshot()
			if err != nil && !roomless(err) {
				waiting = append(waiting, t.waiters[i:]...) // they are told with the end of the tail
				return t.cause(err)
			}
			if !r.give(answer{s, err}) && s != nil {
				s.Release()
			}
		case t.full != nil:
			r.give(answer{err: fmt.Errorf("follow topic %q: %w", t.name, t.full)})
		default:
			waiting = append(waiting, r)
		}
	}
	return nil
}

// moved says that all records of a partition below an offset are in.
func (t *tail) moved(p *partition, next int64) {
	p.next = next
	t.mu.Lock()
	defer t.mu.Unlock()
	t.position[p.number] = next
}

// use notes that somebody is interested.
func (t *tail) use() {
	now := t.store.config.Clock.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used = now
}

// idle is how long nobody must still ask until the tail is dropped.
func (t *tail) idle() time.Duration {
	now := t.store.config.Clock.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	after := t.store.config.IdleAfter
	if t.held > 0 {
		return after
	}
	for _, r := range t.waiters {
		if !r.left() {
			return after
		}
	}
	return after - now.Sub(t.used)
}

// damaged ends the tail because a spill file is; the next Snapshot reads the log anew.
func (t *tail) damaged(err error) {
	t.store.config.Logger.Error("a spill file is damaged, the topic is read anew", "topic", t.name, "error", err)
	t.cancel(fmt.Errorf("%w: %w", errRebuild, err))
}
