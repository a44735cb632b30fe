package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

// Limits of one message of a service, in bytes.
const (
	maxProduceMessage = 32 << 20
	maxSmallMessage   = 1 << 20
)

// ServiceNode is what the services need of a node. *Node is one.
type ServiceNode interface {
	topicNode
	produceNode
	consumeNode
}

// ServicesConfig says what the services serve and with what.
type ServicesConfig struct {
	Node      ServiceNode
	Clock     clock.Clock
	Logger    *slog.Logger
	Telemetry *Telemetry
	// Interceptors see every unary call and, where they cost nothing for each message, streams.
	Interceptors []connect.Interceptor
}

// Services are the Connect services Topic, Produce and Consume, and the plain HTTP way to produce, over one node. They speak
// Connect, gRPC, gRPC-Web and JSON. Nothing is compressed: batches are already, and gzip would cost ten times what the rest
// does. Every message has a size limit, and what clients can make the process hold is bounded: see intake and the streams.
type Services struct {
	mux     *http.ServeMux
	names   []string
	closing chan struct{}
	once    sync.Once
	stop    context.CancelFunc
	done    sync.WaitGroup
}

// NewServices makes the services; Close ends them.
func NewServices(cfg ServicesConfig) (*Services, error) {
	if cfg.Node == nil || cfg.Clock == nil || cfg.Logger == nil {
		return nil, fmt.Errorf("make services: node, clock and logger are needed")
	}
	if cfg.Telemetry == nil {
		t, err := NewTelemetry(nil, nil)
		if err != nil {
			return nil, fmt.Errorf("make services: %w", err)
		}
		cfg.Telemetry = t
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Services{mux: http.NewServeMux(), closing: make(chan struct{}), stop: cancel}
	in := newIntake(receivingBytes)
	options := func(maxBytes int) []connect.HandlerOption {
		return []connect.HandlerOption{
			connect.WithReadMaxBytes(maxBytes),
			// No compressor at all: a compressed request is refused with the code unimplemented.
			connect.WithCompression("gzip", nil, nil),
			connect.WithRecover(recoverHandler(cfg.Logger, cfg.Telemetry)),
			connect.WithInterceptors(cfg.Interceptors...),
		}
	}

	topics := &topicService{node: cfg.Node}
	path, handler := tidemarkv1connect.NewTopicServiceHandler(topics, options(maxSmallMessage)...)
	s.mux.Handle(path, in.guard(maxSmallMessage, handler))

	produce := &produceService{node: cfg.Node, clock: cfg.Clock, telemetry: cfg.Telemetry, closing: s.closing}
	path, handler = tidemarkv1connect.NewProduceServiceHandler(produce, options(maxProduceMessage)...)
	s.mux.Handle(path, in.guard(maxProduceMessage, handler))

	consume := &consumeService{node: cfg.Node, telemetry: cfg.Telemetry, closing: s.closing}
	path, handler = tidemarkv1connect.NewConsumeServiceHandler(consume, options(maxSmallMessage)...)
	s.mux.Handle(path, in.guard(maxSmallMessage, handler))

	plain := &plainService{node: cfg.Node, clock: cfg.Clock, telemetry: cfg.Telemetry}
	s.mux.Handle("POST /v1/topics/{topic}/records", in.guard(maxPlainBody, recoverPlain(cfg.Logger, cfg.Telemetry, plain)))

	s.names = []string{
		tidemarkv1connect.TopicServiceName, tidemarkv1connect.ProduceServiceName, tidemarkv1connect.ConsumeServiceName,
	}
	s.done.Go(func() { in.run(ctx, cfg.Clock) })
	return s, nil
}

// Names are the full names of the services, for reflection and health.
func (s *Services) Names() []string { return append([]string(nil), s.names...) }

// Paths are the patterns of plain HTTP.
func (s *Services) Paths() []string { return []string{"/v1/topics/"} }

// ServeHTTP serves everything.
func (s *Services) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Drain makes every stream finish what it has taken and end; unary calls go on. Call it before http.Server.Shutdown,
// which waits for streams. Safe to call twice.
func (s *Services) Drain() { s.once.Do(func() { close(s.closing) }) }

// Close drains and ends what runs in the background.
func (s *Services) Close() {
	s.Drain()
	s.stop()
	s.done.Wait()
}

// errClosing ends streams when the process stops.
var errClosing = Errorf(ReasonShuttingDown, "the node is shutting down; connect again").WithRetryAfter(defaultRetryAfter)

// recoverHandler turns a panic into one log line and the code internal: a bug in one request must not end the log.
func recoverHandler(logger *slog.Logger, t *Telemetry) func(context.Context, connect.Spec, http.Header, any) error {
	return func(ctx context.Context, spec connect.Spec, _ http.Header, cause any) error {
		t.RequestPanicked(ctx)
		logger.ErrorContext(ctx, "a request panicked; please report this", "procedure", spec.Procedure, "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
		return ConnectError(Errorf(ReasonInternal, "a bug in the server ended this request; its log has the details"))
	}
}

// recoverPlain is recoverHandler for plain HTTP.
func recoverPlain(logger *slog.Logger, t *Telemetry, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if cause == http.ErrAbortHandler { //nolint:errorlint // a sentinel that is panicked with, never wrapped
				panic(cause)
			}
			t.RequestPanicked(r.Context())
			logger.ErrorContext(r.Context(), "a request panicked; please report this", "path", r.URL.Path, "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
			writePlainError(w, Errorf(ReasonInternal, "a bug in the server ended this request; its log has the details"))
		}()
		next.ServeHTTP(w, r)
	})
}
