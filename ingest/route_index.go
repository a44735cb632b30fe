package ingest

import (
	"context"

	"github.com/tidemark-io/tidemark/meta"
)

// clusterIndex is the cluster as one node knows it, at one revision; *meta.Follower is one.
type clusterIndex interface {
	Revision() meta.Revision
	WaitFor(ctx context.Context, revision meta.Revision) error
	// Changed is closed at the next revision applied.
	Changed() <-chan struct{}

	Topic(name string) (meta.Topic, bool)
	TopicByID(id meta.TopicID) (meta.Topic, bool)
	Topics() []meta.Topic
	TopicsRevision() meta.Revision

	Leader(p meta.Partition) (meta.Leadership, bool)
	Released(node meta.NodeID, p meta.Partition, epoch meta.Epoch) bool
	Assignments() []meta.Assignment
	Node(id meta.NodeID) (meta.NodeInfo, bool)
	Nodes() []meta.NodeInfo
	Drains() map[meta.NodeID]meta.Drain
	Controller() (meta.NodeID, bool)

	Start(p meta.Partition) int64
	End(p meta.Partition) int64
	Hole(p meta.Partition) error
	// Room tells whether the nodes have room for so many partitions of one topic more.
	Room(partitions int32) bool
}
