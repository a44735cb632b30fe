package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
)

// RouterConfig is what a Router is told.
type RouterConfig struct {
	// Self is the node of this process.
	Self meta.NodeID
	// Node is that node, or why it is not there yet.
	Node func() (*Node, error)

	Clock     clock.Clock
	Logger    *slog.Logger
	Telemetry *Telemetry
}

// Router makes any node take any call. Each partition has one leader; what is for another node goes there and its answer comes back.
//
//	produce          to the leader, over one stream to each node (route_forward.go)
//	fetch            to every leader that the request touches, at once (route_fetch.go)
//	states, ends     from every leader; ends of topics that never rest on a disk from the index alone (route_states.go, ends.go)
//	topics, ids      by this node, in etcd
//
// Who leads is what this node's index says at the moment. It may be behind or ahead of another's: a call is forwarded once and never
// again (route_hops.go), and NOT_LEADER means that nothing was done. Callers that wait for one answer are kept waiting while a leader is looked for;
// those that pipeline are told NOT_LEADER at once, with the leader as far as it is known, because the order of what they send is theirs.
//
// Its methods may be called from any goroutine.
type Router struct {
	self      meta.NodeID
	home      func() (homeNode, *Error)
	peers     Peers
	clock     clock.Clock
	logger    *slog.Logger
	telemetry *Telemetry

	life context.Context //nolint:containedctx // the life of the streams to others
	end  context.CancelFunc
	work sync.WaitGroup

	mu      sync.Mutex
	remotes map[meta.NodeID]*remote
	closed  bool

	pool *peerPool // nil in tests with other peers

	looks *revisionReads

	infoMu sync.Mutex
	info   meta.ClusterInfo // as last read
}

// NewRouter makes a router, which may be used before its node is there. Close ends its streams.
func NewRouter(cfg RouterConfig) (*Router, error) {
	if cfg.Self == "" || cfg.Node == nil || cfg.Clock == nil || cfg.Logger == nil || cfg.Telemetry == nil {
		return nil, fmt.Errorf("make a router: self, node, clock, logger and telemetry are needed")
	}
	return openRouter(cfg, nil), nil
}

func openRouter(cfg RouterConfig, dial dialFunc) *Router {
	home := func() (homeNode, *Error) {
		n, err := cfg.Node()
		if err != nil {
			return nil, AsError(err)
		}
		return n, nil
	}
	pool := newPeerPool(cfg.Self, func() (clusterIndex, *Error) {
		node, refused := home()
		if refused != nil {
			return nil, refused
		}
		life, refused := node.life()
		if refused != nil {
			return nil, refused
		}
		return life.cluster(), nil
	}, dial)
	r := newRouter(cfg.Self, home, pool, cfg)
	r.pool = pool
	return r
}

func newRouter(self meta.NodeID, home func() (homeNode, *Error), peers Peers, cfg RouterConfig) *Router {
	life, end := context.WithCancel(context.Background())
	r := &Router{
		self: self, home: home, peers: peers, clock: cfg.Clock, logger: cfg.Logger, telemetry: cfg.Telemetry,
		life: life, end: end, remotes: make(map[meta.NodeID]*remote),
	}
	r.looks = &revisionReads{life: life, work: &r.work}
	return r
}

// Peers finds the other nodes, for services that have a place of their own.
func (r *Router) Peers() Peers { return r.peers }

// Close ends the streams to other nodes; whoever waits for an answer of one is told that the outcome is not known. Safe to call twice.
func (r *Router) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end()
	r.looks.close()
	r.work.Wait()
	if r.pool != nil {
		r.pool.close()
	}
}

// here is this node at one moment: its present incarnation and what that knows of the cluster.
type here struct {
	self  meta.NodeID
	home  homeNode
	life  nodeLife
	index clusterIndex
	looks *revisionReads
	// forwarded: the call comes from another node and goes no further.
	forwarded bool
}

// here finds this node. A forwarded call has waited for its sender's revision then.
func (r *Router) here(ctx context.Context) (here, *Error) {
	home, refused := r.home()
	if refused != nil {
		return here{}, refused
	}
	life, refused := home.life()
	if refused != nil {
		return here{}, refused
	}
	h := here{self: r.self, home: home, life: life, index: life.cluster(), looks: r.looks}
	if f := forwardedOf(ctx); f != nil {
		h.forwarded = true
		f.await(ctx, h.index)
	}
	return h, nil
}

