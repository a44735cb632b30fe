package record

import (
	"errors"
	"fmt"
	"iter"
	"unicode/utf8"
)

// Limits cap what a batch may ask for.
type Limits struct {
	BatchBytes        int // a batch as it is sent
	DecompressedBytes int // its records, decompressed
	Records           int
}

// DefaultLimits are 8 MiB a batch, 64 MiB decompressed, and 1,048,576 records.
func DefaultLimits() Limits {
	return Limits{BatchBytes: 8 << 20, DecompressedBytes: 64 << 20, Records: 1 << 20}
}

// Validate checks that p is exactly one well-formed batch as a producer may send it: length, magic, CRC32C, a known codec, no
// control or transaction flags, offsets 0 to count-1 in order, every length inside the bounds, the greatest timestamp right,
// header keys in UTF-8, and nothing left over. Memory stays within the limits whatever p claims; a batch that is not
// compressed costs none. The batch aliases p. Errors are ErrCorrupt, ErrInvalid, ErrTooLarge or ErrCodec.
func Validate(p []byte, l Limits) (Batch, error) {
	if len(p) > l.BatchBytes {
		return nil, fmt.Errorf("%w: batch of %d bytes, limit %d", ErrTooLarge, len(p), l.BatchBytes)
	}
	b, rest, err := Next(p)
	if err != nil {
		if errors.Is(err, ErrInvalid) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes behind the batch", ErrInvalid, len(rest))
	}
	if err := b.CheckCRC(); err != nil {
		return nil, err
	}
	if b.Codec() > Zstd {
		return nil, fmt.Errorf("%w: %d", ErrCodec, b.Codec())
	}
	if b.IsControl() || b.IsTransactional() {
		return nil, fmt.Errorf("%w: transactions are not supported", ErrInvalid)
	}
	if err := b.checkHeader(l); err != nil {
		return nil, err
	}
	records, err := b.open(l)
	if err != nil {
		return nil, err
	}
	return b, b.checkRecords(records)
}

func (b Batch) checkHeader(l Limits) error {
	count := b.Count()
	switch {
	case count < 1:
		return fmt.Errorf("%w: %d records", ErrInvalid, count)
	case int(count) > l.Records:
		return fmt.Errorf("%w: %d records, limit %d", ErrTooLarge, count, l.Records)
	case b.int32(atLastDelta) != count-1:
		return fmt.Errorf("%w: last offset delta %d with %d records", ErrInvalid, b.int32(atLastDelta), count)
	case b.ProducerID() >= 0 && (b.ProducerEpoch() < 0 || b.BaseSequence() < 0):
		return fmt.Errorf("%w: producer %d with epoch %d and sequence %d", ErrInvalid, b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
	}
	return nil
}

// checkRecords walks the records without keeping anything of them.
func (b Batch) checkRecords(records []byte) error {
	greatest := int64(-1 << 63)
	r := reader{rest: records}
	count := b.Count()
	for n := range count {
		delta, offset, err := r.skipRecord()
		if err != nil {
			return fmt.Errorf("%w: record %d: %w", ErrInvalid, n, err)
		}
		if offset != int64(n) {
			return fmt.Errorf("%w: record %d has offset delta %d", ErrInvalid, n, offset)
		}
		greatest = max(greatest, b.FirstTimestamp()+delta)
	}
	if len(r.rest) > 0 {
		return fmt.Errorf("%w: %d bytes behind the last record", ErrInvalid, len(r.rest))
	}
	if greatest != b.MaxTimestamp() {
		return fmt.Errorf("%w: max timestamp %d, but the greatest is %d", ErrInvalid, b.MaxTimestamp(), greatest)
	}
	return nil
}

// open returns the records as they are once decompressed: a view of b, or a fresh buffer.
func (b Batch) open(l Limits) ([]byte, error) {
	if b.Codec() == None {
		return b[HeaderSize:], nil
	}
	out, err := decompress(b.Codec(), b[HeaderSize:], l.DecompressedBytes)
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %w", b.Codec(), err)
	}
	return out, nil
}

// Header is a name and a value beside a record. A nil Value is null.
type Header struct {
	Key   string
	Value []byte
}

// Record is one record. A nil Key or Value is null, an empty one is empty; a nil Value is a tombstone.
type Record struct {
	Offset    int64 // set when decoded, ignored when encoded
	Timestamp int64 // ms since the Unix epoch
	Key       []byte
	Value     []byte
	Headers   []Header
}

