//go:build cgo

package duck

import (
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/arrow/memory/mallocator"
)

// NewMemory gives the buffers of tables: memory of C's, which DuckDB may keep pointers to and which is freed at once when it is
// let go of, so that a budget of it means what it says.
func NewMemory() memory.Allocator { return mallocator.NewMallocator() }
