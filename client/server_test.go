package client_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
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

// server is a node in memory: it checks batches and sequences as a leader does, and fails as it is told.
type server struct {
	tidemarkv1connect.UnimplementedTopicServiceHandler
	tidemarkv1connect.UnimplementedProduceServiceHandler
	tidemarkv1connect.UnimplementedConsumeServiceHandler

	mu      sync.Mutex
	topics  map[string]*fakeTopic
	nextID  int64
	rng     *rand.Rand
	changed chan struct{} // closed and replaced when something was appended

	// Faults, as chances of one in n for each request; 0 is never.
	cut, lose, refuse, forget int
	// hold keeps every answer back until it is closed.
	hold chan struct{}
	// reject says no to a batch for good.
	reject   func(record.Batch) *tidemarkv1.ProduceError
	appended int
}

type fakeTopic struct {
	config map[string]string
	parts  []*fakePartition
}

type fakePartition struct {
	batches   []record.Batch
	end       int64
	start     int64
	producers map[int64]*fakeProducer
}

type fakeProducer struct {
	next   int32
	ranges map[int32]int64 // first sequence → base offset
}

func (s *server) chance(n int) bool { return n > 0 && s.rng.IntN(n) == 0 }

func startServer(tb testing.TB) (*server, *client.Client) {
	tb.Helper()
	s := &server{topics: map[string]*fakeTopic{}, rng: rand.New(rand.NewPCG(1, 2)), changed: make(chan struct{})}
	mux := http.NewServeMux()
	mux.Handle(tidemarkv1connect.NewTopicServiceHandler(s))
	mux.Handle(tidemarkv1connect.NewProduceServiceHandler(s))
	mux.Handle(tidemarkv1connect.NewConsumeServiceHandler(s))
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	protocols.SetHTTP1(true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	h := &http.Server{Handler: mux, Protocols: &protocols, ReadHeaderTimeout: time.Minute, HTTP2: &http.HTTP2Config{MaxReadFrameSize: 1 << 20, MaxReceiveBufferPerConnection: 4<<20 - 1, MaxReceiveBufferPerStream: 4<<20 - 1}}
	var wg sync.WaitGroup
	wg.Go(func() { _ = h.Serve(l) })
	c, err := client.New(client.Config{Server: "http://" + l.Addr().String()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		c.Close()
		_ = h.Close()
		wg.Wait()
	})
	return s, c
}

func (s *server) create(name string, partitions int, config map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &fakeTopic{config: config}
	for range partitions {
		t.parts = append(t.parts, &fakePartition{producers: map[int64]*fakeProducer{}})
	}
	s.topics[name] = t
}

func notFound(name string) error {
	err := connect.NewError(connect.CodeNotFound, errors.New("there is no topic "+name))
	if d, derr := connect.NewErrorDetail(&errdetails.ErrorInfo{Reason: "UNKNOWN_TOPIC", Domain: "tidemark.io"}); derr == nil {
		err.AddDetail(d)
	}
	return err
}

func (s *server) GetTopic(_ context.Context, r *tidemarkv1.GetTopicRequest) (*tidemarkv1.GetTopicResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[r.GetName()]
	if t == nil {
		return nil, notFound(r.GetName())
	}
	return &tidemarkv1.GetTopicResponse{Topic: &tidemarkv1.Topic{Name: r.GetName(), Partitions: int32(len(t.parts)), Config: t.config}}, nil
}

func (s *server) ListTopics(_ context.Context, r *tidemarkv1.ListTopicsRequest) (*tidemarkv1.ListTopicsResponse, error) {
	if r.GetPageToken() == "" {
		return &tidemarkv1.ListTopicsResponse{Topics: []*tidemarkv1.Topic{{Name: "a"}}, NextPageToken: "2"}, nil
	}
	return &tidemarkv1.ListTopicsResponse{Topics: []*tidemarkv1.Topic{{Name: "b"}}}, nil
}

func (s *server) InitProducer(context.Context, *tidemarkv1.InitProducerRequest) (*tidemarkv1.InitProducerResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextID++
	return &tidemarkv1.InitProducerResponse{ProducerId: s.nextID}, nil
}

// append does what a leader does with one batch.
func (s *server) append(r *tidemarkv1.ProduceRequest) (*tidemarkv1.ProduceResponse, *tidemarkv1.ProduceError) {
	fail := func(code, reason string, retryable bool) (*tidemarkv1.ProduceResponse, *tidemarkv1.ProduceError) {
		return nil, &tidemarkv1.ProduceError{Code: code, Reason: reason, Message: reason, Retryable: retryable, RetryAfterMs: 1}
	}
	t := s.topics[r.GetTopic()]
	if t == nil {
		return fail("not_found", "UNKNOWN_TOPIC", false)
	}
	part := t.parts[r.GetPartition()]
	b, err := record.Validate(r.GetBatch(), record.Limits{})
	if err != nil {
		return fail("invalid_argument", "INVALID_RECORD", false)
	}
	if s.chance(s.refuse) {
		return fail("unavailable", "BACK_PRESSURE", true)
	}
	if s.reject != nil {
		if e := s.reject(b); e != nil {
			return nil, e
		}
	}
	answer := func(base int64, duplicate bool) (*tidemarkv1.ProduceResponse, *tidemarkv1.ProduceError) {
		return &tidemarkv1.ProduceResponse{
			Topic: r.GetTopic(), Partition: r.GetPartition(), BaseOffset: base, Records: b.Count(), Reached: tidemarkv1.Reached_REACHED_OBJECT, Duplicate: duplicate,
			Position: &tidemarkv1.Position{Topic: r.GetTopic(), Offsets: map[int32]int64{r.GetPartition(): base + int64(b.Count())}},
		}, nil
	}
	if id := b.ProducerID(); id >= 0 {
		if s.chance(s.forget) {
			delete(part.producers, id)
		}
		p := part.producers[id]
		if p == nil {
			if b.BaseSequence() != 0 {
				return fail("failed_precondition", "UNKNOWN_PRODUCER", false)
			}
			p = &fakeProducer{ranges: map[int32]int64{}}
			part.producers[id] = p
		}
		if base, ok := p.ranges[b.BaseSequence()]; ok {
			return answer(base, true)
		}
		if b.BaseSequence() != p.next {
			return fail("failed_precondition", "OUT_OF_ORDER_SEQUENCE", false)
		}
		p.ranges[p.next] = part.end
		p.next = record.AddSequence(p.next, b.Count())
	}
	b.Stamp(part.end, 1)
	part.batches = append(part.batches, b)
	base := part.end
	part.end = b.NextOffset()
	s.appended++
	close(s.changed)
	s.changed = make(chan struct{})
	return answer(base, false)
}

func (s *server) ProduceStream(ctx context.Context, st *connect.BidiStream[tidemarkv1.ProduceStreamRequest, tidemarkv1.ProduceStreamResponse]) error {
	held := map[int32][]*tidemarkv1.ProduceStreamResponse{}
	flush := func() error {
		for n, rs := range held { // partitions overtake each other; map order is as good as any
			for _, r := range rs {
				if err := st.Send(r); err != nil {
					return err
				}
			}
			delete(held, n)
		}
		return nil
	}
	count := 0
	for {
		r, err := st.Receive()
		if errors.Is(err, io.EOF) {
			return flush()
		}
		if err != nil {
			return err
		}
		s.mu.Lock()
		cut, lose, hold, faulty := s.chance(s.cut), s.chance(s.lose), s.hold, s.cut > 0
		if cut {
			s.mu.Unlock()
			return connect.NewError(connect.CodeUnavailable, errors.New("cut before append"))
		}
		ok, perr := s.append(r.GetProduce())
		s.mu.Unlock()
		if hold != nil {
			select {
			case <-hold:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if lose {
			return connect.NewError(connect.CodeUnavailable, errors.New("cut after append"))
		}
		out := &tidemarkv1.ProduceStreamResponse{Correlation: r.GetCorrelation(), Result: &tidemarkv1.ProduceStreamResponse_Produced{Produced: ok}}
		if perr != nil {
			out.Result = &tidemarkv1.ProduceStreamResponse_Error{Error: perr}
		}
		n := r.GetProduce().GetPartition()
		held[n] = append(held[n], out)
		if count++; !faulty || count%2 == 0 || len(held[n]) > 0 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
}

func (s *server) Consume(ctx context.Context, r *tidemarkv1.ConsumeRequest, st *connect.ServerStream[tidemarkv1.ConsumeResponse]) error {
	s.mu.Lock()
	t := s.topics[r.GetTopic()]
	if t == nil {
		s.mu.Unlock()
		return notFound(r.GetTopic())
	}
	want := r.GetPartitions()
	if len(want) == 0 {
		for n := range t.parts {
			want = append(want, int32(n))
		}
	}
	at, ends := map[int32]int64{}, map[int32]int64{}
	var ranges []*tidemarkv1.ConsumeRange
	for _, n := range want {
		part := t.parts[n]
		from := part.start
		switch f := r.GetFrom().(type) {
		case *tidemarkv1.ConsumeRequest_End:
			from = part.end
		case *tidemarkv1.ConsumeRequest_Offset:
			from = f.Offset
		case *tidemarkv1.ConsumeRequest_Offsets:
			from = f.Offsets.GetOffsets()[n]
		}
		if from < part.start || from > part.end {
			s.mu.Unlock()
			err := connect.NewError(connect.CodeOutOfRange, errors.New("offset out of range"))
			d, derr := connect.NewErrorDetail(&errdetails.ErrorInfo{Reason: "OFFSET_OUT_OF_RANGE", Domain: "tidemark.io", Metadata: map[string]string{"log_start_offset": "0", "high_watermark": "3"}})
			if derr != nil {
				return derr
			}
			err.AddDetail(d)
			return err
		}
		at[n], ends[n] = from, part.end
		ranges = append(ranges, &tidemarkv1.ConsumeRange{Partition: n, From: from, End: part.end})
	}
	s.mu.Unlock()
	if err := st.Send(&tidemarkv1.ConsumeResponse{Ranges: ranges}); err != nil {
		return err
	}
	for {
		s.mu.Lock()
		changed := s.changed
		var out []*tidemarkv1.PartitionBatches
		done := true
		for _, n := range want {
			part := t.parts[n]
			pb := &tidemarkv1.PartitionBatches{Partition: n, HighWatermark: part.end, NextOffset: at[n]}
			for _, b := range part.batches {
				if b.NextOffset() > at[n] && len(pb.GetBatches()) < 1<<16 {
					pb.Batches = append(pb.Batches, b...)
					pb.NextOffset = b.NextOffset()
				}
			}
			if at[n] = pb.GetNextOffset(); len(pb.GetBatches()) > 0 {
				out = append(out, pb)
			}
			done = done && at[n] >= ends[n]
		}
		cut := len(out) > 0 && s.chance(s.cut)
		s.mu.Unlock()
		for _, pb := range out {
			if err := st.Send(&tidemarkv1.ConsumeResponse{Batches: pb}); err != nil {
				return err
			}
			if cut {
				return connect.NewError(connect.CodeUnavailable, errors.New("cut"))
			}
		}
		if r.GetUntilEnd() && done {
			return nil
		}
		if len(out) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
