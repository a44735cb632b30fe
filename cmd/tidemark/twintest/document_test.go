//go:build cgo

package twintest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// The normaliser: it reads a value with encoding/json into a tree and walks tree and type side by side. It knows none of the limits but
// that of nesting, and the test's values reach no other.

// maxNesting is how deep the brackets of a document may nest.
const maxNesting = 512

// node is a value within a document.
type node struct {
	kind   byte // its first byte, 0 for numbers, f also for true
	raw    string
	text   string
	keys   []string // the first of duplicates
	fields map[string]*node
	elems  []*node
}

// readDocument gives nil for what defines no columns: bytes that are no text, text that is no JSON, JSON that is no object.
func readDocument(value []byte) *node {
	if !utf8.Valid(value) || !json.Valid(value) || nesting(value) > maxNesting {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	if n := readNode(d, string(value)); n.kind == '{' {
		return n
	}
	return nil
}

// nesting is how deep the brackets of valid JSON nest.
func nesting(value []byte) int {
	deepest, depth, quoted := 0, 0, false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

func readNode(d *json.Decoder, value string) *node {
	begin := d.InputOffset()
	token, err := d.Token()
	if err != nil {
		panic(err) // it is valid
	}
	n := &node{}
	switch v := token.(type) {
	case json.Delim:
		if n.kind = byte(v); v == '{' {
			n.fields = make(map[string]*node)
		}
		for d.More() {
			if v == '[' {
				n.elems = append(n.elems, readNode(d, value))
				continue
			}
			token, err := d.Token()
			if err != nil {
				panic(err)
			}
			key := token.(string)
			inner := readNode(d, value)
			if n.fields[key] == nil {
				n.keys = append(n.keys, key)
				n.fields[key] = inner
			}
		}
		if _, err := d.Token(); err != nil {
			panic(err)
		}
	case string:
		n.kind, n.text = '"', v
	case json.Number:
		n.kind = '0'
	case bool:
		n.kind = 'f'
	case nil:
		n.kind = 'n'
	}
	n.raw = strings.TrimLeft(value[begin:d.InputOffset()], " \t\r\n:,")
	return n
}

func (n *node) int64() (int64, bool) {
	i, ok := new(big.Int).SetString(n.raw, 10)
	if !ok || !i.IsInt64() {
		return 0, false
	}
	return i.Int64(), true
}

func (n *node) float64() (float64, bool) {
	if i, ok := n.int64(); ok {
		return float64(i), true
	}
	f, err := strconv.ParseFloat(n.raw, 64)
	return f, err == nil
}

// define is the type that a value defines where nothing was known before, nil for none.
func (n *node) define(depth int) *colType {
	if depth > 16 {
		return nil
	}
	switch n.kind {
	case '"':
		return &colType{kind: text}
	case 'f':
		return &colType{kind: boolean}
	case '0':
		if _, ok := n.int64(); ok {
			return &colType{kind: integer}
		}
		if _, finite := n.float64(); finite {
			return &colType{kind: double}
		}
	case '{':
		t := &colType{kind: structure}
		t.grow(n, depth)
		if len(t.fields) > 0 {
			return t
		}
	case '[':
		var elem *colType
		for _, e := range n.elems {
			elem = unify(elem, e, depth+1)
		}
		if elem != nil {
			return &colType{kind: list, elem: elem}
		}
	}
	return nil
}

// grow adds the fields of an object to a structure.
func (t *colType) grow(n *node, depth int) {
	for _, key := range n.keys {
		inner := n.fields[key].define(depth + 1)
		if inner == nil || key == "" || len(key) > 256 || strings.Contains(key, "\x00") {
			continue
		}
		at := -1
		for i, f := range t.fields {
			if f.key == key {
				at = i
			}
		}
		switch {
		case at < 0:
			t.fields = append(t.fields, field{key: key, typ: *inner})
		case t.fields[at].typ.kind == structure && inner.kind == structure:
			t.fields[at].typ.grow(n.fields[key], depth+1)
		}
	}
}

// unify is the type of a list's elements, t being that of those before e.
func unify(t *colType, e *node, depth int) *colType {
	other := e.define(depth)
	switch {
	case t == nil:
		return other
	case t.kind == jsonText || other == nil:
		return t
	case t.kind == structure && other.kind == structure:
		t.grow(e, depth)
		return t
	case t.kind == list && other.kind == list:
		for _, inner := range e.elems {
			t.elem = unify(t.elem, inner, depth+1)
		}
		return t
	case t.kind == other.kind:
		return t
	case t.kind == integer && other.kind == double || t.kind == double && other.kind == integer:
		return &colType{kind: double}
	default:
		return &colType{kind: jsonText}
	}
}

// normalise writes the columns of a document as JSON that from_json can only read in one way: keys are the columns' names, and values are of
// the columns' types, or null.
func normalise(n *node, columns []field) string {
	var out strings.Builder
	writeFields(&out, n, columns)
	return out.String()
}

func writeFields(out *strings.Builder, n *node, fields []field) {
	out.WriteByte('{')
	for i, f := range fields {
		if i > 0 {
			out.WriteByte(',')
		}
		writeText(out, f.name)
		out.WriteByte(':')
		writeValue(out, n.fields[f.key], f.typ, f.chosen)
	}
	out.WriteByte('}')
}

func writeValue(out *strings.Builder, n *node, t colType, chosen bool) {
	switch {
	case n == nil || n.kind == 'n':
	case t.kind == jsonText || chosen && t.kind == text && n.kind != '"':
		writeText(out, n.raw)
		return
	case t.kind == text && n.kind == '"':
		writeText(out, n.text)
		return
	case t.kind == boolean && n.kind == 'f':
		out.WriteString(n.raw)
		return
	case t.kind == integer && n.kind == '0':
		if i, ok := n.int64(); ok {
			out.WriteString(strconv.FormatInt(i, 10))
			return
		}
	case t.kind == double && n.kind == '0':
		if f, finite := n.float64(); finite {
			out.WriteString(strconv.FormatFloat(f, 'e', 17, 64))
			return
		}
	case t.kind == structure && n.kind == '{':
		writeFields(out, n, t.fields)
		return
	case t.kind == list && n.kind == '[':
		out.WriteByte('[')
		for i, e := range n.elems {
			if i > 0 {
				out.WriteByte(',')
			}
			writeValue(out, e, *t.elem, false)
		}
		out.WriteByte(']')
		return
	}
	out.WriteString("null")
}

func writeText(out *strings.Builder, s string) {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err) // a string
	}
}

