package column

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"pgregory.net/rapid"
)

// readAs makes every column of a chunk as another schema has it.
func readAs(t rapid.TB, mem memory.Allocator, c *Chunk, to *Schema) []arrow.Array {
	t.Helper()
	m := Map(c.Schema(), to)
	out := make([]arrow.Array, to.Arrow().NumFields())
	for i := range out {
		var source arrow.Array
		if j := m.Source(i); j >= 0 {
			source = c.Columns()[j]
		}
		a, err := m.Adapt(mem, i, source, c.Rows())
		if err != nil {
			t.Fatal(err)
		}
		out[i] = a
	}
	return out
}

// fitsAndHolds checks one chunk against two schemas: when it fits, reading it as the later one is decoding it anew.
func fitsAndHolds(t rapid.TB, mem memory.Allocator, raw *Raw, from, to *Schema) bool {
	t.Helper()
	old, _ := Shred(mem, raw, from)
	defer old.Release()
	if !Fits(from, to, old.Deferred()) {
		return false
	}
	anew, _ := Shred(mem, raw, to)
	defer anew.Release()
	for i, a := range readAs(t, mem, old, to) {
		b := anew.Columns()[i]
		wellFormed(t, a.Data())
		if !arrow.TypeEqual(a.DataType(), b.DataType()) || a.Len() != b.Len() {
			t.Fatalf("column %d is %d of %s through the mapping, %d of %s anew", i, a.Len(), a.DataType(), b.Len(), b.DataType())
		}
		for row := range a.Len() {
			if x, y := valueAt(t, a, row), valueAt(t, b, row); !same2(x, y) {
				t.Fatalf("column %s, row %d of %q: %#v through the mapping from (%s), %#v anew under (%s)",
					to.Arrow().Field(i).Name, row, raw.texts, x, typesOf(from.Fields), y, typesOf(to.Fields))
			}
		}
		a.Release()
	}
	if !slices.Equal(old.Misfits(), anew.Misfits()) {
		t.Fatalf("misfits %+v through the mapping, %+v anew", old.Misfits(), anew.Misfits())
	}
	return true
}

// A value depends on the row's bytes and the schema's version, never on when it was decoded.
func TestMappingIsDecodingAnew(t *testing.T) {
	fitted, changed := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		values := drawDocuments(t, "values")
		from := Empty
		if rapid.IntRange(0, 3).Draw(t, "overridden") == 0 {
			from = from.Override(drawOverrides(t))
		}
		// Mostly the values are known already, or nothing of a chunk would ever fit.
		if rapid.IntRange(0, 5).Draw(t, "known") > 0 {
			from = follow(t, mem, from, 0, values)
		}
		to := from
		for range rapid.IntRange(1, 2).Draw(t, "changes") {
			if rapid.IntRange(0, 9).Draw(t, "override") == 0 {
				to = to.Override(drawOverrides(t))
			}
			to = follow(t, mem, to, 100, drawDocuments(t, "later"))
		}
		raw := rawOf(mem, 0, values...)
		if fitsAndHolds(t, mem, raw, from, to) {
			if fitted++; to != from {
				changed++
			}
		}
		raw.Release()
		if mem.CurrentAlloc() != 0 {
			t.Fatalf("%d bytes are not released", mem.CurrentAlloc())
		}
	})
	if changed == 0 || fitted == changed {
		t.Fatalf("%d chunks fitted, %d of them a schema that had changed: the test shows nothing", fitted, changed)
	}
}

