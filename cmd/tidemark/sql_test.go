package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestSQLScripts runs testdata/sqlscript against a server that knows a few statements by heart: see fakeServer.answer.
func TestSQLScripts(t *testing.T) {
	_, newApp := newFakeServer(t)
	server := strings.TrimPrefix(newApp().environ()[0], "TIDEMARK_SERVER=")
	testscript.Run(t, testscript.Params{
		Dir: "testdata/sqlscript",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TIDEMARK_SERVER", server)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "sorted": sorted},
	})
}

func TestSQLFlagsReachTheServer(t *testing.T) {
	s, newApp := newFakeServer(t)
	a := newApp()
	a.expect(t, 0, "n\n", "", "sql", "SELECT 1", "--at-least", "access 0:2394 1:2058", "--at-least", "t 3:4", "--timeout", "90s", "--max-rows", "7", "-o", "csv")
	r := s.lastAsked(t)
	if r.GetSql() != "SELECT 1" || r.GetMaxRows() != 7 || r.GetTimeoutMs() != 90_000 || r.GetProgressMs() != 0 ||
		len(r.GetAtLeast()) != 2 || r.GetAtLeast()[0].GetOffsets()[1] != 2058 || r.GetAtLeast()[1].GetTopic() != "t" {
		t.Errorf("%v", r)
	}
	a = newApp()
	a.stdin = strings.NewReader("SELECT\n  2;\n")
	a.expect(t, 0, `{"n":9}`, "", "sql", "-o", "json")
	if got := s.lastAsked(t).GetSql(); got != "SELECT\n  2;\n" {
		t.Errorf("%q", got)
	}
	a = newApp()
	a.stdin = strings.NewReader(strings.Repeat("x", maxStatement+1))
	a.expect(t, exitUsage, "", "longer than 1048576 bytes", "sql")
}

func TestSQLIsNotForEveryOutput(t *testing.T) {
	_, newApp := newFakeServer(t)
	for _, o := range []string{"arrow", "parquet"} {
		newApp().expect(t, exitUsage, "", "is for `tidemark sql` only\nuse -o table, -o json or -o csv\n", "topic", "list", "-o", o)
		a := newApp()
		a.stdoutTTY = true
		a.expect(t, exitUsage, "", "is not for a terminal\nwrite it to a file with --out FILE", "sql", "SELECT 1", "-o", o)
	}
	newApp().expect(t, exitUsage, "", "unknown output format \"yaml\"\nuse -o table, -o json, -o csv, -o arrow or -o parquet\n", "sql", "SELECT 1", "-o", "yaml")
	a := newApp()
	a.stdinTTY = true
	a.expect(t, exitUsage, "", "no statement given", "sql")
}

func TestSQLArrow(t *testing.T) {
	_, newApp := newFakeServer(t)
	for statement, want := range map[string]int64{"SELECT many": 25_000, "SELECT none": 0} {
		a := newApp()
		if code := a.exec("sql", statement, "-o", "arrow"); code != 0 {
			t.Fatalf("exit %d: %s", code, &a.err)
		}
		r, err := ipc.NewReader(&a.out)
		if err != nil {
			t.Fatal(err)
		}
		var n int64
		for r.Next() {
			n += r.Record().NumRows()
		}
		if r.Err() != nil || n != want {
			t.Errorf("%d rows, %v", n, r.Err())
		}
		r.Release()
	}
}

// What a record or a server puts into an error does nothing to the terminal, and says only what helps.
func TestSQLErrorsAreForPeople(t *testing.T) {
	_, newApp := newFakeServer(t)
	for statement, want := range map[string]string{
		"SELECT bad value":   "tidemark: query: Could not convert string 'x\\x1b[2Jy' to INT32\n",
		"SELECT unsupported": "tidemark: query: no function matches\n",
		"SELECT ahead":       "tidemark: query: at_least asks for offset 9\nask without it\n",
	} {
		a := newApp()
		a.exec("sql", statement)
		if got := a.err.String(); got != want {
			t.Errorf("%s: %q, want %q", statement, got, want)
		}
	}
}

