package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/meta/metafake"
)

// groupWorld is some nodes that coordinate groups over one metadata store.
type groupWorld struct {
	t     *testing.T
	store *metafake.Store
	meta  *meta.Client
	nodes map[meta.NodeID]*groupNode
}

// groupNode is a node as far as groups see one.
type groupNode struct {
	id     meta.NodeID
	groups *Groups
	reg    meta.Registration
	index  *meta.Follower
	// view, when set, is what the node takes for its index.
	view atomic.Pointer[GroupIndex]
	stop context.CancelCauseFunc
	life context.Context //nolint:containedctx // an incarnation's
}

func testRandom(name string) *rand.ChaCha8 {
	var seed [32]byte
	copy(seed[:], name)
	return rand.NewChaCha8(seed)
}

func newGroupWorld(t *testing.T, nodes ...string) *groupWorld {
	t.Helper()
	w := &groupWorld{t: t, store: metafake.New(metafake.Config{}), nodes: make(map[meta.NodeID]*groupNode)}
	client, err := meta.New(meta.Config{KV: w.store, Cluster: "test", Clock: clock.System(), Random: testRandom("world")})
	if err != nil {
		t.Fatal(err)
	}
	w.meta = client
	for i, id := range nodes {
		w.start(id, meta.Incarnation(i+1))
	}
	return w
}

