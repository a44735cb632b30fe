package ingest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

// listPatience is how long each node may take to tell what groups it coordinates.
const listPatience = 2 * time.Second

func compareTopicPartition(topicA string, a int32, topicB string, b int32) int {
	return cmp.Or(cmp.Compare(topicA, topicB), cmp.Compare(a, b))
}

// ListGroups lists every group, by name: from etcd those that are there, and from the coordinators how they are. A forwarded call answers
// with what this node coordinates.
func (s *groupService) ListGroups(ctx context.Context, r *tidemarkv1.ListGroupsRequest) (*tidemarkv1.ListGroupsResponse, error) {
	if forwardedOf(ctx) != nil {
		return &tidemarkv1.ListGroupsResponse{Groups: s.groupsHere()}, nil
	}
	out, err := s.listGroups(ctx, r)
	return out, ConnectError(err)
}

func (s *groupService) listGroups(ctx context.Context, r *tidemarkv1.ListGroupsRequest) (*tidemarkv1.ListGroupsResponse, error) {
	seat, refused := s.Groups.seat()
	if refused != nil {
		return nil, refused
	}
	type answer struct {
		node   meta.NodeID
		groups []*tidemarkv1.GroupListing
		err    error
	}
	nodes := seat.Index.Nodes()
	answers := make(chan answer, len(nodes))
	patient, cancel := context.WithTimeout(ctx, listPatience)
	defer cancel()
	for _, n := range nodes {
		go func() {
			groups, err := s.groupsOf(patient, seat, n.ID, r)
			answers <- answer{n.ID, groups, err}
		}()
	}
	stored, err := s.Groups.config.Store.StoredGroups(ctx)
	if err != nil {
		return nil, Errorf(ReasonUnavailable, "%w", err)
	}
	inUse := make(map[string]*tidemarkv1.GroupListing)
	silent := make(map[meta.NodeID]bool)
	for range nodes {
		a := <-answers
		silent[a.node] = a.err != nil
		for _, g := range a.groups {
			if owner, ok := groupOwner(g.GetGroup(), seat.Index); ok && owner.ID == a.node {
				inUse[g.GetGroup()] = g
			}
		}
	}
	out := &tidemarkv1.ListGroupsResponse{Groups: make([]*tidemarkv1.GroupListing, 0, len(stored))}
	for _, g := range stored {
		if listing := inUse[g.Group]; listing != nil {
			if listing.GetProtocolType() == "" {
				listing.ProtocolType = cutText(g.State.ProtocolType, 255)
			}
			out.Groups = append(out.Groups, listing)
			continue
		}
		listing := &tidemarkv1.GroupListing{Group: g.Group, ProtocolType: g.State.ProtocolType}
		if owner, ok := groupOwner(g.Group, seat.Index); ok {
			listing.Coordinator = string(owner.ID)
			if !silent[owner.ID] {
				listing.State = group.Empty.String() // whoever was a member has to join anew
			}
		}
		out.Groups = append(out.Groups, listing)
	}
	slices.SortFunc(out.Groups, func(a, b *tidemarkv1.GroupListing) int { return cmp.Compare(a.GetGroup(), b.GetGroup()) })
	return out, nil
}

// groupsOf asks a node for the groups that it coordinates.
func (s *groupService) groupsOf(ctx context.Context, seat GroupSeat, node meta.NodeID, r *tidemarkv1.ListGroupsRequest) ([]*tidemarkv1.GroupListing, error) {
	if node == seat.Registration.Node {
		return s.groupsHere(), nil
	}
	client, refused := s.client(node)
	if refused != nil {
		return nil, refused
	}
	out, err := client.ListGroups(ctx, r)
	if err != nil {
		return nil, err
	}
	return out.GetGroups(), nil
}

// groupsHere lists the groups in use on this node. One that is being claimed has no state.
func (s *groupService) groupsHere() []*tidemarkv1.GroupListing {
	listings := s.Groups.Listings()
	out := make([]*tidemarkv1.GroupListing, 0, len(listings))
	for _, l := range listings {
		listing := &tidemarkv1.GroupListing{
			Group: l.Name, Coordinator: string(l.Coordinator), Members: int32(l.Members), ProtocolType: cutText(l.ProtocolType, 255),
		}
		if l.Known {
			listing.State = l.State.String()
		}
		out = append(out, listing)
	}
	return out
}

// DescribeGroup tells members, assignments and how far the group is behind. The coordinator says what it knows; how far behind that is
// the node that was asked finds out, for it can ask every leader.
func (s *groupService) DescribeGroup(ctx context.Context, r *tidemarkv1.DescribeGroupRequest) (*tidemarkv1.DescribeGroupResponse, error) {
	out, err := routed(ctx, s, groupPatience, r.GetGroup(), r, s.describeHere, tidemarkv1connect.GroupServiceClient.DescribeGroup)
	if err != nil {
		return nil, ConnectError(err)
	}
	if forwardedOf(ctx) == nil {
		s.measureLag(ctx, out.GetLag())
	}
	return out, nil
}

