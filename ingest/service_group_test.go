package ingest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// remoteReason is the reason of an error that a client got.
func remoteReason(t *testing.T, err error) Reason {
	t.Helper()
	e := remoteError(err)
	if e == nil {
		t.Fatalf("not an error of the service: %v", err)
	}
	return e.Reason
}

// TestGroupServiceOverTwoNodes asks both nodes for everything about a group that falls to the first.
func TestGroupServiceOverTwoNodes(t *testing.T) {
	w := newServiceWorld(t, "a", "b")
	topic := w.topic("orders", 2)
	ctx, name := t.Context(), w.ownedBy("a")
	now := time.Now() //nolint:forbidigo // ages are measured against it
	w.log.append("orders", 0, now.Add(-time.Hour), "1", "2", "3")
	w.log.append("orders", 0, now.Add(-time.Minute), "4")
	for _, node := range []string{"a", "b"} {
		c := w.client(node)
		if _, err := c.DescribeGroup(ctx, &tidemarkv1.DescribeGroupRequest{Group: name}); remoteReason(t, err) != ReasonUnknownGroup {
			t.Errorf("node %s describes a group that is not there: %v", node, err)
		}
		joined, err := c.Join(ctx, &tidemarkv1.JoinRequest{Group: name, ClientId: "app", Topics: []string{"orders"}})
		if err != nil {
			t.Fatal(err)
		}
		if len(joined.GetAssigned()) != 2 || joined.GetMembers() != 1 || joined.GetAssigned()[0].GetTopicId() != topic.ID.String() || joined.GetAssigned()[0].GetCommitted() != -1 {
			t.Errorf("joined %v", joined)
		}
		m := &tidemarkv1.Membership{Group: name, MemberId: joined.GetMemberId(), Generation: joined.GetGeneration()}
		if beat, err := c.Heartbeat(ctx, &tidemarkv1.HeartbeatRequest{Member: m}); err != nil || beat.GetRejoin() {
			t.Errorf("heartbeat %v, %v", beat, err)
		}
		committed, err := c.Commit(ctx, &tidemarkv1.CommitRequest{Member: m, Offsets: []*tidemarkv1.OffsetCommit{
			{Topic: "orders", Partition: 0, Offset: 3, LeaderEpoch: -1, Metadata: "note"}, {Topic: "nowhere"},
		}})
		if err != nil || len(committed.GetErrors()) != 1 || committed.GetErrors()[0].GetReason() != string(ReasonUnknownTopic) || committed.GetErrors()[0].GetTopic() != "nowhere" {
			t.Errorf("commit %v, %v", committed, err)
		}
		stored, err := c.Committed(ctx, &tidemarkv1.CommittedRequest{Group: name, Partitions: []*tidemarkv1.TopicPartitions{{Topic: "orders", Partitions: []int32{0, 1}}}})
		if err != nil || stored.GetOffsets()[0].GetOffset() != 3 || stored.GetOffsets()[0].GetMetadata() != "note" || stored.GetOffsets()[1].GetOffset() != -1 {
			t.Errorf("committed %v, %v", stored, err)
		}
		if all, err := c.Committed(ctx, &tidemarkv1.CommittedRequest{Group: name}); err != nil || len(all.GetOffsets()) != 1 {
			t.Errorf("all that is committed: %v, %v", all, err)
		}
		described, err := c.DescribeGroup(ctx, &tidemarkv1.DescribeGroupRequest{Group: name})
		if err != nil || described.GetState() != "Stable" || described.GetCoordinator() != "a" || len(described.GetMembers()) != 1 || described.GetMembers()[0].GetClientId() != "app" {
			t.Fatalf("described %v, %v", described, err)
		}
		if l := described.GetLag()[0]; l.GetCommitted() != 3 || l.GetHighWatermark() != 4 || l.GetLag() != 1 || l.GetLagSeconds() < 60 || l.GetLagSeconds() > 120 || l.GetMemberId() != m.GetMemberId() {
			t.Errorf("lag %v", l)
		}
		if l := described.GetLag()[1]; l.GetCommitted() != -1 || l.GetLag() != 0 || l.GetLagSeconds() != 0 {
			t.Errorf("lag of an empty partition %v", l)
		}
		listed, err := c.ListGroups(ctx, &tidemarkv1.ListGroupsRequest{})
		if err != nil || len(listed.GetGroups()) != 1 || listed.GetGroups()[0].GetState() != "Stable" || listed.GetGroups()[0].GetMembers() != 1 || listed.GetGroups()[0].GetProtocolType() != "tidemark" {
			t.Errorf("listed %v, %v", listed, err)
		}
		seek := &tidemarkv1.SeekGroupRequest{Group: name, Seeks: []*tidemarkv1.GroupSeek{{Topic: "orders", To: &tidemarkv1.GroupSeek_End{End: true}}}}
		if _, err := c.SeekGroup(ctx, seek); remoteReason(t, err) != ReasonGroupNotEmpty {
			t.Errorf("seek under members: %v", err)
		}
		if _, err := c.DeleteGroup(ctx, &tidemarkv1.DeleteGroupRequest{Group: name}); remoteReason(t, err) != ReasonGroupNotEmpty {
			t.Errorf("delete under members: %v", err)
		}
		if _, err := c.Leave(ctx, &tidemarkv1.LeaveRequest{Member: m}); err != nil {
			t.Error(err)
		}
		if _, err := c.Heartbeat(ctx, &tidemarkv1.HeartbeatRequest{Member: m}); remoteReason(t, err) != ReasonUnknownMemberID {
			t.Errorf("heartbeat of who left: %v", err)
		}
		for want, to := range map[int64]*tidemarkv1.GroupSeek{
			4: {To: &tidemarkv1.GroupSeek_End{End: true}}, 0: {To: &tidemarkv1.GroupSeek_Start{Start: true}}, 2: {To: &tidemarkv1.GroupSeek_Offset{Offset: 2}},
			3: {To: &tidemarkv1.GroupSeek_TimestampMs{TimestampMs: now.Add(-2 * time.Minute).UnixMilli()}},
		} {
			to.Topic, to.Partitions = "orders", []int32{0}
			sought, err := c.SeekGroup(ctx, &tidemarkv1.SeekGroupRequest{Group: name, Seeks: []*tidemarkv1.GroupSeek{to}})
			if err != nil || len(sought.GetOffsets()) != 1 || sought.GetOffsets()[0].GetOffset() != want {
				t.Errorf("seek to %d: %v, %v", want, sought, err)
			}
		}
		beyond := &tidemarkv1.GroupSeek{Topic: "orders", Partitions: []int32{0}, To: &tidemarkv1.GroupSeek_Offset{Offset: 5}}
		if _, err := c.SeekGroup(ctx, &tidemarkv1.SeekGroupRequest{Group: name, Seeks: []*tidemarkv1.GroupSeek{beyond}}); remoteReason(t, err) != ReasonOffsetOutOfRange {
			t.Errorf("seek beyond the end: %v", err)
		}
		if _, err := c.DeleteGroup(ctx, &tidemarkv1.DeleteGroupRequest{Group: name}); err != nil {
			t.Error(err)
		}
		if listed, err := c.ListGroups(ctx, &tidemarkv1.ListGroupsRequest{}); err != nil || len(listed.GetGroups()) != 0 {
			t.Errorf("listed after the end %v, %v", listed, err)
		}
	}
}

