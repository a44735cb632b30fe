package ingest

import (
	"context"

	"github.com/tidemark-io/tidemark/meta"
)

// Ends returns a topic and where its partitions end: HighWatermark is above every record that was acknowledged before the call,
// whoever acknowledged it. Reads that must not be stale begin here.
//
// A linearizable read of etcd gives a revision at or above that of everything that was committed before the call, and the index is waited for.
// On a topic with durability=object that is all, and no leader is asked: what is acknowledged is committed, and the index has its end. With durability=disk a
// record is acknowledged without etcd, so only the leader knows; a disk partition moves only when its node lets go, so the node
// that the index names as the leader, if it still leads at the epoch that the index names, has acknowledged everything there is. It answers from an index
// that is at the revision too. A leader that is away is waited for; then the answer is NOT_LEADER.
//
// There is one case between the two: a topic that was changed from disk to object and is held (meta.Topic.Held), because what its leaders
// acknowledged may still stand on their disks alone. A leader that has begun anew since may have taken it back from its log; its answer waits until that is
// committed.
func (r *Router) Ends(ctx context.Context, name string) (meta.Topic, []PartitionState, error) {
	h, refused := r.here(ctx)
	if refused != nil {
		return meta.Topic{}, nil, refused
	}
	revision, err := h.home.metadata().Revision(ctx)
	if err != nil {
		return meta.Topic{}, nil, metaError("find the end of topic "+name, err)
	}
	if err := h.follow(ctx, revision); err != nil {
		return meta.Topic{}, nil, err
	}
	topic, ok := h.index.Topic(name)
	if !ok {
		return meta.Topic{}, nil, unknownTopic(name)
	}
	for n := range topic.Partitions {
		if err := h.index.Hole(meta.Partition{Topic: topic.ID, Partition: n}); err != nil {
			return meta.Topic{}, nil, Errorf(ReasonCorruptData, "topic %s partition %d: %w", name, n, err)
		}
	}
	if topic.OnDisk() {
		states, err := r.fromLeaders(ctx, topic, revision, leaderPatience)
		return topic, states, err
	}
	states := make([]PartitionState, topic.Partitions)
	for n := range states {
		states[n] = h.stateFromIndex(topic, int32(n))
	}
	return topic, states, nil
}

// awaitReplayed waits until everything that this incarnation took back from its log is committed.
func (h here) awaitReplayed(ctx context.Context, topic meta.Topic, states []PartitionState) error {
	for _, s := range states {
		id := meta.Partition{Topic: topic.ID, Partition: s.Partition}
		for {
			at := h.index.Revision()
			if h.index.End(id) >= s.replayedTo {
				break
			}
			if err := h.follow(ctx, at+1); err != nil { // a commit is a new revision
				return err
			}
		}
	}
	return nil
}
