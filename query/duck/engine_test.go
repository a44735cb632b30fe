//go:build cgo

package duck

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/query"
)

var simple = arrow.NewSchema([]arrow.Field{
	{Name: "off", Type: arrow.PrimitiveTypes.Int64},
	{Name: "v", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "flag", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
	{Name: "part", Type: arrow.PrimitiveTypes.Int32},
	{Name: "raw", Type: arrow.BinaryTypes.Binary, Nullable: true},
	{Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true},
}, nil)

func text(row int) string {
	if row%3 == 0 {
		return fmt.Sprintf("a longer text that is no inline string, number %d", row%100)
	}
	return fmt.Sprint("s", row%100)
}

// simpleRow: v is NULL at every 7th row, s at every 5th, flag at every 2nd, raw at every 3rd.
func simpleRow(b *array.RecordBuilder, row int) {
	b.Field(0).(*array.Int64Builder).Append(int64(row))
	if row%7 == 0 {
		b.Field(1).AppendNull()
	} else {
		b.Field(1).(*array.Float64Builder).Append(float64(row) / 2)
	}
	if row%5 == 0 {
		b.Field(2).AppendNull()
	} else {
		b.Field(2).(*array.StringBuilder).Append(text(row))
	}
	if row%2 == 0 {
		b.Field(3).AppendNull()
	} else {
		b.Field(3).(*array.BooleanBuilder).Append(row%4 == 1)
	}
	b.Field(4).(*array.Int32Builder).Append(int32(row % 4))
	if row%3 == 0 {
		b.Field(5).AppendNull()
	} else {
		b.Field(5).(*array.BinaryBuilder).Append([]byte{0, 0xff, byte(row)})
	}
	b.Field(6).(*array.TimestampBuilder).Append(arrow.Timestamp(int64(row) * 1_000_000))
}

func same(t *testing.T, what string, got [][]string, want ...string) {
	t.Helper()
	lines := make([]string, len(got))
	for n, row := range got {
		lines[n] = strings.Join(row, "|")
	}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s:\n got %q\nwant %q", what, lines, want)
	}
}

// Every subset of the columns, in every order of two, gives the values of its own columns: duckdb_arrow_scan does not.
func TestProjection(t *testing.T) {
	e := open(t, Config{Threads: 1})
	table := build(t, simple, 5000, 2048, simpleRow)
	single := make([]string, simple.NumFields())
	for c, f := range simple.Fields() {
		got := all(t, e, fmt.Sprintf(`SELECT count("%s"), min("%[1]s")::VARCHAR, max("%[1]s")::VARCHAR, md5(string_agg(coalesce("%[1]s"::VARCHAR,'NULL'), ',')) FROM tidemark_scan(0)`, f.Name), table)
		single[c] = strings.Join(got[0], "|")
	}
	same(t, "off", [][]string{{single[0]}}, "5000|0|4999|"+strings.Split(single[0], "|")[3])
	for mask := 1; mask < 1<<simple.NumFields(); mask++ {
		var list []string
		var want []string
		for c := range simple.NumFields() {
			n := simple.NumFields() - 1 - c // backwards, so that the order is not the table's
			if mask&(1<<n) == 0 {
				continue
			}
			list = append(list, fmt.Sprintf(`count("%s"), min("%[1]s")::VARCHAR, max("%[1]s")::VARCHAR, md5(string_agg(coalesce("%[1]s"::VARCHAR,'NULL'), ','))`, simple.Field(n).Name))
			want = append(want, single[n])
		}
		got := all(t, e, "SELECT "+strings.Join(list, ", ")+" FROM tidemark_scan(0)", table)
		same(t, fmt.Sprintf("columns %07b", mask), got, strings.Join(want, "|"))
	}
}

func TestWhatIsNeededIsAllThatIsAsked(t *testing.T) {
	e := open(t, Config{Threads: 2})
	table := build(t, simple, 10_000, 2048, simpleRow)
	same(t, "count", all(t, e, "SELECT count(*) FROM tidemark_scan(0)", table), "10000")
	if asked := *table.asked.Load(); len(asked) > 1 {
		t.Errorf("count(*) asked for columns %v", asked)
	}
	same(t, "filter", all(t, e, "SELECT count(*) FROM tidemark_scan(0) WHERE off > 5 AND v IS NOT NULL", table), "8566")
	if asked := *table.asked.Load(); len(asked) != 2 {
		t.Errorf("two columns are needed, asked were %v", asked)
	}
	same(t, "sum", all(t, e, "SELECT sum(v), sum(off) FROM tidemark_scan(0)", table), fmt.Sprintf("%v|%d", sumOfV(10_000), 9999*10_000/2))
	same(t, "constant", all(t, e, "SELECT 1 FROM tidemark_scan(0) LIMIT 2", table), "1", "1")
}

