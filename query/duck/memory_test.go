//go:build cgo

package duck

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
)

func TestMemory(t *testing.T) {
	m := &cMemory{}
	random := rand.New(rand.NewPCG(1, 2))
	var workers sync.WaitGroup
	for w := range 4 {
		sizes := make([]int, 400)
		for n := range sizes {
			sizes[n] = random.IntN(1 << (random.IntN(20) + 1))
		}
		workers.Go(func() {
			mark := byte(w + 1)
			var b []byte
			for _, size := range sizes {
				old := len(b)
				b = m.Reallocate(size, b)
				if len(b) != size || cap(b) != size {
					t.Errorf("%d bytes asked, %d of %d given", size, len(b), cap(b))
				}
				if kept := min(old, size); !bytes.Equal(b[:kept], bytes.Repeat([]byte{mark}, kept)) {
					t.Error("the old bytes are not there")
				}
				if size > old && !bytes.Equal(b[old:], make([]byte, size-old)) {
					t.Error("the new bytes are not zero")
				}
				for n := range b {
					b[n] = mark
				}
			}
			m.Free(b)
			fresh := m.Allocate(100)
			if !bytes.Equal(fresh, make([]byte, 100)) {
				t.Error("fresh bytes are not zero")
			}
			m.Free(fresh)
			m.Free(m.Allocate(0))
		})
	}
	workers.Wait()
	if n := m.AllocatedBytes(); n != 0 {
		t.Errorf("%d bytes are counted at the end", n)
	}
}
