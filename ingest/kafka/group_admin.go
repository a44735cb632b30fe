package kafka

import (
	"context"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/ingest/group"
)

// ListGroups, DescribeGroups, DeleteGroups and OffsetDelete. Clients ask every broker for its groups, and a group's coordinator for all else.

// groupAdmin is how tools see and change groups; see Groups.
type groupAdmin interface {
	ListHere(ctx context.Context) ([]ingest.GroupListing, error)
	Delete(ctx context.Context, name string) error
	Forget(ctx context.Context, name string, partitions []group.TopicPartition) ([]*ingest.Error, error)
}

func groupAdminAPIs() []api {
	return []api{
		{key: int16(kmsg.ListGroups), min: 0, max: 5, serve: simple(serveListGroups)},
		{key: int16(kmsg.DescribeGroups), min: 0, max: 6, serve: simple(serveDescribeGroups)},
		{key: int16(kmsg.DeleteGroups), min: 0, max: 3, serve: simple(serveDeleteGroups)},
		{key: int16(kmsg.OffsetDelete), min: 0, max: 0, serve: simple(serveOffsetDelete)},
	}
}

// Types of groups, as Kafka's tools tell them apart: members of a classic group assign among themselves, those of a consumer group have the coordinator
// do it.
const (
	classicGroup  = "Classic"
	consumerGroup = "Consumer"
)

// consumerProtocol is the protocol type of groups that read topics.
const consumerProtocol = "consumer"

// subscribes tells whether the members of a group have the coordinator assign.
func subscribes(protocolType string, members int) bool {
	return protocolType == ingest.NativeProtocolType && members > 0
}

// kafkaProtocolType is a group's protocol type as Kafka's tools know it: they look for groups of consumers.
func kafkaProtocolType(protocolType string) string {
	if protocolType == ingest.NativeProtocolType {
		return consumerProtocol
	}
	return protocolType
}

// serveListGroups lists the groups that this broker coordinates.
func serveListGroups(ctx context.Context, k *call, q *kmsg.ListGroupsRequest) (*kmsg.ListGroupsResponse, error) {
	const maxFilters = 100 // there are ten states, and three types
	if n := max(len(q.StatesFilter), len(q.TypesFilter)); n > maxFilters {
		return nil, errTooMany("states or types", n, maxFilters)
	}
	ctx, cancel := context.WithTimeout(ctx, groupPatience)
	defer cancel()
	out := kmsg.NewPtrListGroupsResponse()
	listings, err := k.listGroups(ctx)
	if k.conn.ctx.Err() != nil {
		return nil, context.Cause(k.conn.ctx)
	}
	if err != nil {
		out.ErrorCode = groupCode(err)
		return out, nil
	}
	for _, l := range listings {
		g := kmsg.NewListGroupsResponseGroup()
		g.Group, g.ProtocolType = l.Name, kafkaProtocolType(l.ProtocolType)
		g.GroupState, g.GroupType = l.State.String(), classicGroup
		if subscribes(l.ProtocolType, l.Members) {
			g.GroupState, g.GroupType = consumerState(l.State), consumerGroup
		}
		if !l.Known {
			g.GroupState = "Unknown" // it is being claimed
		}
		if passes(q.StatesFilter, g.GroupState) && passes(q.TypesFilter, g.GroupType) {
			out.Groups = append(out.Groups, g)
		}
	}
	return out, nil
}

// listGroups lists the groups of this node, and holds room for what is told of them: first for as many as there were when somebody asked before.
func (k *call) listGroups(ctx context.Context) ([]ingest.GroupListing, error) {
	listed := &k.conn.server.subscribers.listed
	for {
		room := listed.Load()
		if err := k.reserve(room * namedBytes); err != nil {
			return nil, err
		}
		listings, err := k.conn.server.Groups.ListHere(ctx)
		if err != nil {
			return nil, err
		}
		n := int64(len(listings))
		if listed.Store(n); n <= 2*room || n*namedBytes <= makeAtOnce {
			return listings, nil
		}
		k.unreserve()
	}
}

