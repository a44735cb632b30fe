package ingest

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/tier"
)

// planRead is a fetch plan while its bytes are gathered. What is read is decided for all partitions before anything is: first how much, within the
// budget, then by which requests to the object store, and then those run side by side.
type planRead struct {
	i    *incarnation
	plan fetchPlan
	// past: offsets that were lost are passed over within a partition. Otherwise what stands before them and behind them come in two answers.
	past bool

	blocks []tier.BlockRead
	pieces []planPiece
	out    []PartFetched
	given  [FetchObject + 1]int // bytes by source
}

// planPiece is what is read for one partition.
type planPiece struct {
	from, to int // of blocks
	cap      int // of bytes, from the object store
	strict   bool
}

// readPlan gathers the bytes of a plan, without the loop. What cannot be read is in the Err of its partition, as it came. The error is ErrNoRoom when reserve,
// which may be nil, says no. buffer, which may be nil too, gives the memory for what comes from the object store.
func (i *incarnation) readPlan(ctx context.Context, plan fetchPlan, maxBytes int, past bool, reserve func(int64) bool, buffer func(int) []byte) ([]PartFetched, error) {
	r := planRead{i: i, plan: plan, past: past, out: make([]PartFetched, len(plan.partitions)), pieces: make([]planPiece, len(plan.partitions))}
	need := r.allot(maxBytes)
	runs := tier.PlanRuns(r.blocks)
	for _, run := range runs {
		need += run.Size
	}
	if reserve != nil && need > 0 && !reserve(need) {
		return nil, ErrNoRoom
	}
	if buffer == nil {
		buffer = func(bytes int) []byte { return make([]byte, bytes) }
	}
	var group errgroup.Group
	group.SetLimit(blockReaders)
	for _, run := range runs {
		buf := buffer(int(run.Size))
		group.Go(func() error {
			run.Read(ctx, i.node.deps.Store, buf)
			return nil
		})
	}
	for n, p := range plan.partitions {
		if len(p.tail) > 0 {
			r.out[n].Err = r.readTail(p, &r.out[n].PartitionBatches)
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for n, p := range r.pieces {
		if p.from < p.to {
			r.out[n].Err = r.cut(p, plan.partitions[n].offset, &r.out[n].PartitionBatches)
		}
	}
	for source, bytes := range r.given {
		if bytes > 0 {
			i.node.deps.Telemetry.FetchedFrom(ctx, FetchSource(source), bytes)
		}
	}
	return r.out, nil
}

// allot decides for each partition how much is read, first come first served, and returns the bytes of what comes from the tail. A block is read whole, so
// all of it counts; but of a block that is the first thing in the answer, none is left out because of its size.
func (r *planRead) allot(left int) (tail int64) {
	given := false
	for n := range r.plan.partitions {
		p := &r.plan.partitions[n]
		got := &r.out[n]
		got.Topic, got.Partition, got.LeaderEpoch = p.id.Topic, p.id.Partition, p.leads
		got.NextOffset, got.HighWatermark, got.LogStartOffset = p.offset, p.hwm, p.start
		switch {
		case p.err != nil:
			got.Err = p.err
		case p.lost.To > 0:
			got.Lost, got.NextOffset = []meta.OffsetRange{p.lost}, p.lost.To
		case p.fromTier:
			size, err := r.choose(n, left, given)
			got.Err = err
			left -= size
			given = given || size > 0
		default:
			size := 0
			for m, b := range p.tail {
				if (given || m > 0) && size+b.size > left {
					p.tail = p.tail[:m]
					break
				}
				size += b.size
			}
			left -= size
			tail += int64(size)
			given = given || size > 0
		}
	}
	return tail
}

// choose lists the blocks of one partition from the plan's offset on, as far as the index and the caps go, and tells how long they are.
func (r *planRead) choose(n, left int, given bool) (size int, err error) {
	p := r.plan.partitions[n]
	piece := planPiece{from: len(r.blocks), cap: left, strict: given}
	if p.maxBytes > 0 {
		piece.cap = min(left, p.maxBytes)
	}
	if piece.cap <= 0 {
		return 0, nil
	}
	found := false
	for offset := p.offset; offset < p.hwm; {
		b, ok := r.i.follower.Lookup(p.id, offset)
		if !ok {
			next := offset
			if r.past {
				next = pastLost(r.i.follower.Lost(p.id), offset)
			}
			if next == offset {
				break // the tail goes on from here, or offsets that were lost
			}
			offset = next
			continue
		}
		found = true
		length := int(b.Length)
		if size > 0 && size+length > piece.cap {
			break
		}
		if size == 0 && given && (length > left || length > piece.cap && b.Batches == 1) {
			break
		}
		r.blocks = append(r.blocks, tier.BlockRead{Object: b.Object, Entry: b.L0Entry})
		size += length
		offset = b.End()
	}
	piece.to = len(r.blocks)
	r.pieces[n] = piece
	if found {
		return size, nil
	}
	if _, known := r.i.follower.TopicByID(p.id.Topic); !known {
		return 0, Errorf(ReasonUnknownTopic, "the topic was deleted while it was read")
	}
	return 0, Errorf(ReasonCorruptData, "offset %d of partition %d is below the high watermark %d, but neither tail nor index has it", p.offset, p.id.Partition, p.hwm)
}

// cut gives of the blocks of one partition what was asked for.
func (r *planRead) cut(p planPiece, offset int64, got *PartitionBatches) error {
	left := p.cap
	for n := p.from; n < p.to && left > 0; n++ {
		b := r.blocks[n]
		if b.Err != nil {
			if len(got.Batches) > 0 {
				return nil // the next fetch tells
			}
			return b.Err
		}
		kept, next, err := window(b.Data, offset, left)
		switch {
		case err != nil:
			return fmt.Errorf("object %s at %d: %w", b.Object, b.Entry.Position, err)
		case p.strict && len(kept) > left:
			return nil
		}
		if len(kept) > 0 {
			r.given[FetchObject] += len(kept)
			got.Batches = append(got.Batches, kept)
			got.NextOffset = next
			left -= len(kept)
		}
		if next < b.Entry.End() {
			return nil // the cap is reached
		}
	}
	return nil
}

// readTail reads the batches of a partition's tail that the plan names.
func (r *planRead) readTail(p partitionPlan, got *PartitionBatches) error {
	got.Batches = make([][]byte, 0, len(p.tail))
	for _, b := range p.tail {
		bytes, err := readPlanned(r.i.log, b)
		if err != nil {
			got.Batches = nil
			return err
		}
		source := FetchMemory
		if b.bytes == nil {
			source = FetchLog
		}
		r.given[source] += len(bytes)
		got.Batches = append(got.Batches, bytes)
		got.NextOffset = b.next
	}
	return nil
}
