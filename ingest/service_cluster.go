package ingest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// Limits of following the metadata.
const (
	maxMetadataWatches = 4096
	maxMetadataTopics  = 10_000
	// maxWatchedBytes caps the names of topics that all watches together follow: half a million of them, about.
	maxWatchedBytes = 64 << 20
	// watchPatience is how long a client may take to read one message: it holds up nobody, but keeps what is old in memory.
	watchPatience = 30 * time.Second
)

// clusterService is tidemark.v1.ClusterService.
type clusterService struct {
	router  *Router
	watches *metadataWatches
	clock   clock.Clock
	closing <-chan struct{}
}

// GetCluster tells about the cluster and its nodes.
func (s *clusterService) GetCluster(ctx context.Context, _ *tidemarkv1.GetClusterRequest) (*tidemarkv1.GetClusterResponse, error) {
	h, refused := s.router.here(ctx)
	if refused != nil {
		return nil, ConnectError(refused)
	}
	info, err := s.router.clusterInfo(ctx, h)
	if err != nil {
		return nil, ConnectError(metaError("read the cluster's identity", err))
	}
	out := &tidemarkv1.GetClusterResponse{Id: info.ID, Generation: info.Generation, Revision: h.index.Revision(), Nodes: nodeMessages(h.index)}
	if controller, ok := h.index.Controller(); ok {
		out.Controller = string(controller)
	}
	for _, t := range h.index.Topics() {
		out.Topics++
		out.Partitions += t.Partitions
		for n := range t.Partitions {
			if _, waitsFor := ledBy(h.index, t, n); waitsFor != "" {
				out.Leaderless++
			}
		}
	}
	return out, nil
}

// clusterInfo is the cluster's identity; while etcd is away, as it was read last.
func (r *Router) clusterInfo(ctx context.Context, h here) (meta.ClusterInfo, error) {
	info, err := h.home.metadata().Cluster(ctx)
	r.infoMu.Lock()
	defer r.infoMu.Unlock()
	if err != nil && r.info.ID != "" {
		return r.info, nil
	}
	if err == nil {
		r.info = info
	}
	return info, err
}

// nodeMessages tells about every node that is alive or is assigned something, by id.
func nodeMessages(index clusterIndex) []*tidemarkv1.Node {
	nodes := make(map[meta.NodeID]*tidemarkv1.Node)
	of := func(id meta.NodeID) *tidemarkv1.Node {
		if nodes[id] == nil {
			nodes[id] = &tidemarkv1.Node{Id: string(id)}
		}
		return nodes[id]
	}
	disks := make(map[meta.NodeID]string)
	for _, n := range index.Nodes() {
		m := of(n.ID)
		m.Alive, m.Incarnation, m.Http, m.Kafka = true, n.Incarnation.String(), n.HTTP, n.Kafka
		m.Zone, m.Roles, m.Version = n.Zone, n.Roles, n.Version
		disks[n.ID] = n.Disk
	}
	for _, a := range index.Assignments() {
		m := nodes[a.Node]
		if len(a.Epochs) == 0 && m == nil {
			continue
		}
		m = of(a.Node)
		m.Partitions = int32(len(a.Epochs))
		for p := range a.Epochs {
			if t, ok := index.TopicByID(p.Topic); ok && t.OnDisk() {
				m.DiskPartitions++
			}
		}
		m.Attention = attention(m, a.Disk, disks[a.Node])
	}
	for id, d := range index.Drains() {
		if m := nodes[id]; m != nil {
			m.Draining, m.Stopping = d.Wanted, d.Stopping
		}
	}
	if id, ok := index.Controller(); ok && nodes[id] != nil {
		nodes[id].Controller = true
	}
	out := make([]*tidemarkv1.Node, 0, len(nodes))
	for _, m := range nodes {
		if m.GetAlive() && m.GetHttp() == "" && m.GetAttention() == "" {
			m.Attention = "it tells no address, so other nodes cannot forward calls to it"
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b *tidemarkv1.Node) int { return strings.Compare(a.GetId(), b.GetId()) })
	return out
}

// attention says why something of a node waits for somebody.
func attention(m *tidemarkv1.Node, assigned, present string) string {
	switch {
	case m.GetPartitions() == 0 || m.GetDiskPartitions() == 0:
		return ""
	case !m.GetAlive():
		return fmt.Sprintf("%d partitions wait for this node to come back, because only its disk has the end of them; if it never will, run `tidemark cluster forget-node %s`",
			m.GetDiskPartitions(), m.GetId())
	case assigned != present:
		return fmt.Sprintf("%d partitions wait for the disk that it had before, and it has come back with another one; give it its data directory back, or stop it and run `tidemark cluster forget-node %s`",
			m.GetDiskPartitions(), m.GetId())
	}
	return ""
}

