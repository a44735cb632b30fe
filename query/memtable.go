package query

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// memoryTable is a small table that was made for one query. It is a Table and, read from its beginning, a Result.
type memoryTable struct {
	schema  *arrow.Schema
	records []arrow.Record
	rows    int64
	next    int // of its reading as a Result
}

// Schema has the columns.
func (t *memoryTable) Schema() *arrow.Schema { return t.schema }

// Rows is how many there are.
func (t *memoryTable) Rows() int64 { return t.rows }

// Release frees the rows. No scan runs then or later.
func (t *memoryTable) Release() {
	for _, rec := range t.records {
		rec.Release()
	}
	t.records, t.rows = nil, 0
}

// Scan begins reading.
func (t *memoryTable) Scan(columns []int) (Scan, error) {
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		if c < 0 || c >= t.schema.NumFields() {
			return nil, fmt.Errorf("scan: there is no column %d of %d", c, t.schema.NumFields())
		}
		fields[i] = t.schema.Field(c)
	}
	return &memoryScan{table: t, schema: arrow.NewSchema(fields, nil), columns: columns}, nil
}

type memoryScan struct {
	table   *memoryTable
	schema  *arrow.Schema
	columns []int
	next    atomic.Int64
}

// Next returns the next record with the columns asked for.
func (s *memoryScan) Next(ctx context.Context) (arrow.Record, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	n := int(s.next.Add(1) - 1)
	if n >= len(s.table.records) {
		return nil, io.EOF
	}
	from := s.table.records[n]
	arrays := make([]arrow.Array, len(s.columns))
	for i, c := range s.columns {
		arrays[i] = from.Column(c)
	}
	return array.NewRecord(s.schema, arrays, from.NumRows()), nil
}

// Close has nothing to free: the table has the rows.
func (s *memoryScan) Close() {}

// Next returns the next record of the table as a result.
func (t *memoryTable) Next(context.Context) (arrow.Record, error) {
	if t.next >= len(t.records) {
		return nil, io.EOF
	}
	rec := t.records[t.next]
	rec.Retain()
	t.next++
	return rec, nil
}

// Close ends the reading as a result. What holds the table releases it.
func (t *memoryTable) Close() {}

// tableBuilder makes a memoryTable row by row, in records of at most MaxScanRows.
type tableBuilder struct {
	schema  *arrow.Schema
	records *array.RecordBuilder
	table   *memoryTable
	pending int
}

func newTableBuilder(mem memory.Allocator, schema *arrow.Schema) *tableBuilder {
	return &tableBuilder{schema: schema, records: array.NewRecordBuilder(mem, schema), table: &memoryTable{schema: schema}}
}

// row appends one row: for each column a string, int32, int64, bool or time.Time as its type wants, or nil.
func (b *tableBuilder) row(values ...any) {
	if len(values) != b.schema.NumFields() {
		panic(fmt.Sprintf("query: a row of %d values for %d columns", len(values), b.schema.NumFields()))
	}
	for i, v := range values {
		appendValue(b.records.Field(i), v)
	}
	if b.pending++; b.pending == MaxScanRows {
		b.flush()
	}
}

func appendValue(to array.Builder, v any) {
	if v == nil {
		to.AppendNull()
		return
	}
	switch to := to.(type) {
	case *array.StringBuilder:
		to.Append(v.(string)) //nolint:errcheck,forcetypeassert // a table of ours that breaks its own schema is our bug
	case *array.Int32Builder:
		to.Append(v.(int32)) //nolint:errcheck,forcetypeassert // the same
	case *array.Int64Builder:
		to.Append(v.(int64)) //nolint:errcheck,forcetypeassert // the same
	case *array.BooleanBuilder:
		to.Append(v.(bool)) //nolint:errcheck,forcetypeassert // the same
	case *array.TimestampBuilder:
		to.Append(arrow.Timestamp(v.(time.Time).UnixMicro())) //nolint:errcheck,forcetypeassert // the same
	default:
		panic(fmt.Sprintf("query: no row has a %s", to.Type()))
	}
}

func (b *tableBuilder) flush() {
	if b.pending == 0 {
		return
	}
	b.table.rows += int64(b.pending)
	b.table.records = append(b.table.records, b.records.NewRecord())
	b.pending = 0
}

// finish gives the table; the caller releases it.
func (b *tableBuilder) finish() *memoryTable {
	b.flush()
	b.records.Release()
	return b.table
}

// drop frees what was built.
func (b *tableBuilder) drop() {
	b.finish().Release()
}

// Types of the columns of system tables.
var (
	textType  = arrow.BinaryTypes.String
	timeType  = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}
	int32Type = arrow.PrimitiveTypes.Int32
	int64Type = arrow.PrimitiveTypes.Int64
	boolType  = arrow.FixedWidthTypes.Boolean
)

// columnsOf makes a schema of names and types in turn.
func columnsOf(pairs ...any) *arrow.Schema {
	var fields []arrow.Field
	for pair := range slices.Chunk(pairs, 2) {
		fields = append(fields, arrow.Field{Name: pair[0].(string), Type: pair[1].(arrow.DataType), Nullable: true}) //nolint:errcheck,forcetypeassert // literals of this package
	}
	return arrow.NewSchema(fields, nil)
}

// sqlType is a type of a system table's column as SQL writes it.
func sqlType(t arrow.DataType) string {
	switch t.ID() {
	case arrow.INT32:
		return "INTEGER"
	case arrow.INT64:
		return "BIGINT"
	case arrow.BOOL:
		return "BOOLEAN"
	case arrow.TIMESTAMP:
		return "TIMESTAMP WITH TIME ZONE"
	default:
		return "VARCHAR"
	}
}
