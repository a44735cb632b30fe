package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"pgregory.net/rapid"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
)

// watchedScreen is the terminal of a session: what is not yet seen of it can be waited for.
type watchedScreen struct {
	mu      sync.Mutex
	all     strings.Builder
	seen    int
	changed chan struct{}
}

func (s *watchedScreen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all.Write(b)
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (s *watchedScreen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

// waitFor waits for want behind what was waited for before.
func (s *watchedScreen) waitFor(t *testing.T, want string) {
	t.Helper()
	late := clock.System().NewTimer(20 * time.Second)
	defer late.Stop()
	for {
		s.mu.Lock()
		at := strings.Index(s.all.String()[s.seen:], want)
		if at >= 0 {
			s.seen += at + len(want)
		}
		s.mu.Unlock()
		if at >= 0 {
			return
		}
		select {
		case <-s.changed:
		case <-late.C():
			t.Fatalf("%q did not come:\n%q", want, s.text())
		}
	}
}

// step is something that the screen shows, and what the user types then.
type step struct {
	see, keys string
	wait      <-chan struct{} // before typing, unless nil
}

// shellSession lets a user work at the prompt, and returns the screen.
func shellSession(t *testing.T, a *testApp, steps ...step) string {
	t.Helper()
	in, keys := io.Pipe()
	screen := &watchedScreen{changed: make(chan struct{}, 1)}
	a.stdin, a.stdout, a.stdinTTY, a.stdoutTTY = in, screen, true, true
	code := make(chan int, 1)
	go func() {
		code <- a.run(t.Context(), []string{"sql"})
		_ = in.CloseWithError(errors.New("the prompt is gone"))
	}()
	for _, s := range steps {
		screen.waitFor(t, s.see)
		if s.wait != nil {
			<-s.wait
		}
		if _, err := io.WriteString(keys, s.keys); err != nil {
			t.Fatal(err, screen.text())
		}
	}
	if got := <-code; got != 0 {
		t.Errorf("exit %d: %s", got, &a.err)
	}
	return screen.text()
}

func TestShell(t *testing.T) {
	s, newApp := newFakeServer(t)
	state := t.TempDir()
	file := filepath.Join(state, "tidemark", "sql_history")
	screen := shellSession(t, newApp("XDG_STATE_HOME="+state),
		step{see: "tidemark> ", keys: "SELECT *\r"},
		step{see: "       -> ", keys: "FROM regions; SELECT 1\r"}, // one is complete, another begins
		step{see: "(3 rows in 12 ms; orders 0:812 1:790)", keys: ";\r"},
		step{see: "(10 rows in", keys: "SELECT ';' -- not yet;\r"},
		step{see: "       -> ", keys: "half a line"},
		step{see: "half a line", keys: "\x03"}, // Ctrl-C drops what is begun, also on this line
		step{see: "^C", keys: "SELECT\r  regoin;\r"},
		step{see: "  regoin\r\n  ^\r\nquery, line 2, column 3: there is no column", keys: "\\d\r"},
		step{see: "\"access-log\""},
		step{see: "system.queries", keys: "\\d orders\r"},
		step{see: "BIGINT", keys: "\\d odrers\r"},
		step{see: "did you mean orders?", keys: "\\x\r"},
		step{see: "is no command", keys: "\\h\r"},
		step{see: "Ctrl-C ends the query", keys: "SELECT slow;\r"},
		step{see: "SELECT slow;", keys: "typed ahead\x03", wait: s.slow}, // Ctrl-C ends the query and forgets what was typed behind it
		step{see: "^C", keys: "\x1b[A", wait: s.canceled},
		step{see: "SELECT slow;", keys: "\x15SELE\t"},
		step{see: "SELECT ", keys: "1 FROM ord\t"},
		step{see: "ord", keys: "\t"},
		step{see: "\"order\"  order  orders", keys: "ers;\r"},
		step{see: "(10 rows in", keys: "quit\r"},
	)
	if strings.Contains(screen, "tidemark> typed ahead") {
		t.Error(screen)
	}
	b, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(b), "SELECT * FROM regions;\nSELECT 1 ;\n") {
		t.Errorf("history %q, %v", b, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	// The next prompt remembers.
	shellSession(t, newApp("XDG_STATE_HOME="+state), step{see: "tidemark> ", keys: "\x1b[A"}, step{see: "SELECT 1 FROM orders;", keys: "\x15\x04"})
}

func TestStatementEnd(t *testing.T) {
	for text, want := range map[string]string{
		"SELECT 1; SELECT 2":         "SELECT 1",
		"SELECT 1":                   "",
		"SELECT ';'; x":              "SELECT ';'",
		"SELECT 'it''s;'; x":         "SELECT 'it''s;'",
		`SELECT "a;b"";"; x`:         `SELECT "a;b"";"`,
		"SELECT 'open;":              "",
		"SELECT 1 -- no;\n; x":       "SELECT 1 -- no;\n",
		"SELECT 1 -- no;":            "",
		"SELECT /* ; ' */ 1; x":      "SELECT /* ; ' */ 1",
		"SELECT /* ; ":               "",
		"SELECT $$;$$; x":            "SELECT $$;$$",
		"SELECT $a$;$$;$b$ $a$; x":   "SELECT $a$;$$;$b$ $a$",
		"SELECT $a$;":                "",
		"SELECT a$1; x":              "SELECT a$1",
		"SELECT $1 + $2; x$":         "SELECT $1 + $2",
		"SELECT 5 - -3; SELECT '--'": "SELECT 5 - -3",
	} {
		got := ""
		if end := statementEnd(text); end >= 0 {
			got = text[:end]
		}
		if got != want {
			t.Errorf("%q ends as %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]bool{"": true, " ;\n": true, "-- x": true, "-- x\n /* y */ ;": true, "/* x": true, "-- x\nSELECT": false, "-": false} {
		if blankStatement(text) != want {
			t.Errorf("%q", text)
		}
	}
	rapid.Check(t, func(t *rapid.T) { // no text makes it fail or go back
		text := rapid.StringOf(rapid.SampledFrom([]rune(`a1;'"$-/*`+"\n "))).Draw(t, "text")
		for rest := text; ; {
			end := statementEnd(rest)
			if end < 0 {
				break
			}
			if rest[end] != ';' {
				t.Fatalf("%q at %d", rest, end)
			}
			rest = rest[end+1:]
		}
		blankStatement(text)
	})
}

func TestComplete(t *testing.T) {
	s := &fakeServer{}
	tables, err := s.ListTables(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c := completion{tables: tables.GetTables()}
	for _, k := range []struct {
		line, want string // | is the cursor
		choices    string
	}{
		{"SELE|", "SELECT |", ""},
		{"sele|", "select |", ""},
		{"|", "|", ""},
		{"FROM acc|", `FROM "access-log" |`, ""},
		{`FROM "acc|`, `FROM "access-log" |`, ""},
		{"FROM system.q|", "FROM system.queries |", ""},
		{"FROM sys|", "FROM system.queries |", ""},
		{"SELECT ord|", "SELECT ord|", ""},
		{"SELECT reg| FROM orders", "SELECT region| FROM orders", ""},
		{"SELECT quer| FROM system.queries", "SELECT quer| FROM system.queries", "query_id"},
		{"SELECT sta| FROM \"access-log\"", "SELECT \"Status Code\"| FROM \"access-log\"", ""},
		{"nothing_like_it|", "nothing_like_it|", ""},
	} {
		before, after, _ := strings.Cut(k.line, "|")
		line, pos, choices := c.complete(before+after, len(before))
		got := line[:pos] + "|" + line[pos:]
		if k.line == "SELECT ord|" {
			if got != k.line || !slices.Equal(choices, []string{`"order"`, "order", "orders"}) {
				t.Errorf("%s → %s %q", k.line, got, choices)
			}
			continue
		}
		if k.choices != "" {
			continue
		}
		if got != k.want {
			t.Errorf("%s → %s %q, want %s", k.line, got, choices, k.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) { // whatever stands there
		line := rapid.StringOf(rapid.SampledFrom([]rune(`aosq"._- é日;`))).Draw(t, "line")
		cursor := 0
		for i := range line {
			if rapid.Bool().Draw(t, "further") {
				cursor = i
			}
		}
		if line, pos, _ := c.complete(line, cursor); pos < 0 || pos > len(line) {
			t.Fatal(line, pos)
		}
	})
}

func TestQuoteName(t *testing.T) {
	for name, want := range map[string]string{
		"orders": "orders", "a.b": `"a.b"`, "access-log": `"access-log"`, "order": `"order"`, "Orders_2": "Orders_2", "2nd": `"2nd"`, `a"b`: `"a""b"`, "": `""`,
	} {
		if got := quoteName(name); got != want {
			t.Errorf("%s → %s", name, got)
		}
	}
}

func TestHistoryIsBounded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "h")
	if err := os.WriteFile(file, []byte(strings.Repeat("SELECT 1 + 1;\nSELECT 2;\n", maxHistoryFile/10)), 0o600); err != nil {
		t.Fatal(err)
	}
	h := openHistory(file)
	if h.Len() != maxHistory || h.At(0) != "SELECT 2;" || h.At(maxHistory-1) != "SELECT 1 + 1;" {
		t.Error(h.Len(), h.At(0), h.At(h.Len()-1))
	}
	for _, text := range []string{"SELECT\n  3;\n", "SELECT\n  3;\n", "SELECT 4 -- four\n;", " \n"} {
		if err := h.remember(text); err != nil {
			t.Fatal(err)
		}
	}
	if got := []string{h.At(2), h.At(1), h.At(0)}; !slices.Equal(got, []string{"SELECT   3;", "SELECT 4 -- four", ";"}) || h.Len() != maxHistory {
		t.Errorf("%q", got)
	}
	if again := openHistory(file); !slices.Equal(again.entries, h.entries) {
		t.Error(again.Len())
	}
	for _, c := range []struct {
		environ []string
		want    string
	}{
		{[]string{"XDG_STATE_HOME=/s", "HOME=/h"}, "/s/tidemark/sql_history"},
		{[]string{"XDG_STATE_HOME=relative", "HOME=/h"}, "/h/.local/state/tidemark/sql_history"},
		{nil, ""},
	} {
		if got := historyFile(c.environ); got != c.want {
			t.Errorf("%v: %s", c.environ, got)
		}
	}
}

func TestCaret(t *testing.T) {
	at := func(line, column string) error {
		return &client.Error{Code: connect.CodeInvalidArgument, Reason: "SYNTAX", Message: "x", Metadata: map[string]string{"line": line, "column": column}}
	}
	for _, c := range []struct {
		statement    string
		line, column string
		want         string
	}{
		{"SELECT x", "1", "8", "SELECT x\n       ^\n"},
		{"SELECT\n 日本 x", "2", "5", " 日本 x\n      ^\n"},
		{"\tx", "1", "2", "\\tx\n  ^\n"},
		{"SELECT", "1", "7", "SELECT\n      ^\n"},
		{"SELECT", "1", "8", ""},
		{"SELECT", "2", "1", ""},
		{"SELECT", "0", "1", ""},
		{"SELECT", "", "", ""},
	} {
		if got := caret(c.statement, at(c.line, c.column)); got != c.want {
			t.Errorf("%q %s %s: %q", c.statement, c.line, c.column, got)
		}
	}
}

func TestTextTable(t *testing.T) {
	table := textTable{names: []string{"name", "n"}, right: []bool{false, true}}
	table.add([]string{"日本", "1"})
	table.add([]string{"e\u0301", "12345"})
	for width, want := range map[int]string{
		0:  "name      n\n----  -----\n日本      1\ne\u0301     12345\n",
		80: "name      n\n----  -----\n日本      1\ne\u0301     12345\n",
	} {
		var out strings.Builder
		if err := table.print(&out, width); err != nil || out.String() != want {
			t.Errorf("%d: %q, %v", width, out.String(), err)
		}
	}
	if got, has := cut("日本日本", 6); got != "日本…" || has != 5 {
		t.Error(got, has)
	}
	rapid.Check(t, func(t *rapid.T) { // no line is wider than the terminal
		columns := rapid.IntRange(1, 12).Draw(t, "columns")
		width := rapid.IntRange(minColumn, 100).Draw(t, "width")
		table := textTable{right: make([]bool, columns)}
		row := func() (cells []string) {
			for range columns {
				cells = append(cells, rapid.StringOf(rapid.SampledFrom([]rune("abc 日é🙂"))).Draw(t, "cell"))
			}
			return cells
		}
		table.names = row()
		table.add(row())
		var out strings.Builder
		if err := table.print(&out, width); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			if n := displayWidth(strings.TrimSuffix(line, "\n")); n > width {
				t.Fatalf("%d is wider than %d: %q", n, width, line)
			}
		}
	})
}
