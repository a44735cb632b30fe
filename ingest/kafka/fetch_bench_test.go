package kafka

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkFetchTail fetches 1 MiB of a partition from memory, over a socket.
func BenchmarkFetchTail(b *testing.B) {
	for _, size := range []int{16 << 10, 1 << 10} {
		b.Run(fmt.Sprintf("batches of %d KiB", size>>10), func(b *testing.B) {
			w := newWorld(b, 1)
			topic := w.create("t", 1, "durability", "disk")
			for range (1 << 20) / size {
				w.put(topic, 0, strings.Repeat("x", size-100))
			}
			c := w.dial(w.nodes[0])
			q := asking(topic, 0)
			q.SetVersion(12)
			frame := frameOf(q, 1)
			in := make([]byte, 1<<20+1<<12)
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				_, err := c.Write(frame)
				w.must(err)
				b.SetBytes(int64(c.skipAnswer(in)))
			}
		})
	}
}

// skipAnswer reads an answer and looks at nothing in it.
func (c *wire) skipAnswer(in []byte) int {
	c.w.t.Helper()
	for at, want := 0, 4; ; {
		n, err := c.in.Read(in[at:want])
		c.w.must(err)
		if at += n; at < want {
			continue
		}
		if at > 4 {
			return at
		}
		want += int(in[0])<<24 | int(in[1])<<16 | int(in[2])<<8 | int(in[3])
	}
}
