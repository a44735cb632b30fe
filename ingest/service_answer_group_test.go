package ingest

import (
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/clock"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

// TestJoinWithoutRoomLeavesNoGhost: a join that is done is told, also when there is no room for its answer: refused, it would leave a member behind
// whose id nobody knows.
func TestJoinWithoutRoomLeavesNoGhost(t *testing.T) {
	w := newServiceWorld(t, "a")
	w.topic("wide", 5000)
	room := newSendRoom(1<<20, clock.System())
	client := tidemarkv1connect.NewGroupServiceClient(w.http, w.guardedGroups(newIntake(receivingBytes), room))
	taken := room.try(1<<20, func() {})
	defer taken.give()
	joined, err := client.Join(t.Context(), &tidemarkv1.JoinRequest{Group: "g", Topics: []string{"wide"}})
	if err != nil {
		t.Fatalf("without room: %v", err)
	}
	view, err := w.nodes["a"].groups.View(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	if len(view.Members) != 1 || view.Members[0].ID != joined.GetMemberId() {
		t.Errorf("the group has %+v, and the client was told %+v", view.Members, joined.GetMemberId())
	}
}

// TestCommasOfMetadataAreNoElements: commas within metadata are no elements.
func TestCommasOfMetadataAreNoElements(t *testing.T) {
	w := newServiceWorld(t, "a")
	client := tidemarkv1connect.NewGroupServiceClient(w.http, w.guardedGroups(newIntake(receivingBytes), newSendRoom(sendBytes, clock.System())), connect.WithProtoJSON())
	r := &tidemarkv1.CommitRequest{Member: &tidemarkv1.Membership{Group: "g", Generation: -1}}
	for _, topic := range []string{"t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9"} {
		w.topic(topic, 50)
		for p := range int32(50) {
			r.Offsets = append(r.Offsets, &tidemarkv1.OffsetCommit{Topic: topic, Partition: p, Offset: 1, LeaderEpoch: -1, Metadata: strings.Repeat("12345678,", 400)})
		}
	}
	out, err := client.Commit(t.Context(), r)
	if err != nil || len(out.GetErrors()) > 0 {
		t.Errorf("500 offsets with 3,600 bytes of metadata each: %v, %v", out.GetErrors(), err)
	}
}
