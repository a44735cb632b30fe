package column

import (
	"sync/atomic"
	"unicode/utf8"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemark-io/tidemark/record"
)

// Limits of what Rows gathers: it is full when it has reached one of them.
const (
	MaxRows = 2048
	// fullBytes is of keys, values and headers together. The last record may exceed it by its own size.
	fullBytes = 4 << 20
	// maxMillis is 290,000 years: what a timestamp of the engine can hold, with some to spare.
	maxMillis = 290_000 * 31_556_952_000
)

// Rows gathers records of one partition. Not safe for concurrent use.
type Rows struct {
	mem       memory.Allocator
	partition int32

	offsets []int64
	stamps  []int64 // microseconds
	noStamp []int32 // rows without a timestamp
	keys    blobs
	values  blobs
	lists   []int32 // where the headers of each row end
	names   blobs   // of headers
	headers blobs   // their values
}

// NewRows begins with no records. Keys, values and headers are kept in memory from mem.
func NewRows(mem memory.Allocator, partition int32) *Rows {
	return &Rows{
		mem: mem, partition: partition,
		keys: blobs{mem: mem}, values: blobs{mem: mem}, names: blobs{mem: mem}, headers: blobs{mem: mem},
	}
}

// Append copies a record, whose offset is above that of the last one. There may be as many as make Full true.
func (r *Rows) Append(rec record.Record) {
	if rec.Timestamp == -1 || rec.Timestamp < -maxMillis || rec.Timestamp > maxMillis {
		r.noStamp = append(r.noStamp, int32(len(r.stamps)))
		r.stamps = append(r.stamps, 0)
	} else {
		r.stamps = append(r.stamps, rec.Timestamp*1000)
	}
	r.offsets = append(r.offsets, rec.Offset)
	r.keys.add(rec.Key)
	r.values.add(rec.Value)
	for i := range rec.Headers {
		h := &rec.Headers[i]
		r.names.add(notNull(h.Key))
		r.headers.add(h.Value)
	}
	r.lists = append(r.lists, int32(len(r.names.ends)))
}

// notNull gives the bytes of a header's key, which is never null.
func notNull(s string) []byte {
	if s == "" {
		return []byte{}
	}
	return []byte(s)
}

// Len is the number of records.
func (r *Rows) Len() int { return len(r.offsets) }

// Full tells whether it is time to Take: 2,048 records, or 4 MiB of keys, values and headers.
func (r *Rows) Full() bool {
	return len(r.offsets) >= MaxRows || r.keys.n+r.values.n+r.names.n+r.headers.n >= fullBytes
}

// Bytes is the memory that the records take so far, from mem and from Go's heap.
func (r *Rows) Bytes() int64 {
	n := int64(8*(cap(r.offsets)+cap(r.stamps)) + 4*(cap(r.noStamp)+cap(r.lists)))
	for _, b := range []*blobs{&r.keys, &r.values, &r.names, &r.headers} {
		n += b.bytes()
	}
	return n
}

// Take gives what was gathered, one record or more, to the caller, who releases it. The Rows is empty again.
func (r *Rows) Take() *Raw {
	n := len(r.offsets)
	partitions := newBuffer(r.mem, 4*n)
	for i := range n {
		arrow.Int32Traits.CastFromBytes(partitions.Bytes())[i] = r.partition
	}
	headers := newData(headersType.Elem(), len(r.names.ends), []*memory.Buffer{nil}, []arrow.ArrayData{
		r.names.take(arrow.BinaryTypes.String), r.headers.take(arrow.BinaryTypes.Binary),
	}, 0)
	badKeys, badValues := r.keys.bad, r.values.bad
	keys, values := newBinary(r.keys.take(arrow.BinaryTypes.Binary)), newBinary(r.values.take(arrow.BinaryTypes.Binary))
	raw := newRaw(r.partition, [len(builtins)]arrow.Array{
		newArray(newData(builtins[0].arrow, n, []*memory.Buffer{nil, partitions}, nil, 0)),
		newArray(newData(builtins[1].arrow, n, []*memory.Buffer{nil, copied(r.mem, arrow.Int64Traits.CastToBytes(r.offsets))}, nil, 0)),
		newArray(newData(timestampType, n, []*memory.Buffer{
			validity(r.mem, n, r.noStamp), copied(r.mem, arrow.Int64Traits.CastToBytes(r.stamps)),
		}, nil, len(r.noStamp))),
		textOf(r.mem, keys, badKeys),
		newArray(newData(headersType, n, []*memory.Buffer{nil, offsets(r.mem, r.lists)}, []arrow.ArrayData{headers}, 0)),
		textOf(r.mem, values, badValues),
		keys, values,
	})
	r.offsets, r.stamps, r.noStamp, r.lists = nil, nil, nil, nil
	return raw
}

