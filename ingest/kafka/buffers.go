package kafka

import (
	"sync"
	"sync/atomic"
)

const (
	// bufferStep is what sizes of buffers differ by, so that none takes much more than was asked for: room was asked for what is read.
	bufferStep = 64 << 10
	// Smaller ones than leastBuffer are not kept, nor larger ones than mostBuffer, which is what one read from the object store takes, but for a single block
	// that is larger.
	leastBuffer = 256 << 10
	mostBuffer  = 8 << 20
)

// buffers is memory for blocks that fetches read, which is used again when their answers are written. Memory of Go would be cleared before each use, though it
// is written over at once.
type buffers struct {
	lent atomic.Int64                         // bytes that are given out
	kept [mostBuffer/bufferStep + 1]sync.Pool // of *[]byte, by steps
}

// get gives memory of a size, with anything in it.
func (b *buffers) get(size int) (p []byte) {
	steps := (size + bufferStep - 1) / bufferStep
	if size < leastBuffer || size > mostBuffer {
		p = make([]byte, size)
	} else if kept, ok := b.kept[steps].Get().(*[]byte); ok {
		p = (*kept)[:size]
	} else {
		p = make([]byte, size, steps*bufferStep)
	}
	b.lent.Add(int64(cap(p)))
	return p
}

// put takes memory of get back, which nobody may look at any more.
func (b *buffers) put(p []byte) {
	b.lent.Add(-int64(cap(p)))
	if cap(p) >= leastBuffer && cap(p) <= mostBuffer && cap(p)%bufferStep == 0 {
		p = p[:cap(p)]
		b.kept[cap(p)/bufferStep].Put(&p)
	}
}
