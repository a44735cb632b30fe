package query

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/query/tail"
)

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
