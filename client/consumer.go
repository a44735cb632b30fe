package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"sync"
	"time"

	"connectrpc.com/connect"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/record"
)

type fromKind uint8

const (
	fromStart fromKind = iota
	fromEnd
	fromOffset
	fromTimestamp
	fromOffsets
)

// From is where a consumer begins; the zero value is the log's start.
type From struct {
	kind    fromKind
	value   int64
	offsets map[int32]int64
}

// Start is the log start offset.
func Start() From { return From{} }

// End is the high watermark: only what comes from now on.
func End() From { return From{kind: fromEnd} }

// Offset is one offset in every partition consumed.
func Offset(n int64) From { return From{kind: fromOffset, value: n} }

// Timestamp is the first record of each partition whose batch has this time or a later one.
func Timestamp(t time.Time) From { return From{kind: fromTimestamp, value: t.UnixMilli()} }

// Offsets is an offset per partition, such as a position that a Producer or Consumer gave.
func Offsets(position map[int32]int64) From {
	o := make(map[int32]int64, len(position))
	maps.Copy(o, position)
	return From{kind: fromOffsets, offsets: o}
}

// ConsumerConfig has the settings of a Consumer.
type ConsumerConfig struct {
	// TopicID, unless empty, is the id that the topic must have: one that was deleted and made again under its name is not found.
	TopicID string
	// Partitions are all of the topic's when empty; with Offsets, those that it names.
	Partitions []int32
	From       From
	// UntilEnd ends at the high watermarks of the beginning: Poll then returns io.EOF.
	UntilEnd bool
	// Limits bound the decompression of batches; zero fields mean the defaults.
	Limits record.Limits
	// RetryFor is how long the server may be away before Poll says so; 1 minute.
	RetryFor time.Duration
}

// Consumer reads partitions of one topic. Poll is for one goroutine at a time; the other methods are for any.
// It holds at most one message of the server beside the one that Poll returned, and the receive window of its connection.
type Consumer struct {
	c      *Client
	topic  string
	cfg    ConsumerConfig
	ctx    context.Context
	cancel context.CancelCauseFunc
	loop   sync.WaitGroup
	pieces chan piece
	start  sync.Once

	mu       sync.Mutex
	position map[int32]int64 // behind what Poll returned

	// Owned by the loop.
	next map[int32]int64 // behind what was received; nil until the server said where partitions begin
	ends map[int32]int64
}

type piece struct {
	b   *Batches
	err error
}

// Batches is a piece of one partition's log.
type Batches struct {
	Topic     string
	Partition int32
	// HighWatermark and LogStartOffset are those of the moment when the server answered.
	HighWatermark  int64
	LogStartOffset int64
	// From and Next bound the records that belong to this piece: From <= offset < Next.
	From, Next int64

	raw    []record.Batch
	limits record.Limits
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

// NewConsumer makes a consumer of a topic. It connects at the first Poll.
func (c *Client) NewConsumer(topic string, cfg ConsumerConfig) (*Consumer, error) {
	if topic == "" {
		return nil, errors.New("consumer: no topic")
	}
	if cfg.RetryFor <= 0 {
		cfg.RetryFor = time.Minute
	}
	if cfg.From.kind == fromOffsets && len(cfg.Partitions) == 0 {
		if len(cfg.From.offsets) == 0 {
			return nil, errors.New("consumer: offsets name no partition")
		}
		for n := range cfg.From.offsets {
			cfg.Partitions = append(cfg.Partitions, n)
		}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	return &Consumer{c: c, topic: topic, cfg: cfg, ctx: ctx, cancel: cancel, pieces: make(chan piece), position: map[int32]int64{}}, nil
}

// Poll waits for the next piece of any partition. It returns io.EOF when UntilEnd is reached, ctx's error when that ends first,
// ErrClosed after Close, else an *Error. After a Retryable one, or after ctx's, Poll may be called again and goes on without a gap; any other is final.
func (c *Consumer) Poll(ctx context.Context) (*Batches, error) {
	if err := c.ctx.Err(); err != nil {
		return nil, context.Cause(c.ctx)
	}
	c.start.Do(func() { c.loop.Go(c.run) })
	select {
	case p := <-c.pieces:
		if p.err != nil {
			return nil, p.err
		}
		c.mu.Lock()
		c.position[p.b.Partition] = p.b.Next
		c.mu.Unlock()
		return p.b, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-c.ctx.Done():
		return nil, context.Cause(c.ctx)
	}
}

// Position is the next offset of each partition that Poll has returned something of.
func (c *Consumer) Position() map[int32]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[int32]int64, len(c.position))
	maps.Copy(out, c.position)
	return out
}

