package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// Rows is the result of a query. It is for one goroutine at a time. It holds one message of the server and the record that Next
// reads from it.
type Rows struct {
	c        *Client
	from     *endpoint
	cancel   context.CancelFunc
	stream   *connect.ServerStreamForClient[tidemarkv1.ExecuteResponse]
	progress func(QueryProgress)
	reader   *ipc.Reader
	schema   *arrow.Schema
	id       string
	position []Position
	rows     int64 // given so far

	piece    []byte // of the Arrow stream, not yet read
	finished *tidemarkv1.QueryFinished
	err      error // what Next returns from now on
	closed   bool
}

// startQuery makes one attempt. begun tells that the server has begun the query.
func (c *Client) startQuery(ctx context.Context, to *endpoint, req *tidemarkv1.ExecuteRequest, o *QueryOptions) (rows *Rows, begun bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := to.query.Execute(ctx, req)
	if err != nil {
		cancel()
		return nil, false, err
	}
	r := &Rows{c: c, from: to, cancel: cancel, stream: stream, progress: o.Progress}
	if err := r.begin(o.Memory); err != nil {
		begun = r.id != ""
		r.Close()
		return nil, begun, err
	}
	return r, true, nil
}

// begin reads up to the schema.
func (r *Rows) begin(mem memory.Allocator) error {
	if !r.stream.Receive() {
		return r.ended()
	}
	started := r.stream.Msg().GetStarted()
	if started.GetQueryId() == "" {
		return brokenResult(nil, "it does not begin with the query's id")
	}
	r.id, r.position = started.GetQueryId(), positionsFromProto(started.GetPosition())
	if mem == nil {
		mem = memory.DefaultAllocator
	}
	reader, err := ipc.NewReader((*arrowPieces)(r), ipc.WithAllocator(boundedAllocator{mem}))
	if err != nil {
		return r.readError(err)
	}
	r.reader, r.schema = reader, reader.Schema()
	return nil
}

// ID names the query, for CancelQuery and system.queries.
func (r *Rows) ID() string { return r.id }

// Position is what the answer covers: for each topic that the statement reads, everything below these offsets.
func (r *Rows) Position() []Position { return r.position }

// Schema has the result's columns. Names may repeat.
func (r *Rows) Schema() *arrow.Schema { return r.schema }

// Next waits for the next rows. The caller releases the record. After the last one it returns io.EOF; a result that was cut off
// ends with another error, never with io.EOF.
func (r *Rows) Next() (arrow.Record, error) {
	if r.err != nil {
		return nil, r.err
	}
	for r.reader.Next() {
		rec := r.reader.Record()
		if rec.NumRows() == 0 {
			continue
		}
		r.rows += rec.NumRows()
		rec.Retain()
		return rec, nil
	}
	r.err = r.end()
	return nil, r.err
}

// end says why there are no more records. Behind the Arrow stream's own end the server still has to say that all of it is there.
func (r *Rows) end() error {
	if err := r.reader.Err(); err != nil {
		return r.readError(err)
	}
	if len(r.piece) > 0 {
		return brokenResult(nil, "something follows the end of its rows")
	}
	for r.finished == nil {
		if err := r.receive(); err != nil {
			return r.readError(err)
		}
		if len(r.piece) > 0 {
			return brokenResult(nil, "something follows the end of its rows")
		}
	}
	if n := r.finished.GetRows(); n != r.rows {
		return brokenResult(nil, fmt.Sprintf("%d rows came, and the server sent %d", r.rows, n))
	}
	return io.EOF
}

// Stats says what the query took, when Next has returned io.EOF; before that it is zero.
func (r *Rows) Stats() QueryStats {
	micros := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
	f := r.finished
	return QueryStats{
		Rows: f.GetRows(), RowsRead: f.GetRowsRead(),
		Elapsed: micros(f.GetElapsedUs()), Queued: micros(f.GetQueuedUs()), CaughtUp: micros(f.GetCaughtUpUs()),
	}
}

// Close ends the query if it still runs, and frees what Rows holds; records that Next returned stay. Safe twice. It does not end
// a Next that waits in another goroutine: the context given to Query does.
func (r *Rows) Close() {
	if r.closed {
		return
	}
	r.closed = true
	if r.err == nil {
		r.err = ErrClosed
	}
	r.cancel() // first, so that closing does not wait for what is still to come
	if err := r.stream.Close(); err != nil {
		r.c.log.Debug("close query stream", "query", r.id, "error", err)
	}
	if r.reader != nil {
		r.reader.Release()
	}
	r.piece = nil
}

// receive takes the next message: it fills piece or finished, or tells about progress.
func (r *Rows) receive() error {
	if !r.stream.Receive() {
		return r.ended()
	}
	switch e := r.stream.Msg().GetEvent().(type) {
	case *tidemarkv1.ExecuteResponse_Arrow:
		r.piece = e.Arrow
	case *tidemarkv1.ExecuteResponse_Progress:
		if r.progress != nil {
			r.progress(QueryProgress{RowsRead: e.Progress.GetRowsRead(), RowsToRead: e.Progress.GetRowsToRead(), Rows: e.Progress.GetRows()})
		}
	case *tidemarkv1.ExecuteResponse_Finished:
		r.finished = e.Finished
	case *tidemarkv1.ExecuteResponse_Started:
		return brokenResult(nil, "it begins twice")
	default: // an event of a newer server
	}
	return nil
}

// ended is why there is no further message, before the one that makes the stream whole.
func (r *Rows) ended() error {
	if err := r.stream.Err(); err != nil {
		return err
	}
	return &Error{Code: connect.CodeUnavailable, Message: "the server ended the result before it was whole", Retryable: true, cause: errNoStream}
}

// readError is the *Error of whatever went wrong on the way: what receive said, or the Arrow reader about its bytes.
func (r *Rows) readError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if ce, ok := errors.AsType[*connect.Error](err); ok {
		return r.c.queryError(r.from, ce)
	}
	return brokenResult(err, err.Error())
}

// arrowPieces reads the pieces of the Arrow stream one behind the other. It ends with io.EOF when the server has said that the
// result is whole.
type arrowPieces Rows

func (p *arrowPieces) Read(b []byte) (int, error) {
	r := (*Rows)(p)
	for len(r.piece) == 0 {
		if r.finished != nil {
			return 0, io.EOF
		}
		if err := r.receive(); err != nil {
			return 0, err
		}
	}
	n := copy(b, r.piece)
	r.piece = r.piece[n:]
	return n, nil
}

// boundedAllocator refuses buffers that no server of ours sends, before memory is taken for what a broken stream declares. The
// Arrow reader turns the panic into its error.
type boundedAllocator struct{ memory.Allocator }

const maxArrowBuffer = 1 << 30

var errHugeBuffer = errors.New("a buffer of more than 1 GiB")

func (a boundedAllocator) Allocate(size int) []byte {
	checkBuffer(size)
	return a.Allocator.Allocate(size)
}

func (a boundedAllocator) Reallocate(size int, b []byte) []byte {
	checkBuffer(size)
	return a.Allocator.Reallocate(size, b)
}

func checkBuffer(size int) {
	if size < 0 || size > maxArrowBuffer {
		panic(errHugeBuffer)
	}
}
