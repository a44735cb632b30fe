package client

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/semaphore"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/record"
)

// Acks is what a producer waits for.
type Acks uint8

const (
	// AcksAll waits for the high watermark: the topic's durability. It is the default.
	AcksAll Acks = iota
	// AcksLeader waits for the leader's log.
	AcksLeader
	// AcksNone waits for nothing.
	AcksNone
)

// ProducerConfig has the settings of a Producer. A zero field means its default.
type ProducerConfig struct {
	Acks Acks
	// DisableIdempotence sends batches without a producer id; so do Acks other than AcksAll.
	DisableIdempotence bool
	Compression        record.Codec
	// BatchBytes is when a batch is full, before compression; 256 KiB. It is never above the topic's max.message.bytes.
	BatchBytes int
	// Linger is how long a batch waits for more records; 2 ms. Below 0 it does not wait.
	Linger time.Duration
	// BufferBytes bounds the records that are taken and not answered, with what the producer keeps of each; 32 MiB.
	BufferBytes int
	// DeliveryTimeout is how long a record may take from Produce to its answer; 2 minutes.
	DeliveryTimeout time.Duration
}

// Result is what became of one record.
type Result struct {
	Topic     string
	Partition int32
	// Offset is -1 with AcksNone or an error.
	Offset int64
	// Reached is how far the record had come when it was answered.
	Reached tidemarkv1.Reached
	// Err is nil, or an *Error that is ErrRefused or ErrOutcomeUnknown.
	Err error
}

// Callback hears of one record. Callbacks run one at a time, in the order of the records within a partition. They must not
// block and must not call the Producer: it may be waiting for them.
type Callback func(Result)

const (
	maxInFlight   = 5  // as many sequence ranges as the server remembers
	recordCharge  = 64 // what a buffered record costs beside its bytes
	metadataAge   = 5 * time.Minute
	maxMessageKey = "max.message.bytes"
)

// Producer batches records and sends them over one stream to each node that leads some of their partitions. Its methods may be called from any goroutine; records that one
// goroutine produces to one partition keep their order.
type Producer struct {
	c          *Client
	cfg        ProducerConfig
	idempotent bool
	window     int
	sem        *semaphore.Weighted
	loading    chan struct{} // holds the one token of who loads a topic
	topics     sync.Map      // name → *topic
	closed     atomic.Bool
	fenced     atomic.Pointer[Error] // why the producer can do nothing more
	ctx        context.Context
	cancel     context.CancelCauseFunc
	loops      sync.WaitGroup
	wakeKeeper chan struct{}
	wakeDone   chan struct{}

	// mu guards everything below, and the fields of partition and batch that say so. It is taken after partition.mu.
	mu          sync.Mutex
	hasID       bool
	id          int64
	epoch       int16
	correlation uint64
	flying      map[uint64]*batch
	senders     map[*endpoint]*sender
	active      map[*partition]struct{} // those with a queue
	lingering   []lingerer
	unsealed    []*partition // partitions whose lingering batch may go now
	outstanding map[*batch]struct{}
	finished    []*batch
	positions   map[string]map[int32]int64
	lastError   *Error   // of the last connection
	followed    []func() // release what follow took
	sweepAt     time.Time
}

type lingerer struct {
	b  *batch
	at time.Time
}

