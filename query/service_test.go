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
	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
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
		{`SELECT * FROM system.whatever`, ReasonUnknownTable, "system.partitions, system.queries"},
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
	if got := h.run("/* what is there */ DESCRIBE -- it\n orders -- of course;\n ; /**/").rows(t); fmt.Sprint(got) != fmt.Sprint(a.rows(t)) {
		t.Error("DESCRIBE with comments:", got)
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

func TestSpoken(t *testing.T) {
	for text, want := range map[string]string{
		" DESCRIBE\t": "DESCRIBE", "/* a /* b */ c */DESC --x\n": "DESC", "--x": "", ";;\n": "", "/*": "", "DESCRIBE FROM": "DESCRIBE FROM", "*/": "*/",
		"/* -- */ SHOW -- /*": "SHOW", "DE/**/SC": "DE SC",
	} {
		if got := spoken(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
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
	h := newHarness(t, newWorld("orders", "users"), nil)
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
	for _, test := range []struct{ sql, message, next string }{
		{"SELECT nope FROM orders", `Referenced column "nope" not found in FROM clause!`, `DESCRIBE "orders"`},
		{"SELECT nope FROM orders JOIN users", `Referenced column "nope" not found in FROM clause!`, ""},
		{"SELECT nope FROM system.topics", `Referenced column "nope" not found in FROM clause!`, ""},
		{"SELECT 'a'+1 FROM orders", "No function matches", ""},
		{"SELECT system.topics.name FROM system.topics", `Referenced table "system" not found!`, "write topics.name."},
		{`SELECT MAIN."orders"."a b" FROM orders`, `Referenced table "MAIN" not found!`, `write "orders"."a b".`},
		{"SELECT u.name FROM orders", `Referenced table "u" not found!`, ""},
	} {
		h.engine.start = func(context.Context, Statement) (Result, error) {
			return nil, &StatementError{Kind: "binder", Message: test.message, Position: -1}
		}
		_, m, _ := why(t, h.run(test.sql).err)
		if next := m["next"]; !strings.Contains(next, test.next) || test.next == "" && next != "" {
			t.Errorf("%s: next is %q", test.sql, next)
		}
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
	for _, test := range []struct {
		err  error
		want Reason
	}{
		{fmt.Errorf("store the columns: %w", meta.ErrUnavailable), ReasonUnavailable},
		{fmt.Errorf("store the columns: %w", meta.ErrTooLarge), ReasonUnavailable},
		{fmt.Errorf("%w: later", errCorruptSchema), ReasonCorruptData},
		{fmt.Errorf("read topic orders: %w", meta.ErrUnknownTopic), ReasonUnknownTopic},
	} {
		h.tailErr = fmt.Errorf("begin the tail of topic orders: %w", &tail.SchemaError{Topic: "orders", Err: test.err})
		err := ask()
		wantReason(t, err, test.want)
		if ce, _ := errors.AsType[*connect.Error](err); (len(ce.Details()) == 2) != (test.want == ReasonUnavailable) {
			t.Errorf("%v: it does not say right whether to try again", test.err)
		}
	}
	h.tailErr = fmt.Errorf("read topic orders: %w", meta.ErrUnknownTopic)
	wantReason(t, ask(), ReasonUnknownTopic)
	h.tailErr = &tail.RangeError{Topic: "orders", Err: &client.Error{Code: connect.CodeNotFound, Reason: client.ReasonOffsetOutOfRange}}
	wantReason(t, ask(), ReasonUnavailable)
	h.tailErr = fmt.Errorf("read: %w", &tail.PanicError{Topic: "orders", Cause: "index out of range"})
	err := ask()
	wantReason(t, err, ReasonInternal)
	if strings.Contains(err.Error(), "index") {
		t.Error("the inside is shown:", err)
	}
	h.tailErr = nil
	lag := tailError(&tail.LagError{Topic: "orders", Partitions: []tail.Lag{{Partition: 1, Reached: 3, Wanted: 9}}})
	if !strings.Contains(lag.Error(), "partition 1 of topic orders is at offset 3 of 9") {
		t.Error("it does not say what lags:", lag)
	}
	h.endsErr = &client.Error{Code: connect.CodeUnavailable, Message: "no leader", RetryAfter: 2 * time.Second, Retryable: true}
	err = ask()
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
	w.beforeEnd = nil

	// The same when the columns, or the tail, are first to notice.
	attempts := 0
	w.beforeSchema = func(meta.Topic) error {
		if attempts++; attempts < pinAttempts {
			return fmt.Errorf("read topic orders: %w", meta.ErrUnknownTopic)
		}
		return nil
	}
	if a := h.run("SELECT * FROM orders"); a.err != nil || attempts != pinAttempts {
		t.Error(attempts, a.err)
	}
	w.beforeSchema = nil
	w.beforeSnapshot = func() error {
		if attempts--; attempts > 0 {
			return fmt.Errorf("begin: %w", &tail.SchemaError{Topic: "orders", Err: fmt.Errorf("read topic orders: %w", meta.ErrUnknownTopic)})
		}
		return nil
	}
	if a := h.run("SELECT * FROM orders"); a.err != nil || attempts != 0 {
		t.Error(attempts, a.err)
	}
	w.beforeSnapshot = nil

	// Also when the columns fail for a reason that comes from the topic's end, before the ends tell of it.
	failed := make(chan struct{})
	var first, second sync.Once
	w.beforeSchema = func(meta.Topic) (err error) {
		first.Do(func() {
			defer close(failed)
			err = errors.New("half of it is gone")
		})
		return err
	}
	w.beforeEnd = func(string) {
		<-failed
		second.Do(func() { w.create("orders", 3) })
	}
	if a := h.run("SELECT * FROM orders"); a.err != nil || len(a.started.GetPosition()[0].GetOffsets()) != 3 {
		t.Error(a.started, a.err)
	}
	w.beforeEnd = nil

	// What lists all topics leaves it out.
	w.create("users", 1)
	w.beforeSchema = func(t meta.Topic) error {
		if t.Name == "orders" {
			return meta.ErrUnknownTopic
		}
		return nil
	}
	tables, err := h.query.ListTables(t.Context(), &tidemarkv1.ListTablesRequest{})
	if err != nil || tables.GetTables()[0].GetName() != "users" {
		t.Error(tables, err)
	}
	if got := h.run("SELECT * FROM system.columns").rows(t); len(got) != 9 || got[1][0] != "users" {
		t.Error(got)
	}
}

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
