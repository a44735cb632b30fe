package ingest

import (
	"context"
	"errors"
	"slices"
	"time"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// startFetching reads every partition that is not stopped, one goroutine a topic. The member's goroutine calls it.
func (st *groupStream) startFetching(ctx context.Context) {
	st.stopFetching()
	ctx, st.stopFetch = context.WithCancel(ctx)
	topics := make(map[string][]*memberPartition)
	st.mu.Lock()
	for at, p := range st.partitions {
		if !p.stopped {
			topics[at.Topic] = append(topics[at.Topic], p)
		}
	}
	st.mu.Unlock()
	most := max(groupFetchBytes/max(len(topics), 1), leastGroupFetchBytes)
	for topic, partitions := range topics {
		slices.SortFunc(partitions, func(a, b *memberPartition) int { return int(a.at.Partition) - int(b.at.Partition) })
		st.fetchers.Go(func() {
			if err := st.fetch(ctx, topic, partitions, most); err != nil && ctx.Err() == nil {
				st.cancel(err)
			}
		})
	}
}

// stopFetching returns when nobody reads any more.
func (st *groupStream) stopFetching() {
	st.stopFetch()
	st.fetchers.Wait()
}

// fetch reads partitions of one topic until ctx ends. Only it changes their positions meanwhile.
func (st *groupStream) fetch(ctx context.Context, topic string, partitions []*memberPartition, most int) error {
	request := FetchRequest{Topic: topic, MaxBytes: most, MinBytes: 1, MaxWait: streamFetchWait}
	for ctx.Err() == nil {
		err := st.checkTopic(topic, partitions)
		if err == nil {
			err = st.resolve(ctx, topic, partitions)
		}
		var pieces []PartitionBatches
		if err == nil {
			request.Partitions = request.Partitions[:0]
			for _, p := range partitions {
				request.Partitions = append(request.Partitions, FetchPartition{Partition: p.at.Partition, Offset: p.next})
			}
			pieces, err = st.service.Log.Fetch(ctx, request)
		}
		if err == nil {
			err = st.checkTopic(topic, partitions) // what was read may be another log's
		}
		switch reason := ReasonOf(err); {
		case err == nil:
		case reason == ReasonOffsetOutOfRange:
			if err := st.clamp(ctx, topic, partitions); err != nil {
				return err
			}
			continue
		case reason == ReasonCorruptData, reason == ReasonInternal, reason == ReasonInvalidRequest, errors.Is(err, errTopicMadeAnew):
			return err
		default:
			// The topic is being deleted, a leader is away: it passes, or a rebalance takes the partitions away.
			pause(ctx, st.service.Clock, 200*time.Millisecond)
			continue
		}
		for _, piece := range pieces {
			i := slices.IndexFunc(partitions, func(p *memberPartition) bool { return p.at.Partition == piece.Partition })
			if i < 0 || piece.NextOffset <= partitions[i].next {
				continue
			}
			p := groupPiece{partition: partitions[i], message: &tidemarkv1.GroupServiceConsumeResponse{Event: &tidemarkv1.GroupServiceConsumeResponse_Records{
				Records: &tidemarkv1.GroupRecords{Topic: topic, Batches: batchesMessage(piece)},
			}}}
			select {
			case st.records <- p:
				partitions[i].next = piece.NextOffset
			case <-ctx.Done():
				return nil
			}
		}
		// The partition that was first goes last, so that a full answer of one does not starve the others.
		partitions = append(partitions[1:len(partitions):len(partitions)], partitions[0])
	}
	return nil
}

// errTopicMadeAnew ends a stream one of whose topics is another one now.
var errTopicMadeAnew = &Error{Reason: ReasonUnknownTopic, Message: "a topic was deleted while it was read, and another of the same name was made: consume again"}

// checkTopic tells whether the topic is still the one that was assigned.
func (st *groupStream) checkTopic(topic string, partitions []*memberPartition) error {
	seat, refused := st.service.Groups.seat()
	if refused != nil {
		return refused
	}
	now, there := seat.Index.Topic(topic)
	switch {
	case !there:
		return Errorf(ReasonUnknownTopic, "there is no topic %q", topic)
	case now.ID != partitions[0].topic:
		return errTopicMadeAnew
	}
	return nil
}

// resolve finds out where partitions without a committed offset begin.
func (st *groupStream) resolve(ctx context.Context, topic string, partitions []*memberPartition) error {
	if !slices.ContainsFunc(partitions, func(p *memberPartition) bool { return p.next < 0 }) {
		return nil
	}
	_, states, err := st.service.Log.Topic(ctx, topic)
	if err != nil {
		return err
	}
	for _, p := range partitions {
		at := slices.IndexFunc(states, func(s PartitionState) bool { return s.Partition == p.at.Partition })
		switch {
		case p.next >= 0:
		case at < 0 || states[at].Leader == "":
			return Errorf(ReasonNotLeader, "topic %q, partition %d has no leader now", topic, p.at.Partition)
		case st.fromEnd:
			p.next = states[at].HighWatermark
		default:
			p.next = states[at].LogStartOffset
		}
	}
	return nil
}

// clamp moves positions that retention has overtaken to where the log begins. One above the log's end is nobody's doing but of who
// committed it.
func (st *groupStream) clamp(ctx context.Context, topic string, partitions []*memberPartition) error {
	_, states, _ := st.service.Log.Topic(ctx, topic)
	moved := false // states are none with an error; then it is tried again
	for _, p := range partitions {
		at := slices.IndexFunc(states, func(s PartitionState) bool { return s.Partition == p.at.Partition })
		switch {
		case at < 0 || states[at].Leader == "":
		case p.next < states[at].LogStartOffset:
			p.next, moved = states[at].LogStartOffset, true
		case p.next > states[at].HighWatermark:
			return offsetOutOfRange(topic, p.next, states[at])
		}
	}
	if !moved {
		pause(ctx, st.service.Clock, 200*time.Millisecond)
	}
	return nil
}