func TestGroupServiceRefusesByName(t *testing.T) {
	w := newServiceWorld(t, "a")
	w.topic("orders", 1)
	c, ctx := w.client("a"), t.Context()
	for want, join := range map[Reason]*tidemarkv1.JoinRequest{
		ReasonInvalidGroup:              {Group: strings.Repeat("g", 256), Topics: []string{"orders"}},
		ReasonInvalidRequest:            {Group: "g"},
		ReasonInvalidTopic:              {Group: "g", Topics: []string{"a/b"}},
		ReasonInconsistentGroupProtocol: {Group: "g", Topics: []string{"orders"}, Strategy: "fair"},
	} {
		if _, err := c.Join(ctx, join); remoteReason(t, err) != want {
			t.Errorf("want %s: %v", want, err)
		}
	}
	if _, err := c.Join(ctx, &tidemarkv1.JoinRequest{Group: "g", Topics: []string{"orders"}, SessionTimeoutMs: 999}); remoteReason(t, err) != ReasonInvalidRequest {
		t.Errorf("a short session: %v", err)
	}
	// Two processes under one instance id: the first is fenced.
	first, err := c.Join(ctx, &tidemarkv1.JoinRequest{Group: "g", Topics: []string{"orders"}, InstanceId: "i"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Join(ctx, &tidemarkv1.JoinRequest{Group: "g", Topics: []string{"orders"}, InstanceId: "i"}); err != nil {
		t.Fatal(err)
	}
	m := &tidemarkv1.Membership{Group: "g", MemberId: first.GetMemberId(), InstanceId: "i", Generation: first.GetGeneration()}
	if _, err := c.Heartbeat(ctx, &tidemarkv1.HeartbeatRequest{Member: m}); remoteReason(t, err) != ReasonFencedInstanceID {
		t.Errorf("the first process: %v", err)
	}
	// A call that was forwarded is not forwarded again.
	forwarded := worldPeers{w, &groupNode{id: "elsewhere"}}
	peer, _ := forwarded.Peer("a")
	w.nodes["a"].sees(meta.NodeInfo{ID: "b"})
	client := &groupService{GroupServiceConfig: GroupServiceConfig{Peers: forwarded}}
	there, refused := client.client("a")
	if refused != nil || peer.URL == "" {
		t.Fatal(refused)
	}
	if _, err := there.Heartbeat(ctx, &tidemarkv1.HeartbeatRequest{Member: m}); remoteReason(t, err) != ReasonNotCoordinator {
		t.Errorf("a forwarded call: %v", err)
	}
}

func ofGroup(name, strategy string) *tidemarkv1.JoinRequest {
	return &tidemarkv1.JoinRequest{Group: name, ClientId: "app", Topics: []string{"orders"}, Strategy: strategy, SessionTimeoutMs: 3000, RebalanceTimeoutMs: 10_000}
}

// TestGroupStreamsShareATopic opens a second stream beside a first, at the node that does not coordinate, and ends the first: every record
// comes to one of them, and with commits at revocations none comes twice.
func TestGroupStreamsShareATopic(t *testing.T) {
	for _, strategy := range []string{"", "range"} {
		t.Run("strategy "+strategy, func(t *testing.T) {
			w := newServiceWorld(t, "a", "b")
			w.topic("orders", 4)
			name := w.ownedBy("a")
			want := []string(nil)
			fill := func(round string) {
				for p := range int32(4) {
					value := fmt.Sprintf("%s-%d", round, p)
					want = append(want, value)
					w.log.append("orders", p, time.Now(), value) //nolint:forbidigo // of a record
				}
			}
			fill("a")
			first := w.consume("a", ofGroup(name, strategy), false)
			first.start(t, true)
			first.until("four records", func() bool { return len(first.values) == 4 })
			second := w.consume("b", ofGroup(name, strategy), false)
			second.start(t, true)
			second.until("two partitions", func() bool { return len(second.has) == 2 })
			first.until("two partitions", func() bool { return len(first.has) == 2 })
			fill("b")
			first.until("two records more", func() bool { return len(first.values) == 6 })
			second.until("two records", func() bool { return len(second.values) == 2 })
			first.commit(7)
			first.until("the commit", func() bool { _, ok := first.answered(7); return ok })
			first.close()
			if err := first.end(); !strings.Contains(err.Error(), "EOF") {
				t.Errorf("the first stream ends with %v", err)
			}
			second.until("all partitions", func() bool { return len(second.has) == 4 })
			fill("c")
			second.until("four records more", func() bool { return len(second.values) == 6 })
			if got := slices.Sorted(slices.Values(slices.Concat(first.values, second.values))); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
				t.Errorf("read %v, want %v", got, want)
			}
			for _, c := range []*groupClient{first, second} {
				for _, e := range c.events {
					if len(e.GetCommitted().GetErrors()) > 0 {
						t.Errorf("a commit failed: %v", e.GetCommitted())
					}
				}
			}
		})
	}
}

// TestHungClientLosesItsSession has a client go silent without a word: the other one gets its partitions.
func TestHungClientLosesItsSession(t *testing.T) {
	w := newServiceWorld(t, "a")
	w.topic("orders", 2)
	join := ofGroup("g", "")
	join.SessionTimeoutMs = 1000
	hung := w.consume("a", join, false)
	hung.start(t, false)
	hung.until("its partitions", func() bool { return len(hung.has) == 2 })
	hung.ping()
	other := w.consume("a", ofGroup("g", ""), false)
	other.start(t, true)
	if err := hung.end(); remoteReason(t, err) != ReasonUnknownMemberID {
		t.Errorf("the hung client is told %v", err)
	}
	other.until("all partitions", func() bool { return len(other.has) == 2 })
}

// TestClientThatNeverReads costs one piece and what the connection holds, and ends when it goes silent though it blocks the stream.
func TestClientThatNeverReads(t *testing.T) {
	w := newServiceWorld(t, "a")
	w.topic("orders", 1)
	value := strings.Repeat("v", 1<<20)
	for range 64 {
		w.log.append("orders", 0, time.Now(), value) //nolint:forbidigo // of a record
	}
	join := ofGroup("g", "")
	join.SessionTimeoutMs = 1000
	c := w.consume("a", join, false)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// It pings, but reads nothing: then it stays a member.
		for range 4 {
			c.ping()
			pauseReal(400 * time.Millisecond)
		}
	}()
	<-ended
	members := func() int {
		view, err := w.nodes["a"].groups.View(t.Context(), "g")
		if err != nil {
			t.Fatal(err)
		}
		return len(view.Members)
	}
	if n := members(); n != 1 {
		t.Errorf("%d members", n)
	}
	w.log.mu.Lock()
	given := w.log.given
	w.log.mu.Unlock()
	if given > 5*groupFetchBytes {
		t.Errorf("%d bytes were read for a client that reads nothing", given)
	}
	for range 50 { // it is silent from here on
		if members() == 0 {
			break
		}
		pauseReal(100 * time.Millisecond)
	}
	if n := members(); n != 0 {
		t.Errorf("a client that is silent and blocks its stream is still a member")
	}
	_ = c.stream.CloseRequest()
	_ = c.stream.CloseResponse()
}

