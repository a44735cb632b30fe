package ingest

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// Limits of one group stream.
const (
	// groupStreamQueue is how many messages of the client wait; groupOutbox how many to it, besides records.
	groupStreamQueue = 16
	groupOutbox      = 1
	// freeGroupMessage is how large a message to the client may be that takes no room.
	freeGroupMessage = 4 << 10
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
//	                              │  └───────────────► outbox (1) ───┐
//	                              └ GroupRevoked ──► member          ├──► send (the handler's goroutine)
//	member: join, heartbeat, revoke ─────────────────► outbox (1) ───┤
//	fetch: one a topic, from whoever leads ──────────► records (0) ──┘
//
// Only send writes to the connection, and waits while the client does not read; then everything behind it waits. What that costs is bounded over
// all streams: records and large messages to the client take room as those of other streams do (sendRoom), the client's large messages are
// held like large calls (groupService.hold), and of small ones a stream holds 64 KiB. So a client that does not read is ended when others need the
// room, however often it pings. A partition is stopped before its revocation goes into the outbox, and
// send drops pieces of stopped partitions after it has emptied the outbox; so no record follows the revocation of its partition, and
// none comes before its assignment.
//
// A client that sends nothing for the session timeout is gone: the stream ends, whatever blocks it. A message that waits for us is a sign of life, but
// for one session timeout more and no longer. When the stream has ended the member
// leaves, but for one with an instance id, which may come back within its session.
type groupStream struct {
	service *groupService
	join    *tidemarkv1.JoinRequest
	fromEnd bool
	session time.Duration
	// rebalance is how long the client may take to give partitions up.
	rebalance time.Duration
	settle    func() // a message was received whole

	room   *sendRoom
	reader *sendReader

	cancel  context.CancelCauseFunc
	events  chan groupEvent
	outbox  chan groupMessage
	records chan groupPiece
	revoked chan struct{} // the client has answered the revocation; room for one

	fetchers  sync.WaitGroup
	stopFetch context.CancelFunc

	mu         sync.Mutex
	heard      time.Time
	busy       bool // a message of the client waits for us
	small      int  // bytes of small messages of the client that are not answered
	memberID   string
	generation int32
	partitions map[group.TopicPartition]*memberPartition
	changed    chan struct{}          // closed and replaced when membership changes
	revoking   bool                   // a revocation of this generation waits for its answer
	lost       []group.TopicPartition // taken away without a revocation; the client has not been told
}

// groupEvent is a message of the client from when it was received until it is answered.
type groupEvent struct {
	message *tidemarkv1.GroupServiceConsumeRequest
	read    []*memberPartition // of each offset of a commit, what the member had when it came; nil: nothing
	done    func()             // gives back what it holds
}

// groupMessage is a message to the client with the room that it takes.
type groupMessage struct {
	message *tidemarkv1.GroupServiceConsumeResponse
	share   *sendShare
}

// memberPartition is a partition from when the member got it until it loses it.
type memberPartition struct {
	at      group.TopicPartition
	topic   meta.TopicID
	since   int32 // the generation in which the member got it
	next    int64 // -1: to be resolved
	stopped bool  // no record of it goes out any more
}

// groupPiece is a piece of a partition on its way to the client.
type groupPiece struct {
	partition *memberPartition
	groupMessage
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
	ctx, cancel, done := untilClosing(ctx, s.Closing)
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
	if refused := checkGroupRequest(open.GetJoin()); refused != nil {
		return refused
	}
	join, refused := joinRequest(open.GetJoin())
	if refused != nil {
		return refused
	}
	reader := &sendReader{evict: evictor(ctx)}
	_, size := groupRequestSize(open.GetJoin())
	share, refused := s.hold(reader, size)
	if refused != nil {
		return refused
	}
	defer share.give()
	settle()
	room := cmp.Or(sendRoomOf(ctx), s.sent)
	st := &groupStream{
		service: s, join: open.GetJoin(), fromEnd: open.GetFromEnd(), session: join.SessionTimeout, rebalance: join.RebalanceTimeout,
		settle: settle, cancel: cancel, room: room, reader: reader,
		events: make(chan groupEvent, groupStreamQueue), outbox: make(chan groupMessage, groupOutbox),
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
	close(st.outbox)
	for m := range st.outbox {
		m.share.give()
	}
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
		st.hear(true)
		event := groupEvent{message: message, done: func() {}}
		switch m := message.GetEvent().(type) {
		case *tidemarkv1.GroupServiceConsumeRequest_Ping:
			st.settle()
			st.hear(false)
			continue
		case *tidemarkv1.GroupServiceConsumeRequest_Revoked:
		case *tidemarkv1.GroupServiceConsumeRequest_Commit:
			var refused *Error
			if event, refused = st.take(message); refused != nil {
				st.cancel(refused)
				return
			}
		default:
			st.cancel(Errorf(ReasonInvalidRequest, "a message of the stream, after the first, is a commit, a revoked or a ping, not %T", m))
			return
		}
		st.settle()
		select {
		case st.events <- event:
		case <-ctx.Done():
			event.done()
			return
		}
		st.hear(false)
	}
}

// take makes an event of a commit, which holds what it takes until it is done.
func (st *groupStream) take(message *tidemarkv1.GroupServiceConsumeRequest) (groupEvent, *Error) {
	commit := message.GetCommit()
	if refused := checkGroupRequest(commit); refused != nil {
		return groupEvent{}, refused
	}
	_, bytes := groupRequestSize(commit)
	event := groupEvent{message: message, read: make([]*memberPartition, len(commit.GetOffsets()))}
	st.mu.Lock()
	for n, o := range commit.GetOffsets() {
		p := st.partitions[group.TopicPartition{Topic: o.GetTopic(), Partition: o.GetPartition()}]
		if p != nil && (commit.GetGeneration() == 0 || p.since <= commit.GetGeneration()) {
			event.read[n] = p
		}
	}
	size := int(bytes)
	free := st.small+size <= freeGroupRequest
	if free {
		st.small += size
	}
	st.mu.Unlock()
	if free {
		event.done = func() {
			st.mu.Lock()
			st.small -= size
			st.mu.Unlock()
		}
		return event, nil
	}
	share, refused := st.service.hold(st.reader, max(bytes, freeGroupRequest+1))
	event.done = share.give
	return event, refused
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
		silent, busy := st.service.Clock.Now().Sub(st.heard), st.busy
		st.mu.Unlock()
		allowed := st.session
		if busy {
			allowed *= 2
		}
		if silent >= allowed {
			st.cancel(Errorf(ReasonUnknownMemberID,
				"the client has sent nothing for its session timeout of %v, or what it sent could not be taken for longer, and is not a member any more: "+
					"send a ping at least three times in that time, and read the answers to commits", st.session))
			return
		}
		if !pause(ctx, st.service.Clock, min(allowed-silent, st.session)) {
			return
		}
	}
}

