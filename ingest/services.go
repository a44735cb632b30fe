package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

// Limits of one message of a service, in bytes.
const (
	maxProduceMessage = 32 << 20
	maxSmallMessage   = 1 << 20
	// maxProduceElements is how many records and headers a produce may have: a record of two bytes takes more than a hundred when it is decoded.
	maxProduceElements = 1 << 19
)

// ServiceNode is what the services need of a node. *Router is one.
type ServiceNode interface {
	topicNode
	produceNode
	consumeNode
}

// ServicesConfig says what the services serve and with what.
type ServicesConfig struct {
	Node ServiceNode
	// Cluster serves ClusterService, and is what Node is in a process; nil serves none.
	Cluster   *Router
	Clock     clock.Clock
	Logger    *slog.Logger
	Telemetry *Telemetry
	// Interceptors see every unary call and, where they cost nothing for each message, streams.
	Interceptors []connect.Interceptor
	// More are services that others bring.
	More []Mount
}

// Mount is a service that is served with the same guards as the services of this file.
type Mount struct {
	// Name is its full name.
	Name string
	// MaxMessage is its largest message in bytes.
	MaxMessage int
	// Handler makes it. Its streams end when closing is closed, and call bodyOf(ctx).settle for every message that they have received; so does
	// a call that waits, once somebody else bounds what its message has become.
	Handler func(closing <-chan struct{}, options ...connect.HandlerOption) (path string, handler http.Handler)
}

// Services are the Connect services Topic, Produce, Consume and Cluster, and the plain HTTP way to produce, over one node. They speak
// Connect, gRPC, gRPC-Web and JSON. Nothing is compressed: batches are already, and gzip would cost ten times what the rest
// does. Every message has a size limit, and what clients can make the process hold is bounded: see intake, sendRoom, callAnswer and the streams.
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
	room, nodesRoom := newSendRoom(sendBytes, cfg.Clock), newSendRoom(nodeSendBytes, cfg.Clock)
	patience := newPatience(cfg.Node, cfg.Clock, s.closing)
	mounts := []Mount{
		{tidemarkv1connect.TopicServiceName, maxSmallMessage, func(_ <-chan struct{}, o ...connect.HandlerOption) (string, http.Handler) {
			return tidemarkv1connect.NewTopicServiceHandler(&topicService{node: cfg.Node}, o...)
		}},
		{tidemarkv1connect.ProduceServiceName, maxProduceMessage, func(closing <-chan struct{}, o ...connect.HandlerOption) (string, http.Handler) {
			produce := &produceService{node: cfg.Node, patience: patience, clock: cfg.Clock, telemetry: cfg.Telemetry, closing: closing}
			return tidemarkv1connect.NewProduceServiceHandler(produce, append(o, countedCodecs(maxProduceElements))...)
		}},
		{tidemarkv1connect.ConsumeServiceName, maxSmallMessage, func(closing <-chan struct{}, o ...connect.HandlerOption) (string, http.Handler) {
			consume := &consumeService{node: cfg.Node, clock: cfg.Clock, telemetry: cfg.Telemetry, closing: closing}
			path, handler := tidemarkv1connect.NewConsumeServiceHandler(consume, o...)
			return path, withStreamControl(handler)
		}},
	}
	if cfg.Cluster != nil {
		watches := newMetadataWatches(cfg.Clock)
		s.done.Go(func() { watches.run(ctx, cfg.Cluster) })
		mounts = append(mounts, Mount{tidemarkv1connect.ClusterServiceName, maxSmallMessage, func(closing <-chan struct{}, o ...connect.HandlerOption) (string, http.Handler) {
			path, handler := tidemarkv1connect.NewClusterServiceHandler(&clusterService{router: cfg.Cluster, watches: watches, clock: cfg.Clock, closing: closing}, o...)
			return path, withStreamControl(handler)
		}})
	}
	for _, m := range append(mounts, cfg.More...) {
		path, handler := m.Handler(s.closing,
			connect.WithReadMaxBytes(m.MaxMessage),
			// No compressor at all: a compressed request is refused with the code unimplemented.
			connect.WithCompression("gzip", nil, nil),
			connect.WithRecover(recoverHandler(cfg.Logger, cfg.Telemetry)),
			connect.WithInterceptors(append(slices.Clone(cfg.Interceptors), boundAnswers())...),
		)
		s.mux.Handle(path, in.guard(int64(m.MaxMessage), withForwarded(withSendRoom(room, nodesRoom, withAnswer(cfg.Clock, handler)))))
		s.names = append(s.names, m.Name)
	}
	plain := &plainService{node: cfg.Node, patience: patience, clock: cfg.Clock, telemetry: cfg.Telemetry}
	s.mux.Handle("POST /v1/topics/{topic}/records", in.guard(maxPlainBody, withForwarded(recoverPlain(cfg.Logger, cfg.Telemetry, plain))))
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
