package kafka

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/ingest/room"
)

// TestBuffers: memory has the size that was asked for and little more, and what is given back is given out again.
func TestBuffers(t *testing.T) {
	var b buffers
	for _, size := range []int{0, 1, leastBuffer - 1, leastBuffer, leastBuffer + 1, mostBuffer - 70_000, mostBuffer, mostBuffer + 1} {
		p := b.get(size)
		if len(p) != size || cap(p) > size+size/4 {
			t.Errorf("%d bytes: %d of %d", size, len(p), cap(p))
		}
		b.put(p)
	}
	again := 0
	for range 100 { // the runtime may drop any of them
		p := b.get(leastBuffer + 5)
		p[0] = 7
		b.put(p)
		q := b.get(leastBuffer + 1)
		if len(q) == leastBuffer+1 && q[0] == 7 {
			again++
		}
		q[0] = 0
		b.put(q)
	}
	if b.lent.Load() != 0 {
		t.Errorf("%d bytes are still lent", b.lent.Load())
	}
	if again == 0 {
		t.Error("nothing is used again")
	}
}

// roundsLog reads something in a first round, and finds no room for the second.
type roundsLog struct {
	Log
	lent    chan struct{}
	refused atomic.Bool
}

func (l *roundsLog) FetchParts(_ context.Context, r ingest.FetchPartsRequest) ([]ingest.PartFetched, error) {
	if !r.Reserve(1 << 10) {
		panic("there is room for that")
	}
	r.Buffer(1 << 20)
	l.lent <- struct{}{}
	if !r.Reserve(2 << 20) {
		l.refused.Store(true)
		return nil, ingest.ErrNoRoom
	}
	return make([]ingest.PartFetched, len(r.Parts)), nil
}

// TestAFetchThatWaitsForRoomHoldsNoMemory: what it read before it had to wait is given back.
func TestAFetchThatWaitsForRoomHoldsNoMemory(t *testing.T) {
	cluster, log := &fakeCluster{leader: "n1"}, &roundsLog{lent: make(chan struct{}, 10)}
	cluster.add("orders", 1)
	s, dial := fakeServer(t, "n1", cluster, func(c *Config) { c.Log = func() (Log, error) { return log, nil } })
	s.change(func() { s.send = room.New(4<<20, time.Minute, clock.System()) })
	others := s.send.Try(3<<20, nil)
	c := dial()
	q := asking(topicOf("orders"), 0)
	q.SessionEpoch = -1
	c.send(11, q)
	<-log.lent
	until(t, "memory", func() bool { return log.refused.Load() && s.buffers.lent.Load() == 0 })
	others.Give()
	<-log.lent
	until(t, "answer", func() bool { return s.buffers.lent.Load() == 0 })
}
