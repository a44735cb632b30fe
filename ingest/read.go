package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/ingest/wal"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/proof/mutant"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier"
)

const (
	// readAttempts is how often a read is planned anew when what the plan named is gone: trimmed, folded or deleted since.
	readAttempts = 3
	// blockReaders is how many blocks of the object store one fetch reads at once.
	blockReaders = 8
)

// Fetch reads up to the high watermark: from memory and the log on disk where the tail reaches, and from the object store
// below it. It waits for MinBytes up to MaxWait. An offset below the log's start or above its end is OFFSET_OUT_OF_RANGE.
func (n *Node) Fetch(ctx context.Context, r FetchRequest) ([]PartitionBatches, error) {
	began := n.deps.Clock.Now()
	ctx, span := n.deps.Telemetry.Span(ctx, "tidemark.fetch")
	out, err := n.fetch(ctx, r, began)
	EndSpan(span, err)
	if err != nil {
		n.deps.Telemetry.FetchFailed(ctx, err)
		return nil, err
	}
	n.deps.Telemetry.Fetched(ctx, n.deps.Clock.Now().Sub(began))
	return out, nil
}

func (n *Node) fetch(ctx context.Context, r FetchRequest, began time.Time) ([]PartitionBatches, error) {
	if len(r.Partitions) == 0 {
		return nil, Errorf(ReasonInvalidRequest, "fetch from topic %s names no partition", r.Topic)
	}
	asked := make(map[int32]bool, len(r.Partitions))
	for _, p := range r.Partitions {
		if asked[p.Partition] {
			return nil, Errorf(ReasonInvalidRequest, "fetch from topic %s names partition %d twice", r.Topic, p.Partition)
		}
		asked[p.Partition] = true
	}
	if r.MaxBytes <= 0 || r.MaxBytes > GreatestFetchBytes {
		r.MaxBytes = GreatestFetchBytes
	}
	r.MinBytes = min(max(r.MinBytes, 1), r.MaxBytes)
	confirmed := mutant.On(mutant.K4)
	for attempt := 1; ; attempt++ {
		i, refused := n.reading()
		if refused != nil {
			return nil, refused
		}
		plan, err := i.planFetch(ctx, r, began.Add(r.MaxWait))
		if ReasonOf(err) == ReasonOffsetOutOfRange && !confirmed {
			if err := n.confirmLeads(ctx, i, r); err != nil {
				return nil, err
			}
			confirmed, attempt = true, 0
			continue
		}
		if err != nil {
			return nil, err
		}
		out, err := i.readPlan(ctx, plan, r.MaxBytes)
		if err == nil {
			return out, nil
		}
		if errors.Is(err, wal.ErrTrimmed) && i.nextRevision(ctx) {
			attempt = 0 // committed since, so the index will have it
			continue
		}
		if ctx.Err() != nil {
			return nil, callerGone(ctx, "fetch from topic "+r.Topic)
		}
		if attempt == readAttempts {
			return nil, readError(r.Topic, err)
		}
	}
}

// confirmLeads asks etcd whether this node still leads what was asked for, before anybody is told that there is nothing at an offset: a
// leader of the past does not know how far its successor has come, and a reader that believes it goes back to the start of the log.
func (n *Node) confirmLeads(ctx context.Context, i *incarnation, r FetchRequest) error {
	revision, err := n.deps.Meta.Revision(ctx)
	if err != nil {
		return metaError("find out who leads topic "+r.Topic, err)
	}
	if err := i.follower.WaitFor(ctx, revision); err != nil {
		return metaError("wait for the index", err)
	}
	topic, refused := topicNamed(i.follower, r.Topic, r.TopicID)
	if refused != nil {
		return refused
	}
	states, err := i.states(ctx, topic)
	if err != nil {
		return err
	}
	for _, p := range r.Partitions {
		id := meta.Partition{Topic: topic.ID, Partition: p.Partition}
		at, led := i.follower.Leader(id)
		if p.Partition < 0 || p.Partition >= topic.Partitions {
			continue // the error says so by itself
		}
		if s := states[p.Partition]; led && at.Node == n.config.Node && s.Leader != "" && s.LeaderEpoch == at.Epoch {
			continue
		}
		return Errorf(ReasonNotLeader, "node %s does not lead topic %s partition %d any more", n.config.Node, r.Topic, p.Partition).WithRetryAfter(50 * time.Millisecond)
	}
	return nil
}

