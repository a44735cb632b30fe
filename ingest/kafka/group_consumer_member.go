package kafka

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
)

// subscriber is a member of KIP-848's protocol, beside the member of the group's machine for which it stands:
//
//	client ── heartbeat: what it owns ──► subscriber ── join, heartbeat, leave ──► machine
//	       ◄─ epoch, assignment ─────────            ◄─ generation, assignment ───
//
// The machine wants its members to join whenever it rebalances, at once; the client says something every few seconds, and never joins again. So the
// subscriber lives between the client's heartbeats: a goroutine of its own asks the machine twice a second whether it rebalances, joins again on the
// client's behalf, and leaves when the client has been silent for a session.
//
// What the client may be reading is more than what it last said it owns: it may be about to read what it was assigned since, or not know yet that it is to
// give that up. So the subscriber claims, when it joins again,
//
//	reported ∪ sent ∪ unsure
//
// where reported is what the client said last, sent the assignment of its epoch, and unsure what it was assigned before and has not said that it gave up:
// that says only a report in the epoch of sent. The machine hears that the rest is given up when all three are within what is assigned.
//
// Epochs are the client's. They rise with what it is told: an assignment, a generation. In a group whose coordinator has not changed the epoch of a member
// that has heard everything is the generation, mostly. With the range strategy, whose members give up everything before they join, there is one epoch more in
// between, in which nothing is assigned.
type subscriber struct {
	owner          *subscribers
	group, id      string
	instance       string
	clientID, host string

	ctx    context.Context //nolint:containedctx // the life of the member
	cancel context.CancelCauseFunc
	wake   chan struct{} // one place: the goroutine has something to look at
	done   chan struct{} // closed by the goroutine's end

	mu      sync.Mutex
	changed chan struct{} // closed when the machine has said something

	// Of the client: when it was heard, what it wants and how often that has changed, and what it owns and was told. previous is the epoch that it is
	// known to have, epoch the one that it was told last; lists of partitions are sorted.
	started                bool // the goroutine
	heard                  time.Time
	wants                  wanted
	changes                int
	epoch, previous        int32
	reported, sent, unsure []group.TopicPartition
	sentIDs                map[string]meta.TopicID
	bytes                  int64    // of wants and reported, as they are counted in the owner, under its mu
	pattern                *pattern // of wants, as it is counted there

	// Of the machine. machineID is "", and generation -1, until the first join is answered.
	machineID    string
	generation   int32
	assigned     []group.TopicPartition
	acknowledged bool  // or there is nothing to acknowledge
	withheld     bool  // others, or this one, wait for partitions
	due          bool  // a join is
	giveUp       bool  // the client is to give up everything, so that the member can join
	ended        error // what the client is told next, and that is the end of it
}

// Causes of a subscriber's end.
var (
	errLeft    = errors.New("the member has left")
	errReturns = errors.New("the member has left, and will be back")
	errSilent  = errors.New("the member was silent for longer than its session")
	errTold    = errors.New("the member has heard that it is none any more")
)

// joinedMember is the outcome of a join.
type joinedMember struct {
	ingest.GroupJoined
	err error
}

// attempt is a join, under way or done: what for.
type attempt struct {
	topics   []string
	changes  int
	revision meta.Revision // of the topics
	stop     context.CancelFunc
}

// run is the life of a subscriber.
func (m *subscriber) run() {
	defer close(m.done)
	clk := m.owner.server.Clock
	timer := clk.NewTimer(m.owner.beatEvery)
	defer timer.Stop()
	outcome := make(chan joinedMember, 1)
	last, joining, failed := attempt{}, false, false
	settle := func(j joinedMember) {
		joining = false
		last.stop()
		failed = !m.joined(j)
	}
	for {
		if joining && m.outdated(&last) {
			last.stop()
			settle(<-outcome)
			failed = false
		}
		if !joining && !failed {
			if m.outdated(&last) || m.beat() {
				last, joining = m.join(outcome)
			}
		}
		select {
		case j := <-outcome:
			settle(j)
		case <-m.wake:
		case <-timer.C():
			timer.Reset(m.owner.beatEvery)
			failed = false
			m.expire(clk.Now())
		case <-m.ctx.Done():
			if joining {
				last.stop()
				settle(<-outcome)
			}
			m.end()
			return
		}
	}
}

// outdated says whether the client wants something else than the last join was for, or other topics are there that it wants.
func (m *subscriber) outdated(last *attempt) bool {
	index, err := m.owner.server.Cluster.Index()
	if err != nil {
		return false
	}
	m.mu.Lock()
	wants, ended, changed := m.wants, m.ended != nil, m.changes != last.changes
	if changed && !ended {
		m.due = true
	}
	m.mu.Unlock()
	switch {
	case ended || changed:
		return !ended
	case wants.pattern == nil || index.TopicsRevision() == last.revision:
		return false
	}
	topics, err := m.topics(&wants, index)
	if err != nil {
		return false // the member ends
	}
	last.revision = index.TopicsRevision()
	if slices.Equal(topics, last.topics) {
		return false
	}
	m.mu.Lock()
	m.due = true
	m.mu.Unlock()
	return true
}

