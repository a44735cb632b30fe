package ingest

import (
	"context"
	"slices"
	"time"

	"github.com/tidemark-io/tidemark/meta"
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
	request := FetchRequest{Topic: topic, TopicID: partitions[0].topic, MaxBytes: most, MinBytes: 1, MaxWait: streamFetchWait}
	var unknown time.Time // since when there is no such topic
	for ctx.Err() == nil {
		err := st.resolve(ctx, topic, partitions)
		var pieces []PartitionBatches
		var share *sendShare
		if err == nil {
			request.Partitions = request.Partitions[:0]
			for _, p := range partitions {
				request.Partitions = append(request.Partitions, FetchPartition{Partition: p.at.Partition, Offset: p.next})
			}
			pieces, share, err = st.room.fetchInto(ctx, st.reader, request, st.service.Log.Fetch)
		}
		switch reason := ReasonOf(err); {
		case err == nil:
			unknown = time.Time{}
		case reason == ReasonOffsetOutOfRange:
			if err := st.clamp(ctx, topic, partitions); err != nil {
				return err
			}
			continue
		case reason == ReasonCorruptData, reason == ReasonInternal, reason == ReasonInvalidRequest:
			return err
		case reason == ReasonUnknownTopic && st.madeAnew(topic, partitions[0].topic, &unknown):
			return errTopicMadeAnew
		default:
			// The topic is being deleted, a leader is away: it passes, or a rebalance takes the partitions away.
			pause(ctx, st.service.Clock, 200*time.Millisecond)
			continue
		}
		if !st.deliver(ctx, topic, partitions, pieces, share) {
			return nil
		}
		// The partition that was first goes last, so that a full answer of one does not starve the others.
		partitions = append(partitions[1:len(partitions):len(partitions)], partitions[0])
	}
	return nil
}

// deliver hands pieces to send, each with its part of the share, and gives the rest back; false when ctx has ended.
func (st *groupStream) deliver(ctx context.Context, topic string, partitions []*memberPartition, pieces []PartitionBatches, share *sendShare) bool {
	defer share.give()
	for n, piece := range pieces {
		i := slices.IndexFunc(partitions, func(p *memberPartition) bool { return p.at.Partition == piece.Partition })
		if i < 0 || piece.NextOffset <= partitions[i].next {
			continue
		}
		p := groupPiece{partition: partitions[i], groupMessage: groupMessage{
			message: &tidemarkv1.GroupServiceConsumeResponse{Event: &tidemarkv1.GroupServiceConsumeResponse_Records{
				Records: &tidemarkv1.GroupRecords{Topic: topic, Batches: batchesMessage(piece)},
			}},
			share: share.part(pieceSize(piece)),
		}}
		pieces[n].Batches = nil
		select {
		case st.records <- p:
			partitions[i].next = piece.NextOffset
		case <-ctx.Done():
			p.share.give()
			return false
		}
	}
	return true
}

// errTopicMadeAnew ends a stream one of whose topics is another one now.
var errTopicMadeAnew = &Error{Reason: ReasonUnknownTopic, Message: "a topic was deleted while it was read, and another of the same name was made: consume again"}

// unknownPatience is how long a topic that was assigned may be another one as far as this node knows: the coordinator may have heard of it before.
const unknownPatience = 5 * time.Second

// madeAnew tells whether the name of a topic is that of another one for good. since is from when on it is in question, zero before.
func (st *groupStream) madeAnew(topic string, id meta.TopicID, since *time.Time) bool {
	seat, refused := st.service.Groups.seat()
	if refused != nil {
		return false
	}
	now, there := seat.Index.Topic(topic)
	if !there || now.ID == id {
		*since = time.Time{}
		return false // it is deleted and a rebalance follows, or it was not known yet
	}
	if since.IsZero() {
		*since = st.service.Clock.Now()
	}
	return st.service.Clock.Now().Sub(*since) >= unknownPatience
}

// resolve finds out where partitions without a committed offset begin.
func (st *groupStream) resolve(ctx context.Context, topic string, partitions []*memberPartition) error {
	if !slices.ContainsFunc(partitions, func(p *memberPartition) bool { return p.next < 0 }) {
		return nil
	}
	now, states, err := st.service.Log.Topic(ctx, topic)
	if err != nil {
		return err
	}
	if now.ID != partitions[0].topic {
		return anotherTopic(topic, partitions[0].topic.String())
	}
	for _, p := range partitions {
		at := slices.IndexFunc(states, func(s PartitionState) bool { return s.Partition == p.at.Partition })
		switch {
		case p.next >= 0:
		case at < 0 || states[at].Leader == "":
			return Errorf(ReasonNotLeader, "topic %q, partition %d has no leader now", topic, p.at.Partition)
		case st.fromEnd:
			if err := knownEnd(now, states[at]); err != nil {
				return err
			}
			p.next = states[at].HighWatermark
		default:
			p.next = states[at].LogStartOffset
		}
	}
	return nil
}

// clamp moves positions that retention has overtaken to where the log begins. One above the log's end is nobody's doing but of who
// committed it; that only a leader can tell, for the index may be behind.
func (st *groupStream) clamp(ctx context.Context, topic string, partitions []*memberPartition) error {
	now, states, _ := st.service.Log.Topic(ctx, topic)
	if now.ID != partitions[0].topic {
		states = nil // the positions say nothing about another topic
	}
	moved := false // states are none with an error; then it is tried again
	for _, p := range partitions {
		at := slices.IndexFunc(states, func(s PartitionState) bool { return s.Partition == p.at.Partition })
		switch {
		case at < 0 || states[at].Leader == "":
		case p.next < states[at].LogStartOffset:
			p.next, moved = states[at].LogStartOffset, true
		case p.next > states[at].HighWatermark && !states[at].fromIndex:
			return offsetOutOfRange(topic, p.next, states[at])
		}
	}
	if !moved {
		pause(ctx, st.service.Clock, 200*time.Millisecond)
	}
	return nil
}
