package query

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow/go/v17/arrow"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

// untilStopped gives nothing until its statement is stopped: what asks for the next rows it does not hear.
type untilStopped struct{ statement context.Context }

func (untilStopped) Schema() *arrow.Schema { return generated }

func (u untilStopped) Next(context.Context) (arrow.Record, error) {
	<-u.statement.Done()
	return nil, context.Cause(u.statement)
}

func (untilStopped) Close() {}

// TestEndOfAQueryStopsItsStatement: what ends a query by itself does not wait for the engine's next rows.
func TestEndOfAQueryStopsItsStatement(t *testing.T) {
	h := newHarness(t, newWorld(), nil)
	var stopped func() error
	h.engine.start = func(ctx context.Context, _ Statement) (Result, error) {
		stopped = ctx.Err
		return &first{Result: &generator{rows: 10, step: 10}, rest: untilStopped{ctx}}, nil
	}
	limited := func(r *tidemarkv1.ExecuteRequest) { r.MaxRows, r.TimeoutMs = 5, 5000 }
	wantReason(t, h.run("SELECT 1", limited).err, ReasonResultTooLarge)
	if stopped() == nil {
		t.Error("the statement goes on")
	}
	// One that has given all is not interrupted: its instance serves others.
	h.engine.start = func(ctx context.Context, _ Statement) (Result, error) {
		return &generator{rows: 5, step: 5, onClose: func() {
			if ctx.Err() != nil {
				t.Error("a whole result was interrupted")
			}
		}}, nil
	}
	if err := h.run("SELECT 1", limited).err; err != nil {
		t.Error(err)
	}
}

// TestCloseGivesUp: a query that cannot be interrupted does not hold up the process's end.
func TestCloseGivesUp(t *testing.T) {
	c := newFakeClock()
	h := newHarness(t, newWorld(), func(p *components) { p.clock = c })
	begun, let := make(chan struct{}), make(chan struct{})
	h.engine.start = func(context.Context, Statement) (Result, error) { return stubborn{begun, let}, nil }
	done := make(chan error)
	go func() { done <- h.run("SELECT 1").err }()
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	closed := make(chan error)
	go func() { closed <- h.service.Close(ctx) }()
	until(t, "Close gives up", func() bool {
		c.advance(endGrace / 10)
		select {
		case err := <-closed:
			if !errors.Is(err, ErrStillRunning) {
				t.Error("Close:", err)
			}
			return true
		default:
			return false
		}
	})
	close(let)
	wantReason(t, <-done, ReasonShuttingDown)
	if err := h.service.Close(t.Context()); err != nil {
		t.Error("the second Close, when the query is over:", err)
	}
}

// stubborn gives nothing until it is let, whoever asks it to stop.
type stubborn struct{ begun, let chan struct{} }

func (stubborn) Schema() *arrow.Schema { return generated }

func (s stubborn) Next(context.Context) (arrow.Record, error) {
	close(s.begun)
	<-s.let
	return nil, context.Canceled
}

func (stubborn) Close() {}

