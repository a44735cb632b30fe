package record

import (
	"encoding/binary"
	"math"
	"slices"
	"unicode/utf8"
)

// Builder encodes records into a batch. It is reusable, takes no memory per record in steady state, and is not safe for
// concurrent use. The zero value builds uncompressed batches.
type Builder struct {
	c     compressor
	buf   []byte // header, then records; nil or at least HeaderSize long
	last  int    // size of the last batch, to get the next one's memory at once
	n     int32
	first int64
	max   int64
}

// NewBuilder makes a Builder of one of the known codecs.
func NewBuilder(codec Codec) *Builder { return &Builder{c: compressor{codec: codec}} }

// Len is the number of records so far.
func (b *Builder) Len() int { return int(b.n) }

// Size is the size of the batch so far, header included, if it were not compressed.
func (b *Builder) Size() int { return max(len(b.buf), HeaderSize) }

// SizeWith is Size after r.
func (b *Builder) SizeWith(r Record) int {
	body := b.bodySize(r)
	return b.Size() + varintSize(body) + int(body)
}

func (b *Builder) bodySize(r Record) int64 {
	var delta int64
	if b.n > 0 {
		delta = r.Timestamp - b.first
	}
	n := 1 + varintSize(delta) + varintSize(int64(b.n)) + bytesSize(r.Key) + bytesSize(r.Value) + varintSize(int64(len(r.Headers)))
	for i := range r.Headers {
		n += varintSize(int64(len(r.Headers[i].Key))) + len(r.Headers[i].Key) + bytesSize(r.Headers[i].Value)
	}
	return int64(n)
}

func bytesSize(p []byte) int {
	if p == nil {
		return 1
	}
	return varintSize(int64(len(p))) + len(p)
}

// Append adds a copy of r. It fails, and the builder stays as it was, with ErrTooLarge when the batch would pass the 2 GiB that the
// format can say, and with ErrInvalid when a header key is not UTF-8 or the timestamp is too far from the first one.
func (b *Builder) Append(r Record) error {
	var delta int64
	if b.n > 0 {
		delta = r.Timestamp - b.first
		if (delta > 0) != (r.Timestamp > b.first) && delta != 0 {
			return invalidf("timestamp %d is too far from the batch's first, %d", r.Timestamp, b.first)
		}
	}
	for i := range r.Headers {
		if !utf8.ValidString(r.Headers[i].Key) {
			return invalidf("key %q of header %d is not UTF-8", r.Headers[i].Key, i)
		}
	}
	body := b.bodySize(r)
	if int64(b.Size())+body+5 > math.MaxInt32 || b.n == math.MaxInt32 {
		return tooLargef("a record of %d bytes does not fit into a batch", body)
	}
	if b.buf == nil {
		b.buf = make([]byte, HeaderSize, max(HeaderSize+5+int(body), b.last+b.last/8, 512))
	}
	if b.n == 0 {
		b.first, b.max = r.Timestamp, r.Timestamp
	}
	b.max = max(b.max, r.Timestamp)
	p := appendVarint(b.buf, body)
	p = append(p, 0)
	p = appendVarint(p, delta)
	p = appendVarint(p, int64(b.n))
	p = appendBytes(p, r.Key)
	p = appendBytes(p, r.Value)
	p = appendVarint(p, int64(len(r.Headers)))
	for i := range r.Headers {
		p = appendVarint(p, int64(len(r.Headers[i].Key)))
		p = append(p, r.Headers[i].Key...)
		p = appendBytes(p, r.Headers[i].Value)
	}
	b.buf = p
	b.n++
	return nil
}

func appendBytes(p, v []byte) []byte {
	if v == nil {
		return append(p, 1) // zigzag of -1
	}
	return append(appendVarint(p, int64(len(v))), v...)
}

// Build finishes the batch, with base offset 0 and leader epoch -1, and resets the builder, also when it fails; the bytes belong to
// the caller. Producer id, epoch and sequence of -1 stand for a producer that is not idempotent. Records that
// compression makes no smaller are stored uncompressed. An empty builder fails with ErrInvalid.
func (b *Builder) Build(producerID int64, producerEpoch int16, baseSequence int32) (Batch, error) {
	raw, n := b.buf, b.n
	b.n = 0
	if n == 0 {
		return nil, invalidf("no records")
	}
	b.last = len(raw)
	codec := b.c.codec
	batch := Batch(raw)
	if codec == None {
		b.buf = nil
	} else {
		b.buf = raw[:HeaderSize]
		compressed, err := b.c.compress(raw[HeaderSize:])
		if err != nil {
			return nil, err
		}
		if len(compressed) >= len(raw)-HeaderSize {
			codec, compressed = None, raw[HeaderSize:]
		}
		batch = make(Batch, HeaderSize+len(compressed))
		copy(batch[HeaderSize:], compressed)
	}
	batch = slices.Clip(batch)
	putI64(batch, atBaseOffset, 0)
	putI32(batch, atLength, int32(len(batch)-lengthEnd))
	putI32(batch, atLeaderEpoch, -1)
	batch[atMagic] = magic
	binary.BigEndian.PutUint16(batch[atAttributes:], uint16(codec))
	putI32(batch, atLastDelta, n-1)
	putI64(batch, atFirstTimestamp, b.first)
	putI64(batch, atMaxTimestamp, b.max)
	putI32(batch, atCount, n)
	batch.SetProducer(producerID, producerEpoch, baseSequence)
	return batch, nil
}
