package room

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/clock"
)

// countingClock counts the timers that were asked for.
type countingClock struct {
	clock.Clock
	timers atomic.Int64
}

func (c *countingClock) NewTimer(d time.Duration) clock.Timer {
	c.timers.Add(1)
	return c.Clock.NewTimer(d)
}

// TestOneWatches: however many wait for room, one goroutine looks for those that stall.
func TestOneWatches(t *testing.T) {
	c := &countingClock{Clock: clock.System()}
	r := New(1, time.Hour, c)
	all := r.Try(1, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	errEnough := errors.New("enough")
	var waiters sync.WaitGroup
	for range 200 {
		waiters.Go(func() {
			if _, err := r.Take(ctx, 1, nil); !errors.Is(err, errEnough) {
				t.Errorf("a waiter had %v", err)
			}
		})
	}
	for waiting := 0; waiting < 200; {
		r.mu.Lock()
		waiting = r.waiting
		r.mu.Unlock()
	}
	cancel(errEnough)
	waiters.Wait()
	all.Give()
	if n := c.timers.Load(); n > 1 {
		t.Errorf("%d timers", n)
	}
}

// TestWhoStallsLongestGoesFirst: the shares are looked at in the order of their progress, those that are young are not, who is not to blame is asked
// again, and who was evicted or has given is not.
func TestWhoStallsLongestGoesFirst(t *testing.T) {
	r := New(100, time.Nanosecond, clock.System())
	var asked string
	share := func(name string, goes bool) *Share {
		return r.Try(1, func() bool {
			asked += name
			return goes
		})
	}
	a, b, c, d := share("a", true), share("b", false), share("c", true), share("d", true)
	a.Progress()
	d.Settle(nil)
	c.Give()
	c.Progress()
	want := func(what string) {
		t.Helper()
		<-r.clock.NewTimer(time.Millisecond).C() // that is longer than the patience
		if r.evictStalled(); asked != what {
			t.Errorf("asked %q, not %q", asked, what)
		}
		asked = ""
	}
	want("ba")
	a.Progress()
	want("b")
	b.Give()
	d.Settle(func() bool {
		asked += "D"
		return true
	})
	want("D")
	r.patience = time.Hour
	share("e", true)
	want("")
}

// TestShrink: what a share turns out not to need is somebody else's at once.
func TestShrink(t *testing.T) {
	r := New(100, time.Hour, clock.System())
	s := r.Try(90, nil)
	s.Shrink(95)
	if s.Size() != 90 || r.Try(11, nil) != nil {
		t.Error("a share grew")
	}
	s.Shrink(30)
	other := r.Try(70, nil)
	if s.Size() != 30 || other == nil {
		t.Fatalf("a share of 30 bytes has %d", s.Size())
	}
	other.Give()
	s.Give()
	if r.Try(100, nil) == nil {
		t.Error("the room is not given back")
	}
}
