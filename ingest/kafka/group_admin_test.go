package kafka

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
)

// Each broker lists the groups that it coordinates, used or not, and each group is listed once.
func TestEveryBrokerListsItsGroups(t *testing.T) {
	w := newWorld(t, 3)
	topic := w.create("orders", 3)
	client := w.newClient()
	var names []string
	for i := range 12 {
		name := fmt.Sprintf("group-%02d", i)
		names = append(names, name)
		ask[*kmsg.OffsetCommitResponse](w, client, w.coordinator(name), commitOf(name, topic, 0, 1, ""))
	}
	var listed []string
	for _, n := range w.nodes {
		for _, g := range ask[*kmsg.ListGroupsResponse](w, client, n, kmsg.NewPtrListGroupsRequest()).Groups {
			if w.coordinator(g.Group) != n || g.GroupState != "Empty" || g.GroupType != classicGroup {
				t.Errorf("node %s lists %+v", n.id, g)
			}
			listed = append(listed, g.Group)
		}
	}
	slices.Sort(listed)
	if !slices.Equal(listed, names) {
		t.Errorf("listed: %v", listed)
	}
}

// A list can be narrowed to states and types.
func TestListingGroupsOfAState(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("orders", 3)
	s := w.newShares()
	s.member("a", "busy", "orders", kgo.Balancers(kgo.RangeBalancer()))
	s.even(3, "a")
	c := w.dial(w.nodes[0])
	askWire[*kmsg.OffsetCommitResponse](c, 8, commitOf("idle", topic, 0, 1, ""))
	list := func(states, types []string) (out []string) {
		q := kmsg.NewPtrListGroupsRequest()
		q.StatesFilter, q.TypesFilter = states, types
		for _, g := range askWire[*kmsg.ListGroupsResponse](c, 5, q).Groups {
			out = append(out, g.Group+":"+g.ProtocolType+":"+g.GroupState)
		}
		return out
	}
	// The member may have been told its share before, and be about to join again.
	w.eventually("a stable group", func() bool { return slices.Contains(list(nil, nil), "busy:consumer:Stable") })
	for _, tt := range []struct {
		states, types []string
		want          string
	}{
		{nil, nil, "[busy:consumer:Stable idle::Empty]"},
		{[]string{"stable"}, nil, "[busy:consumer:Stable]"},
		{[]string{"Empty", "Dead"}, []string{"classic"}, "[idle::Empty]"},
		{nil, []string{"consumer"}, "[]"},
	} {
		if got := fmt.Sprint(list(tt.states, tt.types)); got != tt.want {
			t.Errorf("states %v, types %v: %s, want %s", tt.states, tt.types, got, tt.want)
		}
	}
}

// listedGroups are groups that a node lists.
type listedGroups struct {
	Groups

	listed []ingest.GroupListing
}

func (g *listedGroups) ListHere(context.Context) ([]ingest.GroupListing, error) { return g.listed, nil }

// Of a group that its node is about to take over nobody says that it is empty.
func TestListingAGroupThatIsBeingClaimed(t *testing.T) {
	g := &listedGroups{listed: []ingest.GroupListing{{Name: "claimed"}, {Name: "idle", Known: true}}}
	c := serveFake(t, "n1", &fakeCluster{}, func(c *Config) { c.Groups = g })
	groups := askWire[*kmsg.ListGroupsResponse](c, 5, kmsg.NewPtrListGroupsRequest()).Groups
	if len(groups) != 2 || groups[0].GroupState != "Unknown" || groups[1].GroupState != "Empty" {
		t.Errorf("%+v", groups)
	}
}

// Tools see members with what they read; of a group that is not there they are told so in the way of their version.
func TestDescribingGroups(t *testing.T) {
	w := newWorld(t, 1)
	w.create("orders", 3)
	s := w.newShares()
	s.member("a", "readers", "orders", kgo.Balancers(kgo.RangeBalancer()), kgo.InstanceID("one"))
	s.even(3, "a")
	c := w.dial(w.nodes[0])
	for version := range int16(7) {
		q := kmsg.NewPtrDescribeGroupsRequest()
		q.Groups = []string{"readers", "nobody"}
		groups := askWire[*kmsg.DescribeGroupsResponse](c, version, q).Groups
		g := groups[0]
		if g.State != "Stable" || g.ProtocolType != "consumer" || g.Protocol != "range" || len(g.Members) != 1 {
			t.Fatalf("version %d: %+v", version, g)
		}
		m := g.Members[0]
		var assigned kmsg.ConsumerMemberAssignment
		w.must(assigned.ReadFrom(m.MemberAssignment))
		if m.ClientID != "a" || m.ClientHost != "/127.0.0.1" || fmt.Sprint(assigned.Topics[0].Partitions) != "[0 1 2]" || version >= 4 && *m.InstanceID != "one" {
			t.Errorf("version %d: the member is %+v", version, m)
		}
		want := int16(0)
		if version >= 6 {
			want = kerr.GroupIDNotFound.Code
		}
		if nobody := groups[1]; nobody.State != "Dead" || nobody.ErrorCode != want {
			t.Errorf("version %d: of a group that is not there: %+v", version, nobody)
		}
	}
}

