package tail

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/query/column"
)

// arrays are the columns of one chunk that were asked for.
type arrays []arrow.Array

func (a arrays) release() {
	for _, arr := range a {
		if arr != nil {
			arr.Release()
		}
	}
}

func releaseArrays(chunks []arrays) {
	for _, a := range chunks {
		a.release()
	}
}

// read returns the columns, by their places in the file's schema, of the file's first chunks. A column may be asked for twice. Its error
// is a *DamageError or ctx's.
func (f *file) read(ctx context.Context, columns []int, chunks int) ([]arrays, error) {
	h, err := f.pool.fs.Open(f.name)
	if err != nil {
		return nil, f.damage("", err)
	}
	defer func() { _ = h.Close() }() // reading is over
	out := make([]arrays, chunks)
	for i := range out {
		out[i] = make(arrays, len(columns))
	}
	var buf []byte
	read := map[int]int{} // place in the file to place in columns of what is there already
	for i, c := range columns {
		physical, text := f.shape.text[c]
		if !text {
			physical = c
		}
		if err := context.Cause(ctx); err != nil {
			releaseArrays(out)
			return nil, err
		}
		if at, ok := read[physical]; ok {
			for _, a := range out {
				if err := f.keep(a, i, a[at], text); err != nil {
					releaseArrays(out)
					return nil, f.damage(f.shape.arrow.Field(physical).Name, err)
				}
			}
			continue
		}
		if buf, err = f.column(h, physical, buf, func(n int, arr arrow.Array) error {
			if n >= chunks {
				return nil
			}
			return f.keep(out[n], i, arr, text)
		}); err != nil {
			releaseArrays(out)
			return nil, f.damage(f.shape.arrow.Field(physical).Name, err)
		}
		if !text {
			read[physical] = i
		}
	}
	return out, nil
}

func (f *file) keep(a arrays, i int, arr arrow.Array, text bool) error {
	if !text {
		arr.Retain()
		a[i] = arr
		return nil
	}
	bytes, ok := arr.(*array.Binary)
	if !ok {
		return fmt.Errorf("is of type %s, not of bytes", arr.DataType())
	}
	a[i] = column.Text(f.pool.mem, bytes)
	return nil
}

func (f *file) damage(column string, cause error) error {
	return &DamageError{Topic: f.topic, File: f.name, Column: column, cause: cause}
}

// column reads and verifies a column, and gives its chunks in order; an array is valid until each returns. buf is memory to use, and
// comes back for the next.
func (f *file) column(h disk.File, c int, buf []byte, each func(n int, arr arrow.Array) error) ([]byte, error) {
	s := f.columns[c]
	if int64(cap(buf)) < s.length {
		buf = make([]byte, s.length)
	}
	buf = buf[:s.length]
	if n, err := h.ReadAt(buf, s.offset); n < len(buf) {
		return buf, fmt.Errorf("read %d bytes at offset %d: %w", len(buf), s.offset, err)
	}
	if got := crc32.Checksum(buf, castagnoli); got != s.crc {
		return buf, fmt.Errorf("the checksum of the %d bytes at offset %d is %08x, written was %08x", len(buf), s.offset, got, s.crc)
	}
	r, err := ipc.NewReaderFromMessageReader(&messages{rest: buf}, ipc.WithAllocator(f.pool.mem))
	if err != nil {
		return buf, err
	}
	defer r.Release()
	n := 0
	for ; r.Next(); n++ {
		if err := each(n, r.Record().Column(0)); err != nil {
			return buf, err
		}
	}
	if r.Err() != nil {
		return buf, r.Err()
	}
	if n != f.chunks {
		return buf, fmt.Errorf("has %d chunks instead of %d", n, f.chunks)
	}
	return buf, nil
}

// messages reads the messages of an IPC stream that is in memory, without a copy of their bodies.
//
//	0 FF FF FF FF    4 length of the metadata i32 LE, 0 at the end    8 metadata    body
type messages struct {
	rest []byte
	last *ipc.Message
}

var errShort = errors.New("the stream ends inside a message")

// Message is valid until the next.
func (m *messages) Message() (*ipc.Message, error) {
	m.Release()
	if len(m.rest) < 8 || binary.LittleEndian.Uint32(m.rest) != 0xFFFFFFFF {
		return nil, errShort
	}
	n := int64(binary.LittleEndian.Uint32(m.rest[4:]))
	if n == 0 {
		return nil, io.EOF
	}
	if n > int64(len(m.rest)-8) {
		return nil, errShort
	}
	meta := memory.NewBufferBytes(m.rest[8 : 8+n])
	m.rest = m.rest[8+n:]
	head := ipc.NewMessage(meta, memory.NewBufferBytes(nil))
	body := head.BodyLen()
	head.Release()
	if body < 0 || body > int64(len(m.rest)) {
		return nil, errShort
	}
	m.last = ipc.NewMessage(meta, memory.NewBufferBytes(m.rest[:body]))
	m.rest = m.rest[body:]
	return m.last, nil
}

// Retain does nothing: a reader of messages has one user.
func (m *messages) Retain() {}

// Release lets go of the last message.
func (m *messages) Release() {
	if m.last != nil {
		m.last.Release()
		m.last = nil
	}
}