// TestPositionThatIsNotReached: a position that nobody was acknowledged is waited for a moment, and then said to be one.
func TestPositionThatIsNotReached(t *testing.T) {
	c := newFakeClock()
	h := newHarness(t, newWorld("orders"), func(p *components) { p.clock = c })
	h.produce("orders", "a")
	done := make(chan answer)
	ask := func(offset int64, timeout time.Duration) {
		done <- h.run("SELECT * FROM orders", func(r *tidemarkv1.ExecuteRequest) {
			r.AtLeast = []*tidemarkv1.Position{{Topic: "orders", Offsets: map[int32]int64{0: offset}}}
			r.TimeoutMs = timeout.Milliseconds()
		})
	}
	waits := func() {
		until(t, "it waits for the log", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.waiting == 1
		})
	}
	for _, timeout := range []time.Duration{time.Hour, time.Second} {
		go ask(99, timeout)
		waits()
		wait := min(timeout, 10*time.Second)
		c.advance(wait - time.Millisecond)
		select {
		case a := <-done:
			t.Fatal("it did not wait:", a.err)
		default:
		}
		c.advance(time.Millisecond)
		err := (<-done).err
		m := wantReason(t, err, ReasonPositionNotReached)
		if m["topic"] != "orders" || m["partition"] != "0" || m["asked"] != "99" || m["end"] != "1" || !strings.Contains(m["next"], "acks=1") {
			t.Error(m)
		}
		if !strings.Contains(err.Error(), "asks for offset 99 of partition 0 of topic orders, which ends at 1") {
			t.Error(err)
		}
		if ce, _ := errors.AsType[*connect.Error](err); ce.Code() != connect.CodeFailedPrecondition || len(ce.Details()) != 1 {
			t.Error("it is to be tried again:", ce.Code(), len(ce.Details()))
		}
	}
	// The log comes there, and the tail late: that is no reason to fail.
	h.mu.Lock()
	h.slowTail = true
	h.mu.Unlock()
	go ask(2, time.Hour)
	waits()
	h.produce("orders", "b")
	h.mu.Lock()
	asked := h.asked
	h.mu.Unlock()
	c.advance(aheadWait)
	until(t, "it asks the tail again", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.asked > asked
	})
	h.mu.Lock()
	h.slowTail = false
	h.mu.Unlock()
	h.produce("orders")
	if got := (<-done).rows(t); len(got) != 3 {
		t.Error(got)
	}
	// A tail that is behind the log is what a query that ran out of time waited for.
	h.mu.Lock()
	h.slowTail = true
	h.mu.Unlock()
	go ask(99, time.Second)
	waits()
	c.advance(time.Second)
	wantReason(t, (<-done).err, ReasonTimeout)
}

func TestLimitsOfRequests(t *testing.T) {
	h := newHarness(t, newWorld("orders"), func(c *components) { c.limits.MaxRows = 100 })
	h.engine.start = func(context.Context, Statement) (Result, error) { return &generator{rows: 100, step: 10}, nil }
	if err := h.run("SELECT 1").err; err != nil {
		t.Error("as many rows as are allowed:", err)
	}
	h.engine.start = func(context.Context, Statement) (Result, error) { return &generator{rows: 101, step: 10}, nil }
	wantReason(t, h.run("SELECT 1").err, ReasonResultTooLarge)
	wantReason(t, h.run("SELECT 1", func(r *tidemarkv1.ExecuteRequest) { r.MaxRows = 1_000_000 }).err, ReasonResultTooLarge)
	wantReason(t, h.run("").err, ReasonInvalidRequest)
	wantReason(t, h.run("SELECT '"+strings.Repeat("x", maxSQL)+"'").err, ReasonTooLarge)
	wantReason(t, h.run("SELECT 1", func(r *tidemarkv1.ExecuteRequest) { r.TimeoutMs = -1 }).err, ReasonInvalidRequest)
	if err := h.run("SELECT 1; SELECT 2").err; err == nil {
		t.Error("two statements ran")
	}
	if h.service.texts.used.Load() != 0 {
		t.Error("texts are counted that are gone")
	}
}

// TestStalledAreAsManyAsCompute: together they bound the engines there are, and so their memory.
func TestStalledAreAsManyAsCompute(t *testing.T) {
	if l := (Limits{}).withDefaults(4); l.Concurrent != 8 || l.Stalled != 8 {
		t.Errorf("%+v", l)
	}
	if l := (Limits{Concurrent: 3}).withDefaults(4); l.Stalled != 3 {
		t.Errorf("%+v", l)
	}
}

func TestTimeIsOver(t *testing.T) {
	c := newFakeClock()
	h := newHarness(t, newWorld("orders"), func(p *components) { p.clock = c; p.limits.Concurrent = 2; p.limits.Timeout = 10 * time.Second })
	begun := make(chan struct{})
	h.engine.start = func(context.Context, Statement) (Result, error) { return stuck{begun}, nil }
	done := make(chan error)
	go func() { done <- h.run("SELECT 1").err }()
	<-begun
	c.advance(9 * time.Second)
	select {
	case err := <-done:
		t.Fatal("ended too early:", err)
	default:
	}
	c.advance(time.Second)
	err := <-done
	wantReason(t, err, ReasonTimeout)
	if !strings.Contains(err.Error(), "running") {
		t.Error("it does not say what it was at:", err)
	}
	// Waiting counts: for the log, and in the queue.
	h.produce("orders", "a")
	h.slowTail = true
	go func() {
		done <- h.run("SELECT * FROM orders", func(r *tidemarkv1.ExecuteRequest) {
			r.AtLeast = []*tidemarkv1.Position{{Topic: "orders", Offsets: map[int32]int64{0: 99}}}
			r.TimeoutMs = 1000
		}).err
	}()
	until(t, "it catches up", func() bool { return states(h.service)[stateCatchingUp] == 1 })
	c.advance(time.Second)
	if err := <-done; !strings.Contains(err.Error(), "catching up") {
		t.Error("it does not say what it was at:", err)
	}
}

