package query

import (
	"context"
	"errors"

	"github.com/apache/arrow/go/v17/arrow"
)

// Engine executes SQL over tables that are handed to it. It knows nothing of topics, offsets or who asks. Package duck has the
// one of this version; a build without it has none. Its methods may be called from any goroutine.
type Engine interface {
	// Parse returns the abstract syntax tree of a text as the engine's own parser sees it: the JSON of DuckDB's
	// json_serialize_sql, which also says what is wrong with a text that does not parse. It executes nothing. The error is the
	// engine's own failure.
	Parse(ctx context.Context, sql string) ([]byte, error)
	// Start prepares and begins one statement, in an instance of its own that ends with the Result. When ctx ends, the statement is interrupted, and
	// what waits for it returns ctx's cause. The tables are the engine's until the Result is closed. An error of the statement
	// itself is a *StatementError, one of its limits errors.Is ErrMemory or ErrTemp.
	Start(ctx context.Context, s Statement) (Result, error)
	// Close ends the engine when every Result is closed.
	Close() error
}

// Statement is what an Engine is asked to run.
type Statement struct {
	// SQL refers to the tables by ScanFunction and their place in Tables, never by name.
	SQL    string
	Tables []Table
}

// Table is a source of rows. Its methods may be called from any goroutine.
type Table interface {
	// Schema has the columns; names are unique ignoring the case of ASCII letters.
	Schema() *arrow.Schema
	// Rows is how many rows a scan gives.
	Rows() int64
	// Scan begins reading some of the columns, by their places in Schema, in the order given; maybe none, when only the number
	// of rows matters. The same table may be scanned several times, also at once.
	Scan(columns []int) (Scan, error)
}

// Scan gives the rows of one reading, in records of at most 2,048 rows that are no slices of others and whose buffers are not
// Go's memory. Several threads may call Next at once, and each record goes to one of them.
type Scan interface {
	// Next returns the next record, which the caller releases, or io.EOF. A record of a scan without columns has a number of rows
	// and nothing else.
	Next(ctx context.Context) (arrow.Record, error)
	// Close frees what the scan holds. No Next runs beside it or comes after it.
	Close()
}

// Result is a running statement.
type Result interface {
	// Schema has the result's columns, also before the first row is there. Names may repeat.
	Schema() *arrow.Schema
	// Next waits for the next rows, at most 2,048, or returns io.EOF. The caller releases the record.
	Next(ctx context.Context) (arrow.Record, error)
	// Close ends the statement, and frees its instance and its tables' scans. Safe twice; not beside Next.
	Close()
}

// StatementError says what is wrong with a statement, in words for who wrote it.
type StatementError struct {
	// Kind is the engine's word for what is wrong: parser, binder, catalog, conversion, out of range, …
	Kind    string
	Message string
	// Position is a byte offset into the SQL that was started, -1 when none is known.
	Position int
}

func (e *StatementError) Error() string { return e.Message }

// Limits of one statement that ended it.
var (
	// ErrMemory: the statement needs more memory than it may take.
	ErrMemory = errors.New("the query needs more memory than a query may take")
	// ErrTemp: the statement needs more temporary space than it may take, or the disk for it is full.
	ErrTemp = errors.New("the query needs more temporary disk space than there is for it")
	// ErrNoEngine: this build executes no SQL.
	ErrNoEngine = errors.New("this build of Tidemark has no SQL engine: it was made with CGO_ENABLED=0")
)

// MaxScanRows is the greatest number of rows of one record of a Scan, the engine's own vector size.
const MaxScanRows = 2048

// ScanFunction is the name of the table function by which SQL handed to an Engine refers to a table: tidemark_scan(0) is the
// first of Statement.Tables.
const ScanFunction = "tidemark_scan"
