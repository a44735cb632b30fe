package kafka

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A pattern is one of whole names; topics that come and match are read from then on.
func TestSubscribingToAPattern(t *testing.T) {
	quick(t)
	w := newWorld(t, 1)
	first := w.create("orders-1", 2)
	w.create("all-orders-1", 2)
	n := w.nodes[0]
	a := w.consumer(n, "readers", "a", first)
	a.q.SubscribedTopicNames, a.q.SubscribedTopicRegex = nil, new("orders-[0-9]+")
	a.until(2)
	second := w.create("orders-2", 3)
	a.unchanged()
	w.eventually("the new topic is assigned", func() bool {
		answer := askWire[*kmsg.ConsumerGroupHeartbeatResponse](a.wire, 1, &a.q)
		w.must(kerr.ErrorForCode(answer.ErrorCode))
		a.q.MemberEpoch = answer.MemberEpoch
		return answer.Assignment != nil && slices.ContainsFunc(answer.Assignment.Topics, func(t kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic) bool {
			return t.TopicID == second.ID && len(t.Partitions) == 3
		})
	})
	for _, bad := range []string{"orders-[", "((a{100}){100}){100}", string(slices.Repeat([]byte("a"), 2000)), "(?:a{900}b){10}c{900}d{900}"} {
		b := w.consumer(n, "readers", "b", first)
		b.q.SubscribedTopicRegex = &bad
		if err := b.beat(); !errors.Is(err, kerr.InvalidRegularExpression) {
			t.Errorf("pattern %.20q: %v", bad, err)
		}
	}
}

// What contradicts itself, or the group, is refused as Kafka refuses it, and leaves nothing behind.
func TestHeartbeatsThatAreRefused(t *testing.T) {
	quick(t)
	w := newWorld(t, 1)
	topic := w.create("orders", 2)
	n := w.nodes[0]
	stays := w.consumer(n, "readers", "stays", topic)
	stays.until(2)
	classic := w.dial(n)
	classic.join("workers", "range", "", 10_000)
	for _, tt := range []struct {
		what   string
		change func(q *kmsg.ConsumerGroupHeartbeatRequest)
		want   *kerr.Error
	}{
		{"no id", func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.MemberID = "" }, kerr.InvalidRequest},
		{"no group", func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.Group = "" }, kerr.InvalidGroupID},
		{"an epoch that is none", func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.MemberEpoch = -3 }, kerr.InvalidRequest},
		{"no rebalance timeout", func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.RebalanceTimeoutMillis = -1 }, kerr.InvalidRequest},
		{"no topics", func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.SubscribedTopicNames = nil }, kerr.InvalidRequest},
		{"owns something", func(q *kmsg.ConsumerGroupHeartbeatRequest) {
			q.Topics = append(q.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: topic.ID, Partitions: []int32{0}})
		}, kerr.InvalidRequest},
		{"an assignor that is not there", func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.ServerAssignor = new("best") }, kerr.UnsupportedAssignor},
		{"another assignor than the group's", func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.ServerAssignor = new("range") }, kerr.UnsupportedAssignor},
		{"a group whose members assign themselves", func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.Group = "workers" }, kerr.InconsistentGroupProtocol},
		{"nobody", func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.MemberEpoch = 7 }, kerr.UnknownMemberID},
		{"nobody leaves", func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.MemberEpoch = epochLeaves }, kerr.UnknownMemberID},
	} {
		c := w.consumer(n, "readers", "refused", topic)
		tt.change(&c.q)
		if err := c.beat(); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.what, err, tt.want)
		}
	}
	s := n.server.subscribers
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.members) != 1 || len(s.byMachine) != 1 {
		t.Errorf("%d members are kept, %d of the machine", len(s.members), len(s.byMachine))
	}
}

// A client of the first version, which has no id, is given one.
func TestASubscriberIsGivenAnID(t *testing.T) {
	quick(t)
	w := newWorld(t, 1)
	topic := w.create("orders", 2)
	c := w.consumer(w.nodes[0], "readers", "", topic)
	q := c.q
	answer := askWire[*kmsg.ConsumerGroupHeartbeatResponse](c.wire, 0, &q)
	if answer.ErrorCode != 0 || *answer.MemberID == "" || answer.MemberEpoch < 1 {
		t.Fatalf("joined %+v", answer)
	}
	q.MemberID, q.MemberEpoch = *answer.MemberID, answer.MemberEpoch
	if again := askWire[*kmsg.ConsumerGroupHeartbeatResponse](c.wire, 0, &q); again.ErrorCode != 0 || *again.MemberID != *answer.MemberID {
		t.Errorf("then %+v", again)
	}
}

// Tools see subscribed members in either way of describing, under the ids of their clients.
func TestSubscribersAreDescribed(t *testing.T) {
	quick(t)
	w := newWorld(t, 1)
	topic := w.create("orders", 2)
	n := w.nodes[0]
	c := w.consumer(n, "readers", "a", topic)
	c.until(2)
	tool := w.dial(n)
	askWire[*kmsg.OffsetCommitResponse](tool, 8, commitOf("idle", topic, 0, 1, ""))
	for version := range int16(2) {
		q := kmsg.NewPtrConsumerGroupDescribeRequest()
		q.Groups = []string{"readers", "idle", "nobody"}
		groups := askWire[*kmsg.ConsumerGroupDescribeResponse](tool, version, q).Groups
		g := groups[0]
		if g.ErrorCode != 0 || g.State != "Stable" || g.AssignorName != assignorUniform || len(g.Members) != 1 {
			t.Fatalf("described %+v", g)
		}
		m := g.Members[0]
		if m.MemberID != "a" || m.MemberEpoch != c.q.MemberEpoch || m.ClientID != "wire" || fmt.Sprint(m.Assignment.TopicPartitions[0].Partitions) != "[0 1]" ||
			m.Assignment.TopicPartitions[0].TopicID != topic.ID || fmt.Sprint(m.SubscribedTopics) != "[orders]" {
			t.Errorf("the member is %+v", m)
		}
		for _, g := range groups[1:] {
			if g.ErrorCode != kerr.GroupIDNotFound.Code {
				t.Errorf("group %s: %v", g.Group, kerr.ErrorForCode(g.ErrorCode))
			}
		}
	}
	q := kmsg.NewPtrDescribeGroupsRequest()
	q.Groups = []string{"readers"}
	g := askWire[*kmsg.DescribeGroupsResponse](tool, 5, q).Groups[0]
	var assigned kmsg.ConsumerMemberAssignment
	w.must(assigned.ReadFrom(g.Members[0].MemberAssignment))
	if g.ProtocolType != "consumer" || g.Members[0].MemberID != "a" || fmt.Sprint(assigned.Topics[0].Partitions) != "[0 1]" {
		t.Errorf("described %+v", g)
	}
	list := kmsg.NewPtrListGroupsRequest()
	list.TypesFilter = []string{"consumer"}
	if listed := askWire[*kmsg.ListGroupsResponse](tool, 5, list).Groups; len(listed) != 1 || listed[0].Group != "readers" || listed[0].ProtocolType != "consumer" {
		t.Errorf("listed %+v", listed)
	}
	// Taken out by hand, the member is told so.
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group, leave.Members = "readers", []kmsg.LeaveGroupRequestMember{{MemberID: "a"}}
	if left := askWire[*kmsg.LeaveGroupResponse](tool, 5, leave); left.Members[0].ErrorCode != 0 || left.Members[0].MemberID != "a" {
		t.Errorf("left %+v", left)
	}
	c.unchanged()
	w.eventually("it is told", func() bool { return errors.Is(c.beat(), kerr.UnknownMemberID) })
}
