package record_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/golang/snappy"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/record"
)

// Batches that others write, in their own framing, are read.

func TestReadsFranz(t *testing.T) {
	values := [][]byte{[]byte("a"), {}, nil, bytes.Repeat([]byte("xyz"), 50_000)}
	for kind, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
		// The length varint of kmsg's record is only written right for short records: build the long one by hand.
		p := encode(t, codec, int16(kind), values[:3]...)
		b, err := record.Validate(p, record.Limits{})
		if err != nil {
			t.Fatal(kind, err)
		}
		n := 0
		for r, err := range b.Records(record.Limits{}) {
			if err != nil || !same(r.Value, values[n]) || string(r.Key) != "k" {
				t.Fatal(kind, n, r, err)
			}
			n++
		}
	}
}

// encode is the dumb twin of Builder: franz-go's structures and compressors.
func encode(tb testing.TB, codec kgo.CompressionCodec, kind int16, values ...[]byte) []byte {
	tb.Helper()
	var raw []byte
	for i, v := range values {
		r := kmsg.Record{OffsetDelta: int32(i), Key: []byte("k"), Value: v, Headers: []kmsg.Header{{Key: "h", Value: nil}}}
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		raw = append(raw, r.AppendTo(nil)...)
	}
	if kind != 0 {
		c, err := kgo.DefaultCompressor(codec)
		if err != nil {
			tb.Fatal(err)
		}
		out, used := c.Compress(new(bytes.Buffer), raw)
		if int16(used) != kind {
			tb.Fatalf("used codec %d, want %d", used, kind)
		}
		raw = bytes.Clone(out)
	}
	return frame(raw, kind, int32(len(values)))
}

// snappy-java's framing, as the Java client writes it.
func TestSnappyJava(t *testing.T) {
	records := []record.Record{{Timestamp: 5, Value: bytes.Repeat([]byte("tide"), 40_000)}, {Timestamp: 6, Key: []byte("k")}}
	plain := build(t, record.None, records)
	framed := []byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01")
	for rest := []byte(plain[record.HeaderSize:]); len(rest) > 0; {
		n := min(len(rest), 32<<10)
		block := snappy.Encode(nil, rest[:n])
		framed = append(binary.BigEndian.AppendUint32(framed, uint32(len(block))), block...)
		rest = rest[n:]
	}
	p := withRecords(plain, framed, record.Snappy)
	b, err := record.Validate(p, record.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	checkRecords(t, b, records)
	for cut := range framed {
		if cut%97 != 0 && cut > 64 {
			continue
		}
		if _, err := record.Validate(withRecords(plain, framed[:cut], record.Snappy), record.Limits{}); !errors.Is(err, record.ErrInvalid) {
			t.Fatal(cut, err)
		}
	}
}
