package kafka

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/meta"
)

// commitOf makes a commit of one offset in a partition of a topic.
func commitOf(name string, topic meta.Topic, partition int32, offset int64, metadata string) *kmsg.OffsetCommitRequest {
	q := kmsg.NewPtrOffsetCommitRequest()
	q.Group = name
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset, p.Metadata, p.LeaderEpoch = partition, offset, &metadata, 4
	q.Topics = append(q.Topics, kmsg.OffsetCommitRequestTopic{Topic: topic.Name, TopicID: topic.ID, Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}})
	return q
}

// fetchOf asks for partitions of a topic; of all topics when there are none.
func fetchOf(name string, topic meta.Topic, partitions ...int32) *kmsg.OffsetFetchRequest {
	q := kmsg.NewPtrOffsetFetchRequest()
	q.Group = name
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = name
	if len(partitions) > 0 {
		q.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: topic.Name, Partitions: partitions}}
		g.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: topic.Name, TopicID: topic.ID, Partitions: partitions}}
	}
	q.Groups = append(q.Groups, g)
	return q
}

// fetched is what an answer of any version says: PARTITION=OFFSET:METADATA, by topic.
func fetched(a *kmsg.OffsetFetchResponse) string {
	var out []string
	say := func(partition int32, offset int64, metadata *string, code int16) {
		text := fmt.Sprintf("%d=%d:%s", partition, offset, *metadata)
		if code != 0 {
			text += ":" + kerr.TypedErrorForCode(code).Message
		}
		out = append(out, text)
	}
	for _, t := range a.Topics {
		for _, p := range t.Partitions {
			say(p.Partition, p.Offset, p.Metadata, p.ErrorCode)
		}
	}
	code := a.ErrorCode
	for _, g := range a.Groups {
		code = g.ErrorCode
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				say(p.Partition, p.Offset, p.Metadata, p.ErrorCode)
			}
		}
	}
	if code != 0 {
		out = append(out, kerr.TypedErrorForCode(code).Message)
	}
	return strings.Join(out, " ")
}

// What one client commits in any version, another reads in any version.
func TestOffsetsAreCommittedAndFetchedInEveryVersion(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("orders", 3)
	c := w.dial(w.nodes[0])
	for version := int16(2); version <= 10; version++ {
		text := fmt.Sprint("by version ", version)
		committed := askWire[*kmsg.OffsetCommitResponse](c, version, commitOf("readers", topic, 1, int64(version), text))
		if code := committed.Topics[0].Partitions[0].ErrorCode; code != 0 {
			t.Fatalf("commit in version %d: %v", version, kerr.ErrorForCode(code))
		}
		for read := int16(1); read <= 10; read++ {
			want := fmt.Sprintf("0=-1: 1=%d:%s", version, text)
			if got := fetched(askWire[*kmsg.OffsetFetchResponse](c, read, fetchOf("readers", topic, 0, 1))); got != want {
				t.Errorf("fetch in version %d: %q, want %q", read, got, want)
			}
			if read < 2 {
				continue
			}
			want = fmt.Sprintf("1=%d:%s", version, text)
			if got := fetched(askWire[*kmsg.OffsetFetchResponse](c, read, fetchOf("readers", topic))); got != want {
				t.Errorf("fetch of everything in version %d: %q, want %q", read, got, want)
			}
		}
	}
	answer := askWire[*kmsg.OffsetFetchResponse](c, 7, fetchOf("readers", topic, 1))
	if epoch := answer.Topics[0].Partitions[0].LeaderEpoch; epoch != 4 {
		t.Errorf("the leader epoch is %d", epoch)
	}
}

