// Package killtest holds the test that kills the process: tidemark dev runs as a user runs it, a producer never stops, and
// again and again the process dies without a word. After each restart every record that was acknowledged is in the log once,
// at the offset that the acknowledgement named, in order; and SQL counts exactly the records that a consumer reads up to the position of its
// answer, which lies above every acknowledgement.
//
// A short form runs with the other tests; `make kill` kills fifty times for each durability.
package killtest
