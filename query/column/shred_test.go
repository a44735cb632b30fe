package column

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"pgregory.net/rapid"

	"github.com/tidemark-io/tidemark/record"
)

// rawOf gathers values as the records of partition 3 from an offset on; nil is a tombstone.
func rawOf(mem memory.Allocator, first int64, values ...[]byte) *Raw {
	rows := NewRows(mem, 3)
	for i, v := range values {
		rows.Append(record.Record{Offset: first + int64(i), Timestamp: 1, Value: v})
	}
	return rows.Take()
}

func documents(texts ...string) [][]byte {
	out := make([][]byte, len(texts))
	for i, s := range texts {
		out[i] = []byte(s)
	}
	return out
}

// typesOf writes columns as DESCRIBE would.
func typesOf(fields []Field) string {
	parts := make([]string, len(fields))
	for i, f := range fields {
		parts[i] = quote(f.Name) + " " + f.Type.String()
	}
	return strings.Join(parts, ", ")
}

// wellFormed checks what every array promises: it is whole, and has bits for NULLs only when it has NULLs.
func wellFormed(t rapid.TB, d arrow.ArrayData) {
	t.Helper()
	if d.Offset() != 0 {
		t.Fatalf("a %s array begins at %d", d.DataType(), d.Offset())
	}
	if has := d.Buffers()[0] != nil; has != (d.NullN() > 0) {
		t.Fatalf("a %s array has %d NULLs and bits for them: %t", d.DataType(), d.NullN(), has)
	}
	for _, c := range d.Children() {
		wellFormed(t, c)
		if d.DataType().ID() == arrow.STRUCT && c.Len() != d.Len() {
			t.Fatalf("a STRUCT of %d rows has a field of %d", d.Len(), c.Len())
		}
	}
}

// agrees compares a chunk with what the twin makes of the same values under the same schema.
func agrees(t rapid.TB, c *Chunk, values [][]byte) {
	t.Helper()
	misfits := make(map[int]Misfit)
	for row, v := range values {
		doc := parse(v)
		for i, f := range c.Schema().Fields {
			var want any
			if doc != nil {
				bad := false
				want = twinValue(f.Type, f.Overridden, doc.members[f.Key], &bad)
				if bad {
					m, found := misfits[i]
					if !found {
						m = Misfit{Column: i, First: c.First() + int64(row)}
					}
					m.Rows++
					misfits[i] = m
				}
			}
			if got := valueAt(t, c.Columns()[builtinsBefore+i], row); !same2(got, want) {
				t.Fatalf("row %d, column %s %s of %q: got %#v, the twin has %#v", row, f.Name, f.Type, v, got, want)
			}
		}
	}
	for _, m := range c.Misfits() {
		if misfits[m.Column] != m {
			t.Fatalf("misfits of column %d: got %+v, the twin has %+v", m.Column, m, misfits[m.Column])
		}
		delete(misfits, m.Column)
	}
	if len(misfits) > 0 {
		t.Fatalf("the twin has other misfits: %+v", misfits)
	}
	for i, a := range c.Columns() {
		wellFormed(t, a.Data())
		if !arrow.TypeEqual(a.DataType(), c.Schema().Arrow().Field(i).Type) || a.Len() != len(values) {
			t.Fatalf("column %d is %d of %s", i, a.Len(), a.DataType())
		}
	}
}

// twinFields is what the twin makes of a schema by some values.
func twinFields(s *Schema, values [][]byte) Type {
	t := Type{Kind: Struct, Fields: s.Fields}.clone()
	for _, v := range values {
		if doc := parse(v); doc != nil {
			twinGrow(&t, doc, 0)
		}
	}
	return t
}

// sameTypes compares types without names.
func sameTypes(a, b Type) bool {
	if a.Kind != b.Kind || len(a.Fields) != len(b.Fields) {
		return false
	}
	if a.Kind == List {
		return sameTypes(*a.Elem, *b.Elem)
	}
	return slices.EqualFunc(a.Fields, b.Fields, func(f, g Field) bool { return f.Key == g.Key && sameTypes(f.Type, g.Type) })
}

// follow shreds values, extends the schema by what they show, and shreds again, comparing with the twin at each step.
func follow(t rapid.TB, mem memory.Allocator, s *Schema, first int64, values [][]byte) *Schema {
	t.Helper()
	raw := rawOf(mem, first, values...)
	defer raw.Release()
	c, d := Shred(mem, raw, s)
	agrees(t, c, values)
	deferred := c.Deferred()
	c.Release()
	next := s.Extend(d)
	want := twinFields(s, values)
	if got := (Type{Kind: Struct, Fields: next.Fields}); !sameTypes(got, want) {
		t.Fatalf("of %q under (%s) came (%s), the twin has %s", values, typesOf(s.Fields), typesOf(next.Fields), want)
	}
	if changed := next != s; changed && !deferred || changed == d.Empty() || next.Version != s.Version+map[bool]int64{true: 1}[changed] {
		t.Fatalf("changed is %t, the discovery empty: %t, the chunk deferred: %t, version %d after %d", changed, d.Empty(), deferred, next.Version, s.Version)
	}
	c, d = Shred(mem, raw, next)
	defer c.Release()
	agrees(t, c, values)
	if !d.Empty() {
		t.Fatalf("%q under their own schema (%s) show more: %s", values, typesOf(next.Fields), typesOf(next.Extend(d).Fields))
	}
	return next
}

