package client

import (
	"time"

	"connectrpc.com/connect"
)

const (
	// distrustFor is how long a partition keeps away from a node that says it does not lead it, whatever the metadata say.
	distrustFor = 10 * time.Second
	// sweepEvery is how often a partition that does not go to its leader looks whether it can again.
	sweepEvery = 2 * time.Second
)

// route is where the batches of a partition go. It is guarded by Producer.mu.
//
//	via changes only while nothing is in flight, so that all batches in flight are at one node
type route struct {
	via      *sender // nil until something is to be sent
	viaEpoch int32   // the epoch at which that node leads the partition; noEpoch when it only forwards
	tried    int32   // the highest epoch at which something was sent, or was about to be, without regard for retryAt
	moving   bool    // it goes elsewhere: send nothing while waiting > 0
	readyAt  *sender // in whose ready list it is
	refusals int     // NOT_LEADER in a row from a node that should lead

	distrusted      *endpoint
	distrustedEpoch int32
	distrustedUntil time.Time
}

// Every function below is called with Producer.mu held; none does I/O.

// choose gives a partition that has nothing in flight the sender of its leader, or of a node that forwards.
func (p *Producer) choose(part *partition) {
	e, epoch, ok := p.c.leaderAt(part.topic.name, part.id)
	var not map[*endpoint]bool
	if part.distrusts(e, epoch, p.c.clock) {
		ok, not = false, map[*endpoint]bool{e: true}
	}
	if !ok {
		e, epoch = p.c.anyBut(serveLog, not), noEpoch
	}
	if s := p.sender(e); s != part.via || epoch != part.viaEpoch {
		part.via, part.viaEpoch, part.refusals = s, epoch, 0
	}
}

// distrusts tells that the node has said itself that it does not lead the partition at this epoch.
func (r *route) distrusts(e *endpoint, epoch int32, c interface{ Now() time.Time }) bool {
	return e != nil && e == r.distrusted && epoch == r.distrustedEpoch && c.Now().Before(r.distrustedUntil)
}

// sweep brings every partition that has something to send to where it belongs, and ends the senders of nodes that are gone.
func (p *Producer) sweep(now time.Time) {
	p.sweepAt = now.Add(sweepEvery)
	for part := range p.active {
		p.reroute(part)
	}
	for e, s := range p.senders {
		if s.flying == 0 && p.c.gone(e) {
			delete(p.senders, e)
			s.cancel()
			p.scatter(s)
		}
	}
}

// reroute looks whether the partition's leader is another one than the node its batches go to.
func (p *Producer) reroute(part *partition) {
	if part.via == nil {
		return
	}
	e, epoch, ok := p.c.leaderAt(part.topic.name, part.id)
	if e == nil || part.distrusts(e, epoch, p.c.clock) {
		return
	}
	switch {
	case e == part.via.e && epoch <= part.viaEpoch:
		return
	case e == part.via.e:
		part.viaEpoch = epoch // the same stream, which keeps the order
	case part.waiting == 0:
	case p.idempotent && part.viaEpoch != noEpoch && epoch > part.viaEpoch:
		p.giveUp(part, e)
	case ok:
		part.moving = true
		return
	default:
		return
	}
	if epoch > part.tried { // why it waits is over
		part.tried, part.retryAt, part.attempts = epoch, time.Time{}, 0
	}
	if len(part.queue) > 0 {
		p.enqueue(part)
	}
}

// giveUp stops waiting for what is in flight at a node that another has succeeded as the leader. It may have been committed there, but
// can be no more: a leader commits only at its own epoch, and the next one began after the last of that. So the batches are in doubt, and
// the next leader tells those it has from those it has not by their sequence numbers.
func (p *Producer) giveUp(part *partition, next *endpoint) {
	for _, b := range part.queue {
		if b.state != batchFlying {
			continue
		}
		p.land(b)
		b.doubt, b.shared = true, true
		b.err = &Error{
			Code: connect.CodeUnknown, Reason: reasonOutcomeUnknown, Retryable: true,
			Message: "the leader changed from " + part.via.e.url + " to " + next.url + " before the answer came",
		}
	}
	p.settle(part)
}

// notLeader is told that the node a batch was sent to does not lead its partition.
func (p *Producer) notLeader(part *partition, now time.Time) {
	e, epoch, ok := p.c.leaderAt(part.topic.name, part.id)
	if ok && epoch > part.tried { // who leads is known already
		part.tried, part.retryAt, part.attempts = epoch, time.Time{}, 0
		return
	}
	if part.viaEpoch == noEpoch {
		return
	}
	// A node may be about to lead and say no once. After that the metadata may be wrong: a node that forwards may know better.
	if part.refusals++; part.refusals > 1 && e == part.via.e {
		part.refusals = 0
		part.distrusted, part.distrustedEpoch, part.distrustedUntil = e, epoch, now.Add(distrustFor)
	}
}

// scatter lets the partitions that wait at a sender look for another.
func (p *Producer) scatter(s *sender) {
	ready := s.ready
	s.ready = nil
	for _, part := range ready {
		if part.readyAt == s {
			part.readyAt = nil
			p.enqueue(part)
		}
	}
}

// fence ends the producer: its id belongs to somebody else. What is not in flight fails at once, the rest when it is answered.
func (p *Producer) fence(err *Error) {
	e := *err
	e.Outcome, e.Retryable = OutcomeRefused, false
	e.Message = "another producer has taken over this one's id, so that it can write nothing more; make a new producer: " + err.Message
	if !p.fenced.CompareAndSwap(nil, &e) {
		return
	}
	wake(p.wakeKeeper)
}
