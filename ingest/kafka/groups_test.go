package kafka

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/ingest/group"
)

// shares are what the members of a group have been given, by member.
type shares struct {
	w       *world
	mu      sync.Mutex
	of      map[string]map[string]bool
	lost    map[string]int
	revoked map[string]int
	changed chan struct{}
}

func (w *world) newShares() *shares {
	return &shares{
		w: w, of: make(map[string]map[string]bool), lost: make(map[string]int), revoked: make(map[string]int), changed: make(chan struct{}),
	}
}

// member starts a consumer of a group whose shares are kept.
func (s *shares) member(name, of, topic string, opts ...kgo.Opt) *kgo.Client {
	s.w.t.Helper()
	s.mu.Lock()
	s.of[name] = make(map[string]bool)
	s.mu.Unlock()
	change := func(how func(string)) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			s.mu.Lock()
			defer s.mu.Unlock()
			for topic, ps := range partitions {
				for _, p := range ps {
					how(fmt.Sprint(topic, "/", p))
				}
			}
			close(s.changed)
			s.changed = make(chan struct{})
		}
	}
	return s.w.newClient(append([]kgo.Opt{
		kgo.ConsumerGroup(of), kgo.ConsumeTopics(topic), kgo.HeartbeatInterval(50 * time.Millisecond), kgo.SessionTimeout(10 * time.Second),
		kgo.ClientID(name), kgo.AutoCommitInterval(100 * time.Millisecond),
		kgo.OnPartitionsAssigned(change(func(p string) { s.of[name][p] = true })),
		kgo.OnPartitionsRevoked(change(func(p string) { delete(s.of[name], p); s.revoked[name]++ })),
		kgo.OnPartitionsLost(change(func(p string) { delete(s.of[name], p); s.lost[name]++ })),
	}, opts...)...)
}

// until waits until the shares are as they should be.
func (s *shares) until(what string, done func() bool) {
	s.w.t.Helper()
	for {
		s.mu.Lock()
		ok, changed := done(), s.changed
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-s.w.ctx.Done():
			s.w.t.Fatalf("never came to %s: members have %v", what, s.sizes())
		}
	}
}

func (s *shares) sizes() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(s.of)) {
		out = append(out, fmt.Sprintf("%s: %v", name, slices.Sorted(maps.Keys(s.of[name]))))
	}
	return strings.Join(out, "; ")
}

// even waits until so many partitions are shared by these members, evenly and each by one.
func (s *shares) even(partitions int, members ...string) {
	s.w.t.Helper()
	s.until(fmt.Sprintf("%d partitions shared by %v", partitions, members), func() bool {
		all := make(map[string]bool)
		total := 0
		for _, m := range members {
			n := len(s.of[m])
			if n < partitions/len(members) || n > (partitions+len(members)-1)/len(members) {
				return false
			}
			total += n
			maps.Copy(all, s.of[m])
		}
		return total == partitions && len(all) == partitions
	})
}

// coordinator is the node that coordinates a group, as the first node knows it.
func (w *world) coordinator(name string) *worldNode {
	w.t.Helper()
	owner, err := w.nodes[0].groups.Coordinator(name)
	w.must(err)
	for _, n := range w.nodes {
		if n.id == owner.ID {
			return n
		}
	}
	w.t.Fatalf("nobody coordinates group %s", name)
	return nil
}

// Whatever the strategy, a topic's partitions are shared evenly by the members that are there, as members come and go.
func TestConsumersShareATopic(t *testing.T) {
	for _, balancer := range []kgo.GroupBalancer{kgo.RangeBalancer(), kgo.RoundRobinBalancer(), kgo.StickyBalancer(), kgo.CooperativeStickyBalancer()} {
		t.Run(balancer.ProtocolName(), func(t *testing.T) {
			w := newWorld(t, 1)
			w.create("orders", 6)
			s := w.newShares()
			s.member("a", "readers", "orders", kgo.Balancers(balancer))
			s.even(6, "a")
			b := s.member("b", "readers", "orders", kgo.Balancers(balancer))
			s.even(6, "a", "b")
			s.member("c", "readers", "orders", kgo.Balancers(balancer))
			s.even(6, "a", "b", "c")
			b.Close()
			s.even(6, "a", "c")
			view, err := w.nodes[0].groups.View(w.ctx, "readers")
			w.must(err)
			if view.Protocol != balancer.ProtocolName() || len(view.Members) != 2 {
				t.Errorf("the group has %d members and the protocol %q", len(view.Members), view.Protocol)
			}
		})
	}
}