func sumOfV(rows int) (sum float64) {
	for row := range rows {
		if row%7 != 0 {
			sum += float64(row) / 2
		}
	}
	return sum
}

func TestScannedAgainAndJoinedWithItself(t *testing.T) {
	e := open(t, Config{Threads: 2})
	table := build(t, simple, 9000, 1000, simpleRow)
	for range 3 {
		same(t, "again", all(t, e, "SELECT count(*), count(DISTINCT s) FROM tidemark_scan(0)", table), "9000|160")
	}
	same(t, "self-join", all(t, e, `SELECT count(*), sum(b.v) = sum(a.v) FROM tidemark_scan(0) a JOIN tidemark_scan(0) b ON a.off = b.off`, table), "9000|true")
	same(t, "two tables", all(t, e, `SELECT count(*) FROM tidemark_scan(0) a JOIN tidemark_scan(1) b ON a.off = b.off + 8990`, table, build(t, simple, 20, 7, simpleRow)), "10")
	same(t, "union", all(t, e, `WITH x AS (FROM tidemark_scan(0)) SELECT count(*) FROM (FROM x UNION ALL FROM x)`, table), "18000")
	same(t, "rows", all(t, e, `SELECT off, v, s, flag, part, raw, epoch_us(ts) FROM tidemark_scan(0) ORDER BY off DESC LIMIT 2`, table),
		"8999|4499.5|"+text(8999)+"|false|3|AP8n|8999000000", "8998|4499|"+text(8998)+"|(null)|2|AP8m|8998000000")
}

var nested = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.PrimitiveTypes.Int64},
	{Name: "o", Type: arrow.StructOf(
		arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		arrow.Field{Name: "b c", Type: arrow.StructOf(arrow.Field{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}), Nullable: true},
		arrow.Field{Name: "l", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
	), Nullable: true},
	{Name: "items", Type: arrow.ListOf(arrow.StructOf(
		arrow.Field{Name: "sku", Type: arrow.BinaryTypes.String, Nullable: true},
		arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true})), Nullable: true},
	{Name: "m", Type: arrow.ListOf(arrow.ListOf(arrow.PrimitiveTypes.Float64)), Nullable: true},
}, nil)

func nestedRow(b *array.RecordBuilder, row int) {
	b.Field(0).(*array.Int64Builder).Append(int64(row))
	o := b.Field(1).(*array.StructBuilder)
	switch row % 4 {
	case 0:
		o.AppendNull()
	default:
		o.Append(true)
		o.FieldBuilder(0).(*array.Int64Builder).Append(int64(row))
		inner := o.FieldBuilder(1).(*array.StructBuilder)
		if row%4 == 1 {
			inner.AppendNull()
		} else {
			inner.Append(true)
			inner.FieldBuilder(0).(*array.StringBuilder).Append(text(row))
		}
		l := o.FieldBuilder(2).(*array.ListBuilder)
		if row%4 == 2 {
			l.AppendNull()
		} else {
			l.Append(true)
			for n := range row % 5 {
				l.ValueBuilder().(*array.StringBuilder).Append(text(n))
			}
		}
	}
	items := b.Field(2).(*array.ListBuilder)
	items.Append(true)
	for n := range row % 3 {
		item := items.ValueBuilder().(*array.StructBuilder)
		item.Append(true)
		item.FieldBuilder(0).(*array.StringBuilder).Append(fmt.Sprint("sku", n))
		item.FieldBuilder(1).(*array.Int64Builder).Append(int64(n))
	}
	m := b.Field(3).(*array.ListBuilder)
	if row%6 == 0 {
		m.AppendNull()
		return
	}
	m.Append(true)
	for range row % 3 {
		in := m.ValueBuilder().(*array.ListBuilder)
		in.Append(true)
		in.ValueBuilder().(*array.Float64Builder).Append(0.5)
	}
}

