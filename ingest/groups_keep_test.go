package ingest

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/meta/metafake"
)

func TestSeekAndDeleteNeedAnEmptyGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		topic := w.topic("orders", 2)
		n := w.nodes["a"]
		seek := func(offset int64) error {
			errs, err := n.groups.Seek(t.Context(), "g", []GroupCommitOffset{{Topic: "orders", Partition: 1, Offset: offset, LeaderEpoch: -1}})
			if err == nil && errs[0] != nil {
				return errs[0]
			}
			return err
		}
		wantReason(t, n.groups.Delete(t.Context(), "g"), ReasonUnknownGroup)
		if err := seek(3); err != nil || w.committed(n, "g", topic, 1) != 3 {
			t.Fatalf("seek: %v", err)
		}
		m := w.join(n, "g", subscriber("app", nil, "orders"))
		wantReason(t, seek(4), ReasonGroupNotEmpty)
		wantReason(t, n.groups.Delete(t.Context(), "g"), ReasonGroupNotEmpty)
		if left, err := n.groups.Leave(t.Context(), "g", []group.LeavingMember{{MemberID: m.MemberID}}); err != nil || left[0].Err != nil {
			t.Fatal(left, err)
		}
		if err := seek(1); err != nil || w.committed(n, "g", topic, 1) != 1 {
			t.Errorf("seek back: %v", err)
		}
		w.store.FailTxns(metafake.LoseReply, metafake.Drop)
		if err := n.groups.Delete(t.Context(), "g"); err != nil {
			t.Fatal(err)
		}
		if kvs, _, err := w.store.Range(t.Context(), "/tidemark/test/groups/", 0); err != nil || len(kvs) != 0 {
			t.Errorf("%d keys are left: %v", len(kvs), err)
		}
		_, err := n.groups.View(t.Context(), "g")
		wantReason(t, err, ReasonUnknownGroup)
		if again := w.join(n, "g", subscriber("app", nil, "orders")); again.Begin[1].Committed != -1 {
			t.Errorf("a new group begins at %d", again.Begin[1].Committed)
		}
	})
}

// TestDeletedGroupIsGone asks for a group as soon as its deletion is answered, again and again: nobody meets its coordinator of a moment ago.
func TestDeletedGroupIsGone(t *testing.T) {
	w := newGroupWorld(t, "a")
	w.topic("orders", 1)
	n := w.nodes["a"]
	for range 1000 {
		if err := w.commit(n, "g", GroupJoined{JoinResult: group.JoinResult{Generation: -1}}, "orders", 0, 5); err != nil {
			t.Fatal(err)
		}
		if err := n.groups.Delete(t.Context(), "g"); err != nil {
			t.Fatal(err)
		}
		_, err := n.groups.View(t.Context(), "g")
		wantReason(t, err, ReasonUnknownGroup)
	}
}

// TestOffsetsOfDeletedTopicsGo deletes a topic under a group in use and under one that is not.
func TestOffsetsOfDeletedTopicsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		w.topic("orders", 1)
		kept := w.topic("kept", 1)
		n := w.nodes["a"]
		for _, name := range []string{"used", "unused"} {
			for _, topic := range []string{"orders", "kept"} {
				if err := w.commit(n, name, GroupJoined{JoinResult: group.JoinResult{Generation: -1}}, topic, 0, 5); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(idleGroup + 2*sweepGroupsEvery) //nolint:forbidigo // a fake clock
		if n := len(n.groups.all()); n != 0 {
			t.Errorf("%d groups are in memory though nobody used them for long", n)
		}
		if got := w.committed(n, "used", kept, 0); got != 5 {
			t.Errorf("at %d", got)
		}
		revision, err := w.meta.DeleteTopic(t.Context(), "orders")
		if err != nil {
			t.Fatal(err)
		}
		w.follow(revision)
		wantReason(t, w.commit(n, "used", GroupJoined{JoinResult: group.JoinResult{Generation: -1}}, "orders", 0, 6), ReasonUnknownTopic)
		time.Sleep(expireGroupsEvery + time.Minute) //nolint:forbidigo // a fake clock
		stored, err := w.meta.StoredGroups(t.Context())
		if err != nil || len(stored) != 2 {
			t.Fatal(stored, err)
		}
		for _, g := range stored {
			if !slices.Equal(g.Topics, []meta.TopicID{kept.ID}) {
				t.Errorf("group %s has offsets in %v", g.Group, g.Topics)
			}
		}
	})
}

