package query

import (
	"context"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/clock"
)

// gate performs what admission decides: it lets queries wait for their slots and tells them to end. Its methods may be called from
// any goroutine.
type gate struct {
	clock clock.Clock

	mu    sync.Mutex
	core  *admission
	last  jobID
	turns map[jobID]*turn
	due   time.Time     // when the ticker wakes; zero when it sleeps until it is poked
	poke  chan struct{} // room for one
}

func newGate(c clock.Clock, l admissionLimits) *gate {
	return &gate{clock: c, core: newAdmission(l), turns: make(map[jobID]*turn), poke: make(chan struct{}, 1)}
}

// turn is one query's place in the gate. Between enter and leave its methods are called by the query's own goroutine, but for
// took, which is for that of its writer.
type turn struct {
	gate     *gate
	id       jobID
	admitted chan struct{} // room for one
	end      func(cause error)
}

// errPushedOut: the queue is full, and a client that had fewer queries in it came.
var errPushedOut = errorf(ReasonQueueFull,
	"the queue of queries is full, and this one, the newest of the client that has the most in it, made room for another's; send it again later").again()

// enter waits for a slot. end is called, once at most and with no lock held, when the query must end because its client takes
// nothing or its place went to another; it ends ctx with the cause. The turn must be left also when its query is told to end. The error is QUERY_QUEUE_FULL, or ctx's cause.
func (g *gate) enter(ctx context.Context, client clientKey, end func(cause error)) (*turn, error) {
	g.mu.Lock()
	g.last++
	t := &turn{gate: g, id: g.last, admitted: make(chan struct{}, 1), end: end}
	g.turns[t.id] = t
	entered, connectionFull := g.core.enter(t.id, client, g.clock.Now())
	if !entered {
		delete(g.turns, t.id)
	}
	g.perform()
	if !entered {
		if connectionFull {
			return nil, errorf(ReasonQueueFull, "%d queries of this connection are waiting already; send this one when some of them have ended",
				g.core.limits.PerConnection).again()
		}
		return nil, errorf(ReasonQueueFull, "%d queries are waiting already, more than the server keeps; try again later", g.core.limits.Waiting).again()
	}
	if err := t.await(ctx); err != nil {
		t.leave()
		return nil, err
	}
	return t, nil
}

// await waits for the slot that admission gives.
func (t *turn) await(ctx context.Context) error {
	select {
	case <-t.admitted:
		return nil
	default:
	}
	select {
	case <-t.admitted:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// leave gives the slot, or the place in the queue, to others. Safe twice.
func (t *turn) leave() {
	g := t.gate
	g.mu.Lock()
	delete(g.turns, t.id)
	g.core.leave(t.id, g.clock.Now())
	g.perform()
}

// blocked says that the query waits for something that is no work of this machine.
func (t *turn) blocked(kind blockKind) {
	g := t.gate
	g.mu.Lock()
	g.core.wait(t.id, kind, g.clock.Now())
	g.perform()
}

// took says that the client of a blocked query took something.
func (t *turn) took() {
	g := t.gate
	g.mu.Lock()
	g.core.progress(t.id, g.clock.Now())
	g.mu.Unlock()
}

// resume ends blocked, and waits for a slot if it was given to another. The error is ctx's cause; leave is due all the same.
func (t *turn) resume(ctx context.Context) error {
	g := t.gate
	g.mu.Lock()
	has := g.core.resume(t.id, g.clock.Now())
	g.perform()
	if has {
		// Also when it came back at once: its effectAdmit is in the channel then and would count for a later wait.
		select {
		case <-t.admitted:
		default:
		}
		return nil
	}
	return t.await(ctx)
}

// perform does what the core asks for and unlocks.
func (g *gate) perform() {
	var ends []func()
	for _, e := range g.core.take() {
		t := g.turns[e.id]
		if t == nil {
			continue
		}
		switch e.kind {
		case effectAdmit:
			t.admitted <- struct{}{} // there is room: it is taken before the job waits again
		case effectEnd:
			ends = append(ends, func() { t.end(errTooSlow) })
		case effectPushOut:
			ends = append(ends, func() { t.end(errPushedOut) })
		}
	}
	next := g.core.next()
	wake := !next.IsZero() && (g.due.IsZero() || next.Before(g.due))
	g.mu.Unlock()
	if wake {
		select {
		case g.poke <- struct{}{}:
		default: // it will look
		}
	}
	for _, f := range ends {
		f()
	}
}

// run ticks when time alone changes something, until ctx ends.
func (g *gate) run(ctx context.Context) {
	timer := g.clock.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		g.mu.Lock()
		now := g.clock.Now()
		g.core.tick(now)
		g.due = g.core.next()
		wait := time.Hour
		if !g.due.IsZero() {
			wait = max(g.due.Sub(now), time.Millisecond)
		}
		g.perform()
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-timer.C():
		case <-g.poke:
		}
	}
}

// levels are how many queries compute, and how many wait for a slot.
func (g *gate) levels() (running, waiting int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.core.running, g.core.queued
}
