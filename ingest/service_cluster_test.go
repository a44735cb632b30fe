package ingest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// follow watches the metadata through a node; every message goes to the channel.
func (n *routeNode) follow(ctx context.Context, r *tidemarkv1.WatchMetadataRequest) (<-chan *tidemarkv1.WatchMetadataResponse, <-chan error) {
	n.w.t.Helper()
	stream, err := n.cluster().WatchMetadata(ctx, r)
	if err != nil {
		n.w.t.Fatal(err)
	}
	messages, ended := make(chan *tidemarkv1.WatchMetadataResponse), make(chan error, 1)
	go func() {
		for stream.Receive() {
			messages <- stream.Msg()
		}
		ended <- stream.Err()
		close(messages)
	}()
	return messages, ended
}

// until takes messages until one satisfies.
func until(t *testing.T, messages <-chan *tidemarkv1.WatchMetadataResponse, what string, satisfies func(*tidemarkv1.WatchMetadataResponse) bool) {
	t.Helper()
	for range 100 {
		if satisfies(<-messages) {
			return
		}
	}
	t.Fatalf("never saw %s", what)
}

func nodesOf(m *tidemarkv1.WatchMetadataResponse) []string {
	var out []string
	for _, n := range m.GetNodes() {
		out = append(out, n.GetId())
	}
	return out
}

func leadersOf(m *tidemarkv1.WatchMetadataResponse, topic string) []string {
	var out []string
	for _, t := range m.GetTopics() {
		if t.GetTopic().GetName() == topic {
			for _, p := range t.GetPartitions() {
				out = append(out, p.GetNode())
			}
		}
	}
	return out
}

func TestWatchMetadataSeesEverythingThatMoves(t *testing.T) {
	inRouteWorld(t, 3, func(w *routeWorld) {
		t := w.t
		ctx, cancel := context.WithCancel(w.ctx)
		w.after(time.Second) // until n1 has heard of the others
		messages, ended := w.nodes["n1"].follow(ctx, &tidemarkv1.WatchMetadataRequest{Topics: []string{"b", "a", "a"}})
		first := <-messages
		if !first.GetNodesChanged() || fmt.Sprint(nodesOf(first)) != "[n1 n2 n3]" || fmt.Sprint(first.GetMissing()) != "[a b]" || len(first.GetTopics()) != 0 {
			t.Fatalf("the first message: %v", first)
		}
		w.create("n2", "a", 3, nil)
		w.create("n2", "unasked", 3, nil)
		until(t, messages, "topic a with its leaders", func(m *tidemarkv1.WatchMetadataResponse) bool {
			if leadersOf(m, "unasked") != nil {
				t.Errorf("nobody asked for that: %v", m)
			}
			leaders := leadersOf(m, "a")
			return len(leaders) == 3 && !slices.Contains(leaders, "")
		})
		w.nodes["n2"].kill()
		nodes, leaders := false, false
		until(t, messages, "the death of n2 and who takes over", func(m *tidemarkv1.WatchMetadataResponse) bool {
			if m.GetNodesChanged() {
				nodes = fmt.Sprint(nodesOf(m)) == "[n1 n3]"
			}
			if now := leadersOf(m, "a"); now != nil {
				leaders = !slices.Contains(now, "") && !slices.Contains(now, "n2")
			}
			return nodes && leaders
		})
		if _, err := w.nodes["n3"].topics().DeleteTopic(w.ctx, &tidemarkv1.DeleteTopicRequest{Name: "a"}); err != nil {
			t.Fatal(err)
		}
		until(t, messages, "the deletion of a", func(m *tidemarkv1.WatchMetadataResponse) bool { return fmt.Sprint(m.GetMissing()) == "[a]" })
		cancel()
		<-ended
	})
}

func TestWatchMetadataOfAllEndsWithTheNode(t *testing.T) {
	inRouteWorld(t, 1, func(w *routeWorld) {
		t := w.t
		messages, ended := w.nodes["n1"].follow(w.ctx, &tidemarkv1.WatchMetadataRequest{All: true})
		<-messages
		for n := range 40 { // nobody reads meanwhile
			w.create("n1", fmt.Sprintf("t%d", n), 1, nil)
		}
		for n := range 40 {
			w.nodes["n1"].mustSend(fmt.Sprintf("t%d", n), 0, "x")
		}
		w.after(time.Second)
		led := make(map[string]bool)
		for len(led) < 40 {
			m := <-messages
			for _, topic := range m.GetTopics() {
				if topic.GetPartitions()[0].GetNode() == "n1" {
					led[topic.GetTopic().GetName()] = true
				}
			}
		}
		w.nodes["n1"].services.Drain()
		for range messages {
			continue // what was under way
		}
		if reason, e := wireReason(<-ended); reason != ReasonShuttingDown {
			t.Error(e)
		}
	})
}

