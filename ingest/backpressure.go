package ingest

import (
	"fmt"
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

// admission decides which produces get in. When the log or what waits for the object store is full, calls are delayed, in
// order, and refused when they have waited long enough or too many wait: always before an offset is given, and with the
// cause by name. It does no I/O and holds no clock.
type admission struct {
	limits admissionLimits

	unlogged    int64 // bytes with offsets that the log file does not have yet
	uncommitted int64 // bytes with offsets that no commit covers yet
	batches     int64 // the same, counted: each costs memory whatever its size
	full        bool  // the node has as many L0 records as it may: nothing more goes in
	parked      queue[parkedCall]
	parkedBytes int64
}

// admissionLimits are a node's caps, in bytes where nothing else is said.
type admissionLimits struct {
	unlogged    int64
	uncommitted int64
	batches     int64 // a number, not bytes
	parked      int64
	delay       time.Duration
}

type parkedCall struct {
	call  *produceCall
	until time.Time
}

// room tells whether one more batch may get offsets now.
func (a *admission) room() bool {
	return !a.full && a.unlogged < a.limits.unlogged && a.uncommitted < a.limits.uncommitted && a.batches < a.limits.batches
}

// taken counts a batch that was given offsets, settled one that is committed or lost.
func (a *admission) taken(size int) {
	a.uncommitted += int64(size)
	a.batches++
}

func (a *admission) settled(size int) {
	a.uncommitted -= int64(size)
	a.batches--
}

// offer takes a call: true means append it now. Otherwise it is parked, or refused with cause.
func (a *admission) offer(call *produceCall, now time.Time, cause func() string) (bool, *Error) {
	if a.parked.len() == 0 && a.room() {
		return true, nil
	}
	if !a.hold(len(call.batch)) {
		return false, backPressure(cause())
	}
	a.parked.push(parkedCall{call: call, until: now.Add(a.limits.delay)})
	return false, nil
}

// hold counts a call that is to wait, for room or for something else, and is false when too many wait. One may, however large.
func (a *admission) hold(size int) bool {
	if a.parkedBytes > 0 && a.parkedBytes+int64(size) > a.limits.parked {
		return false
	}
	a.parkedBytes += int64(size)
	return true
}

// unhold counts a call that waits no more.
func (a *admission) unhold(size int) { a.parkedBytes -= int64(size) }

// pull takes out the parked calls of some partitions, in order; the others stay in theirs.
func (a *admission) pull(of map[meta.Partition]meta.Epoch) []*produceCall {
	var out []*produceCall
	for range a.parked.len() {
		p := a.parked.pop()
		if _, ok := of[p.call.id]; !ok {
			a.parked.push(p)
			continue
		}
		a.unhold(len(p.call.batch))
		out = append(out, p.call)
	}
	return out
}

// next returns the oldest parked call if there is room for it.
func (a *admission) next() (*produceCall, bool) {
	if a.parked.len() == 0 || !a.room() {
		return nil, false
	}
	return a.unpark(), true
}

func (a *admission) unpark() *produceCall {
	p := a.parked.pop()
	a.unhold(len(p.call.batch))
	return p.call
}

// expired returns the oldest parked call if it has waited long enough, and otherwise when it will have; zero when none waits.
func (a *admission) expired(now time.Time) (*produceCall, time.Time) {
	if a.parked.len() == 0 {
		return nil, time.Time{}
	}
	if until := a.parked.peek().until; now.Before(until) {
		return nil, until
	}
	return a.unpark(), time.Time{}
}

func backPressure(cause string) *Error {
	return (&Error{
		Reason:  ReasonBackPressure,
		Message: fmt.Sprintf("buffers are full: %s; nothing of this request was taken, send it again later", cause),
	}).WithRetryAfter(500 * time.Millisecond)
}