// ProduceAsync hands a batch to its partition's leader. Batches of one caller that go to one partition arrive in the order of the
// calls, as long as the leader stays the same. It answers as Node.ProduceAsync does, and may block for as long as the way to a leader has no room.
func (r *Router) ProduceAsync(ctx context.Context, q ProduceRequest, done func(ProduceResult, error)) {
	refuse := func(err *Error) {
		r.telemetry.ProduceFailed(ctx, err)
		done(ProduceResult{}, err)
	}
	h, refused := r.here(ctx)
	if refused != nil {
		refuse(refused)
		return
	}
	toHome := func() {
		h.home.ProduceAsync(ctx, q, func(result ProduceResult, err error) { done(result, r.nameLeader(h.index, q.Topic, q.Partition, err)) })
	}
	if h.forwarded {
		toHome()
		return
	}
	topic, err := h.named(ctx, q.Topic, q.TopicID, q.Partition+1)
	if err != nil {
		refuse(AsError(err))
		return
	}
	q.TopicID = topic.ID
	if q.Partition < 0 || q.Partition >= topic.Partitions {
		refuse(AsError(unknownPartition(q.Topic, q.Partition, topic.Partitions)))
		return
	}
	to := h.leaderOf(topic, q.Partition)
	switch {
	case to.refused != nil:
		refuse(to.refused)
	case to.node == r.self:
		toHome()
	default:
		remote, refused := r.remote(to.node)
		if refused != nil {
			refuse(refused)
			return
		}
		remote.forward.produce(ctx, q, func(result ProduceResult, err error) {
			if err != nil {
				r.telemetry.ProduceFailed(ctx, err)
			}
			done(result, r.nameLeader(h.index, q.Topic, q.Partition, err))
		})
	}
}

// nameLeader adds to NOT_LEADER who leads, as far as the index knows.
func (r *Router) nameLeader(index clusterIndex, topic string, partition int32, err error) error {
	if ReasonOf(err) != ReasonNotLeader {
		return err
	}
	e := AsError(err)
	t, ok := index.Topic(topic)
	if !ok {
		return err
	}
	l, ok := index.Leader(meta.Partition{Topic: t.ID, Partition: partition})
	if !ok {
		return err
	}
	e = e.With(metadataLeader, string(l.Node))
	if info, alive := index.Node(l.Node); alive && info.HTTP != "" {
		e = e.With(metadataLeaderURL, info.HTTP)
	}
	return e
}

// InitProducer gives out a producer id that nobody else has or had.
func (r *Router) InitProducer(ctx context.Context) (id int64, epoch int16, err error) {
	home, refused := r.home()
	if refused != nil {
		return 0, 0, refused
	}
	return home.InitProducer(ctx)
}

// OffsetForTime is Node.OffsetForTime, by the leader.
func (r *Router) OffsetForTime(ctx context.Context, topic string, partition int32, timestampMs int64) (offset int64, err error) {
	err = r.untilLed(ctx, leaderPatience, func(ctx context.Context, h here) error {
		if h.forwarded {
			offset, err = h.home.OffsetForTime(ctx, topic, partition, timestampMs)
			return err
		}
		found, err := h.find(ctx, topic, partition+1)
		if err != nil {
			return err
		}
		if partition < 0 || partition >= found.Partitions {
			return unknownPartition(topic, partition, found.Partitions)
		}
		to := h.leaderOf(found, partition)
		switch {
		case to.refused != nil:
			return to.refused
		case to.node == r.self:
			offset, err = h.home.OffsetForTime(ctx, topic, partition, timestampMs)
			return err
		}
		remote, refused := r.remote(to.node)
		if refused != nil {
			return refused
		}
		offset, err = remote.offsetForTime(ctx, found, partition, timestampMs)
		return err
	})
	return offset, err
}

// askAgain is how long to wait before a leader is looked for again; changes of the index come sooner, but not sooner than askAgainLeast.
const (
	askAgain      = 100 * time.Millisecond
	askAgainLeast = 20 * time.Millisecond
)

// untilLed calls ask until it answers something else than that the leader is away, for at most patience. A forwarded call asks
// once: its sender has the patience.
func (r *Router) untilLed(ctx context.Context, patience time.Duration, ask func(context.Context, here) error) error {
	patient, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		h, refused := r.here(ctx)
		if refused != nil {
			return refused
		}
		changed := h.index.Changed()
		err := ask(patient, h)
		switch {
		case err == nil:
			return nil
		case h.forwarded || !leaderAway(err):
			return err
		case !r.pause(patient, changed):
			return err
		}
	}
}

// pause waits for the index to change, a moment at least and another at most; false when ctx ended before.
func (r *Router) pause(ctx context.Context, changed <-chan struct{}) bool {
	timer := r.clock.NewTimer(askAgainLeast)
	defer timer.Stop()
	select {
	case <-timer.C():
	case <-ctx.Done():
		return false
	}
	timer.Reset(askAgain - askAgainLeast)
	select {
	case <-changed:
		return true
	case <-timer.C():
		return true
	case <-ctx.Done():
		return false
	}
}
