package query

import (
	"context"
	"errors"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// systemPartitions is system.partitions: who leads each partition, and its offsets.
var systemPartitions = systemTable{
	name: "partitions",
	schema: columnsOf(
		"topic", textType, "partition", int32Type, "leader", textType, "leader_epoch", int32Type,
		"log_start_offset", int64Type, "high_watermark", int64Type, "committed_offset", int64Type, "log_end_offset", int64Type,
	),
	read: func(ctx context.Context, s *Service, b *tableBuilder) error {
		topics, err := s.topics.List(ctx)
		if err != nil {
			return unavailable("list the topics", err)
		}
		states, err := eachOf(ctx, atOnce, topics, func(ctx context.Context, t meta.Topic) ([]*tidemarkv1.PartitionState, error) {
			_, partitions, err := s.log.GetTopic(ctx, t.Name)
			if client.IsNotFound(err) { // deleted since
				return nil, nil
			}
			if err != nil {
				return nil, unavailable("ask for the partitions of topic "+t.Name, err)
			}
			return partitions, nil
		})
		if err != nil {
			return err
		}
		for i, t := range topics {
			for _, p := range states[i] {
				var leader any
				if p.GetLeader() != "" {
					leader = p.GetLeader()
				}
				b.row(t.Name, p.GetPartition(), leader, p.GetLeaderEpoch(), p.GetLogStartOffset(), p.GetHighWatermark(),
					p.GetCommittedOffset(), p.GetLogEndOffset())
			}
		}
		return nil
	},
}

// unavailable says that something outside of the service did not answer. Ends of contexts, and what has a reason, stay what
// they are.
func unavailable(what string, err error) error {
	if _, known := errors.AsType[*Error](err); known || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	e := errorf(ReasonUnavailable, "%s: %w", what, err)
	if remote, is := errors.AsType[*client.Error](err); is {
		e.RetryAfter = remote.RetryAfter
	}
	return e
}
