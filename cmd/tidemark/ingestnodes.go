package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
)

const (
	// nodeAddressAge is how long the addresses of nodes are used before etcd is asked again.
	nodeAddressAge = 2 * time.Second
	// nodeShunned is how long a node that failed is left alone while there is another. A node that died is in etcd for as long as its
	// lease goes on.
	nodeShunned = 10 * time.Second
	// nodeSilence is how long a node may be silent, twice, before its connection is given up.
	nodeSilence = 3 * time.Second
)

// ingestNodes sends the requests of a process without the ingest role to a node that has it, which forwards what another one
// leads. Addresses are those that the nodes advertise in etcd. Requests stay with one node until it fails or leaves. What could not
// even be connected goes to the next one; of anything else nobody knows how far it got, so that it is for the caller to repeat, and
// goes to the next node then. It may be used from any goroutine.
type ingestNodes struct {
	next  http.RoundTripper
	clock clock.Clock
	list  func(context.Context) ([]meta.NodeInfo, error)

	mu      sync.Mutex
	nodes   []*url.URL
	since   time.Time
	at      string // the host of the node in use
	shunned map[string]time.Time
}

func newIngestNodes(c clock.Clock, list func(context.Context) ([]meta.NodeInfo, error)) *ingestNodes {
	transport := client.NewTransport()
	transport.HTTP2.SendPingTimeout, transport.HTTP2.PingTimeout = nodeSilence, nodeSilence
	return &ingestNodes{next: transport, clock: c, list: list}
}

// RoundTrip sends one request; whatever host it names, a node gets it.
func (n *ingestNodes) RoundTrip(r *http.Request) (*http.Response, error) {
	var tried []string
	var failed error
	for {
		at, err := n.choose(r.Context(), tried)
		if err != nil || at == nil {
			if r.Body != nil {
				_ = r.Body.Close() // nothing was sent; the error says so
			}
			return nil, errors.Join(failed, err)
		}
		out := r.Clone(r.Context())
		out.URL.Scheme, out.URL.Host, out.Host = at.Scheme, at.Host, ""
		body := &heldBody{ReadCloser: r.Body}
		if r.Body != nil {
			out.Body = body
		}
		response, err := n.next.RoundTrip(out)
		if err != nil || response.StatusCode == http.StatusServiceUnavailable {
			n.shun(at.Host)
		}
		if err == nil || !notConnected(err) || r.Context().Err() != nil {
			return response, errors.Join(err, body.release())
		}
		tried, failed = append(tried, at.Host), err
	}
}

// notConnected tells that nothing of a request has left this process.
func notConnected(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// heldBody is a request's body that stays open until it is clear that nobody else needs it.
type heldBody struct {
	io.ReadCloser

	mu               sync.Mutex
	released, closed bool
}

// Close closes the body, at once or when it is released.
func (b *heldBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if !b.released {
		return nil
	}
	return b.ReadCloser.Close()
}

func (b *heldBody) release() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.released = true
	if b.closed {
		return b.ReadCloser.Close()
	}
	return nil
}

func (n *ingestNodes) shun(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.shunned == nil {
		n.shunned = map[string]time.Time{}
	}
	n.shunned[host] = n.clock.Now().Add(nodeShunned)
	n.since = time.Time{}
}

// choose finds a node to send to that was not tried yet; nil when all were.
func (n *ingestNodes) choose(ctx context.Context, tried []string) (*url.URL, error) {
	if err := n.refresh(ctx, len(tried) > 0); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.clock.Now()
	var best *url.URL
	worth := 0
	for _, node := range n.nodes {
		if slices.Contains(tried, node.Host) {
			continue
		}
		w := 2
		switch {
		case n.shunned[node.Host].After(now):
			w = 1
		case node.Host == n.at:
			w = 3
		}
		if w > worth {
			best, worth = node, w
		}
	}
	if best != nil {
		n.at = best.Host
	}
	return best, nil
}

// refresh asks etcd for the nodes when what is known is old. While etcd is away the nodes are those of before.
func (n *ingestNodes) refresh(ctx context.Context, repeated bool) error {
	n.mu.Lock()
	known, since := len(n.nodes) > 0, n.since
	n.mu.Unlock()
	if known && (repeated || n.clock.Now().Sub(since) < nodeAddressAge) {
		return nil
	}
	infos, err := n.list(ctx)
	if err != nil {
		if known && ctx.Err() == nil {
			return nil
		}
		return fmt.Errorf("find a node with the role %s: %w", roleIngest, err)
	}
	var nodes []*url.URL
	var wrong error
	for _, info := range infos {
		if len(info.Roles) > 0 && !slices.Contains(info.Roles, roleIngest) {
			continue
		}
		at, err := url.Parse(info.HTTP)
		if err != nil || at.Host == "" {
			wrong = fmt.Errorf("node %s advertises %q, which is no address", info.ID, info.HTTP)
			continue
		}
		nodes = append(nodes, at)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes, n.since = nodes, n.clock.Now()
	maps.DeleteFunc(n.shunned, func(_ string, until time.Time) bool { return !until.After(n.since) })
	switch {
	case len(nodes) > 0:
		return nil
	case wrong != nil:
		return wrong
	}
	return errors.New("no node with the role " + roleIngest + " is alive")
}
