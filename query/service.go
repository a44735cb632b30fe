package query

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

// maxRequestBytes is the greatest request of any procedure: a statement, as JSON may escape it, and its positions.
const maxRequestBytes = 4 << 20

// Service answers SQL: QueryService in the Connect, gRPC, gRPC-Web and JSON protocols, and POST /v1/sql. Its methods may be
// called from any goroutine.
type Service struct {
	engine    Engine
	topics    topicReader
	log       endReader
	tail      tailReader
	clock     clock.Clock
	logger    *slog.Logger
	memory    memory.Allocator
	limits    Limits
	telemetry *telemetry
	gate      *gate
	registry  *registry
	texts     *budget
	names     *knownNames
	calls     chan struct{} // of calls that take no slot
	mux       *http.ServeMux

	below io.Closer // what New made for it, or nil
	stop  context.CancelFunc
	done  sync.WaitGroup
	once  sync.Once
}

// maxCalls is how many ListTables run at once.
const maxCalls = 16

// newService makes a service of its components.
func newService(c components) (*Service, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	t, err := newTelemetry(c.meters, c.tracers)
	if err != nil {
		return nil, fmt.Errorf("make the query service: %w", err)
	}
	limits := c.limits.withDefaults(runtime.GOMAXPROCS(0))
	s := &Service{
		engine: c.engine, topics: c.topics, log: c.log, tail: c.tail, clock: c.clock, logger: c.logger, memory: c.memory,
		limits: limits, telemetry: t,
		gate: newGate(c.clock, admissionLimits{
			Slots: limits.Concurrent, Waiting: limits.Waiting, PerConnection: limits.WaitingPerConnection, Parked: limits.Stalled,
		}),
		registry: newRegistry(c.clock, c.random),
		texts:    &budget{limit: statementBytes},
		names:    &knownNames{turn: make(chan struct{}, 1)},
		calls:    make(chan struct{}, maxCalls),
		mux:      http.NewServeMux(),
	}
	if err := t.observe(s.gate, c.tail.Stats); err != nil {
		return nil, fmt.Errorf("make the query service: %w", err)
	}
	in := newArriving(c.clock)
	path, handler := tidemarkv1connect.NewQueryServiceHandler(&queryHandler{s},
		connect.WithReadMaxBytes(maxRequestBytes),
		// No compressor at all: results would cost ten times what the rest does. A compressed request is refused.
		connect.WithCompression("gzip", nil, nil),
		connect.WithRecover(s.recoverHandler),
		connect.WithInterceptors(c.interceptors...),
	)
	s.mux.Handle(path, withOutlet(in.guard(handler)))
	s.mux.Handle("POST /v1/sql", withOutlet(in.guard(s.recoverPlain(&plainHandler{s}))))
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.done.Go(func() { s.gate.run(ctx) })
	return s, nil
}

// Names are the full names of the services, for reflection and health.
func (s *Service) Names() []string { return []string{tidemarkv1connect.QueryServiceName} }

// ServeHTTP serves everything.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Drain refuses new queries; those that wait or run go on. Call it before http.Server.Shutdown, which waits for them. Safe twice.
func (s *Service) Drain() { s.registry.drain() }

// ErrStillRunning says that a service could not be closed: the engine does not come back from a query that was ended. Nothing below
// the service, its engine included, may be closed then.
var ErrStillRunning = errors.New("queries that were ended still run")

// endGrace is how long Close waits for queries that it has ended. Some calls into the engine cannot be interrupted, such as a function
// over one huge value.
const endGrace = 5 * time.Second

// Close drains, gives the queries until ctx ends to finish, cancels the rest and waits for them, but no longer than endGrace: then
// it gives up with ErrStillRunning, and leaves what lies below open. Safe twice, also after that.
func (s *Service) Close(ctx context.Context) error {
	s.Drain()
	var err error
	select {
	case <-s.registry.empty:
	case <-ctx.Done():
		s.registry.cancelAll(errClosing)
		timer := s.clock.NewTimer(endGrace)
		defer timer.Stop()
		select {
		case <-s.registry.empty:
		case <-timer.C():
			return fmt.Errorf("close the query service: %w, %s after they were told to end", ErrStillRunning, endGrace)
		}
		err = fmt.Errorf("close the query service: queries were ended that had not finished: %w", context.Cause(ctx))
	}
	s.once.Do(func() {
		s.telemetry.stop()
		s.stop()
		s.done.Wait()
		if s.below != nil {
			err = errors.Join(err, s.below.Close())
		}
	})
	return err
}

// recoverHandler turns a panic into one log line and the code internal: a bug in one request must not end the others.
func (s *Service) recoverHandler(ctx context.Context, spec connect.Spec, _ http.Header, cause any) error {
	s.panicked(ctx, spec.Procedure, cause)
	return connectError(errPanicked)
}

var errPanicked = errorf(ReasonInternal, "a bug in the server ended this request; its log has the details")

func (s *Service) panicked(ctx context.Context, what string, cause any) {
	s.telemetry.panics.Add(ctx, 1)
	s.logger.ErrorContext(ctx, "a request panicked; please report this", "procedure", what, "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
}

// recoverPlain is recoverHandler for plain HTTP.
func (s *Service) recoverPlain(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if cause == http.ErrAbortHandler { //nolint:errorlint // a sentinel that is panicked with, never wrapped
				panic(cause)
			}
			s.panicked(r.Context(), r.URL.Path, cause)
			writePlainError(w, errPanicked)
		}()
		next.ServeHTTP(w, r)
	})
}

// clientOf says whose a request is, by the address that the connection has.
func clientOf(address string) clientKey {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	return clientKey{host: host, connection: address}
}

// call runs something small that takes no slot, a few at once.
func (s *Service) call(ctx context.Context, f func(ctx context.Context) error) error {
	select {
	case s.calls <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-s.calls }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := s.clock.NewTimer(s.limits.Timeout)
	defer timer.Stop()
	over := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-timer.C():
			cancel(errorf(ReasonTimeout, "the answer took longer than %s", s.limits.Timeout))
		case <-over:
		}
	})
	err := f(ctx)
	close(over)
	watching.Wait()
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return cause
	}
	return err
}

// millis reads a duration in milliseconds. One that no duration holds is a year, which every limit is below.
func millis(n int64) time.Duration {
	const year = 365 * 24 * time.Hour
	if n > year.Milliseconds() {
		return year
	}
	return time.Duration(n) * time.Millisecond
}
