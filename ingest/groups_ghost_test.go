package ingest

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta/metafake"
)

// leavingJoin has a member join whose caller leaves just before the answer: the actor is held up, the answer of etcd waits behind that, and the caller
// goes before the actor comes to it.
func leavingJoin(t *testing.T, w *groupWorld, join group.Join) error {
	t.Helper()
	n := w.nodes["a"]
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.store.FailTxns(metafake.None, metafake.Delay) // the claim, and the generation
	left := make(chan error, 1)
	go func() {
		_, err := n.groups.Join(ctx, "g", join)
		left <- err
	}()
	synctest.Wait()
	if w.store.Held() != 1 {
		t.Fatal("the generation is not being stored")
	}
	a, held := n.groups.actors["g"], make(chan struct{})
	a.post(groupCall{run: func(time.Time) { <-held }})
	synctest.Wait()
	if _, err := w.store.Release(0); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	cancel()
	synctest.Wait()
	close(held)
	synctest.Wait()
	return <-left
}

func membersOfG(t *testing.T, w *groupWorld) []group.DescribedMember {
	t.Helper()
	view, err := w.nodes["a"].groups.View(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	return view.Members
}

// TestJoinOfACallerThatLeftJustBefore has the caller leave just before the answer: no member stays that nobody knows.
func TestJoinOfACallerThatLeftJustBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		w.topic("orders", 1)
		wantReason(t, leavingJoin(t, w, subscriber("app", nil, "orders")), ReasonCanceled)
		if members := membersOfG(t, w); len(members) != 0 {
			t.Errorf("members %+v, and nobody knows them", members)
		}
		// Who comes next does not wait for it.
		begin := time.Now()                                                                                                  //nolint:forbidigo // a fake clock
		if m := w.join(w.nodes["a"], "g", subscriber("app", nil, "orders")); len(m.Assigned) != 1 || time.Since(begin) > 0 { //nolint:forbidigo // a fake clock
			t.Errorf("the next one got %v", m.Assigned)
		}
	})
}

// endedContext ends while its call is answered: who waits for its end waits for end to be closed first, and finds that both have come.
type endedContext struct {
	context.Context

	end, ended chan struct{}
}

func newEndedContext(ctx context.Context) endedContext {
	ended := make(chan struct{})
	close(ended)
	return endedContext{ctx, make(chan struct{}), ended}
}

func (c endedContext) Done() <-chan struct{} {
	<-c.end
	return c.ended
}

func (c endedContext) Err() error {
	select {
	case <-c.end:
		return context.Canceled
	default:
		return nil
	}
}

// TestJoinOfACallerThatLeftWithTheAnswer: nobody hears it, so the member goes.
func TestJoinOfACallerThatLeftWithTheAnswer(t *testing.T) {
	for range 20 { // of the two that have come either may be seen first
		synctest.Test(t, func(t *testing.T) {
			w := newGroupWorld(t, "a")
			w.topic("orders", 1)
			ctx, left := newEndedContext(t.Context()), make(chan error, 1)
			go func() {
				_, err := w.nodes["a"].groups.Join(ctx, "g", subscriber("app", nil, "orders"))
				left <- err
			}()
			synctest.Wait()
			close(ctx.end)
			wantReason(t, <-left, ReasonCanceled)
			synctest.Wait()
			if members := membersOfG(t, w); len(members) != 0 {
				t.Errorf("members %+v, and nobody knows them", members)
			}
		})
	}
}

// TestAnswerThatCameWithTheEndCounts: who leaves is told that it has left, though its time was up.
func TestAnswerThatCameWithTheEndCounts(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			w := newGroupWorld(t, "a")
			w.topic("orders", 1)
			n := w.nodes["a"]
			m := w.join(n, "g", subscriber("app", nil, "orders"))
			ctx, left := newEndedContext(t.Context()), make(chan error, 1)
			go func() {
				_, err := n.groups.Leave(ctx, "g", []group.LeavingMember{{MemberID: m.MemberID}})
				left <- err
			}()
			synctest.Wait()
			close(ctx.end)
			if err := <-left; err != nil {
				t.Errorf("it has left: %v", err)
			}
		})
	}
}

// TestInstanceStaysWhenItsCallerLeaves: it comes back under its name, and nobody else takes its partitions meanwhile.
func TestInstanceStaysWhenItsCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		w.topic("orders", 1)
		join := subscriber("app", nil, "orders")
		join.InstanceID = "one"
		wantReason(t, leavingJoin(t, w, join), ReasonCanceled)
		if members := membersOfG(t, w); len(members) != 1 || members[0].InstanceID != "one" {
			t.Errorf("members %+v", members)
		}
	})
}

// TestIDOfACallerThatLeftHoldsNobodyUp gives an id out (MEMBER_ID_REQUIRED) to a caller that is gone: the rebalance of the others does not wait for it.
func TestIDOfACallerThatLeftHoldsNobodyUp(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			w := newGroupWorld(t, "a")
			w.topic("orders", 1)
			n := w.nodes["a"]
			first := w.join(n, "g", subscriber("app", nil, "orders"))
			join := subscriber("app", nil, "orders")
			join.RequireKnownMemberID = true
			ctx, left := newEndedContext(t.Context()), make(chan error, 1)
			go func() {
				_, err := n.groups.Join(ctx, "g", join)
				left <- err
			}()
			synctest.Wait()
			close(ctx.end)
			wantReason(t, <-left, ReasonCanceled)
			again := subscriber("app", first.Assigned, "orders", "more")
			again.MemberID = first.MemberID
			begin := time.Now() //nolint:forbidigo // a fake clock
			w.join(n, "g", again)
			if took := time.Since(begin); took > 0 { //nolint:forbidigo // a fake clock
				t.Errorf("the group waited %v for an id that nobody knows", took)
			}
		})
	}
}
