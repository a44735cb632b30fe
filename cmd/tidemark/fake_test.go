package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tidemark-io/tidemark/client"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

// fakeServer answers for topics over HTTP, and keeps the records of its producers in memory.
type fakeServer struct {
	tidemarkv1connect.UnimplementedTopicServiceHandler
	mu       sync.Mutex
	topics   map[string]*tidemarkv1.Topic
	messages map[string][]message // by topic, in the order in which they came
	failAt   int                  // the record from which on all are refused; 0 for none
	failWith error
	cluster  *fakeCluster
	groups   *fakeGroups
	opened   []producerOptions
	consumed []consumerOptions
	closing  func(done bool) error // what ends a consumer
	asked    []*tidemarkv1.ExecuteRequest
	slow     chan struct{} // gets a value when a query begins that waits for its client to go away
	canceled chan struct{} // gets a value when it has
}

// newFakeServer returns the server and a client with its address and the server's producers and consumers.
func newFakeServer(t *testing.T) (*fakeServer, func(environ ...string) *testApp) {
	t.Helper()
	s := &fakeServer{topics: map[string]*tidemarkv1.Topic{}, messages: map[string][]message{}, slow: make(chan struct{}, 1), canceled: make(chan struct{}, 1)}
	s.cluster, s.groups = &fakeCluster{}, &fakeGroups{groups: map[string]*tidemarkv1.DescribeGroupResponse{}}
	mux := http.NewServeMux()
	mux.Handle(tidemarkv1connect.NewTopicServiceHandler(s))
	mux.Handle(tidemarkv1connect.NewQueryServiceHandler(s))
	mux.Handle(tidemarkv1connect.NewClusterServiceHandler(s.cluster))
	mux.Handle(tidemarkv1connect.NewGroupServiceHandler(s.groups))
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes 1.23e+08\n")
	})
	server := httptest.NewUnstartedServer(mux)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return s, func(environ ...string) *testApp {
		a := newTestApp(append(environ, "TIDEMARK_SERVER="+server.URL)...)
		a.newProducer, a.newConsumer = s.newProducer, s.newConsumer
		return a
	}
}

func reasonError(code connect.Code, reason, format string, args ...any) error {
	err := connect.NewError(code, fmt.Errorf(format, args...))
	if d, detailErr := connect.NewErrorDetail(&errdetails.ErrorInfo{Reason: reason, Domain: "tidemark"}); detailErr == nil {
		err.AddDetail(d)
	}
	return err
}

func (s *fakeServer) find(name string) (*tidemarkv1.Topic, error) {
	if t := s.topics[name]; t != nil {
		return t, nil
	}
	return nil, reasonError(connect.CodeNotFound, "UNKNOWN_TOPIC", "topic %q does not exist", name)
}

func (s *fakeServer) CreateTopic(_ context.Context, r *tidemarkv1.CreateTopicRequest) (*tidemarkv1.CreateTopicResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.topics[r.GetName()]; t != nil {
		if r.GetIfNotExists() {
			return &tidemarkv1.CreateTopicResponse{Topic: t}, nil
		}
		return nil, reasonError(connect.CodeAlreadyExists, "TOPIC_EXISTS", "topic %q exists", r.GetName())
	}
	t := &tidemarkv1.Topic{
		Name: r.GetName(), Id: "00112233445566778899aabbccddeeff", Partitions: r.GetPartitions(),
		Config: map[string]string{"durability": "object", "max.message.bytes": "1000"}, Created: timestamppb.New(epoch),
	}
	for k, v := range r.GetConfig() {
		if t.GetConfig()[k] == "" {
			return nil, reasonError(connect.CodeInvalidArgument, "INVALID_CONFIG", "unknown setting %q", k)
		}
		t.Config[k] = v
	}
	s.topics[t.GetName()] = t
	return &tidemarkv1.CreateTopicResponse{Topic: t, Created: true}, nil
}

func (s *fakeServer) GetTopic(_ context.Context, r *tidemarkv1.GetTopicRequest) (*tidemarkv1.GetTopicResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.find(r.GetName())
	if err != nil {
		return nil, err
	}
	resp := &tidemarkv1.GetTopicResponse{Topic: t}
	for p := range t.GetPartitions() {
		resp.Partitions = append(resp.Partitions, &tidemarkv1.PartitionState{Partition: p, Leader: "n1", LeaderEpoch: 1, HighWatermark: 3, LogEndOffset: 3})
	}
	return resp, nil
}

