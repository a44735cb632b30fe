package column

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"pgregory.net/rapid"
)

// What the values of a topic make of it, told as the columns after each of them.
func TestColumnsOfATopic(t *testing.T) {
	for _, story := range []struct{ value, columns string }{
		{`not json`, ``},
		{`{"a":1,"tags":[],"o":{},"n":null}`, `a BIGINT`},
		{`{"a":2.5,"tags":["x"]}`, `a DOUBLE, tags VARCHAR[]`},
		{`{"a":"x","o":{"k":{},"ü":true}}`, `a DOUBLE, tags VARCHAR[], o STRUCT("ü" BOOLEAN)`},
		{`{"A":1,"_value":1,"a_1":1,"o":{"b c":1,"_value":2,"B C":3}}`,
			`a DOUBLE, tags VARCHAR[], o STRUCT("ü" BOOLEAN, "b c" BIGINT, _value BIGINT, "B C_1" BIGINT), A_1 BIGINT, _value_1 BIGINT, a_1_1 BIGINT`},
		{`{"tags":[1,2]}`, `a DOUBLE, tags VARCHAR[], o STRUCT("ü" BOOLEAN, "b c" BIGINT, _value BIGINT, "B C_1" BIGINT), A_1 BIGINT, _value_1 BIGINT, a_1_1 BIGINT`},
	} {
		s := Empty
		for _, v := range []string{
			`not json`, `{"a":1,"tags":[],"o":{},"n":null}`, `{"a":2.5,"tags":["x"]}`, `{"a":"x","o":{"k":{},"ü":true}}`,
			`{"A":1,"_value":1,"a_1":1,"o":{"b c":1,"_value":2,"B C":3}}`, `{"tags":[1,2]}`,
		} {
			s = follow(t, memory.NewGoAllocator(), s, 7, documents(v))
			if v == story.value {
				break
			}
		}
		if got := typesOf(s.Fields); got != story.columns {
			t.Errorf("after %s:\n got %s\nwant %s", story.value, got, story.columns)
		}
	}
}

func TestTypesOfLists(t *testing.T) {
	for value, want := range map[string]string{
		`[1,2]`: "BIGINT[]", `[1,2.0]`: "DOUBLE[]", `[1,9223372036854775808]`: "DOUBLE[]", `[1,"x"]`: "VARCHAR[]", `[{"a":1},{"b":2}]`: "STRUCT(a BIGINT, b BIGINT)[]",
		`[{"a":1},{"a":"x"}]`: "STRUCT(a BIGINT)[]", `[{"a":1},{"a":1.5}]`: "STRUCT(a DOUBLE)[]", `[[1],[2.5]]`: "DOUBLE[][]", `[[1],["x"]]`: "VARCHAR[][]", `[null,true]`: "BOOLEAN[]",
	} {
		s := follow(t, memory.NewGoAllocator(), Empty, 0, documents(`{"l":`+value+`}`))
		if got := s.Fields[0].Type.String(); got != want {
			t.Errorf("%s: got %s, want %s", value, got, want)
		}
	}
	mixed := follow(t, memory.NewGoAllocator(), Empty, 0, documents(`{"l":[1,"x"]}`)).Fields[0].Type.Elem.Kind
	if mixed != JSON {
		t.Errorf("the elements of a mixed list are of kind %d, not JSON", mixed)
	}
}

func TestFirstSeen(t *testing.T) {
	s := follow(t, memory.NewGoAllocator(), Empty, 40, documents(`{}`, `{"a":1}`, `{"a":2,"o":{"x":1}}`))
	s = s.Override(map[string]Type{"z": {Kind: Double}})
	var got []string
	for _, f := range slices.Concat(s.Fields, s.Fields[1].Type.Fields) {
		got = append(got, fmt.Sprintf("%s %d/%d", f.Name, f.Partition, f.Offset))
	}
	if want := "a 3/41, o 3/42, z -1/-1, x 3/42"; strings.Join(got, ", ") != want {
		t.Errorf("got %s, want %s", strings.Join(got, ", "), want)
	}
}

