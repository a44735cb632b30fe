package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/client"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/record"
)

// story produces records with known values and remembers the answers.
type story struct {
	tb   testing.TB
	p    *client.Producer
	next []int // by partition

	mu   sync.Mutex
	got  map[string]client.Result
	last map[int32]int64
}

func newStory(tb testing.TB, p *client.Producer, partitions int) *story {
	tb.Helper()
	return &story{tb: tb, p: p, next: make([]int, partitions), got: map[string]client.Result{}, last: map[int32]int64{}}
}

func (s *story) produce(partition int) {
	s.tb.Helper()
	value := fmt.Sprintf("%d-%05d", partition, s.next[partition])
	s.next[partition]++
	err := s.p.ProduceTo(s.tb.Context(), "t", int32(partition), record.Record{Value: []byte(value)}, func(r client.Result) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, twice := s.got[value]; twice {
			s.tb.Error("two answers for", value)
		}
		s.got[value] = r
		if r.Err == nil && r.Offset < s.last[r.Partition] {
			s.tb.Error("callbacks out of order at", value)
		}
		s.last[r.Partition] = max(s.last[r.Partition], r.Offset)
	})
	if err != nil {
		s.tb.Fatal(err)
	}
}

func (s *story) answers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

// check flushes and compares: every record is in the log exactly once, in order, where its callback was told.
func (s *story) check(c *fakeCluster) {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(s.tb.Context(), 30*time.Second)
	defer cancel()
	if err := s.p.Flush(ctx); err != nil {
		s.tb.Fatal("flush:", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, count := range s.next {
		values := c.values(int32(n))
		if len(values) != count {
			s.tb.Errorf("partition %d has %d records, %d were produced", n, len(values), count)
		}
		for offset, v := range values {
			if want := fmt.Sprintf("%d-%05d", n, offset); v != want {
				s.tb.Fatalf("partition %d offset %d has %s, want %s", n, offset, v, want)
			}
			if r := s.got[v]; r.Err != nil || r.Offset != int64(offset) {
				s.tb.Fatalf("the callback of %s said offset %d, error %v; it is at %d", v, r.Offset, r.Err, offset)
			}
		}
	}
}

// direct counts what came to leaders and what came to others since the last call.
func (c *fakeCluster) direct() (leaders map[string]int, others int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	leaders = map[string]int{}
	for id, n := range c.nodes {
		leaders[id] = n.direct
		others += n.forwarded
		n.direct, n.forwarded = 0, 0
	}
	return leaders, others
}

// settled waits until the producer goes straight to every leader.
func (s *story) settled(c *fakeCluster) {
	s.tb.Helper()
	until(s.tb, "every batch goes to its leader", func() bool {
		c.direct()
		for n := range s.next {
			s.produce(n)
		}
		if err := s.p.Flush(s.tb.Context()); err != nil {
			s.tb.Fatal(err)
		}
		_, others := c.direct()
		return others == 0
	})
}

// A client that knows one node learns the others, and sends to each leader what is its own, over one metadata stream.
func TestProducerGoesToLeaders(t *testing.T) {
	c := startCluster(t, 1, 6, "a", "b", "c")
	cl := c.client("b")
	s := newStory(t, producer(t, cl, client.ProducerConfig{Linger: -1}), 6)
	s.settled(c)
	for range 20 {
		for n := range 6 {
			s.produce(n)
		}
	}
	s.check(c)
	if leaders, others := c.direct(); others != 0 || leaders["a"] != 40 || leaders["b"] != 40 || leaders["c"] != 40 {
		t.Error(leaders, others)
	}
	if n := client.Senders(s.p); n != 3 {
		t.Errorf("%d senders for three nodes", n)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.nodes["a"].watchers + c.nodes["b"].watchers + c.nodes["c"].watchers; n != 1 {
		t.Errorf("%d metadata streams", n)
	}
}

// Leaders change, die, return, and hang while batches are in flight: order and exactly once hold all the same.
func TestProducerSurvivesFailover(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			const partitions = 4
			c := startCluster(t, seed, partitions, "a", "b", "c")
			cl := c.client("a", "b", "c")
			s := newStory(t, producer(t, cl, client.ProducerConfig{BatchBytes: 300, Linger: time.Millisecond}), partitions)
			rng := rand.New(rand.NewPCG(seed, 3))
			ids := []string{"a", "b", "c"}
			for range 60 {
				for range rng.IntN(60) {
					s.produce(rng.IntN(partitions))
				}
				id := ids[rng.IntN(3)]
				switch rng.IntN(8) {
				case 0: // a node dies, others take over, it comes back, one of them maybe at another address
					address := c.node(id).address
					c.kill(id)
					c.takeOver(rng, id)
					if id == "c" && rng.IntN(2) == 0 {
						address = "127.0.0.1:0"
					}
					c.start(id, address, "")
				case 1: // a node hangs, others take over, it goes on without knowing
					n := c.node(id)
					n.stop()
					c.takeOver(rng, id)
					for range rng.IntN(30) {
						s.produce(rng.IntN(partitions))
					}
					pause(3 * time.Millisecond)
					n.cont()
				case 2, 3, 4:
					c.move(int32(rng.IntN(partitions)), id)
				default:
					pause(time.Millisecond)
				}
			}
			s.check(c)
		})
	}
}