func (s *fakeServer) ListTopics(_ context.Context, r *tidemarkv1.ListTopicsRequest) (*tidemarkv1.ListTopicsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resp := &tidemarkv1.ListTopicsResponse{}
	for _, name := range sortedKeys(s.topics) { // one a page
		if name <= r.GetPageToken() {
			continue
		}
		if len(resp.GetTopics()) == 1 {
			resp.NextPageToken = resp.GetTopics()[0].GetName()
			break
		}
		resp.Topics = append(resp.Topics, s.topics[name])
	}
	return resp, nil
}

func (s *fakeServer) UpdateTopic(_ context.Context, r *tidemarkv1.UpdateTopicRequest) (*tidemarkv1.UpdateTopicResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.find(r.GetName())
	if err != nil {
		return nil, err
	}
	maps.Copy(t.GetConfig(), r.GetConfig())
	return &tidemarkv1.UpdateTopicResponse{Topic: t}, nil
}

func (s *fakeServer) AddPartitions(_ context.Context, r *tidemarkv1.AddPartitionsRequest) (*tidemarkv1.AddPartitionsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.find(r.GetName())
	if err != nil {
		return nil, err
	}
	t.Partitions = r.GetPartitions()
	return &tidemarkv1.AddPartitionsResponse{Topic: t}, nil
}

func (s *fakeServer) DeleteTopic(_ context.Context, r *tidemarkv1.DeleteTopicRequest) (*tidemarkv1.DeleteTopicResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.find(r.GetName()); err != nil {
		return nil, err
	}
	delete(s.topics, r.GetName())
	return &tidemarkv1.DeleteTopicResponse{}, nil
}

type fakeProducer struct {
	server *fakeServer
	topic  string
	acks   tidemarkv1.Acks
}

func (s *fakeServer) newProducer(_ context.Context, o producerOptions) (producer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = append(s.opened, o)
	return &fakeProducer{server: s, topic: o.topic, acks: o.acks}, nil
}

func (p *fakeProducer) produce(ctx context.Context, m *message, done func(acked)) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s := p.server
	s.mu.Lock()
	n := len(s.messages[p.topic]) + 1
	if s.failAt > 0 && n >= s.failAt {
		s.mu.Unlock()
		done(acked{err: s.failWith})
		return nil
	}
	kept := *m
	kept.topic, kept.partition, kept.offset = p.topic, max(m.partition, 0), int64(n-1)
	kept.key, kept.value, kept.headers = slices.Clone(m.key), slices.Clone(m.value), slices.Clone(m.headers)
	s.messages[p.topic] = append(s.messages[p.topic], kept)
	s.mu.Unlock()
	done(acked{partition: kept.partition, offset: kept.offset, reached: tidemarkv1.Reached_REACHED_OBJECT})
	return nil
}

func (p *fakeProducer) flush(ctx context.Context) error { return context.Cause(ctx) }
func (p *fakeProducer) close(context.Context) error     { return nil }

type fakeConsumer struct {
	messages []message
	untilEnd bool
	done     bool                  // what was handed over last was printed
	closing  func(done bool) error // nil: nothing
}

func (s *fakeServer) newConsumer(_ context.Context, o consumerOptions) (consumer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.consumed = append(s.consumed, o)
	if s.topics[o.topic] == nil {
		return nil, &client.Error{Code: connect.CodeNotFound, Reason: client.ReasonUnknownTopic, Message: fmt.Sprintf("topic %q does not exist", o.topic)}
	}
	c := &fakeConsumer{untilEnd: o.untilEnd, closing: s.closing}
	for _, m := range s.messages[o.topic] {
		if (len(o.partitions) == 0 || slices.Contains(o.partitions, m.partition)) && !o.end && m.offset >= o.offset && m.timestamp >= o.timestampMs {
			c.messages = append(c.messages, m)
		}
	}
	slices.SortStableFunc(c.messages, func(a, b message) int { return cmp.Compare(a.partition, b.partition) })
	return c, nil
}

func (c *fakeConsumer) poll(ctx context.Context, each func(*message) error) error {
	for i := range c.messages {
		if err := each(&c.messages[i]); err != nil {
			return err
		}
	}
	if c.untilEnd {
		return io.EOF
	}
	if len(c.messages) > 0 {
		c.messages = nil
		return nil
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func (c *fakeConsumer) printed() { c.done = true }

func (c *fakeConsumer) close() error {
	if c.closing != nil {
		return c.closing(c.done)
	}
	return nil
}

var errFake = errors.New("disk on fire")
