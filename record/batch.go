package record

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"
)

// HeaderSize is the length of the fixed part of a batch.
const HeaderSize = 61

// Where the fields of the header begin.
const (
	atBaseOffset     = 0
	atLength         = 8
	atLeaderEpoch    = 12
	atMagic          = 16
	atCRC            = 17
	atAttributes     = 21
	atLastDelta      = 23
	atFirstTimestamp = 27
	atMaxTimestamp   = 35
	atProducerID     = 43
	atProducerEpoch  = 51
	atBaseSequence   = 53
	atCount          = 57

	lengthEnd    = 12 // the length field counts from here
	magic        = 2
	attrCodec    = 0x07
	attrLogTime  = 0x08
	attrTxn      = 0x10
	attrControl  = 0x20
	attrProducer = attrCodec // all that a producer may set
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Batch is the bytes of exactly one record batch. Its accessors read the fixed header and check nothing: call them only on
// what Validate, Next or a Builder returned.
type Batch []byte

// BaseOffset is the offset of the first record.
func (b Batch) BaseOffset() int64 { return i64(b, atBaseOffset) }

// LastOffset is the offset of the last record.
func (b Batch) LastOffset() int64 { return b.BaseOffset() + int64(i32(b, atLastDelta)) }

// NextOffset is the first offset after the batch.
func (b Batch) NextOffset() int64 { return b.LastOffset() + 1 }

// Count is the number of records.
func (b Batch) Count() int32 { return i32(b, atCount) }

// LeaderEpoch is the epoch of the leader that stamped the batch, or -1.
func (b Batch) LeaderEpoch() int32 { return i32(b, atLeaderEpoch) }

// CRC is the checksum that the header states.
func (b Batch) CRC() uint32 { return binary.BigEndian.Uint32(b[atCRC:]) }

// Attributes are the flags, the codec among them.
func (b Batch) Attributes() uint16 { return binary.BigEndian.Uint16(b[atAttributes:]) }

// Codec is how the records are compressed.
func (b Batch) Codec() Codec { return Codec(b.Attributes() & attrCodec) }

// FirstTimestamp is the timestamp of the first record, in milliseconds; the other records' are relative to it.
func (b Batch) FirstTimestamp() int64 { return i64(b, atFirstTimestamp) }

// MaxTimestamp is the greatest timestamp of the records, in milliseconds.
func (b Batch) MaxTimestamp() int64 { return i64(b, atMaxTimestamp) }

// ProducerID is the idempotent producer that wrote the batch, or -1.
func (b Batch) ProducerID() int64 { return i64(b, atProducerID) }

// ProducerEpoch goes with ProducerID.
func (b Batch) ProducerEpoch() int16 { return int16(binary.BigEndian.Uint16(b[atProducerEpoch:])) }

// BaseSequence is the producer's sequence number of the first record, or -1.
func (b Batch) BaseSequence() int32 { return i32(b, atBaseSequence) }

// LastSequence is the sequence number of the last record. After 2^31-1 comes 0.
func (b Batch) LastSequence() int32 {
	if b.BaseSequence() < 0 {
		return b.BaseSequence()
	}
	return AddSequence(b.BaseSequence(), i32(b, atLastDelta))
}

// AddSequence is the sequence number n records after s; both are 0 or above. After 2^31-1 comes 0.
func AddSequence(s, n int32) int32 {
	return int32((int64(s) + int64(n)) & math.MaxInt32)
}

// IsControl tells that the batch holds a transaction marker rather than records of a user.
func (b Batch) IsControl() bool { return b.Attributes()&attrControl != 0 }

// IsTransactional tells that the batch belongs to a transaction.
func (b Batch) IsTransactional() bool { return b.Attributes()&attrTxn != 0 }

// Stamp writes base offset and leader epoch into the header, in place. Both lie outside the checksum.
func (b Batch) Stamp(baseOffset int64, leaderEpoch int32) {
	putI64(b, atBaseOffset, baseOffset)
	putI32(b, atLeaderEpoch, leaderEpoch)
}

// SetProducer writes producer id, epoch and base sequence in place and computes the checksum anew. It is for the producer
// that made the batch, before anybody else has seen it or after everybody refused it.
func (b Batch) SetProducer(id int64, epoch int16, sequence int32) {
	putI64(b, atProducerID, id)
	binary.BigEndian.PutUint16(b[atProducerEpoch:], uint16(epoch))
	putI32(b, atBaseSequence, sequence)
	binary.BigEndian.PutUint32(b[atCRC:], crc32.Checksum(b[atAttributes:], castagnoli))
}

// CheckCRC computes the checksum and compares it with the header's: nil or an ErrCorrupt.
func (b Batch) CheckCRC() error {
	if len(b) < HeaderSize {
		return corruptf("%d bytes are no header of %d", len(b), HeaderSize)
	}
	if got := crc32.Checksum(b[atAttributes:], castagnoli); got != b.CRC() {
		return corruptf("checksum of the batch at offset %d is %08x, its header says %08x", b.BaseOffset(), got, b.CRC())
	}
	return nil
}

// Next splits the first batch off p; the rest is p[len(b):]. It looks at length and magic only, so that walking a segment costs
// next to nothing. The error is io.ErrUnexpectedEOF when p ends inside a batch, io.EOF when it is empty, else an ErrInvalid.
func Next(p []byte) (b Batch, rest []byte, err error) {
	if len(p) == 0 {
		return nil, nil, io.EOF
	}
	if len(p) < lengthEnd {
		return nil, p, io.ErrUnexpectedEOF
	}
	length := i32(p, atLength)
	if length < HeaderSize-lengthEnd {
		return nil, p, invalidf("length field is %d, the least is %d", length, HeaderSize-lengthEnd)
	}
	if len(p) > atMagic && p[atMagic] != magic {
		return nil, p, invalidf("magic is %d, only %d is known", p[atMagic], magic)
	}
	size := int64(length) + lengthEnd
	if int64(len(p)) < size {
		return nil, p, io.ErrUnexpectedEOF
	}
	return Batch(p[:size:size]), p[size:], nil
}

func i32(p []byte, at int) int32 { return int32(binary.BigEndian.Uint32(p[at:])) }
func i64(p []byte, at int) int64 { return int64(binary.BigEndian.Uint64(p[at:])) }

func putI32(p []byte, at int, v int32) { binary.BigEndian.PutUint32(p[at:], uint32(v)) }
func putI64(p []byte, at int, v int64) { binary.BigEndian.PutUint64(p[at:], uint64(v)) }