func pauseReal(d time.Duration) { <-time.After(d) } //nolint:forbidigo // a client's time passes for real

// TestStreamOutlivesItsCoordinator ends the node that coordinates: the member goes on under its id, and reads on where it was.
func TestStreamOutlivesItsCoordinator(t *testing.T) {
	w := newServiceWorld(t, "a", "b")
	w.topic("orders", 2)
	name := w.ownedBy("a")
	w.log.append("orders", 0, time.Now(), "1") //nolint:forbidigo // of a record
	c := w.consume("b", ofGroup(name, ""), false)
	c.start(t, true)
	c.until("the first record", func() bool { return len(c.values) == 1 })
	member := c.member
	a := w.nodes["a"]
	a.stop(errors.New("the lease is lost"))
	if err := w.store.Revoke(t.Context(), a.reg.Lease); err != nil {
		t.Fatal(err)
	}
	began := time.Now() //nolint:forbidigo // a figure for the log
	c.until("a second assignment", func() bool {
		n := 0
		for _, e := range c.events {
			if e.GetAssign() != nil {
				n++
			}
		}
		return n == 2
	})
	t.Logf("a new coordinator after %v", time.Since(began)) //nolint:forbidigo // a figure for the log
	w.log.append("orders", 0, time.Now(), "2")              //nolint:forbidigo // of a record
	c.until("the second record", func() bool { return len(c.values) == 2 })
	if c.member != member || !slices.Equal(c.values, []string{"1", "2"}) {
		t.Errorf("member %q became %q and read %v", member, c.member, c.values)
	}
	c.commit(3)
	c.until("a commit", func() bool { errs, ok := c.answered(3); return ok && len(errs) == 0 })
}

