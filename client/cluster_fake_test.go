package client_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
	"github.com/tidemark-io/tidemark/record"
)

// fakeCluster is a cluster in memory with one topic, t. It keeps the rules that a client's exactly-once rests on, and breaks
// everything else: a leader takes batches, and commits them some time later if it is still assigned at the epoch at which it took
// them; nodes hear of changes late, each at its own time; a node that does not lead forwards to whom it believes to.
type fakeCluster struct {
	tb       testing.TB
	loops    sync.WaitGroup
	ctx      context.Context
	maxDelay time.Duration // of commits and of news

	mu       sync.Mutex
	rng      *rand.Rand
	revision int64
	parts    []*truth
	nodes    map[string]*fakeNode // the living
	nextID   int64
	changed  chan struct{}
}

// truth is one partition as etcd and the object store have it.
type truth struct {
	leader    string
	epoch     int32
	batches   []record.Batch
	end       int64
	producers map[int64]*fakeProducer
}

type fakeNode struct {
	tidemarkv1connect.UnimplementedTopicServiceHandler
	tidemarkv1connect.UnimplementedProduceServiceHandler
	tidemarkv1connect.UnimplementedClusterServiceHandler

	c         *fakeCluster
	id        string
	life      int
	address   string
	advertise string
	gate      *gate
	server    *http.Server

	// Guarded by fakeCluster.mu.
	dead, stopped bool
	deaf          bool // hears of no changes
	index         *tidemarkv1.WatchMetadataResponse
	leads         map[int32]*lead
	parked        []func()
	direct        int                                         // batches taken as the leader from a client
	forwarded     int                                         // batches that came to the wrong node
	watchers      int                                         // metadata streams opened
	refuse        func(record.Batch) *tidemarkv1.ProduceError // says no
	lie           func(*tidemarkv1.WatchMetadataResponse)     // falsifies what watchers are told
}

// lead is a partition as its leader has it: the log, and what is taken and not committed.
type lead struct {
	epoch     int32
	end       int64
	producers map[int64]*fakeProducer
	pending   []*taken
}

type taken struct {
	b    record.Batch
	base int64
	done []answerTo
}

type answerTo func(*tidemarkv1.ProduceResponse, *tidemarkv1.ProduceError)

func startCluster(tb testing.TB, seed uint64, partitions int, ids ...string) *fakeCluster {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	c := &fakeCluster{tb: tb, ctx: ctx, maxDelay: 2 * time.Millisecond, rng: rand.New(rand.NewPCG(seed, 7)), nodes: map[string]*fakeNode{}, changed: make(chan struct{})}
	for range partitions {
		c.parts = append(c.parts, &truth{producers: map[int64]*fakeProducer{}})
	}
	tb.Cleanup(func() {
		cancel()
		c.mu.Lock()
		all := make([]*fakeNode, 0, len(c.nodes))
		for _, n := range c.nodes {
			all = append(all, n)
		}
		c.mu.Unlock()
		for _, n := range all {
			n.cont()
			_ = n.server.Close()
		}
		c.loops.Wait()
	})
	for _, id := range ids {
		c.start(id, "127.0.0.1:0", "")
	}
	for n := range min(partitions, partitions*len(ids)) {
		c.move(int32(n), ids[n%len(ids)])
	}
	return c
}

// start begins a life of a node at an address; it advertises that, or something else.
func (c *fakeCluster) start(id, address, advertise string) *fakeNode {
	c.tb.Helper()
	l, err := net.Listen("tcp", address)
	for range 100 {
		if err == nil {
			break
		}
		pause(time.Millisecond) // some connection has the port at its other end
		l, err = net.Listen("tcp", address)
	}
	if err != nil {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		c.tb.Fatal(err)
	}
	n := &fakeNode{c: c, id: id, address: l.Addr().String(), gate: newGate(), leads: map[int32]*lead{}}
	if n.advertise = advertise; advertise == "" {
		n.advertise = n.url()
	}
	mux := http.NewServeMux()
	mux.Handle(tidemarkv1connect.NewTopicServiceHandler(n))
	mux.Handle(tidemarkv1connect.NewProduceServiceHandler(n))
	mux.Handle(tidemarkv1connect.NewClusterServiceHandler(n))
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	n.server = &http.Server{Handler: mux, Protocols: &protocols, ReadHeaderTimeout: time.Minute}
	c.mu.Lock()
	c.revision++
	n.life = int(c.revision)
	c.nodes[id] = n
	n.learn()
	c.tell()
	c.mu.Unlock()
	c.loops.Go(n.live)
	c.loops.Go(func() { _ = n.server.Serve(gatedListener{l, n.gate}) })
	return n
}

func (c *fakeCluster) node(id string) *fakeNode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[id]
}

