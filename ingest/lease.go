package ingest

import (
	"fmt"
	"time"
)

// lease is the step machine that keeps a node's registration alive. It does no I/O and holds no clock.
//
// A keep-alive is sent every third of the time to live. When the last one that was answered is older than the time to live,
// the node may have been forgotten by an operator: it stops acknowledging on disk until one is answered again. When etcd says
// that the lease is gone, this incarnation is over; a late answer cannot bring it back.
type lease struct {
	ttl time.Duration

	confirmed time.Time // when the last answered keep-alive was sent: the lease held at least then
	next      time.Time // when to send the next
	sending   bool
	stale     bool
	failures  int
}

type leaseEvent interface{ isLeaseEvent() }

type (
	// leaseTick: time has passed.
	leaseTick struct{ now time.Time }
	// leaseKept: a keep-alive sent at sentAt was answered.
	leaseKept struct{ sentAt, now time.Time }
	// leaseFailed: a keep-alive got no answer.
	leaseFailed struct{ now time.Time }
	// leaseGone: etcd does not know the lease.
	leaseGone struct{}
)

func (leaseTick) isLeaseEvent()   {}
func (leaseKept) isLeaseEvent()   {}
func (leaseFailed) isLeaseEvent() {}
func (leaseGone) isLeaseEvent()   {}

type leaseEffects struct {
	send bool // a keep-alive, once
	lost bool // the incarnation is over
	// stale tells whether acknowledgements on disk must wait.
	stale bool
	// wake is when to tick again.
	wake time.Time
}

// newLease begins with a lease that was granted by a request sent at granted.
func newLease(ttl time.Duration, granted time.Time) *lease {
	return &lease{ttl: ttl, confirmed: granted, next: granted.Add(ttl / 3)}
}

// Step applies one event.
func (l *lease) Step(event leaseEvent) leaseEffects {
	var now time.Time
	switch e := event.(type) {
	case leaseTick:
		now = e.now
	case leaseKept:
		now = e.now
		l.sending, l.failures = false, 0
		if e.sentAt.After(l.confirmed) {
			l.confirmed = e.sentAt
		}
		l.next = e.sentAt.Add(l.ttl / 3)
	case leaseFailed:
		now = e.now
		l.sending = false
		l.failures++
		l.next = now.Add(min(l.ttl/10, time.Second))
	case leaseGone:
		return leaseEffects{lost: true, stale: true}
	default:
		panic(fmt.Sprintf("lease: unknown event %T", event))
	}
	l.stale = now.Sub(l.confirmed) >= l.ttl
	out := leaseEffects{stale: l.stale}
	if !l.sending && !now.Before(l.next) {
		l.sending = true
		out.send = true
	}
	out.wake = l.confirmed.Add(l.ttl) // when it turns stale
	if l.stale {
		out.wake = time.Time{}
	}
	if !l.sending && (out.wake.IsZero() || l.next.Before(out.wake)) {
		out.wake = l.next
	}
	return out
}
