package client_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/tidemark-io/tidemark/client"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
	"github.com/tidemark-io/tidemark/record"
)

// fleet is a cluster of nodes with one log, on a network in memory, so that its stories run in the time of testing/synctest.
type fleet struct {
	tb testing.TB

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at every change
	revision int64
	topics   map[string]*fleetTopic
	nodes    map[string]*fleetNode // by id
	groups   map[string]*fleetGroup
	// coordinatorAway fails every call of groups.
	coordinatorAway bool
	// commitsUnanswered answers no commit, also those that are stored.
	commitsUnanswered bool
	// pieceBytes is the greatest piece of a stream.
	pieceBytes int
}

type fleetTopic struct {
	id    string
	parts []*fleetPartition
}

type fleetPartition struct {
	batches    []record.Batch
	start, end int64
	lost       []*tidemarkv1.OffsetRange
	leader     string
	epoch      int32
}

type fleetNode struct {
	tidemarkv1connect.UnimplementedTopicServiceHandler
	tidemarkv1connect.UnimplementedConsumeServiceHandler
	tidemarkv1connect.UnimplementedClusterServiceHandler
	tidemarkv1connect.UnimplementedQueryServiceHandler

	fleet    *fleet
	id       string
	address  string
	pipes    *pipes
	server   *http.Server
	serving  sync.WaitGroup
	execute  func(ctx context.Context, r *tidemarkv1.ExecuteRequest, send func(*tidemarkv1.ExecuteResponse) error) error
	requests []*tidemarkv1.ConsumeRequest
	sent     map[string]int // topic/partition → pieces
	bytes    int
}

func startFleet(tb testing.TB, nodes int) *fleet {
	tb.Helper()
	f := &fleet{tb: tb, changed: make(chan struct{}), revision: 1, topics: map[string]*fleetTopic{}, nodes: map[string]*fleetNode{}, groups: map[string]*fleetGroup{}, pieceBytes: 1 << 12}
	for i := range nodes {
		f.startNode(i + 1)
	}
	tb.Cleanup(func() {
		for _, n := range f.nodes {
			n.stop()
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, g := range f.groups {
			g.stop()
		}
	})
	return f
}

func (f *fleet) startNode(i int) *fleetNode {
	n := &fleetNode{fleet: f, id: fmt.Sprintf("n%d", i), address: fmt.Sprintf("127.0.0.1:%d", 9000+i), sent: map[string]int{}}
	mux := http.NewServeMux()
	mux.Handle(tidemarkv1connect.NewTopicServiceHandler(n))
	mux.Handle(tidemarkv1connect.NewConsumeServiceHandler(n))
	mux.Handle(tidemarkv1connect.NewGroupServiceHandler(coordinator{fleet: f}))
	mux.Handle(tidemarkv1connect.NewClusterServiceHandler(n))
	mux.Handle(tidemarkv1connect.NewQueryServiceHandler(n))
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	n.pipes = &pipes{address: n.address, dialed: make(chan net.Conn), closed: make(chan struct{})}
	n.server = &http.Server{Handler: mux, Protocols: &protocols, ReadHeaderTimeout: time.Minute}
	n.serving.Go(func() { _ = n.server.Serve(n.pipes) })
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes[n.id] = n
	f.change()
	return n
}

// stop is the death of a node. Whoever led is left to the test.
func (n *fleetNode) stop() {
	_ = n.server.Close()
	n.serving.Wait()
	n.fleet.mu.Lock()
	defer n.fleet.mu.Unlock()
	delete(n.fleet.nodes, n.id)
	n.fleet.change()
}

func (f *fleet) client(cfg client.Config) *client.Client {
	f.tb.Helper()
	cfg.Server = "http://127.0.0.1:9001"
	c, err := client.New(cfg)
	if err != nil {
		f.tb.Fatal(err)
	}
	c.Dial(f.dial)
	f.tb.Cleanup(c.Close)
	return c
}

func (f *fleet) dial(ctx context.Context, _, address string) (net.Conn, error) {
	f.mu.Lock()
	var to *pipes
	for _, n := range f.nodes {
		if n.address == address {
			to = n.pipes
		}
	}
	f.mu.Unlock()
	if to == nil {
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: errors.New("nobody listens")}
	}
	return to.dial(ctx)
}

// change is called with mu held.
func (f *fleet) change() {
	f.revision++
	close(f.changed)
	f.changed = make(chan struct{})
}

// create makes a topic whose partitions are led in turn by the nodes.
func (f *fleet) create(name string, partitions int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := &fleetTopic{id: fmt.Sprintf("%s-%d", name, f.revision)}
	ids := slices.Sorted(maps.Keys(f.nodes))
	for i := range partitions {
		t.parts = append(t.parts, &fleetPartition{leader: ids[i%len(ids)], epoch: 1})
	}
	f.topics[name] = t
	f.change()
}

