package ingest

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest/group"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

// guardedGroups serves the group service of node a behind an intake and rooms, as Services do it.
func (w *serviceWorld) guardedGroups(in *intake, room *sendRoom) (url string) {
	w.t.Helper()
	path, handler := NewGroupService(GroupServiceConfig{
		Groups: w.nodes["a"].groups, Log: w.log, Peers: worldPeers{w, w.nodes["a"]}, Clock: clock.System(), Closing: make(chan struct{}),
		Options: []connect.HandlerOption{connect.WithReadMaxBytes(MaxGroupMessage), connect.WithCompression("gzip", nil, nil), connect.WithInterceptors(boundAnswers())},
	})
	mux := http.NewServeMux()
	mux.Handle(path, in.guard(MaxGroupMessage, withForwarded(withSendRoom(room, room, withAnswer(clock.System(), handler)))))
	both := new(http.Protocols)
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	s := httptest.NewUnstartedServer(mux)
	s.Config.Protocols = both
	s.Start()
	w.t.Cleanup(s.Close)
	return s.URL
}

// Joins wait for a member that does not join again for long, each with a name as long as a message may be. They take nothing of what all clients share
// to send requests, however they came, and no sweep takes them for requests that do not arrive.
func TestJoinsThatWaitLeaveOthersTheirRoom(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(version, func(t *testing.T) {
			w := newServiceWorld(t, "a")
			w.topic("orders", 8)
			in := newIntake(64 << 20)
			url := w.guardedGroups(in, newSendRoom(sendBytes, clock.System()))
			protocols := new(http.Protocols)
			protocols.SetHTTP1(version == "HTTP/1.1")
			protocols.SetUnencryptedHTTP2(version == "HTTP/2")
			transport := &http.Transport{Protocols: protocols}
			t.Cleanup(transport.CloseIdleConnections)
			client := tidemarkv1connect.NewGroupServiceClient(&http.Client{Transport: transport}, url)
			first := subscriber("app", nil, "orders")
			first.SessionTimeout, first.RebalanceTimeout = 10*time.Minute, 10*time.Minute
			m := w.join(w.nodes["a"], "g", first)
			const joins = 6
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			joined := make(chan error, joins)
			for range joins {
				go func() {
					out, err := client.Join(ctx, &tidemarkv1.JoinRequest{
						Group: "g", Topics: []string{"orders"}, ClientId: strings.Repeat("x", 3<<20), SessionTimeoutMs: 600_000, RebalanceTimeoutMs: 600_000,
					})
					if err == nil && (len(out.GetAssigned()) == 0 || len(out.GetMemberId()) > 300) {
						err = fmt.Errorf("member %.300q got %v", out.GetMemberId(), out.GetAssigned())
					}
					joined <- err
				}()
			}
			untilReal(t, "the joins to wait", func() bool {
				view, err := w.nodes["a"].groups.View(ctx, "g")
				return err == nil && len(view.Members) == joins+1
			})
			if used := in.used.Load(); used != 0 {
				t.Errorf("%d bytes count as being received while the joins wait", used)
			}
			for range 2 * sweepsToStall {
				in.sweep()
			}
			pauseReal(50 * time.Millisecond)
			if len(joined) > 0 {
				t.Errorf("a join ended: %v", <-joined)
			}
			if _, err := w.nodes["a"].groups.Leave(ctx, "g", []group.LeavingMember{{MemberID: m.MemberID}}); err != nil {
				t.Fatal(err)
			}
			for range joins {
				if err := <-joined; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Requests and answers that are small on the wire and large in memory are refused by name.
func TestGroupRequestsAreBounded(t *testing.T) {
	w := newServiceWorld(t, "a")
	w.topic("orders", 1)
	w.topic("wide", maxGroupEntries)
	client := tidemarkv1connect.NewGroupServiceClient(w.http, w.guardedGroups(newIntake(receivingBytes), newSendRoom(sendBytes, clock.System())))
	ctx, many := t.Context(), make([]int32, maxGroupEntries)
	outside := &tidemarkv1.Membership{Group: "g", Generation: -1}
	whole := &tidemarkv1.GroupSeek{Topic: "wide", To: &tidemarkv1.GroupSeek_Start{Start: true}}
	for name, call := range map[string]func() error{
		"commit": func() error {
			_, err := client.Commit(ctx, &tidemarkv1.CommitRequest{Member: outside, Offsets: offsetsOf(maxGroupEntries + 1)})
			return err
		},
		"committed": func() error {
			_, err := client.Committed(ctx, &tidemarkv1.CommittedRequest{Group: "g", Partitions: []*tidemarkv1.TopicPartitions{{Topic: "orders", Partitions: many}}})
			return err
		},
		"committed of many topics": func() error {
			r := &tidemarkv1.CommittedRequest{Group: "g"}
			for range maxGroupEntries + 1 {
				r.Partitions = append(r.Partitions, &tidemarkv1.TopicPartitions{})
			}
			_, err := client.Committed(ctx, r)
			return err
		},
		"owned": func() error {
			_, err := client.Join(ctx, &tidemarkv1.JoinRequest{Group: "g", Topics: []string{"orders"}, Owned: []*tidemarkv1.TopicPartitions{{Topic: "orders", Partitions: many}}})
			return err
		},
		"member id": func() error {
			_, err := client.Heartbeat(ctx, &tidemarkv1.HeartbeatRequest{Member: &tidemarkv1.Membership{Group: "g", MemberId: strings.Repeat("m", maxGroupName+1)}})
			return err
		},
		"instance id": func() error {
			_, err := client.Join(ctx, &tidemarkv1.JoinRequest{Group: "g", Topics: []string{"orders"}, InstanceId: strings.Repeat("m", maxGroupName+1)})
			return err
		},
		"seeks": func() error {
			r := &tidemarkv1.SeekGroupRequest{Group: "g"}
			for range maxSeeks + 1 {
				r.Seeks = append(r.Seeks, &tidemarkv1.GroupSeek{Topic: "orders", To: &tidemarkv1.GroupSeek_Start{Start: true}})
			}
			_, err := client.SeekGroup(ctx, r)
			return err
		},
		"seeks in all of a topic, twice": func() error {
			_, err := client.SeekGroup(ctx, &tidemarkv1.SeekGroupRequest{Group: "g", Seeks: []*tidemarkv1.GroupSeek{whole, whole}})
			return err
		},
	} {
		if err := call(); remoteReason(t, err) != ReasonTooLarge {
			t.Errorf("%s: %v", name, err)
		}
	}
	if out, err := client.SeekGroup(ctx, &tidemarkv1.SeekGroupRequest{Group: "g", Seeks: []*tidemarkv1.GroupSeek{whole}}); err != nil || len(out.GetOffsets()) != maxGroupEntries {
		t.Errorf("as much as may be: %d offsets, %v", len(out.GetOffsets()), err)
	}
}

// Answers that nobody reads have taken the room: who asks for another large one is told to come again.
func TestLargeAnswersOfGroupsTakeRoom(t *testing.T) {
	w := newServiceWorld(t, "a")
	w.topic("wide", 5000)
	room := newSendRoom(1<<20, clock.System())
	client := tidemarkv1connect.NewGroupServiceClient(w.http, w.guardedGroups(newIntake(receivingBytes), room))
	seek := &tidemarkv1.SeekGroupRequest{Group: "g", Seeks: []*tidemarkv1.GroupSeek{{Topic: "wide", To: &tidemarkv1.GroupSeek_Start{Start: true}}}}
	if _, err := client.SeekGroup(t.Context(), seek); err != nil {
		t.Fatal(err)
	}
	taken := room.try(1<<20, func() {})
	if _, err := client.Committed(t.Context(), &tidemarkv1.CommittedRequest{Group: "g"}); remoteReason(t, err) != ReasonBackPressure {
		t.Errorf("without room: %v", err)
	}
	taken.give()
	if out, err := client.Committed(t.Context(), &tidemarkv1.CommittedRequest{Group: "g"}); err != nil || len(out.GetOffsets()) != 5000 {
		t.Errorf("with room: %d offsets, %v", len(out.GetOffsets()), err)
	}
	untilReal(t, "the room to be free", func() bool { _, shares := room.held(); return shares == 0 })
}
