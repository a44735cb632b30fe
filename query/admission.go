package query

import (
	"slices"
	"time"
)

// admission decides which queries compute. It is a step machine: no clock, no goroutine, no lock; each step may leave effects,
// which the gate performs.
//
// A query is a job in one of four states:
//
//	          enter                 a slot is free, its turn
//	(none) ──────────▶ queued ─────────────────────────────▶ running ◀─┐
//	                     ▲                                     │  ▲     │ unblocked in time, or
//	                     │ unblocked                   blocked │  └─────┘ nobody waits
//	                     └───────────── parked ◀───────────────┘
//	                                             for blockedLong while others wait
//
// Only running jobs compute, and there are at most Slots of them. A job is blocked while it waits for something that is no work of
// this machine: its client that does not take what was sent, or the log that has not reached its position. It keeps its slot as
// long as nobody wants it.
//
// The queue is fair: it goes round the hosts, for each host round its connections, and takes the oldest job of each. So a
// thousand queries of one client delay another's first by one, not by a thousand. A job that comes back from being parked is
// the first of its connection.
//
// A full queue is fair too: a newcomer whose host has fewer waiting jobs than another, even with this one, pushes out the newest of the connection
// that has the most of the host that has the most; when no host has more, the same among the connections of its own host. So who fills the queue
// fills it for himself alone. One that was pushed out is no job any more: its query ends with QUERY_QUEUE_FULL.
//
// Invariants, also checked by a test: running <= Slots; running < Slots implies that nothing is queued; jobs that hold an engine
// and no slot <= Parked; those that hold neither <= Waiting + Slots, and <= PerConnection + Slots of one connection, where Slots
// is for those that began to wait for the log after they were admitted.
type admission struct {
	limits  admissionLimits
	jobs    map[jobID]*job
	running int
	queued  int // in the ring
	waiting int // jobs that hold no engine and no slot
	held    int // parked jobs, and those queued again, that hold an engine
	blocked map[jobID]*job
	perConn map[clientKey]int // of waiting
	ring    []*hostQueue
	effects []effect
}

type jobID uint64

// clientKey says whose query it is.
type clientKey struct {
	host       string
	connection string
}

type admissionLimits struct {
	// Slots is how many jobs run at once, at least 1.
	Slots int
	// Waiting and PerConnection bound the jobs that wait.
	Waiting       int
	PerConnection int
	// Parked bounds the jobs that hold an engine and no slot.
	Parked int
}

const (
	// blockedLong is how long a blocked job keeps a slot that another waits for.
	blockedLong = 100 * time.Millisecond
	// idleMercy is how long a client must have taken nothing before its query is ended to make room.
	idleMercy = time.Second
	// idleLimit is how long a client may take nothing in any case.
	idleLimit = 30 * time.Second
)

type jobState uint8

const (
	jobQueued jobState = iota
	jobRunning
	jobParked
)

// blockKind is what a job waits for that is no work of this machine.
type blockKind uint8

const (
	notBlocked blockKind = iota
	// blockedByLog: for the log to reach the position. The job holds no engine.
	blockedByLog
	// blockedByClient: for the client to take output. The job holds an engine.
	blockedByClient
)

type job struct {
	id     jobID
	client clientKey
	state  jobState
	block  blockKind
	engine bool // blocked by the client once: it holds an engine from then on
	since  time.Time
	taken  time.Time // last time its client took something
	ended  bool      // told to end
}

// effect is what a step asks for.
type effect struct {
	id   jobID
	kind effectKind
}

type effectKind uint8

const (
	// effectAdmit: the job runs from now on.
	effectAdmit effectKind = iota
	// effectEnd: the job must end because its client is too slow; it leaves by itself.
	effectEnd
	// effectPushOut: the job lost its place in the queue to another's, and is none any more.
	effectPushOut
)

func newAdmission(l admissionLimits) *admission {
	return &admission{limits: l, jobs: make(map[jobID]*job), blocked: make(map[jobID]*job), perConn: make(map[clientKey]int)}
}

// take returns the effects since the last call.
func (a *admission) take() []effect {
	out := a.effects
	a.effects = nil
	return out
}