// A group goes when it has no members, and its offsets with it.
func TestDeletingGroups(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("orders", 3)
	s := w.newShares()
	s.member("a", "busy", "orders", kgo.Balancers(kgo.RangeBalancer()))
	s.even(3, "a")
	c := w.dial(w.nodes[0])
	askWire[*kmsg.OffsetCommitResponse](c, 8, commitOf("idle", topic, 0, 1, ""))
	q := kmsg.NewPtrDeleteGroupsRequest()
	q.Groups = []string{"busy", "idle", "nobody", ""}
	want := []*kerr.Error{kerr.NonEmptyGroup, nil, kerr.GroupIDNotFound, kerr.InvalidGroupID}
	for i, g := range askWire[*kmsg.DeleteGroupsResponse](c, 3, q).Groups {
		if got := kerr.TypedErrorForCode(g.ErrorCode); got != want[i] {
			t.Errorf("group %q: %v, want %v", g.Group, got, want[i])
		}
	}
	if got := fetched(askWire[*kmsg.OffsetFetchResponse](c, 8, fetchOf("idle", topic))); got != "" {
		t.Errorf("offsets that stayed: %q", got)
	}
}

// Offsets can be deleted one by one, but not of a topic that the group reads.
func TestDeletingOffsets(t *testing.T) {
	w := newWorld(t, 1)
	orders, visits := w.create("orders", 3), w.create("visits", 3)
	c := w.dial(w.nodes[0])
	commit := func(name string, topic meta.Topic) {
		t.Helper()
		for p := range int32(3) {
			askWire[*kmsg.OffsetCommitResponse](c, 8, commitOf(name, topic, p, int64(10+p), ""))
		}
	}
	remove := func(name string) string {
		q := kmsg.NewPtrOffsetDeleteRequest()
		q.Group = name
		for _, topic := range []string{"orders", "visits", "nothing"} {
			q.Topics = append(q.Topics, kmsg.OffsetDeleteRequestTopic{Topic: topic, Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 1}, {Partition: 7}}})
		}
		answer := askWire[*kmsg.OffsetDeleteResponse](c, 0, q)
		out := fmt.Sprint(answer.ErrorCode)
		for _, t := range answer.Topics {
			out += fmt.Sprint(" ", t.Topic, ":", t.Partitions[0].ErrorCode, ",", t.Partitions[1].ErrorCode)
		}
		return out
	}
	commit("readers", orders)
	commit("readers", visits)
	commit("idle", orders)
	s := w.newShares()
	s.member("a", "readers", "orders", kgo.Balancers(kgo.RangeBalancer()), kgo.DisableAutoCommit())
	s.even(3, "a")
	if got := remove("readers"); got != "0 orders:86,3 visits:0,3 nothing:3,3" {
		t.Errorf("of a group that reads orders: %s", got)
	}
	if got := fetched(askWire[*kmsg.OffsetFetchResponse](c, 8, fetchOf("readers", meta.Topic{}))); got != "0=10: 1=11: 2=12: 0=10: 2=12:" {
		t.Errorf("it keeps %q", got)
	}
	if got := remove("idle"); got != "0 orders:0,3 visits:0,3 nothing:3,3" {
		t.Errorf("of a group without members: %s", got)
	}
	if got := fetched(askWire[*kmsg.OffsetFetchResponse](c, 8, fetchOf("idle", meta.Topic{}))); got != "0=10: 2=12:" {
		t.Errorf("it keeps %q", got)
	}
	if got := remove("nobody"); got != fmt.Sprint(kerr.GroupIDNotFound.Code) {
		t.Errorf("of a group that is not there: %s", got)
	}
	// What was deleted is gone from the store too, and the group goes on writing.
	old := w.nodes[0]
	commit("idle", visits)
	view, err := old.groups.View(w.ctx, "idle")
	w.must(err)
	if len(view.Offsets[orders.ID]) != 2 || len(view.Offsets[visits.ID]) != 3 {
		t.Errorf("the group keeps %v", view.Offsets)
	}
}

// Deletions and commits of one group take turns: neither undoes the other.
func TestDeletingOffsetsWhileOthersCommit(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("orders", 2)
	const commits = 300
	var others sync.WaitGroup
	for range 3 {
		committer := w.dial(w.nodes[0])
		others.Go(func() {
			for i := range int64(commits) {
				q := commitOf("idle", topic, 0, i, "")
				committer.send(8, q)
				if answer, _ := receive[*kmsg.OffsetCommitResponse](committer, q); answer.Topics[0].Partitions[0].ErrorCode != 0 {
					t.Errorf("commit %d: %v", i, kerr.ErrorForCode(answer.Topics[0].Partitions[0].ErrorCode))
				}
			}
		})
	}
	c := w.dial(w.nodes[0])
	for i := range int64(100) {
		askWire[*kmsg.OffsetCommitResponse](c, 8, commitOf("idle", topic, 1, i, ""))
		q := kmsg.NewPtrOffsetDeleteRequest()
		q.Group = "idle"
		q.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: "orders", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 1}}}}
		if answer := askWire[*kmsg.OffsetDeleteResponse](c, 0, q); answer.ErrorCode != 0 || answer.Topics[0].Partitions[0].ErrorCode != 0 {
			t.Fatalf("deletion %d: %+v", i, answer)
		}
		if got := fetched(askWire[*kmsg.OffsetFetchResponse](c, 8, fetchOf("idle", topic, 1))); got != "1=-1:" {
			t.Fatalf("after deletion %d: %q", i, got)
		}
	}
	others.Wait()
	if got, want := fetched(askWire[*kmsg.OffsetFetchResponse](c, 8, fetchOf("idle", topic))), fmt.Sprintf("0=%d:", commits-1); got != want {
		t.Errorf("in the end: %q, want %q", got, want)
	}
}
