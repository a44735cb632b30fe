// Package twintest holds the test that answers are right: tidemark dev runs as a user runs it, producers never stop writing values whose
// schema drifts, the process is killed without a word now and then, and all the while random SQL is asked.
//
// # The dumb twin
//
// Every answer says which position it covers. The test consumes the topics up to exactly that position, as any consumer does, and asks plain
// DuckDB the same question:
//
//	producers ──▶ tidemark dev ──▶ query at a position ──▶ answer ──────┐
//	                   │                                                ├── equal?
//	                   └──▶ consume up to the position ──▶ DuckDB ──────┘
//
// Between the consumer and the table of the twin stands a normaliser that is dumb on purpose (document_test.go): encoding/json, a tree, a walk
// beside the column's type. The types are those that the server describes, with which the values are then read by DuckDB's own
// from_json. Nothing of the server's way from values to columns is used.
//
// # What is compared
//
// The names of the columns and every value, as a bag of rows, or in order where the statement orders all of it (answer_test.go). Doubles are
// compared exactly but for sums, whose order nobody promises. An error must come from both. Besides, no position may ever be below one of
// before, also after a kill, nor below what was acknowledged when the statement was asked.
//
// # Beside it
//
// TestPoison puts everything into a topic that senders have ever sent, and TestHostileSQL sends the corpus of package sandbox, over HTTP, to a
// server with tight limits while somebody produces.
//
// # Running it
//
// TIDEMARK_TWIN_QUERIES says how many statements (100), TIDEMARK_TWIN_SEED which ones. A failure prints the seed, the number of the
// statement, its text, the position and both answers; TIDEMARK_TWIN_ONLY=<number> asks only that one statement of a seed. The statements of a seed are
// the same as long as the topics have the same columns; the data is as random as the machine's timing. With TIDEMARK_TWIN_DIR the data stays there.
package twintest
