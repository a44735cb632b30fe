package tail

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
	"github.com/tidemark-io/tidemark/record"
)

// node answers Consume with what is in a fake log, where topics are known by id.
type node struct {
	tidemarkv1connect.UnimplementedConsumeServiceHandler
	tidemarkv1connect.UnimplementedTopicServiceHandler

	log    *fakeLog
	mu     sync.Mutex
	got    []*tidemarkv1.ConsumeRequest
	starts map[int32]int64 // where partitions begin; at 0 when they are not named
	away   bool            // streams end at once
}

// ListOffsets tells where partitions begin.
func (n *node) ListOffsets(_ context.Context, r *tidemarkv1.ListOffsetsRequest) (*tidemarkv1.ListOffsetsResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := &tidemarkv1.ListOffsetsResponse{}
	for _, p := range r.GetPartitions() {
		out.Offsets = append(out.Offsets, &tidemarkv1.PartitionOffset{Partition: p, Offset: n.starts[p]})
	}
	if !r.GetStart() {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("not the start"))
	}
	return out, nil
}

func startNode(t *testing.T, log *fakeLog, change func(*client.Config)) (*node, *client.Client) {
	t.Helper()
	n := &node{log: log, starts: map[int32]int64{}}
	mux := http.NewServeMux()
	mux.Handle(tidemarkv1connect.NewConsumeServiceHandler(n))
	mux.Handle(tidemarkv1connect.NewTopicServiceHandler(n))
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: mux, Protocols: &protocols, ReadHeaderTimeout: time.Minute}
	var served sync.WaitGroup
	served.Go(func() { _ = h.Serve(l) })
	config := client.Config{Server: "http://" + l.Addr().String()}
	if change != nil {
		change(&config)
	}
	c, err := client.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		_ = h.Close()
		served.Wait()
	})
	return n, c
}

func (n *node) Consume(ctx context.Context, r *tidemarkv1.ConsumeRequest, out *connect.ServerStream[tidemarkv1.ConsumeResponse]) error {
	n.mu.Lock()
	n.got = append(n.got, r)
	away := n.away
	n.mu.Unlock()
	if away {
		return connect.NewError(connect.CodeUnavailable, errors.New("the node is away"))
	}
	n.log.mu.Lock()
	f := n.log.topics[r.GetTopic()]
	n.log.mu.Unlock()
	if f == nil || f.ID != r.GetTopicId() {
		err := connect.NewError(connect.CodeNotFound, errors.New("there is no such topic"))
		if d, derr := connect.NewErrorDetail(&errdetails.ErrorInfo{Reason: client.ReasonUnknownTopic, Domain: "tidemark.io"}); derr == nil {
			err.AddDetail(d)
		}
		return err
	}
	from := r.GetOffsets().GetOffsets()
	var ranges []*tidemarkv1.ConsumeRange
	at := map[int32]int64{}
	for _, p := range r.GetPartitions() {
		at[p] = from[p]
		ranges = append(ranges, &tidemarkv1.ConsumeRange{Partition: p, From: from[p]})
	}
	if err := out.Send(&tidemarkv1.ConsumeResponse{Ranges: ranges}); err != nil {
		return err
	}
	reader := &fakeReader{log: n.log, topic: f.Topic, at: at}
	for {
		n.mu.Lock()
		away := n.away
		n.mu.Unlock()
		if away {
			return connect.NewError(connect.CodeUnavailable, errors.New("the node goes away"))
		}
		reader.log.mu.Lock()
		piece, raw := reader.nextRaw(f)
		more := f.more
		reader.log.mu.Unlock()
		if piece {
			if err := out.Send(&tidemarkv1.ConsumeResponse{Batches: raw}); err != nil {
				return err
			}
			continue
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *fakeReader) nextRaw(f *fakeTopic) (bool, *tidemarkv1.PartitionBatches) {
	for n, at := range r.at {
		for _, p := range f.pieces[n] {
			if p.next > at {
				r.at[n] = p.next
				out := &tidemarkv1.PartitionBatches{Partition: n, NextOffset: p.next, HighWatermark: p.next}
				for _, b := range p.batches {
					out.Batches = append(out.Batches, b...)
				}
				return true, out
			}
		}
	}
	return false, nil
}

// writeAltered appends a batch of one value that was changed.
func (l *fakeLog) writeAltered(name string, partition int32, value string, change func(record.Batch)) {
	build := record.NewBuilder(record.None)
	if err := build.Append(record.Record{Value: []byte(value)}); err != nil {
		panic(err)
	}
	b, err := build.Build(-1, -1, -1)
	if err != nil {
		panic(err)
	}
	change(b)
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], castagnoli))
	l.change(name, func(f *fakeTopic) {
		at := f.ends[partition]
		b.Stamp(at, 0)
		f.ends[partition] = at + 1
		f.pieces[partition] = append(f.pieces[partition], fakePiece{from: at, next: at + 1, batches: []record.Batch{b}})
	})
}

