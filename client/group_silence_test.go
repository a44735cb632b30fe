package client

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

// scriptedGroups gives one partition with the first join, says to join again 100 ms later, and then does as the test says.
type scriptedGroups struct {
	tidemarkv1connect.GroupServiceClient
	begin time.Time
	// again answers the joins after the first, beat the heartbeats while one of them waits.
	again func(ctx context.Context) (*tidemarkv1.JoinResponse, error)
	beat  func(ctx context.Context) (*tidemarkv1.HeartbeatResponse, error)

	mu      sync.Mutex
	joins   []time.Duration
	waiting bool
}

func (s *scriptedGroups) Join(ctx context.Context, r *tidemarkv1.JoinRequest) (*tidemarkv1.JoinResponse, error) {
	s.mu.Lock()
	s.joins = append(s.joins, time.Since(s.begin)) //nolint:forbidigo // a fake clock
	first := len(s.joins) == 1
	s.waiting = !first
	s.mu.Unlock()
	if !first && s.again != nil {
		return s.again(ctx)
	}
	return &tidemarkv1.JoinResponse{MemberId: "m", Generation: 1, Assigned: []*tidemarkv1.AssignedPartition{{Topic: "orders", TopicId: "id", Committed: 0}}}, nil
}

func (s *scriptedGroups) Heartbeat(ctx context.Context, _ *tidemarkv1.HeartbeatRequest) (*tidemarkv1.HeartbeatResponse, error) {
	s.mu.Lock()
	waiting := s.waiting
	s.mu.Unlock()
	if waiting && s.beat != nil {
		return s.beat(ctx)
	}
	return &tidemarkv1.HeartbeatResponse{Rejoin: time.Since(s.begin) > 100*time.Millisecond}, nil //nolint:forbidigo // a fake clock
}

func silent[T any](ctx context.Context) (*T, error) {
	<-ctx.Done()
	return nil, connect.NewError(connect.CodeDeadlineExceeded, ctx.Err())
}

// scripted starts the membership of a consumer whose application has taken what it was given.
func scripted(t *testing.T, s *scriptedGroups, cfg GroupConfig) *GroupConsumer {
	t.Helper()
	c, err := New(Config{DisableDirect: true})
	if err != nil {
		t.Fatal(err)
	}
	s.begin = time.Now() //nolint:forbidigo // a fake clock
	c.known.configured[0].group = s
	cfg.AutoCommit = -1
	g, err := c.NewGroupConsumer("g", []string{"orders"}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	g.loops.Go(g.keep)
	t.Cleanup(func() {
		g.cancel()
		g.loops.Wait()
		c.Close()
	})
	synctest.Wait()
	g.mu.Lock()
	g.held[logKey{"orders", 0}] = &holding{topicID: "id"}
	g.mu.Unlock()
	return g
}

// keptFor is how long the application keeps its partition, at most for so long.
func keptFor(g *GroupConsumer, most time.Duration) time.Duration {
	begin := time.Now()            //nolint:forbidigo // a fake clock
	for time.Since(begin) < most { //nolint:forbidigo // a fake clock
		time.Sleep(100 * time.Millisecond) //nolint:forbidigo // a fake clock
		g.mu.Lock()
		h := g.held[logKey{"orders", 0}]
		g.mu.Unlock()
		if h == nil {
			break
		}
	}
	return time.Since(begin) //nolint:forbidigo // a fake clock
}

// A member that was told to join again, and hears nothing from then on, gives its partitions up after its session: others have them by then.
func TestGroupJoinIsNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scriptedGroups{again: silent[tidemarkv1.JoinResponse], beat: silent[tidemarkv1.HeartbeatResponse]}
		g := scripted(t, s, GroupConfig{SessionTimeout: 6 * time.Second})
		if kept := keptFor(g, time.Hour); kept < 6*time.Second || kept > 8500*time.Millisecond {
			t.Errorf("the partitions were kept for %v; the session is 6 s, and the first heartbeat after 2 s was answered", kept)
		}
	})
}

// A member whose join waits for slow others is one as long as its heartbeats are answered, and no longer.
func TestGroupJoinWaitsForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *scriptedGroups
		s = &scriptedGroups{again: silent[tidemarkv1.JoinResponse], beat: func(context.Context) (*tidemarkv1.HeartbeatResponse, error) {
			if time.Since(s.begin) > 40*time.Second { //nolint:forbidigo // a fake clock
				return nil, unknownMember()
			}
			return &tidemarkv1.HeartbeatResponse{Rejoin: true}, nil
		}}
		g := scripted(t, s, GroupConfig{SessionTimeout: 6 * time.Second})
		if kept := keptFor(g, time.Hour); kept < 40*time.Second || kept > 43*time.Second {
			t.Errorf("the partitions were kept for %v; the coordinator knew the member for 40 s", kept)
		}
	})
}

