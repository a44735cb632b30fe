//go:build cgo

package speedtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	_ "github.com/duckdb/duckdb-go/v2" // plain DuckDB, to compare with

	"github.com/tidemark-io/tidemark/query"
	"github.com/tidemark-io/tidemark/query/column"
	"github.com/tidemark-io/tidemark/query/duck"
	"github.com/tidemark-io/tidemark/query/tail"
	"github.com/tidemark-io/tidemark/record"
)

// rows is how many orders the topic has, of about 235 bytes each.
const rows = 1 << 20

var regions = []string{"eu-central", "eu-west", "us-east", "us-west", "ap-south"}

// order writes the JSON of one order of a shop.
func order(random *rand.Rand, n int) (key, value []byte) {
	customer := fmt.Sprintf("c%04d", random.IntN(5000))
	value = fmt.Appendf(nil, `{"order_id":"o%08d","customer":%q,"region":%q,"amount":%d.%02d,"items":[{"sku":"p%03d","quantity":%d,"price":%d.99}],"status":%q,"express":%t,"coupon":null,"ts":"2026-11-26T11:%02d:%02d.123Z"}`,
		n, customer, regions[random.IntN(len(regions))], 5+random.IntN(500), random.IntN(100), random.IntN(800), 1+random.IntN(5), 1+random.IntN(99),
		[]string{"placed", "paid", "shipped", "delivered"}[random.IntN(4)], random.IntN(5) == 0, random.IntN(60), random.IntN(60))
	return []byte(customer), value
}

// log is a topic in memory: encoded batches of 500 records in four partitions.
type log struct {
	batches [4][]record.Batch
	ends    map[int32]int64
}

func newLog(tb testing.TB) *log {
	tb.Helper()
	l := &log{ends: map[int32]int64{}}
	random := rand.New(rand.NewPCG(1, 2))
	builder := record.NewBuilder(record.None)
	for n := 0; n < rows; {
		p := int32(n / 500 % 4)
		from := n
		for ; n < min(from+500, rows); n++ {
			key, value := order(random, n)
			if err := builder.Append(record.Record{Timestamp: 1_790_000_000_000 + int64(n), Key: key, Value: value}); err != nil {
				tb.Fatal(err)
			}
		}
		b, err := builder.Build(-1, -1, -1)
		if err != nil {
			tb.Fatal(err)
		}
		batch := append(record.Batch(nil), b...)
		batch.Stamp(l.ends[p], 1)
		l.batches[p] = append(l.batches[p], batch)
		l.ends[p] = batch.NextOffset()
	}
	return l
}

// Open implements tail.Log.
func (l *log) Open(tail.Topic, map[int32]int64) (tail.Reader, error) { return &reader{log: l}, nil }

type reader struct {
	log  *log
	next [4]int
	turn int
}

// Poll gives one batch after the other, and waits for ever behind the last.
func (r *reader) Poll(ctx context.Context) (tail.Piece, error) {
	for range r.next {
		p := r.turn % len(r.next)
		r.turn++
		if r.next[p] == len(r.log.batches[p]) {
			continue
		}
		b := r.log.batches[p][r.next[p]]
		r.next[p]++
		return tail.Piece{Partition: int32(p), Next: b.NextOffset(), Records: b.Records(record.Limits{})}, nil
	}
	<-ctx.Done()
	return tail.Piece{}, context.Cause(ctx)
}

func (*reader) Close() {}

// schemas keeps one topic's columns.
type schemas struct{ current *column.Schema }

func (s *schemas) Load(context.Context, tail.Topic) (*column.Schema, error) { return s.current, nil }

func (s *schemas) Extend(_ context.Context, _ tail.Topic, _ *column.Schema, d *column.Discovery) (*column.Schema, error) {
	s.current = s.current.Extend(d)
	return s.current, nil
}

func newTail(tb testing.TB, l *log, budget int64) *tail.Store {
	tb.Helper()
	s, err := tail.Open(tail.Config{Budget: budget, Dir: tb.TempDir(), Memory: duck.NewMemory(), Log: l, Schemas: &schemas{current: column.Empty}})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

var topic = tail.Topic{ID: "0123", Name: "orders", Partitions: 4}

// table is a snapshot as the engine sees it.
type table struct{ *tail.Snapshot }

func (t table) Scan(columns []int) (query.Scan, error) { return t.Snapshot.Scan(columns) }

func (t table) Schema() *arrow.Schema { return t.Snapshot.Schema().Arrow() }

func newEngine(tb testing.TB, threads int) query.Engine {
	tb.Helper()
	e, err := duck.Open(duck.Config{Threads: threads})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := e.Close(); err != nil {
			tb.Error(err)
		}
	})
	return e
}

// ask runs a statement to its end.
func ask(tb testing.TB, e query.Engine, sql string, tables ...query.Table) (n int64) {
	tb.Helper()
	r, err := e.Start(tb.Context(), query.Statement{SQL: sql, Tables: tables})
	if err != nil {
		tb.Fatal(err)
	}
	defer r.Close()
	for {
		rec, err := r.Next(tb.Context())
		if errors.Is(err, io.EOF) {
			return n
		}
		if err != nil {
			tb.Fatal(err)
		}
		n += rec.NumRows()
		rec.Release()
	}
}