// NewProducer makes a producer and starts its goroutines; Close ends them. It does not connect.
func (c *Client) NewProducer(cfg ProducerConfig) (*Producer, error) {
	if cfg.Acks > AcksNone {
		return nil, errors.New("producer: unknown acks")
	}
	if cfg.BatchBytes <= 0 {
		cfg.BatchBytes = 256 << 10
	}
	if cfg.Linger == 0 {
		cfg.Linger = 2 * time.Millisecond
	}
	if cfg.BufferBytes <= 0 {
		cfg.BufferBytes = 32 << 20
	}
	if cfg.DeliveryTimeout <= 0 {
		cfg.DeliveryTimeout = 2 * time.Minute
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	p := &Producer{
		c: c, cfg: cfg, idempotent: cfg.Acks == AcksAll && !cfg.DisableIdempotence, window: 1,
		sem: semaphore.NewWeighted(int64(cfg.BufferBytes)), loading: make(chan struct{}, 1), ctx: ctx, cancel: cancel,
		wakeKeeper: make(chan struct{}, 1), wakeDone: make(chan struct{}, 1),
		flying: map[uint64]*batch{}, senders: map[*endpoint]*sender{}, active: map[*partition]struct{}{}, outstanding: map[*batch]struct{}{},
		positions: map[string]map[int32]int64{}, id: -1, epoch: -1,
	}
	if p.idempotent {
		p.window = maxInFlight
	}
	p.loops.Go(p.keep)
	p.loops.Go(p.deliver)
	return p, nil
}

// Produce takes a record; its key, or without one whatever fills batches best, chooses the partition. It copies the record. It
// returns at once, but for the first record of a topic, which asks the server about it, and but for when BufferBytes are used up:
// then it waits for room, or for ctx. When it returns an error the record was not taken and done is not called; else done,
// unless nil, is called exactly once. A timestamp of 0 means now.
func (p *Producer) Produce(ctx context.Context, topic string, r record.Record, done Callback) error {
	t, err := p.topic(ctx, topic)
	if err != nil {
		return err
	}
	parts := *t.parts.Load()
	var n int
	if r.Key != nil {
		n = int(PartitionForKey(r.Key, int32(len(parts))))
	} else {
		n = int(t.sticky.Load()) % len(parts)
	}
	return p.take(ctx, parts[n], r, done)
}

// ProduceTo is Produce to a partition of the caller's choice.
func (p *Producer) ProduceTo(ctx context.Context, topic string, partition int32, r record.Record, done Callback) error {
	t, err := p.topic(ctx, topic)
	if err != nil {
		return err
	}
	parts := *t.parts.Load()
	if partition < 0 || int(partition) >= len(parts) {
		if err := p.load(ctx, topic, true); err != nil { // it may have grown
			return err
		}
		if parts = *t.parts.Load(); partition < 0 || int(partition) >= len(parts) {
			return refused(connect.CodeNotFound, ReasonUnknownPartition, "topic %s has no partition %d, it has %d", topic, partition, len(parts))
		}
	}
	return p.take(ctx, parts[partition], r, done)
}

// ProduceSync produces one record and waits for its answer. When ctx ends before that, the error is ErrOutcomeUnknown: the
// record is still on its way.
func (p *Producer) ProduceSync(ctx context.Context, topic string, r record.Record) (Result, error) {
	ch := make(chan Result, 1)
	if err := p.Produce(ctx, topic, r, func(res Result) { ch <- res }); err != nil {
		return Result{Topic: topic, Partition: -1, Offset: -1, Err: err}, err
	}
	select {
	case res := <-ch:
		return res, res.Err
	case <-ctx.Done():
		err := &Error{Code: connect.CodeOf(ctx.Err()), Reason: reasonOutcomeUnknown, Message: "gave up waiting for the answer: " + context.Cause(ctx).Error(), Outcome: OutcomeUnknown, cause: ctx.Err()}
		return Result{Topic: topic, Partition: -1, Offset: -1, Err: err}, err
	}
}

// Position is, for each partition of the topic with an acknowledged record, the offset after the last one.
func (p *Producer) Position(topic string) map[int32]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make(map[int32]int64, len(p.positions[topic]))
	maps.Copy(out, p.positions[topic])
	return out
}

// Flush sends what lingers and waits until every record taken before the call is answered and its callback has returned, or for
// ctx. Failures are told to callbacks only.
func (p *Producer) Flush(ctx context.Context) error {
	p.topics.Range(func(_, v any) bool {
		for _, part := range *v.(*topic).parts.Load() { //nolint:errcheck,forcetypeassert // the map holds nothing else
			p.seal(part, nil)
		}
		return true
	})
	p.mu.Lock()
	wait := make([]*batch, 0, len(p.outstanding))
	for b := range p.outstanding {
		wait = append(wait, b)
	}
	p.mu.Unlock()
	for _, b := range wait {
		select {
		case <-b.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Close refuses new records, flushes, and ends the producer. When ctx ends first, the records that are left fail, each saying
// whether it is known not to be in the log, and Close returns ctx's error. Closing twice is harmless.
func (p *Producer) Close(ctx context.Context) error {
	p.closed.Store(true)
	err := p.Flush(ctx)
	p.cancel(ErrClosed)
	p.loops.Wait()
	p.mu.Lock()
	followed := p.followed
	p.followed = nil
	p.mu.Unlock()
	for _, release := range followed {
		release()
	}
	return err
}

func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
