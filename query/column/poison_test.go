package column

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemark-io/tidemark/record"
)

func nested(opening, inner, closing string, n int) string {
	return strings.Repeat(opening, n) + inner + strings.Repeat(closing, n)
}

func manyFields(n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf(`"f%d":%d`, i, i)
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// poison is what senders send.
func poison() []string {
	return []string{
		"", " ", "null", "1", `"x"`, "[]", `[{"a":1}]`, "{}", " {} ", "{", "}", `{"a"}`, `{"a":}`, `{"a":1,}`, `{,"a":1}`, `{"a":1}x`, `{"a":1} {"b":2}`,
		"{\"a\":1}\x00", "\xef\xbb\xbf{\"a\":1}", `{'a':1}`, `{a:1}`, `{"a":01}`, `{"a":+1}`, `{"a":.5}`, `{"a":1.}`, `{"a":1e}`, `{"a":1e+}`, `{"a":-}`, `{"a":0x1}`,
		`{"a":NaN}`, `{"a":Infinity}`, `{"a":tru}`, `{"a":truex}`, `{"a":nul}`, `{"a":True}`, `{"a":1 2}`, `{"a":[1,]}`, `{"a":[,1]}`, `{"a":[1 2]}`, `{"a":[1}`, `{"a":{"b":1]}`,
		"{\"a\":\"\n\"}", "{\"a\":\"\x1f\"}", "{\"a\":\"\x7f\"}", "{\"a\x01\":1}", `{"a":"\x"}`, `{"a":"\u12"}`, `{"a":"\u12g4"}`, `{"a":"\`, `{"a":"\"}`, `{"a":"x`,
		"{\"a\":\"\xff\"}", "{\"a\":\"\xc0\x80\"}", "{\"a\":\"\xed\xa0\x80\"}", "{\"\xff\":1}", "{\"a\":1,\"b\":\"\xf4\x90\x80\x80\"}",
		`{"a":"\ud800"}`, `{"a":"\ud800\ud800\udc00"}`, `{"a":"\udc00\ud800"}`, `{"a":"\ud800\u0041"}`, `{"a":"\ud83d\ude00"}`, `{"\ud800":1,"\ud801":2}`,
		`{"a":"\u0000","b\u0000":1}`, `{"a":"` + strings.Repeat("x", 1<<20) + `"}`, `{"a":"` + strings.Repeat(`\u0041`, 1<<16) + `"}`, `{"` + strings.Repeat("k", 257) + `":1,"` + strings.Repeat("k", 256) + `":2}`,
		`{"a":9223372036854775807,"b":-9223372036854775808}`, `{"a":9223372036854775808,"b":-9223372036854775809}`, `{"a":1e400,"b":-1e400}`, `{"a":1` + strings.Repeat("0", 400) + `}`,
		`{"a":1e-400,"b":-0,"c":-0.0,"d":0e0}`, `{"a":0.` + strings.Repeat("1", 2000) + `}`, `{"a":12345678901234567890123}`, `{"a":1E5,"b":1e-5,"c":1E+5}`,
		`{"a":1,"a":2}`, `{"a":null,"a":2}`, `{"a":"x","a":2}`, `{"new":null,"new":2}`, `{"new2":{},"new2":2}`, `{"a":{"x":1,"x":"s"}}`, `{"a":1,"A":2,"_value":3,"_VALUE":4,"_offset":5}`,
		`{"a":[1,2.5]}`, `{"a":[1,"x"]}`, `{"m":[1, "x" ,null,[ 1 ],{"k": 1}]}`, `{"n":[[1],["x"]]}`, `{"o":[[1],[[2]]]}`, `{"p":[{"x":[1]},{"x":["s"]},{"x":[2.5]}]}`, `{"q":[1,[],{}]}`,
		`{"r":[[],{},null]}`, `{"s":[{"a":1},{"b":"x"},5]}`, `{"t":[{"a":1e400}]}`, `{"u":[true,null,false]}`, `{"v":[[[]],[[1]]]}`, `{"w":{"x":{"y":{}}}}`,
		`{"deep":` + nested("[", "1", "]", 100) + `}`, `{"deep":` + nested("[", "1", "]", 511) + `}`, `{"deep":` + nested("[", "1", "]", 512) + `}`, `{"deep":` + nested("[", "1", "]", 600) + `}`,
		nested(`{"d":`, "1", "}", 100), nested(`{"d":`, "1", "}", 512), nested(`{"d":`, "1", "}", 513), nested("[", "", "", 100_000), nested(`{"a":`, "", "", 100_000),
		`{"l16":` + nested("[", "1", "]", 15) + `,"l17":` + nested("[", "1", "]", 16) + `}`, `{"mixed":` + nested(`[{"m":`, "1", "}]", 20) + `}`,
	}
}

// Each poison alone, then all of them together, forwards and backwards, into one topic.
func TestPoison(t *testing.T) {
	texts := poison()
	for _, text := range texts {
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		follow(t, mem, Empty, 0, documents(text))
		mem.AssertSize(t, 0)
	}
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	s := follow(t, mem, Empty, 0, documents(texts...))
	for i := range texts {
		s = follow(t, mem, s, int64(1000+i), documents(texts[len(texts)-1-i]))
	}
	mem.AssertSize(t, 0)
}

// A document that was cut off is no JSON, wherever that was.
func TestCutOff(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	whole := `{"\ud800":{"a\tb":[{"x":-1.5e+3},"ü\ud83d\ude00",true,false,null]},"c":{"d":[[],{}]}}`
	s := follow(t, mem, Empty, 0, documents(whole))
	for n := range len(whole) {
		if same := follow(t, mem, s, 1, documents(whole[:n], `{"c":{"d":[[1]],`+whole[1:n+1])); same != s {
			t.Fatalf("%q shows %s", whole[:n], typesOf(same.Fields))
		}
	}
	mem.AssertSize(t, 0)
}

// The reader takes what encoding/json takes, within the greatest nesting.
func FuzzReader(f *testing.F) {
	for _, text := range poison() {
		if len(text) < 2000 {
			f.Add([]byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if !utf8.Valid(p) {
			return
		}
		var r jsonReader
		r.begin(p)
		token, ok := r.next()
		var value []byte
		if ok {
			value, _, ok = r.skip(token)
		}
		ok = ok && r.done()
		valid := json.Valid(p)
		if ok && !valid || valid && !ok && strings.Count(string(p), "[")+strings.Count(string(p), "{") <= maxNesting {
			t.Fatalf("%q: the reader says %t, encoding/json %t", p, ok, valid)
		}
		if ok && !bytes.Equal(value, bytes.Trim(p, " \t\r\n")) {
			t.Fatalf("%q: the value is %q", p, value)
		}
		follow(t, memory.NewGoAllocator(), Empty, 0, [][]byte{p})
	})
}

// A topic gets 1,000 fields and no more, whoever sends how many.
func TestFieldsAreLimited(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	shred := func(s *Schema, text string) (*Schema, bool) {
		raw := rawOf(mem, 0, []byte(text))
		defer raw.Release()
		c, d := Shred(mem, raw, s)
		defer c.Release()
		return s.Extend(d), c.Deferred()
	}
	s, _ := shred(Empty, `{"list":[`+manyFields(5000)+`],"after":1}`)
	if s.named != MaxFields || len(s.Fields) != 1 || len(s.Fields[0].Type.Elem.Fields) != 999 {
		t.Fatalf("%d fields, %d columns", s.named, len(s.Fields))
	}
	s, _ = shred(Empty, manyFields(5000))
	if len(s.Fields) != MaxFields || s.Fields[0].Key != "f0" || s.Fields[999].Key != "f999" {
		t.Fatalf("%d columns, from %q", len(s.Fields), s.Fields[0].Key)
	}
	if again, deferred := shred(s, manyFields(5000)); again != s || deferred {
		t.Fatalf("a full schema became one of %d columns, deferred: %t", len(again.Fields), deferred)
	}
	if wider, _ := shred(s, `{"f7":1.5,"x":1}`); len(wider.Fields) != MaxFields || wider.Fields[7].Type.Kind != Double {
		t.Fatal("a full schema does not widen")
	}
	// One place is left: an object that needs two does not get it, and waits; a number does.
	s, _ = shred(Empty, manyFields(999))
	if same, deferred := shred(s, `{"o":{"x":1},"l":[{"x":1}]}`); same != s || !deferred {
		t.Fatalf("%d columns, deferred: %t", len(same.Fields), deferred)
	}
	if s, _ = shred(s, `{"o":{"x":1},"n":5,"m":6}`); len(s.Fields) != MaxFields || s.Fields[999].Key != "n" {
		t.Fatalf("%d columns, the last one %q", len(s.Fields), s.Fields[len(s.Fields)-1].Key)
	}
	// Fields of objects that turn out to be elements of a mixed list are given back.
	if s, _ := shred(Empty, `{"mixed":[`+manyFields(900)+`,5],"o":`+manyFields(900)+`}`); len(s.Fields) != 2 || len(s.Fields[1].Type.Fields) != 900 {
		t.Fatalf("%d columns: %s", len(s.Fields), typesOf(s.Fields))
	}
	// Two discoveries of the same version: the second one gets what is left.
	s, _ = shred(Empty, manyFields(998))
	raw := rawOf(mem, 0, []byte(`{"o":{"x":1}}`))
	c, d := Shred(mem, raw, s)
	c.Release()
	raw.Release()
	s, _ = shred(s, `{"n":1}`)
	if late := s.Extend(d); late != s {
		t.Fatalf("the last place went to %q", late.Fields[len(late.Fields)-1].Key)
	}
	// What settings choose comes on top, and is decoded again.
	s, _ = shred(s, `{"m":1}`)
	s = s.Override(map[string]Type{"chosen": {Kind: JSON}})
	if back, err := Decode(s.Encode()); err != nil || len(back.Fields) != MaxFields+1 {
		t.Fatal(err)
	}
	mem.AssertSize(t, 0)
}

// A list of objects has an entry for every field of every element. A row whose lists would have too many is not decoded, and one that might
// have with more fields is decoded anew when there are more.
func TestListsAreLimited(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	wide := `{"l":[` + manyFields(900) + `]}`
	s := follow(t, mem, Empty, 0, documents(wide))
	hostile := `{"a":1,"l":[{}` + strings.Repeat(",{}", 1<<20) + `]}`
	raw := rawOf(mem, 0, documents(wide, hostile)...)
	c, _ := Shred(mem, raw, s)
	lists := c.Columns()[builtinsBefore]
	if lists.IsNull(0) || lists.IsValid(1) || c.Bytes() > 8<<20 {
		t.Fatalf("%d bytes, first row NULL: %t, second: %t", c.Bytes(), lists.IsNull(0), lists.IsNull(1))
	}
	c.Release()
	raw.Release()
	s = follow(t, mem, Empty, 0, documents(`{"l":[{"x":1}]}`))
	for n, deferred := range map[int]bool{10: false, 1000: true} {
		raw := rawOf(mem, 0, documents(`{"l":[{}`+strings.Repeat(",{}", n-1)+`]}`)...)
		c, _ := Shred(mem, raw, s)
		if c.Deferred() != deferred {
			t.Errorf("with %d elements deferred is %t", n, c.Deferred())
		}
		c.Release()
		raw.Release()
	}
	mem.AssertSize(t, 0)
}

// Many short documents whose lists take much together become several chunks, and show what one alone shows.
func TestChunksAreLimited(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	s := follow(t, mem, Empty, 0, documents(`{"a":[`+manyFields(990)+`]}`))
	text := `{"a":[{}` + strings.Repeat(",{}", 15) + `],"f":1}`
	rows := NewRows(mem, 3)
	for i := range MaxRows {
		rows.Append(record.Record{Offset: int64(10 * i), Timestamp: int64(i), Key: fmt.Append(nil, i), Value: []byte(text)})
	}
	rest := rows.Take()
	at, chunks := 0, 0
	for ; rest != nil; chunks++ {
		c, _ := Shred(mem, rest, s)
		if c.Bytes() > 24<<20 || c.Elements() != 16*c.Rows() || c.First() != int64(10*at) || c.Last() != int64(10*(at+c.Rows()-1)) || c.Partition() != 3 {
			t.Fatalf("chunk %d has %d bytes, offsets %d to %d, %d rows", chunks, c.Bytes(), c.First(), c.Last(), c.Rows())
		}
		for _, a := range c.Columns() {
			if wellFormed(t, a.Data()); a.Len() != c.Rows() {
				t.Fatalf("a column has %d rows of %d", a.Len(), c.Rows())
			}
		}
		lists, isList := c.Columns()[builtinsBefore].(*array.List)
		if !isList || lists.NullN() > 0 || lists.ListValues().Len() != 16*c.Rows() {
			t.Fatalf("chunk %d has %s", chunks, c.Columns()[builtinsBefore].DataType())
		}
		at += c.Rows()
		var behind *Raw
		if c.Rows() < rest.Rows() {
			behind = rest.Rest(mem, c.Rows())
		}
		c.Release()
		rest.Release()
		rest = behind
	}
	if at != MaxRows || chunks != 31 {
		t.Errorf("%d rows in %d chunks", at, chunks)
	}
	mem.AssertSize(t, 0)
}

// A chunk that would grow too much by a mapping is not to be read through it.
func TestBounded(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	narrow := follow(t, mem, Empty, 0, documents(`{"a":[{"x":1}]}`))
	wide := follow(t, mem, narrow, 0, documents(`{"a":[`+manyFields(990)+`]}`))
	little := follow(t, mem, narrow, 0, documents(`{"a":[{"y":1}]}`))
	values := make([][]byte, MaxRows)
	for i := range values {
		values[i] = []byte(`{"a":[{},{}` + strings.Repeat(",{}", i%2) + `]}`)
	}
	raw := rawOf(mem, 0, values...)
	c, _ := Shred(mem, raw, narrow)
	if c.Rows() != MaxRows || c.Deferred() || c.Elements() != MaxRows*5/2 {
		t.Fatalf("%d rows, deferred: %t, %d elements", c.Rows(), c.Deferred(), c.Elements())
	}
	if Bounded(narrow, wide, c.Elements()) || !Bounded(narrow, little, c.Elements()) || !Bounded(narrow, narrow, c.Elements()) || !Bounded(narrow, wide, 1000) {
		t.Error("what grows too much is to be mapped, or what does not is to be decoded anew")
	}
	twice, err := Concat(mem, []*Chunk{c})
	if err != nil || twice.Elements() != c.Elements() {
		t.Fatalf("%d elements became %d: %v", c.Elements(), twice.Elements(), err)
	}
	twice.Release()
	c.Release()
	raw.Release()
	mem.AssertSize(t, 0)
}