func TestOverride(t *testing.T) {
	mem := memory.NewGoAllocator()
	types, err := Overrides(map[string]string{"a": "varchar", "n": "BigInt", "j": "JSON"})
	if err != nil {
		t.Fatal(err)
	}
	base := follow(t, mem, Empty, 0, documents(`{"a":{"x":1},"n":1.5}`))
	s := base.Override(types)
	if got, want := typesOf(s.Fields), "a VARCHAR, n BIGINT, j VARCHAR"; got != want || s.Version != base.Version+1 {
		t.Fatalf("got %s, version %d after %d; want %s", got, s.Version, base.Version, want)
	}
	if s.Override(types) != s || base.Override(nil) != base {
		t.Fatal("nothing changed, and it is another schema")
	}
	raw := rawOf(mem, 0, documents(`{"a":[ 1 ],"n":2.5,"j":"q"}`, `{"a":"text","n":3,"j":{"k" :1}}`, `{"a":null,"j":null}`)...)
	c, d := Shred(mem, raw, s)
	var got []any
	for i := range 3 {
		for row := range 3 {
			got = append(got, valueAt(t, c.Columns()[builtinsBefore+i], row))
		}
	}
	if want := []any{"[ 1 ]", "text", nil, nil, int64(3), nil, `"q"`, `{"k" :1}`, nil}; !same2(got, want) || !d.Empty() {
		t.Fatalf("got %v, want %v; a discovery: %t", got, want, !d.Empty())
	}
	// When the setting goes, the type stays, and the column follows its values again.
	s = follow(t, mem, s.Override(nil), 9, documents(`{"a":1,"n":2.5}`))
	if got, want := typesOf(s.Fields), "a VARCHAR, n DOUBLE, j VARCHAR"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	for key, name := range map[string]string{"": "DOUBLE", "x": "INT", "y": "STRUCT(a INT)", "n\x00": "JSON", "\xff": "JSON", strings.Repeat("k", 257): "JSON"} {
		if _, err := Overrides(map[string]string{key: name}); err == nil {
			t.Errorf("%q may be %q", key, name)
		}
	}
	many := make(map[string]Type)
	for i := range 300 {
		many[fmt.Sprint(i)] = Type{Kind: Double}
	}
	if s = Empty.Override(many).Override(nil).Override(map[string]Type{"more": {Kind: JSON}}); len(s.Fields) != MaxOverrides {
		t.Errorf("settings made %d columns", len(s.Fields))
	}
}

// Whoever extends by what others saw, in whatever order of winning, agrees with everybody on what was won.
func TestExtendByALoser(t *testing.T) {
	mem := memory.NewGoAllocator()
	discover := func(text string) *Discovery {
		raw := rawOf(mem, 0, []byte(text))
		defer raw.Release()
		c, d := Shred(mem, raw, Empty)
		c.Release()
		return d
	}
	first, second := discover(`{"a":1,"o":{"x":1}}`), discover(`{"b":1,"a":1.5,"o":{"y":1,"x":"s"}}`)
	s := Empty.Extend(first).Extend(second)
	if got, want := typesOf(s.Fields), "a DOUBLE, o STRUCT(x BIGINT, y BIGINT), b BIGINT"; got != want || s.Version != 2 {
		t.Fatalf("got %s, version %d; want %s", got, s.Version, want)
	}
	if s.Extend(first) != s || s.Extend(second) != s || s.Extend(nil) != s {
		t.Fatal("what is known already makes a new schema")
	}
	if !bytes.Equal(s.Encode(), Empty.Extend(first).Extend(second).Encode()) {
		t.Fatal("the same twice is not the same")
	}
}

func TestDescribe(t *testing.T) {
	s := follow(t, memory.NewGoAllocator(), Empty, 0, documents(`{"order":{"select":1,"a\"b":"x","plain_1":[true]}}`))
	columns := s.Columns()
	got := make([]string, len(columns))
	for i, c := range columns {
		got[i] = c.Name + " " + c.Type
		if s.Arrow().Field(i).Name != c.Name {
			t.Errorf("column %d is %s here and %s in Arrow", i, c.Name, s.Arrow().Field(i).Name)
		}
	}
	want := []string{
		"_partition INTEGER", "_offset BIGINT", "_timestamp TIMESTAMP WITH TIME ZONE", "_key VARCHAR", "_headers STRUCT(key VARCHAR, value BLOB)[]",
		"_value VARCHAR", `order STRUCT("select" BIGINT, "a""b" VARCHAR, plain_1 BOOLEAN[])`, "_key_bytes BLOB", "_value_bytes BLOB",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestEncode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mem := memory.NewGoAllocator()
		s := follow(t, mem, Empty.Override(drawOverrides(t)), 5, drawDocuments(t, "values"))
		back, err := Decode(s.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(back.Encode(), s.Encode()) || fmt.Sprint(back.Fields) != fmt.Sprint(s.Fields) && !sameTypes(Type{Kind: Struct, Fields: back.Fields}, Type{Kind: Struct, Fields: s.Fields}) {
			t.Fatalf("%v came back as %v", s.Fields, back.Fields)
		}
		if !back.Arrow().Equal(s.Arrow()) || back.Version != s.Version {
			t.Fatalf("%v came back as %v", s.Arrow(), back.Arrow())
		}
	})
}

