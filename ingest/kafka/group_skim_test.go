package kafka

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// manyNamed are requests about groups that name two of everything.
func manyNamed() map[string]kmsg.Request {
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.MemberID, join.InstanceID, join.ProtocolType, join.Reason = "group", "member", new("instance"), "consumer", new("why")
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte("abc")}, {Name: "sticky"}}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.InstanceID, sync.ProtocolType = "group", "member", new("instance"), new("consumer")
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: "a", MemberAssignment: []byte("abc")}, {MemberID: "b"}}
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group, commit.MemberID, commit.InstanceID = "group", "member", new("instance")
	offsets := []kmsg.OffsetCommitRequestTopicPartition{{Partition: 1, Offset: 2, Metadata: new("text")}, {Partition: 2}}
	commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "a", Partitions: offsets}, {Topic: "b", TopicID: [16]byte{1}, Partitions: offsets}}
	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.Group, fetch.Topics = "group", []kmsg.OffsetFetchRequestTopic{{Topic: "a", Partitions: []int32{1, 2}}, {Topic: "b"}}
	fetch.Groups = []kmsg.OffsetFetchRequestGroup{
		{Group: "one", MemberID: new("member"), Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: "a", Partitions: []int32{1, 2}}, {TopicID: [16]byte{1}}}}, {Group: "two"},
	}
	beat := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	beat.Group, beat.MemberID, beat.InstanceID, beat.SubscribedTopicNames, beat.ServerAssignor = "group", "member", new("instance"), []string{"a", "b"}, new("range")
	beat.SubscribedTopicRegex = new("a.*")
	beat.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{{TopicID: [16]byte{1}, Partitions: []int32{1, 2}}, {}}
	return map[string]kmsg.Request{"join": join, "sync": sync, "commit": commit, "fetch": fetch, "heartbeat": beat}
}

// What kmsg writes in any version is let through; what is cut off is not, wherever it is cut, unless all that matters was there.
func TestGroupRequestsAreSkimmed(t *testing.T) {
	for name, q := range manyNamed() {
		a := apis[q.Key()]
		for version := a.min; version <= a.max; version++ {
			q.SetVersion(version)
			body := q.AppendTo(nil)
			if err := a.skim(body, version); err != nil {
				t.Errorf("%s version %d: %v", name, version, err)
			}
			for n := range body {
				cut := a.request()
				cut.SetVersion(version)
				skimmed := a.skim(body[:n], version)
				if read := cut.ReadFrom(body[:n]); read == nil && skimmed != nil {
					t.Errorf("%s version %d, %d of %d bytes: %v, though it can be read", name, version, n, len(body), skimmed)
				}
			}
		}
	}
}

// More than a request may name is refused before anything is made of it, in every version.
func TestGroupRequestsThatNameTooMuch(t *testing.T) {
	many := manyNamed()
	join := many["join"].(*kmsg.JoinGroupRequest)
	join.Protocols = make([]kmsg.JoinGroupRequestProtocol, maxNamedProtocols+1)
	sync := many["sync"].(*kmsg.SyncGroupRequest)
	sync.GroupAssignment = make([]kmsg.SyncGroupRequestGroupAssignment, maxNamedMembers+1)
	commit := many["commit"].(*kmsg.OffsetCommitRequest)
	half := make([]kmsg.OffsetCommitRequestTopicPartition, maxNamedPartitions/2+1)
	commit.Topics[0].Partitions, commit.Topics[1].Partitions = half, half
	fetch := many["fetch"].(*kmsg.OffsetFetchRequest)
	fetch.Topics = make([]kmsg.OffsetFetchRequestTopic, maxNamedTopics+1)
	fetch.Groups = make([]kmsg.OffsetFetchRequestGroup, maxNamedGroups+1)
	beat := many["heartbeat"].(*kmsg.ConsumerGroupHeartbeatRequest)
	beat.SubscribedTopicNames = make([]string, maxNamedTopics+1)
	for name, q := range many {
		a := apis[q.Key()]
		for version := a.min; version <= a.max; version++ {
			q.SetVersion(version)
			if err := a.skim(q.AppendTo(nil), version); err == nil || !strings.Contains(err.Error(), "are the most") {
				t.Errorf("%s version %d: %v", name, version, err)
			}
		}
	}
}
