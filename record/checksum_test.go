package record

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

// TestCombineChecksums: checksums of parts give that of the whole, wherever it is cut.
func TestCombineChecksums(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for round := range 2000 {
		p := make([]byte, random.IntN(1<<(round%18)+1))
		for i := range p {
			p[i] = byte(random.Uint32())
		}
		cut := random.IntN(len(p) + 1)
		first, second := crc32.Checksum(p[:cut], castagnoli), crc32.Checksum(p[cut:], castagnoli)
		if got, want := CombineChecksums(first, second, len(p)-cut), crc32.Checksum(p, castagnoli); got != want {
			t.Fatalf("%d bytes cut at %d: %08x, want %08x", len(p), cut, got, want)
		}
	}
}

// TestBatchChecksum: the checksum of a batch is that of its bytes, small or large, also once it is stamped; bytes that are not what the batch's own checksum
// says make it another.
func TestBatchChecksum(t *testing.T) {
	for _, size := range []int{1, 100, CombineFrom - 1, CombineFrom, 100_000} {
		builder := NewBuilder(None)
		if err := builder.Append(Record{Value: make([]byte, size)}); err != nil {
			t.Fatal(err)
		}
		b, err := builder.Build(-1, -1, -1)
		if err != nil {
			t.Fatal(err)
		}
		b.Stamp(1<<40, 77)
		if got, want := b.Checksum(), crc32.Checksum(b, castagnoli); got != want {
			t.Errorf("%d bytes: %08x, want %08x", len(b), got, want)
		}
		sum := b.Checksum()
		b[len(b)-2] ^= 1
		if kept := b.Checksum() == sum; kept != (len(b) >= CombineFrom) {
			t.Errorf("%d bytes: once a bit has flipped the checksum is still that of the bytes that were checked: %v", len(b), kept)
		}
	}
}

func BenchmarkBatchChecksum(b *testing.B) {
	for _, size := range []int{4 << 10, 16 << 10, 256 << 10} {
		p := make([]byte, size)
		b.Run("read", func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				crc32.Checksum(p, castagnoli)
			}
		})
		b.Run("combine", func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				CombineChecksums(1, 2, size-atAttributes)
			}
		})
	}
}
