// Package duck executes SQL with DuckDB. It is the only package that knows of it; what it offers is query.Engine.
//
// # In and out
//
//	query.Scan ──► one column of one record ──► ArrowArray ──► duckdb_data_chunk_from_arrow ──► vector of DuckDB   (no copy)
//	result     ──► chunk of DuckDB ──► duckdb_data_chunk_to_arrow ──► arrow.Record                                 (streamed)
//
// Both directions are Arrow's C data interface. Tables are read by a table function of ours, tidemark_scan(n), which takes DuckDB's projection: only
// the columns that a statement needs are asked of the table, and a statement that only counts asks for none. A table may be
// scanned several times in one statement, by several threads.
//
// DuckDB's own way in, duckdb_arrow_scan, is not used: it ignores the projection that DuckDB asked of it, so that a statement that needs a
// subset of the columns gets the wrong ones or crashes the process. Tests of this package would notice if ours did.
//
// Columns are converted one at a time, though a chunk of several could be. What DuckDB does with a chunk of several columns
// gives the whole of Arrow's memory to the first vector; when that goes before the others, they point to memory that
// was freed. With one column a chunk each vector holds its own.
//
// # Instances
//
// A statement runs in an instance of DuckDB of its own, in memory, with nothing in it: no tables, no files, no network, no
// extensions but those linked in, and settings that cannot be changed. Making one takes about ten milliseconds, so a few are kept
// ready. An instance that ended a statement well is used again a limited number of times, since a SELECT leaves nothing behind; one
// that was interrupted or failed is not.
//
// # What may be run
//
// Anything that is handed in: what users may write is decided in package sandbox, before. The instance's settings are the second
// fence: enable_external_access=false, no extensions, lock_configuration=true, and limits of memory and temporary space.
//
// Those limits know what DuckDB's buffers hold, not what a scalar function makes on the way, and an interrupt is seen between two
// vectors. So functions that make much of little are bounded (bounds.go). A statement can still build a great text out of smaller
// ones, as by doubling one in a recursion; it takes memory beyond the limit then, until it ends or its time is over.
//
// # Without cgo
//
// A build with CGO_ENABLED=0 has no engine: Open returns query.ErrNoEngine.
package duck
