//go:build cgo

package twintest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/record"
)

// twin is the DuckDB that has what was consumed.
type twin struct {
	db   *sql.DB
	conn *sql.Conn
}

func newTwin(t *testing.T) *twin {
	t.Helper()
	db, err := sql.Open("duckdb", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := &twin{db: db, conn: conn}
	for _, s := range []string{"SET TimeZone='UTC'", "SET threads=2", "SET memory_limit='2GB'"} {
		w.exec(t, s)
	}
	return w
}

func (w *twin) exec(t *testing.T, statement string) {
	t.Helper()
	if _, err := w.conn.ExecContext(t.Context(), statement); err != nil {
		t.Fatalf("the twin: %s: %v", statement, err)
	}
}

// ask runs a statement.
func (w *twin) ask(ctx context.Context, statement string) (answer, error) {
	rows, err := w.conn.QueryContext(ctx, statement)
	if err != nil {
		return answer{}, err
	}
	defer rows.Close()
	var out answer
	if out.names, err = rows.Columns(); err != nil {
		return answer{}, err
	}
	values, into := make([]any, len(out.names)), make([]any, len(out.names))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return answer{}, err
		}
		cells := make([]cell, len(values))
		for i, v := range values {
			if cells[i], err = goCell(v); err != nil {
				return answer{}, err
			}
		}
		out.rows = append(out.rows, cells)
	}
	return out, rows.Err()
}

// topic is a topic as it was consumed, and its table.
type topic struct {
	name     string
	chosen   map[string]kind // columns that settings make VARCHAR or JSON, by key
	consumer *client.Consumer
	records  map[int32][]record.Record // from offset 0 on, maybe more than the table has
	trees    map[int32][]*node         // of the records, as far as they are read
	position map[int32]int64           // of the table
	schema   string                    // of the table, as the server described it
	columns  []field
	rows     int
	lost     *place // a record that gets lost on the way to the table: the test must find out
	rebuilt  int
}

// quoted is a name in SQL.
func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// consume reads on until everything below a position is there.
func (p *topic) consume(ctx context.Context, position map[int32]int64) error {
	behind := func() bool {
		for n, end := range position {
			if int64(len(p.records[n])) < end {
				return true
			}
		}
		return false
	}
	for behind() {
		batches, err := p.consumer.Poll(ctx)
		if err != nil {
			if e, ok := errors.AsType[*client.Error](err); ok && e.Retryable {
				continue
			}
			return fmt.Errorf("consume %s up to %v: %w", p.name, position, err)
		}
		for r, err := range batches.Records() {
			if err != nil {
				return err
			}
			have := p.records[batches.Partition]
			if r.Offset != int64(len(have)) {
				return fmt.Errorf("consume %s: partition %d goes from offset %d to %d", p.name, batches.Partition, len(have)-1, r.Offset)
			}
			p.records[batches.Partition] = append(have, r)
		}
	}
	return nil
}

// follow brings the table to a position and a schema.
func (p *topic) follow(t *testing.T, w *twin, position map[int32]int64, described string, columns []field) error {
	t.Helper()
	if err := p.consume(t.Context(), position); err != nil {
		return err
	}
	for n, end := range position {
		if end < p.position[n] {
			return fmt.Errorf("the position of %s went back: %v after %v", p.name, position, p.position)
		}
	}
	if described != p.schema {
		if err := p.define(t, columns); err != nil {
			return err
		}
		w.exec(t, "CREATE OR REPLACE TABLE "+quoted(p.name)+" ("+described+")")
		p.schema, p.columns, p.position, p.rows = described, columns, map[int32]int64{}, 0
		p.rebuilt++
	}
	return p.fill(t, w, position)
}

