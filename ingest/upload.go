package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest/wal"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/proof/failpoint"
	"github.com/tidemark-io/tidemark/proof/mutant"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier"
)

// uploader is the outside of the core's upload: it gathers the bytes of a cut, builds the L0 object and stores it.
type uploader struct {
	node        meta.NodeID
	incarnation meta.Incarnation
	store       tier.Store
	log         *wal.Log
	clock       clock.Clock
	telemetry   *Telemetry
}

// store builds the object of a job and puts it under a name that stands for this content alone, again and again with the
// same bytes until the store takes it or ctx ends. failing hears of every failed attempt. It returns the record to commit.
func (u *uploader) flush(ctx context.Context, number meta.Seq, batches []plannedBatch, failing func(error)) (*meta.L0Record, error) {
	input := make([]tier.L0Batch, len(batches))
	for i, b := range batches {
		bytes, err := readPlanned(u.log, b)
		if err != nil {
			return nil, err
		}
		input[i] = tier.L0Batch{Topic: b.id.Topic, Partition: b.id.Partition, AppendTime: b.appendTime, Batch: bytes}
	}
	object, err := tier.BuildL0(input)
	if err != nil {
		return nil, fmt.Errorf("build L0 object %d: %w", number, err)
	}
	return u.put(ctx, number, object, len(batches), failing)
}

// put stores an object however long it takes.
func (u *uploader) put(ctx context.Context, number meta.Seq, object *tier.L0Object, batches int, failing func(error)) (*meta.L0Record, error) {
	name := meta.L0ObjectName(u.node, u.incarnation, number, 0)
	ctx, span := u.telemetry.Span(ctx, "tidemark.flush")
	began := u.clock.Now()
	wait := 50 * time.Millisecond
	for {
		failpoint.Here(failpoint.StoreBeforePut)
		err := u.store.Put(ctx, name, object.Body)
		if err == nil || mutant.On(mutant.K3) {
			failpoint.Here(failpoint.StoreAfterPut)
			EndSpan(span, nil)
			u.telemetry.Flushed(ctx, batches, object.Size, u.clock.Now().Sub(began))
			return &meta.L0Record{
				Node: u.node, Incarnation: u.incarnation, Object: name, Size: object.Size,
				IndexOffset: object.IndexOffset, IndexLength: int32(len(object.IndexBytes)), IndexCRC: object.IndexCRC,
				Inline: len(object.IndexBytes) <= meta.MaxInlineIndex, Index: object.Index,
			}, nil
		}
		u.telemetry.FlushFailed(ctx)
		if errors.Is(err, tier.ErrFailed) {
			EndSpan(span, err)
			return nil, fmt.Errorf("store L0 object %s: %w", name, err) // it cannot vouch for anything any more: the node stops
		}
		failing(err)
		if !pause(ctx, u.clock, wait) {
			EndSpan(span, err)
			return nil, fmt.Errorf("store L0 object %s: %w", name, err)
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// readPlanned gives the bytes of a planned batch: from memory, or back from the log.
func readPlanned(log *wal.Log, b plannedBatch) (record.Batch, error) {
	if b.bytes != nil {
		return b.bytes, nil
	}
	f, err := log.Read(b.at, nil)
	if err != nil {
		return nil, fmt.Errorf("read offset %d back from the log on disk: %w", b.base, err)
	}
	got := record.Batch(f.Batch)
	if f.Topic != b.id.Topic || f.Partition != b.id.Partition || f.Epoch != b.epoch || got.BaseOffset() != b.base {
		return nil, Errorf(ReasonCorruptData, "the log on disk has another batch at %d than offset %d of partition %d", b.at, b.base, b.id.Partition)
	}
	return got, nil
}