func TestNestedTypesAndNulls(t *testing.T) {
	e := open(t, Config{Threads: 2})
	const rows = 12_000
	table := build(t, nested, rows, 2048, nestedRow)
	same(t, "struct", all(t, e, `SELECT count(o), sum(o.a), count(o."b c"), count(o."b c".s), count(o.l), sum(len(o.l)) FROM tidemark_scan(0)`, table),
		"9000|54000000|6000|6000|6000|12000")
	same(t, "list of structs", all(t, e, `SELECT count(*), sum(i.n), min(i.sku), max(i.sku) FROM (SELECT unnest(items) AS i FROM tidemark_scan(0))`, table), "12000|4000|sku0|sku1")
	same(t, "list of lists", all(t, e, `SELECT count(m), sum(len(m)), sum(list_sum(flatten(m))) FROM tidemark_scan(0)`, table), "10000|12000|6000")
	same(t, "out again", all(t, e, `SELECT id, o, items, m FROM tidemark_scan(0) WHERE id IN (4, 5, 7) ORDER BY id`, table),
		`4|(null)|[{"n":0,"sku":"sku0"}]|[[0.5]]`, `5|{"a":5,"b c":null,"l":[]}|[{"n":0,"sku":"sku0"},{"n":1,"sku":"sku1"}]|[[0.5],[0.5]]`,
		`7|{"a":7,"b c":{"s":"s7"},"l":["`+text(0)+`","s1"]}|[{"n":0,"sku":"sku0"}]|[[0.5]]`)
	same(t, "only some children", all(t, e, `SELECT o."b c".s FROM tidemark_scan(0) WHERE o.a = 7`, table), "s7")
	same(t, "grouped", all(t, e, `SELECT o IS NULL, count(*) FROM tidemark_scan(0) GROUP BY ALL ORDER BY 1`, table), "false|9000", "true|3000")
	same(t, "distinct structs", all(t, e, `SELECT count(*) FROM (SELECT DISTINCT o, items FROM tidemark_scan(0))`, table), "9003")
}

func TestSlicesAreRefused(t *testing.T) {
	e := open(t, Config{})
	table := build(t, nested, 100, 100, nestedRow)
	whole := table.records[0]
	table.records[0] = whole.NewSlice(10, 60)
	defer whole.Release()
	if _, err := run(t.Context(), e, `SELECT sum(o.a) FROM tidemark_scan(0)`, table); err == nil || !strings.Contains(err.Error(), "slice") {
		t.Errorf("a slice was read: %v", err)
	}
}

