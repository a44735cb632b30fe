package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// directWorld is one node whose group streams are called without a network, so that time passes as fast as it may.
type directWorld struct {
	*groupWorld
	log     *fakeGroupLog
	service *groupService
	room    *sendRoom
	streams sync.WaitGroup
}

func inDirectWorld(t *testing.T, room int64, story func(w *directWorld)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &directWorld{groupWorld: newGroupWorld(t, "a"), room: newSendRoom(room, clock.System())}
		w.log = &fakeGroupLog{world: w.groupWorld, partitions: make(map[group.TopicPartition]*fakeGroupPartition), changed: make(chan struct{})}
		w.service = newGroupService(GroupServiceConfig{Groups: w.nodes["a"].groups, Log: w.log, Clock: clock.System(), Logger: slog.New(slog.DiscardHandler), Closing: make(chan struct{})})
		story(w)
		w.streams.Wait()
		for name, room := range map[string]*sendRoom{"send": w.room, "held": w.service.held} {
			if len(room.taken) != 0 || !room.free.TryAcquire(room.limit) {
				t.Errorf("after the last stream the %s room is not all free", name)
			}
		}
	})
}

func (w *directWorld) after(d time.Duration) { <-clock.System().NewTimer(d).C() }

// directStream is a stream as a client sees it that may refuse to read. It is a groupMessages and the writer that deadlines are set on.
type directStream struct {
	http.ResponseWriter
	ctx   context.Context //nolint:containedctx // of the call
	stop  context.CancelFunc
	sends func() *tidemarkv1.GroupServiceConsumeRequest // what the client sends next; it may block; nil: it goes
	reads bool
	late  chan struct{} // closed when the write deadline has passed
	once  sync.Once
	ended chan error

	mu     sync.Mutex
	events []*tidemarkv1.GroupServiceConsumeResponse
	bytes  int
}

func (d *directStream) SetReadDeadline(time.Time) error { d.stop(); return nil } // which the stream sets to interrupt what reads

func (d *directStream) SetWriteDeadline(at time.Time) error {
	time.AfterFunc(time.Until(at), func() { d.once.Do(func() { close(d.late) }) }) //nolint:forbidigo // as a connection does
	return nil
}

func (d *directStream) Receive() (*tidemarkv1.GroupServiceConsumeRequest, error) {
	if err := d.ctx.Err(); err != nil {
		return nil, err
	}
	if m := d.sends(); m != nil {
		return m, nil
	}
	<-d.ctx.Done()
	return nil, d.ctx.Err()
}

func (d *directStream) Send(m *tidemarkv1.GroupServiceConsumeResponse) error {
	if !d.reads {
		select {
		case <-d.late:
			return errors.New("the write deadline has passed")
		case <-d.ctx.Done():
			return d.ctx.Err()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, m)
	d.bytes += len(m.GetRecords().GetBatches().GetBatches())
	return nil
}

// assigns are the assignments that the client got.
func (d *directStream) assigns() (out []*tidemarkv1.GroupAssign) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.events {
		if a := e.GetAssign(); a != nil {
			out = append(out, a)
		}
	}
	return out
}

// answer is that to a commit; nil when there is none.
func (d *directStream) answer(correlation uint64) *tidemarkv1.GroupCommitted {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.events {
		if c := e.GetCommitted(); c.GetCorrelation() == correlation && c != nil {
			return c
		}
	}
	return nil
}

func openOf(join *tidemarkv1.JoinRequest) *tidemarkv1.GroupServiceConsumeRequest {
	return &tidemarkv1.GroupServiceConsumeRequest{Event: &tidemarkv1.GroupServiceConsumeRequest_Open{Open: &tidemarkv1.GroupOpen{Join: join}}}
}

func commitOf(c *tidemarkv1.GroupCommit) *tidemarkv1.GroupServiceConsumeRequest {
	return &tidemarkv1.GroupServiceConsumeRequest{Event: &tidemarkv1.GroupServiceConsumeRequest_Commit{Commit: c}}
}

