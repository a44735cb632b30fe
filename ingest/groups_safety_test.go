package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
)

// TestCommitOfADeletedTopic has a member commit what it read of a topic that was made anew meanwhile: the new one begins at its start.
func TestCommitOfADeletedTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		w.topic("orders", 1)
		n := w.nodes["a"]
		m := w.join(n, "g", subscriber("app", nil, "orders"))
		commit := func(offset int64) error {
			errs, err := n.groups.Commit(t.Context(), GroupCommit{Group: "g", MemberID: m.MemberID, Generation: m.Generation, Offsets: []GroupCommitOffset{
				{Topic: "orders", TopicID: m.Begin[0].TopicID, Offset: offset, LeaderEpoch: -1},
			}})
			if err == nil && errs[0] != nil {
				return errs[0]
			}
			return err
		}
		if err := commit(400); err != nil {
			t.Fatal(err)
		}
		if _, err := w.meta.DeleteTopic(t.Context(), "orders"); err != nil {
			t.Fatal(err)
		}
		again := w.topic("orders", 1)
		synctest.Wait()
		wantReason(t, commit(500), ReasonUnknownTopic)
		join := subscriber("app", m.Assigned, "orders")
		join.MemberID = m.MemberID
		m = w.join(n, "g", join)
		if m.Begin[0].TopicID != again.ID || m.Begin[0].Committed != -1 {
			t.Errorf("the member begins at %+v", m.Begin[0])
		}
		if err := commit(7); err != nil || w.committed(n, "g", again, 0) != 7 {
			t.Errorf("what was read of the new topic is not committed: %v", err)
		}
	})
}

// TestGroupInUseIsNotEmptyAfterTakeover gives a group in use a new coordinator: until its members are back, or have had the time for it, nobody
// outside can change it.
func TestGroupInUseIsNotEmptyAfterTakeover(t *testing.T) {
	for name, back := range map[string]bool{"its member comes back": true, "its member does not come back": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newGroupWorld(t, "a")
				topic := w.topic("orders", 2)
				n := w.nodes["a"]
				m := w.join(n, "g", subscriber("app", nil, "orders"))
				if err := w.commit(n, "g", m, "orders", 0, 500); err != nil {
					t.Fatal(err)
				}
				n.stop(errors.New("the lease is lost"))
				n.groups.Close()
				n = w.start("a", 9)
				outside := func() (reasons []Reason) {
					offsets := []GroupCommitOffset{{Topic: "orders", Offset: 3, LeaderEpoch: -1}}
					_, seek := n.groups.Seek(t.Context(), "g", offsets)
					_, commit := n.groups.Commit(t.Context(), GroupCommit{Group: "g", Generation: -1, Offsets: offsets})
					return []Reason{ReasonOf(seek), ReasonOf(commit), ReasonOf(n.groups.Delete(t.Context(), "g"))}
				}
				refused := []Reason{ReasonGroupNotEmpty, ReasonGroupNotEmpty, ReasonGroupNotEmpty}
				if got := outside(); !slices.Equal(got, refused) {
					t.Errorf("right after the takeover: %v", got)
				}
				time.Sleep(44 * time.Second) //nolint:forbidigo // a fake clock
				if got := outside(); !slices.Equal(got, refused) {
					t.Errorf("a moment before a session length: %v", got)
				}
				if back {
					wantReason(t, n.groups.Heartbeat(t.Context(), "g", group.Heartbeat{MemberID: m.MemberID, Generation: m.Generation}), ReasonRebalanceInProgress)
					join := subscriber("app", m.Assigned, "orders")
					join.MemberID = m.MemberID
					if again := w.join(n, "g", join); again.Begin[0].Committed != 500 {
						t.Errorf("the member begins at %d", again.Begin[0].Committed)
					}
					return
				}
				time.Sleep(2 * time.Second) //nolint:forbidigo // a fake clock
				if got := w.committed(n, "g", topic, 0); got != 500 {
					t.Errorf("committed %d", got)
				}
				if got := outside(); !slices.Equal(got, []Reason{"", "", ""}) {
					t.Errorf("after a session length: %v", got)
				}
			})
		})
	}
}

// stuckStore never answers the claim of one group.
type stuckStore struct {
	GroupStore
	stuck string
}

func (s stuckStore) ClaimGroup(ctx context.Context, name string, reg meta.Registration) (meta.GroupClaim, meta.GroupState, map[meta.TopicID]meta.GroupOffsets, error) {
	if name == s.stuck {
		<-ctx.Done()
		return meta.GroupClaim{}, meta.GroupState{}, nil, ctx.Err()
	}
	return s.GroupStore.ClaimGroup(ctx, name, reg)
}