// passes tells whether a filter lets a value through; one that names nothing lets all.
func passes(filter []string, value string) bool {
	return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, value) })
}

// consumerState is the state of a group whose members subscribe, in the words of KIP-848.
func consumerState(s group.State) string {
	switch s {
	case group.PreparingRebalance:
		return "Reconciling" // members are to give up what they had, and to say so
	case group.CompletingRebalance:
		return "Assigning"
	default:
		return s.String()
	}
}

// serveDescribeGroups tells members and assignments. Those of members that subscribe are told in the form of the classic protocol, so that every tool
// shows them.
func serveDescribeGroups(ctx context.Context, k *call, q *kmsg.DescribeGroupsRequest) (*kmsg.DescribeGroupsResponse, error) {
	if len(q.Groups) > maxNamedGroups {
		return nil, errTooMany("groups", len(q.Groups), maxNamedGroups)
	}
	ctx, cancel := context.WithTimeout(ctx, groupPatience)
	defer cancel()
	out := kmsg.NewPtrDescribeGroupsResponse()
	names, _ := once(q.Groups, func(name string) string { return name })
	return out, k.describeGroups(ctx, names, func(name string, view ingest.GroupView, err error) {
		g := kmsg.NewDescribeGroupsResponseGroup()
		g.Group, g.AuthorizedOperations = name, unknownOperations
		switch {
		case ingest.ReasonOf(err) == ingest.ReasonUnknownGroup:
			g.State = group.Dead.String()
			if k.version >= 6 {
				g.ErrorCode, g.ErrorMessage = kerr.GroupIDNotFound.Code, messageOf(err)
			}
		case err != nil:
			g.ErrorCode, g.ErrorMessage = groupCode(err), messageOf(err)
		default:
			k.conn.server.subscribers.name(&view)
			describeClassic(&g, view)
		}
		out.Groups = append(out.Groups, g)
	})
}

// describeGroups looks at groups, and has each of them told.
func (k *call) describeGroups(ctx context.Context, names []string, tell func(name string, view ingest.GroupView, err error)) error {
	return k.tellGroups(len(names), groupTelling{
		look: func(i int) (ingest.GroupView, error) {
			view, err := k.conn.server.Groups.View(ctx, names[i])
			view.Offsets = nil
			return view, err
		},
		size: func(i int, view ingest.GroupView) int64 { return describedGroupBytes(view) + 2*int64(len(names[i])) },
		tell: func(i int, view ingest.GroupView, err error) { tell(names[i], view, err) },
	})
}

// describedGroupBytes is what a group takes in an answer, as messages and encoded, about.
func describedGroupBytes(view ingest.GroupView) int64 {
	const assignedBytes = 64
	bytes := int64(namedBytes)
	for _, m := range view.Members {
		bytes += namedBytes + int64(len(m.Metadata)+len(m.Assignment)) + int64(len(m.Assigned)+len(m.Target))*assignedBytes
		for _, topic := range m.Topics {
			bytes += assignedBytes + 2*int64(len(topic))
		}
	}
	return bytes
}

func describeClassic(g *kmsg.DescribeGroupsResponseGroup, view ingest.GroupView) {
	g.State, g.ProtocolType = view.State.String(), kafkaProtocolType(view.ProtocolType)
	if view.State == group.Stable {
		g.Protocol = view.Protocol
	}
	subscribed := subscribes(view.ProtocolType, len(view.Members))
	for _, m := range view.Members {
		member := kmsg.NewDescribeGroupsResponseGroupMember()
		member.MemberID, member.InstanceID, member.ClientID, member.ClientHost = m.ID, refOrNil(m.InstanceID), m.ClientID, m.Host
		if member.ClientHost == "" {
			member.ClientHost = "/"
		}
		if view.State == group.Stable {
			member.ProtocolMetadata, member.MemberAssignment = m.Metadata, m.Assignment
			if subscribed {
				member.ProtocolMetadata, member.MemberAssignment = classicMetadata(m), classicAssignment(m)
			}
		}
		g.Members = append(g.Members, member)
	}
}

