package client

import (
	"bytes"
	"time"

	"connectrpc.com/connect"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/record"
)

// Every function of this file is called with Producer.mu held; none does I/O. The rules are told in the package comment.

// enqueue lets the sender of the partition's leader look at it.
func (p *Producer) enqueue(part *partition) {
	if part.waiting == 0 {
		p.choose(part)
	}
	if part.readyAt != part.via {
		part.readyAt = part.via
		part.via.ready = append(part.via.ready, part)
	}
	wake(part.via.wake)
}

// sendable is the next batch to send of a partition, or nil.
func (p *Producer) sendable(part *partition, now time.Time) *batch {
	if part.draining || part.moving || part.broken || p.fenced.Load() != nil || part.waiting >= p.window || now.Before(part.retryAt) {
		return nil
	}
	for _, b := range part.queue {
		switch b.state {
		case batchQueued:
			return b
		case batchFlying, batchAcked, batchRejected:
		}
	}
	return nil
}

// pick takes the next batch of any partition of a sender, in turn, and puts it in flight.
func (p *Producer) pick(s *sender, now time.Time) *tidemarkv1.ProduceStreamRequest {
	for len(s.ready) > 0 {
		part := s.ready[0]
		s.ready[0] = nil
		s.ready = s.ready[1:]
		if part.readyAt != s {
			continue // it moved
		}
		part.readyAt = nil
		b := p.sendable(part, now)
		if b == nil {
			continue // an answer or the keeper will put it back
		}
		if !b.numbered {
			p.number(b)
		}
		p.correlation++
		b.correlation, b.state = p.correlation, batchFlying
		p.flying[b.correlation] = b
		part.waiting++
		s.flying++
		part.tried = max(part.tried, part.viaEpoch)
		if p.sendable(part, now) != nil {
			p.enqueue(part)
		}
		return &tidemarkv1.ProduceStreamRequest{Correlation: b.correlation, Produce: &tidemarkv1.ProduceRequest{
			Topic: part.topic.name, Partition: part.id, Batch: b.bytes, Acks: protoAcks[p.cfg.Acks],
		}}
	}
	return nil
}

// number gives a batch its place in the partition's sequence.
func (p *Producer) number(b *batch) {
	part := b.part
	if p.idempotent {
		if b.bytes.ProducerID() != part.pid || b.bytes.ProducerEpoch() != part.epoch || b.bytes.BaseSequence() != part.next {
			if b.shared {
				b.bytes, b.shared = bytes.Clone(b.bytes), false
			}
			b.bytes.SetProducer(part.pid, part.epoch, part.next)
		}
		part.next = record.AddSequence(part.next, b.count)
	}
	b.numbered = true
	part.unnumbered -= b.count
}

// answered takes one response of the stream.
func (p *Producer) answered(r *tidemarkv1.ProduceStreamResponse, now time.Time) {
	b := p.flying[r.GetCorrelation()]
	if b == nil {
		return // given up meanwhile
	}
	p.land(b)
	if ok := r.GetProduced(); ok != nil {
		b.state, b.answer = batchAcked, ok
		if !b.part.draining {
			b.part.attempts, b.part.refusals = 0, 0
		}
	} else {
		p.failed(b, produceError(r.GetError()), now)
	}
	p.settle(b.part)
}

// cut is told that the stream of a sender is gone, and with it every answer that was outstanding there.
func (p *Producer) cut(s *sender, err *Error, now time.Time) {
	p.lastError = err
	parts := map[*partition]struct{}{}
	for _, b := range p.inOrder(s) {
		p.land(b)
		p.failed(b, err, now)
		parts[b.part] = struct{}{}
	}
	for part := range parts {
		p.settle(part)
	}
}

// inOrder lists the batches in flight over a sender, those of a partition in the order of its queue.
func (p *Producer) inOrder(s *sender) []*batch {
	var out []*batch
	for part := range p.active {
		if part.via != s {
			continue
		}
		for _, b := range part.queue {
			if b.state == batchFlying {
				out = append(out, b)
			}
		}
	}
	return out
}

// land takes a batch out of flight.
func (p *Producer) land(b *batch) {
	delete(p.flying, b.correlation)
	b.part.waiting--
	b.part.via.flying--
	b.state = batchQueued
}

// failed decides about a batch whose attempt ended with err.
func (p *Producer) failed(b *batch, err *Error, now time.Time) {
	part := b.part
	b.err = err
	doubtful := !err.excludesSuccess() && !neverSent(err)
	b.doubt = b.doubt || doubtful
	if part.draining && p.idempotent {
		return // it failed because one before it did
	}
	part.draining = true
	part.retryAt = now.Add(p.c.backoff(part.attempts, err.RetryAfter))
	part.attempts++
	if err.Reason == reasonNotLeader {
		p.notLeader(part, now)
	}
	switch {
	case p.idempotent && err.Reason == ReasonFencedProducer:
		b.state = batchRejected
		p.fence(err)
	case p.idempotent && err.Reason == reasonUnknownProducer && !b.doubt:
		part.broken = true // the server forgot the id, and refused the batch: it can have another
	case p.idempotent && err.Reason == reasonOutOfOrderSequence && b.outOfOrder < 2:
		b.outOfOrder++ // a leader that lost the partition and has not heard of it yet knows less than the next one
	case p.idempotent && err.Retryable:
	case !p.idempotent && err.Retryable && !b.doubt:
	default:
		b.state = batchRejected
	}
}

