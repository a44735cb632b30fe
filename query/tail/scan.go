package tail

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemark-io/tidemark/query/column"
)

// Scan is one reading of a snapshot. Next may be called by several goroutines at once, and each record goes to one of them.
type Scan struct {
	snapshot *Snapshot
	number   int64
	columns  []int
	schema   *arrow.Schema
	closed   sync.Once

	mu    sync.Mutex
	parts []part   // still to be opened
	young []*block // still to be shown
	ready []chunk  // of parts that were opened
	err   error
}

// chunk is one chunk that is ready to be shown: in memory as a whole, or what was read of it.
type chunk struct {
	shape *shape
	rows  int
	block *block
	read  arrays // by the places in columns of the scan; nil where there is no source
}

func (c *chunk) release() {
	if c.block != nil {
		c.block.release()
	}
	c.read.release()
}

// Schema has the columns of the scan's records.
func (s *Scan) Schema() *arrow.Schema { return s.schema }

// Next returns the next at most 2,048 rows, which the caller releases, or io.EOF. A record of a scan without columns has a number of
// rows and nothing else. The error is ctx's cause, or a *DamageError or *PanicError, after which the scan is of no more use.
func (s *Scan) Next(ctx context.Context) (rec arrow.Record, err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	c, err := s.take(ctx)
	if err != nil {
		return nil, err
	}
	defer c.release()
	err = s.guarded(func() error {
		var err error
		rec, err = s.show(&c)
		return err
	})
	return rec, err
}

// guarded makes a *PanicError of a panic, with which the tail ends.
func (s *Scan) guarded(do func() error) error {
	t := s.snapshot.tail
	err := t.guarded(do)
	if _, bug := errors.AsType[*PanicError](err); bug {
		t.cancel(fmt.Errorf("%w: %w", errRebuild, err)) // it need not show again: other queries go on with a new one
	}
	return err
}

// take returns the next chunk. Callers open one run each when nothing is ready, none waits for another.
func (s *Scan) take(ctx context.Context) (chunk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil && len(s.ready) == 0 && len(s.parts) > 0 {
		p := s.parts[0]
		s.parts = s.parts[1:]
		s.mu.Unlock()
		var chunks []chunk
		err := s.guarded(func() (err error) {
			chunks, err = s.open(ctx, p)
			return err
		})
		s.mu.Lock()
		if final(err) {
			s.err = err
		} else if err != nil {
			s.parts = append(s.parts, p) // for whoever comes with another context
			return chunk{}, err
		}
		s.ready = append(s.ready, chunks...)
	}
	switch {
	case s.err != nil:
		return chunk{}, s.err
	case len(s.ready) > 0:
		c := s.ready[0]
		s.ready[0] = chunk{}
		s.ready = s.ready[1:]
		return c, nil
	case len(s.young) > 0:
		b := s.young[0]
		s.young = s.young[1:]
		b.retain()
		return chunk{shape: s.snapshot.shapes[b.chunk.Schema().Version], rows: b.chunk.Rows(), block: b}, nil
	default:
		return chunk{}, io.EOF
	}
}

// final tells of an error that comes again when it is tried again.
func final(err error) bool {
	_, damaged := errors.AsType[*DamageError](err)
	_, bug := errors.AsType[*PanicError](err)
	return damaged || bug
}

// source is the column of a version that a column of the snapshot is made of, or -1.
func (s *Scan) source(m *column.Mapping, c int) int {
	if m == nil {
		return c
	}
	return m.Source(c)
}

// open makes the chunks of a run ready.
func (s *Scan) open(ctx context.Context, p part) ([]chunk, error) {
	out := make([]chunk, p.chunks)
	for i := range out {
		out[i].shape, out[i].rows = p.run.shape, p.extents[i].rows
	}
	blocks, f := p.open(s.number)
	for i, b := range blocks {
		out[i].block = b
	}
	if f == nil {
		return out, nil
	}
	m := s.snapshot.mappings[p.run.shape.schema.Version]
	var columns, places []int
	for i, c := range s.columns {
		if from := s.source(m, c); from >= 0 {
			columns, places = append(columns, from), append(places, i)
		}
	}
	if len(columns) == 0 {
		return out, nil
	}
	read, err := f.read(ctx, columns, p.chunks)
	if err != nil {
		if damage, ok := errors.AsType[*DamageError](err); ok {
			s.snapshot.tail.damaged(damage)
		}
		return nil, err
	}
	for i, a := range read {
		out[i].read = make(arrays, len(s.columns))
		for j, at := range places {
			out[i].read[at] = a[j]
		}
	}
	return out, nil
}

// show makes a record of a chunk under the snapshot's schema.
func (s *Scan) show(c *chunk) (arrow.Record, error) {
	m := s.snapshot.mappings[c.shape.schema.Version]
	out := make(arrays, len(s.columns))
	defer out.release()
	for i, to := range s.columns {
		var arr arrow.Array
		switch from := s.source(m, to); {
		case from < 0:
		case c.block != nil:
			arr = c.block.chunk.Columns()[from]
		default:
			arr = c.read[i]
		}
		if m == nil {
			arr.Retain()
			out[i] = arr
			continue
		}
		var err error
		if out[i], err = m.Adapt(s.snapshot.tail.pool.mem, to, arr, c.rows); err != nil {
			return nil, fmt.Errorf("scan topic %q: show column %q: %w", s.snapshot.tail.name, s.schema.Field(i).Name, err)
		}
	}
	return array.NewRecord(s.schema, slices.Clone(out), int64(c.rows)), nil
}

// Close frees what the scan holds. No Next runs beside it or comes after it. Closing twice is harmless.
func (s *Scan) Close() {
	s.closed.Do(func() {
		for i := range s.ready {
			s.ready[i].release()
		}
		s.ready, s.parts, s.young = nil, nil, nil
		s.snapshot.unref()
	})
}
