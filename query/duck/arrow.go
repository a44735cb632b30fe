//go:build cgo

package duck

/*
#include <stdint.h>
#include <stdlib.h>

// Arrow's C data interface, https://arrow.apache.org/docs/format/CDataInterface.html.
struct ArrowSchema {
	const char *format;
	const char *name;
	const char *metadata;
	int64_t flags;
	int64_t n_children;
	struct ArrowSchema **children;
	struct ArrowSchema *dictionary;
	void (*release)(struct ArrowSchema *);
	void *private_data;
};

struct ArrowArray {
	int64_t length;
	int64_t null_count;
	int64_t offset;
	int64_t n_buffers;
	int64_t n_children;
	const void **buffers;
	struct ArrowArray **children;
	struct ArrowArray *dictionary;
	void (*release)(struct ArrowArray *);
	void *private_data;
};

// The functions of duckdb.h around conversion; pointers to DuckDB's own types are opaque here. A duckdb_error_data may be NULL.
extern void *duckdb_schema_from_arrow(void *connection, struct ArrowSchema *schema, void **out);
extern void *duckdb_data_chunk_from_arrow(void *connection, struct ArrowArray *array, void *schema, void **out);
extern void *duckdb_to_arrow_schema(void *options, void **types, const char **names, uint64_t count, struct ArrowSchema *out);
extern void *duckdb_data_chunk_to_arrow(void *options, void *chunk, struct ArrowArray *out);
extern void duckdb_destroy_arrow_converted_schema(void **schema);
extern void duckdb_connection_get_arrow_options(void *connection, void **out);
extern void duckdb_destroy_arrow_options(void **options);

// A record of one column: the array that stands for the record, its only child, and the pointers between them, in one piece.
struct tidemark_record {
	struct ArrowArray array;
	struct ArrowArray column;
	struct ArrowArray *children[1];
	const void *buffers[1];
};

static void tidemark_release_record(struct ArrowArray *array) {
	struct tidemark_record *r = (struct tidemark_record *)array->private_data;
	if (r->column.release != NULL) {
		r->column.release(&r->column);
	}
	array->release = NULL;
	free(r);
}

static struct tidemark_record *tidemark_new_record(int64_t length) {
	struct tidemark_record *r = (struct tidemark_record *)calloc(1, sizeof *r);
	if (r == NULL) {
		abort();
	}
	r->children[0] = &r->column;
	r->array.length = length;
	r->array.n_buffers = 1;
	r->array.buffers = r->buffers;
	r->array.n_children = 1;
	r->array.children = r->children;
	r->array.release = tidemark_release_record;
	r->array.private_data = r;
	return r;
}

// tidemark_convert makes a chunk of a record, which it takes over, whatever happens.
static void *tidemark_convert(void *connection, struct tidemark_record *r, void *schema, void **chunk) {
	struct ArrowArray array = r->array; // DuckDB takes the array by value and leaves release NULL when it did
	void *err = duckdb_data_chunk_from_arrow(connection, &array, schema, chunk);
	if (array.release != NULL) {
		array.release(&array);
	}
	return err;
}
*/
import "C"

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/cdata"
	"github.com/duckdb/duckdb-go/v2/mapping"
)

// converted is a column's type as DuckDB has read it from Arrow. It may be used by several threads at once.
type converted struct{ schema unsafe.Pointer }

// convertType prepares the conversion of columns of one type.
func convertType(conn mapping.Connection, f arrow.Field) (converted, error) {
	f.Name = "c" // names of STRUCT fields count, that of the column itself does not
	cs := (*C.struct_ArrowSchema)(C.calloc(1, C.sizeof_struct_ArrowSchema))
	defer C.free(unsafe.Pointer(cs))
	cdata.ExportArrowSchema(arrow.NewSchema([]arrow.Field{f}, nil), (*cdata.CArrowSchema)(unsafe.Pointer(cs)))
	defer cdata.ReleaseCArrowSchema((*cdata.CArrowSchema)(unsafe.Pointer(cs)))
	var out unsafe.Pointer
	if err := taken(C.duckdb_schema_from_arrow(conn.Ptr, cs, &out)); err != nil {
		return converted{}, fmt.Errorf("convert the Arrow type %s: %w", f.Type, err)
	}
	return converted{out}, nil
}

