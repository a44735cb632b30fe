package client

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

// DefaultServer is where a node listens unless told otherwise.
const DefaultServer = "http://127.0.0.1:8640"

// Config says where the server is. The zero value is ready to use.
type Config struct {
	// Server is the URL of any node; DefaultServer when empty. With http:// the client speaks HTTP/2 without TLS.
	Server string
	// HTTP makes the requests; nil is a client tuned for throughput. Streams need HTTP/2.
	HTTP connect.HTTPClient
	// Logger hears of reconnects; nil is silence.
	Logger *slog.Logger
	// Clock is nil for the system's.
	Clock clock.Clock
	// Random is where jitter comes from; nil is the system's source.
	Random io.Reader
	// MaxResponseBytes is the greatest single message accepted from the server; 0 is 64 MiB.
	MaxResponseBytes int
}

// Client is a connection to a server. Its methods may be called from any goroutine.
type Client struct {
	server  string
	log     *slog.Logger
	clock   clock.Clock
	random  io.Reader
	http    connect.HTTPClient
	owned   *http.Transport // nil when the caller gave its own
	topic   tidemarkv1connect.TopicServiceClient
	produce tidemarkv1connect.ProduceServiceClient
	consume tidemarkv1connect.ConsumeServiceClient
	query   tidemarkv1connect.QueryServiceClient
}

// New makes a client. It does not connect: the first call does.
func New(cfg Config) (*Client, error) {
	if cfg.Server == "" {
		cfg.Server = DefaultServer
	}
	u, err := url.Parse(cfg.Server)
	if err != nil {
		return nil, fmt.Errorf("parse server URL: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("server URL %q: want http://host:port or https://host:port", cfg.Server)
	}
	c := &Client{
		server: strings.TrimRight(cfg.Server, "/"),
		log:    cfg.Logger, clock: cfg.Clock, random: cfg.Random, http: cfg.HTTP,
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
		c.http = &http.Client{Transport: c.owned}
	}
	if cfg.MaxResponseBytes <= 0 {
		cfg.MaxResponseBytes = 64 << 20
	}
	opts := []connect.ClientOption{
		connect.WithReadMaxBytes(cfg.MaxResponseBytes),
		connect.WithAcceptCompression("gzip", nil, nil), // batches are compressed already
	}
	c.topic = tidemarkv1connect.NewTopicServiceClient(c.http, c.server, opts...)
	c.produce = tidemarkv1connect.NewProduceServiceClient(c.http, c.server, opts...)
	c.consume = tidemarkv1connect.NewConsumeServiceClient(c.http, c.server, opts...)
	c.query = tidemarkv1connect.NewQueryServiceClient(c.http, c.server, opts...)
	return c, nil
}

// NewTransport makes what a Client uses when it is not given anything: it speaks HTTP/2 only, and has flow control windows that let one stream use the whole of a fast link.
func NewTransport() *http.Transport {
	var p http.Protocols
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Transport{
		Protocols:          &p,
		Proxy:              http.ProxyFromEnvironment,
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

// Server is the URL in use.
func (c *Client) Server() string { return c.server }

// Close gives back idle connections. Producers and consumers are closed on their own, before.
func (c *Client) Close() {
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
