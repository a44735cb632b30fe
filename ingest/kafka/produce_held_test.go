package kafka

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest/room"
	"github.com/tidemark-io/tidemark/tier/tierfake"
)

// While the object store is away, what waits for it holds no room that others need to get their requests in.
func TestProducesThatWaitHoldNoFrames(t *testing.T) {
	w := newWorld(t, 1)
	object, onDisk := w.create("object", 1), w.create("disk", 1, "durability", "disk")
	n := w.nodes[0]
	const most = 1 << 20
	n.server.receive = room.New(most, receivePatience, clock.System())
	release := w.store.Hang(tierfake.Put)
	defer release()
	value := strings.Repeat("v", 250_000)
	for range 6 {
		c := w.dial(n)
		q := produceOf(object, -1, plain(t, value))
		q.TimeoutMillis = 100
		if p := sendProduce(c, 9, q); p[0].ErrorCode != kerr.RequestTimedOut.Code {
			t.Fatalf("%+v", p)
		}
	}
	for _, p := range sendProduce(w.dial(n), 9, produceOf(onDisk, -1, plain(t, strings.Repeat("d", 5000)))) {
		wantKafka(t, "a disk topic while the object store is away", p.ErrorCode, nil)
	}
	share := n.server.receive.Try(most, nil)
	if share == nil {
		t.Fatal("the frames of produces that wait for the object store hold room")
	}
	share.Give()
}

// What a produce keeps for its answer counts against its connection.
func TestProduceAnswersAreCounted(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("object", 1)
	release := w.store.Hang(tierfake.Put)
	n := w.nodes[0]
	c := w.dial(n)
	q := produceOf(topic, -1, plain(t, "x"))
	for i := range int32(400) { // that are not there
		p := kmsg.NewProduceRequestTopicPartition()
		p.Partition, p.Records = i+1, plain(t, "x")
		q.Topics[0].Partitions = append(q.Topics[0].Partitions, p)
	}
	c.send(9, q)
	w.untilTaken(n.server.holding, holdingBytes)
	release()
	a, _ := receive[*kmsg.ProduceResponse](c, q)
	for _, p := range a.Topics[0].Partitions {
		want := kerr.UnknownTopicOrPartition
		if p.Partition == 0 {
			want = nil
		}
		wantKafka(t, "a partition", p.ErrorCode, want)
	}
}
