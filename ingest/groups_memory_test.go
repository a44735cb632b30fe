package ingest

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/tidemark-io/tidemark/ingest/group"
)

// TestGroupsTakeBoundedMemory has members join groups of a node until their assignments take as much memory as they may: then those that are there
// stay, who comes anew is told to come later, and does so when others have left.
func TestGroupsTakeBoundedMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		w.topic("big", 10_000)
		w.topic("orders", 1)
		n := w.nodes["a"]
		const others = maxMemberBytes - 8<<20
		n.groups.memberBytes.Add(others) // groups that are not of this story
		joined := make(map[string]GroupJoined)
		var refused error
		for i := 0; refused == nil && i < 100; i++ {
			name := fmt.Sprint("g", i)
			m, err := n.groups.Join(t.Context(), name, subscriber("app", nil, "big"))
			if refused = err; err == nil {
				joined[name] = m
			}
			if now := n.groups.memberBytes.Load(); now > maxMemberBytes {
				t.Fatalf("members take %d bytes", now)
			}
		}
		if len(joined) < 2 || len(joined) > 8 {
			t.Errorf("%d groups of 10,000 partitions have room in 8 MiB", len(joined))
		}
		wantReason(t, refused, ReasonBackPressure)
		if e := AsError(refused); !e.Reason.Retryable() || e.RetryAfter == 0 {
			t.Errorf("the refusal does not say when to come again: %+v", e)
		}
		// The one that was refused has left nothing behind, and small groups still have room.
		w.join(n, "small", subscriber("app", nil, "orders"))
		for name, m := range joined {
			again := subscriber("app", m.Assigned, "big")
			again.MemberID = m.MemberID
			if m = w.join(n, name, again); len(m.Assigned) != 10_000 {
				t.Errorf("%s has %d partitions after it has joined again", name, len(m.Assigned))
			}
		}
		for name, m := range joined {
			if _, err := n.groups.Leave(t.Context(), name, []group.LeavingMember{{MemberID: m.MemberID}}); err != nil {
				t.Fatal(err)
			}
		}
		if m := w.join(n, "late", subscriber("app", nil, "big")); len(m.Assigned) != 10_000 {
			t.Errorf("who came later got %d partitions", len(m.Assigned))
		}
		n.groups.Close()
		if left := n.groups.memberBytes.Load(); left != others {
			t.Errorf("%d bytes are counted, and no group is there", left-others)
		}
	})
}

// TestAssignmentsTakeBoundedMemory has the leader of a group bring more than there is room for.
func TestAssignmentsTakeBoundedMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		n := w.nodes["a"]
		join := subscriber("app", nil)
		join.Subscription, join.ProtocolType, join.Protocols = nil, "consumer", []group.Protocol{{Name: "range", Metadata: []byte("x")}}
		m := w.join(n, "g", join)
		sync := group.Sync{MemberID: m.MemberID, Generation: m.Generation, Assignments: map[string][]byte{m.MemberID: make([]byte, 100<<10)}}
		n.groups.memberBytes.Add(maxMemberBytes - 64<<10)
		_, err := n.groups.Sync(t.Context(), "g", sync)
		wantReason(t, err, ReasonBackPressure)
		n.groups.memberBytes.Add(64<<10 - maxMemberBytes)
		if got, err := n.groups.Sync(t.Context(), "g", sync); err != nil || len(got.Assignment) != 100<<10 {
			t.Errorf("when there is room again: %d bytes, %v", len(got.Assignment), err)
		}
	})
}