// Close ends the consumer. Closing twice is harmless.
func (c *Consumer) Close() {
	c.cancel(ErrClosed)
	c.loop.Wait()
}

// give hands a piece to Poll; false when the consumer was closed.
func (c *Consumer) give(p piece) bool {
	select {
	case c.pieces <- p:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// run reads streams one after the other. A final error is given to every Poll from then on.
func (c *Consumer) run() {
	failures := 0
	connected := false
	since := c.c.clock.Now()
	for {
		got, err := c.stream()
		if got > 0 {
			connected, failures, since = true, 0, c.c.clock.Now()
		}
		if c.ctx.Err() != nil {
			return
		}
		if err == nil || !retryableRead(err) {
			if err == nil {
				err = io.EOF
			}
			for c.give(piece{err: err}) {
			}
			return
		}
		var after time.Duration
		if e, ok := errors.AsType[*Error](err); ok {
			after = e.RetryAfter
		}
		c.c.log.Info("consume stream ended, opening another", "server", c.c.server, "topic", c.topic, "error", err)
		if !connected || c.c.clock.Now().Sub(since) >= c.cfg.RetryFor {
			since = c.c.clock.Now()
			if !c.give(piece{err: err}) {
				return
			}
		}
		t := c.c.clock.NewTimer(c.c.backoff(failures, after))
		select {
		case <-t.C():
		case <-c.ctx.Done():
			t.Stop()
			return
		}
		failures++
	}
}

// retryableRead: reading again harms nobody, so everything is tried again but what the server or the log says no to.
func retryableRead(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return false
	}
	if e.Retryable {
		return true
	}
	switch e.Code {
	case connect.CodeUnknown, connect.CodeInternal, connect.CodeCanceled:
		return e.Reason == ""
	default:
		return false
	}
}

// stream opens one stream and reads it to its end: nil means that all was read.
func (c *Consumer) stream() (got int, err error) {
	req := c.request()
	if req == nil {
		return 0, nil
	}
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	s, err := c.c.consume.Consume(ctx, req)
	if err != nil {
		return 0, c.readError(err)
	}
	defer func() {
		cancel() // so that Close does not wait for what is still to come
		if cerr := s.Close(); cerr != nil && err == nil && got == 0 {
			c.c.log.Debug("close consume stream", "error", cerr)
		}
	}()
	for s.Receive() {
		got++
		m := s.Msg()
		if c.next == nil {
			if len(m.GetRanges()) == 0 {
				return got, c.corrupt("the stream does not begin with ranges")
			}
			c.begin(m.GetRanges())
		}
		if pb := m.GetBatches(); pb != nil {
			if err := c.received(pb); err != nil {
				return got, err
			}
		}
		if c.finished() {
			return got, nil
		}
	}
	if err := s.Err(); err != nil {
		return got, c.readError(err)
	}
	if c.finished() {
		return got, nil
	}
	return got, &Error{Code: connect.CodeUnavailable, Message: errNoStream.Error(), Retryable: true, cause: errNoStream}
}

func (c *Consumer) readError(err error) error {
	e := c.c.remoteError(err)
	if retryableRead(e) {
		e.Retryable = true
	}
	return e
}

// request asks for everything that is still to come, or is nil when that is nothing.
func (c *Consumer) request() *tidemarkv1.ConsumeRequest {
	req := &tidemarkv1.ConsumeRequest{Topic: c.topic, TopicId: c.cfg.TopicID, Partitions: c.cfg.Partitions, UntilEnd: c.cfg.UntilEnd}
	if c.next != nil {
		offsets := map[int32]int64{}
		req.Partitions = nil
		for n, at := range c.next {
			if c.cfg.UntilEnd && at >= c.ends[n] {
				continue
			}
			offsets[n] = at
			req.Partitions = append(req.Partitions, n)
		}
		if len(offsets) == 0 {
			return nil
		}
		req.From = &tidemarkv1.ConsumeRequest_Offsets{Offsets: &tidemarkv1.StartOffsets{Offsets: offsets}}
		return req
	}
	switch f := c.cfg.From; f.kind {
	case fromStart:
		req.From = &tidemarkv1.ConsumeRequest_Start{Start: true}
	case fromEnd:
		req.From = &tidemarkv1.ConsumeRequest_End{End: true}
	case fromOffset:
		req.From = &tidemarkv1.ConsumeRequest_Offset{Offset: f.value}
	case fromTimestamp:
		req.From = &tidemarkv1.ConsumeRequest_TimestampMs{TimestampMs: f.value}
	case fromOffsets:
		req.From = &tidemarkv1.ConsumeRequest_Offsets{Offsets: &tidemarkv1.StartOffsets{Offsets: f.offsets}}
	}
	return req
}

func (c *Consumer) begin(ranges []*tidemarkv1.ConsumeRange) {
	c.next, c.ends = map[int32]int64{}, map[int32]int64{}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range ranges {
		c.next[r.GetPartition()], c.ends[r.GetPartition()] = r.GetFrom(), r.GetEnd()
		c.position[r.GetPartition()] = r.GetFrom()
	}
}

func (c *Consumer) finished() bool {
	if !c.cfg.UntilEnd || c.next == nil {
		return false
	}
	for n, at := range c.next {
		if at < c.ends[n] {
			return false
		}
	}
	return true
}

func (c *Consumer) corrupt(format string, args ...any) error {
	return &Error{Code: connect.CodeDataLoss, Reason: ReasonCorruptData, Message: fmt.Sprintf("topic %s: ", c.topic) + fmt.Sprintf(format, args...)}
}

// received verifies a piece of a log, moves on, and gives it to Poll.
func (c *Consumer) received(pb *tidemarkv1.PartitionBatches) error {
	n := pb.GetPartition()
	from, ok := c.next[n]
	if !ok {
		return c.corrupt("partition %d was not asked for", n)
	}
	out := &Batches{Topic: c.topic, Partition: n, HighWatermark: pb.GetHighWatermark(), LogStartOffset: pb.GetLogStartOffset(), From: from, limits: c.cfg.Limits}
	at := from
	for rest := pb.GetBatches(); len(rest) > 0; {
		var b record.Batch
		var err error
		if b, rest, err = record.Next(rest); err != nil {
			return c.corrupt("partition %d, after offset %d: %v", n, at, err)
		}
		if err := b.CheckCRC(); err != nil {
			return c.corrupt("partition %d: %v", n, err)
		}
		if b.BaseOffset() > at {
			return c.corrupt("partition %d: the batch after offset %d begins at %d", n, at, b.BaseOffset())
		}
		if b.NextOffset() <= at {
			continue // all of it is below what was asked for
		}
		at = b.NextOffset()
		out.raw = append(out.raw, b)
	}
	at = max(at, pb.GetNextOffset()) // the server may declare that nothing is there
	if c.cfg.UntilEnd {
		at = min(at, c.ends[n])
	}
	if at <= from {
		return nil
	}
	c.next[n], out.Next = at, at
	if !c.give(piece{b: out}) {
		return ErrClosed
	}
	return nil
}