// TestConsumers: a tail follows a topic, known by its id, through a client; control batches give no rows, growth goes on where the tail
// is, damage and a topic that is gone are told in the client's words.
func TestConsumers(t *testing.T) {
	log := newFakeLog()
	n, c := startNode(t, log, nil)
	w := newWorld(t, func(config *Config) { config.Log = Consumers{Client: c} })
	w.log = log
	log.create("orders", 1)
	log.write("orders", 0, orders(0, 100)...)
	s := w.snapshot("orders")
	w.check(s, "orders")
	s.Release()

	log.writeAltered("orders", 0, "a marker", func(b record.Batch) { b[22] |= 0x20 })
	log.write("orders", 1, orders(0, 10)...)
	s = w.snapshot("orders")
	if s.Rows() != 110 || s.Position()[0] != 101 || s.Position()[1] != 10 {
		t.Errorf("%d rows at %v", s.Rows(), s.Position())
	}
	s.Release()
	n.mu.Lock()
	if first := n.got[0]; !first.GetStart() || first.GetTopicId() != "id-orders" || len(first.GetPartitions()) != 1 {
		t.Errorf("asked for %v", first)
	}
	if last := n.got[len(n.got)-1].GetOffsets().GetOffsets(); last[0] < 100 || len(last) != 2 {
		t.Errorf("asked for %v", last)
	}
	n.mu.Unlock()

	log.writeAltered("orders", 1, "x", func(b record.Batch) { b[record.HeaderSize] = 0x7f })
	_, err := w.store.Snapshot(t.Context(), log.topic("orders"), log.ends("orders"), nil)
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Reason != client.ReasonCorruptData {
		t.Errorf("%v", err)
	}
	other := log.topic("orders")
	other.ID = "id-of-another"
	_, err = w.store.Snapshot(t.Context(), other, map[int32]int64{0: 1}, nil)
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Reason != client.ReasonUnknownTopic {
		t.Errorf("%v", err)
	}
}

// TestConsumersBegin: a partition that is read from its beginning begins where its log does, also beside others that are read from further on.
func TestConsumersBegin(t *testing.T) {
	log := newFakeLog()
	n, c := startNode(t, log, nil)
	n.starts[1] = 7
	log.create("orders", 2)
	log.write("orders", 0, orders(0, 10)...)
	log.skip("orders", 1, 7)
	log.write("orders", 1, orders(0, 3)...)
	r, err := Consumers{Client: c}.Open(log.topic("orders"), map[int32]int64{0: 10, 1: 0})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	piece, err := r.Poll(t.Context())
	if err != nil || piece.Partition != 1 || piece.Next != 10 {
		t.Errorf("%+v: %v", piece, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if asked := n.got[0].GetOffsets().GetOffsets(); asked[0] != 10 || asked[1] != 7 || len(n.got[0].GetPartitions()) != 2 {
		t.Errorf("asked for %v", n.got[0])
	}
}

// hasty is a clock on which nothing takes long.
type hasty struct {
	mu     sync.Mutex
	passed time.Duration
}

func (h *hasty) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Unix(0, 0).Add(h.passed)
}

func (h *hasty) NewTimer(d time.Duration) clock.Timer {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.passed += d
	return clock.System().NewTimer(0)
}

// TestConsumersTellTrouble: a server that went away is told within seconds, and is come back to.
func TestConsumersTellTrouble(t *testing.T) {
	log := newFakeLog()
	time := &hasty{}
	n, c := startNode(t, log, func(config *client.Config) { config.Clock, config.DisableDirect = time, true })
	log.create("orders", 1)
	log.write("orders", 0, order(0))
	r, err := Consumers{Client: c}.Open(log.topic("orders"), map[int32]int64{0: 0})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	away := func(is bool) {
		n.mu.Lock()
		n.away = is
		n.mu.Unlock()
		log.change("orders", func(*fakeTopic) {})
	}
	before := time.Now()
	away(true)
	if _, err = r.Poll(t.Context()); !retryable(err) {
		t.Errorf("%v", err)
	}
	if took := time.Now().Sub(before); took > 6*knownAfter {
		t.Errorf("told after %v", took)
	}
	away(false)
	log.write("orders", 0, order(1))
	for err != nil {
		var piece Piece
		if piece, err = r.Poll(t.Context()); err == nil && piece.Next != 2 {
			t.Errorf("%+v", piece)
		} else if err != nil && !retryable(err) {
			t.Fatal(err)
		}
	}
}
