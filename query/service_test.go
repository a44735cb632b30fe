package query

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/tidemark-io/tidemark/client"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/query/tail"
)

// answer is what a client got of one Execute.
type answer struct {
	started  *tidemarkv1.QueryStarted
	pieces   [][]byte
	progress []*tidemarkv1.QueryProgress
	finished *tidemarkv1.QueryFinished
	err      error
}

func (h *harness) run(sql string, change ...func(*tidemarkv1.ExecuteRequest)) answer {
	r := &tidemarkv1.ExecuteRequest{Sql: sql}
	for _, c := range change {
		c(r)
	}
	return read(h.query.Execute(h.t.Context(), r))
}

func read(stream *connect.ServerStreamForClient[tidemarkv1.ExecuteResponse], err error) (a answer) {
	if err != nil {
		a.err = err
		return a
	}
	for stream.Receive() {
		switch e := stream.Msg().GetEvent().(type) {
		case *tidemarkv1.ExecuteResponse_Started:
			a.started = e.Started
		case *tidemarkv1.ExecuteResponse_Arrow:
			a.pieces = append(a.pieces, bytes.Clone(e.Arrow))
		case *tidemarkv1.ExecuteResponse_Progress:
			a.progress = append(a.progress, e.Progress)
		case *tidemarkv1.ExecuteResponse_Finished:
			a.finished = e.Finished
		}
	}
	a.err = stream.Err()
	stream.Close()
	return a
}

