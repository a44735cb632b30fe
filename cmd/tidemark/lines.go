package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// lineReader splits input into lines: what stands between line feeds, and what stands behind the last one unless it is
// nothing. It holds one line in memory, of at most limit bytes.
type lineReader struct {
	in         io.Reader
	limit      int
	line       int64 // number of the line that next returned last, from 1
	buf        []byte
	start, end int // buf[start:end] is read and not yet returned
	scanned    int // buf[start:start+scanned] holds no line feed
	err        error
}

func newLineReader(in io.Reader, limit int) *lineReader {
	return &lineReader{in: in, limit: limit, buf: make([]byte, min(256<<10, max(limit+1, 512)))}
}

// errLongLine says that a line is over the limit.
var errLongLine = errors.New("line is too long")

// next returns the next line without its line feed, never nil; it is valid until the following call. At the end of the
// input it returns io.EOF.
func (r *lineReader) next() ([]byte, error) {
	for {
		if i := bytes.IndexByte(r.buf[r.start+r.scanned:r.end], '\n'); i >= 0 {
			line := r.buf[r.start : r.start+r.scanned+i : r.start+r.scanned+i]
			r.start += r.scanned + i + 1
			return r.count(line)
		}
		r.scanned = r.end - r.start
		if r.scanned > r.limit {
			return r.count(r.buf[r.start:r.end])
		}
		if r.err != nil {
			if errors.Is(r.err, io.EOF) && r.scanned > 0 {
				line := r.buf[r.start:r.end:r.end]
				r.start = r.end
				return r.count(line)
			}
			return nil, r.err
		}
		r.fill()
	}
}

func (r *lineReader) count(line []byte) ([]byte, error) {
	r.line++
	r.scanned = 0
	if len(line) > r.limit {
		return nil, fmt.Errorf("line %d: %w: more than %d bytes", r.line, errLongLine, r.limit)
	}
	return line, nil
}

// fill reads more behind the unfinished line, for which it makes room. It keeps the error for when the line is used up.
func (r *lineReader) fill() {
	if r.start > 0 {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	if r.end == len(r.buf) {
		bigger := make([]byte, min(2*len(r.buf), max(r.limit+1, len(r.buf)+1)))
		copy(bigger, r.buf)
		r.buf = bigger
	}
	n, err := r.in.Read(r.buf[r.end:])
	r.end += n
	r.err = err
}

// interruptible reads from an input that cannot be interrupted, such as a terminal or a pipe, and stops when its
// context is done.
//
// A goroutine does the reading, a buffer ahead. When the context ends first it stays in its Read until that returns,
// which for standard input may be never: the process is about to exit.
type interruptible struct {
	ctx    context.Context
	chunks chan inputChunk
	free   chan []byte
	have   inputChunk
	rest   []byte // of have, not yet returned
}

type inputChunk struct {
	data []byte // from the beginning of its buffer
	err  error
}

func newInterruptible(ctx context.Context, in io.Reader) *interruptible {
	r := &interruptible{ctx: ctx, chunks: make(chan inputChunk, 1), free: make(chan []byte, 2)}
	for range cap(r.free) {
		r.free <- make([]byte, 256<<10)
	}
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case buf := <-r.free:
				n, err := in.Read(buf)
				select {
				case <-ctx.Done():
					return
				case r.chunks <- inputChunk{data: buf[:n], err: err}:
				}
				if err != nil {
					return
				}
			}
		}
	}()
	return r
}

// Read returns what was read so far, or the cause of the context's end.
func (r *interruptible) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.have.err != nil {
			return 0, r.have.err
		}
		if r.have.data != nil {
			r.free <- r.have.data[:cap(r.have.data)]
			r.have.data = nil
		}
		select {
		case <-r.ctx.Done():
			return 0, context.Cause(r.ctx)
		case r.have = <-r.chunks:
			r.rest = r.have.data
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
