package ingest

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

func (n *routeNode) ends(topic string) ([]*tidemarkv1.PartitionOffset, error) {
	answer, err := n.topics().ListOffsets(n.w.ctx, &tidemarkv1.ListOffsetsRequest{Topic: topic, Linearizable: true, At: &tidemarkv1.ListOffsetsRequest_End{End: true}})
	return answer.GetOffsets(), err
}

func TestAnyNodeKnowsTheEnds(t *testing.T) {
	inRouteWorld(t, 3, func(w *routeWorld) {
		t := w.t
		w.create("n1", "on-object", 3, nil)
		w.create("n2", "on-disk", 3, map[string]string{"durability": "disk"})
		for n := range 30 {
			via, from := w.nodes[[]string{"n1", "n2", "n3"}[n%3]], w.nodes[[]string{"n3", "n1", "n1"}[n%3]]
			for _, topic := range []string{"on-object", "on-disk"} {
				acked := via.mustSend(topic, int32(n%3), "x")
				ends, err := from.ends(topic)
				if err != nil || len(ends) != 3 || ends[n%3].GetOffset() < acked.GetBaseOffset()+1 {
					t.Fatalf("%s: acknowledged %v, the ends are %v, %v", topic, acked, ends, err)
				}
			}
		}
	})
}

func TestEndsOfTopicsOnObjectsNeedNoLeader(t *testing.T) {
	inRouteWorld(t, 2, func(w *routeWorld) {
		t := w.t
		w.create("n1", "on-object", 2, nil)
		w.create("n1", "on-disk", 2, map[string]string{"durability": "disk"})
		object, disk := w.ledBy("on-object", "n2"), w.ledBy("on-disk", "n2")
		w.nodes["n1"].mustSend("on-object", object, "x")
		w.nodes["n1"].mustSend("on-disk", disk, "x")
		w.nodes["n2"].kill()
		began := clock.System().Now()
		ends, err := w.nodes["n1"].ends("on-object")
		if err != nil || ends[object].GetOffset() != 1 || clock.System().Now().Sub(began) > time.Second {
			t.Errorf("%v, %v after %s", ends, err, clock.System().Now().Sub(began))
		}
		began = clock.System().Now()
		_, err = w.nodes["n1"].ends("on-disk")
		if reason, e := wireReason(err); reason != ReasonNotLeader || e.Metadata[metadataLeader] != "n2" {
			t.Errorf("the end that only a dead leader knows: %v", err)
		}
		if took := clock.System().Now().Sub(began); took < leaderPatience-time.Second || took > leaderPatience+time.Second {
			t.Errorf("it was waited for %s", took)
		}
		// The one that nobody can know is not made up, and the others are told.
		_, err = w.nodes["n1"].topics().ListOffsets(w.ctx, &tidemarkv1.ListOffsetsRequest{Topic: "on-disk", At: &tidemarkv1.ListOffsetsRequest_End{End: true}})
		if reason, _ := wireReason(err); reason != ReasonNotLeader {
			t.Error(err)
		}
		got, err := w.nodes["n1"].topics().GetTopic(w.ctx, &tidemarkv1.GetTopicRequest{Name: "on-disk"})
		if err != nil || got.GetPartitions()[disk].GetLeader() != "" || got.GetPartitions()[1-disk].GetLeader() != "n1" {
			t.Errorf("%v, %v", got, err)
		}
	})
}

func TestAnyNodeFindsOffsetsByTime(t *testing.T) {
	inRouteWorld(t, 3, func(w *routeWorld) {
		t := w.t
		w.create("n1", "a", 3, map[string]string{"durability": "disk"})
		for partition := range int32(3) {
			w.nodes["n1"].mustSend("a", partition, "a", "b", "c") // at 1000, 1001, 1002
		}
		for _, via := range []string{"n1", "n2", "n3"} {
			answer, err := w.nodes[via].topics().ListOffsets(w.ctx, &tidemarkv1.ListOffsetsRequest{Topic: "a", At: &tidemarkv1.ListOffsetsRequest_TimestampMs{TimestampMs: 1001}})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range answer.GetOffsets() {
				if p.GetOffset() != 1 {
					t.Errorf("through %s: %v", via, answer)
				}
			}
		}
	})
}

// A topic leaves the disk: every leader flushes, and a leader that is away is named.
func TestATopicLeavesTheDiskWithAllItsLeaders(t *testing.T) {
	inRouteWorld(t, 3, func(w *routeWorld) {
		t := w.t
		w.create("n1", "a", 3, map[string]string{"durability": "disk"})
		for partition := range int32(3) {
			w.nodes["n1"].mustSend("a", partition, "x", "y")
		}
		alter := func(durability string) error {
			_, err := w.nodes["n1"].topics().UpdateTopic(w.ctx, &tidemarkv1.UpdateTopicRequest{Name: "a", Config: map[string]string{"durability": durability}})
			return err
		}
		if err := alter("object"); err != nil {
			t.Fatal(err)
		}
		index := w.nodes["n1"].node.current.Load().follower
		topic, _ := index.Topic("a")
		if topic.OnDisk() {
			t.Error("the topic is still held by its leaders' disks")
		}
		for partition := range int32(3) {
			if end := index.End(meta.Partition{Topic: topic.ID, Partition: partition}); end != 2 {
				t.Errorf("partition %d is committed up to %d", partition, end)
			}
		}
		if err := alter("disk"); err != nil {
			t.Fatal(err)
		}
		w.nodes["n2"].kill()
		synctest.Wait()
		err := alter("object")
		if reason, e := wireReason(err); reason != ReasonUnavailable || !strings.Contains(e.Message, "node n2") {
			t.Errorf("a leader that cannot be asked: %v", err)
		}
		if topic, _ := index.Topic("a"); topic.Config.Durability != meta.DurabilityDisk {
			t.Error("the topic was changed though a leader could not be asked")
		}
	})
}

// Nobody answers for a partition but the node that the index names, at the epoch that it names.
func TestOnlyTheLeaderThatIsNamedAnswersForAPartition(t *testing.T) {
	index, topic := newFakeIndex()
	states := make([]PartitionState, topic.Partitions)
	missing := []FetchPartition{{Partition: 0}, {Partition: 1}, {Partition: 2}}
	got := []PartitionState{
		{Partition: 0, Leader: "n1", LeaderEpoch: 1, HighWatermark: 10},
		{Partition: 1, Leader: "n1", LeaderEpoch: 1, HighWatermark: 10}, // n2 leads it
		{Partition: 2, Leader: "n3", LeaderEpoch: 2, HighWatermark: 10}, // of another epoch
		{Partition: 3, Leader: "n1", LeaderEpoch: 1, HighWatermark: 10}, // nobody asked
	}
	missing = here{self: "n1", index: index}.accept(topic, states, missing, got)
	if len(missing) != 2 || missing[0].Partition != 1 || missing[1].Partition != 2 || states[0].HighWatermark != 10 || states[3].HighWatermark != 0 {
		t.Errorf("missing %v, states %v", missing, states)
	}
}
