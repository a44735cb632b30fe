package column

import (
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// Fits tells whether rows that were decoded under one version of a schema can be read under another through a Mapping, and are then what
// decoding them anew would give. Deferred is that of their chunk. It is false for a version that is not a later one.
func Fits(from, to *Schema, deferred bool) bool {
	var f fitting
	ok := f.structs(from.Fields, to.Fields)
	changed := f.grew || f.widened
	return ok && !(changed && deferred) && !(f.grew && from.full())
}

// Bounded tells whether a chunk whose lists of objects have so many elements (Chunk.Elements) may be read through the Mapping of two versions: in
// Arrow every element gets an entry for every new field. If not, it is decoded anew, and becomes several.
func Bounded(from, to *Schema, elements int) bool {
	return elements*max(0, to.named-from.named) <= chunkCells
}

// fitting compares two versions of a schema.
type fitting struct{ grew, widened bool }

func (f *fitting) structs(from, to []Field) bool {
	old := make(map[string]*Field, len(from))
	for i := range from {
		old[from[i].Key] = &from[i]
	}
	for _, t := range to {
		o, known := old[t.Key]
		switch {
		case !known && t.Overridden: // it may have to take what never could define a column
			return false
		case !known:
			f.grew = true
			continue
		case o.Name != t.Name || o.Overridden != t.Overridden || !f.types(o.Type, t.Type, o.Overridden):
			return false
		}
		delete(old, t.Key)
	}
	return len(old) == 0
}

func (f *fitting) types(from, to Type, fixed bool) bool {
	switch {
	case from.Kind == BigInt && to.Kind == Double && !fixed:
		f.widened = true
		return true
	case from.Kind != to.Kind:
		return false
	case from.Kind == Struct:
		return f.structs(from.Fields, to.Fields)
	case from.Kind == List:
		return f.types(*from.Elem, *to.Elem, false)
	default:
		return true
	}
}

// Mapping makes the columns of one version of a schema out of those of an earlier one. It is never changed, and may be used by any number of
// goroutines.
type Mapping struct{ columns []adapter }

// Map makes the mapping of two versions; see Fits. Columns that from has not, or has of a type that cannot become that of to, are NULL.
func Map(from, to *Schema) *Mapping {
	m := &Mapping{}
	old := make(map[string]int, len(from.Fields))
	for i, f := range from.Fields {
		old[f.Key] = i
	}
	for i := range builtins {
		if i == builtinsBefore {
			for _, t := range to.Fields {
				a := adapter{to: t.Type.arrow(), source: -1}
				if j, known := old[t.Key]; known {
					a = newAdapter(from.Fields[j].Type, t.Type)
					a.source = builtinsBefore + j
				}
				if a.how == absent {
					a.source = -1
				}
				m.columns = append(m.columns, a)
			}
		}
		source := i
		if i >= builtinsBefore {
			source += len(from.Fields)
		}
		m.columns = append(m.columns, adapter{how: same, from: builtins[i].arrow, to: builtins[i].arrow, source: source})
	}
	return m
}

// Source is the column of from that column c of to is made of, both by their places in Schema.Arrow; -1 when it is NULL in every row.
func (m *Mapping) Source(c int) int { return m.columns[c].source }

// Adapt makes column c of to out of its Source: a, which stays the caller's and may be nil when the Source is -1. The result has its own
// reference, is no slice, shares what it can, and takes memory from mem for the rest. An array of another type or length, or one that is a
// slice, is an error.
func (m *Mapping) Adapt(mem memory.Allocator, c int, a arrow.Array, rows int) (arrow.Array, error) {
	adapt := &m.columns[c]
	if adapt.source < 0 {
		return newArray(nulls(mem, adapt.to, rows)), nil
	}
	switch {
	case a == nil:
		return nil, fmt.Errorf("column %d needs column %d of the earlier schema", c, adapt.source)
	case a.Len() != rows || a.Data().Offset() != 0 || !arrow.TypeEqual(a.DataType(), adapt.from):
		return nil, fmt.Errorf("column %d needs %d whole rows of %s; there are %d of %s from %d on", c, rows, adapt.from, a.Len(), a.DataType(), a.Data().Offset())
	case adapt.how == same:
		a.Retain()
		return a, nil
	}
	return newArray(adapt.apply(mem, a.Data())), nil
}

// adapter makes data of one type out of data of another.
type adapter struct {
	how      change
	from, to arrow.DataType
	source   int       // the place of what it is made of among its neighbours; -1 for none
	children []adapter // of a STRUCT its fields, of a LIST its elements
}

type change uint8

const (
	absent change = iota // NULL
	same
	widen // BIGINT to DOUBLE
	inner // STRUCT or LIST, whose children change
)

func newAdapter(from, to Type) adapter {
	a := adapter{from: from.arrow(), to: to.arrow()}
	switch {
	case arrow.TypeEqual(a.from, a.to):
		a.how = same
	case from.Kind == BigInt && to.Kind == Double:
		a.how = widen
	case from.Kind == List && to.Kind == List:
		a.how, a.children = inner, []adapter{newAdapter(*from.Elem, *to.Elem)}
	case from.Kind == Struct && to.Kind == Struct:
		a.how = inner
		old := make(map[string]int, len(from.Fields))
		for i, f := range from.Fields {
			old[f.Key] = i
		}
		for _, t := range to.Fields {
			child := adapter{to: t.Type.arrow(), source: -1}
			if i, known := old[t.Key]; known {
				child = newAdapter(from.Fields[i].Type, t.Type)
				child.source = i
			}
			a.children = append(a.children, child)
		}
	}
	return a
}

func (a *adapter) apply(mem memory.Allocator, data arrow.ArrayData) arrow.ArrayData {
	switch a.how {
	case same:
		data.Retain()
		return data
	case widen:
		buffers := kept(data.Buffers()[:1])
		values := newBuffer(mem, 8*data.Len())
		if values != nil {
			doubles := arrow.Float64Traits.CastFromBytes(values.Bytes())
			for i, v := range arrow.Int64Traits.CastFromBytes(data.Buffers()[1].Bytes())[:data.Len()] {
				doubles[i] = float64(v)
			}
		}
		return newData(a.to, data.Len(), append(buffers, values), nil, data.NullN())
	case inner:
		children := make([]arrow.ArrayData, len(a.children))
		for i := range a.children {
			if child := &a.children[i]; child.source < 0 {
				children[i] = nulls(mem, child.to, data.Len())
			} else {
				children[i] = child.apply(mem, data.Children()[child.source])
			}
		}
		return newData(a.to, data.Len(), kept(data.Buffers()), children, data.NullN())
	default:
		return nulls(mem, a.to, data.Len())
	}
}

// kept takes references of buffers.
func kept(buffers []*memory.Buffer) []*memory.Buffer {
	out := make([]*memory.Buffer, 0, len(buffers)+1)
	for _, b := range buffers {
		if b != nil {
			b.Retain()
		}
		out = append(out, b)
	}
	return out
}

// nulls is n NULLs.
func nulls(mem memory.Allocator, t arrow.DataType, n int) arrow.ArrayData {
	buffers := []*memory.Buffer{newBuffer(mem, (n+7)/8)}
	var children []arrow.ArrayData
	switch t := t.(type) {
	case *arrow.StructType:
		for _, f := range t.Fields() {
			children = append(children, nulls(mem, f.Type, n))
		}
	case *arrow.ListType:
		buffers = append(buffers, newBuffer(mem, 4*(n+1)))
		children = append(children, nulls(mem, t.Elem(), 0))
	case arrow.FixedWidthDataType:
		buffers = append(buffers, newBuffer(mem, (n*t.BitWidth()+7)/8))
	default:
		buffers = append(buffers, newBuffer(mem, 4*(n+1)), nil)
	}
	return newData(t, n, buffers, children, n)
}