// client makes a client that begins at the nodes named.
func (c *fakeCluster) client(ids ...string) *client.Client {
	c.tb.Helper()
	var urls []string
	for _, id := range ids {
		urls = append(urls, c.node(id).url())
	}
	return newClient(c.tb, client.Config{Server: strings.Join(urls, ",")})
}

func newClient(tb testing.TB, cfg client.Config) *client.Client {
	tb.Helper()
	cl, err := client.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(cl.Close)
	return cl
}

// move assigns a partition at the next epoch; an empty id to nobody.
func (c *fakeCluster) move(partition int32, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.parts[partition]
	p.leader = id
	p.epoch++
	c.revision++
	c.tell()
}

// kill ends a node with all that it has not committed.
func (c *fakeCluster) kill(id string) {
	c.mu.Lock()
	n := c.nodes[id]
	n.dead = true
	for _, l := range n.leads {
		for _, t := range l.pending {
			for _, done := range t.done { // those who forwarded it to the node
				done(nil, produceFailure("unknown", "OUTCOME_UNKNOWN", true))
			}
		}
	}
	n.leads = nil
	delete(c.nodes, id)
	c.revision++
	c.tell()
	c.mu.Unlock()
	n.cont()
	_ = n.server.Close()
}

func (c *fakeCluster) tell() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *fakeCluster) delay() time.Duration {
	return time.Duration(c.rng.Int64N(int64(c.maxDelay) + 1))
}

// until waits for something to become true.
func (c *fakeCluster) until(what string, ok func() bool) {
	c.tb.Helper()
	until(c.tb, what, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return ok()
	})
}

func until(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for range 20_000 {
		if ok() {
			return
		}
		pause(time.Millisecond)
	}
	tb.Fatal("waited too long until", what)
}

func pause(d time.Duration) { <-clock.System().NewTimer(d).C() }

// values lists what is in the log of a partition.
func (c *fakeCluster) values(partition int32) []string {
	c.tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	next := int64(0)
	for _, b := range c.parts[partition].batches {
		if b.BaseOffset() != next {
			c.tb.Fatalf("partition %d: a batch at %d, want %d", partition, b.BaseOffset(), next)
		}
		next = b.NextOffset()
		for r, err := range b.Records(record.Limits{}) {
			if err != nil {
				c.tb.Fatal(err)
			}
			out = append(out, string(r.Value))
		}
	}
	return out
}

func (n *fakeNode) url() string { return "http://" + n.address }

// stop is SIGSTOP: connections stay open, and nothing answers.
func (n *fakeNode) stop() {
	n.c.mu.Lock()
	n.stopped = true
	n.c.mu.Unlock()
	n.gate.close()
}

// cont is SIGCONT. What came meanwhile is handled now.
func (n *fakeNode) cont() {
	n.c.mu.Lock()
	n.stopped = false
	parked := n.parked
	n.parked = nil
	for _, f := range parked {
		f()
	}
	n.c.tell()
	n.c.mu.Unlock()
	n.gate.open()
}

// live hears of changes and commits, each a little late.
func (n *fakeNode) live() {
	for {
		n.c.mu.Lock()
		changed, wait := n.c.changed, n.c.delay()
		dead := n.dead
		n.c.mu.Unlock()
		if dead || n.c.ctx.Err() != nil {
			return
		}
		if wait > n.c.maxDelay/3 {
			pause(wait)
		}
		n.c.mu.Lock()
		if !n.stopped && !n.dead {
			n.commit()
			if !n.deaf {
				n.learn()
			}
		}
		n.c.mu.Unlock()
		select {
		case <-changed:
		case <-n.c.ctx.Done():
			return
		}
	}
}

// learn brings the node's index to the present.
func (n *fakeNode) learn() {
	c := n.c
	if n.index.GetRevision() == c.revision {
		return
	}
	next := &tidemarkv1.WatchMetadataResponse{Revision: c.revision, NodesChanged: true}
	t := &tidemarkv1.TopicMetadata{Topic: &tidemarkv1.Topic{Name: "t", Id: "00ff", Partitions: int32(len(c.parts))}}
	for i, p := range c.parts {
		t.Partitions = append(t.Partitions, &tidemarkv1.PartitionLeader{Node: p.leader, Epoch: p.epoch})
		l := n.leads[int32(i)]
		switch {
		case p.leader != n.id:
			n.letGo(int32(i))
		case l == nil || l.epoch != p.epoch:
			n.letGo(int32(i))
			l = &lead{epoch: p.epoch, end: p.end, producers: map[int64]*fakeProducer{}}
			for id, was := range p.producers {
				l.producers[id] = was.clone()
			}
			n.leads[int32(i)] = l
		}
	}
	for _, other := range c.nodes {
		next.Nodes = append(next.Nodes, &tidemarkv1.Node{Id: other.id, Alive: true, Http: other.advertise, Incarnation: fmt.Sprint(other.life), Roles: []string{"ingest"}})
	}
	next.Topics = []*tidemarkv1.TopicMetadata{t}
	n.index = next
	c.tell()
}

