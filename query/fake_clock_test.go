package query

import (
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/clock"
)

// fakeClock goes only when it is told to.
type fakeClock struct {
	mu     sync.Mutex
	now    time.Time
	timers map[*fakeTimer]struct{}
}

func newFakeClock() *fakeClock {
	// Deadlines of connections are real times, so it begins at the present.
	return &fakeClock{now: clock.System().Now(), timers: map[*fakeTimer]struct{}{}}
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) NewTimer(d time.Duration) clock.Timer {
	t := &fakeTimer{clock: c, c: make(chan time.Time, 1)}
	t.Reset(d)
	return t
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	for t := range c.timers {
		t.fireIfDue()
	}
}

// run lets the time go on in steps, at most twenty times as fast as the real one, until the returned function is called. Were it faster,
// a client on a busy machine would look like one that takes nothing for half a minute.
func (c *fakeClock) run(step time.Duration) (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		pace := clock.System().NewTimer(step / 20)
		defer pace.Stop()
		for {
			select {
			case <-done:
				return
			case <-pace.C():
				c.advance(step)
				pace.Reset(step / 20)
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}

type fakeTimer struct {
	clock *fakeClock
	c     chan time.Time
	at    time.Time
}

func (t *fakeTimer) C() <-chan time.Time { return t.c }

func (t *fakeTimer) fireIfDue() {
	if !t.at.After(t.clock.now) {
		delete(t.clock.timers, t)
		t.c <- t.clock.now
	}
}

func (t *fakeTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	return t.stop()
}

func (t *fakeTimer) stop() bool {
	_, pending := t.clock.timers[t]
	delete(t.clock.timers, t)
	select {
	case <-t.c:
	default:
	}
	return pending
}

func (t *fakeTimer) Reset(d time.Duration) bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	pending := t.stop()
	t.at = t.clock.now.Add(d)
	t.clock.timers[t] = struct{}{}
	t.fireIfDue()
	return pending
}
