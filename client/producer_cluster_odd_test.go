package client_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/tidemark-io/tidemark/client"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/record"
)

// Somebody else has the producer's id: everything fails, clearly, and for ever.
func TestFencedProducer(t *testing.T) {
	c := startCluster(t, 1, 2, "a", "b")
	cl := c.client("a")
	p := producer(t, cl, client.ProducerConfig{Linger: -1})
	s := newStory(t, p, 2)
	s.settled(c)
	c.mu.Lock()
	c.nodes["a"].refuse = func(record.Batch) *tidemarkv1.ProduceError {
		return produceFailure("failed_precondition", "FENCED_PRODUCER", false)
	}
	c.mu.Unlock()
	for range 20 {
		s.produceMaybe(0)
	}
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var e *client.Error
	for range 2 {
		err := p.ProduceTo(t.Context(), "t", 1, record.Record{}, nil)
		if !errors.Is(err, client.ErrRefused) || !errors.As(err, &e) || e.Reason != client.ReasonFencedProducer || e.Retryable {
			t.Fatal(err)
		}
	}
	c.mu.Lock()
	ids := c.nextID
	c.mu.Unlock()
	if ids != 1 {
		t.Error("it took another id:", ids)
	}
	for v, r := range s.got {
		if r.Err != nil && !errors.Is(r.Err, client.ErrRefused) {
			t.Error(v, r.Err)
		}
	}
}

// produceMaybe is produce to a producer that may be at its end.
func (s *story) produceMaybe(partition int) {
	value := fmt.Sprintf("maybe-%d", s.next[partition])
	s.next[partition]++
	err := s.p.ProduceTo(s.tb.Context(), "t", int32(partition), record.Record{Value: []byte(value)}, func(r client.Result) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.got[value] = r
	})
	if err != nil && !errors.Is(err, client.ErrRefused) {
		s.tb.Error(err)
	}
}

// The metadata name wrong leaders, and the addresses of others cannot be reached: nodes forward, and nothing is lost.
func TestWrongMetadata(t *testing.T) {
	for name, lie := range map[string]func(*tidemarkv1.WatchMetadataResponse){
		"wrong leaders": func(r *tidemarkv1.WatchMetadataResponse) {
			for _, topic := range r.GetTopics() {
				out := &tidemarkv1.TopicMetadata{Topic: topic.GetTopic()}
				for _, p := range topic.GetPartitions() {
					out.Partitions = append(out.Partitions, &tidemarkv1.PartitionLeader{Node: map[string]string{"a": "b", "b": "c", "c": "a"}[p.GetNode()], Epoch: p.GetEpoch()})
				}
				r.Topics = []*tidemarkv1.TopicMetadata{out}
			}
		},
		"unknown nodes": func(r *tidemarkv1.WatchMetadataResponse) { r.Nodes = r.GetNodes()[:1] },
		"no leaders":    func(r *tidemarkv1.WatchMetadataResponse) { r.Topics = nil },
		"fewer partitions": func(r *tidemarkv1.WatchMetadataResponse) {
			for _, topic := range r.GetTopics() {
				r.Topics = []*tidemarkv1.TopicMetadata{{Topic: topic.GetTopic(), Partitions: topic.GetPartitions()[:1]}}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := startCluster(t, 1, 3, "a", "b", "c")
			c.mu.Lock()
			for _, n := range c.nodes {
				n.lie = lie
			}
			c.mu.Unlock()
			cl := c.client("a")
			s := newStory(t, producer(t, cl, client.ProducerConfig{Linger: -1}), 3)
			for i := range 100 {
				s.produce(i % 3)
				if i%10 == 0 {
					c.move(int32(i/10%3), []string{"a", "b", "c"}[i/30%3])
				}
			}
			s.check(c)
		})
	}
}

// The nodes advertise addresses that only they can reach: everything goes over the one that was configured.
func TestUnreachableAdvertisedAddress(t *testing.T) {
	c := startCluster(t, 1, 2, "a")
	b := c.start("b", "127.0.0.1:0", "http://127.0.0.1:1")
	c.move(0, "b")
	cl := c.client("a")
	s := newStory(t, producer(t, cl, client.ProducerConfig{Linger: -1}), 2)
	for i := range 50 {
		s.produce(i % 2)
	}
	s.check(c)
	c.mu.Lock()
	direct := b.direct
	c.mu.Unlock()
	if direct != 0 || client.Leader(cl, "t", 0) != "" || client.Leader(cl, "t", 1) != c.node("a").url() {
		t.Error(direct, client.Leader(cl, "t", 0), client.Leader(cl, "t", 1))
	}
}

// DisableDirect sends everything to the configured server and asks for no metadata.
func TestDisableDirect(t *testing.T) {
	c := startCluster(t, 1, 2, "a", "b")
	cl := newClient(t, client.Config{Server: c.node("a").url(), DisableDirect: true})
	s := newStory(t, producer(t, cl, client.ProducerConfig{Linger: -1}), 2)
	for i := range 40 {
		s.produce(i % 2)
	}
	s.check(c)
	leaders, others := c.direct()
	// A node that has not heard yet who leads is asked again.
	if leaders["a"] != 20 || leaders["b"] != 0 || others < 20 || c.node("a").watchers != 0 {
		t.Error(leaders, others, c.node("a").watchers)
	}
}

// The senders of nodes that are gone end.
func TestSendersOfGoneNodesEnd(t *testing.T) {
	c := startCluster(t, 1, 3, "a", "b", "c")
	cl := c.client("a")
	s := newStory(t, producer(t, cl, client.ProducerConfig{Linger: -1}), 3)
	s.settled(c)
	for _, id := range []string{"b", "c"} {
		c.kill(id)
	}
	for n := range int32(3) {
		c.move(n, "a")
	}
	until(t, "one sender is left", func() bool { return client.Senders(s.p) == 1 })
	for i := range 30 {
		s.produce(i % 3)
	}
	s.check(c)
}

// A topic that grows is noticed without asking.
func TestProducerSeesNewPartitions(t *testing.T) {
	c := startCluster(t, 1, 1, "a")
	cl := c.client("a")
	p := producer(t, cl, client.ProducerConfig{Linger: -1})
	s := newStory(t, p, 1)
	s.settled(c)
	c.mu.Lock()
	c.parts = append(c.parts, &truth{producers: map[int64]*fakeProducer{}})
	c.mu.Unlock()
	c.move(1, "a")
	until(t, "keys go to the second partition", func() bool {
		r, err := p.ProduceSync(t.Context(), "t", record.Record{Key: []byte("key"), Value: []byte("x")})
		return err == nil && r.Partition == client.PartitionForKey([]byte("key"), 2)
	})
}