// join joins in the background, when it can.
func (m *subscriber) join(outcome chan<- joinedMember) (attempt, bool) {
	out := attempt{stop: func() {}}
	index, err := m.owner.server.Cluster.Index()
	m.mu.Lock()
	wants := m.wants
	out.changes = m.changes
	m.mu.Unlock()
	if err == nil {
		out.revision = index.TopicsRevision()
		out.topics, err = m.topics(&wants, index)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if wants.eager() && len(m.mayOwn()) > 0 {
		m.giveUp = true
		m.tell()
		return attempt{changes: out.changes, stop: out.stop}, false
	}
	if m.ended != nil || err != nil {
		return attempt{stop: out.stop}, false // while the node knows nothing of the cluster it coordinates nothing
	}
	m.due = false
	m.assigned = m.sent // what the client was not told is not claimed, so it must not be told any more
	join := group.Join{
		MemberID: m.machineID, InstanceID: m.instance, ClientID: m.clientID, Host: m.host,
		SessionTimeout: m.owner.session, RebalanceTimeout: wants.rebalance,
		Subscription: &group.Subscription{Topics: out.topics, Strategy: wants.strategy, Owned: m.mayOwn()},
	}
	ctx, stop := context.WithCancel(m.ctx)
	out.stop = stop
	m.owner.work.Go(func() {
		joined, err := m.owner.server.Groups.Join(ctx, m.group, join)
		outcome <- joinedMember{joined, err}
	})
	return out, true
}

// mayOwn is everything that the client may be reading. The caller holds mu.
func (m *subscriber) mayOwn() []group.TopicPartition { return union(m.reported, m.sent, m.unsure) }

// joined takes the outcome of a join. False: it is to be tried again, later.
func (m *subscriber) joined(j joinedMember) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if j.err == nil {
		if m.machineID != j.MemberID {
			m.owner.renamed(m, m.machineID, j.MemberID)
		}
		m.machineID, m.generation, m.assigned, m.withheld = j.MemberID, j.Generation, j.Assigned, j.Withheld
		m.acknowledged, m.giveUp = !j.Acknowledge, false
		m.tell()
		return true
	}
	m.due = true
	if m.ctx.Err() == nil {
		m.refused(j.err)
	}
	return false
}

// tell wakes who waits for the machine. The caller holds mu.
func (m *subscriber) tell() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// refused takes an error of the machine. Some pass; others end the member. The caller holds mu.
func (m *subscriber) refused(err error) {
	switch ingest.ReasonOf(err) {
	case ingest.ReasonRebalanceInProgress, ingest.ReasonIllegalGeneration:
		m.due = true
	case ingest.ReasonUnavailable, ingest.ReasonBackPressure, ingest.ReasonTimeout, ingest.ReasonCanceled, ingest.ReasonShuttingDown:
	case ingest.ReasonNotCoordinator:
		// It may be this node again, which has claimed the group anew: then the member goes on under its id, with what it owns.
		if owner, found := m.owner.server.Groups.Coordinator(m.group); found == nil && owner.ID != m.owner.server.Self {
			m.finish(err)
		}
	default:
		m.finish(err)
	}
}

// finish ends the member for the machine; the client is told why when it asks. The caller holds mu.
func (m *subscriber) finish(err error) {
	if m.ended == nil {
		m.ended = err
		m.tell()
	}
}

// beat asks the machine whether all is as it was, and acknowledges what the client has given up. True: a join is due.
func (m *subscriber) beat() bool {
	m.mu.Lock()
	if m.ended != nil || m.generation < 0 || m.due && !m.giveUp {
		defer m.mu.Unlock()
		return m.ended == nil
	}
	beat := group.Heartbeat{
		MemberID: m.machineID, InstanceID: m.instance, Generation: m.generation, Acknowledged: !m.acknowledged && within(m.mayOwn(), m.assigned),
	}
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(m.ctx, groupPatience)
	defer cancel()
	err := m.owner.server.Groups.Heartbeat(ctx, m.group, beat)
	m.mu.Lock()
	defer m.mu.Unlock()
	if beat.Acknowledged && (err == nil || ingest.ReasonOf(err) == ingest.ReasonRebalanceInProgress) {
		m.acknowledged = true
	}
	if err != nil && m.ctx.Err() == nil {
		m.refused(err)
	}
	return m.due && m.ended == nil
}

// expire ends the member when the client has been silent for too long.
func (m *subscriber) expire(now time.Time) {
	m.mu.Lock()
	silent := now.Sub(m.heard) > m.owner.session
	m.mu.Unlock()
	if silent {
		m.cancel(errSilent)
	}
}

// end leaves the group, unless the member is to come back or the group is another node's.
func (m *subscriber) end() {
	m.owner.forget(m)
	m.mu.Lock()
	machineID, gone := m.machineID, m.ended != nil
	m.finish(kerr.UnknownMemberID)
	m.mu.Unlock()
	if cause := context.Cause(m.ctx); machineID == "" || gone || !errors.Is(cause, errLeft) && !errors.Is(cause, errSilent) {
		return
	}
	ctx, cancel := context.WithTimeout(m.owner.server.ctx, groupPatience)
	defer cancel()
	if _, err := m.owner.server.Groups.Leave(ctx, m.group, []group.LeavingMember{{MemberID: machineID}}); err != nil {
		m.owner.server.Logger.Debug("a member could not be taken out of its group; its session will end", "group", m.group, "member", m.id, "cause", err)
	}
}

// leave ends the member on the client's wish, and returns when it has left or ctx ends.
func (m *subscriber) leave(ctx context.Context, cause error) {
	m.cancel(cause)
	select {
	case <-m.done:
	case <-ctx.Done():
	}
}

// poke has the goroutine look.
func (m *subscriber) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// union is what is in any of some lists, sorted.
func union(lists ...[]group.TopicPartition) []group.TopicPartition {
	all := slices.Concat(lists...)
	slices.SortFunc(all, comparePartitions)
	return slices.Compact(all)
}

// within says whether all of a is in b, which is sorted.
func within(a, b []group.TopicPartition) bool {
	for _, p := range a {
		if _, in := slices.BinarySearchFunc(b, p, comparePartitions); !in {
			return false
		}
	}
	return true
}

func comparePartitions(a, b group.TopicPartition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}
