package record

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"unicode/utf8"
)

// Records iterates over the decoded records of one batch, which comes from Validate, Next or a Builder. Keys and values alias b
// when it is not compressed, else a fresh buffer that the caller may keep. It checks every bound, so that damaged bytes
// give an error and no worse, but not the checksum: see CheckCRC. Offset deltas may have gaps, as key compaction leaves them, but
// must rise. After an error, which comes with an empty Record, the iteration ends.
func (b Batch) Records(l Limits) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		l := l.orDefault()
		if len(b) < HeaderSize {
			yield(Record{}, corruptf("%d bytes are no header of %d", len(b), HeaderSize))
			return
		}
		if int64(b.Count()) > int64(l.Records) {
			yield(Record{}, tooLargef("%d records, the limit is %d", b.Count(), l.Records))
			return
		}
		p, err := b.decompressed(l.DecompressedBytes)
		if err != nil {
			yield(Record{}, err)
			return
		}
		last := int64(-1)
		for n := range b.Count() {
			length, next := varint(p, 0)
			if next < 0 || length < 0 || length > int64(len(p)-next) {
				yield(Record{}, invalidf("record %d: %s", n, badLength))
				return
			}
			r, delta, bad := b.decode(p[next : next+int(length)])
			if bad == "" && (delta <= last || delta > int64(i32(b, atLastDelta))) {
				bad = badOffset
			}
			if bad != "" {
				yield(Record{}, invalidf("record %d: %s", n, bad))
				return
			}
			last = delta
			p = p[next+int(length):]
			if !yield(r, nil) {
				return
			}
		}
		if len(p) > 0 {
			yield(Record{}, invalidf("%d bytes after the last record", len(p)))
		}
	}
}

// decompressed returns the bytes of the records: a part of b, or a fresh buffer of at most limit bytes that grew as they came.
func (b Batch) decompressed(limit int) ([]byte, error) {
	codec := b.Codec()
	if codec == None {
		return b[HeaderSize:], nil
	}
	if !codec.known() {
		return nil, fmt.Errorf("%w %d", ErrCodec, codec)
	}
	d := decompressors.Get().(*decompressor) //nolint:errcheck,forcetypeassert // the pool holds nothing else
	defer d.release()
	r, err := d.open(codec, b[HeaderSize:], limit)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.Grow(min(4*len(b), limit) + bytes.MinRead)
	n, err := out.ReadFrom(io.LimitReader(r, int64(limit)+1))
	switch {
	case n > int64(limit):
		return nil, tooLargef("records decompress to more than the limit of %d bytes", limit)
	case err != nil:
		return nil, decompressError(err)
	}
	return out.Bytes(), nil
}

// decode reads one record behind its length. What is wrong, if anything, is in bad.
func (b Batch) decode(p []byte) (r Record, delta int64, bad string) {
	v, i := varint(p, 1)
	if i < 0 {
		return r, 0, badField
	}
	r.Timestamp = b.FirstTimestamp() + v
	if delta, i = varint(p, i); i < 0 {
		return r, 0, badField
	}
	r.Offset = b.BaseOffset() + delta
	var ok bool
	if r.Key, i, ok = field(p, i); !ok {
		return r, 0, badKey
	}
	if r.Value, i, ok = field(p, i); !ok {
		return r, 0, badValue
	}
	n, i := varint32(p, i)
	if i < 0 || n < 0 || n > (len(p)-i)/2 {
		return r, 0, badHeaders
	}
	if n > 0 {
		r.Headers = make([]Header, n)
	}
	for h := range r.Headers {
		var key []byte
		if key, i, ok = field(p, i); !ok || key == nil {
			return r, 0, badHeaders
		}
		if !utf8.Valid(key) {
			return r, 0, badHeaderKey
		}
		r.Headers[h].Key = string(key)
		if r.Headers[h].Value, i, ok = field(p, i); !ok {
			return r, 0, badHeaders
		}
	}
	if i != len(p) {
		return r, 0, badRest
	}
	return r, delta, ""
}

// field reads a length and so many bytes; -1 gives nil, 0 an empty slice that is not nil.
func field(p []byte, i int) (value []byte, next int, ok bool) {
	n, i := varint32(p, i)
	if i < 0 || n < -1 || n > len(p)-i {
		return nil, i, false
	}
	if n < 0 {
		return nil, i, true
	}
	return p[i : i+n : i+n], i + n, true
}
