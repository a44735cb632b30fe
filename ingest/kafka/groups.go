package kafka

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
)

// FindCoordinator, JoinGroup, SyncGroup, Heartbeat and LeaveGroup: the classic protocol of groups, whose members assign among themselves.

// Groups coordinates the groups that fall to this node; *ingest.Groups does. What each method promises is said there.
type Groups interface {
	Coordinator(group string) (meta.NodeInfo, error)
	Join(ctx context.Context, name string, join group.Join) (ingest.GroupJoined, error)
	Sync(ctx context.Context, name string, request group.Sync) (group.SyncResult, error)
	Heartbeat(ctx context.Context, name string, beat group.Heartbeat) error
	Leave(ctx context.Context, name string, members []group.LeavingMember) ([]group.LeftMember, error)
	groupOffsets
	groupAdmin
}

func groupAPIs() []api {
	return []api{
		{key: int16(kmsg.FindCoordinator), min: 0, max: 6, serve: simple(serveFindCoordinator)},
		{key: int16(kmsg.JoinGroup), min: 0, max: 9, skim: skimJoinGroup, serve: serveJoinGroup},
		{key: int16(kmsg.SyncGroup), min: 0, max: 5, maxBytes: groupFrame, skim: skimSyncGroup, serve: serveSyncGroup},
		{key: int16(kmsg.Heartbeat), min: 0, max: 4, serve: simple(serveHeartbeat)},
		{key: int16(kmsg.LeaveGroup), min: 0, max: 5, serve: simple(serveLeaveGroup)},
		{key: int16(kmsg.OffsetCommit), min: 2, max: 10, maxBytes: groupFrame, skim: skimOffsetCommit, serve: serveOffsetCommit},
		{key: int16(kmsg.OffsetFetch), min: 1, max: 10, skim: skimOffsetFetch, serve: simple(serveOffsetFetch)},
	}
}

// groupPatience bounds every request about a group but those that wait for other members: while etcd is away the client is told so before it gives up by
// itself.
const groupPatience = 15 * time.Second

const (
	// namedBytes is about what a group or a member takes in an answer, as a message and encoded, beyond what it brings along.
	namedBytes = 512
	// maxToldBytes caps what one answer tells of several groups.
	maxToldBytes = 64 << 20
)

// groupCode is codeOf for requests about groups: clients ask for the coordinator again where they would ask for a leader.
func groupCode(err error) int16 {
	if _, ok := errors.AsType[*kerr.Error](err); ok || err == nil || group.CodeOf(err) != 0 {
		return codeOf(err)
	}
	switch ingest.ReasonOf(err) {
	case ingest.ReasonUnavailable, ingest.ReasonTimeout:
		return kerr.CoordinatorNotAvailable.Code
	case ingest.ReasonShuttingDown, ingest.ReasonCanceled:
		return kerr.NotCoordinator.Code // the node stops, or nobody reads this
	case ingest.ReasonBackPressure:
		return kerr.CoordinatorLoadInProgress.Code // the same may be sent again
	case ingest.ReasonTooLarge:
		return kerr.InvalidRequest.Code
	default:
		return codeOf(err)
	}
}

// Kinds of coordinators.
const (
	coordinatorOfGroup       = 0
	coordinatorOfTransaction = 1
)

// serveFindCoordinator tells by which broker groups are coordinated.
func serveFindCoordinator(_ context.Context, k *call, q *kmsg.FindCoordinatorRequest) (*kmsg.FindCoordinatorResponse, error) {
	if len(q.CoordinatorKeys) > maxNamedGroups {
		return nil, errTooMany("groups", len(q.CoordinatorKeys), maxNamedGroups)
	}
	if err := k.reserve(int64(len(q.CoordinatorKeys)) * namedBytes); err != nil {
		return nil, err
	}
	find := k.conn.server.coordinators(k.conn.dialled(), q.CoordinatorType)
	out := kmsg.NewPtrFindCoordinatorResponse()
	if k.version < 4 {
		c := find(q.CoordinatorKey)
		out.ErrorCode, out.ErrorMessage, out.NodeID, out.Host, out.Port = c.ErrorCode, c.ErrorMessage, c.NodeID, c.Host, c.Port
		return out, nil
	}
	out.Coordinators = make([]kmsg.FindCoordinatorResponseCoordinator, 0, len(q.CoordinatorKeys))
	for _, key := range q.CoordinatorKeys {
		out.Coordinators = append(out.Coordinators, find(key))
	}
	return out, nil
}