// enter adds a job that wants a slot. False: there is no room for it to wait, by the connection's bound or by that of all.
func (a *admission) enter(id jobID, client clientKey, now time.Time) (admitted, connectionFull bool) {
	if a.running >= a.limits.Slots {
		switch {
		case a.perConn[client] >= a.limits.PerConnection:
			return false, true
		case a.waiting >= a.limits.Waiting:
			victim := a.crowder(client)
			if victim == nil {
				return false, false
			}
			a.leave(victim.id, now)
			a.effects = append(a.effects, effect{victim.id, effectPushOut})
		}
	}
	j := &job{id: id, client: client}
	a.jobs[id] = j
	a.enqueue(j, false)
	a.settle(now)
	return true, false
}

// leave ends a job, whatever its state.
func (a *admission) leave(id jobID, now time.Time) {
	j := a.jobs[id]
	if j == nil {
		return
	}
	delete(a.jobs, id)
	delete(a.blocked, id)
	a.uncount(j)
	switch j.state {
	case jobRunning:
		a.running--
	case jobQueued:
		a.dequeue(j)
	case jobParked:
	}
	a.settle(now)
}

// wait says that a running job is blocked from now on. While it is, progress says that its client took something.
func (a *admission) wait(id jobID, kind blockKind, now time.Time) {
	j := a.jobs[id]
	if j == nil || j.state != jobRunning {
		return
	}
	j.block, j.since, j.taken = kind, now, now
	j.engine = j.engine || kind == blockedByClient
	a.blocked[id] = j
	// The slot is not taken before blockedLong is over: nothing to settle.
}

// progress says that the client of a blocked job took something.
func (a *admission) progress(id jobID, now time.Time) {
	if j := a.jobs[id]; j != nil {
		j.taken = now
	}
}

// resume says that a job is blocked no longer and wants to compute. It returns whether it still has its slot; if not, an
// effectAdmit will come, or it was pushed out.
func (a *admission) resume(id jobID, now time.Time) bool {
	j := a.jobs[id]
	if j == nil { // it was pushed out, and is being told
		return false
	}
	delete(a.blocked, id)
	j.block = notBlocked
	if j.state == jobParked {
		a.uncount(j)
		a.enqueue(j, true)
		a.settle(now)
	}
	return j.state == jobRunning
}

// tick does what time alone brings about.
func (a *admission) tick(now time.Time) { a.settle(now) }

// next is when a tick is due; zero when time alone changes nothing.
func (a *admission) next() time.Time {
	var at time.Time
	earlier := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	for _, j := range a.blocked {
		if j.ended {
			continue
		}
		if j.block == blockedByClient {
			earlier(j.taken.Add(idleLimit))
		}
		if a.queued > 0 && a.lends(j) {
			earlier(j.since.Add(blockedLong))
		}
	}
	if victim := a.victim(); victim != nil && a.crowded() {
		earlier(victim.taken.Add(idleMercy))
	}
	return at
}

// settle gives out slots and takes them from blocked jobs, until nothing more is to be done now.
func (a *admission) settle(now time.Time) {
	for _, j := range a.blocked {
		if j.block == blockedByClient && !j.ended && now.Sub(j.taken) >= idleLimit {
			a.end(j)
		}
	}
	for a.admit(); a.queued > 0; a.admit() {
		j := a.longestBlocked(now)
		if j == nil {
			break
		}
		a.park(j)
	}
	if a.crowded() {
		if j := a.victim(); j != nil && now.Sub(j.taken) >= idleMercy {
			a.end(j)
		}
	}
}

// admit gives free slots to who waits.
func (a *admission) admit() {
	for a.running < a.limits.Slots && a.queued > 0 {
		j := a.pop()
		a.uncount(j)
		j.state = jobRunning
		a.running++
		a.effects = append(a.effects, effect{j.id, effectAdmit})
	}
}

// longestBlocked is the running job whose slot another may have, nil when there is none.
func (a *admission) longestBlocked(now time.Time) *job {
	var found *job
	for _, j := range a.blocked {
		if !a.lends(j) || now.Sub(j.since) < blockedLong {
			continue
		}
		if found == nil || j.since.Before(found.since) || j.since.Equal(found.since) && j.id < found.id {
			found = j
		}
	}
	return found
}

// lends tells of a blocked job whether it can be parked.
func (a *admission) lends(j *job) bool {
	return j.state == jobRunning && (!j.engine || a.held < a.limits.Parked)
}

func (a *admission) park(j *job) {
	j.state = jobParked
	a.running--
	a.count(j)
}

// crowded tells that others wait and as many jobs are parked as may be.
func (a *admission) crowded() bool { return a.queued > 0 && a.held >= a.limits.Parked }

