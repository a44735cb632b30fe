package kafka

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
)

// countedGroups are groups of any name, each like the other, of which it is counted what they cost.
type countedGroups struct {
	Groups

	view           atomic.Pointer[ingest.GroupView] // nil is a group of nobody
	groups         int                              // in a list
	views, deletes atomic.Int64
	lists          atomic.Int64
	refused        error // of commits
}

func (g *countedGroups) View(context.Context, string) (ingest.GroupView, error) {
	g.views.Add(1)
	if view := g.view.Load(); view != nil {
		return *view, nil
	}
	return ingest.GroupView{}, nil
}

func (g *countedGroups) Delete(context.Context, string) error {
	g.deletes.Add(1)
	return nil
}

func (g *countedGroups) ListHere(context.Context) ([]ingest.GroupListing, error) {
	g.lists.Add(1)
	return make([]ingest.GroupListing, g.groups), nil
}

func (g *countedGroups) Commit(_ context.Context, c ingest.GroupCommit) ([]*ingest.Error, error) {
	return make([]*ingest.Error, len(c.Offsets)), g.refused
}

func (g *countedGroups) Coordinator(string) (meta.NodeInfo, error) {
	return meta.NodeInfo{ID: "n1"}, nil
}

// looked is how many groups were looked at since it was asked before.
func (g *countedGroups) looked() int64 { return g.views.Swap(0) }

// serveGroups serves counted groups.
func serveGroups(t *testing.T, g *countedGroups) (*Server, *fakeCluster, func() *wire) {
	t.Helper()
	cluster := &fakeCluster{nodes: []meta.NodeInfo{{ID: "n1"}}}
	s, dial := fakeServer(t, "n1", cluster, func(c *Config) { c.Groups = g })
	return s, cluster, dial
}

