package kafka

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/ingest/group"
)

// How the members of KIP-848's protocol commit, fetch offsets and are described: by the ids and epochs of their clients.

// commit stores offsets of a member. The client's epoch counts: that which it was told last, or the one before while it may not have heard of that. What it
// commits it has read while nobody else did, whatever generation the machine has come to since. While the machine makes a new one the commit waits.
func (m *subscriber) commit(ctx context.Context, c ingest.GroupCommit) ([]*ingest.Error, error) {
	for {
		m.mu.Lock()
		changed, err := m.changed, m.checkEpoch(c.Generation)
		translated := c
		translated.MemberID, translated.InstanceID, translated.Generation = m.machineID, m.instance, m.generation
		m.mu.Unlock()
		if err != nil {
			return nil, err
		}
		refused, err := m.owner.server.Groups.Commit(ctx, translated)
		switch ingest.ReasonOf(err) {
		case ingest.ReasonRebalanceInProgress, ingest.ReasonIllegalGeneration:
		default:
			return refused, err
		}
		timer := m.owner.server.Clock.NewTimer(m.owner.beatEvery)
		select {
		case <-changed:
		case <-timer.C():
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil, err
		}
	}
}

// checkEpoch says whether a client speaks as the member that it is. The caller holds mu.
func (m *subscriber) checkEpoch(epoch int32) error {
	switch {
	case m.ended != nil:
		return m.ended
	case m.generation < 0 || epoch != m.epoch && epoch != m.previous || epoch <= epochJoins:
		return refuse(kerr.StaleMemberEpoch, "the client names epoch %d, the member is at %d", epoch, m.epoch)
	}
	return nil
}

// mayFetch says whether whoever names a member and an epoch may fetch the group's offsets. Only members of KIP-848's protocol need to be right.
func (s *subscribers) mayFetch(q kmsg.OffsetFetchRequestGroup, view ingest.GroupView) error {
	id := deref(q.MemberID)
	if id == "" || q.MemberEpoch < 0 {
		return nil
	}
	if m := s.find(q.Group, id); m != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.checkEpoch(q.MemberEpoch)
	}
	if subscribes(view.ProtocolType, len(view.Members)) {
		return kerr.UnknownMemberID
	}
	return nil
}

// name gives members the ids by which their clients know them.
func (s *subscribers) name(view *ingest.GroupView) {
	if !subscribes(view.ProtocolType, len(view.Members)) {
		return
	}
	view.Members = slices.Clone(view.Members)
	for i := range view.Members {
		if m := s.ofMachine(view.Name, view.Members[i].ID); m != nil {
			view.Members[i].ID = m.id
		}
	}
}

// serveConsumerGroupDescribe describes groups to whose members the coordinator assigns, Kafka's clients and others.
func serveConsumerGroupDescribe(ctx context.Context, k *call, q *kmsg.ConsumerGroupDescribeRequest) (*kmsg.ConsumerGroupDescribeResponse, error) {
	if len(q.Groups) > maxNamedGroups {
		return nil, errTooMany("groups", len(q.Groups), maxNamedGroups)
	}
	ctx, cancel := context.WithTimeout(ctx, groupPatience)
	defer cancel()
	s := k.conn.server
	index, away := s.Cluster.Index()
	out := kmsg.NewPtrConsumerGroupDescribeResponse()
	names, _ := once(q.Groups, func(name string) string { return name })
	return out, k.describeGroups(ctx, names, func(name string, view ingest.GroupView, err error) {
		g := kmsg.NewConsumerGroupDescribeResponseGroup()
		g.Group, g.AuthorizedOperations = name, unknownOperations
		if err == nil && !subscribes(view.ProtocolType, len(view.Members)) {
			err = refuse(kerr.GroupIDNotFound, "group %q is not one whose members the coordinator assigns to", name)
		}
		if err == nil {
			err = away
		}
		if g.ErrorCode, g.ErrorMessage = groupCode(err), messageOf(err); err == nil {
			g.State, g.Epoch, g.AssignmentEpoch, g.AssignorName = consumerState(view.State), view.Generation, view.Generation, assignorOf(view.Protocol)
			for _, m := range view.Members {
				g.Members = append(g.Members, s.subscribers.describe(name, m, view.Generation, index))
			}
		}
		out.Groups = append(out.Groups, g)
	})
}

// ofConsumerProtocol is the member type of those who speak KIP-848's protocol.
const ofConsumerProtocol = 1

func (s *subscribers) describe(name string, m group.DescribedMember, generation int32, index ingest.ClusterIndex) kmsg.ConsumerGroupDescribeResponseGroupMember {
	out := kmsg.NewConsumerGroupDescribeResponseGroupMember()
	out.MemberID, out.InstanceID, out.ClientID, out.ClientHost, out.MemberEpoch = m.ID, refOrNil(m.InstanceID), m.ClientID, m.Host, generation
	out.SubscribedTopics, out.MemberType = m.Topics, ofConsumerProtocol
	out.Assignment, out.TargetAssignment = describeAssignment(m.Assigned, index), describeAssignment(m.Target, index)
	if client := s.ofMachine(name, m.ID); client != nil {
		client.mu.Lock()
		defer client.mu.Unlock()
		out.MemberID, out.MemberEpoch, out.SubscribedTopics = client.id, client.epoch, client.wants.names
		out.SubscribedTopicRegex = refOrNil(client.wants.text())
	}
	return out
}

// describeAssignment lists sorted partitions by topic.
func describeAssignment(partitions []group.TopicPartition, index ingest.ClusterIndex) (out kmsg.Assignment) {
	for _, p := range partitions {
		if n := len(out.TopicPartitions); n == 0 || out.TopicPartitions[n-1].Topic != p.Topic {
			t := kmsg.AssignmentTopicPartition{Topic: p.Topic}
			if topic, there := index.Topic(p.Topic); there {
				t.TopicID = topicUUID(topic.ID)
			}
			out.TopicPartitions = append(out.TopicPartitions, t)
		}
		last := &out.TopicPartitions[len(out.TopicPartitions)-1]
		last.Partitions = append(last.Partitions, p.Partition)
	}
	return out
}