// With the cooperative strategy a member that stays gives up no more than it must.
func TestACooperativeMemberKeepsWhatItHas(t *testing.T) {
	w := newWorld(t, 1)
	w.create("orders", 6)
	s := w.newShares()
	s.member("a", "readers", "orders", kgo.Balancers(kgo.CooperativeStickyBalancer()))
	s.even(6, "a")
	s.member("b", "readers", "orders", kgo.Balancers(kgo.CooperativeStickyBalancer()))
	s.even(6, "a", "b")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.revoked["a"] != 3 || s.lost["a"] != 0 {
		t.Errorf("member a gave up %d partitions and lost %d", s.revoked["a"], s.lost["a"])
	}
}

// A static member that restarts takes its old place: nobody rebalances.
func TestAStaticMemberRestartsUnnoticed(t *testing.T) {
	w := newWorld(t, 1)
	w.create("orders", 6)
	s := w.newShares()
	s.member("a", "readers", "orders", kgo.InstanceID("one"), kgo.Balancers(kgo.RangeBalancer()))
	b := s.member("b", "readers", "orders", kgo.InstanceID("two"), kgo.Balancers(kgo.RangeBalancer()))
	s.even(6, "a", "b")
	before, err := w.nodes[0].groups.View(w.ctx, "readers")
	w.must(err)
	b.Close()
	s.member("b2", "readers", "orders", kgo.InstanceID("two"), kgo.Balancers(kgo.RangeBalancer()))
	s.even(6, "a", "b2")
	after, err := w.nodes[0].groups.View(w.ctx, "readers")
	w.must(err)
	if after.Generation != before.Generation {
		t.Errorf("generation %d followed %d", after.Generation, before.Generation)
	}
}

// A member that is silent for longer than its session is taken out, and the others get its partitions.
func TestASilentMemberIsTakenOut(t *testing.T) {
	w := newWorld(t, 1)
	w.create("orders", 4)
	silent := w.dial(w.nodes[0])
	joined := silent.join("readers", "range", "", 1000)
	silent.sync("readers", joined, map[string][]byte{joined.MemberID: {}})
	s := w.newShares()
	s.member("a", "readers", "orders", kgo.Balancers(kgo.RangeBalancer()))
	s.even(4, "a")
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Group, beat.MemberID, beat.Generation = "readers", joined.MemberID, joined.Generation
	if answer := askWire[*kmsg.HeartbeatResponse](silent, 4, beat); answer.ErrorCode != kerr.UnknownMemberID.Code {
		t.Errorf("the member that was silent is told %v", kerr.ErrorForCode(answer.ErrorCode))
	}
}

// join joins with one protocol, and again when an id is required first.
func (c *wire) join(name, protocol, member string, sessionMillis int32) *kmsg.JoinGroupResponse {
	c.w.t.Helper()
	q := kmsg.NewPtrJoinGroupRequest()
	q.Group, q.MemberID, q.ProtocolType = name, member, "consumer"
	q.SessionTimeoutMillis, q.RebalanceTimeoutMillis = sessionMillis, sessionMillis
	p := kmsg.NewJoinGroupRequestProtocol()
	metadata := kmsg.NewConsumerMemberMetadata()
	metadata.Topics = []string{"orders"}
	p.Name, p.Metadata = protocol, metadata.AppendTo(nil)
	q.Protocols = append(q.Protocols, p)
	answer := askWire[*kmsg.JoinGroupResponse](c, 9, q)
	if answer.ErrorCode == kerr.MemberIDRequired.Code {
		q.MemberID = answer.MemberID
		answer = askWire[*kmsg.JoinGroupResponse](c, 9, q)
	}
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
		c.w.t.Fatal("join: ", err)
	}
	return answer
}