// classicMetadata is what a member wants, in the form of Kafka's consumers.
func classicMetadata(m group.DescribedMember) []byte {
	out := kmsg.NewConsumerMemberMetadata()
	out.Topics = m.Topics
	return out.AppendTo(nil)
}

// classicAssignment is what a member has, in the form of Kafka's consumers.
func classicAssignment(m group.DescribedMember) []byte {
	out := kmsg.NewConsumerMemberAssignment()
	for _, p := range m.Assigned { // sorted
		if n := len(out.Topics); n == 0 || out.Topics[n-1].Topic != p.Topic {
			out.Topics = append(out.Topics, kmsg.ConsumerMemberAssignmentTopic{Topic: p.Topic})
		}
		last := &out.Topics[len(out.Topics)-1]
		last.Partitions = append(last.Partitions, p.Partition)
	}
	return out.AppendTo(nil)
}

// serveDeleteGroups forgets groups without members.
func serveDeleteGroups(ctx context.Context, k *call, q *kmsg.DeleteGroupsRequest) (*kmsg.DeleteGroupsResponse, error) {
	if len(q.Groups) > maxNamedGroups {
		return nil, errTooMany("groups", len(q.Groups), maxNamedGroups)
	}
	ctx, cancel := context.WithTimeout(ctx, groupPatience)
	defer cancel()
	names, _ := once(q.Groups, func(name string) string { return name })
	if err := k.reserve(int64(len(names)) * namedBytes); err != nil {
		return nil, err
	}
	out := kmsg.NewPtrDeleteGroupsResponse()
	for i, name := range names {
		err := errToldLater
		if i < maxToldGroups {
			err = k.conn.server.Groups.Delete(ctx, name)
		}
		g := kmsg.NewDeleteGroupsResponseGroup()
		g.Group, g.ErrorCode, g.ErrorMessage = name, groupCode(err), messageOf(err)
		out.Groups = append(out.Groups, g)
	}
	return out, nil
}

// serveOffsetDelete deletes committed offsets of topics to which no member of the group is subscribed.
func serveOffsetDelete(ctx context.Context, k *call, q *kmsg.OffsetDeleteRequest) (*kmsg.OffsetDeleteResponse, error) {
	if err := checkPartitions(q.Topics, func(t kmsg.OffsetDeleteRequestTopic) int { return len(t.Partitions) }); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, groupPatience)
	defer cancel()
	var partitions []group.TopicPartition
	for _, t := range q.Topics {
		for _, p := range t.Partitions {
			partitions = append(partitions, group.TopicPartition{Topic: t.Topic, Partition: p.Partition})
		}
	}
	out := kmsg.NewPtrOffsetDeleteResponse()
	refused, err := k.conn.server.Groups.Forget(ctx, q.Group, partitions)
	if err != nil {
		out.ErrorCode = groupCode(err)
		return out, nil
	}
	for _, t := range q.Topics {
		topic := kmsg.NewOffsetDeleteResponseTopic()
		topic.Topic = t.Topic
		for _, p := range t.Partitions {
			answer := kmsg.NewOffsetDeleteResponseTopicPartition()
			answer.Partition = p.Partition
			switch e := refused[0]; {
			case e == nil:
			case e.Reason == ingest.ReasonGroupNotEmpty:
				answer.ErrorCode = kerr.GroupSubscribedToTopic.Code
			default:
				answer.ErrorCode = groupCode(e)
			}
			refused = refused[1:]
			topic.Partitions = append(topic.Partitions, answer)
		}
		out.Topics = append(out.Topics, topic)
	}
	return out, nil
}
