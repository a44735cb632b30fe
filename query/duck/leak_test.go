//go:build cgo && linux

package duck

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/tidemark-io/tidemark/query"
)

// TestOpenAndClose opens and closes statements over and over, some of them left in the middle, and finds the process no larger
// than it was when it had warmed up. TIDEMARK_ROUNDS says how many; a million were run.
func TestOpenAndClose(t *testing.T) {
	rounds := 2000
	if s := os.Getenv("TIDEMARK_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		rounds = n
	}
	e := open(t, Config{Threads: 2})
	table := build(t, nested, 300, 64, nestedRow)
	const cheap = `SELECT count(*) FROM tidemark_scan(0)`
	statements := []string{
		`SELECT * FROM tidemark_scan(0)`, `SELECT o.a, items FROM tidemark_scan(0) WHERE id < 10`,
		`SELECT nosuch FROM tidemark_scan(0)`, `SELECT a.id FROM tidemark_scan(0) a JOIN tidemark_scan(0) b USING (id) LIMIT 3`,
	}
	var warm int64
	for round := range rounds {
		if round == rounds/3 {
			warm = resident(t)
		}
		sql := cheap
		if round%50 == 0 {
			sql = statements[round/50%len(statements)]
		}
		r, err := e.Start(t.Context(), query.Statement{SQL: sql, Tables: []query.Table{table}})
		if err != nil {
			continue // the one that is wrong
		}
		for read := 0; read < 1 || round%1000 != 0; read++ {
			rec, err := r.Next(t.Context())
			if err != nil {
				break
			}
			rec.Release()
		}
		r.Close()
	}
	if grown := resident(t) - warm; grown > 48<<20 {
		t.Errorf("the process grew by %d MiB in %d rounds", grown>>20, rounds-rounds/3)
	} else {
		t.Logf("%d rounds; resident memory %d MiB after a third of them, %+d KiB since", rounds, warm>>20, grown>>10)
	}
}

// resident is the process's memory in bytes.
func resident(t *testing.T) int64 {
	t.Helper()
	runtime.GC()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(string(bytes.Fields(b)[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
