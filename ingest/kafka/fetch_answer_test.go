package kafka

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// Whatever is answered, in every version, is what kmsg would have written.
func TestFetchAnswerIsKafkas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		version := int16(rapid.IntRange(4, 18).Draw(t, "version"))
		ours, theirs := drawFetchAnswer(t)
		a := around{bytes: []byte("before")}
		ours.appendTo(&a, version)
		theirs.SetVersion(version)
		got, want := bytes.Join(a.buffers(), nil), theirs.AppendTo([]byte("before"))
		if !bytes.Equal(got, want) {
			t.Fatalf("version %d:\n%x, kmsg writes\n%x", version, got, want)
		}
		if a.size() != len(want) {
			t.Fatalf("its size is told to be %d, and is %d", a.size(), len(want))
		}
		if version >= 7 {
			var back kmsg.FetchResponse
			back.SetVersion(version)
			if err := back.ReadFrom(got[len("before"):]); err != nil {
				t.Fatalf("kmsg cannot read it: %v", err)
			}
		}
	})
}

// drawFetchAnswer draws an answer as we have it and as kmsg does.
func drawFetchAnswer(t *rapid.T) (*fetchAnswer, *kmsg.FetchResponse) {
	number := func(what string) int32 { return rapid.Int32().Draw(t, what) }
	ours := &fetchAnswer{code: int16(number("code")), session: number("session")}
	theirs := kmsg.NewPtrFetchResponse()
	theirs.ErrorCode, theirs.SessionID = ours.code, ours.session
	for range rapid.IntRange(0, 3).Draw(t, "topics") {
		name := rapid.StringN(0, 20, 200).Draw(t, "name")
		var id [16]byte
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		topic := fetchedTopic{fetchTopic: &fetchTopic{name: name, id: id}}
		theirTopic := kmsg.NewFetchResponseTopic()
		theirTopic.Topic, theirTopic.TopicID = name, id
		for range rapid.IntRange(0, 4).Draw(t, "partitions") {
			p := fetchedPart{
				partition: number("partition"), code: int16(number("error")), hwm: rapid.Int64().Draw(t, "hwm"), start: rapid.Int64().Draw(t, "start"),
				committed: rapid.Bool().Draw(t, "committed"), leader: -1, leaderEpoch: -1,
			}
			if rapid.Bool().Draw(t, "led") {
				p.leader, p.leaderEpoch = number("leader"), number("epoch")
			}
			theirPart := kmsg.NewFetchResponseTopicPartition()
			theirPart.Partition, theirPart.ErrorCode, theirPart.HighWatermark, theirPart.LastStableOffset = p.partition, p.code, p.hwm, p.hwm
			theirPart.LogStartOffset, theirPart.PreferredReadReplica, theirPart.RecordBatches = p.start, -1, []byte{}
			theirPart.CurrentLeader.LeaderID, theirPart.CurrentLeader.LeaderEpoch = p.leader, p.leaderEpoch
			if p.committed {
				theirPart.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{}
			}
			for range rapid.IntRange(0, 3).Draw(t, "batches") {
				b := bytes.Repeat([]byte{byte(number("byte"))}, rapid.SampledFrom([]int{0, 1, copyBelow - 1, copyBelow, 3 * copyBelow}).Draw(t, "size"))
				p.batches = append(p.batches, b)
				theirPart.RecordBatches = append(theirPart.RecordBatches, b...)
			}
			topic.parts = append(topic.parts, p)
			theirTopic.Partitions = append(theirTopic.Partitions, theirPart)
		}
		ours.topics = append(ours.topics, topic)
		theirs.Topics = append(theirs.Topics, theirTopic)
	}
	for range rapid.IntRange(0, 2).Draw(t, "brokers") {
		b := broker{id: number("node"), host: rapid.StringN(0, 20, 60).Draw(t, "host"), port: number("port"), zone: rapid.SampledFrom([]string{"", "z"}).Draw(t, "zone")}
		ours.brokers = append(ours.brokers, b)
		theirBroker := kmsg.NewFetchResponseBroker()
		theirBroker.NodeID, theirBroker.Host, theirBroker.Port, theirBroker.Rack = b.id, b.host, b.port, rack(b.zone)
		theirs.Brokers = append(theirs.Brokers, theirBroker)
	}
	return ours, theirs
}
