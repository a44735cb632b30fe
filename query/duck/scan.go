//go:build cgo

package duck

/*
#include <stdlib.h>

// The callbacks of the table function, and what frees their data; see scan_callbacks.go.
void tidemarkBind(void *info);
void tidemarkInit(void *info);
void tidemarkScan(void *info, void *output);
void tidemarkFree(void *data);
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/cgo"
	"sync"
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/duckdb/duckdb-go/v2/mapping"

	"github.com/tidemark-io/tidemark/query"
)

// boxed puts a handle on a Go value into memory of C's, which DuckDB gives to our callbacks; tidemarkFree frees both.
func boxed(v any) unsafe.Pointer {
	p := C.malloc(C.size_t(unsafe.Sizeof(cgo.Handle(0))))
	if p == nil {
		panic("duck: out of memory")
	}
	*(*cgo.Handle)(p) = cgo.NewHandle(v)
	return p
}

func unboxed[T any](p unsafe.Pointer) T { return (*(*cgo.Handle)(p)).Value().(T) } //nolint:errcheck,forcetypeassert // we made it

// freeCallback is what frees a box.
func freeCallback() unsafe.Pointer { return unsafe.Pointer(C.tidemarkFree) }

// sources are the tables of the statement that a connection runs. The table function of the connection looks here.
type sources struct {
	conn mapping.Connection

	mu     sync.Mutex
	ctx    context.Context
	tables []query.Table
	scans  []*tableScan
	failed error // what a table said, kept for callers: DuckDB knows texts only
}

// begin hands in a statement's tables.
func (s *sources) begin(ctx context.Context, tables []query.Table) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ctx, s.tables, s.failed = ctx, tables, nil
}

// end closes every scan. No statement runs any more.
func (s *sources) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, scan := range s.scans {
		scan.close()
	}
	s.ctx, s.tables, s.scans = nil, nil, nil
}

func (s *sources) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = err
	}
}

// failure is the first error of a table, nil if none failed.
func (s *sources) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// table finds a table of the statement.
func (s *sources) table(n int64) (query.Table, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n < 0 || n >= int64(len(s.tables)) {
		return nil, fmt.Errorf("there is no table %d", n)
	}
	return s.tables[n], nil
}

// register makes the table function known to the connection. It stays as long as the instance does.
func (s *sources) register() error {
	f := mapping.CreateTableFunction()
	defer mapping.DestroyTableFunction(&f)
	mapping.TableFunctionSetName(f, query.ScanFunction)
	number := mapping.CreateLogicalType(mapping.TypeBigInt)
	mapping.TableFunctionAddParameter(f, number)
	mapping.DestroyLogicalType(&number)
	mapping.TableFunctionSetExtraInfo(f, boxed(s), freeCallback())
	mapping.TableFunctionSetBind(f, unsafe.Pointer(C.tidemarkBind))
	mapping.TableFunctionSetInit(f, unsafe.Pointer(C.tidemarkInit))
	mapping.TableFunctionSetFunction(f, unsafe.Pointer(C.tidemarkScan))
	mapping.TableFunctionSupportsProjectionPushdown(f, true)
	if mapping.RegisterTableFunction(s.conn, f) != mapping.StateSuccess {
		return errors.New("DuckDB refuses our table function")
	}
	return nil
}

// bind tells DuckDB the columns of a table.
func (s *sources) bind(info mapping.BindInfo) error {
	parameter := mapping.BindGetParameter(info, 0)
	n := mapping.GetInt64(parameter)
	mapping.DestroyValue(&parameter)
	table, err := s.table(n)
	if err != nil {
		return err
	}
	for _, f := range table.Schema().Fields() {
		t, err := logicalType(f.Type)
		if err != nil {
			return fmt.Errorf("column %s: %w", f.Name, err)
		}
		mapping.BindAddResultColumn(info, f.Name, t)
		mapping.DestroyLogicalType(&t)
	}
	mapping.BindSetCardinality(info, mapping.IdxT(table.Rows()), true)
	mapping.BindSetBindData(info, boxed(table), freeCallback())
	return nil
}

// init begins a scan of the columns that the statement needs.
func (s *sources) init(info mapping.InitInfo) error {
	table := unboxed[query.Table](mapping.InitGetBindData(info))
	fields := table.Schema().Fields()
	scan := &tableScan{sources: s}
	var columns []int
	for n := range mapping.InitGetColumnCount(info) {
		c := mapping.InitGetColumnIndex(info, n)
		if c >= mapping.IdxT(len(fields)) {
			// A row number, or DuckDB's way of asking for nothing: it counts rows, and reads no value of this column.
			scan.targets = append(scan.targets, -1)
			continue
		}
		scan.targets = append(scan.targets, len(columns))
		columns = append(columns, int(c))
		conv, err := convertType(s.conn, fields[c])
		if err != nil {
			scan.close()
			return err
		}
		scan.types = append(scan.types, conv)
	}
	rows, err := table.Scan(columns)
	if err != nil {
		scan.close()
		s.fail(err)
		return err
	}
	scan.rows = rows
	s.mu.Lock()
	scan.ctx = s.ctx
	s.scans = append(s.scans, scan)
	s.mu.Unlock()
	mapping.InitSetMaxThreads(info, maxScanThreads)
	mapping.InitSetInitData(info, boxed(scan), freeCallback())
	return nil
}

// maxScanThreads is more than an instance has.
const maxScanThreads = 256

// tableScan is one scan of one table in one statement. Several threads fill chunks from it.
type tableScan struct {
	sources *sources
	ctx     context.Context
	rows    query.Scan
	types   []converted // by place in the record
	targets []int       // for each column of DuckDB's, its place in the record; -1 for none
}

// fill puts the next record into a chunk; an empty chunk ends the scan.
func (t *tableScan) fill(out mapping.DataChunk) error {
	rec, err := t.rows.Next(t.ctx)
	if errors.Is(err, io.EOF) {
		mapping.DataChunkSetSize(out, 0)
		return nil
	}
	if err != nil {
		t.sources.fail(err)
		return err
	}
	defer rec.Release()
	if rec.NumRows() > query.MaxScanRows || rec.NumRows() == 0 {
		err := fmt.Errorf("a table gave a record of %d rows; 1 to %d are allowed", rec.NumRows(), query.MaxScanRows)
		t.sources.fail(err)
		return err
	}
	for n, place := range t.targets {
		if place < 0 {
			continue
		}
		if err := t.reference(mapping.DataChunkGetVector(out, mapping.IdxT(n)), place, rec.Column(place)); err != nil {
			t.sources.fail(err)
			return err
		}
	}
	mapping.DataChunkSetSize(out, mapping.IdxT(rec.NumRows()))
	return nil
}

// reference makes a vector of DuckDB's refer to a column, without a copy.
func (t *tableScan) reference(to mapping.Vector, place int, column arrow.Array) error {
	if column.Data().Offset() != 0 {
		return fmt.Errorf("a table gave a slice of a column, which DuckDB cannot read")
	}
	chunk, err := t.types[place].chunk(t.sources.conn, column)
	if err != nil {
		return err
	}
	mapping.VectorReferenceVector(to, mapping.DataChunkGetVector(chunk, 0))
	mapping.DestroyDataChunk(&chunk)
	return nil
}

func (t *tableScan) close() {
	if t.rows != nil {
		t.rows.Close()
		t.rows = nil
	}
	for n := range t.types {
		t.types[n].destroy()
	}
	t.types = nil
}