func TestNormalise(t *testing.T) {
	typeOf := func(s string) colType {
		typ, err := readType(s)
		if err != nil {
			t.Fatal(err)
		}
		return typ
	}
	columns := []field{
		{name: "n", key: "n", typ: typeOf("BIGINT")}, {name: "d", key: "d", typ: typeOf("DOUBLE")}, {name: "S_1", key: "S", typ: typeOf("VARCHAR")},
		{name: "l", key: "l", typ: typeOf("STRUCT(a BOOLEAN)[]")}, {name: "m", key: "m", typ: colType{kind: list, elem: &colType{kind: jsonText}}},
		{name: "c", key: "c", typ: typeOf("VARCHAR"), chosen: true},
	}
	for value, want := range map[string]string{
		"": "", "nul": "", "[1]": "", "{\"n\":1}\x00": "", "\xff": "", `{"n":1} `: `{"n":1,"d":null,"S_1":null,"l":null,"m":null,"c":null}`,
		`{"n":1,"n":2,"d":9007199254740993,"S":"\ud800\u0000"}`:                `{"n":1,"d":9.00719925474099200e+15,"S_1":"` + "\ufffd" + `\u0000","l":null,"m":null,"c":null}`,
		`{"n":9223372036854775808,"d":1e400,"S":1,"s":"x"}`:                    `{"n":null,"d":null,"S_1":null,"l":null,"m":null,"c":null}`,
		`{"l":[{"a":true,"b":1},{},null,[]],"m":[1, "x" ,{ },null],"c":[ 1 ]}`: `{"n":null,"d":null,"S_1":null,"l":[{"a":true},{"a":null},null,null],"m":["1","\"x\"","{ }",null],"c":"[ 1 ]"}`,
		`{"n":null,"n":5,"d":-0,"l":[]}`:                                       `{"n":null,"d":0.00000000000000000e+00,"S_1":null,"l":[],"m":null,"c":null}`,
	} {
		got := ""
		if n := readDocument([]byte(value)); n != nil {
			got = strings.ReplaceAll(normalise(n, columns), "\n", "")
		}
		if got != want {
			t.Errorf("%s\n  is %s\nwant %s", value, got, want)
		}
	}
}

func TestDefine(t *testing.T) {
	for value, want := range map[string]string{
		`{"a":1,"b":[1,2.5],"c":[1,"x"],"d":{"e":true},"f":null,"g":[],"h":{}}`: `map[a:BIGINT b:[DOUBLE] c:[JSON] d:map[e:BOOLEAN]]`,
		`{"a":[{"x":1},{"y":"s","x":2}],"b":[[1],["s"]],"c":[[],[1]]}`:          `map[a:[map[x:BIGINT y:VARCHAR]] b:[[JSON]] c:[[BIGINT]]]`,
	} {
		var show func(c *colType) any
		show = func(c *colType) any {
			switch c.kind {
			case structure:
				out := map[string]any{}
				for _, f := range c.fields {
					out[f.key] = show(&f.typ)
				}
				return out
			case list:
				return []any{show(c.elem)}
			case jsonText:
				return "JSON"
			default:
				return strings.Trim(c.structureOf(), `"`)
			}
		}
		if got := fmt.Sprint(show(readDocument([]byte(value)).define(0))); got != want {
			t.Errorf("%s defines %s, want %s", value, got, want)
		}
	}
}