func (c *wire) sync(name string, joined *kmsg.JoinGroupResponse, assignments map[string][]byte) *kmsg.SyncGroupResponse {
	c.w.t.Helper()
	q := kmsg.NewPtrSyncGroupRequest()
	q.Group, q.MemberID, q.Generation, q.ProtocolType, q.Protocol = name, joined.MemberID, joined.Generation, joined.ProtocolType, joined.Protocol
	for id, a := range assignments {
		q.GroupAssignment = append(q.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: id, MemberAssignment: a})
	}
	answer := askWire[*kmsg.SyncGroupResponse](c, 5, q)
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
		c.w.t.Fatal("sync: ", err)
	}
	return answer
}

// Every version of every request of a member's life is understood, and answered in a form that the version knows.
func TestAMembersLifeInEveryVersion(t *testing.T) {
	w := newWorld(t, 1)
	w.create("orders", 1)
	c := w.dial(w.nodes[0])
	for version := range int16(10) {
		name := fmt.Sprint("version-", version)
		at := func(key kmsg.Key) int16 { return min(version, apis[int16(key)].max) }
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.CoordinatorKey, find.CoordinatorKeys = name, []string{name}
		found := askWire[*kmsg.FindCoordinatorResponse](c, at(kmsg.FindCoordinator), find)
		if found.Version >= 4 {
			found.NodeID, found.ErrorCode = found.Coordinators[0].NodeID, found.Coordinators[0].ErrorCode
		}
		if found.ErrorCode != 0 || found.NodeID != BrokerID("n1") {
			t.Fatalf("version %d: the coordinator is %+v", version, found)
		}
		join := kmsg.NewPtrJoinGroupRequest()
		join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = name, "connect", 10_000, 10_000
		join.Protocols = append(join.Protocols, kmsg.JoinGroupRequestProtocol{Name: "default", Metadata: []byte("metadata")})
		joined := askWire[*kmsg.JoinGroupResponse](c, version, join)
		if version >= 4 {
			if joined.ErrorCode != kerr.MemberIDRequired.Code || joined.MemberID == "" {
				t.Fatalf("version %d: a first join is answered %+v", version, joined)
			}
			join.MemberID = joined.MemberID
			joined = askWire[*kmsg.JoinGroupResponse](c, version, join)
		}
		if joined.ErrorCode != 0 || joined.Generation != 1 || *joined.Protocol != "default" || joined.LeaderID != joined.MemberID || len(joined.Members) != 1 ||
			string(joined.Members[0].ProtocolMetadata) != "metadata" || version >= 7 && *joined.ProtocolType != "connect" {
			t.Fatalf("version %d: joined %+v", version, joined)
		}
		sync := kmsg.NewPtrSyncGroupRequest()
		sync.Group, sync.MemberID, sync.Generation = name, joined.MemberID, 1
		sync.ProtocolType, sync.Protocol = new("connect"), new("default")
		sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: joined.MemberID, MemberAssignment: []byte("all of it")}}
		if synced := askWire[*kmsg.SyncGroupResponse](c, at(kmsg.SyncGroup), sync); synced.ErrorCode != 0 || string(synced.MemberAssignment) != "all of it" {
			t.Fatalf("version %d: synced %+v", version, synced)
		}
		beat := kmsg.NewPtrHeartbeatRequest()
		beat.Group, beat.MemberID, beat.Generation = name, joined.MemberID, 1
		if answer := askWire[*kmsg.HeartbeatResponse](c, at(kmsg.Heartbeat), beat); answer.ErrorCode != 0 {
			t.Fatalf("version %d: a heartbeat is answered %v", version, kerr.ErrorForCode(answer.ErrorCode))
		}
		leave := kmsg.NewPtrLeaveGroupRequest()
		leave.Group, leave.MemberID = name, joined.MemberID
		leave.Members = []kmsg.LeaveGroupRequestMember{{MemberID: joined.MemberID}, {MemberID: "nobody"}}
		left := askWire[*kmsg.LeaveGroupResponse](c, at(kmsg.LeaveGroup), leave)
		if left.ErrorCode != 0 || left.Version >= 3 && (left.Members[0].ErrorCode != 0 || left.Members[1].ErrorCode != kerr.UnknownMemberID.Code) {
			t.Fatalf("version %d: left %+v", version, left)
		}
		if answer := askWire[*kmsg.HeartbeatResponse](c, at(kmsg.Heartbeat), beat); answer.ErrorCode != kerr.UnknownMemberID.Code {
			t.Fatalf("version %d: a heartbeat of one who left is answered %v", version, kerr.ErrorForCode(answer.ErrorCode))
		}
	}
}

