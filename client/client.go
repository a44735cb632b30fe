package client

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/clock"
)

// DefaultServer is where a node listens unless told otherwise.
const DefaultServer = "http://127.0.0.1:8640"

// Config says where the servers are. The zero value is ready to use.
type Config struct {
	// Server is the URL of any node, or several with commas between; DefaultServer when empty. Any of them is a start: the client learns
	// the others. With http:// the client speaks HTTP/2 without TLS.
	Server string
	// HTTP makes the requests; nil is a client tuned for throughput. Streams need HTTP/2. With a client of the caller's own, all
	// requests go to Server.
	HTTP connect.HTTPClient
	// DisableDirect sends all requests to Server, which forwards them to those who lead: for a load balancer or a tunnel that hides the nodes
	// from the client. Without it the client goes straight to them where it can.
	DisableDirect bool
	// Logger hears of reconnects; nil is silence.
	Logger *slog.Logger
	// Clock is nil for the system's.
	Clock clock.Clock
	// Random is where jitter comes from; nil is the system's source.
	Random io.Reader
	// MaxResponseBytes is the greatest single message accepted from the server; 0 is 64 MiB.
	MaxResponseBytes int
}

// Client is a connection to a cluster. Its methods may be called from any goroutine.
type Client struct {
	server  string // as configured, for people
	secure  bool   // every configured server has TLS
	log     *slog.Logger
	clock   clock.Clock
	random  io.Reader
	http    connect.HTTPClient
	owned   *http.Transport // nil when the caller gave its own
	options []connect.ClientOption
	known   cluster
	ctx     context.Context
	cancel  context.CancelFunc
	loops   sync.WaitGroup
}

// New makes a client. It does not connect: the first call does.
func New(cfg Config) (*Client, error) {
	if cfg.Server == "" {
		cfg.Server = DefaultServer
	}
	servers, err := parseServers(cfg.Server)
	if err != nil {
		return nil, err
	}
	c := &Client{
		server: strings.Join(servers, ","), secure: true,
		log: cfg.Logger, clock: cfg.Clock, random: cfg.Random, http: cfg.HTTP,
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.clock == nil {
		c.clock = clock.System()
	}
	if c.random == nil {
		c.random = rand.Reader
	}
	if c.http == nil {
		c.owned = NewTransport()
		// A node that hangs, with its connections open, keeps nobody for longer than it takes another to lead.
		c.owned.HTTP2.SendPingTimeout, c.owned.HTTP2.PingTimeout = 3*time.Second, 3*time.Second
		c.http = &http.Client{Transport: c.owned}
	}
	if cfg.MaxResponseBytes <= 0 {
		cfg.MaxResponseBytes = 64 << 20
	}
	c.options = []connect.ClientOption{
		connect.WithReadMaxBytes(cfg.MaxResponseBytes),
		connect.WithAcceptCompression("gzip", nil, nil), // batches are compressed already
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.known.direct = cfg.HTTP == nil && !cfg.DisableDirect
	c.known.followed, c.known.changed = map[string]int{}, make(chan struct{})
	for _, s := range servers {
		c.secure = c.secure && strings.HasPrefix(s, "https://")
		c.known.configured = append(c.known.configured, c.newEndpoint(s, true))
	}
	// Clients that were given the same list do not all begin at its first.
	first := c.known.configured[c.randomBelow(int64(len(servers)))]
	c.known.current = [serveKinds]*endpoint{first, first}
	c.known.choose()
	return c, nil
}

// parseServers reads a list of URLs.
func parseServers(list string) ([]string, error) {
	var out []string
	for s := range strings.SplitSeq(list, ",") {
		s = strings.TrimRight(strings.TrimSpace(s), "/")
		u, err := url.Parse(s)
		if err != nil {
			return nil, fmt.Errorf("parse server URL: %w", err)
		}
		if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return nil, fmt.Errorf("server URL %q: want http://host:port or https://host:port, and commas between several", s)
		}
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out, nil
}

// NewTransport makes what a Client uses when it is not given anything: it speaks HTTP/2 only, and has flow control windows that let one stream use the whole of a fast link.
func NewTransport() *http.Transport {
	var p http.Protocols
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Transport{
		Protocols:          &p,
		Proxy:              http.ProxyFromEnvironment,
		DialContext:        (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
		DisableCompression: true,
		HTTP2: &http.HTTP2Config{
			MaxReadFrameSize:              1 << 20,
			MaxReceiveBufferPerConnection: 4<<20 - 1,
			MaxReceiveBufferPerStream:     4<<20 - 1,
			SendPingTimeout:               15 * time.Second, // a peer that vanished is noticed
			PingTimeout:                   15 * time.Second,
		},
	}
}

// Server is what was configured: a URL, or several with commas between.
func (c *Client) Server() string { return c.server }

// Close ends what the client does by itself and gives back idle connections. Producers and consumers are closed on their own, before.
func (c *Client) Close() {
	c.known.mu.Lock()
	c.known.closed = true
	c.known.mu.Unlock()
	c.cancel()
	c.loops.Wait()
	if c.owned != nil {
		c.owned.CloseIdleConnections()
	}
}

// backoff is how long to wait before attempt n (0 is the first retry): 20 ms doubled up to 2 s, of which half is random, and no
// less than the server asked for.
func (c *Client) backoff(n int, atLeast time.Duration) time.Duration {
	d := 20 * time.Millisecond << min(n, 7)
	d = min(d, 2*time.Second)
	d = d/2 + time.Duration(c.randomBelow(int64(d/2)+1))
	return max(d, min(atLeast, 30*time.Second))
}

func (c *Client) randomBelow(n int64) int64 {
	var b [8]byte
	if _, err := io.ReadFull(c.random, b[:]); err != nil {
		return n / 2 // jitter is a courtesy; do without
	}
	return int64(binary.BigEndian.Uint64(b[:])>>1) % n
}

var errNoStream = errors.New("the server ended the stream")

// streamEnder ends the responses of streams with their context. HTTP/2 by itself looks at the context until a response begins and
// again when the request's body has ended, so that a call whose peer takes no more of it would hang.
type streamEnder struct{ next connect.HTTPClient }

type endingBody struct {
	io.ReadCloser

	end  func() error
	stop func() bool
}

// Do is that of the next one.
func (s streamEnder) Do(r *http.Request) (*http.Response, error) {
	resp, err := s.next.Do(r)
	if err != nil {
		return resp, err
	}
	body := &endingBody{ReadCloser: resp.Body, end: sync.OnceValue(resp.Body.Close)}
	body.stop = context.AfterFunc(r.Context(), func() { _ = body.end() }) // whoever reads is told
	resp.Body = body
	return resp, nil
}

// Close ends the response.
func (b *endingBody) Close() error {
	b.stop()
	return b.end()
}
