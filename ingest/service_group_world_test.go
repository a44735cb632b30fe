package ingest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
	"github.com/tidemark-io/tidemark/record"
)

// serviceWorld is a groupWorld whose nodes serve the group service over loopback, and forward to each other.
type serviceWorld struct {
	*groupWorld
	log     *fakeGroupLog
	urls    map[meta.NodeID]string
	closing map[meta.NodeID]chan struct{}
	http    *http.Client
}

func newServiceWorld(t *testing.T, nodes ...string) *serviceWorld {
	t.Helper()
	two := new(http.Protocols)
	two.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: two, DisableCompression: true}
	w := &serviceWorld{
		groupWorld: newGroupWorld(t, nodes...), urls: make(map[meta.NodeID]string), closing: make(map[meta.NodeID]chan struct{}),
		http: &http.Client{Transport: transport},
	}
	w.log = &fakeGroupLog{world: w.groupWorld, partitions: make(map[group.TopicPartition]*fakeGroupPartition), changed: make(chan struct{})}
	for _, id := range nodes {
		w.serve(meta.NodeID(id))
	}
	t.Cleanup(transport.CloseIdleConnections) // before the servers end, which would wait for them
	w.follow(w.store.Revision())
	return w
}

func (w *serviceWorld) serve(id meta.NodeID) {
	w.t.Helper()
	n := w.nodes[id]
	w.closing[id] = make(chan struct{})
	path, handler := NewGroupService(GroupServiceConfig{
		Groups: n.groups, Log: w.log, Peers: worldPeers{w, n}, Clock: clock.System(), Closing: w.closing[id],
		Options: []connect.HandlerOption{connect.WithReadMaxBytes(MaxGroupMessage), connect.WithCompression("gzip", nil, nil)},
	})
	mux := http.NewServeMux()
	mux.Handle(path, withForwarded(handler))
	l, err := (&net.ListenConfig{}).Listen(w.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	both := new(http.Protocols)
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: mux, Protocols: both, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	w.urls[id] = "http://" + l.Addr().String()
	closing := w.closing[id]
	w.t.Cleanup(func() {
		closeOnce(closing)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(w.t.Context()), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			w.t.Errorf("shut down: %v", err)
			_ = server.Close()
		}
		<-served
	})
}

func (w *serviceWorld) client(node string) tidemarkv1connect.GroupServiceClient {
	return tidemarkv1connect.NewGroupServiceClient(w.http, w.urls[meta.NodeID(node)])
}

// worldPeers are the other nodes.
type worldPeers struct {
	world *serviceWorld
	node  *groupNode
}

func (p worldPeers) Self() meta.NodeID { return p.node.id }

func (p worldPeers) Peer(id meta.NodeID) (Peer, bool) {
	url, ok := p.world.urls[id]
	return Peer{URL: url, HTTP: hopClient{p.world.http}}, ok && id != p.node.id
}

type hopClient struct{ *http.Client }

func (c hopClient) Do(r *http.Request) (*http.Response, error) {
	r.Header.Set(headerHops, "1")
	return c.Client.Do(r)
}

// fakeGroupLog is a log in memory whose topics are the world's.
type fakeGroupLog struct {
	world *groupWorld

	mu         sync.Mutex
	partitions map[group.TopicPartition]*fakeGroupPartition
	changed    chan struct{}
	given      int // bytes
}

type fakeGroupPartition struct {
	start, end int64
	batches    []record.Batch
}

func (l *fakeGroupLog) partition(topic string, p int32) *fakeGroupPartition {
	at := group.TopicPartition{Topic: topic, Partition: p}
	if l.partitions[at] == nil {
		l.partitions[at] = &fakeGroupPartition{}
	}
	return l.partitions[at]
}

// append adds one batch with a record for each value, all of one time.
func (l *fakeGroupLog) append(topic string, partition int32, at time.Time, values ...string) {
	l.world.t.Helper()
	b := record.NewBuilder(record.None)
	for _, v := range values {
		if err := b.Append(record.Record{Timestamp: at.UnixMilli(), Value: []byte(v)}); err != nil {
			l.world.t.Fatal(err)
		}
	}
	batch, err := b.Build(-1, -1, -1)
	if err != nil {
		l.world.t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.partition(topic, partition)
	batch.Stamp(p.end, 1)
	p.batches, p.end = append(p.batches, batch), batch.NextOffset()
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *fakeGroupLog) trim(topic string, partition int32, start int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partition(topic, partition).start = start
}

func (l *fakeGroupLog) Topic(_ context.Context, name string) (meta.Topic, []PartitionState, error) {
	topic, err := l.world.meta.GetTopic(context.Background(), name)
	if errors.Is(err, meta.ErrUnknownTopic) {
		return meta.Topic{}, nil, Errorf(ReasonUnknownTopic, "there is no topic %q", name)
	}
	if err != nil {
		return meta.Topic{}, nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var states []PartitionState
	for p := range topic.Partitions {
		at := l.partition(name, p)
		states = append(states, PartitionState{Partition: p, Leader: "x", LogStartOffset: at.start, HighWatermark: at.end, CommittedOffset: at.end, LogEndOffset: at.end})
	}
	return topic, states, nil
}

func (l *fakeGroupLog) OffsetForTime(_ context.Context, topic string, partition int32, timestampMs int64) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.partition(topic, partition)
	for _, b := range p.batches {
		if b.MaxTimestamp() >= timestampMs {
			return b.BaseOffset(), nil
		}
	}
	return p.end, nil
}

func (l *fakeGroupLog) Fetch(ctx context.Context, r FetchRequest) ([]PartitionBatches, error) {
	ctx, cancel := context.WithTimeout(ctx, max(r.MaxWait, time.Millisecond))
	defer cancel()
	for {
		l.mu.Lock()
		out, bytes, err := l.read(r)
		changed := l.changed
		l.given += bytes
		l.mu.Unlock()
		if err != nil || bytes >= r.MinBytes {
			return out, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return out, nil
			}
			return nil, ctx.Err()
		}
	}
}