// open begins a stream: the client sends what a channel brings, and pings whenever a third of its session has passed.
func (w *directWorld) open(join *tidemarkv1.JoinRequest, reads bool, sends <-chan *tidemarkv1.GroupServiceConsumeRequest) *directStream {
	ctx, stop := context.WithCancel(context.WithValue(w.t.Context(), sendRoomKey{}, w.room))
	d := &directStream{stop: stop, reads: reads, late: make(chan struct{}), ended: make(chan error, 1)}
	d.ctx = context.WithValue(ctx, streamControlKey{}, http.NewResponseController(d))
	first := openOf(join)
	d.sends = func() *tidemarkv1.GroupServiceConsumeRequest {
		if m := first; m != nil {
			first = nil
			return m
		}
		select {
		case m := <-sends:
			return m
		case <-clock.System().NewTimer(time.Duration(join.GetSessionTimeoutMs()) * time.Millisecond / 3).C():
			return &tidemarkv1.GroupServiceConsumeRequest{Event: &tidemarkv1.GroupServiceConsumeRequest_Ping{Ping: &tidemarkv1.GroupPing{}}}
		case <-d.ctx.Done():
			return nil
		}
	}
	w.streams.Go(func() {
		ctx, cancel := context.WithCancel(d.ctx)
		defer cancel()
		err := w.service.consume(ctx, d, func() {})
		stop()
		d.ended <- err
	})
	return d
}

func offsetsOf(n int) []*tidemarkv1.OffsetCommit {
	out := make([]*tidemarkv1.OffsetCommit, n)
	for i := range out {
		out[i] = &tidemarkv1.OffsetCommit{Topic: "x"}
	}
	return out
}

func TestCommitOfTooManyOffsetsEndsTheStream(t *testing.T) {
	inDirectWorld(t, sendBytes, func(w *directWorld) {
		t := w.t
		w.topic("orders", 1)
		sends := make(chan *tidemarkv1.GroupServiceConsumeRequest, 2)
		d := w.open(ofGroup("g", ""), true, sends)
		sends <- commitOf(&tidemarkv1.GroupCommit{Correlation: 1, Offsets: offsetsOf(maxGroupEntries)})
		synctest.Wait()
		if a := d.answer(1); len(a.GetErrors()) != maxGroupEntries {
			t.Errorf("%d of %d offsets were refused", len(a.GetErrors()), maxGroupEntries)
		}
		sends <- commitOf(&tidemarkv1.GroupCommit{Offsets: offsetsOf(maxGroupEntries + 1)})
		if err := <-d.ended; ReasonOf(err) != ReasonTooLarge {
			t.Errorf("the stream ended with %v", err)
		}
	})
}

// A client sends commits as large as may be and reads nothing: what it makes the node hold ends at what all of them may, and so does its stream.
func TestCommitsOfAClientThatDoesNotRead(t *testing.T) {
	inDirectWorld(t, sendBytes, func(w *directWorld) {
		t := w.t
		w.topic("orders", 1)
		w.service.held = newSendRoom(10<<20, clock.System())
		sends := make(chan *tidemarkv1.GroupServiceConsumeRequest)
		d := w.open(ofGroup("g", ""), false, sends)
		taken := 0
		for {
			select {
			case sends <- commitOf(&tidemarkv1.GroupCommit{Offsets: offsetsOf(maxGroupEntries)}):
				taken++
				continue
			case err := <-d.ended:
				if ReasonOf(err) != ReasonBackPressure {
					t.Errorf("the stream ended with %v", err)
				}
			}
			break
		}
		// Two have been answered, and one was refused.
		_, each := groupRequestSize(&tidemarkv1.GroupCommit{Offsets: offsetsOf(maxGroupEntries)})
		if int64(taken) > (10<<20)/each+3 {
			t.Errorf("%d commits of %d bytes were taken for a client that reads nothing", taken, each)
		}
	})
}

// What a client sends waits for us: that is a sign of life, but not for ever.
func TestAClientThatOnlySendsIsEnded(t *testing.T) {
	inDirectWorld(t, sendBytes, func(w *directWorld) {
		t := w.t
		w.topic("orders", 1)
		join := ofGroup("g", "")
		join.SessionTimeoutMs = 6000
		sends := make(chan *tidemarkv1.GroupServiceConsumeRequest)
		d := w.open(join, false, sends)
		begin := clock.System().Now()
		for {
			select {
			case sends <- commitOf(&tidemarkv1.GroupCommit{Offsets: offsetsOf(1)}):
				continue
			case err := <-d.ended:
				if ReasonOf(err) != ReasonUnknownMemberID {
					t.Errorf("the stream ended with %v", err)
				}
			}
			break
		}
		if took := clock.System().Now().Sub(begin); took < 6*time.Second || took > 15*time.Second {
			t.Errorf("a client whose session is 6 s was ended after %v", took)
		}
	})
}