// nextRevision waits for the index to move on, a moment. False: it does not.
func (i *incarnation) nextRevision(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return i.follower.WaitFor(ctx, i.follower.Revision()+1) == nil
}

func callerGone(ctx context.Context, what string) *Error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return Errorf(ReasonTimeout, "%s: the deadline has passed", what)
	}
	return Errorf(ReasonCanceled, "%s: the caller has gone", what)
}

func readError(topic string, err error) *Error {
	var known *Error
	var corrupt *tier.CorruptionError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &corrupt), errors.Is(err, tier.ErrNotFound):
		return Errorf(ReasonCorruptData, "read topic %s: %w", topic, err)
	default:
		return Errorf(ReasonUnavailable, "read topic %s: %w", topic, err).WithRetryAfter(time.Second)
	}
}

// planFetch asks the loop where the batches are, and waits for them as long as the request says.
func (i *incarnation) planFetch(ctx context.Context, r FetchRequest, deadline time.Time) (fetchPlan, error) {
	topic, refused := topicNamed(i.follower, r.Topic, r.TopicID)
	if refused != nil {
		return fetchPlan{}, refused
	}
	call := &fetchCall{maxBytes: r.MaxBytes, minBytes: r.MinBytes, deadline: deadline, reply: make(chan fetchPlan, 1)}
	for _, p := range r.Partitions {
		call.partitions = append(call.partitions, fetchTarget{id: meta.Partition{Topic: topic.ID, Partition: p.Partition}, offset: p.Offset})
	}
	if !i.post(func(now time.Time) { i.core.fetchAsked(call, now) }) {
		return fetchPlan{}, Errorf(ReasonUnavailable, "the node begins anew").WithRetryAfter(200 * time.Millisecond)
	}
	select {
	case plan := <-call.reply:
		if plan.err != nil {
			return fetchPlan{}, plan.err
		}
		return plan, nil
	case <-ctx.Done():
		i.post(func(time.Time) { i.core.fetchCanceled(call) })
		return fetchPlan{}, callerGone(ctx, "fetch from topic "+r.Topic)
	}
}

// readPlan gathers the bytes of a plan, without the loop.
func (i *incarnation) readPlan(ctx context.Context, plan fetchPlan, maxBytes int) ([]PartitionBatches, error) {
	out := make([]PartitionBatches, 0, len(plan.partitions))
	left := maxBytes
	for _, p := range plan.partitions {
		got := PartitionBatches{Partition: p.id.Partition, NextOffset: p.offset, HighWatermark: p.hwm, LogStartOffset: p.start}
		var err error
		switch {
		case p.lost.To > 0:
			got.Lost, got.NextOffset = []meta.OffsetRange{p.lost}, p.lost.To
		case !p.fromTier:
			err = i.readTail(ctx, p, &got)
		case left > 0:
			err = i.readTier(ctx, p, left, &got)
		}
		if err != nil {
			return nil, err
		}
		for _, b := range got.Batches {
			left -= len(b)
		}
		out = append(out, got)
	}
	return out, nil
}

func (i *incarnation) readTail(ctx context.Context, p partitionPlan, got *PartitionBatches) error {
	for _, b := range p.tail {
		bytes, err := readPlanned(i.log, b)
		if err != nil {
			return err
		}
		source := FetchMemory
		if b.bytes == nil {
			source = FetchLog
		}
		i.node.deps.Telemetry.FetchedFrom(ctx, source, len(bytes))
		got.Batches = append(got.Batches, bytes)
		got.NextOffset = b.next
	}
	return nil
}