// send writes to the client, and is the only one that does.
func (st *groupStream) send(ctx context.Context, messages groupMessages) error {
	for {
		if err := st.empty(messages); err != nil {
			return st.why(ctx, err)
		}
		select {
		case m := <-st.outbox:
			if err := st.write(messages, m); err != nil {
				return st.why(ctx, err)
			}
		case p := <-st.records:
			if err := st.sendPiece(messages, p); err != nil {
				return st.why(ctx, err)
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

// why is what ended the stream, when a message could not be sent: the end interrupts what is being sent.
func (st *groupStream) why(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// sendPiece sends a piece of a partition that is not stopped. What was in the outbox before the piece was read goes first.
func (st *groupStream) sendPiece(messages groupMessages, p groupPiece) error {
	if err := st.empty(messages); err != nil {
		p.share.give()
		return err
	}
	if st.isStopped(p.partition) {
		p.share.give()
		return nil
	}
	return st.write(messages, p.groupMessage)
}

// empty sends what is in the outbox now.
func (st *groupStream) empty(messages groupMessages) error {
	for {
		select {
		case m := <-st.outbox:
			if err := st.write(messages, m); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// write writes one message and gives its room back.
func (st *groupStream) write(messages groupMessages, m groupMessage) error {
	defer m.share.give()
	st.reader.begin(st.service.Clock.Now())
	defer st.reader.rest()
	err := messages.Send(m.message)
	if err != nil && st.reader.ended.Load() {
		return Errorf(ReasonBackPressure, "the client has not read for %v, and others wait for the room of what it was sent: read, and open another stream: %w", sendPatience, err)
	}
	return err
}

func (st *groupStream) isStopped(p *memberPartition) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return p.stopped
}

// put hands a message to send; false when the stream has ended. A large one waits for room.
func (st *groupStream) put(ctx context.Context, m *tidemarkv1.GroupServiceConsumeResponse) bool {
	out := groupMessage{message: m}
	if size := int64(proto.Size(m)); size > freeGroupMessage {
		var err error
		if out.share, err = st.room.takeFor(ctx, st.reader, 3*size); err != nil { // the message, and its encoded form
			return false
		}
	}
	select {
	case st.outbox <- out:
		return true
	case <-ctx.Done():
		out.share.give()
		return false
	}
}

// offer is put for who does not wait; false also when something else waits.
func (st *groupStream) offer(m *tidemarkv1.GroupServiceConsumeResponse) bool {
	share := st.room.tryFor(st.reader, 3*int64(proto.Size(m)))
	if share == nil {
		return false
	}
	select {
	case st.outbox <- groupMessage{message: m, share: share}:
		return true
	default:
		share.give()
		return false
	}
}

// commits stores the client's commits one after the other, and passes on in their order what it has given up.
func (st *groupStream) commits(ctx context.Context) {
	for event := range st.events {
		if ctx.Err() == nil { // else until receive has ended
			st.handle(ctx, event)
		}
		event.done()
	}
	if ctx.Err() == nil {
		st.cancel(errGroupStreamDone)
	}
}

func (st *groupStream) handle(ctx context.Context, event groupEvent) {
	if revoked := event.message.GetRevoked(); revoked != nil {
		if st.asked(revoked.GetGeneration()) {
			st.revoked <- struct{}{}
		}
		return
	}
	commit := event.message.GetCommit()
	st.put(ctx, &tidemarkv1.GroupServiceConsumeResponse{Event: &tidemarkv1.GroupServiceConsumeResponse_Committed{Committed: &tidemarkv1.GroupCommitted{
		Correlation: commit.GetCorrelation(), Errors: st.commit(ctx, commit.GetOffsets(), event.read),
	}}})
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

// commit stores offsets of partitions that the member has, and has had since it read them. When a rebalance gets between, it goes on with the member's
// next generation: what the member still has nobody else reads. What it has lost and got again others may have read meanwhile.
func (st *groupStream) commit(ctx context.Context, offsets []*tidemarkv1.OffsetCommit, read []*memberPartition) []*tidemarkv1.CommitError {
	until := st.service.Clock.Now().Add(st.rebalance)
	for {
		m, changed, mine, refused := st.split(offsets, read)
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
func (st *groupStream) split(offsets []*tidemarkv1.OffsetCommit, read []*memberPartition) (
	m *tidemarkv1.Membership, changed <-chan struct{}, mine []*tidemarkv1.OffsetCommit, refused []*tidemarkv1.CommitError,
) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for n, o := range offsets {
		if p := read[n]; p != nil && st.partitions[p.at] == p {
			if o.GetTopicId() == "" { // it is about what this member read, whatever the name means by now
				o.TopicId = p.topic.String()
			}
			mine = append(mine, o)
			continue
		}
		refused = append(refused, commitError(o, Errorf(ReasonIllegalGeneration, "topic %q, partition %d is not this member's, or it was lost since it was read", o.GetTopic(), o.GetPartition())))
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