func (s *groupService) describeHere(ctx context.Context, r *tidemarkv1.DescribeGroupRequest) (*tidemarkv1.DescribeGroupResponse, error) {
	view, err := s.Groups.View(ctx, r.GetGroup())
	if err != nil {
		return nil, err
	}
	seat, refused := s.Groups.seat()
	if refused != nil {
		return nil, refused
	}
	out := &tidemarkv1.DescribeGroupResponse{
		Group: view.Name, State: view.State.String(), Coordinator: string(view.Coordinator), Generation: view.Generation,
		ProtocolType: cutText(view.ProtocolType, 255), Strategy: cutText(view.Protocol, 255),
	}
	lag := make(map[group.TopicPartition]*tidemarkv1.GroupLag)
	of := func(topic string, partition int32) *tidemarkv1.GroupLag {
		at := group.TopicPartition{Topic: topic, Partition: partition}
		if lag[at] == nil {
			lag[at] = &tidemarkv1.GroupLag{Topic: topic, Partition: partition, Committed: -1, Lag: -1, LagSeconds: -1}
		}
		return lag[at]
	}
	for _, o := range view.sortedOffsets(seat.Index) {
		l := of(o.topic, o.partition)
		l.Committed, l.Metadata = o.Offset, o.Metadata
	}
	for _, m := range view.Members {
		member := &tidemarkv1.GroupMember{
			MemberId: cutText(m.ID, 255), InstanceId: cutText(m.InstanceID, 255), ClientId: cutText(m.ClientID, 255), Host: cutText(m.Host, 255),
		}
		assigned := assignedTo(view.ProtocolType, m)
		for _, p := range assigned {
			of(p.Topic, p.Partition).MemberId = member.GetMemberId()
		}
		member.Assigned = byTopic(assigned)
		out.Members = append(out.Members, member)
	}
	for _, l := range lag {
		out.Lag = append(out.Lag, l)
	}
	slices.SortFunc(out.Lag, func(a, b *tidemarkv1.GroupLag) int {
		return compareTopicPartition(a.GetTopic(), a.GetPartition(), b.GetTopic(), b.GetPartition())
	})
	return out, nil
}

// assignedTo lists what a member reads: what the coordinator gave it or, of a consumer of Kafka's protocol, what its leader did. What the assignments of
// other types of protocols say only their members know.
func assignedTo(protocolType string, m group.DescribedMember) []group.TopicPartition {
	if protocolType == "consumer" {
		return kafkaAssignment(m.Assignment)
	}
	return m.Assigned
}

// byTopic groups sorted partitions.
func byTopic(partitions []group.TopicPartition) []*tidemarkv1.TopicPartitions {
	var out []*tidemarkv1.TopicPartitions
	for _, p := range partitions {
		if n := len(out); n == 0 || out[n-1].GetTopic() != p.Topic {
			out = append(out, &tidemarkv1.TopicPartitions{Topic: p.Topic})
		}
		last := out[len(out)-1]
		last.Partitions = append(last.Partitions, p.Partition)
	}
	return out
}

// SeekGroup sets committed offsets. Where they are the node that was asked finds out; the coordinator gets numbers.
func (s *groupService) SeekGroup(ctx context.Context, r *tidemarkv1.SeekGroupRequest) (*tidemarkv1.SeekGroupResponse, error) {
	if forwardedOf(ctx) == nil {
		resolved, err := s.resolveSeeks(ctx, r)
		if err != nil {
			return nil, ConnectError(err)
		}
		r = resolved
	}
	out, err := routed(ctx, s, groupPatience, r.GetGroup(), r, s.seekHere, tidemarkv1connect.GroupServiceClient.SeekGroup)
	return out, ConnectError(err)
}

// resolveSeeks makes each seek one of a single partition to an offset that is there.
func (s *groupService) resolveSeeks(ctx context.Context, r *tidemarkv1.SeekGroupRequest) (*tidemarkv1.SeekGroupRequest, error) {
	if len(r.GetSeeks()) == 0 {
		return nil, Errorf(ReasonInvalidRequest, "nothing to seek was given")
	}
	out := &tidemarkv1.SeekGroupRequest{Group: r.GetGroup()}
	until := s.Clock.Now().Add(leaderPatience)
	for _, seek := range r.GetSeeks() {
		if err := checkTopicName(seek.GetTopic()); err != nil {
			return nil, err
		}
		states, err := s.statesToSeek(ctx, seek, until)
		if err != nil {
			return nil, err
		}
		for _, p := range states {
			var offset int64
			switch to := seek.GetTo().(type) {
			case *tidemarkv1.GroupSeek_Start:
				offset = p.LogStartOffset
			case *tidemarkv1.GroupSeek_End:
				offset = p.HighWatermark
			case *tidemarkv1.GroupSeek_TimestampMs:
				if offset, err = s.Log.OffsetForTime(ctx, seek.GetTopic(), p.Partition, to.TimestampMs); err != nil {
					return nil, err
				}
			case *tidemarkv1.GroupSeek_Offset:
				if offset = to.Offset; offset < p.LogStartOffset || offset > p.HighWatermark {
					return nil, offsetOutOfRange(seek.GetTopic(), offset, p)
				}
			default:
				return nil, Errorf(ReasonInvalidRequest, "set one of start, end, offset and timestamp_ms")
			}
			out.Seeks = append(out.Seeks, &tidemarkv1.GroupSeek{
				Topic: seek.GetTopic(), Partitions: []int32{p.Partition}, To: &tidemarkv1.GroupSeek_Offset{Offset: offset},
			})
		}
	}
	return out, nil
}

