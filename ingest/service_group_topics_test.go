package ingest

import (
	"net"
	"testing"

	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// TestStreamIgnoresAnswersToNothing has a client say that it gave up what nobody asked for: its commits go on, and a revocation that
// comes later waits for its own answer.
func TestStreamIgnoresAnswersToNothing(t *testing.T) {
	w := newServiceWorld(t, "a")
	w.topic("orders", 2)
	c := w.consume("a", ofGroup("g", ""), false)
	c.start(t, true)
	c.until("its partitions", func() bool { return len(c.has) == 2 })
	for generation := range int32(40) {
		c.send(&tidemarkv1.GroupServiceConsumeRequest{Event: &tidemarkv1.GroupServiceConsumeRequest_Revoked{Revoked: &tidemarkv1.GroupRevoked{Generation: generation % 4}}})
	}
	c.commit(7)
	c.until("a commit", func() bool { errs, ok := c.answered(7); return ok && len(errs) == 0 })
	d := w.consume("a", ofGroup("g", ""), false)
	d.start(t, true)
	d.until("its share", func() bool { return len(d.has) == 1 })
	c.until("the rest", func() bool { return len(c.has) == 1 })
}

// TestStreamCommitsWhatItRead names the topic in a stream's commits, so that they cannot land on another one of the same name.
func TestStreamCommitsWhatItRead(t *testing.T) {
	id, err := meta.NewTopicID(testRandom("topics"))
	if err != nil {
		t.Fatal(err)
	}
	at := group.TopicPartition{Topic: "orders"}
	p := &memberPartition{at: at, topic: id}
	st := &groupStream{join: ofGroup("g", ""), partitions: map[group.TopicPartition]*memberPartition{at: p}}
	_, _, mine, refused := st.split([]*tidemarkv1.OffsetCommit{{Topic: "orders"}, {Topic: "orders", Partition: 1}, {Topic: "orders", TopicId: "of the client"}},
		[]*memberPartition{p, nil, p})
	if len(mine) != 2 || mine[0].GetTopicId() != id.String() || mine[1].GetTopicId() != "of the client" || len(refused) != 1 {
		t.Errorf("mine %v, refused %v", mine, refused)
	}
}

// TestCommitNamesItsTopic sends commits with ids over the wire.
func TestCommitNamesItsTopic(t *testing.T) {
	w := newServiceWorld(t, "a", "b")
	topic := w.topic("orders", 1)
	other, err := meta.NewTopicID(testRandom("topics"))
	if err != nil {
		t.Fatal(err)
	}
	name := w.ownedBy("a")
	commit := func(id string) (*tidemarkv1.CommitResponse, error) {
		return w.client("b").Commit(t.Context(), &tidemarkv1.CommitRequest{
			Member: &tidemarkv1.Membership{Group: name, Generation: -1}, Offsets: []*tidemarkv1.OffsetCommit{{Topic: "orders", TopicId: id, Offset: 5}},
		})
	}
	if out, err := commit(other.String()); err != nil || len(out.GetErrors()) != 1 || Reason(out.GetErrors()[0].GetReason()) != ReasonUnknownTopic {
		t.Errorf("another topic's: %v, %v", out, err)
	}
	if _, err := commit("no id"); remoteReason(t, err) != ReasonInvalidRequest {
		t.Errorf("no id: %v", err)
	}
	for _, id := range []string{topic.ID.String(), ""} {
		if out, err := commit(id); err != nil || len(out.GetErrors()) != 0 {
			t.Errorf("id %q: %v, %v", id, out, err)
		}
	}
}

// TestForwardedJoinNamesItsHost joins at a node that forwards: the coordinator knows where the member is, not where the other node is.
func TestForwardedJoinNamesItsHost(t *testing.T) {
	w := newServiceWorld(t, "a", "b")
	w.topic("orders", 1)
	name := w.ownedBy("a")
	if _, err := w.client("b").Join(t.Context(), ofGroup(name, "")); err != nil {
		t.Fatal(err)
	}
	c := w.consume("b", ofGroup(name, ""), false)
	c.start(t, true)
	for _, node := range []string{"a", "b"} {
		out, err := w.client(node).DescribeGroup(t.Context(), &tidemarkv1.DescribeGroupRequest{Group: name})
		if err != nil || len(out.GetMembers()) == 0 {
			t.Fatal(out, err)
		}
		for _, m := range out.GetMembers() {
			if host, _, err := net.SplitHostPort(m.GetHost()); err != nil || host != "127.0.0.1" {
				t.Errorf("node %s says that the member is at %q", node, m.GetHost())
			}
		}
	}
}
