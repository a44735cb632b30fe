package column

import (
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// builder gathers the values of one column, one STRUCT field or one LIST element. It gathers in Go's memory, which it uses again for the next
// chunk, and finish copies that into buffers that are as large as they must be.
//
// A field that a row does not have costs nothing: it lags behind, and pad makes up for it when a later row has it. So for the fields f of a
// STRUCT s, f.n <= s.n between two values; while a value of s is read, f.n == s.n+1 says that it had the field already.
type builder struct {
	kind  Kind
	arrow arrow.DataType
	text  bool // VARCHAR by a setting: takes values of any kind as their text
	fixed bool // the type was chosen by a setting

	n      int
	nulls  []int32 // rows that are NULL, in order
	bools  []byte
	ints   []int64
	floats []float64
	data   []byte  // of texts
	ends   []int32 // where texts end in data, or lists in elem

	fields []*builder
	keys   []string
	index  map[string]int
	next   []int32 // next[i+1] is the field that followed field i the last time; next[0] the one that came first

	elem  *builder
	cells int // of a LIST: how many entries one more element adds
}

func newBuilder(t Type) *builder {
	b := &builder{kind: t.Kind, arrow: t.arrow()}
	switch t.Kind {
	case Struct:
		b.addFields(t.Fields)
	case List:
		b.elem = newBuilder(*t.Elem)
		b.cells = b.elem.size()
	default:
	}
	return b
}

func (b *builder) addFields(fields []Field) {
	b.index = make(map[string]int, len(fields))
	b.next = make([]int32, len(fields)+1)
	for i, f := range fields {
		child := newBuilder(f.Type)
		child.fixed = f.Overridden
		child.text = f.Overridden && f.Type.Kind == Varchar
		b.fields = append(b.fields, child)
		b.keys = append(b.keys, f.Key)
		b.index[f.Key] = i
		b.next[i] = int32(i)
	}
}

// size is how many entries a value has, not counting what is in lists.
func (b *builder) size() int {
	n := 1
	for _, f := range b.fields {
		n += f.size()
	}
	return n
}

// find returns the place of the field that a key names, -1 when there is none. After is the field before it in the document, -1 for the first.
// Most documents have their fields in the order of the last one, so the guess is mostly right.
func (b *builder) find(key []byte, after int) int {
	if guess := int(b.next[after+1]); guess < len(b.keys) && b.keys[guess] == string(key) {
		return guess
	}
	i, found := b.index[string(key)]
	if !found {
		return -1
	}
	b.next[after+1] = int32(i)
	return i
}

func (b *builder) null() {
	b.nulls = append(b.nulls, int32(b.n))
	switch b.kind {
	case Boolean:
		b.bools = append(b.bools, 0)
	case BigInt:
		b.ints = append(b.ints, 0)
	case Double:
		b.floats = append(b.floats, 0)
	case Varchar, JSON:
		b.ends = append(b.ends, int32(len(b.data)))
	case List:
		b.ends = append(b.ends, int32(b.elem.n))
	default:
	}
	b.n++
}

// pad adds NULLs until there are n rows.
func (b *builder) pad(n int) {
	for b.n < n {
		b.null()
	}
}

func (b *builder) addBool(v bool) {
	var c byte
	if v {
		c = 1
	}
	b.bools = append(b.bools, c)
	b.n++
}

func (b *builder) addInt(v int64) {
	b.ints = append(b.ints, v)
	b.n++
}

func (b *builder) addFloat(v float64) {
	b.floats = append(b.floats, v)
	b.n++
}

func (b *builder) addText(p []byte) {
	b.data = append(b.data, p...)
	b.ends = append(b.ends, int32(len(b.data)))
	b.n++
}

// addString adds the text of a string as it stands in a document.
func (b *builder) addString(token []byte) {
	b.data = appendText(b.data, token)
	b.ends = append(b.ends, int32(len(b.data)))
	b.n++
}

// addList adds the elements that were added to elem since the last list.
func (b *builder) addList() {
	b.ends = append(b.ends, int32(b.elem.n))
	b.n++
}

// truncate takes back what is behind the first n rows.
func (b *builder) truncate(n int) {
	for _, f := range b.fields {
		f.truncate(n)
	}
	if b.n > n {
		b.n = n
		for len(b.nulls) > 0 && int(b.nulls[len(b.nulls)-1]) >= n {
			b.nulls = b.nulls[:len(b.nulls)-1]
		}
		b.bools = b.bools[:min(n, len(b.bools))]
		b.ints = b.ints[:min(n, len(b.ints))]
		b.floats = b.floats[:min(n, len(b.floats))]
		b.ends = b.ends[:min(n, len(b.ends))]
		if b.elem == nil {
			b.data = b.data[:min(b.end(), len(b.data))]
		}
	}
	if b.elem != nil {
		b.elem.truncate(b.end())
	}
}

// end is where the last text or list ends.
func (b *builder) end() int {
	if len(b.ends) == 0 {
		return 0
	}
	return int(b.ends[len(b.ends)-1])
}

// finish copies what was gathered, n rows of it. The builder is empty again afterwards.
func (b *builder) finish(mem memory.Allocator, n int) arrow.ArrayData {
	b.pad(n)
	buffers := []*memory.Buffer{validity(mem, n, b.nulls), nil}
	var children []arrow.ArrayData
	switch b.kind {
	case Boolean:
		buffers[1] = bitmap(mem, b.bools)
	case BigInt:
		buffers[1] = copied(mem, arrow.Int64Traits.CastToBytes(b.ints))
	case Double:
		buffers[1] = copied(mem, arrow.Float64Traits.CastToBytes(b.floats))
	case Varchar, JSON:
		buffers[1] = offsets(mem, b.ends)
		buffers = append(buffers, copied(mem, b.data))
	case List:
		buffers[1] = offsets(mem, b.ends)
		children = append(children, b.elem.finish(mem, b.elem.n))
	default:
		buffers = buffers[:1]
		for _, f := range b.fields {
			children = append(children, f.finish(mem, n))
		}
	}
	out := newData(b.arrow, n, buffers, children, len(b.nulls))
	b.n, b.nulls, b.bools, b.ints, b.floats, b.data, b.ends = 0, b.nulls[:0], b.bools[:0], b.ints[:0], b.floats[:0], b.data[:0], b.ends[:0]
	return out
}

// newData makes an array's data out of parts whose references it takes over.
func newData(t arrow.DataType, n int, buffers []*memory.Buffer, children []arrow.ArrayData, nulls int) arrow.ArrayData {
	data := array.NewData(t, n, buffers, children, nulls, 0)
	for _, b := range buffers {
		if b != nil {
			b.Release()
		}
	}
	for _, c := range children {
		c.Release()
	}
	return data
}

// newArray makes an array out of data whose reference it takes over.
func newArray(data arrow.ArrayData) arrow.Array {
	defer data.Release()
	return array.MakeFromData(data)
}

// newBuffer takes memory, all of it zero; nil for none.
func newBuffer(mem memory.Allocator, size int) *memory.Buffer {
	if size == 0 {
		return nil
	}
	b := memory.NewResizableBuffer(mem)
	b.Resize(size)
	clear(b.Buf())
	return b
}

func copied(mem memory.Allocator, p []byte) *memory.Buffer {
	b := newBuffer(mem, len(p))
	if b != nil {
		copy(b.Bytes(), p)
	}
	return b
}

// offsets is a buffer of where things end, with the 0 before them where the first begins.
func offsets(mem memory.Allocator, ends []int32) *memory.Buffer {
	b := newBuffer(mem, 4*(len(ends)+1))
	copy(b.Bytes()[4:], arrow.Int32Traits.CastToBytes(ends))
	return b
}

// bitmap packs bytes that are 0 or 1.
func bitmap(mem memory.Allocator, bools []byte) *memory.Buffer {
	b := newBuffer(mem, (len(bools)+7)/8)
	for i, v := range bools {
		b.Bytes()[i/8] |= v << (i % 8)
	}
	return b
}

// validity has a bit for each of n rows that is not NULL; nil when every one is.
func validity(mem memory.Allocator, n int, nulls []int32) *memory.Buffer {
	if len(nulls) == 0 {
		return nil
	}
	b := newBuffer(mem, (n+7)/8)
	bits := b.Bytes()
	for i := range bits {
		bits[i] = 0xff
	}
	if n%8 != 0 {
		bits[len(bits)-1] = 1<<(n%8) - 1
	}
	for _, i := range nulls {
		bits[i/8] &^= 1 << (i % 8)
	}
	return b
}
