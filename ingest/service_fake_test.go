package ingest_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
)

// fakeNode is a log in memory behind the services: right about offsets, ignorant of everything else.
type fakeNode struct {
	mu      sync.Mutex
	topics  map[string]*fakeTopic
	changed chan struct{}
	nextPID int64

	// hold, when set, sees every produce before its answer and may keep the answer for later.
	hold func(r ingest.ProduceRequest, answer func())
	// fail, when set, is every call's error.
	fail error
	// taken counts bytes of batches that were handed in.
	taken int
	// endsAsked counts calls of Ends.
	endsAsked int
}

type fakeTopic struct {
	meta.Topic
	partitions []*fakePartition
}

type fakePartition struct {
	batches []record.Batch
	end     int64
}

func newFakeNode() *fakeNode {
	return &fakeNode{topics: map[string]*fakeTopic{}, changed: make(chan struct{})}
}

func (n *fakeNode) wake() {
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *fakeNode) CreateTopic(_ context.Context, name string, partitions int32, config map[string]string, ifNotExists bool) (meta.Topic, bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fail != nil {
		return meta.Topic{}, false, n.fail
	}
	if t := n.topics[name]; t != nil {
		if ifNotExists {
			return t.Topic, false, nil
		}
		return meta.Topic{}, false, ingest.Errorf(ingest.ReasonTopicExists, "topic %q exists already", name)
	}
	parsed, err := meta.ParseTopicConfig(config)
	if err != nil {
		return meta.Topic{}, false, ingest.Errorf(ingest.ReasonInvalidConfig, "%w", err)
	}
	if err := meta.ValidatePartitions(partitions); err != nil {
		return meta.Topic{}, false, ingest.Errorf(ingest.ReasonInvalidTopic, "%w", err)
	}
	t := &fakeTopic{Topic: meta.Topic{Name: name, Partitions: partitions, Config: parsed, Created: time.UnixMilli(1_700_000_000_000)}}
	t.ID[0], t.ID[15] = byte(len(n.topics)+1), byte(n.nextPID)
	n.nextPID++
	for range partitions {
		t.partitions = append(t.partitions, &fakePartition{})
	}
	n.topics[name] = t
	n.wake()
	return t.Topic, true, nil
}

func (n *fakeNode) topic(name string) (*fakeTopic, error) {
	if n.fail != nil {
		return nil, n.fail
	}
	if t := n.topics[name]; t != nil {
		return t, nil
	}
	return nil, ingest.Errorf(ingest.ReasonUnknownTopic, "topic %q does not exist", name)
}

func (n *fakeNode) topicWith(name string, id meta.TopicID) (*fakeTopic, error) {
	t, err := n.topic(name)
	if err == nil && id != (meta.TopicID{}) && t.ID != id {
		return nil, ingest.Errorf(ingest.ReasonUnknownTopic, "topic %q is another", name)
	}
	return t, err
}

func (n *fakeNode) Topic(_ context.Context, name string) (meta.Topic, []ingest.PartitionState, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t, err := n.topic(name)
	if err != nil {
		return meta.Topic{}, nil, err
	}
	var states []ingest.PartitionState
	for i, p := range t.partitions {
		states = append(states, ingest.PartitionState{
			Partition: int32(i), Leader: "fake", LeaderEpoch: 1, HighWatermark: p.end, CommittedOffset: p.end, LogEndOffset: p.end,
		})
	}
	slices.Reverse(states) // the services promise order, not the node
	return t.Topic, states, nil
}

func (n *fakeNode) FindTopic(ctx context.Context, name string) (meta.Topic, error) {
	t, _, err := n.Topic(ctx, name)
	return t, err
}

func (n *fakeNode) Ends(ctx context.Context, name string) (meta.Topic, []ingest.PartitionState, error) {
	n.mu.Lock()
	n.endsAsked++
	n.mu.Unlock()
	return n.Topic(ctx, name)
}

func (n *fakeNode) Topics(context.Context) ([]meta.Topic, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fail != nil {
		return nil, n.fail
	}
	var out []meta.Topic
	for _, t := range n.topics {
		out = append(out, t.Topic)
	}
	return out, nil
}

func (n *fakeNode) UpdateTopic(_ context.Context, name string, config map[string]string) (meta.Topic, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t, err := n.topic(name)
	if err != nil {
		return meta.Topic{}, err
	}
	if t.Config, err = t.Config.With(config); err != nil {
		return meta.Topic{}, ingest.Errorf(ingest.ReasonInvalidConfig, "%w", err)
	}
	return t.Topic, nil
}

func (n *fakeNode) AddPartitions(_ context.Context, name string, total int32) (meta.Topic, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t, err := n.topic(name)
	if err != nil {
		return meta.Topic{}, err
	}
	if total <= t.Partitions {
		return meta.Topic{}, ingest.Errorf(ingest.ReasonInvalidTopic, "topic %q has %d partitions already", name, t.Partitions)
	}
	for t.Partitions < total {
		t.Partitions++
		t.partitions = append(t.partitions, &fakePartition{})
	}
	return t.Topic, nil
}

func (n *fakeNode) DeleteTopic(_ context.Context, name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := n.topic(name); err != nil {
		return err
	}
	delete(n.topics, name)
	n.wake()
	return nil
}

func (n *fakeNode) OffsetForTime(_ context.Context, topic string, partition int32, timestampMs int64) (int64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t, err := n.topic(topic)
	if err != nil {
		return 0, err
	}
	p := t.partitions[partition]
	for _, b := range p.batches {
		if b.MaxTimestamp() >= timestampMs {
			return b.BaseOffset(), nil
		}
	}
	return p.end, nil
}

