//go:build cgo

package duck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow"
	bindings "github.com/duckdb/duckdb-go-bindings" // for the one function that streams, which mapping leaves out
	"github.com/duckdb/duckdb-go/v2/mapping"

	"github.com/tidemark-io/tidemark/query"
)

// result is a running statement. Next and Close are for one goroutine; the end of its context may come at any time.
type result struct {
	engine   *Engine
	instance *instance
	ctx      context.Context
	// unwatch ends the watch over ctx, and tells whether ctx had not ended before. When it returns, nobody interrupts the
	// connection any more. Called once.
	unwatch   func() bool
	statement mapping.PreparedStatement
	pending   mapping.PendingResult
	stream    mapping.Result
	streaming bool
	exporter  exporter
	ended     error // what Next says from now on
	closed    sync.Once
}

// Start implements query.Engine.
func (e *Engine) Start(ctx context.Context, s query.Statement) (query.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	i, err := e.take()
	if err != nil {
		return nil, err
	}
	r := &result{engine: e, instance: i, ctx: ctx}
	i.sources.begin(ctx, s.Tables)
	r.watch()
	if err := r.start(s.SQL); err != nil {
		err = r.reason(err)
		r.ended = err
		r.Close()
		return nil, err
	}
	return r, nil
}

// watch interrupts the statement when its context ends.
func (r *result) watch() {
	interrupted := make(chan struct{})
	stop := context.AfterFunc(r.ctx, func() {
		defer close(interrupted)
		mapping.Interrupt(r.instance.conn)
	})
	r.unwatch = func() bool {
		if stop() {
			return true
		}
		<-interrupted // it has begun: the connection must not go before it is over
		return false
	}
}

func (r *result) start(sql string) (err error) {
	if r.statement, err = r.instance.prepare(sql); err != nil {
		return err
	}
	count := mapping.PreparedStatementColumnCount(r.statement)
	names := make([]string, count)
	types := make([]mapping.LogicalType, count)
	for n := range types {
		names[n] = mapping.PreparedStatementColumnName(r.statement, mapping.IdxT(n))
		types[n] = mapping.PreparedStatementColumnLogicalType(r.statement, mapping.IdxT(n))
	}
	defer func() {
		for n := range types {
			mapping.DestroyLogicalType(&types[n])
		}
	}()
	for n, t := range types {
		if word := unreturnable(t); word != "" {
			return &query.StatementError{Kind: "unsupported", Position: -1, Message: fmt.Sprintf("column %d, %q, is or has in it a %s, which cannot be returned: cast it, for example to VARCHAR", n+1, names[n], word)}
		}
	}
	if r.exporter, err = newExporter(r.instance.conn, types, names); err != nil {
		return err
	}
	if bindings.PendingPreparedStreaming(r.statement, &r.pending) != mapping.StateSuccess {
		return statementError(mapping.PendingError(r.pending))
	}
	if r.ctx.Err() != nil {
		mapping.Interrupt(r.instance.conn) // an interrupt from before the statement began is forgotten by now
	}
	return nil
}

// Schema implements query.Result.
func (r *result) Schema() *arrow.Schema { return r.exporter.schema }

