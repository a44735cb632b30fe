package ingest

import (
	"context"
	"hash/fnv"
	"slices"

	"github.com/tidemark-io/tidemark/meta"
)

// roleIngest is the role of nodes that own partitions and coordinate groups.
const roleIngest = "ingest"

// GroupIndex is what coordination needs to know of the cluster; *meta.Follower is one.
type GroupIndex interface {
	Revision() meta.Revision
	WaitFor(ctx context.Context, revision meta.Revision) error
	Changed() <-chan struct{}
	Topic(name string) (meta.Topic, bool)
	TopicByID(id meta.TopicID) (meta.Topic, bool)
	TopicsRevision() meta.Revision
	Nodes() []meta.NodeInfo
	Drains() map[meta.NodeID]meta.Drain
}

// groupOwner is the node that coordinates a group, as far as an index knows: of the nodes that are alive, own partitions and do not
// drain, the one that rendezvous hashing ranks first. So a node that comes takes its share from all, and one that goes leaves its
// groups to all. When every node drains, draining counts for nothing. False: there is no node.
//
// Two nodes with different indexes may each think that they are it. That costs time, not safety: see meta.ClaimGroup.
func groupOwner(name string, index GroupIndex) (meta.NodeInfo, bool) {
	var owner meta.NodeInfo
	var best uint64
	found, foundDrains := false, true
	drains := index.Drains()
	for _, n := range index.Nodes() {
		if len(n.Roles) > 0 && !slices.Contains(n.Roles, roleIngest) {
			continue
		}
		_, drain := drains[n.ID]
		rank := groupRank(name, n.ID)
		switch {
		case !found, foundDrains && !drain, foundDrains == drain && (rank > best || rank == best && n.ID < owner.ID):
			owner, best, found, foundDrains = n, rank, true, drain
		}
	}
	return owner, found
}

// groupRank is a hash of group and node. FNV alone leaves the ranks of names that differ in their last letter close together; the
// finalizer of MurmurHash3 mixes them.
func groupRank(name string, node meta.NodeID) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(node))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(name))
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
