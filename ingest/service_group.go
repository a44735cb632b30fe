package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

// GroupServiceName is the full name of the service, for reflection and health.
const GroupServiceName = tidemarkv1connect.GroupServiceName

// MaxGroupMessage is the largest request of the group service: a commit of 10,000 partitions with long topic names.
const MaxGroupMessage = 4 << 20

// Defaults and limits of the group service.
const (
	defaultSessionTimeout   = 45 * time.Second
	defaultRebalanceTimeout = 60 * time.Second
	// maxGroupAnswer bounds what another node may answer: the partitions of a member.
	maxGroupAnswer = 32 << 20
	// coordinatorPatience is how long a coordinator that is away is looked for.
	coordinatorPatience = 10 * time.Second
	// groupPatience bounds every call but a join: while etcd is away the caller is told so instead of waiting for as long as that takes.
	groupPatience = 15 * time.Second
	// joinPatience is longer than any rebalance.
	joinPatience = 2 * time.Hour
)

// GroupLog is how the group service reads the log: by any node, from whoever leads. *Router is one.
type GroupLog = consumeNode

// GroupServiceConfig is what the group service needs.
type GroupServiceConfig struct {
	Groups *Groups
	Log    GroupLog
	Peers  Peers
	Clock  clock.Clock
	Logger *slog.Logger
	// Closing is closed when the process stops: streams and waiting joins end then.
	Closing <-chan struct{}
	// Options are those of every handler. Messages up to MaxGroupMessage are to be read.
	Options []connect.HandlerOption
}

// NewGroupService makes tidemark.v1.GroupService. Calls that other nodes forward must come through withForwarded, and those of clients through
// withSendRoom and withAnswer if they are to share room with other services, as Services do it.
func NewGroupService(cfg GroupServiceConfig) (path string, handler http.Handler) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := newGroupService(cfg)
	path, inner := tidemarkv1connect.NewGroupServiceHandler(s, append(slices.Clone(cfg.Options), connect.WithInterceptors(s.bound()), countedCodecs(2*maxGroupEntries))...)
	return path, withStreamControl(inner)
}

// groupService is tidemark.v1.GroupService. Every call that changes or describes a group is routed to its coordinator, which may be this
// very node.
type groupService struct {
	GroupServiceConfig
	held *sendRoom // large requests that are not answered
	sent *sendRoom // what streams hold for their clients, where the call brings no room that others share
}

func newGroupService(cfg GroupServiceConfig) *groupService {
	return &groupService{GroupServiceConfig: cfg, held: newSendRoom(heldGroupRequests, cfg.Clock), sent: newSendRoom(sendBytes, cfg.Clock)}
}

// routed does a call where the group's coordinator is. A coordinator that is away is looked for, for a while: commits are the same
// when they come twice, and a join whose caller went away is taken back.
func routed[Q, A any](ctx context.Context, s *groupService, patience time.Duration, name string, request *Q, here func(context.Context, *Q) (*A, error),
	there func(tidemarkv1connect.GroupServiceClient, context.Context, *Q) (*A, error),
) (*A, error) {
	if refused := checkGroupName(name); refused != nil {
		return nil, refused
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	forwarded := forwardedOf(ctx)
	until := s.Clock.Now().Add(coordinatorPatience)
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		answer, err := once(ctx, s, name, request, here, there, forwarded)
		if err == nil || !coordinatorAway(err) || forwarded != nil || !s.Clock.Now().Before(until) {
			return answer, err
		}
		if !pause(ctx, s.Clock, wait) {
			return nil, err
		}
	}
}

// once is one attempt of routed.
func once[Q, A any](ctx context.Context, s *groupService, name string, request *Q, here func(context.Context, *Q) (*A, error),
	there func(tidemarkv1connect.GroupServiceClient, context.Context, *Q) (*A, error), forwarded *forwardedCall,
) (*A, error) {
	seat, refused := s.Groups.seat()
	if refused != nil {
		return nil, refused
	}
	if forwarded != nil {
		forwarded.await(ctx, seat.Index)
	}
	owner, ok := groupOwner(name, seat.Index)
	switch {
	case !ok:
		return nil, Errorf(ReasonUnavailable, "no node that could coordinate group %q is alive", name)
	case owner.ID == seat.Registration.Node:
		return here(ctx, request)
	case forwarded != nil:
		return nil, notCoordinator(name, fmt.Sprintf("it falls to node %q", owner.ID)).With("coordinator", string(owner.ID))
	}
	client, refused := s.client(owner.ID)
	if refused != nil {
		return nil, refused
	}
	answer, err := there(client, ctx, request)
	if err != nil {
		return nil, peerError(ctx, owner.ID, err)
	}
	return answer, nil
}

