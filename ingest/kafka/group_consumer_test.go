package kafka

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
)

// quick has members say something often, in a world that begins after it. What a test changes beyond that it changes before the world begins, too.
func quick(t *testing.T, change ...func(*subscriberTimes)) {
	t.Helper()
	usual := usualTimes
	t.Cleanup(func() { usualTimes = usual })
	usualTimes.heartbeat, usualTimes.soon, usualTimes.beatEvery = 100*time.Millisecond, 20*time.Millisecond, 20*time.Millisecond
	for _, c := range change {
		c(&usualTimes)
	}
}

// consumer is a client of KIP-848's protocol that does what the test says, heartbeat by heartbeat.
type consumer struct {
	*wire

	topic     meta.Topic
	q         kmsg.ConsumerGroupHeartbeatRequest
	assigned  []int32 // as it was told last
	intervals []int32
}

func (w *world) consumer(n *worldNode, name, id string, topic meta.Topic) *consumer {
	c := &consumer{wire: w.dial(n), topic: topic, q: kmsg.NewConsumerGroupHeartbeatRequest()}
	c.q.Group, c.q.MemberID, c.q.RebalanceTimeoutMillis = name, id, 20_000
	c.q.SubscribedTopicNames, c.q.Topics = []string{topic.Name}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	return c
}

// beat sends one heartbeat, and takes over epoch and assignment.
func (c *consumer) beat() error {
	c.w.t.Helper()
	q := c.q
	answer := askWire[*kmsg.ConsumerGroupHeartbeatResponse](c.wire, 1, &q)
	if answer.ErrorCode != 0 {
		return kerr.ErrorForCode(answer.ErrorCode)
	}
	c.q.MemberEpoch = answer.MemberEpoch
	c.intervals = append(c.intervals, answer.HeartbeatIntervalMillis)
	if answer.Assignment != nil {
		c.assigned = nil
		for _, t := range answer.Assignment.Topics {
			if t.TopicID != c.topic.ID {
				c.w.t.Errorf("assigned a topic of id %x", t.TopicID)
			}
			c.assigned = append(c.assigned, t.Partitions...)
		}
	}
	return nil
}

// unchanged has the next heartbeats say that nothing has changed.
func (c *consumer) unchanged() {
	c.q.SubscribedTopicNames, c.q.SubscribedTopicRegex, c.q.ServerAssignor, c.q.Topics, c.q.RebalanceTimeoutMillis = nil, nil, nil, nil, -1
}

// owns has the next heartbeats say what the consumer owns.
func (c *consumer) owns(partitions ...int32) {
	c.q.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	if len(partitions) > 0 {
		c.q.Topics = append(c.q.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: c.topic.ID, Partitions: partitions})
	}
}

// until sends heartbeats until the assignment has so many partitions.
func (c *consumer) until(partitions int) {
	c.w.t.Helper()
	c.w.eventually(fmt.Sprintf("%s has %d partitions", c.q.MemberID, partitions), func() bool {
		c.w.must(c.beat())
		return len(c.assigned) == partitions
	})
}

