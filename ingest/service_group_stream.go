package ingest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// Limits of one group stream.
const (
	// groupStreamQueue is how many messages of the client, and how many to it besides records, wait.
	groupStreamQueue = 16
	// groupFetchBytes is divided among the topics of a member; each gets leastGroupFetchBytes.
	groupFetchBytes      = 4 << 20
	leastGroupFetchBytes = 64 << 10
	// longestBeat bounds how long a member does not hear of a rebalance.
	longestBeat = 400 * time.Millisecond
	// endPatience is how long a client that does not read may hold up the end of its stream.
	endPatience = time.Second
	// leavePatience bounds the goodbye of a member whose stream has ended.
	leavePatience = 2 * time.Second
)

// groupMessages is the stream as groupStream uses it.
type groupMessages interface {
	Receive() (*tidemarkv1.GroupServiceConsumeRequest, error)
	Send(message *tidemarkv1.GroupServiceConsumeResponse) error
}

// groupStream is one Consume call: a member of a group on behalf of a client, wherever the coordinator is.
//
//	receive ──► events (16) ──► commit ──► coordinator            one commit after the other, in order
//	                              │  └───────────────► outbox (16) ──┐
//	                              └ GroupRevoked ──► member          ├──► send (the handler's goroutine)
//	member: join, heartbeat, revoke ─────────────────► outbox (16) ──┤
//	fetch: one a topic, from whoever leads ──────────► records (0) ──┘
//
// Only send writes to the connection, and waits while the client does not read; then everything behind it waits, and what it
// costs is one piece for each topic and the messages in the queues. A partition is stopped before its revocation goes into the outbox, and
// send drops pieces of stopped partitions after it has emptied the outbox; so no record follows the revocation of its partition, and
// none comes before its assignment.
//
// A client that sends nothing for the session timeout is gone: the stream ends, whatever blocks it. When the stream has ended the member
// leaves, but for one with an instance id, which may come back within its session.
type groupStream struct {
	service *groupService
	join    *tidemarkv1.JoinRequest
	fromEnd bool
	session time.Duration
	// rebalance is how long the client may take to give partitions up.
	rebalance time.Duration
	settle    func() // a message was received whole

	cancel  context.CancelCauseFunc
	events  chan *tidemarkv1.GroupServiceConsumeRequest
	outbox  chan *tidemarkv1.GroupServiceConsumeResponse
	records chan groupPiece
	revoked chan struct{} // the client has answered the revocation; room for one

	fetchers  sync.WaitGroup
	stopFetch context.CancelFunc

	mu         sync.Mutex
	heard      time.Time
	busy       bool // a message of the client waits for us
	memberID   string
	generation int32
	partitions map[group.TopicPartition]*memberPartition
	changed    chan struct{} // closed and replaced when membership changes
	revoking   bool          // a revocation of this generation waits for its answer
}

// memberPartition is a partition from when the member got it until it loses it.
type memberPartition struct {
	at      group.TopicPartition
	topic   meta.TopicID
	next    int64 // -1: to be resolved
	stopped bool  // no record of it goes out any more
}

// groupPiece is a piece of a partition on its way to the client.
type groupPiece struct {
	partition *memberPartition
	message   *tidemarkv1.GroupServiceConsumeResponse
}

// errGroupStreamDone ends a stream whose client has closed its side, after its commits were answered.
var errGroupStreamDone = errors.New("the client has closed its side")

type streamControlKey struct{}

// withStreamControl lets a stream set deadlines of its connection.
func withStreamControl(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), streamControlKey{}, http.NewResponseController(w))))
	})
}

// Consume serves one member.
func (s *groupService) Consume(ctx context.Context, stream *connect.BidiStream[tidemarkv1.GroupServiceConsumeRequest, tidemarkv1.GroupServiceConsumeResponse]) error {
	settle := func() {}
	if body := bodyOf(ctx); body != nil {
		settle = body.settle
	}
	err := s.consume(ctx, stream, settle)
	if errors.Is(err, errGroupStreamDone) {
		return nil
	}
	return ConnectError(err)
}

