package client

import (
	"context"
	"errors"
	"io"
	"time"

	"connectrpc.com/connect"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

var protoAcks = [...]tidemarkv1.Acks{AcksAll: tidemarkv1.Acks_ACKS_ALL, AcksLeader: tidemarkv1.Acks_ACKS_LEADER, AcksNone: tidemarkv1.Acks_ACKS_NONE}

// send keeps a stream open while there is something to send, and opens another when it breaks.
func (p *Producer) send() {
	failures := 0
	for {
		now := p.c.clock.Now()
		p.mu.Lock()
		b := p.pick(now)
		p.mu.Unlock()
		if b == nil {
			select {
			case <-p.wakeSender:
				continue
			case <-p.ctx.Done():
				return
			}
		}
		answers, err := p.stream(b)
		if p.ctx.Err() != nil {
			return
		}
		if answers > 0 {
			failures = 0
		}
		e := p.c.remoteError(err)
		e.Retryable = retryableStream(e)
		p.c.log.Info("produce stream ended, opening another", "server", p.c.server, "error", e)
		p.mu.Lock()
		p.cut(e, p.c.clock.Now())
		p.mu.Unlock()
		if !p.sleep(p.c.backoff(failures, e.RetryAfter)) {
			return
		}
		failures++
	}
}

// retryableStream tells whether another stream may do better than one that ended with e.
func retryableStream(e *Error) bool {
	switch e.Code {
	case connect.CodeUnimplemented, connect.CodeUnauthenticated, connect.CodePermissionDenied:
		return false
	default:
		return true
	}
}

// stream sends first and what follows over one stream until it breaks. It returns how many answers came, and never nil.
func (p *Producer) stream(first *batch) (answers int, err error) {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	s, err := p.c.produce.ProduceStream(ctx)
	if err != nil {
		return 0, err
	}
	// HTTP/2 looks at the context only when the body of the request has ended, so that has to come first.
	stop := func() {
		if err := s.CloseRequest(); err != nil {
			p.c.log.Debug("end produce stream", "error", err)
		}
		cancel()
	}
	defer stop()
	ended := make(chan error, 1)
	go func() {
		for {
			r, err := s.Receive()
			if err != nil {
				ended <- err
				return
			}
			now := p.c.clock.Now()
			p.mu.Lock()
			p.answered(r, now)
			p.mu.Unlock()
			answers++
		}
	}()
	b := first
	for {
		if b != nil {
			err = s.Send(&tidemarkv1.ProduceStreamRequest{Correlation: b.correlation, Produce: &tidemarkv1.ProduceRequest{
				Topic: b.part.topic.name, Partition: b.part.id, Batch: b.bytes, Acks: protoAcks[p.cfg.Acks],
			}})
			if err != nil {
				break
			}
		}
		p.mu.Lock()
		b = p.pick(p.c.clock.Now())
		p.mu.Unlock()
		if b != nil {
			continue
		}
		select {
		case <-p.wakeSender:
		case err := <-ended:
			return answers, err
		case <-p.ctx.Done():
			stop()
			<-ended //nolint:errcheck // why it ended is known: we ended it
			return answers, p.ctx.Err()
		}
	}
	// After io.EOF the reason is at the receiving end, and there already or about to be.
	if !errors.Is(err, io.EOF) {
		stop()
		<-ended //nolint:errcheck // why it ended is known: we ended it
		return answers, err
	}
	return answers, <-ended
}

// sleep reports whether it slept to the end, or false when the producer ended.
func (p *Producer) sleep(d time.Duration) bool {
	t := p.c.clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
		return true
	case <-p.ctx.Done():
		return false
	}
}

// newID gets a producer id of its own for a partition whose sequence has a gap.
func (p *Producer) newID(part *partition) {
	for n := 0; ; n++ {
		r, err := p.c.produce.InitProducer(p.ctx, &tidemarkv1.InitProducerRequest{})
		if err == nil {
			p.mu.Lock()
			part.pid, part.epoch, part.next = r.GetProducerId(), int16(r.GetProducerEpoch()), 0
			part.broken, part.brokenBy, part.asking, part.draining = false, false, false, false
			p.settle(part)
			p.mu.Unlock()
			return
		}
		if p.ctx.Err() != nil {
			return
		}
		e := p.c.remoteError(err)
		p.c.log.Warn("get a producer id", "error", e)
		if !p.sleep(p.c.backoff(n, e.RetryAfter)) {
			return
		}
	}
}