// A group of another protocol type than "consumer" is one like any other, and the two do not mix.
func TestAGroupOfWorkers(t *testing.T) {
	w := newWorld(t, 1)
	w.create("orders", 1)
	leader, other := w.dial(w.nodes[0]), w.dial(w.nodes[0])
	join := func() *kmsg.JoinGroupRequest {
		q := kmsg.NewPtrJoinGroupRequest()
		q.Group, q.ProtocolType, q.SessionTimeoutMillis, q.RebalanceTimeoutMillis = "workers", "connect", 10_000, 10_000
		q.Protocols = append(q.Protocols, kmsg.JoinGroupRequestProtocol{Name: "sessioned", Metadata: []byte("a")})
		return q
	}
	first := askWire[*kmsg.JoinGroupResponse](leader, 3, join())
	other.send(3, join())
	w.eventually("a second member waits", func() bool {
		view, err := w.nodes[0].groups.View(w.ctx, "workers")
		return err == nil && len(view.Members) == 2
	})
	again := join()
	again.MemberID = first.MemberID
	both := askWire[*kmsg.JoinGroupResponse](leader, 3, again)
	second, _ := receive[*kmsg.JoinGroupResponse](other, again)
	if len(both.Members) != 2 || second.LeaderID != first.MemberID || len(second.Members) != 0 {
		t.Fatalf("the leader knows of %d members; the other knows of %d, and of leader %q", len(both.Members), len(second.Members), second.LeaderID)
	}
	// The other waits for the leader's assignment.
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = "workers", second.MemberID, second.Generation
	other.send(5, sync)
	synced := leader.sync("workers", both, map[string][]byte{first.MemberID: []byte("one"), second.MemberID: []byte("two")})
	theirs, _ := receive[*kmsg.SyncGroupResponse](other, sync)
	if string(synced.MemberAssignment) != "one" || string(theirs.MemberAssignment) != "two" {
		t.Errorf("assigned %q and %q", synced.MemberAssignment, theirs.MemberAssignment)
	}
	consumer := join()
	consumer.ProtocolType = "consumer"
	if answer := askWire[*kmsg.JoinGroupResponse](w.dial(w.nodes[0]), 3, consumer); answer.ErrorCode != kerr.InconsistentGroupProtocol.Code {
		t.Errorf("a consumer among workers is told %v", kerr.ErrorForCode(answer.ErrorCode))
	}
}

// eventually waits until something is so.
func (w *world) eventually(what string, is func() bool) {
	w.t.Helper()
	tick := clock.System().NewTimer(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		tick.Reset(5 * time.Millisecond)
		select {
		case <-tick.C():
		case <-w.ctx.Done():
			w.t.Fatal("never came to: ", what)
		}
	}
}

// A client whose join waits for others and that goes away is taken back: nobody waits for it.
func TestAJoinIsTakenBackWhenItsClientGoes(t *testing.T) {
	w := newWorld(t, 1)
	w.create("orders", 1)
	stays, goes := w.dial(w.nodes[0]), w.dial(w.nodes[0])
	first := stays.join("readers", "range", "", 10_000)
	stays.sync("readers", first, map[string][]byte{first.MemberID: {}})
	q := kmsg.NewPtrJoinGroupRequest()
	q.Group, q.ProtocolType, q.SessionTimeoutMillis, q.RebalanceTimeoutMillis = "readers", "consumer", 600_000, 600_000
	q.Protocols = append(q.Protocols, kmsg.JoinGroupRequestProtocol{Name: "range"})
	goes.send(3, q)
	members := func() int {
		view, err := w.nodes[0].groups.View(w.ctx, "readers")
		w.must(err)
		return len(view.Members)
	}
	w.eventually("the second member waits", func() bool { return members() == 2 })
	w.must(goes.Close())
	w.eventually("it is taken back", func() bool { return members() == 1 })
	if again := stays.join("readers", "range", first.MemberID, 10_000); len(again.Members) != 1 {
		t.Errorf("the group has %d members", len(again.Members))
	}
}

