package record_test

import (
	"testing"

	"github.com/tidemark-io/tidemark/record"
)

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