// waits tells whether a client's next answer does not come.
func (c *wire) waits() bool {
	c.w.t.Helper()
	c.w.must(c.SetReadDeadline(clock.System().Now().Add(20 * time.Millisecond)))
	_, err := c.in.Peek(1)
	c.w.must(c.SetReadDeadline(clock.System().Now().Add(storyPatience)))
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// Who names one group over and over has it looked at once, or is refused.
func TestAGroupThatIsNamedOverAndOver(t *testing.T) {
	g := &countedGroups{}
	_, cluster, dial := serveGroups(t, g)
	topic := cluster.add("orders", 1)
	c := dial()
	names := make([]string, maxNamedGroups)
	for i := range names {
		names[i] = "readers"
	}
	describe, consumers, remove := kmsg.NewPtrDescribeGroupsRequest(), kmsg.NewPtrConsumerGroupDescribeRequest(), kmsg.NewPtrDeleteGroupsRequest()
	describe.Groups, consumers.Groups, remove.Groups = names, names, names
	if answer := askWire[*kmsg.DescribeGroupsResponse](c, 6, describe); len(answer.Groups) != 1 || g.looked() != 1 {
		t.Errorf("described %d groups", len(answer.Groups))
	}
	if answer := askWire[*kmsg.ConsumerGroupDescribeResponse](c, 1, consumers); len(answer.Groups) != 1 || g.looked() != 1 {
		t.Errorf("described %d groups", len(answer.Groups))
	}
	if answer := askWire[*kmsg.DeleteGroupsResponse](c, 2, remove); len(answer.Groups) != 1 || g.deletes.Load() != 1 {
		t.Errorf("deleted %d groups", len(answer.Groups))
	}
	fetch := fetchOf("readers", topic, 0)
	for range 5000 {
		fetch.Groups = append(fetch.Groups, fetch.Groups[0])
	}
	if answer := askWire[*kmsg.OffsetFetchResponse](c, 8, fetch); len(answer.Groups) != 1 || answer.Groups[0].ErrorCode != kerr.InvalidRequest.Code || g.looked() != 0 {
		t.Errorf("fetched %+v", answer.Groups)
	}
}

// Of very many groups some are told, and the others are to be asked for again.
func TestManyGroupsAreToldInPieces(t *testing.T) {
	g := &countedGroups{}
	_, cluster, dial := serveGroups(t, g)
	topic := cluster.add("orders", 1)
	c := dial()
	fetch, describe, remove := kmsg.NewPtrOffsetFetchRequest(), kmsg.NewPtrDescribeGroupsRequest(), kmsg.NewPtrDeleteGroupsRequest()
	for i := range maxToldGroups + 5 {
		name := fmt.Sprint("group-", i)
		fetch.Groups = append(fetch.Groups, fetchOf(name, topic, 0).Groups...)
		describe.Groups, remove.Groups = append(describe.Groups, name), append(remove.Groups, name)
	}
	told := func(i int, code int16) {
		t.Helper()
		want := int16(0)
		if i >= maxToldGroups {
			want = kerr.CoordinatorLoadInProgress.Code
		}
		if code != want {
			t.Fatalf("group %d: %v", i, kerr.ErrorForCode(code))
		}
	}
	for i, of := range askWire[*kmsg.OffsetFetchResponse](c, 8, fetch).Groups {
		told(i, of.ErrorCode)
	}
	if n := g.looked(); n < maxToldGroups || n > 2*maxToldGroups {
		t.Errorf("%d groups were looked at", n)
	}
	for i, of := range askWire[*kmsg.DescribeGroupsResponse](c, 6, describe).Groups {
		told(i, of.ErrorCode)
	}
	for i, of := range askWire[*kmsg.DeleteGroupsResponse](c, 2, remove).Groups {
		told(i, of.ErrorCode)
	}
	if n := g.deletes.Load(); n != maxToldGroups {
		t.Errorf("%d groups were deleted", n)
	}
}

// What is seen of groups waits for room like other answers, and is not held meanwhile; small groups are looked at once and wait for nothing.
func TestLargeGroupsWaitForRoom(t *testing.T) {
	g := &countedGroups{groups: 1000}
	s, cluster, dial := serveGroups(t, g)
	topic := cluster.add("orders", meta.MaxPartitions)
	full := s.making.Try(makingBytes, nil)
	if full == nil {
		t.Fatal("there is no room in an idle server")
	}
	fetch, describe := fetchOf("readers", topic), kmsg.NewPtrDescribeGroupsRequest()
	describe.Groups = []string{"readers"}
	if askWire[*kmsg.DescribeGroupsResponse](dial(), 6, describe); g.looked() != 1 {
		t.Error("a small group was looked at again")
	}
	if askWire[*kmsg.OffsetFetchResponse](dial(), 8, fetch); g.looked() != 1 {
		t.Error("a small group was looked at again")
	}
	offsets := make(meta.GroupOffsets)
	for p := range int32(1000) {
		offsets[p] = meta.GroupOffset{Offset: 7, Metadata: strings.Repeat("x", 100)}
	}
	large := ingest.GroupView{Offsets: map[meta.TopicID]meta.GroupOffsets{topic.ID: offsets}}
	large.Members = make([]group.DescribedMember, 1000)
	g.view.Store(&large)
	var every []int32
	for p := range topic.Partitions {
		every = append(every, p)
	}
	named, elect, dirs, commit := kmsg.NewPtrDescribeTopicPartitionsRequest(), kmsg.NewPtrElectLeadersRequest(), kmsg.NewPtrDescribeLogDirsRequest(), commitOf("readers", topic, 0, 1, "")
	named.ResponsePartitionLimit = 2000
	elect.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: topic.Name, Partitions: every}}
	dirs.Topics = []kmsg.DescribeLogDirsRequestTopic{{Topic: topic.Name, Partitions: every}}
	for range 1000 {
		commit.Topics[0].Partitions = append(commit.Topics[0].Partitions, commit.Topics[0].Partitions[0])
	}
	requests := []struct {
		version int16
		q       kmsg.Request
	}{{6, describe}, {8, fetch}, {5, kmsg.NewPtrListGroupsRequest()}, {0, named}, {2, elect}, {4, dirs}, {8, commit}}
	var waiting []*wire
	for _, r := range requests {
		c := dial()
		c.send(r.version, r.q)
		waiting = append(waiting, c)
	}
	for i, c := range waiting {
		if !c.waits() {
			t.Errorf("request %d of kind %d is answered without room", i, requests[i].q.Key())
		}
	}
	full.Give()
	for i, c := range waiting {
		if answer, _ := receive[kmsg.Response](c, requests[i].q); answer.Key() != requests[i].q.Key() {
			t.Errorf("request %d has the answer %+v", i, answer)
		}
	}
	if n := g.looked(); n != 4 {
		t.Errorf("two large groups were looked at %d times", n)
	}
	// Whoever lists groups next waits before it reads.
	g.lists.Store(0)
	again := s.making.Try(makingBytes, nil)
	if again == nil {
		t.Fatal("answers that were sent still hold room")
	}
	c := dial()
	c.send(5, kmsg.NewPtrListGroupsRequest())
	if !c.waits() || g.lists.Load() != 0 {
		t.Errorf("groups were listed %d times without room", g.lists.Load())
	}
	again.Give()
	if answer, _ := receive[*kmsg.ListGroupsResponse](c, kmsg.NewPtrListGroupsRequest()); answer == nil || g.lists.Load() != 1 {
		t.Errorf("groups were listed %d times", g.lists.Load())
	}
}

// A member of KIP-848's protocol does not know what a rebalance is: when another node coordinates its group it is told that it is no member any more.
func TestCommitsOfSubscribersWhoseCoordinatorMoved(t *testing.T) {
	g := &countedGroups{refused: ingest.Errorf(ingest.ReasonRebalanceInProgress, "the group rebalances")}
	_, cluster, dial := serveGroups(t, g)
	topic := cluster.add("orders", 1)
	c := dial()
	for id, want := range map[string]*kerr.Error{
		"kgo-0123456789abcdef0123456789abcdef": kerr.RebalanceInProgress, // a classic member joins again under its id
		"AbCdEfGhIjKlMnOpQrStUv":               kerr.UnknownMemberID,
	} {
		q := commitOf("readers", topic, 0, 1, "")
		q.MemberID, q.Generation = id, 3
		answer := askWire[*kmsg.OffsetCommitResponse](c, 9, q)
		if code := answer.Topics[0].Partitions[0].ErrorCode; code != want.Code {
			t.Errorf("member %s: %v", id, kerr.ErrorForCode(code))
		}
	}
}