// Next implements query.Result. ctx bounds nothing that the statement's own context does not: it is looked at between chunks.
func (r *result) Next(ctx context.Context) (arrow.Record, error) {
	if r.ended != nil {
		return nil, r.ended
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	rec, err := r.next()
	if err != nil {
		r.ended = r.reason(err)
		return nil, r.ended
	}
	return rec, nil
}

func (r *result) next() (arrow.Record, error) {
	if !r.streaming {
		if err := r.ready(); err != nil {
			return nil, err
		}
	}
	chunk := mapping.FetchChunk(r.stream) // also right for a result that is not streamed
	if chunk.Ptr == nil {
		if text := mapping.ResultError(&r.stream); text != "" {
			return nil, statementError(text)
		}
		return nil, r.whole()
	}
	defer mapping.DestroyDataChunk(&chunk)
	if mapping.DataChunkGetSize(chunk) == 0 {
		return nil, r.whole()
	}
	return r.exporter.record(chunk)
}

// whole is io.EOF when nothing says that the result is not all there is: a table that failed must never look like one that ended.
func (r *result) whole() error {
	if err := r.instance.sources.failure(); err != nil {
		return err
	}
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	return io.EOF
}

// ready works on the statement until it has rows to give.
func (r *result) ready() error {
	for {
		switch mapping.PendingExecuteTask(r.pending) {
		case mapping.PendingStateResultReady:
			r.streaming = true // there is a result to destroy, whatever it is
			if mapping.ExecutePending(r.pending, &r.stream) != mapping.StateSuccess {
				return statementError(mapping.ResultError(&r.stream))
			}
			return nil
		case mapping.PendingStateError:
			return statementError(mapping.PendingError(r.pending))
		case mapping.PendingStateNoTasksAvailable:
			runtime.Gosched() // DuckDB's other threads have all there is to do
		default:
		}
		if r.ctx.Err() != nil {
			return context.Cause(r.ctx)
		}
	}
}

// reason is why a statement ended: the end of its context and what a table said come before DuckDB's words for them.
func (r *result) reason(err error) error {
	if errors.Is(err, io.EOF) {
		return err
	}
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	if cause := r.instance.sources.failure(); cause != nil {
		return cause
	}
	return err
}

// Close implements query.Result.
func (r *result) Close() {
	r.closed.Do(func() {
		well := r.unwatch() && errors.Is(r.ended, io.EOF)
		if !well {
			mapping.Interrupt(r.instance.conn)
		}
		if r.streaming {
			mapping.DestroyResult(&r.stream)
		}
		mapping.DestroyPending(&r.pending)
		mapping.DestroyPrepare(&r.statement)
		r.exporter.destroy()
		r.engine.give(r.instance, well)
	})
	if r.ended == nil || errors.Is(r.ended, io.EOF) {
		r.ended = errClosed
	}
}

// unreturnable names the first type inside t that Arrow has no counterpart for, "" if there is none.
func unreturnable(t mapping.LogicalType) string {
	inside := func(child mapping.LogicalType) string {
		defer mapping.DestroyLogicalType(&child)
		return unreturnable(child)
	}
	switch id := mapping.GetTypeId(t); id {
	case mapping.TypeList:
		return inside(mapping.ListTypeChildType(t))
	case mapping.TypeArray:
		return inside(mapping.ArrayTypeChildType(t))
	case mapping.TypeMap:
		if word := inside(mapping.MapTypeKeyType(t)); word != "" {
			return word
		}
		return inside(mapping.MapTypeValueType(t))
	case mapping.TypeStruct:
		for n := range mapping.StructTypeChildCount(t) {
			if word := inside(mapping.StructTypeChildType(t, n)); word != "" {
				return word
			}
		}
		return ""
	default:
		return withoutArrow[id]
	}
}

var withoutArrow = map[mapping.Type]string{
	mapping.TypeBit: "BIT", mapping.TypeUHugeInt: "UHUGEINT", mapping.TypeUnion: "UNION", mapping.TypeTimeTZ: "TIME WITH TIME ZONE",
	mapping.TypeBigNum: "BIGNUM", mapping.TypeGeometry: "GEOMETRY", mapping.TypeVariant: "VARIANT", mapping.TypeInvalid: "type that is not known",
}

// stringAt copies one element of a VARCHAR vector.
func stringAt(v mapping.Vector, row int) []byte {
	elements := (*mapping.StringT)(mapping.VectorGetData(v))
	element := (*mapping.StringT)(unsafe.Add(unsafe.Pointer(elements), row*int(unsafe.Sizeof(*elements))))
	return []byte(mapping.StringTData(element))
}