// plain opens DuckDB as anybody would, with the same rows in a table of its own: the same JSON, shredded by from_json.
func plain(b *testing.B, l *log, threads int) *sql.Conn {
	b.Helper()
	db, err := sql.Open("duckdb", "")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	conn, err := db.Conn(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	exec := func(s string, args ...any) {
		if _, err := conn.ExecContext(b.Context(), s, args...); err != nil {
			b.Fatalf("%.100s: %v", s, err)
		}
	}
	exec(fmt.Sprintf("SET threads=%d", threads))
	exec("CREATE TABLE raw (_partition INTEGER, _offset BIGINT, _value VARCHAR)")
	for p, batches := range l.batches {
		var values []string
		flush := func() {
			if len(values) > 0 {
				exec("INSERT INTO raw VALUES " + strings.Join(values, ","))
				values = values[:0]
			}
		}
		for _, batch := range batches {
			for r, err := range batch.Records(record.Limits{}) {
				if err != nil {
					b.Fatal(err)
				}
				values = append(values, fmt.Sprintf("(%d,%d,'%s')", p, r.Offset, r.Value))
			}
			if len(values) >= 5000 {
				flush()
			}
		}
		flush()
	}
	const shape = `{"order_id":"VARCHAR","customer":"VARCHAR","region":"VARCHAR","amount":"DOUBLE","items":[{"sku":"VARCHAR","quantity":"BIGINT","price":"DOUBLE"}],"status":"VARCHAR","express":"BOOLEAN","ts":"VARCHAR"}`
	exec("CREATE TABLE orders AS SELECT _partition, _offset, _value, unnest(from_json(_value, '" + shape + "')) FROM raw")
	return conn
}

// drain runs a statement of plain DuckDB's to its end.
func drain(b *testing.B, conn *sql.Conn, statement string) {
	b.Helper()
	r, err := conn.QueryContext(b.Context(), statement)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	for r.Next() {
		continue
	}
	if err := r.Err(); err != nil {
		b.Fatal(err)
	}
}

var statements = []struct{ name, sql string }{
	{"count", `SELECT count(*) FROM %s`},
	{"sum-int", `SELECT sum(_offset) FROM %s`},
	{"sum-double", `SELECT sum(amount) FROM %s`},
	{"group-by-region", `SELECT region, count(*), sum(amount) FROM %s GROUP BY region`},
	{"group-by-string", `SELECT region, count(*) FROM %s GROUP BY region`},
	{"group-by-customer", `SELECT customer, count(*) FROM %s GROUP BY customer`},
	{"filter", `SELECT count(*) FROM %s WHERE status = 'paid' AND amount > 400`},
	{"unnest", `SELECT i.sku, sum(i.quantity) FROM (SELECT unnest(items) AS i FROM %s) GROUP BY ALL`},
	{"top-10", `SELECT order_id, amount FROM %s ORDER BY amount DESC LIMIT 10`},
}

// BenchmarkStatements runs statements over a million orders held by the tail, and the same over a table of plain DuckDB. Mrows/s
// are rows of the table a second, with as many threads as the name says.
func BenchmarkStatements(b *testing.B) {
	l := newLog(b)
	for _, threads := range []int{1, 2} {
		e, conn := newEngine(b, threads), plain(b, l, threads)
		for _, held := range []struct {
			name   string
			budget int64
		}{{"tail", 4 << 30}, {"tail-on-disk", 16 << 20}} {
			snap, err := newTail(b, l, held.budget).Snapshot(b.Context(), topic, l.ends, nil)
			if err != nil {
				b.Fatal(err)
			}
			for _, s := range statements {
				b.Run(fmt.Sprintf("%s/threads=%d/%s", s.name, threads, held.name), func(b *testing.B) {
					for b.Loop() {
						ask(b, e, fmt.Sprintf(s.sql, query.ScanFunction+"(0)"), table{snap})
					}
					b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
				})
			}
			snap.Release()
		}
		for _, s := range statements {
			b.Run(fmt.Sprintf("%s/threads=%d/plain", s.name, threads), func(b *testing.B) {
				for b.Loop() {
					drain(b, conn, fmt.Sprintf(s.sql, "orders"))
				}
				b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
			})
		}
	}
}

// BenchmarkFollow decodes the million orders into a tail; beside it, plain DuckDB shreds the same JSON that it holds already.
func BenchmarkFollow(b *testing.B) {
	l := newLog(b)
	b.Run("tail", func(b *testing.B) {
		for b.Loop() {
			s := newTail(b, l, 4<<30)
			snap, err := s.Snapshot(b.Context(), topic, l.ends, nil)
			if err != nil {
				b.Fatal(err)
			}
			if snap.Rows() != rows {
				b.Fatalf("%d rows", snap.Rows())
			}
			snap.Release()
			s.Drop(topic.ID)
		}
		b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})
	conn := plain(b, l, 1)
	b.Run("plain-from_json", func(b *testing.B) {
		for b.Loop() {
			if _, err := conn.ExecContext(b.Context(), `CREATE OR REPLACE TABLE again AS SELECT unnest(from_json(_value,
				'{"order_id":"VARCHAR","customer":"VARCHAR","region":"VARCHAR","amount":"DOUBLE","items":[{"sku":"VARCHAR","quantity":"BIGINT","price":"DOUBLE"}],"status":"VARCHAR","express":"BOOLEAN","ts":"VARCHAR"}')) FROM raw`); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})
}