// Clients of the new protocol share a topic as members come and go, and each gives up no more than it must.
func TestSubscribersShareATopic(t *testing.T) {
	quick(t)
	for _, balancer := range []kgo.GroupBalancer{kgo.StickyBalancer(), kgo.RangeBalancer()} {
		t.Run(balancer.ProtocolName(), func(t *testing.T) {
			w := newWorld(t, 1)
			w.create("orders", 6)
			s := w.newShares()
			s.member("a", "readers", "orders", kgo.ServerSideBalancer(), kgo.Balancers(balancer))
			s.even(6, "a")
			b := s.member("b", "readers", "orders", kgo.ServerSideBalancer(), kgo.Balancers(balancer))
			s.even(6, "a", "b")
			s.member("c", "readers", "orders", kgo.ServerSideBalancer(), kgo.Balancers(balancer))
			s.even(6, "a", "b", "c")
			b.Close()
			s.even(6, "a", "c")
			view, err := w.nodes[0].groups.View(w.ctx, "readers")
			w.must(err)
			if len(view.Members) != 2 || len(view.Members[0].Topics) != 1 {
				t.Errorf("the group is %+v", view.Description)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.lost["a"]+s.lost["b"]+s.lost["c"] > 0 {
				t.Errorf("partitions were lost: %v", s.lost)
			}
		})
	}
}

// A partition goes to another member only when the one that had it has said that it gave it up, though it takes its time; what it does not have to give up
// it goes on reading, and commits in the epoch that it knows.
func TestAPartitionIsGivenUpBeforeItIsGivenOut(t *testing.T) {
	quick(t)
	t.Run("of a client that reports all it does", func(t *testing.T) { givenUpBeforeGivenOut(t, true) })
	t.Run("of a client that has not said yet what it took", func(t *testing.T) { givenUpBeforeGivenOut(t, false) })
}

func givenUpBeforeGivenOut(t *testing.T, reports bool) {
	t.Helper()
	w := newWorld(t, 1)
	topic := w.create("orders", 4)
	n := w.nodes[0]
	a, b := w.consumer(n, "readers", "a", topic), w.consumer(n, "readers", "b", topic)
	a.until(4)
	first := a.q.MemberEpoch
	if reports {
		a.owns(0, 1, 2, 3)
		w.must(a.beat())
	}
	a.unchanged()
	w.must(b.beat())
	b.unchanged()
	// A new generation is made without a's saying anything, and b gets nothing in it yet.
	w.eventually("a generation with both", func() bool {
		w.must(b.beat())
		view, err := n.groups.View(w.ctx, "readers")
		return err == nil && len(view.Members) == 2 && view.State == group.Stable && view.Withheld
	})
	if len(b.assigned) > 0 {
		t.Fatalf("b was given %v, which a has", b.assigned)
	}
	commit := commitOf("readers", topic, 3, 33, "")
	commit.MemberID, commit.Generation = "a", first
	code := func() *kerr.Error {
		return kerr.TypedErrorForCode(askWire[*kmsg.OffsetCommitResponse](w.dial(n), 9, commit).Topics[0].Partitions[0].ErrorCode)
	}
	if got := code(); got != nil {
		t.Errorf("a commits in the epoch that it knows: %v", got)
	}
	a.until(2)
	if a.q.MemberEpoch <= first {
		t.Errorf("epoch %d followed %d", a.q.MemberEpoch, first)
	}
	if got := code(); got != nil {
		t.Errorf("a commits in the epoch before, while it may not have heard of the next: %v", got)
	}
	kept := slices.Clone(a.assigned)
	for range 20 { // a works on what it has to give up, and says at most that it still has it
		if reports {
			a.owns(0, 1, 2, 3) // still
		}
		w.must(a.beat())
		w.must(b.beat())
	}
	if len(b.assigned) > 0 {
		t.Fatalf("b was given %v before a gave it up", b.assigned)
	}
	a.owns(kept...)
	w.must(a.beat())
	a.unchanged()
	b.until(2)
	if all := append(kept, b.assigned...); !slices.Equal(slices.Sorted(slices.Values(all)), []int32{0, 1, 2, 3}) {
		t.Errorf("a has %v and b %v", kept, b.assigned)
	}
	commit.MemberID, commit.Generation = "b", 1000
	if got := code(); got != kerr.StaleMemberEpoch {
		t.Errorf("b commits in an epoch that is none: %v", got)
	}
	commit.MemberID = "c"
	if got := code(); got != kerr.UnknownMemberID {
		t.Errorf("a stranger commits: %v", got)
	}
}

// What a member was assigned and its client has not heard of when the next rebalance begins is not told any more: others may have it now.
func TestAnAssignmentThatComesTooLate(t *testing.T) {
	quick(t)
	w := newWorld(t, 1)
	topic := w.create("orders", 4)
	n := w.nodes[0]
	// Two members of the group service, that do as they are told here.
	join := func(id string, owned ...int32) ingest.GroupJoined {
		t.Helper()
		s := &group.Subscription{Topics: []string{"orders"}}
		for _, p := range owned {
			s.Owned = append(s.Owned, group.TopicPartition{Topic: "orders", Partition: p})
		}
		joined, err := n.groups.Join(w.ctx, "readers", group.Join{MemberID: id, SessionTimeout: 20 * time.Second, Subscription: s})
		if err != nil {
			t.Error(err)
		}
		return joined
	}
	shows := func(what string, is func(group.Description, group.DescribedMember) bool) {
		t.Helper()
		w.eventually(what, func() bool {
			view, err := n.groups.View(w.ctx, "readers")
			w.must(err)
			i := slices.IndexFunc(view.Members, func(m group.DescribedMember) bool { return m.ClientID == "wire" })
			return i >= 0 && is(view.Description, view.Members[i])
		})
	}
	first := join("")
	a := w.consumer(n, "readers", "a", topic)
	w.must(a.beat())
	a.unchanged()
	second := join(first.MemberID, 0, 1, 2, 3)
	err := n.groups.Heartbeat(w.ctx, "readers", group.Heartbeat{MemberID: first.MemberID, Generation: second.Generation, Acknowledged: true})
	if !errors.Is(err, group.ErrRebalanceInProgress) {
		t.Fatalf("the first, which gives partitions up, is told %v", err)
	}
	join(first.MemberID, partitionsOf(second.Assigned)...)
	shows("a is assigned two partitions", func(d group.Description, m group.DescribedMember) bool {
		return d.State == group.Stable && len(m.Assigned) == 2
	})
	var others sync.WaitGroup
	others.Go(func() { join("") })
	shows("a has joined again", func(_ group.Description, m group.DescribedMember) bool { return m.Joining })
	w.must(a.beat())
	if len(a.assigned) > 0 {
		t.Errorf("a is told %v, which it has not claimed", a.assigned)
	}
	join(first.MemberID, partitionsOf(second.Assigned)...)
	others.Wait()
	w.eventually("a is told what it has", func() bool {
		w.must(a.beat())
		return len(a.assigned) == 1
	})
}

func partitionsOf(list []group.TopicPartition) (out []int32) {
	for _, p := range list {
		out = append(out, p.Partition)
	}
	return out
}

// An answer that never arrived is given again, and until the client shows that it has it what it had before counts as its own.
func TestAnAnswerThatIsLost(t *testing.T) {
	quick(t)
	w := newWorld(t, 1)
	topic := w.create("orders", 2)
	n := w.nodes[0]
	a := w.consumer(n, "readers", "a", topic)
	a.until(2)
	a.owns(0, 1)
	w.must(a.beat())
	a.unchanged()
	before := a.q.MemberEpoch
	b := w.consumer(n, "readers", "b", topic)
	w.must(b.beat())
	b.unchanged()
	a.until(1)
	a.q.MemberEpoch, a.assigned = before, nil // it has not heard that
	a.owns(0, 1)
	w.must(a.beat())
	if len(a.assigned) != 1 || a.q.MemberEpoch <= before {
		t.Fatalf("a is told %v in epoch %d", a.assigned, a.q.MemberEpoch)
	}
	w.must(b.beat())
	if len(b.assigned) > 0 {
		t.Fatalf("b was given %v", b.assigned)
	}
	a.owns(a.assigned...)
	w.must(a.beat())
	b.until(1)
	// An epoch from long ago, and one of the future, are those of somebody who has missed too much.
	for _, epoch := range []int32{a.q.MemberEpoch + 1000, before - 1} {
		if epoch <= 0 {
			continue
		}
		known := a.q.MemberEpoch
		a.q.MemberEpoch = epoch
		if err := a.beat(); !errors.Is(err, kerr.FencedMemberEpoch) {
			t.Errorf("epoch %d: %v", epoch, err)
		}
		a.q.MemberEpoch = known
	}
	// It begins anew under its id, with nothing.
	a.q = w.consumer(n, "readers", "a", topic).q
	w.must(a.beat())
	a.until(1)
}

// A member that is silent for a session is taken out, and the others get what it had; then nobody knows it.
func TestASubscriberThatIsSilent(t *testing.T) {
	quick(t, func(times *subscriberTimes) { times.session = time.Second })
	w := newWorld(t, 1)
	topic := w.create("orders", 2)
	n := w.nodes[0]
	silent, a := w.consumer(n, "readers", "silent", topic), w.consumer(n, "readers", "a", topic)
	silent.until(2)
	silent.owns(0, 1)
	w.must(silent.beat())
	a.until(2)
	silent.unchanged()
	if err := silent.beat(); !errors.Is(err, kerr.UnknownMemberID) {
		t.Errorf("who was silent is told %v", err)
	}
	n.server.subscribers.mu.Lock()
	defer n.server.subscribers.mu.Unlock()
	if s := n.server.subscribers; len(s.members) != 1 || len(s.byMachine) != 1 || s.bytes > subscriberBytes+1000 {
		t.Errorf("%d members are kept, %d of the machine, of %d bytes", len(s.members), len(s.byMachine), s.bytes)
	}
}

// Who leaves is gone at once; a static member that leaves to come back is waited for, and gets what it had.
func TestSubscribersThatLeave(t *testing.T) {
	quick(t)
	w := newWorld(t, 1)
	topic := w.create("orders", 4)
	n := w.nodes[0]
	a, b := w.consumer(n, "readers", "a", topic), w.consumer(n, "readers", "b", topic)
	a.q.InstanceID = new("one")
	a.until(4)
	a.owns(0, 1, 2, 3)
	w.must(a.beat())
	w.must(b.beat())
	b.unchanged()
	a.until(2)
	kept := slices.Clone(a.assigned)
	a.owns(kept...)
	w.must(a.beat())
	b.until(2)
	b.owns(b.assigned...)
	w.must(b.beat())
	b.unchanged()

	other := w.consumer(n, "readers", "other", topic)
	other.q.InstanceID = new("one")
	if err := other.beat(); !errors.Is(err, kerr.UnreleasedInstanceID) {
		t.Errorf("another process under the same instance id is told %v", err)
	}
	before, err := n.groups.View(w.ctx, "readers")
	w.must(err)
	a.unchanged()
	a.q.MemberEpoch = epochReturns
	w.must(a.beat())
	w.must(b.beat())
	other.until(2)
	after, err := n.groups.View(w.ctx, "readers")
	w.must(err)
	if !slices.Equal(other.assigned, kept) || after.Generation != before.Generation {
		t.Errorf("who comes back gets %v instead of %v, in generation %d after %d", other.assigned, kept, after.Generation, before.Generation)
	}
	b.q.MemberEpoch = epochLeaves
	w.must(b.beat())
	if err := b.beat(); !errors.Is(err, kerr.UnknownMemberID) {
		t.Errorf("who has left is told %v", err)
	}
	other.owns(kept...)
	other.until(4)
}

// When the coordinator goes the next one knows no epochs: members begin anew with it, and have everything between them again.
func TestSubscribersOutliveTheirCoordinator(t *testing.T) {
	quick(t)
	w := newWorld(t, 3)
	topic := w.create("orders", 6)
	old := w.coordinator("readers")
	a, b := w.consumer(old, "readers", "a", topic), w.consumer(old, "readers", "b", topic)
	a.until(6)
	w.must(b.beat())
	a.until(3)
	a.owns(a.assigned...)
	w.must(a.beat())
	b.until(3)
	rest := w.nodes[0]
	if rest == old {
		rest = w.nodes[1]
	}
	stray := w.consumer(rest, "readers", "stray", topic)
	if err := stray.beat(); !errors.Is(err, kerr.NotCoordinator) {
		t.Errorf("a node that does not coordinate says %v", err)
	}
	old.stop()
	w.eventually("another node coordinates", func() bool {
		owner, err := rest.groups.Coordinator("readers")
		return err == nil && owner.ID != old.id
	})
	owner, err := rest.groups.Coordinator("readers")
	w.must(err)
	now := w.nodes[slices.IndexFunc(w.nodes, func(n *worldNode) bool { return n.id == owner.ID })]
	for _, m := range []*consumer{a, b} {
		m.wire = w.dial(now)
		m.unchanged()
		if err := m.beat(); !errors.Is(err, kerr.UnknownMemberID) {
			t.Fatalf("the next coordinator says %v", err)
		}
		fresh := w.consumer(now, "readers", m.q.MemberID+"2", topic)
		m.q, m.assigned = fresh.q, nil
		w.must(m.beat())
	}
	a.until(3)
	b.until(3)
	if all := slices.Sorted(slices.Values(slices.Concat(a.assigned, b.assigned))); !slices.Equal(all, []int32{0, 1, 2, 3, 4, 5}) {
		t.Errorf("a has %v and b %v", a.assigned, b.assigned)
	}
}

// The epochs of a member never fall, whatever comes of its group, and no two members are ever told the same partition in one generation's time.
func TestEpochsOnlyRise(t *testing.T) {
	quick(t)
	w := newWorld(t, 1)
	topic := w.create("orders", 5)
	n := w.nodes[0]
	members := []*consumer{w.consumer(n, "readers", "m0", topic), w.consumer(n, "readers", "m1", topic), w.consumer(n, "readers", "m2", topic)}
	owned := make([][]int32, len(members))
	for round := range 120 {
		i := (round*round + round/3) % len(members) // some are heard of more often than others
		m := members[i]
		before := m.q.MemberEpoch
		w.must(m.beat())
		if m.q.MemberEpoch < before {
			t.Fatalf("%s: epoch %d followed %d", m.q.MemberID, m.q.MemberEpoch, before)
		}
		m.unchanged()
		// First it gives up, then it takes.
		owned[i] = slices.Clone(m.assigned)
		m.owns(owned[i]...)
		seen := make(map[int32]int)
		for j, o := range owned {
			for _, p := range o {
				if other, twice := seen[p]; twice {
					t.Fatalf("round %d: members %d and %d read partition %d", round, other, j, p)
				}
				seen[p] = j
			}
		}
		if round%20 == 19 { // one goes, and comes back as another
			m.q.MemberEpoch = epochLeaves
			w.must(m.beat())
			owned[i] = nil
			members[i] = w.consumer(n, "readers", fmt.Sprint("m", cmp.Or(round, 1), i), topic)
		}
	}
}
