package kafka

import "sync"

const (
	// bufferStep is what sizes of buffers differ by. Smaller ones are not kept.
	bufferStep = 512 << 10
	// bufferSteps is how many sizes there are: what one read from the object store takes at most, but for a single block that is larger.
	bufferSteps = 16
)

// buffers is memory for blocks that fetches read, which is used again when their answers are written. Memory of Go would be cleared before each use, though it
// is written over at once.
type buffers struct {
	kept [bufferSteps]sync.Pool // of *[]byte, by steps less one
}

// get gives memory of a size, with anything in it.
func (b *buffers) get(size int) []byte {
	steps := (size + bufferStep - 1) / bufferStep
	if size < bufferStep/2 || steps > bufferSteps {
		return make([]byte, size)
	}
	if p, ok := b.kept[steps-1].Get().(*[]byte); ok {
		return (*p)[:size]
	}
	return make([]byte, size, steps*bufferStep)
}

// put takes memory of get back, which nobody may look at any more.
func (b *buffers) put(p []byte) {
	if steps := cap(p) / bufferStep; steps > 0 && steps <= bufferSteps && cap(p)%bufferStep == 0 {
		p = p[:cap(p)]
		b.kept[steps-1].Put(&p)
	}
}
