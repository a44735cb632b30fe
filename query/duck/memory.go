//go:build cgo

package duck

/*
#include <stdlib.h>
#include <string.h>

// tidemark_realloc is realloc with the new part zeroed.
static void *tidemark_realloc(void *p, size_t from, size_t to) {
	char *q = (char *)realloc(p, to);
	if (q != NULL && to > from) {
		memset(q + from, 0, to - from);
	}
	return q;
}
*/
import "C"

import (
	"sync/atomic"
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow/memory"
)

// NewMemory gives the buffers of tables: memory of C's, which DuckDB may keep pointers to and which is freed at once when it is
// let go of, so that a budget of it means what it says. It may be used by several goroutines.
//
// Arrow's own mallocator would do, if it did not take a set errno for a failure: malloc sets it on its way to a success when it has to look
// for memory in another place, and then mallocator leaks or panics.
func NewMemory() memory.Allocator { return &cMemory{} }

type cMemory struct{ held atomic.Int64 }

// Allocate returns size zeroed bytes. A process that can get no more memory ends, as anywhere in Go.
func (m *cMemory) Allocate(size int) []byte {
	if size == 0 {
		return []byte{}
	}
	p := C.calloc(1, C.size_t(size))
	return m.taken(p, size, size)
}

// Reallocate returns size bytes that begin with those of b, which must not be used any more; what is new is zeroed.
func (m *cMemory) Reallocate(size int, b []byte) []byte {
	switch {
	case cap(b) == 0:
		return m.Allocate(size)
	case size == 0:
		m.Free(b)
		return []byte{}
	}
	p := C.tidemark_realloc(unsafe.Pointer(unsafe.SliceData(b)), C.size_t(cap(b)), C.size_t(size))
	return m.taken(p, size, size-cap(b))
}

// Free gives memory back.
func (m *cMemory) Free(b []byte) {
	if cap(b) == 0 {
		return
	}
	C.free(unsafe.Pointer(unsafe.SliceData(b)))
	m.held.Add(-int64(cap(b)))
}

func (m *cMemory) taken(p unsafe.Pointer, size, more int) []byte {
	if p == nil {
		panic("duck: out of memory")
	}
	m.held.Add(int64(more))
	return unsafe.Slice((*byte)(p), size)
}

// AllocatedBytes is what was taken and not given back.
func (m *cMemory) AllocatedBytes() int64 { return m.held.Load() }