// victim is the blocked job whose client has taken nothing for the longest time; nil while one that was ended has not left,
// which makes room by itself.
func (a *admission) victim() *job {
	var found *job
	for _, j := range a.blocked {
		if j.block != blockedByClient {
			continue
		}
		if j.ended {
			return nil
		}
		if found == nil || j.taken.Before(found.taken) || j.taken.Equal(found.taken) && j.id < found.id {
			found = j
		}
	}
	return found
}

func (a *admission) end(j *job) {
	j.ended = true
	a.effects = append(a.effects, effect{j.id, effectEnd})
}

// count and uncount keep the numbers of jobs without a slot.
func (a *admission) count(j *job) {
	if j.engine {
		a.held++
		return
	}
	a.waiting++
	a.perConn[j.client]++
}

func (a *admission) uncount(j *job) {
	if j.state == jobRunning {
		return
	}
	if j.engine {
		a.held--
		return
	}
	a.waiting--
	if a.perConn[j.client]--; a.perConn[j.client] == 0 {
		delete(a.perConn, j.client)
	}
}

// crowder is the waiting job that makes room for one of a client, nil when the client has as much of the queue as anybody.
func (a *admission) crowder(client clientKey) *job {
	perHost := make(map[string]int)
	for c, n := range a.perConn {
		perHost[c.host] += n
	}
	host, most := greatest(perHost, func(string) bool { return true })
	if perHost[client.host]+1 >= most {
		host = client.host
	}
	crowded, most := greatest(a.perConn, func(c clientKey) bool { return c.host == host })
	if host == client.host && a.perConn[client]+1 >= most {
		return nil
	}
	var newest *job
	for _, j := range a.jobs {
		if j.client == crowded && j.state != jobRunning && !j.engine && (newest == nil || j.id > newest.id) {
			newest = j
		}
	}
	return newest
}

// greatest is a key that has the greatest number, of those that are asked for.
func greatest[K comparable](of map[K]int, asked func(K) bool) (key K, most int) {
	for k, n := range of {
		if n > most && asked(k) {
			key, most = k, n
		}
	}
	return key, most
}

// hostQueue is the waiting jobs of one host, connQueue those of one of its connections. Both have at least one job.
type hostQueue struct {
	host  string
	conns []*connQueue
}

type connQueue struct {
	connection string
	jobs       []*job
}

// enqueue puts a job without a slot into the ring.
func (a *admission) enqueue(j *job, first bool) {
	j.state = jobQueued
	a.count(j)
	a.queued++
	h := find(&a.ring, func(h *hostQueue) bool { return h.host == j.client.host }, func() *hostQueue { return &hostQueue{host: j.client.host} })
	c := find(&h.conns, func(c *connQueue) bool { return c.connection == j.client.connection },
		func() *connQueue { return &connQueue{connection: j.client.connection} })
	if first {
		c.jobs = slices.Insert(c.jobs, 0, j)
		return
	}
	c.jobs = append(c.jobs, j)
}

func find[T any](in *[]*T, is func(*T) bool, fresh func() *T) *T {
	if i := slices.IndexFunc(*in, is); i >= 0 {
		return (*in)[i]
	}
	*in = append(*in, fresh())
	return (*in)[len(*in)-1]
}

// pop takes the job whose turn it is; there is one. Its host and its connection go to the end of their rings.
func (a *admission) pop() *job {
	h := a.ring[0]
	c := h.conns[0]
	j := c.jobs[0]
	c.jobs = slices.Delete(c.jobs, 0, 1)
	h.conns = slices.Delete(h.conns, 0, 1)
	if len(c.jobs) > 0 {
		h.conns = append(h.conns, c)
	}
	a.ring = slices.Delete(a.ring, 0, 1)
	if len(h.conns) > 0 {
		a.ring = append(a.ring, h)
	}
	a.queued--
	return j
}

// dequeue takes one job out of the ring.
func (a *admission) dequeue(j *job) {
	hi := slices.IndexFunc(a.ring, func(h *hostQueue) bool { return h.host == j.client.host })
	h := a.ring[hi]
	ci := slices.IndexFunc(h.conns, func(c *connQueue) bool { return c.connection == j.client.connection })
	c := h.conns[ci]
	at := slices.Index(c.jobs, j)
	c.jobs = slices.Delete(c.jobs, at, at+1)
	if len(c.jobs) == 0 {
		h.conns = slices.Delete(h.conns, ci, ci+1)
	}
	if len(h.conns) == 0 {
		a.ring = slices.Delete(a.ring, hi, hi+1)
	}
	a.queued--
}
