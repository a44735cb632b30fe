package tail

import (
	"errors"
	"fmt"
	"hash/crc32"
	"path"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"

	"github.com/tidemark-io/tidemark/disk"
)

// A spill file has the columns of one run, one behind the other, and nothing else; where each begins is known only to the process
// that wrote it.
//
//	column 0    Arrow IPC stream: schema of one field, a record batch for each chunk of the run, end of stream
//	column 1    ...
//
// _key and _value are not among them: they are the text of _key_bytes and _value_bytes.
const (
	fileSuffix = ".tail"
	// pieceBytes is how much is written at once.
	pieceBytes = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// stream is where a file has a column.
type stream struct {
	offset int64
	length int64
	crc    uint32 // CRC32C of the whole stream
}

// file is a run on disk.
type file struct {
	pool    *pool
	usage   *usage
	topic   string
	name    string
	shape   *shape
	size    int64
	chunks  int
	columns []stream // by place in the schema; of length 0 when it is not written
}

// write makes the file of a run.
func (p *pool) write(r *run, blocks []*block) (*file, error) {
	p.mu.Lock()
	p.number++ // a name is used once, also when its file could not be written or removed
	name := path.Join(p.dir, fmt.Sprintf("%016d%s", p.number, fileSuffix))
	p.mu.Unlock()
	h, err := p.fs.Create(name)
	if err != nil {
		return nil, p.writeError(name, err)
	}
	f := &file{pool: p, usage: r.usage, topic: r.topic, name: name, shape: r.shape, chunks: len(blocks)}
	w := &writer{pool: p, usage: r.usage, file: h, buf: make([]byte, 0, pieceBytes)}
	err = errors.Join(w.columns(f, blocks), h.Close())
	if err != nil {
		if rerr := p.fs.Remove(name); rerr != nil {
			p.log.Warn("remove a spill file that could not be written", "file", name, "error", rerr)
		}
		p.unreserve(r.usage, w.reserved, false)
		if bug, is := errors.AsType[*PanicError](err); is {
			return nil, bug
		}
		return nil, p.writeError(name, err)
	}
	f.size = w.at
	return f, nil
}

// roomError is why a run cannot be spilled.
type roomError struct{ cause error }

func (e *roomError) Error() string { return e.cause.Error() }

func (e *roomError) Unwrap() error { return e.cause }

// writeError says what to do when the disk is full.
func (p *pool) writeError(name string, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case errors.Is(err, ErrSpillFull):
		err = fmt.Errorf("%w: %d of %d bytes of memory and %d of %d bytes of disk are taken; raise the limits, or query fewer or smaller topics",
			ErrSpillFull, p.memory, p.budget, p.disk, p.capacity)
	case errors.Is(err, disk.ErrNoSpace):
		err = fmt.Errorf("%w: %d of %d bytes of memory are taken, and the disk of %s is full; make room on it, or query fewer or smaller topics: %w",
			ErrSpillFull, p.memory, p.budget, p.dir, err)
	default:
		err = fmt.Errorf("write spill file %s: %w", name, err)
	}
	return &roomError{err}
}

// writer appends to a file in sizeable pieces.
type writer struct {
	pool     *pool
	usage    *usage
	file     disk.File
	buf      []byte
	at       int64
	crc      uint32
	reserved int64
}

// columns writes all columns of a run.
func (w *writer) columns(f *file, blocks []*block) (err error) {
	defer caught(w.pool.log, f.topic, &err)
	for c, field := range f.shape.arrow.Fields() {
		s := stream{offset: w.at + int64(len(w.buf))}
		if _, derived := f.shape.text[c]; !derived {
			w.crc = 0
			if err := w.column(field, c, blocks); err != nil {
				return err
			}
			s.length, s.crc = w.at+int64(len(w.buf))-s.offset, w.crc
		}
		f.columns = append(f.columns, s)
	}
	return w.flush()
}

func (w *writer) column(field arrow.Field, c int, blocks []*block) error {
	schema := arrow.NewSchema([]arrow.Field{field}, nil)
	out := ipc.NewWriter(w, ipc.WithSchema(schema), ipc.WithAllocator(w.pool.mem))
	for _, b := range blocks {
		rec := array.NewRecord(schema, []arrow.Array{b.chunk.Columns()[c]}, int64(b.chunk.Rows()))
		err := out.Write(rec)
		rec.Release()
		if err != nil {
			return fmt.Errorf("column %q: %w", field.Name, err)
		}
	}
	return out.Close()
}

func (w *writer) Write(b []byte) (int, error) {
	w.crc = crc32.Update(w.crc, castagnoli, b)
	n := len(b)
	for len(b) > 0 {
		k := min(len(b), cap(w.buf)-len(w.buf))
		w.buf, b = append(w.buf, b[:k]...), b[k:]
		if len(w.buf) == cap(w.buf) {
			if err := w.flush(); err != nil {
				return n - len(b), err
			}
		}
	}
	return n, nil
}

func (w *writer) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	n := int64(len(w.buf))
	if !w.pool.reserve(w.usage, n) {
		return ErrSpillFull
	}
	w.reserved += n
	if _, err := w.file.WriteAt(w.buf, w.at); err != nil {
		return err
	}
	w.at += n
	w.buf = w.buf[:0]
	return nil
}

// remove deletes the file, which nobody reads any more.
func (f *file) remove() {
	if err := f.pool.fs.Remove(f.name); err != nil {
		f.pool.log.Warn("remove spill file", "file", f.name, "topic", f.topic, "error", err)
		return // its bytes are still taken
	}
	f.pool.unreserve(f.usage, f.size, true)
}