// TestCallsOfAGroupBeingClaimed has large calls come while the claim of their group hangs: few wait, those whose callers leave take nothing, and
// all are told in the end.
func TestCallsOfAGroupBeingClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		w.topic("orders", 1000)
		n := w.nodes["a"]
		n.groups.config.Store = stuckStore{w.meta, "g"}
		offsets := make([]GroupCommitOffset, 200)
		for i := range offsets {
			offsets[i] = GroupCommitOffset{Topic: "orders", Partition: int32(i), Offset: 1, Metadata: string(make([]byte, 4096))}
		}
		commit := func(ctx context.Context) error {
			_, err := n.groups.Commit(ctx, GroupCommit{Group: "g", Generation: -1, Offsets: offsets})
			return err
		}
		join := subscriber("app", nil)
		join.Subscription, join.ProtocolType = nil, "consumer"
		join.Protocols = []group.Protocol{{Name: "range", Metadata: make([]byte, 1<<20)}}
		for range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			if err := commit(ctx); ReasonOf(err) == ReasonBackPressure {
				t.Fatal("a call whose caller has left still takes room")
			}
			if _, err := n.groups.Join(ctx, "g", join); ReasonOf(err) == ReasonBackPressure {
				t.Fatal("a join whose caller has left still takes room")
			}
			cancel()
		}
		a := n.groups.actors["g"]
		if got := n.groups.mailBytes.Load(); got != 0 || a.mailBytes != 0 {
			t.Errorf("%d bytes wait, and nobody with them", got)
		}
		begin := time.Now() //nolint:forbidigo // a fake clock
		answers := make(chan error, 20)
		for range cap(answers) {
			go func() { answers <- commit(t.Context()) }()
		}
		synctest.Wait()
		if got := n.groups.mailBytes.Load(); got > maxMailboxBytes || got < maxMailboxBytes/2 {
			t.Errorf("%d bytes wait, at most %d may", got, maxMailboxBytes)
		}
		reasons := map[Reason]int{}
		for range cap(answers) {
			reasons[ReasonOf(<-answers)]++
		}
		if reasons[ReasonNotCoordinator] < 3 || reasons[ReasonBackPressure] < 10 || reasons[ReasonNotCoordinator]+reasons[ReasonBackPressure] != cap(answers) {
			t.Errorf("answers %v", reasons)
		}
		if took := time.Since(begin); took > groupPatience { //nolint:forbidigo // a fake clock
			t.Errorf("they waited for %v", took)
		}
		synctest.Wait()
		if got := n.groups.mailBytes.Load(); got != 0 || len(n.groups.all()) != 0 {
			t.Errorf("%d bytes of %d groups are left", got, len(n.groups.all()))
		}
	})
}

// TestCommitOfACallerThatLeft is not stored: its caller may have committed elsewhere since.
func TestCommitOfACallerThatLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		topic := w.topic("orders", 1)
		n := w.nodes["a"]
		m := w.join(n, "g", subscriber("app", nil, "orders"))
		block := make(chan struct{})
		n.groups.actors["g"].post(groupCall{run: func(time.Time) { <-block }})
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := n.groups.Commit(ctx, GroupCommit{Group: "g", MemberID: m.MemberID, Generation: m.Generation, Offsets: []GroupCommitOffset{{Topic: "orders", Offset: 5}}})
			left <- err
		}()
		synctest.Wait()
		cancel()
		if <-left == nil {
			t.Error("it was answered")
		}
		close(block)
		synctest.Wait()
		if got := w.committed(n, "g", topic, 0); got != -1 {
			t.Errorf("committed %d", got)
		}
	})
}