// Records gives the records in order. Key, Value and header values are views of b, or of one fresh buffer when b is
// compressed; the caller may keep them as long as it keeps b. An error ends the sequence.
func (b Batch) Records(l Limits) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		records, err := b.open(l)
		if err != nil {
			yield(Record{}, err)
			return
		}
		r := reader{rest: records}
		for n := range b.Count() {
			rec, err := r.record()
			if err != nil {
				yield(Record{}, fmt.Errorf("%w: record %d: %w", ErrInvalid, n, err))
				return
			}
			rec.Offset += b.BaseOffset()
			rec.Timestamp += b.FirstTimestamp()
			if !yield(rec, nil) {
				return
			}
		}
	}
}

// reader takes records apart. Every length is checked against what is left before it is believed.
type reader struct{ rest []byte }

var errShort = errors.New("ends too early")

func (r *reader) varint() (int64, error) {
	var u uint64
	for i := range 10 {
		if i >= len(r.rest) {
			return 0, errShort
		}
		c := r.rest[i]
		if i == 9 && c > 1 {
			return 0, errors.New("a varint does not end")
		}
		u |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			r.rest = r.rest[i+1:]
			return int64(u>>1) ^ -int64(u&1), nil
		}
	}
	return 0, errors.New("a varint does not end")
}

// length reads a length that what is left must hold; -1 is null where allowed.
func (r *reader) length(nullable bool) (int, error) {
	n, err := r.varint()
	switch {
	case err != nil:
		return 0, err
	case n == -1 && nullable:
		return -1, nil
	case n < 0:
		return 0, fmt.Errorf("length %d", n)
	case n > int64(len(r.rest)):
		return 0, errShort
	}
	return int(n), nil
}

func (r *reader) bytes(nullable bool) ([]byte, error) {
	n, err := r.length(nullable)
	if err != nil || n < 0 {
		return nil, err
	}
	out := r.rest[:n:n]
	r.rest = r.rest[n:]
	return out, nil
}

// body splits the next record off.
func (r *reader) body() (reader, error) {
	n, err := r.length(false)
	if err != nil {
		return reader{}, err
	}
	body := reader{rest: r.rest[:n:n]}
	r.rest = r.rest[n:]
	if n == 0 {
		return reader{}, errShort
	}
	body.rest = body.rest[1:] // attributes, unused
	return body, nil
}

func (r *reader) skipRecord() (timestampDelta, offsetDelta int64, err error) {
	body, err := r.body()
	if err != nil {
		return 0, 0, err
	}
	if timestampDelta, err = body.varint(); err != nil {
		return 0, 0, err
	}
	if offsetDelta, err = body.varint(); err != nil {
		return 0, 0, err
	}
	for range 2 { // key, value
		if _, err = body.bytes(true); err != nil {
			return 0, 0, err
		}
	}
	headers, err := body.headerCount()
	if err != nil {
		return 0, 0, err
	}
	for range headers {
		key, err := body.bytes(false)
		if err != nil {
			return 0, 0, err
		}
		if !utf8.Valid(key) {
			return 0, 0, fmt.Errorf("header key %q is not UTF-8", key)
		}
		if _, err = body.bytes(true); err != nil {
			return 0, 0, err
		}
	}
	if len(body.rest) > 0 {
		return 0, 0, fmt.Errorf("%d bytes behind its headers", len(body.rest))
	}
	return timestampDelta, offsetDelta, nil
}

// headerCount reads a count that what is left can hold: a header takes at least two bytes.
func (r *reader) headerCount() (int, error) {
	n, err := r.varint()
	if err != nil {
		return 0, err
	}
	if n < 0 || n > int64(len(r.rest)/2) {
		return 0, fmt.Errorf("%d headers in %d bytes", n, len(r.rest))
	}
	return int(n), nil
}

func (r *reader) record() (Record, error) {
	body, err := r.body()
	if err != nil {
		return Record{}, err
	}
	var out Record
	if out.Timestamp, err = body.varint(); err != nil {
		return Record{}, err
	}
	if out.Offset, err = body.varint(); err != nil {
		return Record{}, err
	}
	if out.Key, err = body.bytes(true); err != nil {
		return Record{}, err
	}
	if out.Value, err = body.bytes(true); err != nil {
		return Record{}, err
	}
	headers, err := body.headerCount()
	if err != nil || headers == 0 {
		return out, err
	}
	out.Headers = make([]Header, headers)
	for n := range out.Headers {
		key, err := body.bytes(false)
		if err != nil {
			return Record{}, err
		}
		out.Headers[n].Key = string(key)
		if out.Headers[n].Value, err = body.bytes(true); err != nil {
			return Record{}, err
		}
	}
	return out, nil
}