func (l *fakeGroupLog) read(r FetchRequest) (out []PartitionBatches, bytes int, err error) {
	if r.TopicID != (meta.TopicID{}) {
		if topic, err := l.world.meta.GetTopic(context.Background(), r.Topic); err == nil && topic.ID != r.TopicID {
			return nil, 0, anotherTopic(r.Topic, r.TopicID.String())
		}
	}
	for _, want := range r.Partitions {
		p := l.partition(r.Topic, want.Partition)
		if want.Offset < p.start || want.Offset > p.end {
			return nil, 0, Errorf(ReasonOffsetOutOfRange, "offset %d", want.Offset)
		}
		piece := PartitionBatches{Partition: want.Partition, NextOffset: want.Offset, HighWatermark: p.end, LogStartOffset: p.start}
		for _, b := range p.batches {
			if b.NextOffset() <= want.Offset {
				continue
			}
			if bytes > 0 && bytes+len(b) > r.MaxBytes {
				break
			}
			piece.Batches = append(piece.Batches, b)
			piece.NextOffset = b.NextOffset()
			bytes += len(b)
		}
		out = append(out, piece)
	}
	return out, bytes, nil
}

// groupClient is the client's side of one group stream. Everything that comes is kept in order.
type groupClient struct {
	t      *testing.T
	stream *connect.BidiStreamForClientSimple[tidemarkv1.GroupServiceConsumeRequest, tidemarkv1.GroupServiceConsumeResponse]
	group  string

	mu      sync.Mutex
	events  []*tidemarkv1.GroupServiceConsumeResponse
	values  []string
	next    map[group.TopicPartition]int64
	has     map[group.TopicPartition]bool
	member  string
	ended   error
	done    bool
	changed chan struct{}
	sending sync.Mutex
}