func (c *converted) destroy() {
	if c.schema != nil {
		C.duckdb_destroy_arrow_converted_schema(&c.schema)
		c.schema = nil
	}
}

// chunk makes a chunk whose only vector refers to the column's memory, and keeps a reference on it. The caller destroys the chunk.
func (c converted) chunk(conn mapping.Connection, column arrow.Array) (mapping.DataChunk, error) {
	r := C.tidemark_new_record(C.int64_t(column.Len()))
	cdata.ExportArrowArray(column, (*cdata.CArrowArray)(unsafe.Pointer(&r.column)), nil)
	var out unsafe.Pointer
	if err := taken(C.tidemark_convert(conn.Ptr, r, c.schema, &out)); err != nil {
		return mapping.DataChunk{}, fmt.Errorf("convert a column of Arrow type %s: %w", column.DataType(), err)
	}
	return mapping.DataChunk{Ptr: out}, nil
}

// exporter turns chunks of a result into records.
type exporter struct {
	options unsafe.Pointer
	schema  *arrow.Schema
}

// newExporter describes a result in Arrow. names and types are those of its columns; types stay the caller's, who destroys the exporter.
func newExporter(conn mapping.Connection, types []mapping.LogicalType, names []string) (_ exporter, err error) {
	var options unsafe.Pointer
	C.duckdb_connection_get_arrow_options(conn.Ptr, &options)
	defer func() {
		if err != nil {
			C.duckdb_destroy_arrow_options(&options)
		}
	}()
	n := len(types)
	size := C.size_t(unsafe.Sizeof(unsafe.Pointer(nil)))
	ctypes := unsafe.Slice((*unsafe.Pointer)(C.calloc(C.size_t(max(n, 1)), size)), max(n, 1))
	cnames := unsafe.Slice((**C.char)(C.calloc(C.size_t(max(n, 1)), size)), max(n, 1))
	for i := range n {
		ctypes[i], cnames[i] = types[i].Ptr, C.CString(names[i])
	}
	defer func() {
		for i := range n {
			C.free(unsafe.Pointer(cnames[i]))
		}
		C.free(unsafe.Pointer(&ctypes[0]))
		C.free(unsafe.Pointer(&cnames[0]))
	}()
	cs := (*C.struct_ArrowSchema)(C.calloc(1, C.sizeof_struct_ArrowSchema))
	defer C.free(unsafe.Pointer(cs))
	if err := taken(C.duckdb_to_arrow_schema(options, &ctypes[0], &cnames[0], C.uint64_t(n), cs)); err != nil {
		return exporter{}, err
	}
	defer cdata.ReleaseCArrowSchema((*cdata.CArrowSchema)(unsafe.Pointer(cs)))
	schema, err := cdata.ImportCArrowSchema((*cdata.CArrowSchema)(unsafe.Pointer(cs)))
	if err != nil {
		return exporter{}, fmt.Errorf("read the result's Arrow schema: %w", err)
	}
	return exporter{options: options, schema: schema}, nil
}

func (e *exporter) destroy() {
	if e.options != nil {
		C.duckdb_destroy_arrow_options(&e.options)
		e.options = nil
	}
}

// record makes a record of a chunk. Its memory is DuckDB's and stays until the record is released, also beyond the instance.
func (e exporter) record(chunk mapping.DataChunk) (arrow.Record, error) {
	ca := (*C.struct_ArrowArray)(C.calloc(1, C.sizeof_struct_ArrowArray))
	defer C.free(unsafe.Pointer(ca))
	if err := taken(C.duckdb_data_chunk_to_arrow(e.options, chunk.Ptr, ca)); err != nil {
		return nil, err
	}
	rec, err := cdata.ImportCRecordBatchWithSchema((*cdata.CArrowArray)(unsafe.Pointer(ca)), e.schema)
	if err != nil {
		return nil, fmt.Errorf("read a chunk of the result: %w", err)
	}
	return rec, nil
}

// taken destroys an error of DuckDB's, NULL for none, and returns what it says.
func taken(p unsafe.Pointer) error {
	if p == nil {
		return nil
	}
	data := mapping.ErrorData{Ptr: p}
	defer mapping.DestroyErrorData(&data)
	if !mapping.ErrorDataHasError(data) {
		return nil
	}
	return errors.New(mapping.ErrorDataMessage(data))
}
