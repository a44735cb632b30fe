// Package wal is a node's local log: one sequence of frames, shared by all partitions, in rolling files.
//
// A position in it, an LSN, counts bytes of frames from the beginning of the data directory's life. It grows for ever,
// across files and restarts. A file is named after its first LSN; the frame at LSN n stands at offset 32 + n - first.
//
//	file header, 32 bytes, big endian
//	 0      4         6          8           16       24      28          32
//	+------+---------+----------+-----------+--------+-------+-----------+
//	| TMWL | version | flags    | first LSN | synced | salt  | CRC32C    |
//	|      | u16 = 2 | u16      | u64       | u64    | u32   | of 0-27   |
//	+------+---------+----------+-----------+--------+-------+-----------+
//
//	frame: header of 64 bytes, then the batch
//	 0      4          8     16       24       40          44      48            56       60        64
//	+------+----------+-----+--------+--------+-----------+-------+-------------+--------+---------+-------+
//	| TMWF | CRC32C   | LSN | synced | topic  | partition | epoch | append time | length | CRC32C  | batch |
//	|      | 8-63^salt| u64 | u64    | 16 B   | i32       | i32   | i64 ms      | u32    | of batch|       |
//	+------+----------+-----+--------+--------+-----------+-------+-------------+--------+---------+-------+
//
// synced is the LSN below which everything was known to be durable when header or frame was written. It tells a torn tail,
// which a crash leaves and which nobody was promised, from damage to something that was promised. These are corruption: a file
// whose frames end below its header's synced; an unreadable frame with a later readable one that says "synced beyond it"; and
// anything unreadable in a file but the last, because a file is synced before the next begins. A file gets its name once it
// is whole and synced, so a bad header is corruption too. Zeros behind the last frame are a clean end: files are allocated
// whole, so that a full disk shows when a file is made and not in the middle of it. A file that was trimmed may be written
// anew under another name: then zeros for one frame header end it, behind which lie frames of its earlier life, none with the
// LSN of its place. The salt is part of the checksum of every frame header, so that nobody who writes batches can make one
// that looks like frames. On a file system that copies what it writes, the disk may be full in the middle of such a file.
//
// The limit of this: damage to the frames that were synced last, with no readable frame behind them, looks like a torn tail.
// Config.Durable, which the node keeps in etcd, closes most of the gap; docs/formats/wal.md says more.
//
// # Durability
//
// What Append wrote survives the end of the process. What a Sync that returned nil covers survives the end of the machine.
// After a failed Sync nothing is known about what was written since the last good one, and a second one would prove nothing:
// the log only closes. Open recovers the longest valid prefix, writes the last file's part of it anew and syncs it before it
// returns, since what is readable after a crash may be in the page cache only.
//
// # A full disk
//
// Append says disk.ErrNoSpace and has appended nothing; it may be repeated, with these frames or others. Open needs room for
// a copy of the last file's frames.
package wal
