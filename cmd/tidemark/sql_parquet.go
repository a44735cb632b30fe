package main

import (
	"fmt"
	"io"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/query/render"
)

// A row group is held in memory, compressed, until it has as many rows or bytes.
const (
	maxGroupRows  = 1 << 20
	maxGroupBytes = 64 << 20
)

// parquetResult is a Parquet file. Without its end, which lists the row groups, no reader takes it.
type parquetResult struct {
	w      *pqarrow.FileWriter
	schema *arrow.Schema
	rows   int64 // of the row group that is open
	open   bool
}

func newParquetResult(out io.Writer, s *arrow.Schema) (*parquetResult, error) {
	properties := parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Zstd))
	arrowProperties := pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema())
	// Names that repeat would make columns that no reader can tell apart.
	fields := s.Fields()
	for i, name := range render.Columns(s) {
		fields[i].Name = name
		one := arrow.NewSchema(fields[i:i+1], nil)
		if _, err := pqarrow.ToParquet(one, properties, arrowProperties); err != nil {
			return nil, fmt.Errorf("column %q: Parquet has no such type: cast it to VARCHAR: %w", name, err)
		}
	}
	schema := arrow.NewSchema(fields, nil)
	// The writer must not close what it writes to.
	w, err := pqarrow.NewFileWriter(schema, struct{ io.Writer }{out}, properties, arrowProperties)
	if err != nil {
		return nil, err
	}
	return &parquetResult{w: w, schema: schema}, nil
}

func (r *parquetResult) write(rec arrow.Record) error {
	if !r.open || r.rows+rec.NumRows() > maxGroupRows || r.w.RowGroupTotalCompressedBytes() > maxGroupBytes {
		r.w.NewBufferedRowGroup()
		r.open, r.rows = true, 0
	}
	r.rows += rec.NumRows()
	named := array.NewRecord(r.schema, rec.Columns(), rec.NumRows())
	defer named.Release()
	return r.w.WriteBuffered(named)
}

// end writes the last row group and the file's own end.
func (r *parquetResult) end(*client.Rows) error { return r.w.Close() }
