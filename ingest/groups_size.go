package ingest

import "github.com/tidemark-io/tidemark/ingest/group"

// What calls that wait in a mailbox count for: about what they take in memory, small ones nothing beside the number of calls.

// partitionOverhead is what a partition takes beside its topic's name.
const partitionOverhead = 24

func joinBytes(j group.Join) int {
	size := len(j.MemberID) + len(j.InstanceID) + len(j.ClientID)
	for _, p := range j.Protocols {
		size += len(p.Name) + len(p.Metadata)
	}
	if j.Subscription == nil {
		return size
	}
	for _, topic := range j.Subscription.Topics {
		size += len(topic) + partitionOverhead
	}
	return size + len(j.Subscription.Owned)*partitionOverhead
}

func syncBytes(s group.Sync) int {
	size := 0
	for id, assignment := range s.Assignments {
		size += len(id) + len(assignment)
	}
	return size
}

func leaveBytes(members []group.LeavingMember) int {
	size := 0
	for _, m := range members {
		size += len(m.MemberID) + len(m.InstanceID)
	}
	return size
}

// size is what the commit counts for while it waits.
func (c *groupCommit) size() int {
	size := len(c.errors) * partitionOverhead
	for _, o := range c.offsets {
		size += o.Size() + len(o.name)
	}
	return size
}
