package record

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Builder encodes records into a batch. It allocates nothing for a record once its buffer has grown. Not safe for
// concurrent use.
type Builder struct {
	codec      Codec
	compressor kgo.Compressor
	scratch    bytes.Buffer

	buf         []byte // header and records
	count       int32
	first, last int64 // timestamps: of the first record, and the greatest
}

// NewBuilder returns an empty builder for one of the known codecs; another is our caller's bug.
func NewBuilder(codec Codec) *Builder {
	c, err := newCompressor(codec)
	if err != nil {
		panic(fmt.Sprintf("record: %v", err))
	}
	b := &Builder{codec: codec, compressor: c}
	b.Reset()
	return b
}

// Reset forgets the records so far and keeps the buffer.
func (b *Builder) Reset() {
	if cap(b.buf) < HeaderSize {
		b.buf = make([]byte, HeaderSize, 4096)
	}
	b.buf = b.buf[:HeaderSize]
	clear(b.buf)
	b.count, b.first, b.last = 0, 0, math.MinInt64
}

// Len is the number of records so far.
func (b *Builder) Len() int { return int(b.count) }

// Size is the encoded size so far in bytes, header included, before compression.
func (b *Builder) Size() int { return len(b.buf) }

// SizeWith is Size after r would be appended.
func (b *Builder) SizeWith(r Record) int {
	body := b.bodySize(r)
	return len(b.buf) + varintSize(int64(body)) + body
}

// Append encodes one record behind the others and copies its bytes. It fails with ErrTooLarge, and appends nothing, when
// the batch would pass 2^31-1 bytes or records.
func (b *Builder) Append(r Record) error {
	body := b.bodySize(r)
	if b.count == math.MaxInt32 || int64(len(b.buf))+int64(body)+binary.MaxVarintLen64 > math.MaxInt32 {
		return fmt.Errorf("%w: a batch holds at most 2^31-1 bytes", ErrTooLarge)
	}
	if b.count == 0 {
		b.first = r.Timestamp
	}
	b.last = max(b.last, r.Timestamp)
	p := binary.AppendVarint(b.buf, int64(body))
	p = append(p, 0) // attributes
	p = binary.AppendVarint(p, r.Timestamp-b.first)
	p = binary.AppendVarint(p, int64(b.count))
	p = appendNullable(p, r.Key)
	p = appendNullable(p, r.Value)
	p = binary.AppendVarint(p, int64(len(r.Headers)))
	for _, h := range r.Headers {
		p = binary.AppendVarint(p, int64(len(h.Key)))
		p = append(p, h.Key...)
		p = appendNullable(p, h.Value)
	}
	b.buf = p
	b.count++
	return nil
}

func appendNullable(p, v []byte) []byte {
	if v == nil {
		return binary.AppendVarint(p, -1)
	}
	p = binary.AppendVarint(p, int64(len(v)))
	return append(p, v...)
}

func (b *Builder) bodySize(r Record) int {
	delta := int64(0)
	if b.count > 0 {
		delta = r.Timestamp - b.first
	}
	n := 1 + varintSize(delta) + varintSize(int64(b.count)) + nullableSize(r.Key) + nullableSize(r.Value) + varintSize(int64(len(r.Headers)))
	for _, h := range r.Headers {
		n += varintSize(int64(len(h.Key))) + len(h.Key) + nullableSize(h.Value)
	}
	return n
}

func nullableSize(v []byte) int {
	if v == nil {
		return 1
	}
	return varintSize(int64(len(v))) + len(v)
}

func varintSize(v int64) int {
	return (bits.Len64(uint64(v<<1)^uint64(v>>63)|1) + 6) / 7
}

// Build finishes the batch, with base offset 0 and leader epoch -1, and resets the builder. The bytes are the caller's.
// A producer that is not idempotent passes -1, -1, -1. An empty builder is ErrInvalid.
func (b *Builder) Build(producerID int64, producerEpoch int16, baseSequence int32) (Batch, error) {
	if b.count == 0 {
		return nil, fmt.Errorf("%w: no records", ErrInvalid)
	}
	var out []byte
	if b.compressor == nil {
		out = append(make([]byte, 0, len(b.buf)), b.buf...)
	} else {
		b.scratch.Reset()
		compressed, codec := b.compressor.Compress(&b.scratch, b.buf[HeaderSize:])
		if compressed == nil || Codec(codec) != b.codec {
			return nil, fmt.Errorf("compress %d records with %s: the codec failed", b.count, b.codec)
		}
		out = append(make([]byte, HeaderSize, HeaderSize+len(compressed)), compressed...)
	}
	e := binary.BigEndian
	e.PutUint32(out[atLength:], uint32(len(out)-lengthPrefix))
	e.PutUint32(out[atLeaderEpoch:], math.MaxUint32)
	out[atMagic] = magic
	e.PutUint16(out[atAttributes:], uint16(b.codec))
	e.PutUint32(out[atLastDelta:], uint32(b.count-1))
	e.PutUint64(out[atFirstTimestamp:], uint64(b.first))
	e.PutUint64(out[atMaxTimestamp:], uint64(b.last))
	e.PutUint64(out[atProducerID:], uint64(producerID))
	e.PutUint16(out[atProducerEpoch:], uint16(producerEpoch))
	e.PutUint32(out[atBaseSequence:], uint32(baseSequence))
	e.PutUint32(out[atCount:], uint32(b.count))
	e.PutUint32(out[atCRC:], crc32.Checksum(out[atAttributes:], castagnoli))
	b.Reset()
	return out, nil
}