// keep seals batches that have lingered, wakes partitions whose back-off is over, and gives up what took too long.
func (p *Producer) keep() {
	timer := p.c.clock.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := p.c.clock.Now()
		p.topics.Range(func(_, v any) bool {
			p.renew(v.(*topic), now) //nolint:errcheck,forcetypeassert // the map holds nothing else
			return true
		})
		due, next := p.due(now)
		for _, s := range due {
			p.seal(s.part, s.only)
		}
		timer.Reset(next)
		select {
		case <-timer.C():
		case <-p.wakeKeeper:
		case <-p.ctx.Done():
			return
		}
	}
}

type toSeal struct {
	part *partition
	only *batch
}

// due lists what is to be sealed now, and says in how long to look again.
func (p *Producer) due(now time.Time) (seal []toSeal, next time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next = time.Hour
	for _, part := range p.unsealed {
		seal = append(seal, toSeal{part, nil})
	}
	clear(p.unsealed)
	p.unsealed = p.unsealed[:0]
	for len(p.lingering) > 0 {
		l := p.lingering[0]
		if wait := l.at.Sub(now); wait > 0 {
			next = min(next, wait)
			break
		}
		p.lingering[0] = lingerer{}
		p.lingering = p.lingering[1:]
		part := l.b.part
		switch {
		case l.b.bytes != nil: // sealed because it was full
		case part.waiting < p.window && !part.draining && part.unnumbered == 0:
			seal = append(seal, toSeal{part, l.b})
		default:
			part.lingered = true // let it grow until there is room in flight
		}
	}
	for part := range p.active {
		p.expire(part, now)
		if len(part.queue) == 0 {
			continue
		}
		next = min(next, max(part.queue[0].deadline.Sub(now), time.Millisecond))
		if part.retryAt.IsZero() {
			continue
		}
		if wait := part.retryAt.Sub(now); wait > 0 {
			next = min(next, wait)
		} else {
			part.retryAt = time.Time{}
			p.enqueue(part)
		}
	}
	return seal, next
}

// deliver calls callbacks. When the producer ends it fails what is left.
func (p *Producer) deliver() {
	for {
		p.mu.Lock()
		todo := p.finished
		p.finished = nil
		p.mu.Unlock()
		for _, b := range todo {
			p.report(b)
		}
		if len(todo) > 0 {
			continue
		}
		select {
		case <-p.wakeDone:
		case <-p.ctx.Done():
			p.abandon()
			return
		}
	}
}

// abandon fails what is left when the producer ends.
func (p *Producer) abandon() {
	p.topics.Range(func(_, v any) bool {
		for _, part := range *v.(*topic).parts.Load() { //nolint:errcheck,forcetypeassert // the map holds nothing else
			p.seal(part, nil)
		}
		return true
	})
	p.mu.Lock()
	for part := range p.active {
		for len(part.queue) > 0 {
			b := part.queue[0]
			if b.state == batchFlying {
				p.land(b)
				b.doubt = true
			}
			p.drop(part)
			if b.state == batchAcked {
				p.finish(b, nil)
				continue
			}
			p.finish(b, &Error{Code: connect.CodeCanceled, Reason: "CLOSED", Message: "the producer was closed before the record was acknowledged", cause: ErrClosed})
		}
	}
	todo := p.finished
	p.finished = nil
	p.mu.Unlock()
	for _, b := range todo {
		p.report(b)
	}
}

// report calls the callbacks of one batch and gives its room back.
func (p *Producer) report(b *batch) {
	res := Result{Topic: b.part.topic.name, Partition: b.part.id, Offset: -1}
	base := int64(-1)
	if b.err != nil {
		res.Err = b.err
	} else {
		res.Reached = b.answer.GetReached()
		base = b.answer.GetBaseOffset()
	}
	for i, done := range b.callbacks {
		if done == nil {
			continue
		}
		if base >= 0 {
			res.Offset = base + int64(i)
		}
		done(res)
	}
	p.sem.Release(b.charge)
	p.mu.Lock()
	delete(p.outstanding, b)
	p.mu.Unlock()
	close(b.done)
}
