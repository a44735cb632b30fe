package client

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

const (
	// unreachableFor is how long an advertised address that could not be dialled is left alone the first time; every further time
	// doubles it, up to unreachableMost.
	unreachableFor  = 30 * time.Second
	unreachableMost = 8 * time.Minute
)

// endpoint is one address at which a node, or something in front of nodes, answers. Its fields but the last do not change.
type endpoint struct {
	url     string
	topic   tidemarkv1connect.TopicServiceClient
	produce tidemarkv1connect.ProduceServiceClient
	consume tidemarkv1connect.ConsumeServiceClient
	group   tidemarkv1connect.GroupServiceClient
	cluster tidemarkv1connect.ClusterServiceClient
	query   tidemarkv1connect.QueryServiceClient
	// configured: the caller named it. It is a start when nothing is known, and never forgotten.
	configured bool

	health // guarded by cluster.mu
}

// health is how an endpoint has fared lately.
type health struct {
	failures  int
	notBefore time.Time // it is not used before, unless there is no other
}

func (c *Client) newEndpoint(url string, configured bool) *endpoint {
	return &endpoint{
		url: url, configured: configured,
		topic:   tidemarkv1connect.NewTopicServiceClient(c.http, url, c.options...),
		produce: tidemarkv1connect.NewProduceServiceClient(streamEnder{c.http}, url, c.options...),
		consume: tidemarkv1connect.NewConsumeServiceClient(c.http, url, c.options...),
		group:   tidemarkv1connect.NewGroupServiceClient(c.http, url, c.options...),
		cluster: tidemarkv1connect.NewClusterServiceClient(c.http, url, c.options...),
		query:   tidemarkv1connect.NewQueryServiceClient(c.http, url, c.options...),
	}
}

// cluster is what a client knows of the nodes and of who leads. The package comment tells how it is used.
type cluster struct {
	direct bool // false: everything goes to the configured servers, and nothing is learned

	mu      sync.Mutex
	view    view
	current [serveKinds]*endpoint   // what any gave last
	starts  [serveKinds][]*endpoint // what any chooses from; never empty
	// configured are in the order of the caller; learned are by URL. Every endpoint is in one of them, or gone.
	configured []*endpoint
	learned    map[string]*endpoint
	followed   map[string]int // topic → how many hold it
	asked      map[string]bool
	changed    chan struct{}
	reopen     context.CancelCauseFunc // ends the stream that is open, nil when none is
	watching   bool
	closed     bool
}

// any gives a node that takes calls about the log: the last good one, else the next of the configured servers and of the nodes learned.
func (c *Client) any() *endpoint { return c.anyBut(serveLog, nil) }

// anyBut is any for one kind of call, but gives one of the endpoints in not only when there is no other. A healthy endpoint comes before
// one that failed a moment ago.
func (c *Client) anyBut(kind serves, not map[*endpoint]bool) *endpoint {
	k := &c.known
	k.mu.Lock()
	defer k.mu.Unlock()
	now := c.clock.Now()
	list := k.starts[kind]
	at := slices.Index(list, k.current[kind])
	if at >= 0 && !not[list[at]] && list[at].failures == 0 {
		return list[at]
	}
	best := list[(at+1)%len(list)]
	for i := range list {
		if e := list[(at+1+i)%len(list)]; worse(best, e, not, now) {
			best = e
		}
	}
	if not[best] || now.Before(best.notBefore) { // one that is about to go rather than one that does not answer
		for _, n := range k.view.sorted {
			if e := k.at(n.url); e != nil && n.going && n.serves[kind] && worse(best, e, not, now) {
				best = e
			}
		}
	}
	if !not[best] {
		k.current[kind] = best
	}
	return best
}

// worse tells whether b is to be used rather than a, which comes before it.
func worse(a, b *endpoint, not map[*endpoint]bool, now time.Time) bool {
	if not[a] != not[b] {
		return not[a]
	}
	return now.Before(a.notBefore) && b.notBefore.Before(a.notBefore)
}