// Release frees what was gathered and not taken. The Rows is empty again.
func (r *Rows) Release() {
	for _, b := range []*blobs{&r.keys, &r.values, &r.names, &r.headers} {
		b.release()
	}
	r.offsets, r.stamps, r.noStamp, r.lists = nil, nil, nil, nil
}

// blobs gathers byte strings one behind the other.
type blobs struct {
	mem   memory.Allocator
	buf   *memory.Buffer // nil while there are no bytes
	n     int            // bytes in buf
	ends  []int32
	nulls []int32
	bad   []int32 // rows that are NULL or not UTF-8
}

// add copies p; nil is NULL.
func (b *blobs) add(p []byte) {
	row := int32(len(b.ends))
	if p == nil {
		b.nulls = append(b.nulls, row)
		b.bad = append(b.bad, row)
	} else if !utf8.Valid(p) {
		b.bad = append(b.bad, row)
	}
	if n := b.n + len(p); n > b.n {
		if b.buf == nil {
			b.buf = memory.NewResizableBuffer(b.mem)
		}
		if n > b.buf.Cap() {
			b.buf.Reserve(max(n, 2*b.buf.Cap()))
		}
		copy(b.buf.Buf()[b.n:n], p)
		b.n = n
	}
	b.ends = append(b.ends, int32(b.n))
}

func (b *blobs) bytes() int64 {
	n := int64(4 * (cap(b.ends) + cap(b.nulls) + cap(b.bad)))
	if b.buf != nil {
		n += int64(b.buf.Cap())
	}
	return n
}

// take makes an array's data of what was gathered, in a buffer that is cut to its size.
func (b *blobs) take(t arrow.DataType) arrow.ArrayData {
	if b.buf != nil {
		b.buf.ResizeNoShrink(b.buf.Cap())
		b.buf.Resize(b.n)
		clear(b.buf.Buf()[b.n:])
	}
	out := newData(t, len(b.ends), []*memory.Buffer{validity(b.mem, len(b.ends), b.nulls), offsets(b.mem, b.ends), b.buf}, nil, len(b.nulls))
	*b = blobs{mem: b.mem}
	return out
}

func (b *blobs) release() {
	if b.buf != nil {
		b.buf.Release()
	}
	*b = blobs{mem: b.mem}
}

// Raw is records as the columns that every topic has. It is never changed and may be used by any number of goroutines.
type Raw struct {
	refs      atomic.Int64
	partition int32
	columns   [len(builtins)]arrow.Array // in the order of builtins
	// The columns by their types. A text is NULL where the value is not UTF-8.
	offsets      *array.Int64
	stamps       *array.Timestamp
	texts        *array.String
	keys, values *array.Binary
	headers      *array.List
	headerKeys   *array.String
	headerValues *array.Binary
}

// The places of some columns among builtins.
const (
	offsetColumn     = 1
	timestampColumn  = 2
	keyColumn        = 3
	headersColumn    = 4
	valueColumn      = 5
	keyBytesColumn   = 6
	valueBytesColumn = 7
)

