package kafka

import (
	"net"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest/room"
)

// wide is a produce to many partitions, whose answer takes more than a little while it is waited for.
func wide(t *testing.T, partitions int, timeoutMillis int32) *kmsg.ProduceRequest {
	t.Helper()
	q, batch := produceOf(topicOf("orders"), -1), plain(t, "x")
	for n := range int32(partitions) {
		p := kmsg.NewProduceRequestTopicPartition()
		p.Partition, p.Records = n, batch
		q.Topics[0].Partitions = append(q.Topics[0].Partitions, p)
	}
	q.TimeoutMillis = timeoutMillis
	return q
}

// While the object store is away clients come, produce and go: what is kept for their answers is not kept for nobody.
func TestProducersThatAreGoneHoldNothing(t *testing.T) {
	const most, partitions, requests = 1_000_000, 400, 5
	for name, timeouts := range map[string]func(n int) int32{
		"at once":                  func(int) int32 { return 60_000 },
		"when they are told a bit": func(n int) int32 { return 50 + 20*int32(n) },
	} {
		t.Run(name, func(t *testing.T) {
			s, log, dial := stuckServer(t, partitions)
			s.change(func() { s.holding = room.New(most, sendPatience, clock.System()) })
			c := dial()
			for n := range requests {
				c.send(3, wide(t, partitions, timeouts(n)))
			}
			until(t, "produces under way", func() bool { return log.given.Load() == partitions*requests })
			if timeouts(0) > 1000 {
				_ = c.Conn.(*net.TCPConn).SetLinger(0) // the server hears of it at once
			}
			_ = c.Close()
			until(t, "end of the connection", func() bool { return s.open.Load() == 0 })
			untilFree(t, s.holding, most)
			untilFree(t, s.receive, receiveBytes)
		})
	}
}

// Where there is no room for its answer a produce is refused at once, with nothing appended, and does not wait with all that it has brought.
func TestAProduceWithoutRoomForItsAnswer(t *testing.T) {
	s, log, dial := stuckServer(t, 400)
	all := s.holding.Try(holdingBytes, nil)
	for n, p := range sendProduce(dial(), 9, wide(t, 400, 60_000)) {
		if p.ErrorCode != kerr.NotEnoughReplicas.Code || p.ErrorMessage == nil {
			t.Fatalf("partition %d: %+v", n, p)
		}
	}
	silent := dial()
	q := wide(t, 400, 60_000)
	q.Acks = 0
	silent.send(9, q)
	if !silent.hungUp() {
		t.Error("a client that waits for no answer does not learn that something is wrong")
	}
	if n := log.given.Load(); n != 0 {
		t.Errorf("%d batches were given to the log", n)
	}
	untilFree(t, s.receive, receiveBytes)
	all.Give()
}

// A producer of thousands of partitions has several requests under way.
func TestWideProducesAreUnderWayTogether(t *testing.T) {
	const partitions, requests = 4000, 4
	s, log, dial := stuckServer(t, partitions)
	c := dial()
	for range requests {
		c.send(9, wide(t, partitions, 60_000))
	}
	until(t, "produces under way", func() bool { return log.given.Load() == partitions*requests })
	if n := s.only(t).backlog.counted.held; n < partitions*requests*produceBytes {
		t.Errorf("%d bytes are counted", n)
	}
}