var (
	someKeys    = []string{`"a"`, `"A"`, `"b"`, `"c"`, `"a_1"`, `"_value"`, `"\u0061"`, `"d e"`, `""`, `"\u0000"`, `"\ud800"`, `"straße"`}
	someNumbers = []string{
		"0", "-0", "1", "-17", "1.5", "-0.0", "1e3", "2E-2", "9223372036854775807", "-9223372036854775808", "9223372036854775808",
		"-9223372036854775809", "18446744073709551616", "1e400", "-1e400", "123456789012345678901234567890", "0.1", "9007199254740993",
	}
	someStrings = []string{`""`, `"x"`, `"\n\t\"\\\/"`, `"\u00e9"`, `"\ud83d\ude00"`, `"\ud800x"`, `"\ude00\ud83d"`, `"a\u0000b"`, `"ü – 日本"`, `"0123456789abcdef0123456789"`}
)

// drawDocument gives documents of drifting shapes. Most are JSON.
func drawDocument(t *rapid.T) []byte {
	var value func(depth int) string
	space := func() string { return rapid.SampledFrom([]string{"", "", "", "", " ", "\n\t\r "}).Draw(t, "space") }
	value = func(depth int) string {
		kinds := 9
		if depth == 0 {
			kinds = 5
		}
		switch rapid.IntRange(0, kinds).Draw(t, "kind") {
		case 0:
			return rapid.SampledFrom([]string{"null", "true", "false"}).Draw(t, "literal")
		case 1:
			return rapid.SampledFrom(someStrings).Draw(t, "string")
		case 2, 3, 4:
			return rapid.SampledFrom(someNumbers[:rapid.SampledFrom([]int{3, 6, len(someNumbers)}).Draw(t, "numbers")]).Draw(t, "number")
		case 5:
			return rapid.SampledFrom([]string{"[]", "{}", "null"}).Draw(t, "empty")
		case 6, 7:
			parts := make([]string, rapid.IntRange(0, 4).Draw(t, "elements"))
			for i := range parts {
				parts[i] = space() + value(depth-1) + space()
			}
			return "[" + strings.Join(parts, ",") + "]"
		default:
			parts := make([]string, rapid.IntRange(0, 4).Draw(t, "members"))
			for i := range parts {
				parts[i] = space() + rapid.SampledFrom(someKeys).Draw(t, "key") + space() + ":" + space() + value(depth-1) + space()
			}
			return "{" + strings.Join(parts, ",") + "}"
		}
	}
	parts := make([]string, rapid.IntRange(0, 5).Draw(t, "columns"))
	for i := range parts {
		parts[i] = rapid.SampledFrom(someKeys).Draw(t, "key") + ":" + value(4)
	}
	doc := []byte(space() + "{" + strings.Join(parts, ",") + "}" + space())
	if rapid.IntRange(0, 14).Draw(t, "damage") == 0 {
		doc[rapid.IntRange(0, len(doc)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
	}
	return doc
}

func drawDocuments(t *rapid.T, name string) [][]byte {
	return rapid.SliceOfN(rapid.Custom(drawDocument), 1, 6).Draw(t, name)
}

// Whatever comes in whatever order, the columns hold what a walk over the trees of encoding/json finds.
func TestShredAgreesWithTheTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		s := Empty
		if rapid.Bool().Draw(t, "overridden") {
			s = s.Override(drawOverrides(t))
		}
		for i := range rapid.IntRange(1, 3).Draw(t, "chunks") {
			s = follow(t, mem, s, int64(i)*1000, drawDocuments(t, fmt.Sprint("chunk ", i)))
		}
		if mem.CurrentAlloc() != 0 {
			t.Fatalf("%d bytes are not released", mem.CurrentAlloc())
		}
	})
}

func drawOverrides(t *rapid.T) map[string]Type {
	kind := rapid.SampledFrom([]Kind{Boolean, BigInt, Double, Varchar, JSON})
	return rapid.MapOfN(rapid.SampledFrom([]string{"a", "A", "b", "z"}), rapid.Custom(func(t *rapid.T) Type { return Type{Kind: kind.Draw(t, "type")} }), 0, 2).Draw(t, "overrides")
}