// TestStreamBeginsWhereTheLogDoes starts with an offset that retention has overtaken, and at the end without one.
func TestStreamBeginsWhereTheLogDoes(t *testing.T) {
	w := newServiceWorld(t, "a")
	w.topic("orders", 2)
	for i := range 4 {
		w.log.append("orders", 0, time.Now(), fmt.Sprint("old-", i)) //nolint:forbidigo // of a record
		w.log.append("orders", 1, time.Now(), fmt.Sprint("old-", i)) //nolint:forbidigo // of a record
	}
	seek := &tidemarkv1.GroupSeek{Topic: "orders", Partitions: []int32{0}, To: &tidemarkv1.GroupSeek_Start{Start: true}}
	if _, err := w.client("a").SeekGroup(t.Context(), &tidemarkv1.SeekGroupRequest{Group: "g", Seeks: []*tidemarkv1.GroupSeek{seek}}); err != nil {
		t.Fatal(err)
	}
	w.log.trim("orders", 0, 2)
	c := w.consume("a", ofGroup("g", ""), true)
	c.start(t, true)
	c.until("the rest of partition 0", func() bool { return slices.Equal(c.sorted(), []string{"old-2", "old-3"}) })
	w.log.append("orders", 1, time.Now(), "new") //nolint:forbidigo // of a record
	c.until("what is new in partition 1", func() bool { return slices.Equal(c.sorted(), []string{"new", "old-2", "old-3"}) })
}