func (w *groupWorld) start(id string, incarnation meta.Incarnation) *groupNode {
	w.t.Helper()
	n := &groupNode{id: meta.NodeID(id)}
	var err error
	n.reg, err = w.meta.Register(w.t.Context(), meta.NodeInfo{ID: n.id, Incarnation: incarnation, Disk: "disk-" + id, Roles: []string{roleIngest}}, time.Minute)
	if err != nil {
		w.t.Fatal(err)
	}
	n.life, n.stop = context.WithCancelCause(context.Background())
	n.index, err = w.meta.Follow(n.life, func(context.Context, *meta.L0Record) (meta.L0Index, error) {
		return meta.L0Index{}, errors.New("no objects here")
	}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	n.groups, err = NewGroups(GroupsConfig{
		Store: w.meta, Clock: clock.System(), Random: testRandom(id), Logger: slog.New(slog.DiscardHandler),
		Seat: func() (GroupSeat, error) {
			if n.life.Err() != nil {
				return GroupSeat{}, Errorf(ReasonUnavailable, "the node begins anew")
			}
			var index GroupIndex = n.index
			if seen := n.view.Load(); seen != nil {
				index = *seen
			}
			return GroupSeat{Context: n.life, Registration: n.reg, Index: index}, nil
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.nodes[n.id] = n
	w.t.Cleanup(func() {
		n.groups.Close()
		n.stop(context.Canceled)
		n.index.Close()
	})
	return n
}

// topic makes a topic that every node knows.
func (w *groupWorld) topic(name string, partitions int32) meta.Topic {
	w.t.Helper()
	topic, err := w.meta.CreateTopic(w.t.Context(), name, partitions, meta.DefaultTopicConfig())
	if err != nil {
		w.t.Fatal(err)
	}
	w.follow(topic.Revision)
	return topic
}

func (w *groupWorld) follow(revision meta.Revision) {
	w.t.Helper()
	for _, n := range w.nodes {
		if err := n.index.WaitFor(w.t.Context(), revision); err != nil {
			w.t.Fatal(err)
		}
	}
}

// ownedBy finds a name of a group that falls to a node.
func (w *groupWorld) ownedBy(node string) string {
	w.t.Helper()
	for i := range 1000 {
		name := fmt.Sprintf("group-%d", i)
		if owner, _ := groupOwner(name, w.nodes[meta.NodeID(node)].index); string(owner.ID) == node {
			return name
		}
	}
	w.t.Fatalf("no group falls to node %s", node)
	return ""
}

func subscriber(client string, owned []group.TopicPartition, topics ...string) group.Join {
	return group.Join{
		ClientID: client, SessionTimeout: 10 * time.Second, RebalanceTimeout: 10 * time.Second,
		Subscription: &group.Subscription{Topics: topics, Owned: owned},
	}
}

func (w *groupWorld) join(n *groupNode, name string, join group.Join) GroupJoined {
	w.t.Helper()
	joined, err := n.groups.Join(w.t.Context(), name, join)
	if err != nil {
		w.t.Fatal(err)
	}
	return joined
}

func (w *groupWorld) commit(n *groupNode, name string, m GroupJoined, topic string, partition int32, offset int64) error {
	errs, err := n.groups.Commit(w.t.Context(), GroupCommit{
		Group: name, MemberID: m.MemberID, Generation: m.Generation,
		Offsets: []GroupCommitOffset{{Topic: topic, Partition: partition, Offset: offset, LeaderEpoch: -1}},
	})
	if err != nil {
		return err
	}
	if errs[0] != nil {
		return errs[0]
	}
	return nil
}

func (w *groupWorld) committed(n *groupNode, name string, topic meta.Topic, partition int32) int64 {
	w.t.Helper()
	view, err := n.groups.View(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	o, ok := view.Offsets[topic.ID][partition]
	if !ok {
		return -1
	}
	return o.Offset
}

func wantReason(t *testing.T, err error, want Reason) {
	t.Helper()
	if got := ReasonOf(err); got != want {
		t.Errorf("reason %q, want %q: %v", got, want, err)
	}
}

func TestMemberJoinsCommitsAndReadsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		topic := w.topic("orders", 4)
		n := w.nodes["a"]
		m := w.join(n, "g", subscriber("app", nil, "orders"))
		if m.Generation != 1 || len(m.Begin) != 4 || m.Begin[3] != (GroupPosition{Topic: "orders", TopicID: topic.ID, Partition: 3, Committed: -1}) {
			t.Fatalf("joined %+v", m)
		}
		if err := w.commit(n, "g", m, "orders", 3, 42); err != nil {
			t.Fatal(err)
		}
		if got := w.committed(n, "g", topic, 3); got != 42 {
			t.Errorf("committed %d", got)
		}
		// A second member gets its share, and begins where the first has committed.
		wait := make(chan GroupJoined, 1)
		go func() { wait <- w.join(n, "g", subscriber("app", nil, "orders")) }()
		synctest.Wait()
		err := n.groups.Heartbeat(t.Context(), "g", group.Heartbeat{MemberID: m.MemberID, Generation: m.Generation})
		wantReason(t, err, ReasonRebalanceInProgress)
		again := subscriber("app", nil, "orders")
		again.MemberID = m.MemberID
		first := w.join(n, "g", again)
		second := <-wait
		if first.Generation != 2 || second.Generation != 2 || len(first.Assigned)+len(second.Assigned) != 4 || second.Members != 2 {
			t.Errorf("first %+v, second %+v", first, second)
		}
		for _, p := range slices.Concat(first.Begin, second.Begin) {
			if want := int64(-1); p.Partition != 3 && p.Committed != want || p.Partition == 3 && p.Committed != 42 {
				t.Errorf("partition %d begins at %d", p.Partition, p.Committed)
			}
		}
		wantReason(t, w.commit(n, "g", m, "orders", 0, 1), ReasonIllegalGeneration)
		wantReason(t, w.commit(n, "g", GroupJoined{JoinResult: group.JoinResult{MemberID: "nobody", Generation: 2}}, "orders", 0, 1), ReasonUnknownMemberID)
		// Offsets may go back, by whoever has the generation.
		if err := w.commit(n, "g", second, "orders", 3, 7); err != nil || w.committed(n, "g", topic, 3) != 7 {
			t.Errorf("a member went back: %v", err)
		}
	})
}

// TestOldCoordinatorsCommitIsRefused is B15 of the protocol. Node a is cut off from what the others see, and goes on thinking that the
// group is its own while b has it.
func TestOldCoordinatorsCommitIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a", "b")
		topic := w.topic("orders", 1)
		a, b := w.nodes["a"], w.nodes["b"]
		name := w.ownedBy("a")
		a.sees(a.index.Nodes()...)
		b.sees(meta.NodeInfo{ID: "b"}) // b has not heard of a
		old := w.join(a, name, subscriber("app", nil, "orders"))
		if err := w.commit(a, name, old, "orders", 0, 10); err != nil {
			t.Fatal(err)
		}
		// This commit is on its way while b takes the group over.
		w.store.FailTxns(metafake.Detach)
		late := make(chan error, 1)
		go func() { late <- w.commit(a, name, old, "orders", 0, 11) }()
		synctest.Wait()
		next := w.join(b, name, subscriber("app", nil, "orders"))
		if next.Generation <= old.Generation || next.Begin[0].Committed != 10 {
			t.Errorf("b begins with %+v after %+v", next, old)
		}
		if err := w.commit(b, name, next, "orders", 0, 20); err != nil {
			t.Fatal(err)
		}
		if result, err := w.store.Release(0); err != nil || result.Succeeded {
			t.Errorf("the late commit: %+v, %v", result, err)
		}
		time.Sleep(time.Second) //nolint:forbidigo // a fake clock
		wantReason(t, <-late, ReasonNotCoordinator)
		if got := w.committed(b, name, topic, 0); got != 20 {
			t.Errorf("offsets went back to %d", got)
		}
		// a, which still thinks that it is the one, claims the group again: it goes on from what b has left, and b hears of it.
		if got := w.committed(a, name, topic, 0); got != 20 {
			t.Errorf("a goes on from %d", got)
		}
		wantReason(t, w.commit(b, name, next, "orders", 0, 30), ReasonNotCoordinator)
	})
}