// newRaw makes a Raw of columns, whose references it takes over.
func newRaw(partition int32, columns [len(builtins)]arrow.Array) *Raw {
	r := &Raw{partition: partition, columns: columns}
	var ok [8]bool
	r.offsets, ok[0] = columns[offsetColumn].(*array.Int64)
	r.stamps, ok[1] = columns[timestampColumn].(*array.Timestamp)
	r.texts, ok[2] = columns[valueColumn].(*array.String)
	r.keys, ok[3] = columns[keyBytesColumn].(*array.Binary)
	r.values, ok[4] = columns[valueBytesColumn].(*array.Binary)
	r.headers, ok[5] = columns[headersColumn].(*array.List)
	if ok[5] {
		if pairs, is := r.headers.ListValues().(*array.Struct); is {
			r.headerKeys, ok[6] = pairs.Field(0).(*array.String)
			r.headerValues, ok[7] = pairs.Field(1).(*array.Binary)
		}
	}
	if ok != [8]bool{true, true, true, true, true, true, true, true} {
		panic("column: the columns of records are of other types than ours")
	}
	r.refs.Store(1)
	return r
}

// Rows is the number of records, one or more.
func (r *Raw) Rows() int { return r.offsets.Len() }

// Partition is that of the records.
func (r *Raw) Partition() int32 { return r.partition }

// First is the offset of the first record.
func (r *Raw) First() int64 { return r.offsets.Value(0) }

// Last is the offset of the last record.
func (r *Raw) Last() int64 { return r.offsets.Value(r.Rows() - 1) }

// Rest copies the records behind the first ones, of which there are fewer than Rows, with memory from mem. It is the caller's to release.
func (r *Raw) Rest(mem memory.Allocator, first int) *Raw { return r.part(mem, first, r.Rows()) }

// part copies the records from begin to before end, one or more.
func (r *Raw) part(mem memory.Allocator, begin, end int) *Raw {
	rows := NewRows(mem, r.partition)
	for i := begin; i < end; i++ {
		rows.Append(r.at(i))
	}
	return rows.Take()
}

// at is one record, whose bytes are those of the columns.
func (r *Raw) at(i int) record.Record {
	out := record.Record{Offset: r.offsets.Value(i), Timestamp: -1, Key: valueOf(r.keys, i), Value: valueOf(r.values, i)}
	if r.stamps.IsValid(i) {
		out.Timestamp = int64(r.stamps.Value(i)) / 1000
	}
	begin, end := r.headers.ValueOffsets(i)
	for n := int(begin); n < int(end); n++ {
		out.Headers = append(out.Headers, record.Header{Key: r.headerKeys.Value(n), Value: valueOf(r.headerValues, n)})
	}
	return out
}

// valueOf is nil for NULL only.
func valueOf(a *array.Binary, i int) []byte {
	if a.IsNull(i) {
		return nil
	}
	if v := a.Value(i); v != nil {
		return v
	}
	return []byte{}
}

// Bytes is the memory of the records, each buffer counted once.
func (r *Raw) Bytes() int64 { return sizeOf(r.columns[:]) }

// Retain adds a reference. A Raw begins with one, its maker's.
func (r *Raw) Retain() { r.refs.Add(1) }

// Release takes a reference back. The last one frees the memory.
func (r *Raw) Release() {
	if r.refs.Add(-1) == 0 {
		for _, c := range r.columns {
			c.Release()
		}
	}
}

// sizeOf is the memory of some arrays, each buffer counted once.
func sizeOf(arrays []arrow.Array) int64 {
	seen := make(map[*memory.Buffer]struct{})
	var walk func(d arrow.ArrayData) int64
	walk = func(d arrow.ArrayData) (n int64) {
		for _, b := range d.Buffers() {
			if _, twice := seen[b]; b != nil && !twice {
				seen[b] = struct{}{}
				n += int64(b.Cap())
			}
		}
		for _, c := range d.Children() {
			n += walk(c)
		}
		return n
	}
	var n int64
	for _, a := range arrays {
		n += walk(a.Data())
	}
	return n
}
