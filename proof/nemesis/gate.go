package nemesis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// GateMode is what a Gate does with requests.
type GateMode uint8

const (
	// GatePasses everything.
	GatePasses GateMode = iota
	// GateRefuses everything with 503 SlowDown.
	GateRefuses
	// GateStoresAndRefuses passes every request on, and answers every second one of those that write with 503 nevertheless.
	GateStoresAndRefuses
	// GateHangs answers nothing. What was asked meanwhile reaches the store when the mode ends, also if nobody waits any more.
	GateHangs
	// GateTruncates ends every second answer with a body after half of it.
	GateTruncates
	// GateForgets says that it stored objects of which it stores every second one. No log survives that; it shows that a broken
	// promise is seen.
	GateForgets
)

// maxBody bounds what the gate holds of one request that hangs; the nodes' objects are far below.
const maxBody = 64 << 20

// Gate is an HTTP proxy in front of an object store. It leaves Host and all that a signature covers as they are.
type Gate struct {
	proxy    *httputil.ReverseProxy
	server   *http.Server
	listener net.Listener
	done     chan struct{}
	count    atomic.Uint64 // chooses every second request

	mu   sync.Mutex
	mode GateMode
	over chan struct{} // closed when mode ends
}

type truncateKey struct{}

func openGate(ctx context.Context, target string) (*Gate, error) {
	to, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("open the gate: %w", err)
	}
	address, err := ports.address(ctx)
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", address)
	if err != nil {
		return nil, fmt.Errorf("open the gate: %w", err)
	}
	g := &Gate{listener: l, done: make(chan struct{}), over: make(chan struct{})}
	g.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
		},
		Transport: &http.Transport{
			DisableCompression: true, MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute, ExpectContinueTimeout: time.Second,
		},
		ModifyResponse: truncate,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.WriteHeader(http.StatusBadGateway)
		},
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	g.server = &http.Server{Handler: g, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go func() {
		defer close(g.done)
		_ = g.server.Serve(l) // ends with close
	}()
	return g, nil
}

func (g *Gate) address() string { return g.listener.Addr().String() }

// Set changes the mode, and lets go what hung in the last one.
func (g *Gate) Set(mode GateMode) {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.over)
	g.mode, g.over = mode, make(chan struct{})
}

func (g *Gate) now() (GateMode, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mode, g.over
}

// ServeHTTP passes a request on to the store as the gate is set: untouched, refused, held back or cut short.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	mode, over := g.now()
	second := g.count.Add(1)%2 == 0
	switch mode {
	case GateRefuses:
		refuse(w, r)
		return
	case GateStoresAndRefuses:
		if writes := r.Method == http.MethodPut || r.Method == http.MethodPost || r.Method == http.MethodDelete; writes && second {
			g.proxy.ServeHTTP(&nobody{header: make(http.Header)}, r)
			refuse(w, r)
			return
		}
	case GateHangs:
		body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
		if err != nil {
			return // it never came whole
		}
		<-over
		// With a context that can be canceled: without one the proxy goes by http.CloseNotifier, and gives up for who left.
		ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = io.NopCloser(bytes.NewReader(body))
	case GateTruncates:
		if second && r.Method == http.MethodGet {
			r = r.WithContext(context.WithValue(r.Context(), truncateKey{}, true))
		}
	case GateForgets:
		if second && r.Method == http.MethodPut {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("ETag", `"d41d8cd98f00b204e9800998ecf8427e"`)
			return
		}
	case GatePasses:
	}
	g.proxy.ServeHTTP(w, r)
}

// refuse answers as S3 does when it is overloaded.
func refuse(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // else the connection is reset, and the answer with it
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`)
}

func truncate(answer *http.Response) error {
	if answer.Request.Context().Value(truncateKey{}) == nil || answer.ContentLength < 2 || answer.StatusCode/100 != 2 {
		return nil
	}
	answer.Body = &half{ReadCloser: answer.Body, left: answer.ContentLength / 2}
	return nil
}

// half is the first part of a body, and then an error, on which the proxy breaks the connection to who asked.
type half struct {
	io.ReadCloser
	left int64
}

var errTruncated = errors.New("truncated on purpose")

func (h *half) Read(p []byte) (int, error) {
	if h.left <= 0 {
		return 0, errTruncated
	}
	n, err := h.ReadCloser.Read(p[:min(int64(len(p)), h.left)])
	h.left -= int64(n)
	return n, err
}

// nobody takes an answer that nobody hears.
type nobody struct{ header http.Header }

func (n *nobody) Header() http.Header         { return n.header }
func (n *nobody) Write(p []byte) (int, error) { return len(p), nil }
func (n *nobody) WriteHeader(int)             {}

func (g *Gate) close() {
	g.Set(GatePasses)
	_ = g.server.Close()
	<-g.done
}
