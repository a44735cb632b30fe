package ingest

import (
	"context"
	"time"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier"
)

// PartState is where a partition stands that this node leads. With Err, which is an *Error, nothing else counts.
type PartState struct {
	Epoch meta.Epoch // at which it is led
	// Start <= Committed <= End, and HighWatermark <= End.
	Start, HighWatermark, Committed, End int64
	// Behind says that HighWatermark has not come back yet to what an earlier life of this node may have acknowledged: see the package's guarantees.
	Behind bool
	Err    error
}

// PartStates tells where partitions stand, in the order of ids, without asking other nodes: what this node does not lead has NOT_LEADER. It asks etcd
// once, together with others who ask at the time, so the marks are not those of a leader of the past.
func (n *Node) PartStates(ctx context.Context, ids []meta.Partition) ([]PartState, error) {
	i, refused := n.reading()
	if refused != nil {
		return nil, refused
	}
	return i.confirmedStates(ctx, ids)
}

// confirmedStates tells where partitions stand of which etcd says that this node leads them, at an index that is not older than the call.
func (i *incarnation) confirmedStates(ctx context.Context, ids []meta.Partition) ([]PartState, error) {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	revision, err := i.node.looks.read(ctx, i.node.deps.Meta.Revision)
	if err != nil {
		return nil, metaError("find out who leads", err)
	}
	if err := i.follower.WaitFor(ctx, revision); err != nil {
		return nil, metaError("wait for the index", err)
	}
	states, err := i.partStates(ctx, ids)
	if err != nil {
		return nil, err
	}
	for n := range states {
		s := &states[n]
		if s.Err != nil {
			continue
		}
		at, led := i.follower.Leader(ids[n])
		if !led || at.Node != i.node.config.Node || at.Epoch != s.Epoch {
			s.Err = Errorf(ReasonNotLeader, "node %s does not lead topic %s partition %d any more", i.node.config.Node, i.topicName(ids[n].Topic), ids[n].Partition).
				WithRetryAfter(50 * time.Millisecond)
		}
	}
	return states, nil
}

// partStates is what the loop knows.
func (i *incarnation) partStates(ctx context.Context, ids []meta.Partition) ([]PartState, error) {
	answer := make(chan []PartState, 1)
	if !i.post(func(time.Time) {
		out := make([]PartState, len(ids))
		for n, id := range ids {
			p := i.core.partitions[id]
			if p == nil {
				out[n].Err = i.core.notLed(id, i.core.nameOf(id))
				continue
			}
			out[n] = PartState{
				Epoch: p.epoch, Start: p.start, HighWatermark: p.hwm, Committed: p.committed, End: p.end,
				Behind: p.hwm < p.replayedTo,
			}
		}
		answer <- out
	}) {
		return nil, beginsAnew()
	}
	select {
	case out := <-answer:
		return out, nil
	case <-ctx.Done():
		return nil, callerGone(ctx, "ask where partitions stand")
	}
}

// RecordTime is a record that was found by its time, ms since the Unix epoch as its producer set it.
type RecordTime struct {
	Offset, Timestamp int64
	Epoch             meta.Epoch // at which it was taken
}

// FirstSince finds the first record of a partition at or after a timestamp; false when there is none below the high watermark.
func (n *Node) FirstSince(ctx context.Context, id meta.Partition, timestampMs int64) (RecordTime, bool, error) {
	r, _, err := n.firstSince(ctx, id, timestampMs)
	return r, r.Offset >= 0, err
}

// Newest finds the record with the greatest timestamp of a partition, the first if there are several; false when it has no records below the high
// watermark.
func (n *Node) Newest(ctx context.Context, id meta.Partition) (RecordTime, bool, error) {
	i, refused := n.reading()
	if refused != nil {
		return RecordTime{}, false, refused
	}
	newest, err := i.newestInTail(id)
	if err != nil {
		return RecordTime{}, false, err
	}
	if b, ok := i.follower.LookupNewest(id); ok && (newest == nil || b.MaxTimestamp >= *newest) {
		newest = &b.MaxTimestamp
	}
	if newest == nil {
		return RecordTime{}, false, nil
	}
	return n.FirstSince(ctx, id, *newest)
}

// newestInTail is the greatest timestamp below the high watermark that the tail has, nil when it has nothing.
func (i *incarnation) newestInTail(id meta.Partition) (newest *int64, err error) {
	done := make(chan struct{})
	if !i.post(func(time.Time) {
		defer close(done)
		p := i.core.partitions[id]
		if p == nil {
			err = i.core.notLed(id, i.core.nameOf(id))
			return
		}
		newest = i.core.tail.newest(id, p.hwm)
	}) {
		return nil, beginsAnew()
	}
	<-done
	return newest, err
}

