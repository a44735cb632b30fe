package client

import (
	"cmp"
	"fmt"
	"iter"
	"slices"

	"connectrpc.com/connect"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/record"
)

// Batches is a piece of one partition's log.
type Batches struct {
	Topic     string
	Partition int32
	// HighWatermark and LogStartOffset are those of the moment when the server answered.
	HighWatermark  int64
	LogStartOffset int64
	// From and Next bound the records that belong to this piece: From <= offset < Next.
	From, Next int64
	// Lost are the offsets of the piece that no record will ever be read from, in order: those that were given up with the disk of
	// a node, and, for a GroupConsumer, those that retention removed before the group came to them.
	Lost []OffsetRange

	raw    []record.Batch
	limits record.Limits
}

// OffsetRange is the offsets From <= offset < To.
type OffsetRange struct{ From, To int64 }

// Position covers the piece and all of its partition below it: what a GroupConsumer commits when the piece is processed.
func (b *Batches) Position() Position {
	return Position{Topic: b.Topic, Offsets: map[int32]int64{b.Partition: b.Next}}
}

// Raw iterates over the encoded batches, whose checksums have been verified. The first may begin below From, the last may end
// above Next.
func (b *Batches) Raw() iter.Seq[record.Batch] {
	return func(yield func(record.Batch) bool) {
		for _, r := range b.raw {
			if !yield(r) {
				return
			}
		}
	}
}

// Records iterates over the decoded records of the piece. They stay valid.
func (b *Batches) Records() iter.Seq2[record.Record, error] {
	return func(yield func(record.Record, error) bool) {
		for _, raw := range b.raw {
			for r, err := range raw.Records(b.limits) {
				if err != nil {
					yield(record.Record{}, &Error{Code: connect.CodeDataLoss, Reason: ReasonCorruptData, Message: fmt.Sprintf("decode batch at offset %d of %s/%d: %v", raw.BaseOffset(), b.Topic, b.Partition, err), cause: err})
					return
				}
				if r.Offset < b.From || r.Offset >= b.Next {
					continue
				}
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

// leaderEpoch is that of the last batch, -1 without one.
func (b *Batches) leaderEpoch() int32 {
	if len(b.raw) == 0 {
		return -1
	}
	return b.raw[len(b.raw)-1].LeaderEpoch()
}

// verifyPiece checks what a server sent for a partition that is read from an offset on: every batch by its checksum, and that no
// offset is missing but for those that it declares to be lost. The piece ends below end, unless that is noEnd. Nil when there is nothing new in it.
func verifyPiece(topic string, pb *tidemarkv1.PartitionBatches, from, end int64, limits record.Limits) (*Batches, error) {
	n := pb.GetPartition()
	lost, err := lostRanges(topic, pb)
	if err != nil {
		return nil, err
	}
	out := &Batches{Topic: topic, Partition: n, HighWatermark: pb.GetHighWatermark(), LogStartOffset: pb.GetLogStartOffset(), From: from, limits: limits}
	at := from
	for rest := pb.GetBatches(); len(rest) > 0; {
		var b record.Batch
		if b, rest, err = record.Next(rest); err != nil {
			return nil, corruptLog(topic, "partition %d, after offset %d: %v", n, at, err)
		}
		if err := b.CheckCRC(); err != nil {
			return nil, corruptLog(topic, "partition %d: %v", n, err)
		}
		for _, l := range lost { // in order, so that one pass leads over neighbors
			if b.BaseOffset() > at && l.From <= at {
				at = max(at, l.To)
			}
		}
		if b.BaseOffset() > at {
			return nil, corruptLog(topic, "partition %d: the batch after offset %d begins at %d", n, at, b.BaseOffset())
		}
		if b.NextOffset() <= at {
			continue // all of it is below what was asked for
		}
		at = b.NextOffset()
		out.raw = append(out.raw, b)
	}
	at = max(at, pb.GetNextOffset()) // the server may declare that nothing is there
	if end != noEnd {
		at = min(at, end)
	}
	if at <= from {
		return nil, nil
	}
	out.Next = at
	for _, l := range lost {
		if l = (OffsetRange{max(l.From, from), min(l.To, at)}); l.From < l.To {
			out.Lost = append(out.Lost, l)
		}
	}
	return out, nil
}

// lostRanges are those of a piece, in order.
func lostRanges(topic string, pb *tidemarkv1.PartitionBatches) ([]OffsetRange, error) {
	if len(pb.GetLost()) == 0 {
		return nil, nil
	}
	out := make([]OffsetRange, 0, len(pb.GetLost()))
	for _, l := range pb.GetLost() {
		if l.GetFrom() < 0 || l.GetFrom() >= l.GetTo() {
			return nil, corruptLog(topic, "partition %d: offsets %d to %d are said to be lost", pb.GetPartition(), l.GetFrom(), l.GetTo())
		}
		out = append(out, OffsetRange{l.GetFrom(), l.GetTo()})
	}
	slices.SortFunc(out, func(a, b OffsetRange) int { return cmp.Compare(a.From, b.From) })
	return out, nil
}

func corruptLog(topic, format string, args ...any) error {
	return &Error{Code: connect.CodeDataLoss, Reason: ReasonCorruptData, Message: fmt.Sprintf("topic %s: ", topic) + fmt.Sprintf(format, args...)}
}
