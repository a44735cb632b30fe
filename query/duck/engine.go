//go:build cgo

package duck

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/duckdb/duckdb-go/v2/mapping"

	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/query"
)

// Engine runs statements, each in an instance of its own.
type Engine struct {
	cfg     Config
	parsers chan *parser  // those that nobody uses
	closing chan struct{} // closed when they go
	opened  atomic.Int64  // instances so far

	mu      sync.Mutex
	idle    []*instance
	closed  bool
	open    sync.WaitGroup // results, and instances in the making
	filling int
}

var errClosed = errors.New("the SQL engine is closed")

// parserCount is how many texts are parsed at once.
const parserCount = 2

// Open makes an engine. It has opened DuckDB once when it returns, so what keeps it from working is known.
func Open(cfg Config) (query.Engine, error) {
	cfg = cfg.orDefault()
	if cfg.TempDir != "" {
		if err := cfg.FS.MkdirAll(cfg.TempDir); err != nil {
			return nil, fmt.Errorf("make the SQL engine's temporary directory: %w", err)
		}
		if err := empty(cfg.FS, cfg.TempDir); err != nil {
			return nil, fmt.Errorf("empty the SQL engine's temporary directory: %w", err)
		}
	}
	e := &Engine{cfg: cfg, parsers: make(chan *parser, parserCount), closing: make(chan struct{})}
	for range parserCount {
		p, err := newParser(cfg)
		if err != nil {
			for len(e.parsers) > 0 {
				opened := <-e.parsers
				opened.close()
			}
			return nil, fmt.Errorf("start the SQL engine: %w", err)
		}
		e.parsers <- p
	}
	e.fill()
	return e, nil
}

// empty removes what an earlier process left in a directory.
func empty(fs disk.FS, dir string) error {
	entries, err := fs.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name)
		if e.Dir {
			if err := empty(fs, name); err != nil {
				return err
			}
		}
		if err := fs.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// instance opens an instance with a temporary directory of its own: two that shared one would write into the same files.
func (e *Engine) instance() (*instance, error) {
	cfg := e.cfg
	if cfg.TempDir != "" {
		cfg.TempDir = filepath.Join(cfg.TempDir, strconv.FormatInt(e.opened.Add(1), 10))
	}
	return newInstance(cfg)
}

// take returns an instance that nobody else uses.
func (e *Engine) take() (*instance, error) {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil, errClosed
	}
	e.open.Add(1)
	var i *instance
	if n := len(e.idle); n > 0 {
		i = e.idle[n-1]
		e.idle = e.idle[:n-1]
	}
	e.mu.Unlock()
	e.fill()
	if i != nil {
		return i, nil
	}
	i, err := e.instance()
	if err != nil {
		e.open.Done()
		return nil, fmt.Errorf("open an instance for the query: %w", err)
	}
	return i, nil
}

// give takes an instance back. One that ended its statement well may serve again. With another, DuckDB's threads may still be at
// work: closing it is what ends them, and only then are the tables left alone.
func (e *Engine) give(i *instance, well bool) {
	defer e.open.Done()
	i.used++
	if well && i.used < maxUses {
		i.sources.end()
		e.mu.Lock()
		if !e.closed && len(e.idle) < e.cfg.Ready {
			e.idle = append(e.idle, i)
			i = nil
		}
		e.mu.Unlock()
	}
	if i != nil {
		i.close()
		i.sources.end()
	}
	e.fill()
}

// fill makes instances in the background until enough are ready. Failures are left to who needs one.
func (e *Engine) fill() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for !e.closed && len(e.idle)+e.filling < e.cfg.Ready {
		e.filling++
		e.open.Go(func() {
			i, err := e.instance()
			e.mu.Lock()
			e.filling--
			if err == nil && !e.closed && len(e.idle) < e.cfg.Ready {
				e.idle = append(e.idle, i)
				i = nil
			}
			e.mu.Unlock()
			if err == nil && i != nil {
				i.close()
			}
		})
	}
}

// Close waits for every Result to be closed and frees everything.
func (e *Engine) Close() error {
	e.mu.Lock()
	first := !e.closed
	e.closed = true
	idle := e.idle
	e.idle = nil
	e.mu.Unlock()
	for _, i := range idle {
		i.close()
	}
	e.open.Wait()
	if first {
		close(e.closing)
		for range parserCount { // waits for those at work
			p := <-e.parsers
			p.close()
		}
	}
	return nil
}

// parser turns texts into trees. It is for one goroutine at a time.
type parser struct {
	*instance
	statement mapping.PreparedStatement
}

func newParser(cfg Config) (*parser, error) {
	cfg.Threads, cfg.TempDir = 1, ""
	i, err := newInstance(cfg)
	if err != nil {
		return nil, err
	}
	p := &parser{instance: i}
	if p.statement, err = i.prepare("SELECT json_serialize_sql($1::VARCHAR)"); err != nil {
		i.close()
		return nil, err
	}
	return p, nil
}

func (p *parser) close() {
	mapping.DestroyPrepare(&p.statement)
	p.instance.close()
}

// Parse implements query.Engine.
func (e *Engine) Parse(ctx context.Context, sql string) ([]byte, error) {
	var p *parser
	select {
	case p = <-e.parsers:
	case <-e.closing:
		return nil, errClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { e.parsers <- p }()
	text, err := p.parse(sql)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	return text, nil
}

func (p *parser) parse(sql string) ([]byte, error) {
	if mapping.BindVarcharLength(p.statement, 1, sql, mapping.IdxT(len(sql))) != mapping.StateSuccess {
		return nil, statementError(mapping.PrepareError(p.statement))
	}
	var res mapping.Result
	state := mapping.ExecutePrepared(p.statement, &res)
	defer mapping.DestroyResult(&res)
	if state != mapping.StateSuccess {
		return nil, statementError(mapping.ResultError(&res))
	}
	chunk := mapping.FetchChunk(res)
	if chunk.Ptr == nil {
		return nil, statementError(mapping.ResultError(&res))
	}
	defer mapping.DestroyDataChunk(&chunk)
	return stringAt(mapping.DataChunkGetVector(chunk, 0), 0), nil
}