// coordinatorAway tells errors that pass when the coordinator is asked again, or another one.
func coordinatorAway(err error) bool {
	switch ReasonOf(err) {
	case ReasonNotCoordinator, ReasonUnavailable, ReasonShuttingDown:
		return true
	default:
		return false
	}
}

// client is the group service of another node.
func (s *groupService) client(node meta.NodeID) (tidemarkv1connect.GroupServiceClient, *Error) {
	peer, ok := s.Peers.Peer(node)
	if !ok {
		return nil, Errorf(ReasonUnavailable, "node %q coordinates the group, but this node knows no address of it", node).WithRetryAfter(defaultRetryAfter)
	}
	return tidemarkv1connect.NewGroupServiceClient(peer.HTTP, peer.URL,
		connect.WithAcceptCompression("gzip", nil, nil), connect.WithReadMaxBytes(maxGroupAnswer)), nil
}

// Join makes the caller a member, or has it join again.
func (s *groupService) Join(ctx context.Context, r *tidemarkv1.JoinRequest) (*tidemarkv1.JoinResponse, error) {
	waiting, _, done := untilClosing(ctx, s.Closing)
	defer done()
	out, err := s.join(waiting, r)
	return out, ConnectError(closingOr(waiting, err))
}

func (s *groupService) join(ctx context.Context, r *tidemarkv1.JoinRequest) (*tidemarkv1.JoinResponse, error) {
	there := func(client tidemarkv1connect.GroupServiceClient, to context.Context, r *tidemarkv1.JoinRequest) (*tidemarkv1.JoinResponse, error) {
		to, info := connect.NewClientContext(to)
		info.RequestHeader().Set(headerMemberHost, memberHost(ctx))
		return client.Join(to, r)
	}
	return routed(ctx, s, joinPatience, r.GetGroup(), r, s.joinHere, there)
}

// headerMemberHost tells the coordinator where a join came from that another node forwards. It is only for people.
const headerMemberHost = "Tidemark-Member-Host"

// memberHost is where the client of a call is.
func memberHost(ctx context.Context) string {
	info, ok := connect.CallInfoForHandlerContext(ctx)
	switch {
	case !ok:
		return ""
	case forwardedOf(ctx) != nil:
		return info.RequestHeader().Get(headerMemberHost)
	default:
		return info.Peer().Addr
	}
}

func (s *groupService) joinHere(ctx context.Context, r *tidemarkv1.JoinRequest) (*tidemarkv1.JoinResponse, error) {
	join, refused := joinRequest(r)
	if refused != nil {
		return nil, refused
	}
	join.Host = memberHost(ctx)
	joined, err := s.Groups.Join(ctx, r.GetGroup(), join)
	if err != nil {
		return nil, err
	}
	out := &tidemarkv1.JoinResponse{
		MemberId: joined.MemberID, Generation: joined.Generation, Strategy: joined.Protocol, Members: int32(joined.Members),
		Assigned: make([]*tidemarkv1.AssignedPartition, 0, len(joined.Begin)),
	}
	for _, p := range joined.Begin {
		out.Assigned = append(out.Assigned, &tidemarkv1.AssignedPartition{
			Topic: p.Topic, TopicId: p.TopicID.String(), Partition: p.Partition, Committed: p.Committed,
		})
	}
	return out, nil
}

