package ingest

import (
	"runtime"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/tidemark-io/tidemark/clock"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

// A message that is small on the wire and would be large in memory is refused before it takes any.
func TestMessagesAreCountedBeforeTheyAreDecoded(t *testing.T) {
	partitions := &tidemarkv1.CommittedRequest{Partitions: []*tidemarkv1.TopicPartitions{{Partitions: make([]int32, 4<<20-100)}}}
	stream := commitOf(&tidemarkv1.GroupCommit{Offsets: offsetsOf(800_000)})
	for name, m := range map[string]proto.Message{"numbers": partitions, "messages, deeper": stream} {
		wire, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err = binaryCodec{20_000}.Unmarshal(wire, m.ProtoReflect().New().Interface())
		runtime.ReadMemStats(&after)
		if ReasonOf(err) != ReasonTooLarge || after.TotalAlloc-before.TotalAlloc > 1<<20 {
			t.Errorf("%s: %v, after %d bytes were allocated", name, err, after.TotalAlloc-before.TotalAlloc)
		}
	}
	text := []byte(`{"offsets":[{}` + strings.Repeat(",{}", 1_000_000) + `]}`)
	if err := (jsonCodec{"json", 20_000}).Unmarshal(text, &tidemarkv1.CommitRequest{}); ReasonOf(err) != ReasonTooLarge {
		t.Errorf("JSON: %v", err)
	}
	for name, m := range map[string]proto.Message{
		"numbers":  &tidemarkv1.CommittedRequest{Partitions: []*tidemarkv1.TopicPartitions{{Topic: "orders", Partitions: make([]int32, 19_999)}}},
		"messages": &tidemarkv1.CommitRequest{Offsets: offsetsOf(20_000)},
	} {
		wire, _ := proto.Marshal(m)
		got := m.ProtoReflect().New().Interface()
		if err := (binaryCodec{20_000}).Unmarshal(wire, got); err != nil || !proto.Equal(m, got) {
			t.Errorf("as many %s as may be: %v", name, err)
		}
		wire, _ = jsonCodec{}.Marshal(m)
		got = m.ProtoReflect().New().Interface()
		if err := (jsonCodec{"json", 20_000}).Unmarshal(wire, got); err != nil || !proto.Equal(m, got) {
			t.Errorf("as many %s as may be in JSON: %v", name, err)
		}
	}
	if err := (binaryCodec{1}).Unmarshal([]byte{0xff}, &tidemarkv1.CommitRequest{}); err == nil {
		t.Error("what is malformed was decoded")
	}
}

// Every protocol counts.
func TestGroupServiceCountsOnTheWire(t *testing.T) {
	w := newServiceWorld(t, "a")
	w.topic("orders", 1)
	url := w.guardedGroups(newIntake(receivingBytes), newSendRoom(sendBytes, clock.System()))
	for name, options := range map[string][]connect.ClientOption{"connect": nil, "grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()}, "json": {connect.WithProtoJSON()}} {
		client := tidemarkv1connect.NewGroupServiceClient(w.http, url, options...)
		m := &tidemarkv1.Membership{Group: "g", Generation: -1}
		_, err := client.Commit(t.Context(), &tidemarkv1.CommitRequest{Member: m, Offsets: offsetsOf(200_000)})
		if code := connect.CodeOf(err); code != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "elements") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err = client.Commit(t.Context(), &tidemarkv1.CommitRequest{Member: m, Offsets: []*tidemarkv1.OffsetCommit{{Topic: "orders", Offset: 1, LeaderEpoch: -1}}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