// takeOver gives what a node leads to the others.
func (c *fakeCluster) takeOver(rng *rand.Rand, id string) {
	c.mu.Lock()
	var move []int32
	for n, p := range c.parts {
		if p.leader == id {
			move = append(move, int32(n))
		}
	}
	var others []string
	for _, other := range []string{"a", "b", "c"} {
		if other != id && c.nodes[other] != nil {
			others = append(others, other)
		}
	}
	c.mu.Unlock()
	for _, n := range move {
		c.move(n, others[rng.IntN(len(others))])
	}
}

// A leader hangs with a full window in flight. The metadata name another: the batches are sent there at once, long before any
// ping times out, and what the old one does when it wakes makes no doubles.
func TestStoppedLeaderIsLeft(t *testing.T) {
	c := startCluster(t, 1, 1, "a", "b")
	cl := c.client("b")
	s := newStory(t, producer(t, cl, client.ProducerConfig{Linger: -1}), 1)
	s.settled(c)
	a := c.node("a")
	a.stop()
	before := s.answers()
	for range 30 {
		s.produce(0)
	}
	began := time.Now() //nolint:forbidigo // the test is about real time
	c.move(0, "b")
	s.check(c)
	if took := time.Since(began); took > 10*time.Second { //nolint:forbidigo // the test is about real time
		t.Error("took", took)
	}
	if n := s.answers() - before; n != 30 {
		t.Error(n, "answers")
	}
	a.cont()
	for range 10 {
		s.produce(0)
	}
	c.move(0, "a")
	for range 10 {
		s.produce(0)
	}
	s.check(c)
}

// A leader hangs and nobody takes over. Pings notice it; when it goes on, so does the producer, without doubles.
func TestStoppedLeaderIsNoticed(t *testing.T) {
	c := startCluster(t, 1, 1, "a", "b")
	cl := c.client("b")
	client.SetPings(cl, 250*time.Millisecond, 250*time.Millisecond)
	s := newStory(t, producer(t, cl, client.ProducerConfig{Linger: -1}), 1)
	s.settled(c)
	c.direct()
	a := c.node("a")
	a.stop()
	s.produce(0)
	c.until("the batch is tried over another node", func() bool { return c.nodes["b"].forwarded > 0 })
	a.cont()
	s.check(c)
}