// frozenIndex sees other nodes than there are.
type frozenIndex struct {
	*meta.Follower
	nodes []meta.NodeInfo
}

// sees has a node see these nodes and no others.
func (n *groupNode) sees(nodes ...meta.NodeInfo) {
	var index GroupIndex = frozenIndex{n.index, nodes}
	n.view.Store(&index)
}

func (f frozenIndex) Nodes() []meta.NodeInfo { return f.nodes }

// TestStaleCoordinatorTellsNothingOld asks a coordinator that has not heard that another one has the group.
func TestStaleCoordinatorTellsNothingOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a", "b")
		w.topic("orders", 1)
		a, b := w.nodes["a"], w.nodes["b"]
		name := w.ownedBy("a")
		a.sees(a.index.Nodes()...)
		b.sees(meta.NodeInfo{ID: "b"})
		old := w.join(a, name, subscriber("app", nil, "orders"))
		if err := w.commit(a, name, old, "orders", 0, 10); err != nil {
			t.Fatal(err)
		}
		next := w.join(b, name, subscriber("app", nil, "orders"))
		if err := w.commit(b, name, next, "orders", 0, 20); err != nil {
			t.Fatal(err)
		}
		_, err := a.groups.View(t.Context(), name)
		wantReason(t, err, ReasonNotCoordinator)
		synctest.Wait()
		if len(a.groups.all()) != 0 {
			t.Error("a still holds the group")
		}
	})
}

// TestCommitsGather has commits come while a write is on its way: they all go with the next one.
func TestCommitsGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		topic := w.topic("orders", 100)
		n := w.nodes["a"]
		m := w.join(n, "g", subscriber("app", nil, "orders"))
		before := w.store.Revision()
		w.store.FailTxns(metafake.Delay)
		var commits sync.WaitGroup
		for p := range int32(100) {
			commits.Go(func() {
				if err := w.commit(n, "g", m, "orders", p, int64(p)+1); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		if _, err := w.store.Release(0); err != nil {
			t.Fatal(err)
		}
		commits.Wait()
		if writes := w.store.Revision() - before; writes != 2 {
			t.Errorf("100 commits took %d writes", writes)
		}
		for p := range int32(100) {
			if got := w.committed(n, "g", topic, p); got != int64(p)+1 {
				t.Errorf("partition %d is at %d", p, got)
			}
		}
	})
}