// fill adds the records between the table's position and a later one.
func (p *topic) fill(t *testing.T, w *twin, position map[int32]int64) error {
	t.Helper()
	staged := 0
	w.exec(t, `CREATE OR REPLACE TEMP TABLE staged (_partition INTEGER, _offset BIGINT, _timestamp TIMESTAMPTZ, _key VARCHAR,
		_headers STRUCT(key VARCHAR, value BLOB)[], _value VARCHAR, document VARCHAR, _key_bytes BLOB, _value_bytes BLOB)`)
	err := w.conn.Raw(func(c any) error {
		a, err := duckdb.NewAppender(c.(driver.Conn), "temp", "", "staged")
		if err != nil {
			return err
		}
		for n, end := range position {
			for _, r := range p.records[n][p.position[n]:end] {
				if p.lost != nil && *p.lost == (place{n, r.Offset}) {
					continue
				}
				staged++
				if err := a.AppendRow(p.row(n, r)...); err != nil {
					return err
				}
			}
			p.position[n] = end
		}
		return a.Close()
	})
	if err != nil {
		return fmt.Errorf("the twin: append to %s: %w", p.name, err)
	}
	if staged == 0 {
		return nil
	}
	p.rows += staged
	typed := make([]string, len(p.columns))
	for i, f := range p.columns {
		typed[i] = "d." + quoted(f.name) + ", "
	}
	document := ""
	if len(p.columns) > 0 {
		document = ", from_json(document, '" + strings.ReplaceAll(structureOf(p.columns), "'", "''") + "') AS d"
	}
	w.exec(t, "INSERT INTO "+quoted(p.name)+" SELECT _partition, _offset, _timestamp, _key, _headers, _value, "+strings.Join(typed, "")+
		"_key_bytes, _value_bytes FROM (SELECT *"+document+" FROM staged)")
	return nil
}

// row is a record as the appender takes it.
func (p *topic) row(partition int32, r record.Record) []driver.Value {
	headers := make([]any, 0, len(r.Headers))
	for _, h := range r.Headers {
		headers = append(headers, map[string]any{"key": h.Key, "value": orNull(h.Value)})
	}
	var stamp, document any
	const most = 290_000 * 31_556_952_000 // milliseconds: 290,000 years
	if r.Timestamp != -1 && r.Timestamp >= -most && r.Timestamp <= most {
		stamp = time.UnixMilli(r.Timestamp).UTC()
	}
	if n := p.tree(partition, r); n != nil {
		document = normalise(n, p.columns)
	}
	return []driver.Value{partition, r.Offset, stamp, textOrNull(r.Key), headers, textOrNull(r.Value), document, orNull(r.Key), orNull(r.Value)}
}

// tree is a record's document, nil when it has none. It is read once.
func (p *topic) tree(partition int32, r record.Record) *node {
	if p.trees == nil {
		p.trees = map[int32][]*node{}
	}
	for i := len(p.trees[partition]); int64(i) <= r.Offset; i++ {
		p.trees[partition] = append(p.trees[partition], readDocument(p.records[partition][i].Value))
	}
	return p.trees[partition][r.Offset]
}

func orNull(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}

func textOrNull(b []byte) any {
	if b == nil || !utf8.Valid(b) {
		return nil
	}
	return string(b)
}

// define tells apart which VARCHARs hold the text of any value, and checks that the record which is said to have defined a column did.
func (p *topic) define(t *testing.T, columns []field) error {
	t.Helper()
	for i := range columns {
		f := &columns[i]
		if f.chosen {
			if f.typ.kind == text {
				f.typ.kind = p.chosen[f.key]
			}
			continue
		}
		since := f.since
		if err := p.consume(t.Context(), map[int32]int64{since.partition: since.offset + 1}); err != nil {
			return err
		}
		n := readDocument(p.records[since.partition][since.offset].Value)
		if n == nil || n.fields[f.key] == nil {
			return fmt.Errorf("column %s of %s is said to be there since offset %d of partition %d, which is %q",
				f.name, p.name, since.offset, since.partition, p.records[since.partition][since.offset].Value)
		}
		defined := n.fields[f.key].define(1)
		if defined == nil || !defined.becomes(f.typ) {
			return fmt.Errorf("column %s of %s is %s, and the value that defined it is %s", f.name, p.name, f.typ.structureOf(), n.fields[f.key].raw)
		}
		f.typ.tell(defined)
		f.typ.tellMixed("")
	}
	return nil
}

// becomes tells whether a column that was defined as t can be of another type by now.
func (t *colType) becomes(now colType) bool {
	switch {
	case t.kind == integer && now.kind == double, t.kind == jsonText && now.kind == text:
		return true
	case t.kind != now.kind:
		return false
	case t.kind == list:
		return t.elem.becomes(*now.elem)
	case t.kind == structure:
		for _, f := range t.fields {
			at := slices.IndexFunc(now.fields, func(n field) bool { return n.key == f.key })
			if at < 0 || !f.typ.becomes(now.fields[at].typ) {
				return false
			}
		}
	}
	return true
}

// described is a topic's columns as a CREATE TABLE has them, and the typed ones among them.
func described(rows []describedColumn) (statement string, typed []field, err error) {
	parts := make([]string, len(rows))
	for i, r := range rows {
		parts[i] = quoted(r.name) + " " + r.typ
		if !r.typed {
			continue
		}
		f := field{name: r.name, key: r.key, since: r.since, chosen: r.chosen}
		if f.typ, err = readType(r.typ); err != nil {
			return "", nil, err
		}
		typed = append(typed, f)
	}
	return strings.Join(parts, ", "), typed, nil
}

