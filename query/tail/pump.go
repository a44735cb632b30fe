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

func startPump(ctx context.Context, r Reader, c clock.Clock) *pump {
	ctx, cancel := context.WithCancel(ctx)
	p := &pump{out: make(chan polled), cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		defer r.Close()
		p.run(ctx, r, c)
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
		select {
		case p.out <- got:
		case <-ctx.Done():
			return
		}
		switch {
		case got.final:
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