// ListLeaders tells who leads which partition.
func (s *clusterService) ListLeaders(ctx context.Context, r *tidemarkv1.ListLeadersRequest) (*tidemarkv1.ListLeadersResponse, error) {
	if len(r.GetTopics()) > maxMetadataTopics {
		return nil, ConnectError(Errorf(ReasonTooLarge, "at most %d topics can be named, not %d", maxMetadataTopics, len(r.GetTopics())))
	}
	h, refused := s.router.here(ctx)
	if refused != nil {
		return nil, ConnectError(refused)
	}
	var topics []meta.Topic
	for _, name := range slices.Compact(slices.Sorted(slices.Values(r.GetTopics()))) {
		if err := checkTopicName(name); err != nil {
			return nil, ConnectError(err)
		}
		t, err := h.find(ctx, name, 0)
		if err != nil {
			return nil, ConnectError(err)
		}
		topics = append(topics, t)
	}
	if len(r.GetTopics()) == 0 {
		topics = h.index.Topics()
		slices.SortFunc(topics, func(a, b meta.Topic) int { return strings.Compare(a.Name, b.Name) })
	}
	out := &tidemarkv1.ListLeadersResponse{}
	for _, t := range topics {
		for n := range t.Partitions {
			l, waitsFor := ledBy(h.index, t, n)
			out.Leaders = append(out.Leaders, &tidemarkv1.Leader{
				Topic: t.Name, Partition: n, Node: string(l.Node), Epoch: l.Epoch, Alive: waitsFor == "", WaitsFor: waitsFor,
			})
		}
	}
	return out, nil
}

// WatchMetadata follows nodes and leaders until the client goes or the node drains.
func (s *clusterService) WatchMetadata(ctx context.Context, r *tidemarkv1.WatchMetadataRequest, stream *connect.ServerStream[tidemarkv1.WatchMetadataResponse]) error {
	if body := bodyOf(ctx); body != nil {
		body.settle()
	}
	send := stream.Send
	if control, ok := ctx.Value(streamControlKey{}).(*http.ResponseController); ok {
		// Only a writer without a connection refuses deadlines, and such a one ends with its request.
		send = func(m *tidemarkv1.WatchMetadataResponse) error {
			_ = control.SetWriteDeadline(s.clock.Now().Add(watchPatience))
			err := stream.Send(m)
			_ = control.SetWriteDeadline(time.Time{})
			return err
		}
	}
	return ConnectError(s.watch(ctx, r, inSendRoom(ctx, send)))
}

// inSendRoom makes a send take its message's bytes of the room that all streams of the process share, for as long as its client takes.
func inSendRoom(ctx context.Context, send func(*tidemarkv1.WatchMetadataResponse) error) func(*tidemarkv1.WatchMetadataResponse) error {
	room := sendRoomOf(ctx)
	if room == nil {
		return send
	}
	return func(m *tidemarkv1.WatchMetadataResponse) error {
		// What the message holds until it is sent are pointers into a snapshot that all watches share.
		share, err := room.take(ctx, int64(proto.Size(m)), evictor(ctx))
		if err != nil {
			return err
		}
		defer share.give()
		return send(m)
	}
}