// joinRequest reads a join; what the machine checks is not checked here.
func joinRequest(r *tidemarkv1.JoinRequest) (group.Join, *Error) {
	if len(r.GetTopics()) == 0 {
		return group.Join{}, Errorf(ReasonInvalidRequest, "the member subscribes to no topic")
	}
	for _, topic := range r.GetTopics() {
		if err := checkTopicName(topic); err != nil {
			return group.Join{}, AsError(err)
		}
	}
	if r.GetSessionTimeoutMs() < 0 || r.GetRebalanceTimeoutMs() < 0 {
		return group.Join{}, Errorf(ReasonInvalidRequest, "timeouts cannot be negative")
	}
	out := group.Join{
		MemberID: r.GetMemberId(), InstanceID: r.GetInstanceId(), ClientID: r.GetClientId(),
		SessionTimeout:   sessionTimeout(r),
		RebalanceTimeout: rebalanceTimeout(r),
		Subscription:     &group.Subscription{Topics: r.GetTopics(), Strategy: group.Strategy(r.GetStrategy())},
	}
	for _, t := range r.GetOwned() {
		for _, p := range t.GetPartitions() {
			out.Subscription.Owned = append(out.Subscription.Owned, group.TopicPartition{Topic: t.GetTopic(), Partition: p})
		}
	}
	return out, nil
}

func sessionTimeout(r *tidemarkv1.JoinRequest) time.Duration {
	if r.GetSessionTimeoutMs() == 0 {
		return defaultSessionTimeout
	}
	return time.Duration(r.GetSessionTimeoutMs()) * time.Millisecond
}

func rebalanceTimeout(r *tidemarkv1.JoinRequest) time.Duration {
	if r.GetRebalanceTimeoutMs() == 0 {
		return defaultRebalanceTimeout
	}
	return time.Duration(r.GetRebalanceTimeoutMs()) * time.Millisecond
}

// Heartbeat keeps a member alive.
func (s *groupService) Heartbeat(ctx context.Context, r *tidemarkv1.HeartbeatRequest) (*tidemarkv1.HeartbeatResponse, error) {
	out, err := s.heartbeat(ctx, r)
	return out, ConnectError(err)
}

func (s *groupService) heartbeat(ctx context.Context, r *tidemarkv1.HeartbeatRequest) (*tidemarkv1.HeartbeatResponse, error) {
	return routed(ctx, s, groupPatience, r.GetMember().GetGroup(), r, s.heartbeatHere, tidemarkv1connect.GroupServiceClient.Heartbeat)
}

func (s *groupService) heartbeatHere(ctx context.Context, r *tidemarkv1.HeartbeatRequest) (*tidemarkv1.HeartbeatResponse, error) {
	m := r.GetMember()
	err := s.Groups.Heartbeat(ctx, m.GetGroup(), group.Heartbeat{MemberID: m.GetMemberId(), InstanceID: m.GetInstanceId(), Generation: m.GetGeneration()})
	if ReasonOf(err) == ReasonRebalanceInProgress {
		return &tidemarkv1.HeartbeatResponse{Rejoin: true}, nil
	}
	if err != nil {
		return nil, err
	}
	return &tidemarkv1.HeartbeatResponse{}, nil
}

// Leave takes a member out.
func (s *groupService) Leave(ctx context.Context, r *tidemarkv1.LeaveRequest) (*tidemarkv1.LeaveResponse, error) {
	out, err := s.leave(ctx, r)
	return out, ConnectError(err)
}

func (s *groupService) leave(ctx context.Context, r *tidemarkv1.LeaveRequest) (*tidemarkv1.LeaveResponse, error) {
	return routed(ctx, s, groupPatience, r.GetMember().GetGroup(), r, s.leaveHere, tidemarkv1connect.GroupServiceClient.Leave)
}

func (s *groupService) leaveHere(ctx context.Context, r *tidemarkv1.LeaveRequest) (*tidemarkv1.LeaveResponse, error) {
	m := r.GetMember()
	left, err := s.Groups.Leave(ctx, m.GetGroup(), []group.LeavingMember{{MemberID: m.GetMemberId(), InstanceID: m.GetInstanceId()}})
	if err != nil {
		return nil, err
	}
	for _, l := range left {
		if l.Err != nil {
			return nil, groupError(m.GetGroup(), l.Err)
		}
	}
	return &tidemarkv1.LeaveResponse{}, nil
}

// Commit stores offsets.
func (s *groupService) Commit(ctx context.Context, r *tidemarkv1.CommitRequest) (*tidemarkv1.CommitResponse, error) {
	out, err := s.commit(ctx, r)
	return out, ConnectError(err)
}

func (s *groupService) commit(ctx context.Context, r *tidemarkv1.CommitRequest) (*tidemarkv1.CommitResponse, error) {
	return routed(ctx, s, groupPatience, r.GetMember().GetGroup(), r, s.commitHere, tidemarkv1connect.GroupServiceClient.Commit)
}

