//go:build cgo

package sandbox

import (
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/duckdb/duckdb-go/v2"

	"github.com/tidemark-io/tidemark/query/sandbox/corpus"
)

var update = flag.Bool("update", false, "write functions.txt anew")

// engine is DuckDB as a parser.
type engine struct {
	db    *sql.DB
	parse *sql.Stmt
}

func open(tb testing.TB) *engine {
	tb.Helper()
	db, err := sql.Open("duckdb", "")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("SET memory_limit = '512MB'"); err != nil {
		tb.Fatal(err)
	}
	parse, err := db.Prepare("SELECT json_serialize_sql(?::VARCHAR)::VARCHAR")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { parse.Close() })
	return &engine{db, parse}
}

// ast is what the engine's parser makes of a text.
func (e *engine) ast(tb testing.TB, text string) []byte {
	tb.Helper()
	var tree string
	if err := e.parse.QueryRow(text).Scan(&tree); err != nil {
		tb.Fatalf("parse %.200q: %v", text, err)
	}
	return []byte(tree)
}

// judge does with a text what a service does before it runs it.
func (e *engine) judge(tb testing.TB, text string) (*Statement, string, *Refusal) {
	tb.Helper()
	_, body, _, err := Strip(text)
	if err == nil {
		err = Precheck(body)
	}
	var s *Statement
	if err == nil {
		s, err = Check(body, e.ast(tb, body))
	}
	if err != nil {
		r, ok := errors.AsType[*Refusal](err)
		if !ok || r.Message == "" || r.Reason == "" || r.Position < -1 || r.Position > len(text) {
			tb.Fatalf("judge %.200q: %#v is no proper refusal", text, err)
		}
		return nil, body, r
	}
	return s, body, nil
}

func TestHostileCorpus(t *testing.T) {
	e := open(t)
	cases, err := corpus.Load()
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, c := range cases {
		start := time.Now() //nolint:forbidigo // measures the real engine
		s, body, refusal := e.judge(t, c.SQL)
		took := time.Since(start) //nolint:forbidigo // measures the real engine
		if took > 10*time.Second {
			t.Errorf("line %d %s: took %v", c.Line, c.Name, took)
		}
		allowed := c.Expect == corpus.OK || c.Expect == corpus.Runs
		switch {
		case refusal == nil && !allowed:
			t.Errorf("line %d %s: %.300q passes, want %s", c.Line, c.Name, c.SQL, c.Expect)
		case refusal != nil && refusal.Reason != c.Expect:
			t.Errorf("line %d %s: %.300q is refused with %s (%s), want %s", c.Line, c.Name, c.SQL, refusal.Reason, refusal.Message, c.Expect)
		case refusal != nil:
			refused++
		default:
			e.mustStayTheSame(t, c, s, body)
		}
	}
	if len(cases) < 400 || refused < 250 {
		t.Errorf("the corpus has %d cases, %d of them refused", len(cases), refused)
	}
}

// mustStayTheSame rewrites an allowed statement and has it parsed again: no table may be left but names of WITH, and the calls must be there.
func (e *engine) mustStayTheSame(t *testing.T, c corpus.Case, s *Statement, body string) {
	t.Helper()
	for _, r := range s.References {
		if r.Start < 0 || r.End <= r.Start || r.End > len(body) {
			t.Fatalf("line %d: %+v lies outside of the text", c.Line, r)
		}
	}
	rewritten, back := s.Rewrite(body, func(int, Reference) string { return "range(3)" })
	again, err := Check(rewritten, e.ast(t, rewritten))
	if err != nil {
		t.Errorf("line %d: rewritten to %.300q: %v", c.Line, rewritten, err)
		return
	}
	if len(again.References) > 0 || again.Kind != s.Kind {
		t.Errorf("line %d: rewritten to %.300q: kind %d instead of %d, refers to %+v", c.Line, rewritten, again.Kind, s.Kind, again.References)
	}
	last := 0
	for i := range len(rewritten) + 1 {
		at := back(i)
		if at < last || at > len(body) {
			t.Fatalf("line %d: back(%d) is %d after %d", c.Line, i, at, last)
		}
		last = at
	}
}

