// Package record is Kafka's RecordBatch v2: encode, decode, validate and stamp.
//
// A batch is encoded once, by its producer. Every later place keeps the same bytes: the log on disk, the L0 object, the
// consumer. Only two fields are written by the leader, and Kafka leaves both outside the checksum:
//
//	 0        8        12         16       17      21           23               27
//	+--------+--------+----------+--------+-------+------------+----------------+
//	| base   | length | leader   | magic  | CRC   | attributes | last offset    |
//	| offset | int32  | epoch    | int8=2 | uint32| int16      | delta int32    |
//	+--------+--------+----------+--------+-------+------------+----------------+
//	27              35             43            51         53         57       61
//	+---------------+--------------+-------------+----------+----------+--------+---------+
//	| first         | max          | producer id | producer | base     | record | records |
//	| timestamp     | timestamp    | int64       | epoch    | sequence | count  | …       |
//	+---------------+--------------+-------------+----------+----------+--------+---------+
//
// All integers are big endian. length counts from the leader epoch to the end. The CRC is CRC32C of everything from the
// attributes to the end. Low three bits of the attributes: the codec of the records; bit 3: timestamp type; bit 4:
// transactional; bit 5: control. Source: KIP-98 and the Kafka protocol guide, "Record Batch".
//
// A record, inside the (decompressed) records: varint length, int8 attributes, varlong timestamp delta, varint offset delta,
// varint key length (-1 null) and key, varint value length (-1 null) and value, varint header count, and for each header
// varint key length and key, varint value length (-1 null) and value. Varints are zigzag.
package record