// A group that nobody knows has committed nothing, which is no error; but there is none without a name.
func TestFetchingOffsetsOfNobody(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("orders", 2)
	c := w.dial(w.nodes[0])
	for version := int16(1); version <= 10; version++ {
		if got := fetched(askWire[*kmsg.OffsetFetchResponse](c, version, fetchOf("nobody", topic, 0, 5))); got != "0=-1: 5=-1:" {
			t.Errorf("version %d: %q", version, got)
		}
		want := "INVALID_GROUP_ID"
		if version < 2 {
			want = "0=-1::INVALID_GROUP_ID"
		}
		if got := fetched(askWire[*kmsg.OffsetFetchResponse](c, version, fetchOf("", topic, 0))); got != want {
			t.Errorf("version %d, without a name: %q", version, got)
		}
	}
	if got := fetched(askWire[*kmsg.OffsetFetchResponse](c, 10, fetchOf("nobody", meta.Topic{ID: meta.TopicID{1}}, 0))); got != "0=-1::UNKNOWN_TOPIC_ID" {
		t.Errorf("a topic that is not there: %q", got)
	}
	if exists, err := w.nodes[0].groups.View(w.ctx, "nobody"); err == nil {
		t.Errorf("asking made a group: %+v", exists)
	}
}

// Of a commit of many offsets, those are stored that can be, and each other one says why it is not.
func TestACommitOfWhichSomeOffsetsAreRefused(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("orders", 2)
	c := w.dial(w.nodes[0])
	q := commitOf("readers", topic, 0, 10, "")
	q.Topics = append(q.Topics,
		commitOf("", topic, 1, 11, strings.Repeat("x", meta.MaxOffsetMetadata+1)).Topics[0],
		commitOf("", topic, 2, 12, "").Topics[0],
		commitOf("", meta.Topic{Name: "nothing"}, 0, 13, "").Topics[0])
	want := []*kerr.Error{nil, kerr.OffsetMetadataTooLarge, kerr.UnknownTopicOrPartition, kerr.UnknownTopicOrPartition}
	for i, topic := range askWire[*kmsg.OffsetCommitResponse](c, 9, q).Topics {
		if got := kerr.TypedErrorForCode(topic.Partitions[0].ErrorCode); got != want[i] {
			t.Errorf("offset %d: %v, want %v", i, got, want[i])
		}
	}
	if got := fetched(askWire[*kmsg.OffsetFetchResponse](c, 9, fetchOf("readers", topic))); got != "0=10:" {
		t.Errorf("stored: %q", got)
	}
	unknown := askWire[*kmsg.OffsetCommitResponse](c, 10, commitOf("readers", meta.Topic{ID: meta.TopicID{9}}, 0, 1, ""))
	if got := kerr.TypedErrorForCode(unknown.Topics[0].Partitions[0].ErrorCode); got != kerr.UnknownTopicID {
		t.Errorf("a topic id that is not there: %v", got)
	}
}

// Members commit in their generation; nobody else does while they are there.
func TestOnlyMembersCommit(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("orders", 1)
	c := w.dial(w.nodes[0])
	joined := c.join("readers", "range", "", 10_000)
	early := commitOf("readers", topic, 0, 1, "")
	early.MemberID, early.Generation = joined.MemberID, joined.Generation
	code := func(q *kmsg.OffsetCommitRequest) *kerr.Error {
		return kerr.TypedErrorForCode(askWire[*kmsg.OffsetCommitResponse](c, 8, q).Topics[0].Partitions[0].ErrorCode)
	}
	if got := code(early); got != kerr.RebalanceInProgress {
		t.Errorf("before it has its assignment: %v", got)
	}
	c.sync("readers", joined, map[string][]byte{joined.MemberID: {}})
	if got := code(early); got != nil {
		t.Errorf("a member: %v", got)
	}
	if got := code(commitOf("readers", topic, 0, 2, "")); got != kerr.UnknownMemberID {
		t.Errorf("one from outside: %v", got)
	}
	early.Generation++
	if got := code(early); got != kerr.IllegalGeneration {
		t.Errorf("a member of another generation: %v", got)
	}
	early.MemberID = "somebody"
	if got := code(early); got != kerr.UnknownMemberID {
		t.Errorf("somebody: %v", got)
	}
}

// A request that names more than anybody needs ends its connection.
func TestARequestForTooManyOffsets(t *testing.T) {
	w := newWorld(t, 1)
	topic := w.create("orders", 1)
	c := w.dial(w.nodes[0])
	c.send(7, fetchOf("readers", topic, make([]int32, maxNamedPartitions+1)...))
	if !c.hungUp() {
		t.Error("the connection goes on")
	}
}
