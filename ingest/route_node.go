package ingest

import (
	"context"
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

// homeNode is the node of this process as the router uses it; *Node is one.
type homeNode interface {
	produceNode
	Fetch(ctx context.Context, r FetchRequest) ([]PartitionBatches, error)
	OffsetForTime(ctx context.Context, topic string, partition int32, timestampMs int64) (int64, error)

	// life is the node's present incarnation, or why there is none.
	life() (nodeLife, *Error)
	// change is closed at the next change of leadership or readiness.
	change() <-chan struct{}
	metadata() *meta.Client
}

// nodeLife is one incarnation as the router uses it.
type nodeLife interface {
	cluster() clusterIndex
	// states tells where the partitions of a topic stand that the node leads; those of others have no Leader.
	states(ctx context.Context, topic meta.Topic) ([]PartitionState, error)
	// flush returns when everything that the node took for a topic before the call is committed.
	flush(ctx context.Context, topic meta.Topic) error
	drainNode(ctx context.Context, node meta.NodeID, cancel bool) error
	forgetNode(ctx context.Context, node meta.NodeID, dryRun bool) (meta.ForgetResult, error)
}

func (n *Node) life() (nodeLife, *Error) {
	i, refused := n.reading() // a node that stops still knows who leads, until it has ended
	if refused != nil {
		return nil, refused
	}
	return i, nil
}

func (n *Node) metadata() *meta.Client { return n.deps.Meta }

func (i *incarnation) cluster() clusterIndex { return i.follower }

func (i *incarnation) drainNode(ctx context.Context, node meta.NodeID, cancel bool) error {
	return i.node.deps.Meta.Drain(ctx, i.follower, node, cancel)
}

func (i *incarnation) forgetNode(ctx context.Context, node meta.NodeID, dryRun bool) (meta.ForgetResult, error) {
	return i.node.deps.Meta.Forget(ctx, i.follower, node, dryRun)
}

// states asks the loop for the partitions of a topic.
func (i *incarnation) states(ctx context.Context, topic meta.Topic) ([]PartitionState, error) {
	answer := make(chan []PartitionState, 1)
	posted := i.post(func(time.Time) {
		out := make([]PartitionState, topic.Partitions)
		for n := range out {
			id := meta.Partition{Topic: topic.ID, Partition: int32(n)}
			out[n] = PartitionState{Partition: int32(n)}
			if p := i.core.partitions[id]; p != nil {
				out[n] = PartitionState{
					Partition: p.id.Partition, Leader: string(i.node.config.Node), LeaderEpoch: p.epoch, LogStartOffset: p.start,
					HighWatermark: p.hwm, CommittedOffset: p.committed, LogEndOffset: p.end, replayedTo: p.replayedTo,
				}
			}
		}
		answer <- out
	})
	if !posted {
		return nil, beginsAnew()
	}
	select {
	case out := <-answer:
		return out, nil
	case <-ctx.Done():
		return nil, callerGone(ctx, "describe topic "+topic.Name)
	}
}

func (i *incarnation) flush(ctx context.Context, topic meta.Topic) error {
	done := make(chan struct{})
	if !i.post(func(now time.Time) { i.core.flushTopic(topic.ID, done, now) }) {
		return beginsAnew()
	}
	select {
	case <-done:
		return nil
	case <-i.ctx.Done():
		return beginsAnew()
	case <-ctx.Done():
		return callerGone(ctx, "flush topic "+topic.Name)
	}
}

func beginsAnew() *Error {
	return Errorf(ReasonUnavailable, "the node begins anew").WithRetryAfter(200 * time.Millisecond)
}
