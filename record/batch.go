package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
)

// HeaderSize is the length of a batch before its records, in bytes.
const HeaderSize = 61

// Where the header's fields begin.
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

	// lengthPrefix is what the length field does not count.
	lengthPrefix = 12
	magic        = 2
)

// Bits of the attributes.
const (
	codecBits        = 0x07
	transactionalBit = 0x10
	controlBit       = 0x20
)

// Errors that callers act on; test with errors.Is.
var (
	// ErrCorrupt: the bytes do not match their checksum, or end too early.
	ErrCorrupt = errors.New("corrupt batch")
	// ErrInvalid: the checksum is right but the content is malformed.
	ErrInvalid = errors.New("invalid batch")
	// ErrTooLarge: a limit is exceeded; the message names it.
	ErrTooLarge = errors.New("too large")
	// ErrCodec: compressed with a codec that this version does not know.
	ErrCodec = errors.New("unknown codec")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Batch is the bytes of exactly one RecordBatch v2. The accessors read the header and check nothing: call them only on what
// Validate, Next or Build returned.
type Batch []byte

func (b Batch) int64(at int) int64 { return int64(binary.BigEndian.Uint64(b[at:])) }
func (b Batch) int32(at int) int32 { return int32(binary.BigEndian.Uint32(b[at:])) }
func (b Batch) int16(at int) int16 { return int16(binary.BigEndian.Uint16(b[at:])) }

// BaseOffset is the offset of the first record.
func (b Batch) BaseOffset() int64 { return b.int64(atBaseOffset) }

// LastOffset is the offset of the last record.
func (b Batch) LastOffset() int64 { return b.BaseOffset() + int64(b.int32(atLastDelta)) }

// NextOffset is the first offset behind the batch.
func (b Batch) NextOffset() int64 { return b.LastOffset() + 1 }

// Count is the number of records.
func (b Batch) Count() int32 { return b.int32(atCount) }

// LeaderEpoch is the epoch of the leader that stamped the batch.
func (b Batch) LeaderEpoch() int32 { return b.int32(atLeaderEpoch) }

// CRC is the stored CRC32C.
func (b Batch) CRC() uint32 { return binary.BigEndian.Uint32(b[atCRC:]) }

// Attributes are the raw flags.
func (b Batch) Attributes() uint16 { return binary.BigEndian.Uint16(b[atAttributes:]) }

// Codec is how the records are compressed; it may be one that this version does not know.
func (b Batch) Codec() Codec { return Codec(b.Attributes() & codecBits) }

// FirstTimestamp is the timestamp that the records' deltas add to, in ms since the Unix epoch.
func (b Batch) FirstTimestamp() int64 { return b.int64(atFirstTimestamp) }

// MaxTimestamp is the greatest timestamp of the records, in ms since the Unix epoch.
func (b Batch) MaxTimestamp() int64 { return b.int64(atMaxTimestamp) }

// ProducerID is the idempotent producer's id, -1 for none.
func (b Batch) ProducerID() int64 { return b.int64(atProducerID) }

// ProducerEpoch is the idempotent producer's epoch.
func (b Batch) ProducerEpoch() int16 { return b.int16(atProducerEpoch) }

// BaseSequence is the sequence of the first record.
func (b Batch) BaseSequence() int32 { return b.int32(atBaseSequence) }

// LastSequence is the sequence of the last record; sequences wrap from 2^31-1 to 0.
func (b Batch) LastSequence() int32 {
	last := int64(b.BaseSequence()) + int64(b.int32(atLastDelta))
	if last > math.MaxInt32 {
		last -= math.MaxInt32 + 1
	}
	return int32(last)
}

// IsControl tells whether the batch holds a transaction marker.
func (b Batch) IsControl() bool { return b.Attributes()&controlBit != 0 }

// IsTransactional tells whether the batch belongs to a transaction.
func (b Batch) IsTransactional() bool { return b.Attributes()&transactionalBit != 0 }

// Stamp writes base offset and leader epoch, in place. The checksum covers neither.
func (b Batch) Stamp(baseOffset int64, leaderEpoch int32) {
	binary.BigEndian.PutUint64(b[atBaseOffset:], uint64(baseOffset))
	binary.BigEndian.PutUint32(b[atLeaderEpoch:], uint32(leaderEpoch))
}

// CheckCRC compares the stored checksum with the bytes.
func (b Batch) CheckCRC() error {
	if got := crc32.Checksum(b[atAttributes:], castagnoli); got != b.CRC() {
		return fmt.Errorf("%w: CRC32C is %08x where the header says %08x", ErrCorrupt, got, b.CRC())
	}
	return nil
}

// Next splits the first batch off p; the rest is behind it. It checks length and magic and nothing else. It fails with
// io.ErrUnexpectedEOF when p ends inside the batch.
func Next(p []byte) (b Batch, rest []byte, err error) {
	if len(p) < HeaderSize {
		return nil, p, fmt.Errorf("%d bytes where a batch needs at least %d: %w", len(p), HeaderSize, io.ErrUnexpectedEOF)
	}
	b = Batch(p)
	if p[atMagic] != magic {
		return nil, p, fmt.Errorf("%w: magic %d where version 2 is needed", ErrInvalid, p[atMagic])
	}
	length := int64(b.int32(atLength)) + lengthPrefix
	if length < HeaderSize {
		return nil, p, fmt.Errorf("%w: length field says %d bytes, less than a header", ErrInvalid, length)
	}
	if length > int64(len(p)) {
		return nil, p, fmt.Errorf("batch of %d bytes ends after %d: %w", length, len(p), io.ErrUnexpectedEOF)
	}
	return Batch(p[:length:length]), p[length:], nil
}
