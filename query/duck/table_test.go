//go:build cgo

package duck

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemark-io/tidemark/query"
)

// memoryTable is a table of whole records.
type memoryTable struct {
	schema  *arrow.Schema
	records []arrow.Record
	// before is called by every Next of every scan, with its number from 0 on.
	before func(ctx context.Context, n int) error
	scans  atomic.Int64
	asked  atomic.Pointer[[]int] // the columns of the last scan
	closed atomic.Int64
}

func (m *memoryTable) Schema() *arrow.Schema { return m.schema }

func (m *memoryTable) Rows() (n int64) {
	for _, r := range m.records {
		n += r.NumRows()
	}
	return n
}

func (m *memoryTable) Scan(columns []int) (query.Scan, error) {
	for _, c := range columns {
		if c < 0 || c >= m.schema.NumFields() {
			return nil, errors.New("a column that is not there was asked for")
		}
	}
	m.scans.Add(1)
	m.asked.Store(&columns)
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		fields[i] = m.schema.Field(c)
	}
	return &memoryScan{table: m, columns: columns, schema: arrow.NewSchema(fields, nil)}, nil
}

type memoryScan struct {
	table   *memoryTable
	columns []int
	schema  *arrow.Schema
	next    atomic.Int64
}

func (s *memoryScan) Next(ctx context.Context) (arrow.Record, error) {
	n := int(s.next.Add(1)) - 1
	if s.table.before != nil {
		if err := s.table.before(ctx, n); err != nil {
			return nil, err
		}
	}
	if n >= len(s.table.records) {
		return nil, io.EOF
	}
	rec := s.table.records[n]
	columns := make([]arrow.Array, len(s.columns))
	for i, c := range s.columns {
		columns[i] = rec.Column(c)
	}
	return array.NewRecord(s.schema, columns, rec.NumRows()), nil
}

func (s *memoryScan) Close() { s.table.closed.Add(1) }

// build makes a table; fill appends one row to the builder. Memory is C's, and none may be left at the end of the test.
func build(tb testing.TB, schema *arrow.Schema, rows, perRecord int, fill func(b *array.RecordBuilder, row int)) *memoryTable {
	tb.Helper()
	mem := &cMemory{}
	table := &memoryTable{schema: schema}
	b := array.NewRecordBuilder(mem, schema)
	defer b.Release()
	for row := range rows {
		fill(b, row)
		if (row+1)%perRecord == 0 || row == rows-1 {
			table.records = append(table.records, b.NewRecord())
		}
	}
	tb.Cleanup(func() {
		for _, r := range table.records {
			r.Release()
		}
		b.Release()
		if n := mem.AllocatedBytes(); n != 0 {
			tb.Errorf("%d bytes of the table %s are still held", n, schema)
		}
		if table.scans.Load() != table.closed.Load() {
			tb.Errorf("%d scans were begun, %d closed", table.scans.Load(), table.closed.Load())
		}
	})
	b.Retain()
	return table
}

func open(tb testing.TB, cfg Config) query.Engine {
	tb.Helper()
	e, err := Open(cfg)
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

// all runs a statement and returns its rows as text.
func all(tb testing.TB, e query.Engine, sql string, tables ...query.Table) [][]string {
	tb.Helper()
	rows, err := run(tb.Context(), e, sql, tables...)
	if err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	return rows
}

func run(ctx context.Context, e query.Engine, sql string, tables ...query.Table) ([][]string, error) {
	r, err := e.Start(ctx, query.Statement{SQL: sql, Tables: tables})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var rows [][]string
	for {
		rec, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		for n := range int(rec.NumRows()) {
			row := make([]string, rec.NumCols())
			for c := range row {
				row[c] = strings.Clone(rec.Column(c).ValueStr(n)) // it may be the array's own memory
			}
			rows = append(rows, row)
		}
		rec.Release()
	}
}