func TestTypesOfResults(t *testing.T) {
	e := open(t, Config{})
	same(t, "types", all(t, e, `SELECT sum(x), 1.25::DECIMAL(9,2), DATE '2026-11-24', TIMESTAMPTZ '2026-11-24 10:00:00+02', 'a'::ENUM('a','b'),
		[1,2], {'a':1}, uuid() IS NOT NULL, 170141183460469231731687303715884105727::HUGEINT, INTERVAL 1 MONTH, 'x'::BLOB, NULL FROM range(3) r(x)`),
		"3|1.25|2026-11-24|2026-11-24 08:00:00Z|a|[1,2]|{\"a\":1}|true|1.7014118346046923173168730371588410573e+38|{\"months\":1,\"days\":0,\"nanoseconds\":0}|eA==|(null)")
	for sql, word := range map[string]string{
		`SELECT '101'::BIT AS b`: "BIT", `SELECT [sum(x::UHUGEINT)] AS l FROM range(3) r(x)`: "", `SELECT {'t': TIMETZ '10:00:00+01'} AS s`: "TIME WITH TIME ZONE",
		`SELECT union_value(a := 1) AS u`: "UNION",
	} {
		_, err := run(t.Context(), e, sql)
		if word == "" {
			if err != nil {
				t.Errorf("%s: %v", sql, err)
			}
			continue
		}
		if s, ok := errors.AsType[*query.StatementError](err); !ok || !strings.Contains(s.Message, word) {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

func TestErrorsSayWhatAndWhere(t *testing.T) {
	e := open(t, Config{Memory: 64 << 20})
	table := build(t, simple, 10, 10, simpleRow)
	for _, c := range []struct {
		sql, kind, has string
		position       int
	}{
		{`SELECT nosuch FROM tidemark_scan(0) AS orders`, "binder", `"nosuch"`, 7},
		{`SELECT off, lengt(s) FROM tidemark_scan(0)`, "catalog", "lengt", 12},
		{`SELECT 'x'::INT`, "conversion", "'x'", -2},
		{`SELECT * FROM tidemark_scan(1)`, "binder", "no table 1", -2},
		{`SELECT error('mine')`, "invalid input", "mine", -2},
		{`SELECT * FROM read_csv('/etc/passwd')`, "permission", "disabled", -2},
		{`SET threads=1`, "invalid input", "locked", -2},
		{`INSTALL httpfs`, "permission", "disabled", -2},
		{"SELECT 1\x00, 2", "parser", "NUL", -1},
	} {
		_, err := run(t.Context(), e, c.sql, table)
		s, ok := errors.AsType[*query.StatementError](err)
		if !ok || !strings.Contains(s.Message, c.has) || s.Kind != c.kind || c.position != -2 && s.Position != c.position {
			t.Errorf("%s: %+v %v", c.sql, s, err)
		}
	}
	same(t, "afterwards", all(t, e, "SELECT count(*) FROM tidemark_scan(0)", table), "10")
}

func TestLimits(t *testing.T) {
	dir := t.TempDir()
	e := open(t, Config{Memory: 32 << 20, TempDir: dir, TempBytes: 16 << 20})
	const sort = `SELECT y FROM (SELECT sha256(x::VARCHAR) || md5(x::VARCHAR) AS y FROM range(500000) r(x)) ORDER BY y`
	if _, err := run(t.Context(), e, sort); !errors.Is(err, query.ErrTemp) {
		t.Errorf("beyond memory and temporary space: %v", err)
	}
	without := open(t, Config{Memory: 64 << 20})
	if _, err := run(t.Context(), without, `SELECT list(x) FROM range(50000000) r(x)`); !errors.Is(err, query.ErrMemory) {
		t.Errorf("beyond memory: %v", err)
	}
	// What fits into temporary space is answered, though files are out of bounds for statements.
	spilling := open(t, Config{Memory: 24 << 20, TempDir: dir, TempBytes: 4 << 30, Threads: 1})
	same(t, "a sort that spills", all(t, spilling, `SELECT count(*), max(y) FROM (SELECT x, y, row_number() OVER (ORDER BY y) AS n FROM (SELECT x, hash(x)::VARCHAR AS y FROM range(1000000) r(x)))`), "1000000|"+all(t, spilling, `SELECT max(hash(x)::VARCHAR) FROM range(1000000) r(x)`)[0][0])
	if _, err := run(t.Context(), without, `SELECT 1`); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// Two statements that spill at the same time do not write into each other's files; what a crash left there goes at the start.
func TestTemporaryFilesAreEachStatementsOwn(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "7", "left"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "7", "left", "duckdb_temp_storage-0.tmp"), []byte("left by a crash"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := open(t, Config{Memory: 20 << 20, TempDir: dir, Threads: 1})
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in the directory: %v %v", left, err)
	}
	const sql = `SELECT count(*), sum(n * (h %% 1000)) FROM (SELECT h, row_number() OVER (ORDER BY y) AS n FROM (SELECT hash(x) AS h, md5(x::VARCHAR) AS y FROM range(%d, %d) r(x)))`
	alone := [][][]string{all(t, e, fmt.Sprintf(sql, 0, 250_000)), all(t, e, fmt.Sprintf(sql, 250_000, 500_000))}
	ended := make(chan error, 2)
	for n := range cap(ended) {
		go func() {
			got, err := run(t.Context(), e, fmt.Sprintf(sql, n*250_000, (n+1)*250_000))
			if err == nil && got[0][1] != alone[n][0][1] {
				err = fmt.Errorf("statement %d gives %v beside the other, %v alone", n, got, alone[n])
			}
			ended <- err
		}()
	}
	for range cap(ended) {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// What one call makes has a bound, and below it functions are what they were.
func TestMadeValuesAreBounded(t *testing.T) {
	e := open(t, Config{Memory: 64 << 20})
	for sql, want := range map[string]string{
		`SELECT repeat('ab', 3), length(repeat('x', 65536)), repeat([1, 2], 2), repeat(repeat('x', 60000), 1) = repeat('x', 60000), repeat(NULL, 2), repeat('x', NULL)`:                                        "ababab|65536|[1,2,1,2]|true|(null)|(null)",
		`SELECT lpad('7', 3, '0'), rpad('7', 3, '0'), lpad('abc', 2, 'x'), lpad(NULL, 2, 'x')`:                                                                                                                 "007|700|ab|(null)",
		`SELECT list_resize([1], 3), list_resize([1], 3, 7), array_resize([1, 2], 1)`:                                                                                                                          `[1,null,null]|[1,7,7]|[1]`,
		`SELECT range(3), range(2, 5), range(1, 10, 4), generate_series(1, 3), range(5, 1, -2), len(range(x)) FROM range(3) t(x) WHERE x = 2`:                                                                  `[0,1,2]|[2,3,4]|[1,5,9]|[1,2,3]|[5,3]|2`,
		`SELECT len(range(TIMESTAMP '2026-01-01', TIMESTAMP '2026-02-01', INTERVAL 1 HOUR)), len(generate_series(TIMESTAMPTZ '2026-01-01 00:00:00+00', TIMESTAMPTZ '2026-01-02 00:00:00+00', INTERVAL 1 DAY))`: "744|2",
		`SELECT count(*), sum(range) FROM range(100000)`: "100000|4999950000",
		`SELECT bitstring('1', 4)::VARCHAR`:              "0001",
	} {
		same(t, sql, all(t, e, sql), want)
	}
	for _, sql := range []string{
		`SELECT repeat('x', 70000)`, `SELECT repeat(repeat('x', 60000), 2)`, `SELECT lpad('x', 2000000000, 'y')`, `SELECT rpad('x', 70000, 'y')`,
		`SELECT list_resize([1], 400000000)`, `SELECT array_resize([1], 20000, 1)`, `SELECT len(range(150000000))`, `SELECT range(1, 150000000)`,
		`SELECT generate_series(1, 150000000, 2)`, `SELECT range(150000000, 1, -1)`, `SELECT len(range(TIMESTAMP '2026-01-01', TIMESTAMP '2027-01-01', INTERVAL 1 SECOND))`,
		`SELECT len(generate_series(TIMESTAMPTZ '2026-01-01 00:00:00+00', TIMESTAMPTZ '2027-01-01 00:00:00+00', INTERVAL 1 MICROSECOND))`,
		`SELECT repeat('x', n) FROM (VALUES (1), (1000000000)) t(n)`, `SELECT bitstring('1', 2000000000)::VARCHAR`,
	} {
		_, err := run(t.Context(), e, sql)
		if s, ok := errors.AsType[*query.StatementError](err); !ok || !strings.Contains(s.Message, "that is made may have") {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

// A table whose rows come slowly, as from a disk: the statement ends within moments of its context, wherever it is.
func TestCancelMidScan(t *testing.T) {
	e := open(t, Config{Threads: 2})
	for _, sql := range []string{
		`SELECT sum(off) FROM tidemark_scan(0)`, `SELECT * FROM tidemark_scan(0)`, `SELECT s, count(*) FROM tidemark_scan(0) GROUP BY s`,
		`SELECT count(*) FROM tidemark_scan(0) a JOIN tidemark_scan(0) b ON a.off < b.off`,
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		table := build(t, simple, 4096, 100, simpleRow)
		gone := errors.New("the client has gone")
		table.before = func(ctx context.Context, n int) error {
			if n == 20 {
				cancel(gone)
				<-ctx.Done()
			}
			return nil
		}
		if _, err := run(ctx, e, sql, table); !errors.Is(err, gone) {
			t.Errorf("%s: %v", sql, err)
		}
	}
	// In the middle of a computation that reads nothing.
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := clock.System().Now()
	if _, err := run(ctx, e, `SELECT count(*) FROM range(10000000) a(x), range(10000000) b(y) WHERE x + y = 7`); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cross join: %v", err)
	}
	if d := clock.System().Now().Sub(began); d > 3*time.Second {
		t.Errorf("it took %s to stop", d)
	}
	done, stop := context.WithCancel(t.Context())
	stop()
	if _, err := run(done, e, `SELECT 1`); !errors.Is(err, context.Canceled) {
		t.Errorf("ended before it began: %v", err)
	}
}

// Many statements whose contexts end at the moment when they are closed: nobody interrupts a connection that is gone.
func TestContextsEndWithClose(t *testing.T) {
	e := open(t, Config{Threads: 1, Ready: -1})
	table := build(t, simple, 50, 50, simpleRow)
	var rounds sync.WaitGroup
	for range 8 {
		rounds.Go(func() {
			for range 15 {
				ctx, cancel := context.WithCancel(t.Context())
				r, err := e.Start(ctx, query.Statement{SQL: `SELECT a.s FROM tidemark_scan(0) a, range(1000000)`, Tables: []query.Table{table}})
				if err != nil {
					t.Error(err)
					cancel()
					return
				}
				if rec, err := r.Next(ctx); err == nil {
					rec.Release()
				}
				cancel()
				r.Close()
			}
		})
	}
	rounds.Wait()
}

func TestTablesFailByTheirOwnError(t *testing.T) {
	e := open(t, Config{Threads: 2})
	table := build(t, simple, 5000, 500, simpleRow)
	mine := errors.New("the spill file is damaged")
	table.before = func(_ context.Context, n int) error {
		if n == 3 {
			return mine
		}
		if n == 7 {
			panic("a bug")
		}
		return nil
	}
	if _, err := run(t.Context(), e, `SELECT sum(off) FROM tidemark_scan(0)`, table); !errors.Is(err, mine) {
		t.Errorf("%v", err)
	}
	table.before = func(context.Context, int) error { panic("a bug") }
	if _, err := run(t.Context(), e, `SELECT sum(off) FROM tidemark_scan(0)`, table); err == nil || !strings.Contains(err.Error(), "a bug") {
		t.Errorf("%v", err)
	}
}

// The first rows of a long result are there long before the last, and a result that is left early costs no more.
func TestResultsAreStreamed(t *testing.T) {
	e := open(t, Config{Threads: 2})
	table := build(t, simple, 400_000, 2048, simpleRow)
	var asked int
	table.before = func(_ context.Context, n int) error { asked = max(asked, n); return nil }
	r, err := e.Start(t.Context(), query.Statement{SQL: `SELECT * FROM tidemark_scan(0)`, Tables: []query.Table{table}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Schema().NumFields() != simple.NumFields() {
		t.Errorf("schema: %s", r.Schema())
	}
	rec, err := r.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if asked > 150 {
		t.Errorf("%d of 196 records were read for the first rows", asked)
	}
	r.Close()
	r.Close()
	if _, err := r.Next(t.Context()); err == nil {
		t.Error("a closed result gives rows")
	}
	// The rows outlive the statement and its instance.
	if rec.Column(2).ValueStr(3) != text(3) {
		t.Errorf("after the end: %s", rec.Column(2).ValueStr(3))
	}
	rec.Release()
}

func TestParse(t *testing.T) {
	e := open(t, Config{})
	for sql, has := range map[string]string{
		`SELECT a FROM orders`: `"table_name":"orders"`, `SELEC 1`: `"error":true`, `SELECT 1; SELECT 2`: `"statements":[`, `DROP TABLE x`: "Only SELECT", "": `"error"`,
	} {
		got, err := e.Parse(t.Context(), sql)
		if err != nil || !strings.Contains(string(got), has) {
			t.Errorf("%s: %s %v", sql, got, err)
		}
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if _, err := e.Parse(t.Context(), "SELECT 1"); err == nil {
		t.Error("a closed engine parses")
	}
	if _, err := e.Start(t.Context(), query.Statement{SQL: "SELECT 1"}); err == nil {
		t.Error("a closed engine runs statements")
	}
}

func TestManyStatementsAtOnce(t *testing.T) {
	e := open(t, Config{Threads: 2})
	table := build(t, nested, 6000, 2048, nestedRow)
	ended := make(chan error, 8)
	for range cap(ended) {
		go func() {
			for range 5 {
				rows, err := run(t.Context(), e, `SELECT sum(o.a), sum(len(items)) FROM tidemark_scan(0)`, table)
				if err != nil || rows[0][0] != "13500000" || rows[0][1] != "6000" {
					ended <- fmt.Errorf("%v %w", rows, err)
					return
				}
			}
			ended <- nil
		}()
	}
	for range cap(ended) {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