// Closing does not wait for a leader that hangs and whose stream takes no more.
func TestCloseWhileLeaderHangs(t *testing.T) {
	c := startCluster(t, 1, 1, "a", "b")
	cl := c.client("b")
	p, err := cl.NewProducer(client.ProducerConfig{Linger: -1})
	if err != nil {
		t.Fatal(err)
	}
	s := newStory(t, p, 1)
	s.settled(c)
	c.node("a").stop()
	var mu sync.Mutex
	outcomes := map[error]int{}
	for range 30 {
		if err := p.ProduceTo(t.Context(), "t", 0, record.Record{Value: make([]byte, 900_000)}, func(r client.Result) {
			mu.Lock()
			defer mu.Unlock()
			for _, o := range []error{nil, client.ErrRefused, client.ErrOutcomeUnknown} {
				if errors.Is(r.Err, o) {
					outcomes[o]++
				}
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now() //nolint:forbidigo // the test is about real time
	if err := p.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if took := time.Since(began); took > 10*time.Second { //nolint:forbidigo // the test is about real time
		t.Error("took", took)
	}
	if n := outcomes[client.ErrOutcomeUnknown]; n < 1 || n > 5 || outcomes[client.ErrRefused] != 30-n {
		t.Error(outcomes)
	}
}

// A refusal says to wait a minute. The push of the next leader cuts the wait short.
func TestPushCutsBackOff(t *testing.T) {
	c := startCluster(t, 1, 1, "a", "b")
	cl := c.client("b")
	s := newStory(t, producer(t, cl, client.ProducerConfig{Linger: -1}), 1)
	s.settled(c)
	refused := 0
	c.mu.Lock()
	c.nodes["a"].refuse = func(record.Batch) *tidemarkv1.ProduceError {
		refused++
		e := notLeader()
		e.RetryAfterMs = 60_000
		return e
	}
	c.mu.Unlock()
	for range 20 {
		s.produce(0)
	}
	c.until("the leader has refused", func() bool { return refused > 0 })
	c.move(0, "b")
	s.check(c)
}

// A leader that says no leaves no doubt, though it is retried: what then runs out of time was refused.
func TestNotLeaderIsNoDoubt(t *testing.T) {
	for _, cfg := range []client.ProducerConfig{{}, {DisableIdempotence: true}} {
		c := startCluster(t, 1, 1, "a")
		cl := c.client("a")
		cfg.Linger, cfg.DeliveryTimeout = -1, time.Second
		p := producer(t, cl, cfg)
		c.mu.Lock()
		c.nodes["a"].refuse = func(record.Batch) *tidemarkv1.ProduceError { return notLeader() }
		c.mu.Unlock()
		_, err := p.ProduceSync(t.Context(), "t", record.Record{Value: []byte("v")})
		var e *client.Error
		if !errors.Is(err, client.ErrRefused) || !errors.As(err, &e) || e.Reason != client.ReasonDeliveryTimeout {
			t.Error(err)
		}
	}
}

// Without idempotence nothing is sent twice: a batch in flight at a leader that dies or hangs is reported as unknown.
func TestNotIdempotentFailover(t *testing.T) {
	for seed := range uint64(2) {
		c := startCluster(t, seed, 2, "a", "b", "c")
		cl := c.client("a", "b", "c")
		client.SetPings(cl, 250*time.Millisecond, 250*time.Millisecond)
		s := newStory(t, producer(t, cl, client.ProducerConfig{DisableIdempotence: true, Linger: -1}), 2)
		rng := rand.New(rand.NewPCG(seed, 5))
		for i := range 30 {
			for range 10 {
				s.produce(rng.IntN(2))
			}
			id := []string{"a", "b", "c"}[rng.IntN(3)]
			if i%5 == 0 {
				c.kill(id)
				c.takeOver(rng, id)
				c.start(id, "127.0.0.1:0", "")
			} else {
				c.move(int32(rng.IntN(2)), id)
			}
			pause(time.Millisecond)
		}
		if err := s.p.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		seen := map[string]int{}
		for n := range 2 {
			for _, v := range c.values(int32(n)) {
				seen[v]++
			}
		}
		for v, r := range s.got {
			if n := seen[v]; r.Err == nil && n != 1 || n > 1 || errors.Is(r.Err, client.ErrRefused) && n > 0 {
				t.Errorf("%s is %d times in the log, the producer said %v", v, n, r.Err)
			}
		}
		if len(s.got) != 300 {
			t.Error(len(s.got), "answers")
		}
	}
}