// TestGroupsExpire keeps offsets for as long as somebody uses them and a week more.
func TestGroupsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		w.topic("orders", 1)
		n := w.nodes["a"]
		patient := subscriber("app", nil, "orders")
		patient.SessionTimeout = 30 * time.Minute
		m := w.join(n, "members", patient)
		live := func(d time.Duration) {
			for range d / (20 * time.Minute) {
				time.Sleep(20 * time.Minute) //nolint:forbidigo // a fake clock
				if err := n.groups.Heartbeat(t.Context(), "members", group.Heartbeat{MemberID: m.MemberID, Generation: m.Generation}); err != nil {
					t.Fatal(err)
				}
			}
		}
		simple := GroupJoined{JoinResult: group.JoinResult{Generation: -1}}
		for _, name := range []string{"old", "fresh"} {
			if err := w.commit(n, name, simple, "orders", 0, 5); err != nil {
				t.Fatal(err)
			}
		}
		live(OffsetsRetention - time.Hour)
		if err := w.commit(n, "fresh", simple, "orders", 0, 6); err != nil {
			t.Fatal(err)
		}
		names := func() (out []string) {
			stored, err := w.meta.StoredGroups(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range stored {
				out = append(out, g.Group)
			}
			return out
		}
		if got := names(); len(got) != 3 {
			t.Errorf("groups %v before their time", got)
		}
		live(3 * time.Hour)
		if got := names(); !slices.Equal(got, []string{"fresh", "members"}) {
			t.Errorf("groups %v are there", got)
		}
	})
}

func TestCommitIsRefusedByPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		topic := w.topic("orders", 2)
		n := w.nodes["a"]
		large := make([]byte, meta.MaxOffsetMetadata+1)
		for i := range large {
			large[i] = 'm'
		}
		errs, err := n.groups.Commit(t.Context(), GroupCommit{Group: "g", Generation: -1, Offsets: []GroupCommitOffset{
			{Topic: "nowhere"}, {Topic: "orders", Partition: 2}, {Topic: "orders", Offset: -5}, {Topic: "orders", Metadata: string(large)},
			{Topic: "orders", Partition: 1, Offset: 9, Metadata: "fine"},
		}})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []Reason{ReasonUnknownTopic, ReasonUnknownPartition, ReasonInvalidRequest, ReasonTooLarge} {
			wantReason(t, errs[i], want)
		}
		if errs[4] != nil || w.committed(n, "g", topic, 1) != 9 || w.committed(n, "g", topic, 0) != -1 {
			t.Errorf("the fifth: %v", errs[4])
		}
		for _, bad := range []string{"", "a\x00b"} {
			_, err := n.groups.Commit(t.Context(), GroupCommit{Group: bad, Generation: -1})
			wantReason(t, err, ReasonInvalidGroup)
		}
		wantReason(t, n.groups.Heartbeat(t.Context(), "nobody", group.Heartbeat{MemberID: "m"}), ReasonUnknownMemberID)
	})
}

// TestManyTopicsInOneCommit needs several writes, and is answered after the last.
func TestManyTopicsInOneCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		n := w.nodes["a"]
		c := GroupCommit{Group: "g", Generation: -1}
		for i := range 250 {
			c.Offsets = append(c.Offsets, GroupCommitOffset{Topic: w.topic(fmt.Sprintf("t%03d", i), 1).Name, Offset: int64(i), LeaderEpoch: -1})
		}
		errs, err := n.groups.Commit(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range errs {
			if e != nil {
				t.Errorf("topic %d: %v", i, e)
			}
		}
		view, err := n.groups.View(t.Context(), "g")
		if err != nil || len(view.Offsets) != 250 {
			t.Errorf("%d topics, %v", len(view.Offsets), err)
		}
		if err := n.groups.Delete(t.Context(), "g"); err != nil {
			t.Fatal(err)
		}
		if kvs, _, err := w.store.Range(t.Context(), "/tidemark/test/groups/", 0); err != nil || len(kvs) != 0 {
			t.Errorf("%d keys are left: %v", len(kvs), err)
		}
	})
}
