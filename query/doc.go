// Package query answers SQL over topics: each topic is a table, and an answer covers every record that was acknowledged before the
// query began.
//
// # Parts
//
// The package itself has the service: catalog, positions, planning, admission, execution, QueryService and POST /v1/sql. What it
// builds on are packages of their own, which do not know each other:
//
//	column   which columns a topic has, and records as Arrow
//	tail     the records of the topics that are queried, as columns
//	sandbox  which SQL may run, and which tables it refers to
//	duck     the Engine: DuckDB
//	render   Arrow as text
//
// # Life of a query
//
//	text ── size ── sandbox ── parse ── check ──▶ queue ──▶ resolve ──▶ ends ──▶ snapshots ──▶ rewrite ──▶ engine
//	                 (nothing waits in front of this:       topics,     etcd and   the tail       t becomes   Start
//	                  wrong SQL is answered at once)        system.*    leaders    catches up     tidemark_scan(n)
//	                                                                                                            │
//	client ◀── Arrow IPC, NDJSON or CSV ◀── batches of up to 65,536 rows ◀── records of up to 2,048 rows ◀──────┘
//
// check finds the tables by their places in the text, and resolve says what each is: a topic by its exact name, or else by the
// only name that differs in case; or a system table. For each topic the service asks for ends that lie above every record
// acknowledged before the call, raises them to what the client wants to be covered (at_least), and waits until the tail has
// reached them. A position above the ends is one that nobody was acknowledged: the log has 10 s to come there, and then the query fails with
// POSITION_NOT_REACHED. The snapshot may be ahead of that; where it is, is the query's position, which the client is told before the first row. A topic that
// is named twice is one table at one position. Nothing is kept from one query for another but the tail, so there is no answer
// that is older than its question.
//
// # Who computes when
//
// A fixed number of queries compute at once; the others wait in a queue that is fair to clients (admission.go, which is pure, and
// gate.go). A query that waits for its client, or for the log, gives its slot to others. One whose client takes nothing is ended
// when room is needed, and after 30 s in any case; a client that takes what it is sent, however slowly, is not (outlet.go).
//
// # Bounds
//
// Every statement has at most 1 MiB, and all that wait or run 64 MiB together. A query has a time, which includes waiting, maybe a number
// of rows, and the engine's limits of memory and temporary space; those that hold an engine are at most Concurrent + Stalled. Of its
// result a query holds the batch that it sends, about 8 MiB, but for a row that is larger by itself, and one record that the engine has ready. When
// a query ends for whatever reason, its engine, its snapshots and its slot are free before its handler returns.
//
// # Errors
//
// Every error has a Reason for programs, a sentence for people and, about a statement, a place in its text; what to do next stands in
// the metadata as next. Those of the engine are mapped back from the rewritten text to the one that was sent. When a query has been ended (its time, a Cancel, a client that is
// gone), that is the error, not what broke because of it.
package query