// engineFunctions are the functions of the engine's catalog, by folded name, with their kinds.
func engineFunctions(t *testing.T, e *engine) map[string][]string {
	t.Helper()
	rows, err := e.db.Query("SELECT DISTINCT function_name, function_type FROM duckdb_functions() ORDER BY ALL")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	kinds := make(map[string][]string)
	for rows.Next() {
		var name, kind string
		if err := rows.Scan(&name, &kind); err != nil {
			t.Fatal(err)
		}
		kinds[fold(name)] = append(kinds[fold(name)], kind)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return kinds
}

func TestEveryFunctionOfTheEngineIsAllowedOrDenied(t *testing.T) {
	kinds := engineFunctions(t, open(t))
	if *update {
		writeFunctions(t, kinds)
		return
	}
	for name, of := range kinds {
		_, denied := deniedFunctions[name]
		inExpressions := slices.ContainsFunc(of, func(k string) bool { return k == "scalar" || k == "aggregate" || k == "macro" })
		switch {
		case denied && (allowedFunctions[name] || tableFunctions[name]):
			t.Errorf("%s is allowed and denied", name)
		case inExpressions && !denied && !allowedFunctions[name]:
			t.Errorf("the engine has a function %s of which nobody has said whether it may be called: functions.txt or denied.txt", name)
		case !inExpressions && !denied && !tableFunctions[name]:
			t.Errorf("the engine has a table function or pragma %s of which nobody has said whether it may be called: denied.txt", name)
		}
	}
	for name := range allowedFunctions {
		if kinds[name] == nil {
			t.Errorf("functions.txt allows %s, which the engine has not", name)
		}
	}
	for name := range deniedFunctions {
		if kinds[name] == nil {
			t.Errorf("denied.txt has %s, which the engine has not", name)
		}
	}
	for name := range tableFunctions {
		if !slices.Contains(kinds[name], "table") {
			t.Errorf("%s may be called in FROM, and the engine has no such table function", name)
		}
	}
}

// writeFunctions writes all that can be called in an expression and is not denied: read the difference before it is committed.
func writeFunctions(t *testing.T, kinds map[string][]string) {
	t.Helper()
	var b strings.Builder
	b.WriteString("# Functions, operators and macros that a query may call.\n")
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		of := kinds[name]
		if _, denied := deniedFunctions[name]; !denied &&
			(name == "unnest" || slices.ContainsFunc(of, func(k string) bool { return k == "scalar" || k == "aggregate" || k == "macro" })) {
			b.WriteString(name + "\n")
		}
	}
	if err := os.WriteFile("functions.txt", []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestReferencesAreWhereTheTextHasThem(t *testing.T) {
	e := open(t)
	for _, c := range []struct{ sql, want string }{
		{`SELECT * FROM t`, `t`},
		{`SELECT * FROM "T x"`, `"T x"`},
		{`SELECT 'é…日本' AS "ß", x FROM /* é */ t, main.u AS v, "a""b"`, `t|main.u|"a""b"`},
		{`SELECT * FROM main /* x */ . -- y` + "\n" + `"access-log" l JOIN t USING (a)`, `main /* x */ . -- y` + "\n" + `"access-log"|t`},
		{`FROM t WHERE a IN (FROM u WHERE u.b = (SELECT max(t.b) FROM t))`, `t|u|t`},
		{`SELECT t.a, t FROM x: t, t AS t2`, `t|t`},
		{`WITH t AS (FROM t) SELECT * FROM t, T, u`, `t|u`},
		{`WITH RECURSIVE t AS (FROM t UNION ALL FROM t) FROM t`, `t`},
		{`WITH a AS (FROM b), b AS (FROM a) FROM b`, `b`},
		{`(WITH x AS (FROM t) FROM x) UNION ALL FROM x`, `t|x`},
		{`SELECT (WITH x AS (SELECT 1) FROM x), * FROM x`, `x`},
		{`WITH x AS (SELECT 1) SELECT (SELECT (FROM x)), (FROM y)`, `y`},
		{`WITH x AS (SELECT 1) FROM main.x`, `main.x`},
		{`PIVOT t ON a IN (1) USING sum(b)`, `t`},
		{`SELECT * FROM t PIVOT (sum(b) FOR a IN (1)) JOIN u USING (a)`, `t|u`},
		{`UNPIVOT t ON a, b`, `t`},
		{`DESCRIBE t`, `t`},
		{`  SUMMARIZE  main."access-log" ;`, `main."access-log"`},
		{`SHOW TABLE t`, `t`},
		{`TABLE t UNION TABLE u`, `t|u`},
		{`SELECT * FROM 'a''b.csv' c, t`, `'a''b.csv'|t`},
		{`SELECT * FROM t TABLESAMPLE 10%, u USING SAMPLE 10`, `t|u`},
		{`SELECT E'\' ' , $$ FROM q $$ FROM t -- FROM z`, `t`},
		{`SELECT * FROM system.topics, "System"."nodes" n`, `system.topics|"System"."nodes"`},
		{`SELECT CASE WHEN EXISTS (FROM t) THEN (SELECT a FROM u) END, [x FOR x IN (SELECT list(a) FROM v)]`, `t|u|v`},
		{`VALUES ((SELECT max(a) FROM t)), ((SELECT 1 FROM u LIMIT (SELECT 1 FROM v)))`, `t|u|v`},
		{`FROM t a, (t b JOIN u USING (x)) AS c, LATERAL (FROM v)`, `t|t|u|v`},
	} {
		s, body, refusal := e.judge(t, c.sql)
		if refusal != nil {
			t.Errorf("%s: %s", c.sql, refusal.Message)
			continue
		}
		var got []string
		for _, r := range s.References {
			got = append(got, body[r.Start:r.End])
		}
		if strings.Join(got, "|") != c.want {
			t.Errorf("%s refers to %q, want %q", c.sql, got, c.want)
		}
	}
}

func TestKindsAndSchemas(t *testing.T) {
	e := open(t)
	for text, want := range map[string]Kind{
		"SELECT 1": Select, "SHOW TABLES": ShowTables, "SHOW ALL TABLES": ShowTables, "SHOW": ShowTables, "DESCRIBE t": Describe, "DESC t": Describe,
		"SHOW t": Describe, "DESCRIBE SELECT 1": Describe, "SUMMARIZE t": Summarize, "SUMMARIZE SELECT 1": Summarize, "FROM (DESCRIBE t)": Select,
		"SELECT * FROM (SUMMARIZE t)": Select, "PIVOT t ON a IN (1) USING sum(b)": Select,
	} {
		s, _, refusal := e.judge(t, text)
		if refusal != nil || s.Kind != want {
			t.Errorf("%s is of kind %+v, %v, want %d", text, s, refusal, want)
		}
	}
	s, _, refusal := e.judge(t, `FROM Main."T" x, SYSTEM.Topics`)
	if refusal != nil {
		t.Fatal(refusal)
	}
	want := []Reference{{"", "T", "x", 5, 13}, {"system", "Topics", "", 17, 30}}
	if !slices.Equal(s.References, want) {
		t.Errorf("references are %+v, want %+v", s.References, want)
	}
}

// A refusal says what is wrong and where.
func TestRefusalsNameWhatIsWrong(t *testing.T) {
	e := open(t)
	for _, c := range []struct {
		sql, message, next string
		position           int
	}{
		{"SELECT getenv('HOME')", "The function getenv may not be called.", "", 7},
		{"SELECT lowre('x')", "The function lowre may not be called.", "Was lower meant?", 7},
		{"SELECT * FROM read_csv('x')", "The function read_csv may not be called in FROM.", "", 14},
		{"SELECT a.upper() FROM t", "Functions of a schema cannot be called, and upper is called with one.", "Write upper(…), with what stands before the dot as the first argument.", 7},
		{"/* x */ copy t TO 'f'", "COPY is not allowed.", "Queries only read: SELECT, SHOW TABLES, DESCRIBE, SUMMARIZE and EXPLAIN.", 8},
		{"WITH a AS (SELECT 1) INSERT INTO t FROM a", "INSERT is not allowed.", "Queries only read: SELECT, SHOW TABLES, DESCRIBE, SUMMARIZE and EXPLAIN.", 21},
		{"SELECT * FROM a.b", "There is no schema a: topics have none, and the cluster's own tables are in system.", `If the dot is part of the name, quote all of it: "a.b".`, 14},
		{"SELECT 1; DROP TABLE t", "There is more than one statement.", "Send them one by one.", 10},
		{"SELECT 1 +", `Syntax error at end of input.`, "", 10},
		{"SELECT\n  FORM t t", `Syntax error at or near "t".`, "", 16},
		{"SELECT ?", "Parameters such as ? and $1 have no value here.", "Put the values into the statement.", -1},
		{"PIVOT t ON a USING sum(b)", "PIVOT without its values would need a table of its own.", "List the values: PIVOT … ON column IN (value, …).", 0},
		{"SHOW databases", "SHOW databases is not allowed.", "Write SHOW TABLES or DESCRIBE table.", -1},
		{"SELECT * FROM t\u00a0x", "There is a blank that is no ordinary one (U+00A0) outside of quotes.", "Replace it by an ordinary blank.", 15},
	} {
		_, _, r := e.judge(t, c.sql)
		if r == nil || r.Message != c.message || r.Next != c.next || r.Position != c.position {
			t.Errorf("%s:\n got %+v\nwant %q %q %d", c.sql, r, c.message, c.next, c.position)
		}
	}
}

// What a rewritten statement answers is what the same statement answers over tables.
func TestRewrittenStatementsAnswerTheSame(t *testing.T) {
	e := open(t)
	for _, setup := range []string{
		"CREATE TABLE t AS SELECT i AS a, i * 2 AS b FROM range(5) r(i)", "CREATE TABLE u AS SELECT i AS a, i * 3 AS c FROM range(4) r(i)",
		"CREATE MACRO scan_t() AS TABLE SELECT * FROM t", "CREATE MACRO scan_u() AS TABLE SELECT * FROM u",
	} {
		if _, err := e.db.Exec(setup); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range []string{
		"FROM t ORDER BY ALL", "SELECT t.a, T.b, u.c FROM t JOIN u USING (a) ORDER BY ALL", "SELECT x.a FROM t x, u AS y WHERE x.a = y.a ORDER BY ALL",
		"SELECT t FROM t ORDER BY t", "TABLE u ORDER BY ALL", "DESCRIBE t", "SUMMARIZE u", "SHOW t", "DESCRIBE TABLE t", "SELECT column_name FROM (DESCRIBE t) ORDER BY ALL",
		"PIVOT t ON a IN (1, 2) USING sum(b)", "UNPIVOT t ON a, b", "SELECT * FROM t PIVOT (sum(b) FOR a IN (1, 2))", "SELECT * FROM t p(x, y) ORDER BY x",
		"FROM q: t ORDER BY q.a", "WITH t AS (FROM t WHERE a > 1) FROM t ORDER BY ALL", "SELECT a, (SELECT max(c) FROM u WHERE u.a = t.a) AS m FROM t ORDER BY ALL",
		"SELECT count(*) FROM t TABLESAMPLE 100%", "SELECT * FROM main.t, main.u ORDER BY ALL", "FROM t POSITIONAL JOIN u ORDER BY ALL",
		"WITH RECURSIVE r AS (SELECT a FROM t WHERE a = 0 UNION ALL SELECT t.a FROM t, r WHERE t.a = r.a + 1) FROM r ORDER BY ALL",
	} {
		s, body, refusal := e.judge(t, text)
		if refusal != nil {
			t.Errorf("%s: %s", text, refusal.Message)
			continue
		}
		rewritten, _ := s.Rewrite(body, func(_ int, r Reference) string { return "scan_" + fold(r.Name) + "()" })
		if !strings.Contains(rewritten, "scan_") {
			t.Errorf("%s was not rewritten", text)
		}
		if got, want := e.answer(t, rewritten), e.answer(t, text); got != want {
			t.Errorf("%s\nrewritten to %s\nanswers %s\ninstead of %s", text, rewritten, got, want)
		}
	}
}

func (e *engine) answer(t *testing.T, text string) string {
	t.Helper()
	rows, err := e.db.Query(text)
	if err != nil {
		return "error: " + err.Error()
	}
	defer rows.Close()
	columns, _ := rows.Columns()
	var b strings.Builder
	b.WriteString(strings.Join(columns, ","))
	for rows.Next() {
		cells := make([]any, len(columns))
		places := make([]any, len(columns))
		for i := range cells {
			places[i] = &cells[i]
		}
		if err := rows.Scan(places...); err != nil {
			t.Fatal(err)
		}
		b.WriteString(render(cells))
	}
	if err := rows.Err(); err != nil {
		return "error: " + err.Error()
	}
	return b.String()
}

func render(cells []any) string { return "\n" + fmt.Sprint(cells...) }

const typical = `WITH daily AS (SELECT date_trunc('day', _timestamp) AS day, customer, sum(amount) AS total FROM orders WHERE status IN ('paid', 'sent') AND amount > 10.5 GROUP BY ALL)
SELECT d.day, d.customer, d.total, c.name, row_number() OVER (PARTITION BY d.day ORDER BY d.total DESC) AS place
FROM daily d LEFT JOIN customers c ON c.id = d.customer WHERE d.total > (SELECT avg(total) FROM daily) ORDER BY d.day, place LIMIT 100`

func BenchmarkParseAndCheck(b *testing.B) {
	e := open(b)
	for b.Loop() {
		if _, err := Check(typical, e.ast(b, typical)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	tree := open(b).ast(b, typical)
	b.SetBytes(int64(len(tree)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Check(typical, tree); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPrecheckMebibyte(b *testing.B) {
	text := "SELECT '" + strings.Repeat("x", MaxSQL-100) + "'"
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if err := Precheck(text); err != nil {
			b.Fatal(err)
		}
	}
}

// TestRecordedTrees holds the recorded trees, which the tests without the engine read, against the engine.
func TestRecordedTrees(t *testing.T) {
	e := open(t)
	cases, err := corpus.Load()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, c := range cases {
		_, body, _, err := Strip(c.SQL)
		if c.Expect != corpus.OK || err != nil || len(body) > 2000 || strings.ContainsAny(body, "\n\r") {
			continue
		}
		if tree := e.ast(t, body); len(tree) < 40_000 {
			b.WriteString(body + "\n" + string(tree) + "\n")
		}
	}
	const file = "testdata/trees.txt"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	recorded, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(recorded) != b.String() {
		t.Errorf("%s is not what the engine says today: go test ./query/sandbox -update, and read the difference", file)
	}
}