func TestClusterServiceTellsWhoIsThereAndWhatWaits(t *testing.T) {
	inRouteWorld(t, 3, func(w *routeWorld) {
		t := w.t
		w.create("n1", "on-object", 3, nil)
		w.create("n1", "on-disk", 3, map[string]string{"durability": "disk"})
		disk := w.ledBy("on-disk", "n2")
		acked := w.nodes["n1"].mustSend("on-disk", disk, "x")
		got, err := w.nodes["n3"].cluster().GetCluster(w.ctx, &tidemarkv1.GetClusterRequest{})
		if err != nil || got.GetId() == "" || len(got.GetNodes()) != 3 || got.GetController() == "" || got.GetTopics() != 2 || got.GetPartitions() != 6 || got.GetLeaderless() != 0 {
			t.Fatalf("%v, %v", got, err)
		}
		for _, n := range got.GetNodes() {
			if !n.GetAlive() || n.GetPartitions() != 2 || n.GetDiskPartitions() != 1 || n.GetHttp() == "" || n.GetAttention() != "" || n.GetController() != (n.GetId() == got.GetController()) {
				t.Errorf("%v", n)
			}
		}
		_, err = w.nodes["n1"].cluster().ForgetNode(w.ctx, &tidemarkv1.ForgetNodeRequest{Node: "n2"})
		if reason, _ := wireReason(err); reason != ReasonNodeAlive {
			t.Errorf("forget a node that is alive: %v", err)
		}
		_, err = w.nodes["n1"].cluster().DrainNode(w.ctx, &tidemarkv1.DrainNodeRequest{Node: "nobody"})
		if reason, _ := wireReason(err); reason != ReasonUnknownNode {
			t.Errorf("drain nobody: %v", err)
		}
		w.nodes["n2"].kill()
		w.after(15 * time.Second)
		got, err = w.nodes["n3"].cluster().GetCluster(w.ctx, &tidemarkv1.GetClusterRequest{})
		if err != nil || len(got.GetNodes()) != 3 || got.GetLeaderless() != 1 {
			t.Fatalf("%v, %v", got, err)
		}
		if n2 := got.GetNodes()[1]; n2.GetAlive() || n2.GetDiskPartitions() != 1 || n2.GetPartitions() != 1 || !strings.Contains(n2.GetAttention(), "forget-node n2") {
			t.Errorf("the dead node: %v", n2)
		}
		leaders, err := w.nodes["n3"].cluster().ListLeaders(w.ctx, &tidemarkv1.ListLeadersRequest{})
		if err != nil || len(leaders.GetLeaders()) != 6 {
			t.Fatalf("%v, %v", leaders, err)
		}
		for _, l := range leaders.GetLeaders() {
			waits := l.GetTopic() == "on-disk" && l.GetPartition() == disk
			if l.GetAlive() == waits || (l.GetWaitsFor() != "") != waits || (waits && !strings.Contains(l.GetWaitsFor(), "forget-node n2")) {
				t.Errorf("%v", l)
			}
		}
		dry, err := w.nodes["n3"].cluster().ForgetNode(w.ctx, &tidemarkv1.ForgetNodeRequest{Node: "n2", DryRun: true})
		if err != nil || len(dry.GetLost()) != 1 || dry.GetLost()[0].GetTopic() != "on-disk" {
			t.Fatalf("%v, %v", dry, err)
		}
		if _, err := w.nodes["n3"].cluster().ForgetNode(w.ctx, &tidemarkv1.ForgetNodeRequest{Node: "n2"}); err != nil {
			t.Fatal(err)
		}
		after := w.nodes["n1"].mustSend("on-disk", disk, "y")
		if after.GetBaseOffset() <= acked.GetBaseOffset() {
			t.Errorf("offset %d was given again: %d", acked.GetBaseOffset(), after.GetBaseOffset())
		}
		got, err = w.nodes["n3"].cluster().GetCluster(w.ctx, &tidemarkv1.GetClusterRequest{})
		if err != nil || len(got.GetNodes()) != 2 || got.GetLeaderless() != 0 {
			t.Errorf("%v, %v", got, err)
		}
	})
}

func TestDrainANode(t *testing.T) {
	inRouteWorld(t, 2, func(w *routeWorld) {
		t := w.t
		w.create("n1", "a", 4, map[string]string{"durability": "disk"})
		for partition := range int32(4) {
			w.nodes["n1"].mustSend("a", partition, "x")
		}
		answer, err := w.nodes["n1"].cluster().DrainNode(w.ctx, &tidemarkv1.DrainNodeRequest{Node: "n2"})
		if err != nil || answer.GetPartitions() == 0 {
			t.Fatalf("%v, %v", answer, err)
		}
		w.after(5 * time.Second)
		if got := w.leaders("n2", "a"); fmt.Sprint(got) != "[n1 n1 n1 n1]" {
			t.Errorf("leaders %v", got)
		}
		for partition := range int32(4) {
			w.nodes["n2"].mustSend("a", partition, "y")
		}
		_, err = w.nodes["n2"].cluster().DrainNode(w.ctx, &tidemarkv1.DrainNodeRequest{Node: "n1"})
		if reason, _ := wireReason(err); reason != ReasonLastNode {
			t.Errorf("drain the last one: %v", err)
		}
		got, err := w.nodes["n2"].cluster().GetCluster(w.ctx, &tidemarkv1.GetClusterRequest{})
		if err != nil || !got.GetNodes()[1].GetDraining() || got.GetNodes()[1].GetPartitions() != 0 {
			t.Errorf("%v, %v", got, err)
		}
		if _, err := w.nodes["n2"].cluster().DrainNode(w.ctx, &tidemarkv1.DrainNodeRequest{Node: "n2", Cancel: true}); err != nil {
			t.Error(err)
		}
	})
}
