package ingest

import (
	"context"
	"slices"
	"time"

	"github.com/tidemark-io/tidemark/ingest/group"
)

// Forget removes committed offsets and returns when that is durable. Each that could not be removed has its error, in the order of the partitions; one that
// was not there has none. What a group is subscribed to stays: GROUP_NOT_EMPTY. Of members whose metadata only they can read everything counts as subscribed. A group
// that is not there is UNKNOWN_GROUP.
func (g *Groups) Forget(ctx context.Context, name string, partitions []group.TopicPartition) ([]*Error, error) {
	a, refused := g.find(ctx, name, askAbsent)
	if refused != nil {
		return nil, refused
	}
	commit := &groupCommit{errors: make([]*Error, len(partitions)), offsets: make([]resolvedOffset, 0, len(partitions))}
	for i, p := range partitions {
		resolved, refused := a.resolve(GroupCommitOffset{Topic: p.Topic, Partition: p.Partition})
		if refused != nil {
			commit.errors[i] = refused
			continue
		}
		resolved.at, resolved.forget = i, true
		commit.offsets = append(commit.offsets, resolved)
	}
	return g.store(ctx, a, commit, func(now time.Time) error {
		if a.machine.State() == group.Empty {
			return a.machine.CheckEmpty(now)
		}
		topics, known := a.machine.Subscribed()
		commit.offsets = slices.DeleteFunc(commit.offsets, func(o resolvedOffset) bool {
			_, subscribed := slices.BinarySearch(topics, o.name)
			if subscribed || !known {
				commit.errors[o.at] = Errorf(ReasonGroupNotEmpty, "group %q has members that may read topic %q; stop them first", a.name, o.name)
			}
			return subscribed || !known
		})
		return nil
	})
}
