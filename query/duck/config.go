package duck

import (
	"runtime"

	"github.com/tidemark-io/tidemark/disk"
)

// Config has the settings of an engine. A zero field means its default.
type Config struct {
	// FS makes TempDir; disk.OS() when nil. DuckDB writes its temporary files there by itself.
	FS disk.FS
	// TempDir is where statements that need more than Memory put what they work on; "" lets none do that. Everything in it is
	// the engine's.
	TempDir string
	// TempBytes bounds the temporary files of one statement; 4 GiB.
	TempBytes int64
	// Memory bounds what DuckDB allocates for one statement, in bytes; 1 GiB. What tables hold is not counted.
	Memory int64
	// Threads is how many a statement uses; the processors there are.
	Threads int
	// Ready is how many instances are kept ready; 2. Below 0 none is.
	Ready int
}

func (c Config) orDefault() Config {
	if c.FS == nil {
		c.FS = disk.OS()
	}
	if c.TempBytes <= 0 {
		c.TempBytes = 4 << 30
	}
	if c.Memory <= 0 {
		c.Memory = 1 << 30
	}
	if c.Threads <= 0 {
		c.Threads = runtime.GOMAXPROCS(0)
	}
	if c.Ready == 0 {
		c.Ready = 2
	}
	return c
}
