package client_test

import (
	"errors"
	"io"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

func consumer(tb testing.TB, c *client.Client, topic string, cfg client.ConsumerConfig) *client.Consumer {
	tb.Helper()
	cons, err := c.NewConsumer(topic, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(cons.Close)
	return cons
}

// Every partition is read from its leader, and goes on at the next one when leadership moves, in order, once, without a gap.
func TestConsumerFollowsLeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 3)
		f.create("t", 6)
		f.fill("t", 200)
		c := f.client(client.Config{})
		cons := consumer(t, c, "t", client.ConsumerConfig{})
		next := map[string]int64{}
		readValues(t, cons.Poll, next, 500)
		f.lead("t", 0, "n2")
		f.lead("t", 1, "n3")
		readValues(t, cons.Poll, next, 900)
		f.nodes["n1"].stop()
		for i := range 6 {
			f.lead("t", i, []string{"n2", "n3"}[i%2])
		}
		readValues(t, cons.Poll, next, 1200)
		f.fill("t", 50)
		readValues(t, cons.Poll, next, 1500)
		synctest.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		// At the end one stream to each leader is open, and nobody reads from another.
		for _, id := range []string{"n2", "n3"} {
			last := f.nodes[id].requests[len(f.nodes[id].requests)-1]
			if len(last.GetPartitions()) != 3 {
				t.Errorf("the last stream of %s reads %v", id, last.GetPartitions())
			}
		}
	})
}

// Where a stream breaks or a node stops, the partitions go on; nothing comes twice.
func TestConsumerSurvivesCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		f.create("t", 4)
		f.fill("t", 300)
		cons := consumer(t, f.client(client.Config{}), "t", client.ConsumerConfig{UntilEnd: true})
		next := map[string]int64{}
		for i := range 11 {
			readValues(t, cons.Poll, next, 100*(i+1))
			for _, n := range f.nodes {
				n.pipes.cut()
			}
		}
		f.fill("t", 50) // behind the end
		readValues(t, cons.Poll, next, 1200)
		if b, err := cons.Poll(t.Context()); !errors.Is(err, io.EOF) {
			t.Fatal(b, err)
		}
		if want := map[int32]int64{0: 300, 1: 300, 2: 300, 3: 300}; !maps.Equal(cons.Position(), want) {
			t.Error(cons.Position())
		}
	})
}

// A partition that nobody leads does not hold up the others, and is told after a while; it goes on when somebody leads it.
func TestConsumerWithoutLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		f.create("t", 8)
		f.fill("t", 10)
		cons := consumer(t, f.client(client.Config{}), "t", client.ConsumerConfig{RetryFor: 10 * time.Second})
		next := map[string]int64{}
		readValues(t, cons.Poll, next, 80)
		f.lead("t", 3, "")
		// The others go on, at once.
		begin := clock.System().Now()
		f.fill("t", 10)
		readValues(t, cons.Poll, next, 150)
		if took := clock.System().Now().Sub(begin); took > 2*time.Second {
			t.Errorf("the others waited for %v", took)
		}
		// Streams of the others are not opened over and over.
		f.mu.Lock()
		before := len(f.nodes["n1"].requests) + len(f.nodes["n2"].requests)
		f.mu.Unlock()
		var e *client.Error
		if b, err := cons.Poll(t.Context()); !errors.As(err, &e) || !e.Retryable || e.Reason != "NOT_LEADER" {
			t.Fatal(b, err)
		}
		f.mu.Lock()
		for _, id := range []string{"n1", "n2"} {
			for _, r := range f.nodes[id].requests[min(before, len(f.nodes[id].requests)):] {
				if len(r.GetPartitions()) > 1 {
					t.Errorf("a stream of %v was opened anew", r.GetPartitions())
				}
			}
		}
		f.mu.Unlock()
		f.lead("t", 3, "n1")
		readValues(t, cons.Poll, next, 160)
	})
}

// Offsets that were lost with a disk are skipped and reported; a hole that nobody declares is an error.
func TestConsumerReportsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 1)
		f.create("t", 2)
		f.fill("t", 5)
		f.with("t", 0, func(p *fleetPartition) {
			p.lost = []*tidemarkv1.OffsetRange{{From: 5, To: 1000}}
			p.end = 1000
		})
		f.with("t", 1, func(p *fleetPartition) { p.end = 1000 })
		c := f.client(client.Config{})
		cons := consumer(t, c, "t", client.ConsumerConfig{Partitions: []int32{0}})
		b, err := cons.Poll(t.Context())
		if err != nil || b.Next != 1000 || !slices.Equal(b.Lost, []client.OffsetRange{{From: 5, To: 1000}}) {
			t.Fatal(b, err)
		}
		f.fill("t", 5)
		if b, err = cons.Poll(t.Context()); err != nil || b.From != 1000 || b.Next != 1005 || b.Lost != nil {
			t.Fatal(b, err)
		}
		// From the middle of it, nothing but the rest of it is there.
		rest := consumer(t, c, "t", client.ConsumerConfig{From: client.Offsets(map[int32]int64{0: 700})})
		if b, err = rest.Poll(t.Context()); err != nil || b.Next != 1005 || !slices.Equal(b.Lost, []client.OffsetRange{{From: 700, To: 1000}}) {
			t.Fatal(b, err)
		}
		hole := consumer(t, c, "t", client.ConsumerConfig{Partitions: []int32{1}})
		for range 2 {
			b, err = hole.Poll(t.Context())
			var e *client.Error
			if !errors.As(err, &e) || e.Reason != client.ReasonCorruptData {
				t.Fatal(b, err)
			}
		}
	})
}

// A consumer that does not poll takes one piece of each node and what fits into the windows; one that polls serves all nodes in turn.
func TestConsumerBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		f.pieceBytes = 1 << 20
		f.create("t", 2)
		f.fillBig("t", 10, 1<<20)
		cons := consumer(t, f.client(client.Config{}), "t", client.ConsumerConfig{})
		if _, err := cons.Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		idle(time.Minute)
		f.mu.Lock()
		for _, n := range f.nodes {
			if n.bytes > 7<<20 {
				t.Errorf("%s sent %d bytes to a consumer that does not poll", n.id, n.bytes)
			}
		}
		f.mu.Unlock()
		var order []int32
		for range 19 {
			b, err := cons.Poll(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			order = append(order, b.Partition)
			synctest.Wait()
		}
		for i := range len(order) - 3 {
			if order[i] == order[i+1] && order[i] == order[i+2] && order[i] == order[i+3] {
				t.Fatalf("no turns: %v", order)
			}
		}
	})
}