// startsOf lists the endpoints that take one kind of call: the configured ones, unless they are known not to, and the nodes learned that
// are not about to go. There is always one.
func (k *cluster) startsOf(kind serves) []*endpoint {
	list := make([]*endpoint, 0, len(k.configured)+len(k.view.sorted))
	for _, e := range k.configured {
		if n, known := k.view.byURL(e.url); !known || n.serves[kind] && !n.going {
			list = append(list, e)
		}
	}
	for _, n := range k.view.sorted {
		if e := k.learned[n.url]; e != nil && n.serves[kind] && !n.going && !slices.Contains(list, e) {
			list = append(list, e)
		}
	}
	if len(list) == 0 {
		return k.configured
	}
	return list
}

func (k *cluster) has(e *endpoint) bool { return e.configured || k.learned[e.url] == e }

// leader gives the node that leads a partition, as far as is known; false when that is not known or the node cannot be reached: then
// any node takes the call and forwards it.
func (c *Client) leader(topic string, partition int32) (*endpoint, bool) {
	e, _, ok := c.leaderAt(topic, partition)
	return e, ok
}

// leaderAt is leader with the epoch at which it leads, and gives a leader that cannot be reached too; nil when nobody is known to lead.
func (c *Client) leaderAt(topic string, partition int32) (e *endpoint, epoch int32, ok bool) {
	k := &c.known
	if !k.direct {
		return nil, noEpoch, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	url, epoch, ok := k.view.leader(topic, partition)
	if ok {
		e = k.at(url)
	}
	if e == nil {
		return nil, noEpoch, false
	}
	return e, epoch, e.notBefore.IsZero() || !c.clock.Now().Before(e.notBefore)
}

// noEpoch is below every epoch of a leader.
const noEpoch = -1

// at is the endpoint of a URL, or nil.
func (k *cluster) at(url string) *endpoint {
	if e := k.learned[url]; e != nil {
		return e
	}
	for _, e := range k.configured {
		if e.url == url {
			return e
		}
	}
	return nil
}

// partitions tells how many partitions a followed topic has, and its id; false when that is not known (yet).
func (c *Client) partitions(topic string) (n int32, id string, ok bool) {
	k := &c.known
	k.mu.Lock()
	defer k.mu.Unlock()
	t, ok := k.view.topics[topic]
	return int32(len(t.leaders)), t.id, ok
}

// follow has the topic's leaders learned and kept up to date until release is called, which is harmless a second time. It does not wait.
func (c *Client) follow(topic string) (release func()) {
	k := &c.known
	if !k.direct {
		return func() {}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.followed[topic]++
	switch {
	case k.closed:
	case !k.watching:
		k.watching = true
		c.loops.Go(c.watch)
	case k.reopen != nil && !k.asked[topic]:
		k.reopen(errTopicsChanged)
	}
	return sync.OnceFunc(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		// The stream that is open goes on with it; the next one asks without.
		if k.followed[topic]--; k.followed[topic] == 0 {
			delete(k.followed, topic)
		}
	})
}

// changed gives a channel that is closed at the next change of what is known: leaders, topics, nodes, or whether they can be reached. Take
// it before looking.
func (c *Client) changed() <-chan struct{} {
	c.known.mu.Lock()
	defer c.known.mu.Unlock()
	return c.known.changed
}

// change tells those who wait. It is called with mu held.
func (k *cluster) change() {
	close(k.changed)
	k.changed = make(chan struct{})
}

// failed is told what a call to e came to. If it is trouble of the connection or a node that stops, e is not used for a moment, as long
// as there are others; any other error, and nil, changes nothing.
func (c *Client) failed(e *endpoint, err error) {
	if connectionTrouble(err) {
		c.avoid(e, neverSent(err))
	}
}

// avoid has e not used for a moment.
func (c *Client) avoid(e *endpoint, undialled bool) {
	k := &c.known
	k.mu.Lock()
	defer k.mu.Unlock()
	wait := c.backoff(e.failures, 0)
	if undialled && !e.configured {
		wait = min(unreachableFor<<min(e.failures, 8), unreachableMost)
		wait += time.Duration(c.randomBelow(int64(wait / 4)))
	}
	e.failures++
	if at := c.clock.Now().Add(wait); at.After(e.notBefore) {
		e.notBefore = at
	}
	k.change()
}

// worked notes that e answers.
func (c *Client) worked(e *endpoint) {
	k := &c.known
	k.mu.Lock()
	defer k.mu.Unlock()
	if e.failures > 0 {
		e.health = health{}
		k.change()
	}
}

// gone tells whether e is neither configured nor the address of a node that is alive.
func (c *Client) gone(e *endpoint) bool {
	k := &c.known
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.has(e)
}

// apply takes one message of the metadata stream. It returns false for one that is older than what is known.
func (c *Client) apply(r *metadata, believe bool) bool {
	k := &c.known
	k.mu.Lock()
	defer k.mu.Unlock()
	nodes := k.view.nodes
	changed, ok := k.view.apply(r, k.asked, believe)
	if !ok || !changed {
		return ok
	}
	if r.GetNodesChanged() {
		c.learn(nodes)
	}
	k.change()
	return true
}

// learn brings the endpoints in line with the nodes of the view. It is called with mu held.
func (c *Client) learn(before map[string]node) {
	k := &c.known
	learned := make(map[string]*endpoint, len(k.view.nodes))
	for id, n := range k.view.nodes {
		if n.url == "" || (c.secure && !strings.HasPrefix(n.url, "https://")) {
			continue // a client that was told to use TLS does not go without because a node says so
		}
		e := k.at(n.url)
		if e == nil {
			e = learned[n.url]
		}
		if e == nil {
			e = c.newEndpoint(n.url, false)
		}
		if e.failures > 0 && before[id] != n {
			e.health = health{} // it is another life, or another address
		}
		if !e.configured {
			learned[n.url] = e
		}
	}
	k.learned = learned
	k.choose()
}

// choose brings what any chooses from up to date.
func (k *cluster) choose() {
	for kind := range serveKinds {
		k.starts[kind] = k.startsOf(kind)
	}
}

// connectionTrouble tells an error that speaks of the way to a node, or of a node about to go, from one that answers a request.
func connectionTrouble(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	if e, ok := errors.AsType[*Error](err); ok {
		if e.Reason != "" || e.cause == nil {
			return e.Reason == ReasonUnreachable || e.Reason == reasonShuttingDown
		}
		err = e.cause
	}
	ce, ok := errors.AsType[*connect.Error](err)
	if ok && connect.IsWireError(err) {
		var e Error
		e.readDetails(ce)
		return e.Reason == reasonShuttingDown
	}
	switch connect.CodeOf(err) {
	case connect.CodeUnimplemented, connect.CodeUnauthenticated, connect.CodePermissionDenied, connect.CodeNotFound,
		connect.CodeResourceExhausted, connect.CodeInvalidArgument, connect.CodeCanceled:
		return false
	default:
		return true
	}
}

// askFor bounds how long a call that fails is tried on further nodes.
const askFor = 5 * time.Second

// ask makes a unary call about the log, and makes it again on another node when the connection could not be made, or when it is
// repeatable and the node was lost or is about to go. A node is asked once; errors are *Error.
func ask[T any](ctx context.Context, c *Client, repeatable bool, call func(*endpoint) (T, error)) (T, error) {
	began := c.clock.Now()
	var tried map[*endpoint]bool
	for {
		e := c.anyBut(serveLog, tried)
		r, err := call(e)
		if err == nil {
			c.worked(e)
			return r, nil
		}
		c.failed(e, err)
		if tried == nil {
			tried = map[*endpoint]bool{}
		}
		tried[e] = true
		again := neverSent(err) || repeatable && (connectionTrouble(err) || c.remoteError(err).Reason == reasonUnavailable)
		if !again || tried[c.anyBut(serveLog, tried)] || ctx.Err() != nil || c.clock.Now().Sub(began) >= askFor {
			return r, c.remoteError(err)
		}
	}
}
