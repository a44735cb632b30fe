package ingest

import (
	"context"
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

// Ends returns a topic and where its partitions end: HighWatermark is above every record that was acknowledged before the call,
// whoever acknowledged it. Reads that must not be stale begin here.
//
// A linearizable read of etcd gives a revision at or above that of everything that was committed before the call, and the index is waited for.
// On a topic with durability=object that is all: what is acknowledged is committed, and the index has its end. With durability=disk a
// record is acknowledged without etcd, so only the leader knows; a disk partition moves only when its node lets go, so the node
// that the index names as the leader, if it still leads, has acknowledged everything there is. Elsewhere the answer is NOT_LEADER.
//
// There is one case between the two: a topic that was changed from disk to object, and whose node began anew before it had flushed.
// What it took back from its log may have been acknowledged on disk; the answer waits until that is committed.
func (n *Node) Ends(ctx context.Context, name string) (meta.Topic, []PartitionState, error) {
	i, refused := n.serving()
	if refused != nil {
		return meta.Topic{}, nil, refused
	}
	revision, err := n.deps.Meta.Revision(ctx)
	if err != nil {
		return meta.Topic{}, nil, metaError("find the end of topic "+name, err)
	}
	if err := n.follow(ctx, i, revision); err != nil {
		return meta.Topic{}, nil, err
	}
	topic, ok := i.follower.Topic(name)
	if !ok {
		return meta.Topic{}, nil, unknownTopic(name)
	}
	states, err := i.states(ctx, topic)
	if err != nil {
		return meta.Topic{}, nil, err
	}
	if topic.Config.Durability == meta.DurabilityObject {
		if err := n.awaitReplayed(ctx, i, topic, states); err != nil {
			return meta.Topic{}, nil, err
		}
	}
	assigned, _ := i.follower.Assignment(n.config.Node)
	for k := range states {
		s := &states[k]
		id := meta.Partition{Topic: topic.ID, Partition: s.Partition}
		if err := i.follower.Hole(id); err != nil {
			return meta.Topic{}, nil, Errorf(ReasonCorruptData, "topic %s partition %d: %w", name, s.Partition, err)
		}
		switch {
		case topic.Config.Durability == meta.DurabilityObject:
			s.HighWatermark = max(s.HighWatermark, i.follower.End(id))
		case s.Leader == "" || assigned.Epochs[id] != s.LeaderEpoch:
			return meta.Topic{}, nil, Errorf(ReasonNotLeader, "node %s does not lead topic %s partition %d, whose end only its leader knows", n.config.Node, name, s.Partition).
				WithRetryAfter(100 * time.Millisecond)
		}
	}
	return topic, states, nil
}

// awaitReplayed waits until everything that this incarnation took back from its log is committed.
func (n *Node) awaitReplayed(ctx context.Context, i *incarnation, topic meta.Topic, states []PartitionState) error {
	for _, s := range states {
		id := meta.Partition{Topic: topic.ID, Partition: s.Partition}
		for {
			at := i.follower.Revision()
			if i.follower.End(id) >= s.replayedTo {
				break
			}
			if err := n.follow(ctx, i, at+1); err != nil { // a commit is a new revision
				return err
			}
		}
	}
	return nil
}
