package ingest

import (
	"fmt"

	"github.com/tidemark-io/tidemark/meta"
)

// leader is where calls about a partition go.
type leader struct {
	node  meta.NodeID
	epoch meta.Epoch
	// refused says why nobody can be asked, NOT_LEADER when that may pass; nil when node can.
	refused *Error
}

// leaderOf finds who leads a partition, as far as the index knows.
func (h here) leaderOf(topic meta.Topic, partition int32) leader {
	l, wait := ledBy(h.index, topic, partition)
	out := leader{node: l.Node, epoch: l.Epoch}
	switch {
	case wait != "":
	case h.forwarded && l.Node != h.self: // it was sent here because the sender thought otherwise
		wait = fmt.Sprintf("node %s leads it, and not node %s, to which it was forwarded", l.Node, h.self)
	default:
		return out
	}
	if err := h.index.Hole(meta.Partition{Topic: topic.ID, Partition: partition}); err != nil {
		out.refused = Errorf(ReasonCorruptData, "topic %s partition %d: %w", topic.Name, partition, err)
		return out
	}
	out.refused = Errorf(ReasonNotLeader, "topic %s partition %d: %s", topic.Name, partition, wait).WithRetryAfter(askAgain)
	if l.Node != "" {
		out.refused = out.refused.With(metadataLeader, string(l.Node))
	}
	return out
}

// ledBy tells who is assigned a partition, and when that node does not serve it, what the partition waits for.
func ledBy(index clusterIndex, topic meta.Topic, partition int32) (l meta.Leadership, waitsFor string) {
	id := meta.Partition{Topic: topic.ID, Partition: partition}
	l, assigned := index.Leader(id)
	if !assigned {
		return l, "nobody leads it yet; a node is given it as soon as one has room"
	}
	info, alive := index.Node(l.Node)
	released := index.Released(l.Node, id, l.Epoch)
	switch {
	case index.Hole(id) != nil:
		return l, fmt.Sprintf("its log has a hole, so nobody leads it: %v", index.Hole(id))
	case released:
		return l, fmt.Sprintf("it is moving away from node %s", l.Node)
	case !alive && topic.OnDisk():
		return l, fmt.Sprintf("node %s, which leads it, is not alive, and only that node's disk has the end of it: it waits for the node to come back, or for `tidemark cluster forget-node %s`", l.Node, l.Node)
	case !alive:
		return l, fmt.Sprintf("node %s, which led it, is not alive; another node takes over soon", l.Node)
	case l.Disk != info.Disk && topic.OnDisk():
		return l, fmt.Sprintf("node %s has come back with another disk: it waits for the one that it had, or for `tidemark cluster forget-node %s`", l.Node, l.Node)
	case l.Disk != info.Disk:
		return l, fmt.Sprintf("node %s has come back with another disk, and is given it anew soon", l.Node)
	}
	return l, ""
}
