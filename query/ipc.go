package query

import (
	"bytes"
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// endOfStream is how an Arrow IPC stream ends: a continuation marker and the length 0.
const endOfStream = 8

// encoder writes one Arrow IPC stream in pieces:
//
//	first        the schema message
//	batch, …     one record batch message each
//	last         the end of the stream
//
// The pieces one behind the other are the stream. Nothing is compressed.
type encoder struct {
	buffer bytes.Buffer
	writer *ipc.Writer
	schema []byte // the first piece, which the writer puts in front of what it writes first
	begun  bool
}

func newEncoder(schema *arrow.Schema) (*encoder, error) {
	e := &encoder{}
	// A writer that ends without a batch has written the schema and the end.
	var empty bytes.Buffer
	if err := newIPCWriter(&empty, schema).Close(); err != nil {
		return nil, fmt.Errorf("encode the schema of the result: %w", err)
	}
	e.schema = empty.Bytes()[:empty.Len()-endOfStream]
	e.writer = newIPCWriter(&e.buffer, schema)
	return e, nil
}

func newIPCWriter(to *bytes.Buffer, schema *arrow.Schema) *ipc.Writer {
	return ipc.NewWriter(to, ipc.WithSchema(schema), ipc.WithAllocator(memory.DefaultAllocator))
}

// first is the piece that says what the columns are.
func (e *encoder) first() []byte { return e.schema }

// batch encodes a record and gives the pieces to send, each at most about batchBytes where it has more than one row. A piece is
// send's until it returns. The error is send's, or RESULT_TOO_LARGE when a row fits no message.
func (e *encoder) batch(rec arrow.Record, send func(piece []byte) error) error {
	piece, err := e.encode(rec)
	if err != nil {
		return err
	}
	rows := rec.NumRows()
	switch {
	case len(piece) <= batchBytes+batchBytes/2, rows <= 1 && len(piece) <= maxMessage:
		return send(piece)
	case rows <= 1:
		return errorf(ReasonResultTooLarge, "one row of the result has %d MiB, and a row has at most %d MiB; select less of it", len(piece)>>20, maxMessage>>20)
	}
	// Rows may differ much in size, so parts that are too large yet are cut again.
	parts := min(int64(len(piece)/batchBytes+1), rows)
	step := (rows + parts - 1) / parts
	for from := int64(0); from < rows; from += step {
		part := rec.NewSlice(from, min(from+step, rows))
		err := e.batch(part, send)
		part.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// encode gives the bytes of one batch message, valid until the next call.
func (e *encoder) encode(rec arrow.Record) ([]byte, error) {
	e.buffer.Reset()
	if e.buffer.Cap() > 4*batchBytes {
		e.buffer = bytes.Buffer{}
	}
	if err := e.writer.Write(rec); err != nil {
		return nil, fmt.Errorf("encode a batch of the result: %w", err)
	}
	return e.piece(), nil
}

// last ends the stream.
func (e *encoder) last() ([]byte, error) {
	e.buffer.Reset()
	if err := e.writer.Close(); err != nil {
		return nil, fmt.Errorf("encode the end of the result: %w", err)
	}
	return e.piece(), nil
}

// piece is what the writer has written, without the schema that it begins with.
func (e *encoder) piece() []byte {
	out := e.buffer.Bytes()
	if !e.begun {
		e.begun = true
		out = out[len(e.schema):]
	}
	return out
}