func (s *groupService) commitHere(ctx context.Context, r *tidemarkv1.CommitRequest) (*tidemarkv1.CommitResponse, error) {
	m := r.GetMember()
	c := GroupCommit{
		Group: m.GetGroup(), MemberID: m.GetMemberId(), InstanceID: m.GetInstanceId(), Generation: m.GetGeneration(),
		Offsets: make([]GroupCommitOffset, 0, len(r.GetOffsets())),
	}
	for _, o := range r.GetOffsets() {
		id := meta.TopicID{}
		if o.GetTopicId() != "" {
			var err error
			if id, err = meta.ParseTopicID(o.GetTopicId()); err != nil {
				return nil, Errorf(ReasonInvalidRequest, "commit topic %q: %w", o.GetTopic(), err)
			}
		}
		c.Offsets = append(c.Offsets, GroupCommitOffset{
			Topic: o.GetTopic(), TopicID: id, Partition: o.GetPartition(), Offset: o.GetOffset(), LeaderEpoch: o.GetLeaderEpoch(), Metadata: o.GetMetadata(),
		})
	}
	refused, err := s.Groups.Commit(ctx, c)
	if err != nil {
		return nil, err
	}
	out := &tidemarkv1.CommitResponse{}
	for i, e := range refused {
		if e != nil {
			out.Errors = append(out.Errors, commitError(r.GetOffsets()[i], e))
		}
	}
	return out, nil
}

func commitError(o *tidemarkv1.OffsetCommit, e *Error) *tidemarkv1.CommitError {
	return &tidemarkv1.CommitError{Topic: o.GetTopic(), Partition: o.GetPartition(), Reason: string(e.Reason), Message: e.Error()}
}

// Committed reads stored offsets.
func (s *groupService) Committed(ctx context.Context, r *tidemarkv1.CommittedRequest) (*tidemarkv1.CommittedResponse, error) {
	out, err := routed(ctx, s, groupPatience, r.GetGroup(), r, s.committedHere, tidemarkv1connect.GroupServiceClient.Committed)
	return out, ConnectError(err)
}

func (s *groupService) committedHere(ctx context.Context, r *tidemarkv1.CommittedRequest) (*tidemarkv1.CommittedResponse, error) {
	view, err := s.Groups.View(ctx, r.GetGroup())
	if err != nil {
		return nil, err
	}
	seat, refused := s.Groups.seat()
	if refused != nil {
		return nil, refused
	}
	out := &tidemarkv1.CommittedResponse{}
	if len(r.GetPartitions()) == 0 {
		for _, o := range view.sortedOffsets(seat.Index) {
			out.Offsets = append(out.Offsets, committedMessage(o.topic, o.partition, o.GroupOffset))
		}
		return out, nil
	}
	for _, t := range r.GetPartitions() {
		topic, there := seat.Index.Topic(t.GetTopic())
		for _, p := range t.GetPartitions() {
			o, ok := view.Offsets[topic.ID][p]
			if !there || !ok {
				o = meta.GroupOffset{Offset: -1, LeaderEpoch: -1}
			}
			out.Offsets = append(out.Offsets, committedMessage(t.GetTopic(), p, o))
		}
	}
	return out, nil
}

func committedMessage(topic string, partition int32, o meta.GroupOffset) *tidemarkv1.CommittedOffset {
	out := &tidemarkv1.CommittedOffset{Topic: topic, Partition: partition, Offset: o.Offset, LeaderEpoch: o.LeaderEpoch, Metadata: o.Metadata}
	if o.Offset >= 0 {
		out.Committed = timestamppb.New(time.UnixMilli(o.Committed))
	}
	return out
}

// namedOffset is a committed offset with its topic's name.
type namedOffset struct {
	topic     string
	partition int32
	meta.GroupOffset
}

// sortedOffsets lists the committed offsets of topics that are there, by name and partition.
func (v GroupView) sortedOffsets(index GroupIndex) []namedOffset {
	var out []namedOffset
	for id, offsets := range v.Offsets {
		topic, there := index.TopicByID(id)
		if !there {
			continue
		}
		for p, o := range offsets {
			out = append(out, namedOffset{topic: topic.Name, partition: p, GroupOffset: o})
		}
	}
	slices.SortFunc(out, func(a, b namedOffset) int { return compareTopicPartition(a.topic, a.partition, b.topic, b.partition) })
	return out
}