// What Fits says of the ways in which a schema changes.
func TestFits(t *testing.T) {
	schema := func(base *Schema, texts ...string) *Schema {
		return follow(t, memory.NewGoAllocator(), base, 0, documents(texts...))
	}
	base := schema(Empty, `{"a":1,"s":{"x":1},"l":[{"y":2}]}`)
	double := map[string]Type{"a": {Kind: Double}}
	for name, c := range map[string]struct {
		to             *Schema
		fits, deferred bool // whether it fits when it is deferred and when not
	}{
		"the same":                     {base, true, true},
		"a new column":                 {schema(base, `{"b":1}`), true, false},
		"a new field":                  {schema(base, `{"s":{"z":1}}`), true, false},
		"a new field in a list":        {schema(base, `{"l":[{"z":1}]}`), true, false},
		"a wider column":               {schema(base, `{"a":1.5}`), true, false},
		"a wider field in a list":      {schema(base, `{"l":[{"y":1.5}]}`), true, false},
		"a type by a setting":          {base.Override(double), false, false},
		"a column by a setting":        {base.Override(map[string]Type{"b": {Kind: Double}}), false, false},
		"a setting that came and went": {base.Override(double).Override(nil), true, false},
		"an earlier version":           {Empty, false, false},
	} {
		if Fits(base, c.to, false) != c.fits || Fits(base, c.to, true) != c.deferred {
			t.Errorf("%s: fits is %t, deferred %t", name, Fits(base, c.to, false), Fits(base, c.to, true))
		}
	}
	if Fits(base.Override(double), base.Override(double).Override(nil), false) {
		t.Error("a column that no setting chooses any more reads as before")
	}
}

// Adapt refuses what is not the column that it was made for, rather than reading it wrong.
func TestAdaptRefuses(t *testing.T) {
	mem := memory.NewGoAllocator()
	from := follow(t, mem, Empty, 0, documents(`{"a":1}`))
	m := Map(from, follow(t, mem, from, 1, documents(`{"a":1.5}`)))
	raw := rawOf(mem, 0, documents(`{"a":1}`, `{"a":2}`)...)
	c, _ := Shred(mem, raw, from)
	a := c.Columns()[builtinsBefore]
	for name, bad := range map[string]func() error{
		"nothing":      func() error { _, err := m.Adapt(mem, builtinsBefore, nil, 2); return err },
		"other length": func() error { _, err := m.Adapt(mem, builtinsBefore, a, 3); return err },
		"other type":   func() error { _, err := m.Adapt(mem, builtinsBefore, c.Columns()[0], 2); return err },
	} {
		if bad() == nil {
			t.Errorf("%s is adapted", name)
		}
	}
}

// Where decoding anew gives more than the mapping could, Fits says so.
func TestDoesNotFit(t *testing.T) {
	mem := memory.NewGoAllocator()
	full := follow(t, mem, Empty, 0, documents(`{"o":{"x":1}}`))
	for {
		var parts []string
		for i := range MaxFields - full.named {
			parts = append(parts, fmt.Sprintf(`"f%d":1`, i))
		}
		if len(parts) == 0 {
			break
		}
		full = follow(t, mem, full, 0, documents("{"+strings.Join(parts, ",")+"}"))
	}
	crowded := withoutStruct(full)
	later := newSchema(crowded.Version+1, append(slices.Clone(crowded.Fields), Field{Key: "late", Name: "late", Type: Type{Kind: List, Elem: &Type{Kind: BigInt}}}))
	base := follow(t, mem, Empty, 0, documents(`{"a":1,"l":[1]}`))
	wide := follow(t, mem, base, 0, documents(`{"a":1.5,"l":[1.5]}`))
	for name, c := range map[string]struct {
		value    string
		from, to *Schema
	}{
		"an integer that is no BIGINT, and one day a DOUBLE": {`{"a":9223372036854775808}`, base, wide},
		"the same in a list":                  {`{"l":[9223372036854775808]}`, base, wide},
		"a column that there was no room for": {`{"late":[1]}`, crowded, later},
		"an empty list":                       {`{"t":[]}`, base, follow(t, mem, base, 0, documents(`{"t":[1]}`))},
	} {
		raw := rawOf(mem, 0, []byte(c.value))
		if fitsAndHolds(t, mem, raw, c.from, c.to) {
			t.Errorf("%s: fits", name)
		}
		raw.Release()
	}
}

// withoutStruct is a full schema whose first column is the JSON that a setting made of it once: as full as it was.
func withoutStruct(s *Schema) *Schema {
	fields := slices.Clone(s.Fields)
	fields[0].Type = Type{Kind: JSON}
	fields = append(fields, Field{Key: "g", Name: "g", Type: Type{Kind: BigInt}})
	return newSchema(s.Version, fields)
}