// lead moves a partition; an empty node leaves it to nobody.
func (f *fleet) lead(topic string, partition int, node string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.topics[topic].parts[partition]
	p.leader = node
	p.epoch++
	f.change()
}

// fill appends records to every partition; their values are their offsets.
func (f *fleet) fill(topic string, records int) { f.fillBig(topic, records, 0) }

// fillBig is fill with a header of so many bytes.
func (f *fleet) fillBig(topic string, records, size int) {
	f.tb.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.topics[topic].parts {
		for range records {
			builder := record.NewBuilder(record.None)
			if err := builder.Append(record.Record{Timestamp: 1, Value: []byte(strconv.FormatInt(p.end, 10)), Headers: []record.Header{{Key: "h", Value: make([]byte, size)}}}); err != nil {
				f.tb.Error(err)
				return
			}
			b, err := builder.Build(-1, -1, -1)
			if err != nil {
				f.tb.Error(err)
				return
			}
			b.Stamp(p.end, p.epoch)
			p.batches = append(p.batches, b)
			p.end++
		}
	}
	f.change()
}

// with changes something of a partition.
func (f *fleet) with(topic string, partition int, change func(*fleetPartition)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f.topics[topic].parts[partition])
	f.change()
}

func reasonError(code connect.Code, reason string, metadata map[string]string) *connect.Error {
	err := connect.NewError(code, errors.New("the message of "+reason))
	if d, derr := connect.NewErrorDetail(&errdetails.ErrorInfo{Reason: reason, Domain: "tidemark.io", Metadata: metadata}); derr == nil {
		err.AddDetail(d)
	}
	return err
}

// topic finds a topic; mu is held.
func (f *fleet) topic(name, id string) (*fleetTopic, error) {
	t := f.topics[name]
	if t == nil || id != "" && id != t.id {
		return nil, reasonError(connect.CodeNotFound, "UNKNOWN_TOPIC", nil)
	}
	return t, nil
}

func (n *fleetNode) ListOffsets(_ context.Context, r *tidemarkv1.ListOffsetsRequest) (*tidemarkv1.ListOffsetsResponse, error) {
	n.fleet.mu.Lock()
	defer n.fleet.mu.Unlock()
	t, err := n.fleet.topic(r.GetTopic(), r.GetTopicId())
	if err != nil {
		return nil, err
	}
	out := &tidemarkv1.ListOffsetsResponse{}
	for _, p := range r.GetPartitions() {
		at := t.parts[p].start
		if r.GetEnd() {
			at = t.parts[p].end
		}
		out.Offsets = append(out.Offsets, &tidemarkv1.PartitionOffset{Partition: p, Offset: at})
	}
	return out, nil
}