// settle finishes what has its outcome, in order, and lets the partition go on when nothing is in flight any more.
func (p *Producer) settle(part *partition) {
	if err := p.fenced.Load(); err != nil && part.waiting == 0 {
		for _, b := range part.queue {
			if b.state == batchQueued {
				b.state, b.err = batchRejected, err
			}
		}
	}
	for len(part.queue) > 0 {
		b := part.queue[0]
		if b.state != batchAcked && b.state != batchRejected {
			break
		}
		p.drop(part)
		if b.state == batchAcked {
			p.finish(b, nil)
			continue
		}
		p.gap(b)
		p.finish(b, b.err)
	}
	if part.waiting == 0 {
		part.moving = false
		if part.broken && p.fenced.Load() == nil {
			p.renumber(part)
		} else {
			part.draining = false
		}
	}
	if part.lingered && part.waiting < p.window && !part.draining && part.unnumbered == 0 {
		part.lingered = false
		p.unsealed = append(p.unsealed, part)
		wake(p.wakeKeeper)
	}
	if len(part.queue) > 0 {
		p.enqueue(part)
		if !part.retryAt.IsZero() {
			wake(p.wakeKeeper)
		}
	}
}

// drop takes the head off the queue.
func (p *Producer) drop(part *partition) {
	if !part.queue[0].numbered {
		part.unnumbered -= part.queue[0].count
	}
	part.queue[0] = nil
	part.queue = part.queue[1:]
	if len(part.queue) == 0 {
		part.queue = nil
		delete(p.active, part)
	}
}

// gap notes that a numbered batch leaves the queue without being in the log for sure.
func (p *Producer) gap(b *batch) {
	if p.idempotent && b.numbered {
		b.part.broken, b.part.draining = true, true
		b.part.brokenBy = b.part.brokenBy || b.doubt
	}
}

// renumber takes the numbers off the queue and asks for a new producer id, when nothing is in flight.
func (p *Producer) renumber(part *partition) {
	if part.asking {
		return
	}
	for part.brokenBy && len(part.queue) > 0 && part.queue[0].numbered && part.queue[0].doubt {
		b := part.queue[0]
		p.drop(part)
		p.finish(b, b.err)
	}
	part.unnumbered = 0
	for _, b := range part.queue {
		if !b.numbered {
			part.unnumbered += b.count
			continue
		}
		part.unnumbered += b.count
		b.numbered = false
		switch {
		case b.state == batchAcked:
		case b.doubt && part.brokenBy:
			b.state = batchRejected // settled when the batches before it are
		default:
			b.doubt, b.state = false, batchQueued
		}
	}
	part.asking = true
	p.loops.Go(func() { p.newID(part) })
}

// expire gives up the batches whose time is over.
func (p *Producer) expire(part *partition, now time.Time) {
	expired := false
	for len(part.queue) > 0 {
		b := part.queue[0]
		if b.state == batchAcked || b.state == batchRejected || now.Before(b.deadline) {
			break
		}
		if b.state == batchFlying {
			p.land(b)
			b.doubt = true
		}
		why := "no answer"
		switch {
		case b.err != nil:
			why = b.err.Message
		case !b.numbered && p.lastError != nil:
			why = p.lastError.Message
		case !b.numbered:
			why = "never sent"
		}
		p.drop(part)
		p.gap(b)
		p.finish(b, &Error{Code: connect.CodeDeadlineExceeded, Reason: ReasonDeliveryTimeout, Message: "not delivered in " + p.cfg.DeliveryTimeout.String() + ": " + why})
		expired = true
	}
	if expired {
		p.settle(part)
	}
}

// finish hands a batch to its callbacks: err nil is success.
func (p *Producer) finish(b *batch, err *Error) {
	if err != nil {
		e := *err
		e.Outcome = OutcomeRefused
		if b.doubt {
			e.Outcome = OutcomeUnknown
		}
		b.err, b.answer = &e, nil
	} else {
		b.err = nil
		if next, ok := b.answer.GetPosition().GetOffsets()[b.part.id]; ok {
			at := p.positions[b.part.topic.name]
			if at == nil {
				at = map[int32]int64{}
				p.positions[b.part.topic.name] = at
			}
			at[b.part.id] = max(at[b.part.id], next)
		}
	}
	p.finished = append(p.finished, b)
	wake(p.wakeDone)
}