func TestCancel(t *testing.T) {
	h := newHarness(t, newWorld("orders"), nil)
	begun := make(chan struct{})
	h.engine.start = func(context.Context, Statement) (Result, error) { return stuck{begun}, nil }
	stream, err := h.query.Execute(t.Context(), &tidemarkv1.ExecuteRequest{Sql: "SELECT 1"})
	if err != nil || !stream.Receive() {
		t.Fatal(err, stream.Err())
	}
	id := stream.Msg().GetStarted().GetQueryId()
	<-begun
	if _, err := h.query.Cancel(t.Context(), &tidemarkv1.CancelRequest{QueryId: id}); err != nil {
		t.Fatal(err)
	}
	wantReason(t, read(stream, nil).err, ReasonQueryCanceled)
	_, err = h.query.Cancel(t.Context(), &tidemarkv1.CancelRequest{QueryId: id})
	wantReason(t, err, ReasonUnknownQuery)

	// A client that goes away cancels its query.
	ctx, cancel := context.WithCancel(t.Context())
	stream, err = h.query.Execute(ctx, &tidemarkv1.ExecuteRequest{Sql: "SELECT 1"})
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	cancel()
	stream.Close()
	until(t, "both are over", func() bool { return states(h.service)[stateCanceled] == 2 })
}

func TestNoEngine(t *testing.T) {
	h := newHarness(t, newWorld(), func(c *components) { c.engine = nil })
	wantReason(t, h.run("SELECT 1").err, ReasonNoEngine)
	_, err := h.query.Explain(t.Context(), &tidemarkv1.ExplainRequest{Sql: "SELECT 1"})
	wantReason(t, err, ReasonNoEngine)
}

// TestWrongSQLDoesNotWait: it is answered while every slot is taken.
func TestWrongSQLDoesNotWait(t *testing.T) {
	h := newHarness(t, newWorld("orders"), func(c *components) { c.limits.Concurrent = 1; c.limits.WaitingPerConnection = 1 })
	begun := make(chan struct{})
	h.engine.start = func(context.Context, Statement) (Result, error) { return stuck{begun}, nil }
	ctx, cancel := context.WithCancel(t.Context())
	var queries sync.WaitGroup
	queries.Go(func() { read(h.query.Execute(ctx, &tidemarkv1.ExecuteRequest{Sql: "SELECT 1"})) })
	<-begun
	queries.Go(func() { read(h.query.Execute(ctx, &tidemarkv1.ExecuteRequest{Sql: "SELECT 2"})) })
	until(t, "the second waits", func() bool { _, waiting := h.service.gate.levels(); return waiting == 1 })
	wantReason(t, h.run("SELEC 1").err, "SYNTAX")
	err := h.run("SELECT 3").err
	wantReason(t, err, ReasonQueueFull)
	if ce, _ := errors.AsType[*connect.Error](err); len(ce.Details()) != 2 {
		t.Error("there is no hint when to try again")
	}
	cancel()
	queries.Wait()
}