func (n *fleetNode) WatchMetadata(ctx context.Context, r *tidemarkv1.WatchMetadataRequest, st *connect.ServerStream[tidemarkv1.WatchMetadataResponse]) error {
	f := n.fleet
	for {
		f.mu.Lock()
		changed := f.changed
		m := &tidemarkv1.WatchMetadataResponse{Revision: f.revision, NodesChanged: true}
		for _, id := range slices.Sorted(maps.Keys(f.nodes)) {
			m.Nodes = append(m.Nodes, &tidemarkv1.Node{Id: id, Alive: true, Incarnation: "1", Http: "http://" + f.nodes[id].address})
		}
		for _, name := range r.GetTopics() {
			t := f.topics[name]
			if t == nil {
				m.Missing = append(m.Missing, name)
				continue
			}
			tm := &tidemarkv1.TopicMetadata{Topic: &tidemarkv1.Topic{Name: name, Id: t.id, Partitions: int32(len(t.parts))}}
			for _, p := range t.parts {
				tm.Partitions = append(tm.Partitions, &tidemarkv1.PartitionLeader{Node: p.leader, Epoch: p.epoch})
			}
			m.Topics = append(m.Topics, tm)
		}
		f.mu.Unlock()
		if err := st.Send(m); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Consume answers with ranges whoever leads, and streams what the node leads; so it ends when that changes.
func (n *fleetNode) Consume(ctx context.Context, r *tidemarkv1.ConsumeRequest, st *connect.ServerStream[tidemarkv1.ConsumeResponse]) error {
	f := n.fleet
	f.mu.Lock()
	n.requests = append(n.requests, r)
	t, err := f.topic(r.GetTopic(), r.GetTopicId())
	if err != nil {
		f.mu.Unlock()
		return err
	}
	want := r.GetPartitions()
	if len(want) == 0 {
		for p := range t.parts {
			want = append(want, int32(p))
		}
	}
	at, ends := map[int32]int64{}, map[int32]int64{}
	var ranges []*tidemarkv1.ConsumeRange
	for _, p := range want {
		part := t.parts[p]
		from := part.start
		switch at := r.GetFrom().(type) {
		case *tidemarkv1.ConsumeRequest_End:
			from = part.end
		case *tidemarkv1.ConsumeRequest_Offsets:
			if from = at.Offsets.GetOffsets()[p]; part.leader != n.id {
				f.mu.Unlock()
				return reasonError(connect.CodeUnavailable, "NOT_LEADER", nil)
			}
		}
		if from < part.start || from > part.end {
			f.mu.Unlock()
			return reasonError(connect.CodeOutOfRange, "OFFSET_OUT_OF_RANGE", map[string]string{
				"partition": fmt.Sprint(p), "log_start_offset": fmt.Sprint(part.start), "high_watermark": fmt.Sprint(part.end),
			})
		}
		at[p], ends[p] = from, part.end
		ranges = append(ranges, &tidemarkv1.ConsumeRange{Partition: p, From: from, End: part.end})
	}
	f.mu.Unlock()
	if err := st.Send(&tidemarkv1.ConsumeResponse{Ranges: ranges}); err != nil {
		return err
	}
	for {
		pieces, changed, err := n.pieces(t, want, at)
		if err != nil {
			return err
		}
		for _, pb := range pieces {
			if err := st.Send(&tidemarkv1.ConsumeResponse{Batches: pb}); err != nil {
				return err
			}
			f.mu.Lock()
			n.sent[fmt.Sprintf("%s/%d", r.GetTopic(), pb.GetPartition())]++
			n.bytes += len(pb.GetBatches())
			f.mu.Unlock()
		}
		if r.GetUntilEnd() && !slices.ContainsFunc(want, func(p int32) bool { return at[p] < ends[p] }) {
			return nil
		}
		if len(pieces) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pieces are the next ones, one a partition.
func (n *fleetNode) pieces(t *fleetTopic, want []int32, at map[int32]int64) (out []*tidemarkv1.PartitionBatches, changed <-chan struct{}, err error) {
	f := n.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range want {
		part := t.parts[p]
		if part.leader != n.id {
			return nil, nil, reasonError(connect.CodeUnavailable, "NOT_LEADER", nil)
		}
		pb := &tidemarkv1.PartitionBatches{Partition: p, HighWatermark: part.end, LogStartOffset: part.start, NextOffset: at[p]}
		for _, b := range part.batches {
			if b.NextOffset() > at[p] && len(pb.GetBatches()) < f.pieceBytes {
				pb.Batches = append(pb.Batches, b...)
				pb.NextOffset = b.NextOffset()
			}
		}
		for _, l := range part.lost {
			if l.GetFrom() <= pb.GetNextOffset() && l.GetTo() > at[p] {
				pb.Lost = append(pb.Lost, l)
				pb.NextOffset = max(pb.GetNextOffset(), l.GetTo())
			}
		}
		if pb.GetNextOffset() > at[p] {
			at[p] = pb.GetNextOffset()
			out = append(out, pb)
		}
	}
	return out, f.changed, nil
}

func (n *fleetNode) Execute(ctx context.Context, r *tidemarkv1.ExecuteRequest, st *connect.ServerStream[tidemarkv1.ExecuteResponse]) error {
	return n.execute(ctx, r, st.Send)
}

// pipes is a listener in memory.
type pipes struct {
	address string
	dialed  chan net.Conn
	once    sync.Once
	closed  chan struct{}

	mu    sync.Mutex
	conns []net.Conn
}

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.dialed <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: errors.New("nobody listens")}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.dialed:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.conns = append(p.conns, c)
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// cut breaks every connection.
func (p *pipes) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return pipeAddress(p.address) }

type pipeAddress string

func (pipeAddress) Network() string  { return "pipe" }
func (a pipeAddress) String() string { return string(a) }

// readValues polls until so many records have come since next was empty, and checks that each partition's come in order without a gap
// from 0 on.
func readValues(tb testing.TB, poll func(context.Context) (*client.Batches, error), next map[string]int64, records int) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Minute)
	defer cancel()
	for _, at := range next {
		records -= int(at)
	}
	for records > 0 {
		b, err := poll(ctx)
		if err != nil {
			tb.Fatalf("%d records are missing: %v", records, err)
		}
		records -= readPiece(tb, b, next)
	}
}

func readPiece(tb testing.TB, b *client.Batches, next map[string]int64) (records int) {
	tb.Helper()
	key := fmt.Sprintf("%s/%d", b.Topic, b.Partition)
	for r, err := range b.Records() {
		if err != nil {
			tb.Fatal(err)
		}
		if r.Offset != next[key] || string(r.Value) != fmt.Sprint(r.Offset) {
			tb.Fatalf("%s: offset %d with value %s comes where %d is due", key, r.Offset, r.Value, next[key])
		}
		next[key]++
		records++
	}
	return records
}