// readTier reads the blocks from the plan's offset on, several at once, as far as the index and the cap go.
func (i *incarnation) readTier(ctx context.Context, p partitionPlan, maxBytes int, got *PartitionBatches) error {
	var blocks []meta.Block
	for offset, size := p.offset, 0; offset < p.hwm && size < maxBytes; {
		b, ok := i.follower.Lookup(p.id, offset)
		if !ok {
			break // the tail goes on from here, or offsets that were lost
		}
		blocks = append(blocks, b)
		size += int(b.Length)
		offset = b.BaseOffset + int64(b.Count)
	}
	if len(blocks) == 0 {
		if _, known := i.follower.TopicByID(p.id.Topic); !known {
			return Errorf(ReasonUnknownTopic, "the topic was deleted while it was read")
		}
		return Errorf(ReasonCorruptData, "offset %d of partition %d is below the high watermark %d, but neither tail nor index has it", p.offset, p.id.Partition, p.hwm)
	}
	read := make([][]byte, len(blocks))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(blockReaders)
	for n, b := range blocks {
		group.Go(func() error {
			bytes, err := tier.ReadBlock(ctx, i.node.deps.Store, b.Object, b.L0Entry, nil)
			read[n] = bytes
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for n, bytes := range read {
		kept, next, err := window(bytes, p.offset, maxBytes)
		if err != nil {
			return fmt.Errorf("object %s at %d: %w", blocks[n].Object, blocks[n].Position, err)
		}
		if len(kept) > 0 {
			i.node.deps.Telemetry.FetchedFrom(ctx, FetchObject, len(kept))
			got.Batches = append(got.Batches, kept)
			got.NextOffset = next
			maxBytes -= len(kept)
		}
		if len(kept) < len(bytes) && next < blocks[n].BaseOffset+int64(blocks[n].Count) || maxBytes <= 0 {
			break
		}
	}
	return nil
}

// window cuts whole batches out of a block: from the one that holds offset, as many as maxBytes allows and at least one.
func window(block []byte, offset int64, maxBytes int) (kept []byte, next int64, err error) {
	rest := block
	for len(rest) > 0 {
		b, after, err := record.Next(rest)
		if err != nil {
			return nil, 0, err
		}
		if b.NextOffset() > offset {
			break
		}
		rest = after
	}
	from := rest
	size := 0
	for len(rest) > 0 {
		b, after, err := record.Next(rest)
		if err != nil {
			return nil, 0, err
		}
		if size > 0 && size+len(b) > maxBytes {
			break
		}
		size += len(b)
		next = b.NextOffset()
		rest = after
	}
	return from[:size], next, nil
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
	id := meta.Partition{Topic: topic.ID, Partition: partition}
	if b, ok := i.follower.LookupTime(id, timestampMs); ok {
		bytes, err := tier.ReadBlock(ctx, n.deps.Store, b.Object, b.L0Entry, nil)
		if err != nil {
			return 0, readError(topicName, err)
		}
		for rest := bytes; len(rest) > 0; {
			batch, after, err := record.Next(rest)
			if err != nil {
				return 0, readError(topicName, err)
			}
			if batch.MaxTimestamp() >= timestampMs {
				return n.firstSince(topicName, batch, timestampMs)
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
			answer <- found{err: i.core.notLed(id, topicName)}
			return
		}
		e := i.core.tail.firstSince(id, timestampMs, p.hwm)
		if e == nil {
			answer <- found{hwm: p.hwm}
			return
		}
		answer <- found{batch: planned(e), ok: true}
	}) {
		return 0, Errorf(ReasonUnavailable, "the node begins anew").WithRetryAfter(200 * time.Millisecond)
	}
	f := <-answer
	switch {
	case f.err != nil:
		return 0, f.err
	case !f.ok:
		return f.hwm, nil
	}
	batch, err := readPlanned(i.log, f.batch)
	if err != nil {
		return 0, readError(topicName, err)
	}
	return n.firstSince(topicName, batch, timestampMs)
}

// firstSince finds the record inside a batch whose greatest timestamp is new enough.
func (n *Node) firstSince(topic string, b record.Batch, timestampMs int64) (int64, error) {
	for r, err := range b.Records(n.limits) {
		if err != nil {
			return 0, readError(topic, err)
		}
		if r.Timestamp >= timestampMs {
			return r.Offset, nil
		}
	}
	return b.BaseOffset(), nil
}