func (s *groupService) consume(ctx context.Context, messages groupMessages, settle func()) error {
	ctx, cancel, done := s.untilClosing(ctx)
	defer done()
	control, _ := ctx.Value(streamControlKey{}).(*http.ResponseController)
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		if control == nil {
			return
		}
		// Only a writer without a connection refuses deadlines, and such a one ends with its request.
		_ = control.SetReadDeadline(time.Unix(1, 0))
		_ = control.SetWriteDeadline(s.Clock.Now().Add(endPatience))
	})
	defer func() {
		if !stop() {
			<-interrupted // the connection must not be touched after the handler
		}
	}()
	first, err := messages.Receive()
	if err != nil {
		return closingOr(ctx, err)
	}
	settle()
	open := first.GetOpen()
	if open.GetJoin() == nil {
		return Errorf(ReasonInvalidRequest, "the first message of the stream is an open with a join")
	}
	if len(open.GetJoin().GetOwned()) > 0 {
		return Errorf(ReasonInvalidRequest, "a stream begins without partitions")
	}
	if refused := checkGroupName(open.GetJoin().GetGroup()); refused != nil {
		return refused
	}
	join, refused := joinRequest(open.GetJoin())
	if refused != nil {
		return refused
	}
	st := &groupStream{
		service: s, join: open.GetJoin(), fromEnd: open.GetFromEnd(), session: join.SessionTimeout, rebalance: join.RebalanceTimeout,
		settle: settle, cancel: cancel,
		events: make(chan *tidemarkv1.GroupServiceConsumeRequest, groupStreamQueue), outbox: make(chan *tidemarkv1.GroupServiceConsumeResponse, groupStreamQueue),
		records: make(chan groupPiece), revoked: make(chan struct{}, 1), stopFetch: func() {},
		heard: s.Clock.Now(), memberID: open.GetJoin().GetMemberId(), generation: -1,
		partitions: make(map[group.TopicPartition]*memberPartition), changed: make(chan struct{}),
	}
	return st.run(ctx, messages)
}

// run serves until the client or the member is gone, or the process stops. It returns after everything it started has ended.
func (st *groupStream) run(ctx context.Context, messages groupMessages) error {
	var work sync.WaitGroup
	work.Go(func() { st.receive(ctx, messages) })
	work.Go(func() { st.commits(ctx) })
	work.Go(func() { st.watchClient(ctx) })
	work.Go(func() { st.cancel(st.member(ctx)) })
	err := st.send(ctx, messages)
	st.cancel(err)
	work.Wait()
	st.leave(ctx, err)
	return err
}

// receive takes the client's messages.
func (st *groupStream) receive(ctx context.Context, messages groupMessages) {
	defer close(st.events)
	for {
		message, err := messages.Receive()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				st.cancel(err)
			}
			return
		}
		st.settle()
		st.hear(true)
		switch event := message.GetEvent().(type) {
		case *tidemarkv1.GroupServiceConsumeRequest_Ping:
		case *tidemarkv1.GroupServiceConsumeRequest_Commit, *tidemarkv1.GroupServiceConsumeRequest_Revoked:
			select {
			case st.events <- message:
			case <-ctx.Done():
				return
			}
		default:
			st.cancel(Errorf(ReasonInvalidRequest, "a message of the stream, after the first, is a commit, a revoked or a ping, not %T", event))
			return
		}
		st.hear(false)
	}
}

// hear notes a sign of life. Busy says that the next one cannot come, because this one is being taken.
func (st *groupStream) hear(busy bool) {
	now := st.service.Clock.Now()
	st.mu.Lock()
	st.heard, st.busy = now, busy
	st.mu.Unlock()
}

// watchClient ends the stream of a client that is silent for the session timeout.
func (st *groupStream) watchClient(ctx context.Context) {
	for {
		st.mu.Lock()
		silent := st.service.Clock.Now().Sub(st.heard)
		if st.busy {
			silent = 0
		}
		st.mu.Unlock()
		if silent >= st.session {
			st.cancel(Errorf(ReasonUnknownMemberID,
				"the client has sent nothing for its session timeout of %v, and is not a member any more: send a ping at least three times in that time", st.session))
			return
		}
		if !pause(ctx, st.service.Clock, st.session-silent) {
			return
		}
	}
}

// send writes to the client, and is the only one that does.
func (st *groupStream) send(ctx context.Context, messages groupMessages) error {
	for {
		if err := st.empty(messages); err != nil {
			return err
		}
		select {
		case m := <-st.outbox:
			if err := messages.Send(m); err != nil {
				return err
			}
		case p := <-st.records:
			// What was in the outbox before this piece was read goes first.
			if err := st.empty(messages); err != nil {
				return err
			}
			if st.isStopped(p.partition) {
				continue
			}
			if err := messages.Send(p.message); err != nil {
				return closingOr(ctx, err)
			}
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errGroupStreamDone) {
				if err := st.empty(messages); err != nil {
					return err
				}
			}
			return context.Cause(ctx)
		}
	}
}

