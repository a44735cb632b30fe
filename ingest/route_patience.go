package ingest

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/record"
)

// patientBytes caps the batches of callers that are kept waiting for a leader, all together.
const patientBytes = 64 << 20

// patience is for callers that wait for one answer, unary calls and plain HTTP: a produce that finds no leader is tried again, so that
// while a partition moves, or is taken over from a node that died, it takes longer instead of failing.
//
// A batch is tried again only after NOT_LEADER or SHUTTING_DOWN, which say that nothing of it is or will be in the log, or, when it has a producer
// id, after OUTCOME_UNKNOWN; once an outcome is unknown it stays so for the caller until an attempt succeeds, because a refusal of the second attempt says
// nothing of the first. Batches of one partition stay in order: one is tried again only together with all those behind it.
type patience struct {
	node    produceNode
	clock   clock.Clock
	closing <-chan struct{} // nobody is kept waiting then
	room    *semaphore.Weighted
}

func newPatience(node produceNode, c clock.Clock, closing <-chan struct{}) *patience {
	return &patience{node: node, clock: c, closing: closing, room: semaphore.NewWeighted(patientBytes)}
}

// produceOutcome is how a produce ended.
type produceOutcome struct {
	result ProduceResult
	err    error
}

// produce hands over requests in order and waits for their outcomes, or for the caller to go.
func (p *patience) produce(ctx context.Context, requests []ProduceRequest) []produceOutcome {
	out := make([]produceOutcome, len(requests))
	pending := make([]int, len(requests))
	size := int64(0)
	for n := range requests {
		pending[n] = n
		size += int64(len(requests[n].Batch))
	}
	size = min(size, patientBytes)
	held := int64(0)
	defer func() { p.room.Release(held) }()
	until := p.clock.Now().Add(leaderPatience)
	for attempt := 1; ; attempt++ {
		p.attempt(ctx, requests, pending, out)
		pending = again(requests, pending, out)
		if len(pending) == 0 || forwardedOf(ctx) != nil || ctx.Err() != nil {
			return out
		}
		if attempt == 1 && !p.room.TryAcquire(size) {
			return out
		}
		held = size
		wait := AsError(out[pending[0]].err).retryHint()
		if p.clock.Now().Add(wait).After(until) || !p.pause(ctx, wait) {
			return out
		}
		for _, n := range pending {
			// Whoever had the batch may still read its bytes, on their way to a log that they are no part of any more.
			requests[n].Batch = slices.Clone(requests[n].Batch)
		}
	}
}

// pause waits a while; false when nobody is kept waiting any more.
func (p *patience) pause(ctx context.Context, wait time.Duration) bool {
	timer := p.clock.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-p.closing:
		return false
	case <-ctx.Done():
		return false
	}
}

// attempt hands over the pending requests once.
func (p *patience) attempt(ctx context.Context, requests []ProduceRequest, pending []int, out []produceOutcome) {
	type answered struct {
		n      int
		result ProduceResult
		err    error
	}
	answers := make(chan answered, len(pending))
	for _, n := range pending {
		p.node.ProduceAsync(ctx, requests[n], func(result ProduceResult, err error) { answers <- answered{n, result, err} })
	}
	waiting := make(map[int]bool, len(pending))
	for _, n := range pending {
		waiting[n] = true
	}
	for len(waiting) > 0 {
		select {
		case a := <-answers:
			delete(waiting, a.n)
			unknown := ReasonOf(out[a.n].err) == ReasonOutcomeUnknown
			if a.err == nil || !unknown {
				out[a.n] = produceOutcome{result: a.result, err: a.err}
			}
		case <-ctx.Done():
			for n := range waiting {
				out[n] = produceOutcome{err: callerGone(ctx, "produce to topic "+requests[n].Topic)}
			}
			return
		}
	}
}

// again chooses what is handed over once more: of each partition the first request that failed and may be repeated, with all behind it,
// if those may be repeated too.
func again(requests []ProduceRequest, pending []int, out []produceOutcome) []int {
	first := make(map[int32]int)   // of the partition's pending ones, the first that failed
	spoilt := make(map[int32]bool) // something behind it went through, or failed for good
	for _, n := range pending {
		partition := requests[n].Partition
		_, failed := first[partition]
		repeatable := mayRepeat(requests[n], out[n].err)
		switch {
		case !failed && out[n].err != nil:
			first[partition] = n
			spoilt[partition] = !repeatable
		case failed && !repeatable:
			spoilt[partition] = true
		}
	}
	var next []int
	for _, n := range pending {
		from, failed := first[requests[n].Partition]
		if failed && n >= from && !spoilt[requests[n].Partition] {
			next = append(next, n)
		}
	}
	return next
}

// mayRepeat tells whether a batch that failed may be handed over again.
func mayRepeat(q ProduceRequest, err error) bool {
	switch ReasonOf(err) {
	case ReasonNotLeader, ReasonShuttingDown:
		return true
	case ReasonOutcomeUnknown:
		return len(q.Batch) >= record.HeaderSize && q.Batch.ProducerID() >= 0
	default:
		return false
	}
}