// coordinators finds coordinators of one kind, from what the node knows at this moment.
func (s *Server) coordinators(dialled string, kind int8) func(key string) kmsg.FindCoordinatorResponseCoordinator {
	refusal := func(key string, code *kerr.Error, why string) kmsg.FindCoordinatorResponseCoordinator {
		c := kmsg.NewFindCoordinatorResponseCoordinator()
		c.Key, c.NodeID, c.Port = key, -1, -1
		c.ErrorCode, c.ErrorMessage = code.Code, &why
		return c
	}
	switch kind {
	case coordinatorOfGroup:
	case coordinatorOfTransaction:
		return func(key string) kmsg.FindCoordinatorResponseCoordinator {
			return refusal(key, kerr.TransactionalIDAuthorizationFailed, errTransactions.Error()) // any other has clients ask for ever
		}
	default:
		return func(key string) kmsg.FindCoordinatorResponseCoordinator {
			return refusal(key, kerr.InvalidRequest, "only consumer groups have coordinators here")
		}
	}
	index, err := s.Cluster.Index()
	if err != nil {
		return func(key string) kmsg.FindCoordinatorResponseCoordinator {
			return refusal(key, kerr.CoordinatorNotAvailable, err.Error())
		}
	}
	known := s.brokers(index, dialled)
	return func(key string) kmsg.FindCoordinatorResponseCoordinator {
		owner, err := s.Groups.Coordinator(key)
		if err != nil {
			return refusal(key, kerr.TypedErrorForCode(groupCode(err)), err.Error())
		}
		for _, b := range known {
			if b.node == owner.ID {
				c := kmsg.NewFindCoordinatorResponseCoordinator()
				c.Key, c.NodeID, c.Host, c.Port = key, b.id, b.host, b.port
				return c
			}
		}
		return refusal(key, kerr.CoordinatorNotAvailable, "node "+string(owner.ID)+" coordinates the group, and has no Kafka listener that could be reached")
	}
}

// serveJoinGroup waits until the rebalance is complete, for as long as the slowest member may take.
func serveJoinGroup(ctx context.Context, k *call) error {
	q := requestOf[*kmsg.JoinGroupRequest](k)
	join := group.Join{
		MemberID: q.MemberID, InstanceID: deref(q.InstanceID), ClientID: k.clientID, Host: k.conn.clientHost(),
		RequireKnownMemberID: k.version >= 4, SkipAssignment: k.version >= 9,
		SessionTimeout: millis(q.SessionTimeoutMillis), RebalanceTimeout: millis(q.RebalanceTimeoutMillis),
		ProtocolType: q.ProtocolType, Protocols: make([]group.Protocol, 0, len(q.Protocols)),
	}
	for _, p := range q.Protocols {
		join.Protocols = append(join.Protocols, group.Protocol{Name: p.Name, Metadata: bytes.Clone(p.Metadata)})
	}
	name := q.Group
	k.settle()
	joined, err := k.conn.server.Groups.Join(ctx, name, join)
	out := kmsg.NewPtrJoinGroupResponse()
	if err != nil {
		out.ErrorCode, out.MemberID = groupCode(err), join.MemberID
		if joined.MemberID != "" {
			out.MemberID = joined.MemberID // MEMBER_ID_REQUIRED
		}
		return k.answerLarge(k.conn.ctx, out)
	}
	told := int64(0)
	for _, m := range joined.JoinResult.Members {
		told += namedBytes + int64(len(m.Metadata))
	}
	if err := k.reserve(told); err != nil {
		return err
	}
	out.Generation, out.MemberID, out.LeaderID, out.SkipAssignment = joined.Generation, joined.MemberID, joined.Leader, joined.SkipAssignment
	out.ProtocolType, out.Protocol = &joined.ProtocolType, &joined.Protocol
	out.Members = make([]kmsg.JoinGroupResponseMember, 0, len(joined.JoinResult.Members))
	for _, m := range joined.JoinResult.Members {
		member := kmsg.NewJoinGroupResponseMember()
		member.MemberID, member.InstanceID, member.ProtocolMetadata = m.MemberID, refOrNil(m.InstanceID), m.Metadata
		out.Members = append(out.Members, member)
	}
	return k.answerLarge(k.conn.ctx, out)
}

