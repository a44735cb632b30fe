package query

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemark-io/tidemark/query/sandbox"
)

// request is one statement to run, checked as far as it can be without looking at it.
type request struct {
	sql      string
	atLeast  map[string]map[int32]int64
	timeout  time.Duration // 0: the server's
	maxRows  int64         // 0: the server's
	progress time.Duration // 0: none
	explain  bool          // as if EXPLAIN stood in front
	client   clientKey
	outlet   *outlet // nil when nothing is written while the query runs
}

// query is one statement on its way.
type query struct {
	service *Service
	request request
	sink    sink
	entry   *entry
	turn    *turn
	stats   stats
	toRead  int64
	writing atomic.Bool
}

const (
	// writeGrace is how long a query that was ended waits for a write that is under way, before it cuts it off.
	writeGrace = time.Second
	// lastWrites is how long a client may take for what is sent after its query has failed.
	lastWrites = 10 * time.Second
	// loggedSQL is how many bytes of a failed query's statement the log has.
	loggedSQL = 200
)

var (
	errClosing = errorf(ReasonShuttingDown, "the server is shutting down; ask again").again()
	errTooSlow = errorf(ReasonClientTooSlow,
		"the client took nothing of its result for so long that the query was ended; read faster, or select less at once")
)

// execute runs one statement from its text to the last of its rows. Every error is an *Error.
func (s *Service) execute(parent context.Context, r request, to sink) error {
	began := s.clock.Now()
	ctx, span := s.telemetry.span(parent)
	q := &query{service: s, request: r, sink: to}
	err := q.admitted(ctx, began)
	q.stats.elapsed = s.clock.Now().Sub(began)
	s.telemetry.ended(ctx, span, q.stats, err)
	if err == nil {
		return nil
	}
	e := asError(err)
	cause := e.Error()
	if e.Cause != nil {
		cause = e.Cause.Error()
	}
	attributes := []any{"reason", string(e.Reason), "cause", cause, "client", r.client.connection, "elapsed", q.stats.elapsed}
	if q.entry != nil {
		attributes = append(attributes, "query_id", q.entry.id, "sql", cut(q.entry.sql, loggedSQL))
	}
	if e.Reason.ours() {
		s.logger.ErrorContext(ctx, "a query failed for a reason of the server's", attributes...)
	} else {
		s.logger.DebugContext(ctx, "a query failed", attributes...)
	}
	if r.outlet != nil {
		r.outlet.bound(s.clock.Now().Add(lastWrites))
	}
	return e
}

// admitted checks the request's sizes and gives it its place in the registry and its time.
func (q *query) admitted(parent context.Context, began time.Time) error {
	s, r := q.service, &q.request
	if err := s.checkRequest(r); err != nil {
		return err
	}
	size := int64(len(r.sql))
	if !s.texts.reserve(size) {
		return errorf(ReasonQueueFull, "the statements that wait and run have more than %d MiB together; try again later", s.texts.limit>>20).again()
	}
	defer s.texts.free(size)

	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	var err error
	if q.entry, err = s.registry.begin(r.sql, r.client.connection, cancel); err != nil {
		return err
	}
	stop := q.watch(ctx, cancel)
	err = guarded(func() error { return q.run(ctx, cancel, began) })
	// What ended the query is the news, not what broke because of it; but for a position that is not reached, which says more.
	if cause := context.Cause(ctx); cause != nil && err != nil && reasonOf(err) != reasonOf(cause) && reasonOf(err) != ReasonPositionNotReached {
		err = cause
	}
	stop()
	q.stats.rows, q.stats.read = q.entry.rows.Load(), q.entry.read.Load()
	s.registry.end(q.entry, err)
	return err
}

