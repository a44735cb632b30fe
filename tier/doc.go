// Package tier keeps the log in an object store.
//
// Store is the seam: Local keeps objects in a directory, S3 in a bucket, package tierfake in memory with faults on demand; all
// three obey the contract of package tiertest. A name stands for one content for ever. That one rule makes every call
// repeatable, so nothing here rests on conditional requests, on the order in which copies of a request arrive, or on listings.
//
// An L0 object holds the batches that a node flushed together, of many partitions, as their producers encoded them:
//
//	+--------+---------+---------+-- --+---------+-------+--------+
//	| header | block 0 | block 1 | ... | block n | index | footer |
//	+--------+---------+---------+-- --+---------+-------+--------+
//	  16 B     batches of one partition             meta.L0Index  40 B
//
// docs/formats/l0.md draws it byte by byte. BuildL0 lays it out without copying a payload; ReadBlock reads one block and
// verifies its checksum. An object contributes to the log only what its record in etcd says: ReadL0Index and Fold take the
// record, and nobody reads the index of an object on its own authority.
//
// Guarantees:
//
//   - After Put returned nil the object is whole and durable; before, it is whole or absent, never a part.
//   - Bytes that do not match their checksum are never returned: *CorruptionError names object and offset.
//   - Memory taken for what was read is bounded before it is taken, by sizes that were verified or are capped.
//   - A node that folds what PlanFold chooses never has more than MaxRecords records.
//
// Everything but Store implementations is a function without state; all of it may be called from any goroutine.
package tier