// consume opens a stream and reads it to its end. It answers revocations itself, after it has committed what it got.
func (w *serviceWorld) consume(node string, join *tidemarkv1.JoinRequest, fromEnd bool) *groupClient {
	w.t.Helper()
	stream, err := w.client(node).Consume(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	c := &groupClient{
		t: w.t, stream: stream, group: join.GetGroup(), next: make(map[group.TopicPartition]int64), has: make(map[group.TopicPartition]bool),
		changed: make(chan struct{}),
	}
	c.send(&tidemarkv1.GroupServiceConsumeRequest{Event: &tidemarkv1.GroupServiceConsumeRequest_Open{Open: &tidemarkv1.GroupOpen{Join: join, FromEnd: fromEnd}}})
	return c
}

func (c *groupClient) send(m *tidemarkv1.GroupServiceConsumeRequest) {
	c.sending.Lock()
	defer c.sending.Unlock()
	_ = c.stream.Send(m) // whether it arrived the answer tells
}

func (c *groupClient) ping() {
	c.send(&tidemarkv1.GroupServiceConsumeRequest{Event: &tidemarkv1.GroupServiceConsumeRequest_Ping{Ping: &tidemarkv1.GroupPing{}}})
}

// commit commits what has been read of every partition that the member has.
func (c *groupClient) commit(correlation uint64) {
	c.mu.Lock()
	commit := &tidemarkv1.GroupCommit{Correlation: correlation}
	for p, next := range c.next {
		if c.has[p] {
			commit.Offsets = append(commit.Offsets, &tidemarkv1.OffsetCommit{Topic: p.Topic, Partition: p.Partition, Offset: next, LeaderEpoch: -1})
		}
	}
	c.mu.Unlock()
	c.send(&tidemarkv1.GroupServiceConsumeRequest{Event: &tidemarkv1.GroupServiceConsumeRequest_Commit{Commit: commit}})
}

// read receives until the stream ends.
func (c *groupClient) read() {
	for {
		m, err := c.stream.Receive()
		var revoke *tidemarkv1.GroupRevoke
		c.mu.Lock()
		if err != nil {
			c.ended, c.done = err, true
		} else {
			c.events = append(c.events, m)
			revoke = c.take(m)
		}
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
		if revoke != nil {
			c.commit(1 << 32)
			c.mu.Lock()
			for _, t := range revoke.GetRevoked() {
				for _, p := range t.GetPartitions() {
					delete(c.has, group.TopicPartition{Topic: t.GetTopic(), Partition: p})
				}
			}
			c.mu.Unlock()
			c.send(&tidemarkv1.GroupServiceConsumeRequest{Event: &tidemarkv1.GroupServiceConsumeRequest_Revoked{Revoked: &tidemarkv1.GroupRevoked{Generation: revoke.GetGeneration()}}})
		}
	}
}

// take checks what came against what the member has. Called with mu.
func (c *groupClient) take(m *tidemarkv1.GroupServiceConsumeResponse) *tidemarkv1.GroupRevoke {
	switch e := m.GetEvent().(type) {
	case *tidemarkv1.GroupServiceConsumeResponse_Assign:
		for _, t := range e.Assign.GetLost() {
			for _, p := range t.GetPartitions() {
				at := group.TopicPartition{Topic: t.GetTopic(), Partition: p}
				delete(c.has, at)
				delete(c.next, at)
			}
		}
		if c.member != e.Assign.GetMemberId() {
			clear(c.has)
			clear(c.next)
		}
		c.member = e.Assign.GetMemberId()
		kept := make(map[group.TopicPartition]bool)
		for _, p := range e.Assign.GetAssigned() {
			at := group.TopicPartition{Topic: p.GetTopic(), Partition: p.GetPartition()}
			kept[at] = true
			if !c.has[at] {
				c.next[at] = max(p.GetCommitted(), 0)
			}
		}
		for at := range c.has {
			if !kept[at] {
				c.t.Errorf("partition %v was taken away without a revocation", at)
			}
		}
		c.has = kept
	case *tidemarkv1.GroupServiceConsumeResponse_Records:
		at := group.TopicPartition{Topic: e.Records.GetTopic(), Partition: e.Records.GetBatches().GetPartition()}
		if !c.has[at] {
			c.t.Errorf("records of partition %v, which is not the member's", at)
		}
		for rest := e.Records.GetBatches().GetBatches(); len(rest) > 0; {
			b, behind, err := record.Next(rest)
			if err != nil {
				c.t.Error(err)
				return nil
			}
			for r, err := range b.Records(record.DefaultLimits()) {
				if err != nil {
					c.t.Error(err)
				} else if r.Offset >= c.next[at] {
					c.values = append(c.values, string(r.Value))
				}
			}
			rest = behind
		}
		c.next[at] = e.Records.GetBatches().GetNextOffset()
	case *tidemarkv1.GroupServiceConsumeResponse_Revoke:
		return e.Revoke
	}
	return nil
}

// until waits until what the client has fulfils something.
func (c *groupClient) until(what string, fulfilled func() bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	for {
		c.mu.Lock()
		ok, changed, done, ended := fulfilled(), c.changed, c.done, c.ended
		c.mu.Unlock()
		if ok {
			return
		}
		if done {
			c.t.Fatalf("the stream ended before %s: %v", what, ended)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			c.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// start reads and, unless it is to fall silent, pings until the stream ends.
func (c *groupClient) start(t *testing.T, pings bool) {
	var work sync.WaitGroup
	ended := make(chan struct{})
	work.Go(func() { defer close(ended); c.read() })
	if pings {
		work.Go(func() {
			for {
				select {
				case <-ended:
					return
				case <-time.After(500 * time.Millisecond): //nolint:forbidigo // a client's time passes for real
					c.ping()
				}
			}
		})
	}
	t.Cleanup(func() {
		c.close()
		_ = c.stream.CloseResponse()
		work.Wait()
	})
}

// close closes the client's side.
func (c *groupClient) close() {
	c.sending.Lock()
	defer c.sending.Unlock()
	_ = c.stream.CloseRequest()
}

// end waits for the end of the stream.
func (c *groupClient) end() error {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	for {
		c.mu.Lock()
		done, ended, changed := c.done, c.ended, c.changed
		c.mu.Unlock()
		if done {
			return ended
		}
		select {
		case <-changed:
		case <-ctx.Done():
			c.t.Fatal("the stream does not end")
		}
	}
}

func (c *groupClient) sorted() []string { return slices.Sorted(slices.Values(c.values)) }

// answered tells whether a commit was answered, and its errors.
func (c *groupClient) answered(correlation uint64) (errs []*tidemarkv1.CommitError, ok bool) {
	for _, e := range c.events {
		if a := e.GetCommitted(); a != nil && a.GetCorrelation() == correlation {
			return a.GetErrors(), true
		}
	}
	return nil, false
}