func (s *Service) checkRequest(r *request) error {
	switch {
	case s.engine == nil:
		return asError(ErrNoEngine)
	case r.sql == "":
		return errorf(ReasonInvalidRequest, "there is no SQL in the request")
	case len(r.sql) > maxSQL:
		return errorf(ReasonTooLarge, "the statement has %d bytes, and the limit is %d; put long lists of values into a topic", len(r.sql), maxSQL)
	case r.timeout < 0, r.maxRows < 0, r.progress < 0:
		return errorf(ReasonInvalidRequest, "timeout, max_rows and progress are not below 0")
	}
	if r.timeout == 0 {
		r.timeout = s.limits.Timeout
	}
	r.timeout = min(r.timeout, s.limits.MaxTimeout)
	if limit := s.limits.MaxRows; limit > 0 && (r.maxRows == 0 || r.maxRows > limit) {
		r.maxRows = limit
	}
	if r.progress > 0 {
		r.progress = max(r.progress, 100*time.Millisecond)
	}
	return nil
}

// watch ends the query when its time is over, and cuts off a write that goes on after the query's end. The returned function
// ends and awaits it.
func (q *query) watch(ctx context.Context, cancel context.CancelCauseFunc) (stop func()) {
	done := make(chan struct{})
	var watching sync.WaitGroup
	timer := q.service.clock.NewTimer(q.request.timeout) // its time counts from here
	watching.Go(func() {
		defer timer.Stop()
		select {
		case <-done:
			return
		case <-timer.C():
			cancel(errorf(ReasonTimeout, "the query's time of %s is over, and it was %s; ask for more time (timeout) or for less data",
				q.request.timeout, q.entry.record(q.service.clock.Now()).state))
		case <-ctx.Done():
		}
		grace := writeGrace
		if reasonOf(context.Cause(ctx)) == ReasonClientTooSlow {
			grace = 0
		}
		for {
			timer.Reset(grace)
			select {
			case <-done:
				return
			case <-timer.C():
				if q.writing.Load() && q.request.outlet != nil {
					q.request.outlet.interrupt()
				}
				grace = writeGrace
			}
		}
	})
	return func() {
		close(done)
		watching.Wait()
	}
}

// run is the query's way from its text to its result, see the drawing in doc.go.
func (q *query) run(ctx context.Context, cancel context.CancelCauseFunc, began time.Time) error {
	s := q.service
	checked, err := s.check(ctx, q.request.sql)
	if err != nil {
		return err
	}
	if q.request.explain {
		checked.explain = max(checked.explain, sandbox.ExplainPlan) // EXPLAIN ANALYZE includes it
	}
	q.turn, err = s.gate.enter(ctx, q.request.client, cancel)
	if err != nil {
		return err
	}
	defer q.turn.leave()
	if q.request.outlet != nil {
		q.request.outlet.watch(q.turn.took)
		defer q.request.outlet.watch(nil)
	}
	q.sink.bind(func(write func() error) error { return q.sending(ctx, write) })
	admitted := s.clock.Now()
	q.stats.queued = admitted.Sub(began)

	q.entry.set(stateCatchingUp)
	q.turn.blocked(blockedByLog)
	p, err := s.plan(ctx, checked, q.request.atLeast, q.entry)
	if err != nil {
		return err
	}
	defer p.release()
	if err := q.turn.resume(ctx); err != nil {
		return err
	}
	q.stats.caughtUp = s.clock.Now().Sub(admitted)
	q.entry.covers(cut(formatPositions(p.covers), keptSQL))

	q.entry.set(stateRunning)
	q.toRead = p.toRead
	// What ends the query ends the statement, also in the middle of what the engine does for its next rows.
	running, end := context.WithCancel(ctx)
	defer end()
	result, err := p.start(running, s.engine)
	if err != nil {
		return err
	}
	defer result.Close()
	schema := p.named(simplifySchema(result.Schema()))
	if err := q.sink.started(q.entry.id, p.covers, schema); err != nil {
		return err
	}
	if err := q.stream(ctx, pulled{result, p.failed, end}, schema); err != nil {
		return err
	}
	q.stats.rows, q.stats.read, q.stats.elapsed = q.entry.rows.Load(), q.entry.read.Load(), s.clock.Now().Sub(began)
	return q.sink.finished(q.stats)
}

// guarded turns a panic into an error: a bug in one query must not end the others.
func guarded(f func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = errorf(ReasonInternal, "a bug in the server ended this query; its log has the details").
				because(fmt.Errorf("panic: %v\n%s", cause, debug.Stack()))
		}
	}()
	return f()
}