func (n *fakeNode) letGo(partition int32) {
	l := n.leads[partition]
	if l == nil {
		return
	}
	for _, p := range l.pending {
		for _, done := range p.done {
			done(nil, notLeader())
		}
	}
	delete(n.leads, partition)
}

// commit makes what was taken part of the log, of the partitions that are still the node's at its epoch.
func (n *fakeNode) commit() {
	for i, l := range n.leads {
		p := n.c.parts[i]
		if len(l.pending) == 0 {
			continue
		}
		if p.leader != n.id || p.epoch != l.epoch {
			n.letGo(i)
			continue
		}
		for _, t := range l.pending {
			if t.base != p.end {
				n.c.tb.Errorf("partition %d: a leader gave offset %d, the log ends at %d", i, t.base, p.end)
			}
			t.b.Stamp(t.base, l.epoch)
			p.batches = append(p.batches, t.b)
			p.end = t.b.NextOffset()
			if id := t.b.ProducerID(); id >= 0 {
				if p.producers[id] == nil {
					p.producers[id] = &fakeProducer{ranges: map[int32]int64{}}
				}
				p.producers[id].next = record.AddSequence(t.b.BaseSequence(), t.b.Count())
				p.producers[id].ranges[t.b.BaseSequence()] = t.base
			}
			for k, done := range t.done {
				done(produced(i, t.base, t.b.Count(), k > 0), nil)
			}
		}
		l.pending = nil
	}
}

func (p *fakeProducer) clone() *fakeProducer {
	return &fakeProducer{next: p.next, ranges: maps.Clone(p.ranges)}
}

func produced(partition int32, base int64, count int32, duplicate bool) *tidemarkv1.ProduceResponse {
	return &tidemarkv1.ProduceResponse{
		Topic: "t", Partition: partition, BaseOffset: base, Records: count, Reached: tidemarkv1.Reached_REACHED_OBJECT, Duplicate: duplicate,
		Position: &tidemarkv1.Position{Topic: "t", Offsets: map[int32]int64{partition: base + int64(count)}},
	}
}

func produceFailure(code, reason string, retryable bool) *tidemarkv1.ProduceError {
	e := &tidemarkv1.ProduceError{Code: code, Reason: reason, Message: "fake: " + reason, Retryable: retryable}
	if retryable {
		e.RetryAfterMs = 5
	}
	return e
}

func notLeader() *tidemarkv1.ProduceError { return produceFailure("unavailable", "NOT_LEADER", true) }

// take is what a node does with one batch. It is called with fakeCluster.mu held, and so is done, some time.
func (n *fakeNode) take(r *tidemarkv1.ProduceRequest, wasForwarded bool, done answerTo) {
	partition := r.GetPartition()
	l := n.leads[partition]
	if l == nil {
		if !wasForwarded {
			n.forwarded++
		}
		believed := n.index.GetTopics()[0].GetPartitions()[partition].GetNode()
		to := n.c.nodes[believed]
		switch {
		case wasForwarded || to == nil || to == n:
			done(nil, notLeader())
		case to.stopped: // the forwarder gives up; what it sent may arrive yet
			to.parked = append(to.parked, func() { to.take(r, true, func(*tidemarkv1.ProduceResponse, *tidemarkv1.ProduceError) {}) })
			done(nil, produceFailure("unknown", "OUTCOME_UNKNOWN", true))
		default:
			to.take(r, true, done)
		}
		return
	}
	if !wasForwarded {
		n.direct++
	}
	b, err := record.Validate(slices.Clone(r.GetBatch()), record.Limits{})
	if err != nil {
		done(nil, produceFailure("invalid_argument", "INVALID_RECORD", false))
		return
	}
	if n.refuse != nil {
		if e := n.refuse(b); e != nil {
			done(nil, e)
			return
		}
	}
	if id := b.ProducerID(); id >= 0 {
		p := l.producers[id]
		if p == nil {
			if b.BaseSequence() != 0 {
				done(nil, produceFailure("failed_precondition", "UNKNOWN_PRODUCER", false))
				return
			}
			p = &fakeProducer{ranges: map[int32]int64{}}
			l.producers[id] = p
		}
		if base, ok := p.ranges[b.BaseSequence()]; ok {
			for _, t := range l.pending {
				if t.base == base {
					t.done = append(t.done, done) // it waits with the first attempt
					return
				}
			}
			done(produced(partition, base, b.Count(), true), nil)
			return
		}
		if b.BaseSequence() != p.next {
			done(nil, produceFailure("failed_precondition", "OUT_OF_ORDER_SEQUENCE", false))
			return
		}
		p.ranges[p.next] = l.end
		p.next = record.AddSequence(p.next, b.Count())
	}
	l.pending = append(l.pending, &taken{b: b, base: l.end, done: []answerTo{done}})
	l.end += int64(b.Count())
	n.c.tell()
}