// statesToSeek finds out where the partitions of a seek stand. Where a topic is on disk only the leader knows where it ends, and a seek to its end, or
// to an offset that may be above what is committed, waits for it, for all seeks together until then.
func (s *groupService) statesToSeek(ctx context.Context, seek *tidemarkv1.GroupSeek, until time.Time) ([]PartitionState, error) {
	for {
		topic, states, err := s.Log.Topic(ctx, seek.GetTopic())
		if err != nil {
			return nil, err
		}
		if states, err = selectPartitions(seek.GetTopic(), states, seek.GetPartitions()); err != nil {
			return nil, err
		}
		for _, p := range states {
			_, toEnd := seek.GetTo().(*tidemarkv1.GroupSeek_End)
			to, toOffset := seek.GetTo().(*tidemarkv1.GroupSeek_Offset)
			if toEnd || toOffset && to.Offset > p.HighWatermark {
				err = cmp.Or(err, knownEnd(topic, p))
			}
		}
		if err == nil || s.Clock.Now().Add(askAgain).After(until) || !pause(ctx, s.Clock, askAgain) {
			return states, err
		}
	}
}

func (s *groupService) seekHere(ctx context.Context, r *tidemarkv1.SeekGroupRequest) (*tidemarkv1.SeekGroupResponse, error) {
	offsets := make([]GroupCommitOffset, 0, len(r.GetSeeks()))
	for _, seek := range r.GetSeeks() {
		to, ok := seek.GetTo().(*tidemarkv1.GroupSeek_Offset)
		if !ok || len(seek.GetPartitions()) != 1 {
			return nil, Errorf(ReasonInvalidRequest, "a seek that was forwarded names one partition and its offset")
		}
		offsets = append(offsets, GroupCommitOffset{Topic: seek.GetTopic(), Partition: seek.GetPartitions()[0], Offset: to.Offset, LeaderEpoch: -1})
	}
	refused, err := s.Groups.Seek(ctx, r.GetGroup(), offsets)
	if err != nil {
		return nil, err
	}
	out := &tidemarkv1.SeekGroupResponse{}
	for i, o := range offsets {
		if refused[i] != nil {
			return nil, fmt.Errorf("seek topic %q, partition %d: %w", o.Topic, o.Partition, refused[i])
		}
		out.Offsets = append(out.Offsets, committedMessage(o.Topic, o.Partition, meta.GroupOffset{
			Offset: o.Offset, LeaderEpoch: -1, Committed: s.Clock.Now().UnixMilli(),
		}))
	}
	return out, nil
}

// DeleteGroup forgets a group. When an attempt leaves open whether the group is gone, as one does whose coordinator dies over it, the next one finds
// out: that there is no such group is what was asked for then.
func (s *groupService) DeleteGroup(ctx context.Context, r *tidemarkv1.DeleteGroupRequest) (*tidemarkv1.DeleteGroupResponse, error) {
	doubt := false
	done := func(err error, inDoubt bool) bool {
		if err == nil || doubt && ReasonOf(err) == ReasonUnknownGroup {
			return true
		}
		doubt = doubt || inDoubt
		return false
	}
	here := func(ctx context.Context, r *tidemarkv1.DeleteGroupRequest) (*tidemarkv1.DeleteGroupResponse, error) {
		if err := s.Groups.Delete(ctx, r.GetGroup()); !done(err, DeletionInDoubt(err)) {
			return nil, err
		}
		return &tidemarkv1.DeleteGroupResponse{}, nil
	}
	there := func(client tidemarkv1connect.GroupServiceClient, ctx context.Context, r *tidemarkv1.DeleteGroupRequest) (*tidemarkv1.DeleteGroupResponse, error) {
		_, err := client.DeleteGroup(ctx, r)
		if own := remoteError(err); own != nil {
			if !done(own, DeletionInDoubt(own)) {
				return nil, err
			}
		} else if !done(err, !neverSent(err)) { // the answer was lost on its way, if there was one
			return nil, err
		}
		return &tidemarkv1.DeleteGroupResponse{}, nil
	}
	out, err := routed(ctx, s, groupPatience, r.GetGroup(), r, here, there)
	return out, ConnectError(err)
}