// TestCommitsInDoubt loses answers and requests under commits and generations: nothing is answered before it is durable.
func TestCommitsInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		topic := w.topic("orders", 1)
		n := w.nodes["a"]
		for round := range 3 {
			w.store.FailTxns(metafake.LoseReply, metafake.Drop, metafake.LoseReply)
			m := w.join(n, fmt.Sprintf("g%d", round), subscriber("app", nil, "orders"))
			for offset := range int64(5) {
				w.store.FailTxns(metafake.Fault(1+(int(offset)+round)%2), metafake.Fault(1+int(offset)%2))
				if err := w.commit(n, fmt.Sprintf("g%d", round), m, "orders", 0, offset); err != nil {
					t.Fatal(err)
				}
				claimed, _, offsets, err := w.meta.ClaimGroup(t.Context(), "other", n.reg)
				_, _, _ = claimed, offsets, err
			}
			if got := w.committed(n, fmt.Sprintf("g%d", round), topic, 0); got != 4 {
				t.Errorf("at %d", got)
			}
		}
	})
}

// TestNewLifeOfTheNode ends the incarnation: whoever waits is told at once, and the next one goes on with the generation.
func TestNewLifeOfTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		topic := w.topic("orders", 2)
		n := w.nodes["a"]
		m := w.join(n, "g", subscriber("app", nil, "orders"))
		if err := w.commit(n, "g", m, "orders", 0, 5); err != nil {
			t.Fatal(err)
		}
		w.store.FailTxns(metafake.Delay)
		waiting := make(chan error, 1)
		go func() { waiting <- w.commit(n, "g", m, "orders", 0, 6) }()
		synctest.Wait()
		n.stop(errors.New("the lease is lost"))
		wantReason(t, <-waiting, ReasonNotCoordinator)
		w.store.Discard(0)
		n.groups.Close()
		n = w.start("a", 9)
		err := n.groups.Heartbeat(t.Context(), "g", group.Heartbeat{MemberID: m.MemberID, Generation: m.Generation})
		wantReason(t, err, ReasonRebalanceInProgress)
		wantReason(t, w.commit(n, "g", m, "orders", 0, 7), ReasonRebalanceInProgress)
		join := subscriber("app", m.Assigned, "orders")
		join.MemberID = m.MemberID
		again := w.join(n, "g", join)
		if again.Generation != m.Generation+1 || again.Begin[0].Committed != 5 || again.MemberID != m.MemberID {
			t.Errorf("joined %+v", again)
		}
		if got := w.committed(n, "g", topic, 0); got != 5 {
			t.Errorf("at %d", got)
		}
	})
}

// TestGroupMovesToAnotherNode starts a node to which the group falls: the first one lets it go by itself.
func TestGroupMovesToAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		topic := w.topic("orders", 1)
		a := w.nodes["a"]
		name := ""
		for i := 0; name == ""; i++ {
			if candidate := fmt.Sprintf("group-%d", i); groupRank(candidate, "b") > groupRank(candidate, "a") {
				name = candidate
			}
		}
		m := w.join(a, name, subscriber("app", nil, "orders"))
		if err := w.commit(a, name, m, "orders", 0, 5); err != nil {
			t.Fatal(err)
		}
		waiting := make(chan error, 1)
		go func() {
			_, err := a.groups.Join(t.Context(), name, subscriber("other", nil, "orders"))
			waiting <- err
		}()
		synctest.Wait()
		b := w.start("b", 2)
		wantReason(t, <-waiting, ReasonNotCoordinator)
		wantReason(t, w.commit(a, name, m, "orders", 0, 6), ReasonNotCoordinator)
		if got := w.committed(b, name, topic, 0); got != 5 {
			t.Errorf("at %d", got)
		}
		if owner, err := a.groups.Coordinator(name); err != nil || owner.ID != "b" {
			t.Errorf("a names %v, %v", owner.ID, err)
		}
	})
}
