package ingest

import (
	"context"
	"time"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

// maxPeerMessage bounds an answer of another node: what a fetch may give with its first batch on top.
const maxPeerMessage = GreatestFetchBytes + 16<<20

// remote is another node as the router calls it, at the address that it has now.
type remote struct {
	node    meta.NodeID
	url     string
	forward *forwarder
	consume tidemarkv1connect.ConsumeServiceClient
	topics  tidemarkv1connect.TopicServiceClient
	cluster tidemarkv1connect.ClusterServiceClient
}

// remote finds a node to call; NOT_LEADER when it cannot be called, because whoever asks does so as the leader's client.
func (r *Router) remote(node meta.NodeID) (*remote, *Error) {
	peer, ok := r.peers.Peer(node)
	if !ok {
		return nil, Errorf(ReasonNotLeader, "node %s leads here, but this node knows no address of it", node).WithRetryAfter(askAgain).With(metadataLeader, string(node))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, Errorf(ReasonShuttingDown, "the node is stopping; nothing of this request was taken")
	}
	if known := r.remotes[node]; known != nil {
		if known.url == peer.URL {
			return known, nil
		}
		known.forward.close() // it has moved to another address
	}
	r.forgetGone()
	options := []connect.ClientOption{connect.WithAcceptCompression("gzip", nil, nil), connect.WithReadMaxBytes(maxPeerMessage)}
	out := &remote{
		node: node, url: peer.URL,
		consume: tidemarkv1connect.NewConsumeServiceClient(peer.HTTP, peer.URL, options...),
		topics:  tidemarkv1connect.NewTopicServiceClient(peer.HTTP, peer.URL, options...),
		cluster: tidemarkv1connect.NewClusterServiceClient(peer.HTTP, peer.URL, options...),
	}
	produce := tidemarkv1connect.NewProduceServiceClient(streamEnder{peer.HTTP}, peer.URL, options...)
	out.forward = newForwarder(r.life, node, r.clock, func(ctx context.Context) (produceCallStream, error) { return produce.ProduceStream(ctx) })
	r.work.Go(out.forward.run)
	r.remotes[node] = out
	return out, nil
}

// forgetGone ends the streams to nodes that are not there any more. Called with mu.
func (r *Router) forgetGone() {
	for node, known := range r.remotes {
		if _, alive := r.peers.Peer(node); !alive {
			known.forward.close()
			delete(r.remotes, node)
		}
	}
}

func (r *remote) fetch(ctx context.Context, q FetchRequest) ([]PartitionBatches, error) {
	message := &tidemarkv1.FetchRequest{
		Topic: q.Topic, TopicId: idMessage(q.TopicID), MaxBytes: int32(q.MaxBytes), MinBytes: int32(q.MinBytes), MaxWaitMs: int32(max(0, q.MaxWait.Milliseconds())),
		Partitions: make([]*tidemarkv1.FetchPartition, 0, len(q.Partitions)),
	}
	for _, p := range q.Partitions {
		message.Partitions = append(message.Partitions, &tidemarkv1.FetchPartition{Partition: p.Partition, Offset: p.Offset})
	}
	answer, err := r.consume.Fetch(ctx, message)
	if err != nil {
		return nil, peerError(ctx, r.node, err)
	}
	out := make([]PartitionBatches, 0, len(answer.GetPartitions()))
	for _, p := range answer.GetPartitions() {
		out = append(out, batchesFromMessage(p))
	}
	return out, nil
}

// idMessage is the reverse of parseTopicID.
func idMessage(id meta.TopicID) string {
	if id == (meta.TopicID{}) {
		return ""
	}
	return id.String()
}

// batchesFromMessage is the reverse of batchesMessage.
func batchesFromMessage(p *tidemarkv1.PartitionBatches) PartitionBatches {
	out := PartitionBatches{
		Partition: p.GetPartition(), NextOffset: p.GetNextOffset(), HighWatermark: p.GetHighWatermark(), LogStartOffset: p.GetLogStartOffset(),
	}
	for _, l := range p.GetLost() {
		out.Lost = append(out.Lost, meta.OffsetRange{From: l.GetFrom(), To: l.GetTo()})
	}
	if len(p.GetBatches()) > 0 {
		out.Batches = [][]byte{p.GetBatches()}
	}
	return out
}

func (r *remote) offsetForTime(ctx context.Context, topic meta.Topic, partition int32, timestampMs int64) (int64, error) {
	answer, err := r.topics.ListOffsets(ctx, &tidemarkv1.ListOffsetsRequest{
		Topic: topic.Name, TopicId: topic.ID.String(), Partitions: []int32{partition}, At: &tidemarkv1.ListOffsetsRequest_TimestampMs{TimestampMs: timestampMs},
	})
	if err != nil {
		return 0, peerError(ctx, r.node, err)
	}
	for _, p := range answer.GetOffsets() {
		if p.GetPartition() == partition {
			return p.GetOffset(), nil
		}
	}
	return 0, unreachable(r.node, errNoAnswer)
}

// partitions asks where partitions stand that the node leads, from an index at a revision or above.
func (r *remote) partitions(ctx context.Context, topic meta.Topic, wanted []int32, revision meta.Revision) ([]PartitionState, error) {
	answer, err := r.cluster.GetPartitions(ctx, &tidemarkv1.GetPartitionsRequest{
		Topic: topic.Name, TopicId: topic.ID.String(), Partitions: wanted, Revision: revision,
	})
	if err != nil {
		return nil, peerError(ctx, r.node, err)
	}
	out := make([]PartitionState, 0, len(answer.GetPartitions()))
	for _, p := range answer.GetPartitions() {
		out = append(out, PartitionState{
			Partition: p.GetPartition(), Leader: p.GetLeader(), LeaderEpoch: p.GetLeaderEpoch(), LogStartOffset: p.GetLogStartOffset(),
			HighWatermark: p.GetHighWatermark(), CommittedOffset: p.GetCommittedOffset(), LogEndOffset: p.GetLogEndOffset(),
		})
	}
	return out, nil
}

func (r *remote) flush(ctx context.Context, topic meta.Topic, revision meta.Revision) error {
	_, err := r.cluster.FlushTopic(ctx, &tidemarkv1.FlushTopicRequest{Topic: topic.Name, TopicId: topic.ID.String(), Revision: revision})
	if err != nil {
		return peerError(ctx, r.node, err)
	}
	return nil
}

// peerSlack is how much longer than it was asked to another node may take, for the way there and back.
const peerSlack = 2 * time.Second