func (n *fakeNode) ProduceAsync(_ context.Context, r ingest.ProduceRequest, done func(ingest.ProduceResult, error)) {
	n.mu.Lock()
	result, err := n.append(r)
	hold := n.hold
	n.mu.Unlock()
	answer := func() { done(result, err) }
	if hold != nil {
		hold(r, answer)
		return
	}
	answer()
}

func (n *fakeNode) append(r ingest.ProduceRequest) (ingest.ProduceResult, error) {
	t, err := n.topicWith(r.Topic, r.TopicID)
	if err != nil {
		return ingest.ProduceResult{}, err
	}
	if int(r.Partition) >= len(t.partitions) {
		return ingest.ProduceResult{}, ingest.Errorf(ingest.ReasonUnknownPartition, "topic %q has no partition %d", r.Topic, r.Partition)
	}
	b, err := record.Validate(r.Batch, record.DefaultLimits())
	if err != nil {
		reason := ingest.ReasonInvalidRecord
		if errors.Is(err, record.ErrCorrupt) {
			reason = ingest.ReasonCorruptBatch
		}
		return ingest.ProduceResult{}, ingest.Errorf(reason, "%w", err)
	}
	n.taken += len(b)
	p := t.partitions[r.Partition]
	b.Stamp(p.end, 1)
	base := p.end
	p.end = b.NextOffset()
	p.batches = append(p.batches, b)
	n.wake()
	out := ingest.ProduceResult{
		Topic: r.Topic, Partition: r.Partition, BaseOffset: base, Records: b.Count(), Reached: ingest.ReachedObject, NextOffset: p.end,
	}
	switch r.Acks {
	case ingest.AcksAll:
	case ingest.AcksLeader:
		out.Reached = ingest.ReachedBuffered
	case ingest.AcksNone:
		out.BaseOffset, out.NextOffset, out.Reached = -1, -1, ingest.ReachedNone
	}
	return out, nil
}

func (n *fakeNode) InitProducer(context.Context) (id int64, epoch int16, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nextPID++
	return n.nextPID, 0, n.fail
}

func (n *fakeNode) Fetch(ctx context.Context, r ingest.FetchRequest) ([]ingest.PartitionBatches, error) {
	wait := time.NewTimer(r.MaxWait) //nolint:forbidigo // the fake is real about waiting
	defer wait.Stop()
	for {
		n.mu.Lock()
		out, bytes, err := n.read(r)
		changed := n.changed
		n.mu.Unlock()
		if err != nil || bytes >= r.MinBytes {
			return out, err
		}
		select {
		case <-changed:
		case <-wait.C:
			return out, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (n *fakeNode) read(r ingest.FetchRequest) (out []ingest.PartitionBatches, bytes int, err error) {
	t, err := n.topicWith(r.Topic, r.TopicID)
	if err != nil {
		return nil, 0, err
	}
	for _, want := range r.Partitions {
		if int(want.Partition) >= len(t.partitions) {
			return nil, 0, ingest.Errorf(ingest.ReasonUnknownPartition, "no partition %d", want.Partition)
		}
		p := t.partitions[want.Partition]
		if want.Offset > p.end {
			return nil, 0, ingest.Errorf(ingest.ReasonOffsetOutOfRange, "offset %d", want.Offset)
		}
		piece := ingest.PartitionBatches{Partition: want.Partition, NextOffset: want.Offset, HighWatermark: p.end}
		for _, b := range p.batches {
			if b.NextOffset() <= want.Offset || (bytes > 0 && bytes+len(b) > r.MaxBytes) {
				continue
			}
			piece.Batches = append(piece.Batches, b)
			piece.NextOffset = b.NextOffset()
			bytes += len(b)
		}
		out = append(out, piece)
	}
	return out, bytes, nil
}

// values decodes every record of a partition.
func (n *fakeNode) records(t *testing.T, topic string, partition int) []record.Record {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []record.Record
	for _, b := range n.topics[topic].partitions[partition].batches {
		for r, err := range b.Records(record.DefaultLimits()) {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, r)
		}
	}
	return out
}

// serviceServer serves the services over loopback, as the real process does.
type serviceServer struct {
	*ingest.Services
	node *fakeNode
	url  string
	http *http.Client // HTTP/2 without TLS
	log  *strings.Builder
}

func startServices(t *testing.T) *serviceServer {
	t.Helper()
	node := newFakeNode()
	log := &strings.Builder{}
	services, err := ingest.NewServices(ingest.ServicesConfig{
		Node: node, Clock: clock.System(), Logger: slog.New(slog.NewTextHandler(&lockedWriter{w: log}, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	both := new(http.Protocols)
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	// As in the real process a connection's window is larger than a stream's: a stream that is not received does not hold up the others.
	server := &http.Server{Handler: services, Protocols: both, ReadHeaderTimeout: time.Minute, HTTP2: &http.HTTP2Config{
		MaxReceiveBufferPerConnection: 4<<20 - 1, MaxReceiveBufferPerStream: 2 << 20,
	}}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	two := new(http.Protocols)
	two.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: two, DisableCompression: true}
	t.Cleanup(func() {
		services.Close()
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Errorf("shut down: %v", err)
			_ = server.Close()
		}
		<-served
	})
	return &serviceServer{Services: services, node: node, url: "http://" + l.Addr().String(), http: &http.Client{Transport: transport}, log: log}
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// makeBatch encodes values as one batch.
func makeBatch(t *testing.T, values ...string) record.Batch {
	t.Helper()
	b := record.NewBuilder(record.None)
	for i, v := range values {
		if err := b.Append(record.Record{Timestamp: int64(1000 + i), Value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
	}
	batch, err := b.Build(-1, -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	return batch
}
