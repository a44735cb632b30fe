package record_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/record"
)

// Batches that the tests of this package are about, how they are made and mended by hand, and what it means that two are the same.

var codecs = []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd}

func build(t interface {
	Helper()
	Fatal(args ...any)
}, codec record.Codec, records []record.Record) record.Batch {
	t.Helper()
	b := record.NewBuilder(codec)
	for _, r := range records {
		want := b.SizeWith(r)
		if err := b.Append(r); err != nil {
			t.Fatal(err)
		}
		if b.Size() != want {
			t.Fatal("SizeWith lied:", want, b.Size())
		}
	}
	out, err := b.Build(7, 3, 2_147_483_640)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// frame puts a header before records.
func frame(raw []byte, kind int16, count int32) []byte {
	k := kmsg.RecordBatch{PartitionLeaderEpoch: -1, Magic: 2, Attributes: kind, LastOffsetDelta: count - 1, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: count, Records: raw}
	k.Length = int32(49 + len(raw))
	p := k.AppendTo(nil)
	binary.BigEndian.PutUint32(p[17:], crc32.Checksum(p[21:], crc32.MakeTable(crc32.Castagnoli)))
	return p
}

func withRecords(b record.Batch, raw []byte, codec record.Codec) []byte {
	p := append(bytes.Clone(b[:record.HeaderSize]), raw...)
	binary.BigEndian.PutUint32(p[8:], uint32(len(p)-12))
	p[22] = byte(codec)
	return seal(p)
}

func seal(p []byte) []byte {
	binary.BigEndian.PutUint32(p[17:], crc32.Checksum(p[21:], crc32.MakeTable(crc32.Castagnoli)))
	return p
}

func thousand(size int) record.Batch {
	b := record.NewBuilder(record.None)
	rng := rand.New(rand.NewPCG(1, 2))
	value := make([]byte, size)
	for i := range value {
		value[i] = byte(rng.Uint32())
	}
	for i := range 1000 {
		if err := b.Append(record.Record{Timestamp: int64(i), Value: value}); err != nil {
			panic(err)
		}
	}
	out, err := b.Build(1, 0, 0)
	if err != nil {
		panic(err)
	}
	return out
}

func seeds(f *testing.F) {
	f.Helper()
	for _, codec := range codecs {
		f.Add([]byte(build(f, codec, []record.Record{{Timestamp: 3, Key: []byte("k"), Value: bytes.Repeat([]byte("v"), 300), Headers: []record.Header{{Key: "é", Value: []byte{}}}}, {Timestamp: 4}})))
	}
	f.Add([]byte{})
}

func same(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

func checkRecords(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, b record.Batch, want []record.Record) {
	t.Helper()
	n := 0
	for r, err := range b.Records(record.Limits{}) {
		if err != nil {
			t.Fatalf("record %d: %v", n, err)
		}
		w := want[n]
		if r.Offset != b.BaseOffset()+int64(n) || r.Timestamp != w.Timestamp || !same(r.Key, w.Key) || !same(r.Value, w.Value) || len(r.Headers) != len(w.Headers) {
			t.Fatalf("record %d: got %v, want %v", n, r, w)
		}
		for i := range r.Headers {
			if r.Headers[i].Key != w.Headers[i].Key || !same(r.Headers[i].Value, w.Headers[i].Value) {
				t.Fatalf("record %d header %d differs", n, i)
			}
		}
		n++
	}
	if n != len(want) {
		t.Fatalf("%d records, want %d", n, len(want))
	}
}