// serveSyncGroup waits until the leader has brought the assignments.
func serveSyncGroup(ctx context.Context, k *call) error {
	q := requestOf[*kmsg.SyncGroupRequest](k)
	request := group.Sync{
		MemberID: q.MemberID, InstanceID: deref(q.InstanceID), Generation: q.Generation,
		ProtocolType: deref(q.ProtocolType), ProtocolName: deref(q.Protocol),
	}
	if len(q.GroupAssignment) > 0 {
		request.Assignments = make(map[string][]byte, len(q.GroupAssignment))
	}
	for _, a := range q.GroupAssignment {
		request.Assignments[a.MemberID] = bytes.Clone(a.MemberAssignment)
	}
	name := q.Group
	k.settle()
	result, err := k.conn.server.Groups.Sync(ctx, name, request)
	out := kmsg.NewPtrSyncGroupResponse()
	if err != nil {
		out.ErrorCode = groupCode(err)
		return k.answerLarge(k.conn.ctx, out)
	}
	out.ProtocolType, out.Protocol, out.MemberAssignment = &result.ProtocolType, &result.Protocol, result.Assignment
	return k.answerLarge(k.conn.ctx, out)
}

// serveHeartbeat keeps a member alive.
func serveHeartbeat(ctx context.Context, k *call, q *kmsg.HeartbeatRequest) (*kmsg.HeartbeatResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, groupPatience)
	defer cancel()
	out := kmsg.NewPtrHeartbeatResponse()
	out.ErrorCode = groupCode(k.conn.server.Groups.Heartbeat(ctx, q.Group, group.Heartbeat{
		MemberID: q.MemberID, InstanceID: deref(q.InstanceID), Generation: q.Generation,
	}))
	return out, nil
}

// serveLeaveGroup takes members out; from version 3 on any number of them, each with what came of it.
func serveLeaveGroup(ctx context.Context, k *call, q *kmsg.LeaveGroupRequest) (*kmsg.LeaveGroupResponse, error) {
	if len(q.Members) > maxNamedMembers {
		return nil, errTooMany("members", len(q.Members), maxNamedMembers)
	}
	leaving := make([]group.LeavingMember, 0, len(q.Members)+1)
	if k.version < 3 {
		leaving = append(leaving, group.LeavingMember{MemberID: q.MemberID})
	}
	for _, m := range q.Members {
		leaving = append(leaving, group.LeavingMember{
			MemberID: k.conn.server.subscribers.machineID(q.Group, m.MemberID), InstanceID: deref(m.InstanceID),
		})
	}
	ctx, cancel := context.WithTimeout(ctx, groupPatience)
	defer cancel()
	out := kmsg.NewPtrLeaveGroupResponse()
	left, err := k.conn.server.Groups.Leave(ctx, q.Group, leaving)
	switch {
	case err != nil:
		out.ErrorCode = groupCode(err)
	case k.version < 3:
		out.ErrorCode = groupCode(left[0].Err)
	default:
		for i, l := range left {
			m := kmsg.NewLeaveGroupResponseMember()
			m.MemberID, m.InstanceID, m.ErrorCode = q.Members[i].MemberID, q.Members[i].InstanceID, groupCode(l.Err)
			out.Members = append(out.Members, m)
		}
	}
	return out, nil
}

// requestOf is the request of a call whose kind is served by one who knows its type.
func requestOf[Q kmsg.Request](k *call) Q {
	q, ok := k.request.(Q)
	if !ok {
		panic("kafka: " + k.api.name + " was decoded as another kind")
	}
	return q
}

func millis(ms int32) time.Duration { return time.Duration(ms) * time.Millisecond }

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// refOrNil is how an id that may be absent is written.
func refOrNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
