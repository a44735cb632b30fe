package column

import (
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// Limits of how much more entries the lists of a row may have in Arrow than its document has bytes. A LIST of STRUCTs has an entry for every
// field of every element, also of those that an element does not have: a document of a megabyte could take gigabytes.
const (
	minCells     = 16 << 10
	cellsPerByte = 4
)

// chunkCells is how many entries the lists of a chunk may have in Arrow: with the row that exceeds it, a chunk ends.
const chunkCells = 1 << 20

// maxCells is how many entries the lists of a row may have.
func maxCells(document int) int { return max(minCells, cellsPerByte*document) }

// Misfit counts the rows of a chunk that hold a value of another type than a column has.
type Misfit struct {
	Column int   // place in Schema.Fields
	Rows   int64 // 1 or more; a row counts once
	First  int64 // offset of the first of them
}

// Shred decodes the values of some records under a schema, with memory from mem. What they showed that the schema lacks is the discovery, nil when
// there is nothing: then the caller extends the schema, agrees on it with the others, and shreds again under what was agreed. The chunk is right
// under s either way, and is the caller's to release.
//
// The chunk has the first rows of raw, which are all of them unless their lists have more than 1,048,576 entries: the caller goes on with
// Raw.Rest behind the rows that the chunk has. What a row shows does not depend on where chunks end.
func Shred(mem memory.Allocator, raw *Raw, s *Schema) (*Chunk, *Discovery) {
	d, ok := s.pool.Get().(*shredder)
	if !ok {
		d = newShredder(s)
	}
	rows := 0
	for ; rows < raw.Rows() && d.chunk.cells <= chunkCells; rows++ {
		if raw.texts.IsValid(rows) {
			d.row(rows, raw.values.Value(rows), raw.partition, raw.offsets.Value(rows))
		}
	}
	deferred, found, elements, misfits := d.deferred, d.found, d.chunk.elements, d.takeMisfits()
	d.deferred, d.found, d.chunk = false, nil, listed{}
	d.begin(nil) // lets go of the last document
	typed := make([]arrow.Array, len(s.Fields))
	for i, b := range d.root.fields {
		typed[i] = newArray(b.finish(mem, rows))
	}
	s.pool.Put(d) // not after a panic
	if rows < raw.Rows() {
		raw = raw.part(mem, 0, rows)
		defer raw.Release()
	}
	c := newChunk(s, raw, typed)
	c.deferred, c.elements, c.misfits = deferred, elements, misfits
	if found == nil || !found.changed {
		return c, nil
	}
	return c, &Discovery{shape: found.shape}
}

// shredder decodes documents under one schema. It is used again for chunk after chunk.
type shredder struct {
	jsonReader

	schema *Schema
	root   *builder // its fields are the columns; it is no column itself
	limit  int      // of cells in this row
	grows  bool     // the schema may get new fields

	// Of the row at hand.
	listed
	misfit    bool // in the column at hand
	misfits   []int
	unknown   bool // something that has no type yet defines one, or a fraction came where a BIGINT widens
	undefined bool // something has no type yet that may get one

	// Of the chunk.
	counts   []Misfit // by column; Rows is 0 where there was none
	chunk    listed
	deferred bool
	found    *discoverer
}

// listed is what lists have.
type listed struct {
	cells    int // entries in Arrow
	elements int // of lists of STRUCTs
}

func newShredder(s *Schema) *shredder {
	d := &shredder{schema: s, root: newBuilder(Type{Kind: Struct, Fields: s.Fields}), grows: !s.full()}
	d.counts = make([]Misfit, len(s.Fields))
	return d
}

// row decodes one document. Rows that are not decoded are NULL in every column.
func (d *shredder) row(row int, document []byte, partition int32, offset int64) {
	d.begin(document)
	d.listed, d.limit = listed{}, maxCells(len(document))
	d.misfit, d.misfits, d.unknown, d.undefined = false, d.misfits[:0], false, false
	d.root.n = row
	if token, ok := d.next(); !ok || token[0] != '{' || !d.object(d.root) || !d.done() {
		d.root.truncate(row)
		return
	}
	d.chunk.cells += d.cells
	d.chunk.elements += d.elements
	for _, c := range d.misfits {
		if d.counts[c].Rows == 0 {
			d.counts[c] = Misfit{Column: c, First: offset}
		}
		d.counts[c].Rows++
	}
	// An element of a list may get as many entries as there may be fields.
	d.deferred = d.deferred || d.unknown || d.undefined || d.grows && d.elements*(MaxFields+MaxOverrides+1) > d.limit
	if d.unknown {
		if d.found == nil {
			d.found = newDiscoverer(d.schema)
		}
		d.found.document(document, partition, offset)
	}
}

func (d *shredder) takeMisfits() []Misfit {
	var out []Misfit
	for i, m := range d.counts {
		if m.Rows > 0 {
			out = append(out, m)
			d.counts[i] = Misfit{}
		}
	}
	return out
}

// object reads an object, whose opening bracket was read, into the fields of b. It adds no row to b itself.
func (d *shredder) object(b *builder) bool {
	last := -1
	for {
		name, ok := d.next()
		if !ok || name[0] == '}' {
			return ok
		}
		key := d.unquote(name)
		i := b.find(key, last)
		token, ok := d.next()
		switch {
		case !ok:
		case i < 0:
			ok = d.stranger(key, token)
		case b.fields[i].n > b.n: // a duplicate: the first one wins
			_, _, ok = d.skip(token)
			last = i
		default:
			f := b.fields[i]
			f.pad(b.n)
			ok = d.value(f, token)
			if b == d.root && d.misfit {
				d.misfits, d.misfit = append(d.misfits, i), false
			}
			last = i
		}
		if !ok {
			return false
		}
	}
}

// stranger skips a value that the schema has no field for. It is not too deep to get one: its neighbours have theirs.
func (d *shredder) stranger(key, token []byte) bool {
	_, scalar, ok := d.skip(token)
	if d.grows && token[0] != 'n' && usable(key) {
		d.undefined = true
		d.unknown = d.unknown || scalar
	}
	return ok
}

// value reads a value, whose first token was read, into b.
func (d *shredder) value(b *builder, token []byte) bool {
	kind := kindOf(token)
	switch {
	case kind == 'n':
		b.null()
	case b.kind == JSON || b.text && kind != '"':
		value, _, ok := d.skip(token)
		b.addText(value)
		return ok
	case kind == '"' && b.kind == Varchar:
		b.addString(token)
	case kind == '0' && (b.kind == BigInt || b.kind == Double):
		d.number(b, numberOf(token))
	case (kind == 't' || kind == 'f') && b.kind == Boolean:
		b.addBool(kind == 't')
	case kind == '{' && b.kind == Struct:
		if !d.object(b) {
			return false
		}
		b.n++
	case kind == '[' && b.kind == List:
		return d.list(b)
	default:
		d.misfit = true
		b.null()
		_, _, ok := d.skip(token)
		return ok
	}
	return true
}

// number adds a number to a BIGINT or a DOUBLE.
func (d *shredder) number(b *builder, n number) {
	if b.kind == BigInt && n.exact {
		b.addInt(n.i)
		return
	}
	f, finite := n.float()
	switch {
	case !finite:
	case b.kind == Double:
		b.addFloat(f)
		return
	case b.fixed:
	case n.integer: // the column is a DOUBLE one day, maybe, and then this is no misfit
		d.undefined = true
	default:
		d.unknown = true
	}
	d.misfit = true
	b.null()
}

// list reads an array, whose opening bracket was read, into b.
func (d *shredder) list(b *builder) bool {
	for {
		token, ok := d.next()
		if !ok {
			return false
		}
		if token[0] == ']' {
			b.addList()
			return true
		}
		if d.cells += b.cells; d.cells > d.limit {
			return false
		}
		if b.elem.kind == Struct {
			d.elements++
		}
		if !d.value(b.elem, token) {
			return false
		}
	}
}
