package tier_test

import (
	"fmt"
	"testing"

	"github.com/tidemark-io/tidemark/tier"
	"github.com/tidemark-io/tidemark/tier/tiertest"
)

func benchPut(b *testing.B, s tier.Store) {
	b.Helper()
	var parts [][]byte
	for i := range 128 {
		parts = append(parts, tiertest.Bytes(i, 64<<10))
	}
	b.SetBytes(8 << 20)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		if err := s.Put(b.Context(), fmt.Sprintf("bench/%d", n), parts); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPutLocal(b *testing.B) { benchPut(b, openLocal(b)) }

func BenchmarkPutS3(b *testing.B) {
	srv := tiertest.StartMinIO(b)
	srv.MakeBucket(b, "log")
	benchPut(b, openS3(b, srv, nil))
}