// describedColumn is a row of system.columns.
type describedColumn struct {
	name, typ, key string
	typed, chosen  bool
	since          place
}

// place is where a record is.
type place struct {
	partition int32
	offset    int64
}

// The way into the twin's table keeps every value.
func TestTwinTable(t *testing.T) {
	w := newTwin(t)
	p := &topic{name: `a "topic"`, position: map[int32]int64{}, records: map[int32][]record.Record{0: {
		{Offset: 0, Timestamp: -1, Value: []byte(`{"n":-9223372036854775808,"d":0.1,"s":"\u0000x\ud83d\ude00","l":[{"x":1,"X":"y"},null,{}],"L":[],"m":["a",{ "b": 1 }],"odd \"\"name":true}`)},
		{Offset: 1, Timestamp: -62135596800000, Key: []byte{0xff}, Value: []byte("{\"n\":1}\x00"), Headers: []record.Header{{Key: "h"}, {Key: "", Value: []byte{0}}}},
		{Offset: 2, Timestamp: 1700000000123, Key: []byte("k\x00"), Value: []byte(`{"d":5e-324,"n":2}`)},
		{Offset: 3, Value: nil},
	}}}
	statement, typed, err := described([]describedColumn{
		{name: "_partition", typ: "INTEGER"}, {name: "_offset", typ: "BIGINT"}, {name: "_timestamp", typ: "TIMESTAMP WITH TIME ZONE"}, {name: "_key", typ: "VARCHAR"},
		{name: "_headers", typ: "STRUCT(key VARCHAR, value BLOB)[]"}, {name: "_value", typ: "VARCHAR"},
		{name: "n", key: "n", typ: "BIGINT", typed: true}, {name: "d", key: "d", typ: "DOUBLE", typed: true}, {name: "s", key: "s", typ: "VARCHAR", typed: true},
		{name: "l", key: "l", typ: `STRUCT(x BIGINT, "X_1" VARCHAR)[]`, typed: true}, {name: "L_1", key: "L", typ: "VARCHAR[]", typed: true, since: place{0, 0}}, {name: "m", key: "m", typ: "VARCHAR[]", typed: true},
		{name: `odd ""name`, key: `odd ""name`, typ: "BOOLEAN", typed: true},
		{name: "_key_bytes", typ: "BLOB"}, {name: "_value_bytes", typ: "BLOB"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.follow(t, w, map[int32]int64{0: 4}, statement, slices.Clone(typed)); err == nil || !strings.Contains(err.Error(), "column L_1") {
		t.Errorf("an empty list defined a column: %v", err)
	}
	p.records[0][0].Value = []byte(strings.Replace(string(p.records[0][0].Value), `"L":[]`, `"L":["z"]`, 1))
	if err := p.follow(t, w, map[int32]int64{0: 2}, statement, typed); err != nil {
		t.Fatal(err)
	}
	if err := p.follow(t, w, map[int32]int64{0: 4}, statement, typed); err != nil {
		t.Fatal(err)
	}
	got, err := w.ask(t.Context(), `SELECT _offset, _timestamp, _key, _headers, n, d, s, l, L_1, m, "odd """"name", _key_bytes, octet_length(_value_bytes), length(_value) FROM "a ""topic""" ORDER BY _offset`)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, r := range rendered(got.rows, how{}) {
		lines = append(lines, r.text)
	}
	want := []string{
		`0 | NULL | NULL | [] | -9223372036854775808 | 0.1d | "\x00x😀" | [{"X_1": "y", "x": 1}, NULL, {"X_1": NULL, "x": NULL}] | ["z"] | ["\"a\"", "{ \"b\": 1 }"] | true | NULL | 141 | 141 | `,
		`1 | t-62135596800000000 | NULL | [{"key": "h", "value": NULL}, {"key": "", "value": x00}] | NULL | NULL | NULL | NULL | NULL | NULL | NULL | xff | 8 | 8 | `,
		`2 | t1700000000123000 | "k\x00" | [] | 2 | 5e-324d | NULL | NULL | NULL | NULL | NULL | x6b00 | 18 | 18 | `,
		`3 | t0 | NULL | [] | NULL | NULL | NULL | NULL | NULL | NULL | NULL | NULL | NULL | NULL | `,
	}
	if !slices.Equal(lines, want) {
		t.Errorf("the table has\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	if err := p.follow(t, w, map[int32]int64{0: 3}, statement, typed); err == nil {
		t.Error("a position that goes back is not noticed")
	}
}
