// Package tail keeps the logs of the topics that are being queried as Arrow, so that a query scans columns in memory and not a
// log.
//
// # How
//
// A Store has one tail for each topic that somebody asks about. A tail reads the topic's whole log through a Reader, as any
// consumer does, and cuts the rows of a partition into chunks of up to 2,048 (package column); chunks are grouped into runs.
//
//	reader ── pieces ──> rows (open, per partition) ── shred ──> young chunks (per partition) ── merge ──> run ── spill ──> file
//
// A Snapshot waits until the tail has reached a position, seals what is open and names all chunks and runs that there are.
// Snapshots taken often make small chunks; young neighbours of one partition are merged, geometrically, until they are too many
// for one chunk. A run is complete with 32 chunks or 8 MiB (an eighth of the budget, if that is less).
//
// One goroutine owns a tail and everything in it that changes; another waits for its reader. Requests come to it by channel and
// are answered as soon as what they ask for is there. Tails share the budget and the disk, nothing else: one that catches up
// holds up no other.
//
// # Memory
//
// What is in memory is counted until the last who uses it lets go. Above Config.Budget, complete runs are written to Config.Dir, those that
// were scanned longest ago first and the older ones first among equals, until it is enough; a scan reads what it projects of them back from there. Tails that hold
// more than a sixteenth of the budget are held to seven eighths of it, so that a great topic does not keep a small one out when the disk is full.
//
// It is made enough after every piece that was read, after every chunk of one that becomes several, and before a snapshot is given. Above the
// budget there may be: for each tail one run that is not complete (at most 1 MiB of it that cannot be spilled), for each
// partition the rows that are open and its young chunks (each at most about one chunk), the young chunks of snapshots that are not released, and what
// running scans hold, which is for each call of Scan.Next the columns that it projects of one run. A chunk is of 2,048 rows, 4 MiB or 1,048,576
// entries of lists, whichever comes first, and the row with which it does.
//
// When the disk has no room, or Config.SpillBytes is reached, following pauses before more is read. What was read stays, queries
// of it are answered unless they need more room themselves, those that want more fail with ErrSpillFull, and following goes on when there is room.
//
// # Trouble
//
// A reader's trouble that may pass is waited out while queries of what is there are answered. While a schema cannot be extended the tail stands
// still and answers nobody, for 15 seconds at most: rows that were read cannot be shown under the old schema by one node and under a new one by
// others. Then it ends with a *SchemaError. A topic that is gone ends it at once.
//
// A tail that ends gives its error to those who wait, and the next Snapshot begins another from the log's beginning. A panic, in the tail, its reader
// or a scan of it, is logged with its stack and ends the tail with a *PanicError, and nothing else.
//
// # Guarantees
//
//   - A snapshot has every row below its Position once, and no other. Chunks, merges, spilling and rewriting do not show.
//   - What a query sees in a row depends on nothing but the row and the snapshot's schema. Whatever a chunk was made under that cannot be mapped
//     to the snapshot's schema is made anew from the records' bytes, before the snapshot is given.
//   - Columns read from a file are verified by CRC32C. Damage is a *DamageError; the tail is then built anew from the log.
//   - Nothing in Config.Dir outlives a process; nothing in it is fsynced.
package tail
