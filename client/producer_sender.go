package client

import (
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

var protoAcks = [...]tidemarkv1.Acks{AcksAll: tidemarkv1.Acks_ACKS_ALL, AcksLeader: tidemarkv1.Acks_ACKS_LEADER, AcksNone: tidemarkv1.Acks_ACKS_NONE}

// sender sends the batches of all partitions that go to one endpoint, over one stream.
type sender struct {
	p      *Producer
	e      *endpoint
	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{}

	// Guarded by Producer.mu.
	ready  []*partition // that may have something to send, in turn
	flying int
}

// sender gives the sender of an endpoint, and makes it the first time. It is called with mu held.
func (p *Producer) sender(e *endpoint) *sender {
	if s := p.senders[e]; s != nil {
		return s
	}
	ctx, cancel := context.WithCancel(p.ctx)
	s := &sender{p: p, e: e, ctx: ctx, cancel: cancel, wake: make(chan struct{}, 1)}
	p.senders[e] = s
	p.loops.Go(s.run)
	return s
}

// run keeps a stream open while there is something to send, and opens another when it breaks. It ends with the producer, or when the
// node is gone.
func (s *sender) run() {
	defer s.cancel()
	p, failures := s.p, 0
	for {
		now := p.c.clock.Now()
		p.mu.Lock()
		first := p.pick(s, now)
		p.mu.Unlock()
		if first == nil {
			select {
			case <-s.wake:
				continue
			case <-s.ctx.Done():
				return
			}
		}
		answers, err := s.stream(first)
		if p.ctx.Err() != nil {
			return
		}
		if answers > 0 {
			failures = 0
		}
		e := p.c.errorFrom(s.e.url, err)
		e.Retryable = retryableStream(e)
		p.c.failed(s.e, err)
		p.mu.Lock()
		p.cut(s, e, p.c.clock.Now())
		p.scatter(s)
		p.mu.Unlock()
		if s.ctx.Err() != nil {
			return
		}
		p.c.log.Info("produce stream ended", "server", s.e.url, "error", e)
		if !p.sleep(s.ctx, p.c.backoff(failures, e.RetryAfter)) {
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
func (s *sender) stream(first *tidemarkv1.ProduceStreamRequest) (answers int, err error) {
	p := s.p
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	st, err := s.e.produce.ProduceStream(ctx)
	if err != nil {
		return 0, err
	}
	// HTTP/2 looks at the context only when the body of the request has ended, so that has to come first.
	stop := func() {
		if err := st.CloseRequest(); err != nil {
			p.c.log.Debug("end produce stream", "error", err)
		}
		cancel()
	}
	defer stop()
	ended := make(chan error, 1)
	go func() {
		for {
			r, err := st.Receive()
			if err != nil {
				ended <- err
				return
			}
			now := p.c.clock.Now()
			p.mu.Lock()
			p.answered(r, now)
			p.mu.Unlock()
			if answers++; answers == 1 {
				p.c.worked(s.e)
			}
		}
	}()
	next := first
	for {
		if next != nil {
			if err = st.Send(next); err != nil {
				break
			}
		}
		p.mu.Lock()
		next = p.pick(s, p.c.clock.Now())
		p.mu.Unlock()
		if next != nil {
			continue
		}
		select {
		case <-s.wake:
		case err := <-ended:
			return answers, err
		case <-s.ctx.Done():
			stop()
			<-ended //nolint:errcheck // why it ended is known: we ended it
			return answers, s.ctx.Err()
		}
	}
	// After io.EOF the reason is at the receiving end, and there already or about to be.
	if !errors.Is(err, io.EOF) {
		stop()
		<-ended //nolint:errcheck // why it ended is known: we ended it
		return answers, err
	}
	err = <-ended // which comes before the count is read: the receiver counts
	return answers, err
}