// TestQueueIsNotOfWhoFillsIt: a query that is pushed out of a full queue is told so, and the other gets its place. That connections are told apart
// is enough here: all clients of a test have one host.
func TestQueueIsNotOfWhoFillsIt(t *testing.T) {
	h := newHarness(t, newWorld(), func(c *components) { c.limits.Concurrent = 1; c.limits.Waiting = 2 })
	begun := make(chan struct{})
	h.engine.start = func(context.Context, Statement) (Result, error) { return stuck{begun}, nil }
	ctx, cancel := context.WithCancel(t.Context())
	var queries sync.WaitGroup
	ended := make(chan error, 3)
	greedy, honest := h.client(), h.client()
	ask := func(c tidemarkv1connect.QueryServiceClient, sql string) {
		queries.Go(func() {
			if err := read(c.Execute(ctx, &tidemarkv1.ExecuteRequest{Sql: sql})).err; ctx.Err() == nil {
				ended <- err
			}
		})
	}
	waiting := func(n int) {
		until(t, "they wait", func() bool { _, waiting := h.service.gate.levels(); return waiting == n })
	}
	ask(greedy, "SELECT 1")
	<-begun
	ask(greedy, "SELECT 2")
	waiting(1)
	ask(greedy, "SELECT 3")
	waiting(2)
	ask(honest, "SELECT 4")
	err := <-ended
	wantReason(t, err, ReasonQueueFull)
	if !strings.Contains(err.Error(), "made room for another's") {
		t.Error(err)
	}
	until(t, "the newest is gone", func() bool {
		records := h.service.registry.records()
		return len(records) == 4 && records[0].sql == "SELECT 3" && records[0].state == stateFailed
	})
	waiting(2)
	cancel()
	queries.Wait()
}

func TestDrainAndClose(t *testing.T) {
	h := newHarness(t, newWorld("orders"), nil)
	begun := make(chan struct{})
	h.engine.start = func(context.Context, Statement) (Result, error) { return stuck{begun}, nil }
	done := make(chan error)
	go func() { done <- h.run("SELECT 1").err }()
	<-begun
	h.service.Drain()
	wantReason(t, h.run("SELECT 1").err, ReasonShuttingDown)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.service.Close(ctx); err == nil {
		t.Error("Close does not tell that it ended a query")
	}
	wantReason(t, <-done, ReasonShuttingDown)
	if err := h.service.Close(t.Context()); err != nil {
		t.Error("the second Close:", err)
	}
}

// TestOnlySoManyCompute: no more than the limit hold an engine's result at once, and all end.
func TestOnlySoManyCompute(t *testing.T) {
	h := newHarness(t, newWorld(), func(c *components) { c.limits.Concurrent = 2 })
	h.engine.start = func(context.Context, Statement) (Result, error) { return &generator{rows: 1000, step: 10}, nil }
	var failed atomic.Int64
	var queries sync.WaitGroup
	for range 60 {
		queries.Go(func() {
			if a := h.run("SELECT 1"); a.err != nil || a.finished.GetRows() != 1000 {
				failed.Add(1)
				t.Error(a.err)
			}
		})
	}
	queries.Wait()
	if h.engine.most > 2+32 {
		t.Errorf("%d engines were in use at once", h.engine.most)
	}
}

// TestFailuresOfOursAreLogged, and others are not.
func TestFailuresOfOursAreLogged(t *testing.T) {
	var log lockedBuffer
	h := newHarness(t, newWorld("orders"), func(c *components) { c.logger = slog.New(slog.NewTextHandler(&log, nil)) })
	h.run("SELECT * FROM nope")
	if log.String() != "" {
		t.Error("a mistake of the client's was logged:", log.String())
	}
	h.engine.start = func(context.Context, Statement) (Result, error) { panic("a bug of ours") }
	h.run("SELECT 1 AS \"" + strings.Repeat("x", 3000) + "\"")
	if strings.Contains(log.String(), strings.Repeat("x", loggedSQL)) || !strings.Contains(log.String(), strings.Repeat("x", loggedSQL/2)) {
		t.Error("the log has all of the statement, or none:", len(log.String()))
	}
	h.run("SELECT 1")
	if !strings.Contains(log.String(), "a bug of ours") || !strings.Contains(log.String(), "query_id=") {
		t.Error("the log has", log.String())
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestRegistryForgets: the last hundred that ended are kept, their texts cut.
func TestRegistryForgets(t *testing.T) {
	h := newHarness(t, newWorld(), nil)
	h.run("SELECT '" + strings.Repeat("é", 5000) + "'")
	if got := h.service.registry.records()[0].sql; len(got) > keptSQL || !strings.HasSuffix(got, "é…") {
		t.Errorf("%d bytes are kept, ending in %q", len(got), got[len(got)-4:])
	}
	for range endedKept + 5 {
		e, err := h.service.registry.begin("x", "c", func(error) {})
		if err != nil {
			t.Fatal(err)
		}
		h.service.registry.end(e, nil)
	}
	if n := len(h.service.registry.records()); n != endedKept {
		t.Errorf("%d are kept", n)
	}
}
