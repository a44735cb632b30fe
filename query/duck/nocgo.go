//go:build !cgo

package duck

import (
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemark-io/tidemark/query"
)

// Open returns query.ErrNoEngine: DuckDB needs cgo.
func Open(Config) (query.Engine, error) { return nil, query.ErrNoEngine }

// NewMemory gives buffers of Go's: there is no engine that they would have to be hidden from.
func NewMemory() memory.Allocator { return memory.NewGoAllocator() }
