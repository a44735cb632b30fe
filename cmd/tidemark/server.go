package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
)

// Limits of the HTTP server. Streams have no write timeout: a consumer may wait for ever. What guards them instead are
// pings on idle connections and writeStall on those that take no bytes.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
	maxStreams        = 256 // of one connection
	frameBytes        = 1 << 20
	// HTTP/2 windows: below 4 MiB is the most that net/http takes. One stream gets less than its connection, so that a
	// stream whose request waits for room does not hold up the others.
	connectionWindow = 4<<20 - 1
	streamWindow     = 2 << 20
	pingAfter        = 30 * time.Second
	pingTimeout      = 15 * time.Second
	writeStall       = 2 * time.Minute
	controlMessage   = 1 << 20 // health and reflection
)

// drainable is what the server serves for data.
type drainable interface {
	http.Handler
	// Names are the services for reflection and health.
	Names() []string
	// Paths are what it serves besides: patterns of plain HTTP.
	Paths() []string
	// Drain ends streams.
	Drain()
}

// server is the one HTTP port: Connect, gRPC, gRPC-Web and JSON, reflection, health, metrics and probes.
type server struct {
	listener net.Listener
	http     *http.Server
	services []drainable
	served   chan error
}

// serverOptions says what stands around the services.
type serverOptions struct {
	hosts    []string     // names by which clients may call besides loopback ones
	metrics  http.Handler // for /metrics
	ready    func() error // nil, or why the node is not ready
	alive    func() error // nil, or why the process should be restarted
	logger   *slog.Logger
	panicked func(context.Context)
}

// newServer serves on the listener at once; what the node cannot do yet is answered with why.
func newServer(l net.Listener, services []drainable, o serverOptions) *server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &server{listener: l, services: services, served: make(chan error, 1)}
	s.http = &http.Server{
		Handler:           recoverPanics(newOriginGuard(s.routes(services, o), o.hosts), o),
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(o.logger.Handler(), slog.LevelDebug),
		Protocols:         protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReadFrameSize:              frameBytes,
			MaxReceiveBufferPerConnection: connectionWindow,
			MaxReceiveBufferPerStream:     streamWindow,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingTimeout,
			WriteByteTimeout:              writeStall,
		},
	}
	go func() {
		err := s.http.Serve(l)
		if errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
		s.served <- err
	}()
	return s
}

func (s *server) routes(services []drainable, o serverOptions) http.Handler {
	mux := http.NewServeMux()
	options := []connect.HandlerOption{
		connect.WithReadMaxBytes(controlMessage),
		connect.WithCompression("gzip", nil, nil),
	}
	var names []string
	for _, service := range services {
		for _, name := range service.Names() {
			names = append(names, name)
			mux.Handle("/"+name+"/", service)
		}
		for _, path := range service.Paths() {
			mux.Handle(path, service)
		}
	}

	known := append(slices.Clone(names), grpchealth.HealthV1ServiceName)
	mux.Handle(grpchealth.NewHandler(healthChecker{names: known, ready: o.ready}, options...))
	reflector := grpcreflect.NewStaticReflector(known...)
	mux.Handle(grpcreflect.NewHandlerV1(reflector, options...))
	mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector, options...))

	mux.Handle("GET /metrics", o.metrics)
	mux.HandleFunc("GET /healthz", probe(o.alive, "ok"))
	mux.HandleFunc("GET /readyz", probe(o.ready, "ready"))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		answerLine(w, "Tidemark. Services answer Connect, gRPC, gRPC-Web and JSON here; see also /readyz, /healthz and /metrics.")
	})
	return mux
}

// probe answers 200, or 503 with the cause.
func probe(check func() error, well string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if err := check(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			answerLine(w, oneLine(err.Error()))
			return
		}
		answerLine(w, well)
	}
}

// answerLine ends an answer; the only error is a client that is gone.
func answerLine(w io.Writer, text string) { _, _ = io.WriteString(w, text+"\n") }

// healthChecker answers gRPC health checks from readiness.
type healthChecker struct {
	names []string
	ready func() error
}

// Check is about the whole server when no service is named.
func (c healthChecker) Check(_ context.Context, r *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	if r.Service != "" && !slices.Contains(c.names, r.Service) {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("unknown service %.200q", r.Service))
	}
	status := grpchealth.StatusServing
	if c.ready() != nil {
		status = grpchealth.StatusNotServing
	}
	return &grpchealth.CheckResponse{Status: status}, nil
}

// recoverPanics is the last net: one line in the log, an error for the client, and the process goes on.
func recoverPanics(next http.Handler, o serverOptions) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if cause == http.ErrAbortHandler { //nolint:errorlint // a sentinel that is panicked with, never wrapped
				panic(cause)
			}
			o.panicked(r.Context())
			o.logger.ErrorContext(r.Context(), "a request panicked; please report this", "path", r.URL.Path,
				"cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
			http.Error(w, "a bug in the server ended this request; its log has the details", http.StatusInternalServerError)
		}()
		next.ServeHTTP(w, r)
	})
}

// URL is how clients on this machine reach the server.
func (s *server) URL() string { return baseURL(s.listener) }

// failed delivers the error that ended the server, nil after close.
func (s *server) failed() <-chan error { return s.served }

// close ends streams, lets calls finish as long as ctx allows, and cuts off the rest.
func (s *server) close(ctx context.Context) error {
	for _, service := range s.services {
		service.Drain()
	}
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("end HTTP calls: %w", err), s.http.Close())
	}
	return nil
}
