package record_test

import (
	"bytes"
	"testing"

	"github.com/tidemark-io/tidemark/record"
)

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