// empty sends what is in the outbox now.
func (st *groupStream) empty(messages groupMessages) error {
	for {
		select {
		case m := <-st.outbox:
			if err := messages.Send(m); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

func (st *groupStream) isStopped(p *memberPartition) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return p.stopped
}

// put hands a message to send; false when the stream has ended.
func (st *groupStream) put(ctx context.Context, m *tidemarkv1.GroupServiceConsumeResponse) bool {
	select {
	case st.outbox <- m:
		return true
	case <-ctx.Done():
		return false
	}
}

// commits stores the client's commits one after the other, and passes on in their order what it has given up.
func (st *groupStream) commits(ctx context.Context) {
	for event := range st.events {
		if ctx.Err() != nil {
			continue // until receive has ended
		}
		if revoked := event.GetRevoked(); revoked != nil {
			if st.asked(revoked.GetGeneration()) {
				st.revoked <- struct{}{}
			}
			continue
		}
		commit := event.GetCommit()
		st.put(ctx, &tidemarkv1.GroupServiceConsumeResponse{Event: &tidemarkv1.GroupServiceConsumeResponse_Committed{Committed: &tidemarkv1.GroupCommitted{
			Correlation: commit.GetCorrelation(), Errors: st.commit(ctx, commit.GetOffsets()),
		}}})
	}
	if ctx.Err() == nil {
		st.cancel(errGroupStreamDone)
	}
}

// asked tells whether the client was asked to give partitions up in a generation, and has not answered yet. What answers nothing counts for nothing.
func (st *groupStream) asked(generation int32) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.revoking || generation != st.generation {
		return false
	}
	st.revoking = false
	return true
}

// commit stores offsets of partitions that the member has. When a rebalance gets between, it goes on with the member's next generation: what
// the member still has nobody else reads.
func (st *groupStream) commit(ctx context.Context, offsets []*tidemarkv1.OffsetCommit) []*tidemarkv1.CommitError {
	until := st.service.Clock.Now().Add(st.rebalance)
	for {
		m, changed, mine, refused := st.split(offsets)
		if len(mine) == 0 {
			return refused
		}
		out, err := st.service.commit(ctx, &tidemarkv1.CommitRequest{Member: m, Offsets: mine})
		if err == nil {
			return append(refused, out.GetErrors()...)
		}
		e := AsError(err)
		switch e.Reason {
		case ReasonIllegalGeneration, ReasonRebalanceInProgress, ReasonUnknownMemberID, ReasonNotCoordinator, ReasonUnavailable, ReasonShuttingDown,
			ReasonTimeout, ReasonBackPressure:
			if st.service.Clock.Now().Before(until) && st.await(ctx, changed, 100*time.Millisecond) {
				continue
			}
		default:
		}
		for _, o := range mine {
			refused = append(refused, commitError(o, e))
		}
		return refused
	}
}

// split tells what of a commit the member may store, and under which name.
func (st *groupStream) split(offsets []*tidemarkv1.OffsetCommit) (m *tidemarkv1.Membership, changed <-chan struct{}, mine []*tidemarkv1.OffsetCommit, refused []*tidemarkv1.CommitError) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, o := range offsets {
		if p := st.partitions[group.TopicPartition{Topic: o.GetTopic(), Partition: o.GetPartition()}]; p != nil {
			if o.GetTopicId() == "" { // it is about what this member read, whatever the name means by now
				o.TopicId = p.topic.String()
			}
			mine = append(mine, o)
			continue
		}
		refused = append(refused, commitError(o, Errorf(ReasonIllegalGeneration, "topic %q, partition %d is not this member's (any more)", o.GetTopic(), o.GetPartition())))
	}
	return st.membership(), st.changed, mine, refused
}

// membership names the member. Called with mu.
func (st *groupStream) membership() *tidemarkv1.Membership {
	return &tidemarkv1.Membership{
		Group: st.join.GetGroup(), MemberId: st.memberID, InstanceId: st.join.GetInstanceId(), Generation: st.generation,
	}
}

// await waits for a change of membership, at most for so long; false when the stream has ended.
func (st *groupStream) await(ctx context.Context, changed <-chan struct{}, most time.Duration) bool {
	timer := st.service.Clock.NewTimer(most)
	defer timer.Stop()
	select {
	case <-changed:
		return true
	case <-timer.C():
		return true
	case <-ctx.Done():
		return false
	}
}

// leave takes the member out when its stream has ended.
func (st *groupStream) leave(ctx context.Context, cause error) {
	st.mu.Lock()
	m := st.membership()
	st.mu.Unlock()
	if m.GetMemberId() == "" || m.GetInstanceId() != "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leavePatience)
	defer cancel()
	if _, err := st.service.leave(ctx, &tidemarkv1.LeaveRequest{Member: m}); err != nil && ReasonOf(err) != ReasonUnknownMemberID {
		st.service.Logger.DebugContext(ctx, "a member could not leave; its session will end", "group", m.GetGroup(), "member", m.GetMemberId(), "cause", err, "ended", cause)
	}
}