// The value that docs/formats/etcd.md shows.
func TestEncodeExample(t *testing.T) {
	s := newSchema(2, []Field{
		{Key: "a", Name: "a", Type: Type{Kind: Double}, Partition: 3, Offset: 41},
		{Key: "A", Name: "A_1", Type: Type{Kind: List, Elem: &Type{Kind: Varchar}}, Partition: -1, Offset: -1},
	})
	want := "01 02 02 01 61 00 00 06 52 03 01 41 01 00 01 01 07 04"
	if got := fmt.Sprintf("% x", s.Encode()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestDecodeRefuses(t *testing.T) {
	field := func(key string, suffix, flags, partition byte, typ ...byte) string {
		return string([]byte{byte(len(key))}) + key + string([]byte{suffix, flags, partition, 2}) + string(typ)
	}
	for name, value := range map[string]string{
		"nothing": "", "a later format": "\x02\x01\x00", "cut": "\x01\x01\x01\x01", "more than it can hold": "\x01\x01\xff\x7f", "too long": "\x01\x01\x00" + strings.Repeat("\x00", maxSchemaBytes),
		"bytes behind": "\x01\x01\x00\x00", "version 0 with columns": "\x01\x00\x01" + field("a", 0, 0, 2, 1), "no key": "\x01\x01\x01" + field("", 0, 0, 2, 1) + " ",
		"a key twice": "\x01\x01\x02" + field("a", 0, 0, 2, 1) + field("a", 1, 0, 2, 1), "a name twice": "\x01\x01\x02" + field("a", 0, 0, 2, 1) + field("A", 0, 0, 2, 1),
		"a name of ours": "\x01\x01\x01" + field("_value", 0, 0, 2, 1), "an unknown flag": "\x01\x01\x01" + field("a", 0, 2, 2, 1), "an unknown type": "\x01\x01\x01" + field("a", 0, 0, 2, 8),
		"no type": "\x01\x01\x01" + field("a", 0, 0, 2, 0), "an overridden list": "\x01\x01\x01" + field("a", 0, 1, 2, 7, 1), "an empty struct": "\x01\x01\x01" + field("a", 0, 0, 2, 6, 0),
		"too deep": "\x01\x01\x01" + field("a", 0, 0, 2, append(bytes.Repeat([]byte{7}, 16), 1)...), "a NUL": "\x01\x01\x01" + field("a\x00", 0, 0, 2, 1), "no UTF-8": "\x01\x01\x01" + field("\xff", 0, 0, 2, 1),
		"a partition below": "\x01\x01\x01" + field("a", 0, 0, 3, 1),
	} {
		if s, err := Decode([]byte(value)); err == nil {
			t.Errorf("%s is read: %v", name, s.Fields)
		}
	}
}

func FuzzDecode(f *testing.F) {
	s := follow(f, memory.NewGoAllocator(), Empty.Override(map[string]Type{"z": {Kind: JSON}}), 0, documents(`{"a":1,"A":"x","o":{"x":[1.5,2]},"l":[{"y":true}]}`))
	f.Add(s.Encode())
	f.Add(Empty.Encode())
	f.Fuzz(func(t *testing.T, p []byte) {
		s, err := Decode(p)
		if err != nil {
			return
		}
		back, err := Decode(s.Encode())
		if err != nil || !bytes.Equal(back.Encode(), s.Encode()) || !back.Arrow().Equal(s.Arrow()) {
			t.Fatalf("%x is read, and what is written of it is not: %v", p, err)
		}
		follow(t, memory.NewGoAllocator(), s, 0, documents(`{"a":{"b":[1,{"c":2}]}}`))
	})
}
