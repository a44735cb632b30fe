// Package record encodes, decodes, validates and stamps Kafka record batches of version 2.
//
// A batch is encoded once, by its producer, and the same bytes go to the disk, to the object store and to the consumer.
// What the log adds to it (base offset and leader epoch) lies in header fields that the checksum leaves out:
//
//	0      8        12           16    17      21          23
//	┌──────┬────────┬────────────┬─────┬───────┬───────────┬──
//	│ base │ length │ leader     │ magic CRC32C│ attributes│ …
//	│offset│        │ epoch      │ = 2 │       │           │
//	└──────┴────────┴────────────┴─────┴───────┴───────────┴──
//	 stamped         stamped             └─ covers everything from here on ─→
//
//	23          27           35         43        51        53        57       61
//	┬───────────┬────────────┬──────────┬─────────┬─────────┬─────────┬────────┬─────────
//	│last offset│ first      │ max      │producer │producer │base     │record  │ records,
//	│delta      │ timestamp  │ timestamp│id       │epoch    │sequence │count   │ maybe compressed
//	┴───────────┴────────────┴──────────┴─────────┴─────────┴─────────┴────────┴─────────
//
// All integers are big endian. The length counts the bytes after itself. The low three bits of the attributes name the
// codec of everything from byte 61 on. One record is
//
//	length, attributes (1 byte), timestamp delta, offset delta, key length, key, value length, value,
//	header count, then per header: key length, key, value length, value
//
// with every number a zigzag varint; a length of -1 stands for null, and is not allowed for the key of a header.
//
// # Hostile bytes
//
// [Validate] is the gate: it reads what anybody may have sent. It takes no memory for an uncompressed batch. A compressed
// one is decompressed as a stream through a window of fixed size and nothing is kept, so that a bomb costs no more memory than a
// harmless batch: at most the decoder's own window (8 MiB with zstd, 4 MiB blocks with lz4), and for a snappy block at most 22 times the bytes
// received, which is more than the format can expand. It stops as soon as the decompressed-size cap is passed.
//
// [Batch.Records] must hold what it gives to its caller: it takes memory as decompressed bytes appear, never because a length
// field says so, and stops at the same cap.
//
// # Interchange
//
// Batches are those of the Java client, librdkafka and franz-go, in both directions. Snappy is read raw and in the framing of
// snappy-java, and written raw; it is read strictly, without the extensions that other snappy-like formats have, since a
// batch that only we can read would poison the topic for everybody else. lz4 is written as a frame of independent blocks,
// which is all that the Java client reads. zstd frames with a window above 8 MiB are refused, as RFC 8878 recommends.
package record
