package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"connectrpc.com/connect"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/record"
)

// partition is a producer's end of one partition.
type partition struct {
	topic *topic
	id    int32

	// mu guards the batch that is being filled.
	mu      sync.Mutex
	builder *record.Builder
	open    *batch // nil when there is none

	// The rest is guarded by Producer.mu.
	//
	// queue holds sealed batches in order. Those with a sequence number come first:
	// queue[i].numbered implies queue[i-1].numbered.
	queue      []*batch
	pid        int64
	epoch      int16
	next       int32 // sequence of the next batch to be numbered
	unnumbered int32 // records in the queue that have no number yet
	waiting    int   // batches in flight, at most Producer.window
	draining   bool  // something failed: send nothing while waiting > 0
	broken     bool  // the sequence has a gap: a new producer id is needed
	brokenBy   bool  // what made the gap may itself be in the log
	asking     bool  // the new id has been asked for
	lingered   bool  // the open batch has waited its time and goes when there is room in flight
	attempts   int   // failures since the last success
	retryAt    time.Time
	route
}

type batchState uint8

const (
	batchQueued   batchState = iota // to be sent, maybe again
	batchFlying                     // sent, not answered
	batchAcked                      // answered, behind one that is not
	batchRejected                   // failed for good, behind one that is not
)

// batch is some records of one partition on their way.
type batch struct {
	part      *partition
	callbacks []Callback
	charge    int64
	deadline  time.Time
	done      chan struct{} // closed when every callback has returned

	// Set when the batch is sealed.
	bytes record.Batch
	count int32

	// Guarded by Producer.mu from the sealing on.
	state       batchState
	numbered    bool
	doubt       bool // an attempt may have succeeded
	correlation uint64
	shared      bool // a stream that was given up may still read its bytes
	outOfOrder  int  // attempts refused for their place in the sequence
	answer      *tidemarkv1.ProduceResponse
	err         *Error // of the last attempt
}

// take puts a record into the partition's open batch.
func (p *Producer) take(ctx context.Context, part *partition, r record.Record, done Callback) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := p.fenced.Load(); err != nil {
		return err
	}
	now := p.c.clock.Now()
	if r.Timestamp == 0 {
		r.Timestamp = now.UnixMilli()
	}
	var empty record.Builder
	size := empty.SizeWith(r)
	limit := int(part.topic.limit.Load())
	if size > limit && (p.cfg.Compression == record.None || size > record.DefaultLimits().DecompressedBytes) {
		return refused(connect.CodeInvalidArgument, ReasonTooLarge, "record of %d bytes: topic %s takes at most %d (max.message.bytes)", size, part.topic.name, limit)
	}
	charge := int64(size - record.HeaderSize + recordCharge)
	if charge > int64(p.cfg.BufferBytes) {
		return refused(connect.CodeInvalidArgument, ReasonTooLarge, "record of %d bytes does not fit into the producer's buffer of %d", size, p.cfg.BufferBytes)
	}
	if !p.sem.TryAcquire(charge) {
		if err := p.waitForRoom(ctx, charge); err != nil {
			return err
		}
	}
	part.mu.Lock()
	defer part.mu.Unlock()
	if p.closed.Load() {
		p.sem.Release(charge)
		return ErrClosed
	}
	if part.builder == nil {
		part.builder = record.NewBuilder(p.cfg.Compression)
	}
	if part.open != nil && part.builder.SizeWith(r) > min(p.cfg.BatchBytes, limit) {
		p.sealLocked(part)
	}
	if err := part.builder.Append(r); err != nil {
		p.sem.Release(charge)
		reason := ReasonInvalidRecord
		if errors.Is(err, record.ErrTooLarge) {
			reason = ReasonTooLarge
		}
		return refused(connect.CodeInvalidArgument, reason, "encode record: %w", err)
	}
	if part.open == nil {
		part.open = p.begin(part, now)
	}
	part.open.callbacks = append(part.open.callbacks, done)
	part.open.charge += charge
	if p.cfg.Linger < 0 || part.builder.Size() >= min(p.cfg.BatchBytes, limit) {
		p.sealLocked(part)
	}
	return nil
}

// begin makes the batch that a record has just been appended for.
func (p *Producer) begin(part *partition, now time.Time) *batch {
	b := &batch{part: part, deadline: now.Add(p.cfg.DeliveryTimeout), done: make(chan struct{})}
	p.mu.Lock()
	p.outstanding[b] = struct{}{}
	first := len(p.lingering) == 0
	p.lingering = append(p.lingering, lingerer{b, now.Add(max(p.cfg.Linger, 0))})
	p.mu.Unlock()
	if first {
		wake(p.wakeKeeper)
	}
	return b
}

func (p *Producer) waitForRoom(ctx context.Context, n int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(p.ctx, func() { cancel(ErrClosed) })()
	if err := p.sem.Acquire(ctx, n); err != nil {
		return context.Cause(ctx)
	}
	return nil
}

// seal finishes the partition's open batch, if it is only (any when nil), and queues it.
func (p *Producer) seal(part *partition, only *batch) {
	part.mu.Lock()
	defer part.mu.Unlock()
	if part.open != nil && (only == nil || part.open == only) {
		p.sealLocked(part)
	}
}

func (p *Producer) sealLocked(part *partition) {
	b := part.open
	part.open = nil
	t := part.topic
	if parts := *t.parts.Load(); len(parts) > 1 {
		t.sticky.CompareAndSwap(part.id, (part.id+1)%int32(len(parts)))
	}
	p.mu.Lock()
	pid, epoch, sequence := int64(-1), int16(-1), int32(-1)
	if p.idempotent { // the likely number; it is checked when the batch is sent
		pid, epoch, sequence = part.pid, part.epoch, record.AddSequence(part.next, part.unnumbered)
	}
	p.mu.Unlock()
	bytes, err := part.builder.Build(pid, epoch, sequence)
	p.mu.Lock()
	defer p.mu.Unlock()
	part.lingered = false
	switch {
	case err != nil:
		p.finish(b, refused(connect.CodeInternal, ReasonInvalidRecord, "encode batch: %w", err))
		return
	case int64(len(bytes)) > t.limit.Load():
		p.finish(b, refused(connect.CodeInvalidArgument, ReasonTooLarge, "batch of %d bytes: topic %s takes at most %d (max.message.bytes)", len(bytes), t.name, t.limit.Load()))
		return
	}
	b.bytes, b.count = bytes, bytes.Count()
	part.queue = append(part.queue, b)
	part.unnumbered += b.count
	p.active[part] = struct{}{}
	if len(part.queue) == 1 {
		wake(p.wakeKeeper) // there is a deadline to watch
	}
	if p.fenced.Load() != nil {
		p.settle(part)
		return
	}
	p.enqueue(part)
}
