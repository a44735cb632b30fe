package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/query/render"
)

// errReaderGone: nobody reads the result any more.
var errReaderGone = fmt.Errorf("nobody reads the result: %w", syscall.EPIPE)

// resultWriter writes a result in one of the forms of -o.
type resultWriter interface {
	// write takes a record; it keeps none.
	write(rec arrow.Record) error
	// end completes what was written. It is called once, and only when the result is whole.
	end(rows *client.Rows) error
}

func newResultWriter(output string, out io.Writer, width int, s *arrow.Schema) (resultWriter, error) {
	switch output {
	case outputJSON:
		return textResult{render.NewJSON(out, s)}, nil
	case outputCSV:
		return textResult{render.NewCSV(out, s)}, nil
	case outputArrow:
		return newArrowResult(out, s), nil
	case outputParquet:
		return newParquetResult(out, s)
	}
	table := newTableResult(out, width, s)
	if isPlan(s) {
		return planResult{out: out, below: table}, nil
	}
	return table, nil
}

// textResult is JSON or CSV, which are written as they come.
type textResult struct {
	w interface {
		Write(rec arrow.Record) error
		Close() error
	}
}

func (r textResult) write(rec arrow.Record) error { return r.w.Write(rec) }
func (r textResult) end(rows *client.Rows) error  { return r.w.Close() }

// ask runs a statement and writes its result to out. Tables are cut to width, unless that is 0.
func (a *app) ask(ctx context.Context, c *client.Client, statement string, o client.QueryOptions, out io.Writer, width int) error {
	endProgress := func() {}
	if a.stderrTTY {
		var at atomic.Pointer[client.QueryProgress]
		o.Progress, o.ProgressEvery = func(p client.QueryProgress) { at.Store(&p) }, 500*time.Millisecond
		begin := a.clock.Now()
		endProgress = sync.OnceFunc(a.progress(func() string { return progressLine(at.Load(), a.clock.Now().Sub(begin)) }))
	}
	defer endProgress()
	rows, err := c.Query(ctx, statement, o)
	if err != nil {
		return queryFailure(err, 0)
	}
	defer rows.Close()
	buffered := bufio.NewWriterSize(out, 64<<10)
	w, err := newResultWriter(a.output, buffered, width, rows.Schema())
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	var written int64
	for {
		rec, err := rows.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return queryFailure(errors.Join(err, buffered.Flush()), written)
		}
		if width > 0 && a.output != outputTable {
			endProgress() // it would stand between the rows
		}
		err = w.write(rec)
		written += rec.NumRows()
		rec.Release()
		if err == nil {
			err = buffered.Flush()
		}
		if err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
	}
	endProgress()
	if err := errors.Join(w.end(rows), buffered.Flush()); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

func progressLine(p *client.QueryProgress, elapsed time.Duration) string {
	switch {
	case p == nil:
		return fmt.Sprintf("waiting, %.0f s", elapsed.Seconds())
	case p.RowsToRead > 0:
		return fmt.Sprintf("%d of %d rows read, %d in the result, %.0f s", p.RowsRead, p.RowsToRead, p.Rows, elapsed.Seconds())
	}
	return fmt.Sprintf("%d rows read, %d in the result, %.0f s", p.RowsRead, p.Rows, elapsed.Seconds())
}

// queryFailure says where in the statement the error is, when the server tells, and that rows which were written are not all.
func queryFailure(err error, written int64) error {
	what := "query"
	if line, column, ok := placeOf(err); ok && !strings.Contains(err.Error(), fmt.Sprintf("line %d", line)) {
		what = fmt.Sprintf("query, line %d, column %d", line, column)
	}
	if written > 0 {
		what = fmt.Sprintf("%s, after %d rows", what, written)
	}
	return doing(err, "%s", what)
}

// placeOf is where in the statement an error is, from 1.
func placeOf(err error) (line, column int, ok bool) {
	_, metadata := reasonOf(err)
	if _, err := fmt.Sscanf(metadata["line"]+" "+metadata["column"], "%d %d", &line, &column); err != nil || line < 1 || column < 1 {
		return 0, 0, false
	}
	return line, column, true
}