// A file has its name only when all of the result is in it.
func TestSQLOut(t *testing.T) {
	_, newApp := newFakeServer(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "out.ndjson")
	newApp().expect(t, 0, "", "", "sql", "SELECT many", "-o", "json", "--out", file)
	whole, err := os.ReadFile(file)
	if err != nil || bytes.Count(whole, []byte("\n")) != 25_000 {
		t.Error(len(whole), err)
	}
	newApp().expect(t, 1, "", "query, after 100 rows: the result has more than 100 rows\nask for less", "sql", "SELECT too much", "-o", "json", "--out", file)
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(after, whole) {
		t.Error("a failed query changed the file:", err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Error("something is left:", list, err)
	}
	newApp().expect(t, exitUsage, "", "check the path behind --out", "sql", "SELECT 1", "--out", filepath.Join(dir, "no", "where"))
	newApp().expect(t, 0, "", "", "sql", "SELECT 1", "--out", os.DevNull)
}

func TestSQLTableOnATerminal(t *testing.T) {
	_, newApp := newFakeServer(t)
	for _, statement := range []string{"SELECT hostile", "SELECT wide", "SELECT * FROM regions"} {
		a := newApp()
		a.stdoutTTY = true
		if code := a.exec("sql", statement); code != 0 {
			t.Fatalf("exit %d: %s", code, &a.err)
		}
		lines := strings.Split(strings.TrimSuffix(a.out.String(), "\n"), "\n")
		for _, l := range lines[:len(lines)-1] {
			if displayWidth(l) > 80 || strings.ContainsFunc(l, func(r rune) bool { return r < ' ' || r == 0x202e }) {
				t.Errorf("%s: %q", statement, l)
			}
		}
		if statement == "SELECT wide" && !strings.Contains(lines[len(lines)-1], "no room for 18 more columns") {
			t.Errorf("%q", lines[len(lines)-1])
		}
	}
}

func TestSQLTableIsBounded(t *testing.T) {
	_, newApp := newFakeServer(t)
	a := newApp()
	a.expect(t, 0, "\n9999\n(25000 rows in 12 ms, of which 15000 are not shown: -o csv prints all; orders 0:812 1:790)\n", "", "sql", "SELECT many")
	if n := strings.Count(a.out.String(), "\n"); n != maxTableRows+3 {
		t.Errorf("%d lines", n)
	}
}

func TestSQLInterrupted(t *testing.T) {
	s, newApp := newFakeServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	a := newApp()
	a.stderrTTY = true
	code := make(chan int)
	go func() { code <- a.run(ctx, []string{"sql", "SELECT slow"}) }()
	<-s.slow
	cancel()
	if got := <-code; got != exitInterrupted {
		t.Errorf("exit %d: %s", got, &a.err)
	}
	<-s.canceled // the query does not go on without us
	if s.lastAsked(t).GetProgressMs() != 500 {
		t.Error("a terminal wants progress")
	}
}

func TestSQLReaderGone(t *testing.T) {
	_, newApp := newFakeServer(t)
	a := newApp()
	a.stdout = brokenPipe{}
	a.expect(t, 0, "", "", "sql", "SELECT many", "-o", "json")

	gone := make(chan struct{})
	a = newApp()
	a.stdoutGone = gone
	close(gone)
	a.expect(t, 0, "", "", "sql", "SELECT slow", "-o", "json")
}

func TestBenchQuery(t *testing.T) {
	s, newApp := newFakeServer(t)
	a := newApp()
	args := []string{"bench", "query", "--records", "300", "--repetitions", "2", "--duration", "100ms", "--rate", "2000", "--no-limits"}
	a.expect(t, 0, "  freshness   p50", "", args...)
	if len(s.topics) != 0 {
		t.Errorf("left %v", s.topics)
	}
	a = newApp()
	if code := a.exec(append(args, "-o", "json", "--topic", "kept")...); code != 0 {
		t.Fatalf("exit %d: %s", code, &a.err)
	}
	var r benchQueryReport
	if err := json.Unmarshal(a.out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.Records != 300 || r.Bytes < 300*150 || r.Bytes > 300*250 || len(r.Questions) != 6 || r.Questions[1].Repetitions != 2 || r.Freshness.Queries == 0 ||
		r.Freshness.Acknowledgements != int64(len(s.messages["kept"])-300) ||
		r.ServerRSS == 0 || s.topics["kept"] == nil {
		t.Errorf("%+v", r)
	}
	// A second run takes the topic as it is, records of the first one and all.
	first := s.messages["kept"][:300]
	a = newApp()
	a.expect(t, 0, "first query", "", append(args, "--topic", "kept", "--duration", "0")...)
	var again [][]byte
	source := newOrders()
	for range 300 {
		_, value := source.next()
		again = append(again, bytes.Clone(value))
	}
	for i, m := range first {
		if !bytes.Equal(m.value, again[i]) || !json.Valid(m.value) {
			t.Fatalf("order %d: %s, %s", i, m.value, again[i])
		}
	}

	s.failAt, s.failWith = 1000, errFake
	newApp().expect(t, 1, "", "produce to", "bench", "query", "--records", "2000", "--no-limits")
	newApp().expect(t, exitUsage, "", "--records 0", "bench", "query", "--records", "0")
	newApp().expect(t, exitUsage, "", "--rate", "bench", "query", "--rate", "0")
}
