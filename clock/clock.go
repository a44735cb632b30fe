// Package clock is the seam through which Tidemark reads time.
//
// Nothing that safety rests on is decided by a clock (see docs/architecture.md, invariant 7); time decides only when
// something is tried, how long somebody waits, and what a record's append time says. Code outside this package does not
// call time.Now, time.After, time.NewTimer or time.NewTicker: a linter enforces it. Step machines do not even hold a
// Clock; they are told the time in their events.
package clock

import "time"

// Clock tells the time and wakes its callers. Every method may be called from any goroutine.
type Clock interface {
	// Now returns the current time with a monotonic reading where the implementation has one.
	Now() time.Time
	// NewTimer returns a timer that fires once, d from now; d <= 0 fires at once.
	NewTimer(d time.Duration) Timer
}

// Timer is one pending wake-up. Its channel has room for one value, so that firing never blocks.
type Timer interface {
	// C delivers the time at which the timer fired.
	C() <-chan time.Time
	// Stop prevents the timer from firing and reports whether it was still pending. After Stop or Reset no value of the
	// earlier setting is delivered.
	Stop() bool
	// Reset arms the timer anew, d from now, and reports whether it was still pending.
	Reset(d time.Duration) bool
}

// System returns the clock of this machine.
func System() Clock { return system{} }

type system struct{}

func (system) Now() time.Time { return time.Now() }

func (system) NewTimer(d time.Duration) Timer { return systemTimer{time.NewTimer(d)} }

type systemTimer struct{ t *time.Timer }

func (s systemTimer) C() <-chan time.Time        { return s.t.C }
func (s systemTimer) Stop() bool                 { return s.t.Stop() }
func (s systemTimer) Reset(d time.Duration) bool { return s.t.Reset(d) }
