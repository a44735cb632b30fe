package ingest

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/meta"
)

// Peer is another node as this one calls it.
type Peer struct {
	// URL is what the node advertises, such as http://10.0.0.7:8640.
	URL string
	// HTTP calls it over HTTP/2. Every call carries Tidemark-Hops, so that whoever gets it does not forward it again, and
	// Tidemark-Index-Revision: see route_hops.go. It may be used from any goroutine.
	HTTP connect.HTTPClient
}

// Peers finds the other nodes of the cluster. Its methods may be called from any goroutine.
type Peers interface {
	// Peer is false for a node that is not alive as far as this one knows, or that tells no address.
	Peer(node meta.NodeID) (Peer, bool)
	// Self is the node of this process.
	Self() meta.NodeID
}

// How long a peer may be silent before its connection is given up.
const (
	peerDialTimeout = 2 * time.Second
	peerPingAfter   = 5 * time.Second
	peerPingTimeout = 5 * time.Second
	peerIdleTimeout = 90 * time.Second
)

// peerPool makes Peers of what the index says about nodes. All share one transport, which keeps a connection for each address and
// gives up those that are idle or silent.
type peerPool struct {
	self      meta.NodeID
	transport *http.Transport
	// index is the cluster as this node knows it at the moment.
	index func() (clusterIndex, *Error)
}

// dialFunc connects to host:port.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

func newPeerPool(self meta.NodeID, index func() (clusterIndex, *Error), dial dialFunc) *peerPool {
	if dial == nil {
		dial = (&net.Dialer{Timeout: peerDialTimeout}).DialContext
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &peerPool{self: self, index: index, transport: &http.Transport{
		Protocols: protocols, DialContext: dial, DisableCompression: true, IdleConnTimeout: peerIdleTimeout,
		HTTP2: &http.HTTP2Config{SendPingTimeout: peerPingAfter, PingTimeout: peerPingTimeout},
	}}
}

// Self is the node of this process.
func (p *peerPool) Self() meta.NodeID { return p.self }

// Peer finds a node that is alive.
func (p *peerPool) Peer(node meta.NodeID) (Peer, bool) {
	index, refused := p.index()
	if refused != nil {
		return Peer{}, false
	}
	info, alive := index.Node(node)
	if !alive || info.HTTP == "" || node == p.self {
		return Peer{}, false
	}
	return Peer{URL: info.HTTP, HTTP: &peerClient{pool: p}}, true
}

// close gives the connections back; calls that are under way end by their contexts.
func (p *peerPool) close() { p.transport.CloseIdleConnections() }

// streamEnder ends the responses of streams with their context. HTTP/2 by itself looks at the context until a response begins and
// again when the request's body has ended, so that a stream whose peer takes no more of it would hang.
type streamEnder struct{ next connect.HTTPClient }

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

type endingBody struct {
	io.ReadCloser

	end  func() error
	stop func() bool
}

// Close ends the response.
func (b *endingBody) Close() error {
	b.stop()
	return b.end()
}

// peerClient marks calls as forwarded.
type peerClient struct{ pool *peerPool }

// Do sends a request.
func (c *peerClient) Do(r *http.Request) (*http.Response, error) {
	r.Header.Set(headerHops, "1")
	if index, refused := c.pool.index(); refused == nil {
		r.Header.Set(headerIndexRevision, strconv.FormatInt(index.Revision(), 10))
	}
	return c.pool.transport.RoundTrip(r)
}