func unknownMember() error {
	return &Error{Code: connect.CodeFailedPrecondition, Reason: ReasonUnknownMember}
}

// A member of a group with short rebalances hears of one in time to join it.
func TestGroupShortRebalance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scriptedGroups{}
		g := scripted(t, s, GroupConfig{Strategy: Range, RebalanceTimeout: 2 * time.Second})
		g.mu.Lock()
		g.held = map[logKey]*holding{}
		g.mu.Unlock()
		time.Sleep(10 * time.Second) //nolint:forbidigo // a fake clock
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.joins) < 2 || s.joins[1] > time.Second {
			t.Errorf("a rebalance that begins at 0.1 s and waits for 2 s is joined at %v", s.joins)
		}
	})
}

// untold is a consumer whose loops do not run.
func untold(t *testing.T) *GroupConsumer {
	t.Helper()
	c, err := New(Config{DisableDirect: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	g, err := c.NewGroupConsumer("g", []string{"orders"}, GroupConfig{AutoCommit: -1, RebalanceTimeout: 4})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// A topic is made anew, and the application takes the new one in time: it is not taken away again.
func TestGroupTopicMadeAnewIsKept(t *testing.T) {
	g := untold(t)
	key := logKey{"orders", 0}
	g.held[key] = &holding{topicID: "old"}
	g.target[key] = assignment{topicID: "new", committed: 7}
	g.mu.Lock()
	wait := g.those(g.surplus())
	g.mu.Unlock()
	g.reconcile()
	if h := g.held[key]; h == nil || h.topicID != "new" {
		t.Fatal("the new one is not taken")
	}
	g.awaitRelease(wait)
	if g.held[key] == nil || len(g.lost) > 0 {
		t.Errorf("the new one is lost: %v", g.lost)
	}
}

// The same when it does not take it in time: the old one is lost, and the new one comes.
func TestGroupTopicMadeAnewIsTakenLate(t *testing.T) {
	g := untold(t)
	key := logKey{"orders", 0}
	g.held[key] = &holding{topicID: "old"}
	g.target[key] = assignment{topicID: "new", committed: 7}
	g.awaitRelease(g.those([]logKey{key}))
	if g.held[key] != nil || len(g.lost) != 1 {
		t.Errorf("held %v, lost %v", g.held, g.lost)
	}
	g.reconcile()
	if h := g.held[key]; h == nil || h.topicID != "new" || h.committed != 7 {
		t.Errorf("the new one is not taken: %+v", h)
	}
}

// A commit that was refused says nothing about an earlier one without an answer: the group may be there already, and is not told to go back.
func TestGroupRefusalAfterACommitInDoubt(t *testing.T) {
	g := untold(t)
	key := logKey{"orders", 0}
	h := &holding{topicID: "id", committed: 10, sent: 10, before: 10}
	g.held[key], g.target[key] = h, assignment{topicID: "id"}
	send := func(offset int64) *tidemarkv1.CommitRequest {
		return g.commitRequest(map[logKey]offsetAt{key: {offset, -1}}, map[logKey]*Error{})
	}
	refuse := func(r *tidemarkv1.CommitRequest) {
		g.committed(r, &tidemarkv1.CommitResponse{Errors: []*tidemarkv1.CommitError{{Topic: "orders", Reason: "BACK_PRESSURE"}}}, map[logKey]*Error{})
	}
	refuse(send(80))
	if got := send(50).GetOffsets()[0]; got.GetOffset() != 50 || got.GetTopicId() != "id" {
		t.Errorf("after a refusal alone %v is sent", got)
	}
	send(100) // the answer is lost
	refuse(send(100))
	if got := send(60).GetOffsets()[0].GetOffset(); got != 100 {
		t.Errorf("the group may be at 100 and is told to go to %d", got)
	}
	// An answer about a topic that is gone counts for nothing.
	late := send(100)
	g.held[key], g.target[key] = &holding{topicID: "new", committed: -1, sent: -1, before: -1}, assignment{topicID: "new"}
	g.committed(late, &tidemarkv1.CommitResponse{}, map[logKey]*Error{})
	if got := g.held[key].committed; got != -1 {
		t.Errorf("the new topic counts as committed up to %d", got)
	}
}