// rows are the cells of a whole answer, as text.
func (a answer) rows(t *testing.T) [][]string {
	t.Helper()
	if a.err != nil {
		t.Fatal("the query failed:", a.err)
	}
	r, err := ipc.NewReader(bytes.NewReader(bytes.Join(a.pieces, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	out := [][]string{{}}
	for _, f := range r.Schema().Fields() {
		out[0] = append(out[0], f.Name)
	}
	for r.Next() {
		rec := r.Record()
		for i := range int(rec.NumRows()) {
			var row []string
			for _, c := range rec.Columns() {
				if c.IsNull(i) {
					row = append(row, "NULL")
					continue
				}
				row = append(row, c.ValueStr(i))
			}
			out = append(out, row)
		}
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return out
}

// why is the reason, the metadata and the message of an error from the server.
func why(t *testing.T, err error) (reason string, metadata map[string]string, message string) {
	t.Helper()
	ce, is := errors.AsType[*connect.Error](err)
	if !is {
		t.Fatalf("%v is no error of the server", err)
	}
	for _, d := range ce.Details() {
		if v, err := d.Value(); err == nil {
			if info, is := v.(*errdetails.ErrorInfo); is {
				return info.GetReason(), info.GetMetadata(), ce.Message()
			}
		}
	}
	return "", nil, ce.Message()
}

func wantReason(t *testing.T, err error, want Reason) map[string]string {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", want)
	}
	reason, metadata, message := why(t, err)
	if reason != string(want) {
		t.Fatalf("failed with %s (%s), want %s", reason, message, want)
	}
	if code := connect.CodeOf(err); code != want.Code() {
		t.Errorf("%s came with the code %s, want %s", want, code, want.Code())
	}
	return metadata
}

func TestQueryCoversWhatWasAcknowledged(t *testing.T) {
	h := newHarness(t, newWorld("orders"), nil)
	h.produce("orders", "a", "b", "c")
	a := h.run("SELECT * FROM orders")
	got := a.rows(t)
	want := [][]string{{"_partition", "_offset", "_value"}, {"0", "0", "a"}, {"0", "1", "b"}, {"0", "2", "c"}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if p := a.started.GetPosition(); len(p) != 1 || p[0].GetTopic() != "orders" || p[0].GetOffsets()[0] != 3 || p[0].GetOffsets()[1] != 0 {
		t.Errorf("the position is %v", p)
	}
	if f := a.finished; f.GetRows() != 3 || f.GetRowsRead() != 3 || len(a.started.GetQueryId()) != 32 {
		t.Errorf("finished: %v, id %q", f, a.started.GetQueryId())
	}
	if sql := h.engine.sql[0]; sql != `SELECT * FROM tidemark_scan(0) AS "orders"` {
		t.Errorf("the engine ran %s", sql)
	}
	if len(a.pieces) != 3 {
		t.Errorf("%d pieces, want schema, batch and end", len(a.pieces))
	}
}

func TestEmptyResultHasColumns(t *testing.T) {
	h := newHarness(t, newWorld("orders"), nil)
	a := h.run("SELECT * FROM orders")
	if got := a.rows(t); len(got) != 1 || len(got[0]) != 3 || len(a.pieces) != 2 {
		t.Errorf("got %v in %d pieces", got, len(a.pieces))
	}
}

// TestSameTopicTwiceIsOneTable: both mentions see the same position.
func TestSameTopicTwiceIsOneTable(t *testing.T) {
	h := newHarness(t, newWorld("orders", "users"), nil)
	h.produce("orders", "a")
	h.produce("users", "u", "v")
	a := h.run("SELECT * FROM orders JOIN users JOIN ORDERS")
	if a.err != nil {
		t.Fatal(a.err)
	}
	if sql := h.engine.sql[0]; sql != `SELECT * FROM tidemark_scan(0) AS "orders" JOIN tidemark_scan(1) AS "users" JOIN tidemark_scan(0) AS "ORDERS"` {
		t.Errorf("the engine ran %s", sql)
	}
	if p := formatProto(a.started.GetPosition()); p != "orders 0:1 1:0, users 0:2 1:0" {
		t.Errorf("the position is %s", p)
	}
}

func formatProto(in []*tidemarkv1.Position) string {
	var out []position
	for _, p := range in {
		out = append(out, position{p.GetTopic(), p.GetOffsets()})
	}
	return formatPositions(out)
}

// TestAtLeastWaits: a query that must cover what is not there yet waits for it, and begins with a later position.
func TestAtLeastWaits(t *testing.T) {
	h := newHarness(t, newWorld("orders"), nil)
	h.produce("orders", "a")
	done := make(chan answer)
	go func() {
		done <- h.run("SELECT * FROM orders", func(r *tidemarkv1.ExecuteRequest) {
			r.AtLeast = []*tidemarkv1.Position{{Topic: "orders", Offsets: map[int32]int64{0: 2}}}
		})
	}()
	until(t, "it catches up", func() bool { return states(h.service)[stateCatchingUp] == 1 })
	select {
	case <-done:
		t.Fatal("it did not wait")
	default:
	}
	h.produce("orders", "b")
	if got := (<-done).rows(t); len(got) != 3 {
		t.Errorf("got %v", got)
	}
}

func states(s *Service) map[queryState]int {
	out := map[queryState]int{}
	for _, r := range s.registry.records() {
		out[r.state]++
	}
	return out
}

func TestAtLeastOfNothing(t *testing.T) {
	h := newHarness(t, newWorld("orders", "users"), nil)
	ask := func(topic string, partition int32) error {
		return h.run("SELECT * FROM orders", func(r *tidemarkv1.ExecuteRequest) {
			r.AtLeast = []*tidemarkv1.Position{{Topic: topic, Offsets: map[int32]int64{partition: 0}}}
		}).err
	}
	wantReason(t, ask("nope", 0), ReasonUnknownTopic)
	wantReason(t, ask("orders", 2), ReasonUnknownPartition)
	wantReason(t, ask("users", 7), ReasonUnknownPartition)
	wantReason(t, ask("", 0), ReasonInvalidRequest)
	wantReason(t, ask("orders", -1), ReasonInvalidRequest)
	if err := ask("users", 1); err != nil {
		t.Error("a position of a topic that is not read:", err)
	}
}

func TestNamesOfTables(t *testing.T) {
	w := newWorld("orders", "Mixed", "a.b", "access-log", "order", "twin", "TWIN")
	h := newHarness(t, w, nil)
	for _, sql := range []string{`SELECT * FROM ORDERS`, `SELECT * FROM mixed`, `SELECT * FROM "Mixed"`, `SELECT * FROM "a.b"`, `SELECT * FROM twin`, `SELECT * FROM "TWIN"`} {
		if err := h.run(sql).err; err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	tests := []struct {
		sql    string
		reason Reason
		next   string
	}{
		{`SELECT * FROM ordrs`, ReasonUnknownTable, "orders"},
		{`SELECT * FROM "Twin"`, ReasonUnknownTable, "TWIN"},
		{`SELECT * FROM order`, "SYNTAX", `"order"`},
		{`SELECT * FROM access-log`, "SYNTAX", `"access-log"`},
		{`SELECT * FROM access`, ReasonUnknownTable, "SHOW TABLES"},
		{`SELECT * FROM system.topcs`, ReasonUnknownTable, "topics"},
		{`SELEC 1`, "SYNTAX", ""},
	}
	for _, test := range tests {
		err := h.run(test.sql).err
		m := wantReason(t, err, test.reason)
		if !strings.Contains(m["next"], test.next) {
			t.Errorf("%s: next is %q, want it to tell about %s", test.sql, m["next"], test.next)
		}
		if test.reason == ReasonUnknownTable && test.sql[14] != '"' && (m["position"] != "14" || m["column"] != "15" || m["line"] != "1") {
			t.Errorf("%s: the place is %v", test.sql, m)
		}
	}
}

// TestPlaceOfNames: hints are about what stands at the place, not about what is quoted or part of a longer word.
func TestPlaceOfNames(t *testing.T) {
	topics := []string{"a.b", "access-log", "order"}
	for _, test := range []struct {
		sql  string
		at   int
		want string
	}{
		{"FROM order", 5, "order"},
		{"FROM ORDER WHERE", 11, "order"},
		{"FROM access-log", 11, "access-log"},
		{"FROM access-log", 12, "access-log"},
		{"FROM access-logs", 11, ""},
		{`FROM "order" x y z`, 17, ""},
		{"FROM a.b", 5, "a.b"},
		{"FROM xa.b", 5, ""},
		{"SELECT x ORDER BY", 0, ""},
		{"SELECT order", -1, "order"},
		{"", 0, ""},
	} {
		if got := needsQuotes(test.sql, test.at, topics); got != test.want {
			t.Errorf("%q at %d: %q, want %q", test.sql, test.at, got, test.want)
		}
	}
}

func TestCatalogAnswers(t *testing.T) {
	h := newHarness(t, newWorld("orders", "users"), nil)
	h.produce("orders", "a")
	if got := fmt.Sprint(h.run("SHOW TABLES").rows(t)); got != "[[name partitions durability] [orders 2 object] [users 2 object]]" {
		t.Error("SHOW TABLES:", got)
	}
	a := h.run("DESCRIBE orders")
	if got := a.rows(t); got[0][0] != "column_name" || fmt.Sprint(got[1]) != "[_partition INTEGER NULL]" || len(got) != 9 {
		t.Error("DESCRIBE orders:", got)
	}
	if formatProto(a.started.GetPosition()) != "orders 0:1 1:0" {
		t.Error("DESCRIBE covers", a.started.GetPosition())
	}
	if got := h.run("DESCRIBE system.topics").rows(t); fmt.Sprint(got[1]) != "[name VARCHAR NULL]" {
		t.Error("DESCRIBE system.topics:", got)
	}
	if got := h.run("EXPLAIN DESCRIBE orders").rows(t); got[0][0] != "explain_key" || len(got) != 2 {
		t.Error("EXPLAIN DESCRIBE:", got)
	}
	if len(h.engine.sql) != 0 {
		t.Error("the engine ran", h.engine.sql)
	}
	h.run("SUMMARIZE orders")
	if sql := h.engine.sql; len(sql) != 1 || sql[0] != `SUMMARIZE FROM tidemark_scan(0) AS "orders"` {
		t.Error("the engine ran", sql)
	}
	tables, err := h.query.ListTables(t.Context(), &tidemarkv1.ListTablesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, table := range tables.GetTables() {
		names = append(names, table.GetSchema()+"."+table.GetName())
	}
	if fmt.Sprint(names) != "[.orders .users system.columns system.partitions system.queries system.topics]" {
		t.Error("ListTables:", names)
	}
}

func TestExplain(t *testing.T) {
	h := newHarness(t, newWorld("orders"), nil)
	h.produce("orders", "a")
	r, err := h.query.Explain(t.Context(), &tidemarkv1.ExplainRequest{Sql: "SELECT * FROM orders"})
	if err != nil {
		t.Fatal(err)
	}
	if r.GetPlan() != "SCAN of 1\n" || formatProto(r.GetPosition()) != "orders 0:1 1:0" {
		t.Errorf("plan %q at %v", r.GetPlan(), r.GetPosition())
	}
	if got := h.run("EXPLAIN ANALYZE SELECT * FROM orders").rows(t); len(got) != 2 {
		t.Error(got)
	}
	want := []string{`EXPLAIN SELECT * FROM tidemark_scan(0) AS "orders"`, `EXPLAIN ANALYZE  SELECT * FROM tidemark_scan(0) AS "orders"`}
	if !slices.Equal(h.engine.sql, want) {
		t.Errorf("the engine ran %q", h.engine.sql)
	}
}

func TestSystemTables(t *testing.T) {
	w := newWorld("orders", "idle")
	w.misfits = []tail.Misfit{{Column: "_value", Rows: 2, Partition: 1, Offset: 7}}
	h := newHarness(t, w, nil)
	h.produce("orders", "a")
	topics := h.run("SELECT * FROM system.topics").rows(t)
	if len(topics) != 3 || topics[1][0] != "idle" || topics[2][2] != "2" || topics[2][3] != "object" {
		t.Error("topics:", topics)
	}
	if got := h.run(`SELECT * FROM "system".partitions`).rows(t); len(got) != 5 || fmt.Sprint(got[3]) != "[orders 0 node-1 3 0 1 1 1]" {
		t.Error("partitions:", got)
	}
	columns := h.run("SELECT * FROM system.columns").rows(t)
	if len(columns) != 17 || fmt.Sprint(columns[1]) != "[idle _partition INTEGER NULL 1 false NULL NULL NULL NULL NULL]" ||
		fmt.Sprint(columns[14]) != "[orders _value VARCHAR NULL 6 false NULL NULL 2 1 7]" || columns[9][8] != "0" {
		t.Error("columns:", columns)
	}
	queries := h.run("SELECT * FROM system.queries").rows(t)
	if len(queries) != 5 || queries[1][1] != "finished" || queries[4][1] != "catching up" || queries[4][2] != "SELECT * FROM system.queries" {
		t.Error("queries:", queries)
	}
}

func TestErrorsOfTheEngine(t *testing.T) {
	h := newHarness(t, newWorld("orders"), nil)
	sql := "EXPLAIN\nSELECT nope FROM orders WHERE x"
	for _, test := range []struct {
		err    error
		reason Reason
		column string
	}{
		{&StatementError{Kind: "binder", Message: "Referenced column \"nope\" not found in FROM clause!\nCandidate bindings: \"_key\"\n\nLINE 1: EXPLAIN …", Position: 16}, ReasonUnknownColumn, "8"},
		{&StatementError{Kind: "binder", Message: "aggregates are not allowed in WHERE", Position: -1}, ReasonInvalidSQL, ""},
		{&StatementError{Kind: "conversion", Message: "Could not convert string 'x' to INT32", Position: -1}, ReasonSQLError, ""},
		{&StatementError{Kind: "INTERNAL", Message: "assertion", Position: -1}, ReasonInternal, ""},
		{fmt.Errorf("%w: 1 GiB", ErrMemory), ReasonMemory, ""},
		{fmt.Errorf("%w: 4 GiB", ErrTemp), ReasonTempSpace, ""},
		{errors.New("anything"), ReasonInternal, ""},
	} {
		h.engine.start = func(context.Context, Statement) (Result, error) { return nil, test.err }
		err := h.run(sql).err
		m := wantReason(t, err, test.reason)
		if m["column"] != test.column {
			t.Errorf("%v: the place is %v", test.err, m)
		}
		if strings.Contains(err.Error(), "LINE 1") {
			t.Errorf("the message shows the rewritten statement: %v", err)
		}
		// The same while rows are read.
		h.engine.start = func(context.Context, Statement) (Result, error) { return failing{test.err}, nil }
		wantReason(t, h.run(sql).err, test.reason)
	}
	h.engine.start = func(context.Context, Statement) (Result, error) { panic("a bug") }
	wantReason(t, h.run(sql).err, ReasonInternal)
	h.engine.start = func(context.Context, Statement) (Result, error) { return failing{nil}, nil }
	wantReason(t, h.run(sql).err, ReasonInternal)
}

// failing fails at the first row, or panics without an error.
type failing struct{ err error }

func (failing) Schema() *arrow.Schema { return generated }

func (f failing) Next(context.Context) (arrow.Record, error) {
	if f.err == nil {
		panic("a bug")
	}
	return nil, f.err
}

func (failing) Close() {}

func TestErrorsBelow(t *testing.T) {
	h := newHarness(t, newWorld("orders"), nil)
	ask := func() error { return h.run("SELECT * FROM orders").err }
	h.tailErr = fmt.Errorf("topic orders: %w", tail.ErrSpillFull)
	wantReason(t, ask(), ReasonTempSpace)
	h.tailErr = &tail.DamageError{Topic: "orders"}
	wantReason(t, ask(), ReasonUnavailable)
	h.tailErr = nil
	lag := tailError(&tail.LagError{Topic: "orders", Partitions: []tail.Lag{{Partition: 1, Reached: 3, Wanted: 9}}})
	if !strings.Contains(lag.Error(), "partition 1 of topic orders is at offset 3 of 9") {
		t.Error("it does not say what lags:", lag)
	}
	h.endsErr = &client.Error{Code: connect.CodeUnavailable, Message: "no leader", RetryAfter: 2 * time.Second, Retryable: true}
	err := ask()
	wantReason(t, err, ReasonUnavailable)
	ce, _ := errors.AsType[*connect.Error](err)
	if len(ce.Details()) != 2 {
		t.Error("there is no hint when to try again")
	}
}

// TestTopicMadeAgain: a topic that is deleted and made anew between two steps is resolved again.
func TestTopicMadeAgain(t *testing.T) {
	w := newWorld("orders")
	h := newHarness(t, w, nil)
	var once sync.Once
	w.beforeEnd = func(string) { once.Do(func() { w.create("orders", 1) }) }
	if a := h.run("SELECT * FROM orders"); a.err != nil || formatProto(a.started.GetPosition()) != "orders 0:0" {
		t.Error(a.started, a.err)
	}
	w.beforeEnd = func(string) { w.create("orders", 1) }
	wantReason(t, h.run("SELECT * FROM orders").err, ReasonUnknownTopic)
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

func TestProgress(t *testing.T) {
	c := newFakeClock()
	h := newHarness(t, newWorld("orders"), func(p *components) { p.clock = c })
	h.produce("orders", "a", "b")
	begun := make(chan struct{})
	h.engine.start = func(ctx context.Context, s Statement) (Result, error) {
		r, err := scanAll(ctx, s)
		if err == nil {
			r.Close()
		}
		return stuck{begun}, err
	}
	stream, err := h.query.Execute(t.Context(), &tidemarkv1.ExecuteRequest{Sql: "SELECT * FROM orders", ProgressMs: 1, TimeoutMs: 3_600_000})
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	defer c.run(10 * time.Millisecond)()
	for range 3 {
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
	}
	if p := stream.Msg().GetProgress(); p.GetRowsRead() != 2 || p.GetRowsToRead() != 2 {
		t.Errorf("progress: %v", p)
	}
	stream.Close()
}

// TestFirstRowsGoAtOnce: what an engine has given is sent after a moment, though it gives no more.
func TestFirstRowsGoAtOnce(t *testing.T) {
	c := newFakeClock()
	h := newHarness(t, newWorld(), func(p *components) { p.clock = c })
	begun := make(chan struct{})
	h.engine.start = func(context.Context, Statement) (Result, error) {
		return &first{Result: &generator{rows: 10, step: 10}, rest: stuck{begun}}, nil
	}
	stream, err := h.query.Execute(t.Context(), &tidemarkv1.ExecuteRequest{Sql: "SELECT 1", TimeoutMs: 3_600_000})
	if err != nil {
		t.Fatal(err)
	}
	<-begun // the ten rows are in the batch
	defer c.run(firstBatchWait / 4)()
	for range 3 {
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
	}
	if len(stream.Msg().GetArrow()) == 0 {
		t.Errorf("third came %v", stream.Msg())
	}
	stream.Close()
}

// first gives one record of a result, and then another result.
type first struct {
	Result

	given bool
	rest  Result
}

func (f *first) Next(ctx context.Context) (arrow.Record, error) {
	if f.given {
		return f.rest.Next(ctx)
	}
	f.given = true
	return f.Result.Next(ctx)
}

// TestLargeResult: many small records come in few batches, and every row once.
func TestLargeResult(t *testing.T) {
	h := newHarness(t, newWorld(), nil)
	const rows = 200_000
	h.engine.start = func(context.Context, Statement) (Result, error) {
		return &generator{rows: rows, step: MaxScanRows}, nil
	}
	a := h.run("SELECT 1")
	got := a.rows(t)
	if len(got) != rows+1 || got[rows][0] != fmt.Sprint(rows-1) || a.finished.GetRows() != rows {
		t.Errorf("%d rows, the last is %v", len(got)-1, got[len(got)-1])
	}
	if len(a.pieces) > rows/batchRows+40 {
		t.Errorf("%d rows came in %d pieces", rows, len(a.pieces))
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
