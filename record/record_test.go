package record_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/tidemark-io/tidemark/record"
)

var codecs = []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd}

func drawRecord(t *rapid.T, big bool) record.Record {
	most := 300
	if big {
		most = 200_000
	}
	blob := func(name string) []byte {
		switch rapid.IntRange(0, 3).Draw(t, name+" kind") {
		case 0:
			return nil
		case 1:
			return []byte{}
		case 2:
			return bytes.Repeat([]byte{byte(rapid.IntRange(0, 255).Draw(t, name+" fill"))}, rapid.IntRange(0, most).Draw(t, name+" size"))
		default:
			return rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, name)
		}
	}
	r := record.Record{Timestamp: rapid.Int64Range(-1, 1<<45).Draw(t, "time"), Key: blob("key"), Value: blob("value")}
	for range rapid.IntRange(0, 3).Draw(t, "headers") {
		key := rapid.String().Draw(t, "header key")
		if big && rapid.Bool().Draw(t, "long header key") {
			key = strings.Repeat("läng€𝄞", rapid.IntRange(1, 9000).Draw(t, "times"))
		}
		r.Headers = append(r.Headers, record.Header{Key: key, Value: blob("header value")})
	}
	return r
}

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

// What a builder builds is valid, decodes to the same, and franz-go's codec reads it alike.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		codec := rapid.SampledFrom(codecs).Draw(t, "codec")
		big := rapid.IntRange(0, 4).Draw(t, "big") == 0
		var records []record.Record
		for range rapid.IntRange(1, 20).Draw(t, "records") {
			records = append(records, drawRecord(t, big))
		}
		b := build(t, codec, records)
		v, err := record.Validate(b, record.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		checkRecords(t, v, records)
		v.Stamp(1<<40, 9)
		if err := v.CheckCRC(); err != nil || v.BaseOffset() != 1<<40 || v.LeaderEpoch() != 9 || v.NextOffset() != 1<<40+int64(len(records)) {
			t.Fatal("stamp:", err, v.BaseOffset(), v.LeaderEpoch())
		}
		checkRecords(t, v, records)

		var k kmsg.RecordBatch
		if err := k.ReadFrom(v); err != nil {
			t.Fatal(err)
		}
		raw, err := kgo.DefaultDecompressor().Decompress(k.Records, kgo.CompressionCodecType(k.Attributes&7))
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range records {
			length, n := binary.Varint(raw)
			var r kmsg.Record
			if err := r.ReadFrom(raw[:n+int(length)]); err != nil {
				t.Fatal(err)
			}
			raw = raw[n+int(length):]
			if int(r.OffsetDelta) != i || k.FirstTimestamp+r.TimestampDelta64 != w.Timestamp || !same(r.Key, w.Key) || !same(r.Value, w.Value) || len(r.Headers) != len(w.Headers) {
				t.Fatalf("franz-go reads record %d as %+v", i, r)
			}
		}
		if k.ProducerID != v.ProducerID() || k.ProducerEpoch != v.ProducerEpoch() || k.FirstSequence != v.BaseSequence() || k.MaxTimestamp != v.MaxTimestamp() {
			t.Fatal("franz-go reads another header")
		}
	})
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

// frame puts a header before records.
func frame(raw []byte, kind int16, count int32) []byte {
	k := kmsg.RecordBatch{PartitionLeaderEpoch: -1, Magic: 2, Attributes: kind, LastOffsetDelta: count - 1, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: count, Records: raw}
	k.Length = int32(49 + len(raw))
	p := k.AppendTo(nil)
	binary.BigEndian.PutUint32(p[17:], crc32.Checksum(p[21:], crc32.MakeTable(crc32.Castagnoli)))
	return p
}

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