// Clients that do not read and ping take the room. One that reads gets its records all the same, after some of them were ended.
func TestGroupStreamsWhoseClientsDoNotRead(t *testing.T) {
	const room = 3 << 20
	inDirectWorld(t, room, func(w *directWorld) {
		t := w.t
		w.topic("orders", 1)
		value := strings.Repeat("v", 64<<10)
		for range 32 {
			w.log.append("orders", 0, time.Now(), value) //nolint:forbidigo // of a record
		}
		var stuck []*directStream
		for n := range 12 {
			stuck = append(stuck, w.open(ofGroup(fmt.Sprint("g", n), ""), false, nil))
		}
		synctest.Wait()
		w.room.mu.Lock()
		held := int64(0)
		for s := range w.room.taken {
			held += s.size
		}
		w.room.mu.Unlock()
		if held > room {
			t.Errorf("the streams hold %d bytes of a room of %d", held, room)
		}
		w.after(time.Second)
		reader := w.open(ofGroup("reads", ""), true, nil)
		w.after(2 * sendPatience)
		reader.mu.Lock()
		read := reader.bytes
		reader.mu.Unlock()
		if read < 32*len(value) {
			t.Errorf("who reads has got %d bytes", read)
		}
		ended := 0
		for _, d := range stuck {
			select {
			case err := <-d.ended:
				ended++
				if ReasonOf(err) != ReasonBackPressure {
					t.Errorf("a stream whose client does not read ended with %v", err)
				}
			default:
			}
			d.stop()
		}
		if ended == 0 {
			t.Error("nobody was ended, where others wait")
		}
		reader.stop()
	})
}

// Somebody takes a member out. Its client is told what it lost, and what it had read before is not committed as what it has now.
func TestClientHearsWhatItLost(t *testing.T) {
	inDirectWorld(t, sendBytes, func(w *directWorld) {
		t := w.t
		topic := w.topic("orders", 2)
		sends := make(chan *tidemarkv1.GroupServiceConsumeRequest)
		d := w.open(ofGroup("g", ""), true, sends)
		w.after(time.Second)
		first := d.assigns()[0]
		if _, err := w.nodes["a"].groups.Leave(t.Context(), "g", []group.LeavingMember{{MemberID: first.GetMemberId()}}); err != nil {
			t.Fatal(err)
		}
		w.after(5 * time.Second)
		assigns := d.assigns()
		if len(assigns) < 3 {
			t.Fatalf("assignments %v", assigns)
		}
		told, last := assigns[1], assigns[len(assigns)-1]
		lost := []*tidemarkv1.TopicPartitions{{Topic: "orders", Partitions: []int32{0, 1}}}
		if len(told.GetAssigned()) != 0 || len(told.GetLost()) != 1 || !proto.Equal(told.GetLost()[0], lost[0]) {
			t.Errorf("the client was told %v", told)
		}
		if len(last.GetLost()) != 0 || len(last.GetAssigned()) != 2 || last.GetMemberId() == first.GetMemberId() || last.GetGeneration() <= first.GetGeneration() {
			t.Errorf("then %v", last)
		}
		commit := func(correlation uint64, generation int32, offset int64) *tidemarkv1.GroupCommitted {
			sends <- commitOf(&tidemarkv1.GroupCommit{
				Correlation: correlation, Generation: generation, Offsets: []*tidemarkv1.OffsetCommit{{Topic: "orders", Offset: offset, LeaderEpoch: -1}},
			})
			w.after(time.Second)
			return d.answer(correlation)
		}
		if a := commit(1, first.GetGeneration(), 5); len(a.GetErrors()) != 1 || Reason(a.GetErrors()[0].GetReason()) != ReasonIllegalGeneration {
			t.Errorf("what was read before: %v", a)
		}
		if at := w.committed(w.nodes["a"], "g", topic, 0); at != -1 {
			t.Errorf("offset %d is committed", at)
		}
		if a := commit(2, last.GetGeneration(), 3); a == nil || len(a.GetErrors()) != 0 {
			t.Errorf("what was read since: %v", a)
		}
		if a := commit(3, 0, 4); a == nil || len(a.GetErrors()) != 0 {
			t.Errorf("of a client that does not say: %v", a)
		}
		d.stop()
	})
}

// TestCommitThatWaitsIsAboutWhatWasRead has a partition lost and got again while a commit of it is in the queue.
func TestCommitThatWaitsIsAboutWhatWasRead(t *testing.T) {
	at := group.TopicPartition{Topic: "orders"}
	kept := &memberPartition{at: group.TopicPartition{Topic: "orders", Partition: 1}, since: 3}
	st := &groupStream{join: ofGroup("g", ""), partitions: map[group.TopicPartition]*memberPartition{at: {at: at, since: 3}, kept.at: kept}}
	event, refused := st.take(commitOf(&tidemarkv1.GroupCommit{Offsets: []*tidemarkv1.OffsetCommit{{Topic: "orders"}, {Topic: "orders", Partition: 1}}}))
	if refused != nil {
		t.Fatal(refused)
	}
	st.partitions[at] = &memberPartition{at: at, since: 4}
	_, _, mine, errs := st.split(event.message.GetCommit().GetOffsets(), event.read)
	if len(mine) != 1 || mine[0].GetPartition() != 1 || len(errs) != 1 || Reason(errs[0].GetReason()) != ReasonIllegalGeneration {
		t.Errorf("mine %v, refused %v", mine, errs)
	}
	if event.done(); st.small != 0 {
		t.Errorf("%d bytes are still held", st.small)
	}
}

