package tail

import (
	"context"
	"errors"
	"time"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
)

// pump waits for a Reader on behalf of a tail, and holds the one piece that was read while the tail works on another.
type pump struct {
	out    chan polled
	cancel context.CancelFunc
	ended  chan struct{}
}

type polled struct {
	piece Piece
	err   error
	final bool // nothing comes behind err
}

func startPump(ctx context.Context, r Reader, t *tail) *pump {
	ctx, cancel := context.WithCancel(ctx)
	p := &pump{out: make(chan polled), cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		defer func() { _ = t.guarded(func() error { r.Close(); return nil }) }()
		err := t.guarded(func() error { p.run(ctx, r, t.store.config.Clock); return nil })
		if err != nil {
			p.give(ctx, polled{err: err, final: true})
		}
	}()
	return p
}

func (p *pump) run(ctx context.Context, r Reader, c clock.Clock) {
	for failures := 0; ; {
		var got polled
		got.piece, got.err = r.Poll(ctx)
		if ctx.Err() != nil {
			return
		}
		got.final = got.err != nil && !retryable(got.err)
		switch {
		case !p.give(ctx, got) || got.final:
			return
		case got.err == nil:
			failures = 0
		case !pause(ctx, c, backoff(failures)):
			return
		default:
			failures++
		}
	}
}

// give hands over what was read; false when nobody wants it any more.
func (p *pump) give(ctx context.Context, got polled) bool {
	select {
	case p.out <- got:
		return true
	case <-ctx.Done():
		return false
	}
}

// stop ends the pump and its reader. What was read and not taken is lost.
func (p *pump) stop() {
	if p == nil {
		return
	}
	p.cancel()
	<-p.ended
}

func retryable(err error) bool {
	e, ok := errors.AsType[*client.Error](err)
	return ok && e.Retryable
}

func outOfRange(err error) bool {
	e, ok := errors.AsType[*client.Error](err)
	return ok && e.Reason == client.ReasonOffsetOutOfRange
}

// backoff is how long to wait before attempt n: 20 ms doubled up to about 2 s.
func backoff(n int) time.Duration { return min(20*time.Millisecond<<min(n, 7), 2*time.Second) }

// pause waits; false when ctx ended first.
func pause(ctx context.Context, c clock.Clock, d time.Duration) bool {
	timer := c.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-ctx.Done():
		return false
	}
}
