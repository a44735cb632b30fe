package client

import (
	"context"
	"time"

	"connectrpc.com/connect"
)

// sleep reports whether it slept to the end, or false when ctx ended.
func (p *Producer) sleep(ctx context.Context, d time.Duration) bool {
	t := p.c.clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
		return true
	case <-ctx.Done():
		return false
	}
}

// newID gets a producer id of its own for a partition whose sequence has a gap.
func (p *Producer) newID(part *partition) {
	for n := 0; ; n++ {
		r, err := p.initProducer(p.ctx)
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
		if !p.sleep(p.ctx, p.c.backoff(n, e.RetryAfter)) {
			return
		}
	}
}

// keep seals batches that have lingered, wakes partitions whose back-off is over, and gives up what took too long.
func (p *Producer) keep() {
	timer := p.c.clock.NewTimer(time.Hour)
	defer timer.Stop()
	changed := p.c.changed()
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
		case <-changed:
			changed = p.c.changed()
			p.grown()
			p.mu.Lock()
			p.sweep(p.c.clock.Now())
			p.mu.Unlock()
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
		case part.waiting < p.window && !part.draining && !part.moving && part.unnumbered == 0:
			seal = append(seal, toSeal{part, l.b})
		default:
			part.lingered = true // let it grow until there is room in flight
		}
	}
	if !now.Before(p.sweepAt) {
		p.sweep(now)
	}
	if len(p.active) > 0 && p.c.known.direct {
		next = min(next, p.sweepAt.Sub(now))
	}
	fenced := p.fenced.Load() != nil
	for part := range p.active {
		p.expire(part, now)
		if fenced {
			p.settle(part)
		}
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
