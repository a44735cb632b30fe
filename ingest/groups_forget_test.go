package ingest

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/tidemark-io/tidemark/ingest/group"
)

// TestForgetOffsets removes offsets of a group: of topics that nobody reads, also while it has members.
func TestForgetOffsets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		orders, old := w.topic("orders", 2), w.topic("old", 2)
		n := w.nodes["a"]
		forget := func(partitions ...group.TopicPartition) []*Error {
			t.Helper()
			errs, err := n.groups.Forget(t.Context(), "g", partitions)
			if err != nil {
				t.Fatal(err)
			}
			return errs
		}
		_, err := n.groups.Forget(t.Context(), "g", []group.TopicPartition{{Topic: "old"}})
		wantReason(t, err, ReasonUnknownGroup)
		outside := GroupJoined{JoinResult: group.JoinResult{Generation: -1}}
		for p := range int32(2) {
			for _, topic := range []string{"orders", "old"} {
				if err := w.commit(n, "g", outside, topic, p, 5); err != nil {
					t.Fatal(err)
				}
			}
		}
		errs := forget(group.TopicPartition{Topic: "old"}, group.TopicPartition{Topic: "nowhere"}, group.TopicPartition{Topic: "old", Partition: 7})
		if errs[0] != nil || ReasonOf(errs[1]) != ReasonUnknownTopic || ReasonOf(errs[2]) != ReasonUnknownPartition {
			t.Errorf("errors %v", errs)
		}
		if first, second := w.committed(n, "g", old, 0), w.committed(n, "g", old, 1); first != -1 || second != 5 {
			t.Errorf("left: %d and %d", first, second)
		}
		m := w.join(n, "g", subscriber("app", nil, "orders"))
		errs = forget(group.TopicPartition{Topic: "orders"}, group.TopicPartition{Topic: "old", Partition: 1}, group.TopicPartition{Topic: "old"})
		if ReasonOf(errs[0]) != ReasonGroupNotEmpty || errs[1] != nil || errs[2] != nil {
			t.Errorf("with a member that reads orders: %v", errs)
		}
		if kept, gone := w.committed(n, "g", orders, 0), w.committed(n, "g", old, 1); kept != 5 || gone != -1 {
			t.Errorf("orders at %d, old at %d", kept, gone)
		}
		if stored, err := w.meta.StoredGroups(t.Context()); err != nil || len(stored[0].Topics) != 1 || stored[0].Topics[0] != orders.ID {
			t.Errorf("etcd has %v, %v", stored, err)
		}
		if _, err := n.groups.Leave(t.Context(), "g", []group.LeavingMember{{MemberID: m.MemberID}}); err != nil {
			t.Fatal(err)
		}

		// Members whose metadata says what they read, and those whose does not.
		for protocolType, want := range map[string]Reason{"consumer": "", "connect": ReasonGroupNotEmpty} {
			if err := w.commit(n, protocolType, outside, "old", 0, 5); err != nil {
				t.Fatal(err)
			}
			join := subscriber("app", nil)
			join.Subscription, join.ProtocolType = nil, protocolType
			join.Protocols = []group.Protocol{{Name: "p", Metadata: []byte("\x00\x00\x00\x00\x00\x01\x00\x06orders\xff\xff\xff\xff")}}
			w.join(n, protocolType, join)
			errs, err := n.groups.Forget(t.Context(), protocolType, []group.TopicPartition{{Topic: "old"}})
			if err != nil || ReasonOf(asErr(errs[0])) != want {
				t.Errorf("%s: %v, %v", protocolType, errs, err)
			}
		}
	})
}

// asErr keeps a missing error missing.
func asErr(e *Error) error {
	if e == nil {
		return nil
	}
	return e
}

// TestForgetWhileMembersComeBack: the coordinator changes, and of two members one is back. What the other is subscribed to is not known yet, and stays.
func TestForgetWhileMembersComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		w.topic("orders", 2)
		w.topic("old", 1)
		n := w.nodes["a"]
		first := w.join(n, "g", subscriber("one", nil, "orders"))
		second := make(chan GroupJoined, 1)
		go func() {
			m, err := n.groups.Join(t.Context(), "g", subscriber("two", nil, "old"))
			if err != nil {
				t.Error(err)
			}
			second <- m
		}()
		synctest.Wait()
		again := subscriber("one", first.Assigned, "orders")
		again.MemberID = first.MemberID
		first = w.join(n, "g", again)
		two := <-second
		if err := w.commit(n, "g", two, "old", 0, 500); err != nil {
			t.Fatal(err)
		}
		n.stop(errors.New("the lease is lost"))
		n.groups.Close()
		n = w.start("a", 9)

		back := make(chan error, 1)
		go func() {
			join := subscriber("one", first.Assigned, "orders")
			join.MemberID = first.MemberID
			_, err := n.groups.Join(t.Context(), "g", join)
			back <- err
		}()
		synctest.Wait()
		errs, err := n.groups.Forget(t.Context(), "g", []group.TopicPartition{{Topic: "old"}})
		if err != nil || ReasonOf(asErr(errs[0])) != ReasonGroupNotEmpty {
			t.Errorf("forget: %v, %v", errs, err)
		}
		join := subscriber("two", two.Assigned, "old")
		join.MemberID = two.MemberID
		m := w.join(n, "g", join)
		if err := <-back; err != nil {
			t.Error(err)
		}
		if len(m.Begin) != 1 || m.Begin[0].Committed != 500 {
			t.Errorf("member two, which is subscribed to old and never left, begins at %+v", m.Begin)
		}
	})
}