// OffsetForTime returns the offset of the first record at or after a timestamp (ms since the Unix epoch, as producers set
// it), and the high watermark when there is none.
func (n *Node) OffsetForTime(ctx context.Context, topicName string, partition int32, timestampMs int64) (int64, error) {
	i, refused := n.reading()
	if refused != nil {
		return 0, refused
	}
	topic, ok := i.follower.Topic(topicName)
	if !ok {
		return 0, unknownTopic(topicName)
	}
	r, hwm, err := n.firstSince(ctx, meta.Partition{Topic: topic.ID, Partition: partition}, timestampMs)
	if err == nil && r.Offset < 0 {
		return hwm, nil
	}
	return r.Offset, err
}

// firstSince looks in the index, and then in the tail, which begins where the index ends or before. Without a record the offset is -1, and the high watermark
// is that of the moment at which there was none.
func (n *Node) firstSince(ctx context.Context, id meta.Partition, timestampMs int64) (r RecordTime, hwm int64, err error) {
	i, refused := n.reading()
	if refused != nil {
		return RecordTime{}, 0, refused
	}
	none := RecordTime{Offset: -1, Timestamp: -1}
	if b, ok := i.follower.LookupTime(id, timestampMs); ok {
		bytes, err := tier.ReadBlock(ctx, n.deps.Store, b.Object, b.L0Entry, nil)
		if err != nil {
			return none, 0, readError(i.topicName(id.Topic), err)
		}
		for rest := bytes; len(rest) > 0; {
			batch, after, err := record.Next(rest)
			if err != nil {
				return none, 0, readError(i.topicName(id.Topic), err)
			}
			if batch.MaxTimestamp() >= timestampMs {
				r, err := n.firstIn(i.topicName(id.Topic), batch, timestampMs)
				return r, 0, err
			}
			rest = after
		}
	}
	type found struct {
		batch plannedBatch
		ok    bool
		hwm   int64
		err   *Error
	}
	answer := make(chan found, 1)
	if !i.post(func(time.Time) {
		p := i.core.partitions[id]
		if p == nil {
			answer <- found{err: i.core.notLed(id, i.core.nameOf(id))}
			return
		}
		e := i.core.tail.firstSince(id, timestampMs, p.hwm)
		if e == nil {
			answer <- found{hwm: p.hwm}
			return
		}
		answer <- found{batch: planned(e), ok: true}
	}) {
		return none, 0, beginsAnew()
	}
	f := <-answer
	switch {
	case f.err != nil:
		return none, 0, f.err
	case !f.ok:
		return none, f.hwm, nil
	}
	batch, err := readPlanned(i.log, f.batch)
	if err != nil {
		return none, 0, readError(i.topicName(id.Topic), err)
	}
	r, err = n.firstIn(i.topicName(id.Topic), batch, timestampMs)
	return r, 0, err
}

// firstIn finds the record inside a batch whose greatest timestamp is new enough.
func (n *Node) firstIn(topic string, b record.Batch, timestampMs int64) (RecordTime, error) {
	for r, err := range b.Records(n.limits) {
		if err != nil {
			return RecordTime{Offset: -1}, readError(topic, err)
		}
		if r.Timestamp >= timestampMs {
			return RecordTime{Offset: r.Offset, Timestamp: r.Timestamp, Epoch: b.LeaderEpoch()}, nil
		}
	}
	return RecordTime{Offset: b.BaseOffset(), Timestamp: b.FirstTimestamp(), Epoch: b.LeaderEpoch()}, nil
}

// EpochEnd tells where the offsets end that were given at an epoch or before it: the first that was given at a later one, and the log's end when there is none.
// at is the greatest epoch of a record below that, or the epoch asked for when there is no record. What a reader has read at the epoch lies below: nothing that
// was readable is taken back, and offsets that were given up with a disk count to the epoch before them. An epoch above that of this node is ErrNewEpoch.
func (n *Node) EpochEnd(id meta.Partition, epoch meta.Epoch) (at meta.Epoch, end int64, err error) {
	i, refused := n.reading()
	if refused != nil {
		return 0, 0, refused
	}
	done := make(chan struct{})
	if !i.post(func(time.Time) {
		defer close(done)
		p := i.core.partitions[id]
		switch {
		case p == nil:
			err = i.core.notLed(id, i.core.nameOf(id))
			return
		case epoch > p.epoch:
			err = wrongEpoch(p.topic, id.Partition, epoch, p.epoch)
			return
		case epoch == p.epoch:
			at, end = epoch, p.end
			return
		}
		// Everything in the tail was given at the epoch of now. The index is looked at after it: what has left the tail by then is in the index.
		end = p.end
		if first, ok := i.core.tail.first(id); ok {
			end = first
		}
		first, before, later := i.follower.LookupEpoch(id, epoch)
		if later {
			end = first
		}
		at = before
		if at == 0 {
			at = epoch
		}
	}) {
		return 0, 0, beginsAnew()
	}
	<-done // the loop answers everything that was posted
	return at, end, err
}
