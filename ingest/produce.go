package ingest

import (
	"context"
	"errors"
	"time"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
)

// ProduceRequest asks for one batch to be appended to one partition.
type ProduceRequest struct {
	Topic string
	// TopicID is the id that the topic must have; the zero id means any.
	TopicID   meta.TopicID
	Partition int32
	// Batch is exactly one RecordBatch v2. The node validates it, stamps it in place, and owns its bytes from the call on:
	// the caller may neither change nor reuse them.
	Batch record.Batch
	Acks  Acks
	// Logged, when there is one, is called at most once, from any goroutine, when the batch is in the log on disk or never will be: from then on the call
	// holds its bytes no more, however long its answer takes. It does not block. An answer comes with it, before it, or without it.
	Logged func()
}

// ProduceResult answers a ProduceRequest.
type ProduceResult struct {
	Topic     string
	Partition int32
	// BaseOffset is the offset of the first record, -1 with AcksNone.
	BaseOffset int64
	Records    int32
	Reached    Reached
	// NextOffset is the first offset after the batch: the position at which a reader has seen it. -1 with AcksNone.
	NextOffset int64
	// Duplicate says that the batch was a retry and this is the first attempt's answer.
	Duplicate bool
}

// produceCall is one produce on its way through the node.
type produceCall struct {
	request ProduceRequest
	id      meta.Partition
	batch   record.Batch // validated; nil once dropped
	// done is called exactly once and does not block.
	done func(ProduceResult, error)
}

// drop forgets the bytes: the log on disk has them, or nobody will.
func (c *produceCall) drop() {
	logged := c.request.Logged
	c.batch, c.request.Batch, c.request.Logged = nil, nil, nil
	if logged != nil {
		logged()
	}
}

// answer is the effect of telling a caller.
type answer struct {
	call   *produceCall
	result ProduceResult
	err    *Error
}

// deliver performs the effect.
func (a answer) deliver() {
	if a.err != nil {
		a.call.done(ProduceResult{}, a.err)
		return
	}
	a.call.done(a.result, nil)
}

// Produce appends one batch and waits as its Acks say. When ctx ends first the answer is TIMEOUT or CANCELED, and the batch,
// if it was taken, goes on: its outcome is not known to the caller.
func (n *Node) Produce(ctx context.Context, r ProduceRequest) (ProduceResult, error) {
	type outcome struct {
		result ProduceResult
		err    error
	}
	answered := make(chan outcome, 1)
	n.ProduceAsync(ctx, r, func(result ProduceResult, err error) { answered <- outcome{result, err} })
	select {
	case o := <-answered:
		return o.result, o.err
	case <-ctx.Done():
		reason := ReasonCanceled
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			reason = ReasonTimeout
		}
		return ProduceResult{}, Errorf(reason, "produce to topic %s partition %d: %w before an answer; the batch may or may not be in the log", r.Topic, r.Partition, ctx.Err())
	}
}

// ProduceAsync takes batches in the order of the calls of one caller and answers each by done, exactly once, from any
// goroutine; done must not block. Batches of one partition are answered in order. ctx serves telemetry alone: a batch that
// was taken is not taken back.
func (n *Node) ProduceAsync(ctx context.Context, r ProduceRequest, done func(ProduceResult, error)) {
	began := n.deps.Clock.Now()
	ctx, span := n.deps.Telemetry.Span(ctx, "tidemark.produce")
	size := len(r.Batch) // and no more of it: the call may wait much longer than its bytes are held
	call := &produceCall{request: r, done: func(result ProduceResult, err error) {
		EndSpan(span, err)
		if err != nil {
			n.deps.Telemetry.ProduceFailed(ctx, err)
		} else {
			n.deps.Telemetry.Produced(ctx, int(result.Records), size, result.Reached, n.deps.Clock.Now().Sub(began))
		}
		done(result, err)
	}}
	batch, err := record.Validate(r.Batch, n.limits)
	if err != nil {
		call.done(ProduceResult{}, refusedBatch(r, err))
		return
	}
	call.batch = batch
	i, refused := n.serving()
	if refused != nil {
		call.done(ProduceResult{}, refused)
		return
	}
	topic, refused := topicNamed(i.follower, r.Topic, r.TopicID)
	if refused != nil {
		call.done(ProduceResult{}, refused)
		return
	}
	id := meta.Partition{Topic: topic.ID, Partition: r.Partition}
	if !i.post(func(now time.Time) { i.core.produce(id, call, now) }) {
		call.done(ProduceResult{}, Errorf(ReasonUnavailable, "the node begins anew; nothing of this request was taken").WithRetryAfter(200*time.Millisecond))
	}
}

func unknownTopic(name string) *Error {
	return Errorf(ReasonUnknownTopic, "topic %q does not exist: create it with tidemark topic create, or see tidemark topic list", name)
}

// refusedBatch turns what record.Validate says into the reason that a producer acts on.
func refusedBatch(r ProduceRequest, err error) *Error {
	reason := ReasonInvalidRecord
	switch {
	case errors.Is(err, record.ErrCorrupt):
		reason = ReasonCorruptBatch
	case errors.Is(err, record.ErrCodec):
		reason = ReasonUnknownCodec
	case errors.Is(err, record.ErrTooLarge):
		reason = ReasonTooLarge
	}
	return Errorf(reason, "batch for topic %s partition %d: %w", r.Topic, r.Partition, err)
}

// InitProducer gives out a producer id that nobody else has or had.
func (n *Node) InitProducer(ctx context.Context) (id int64, epoch int16, err error) {
	if _, refused := n.serving(); refused != nil {
		return 0, 0, refused
	}
	id, err = n.deps.Meta.NextProducerID(ctx)
	if err != nil {
		return 0, 0, metaError("give out a producer id", err)
	}
	return id, 0, nil
}