// TestMemberBeginsAtEveryAcceptedCommit has more committed than one write can hold, and then a member take the partitions over: it begins behind
// all of it.
func TestMemberBeginsAtEveryAcceptedCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		n := w.nodes["a"]
		var names []string
		var offsets []GroupCommitOffset
		for i := range meta.MaxGroupWriteTopics + 50 {
			names = append(names, w.topic(fmt.Sprintf("t%03d", i), 1).Name)
			offsets = append(offsets, GroupCommitOffset{Topic: names[i], Offset: 5, LeaderEpoch: -1})
		}
		m := w.join(n, "g", subscriber("app", nil, names...))
		// The commit comes, the member leaves and another one joins, all before anything is written.
		block := make(chan struct{})
		n.groups.actors["g"].post(groupCall{run: func(time.Time) { <-block }})
		synctest.Wait()
		committed := make(chan error, 1)
		go func() {
			_, err := n.groups.Commit(t.Context(), GroupCommit{Group: "g", MemberID: m.MemberID, Generation: m.Generation, Offsets: offsets})
			committed <- err
		}()
		synctest.Wait()
		go func() { _, _ = n.groups.Leave(t.Context(), "g", []group.LeavingMember{{MemberID: m.MemberID}}) }()
		synctest.Wait()
		joined := make(chan GroupJoined, 1)
		go func() {
			j, err := n.groups.Join(t.Context(), "g", subscriber("next", nil, names...))
			if err != nil {
				t.Error(err)
			}
			joined <- j
		}()
		synctest.Wait()
		close(block)
		next := <-joined
		if err := <-committed; err != nil {
			t.Fatal(err)
		}
		if len(next.Begin) != len(names) {
			t.Errorf("%d partitions of %d", len(next.Begin), len(names))
		}
		for _, p := range next.Begin {
			if p.Committed != 5 {
				t.Fatalf("topic %s begins at %d, below a commit that was answered", p.Topic, p.Committed)
			}
		}
	})
}

// TestListingWhileOneClaimHangs lists the other groups as they are, and the one without a state.
func TestListingWhileOneClaimHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		w.topic("orders", 1)
		n := w.nodes["a"]
		n.groups.config.Store = stuckStore{w.meta, "stuck"}
		names := []string{"g1", "g2", "g3", "g4", "g5", "g6"}
		for _, name := range names {
			w.join(n, name, subscriber("app", nil, "orders"))
		}
		go func() { _, _ = n.groups.Join(t.Context(), "stuck", subscriber("app", nil, "orders")) }()
		synctest.Wait()
		known := map[string]GroupListing{}
		for _, l := range n.groups.Listings() {
			known[l.Name] = l
		}
		for _, name := range names {
			if want := (GroupListing{Name: name, Coordinator: "a", Known: true, State: group.Stable, Members: 1, ProtocolType: nativeProtocolType}); known[name] != want {
				t.Errorf("%+v, want %+v", known[name], want)
			}
		}
		if l := known["stuck"]; l.Name != "stuck" || l.Known {
			t.Errorf("the group that is being claimed: %+v", l)
		}
	})
}

// TestGroupThatKeepsNothingGoes has a member come and go without a commit: after a while nothing is left of the group.
func TestGroupThatKeepsNothingGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		w.topic("orders", 1)
		n := w.nodes["a"]
		m := w.join(n, "g", subscriber("app", nil, "orders"))
		if _, err := n.groups.Leave(t.Context(), "g", []group.LeavingMember{{MemberID: m.MemberID}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(idleGroup + 3*sweepGroupsEvery) //nolint:forbidigo // a fake clock
		if stored, err := w.meta.StoredGroups(t.Context()); err != nil || len(stored) != 0 || len(n.groups.all()) != 0 {
			t.Errorf("%v is stored, %d groups are in memory: %v", stored, len(n.groups.all()), err)
		}
	})
}

// countingStore counts how often somebody asks whether a group is there.
type countingStore struct {
	GroupStore
	asked *int
}

func (s countingStore) GroupExists(ctx context.Context, name string) (bool, error) {
	*s.asked++
	return s.GroupStore.GroupExists(ctx, name)
}

// TestUnknownGroupsAreNotLookedUpAgain has a client go on about a group that is not there: etcd is asked again only when something has changed.
func TestUnknownGroupsAreNotLookedUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		w.topic("orders", 1)
		n, asked := w.nodes["a"], 0
		n.groups.config.Store = countingStore{w.meta, &asked}
		beat := func(m group.Heartbeat) error { return n.groups.Heartbeat(t.Context(), "g", m) }
		for range 100 {
			wantReason(t, beat(group.Heartbeat{MemberID: "m"}), ReasonUnknownMemberID)
		}
		if asked != 1 {
			t.Errorf("etcd was asked %d times", asked)
		}
		m := w.join(n, "g", subscriber("app", nil, "orders"))
		if err := beat(group.Heartbeat{MemberID: m.MemberID, Generation: m.Generation}); err != nil {
			t.Errorf("the group is there now: %v", err)
		}
		n.groups.actors["g"].cancel() // it is given up, and must be found again
		synctest.Wait()
		wantReason(t, beat(group.Heartbeat{MemberID: m.MemberID, Generation: m.Generation}), ReasonRebalanceInProgress)
	})
}
