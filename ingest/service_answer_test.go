package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

// aheadClock is the time, and as much more as a test says.
type aheadClock struct {
	clock.Clock
	by atomic.Int64
}

func (c *aheadClock) Now() time.Time { return c.Clock.Now().Add(time.Duration(c.by.Load())) }

// endsLog is a log for the Consume service.
type endsLog struct{ *fakeGroupLog }

func (l endsLog) Ends(ctx context.Context, name string) (meta.Topic, []PartitionState, error) {
	return l.Topic(ctx, name)
}

// serveFetch serves a topic of 30 MiB behind a room, as Services do it.
func serveFetch(t *testing.T, room *sendRoom, c clock.Clock) (url string) {
	t.Helper()
	w := newGroupWorld(t, "a")
	w.topic("orders", 1)
	log := endsLog{&fakeGroupLog{world: w, partitions: make(map[group.TopicPartition]*fakeGroupPartition), changed: make(chan struct{})}}
	for range 30 {
		log.append("orders", 0, time.Unix(1, 0), strings.Repeat("v", 1<<20))
	}
	telemetry, err := NewTelemetry(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	path, handler := tidemarkv1connect.NewConsumeServiceHandler(&consumeService{node: log, clock: c, telemetry: telemetry, closing: make(chan struct{})},
		connect.WithInterceptors(boundAnswers()), connect.WithCompression("gzip", nil, nil))
	mux := http.NewServeMux()
	mux.Handle(path, withForwarded(withSendRoom(room, newSendRoom(1, c), withAnswer(c, handler))))
	both := new(http.Protocols)
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	s := httptest.NewUnstartedServer(mux)
	s.Config.Protocols = both
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

func (r *sendRoom) held() (bytes int64, shares int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.taken {
		bytes += s.size
	}
	return bytes, len(r.taken)
}

func untilReal(t *testing.T, what string, fulfilled func() bool) {
	t.Helper()
	for range 2000 {
		if fulfilled() {
			return
		}
		pauseReal(5 * time.Millisecond)
	}
	t.Fatalf("waited in vain for %s", what)
}

// A client asks for 30 MiB and reads nothing. What it was to get takes room until it has it; when another client needs the room and half a minute has
// passed, the first one is ended and the other gets its answer.
func TestFetchWhoseClientDoesNotRead(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(version, func(t *testing.T) {
			ahead := &aheadClock{Clock: clock.System()}
			room := newSendRoom(40<<20, ahead)
			url := serveFetch(t, room, ahead)
			protocols := new(http.Protocols)
			protocols.SetHTTP1(version == "HTTP/1.1")
			protocols.SetUnencryptedHTTP2(version == "HTTP/2")
			transport := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := (&net.Dialer{}).DialContext(ctx, network, address)
				if tcp, ok := c.(*net.TCPConn); ok {
					_ = tcp.SetReadBuffer(64 << 10) // so that the system takes little of the answer
				}
				return c, err
			}}
			defer transport.CloseIdleConnections()
			const request = `{"topic":"orders","partitions":[{"partition":0}],"maxBytes":33554432}`
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/tidemark.v1.ConsumeService/Fetch", strings.NewReader(request))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			stuck, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = stuck.Body.Close() }()
			if bytes, shares := room.held(); shares != 1 || bytes < 16<<20 {
				t.Errorf("an answer that is not read holds %d bytes in %d shares", bytes, shares)
			}
			other := tidemarkv1connect.NewConsumeServiceClient(http.DefaultClient, url)
			fetched := make(chan error, 1)
			go func() {
				answer, err := other.Fetch(ctx, &tidemarkv1.FetchRequest{Topic: "orders", Partitions: []*tidemarkv1.FetchPartition{{}}, MaxBytes: 32 << 20})
				if err == nil && len(answer.GetPartitions()[0].GetBatches()) < 30<<20 {
					err = fmt.Errorf("got %d bytes", len(answer.GetPartitions()[0].GetBatches()))
				}
				fetched <- err
			}()
			pauseReal(100 * time.Millisecond)
			select {
			case err := <-fetched:
				t.Fatalf("there was room for both: %v", err)
			default:
			}
			ahead.by.Store(int64(sendPatience + time.Second))
			if err := <-fetched; err != nil {
				t.Error(err)
			}
			if _, err := io.Copy(io.Discard, stuck.Body); err == nil {
				t.Error("the answer that was not read came whole")
			}
			untilReal(t, "the room to be free", func() bool { _, shares := room.held(); return shares == 0 })
		})
	}
}

// stuckWriter takes one chunk and then blocks until its deadline.
type stuckWriter struct {
	http.ResponseWriter
	written   int
	deadlines []time.Time
}

func (w *stuckWriter) SetWriteDeadline(at time.Time) error {
	w.deadlines = append(w.deadlines, at)
	return nil
}

func (w *stuckWriter) Write(p []byte) (int, error) {
	if w.written > 0 {
		return 0, errors.New("the deadline has passed")
	}
	w.written += len(p)
	return len(p), nil
}

// Each chunk that a client takes gives it time for another, and gives its room back.
func TestAnswerIsWrittenWithADeadlineThatMoves(t *testing.T) {
	ahead := &aheadClock{Clock: clock.System()}
	room := newSendRoom(1<<20, ahead)
	inner := &stuckWriter{}
	withAnswer(ahead, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := answerOf(r.Context())
		a.begin()
		a.hold(room.try(1<<20, a.end))
		n, err := w.Write(make([]byte, 1<<20))
		if err == nil || n != answerChunk {
			t.Errorf("wrote %d bytes, %v", n, err)
		}
		if bytes, _ := room.held(); bytes != 1<<20-answerChunk {
			t.Errorf("%d bytes are still held", bytes)
		}
		a.end()
		if _, err := w.Write(nil); !errors.Is(err, errNotRead) {
			t.Errorf("after the end: %v", err)
		}
	})).ServeHTTP(inner, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil))
	if len(inner.deadlines) != 3 || inner.deadlines[1].Before(ahead.Now().Add(sendPatience/2)) || inner.deadlines[2].After(time.Unix(1, 0)) {
		t.Errorf("deadlines %v", inner.deadlines)
	}
	if _, shares := room.held(); shares != 0 {
		t.Error("something was not given back")
	}
}

// An error that Connect itself made stays as it is.
func TestConnectErrorOfAnother(t *testing.T) {
	err := connect.NewError(connect.CodeAborted, errors.New("by the client"))
	if got := ConnectError(fmt.Errorf("send: %w", err)); connect.CodeOf(got) != connect.CodeAborted {
		t.Errorf("became %v", got)
	}
}