// Who asks the wrong node, or about what is not there, is told so.
func TestCoordinatorsThatAreNotToBeFound(t *testing.T) {
	w := newWorld(t, 2)
	name := "group"
	for i := 0; w.coordinator(name).id == "n1"; i++ {
		name = fmt.Sprint("group-", i)
	}
	c := w.dial(w.nodes[0])
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Group, beat.MemberID = name, "somebody"
	if answer := askWire[*kmsg.HeartbeatResponse](c, 4, beat); answer.ErrorCode != kerr.NotCoordinator.Code {
		t.Errorf("a node that does not coordinate says %v", kerr.ErrorForCode(answer.ErrorCode))
	}
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKeys = []string{name, ""}
	found := askWire[*kmsg.FindCoordinatorResponse](c, 6, find).Coordinators
	if found[0].NodeID != BrokerID("n2") || found[0].Port == 0 || found[1].ErrorCode != kerr.InvalidGroupID.Code {
		t.Errorf("coordinators are %+v", found)
	}
	for kind, want := range map[int8]*kerr.Error{coordinatorOfTransaction: kerr.TransactionalIDAuthorizationFailed, 2: kerr.InvalidRequest} {
		find.CoordinatorType = kind
		if found := askWire[*kmsg.FindCoordinatorResponse](c, 6, find).Coordinators; found[0].ErrorCode != want.Code || found[0].ErrorMessage == nil {
			t.Errorf("of kind %d: %+v", kind, found[0])
		}
	}
}

// A client that begins a transaction is told at once that there are none, and does not look for their coordinator for ever.
func TestATransactionFailsAtOnce(t *testing.T) {
	w := newWorld(t, 1)
	c := w.newClient(kgo.TransactionalID("payments"))
	began := make(chan error, 1)
	go func() { began <- c.BeginTransaction() }()
	var err error
	select {
	case err = <-began:
	case <-clock.System().NewTimer(5 * time.Second).C():
	}
	if err == nil || !strings.Contains(err.Error(), kerr.TransactionalIDAuthorizationFailed.Message) {
		t.Errorf("a transaction begins: %v", err)
	}
}

// When the coordinator dies another node goes on with the group, and what was committed is there.
func TestAGroupOutlivesItsCoordinator(t *testing.T) {
	w := newWorld(t, 3)
	topic := w.create("orders", 6)
	s := w.newShares()
	s.member("a", "readers", "orders", kgo.Balancers(kgo.CooperativeStickyBalancer()))
	s.member("b", "readers", "orders", kgo.Balancers(kgo.CooperativeStickyBalancer()))
	s.even(6, "a", "b")
	old := w.coordinator("readers")
	view, err := old.groups.View(w.ctx, "readers")
	w.must(err)
	_, err = old.groups.Commit(w.ctx, ingest.GroupCommit{
		Group: "readers", MemberID: view.Members[0].ID, Generation: view.Generation,
		Offsets: []ingest.GroupCommitOffset{{Topic: "orders", Partition: 3, Offset: 7, LeaderEpoch: -1}},
	})
	w.must(err)
	old.stop()
	var rest *worldNode
	for _, n := range w.nodes {
		if n != old {
			rest = n
		}
	}
	w.eventually("another node coordinates the group, of two members", func() bool {
		owner, err := rest.groups.Coordinator("readers")
		if err != nil || owner.ID == old.id {
			return false
		}
		for _, n := range w.nodes {
			if n.id == owner.ID {
				view, err := n.groups.View(w.ctx, "readers")
				return err == nil && view.State == group.Stable && len(view.Members) == 2 && view.Offsets[topic.ID][3].Offset == 7
			}
		}
		return false
	})
	s.even(6, "a", "b")
}

// stop ends a node for good, as its process would on being told to.
func (n *worldNode) stop() {
	n.server.Close()
	n.groups.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_ = n.Close(ctx)
}