func (s *clusterService) watch(ctx context.Context, r *tidemarkv1.WatchMetadataRequest, send func(*tidemarkv1.WatchMetadataResponse) error) error {
	watch := &metadataWatch{all: r.GetAll()}
	if !watch.all {
		if len(r.GetTopics()) > maxMetadataTopics {
			return Errorf(ReasonTooLarge, "at most %d topics can be followed, not %d; all of them can", maxMetadataTopics, len(r.GetTopics()))
		}
		watch.topics = slices.Compact(slices.Sorted(slices.Values(r.GetTopics())))
		for _, name := range watch.topics {
			if err := checkTopicName(name); err != nil {
				return err
			}
		}
	}
	size := watchedSize(watch.topics)
	if !s.watches.enter(size) {
		return Errorf(ReasonBackPressure, "too many clients follow the metadata of this node already (at most %d, with %d MiB of names of topics): ask another node, or follow all topics",
			maxMetadataWatches, maxWatchedBytes>>20).WithRetryAfter(time.Second)
	}
	defer s.watches.leave(size)
	for {
		snapshot, moved := s.watches.next()
		if snapshot == nil {
			if _, refused := s.router.here(ctx); refused != nil {
				return refused // the node has not begun yet: another may tell more
			}
		} else if message := watch.next(snapshot); message != nil {
			if err := send(message); err != nil {
				return err
			}
		}
		select {
		case <-moved:
		case <-s.closing:
			return errClosing
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// DrainNode has a node let go of what it leads.
func (s *clusterService) DrainNode(ctx context.Context, r *tidemarkv1.DrainNodeRequest) (*tidemarkv1.DrainNodeResponse, error) {
	h, err := s.admin(ctx, r.GetNode())
	if err != nil {
		return nil, ConnectError(err)
	}
	ctx, cancel := context.WithTimeout(ctx, adminPatience)
	defer cancel()
	node := meta.NodeID(r.GetNode())
	if err := h.life.drainNode(ctx, node, r.GetCancel()); err != nil {
		return nil, ConnectError(metaError("drain node "+r.GetNode(), err))
	}
	out := &tidemarkv1.DrainNodeResponse{}
	for _, a := range h.index.Assignments() {
		if a.Node == node {
			out.Partitions = int32(len(a.Epochs))
		}
	}
	return out, nil
}

// ForgetNode gives up a node that is not alive.
func (s *clusterService) ForgetNode(ctx context.Context, r *tidemarkv1.ForgetNodeRequest) (*tidemarkv1.ForgetNodeResponse, error) {
	h, err := s.admin(ctx, r.GetNode())
	if err != nil {
		return nil, ConnectError(err)
	}
	ctx, cancel := context.WithTimeout(ctx, adminPatience)
	defer cancel()
	result, err := h.life.forgetNode(ctx, meta.NodeID(r.GetNode()), r.GetDryRun())
	if err != nil {
		return nil, ConnectError(metaError("forget node "+r.GetNode(), err))
	}
	out := &tidemarkv1.ForgetNodeResponse{Moved: int32(result.Moved)}
	for _, l := range result.Lost {
		out.Lost = append(out.Lost, &tidemarkv1.LostRange{Topic: l.Topic, Partition: l.Partition.Partition, From: l.From, To: l.To})
	}
	return out, nil
}

func (s *clusterService) admin(ctx context.Context, node string) (here, error) {
	if node == "" {
		return here{}, Errorf(ReasonInvalidRequest, "the name of the node is missing")
	}
	h, refused := s.router.here(ctx)
	if refused != nil {
		return here{}, refused
	}
	return h, nil
}

// GetPartitions tells where partitions stand that this very node leads.
func (s *clusterService) GetPartitions(ctx context.Context, r *tidemarkv1.GetPartitionsRequest) (*tidemarkv1.GetPartitionsResponse, error) {
	if len(r.GetPartitions()) > maxFetchPartitions {
		return nil, ConnectError(Errorf(ReasonTooLarge, "at most %d partitions can be named, not %d", maxFetchPartitions, len(r.GetPartitions())))
	}
	h, topic, err := s.ownTopic(ctx, r.GetTopic(), r.GetTopicId(), r.GetRevision())
	if err != nil {
		return nil, ConnectError(err)
	}
	states, err := h.led(ctx, topic.ID, r.GetPartitions(), r.GetRevision())
	if err != nil {
		return nil, ConnectError(err)
	}
	out := &tidemarkv1.GetPartitionsResponse{}
	for _, p := range states {
		out.Partitions = append(out.Partitions, stateMessage(p))
	}
	return out, nil
}

// FlushTopic has this very node commit what it has taken for a topic.
func (s *clusterService) FlushTopic(ctx context.Context, r *tidemarkv1.FlushTopicRequest) (*tidemarkv1.FlushTopicResponse, error) {
	h, topic, err := s.ownTopic(ctx, r.GetTopic(), r.GetTopicId(), r.GetRevision())
	if err != nil {
		return nil, ConnectError(err)
	}
	if err := h.life.flush(ctx, topic); err != nil {
		return nil, ConnectError(err)
	}
	return &tidemarkv1.FlushTopicResponse{}, nil
}

// ownTopic finds a topic in an index at a revision or above; the id counts when it is given.
func (s *clusterService) ownTopic(ctx context.Context, name, id string, revision int64) (here, meta.Topic, error) {
	if err := checkTopicName(name); err != nil {
		return here{}, meta.Topic{}, err
	}
	h, refused := s.router.here(ctx)
	if refused != nil {
		return here{}, meta.Topic{}, refused
	}
	if revision > 0 {
		patient, cancel := context.WithTimeout(ctx, forwardedWait)
		defer cancel()
		if err := h.follow(patient, revision); err != nil {
			return here{}, meta.Topic{}, err
		}
	}
	topic, ok := h.index.Topic(name)
	if !ok {
		return here{}, meta.Topic{}, unknownTopic(name)
	}
	return h, topic, sameTopic(topic, id)
}

func stateMessage(p PartitionState) *tidemarkv1.PartitionState {
	return &tidemarkv1.PartitionState{
		Partition: p.Partition, Leader: p.Leader, LeaderEpoch: p.LeaderEpoch, LogStartOffset: p.LogStartOffset,
		HighWatermark: p.HighWatermark, CommittedOffset: p.CommittedOffset, LogEndOffset: p.LogEndOffset,
	}
}
