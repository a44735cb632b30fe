package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/ingest"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

func TestProduceStream(t *testing.T) {
	for _, name := range []string{"connect", "grpc"} {
		t.Run(name, func(t *testing.T) {
			s := startServices(t)
			s.create(t, "a", 4, nil)
			stream, err := s.produce(protocols[name]...).ProduceStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			const requests = 500
			sent := make(chan error, 1)
			go func() {
				for i := range uint64(requests) {
					r := &tidemarkv1.ProduceRequest{Topic: "a", Partition: int32(i % 4), Batch: makeBatch(t, fmt.Sprint(i))}
					if i%50 == 13 {
						r = &tidemarkv1.ProduceRequest{Topic: "a", Partition: int32(i % 4)} // refused by its form
					}
					if err := stream.Send(&tidemarkv1.ProduceStreamRequest{Correlation: i, Produce: r}); err != nil {
						sent <- err
						return
					}
				}
				sent <- stream.CloseRequest()
			}()
			last := map[uint64]uint64{}
			var produced, refused int
			for {
				m, err := stream.Receive()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				partition := m.GetCorrelation() % 4
				if before, seen := last[partition]; seen && before >= m.GetCorrelation() {
					t.Fatalf("partition %d: response %d after %d", partition, m.GetCorrelation(), before)
				}
				last[partition] = m.GetCorrelation()
				switch r := m.GetResult().(type) {
				case *tidemarkv1.ProduceStreamResponse_Produced:
					produced++
				case *tidemarkv1.ProduceStreamResponse_Error:
					refused++
					if r.Error.GetReason() != string(ingest.ReasonInvalidRequest) || r.Error.GetCode() != "invalid_argument" || r.Error.GetRetryable() {
						t.Errorf("error %v", r.Error)
					}
				}
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			if produced != 490 || refused != 10 {
				t.Errorf("%d produced, %d refused", produced, refused)
			}
			_ = stream.CloseResponse()
		})
	}
}

// Whatever the order in which a node answers, responses of one partition leave in the order of its requests.
func TestProduceStreamKeepsTheOrderOfAPartition(t *testing.T) {
	s := startServices(t)
	s.create(t, "a", 3, nil)
	var mu sync.Mutex
	var answers []func()
	const requests = 60
	all := make(chan struct{})
	s.node.mu.Lock()
	s.node.hold = func(_ ingest.ProduceRequest, answer func()) {
		mu.Lock()
		defer mu.Unlock()
		if answers = append(answers, answer); len(answers) == requests {
			close(all)
		}
	}
	s.node.mu.Unlock()
	stream, err := s.produce().ProduceStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(requests) {
		if err := stream.Send(&tidemarkv1.ProduceStreamRequest{Correlation: i, Produce: &tidemarkv1.ProduceRequest{Topic: "a", Partition: int32(i % 3), Batch: makeBatch(t, "x")}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseRequest(); err != nil {
		t.Fatal(err)
	}
	<-all
	rand.New(rand.NewPCG(1, 2)).Shuffle(requests, func(i, j int) { answers[i], answers[j] = answers[j], answers[i] })
	for _, answer := range answers {
		answer()
	}
	next := map[uint64]uint64{0: 0, 1: 1, 2: 2}
	for range requests {
		m, err := stream.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if p := m.GetCorrelation() % 3; next[p] != m.GetCorrelation() {
			t.Fatalf("partition %d: response %d, want %d", p, m.GetCorrelation(), next[p])
		}
		next[m.GetCorrelation()%3] += 3
	}
	if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("after all responses: %v", err)
	}
	_ = stream.CloseResponse()
}

// A client that sends and never reads is stopped by flow control once the window is full: what the node was handed stays
// bounded however much is sent, and others are served meanwhile.
func TestProduceStreamOfAClientThatNeverReads(t *testing.T) {
	s := startServices(t)
	s.create(t, "a", 1, nil)
	s.node.mu.Lock()
	s.node.hold = func(ingest.ProduceRequest, func()) {} // never answered, as with responses that cannot be written
	s.node.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := s.produce().ProduceStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const each, total = 900 << 10, 100
	progress := make(chan struct{}, total)
	go func() {
		for i := range uint64(total) {
			if stream.Send(&tidemarkv1.ProduceStreamRequest{Correlation: i, Produce: &tidemarkv1.ProduceRequest{Topic: "a", Batch: makeBatch(t, strings.Repeat("x", each))}}) != nil {
				break
			}
			progress <- struct{}{}
		}
		close(progress)
	}()
	for range ingest.StreamBytes/each - 2 {
		<-progress
	}
	// Another client is not held up.
	if _, err := s.topics(connect.WithGRPC()).GetTopic(t.Context(), &tidemarkv1.GetTopicRequest{Name: "a"}); err != nil {
		t.Error(err)
	}
	s.node.mu.Lock()
	taken := s.node.taken
	s.node.mu.Unlock()
	if taken > ingest.StreamBytes {
		t.Errorf("the node was handed %d bytes, more than the window of %d", taken, ingest.StreamBytes)
	}
	// What was taken is never answered here: the client's going away ends the stream.
	cancel()
	for range progress {
		continue // until the sender has ended
	}
}