// TestStreamRefusesWhatMakesNoSense ends streams by name.
func TestStreamRefusesWhatMakesNoSense(t *testing.T) {
	w := newServiceWorld(t, "a")
	w.topic("orders", 1)
	ping := &tidemarkv1.GroupServiceConsumeRequest{Event: &tidemarkv1.GroupServiceConsumeRequest_Ping{Ping: &tidemarkv1.GroupPing{}}}
	open := func(join *tidemarkv1.JoinRequest) *tidemarkv1.GroupServiceConsumeRequest {
		return &tidemarkv1.GroupServiceConsumeRequest{Event: &tidemarkv1.GroupServiceConsumeRequest_Open{Open: &tidemarkv1.GroupOpen{Join: join}}}
	}
	owned := ofGroup("g", "")
	owned.Owned = []*tidemarkv1.TopicPartitions{{Topic: "orders", Partitions: []int32{0}}}
	for name, messages := range map[string][]*tidemarkv1.GroupServiceConsumeRequest{
		"a ping first": {ping}, "two opens": {open(ofGroup("g", "")), open(ofGroup("g", ""))}, "partitions at once": {open(owned)},
		"no topic": {open(&tidemarkv1.JoinRequest{Group: "g"})}, "nothing": {{}},
	} {
		stream, err := w.client("a").Consume(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			_ = stream.Send(m)
		}
		for err = nil; err == nil; {
			_, err = stream.Receive()
		}
		if got := remoteReason(t, err); got != ReasonInvalidRequest {
			t.Errorf("%s: %v", name, err)
		}
		_ = stream.CloseRequest()
		_ = stream.CloseResponse()
	}
}

// TestStreamEndsWithTheProcess ends streams and waiting joins when the process stops.
func TestStreamEndsWithTheProcess(t *testing.T) {
	w := newServiceWorld(t, "a")
	w.topic("orders", 2)
	c := w.consume("a", ofGroup("g", ""), false)
	c.start(t, true)
	c.until("its partitions", func() bool { return len(c.has) == 2 })
	waiting := make(chan error, 1)
	go func() {
		// The first member will not join again before its next heartbeat.
		_, err := w.client("a").Join(t.Context(), &tidemarkv1.JoinRequest{Group: "g", Topics: []string{"orders"}})
		waiting <- err
	}()
	for {
		view, err := w.nodes["a"].groups.View(t.Context(), "g")
		if err != nil {
			t.Fatal(err)
		}
		if len(view.Members) == 2 {
			break
		}
		pauseReal(time.Millisecond)
	}
	close(w.closing["a"])
	if err := c.end(); remoteReason(t, err) != ReasonShuttingDown {
		t.Errorf("the stream ends with %v", err)
	}
	if err := <-waiting; err != nil && connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("the join ends with %v", err)
	}
}
