package column

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// Chunk is all columns of up to 2,048 records of one partition under one schema. It is never changed, and may be used by any number of
// goroutines. Its arrays begin at the beginning of their buffers, and a column without NULLs has no bits that say so.
type Chunk struct {
	refs     atomic.Int64
	schema   *Schema
	raw      *Raw
	columns  []arrow.Array // in the order of the schema's Arrow; those of raw are its own
	deferred bool
	elements int
	misfits  []Misfit
	bytes    int64
}

// newChunk joins raw columns, of which it takes a reference, and typed ones, whose references it takes over.
func newChunk(s *Schema, raw *Raw, typed []arrow.Array) *Chunk {
	raw.Retain()
	c := &Chunk{schema: s, raw: raw, columns: slices.Concat(raw.columns[:builtinsBefore], typed, raw.columns[builtinsBefore:])}
	c.refs.Store(1)
	c.bytes = sizeOf(c.columns)
	return c
}

// Schema is what the values were decoded under.
func (c *Chunk) Schema() *Schema { return c.schema }

// Rows is the number of records, one or more.
func (c *Chunk) Rows() int { return c.raw.Rows() }

// Partition is that of the records.
func (c *Chunk) Partition() int32 { return c.raw.partition }

// First is the offset of the first record.
func (c *Chunk) First() int64 { return c.raw.First() }

// Last is the offset of the last record.
func (c *Chunk) Last() int64 { return c.raw.Last() }

// Bytes is the memory of all columns, each buffer counted once; what Raw holds is part of it.
func (c *Chunk) Bytes() int64 { return c.bytes }

// Columns are the columns in the order of the schema's Arrow. They are the chunk's: whoever keeps one longer retains it.
func (c *Chunk) Columns() []arrow.Array { return c.columns }

// Raw is the records as they were before Shred. It is the chunk's: whoever keeps it longer retains it.
func (c *Chunk) Raw() *Raw { return c.raw }

// Deferred tells that a value of some row may have a place in a later version of the schema that it has not in this one: the third argument
// of Fits.
func (c *Chunk) Deferred() bool { return c.deferred }

// Elements is how many elements the lists of objects have, of all columns and rows together: the third argument of Bounded.
func (c *Chunk) Elements() int { return c.elements }

// Misfits are the columns that lack values of some rows, because these are of another type, in the order of the columns.
func (c *Chunk) Misfits() []Misfit { return c.misfits }

// Retain adds a reference. A Chunk begins with one, its maker's.
func (c *Chunk) Retain() { c.refs.Add(1) }

// Release takes a reference back. The last one frees the memory.
func (c *Chunk) Release() {
	if c.refs.Add(-1) == 0 {
		for _, a := range c.columns[builtinsBefore : len(c.columns)-(len(builtins)-builtinsBefore)] {
			a.Release()
		}
		c.raw.Release()
	}
}

// Concat copies chunks of one partition into one, in their order: each begins behind the one before, all have the same schema, and together
// they have 2,048 rows or fewer. They stay the caller's, who does not join chunks that take much memory: the limit of what lists may have is
// that of Shred.
func Concat(mem memory.Allocator, chunks []*Chunk) (*Chunk, error) {
	if err := adjacent(chunks); err != nil {
		return nil, err
	}
	first := chunks[0]
	columns := make([]arrow.Array, len(first.columns))
	release := func() {
		for _, a := range columns {
			if a != nil {
				a.Release()
			}
		}
	}
	// The texts share the memory of the bytes, which are last: so they come first here.
	for i := len(columns) - 1; i >= 0; i-- {
		switch i {
		case keyColumn:
			columns[i] = joinText(mem, chunks, i, columns[len(columns)-2])
			continue
		case valueColumn:
			columns[i] = joinText(mem, chunks, i, columns[len(columns)-1])
			continue
		}
		parts := make([]arrow.Array, len(chunks))
		for j, c := range chunks {
			parts[j] = c.columns[i]
		}
		joined, err := array.Concatenate(parts, mem)
		if err != nil {
			release()
			return nil, fmt.Errorf("join column %s: %w", first.schema.arrow.Field(i).Name, err)
		}
		columns[i] = newArray(counted(joined.Data()))
		joined.Release()
	}
	var ours [len(builtins)]arrow.Array
	copy(ours[:builtinsBefore], columns)
	copy(ours[builtinsBefore:], columns[len(columns)-2:])
	raw := newRaw(first.Partition(), ours)
	out := newChunk(first.schema, raw, columns[builtinsBefore:len(columns)-2])
	raw.Release()
	for _, c := range chunks {
		out.deferred = out.deferred || c.deferred
		out.elements += c.elements
	}
	out.misfits = joinMisfits(chunks)
	return out, nil
}

// counted is data whose NULLs are counted, without the bits for them where there are none; Concatenate leaves both open.
func counted(data arrow.ArrayData) arrow.ArrayData {
	buffers := kept(data.Buffers())
	missing := 0
	if bits := buffers[0]; bits != nil {
		if missing = data.Len() - bitutil.CountSetBits(bits.Bytes(), 0, data.Len()); missing == 0 {
			bits.Release()
			buffers[0] = nil
		}
	}
	children := make([]arrow.ArrayData, len(data.Children()))
	for i, c := range data.Children() {
		children[i] = counted(c)
	}
	return newData(data.DataType(), data.Len(), buffers, children, missing)
}

func adjacent(chunks []*Chunk) error {
	if len(chunks) == 0 {
		return fmt.Errorf("join no chunks")
	}
	rows := 0
	for i, c := range chunks {
		rows += c.Rows()
		switch first := chunks[0]; {
		case c.schema != first.schema && c.schema.Version != first.schema.Version:
			return fmt.Errorf("join chunks under versions %d and %d of the schema", first.schema.Version, c.schema.Version)
		case c.Partition() != first.Partition():
			return fmt.Errorf("join chunks of partitions %d and %d", first.Partition(), c.Partition())
		case i > 0 && c.First() <= chunks[i-1].Last():
			return fmt.Errorf("join chunks: one begins at offset %d and the one before ends at %d", c.First(), chunks[i-1].Last())
		}
	}
	if rows > MaxRows {
		return fmt.Errorf("join chunks of %d rows, more than %d", rows, MaxRows)
	}
	return nil
}

// joinText gives the texts of joined bytes, NULL where they were before.
func joinText(mem memory.Allocator, chunks []*Chunk, column int, bytes arrow.Array) arrow.Array {
	var bad []int32
	row := int32(0)
	for _, c := range chunks {
		texts := c.columns[column]
		for i := range texts.Len() {
			if texts.IsNull(i) {
				bad = append(bad, row)
			}
			row++
		}
	}
	binary, ok := bytes.(*array.Binary)
	if !ok {
		panic("column: bytes were joined to " + bytes.DataType().String())
	}
	return textOf(mem, binary, bad)
}

func joinMisfits(chunks []*Chunk) []Misfit {
	var out []Misfit
	for _, c := range chunks {
		for _, m := range c.misfits {
			if i := slices.IndexFunc(out, func(o Misfit) bool { return o.Column == m.Column }); i >= 0 {
				out[i].Rows += m.Rows
			} else {
				out = append(out, m)
			}
		}
	}
	slices.SortFunc(out, func(a, b Misfit) int { return a.Column - b.Column })
	return out
}
