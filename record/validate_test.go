package record_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/tidemark-io/tidemark/record"
)

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