// laggingLog tells of some partitions what an index behind their leaders tells.
type laggingLog struct {
	*fakeGroupLog
	end map[int32]int64
}

func (l laggingLog) Topic(ctx context.Context, name string) (meta.Topic, []PartitionState, error) {
	topic, states, err := l.fakeGroupLog.Topic(ctx, name)
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := range states {
		if end, ok := l.end[states[n].Partition]; ok {
			states[n].HighWatermark, states[n].CommittedOffset, states[n].LogEndOffset, states[n].fromIndex = end, end, end, true
		}
	}
	return topic, states, err
}

// Retention overtakes a group in one partition while the leader of another cannot be asked, and the index is behind what the group has read there.
func TestStreamBelievesTheLeaderNotTheIndex(t *testing.T) {
	inDirectWorld(t, sendBytes, func(w *directWorld) {
		t := w.t
		w.topic("orders", 2)
		for i := range 10 {
			w.log.append("orders", 0, time.Now(), fmt.Sprint("0-", i)) //nolint:forbidigo // of a record
			w.log.append("orders", 1, time.Now(), fmt.Sprint("1-", i)) //nolint:forbidigo // of a record
		}
		refused, err := w.nodes["a"].groups.Commit(t.Context(), GroupCommit{Group: "g", Generation: -1, Offsets: []GroupCommitOffset{
			{Topic: "orders", Partition: 0, Offset: 2, LeaderEpoch: -1}, {Topic: "orders", Partition: 1, Offset: 9, LeaderEpoch: -1},
		}})
		if err != nil {
			t.Fatal(err, refused)
		}
		w.log.trim("orders", 0, 5)
		w.service.Log = laggingLog{w.log, map[int32]int64{1: 6}}
		d := w.open(ofGroup("g", ""), true, nil)
		w.after(2 * time.Second)
		d.mu.Lock()
		next := make(map[int32]int64)
		for _, e := range d.events {
			if r := e.GetRecords(); r != nil {
				next[r.GetBatches().GetPartition()] = r.GetBatches().GetNextOffset()
			}
		}
		d.mu.Unlock()
		if next[0] != 10 || next[1] != 10 {
			t.Errorf("read up to %v", next)
		}
		select {
		case err := <-d.ended:
			t.Errorf("the stream ended: %v", err)
		default:
		}
		d.stop()
	})
}

// A stream that begins at the end of a topic on disk does so where its leader says, not where the index does.
func TestStreamFromTheEndAsksTheLeader(t *testing.T) {
	inDirectWorld(t, sendBytes, func(w *directWorld) {
		t := w.t
		config := meta.DefaultTopicConfig()
		config.Durability = meta.DurabilityDisk
		topic, err := w.meta.CreateTopic(t.Context(), "orders", 1, config)
		if err != nil {
			t.Fatal(err)
		}
		w.follow(topic.Revision)
		w.log.append("orders", 0, time.Now(), "old") //nolint:forbidigo // of a record
		lagging := laggingLog{w.log, map[int32]int64{0: 0}}
		w.service.Log = lagging
		ctx, stop := context.WithCancel(context.WithValue(t.Context(), sendRoomKey{}, w.room))
		d := &directStream{ctx: ctx, stop: stop, reads: true, late: make(chan struct{}), ended: make(chan error, 1)}
		open := openOf(ofGroup("g", ""))
		open.GetOpen().FromEnd = true
		d.sends = func() *tidemarkv1.GroupServiceConsumeRequest { defer func() { open = nil }(); return open }
		w.streams.Go(func() { d.ended <- w.service.consume(ctx, d, func() {}) })
		w.after(time.Second)
		w.log.mu.Lock()
		delete(lagging.end, 0) // the leader can be asked again
		w.log.mu.Unlock()
		w.after(time.Second)
		w.log.append("orders", 0, time.Now(), "new") //nolint:forbidigo // of a record
		w.after(time.Second)
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, e := range d.events {
			if r := e.GetRecords().GetBatches(); r != nil && (r.GetNextOffset() != 2 || strings.Contains(string(r.GetBatches()), "old")) {
				t.Errorf("got records up to %d", r.GetNextOffset())
			}
		}
		stop()
	})
}
