package client

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

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
	// RetryFor is how long a partition may be without a server that answers before Poll says so; 1 minute.
	RetryFor time.Duration
}

// Consumer reads partitions of one topic, each from the node that leads it, and goes on where the next leader is when that changes. Poll is
// for one goroutine at a time; the other methods are for any.
//
// Beside what Poll returned it holds at most one message of each node that it reads from, and the receive windows of its
// connections: while nobody polls, nothing more is sent.
type Consumer struct {
	r *reader

	mu       sync.Mutex
	started  bool
	closed   bool
	position map[int32]int64 // behind what Poll returned
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
		cfg.Partitions = slices.Sorted(maps.Keys(cfg.From.offsets))
	}
	out := &Consumer{position: map[int32]int64{}}
	out.r = newReader(c, readerConfig{limits: cfg.Limits, retryFor: cfg.RetryFor, begin: cfg.request(topic), began: out.began})
	return out, nil
}

func (cfg *ConsumerConfig) request(topic string) *tidemarkv1.ConsumeRequest {
	req := &tidemarkv1.ConsumeRequest{Topic: topic, TopicId: cfg.TopicID, Partitions: cfg.Partitions, UntilEnd: cfg.UntilEnd}
	switch f := cfg.From; f.kind {
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

// Poll waits for the next piece of any partition; where several nodes have something, they take turns. It returns io.EOF when
// UntilEnd is reached, ctx's error when that ends first, ErrClosed after Close, else an *Error. After a Retryable one, or after
// ctx's, Poll may be called again and goes on without a gap; any other is final.
func (c *Consumer) Poll(ctx context.Context) (*Batches, error) {
	c.mu.Lock()
	if !c.started && !c.closed {
		c.started = true
		c.r.start()
	}
	c.mu.Unlock()
	b, err := c.r.poll(ctx, nil)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.position[b.Partition] = b.Next
	c.mu.Unlock()
	return b, nil
}

// began is where the partitions are read from.
func (c *Consumer) began(from map[int32]int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(c.position, from)
}

// Position is the next offset of each partition: behind what Poll returned of it, else where it begins. It is empty until that is known.
func (c *Consumer) Position() map[int32]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.position)
}

// Close ends the consumer. Closing twice is harmless.
func (c *Consumer) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.r.close(ErrClosed)
}
