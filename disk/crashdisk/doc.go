// Package crashdisk is a file system in memory that loses power: tests of durability run on it.
//
// Every file has two contents: what readers see, as from the page cache, and what the platter holds. Between them lie the
// writes since the last Sync, in order.
//
//	WriteAt, Truncate, Allocate    seen at once; pending
//	Sync, nil                      pending becomes durable
//	Sync, error                    pending is lost for good, though readers still see it, as with Linux
//
// Names work alike: every directory has the names that are seen, the names that are durable, and an ordered list of changes
// between them that SyncDir empties. A rename is one change, also between two directories. The name of a file and its content
// are independent: a synced file whose name was not synced is gone after a crash.
//
// Crash copies what survives into a new file system and ends the old one. How much of what is pending survives is the
// caller's choice: nothing, all, or by seed some: of each 4 KiB block any one version since the last Sync, independent of
// its neighbours; of each directory some first part of its changes. It may be called again and again on the same wreck.
//
// FailOn lets a call fail, half succeed, succeed and yet report failure, or be the last before power goes. Calls are counted
// from 1, so that a test can fail each in turn. SetCapacity makes a disk that fills up.
package crashdisk
