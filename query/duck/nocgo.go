//go:build !cgo

package duck

import "github.com/tidemark-io/tidemark/query"

// Open returns query.ErrNoEngine: DuckDB needs cgo.
func Open(Config) (query.Engine, error) { return nil, query.ErrNoEngine }
