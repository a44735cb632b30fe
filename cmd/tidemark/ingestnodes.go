package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
)

// nodeAddressAge is how long the address of a node is used before etcd is asked again.
const nodeAddressAge = 2 * time.Second

// ingestNodes sends the requests of a process without the ingest role to a node that has it. Addresses are those that the
// nodes advertise in etcd; a request that fails makes the next one ask anew. It may be used from any goroutine.
type ingestNodes struct {
	next  http.RoundTripper
	clock clock.Clock
	list  func(context.Context) ([]meta.NodeInfo, error)

	mu    sync.Mutex
	at    *url.URL
	since time.Time
}

// RoundTrip sends one request; whatever host it names, a node gets it.
func (n *ingestNodes) RoundTrip(r *http.Request) (*http.Response, error) {
	at, err := n.address(r.Context())
	if err != nil {
		return nil, err
	}
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.Host = at.Scheme, at.Host, ""
	response, err := n.next.RoundTrip(out)
	if err != nil {
		n.mu.Lock()
		n.at = nil
		n.mu.Unlock()
	}
	return response, err
}

func (n *ingestNodes) address(ctx context.Context) (*url.URL, error) {
	n.mu.Lock()
	at, since := n.at, n.since
	n.mu.Unlock()
	if at != nil && n.clock.Now().Sub(since) < nodeAddressAge {
		return at, nil
	}
	nodes, err := n.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("find a node with the role %s: %w", roleIngest, err)
	}
	for _, info := range nodes {
		if !slices.Contains(info.Roles, roleIngest) {
			continue
		}
		if at, err = url.Parse(info.HTTP); err != nil {
			return nil, fmt.Errorf("node %s advertises %q: %w", info.ID, info.HTTP, err)
		}
		n.mu.Lock()
		n.at, n.since = at, n.clock.Now()
		n.mu.Unlock()
		return at, nil
	}
	return nil, errors.New("no node with the role " + roleIngest + " is alive")
}
