package query

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
)

// Times of sending: how long rows wait for more of their batch. The first ones hardly, so that somebody who looks at a huge
// result sees it begin; later ones longer, so that a slow trickle still moves.
const (
	firstBatchWait = 20 * time.Millisecond
	laterBatchWait = 200 * time.Millisecond
)

// sink takes a result. Its methods are called by one goroutine, in this order: bind, started, batches and progress, finished. An
// error of any of them ends the query.
type sink interface {
	// bind gives what every write must go through that may wait for the client.
	bind(send func(write func() error) error)
	started(id string, covers []position, schema *arrow.Schema) error
	batch(rec arrow.Record) error
	progress(read, toRead, rows int64) error
	finished(s stats) error
}

// pulled is a result to be pulled from: what makes an error of its errors, and what ends its statement.
type pulled struct {
	Result

	failed func(error) error
	end    context.CancelFunc
}

// pull takes records from a result as they come, one ahead of who sends them.
type pull struct {
	records chan arrow.Record
	err     error // valid once records is closed; nil: the result is whole
	whole   bool  // all was taken that there is
	stop    context.CancelFunc
	end     context.CancelFunc
	done    sync.WaitGroup
}

func startPull(ctx context.Context, result pulled) *pull {
	ctx, stop := context.WithCancel(ctx)
	p := &pull{records: make(chan arrow.Record), stop: stop, end: result.end}
	p.done.Go(func() {
		defer close(p.records)
		p.err = guarded(func() error {
			for {
				rec, err := result.Next(ctx)
				switch {
				case errors.Is(err, io.EOF):
					return nil
				case err != nil:
					return result.failed(err)
				}
				select {
				case p.records <- rec:
				case <-ctx.Done():
					rec.Release()
					return context.Cause(ctx)
				}
			}
		})
	})
	return p
}

// close ends the pulling and waits for it. A statement that has not come to its end is ended first: the engine may be long about
// its next rows. One that has may still serve, and is left alone.
func (p *pull) close() {
	if !p.whole {
		p.end()
	}
	p.stop()
	p.done.Wait()
	for rec := range p.records { // closed: there is none, unless somebody left before taking it
		rec.Release()
	}
}

// stream moves a result to the sink under the schema that the sink was told, and counts.
func (q *query) stream(ctx context.Context, result pulled, schema *arrow.Schema) error {
	p := startPull(ctx, result)
	defer p.close()
	b := &batcher{schema: schema}
	defer b.release()

	flush := q.service.clock.NewTimer(time.Hour)
	defer flush.Stop()
	progress := q.service.clock.NewTimer(time.Hour)
	defer progress.Stop()
	if q.request.progress > 0 {
		progress.Reset(q.request.progress)
	}
	wait := firstBatchWait
	send := func() error {
		flush.Stop()
		wait = laterBatchWait
		return b.flush(q.sink.batch)
	}
	for {
		var err error
		select {
		case rec, more := <-p.records:
			switch {
			case !more && p.err != nil:
				return p.err
			case !more:
				p.whole = true
				if b.empty() {
					return nil
				}
				return send()
			}
			if b.empty() {
				flush.Reset(wait)
			}
			rows := q.entry.rows.Add(rec.NumRows())
			if rows == rec.NumRows() {
				q.entry.set(stateStreaming)
			}
			b.add(rec)
			if limit := q.request.maxRows; limit > 0 && rows > limit {
				return errorf(ReasonResultTooLarge, "the result has more than %d rows; add LIMIT, filter more, or allow more rows", limit)
			}
			if b.full() {
				err = send()
			}
		case <-flush.C():
			if !b.empty() {
				err = send()
			}
		case <-progress.C():
			progress.Reset(q.request.progress)
			read := q.entry.read.Load()
			err = q.sink.progress(read, max(read, q.toRead), q.entry.rows.Load())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// sending performs a write that may wait for the client. While it waits, the query's slot may go to another.
func (q *query) sending(ctx context.Context, write func() error) error {
	q.turn.blocked(blockedByClient)
	q.writing.Store(true)
	err := write()
	q.writing.Store(false)
	// An ended query's write fails because it was interrupted: what ended it is the news.
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		if _, known := errors.AsType[*Error](err); known {
			return err
		}
		return errorf(ReasonCanceled, "the client went away: %w", err)
	}
	return q.turn.resume(ctx)
}

// countedTable counts the rows that are read of a table.
type countedTable struct {
	Table

	entry *entry
}

// Scan begins a counted reading.
func (t countedTable) Scan(columns []int) (Scan, error) {
	s, err := t.Table.Scan(columns)
	if err != nil {
		return nil, err
	}
	return countedScan{s, t.entry}, nil
}

type countedScan struct {
	Scan

	entry *entry
}

// Next counts and returns the next record.
func (s countedScan) Next(ctx context.Context) (arrow.Record, error) {
	rec, err := s.Scan.Next(ctx)
	if err == nil {
		s.entry.read.Add(rec.NumRows())
	}
	return rec, err
}
