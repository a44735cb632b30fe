package ingest

import (
	"context"
	"errors"
	"time"

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
		out, err := i.readWhole(ctx, plan, r.MaxBytes)
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
	topic, refused := topicNamed(i.follower, r.Topic, r.TopicID)
	if refused != nil {
		return refused
	}
	ids := make([]meta.Partition, 0, len(r.Partitions))
	for _, p := range r.Partitions {
		if p.Partition >= 0 && p.Partition < topic.Partitions { // else the error says so by itself
			ids = append(ids, meta.Partition{Topic: topic.ID, Partition: p.Partition})
		}
	}
	states, err := i.confirmedStates(ctx, ids)
	if err != nil {
		return err
	}
	for _, s := range states {
		if s.Err != nil {
			return s.Err
		}
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
	plan, refused := i.awaitPlan(ctx, call)
	if refused != nil {
		return fetchPlan{}, refused
	}
	return plan, nil
}

// readWhole reads a plan that is of no use in parts.
func (i *incarnation) readWhole(ctx context.Context, plan fetchPlan, maxBytes int) ([]PartitionBatches, error) {
	read, err := i.readPlan(ctx, plan, maxBytes, false, nil, nil)
	if err != nil {
		return nil, err
	}
	out := make([]PartitionBatches, len(read))
	for n, got := range read {
		if got.Err != nil {
			return nil, got.Err
		}
		out[n] = got.PartitionBatches
	}
	return out, nil
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
