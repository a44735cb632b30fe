package kafka

import "testing"

// TestBuffers: what is given back is given out again for what fits its steps, whole, and odd sizes are plain memory.
func TestBuffers(t *testing.T) {
	var b buffers
	for _, size := range []int{0, 1, bufferStep / 2, bufferStep, bufferStep + 1, bufferStep*bufferSteps - 7, bufferStep * bufferSteps, bufferStep*bufferSteps + 1} {
		p := b.get(size)
		if len(p) != size || cap(p) > max(size, size+bufferStep) {
			t.Fatalf("%d bytes: %d of %d", size, len(p), cap(p))
		}
		b.put(p)
		for _, less := range []int{0, 1, 100} {
			q := b.get(max(size-less, 0))
			if len(q) != max(size-less, 0) {
				t.Fatalf("%d bytes after %d: %d of %d", size-less, size, len(q), cap(q))
			}
			b.put(q)
		}
	}
}