func TestRefusals(t *testing.T) {
	good := func() []byte {
		return build(t, record.None, []record.Record{{Timestamp: 10, Key: []byte("k"), Value: []byte("v")}, {Timestamp: 12, Headers: []record.Header{{Key: "h"}}}})
	}
	set := func(at int, b ...byte) func([]byte) []byte {
		return func(p []byte) []byte { copy(p[at:], b); return seal(p) }
	}
	for name, c := range map[string]struct {
		change func([]byte) []byte
		want   error
	}{
		"bit flip":             {func(p []byte) []byte { p[70] ^= 1; return p }, record.ErrCorrupt},
		"torn":                 {func(p []byte) []byte { return p[:len(p)-1] }, record.ErrCorrupt},
		"no header":            {func(p []byte) []byte { return p[:60] }, record.ErrCorrupt},
		"empty":                {func([]byte) []byte { return nil }, record.ErrCorrupt},
		"two batches":          {func(p []byte) []byte { return append(p, p...) }, record.ErrInvalid},
		"magic 1":              {set(16, 1), record.ErrInvalid},
		"codec 5":              {set(22, 5), record.ErrCodec},
		"codec 7":              {set(22, 7), record.ErrCodec},
		"transactional":        {set(22, 0x10), record.ErrInvalid},
		"control":              {set(22, 0x20), record.ErrInvalid},
		"log append time":      {set(22, 0x08), record.ErrInvalid},
		"unknown attribute":    {set(21, 0x80), record.ErrInvalid},
		"no records":           {set(57, 0, 0, 0, 0), record.ErrInvalid},
		"negative count":       {set(57, 0xff, 0, 0, 0), record.ErrInvalid},
		"too many records":     {set(57, 0x7f, 0, 0, 0), record.ErrTooLarge},
		"one record less":      {func(p []byte) []byte { set(57, 0, 0, 0, 1)(p); return set(23, 0, 0, 0, 0)(p) }, record.ErrInvalid},
		"one record more":      {func(p []byte) []byte { set(57, 0, 0, 0, 3)(p); return set(23, 0, 0, 0, 2)(p) }, record.ErrInvalid},
		"last delta":           {set(26, 5), record.ErrInvalid},
		"max timestamp":        {set(42, 99), record.ErrInvalid},
		"producer id -2":       {set(43, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe), record.ErrInvalid},
		"producer epoch -1":    {set(51, 0xff, 0xff), record.ErrInvalid},
		"record length":        {set(61, 0x7e), record.ErrInvalid},
		"offset delta":         {set(64, 2), record.ErrInvalid},
		"key length":           {set(65, 0x7e), record.ErrInvalid},
		"key length -2":        {set(65, 3), record.ErrInvalid},
		"header key not UTF-8": {func(p []byte) []byte { p[len(p)-2] = 0xff; return seal(p) }, record.ErrInvalid},
	} {
		if _, err := record.Validate(c.change(good()), record.Limits{}); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	if _, err := record.Validate(good(), record.Limits{BatchBytes: 70}); !errors.Is(err, record.ErrTooLarge) {
		t.Error("batch limit:", err)
	}
	if _, err := record.Validate(good(), record.Limits{Records: 1}); !errors.Is(err, record.ErrTooLarge) {
		t.Error("record limit:", err)
	}
	for _, codec := range codecs[1:] {
		b := build(t, codec, []record.Record{{Value: make([]byte, 1000)}})
		if _, err := record.Validate(b, record.Limits{DecompressedBytes: 999}); !errors.Is(err, record.ErrTooLarge) {
			t.Error(codec, "decompressed limit:", err)
		}
		for err := range errorsOf(b.Records(record.Limits{DecompressedBytes: 999})) {
			if !errors.Is(err, record.ErrTooLarge) {
				t.Error(codec, "decompressed limit of Records:", err)
			}
		}
		// Something behind the end of the compressed stream.
		if _, err := record.Validate(withRecords(b, append(bytes.Clone(b[record.HeaderSize:]), 1, 2, 3, 4, 5), codec), record.Limits{}); err == nil {
			t.Error(codec, "takes bytes behind its end")
		}
	}
}

func errorsOf(seq func(func(record.Record, error) bool)) func(func(error) bool) {
	return func(yield func(error) bool) {
		seq(func(_ record.Record, err error) bool { return err == nil || yield(err) })
	}
}

// Any single bit that is flipped inside the checksum's reach is found.
func TestBitFlips(t *testing.T) {
	for _, codec := range codecs {
		b := build(t, codec, []record.Record{{Timestamp: 1, Value: bytes.Repeat([]byte("v"), 90)}})
		for bit := 17 * 8; bit < len(b)*8; bit++ {
			p := bytes.Clone(b)
			p[bit/8] ^= 1 << (bit % 8)
			if _, err := record.Validate(p, record.Limits{}); !errors.Is(err, record.ErrCorrupt) {
				t.Fatal(codec, bit, err)
			}
		}
	}
}

func TestNext(t *testing.T) {
	a := build(t, record.None, []record.Record{{Value: []byte("1")}})
	b := build(t, record.LZ4, []record.Record{{Value: make([]byte, 500)}})
	p := append(bytes.Clone(a), b...)
	first, rest, err := record.Next(p)
	if err != nil || !bytes.Equal(first, a) || !bytes.Equal(rest, b) {
		t.Fatal(err)
	}
	for cut := 1; cut < len(b); cut++ {
		if _, _, err := record.Next(rest[:cut]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(cut, err)
		}
	}
	if _, _, err := record.Next(nil); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

func TestLastSequenceWraps(t *testing.T) {
	b := build(t, record.None, make([]record.Record, 10))
	if b.BaseSequence() != 2_147_483_640 || b.LastSequence() != 1 {
		t.Fatal(b.BaseSequence(), b.LastSequence())
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// bomb is 1 GiB of zeros, compressed.
func bomb(tb testing.TB, codec record.Codec) []byte {
	tb.Helper()
	const size = 1 << 30
	var buf bytes.Buffer
	var w io.WriteCloser
	switch codec {
	case record.Gzip:
		w, _ = gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	case record.LZ4:
		w = lz4.NewWriter(&buf)
	case record.Zstd:
		w, _ = zstd.NewWriter(&buf, zstd.WithEncoderConcurrency(1))
	case record.Snappy: // blocks of snappy-java, since one raw block of this size is above the limit of a batch
		block := snappy.Encode(nil, make([]byte, 1<<20))
		buf.WriteString("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01")
		for range 100 {
			buf.Write(binary.BigEndian.AppendUint32(nil, uint32(len(block))))
			buf.Write(block)
		}
		return buf.Bytes()
	case record.None:
	}
	if _, err := io.CopyN(w, zeros{}, size); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// allocated is what f takes from the heap in all, whether it gives it back or not.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestBombs(t *testing.T) {
	for _, codec := range codecs[1:] {
		// A record that claims the whole stream, so that only the cap can stop it.
		p := frame(bomb(t, codec), int16(codec), 1)
		var err error
		got := allocated(func() { _, err = record.Validate(p, record.Limits{BatchBytes: 64 << 20}) })
		if err == nil {
			t.Fatal(codec, "takes a bomb")
		}
		// The zeros are records of no length, which are refused at once: let the walker run through them.
		q := frame(prefixed(t, codec), int16(codec), 1)
		got = max(got, allocated(func() { _, err = record.Validate(q, record.Limits{BatchBytes: 64 << 20}) }))
		if !errors.Is(err, record.ErrTooLarge) {
			t.Errorf("%s: %v", codec, err)
		}
		if got > 24<<20 {
			t.Errorf("%s: refusing %d bytes took %d MiB", codec, len(q), got>>20)
		}
		t.Logf("%s: %d bytes received, %.1f MiB taken: %v", codec, len(q), float64(got)/(1<<20), err)
	}
}

// prefixed is a bomb that begins with a record whose value is as long as the limit lets it.
func prefixed(tb testing.TB, codec record.Codec) []byte {
	tb.Helper()
	body := []byte{0, 0, 0, 1}
	body = binary.AppendVarint(body, 64<<20-16)
	head := append(binary.AppendVarint(nil, 64<<20), body...)
	switch codec {
	case record.Gzip:
		var buf bytes.Buffer
		w := gzip.NewWriter(&buf)
		_, _ = w.Write(head)
		_ = w.Close()
		return append(buf.Bytes(), bomb(tb, codec)...)
	case record.LZ4:
		var buf bytes.Buffer
		w := lz4.NewWriter(&buf)
		_, _ = w.Write(head)
		_ = w.Close()
		return append(buf.Bytes(), bomb(tb, codec)...)
	case record.Zstd:
		w, _ := zstd.NewWriter(nil)
		return append(w.EncodeAll(head, nil), bomb(tb, codec)...)
	case record.Snappy:
		all := bomb(tb, codec)
		block := snappy.Encode(nil, head)
		out := append(bytes.Clone(all[:16]), binary.BigEndian.AppendUint32(nil, uint32(len(block)))...)
		return append(append(out, block...), all[16:]...)
	case record.None:
	}
	return nil
}

// A few bytes that claim much must not make us take much.
func TestAmplification(t *testing.T) {
	claims := map[string][]byte{
		"snappy":                       frame(binary.AppendUvarint(nil, 60<<20), 2, 1),
		"xerial":                       frame(append([]byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x04"), binary.AppendUvarint(nil, 60<<20)...), 2, 1),
		"lz4":                          frame([]byte{0x04, 0x22, 0x4d, 0x18, 0x64, 0x70, 0xb9, 0xff, 0xff, 0x3f, 0x00}, 3, 1),
		"zstd single segment of 1 GiB": frame([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x40, 1, 0, 0}, 4, 1),
		"zstd window of 1 GiB":         frame([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa0, 1, 0, 0}, 4, 1),
		"count":                        frame(make([]byte, 10), 0, 1<<20),
	}
	for name, p := range claims {
		var err error
		got := allocated(func() { _, err = record.Validate(p, record.Limits{}) })
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if got > 10<<20 {
			t.Errorf("%s: %d bytes made us take %d", name, len(p), got)
		}
		t.Logf("%s: %d bytes, %d taken: %v", name, len(p), got, err)
		got = allocated(func() {
			for _, e := range record.Batch(p).Records(record.Limits{}) {
				err = e
			}
		})
		if err == nil || got > 10<<20 {
			t.Errorf("%s: Records took %d: %v", name, got, err)
		}
	}
}

func TestValidateAllocatesNothing(t *testing.T) {
	b := thousand(1024)
	if n := testing.AllocsPerRun(20, func() {
		if _, err := record.Validate(b, record.Limits{}); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestBuilderAllocatesPerBatchOnly(t *testing.T) {
	for _, codec := range codecs {
		b := record.NewBuilder(codec)
		r := record.Record{Timestamp: 1, Key: []byte("key"), Value: make([]byte, 100), Headers: []record.Header{{Key: "h", Value: []byte("v")}}}
		fill := func() {
			for range 1000 {
				if err := b.Append(r); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := b.Build(-1, -1, -1); err != nil {
				t.Fatal(err)
			}
		}
		fill()
		if n := testing.AllocsPerRun(20, fill); n > 8 {
			t.Errorf("%s: %v allocations for 1,000 records", codec, n)
		}
	}
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

func BenchmarkValidate(b *testing.B) {
	for _, size := range []int{100, 1024} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p := thousand(size)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := record.Validate(p, record.Limits{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/record")
		})
	}
}

func BenchmarkBuilder(b *testing.B) {
	for _, codec := range codecs {
		b.Run(codec.String(), func(b *testing.B) {
			builder := record.NewBuilder(codec)
			r := record.Record{Timestamp: 1, Key: []byte("a key"), Value: bytes.Repeat([]byte(`{"level":"info","n":`), 5)}
			b.SetBytes(100)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if err := builder.Append(r); err != nil {
					b.Fatal(err)
				}
				if n++; n%2000 == 0 {
					if _, err := builder.Build(-1, -1, -1); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func seeds(f *testing.F) {
	f.Helper()
	for _, codec := range codecs {
		f.Add([]byte(build(f, codec, []record.Record{{Timestamp: 3, Key: []byte("k"), Value: bytes.Repeat([]byte("v"), 300), Headers: []record.Header{{Key: "é", Value: []byte{}}}}, {Timestamp: 4}})))
	}
	f.Add([]byte{})
}

// FuzzValidate mends length and checksum first, so that the fuzzer gets behind them, and compares Validate with Records.
func FuzzValidate(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) >= record.HeaderSize {
			p = bytes.Clone(p)
			binary.BigEndian.PutUint32(p[8:], uint32(len(p)-12))
			p[16] = 2
			seal(p)
		}
		limits := record.Limits{DecompressedBytes: 1 << 20}
		b, err := record.Validate(p, limits)
		if err != nil {
			for _, kind := range []error{record.ErrCorrupt, record.ErrInvalid, record.ErrTooLarge, record.ErrCodec} {
				if errors.Is(err, kind) {
					return
				}
			}
			t.Fatal("error of no kind:", err)
		}
		n, most := int32(0), int64(-1<<63)
		for r, err := range b.Records(limits) {
			if err != nil {
				t.Fatal("valid, but:", err)
			}
			most = max(most, r.Timestamp)
			n++
		}
		if n != b.Count() || most != b.MaxTimestamp() {
			t.Fatal(n, b.Count(), most, b.MaxTimestamp())
		}
	})
}

// FuzzRecords reads anything as records: it must end, without a panic.
func FuzzRecords(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, p []byte) {
		b, _, err := record.Next(p)
		if err != nil {
			return
		}
		n := 0
		for range b.Records(record.Limits{DecompressedBytes: 1 << 20, Records: 1 << 16}) {
			n++
		}
		if n > 1<<16+1 {
			t.Fatal(n)
		}
	})
}

// FuzzRoundTrip encodes one record with every codec.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("key"), []byte("value"), "header", []byte("x"), int64(5))
	f.Add([]byte(nil), []byte(nil), "", []byte(nil), int64(-1))
	f.Fuzz(func(t *testing.T, key, value []byte, header string, hv []byte, ts int64) {
		r := record.Record{Timestamp: ts, Key: key, Value: value, Headers: []record.Header{{Key: header, Value: hv}}}
		for _, codec := range codecs {
			b := record.NewBuilder(codec)
			if err := b.Append(r); err != nil {
				if !errors.Is(err, record.ErrInvalid) {
					t.Fatal(err)
				}
				return
			}
			out, err := b.Build(-1, -1, -1)
			if err != nil {
				t.Fatal(err)
			}
			v, err := record.Validate(out, record.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			checkRecords(t, v, []record.Record{r})
		}
	})
}
