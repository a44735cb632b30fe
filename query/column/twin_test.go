package column

import (
	"bytes"
	"encoding/json"
	"math"
	"math/big"
	"strconv"
	"strings"

	"unicode/utf8"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"pgregory.net/rapid"
)

// The dumb twin: it reads a document with encoding/json into a tree, and walks tree and type side by side. It knows no limit but depth.

// node is a value of a document.
type node struct {
	kind    byte // as the first byte of the value: { [ " t f n 0
	raw     string
	text    string
	keys    []string // first of duplicates only
	members map[string]*node
	elems   []*node
}

// parse gives nil for what is no document.
func parse(p []byte) *node {
	if !utf8.Valid(p) || !json.Valid(p) {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(p))
	d.UseNumber()
	n := parseValue(d, p)
	if n.depth() > maxNesting || n.kind != '{' {
		return nil
	}
	return n
}

func parseValue(d *json.Decoder, p []byte) *node {
	before := d.InputOffset()
	token, err := d.Token()
	if err != nil {
		panic(err)
	}
	begin := before + int64(len(p[before:d.InputOffset()])-len(bytes.TrimLeft(p[before:d.InputOffset()], " \t\r\n:,")))
	n := &node{}
	switch v := token.(type) {
	case json.Delim:
		n.kind = byte(v)
		n.members = make(map[string]*node)
		for d.More() {
			if v == '[' {
				n.elems = append(n.elems, parseValue(d, p))
				continue
			}
			key, err := d.Token()
			if err != nil {
				panic(err)
			}
			member := parseValue(d, p)
			if _, twice := n.members[key.(string)]; !twice {
				n.keys = append(n.keys, key.(string))
				n.members[key.(string)] = member
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
	n.raw = string(p[begin:d.InputOffset()])
	return n
}

// depth counts brackets by the text, so that dropped duplicates count too.
func (n *node) depth() int {
	deepest, depth, inside := 0, 0, false
	for i := 0; i < len(n.raw); i++ {
		switch c := n.raw[i]; {
		case inside && c == '\\':
			i++
		case c == '"':
			inside = !inside
		case inside:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

func (n *node) int64() (int64, bool) {
	i, ok := new(big.Int).SetString(n.raw, 10)
	if !ok || !i.IsInt64() {
		return 0, false
	}
	return i.Int64(), true
}

func (n *node) float() (float64, bool) {
	f, err := strconv.ParseFloat(n.raw, 64)
	if _, integer := n.int64(); integer && f == 0 {
		f = 0 // -0
	}
	return f, err == nil
}

func (n *node) fraction() bool { return strings.ContainsAny(n.raw, ".eE") }

// twinType is what a value defines, nil for nothing.
func twinType(n *node, depth int) *Type {
	if depth > MaxDepth {
		return nil
	}
	switch n.kind {
	case '"':
		return &Type{Kind: Varchar}
	case 'f':
		return &Type{Kind: Boolean}
	case '0':
		if _, ok := n.int64(); ok {
			return &Type{Kind: BigInt}
		}
		if _, finite := n.float(); finite {
			return &Type{Kind: Double}
		}
	case '{':
		t := Type{Kind: Struct}
		twinGrow(&t, n, depth)
		if len(t.Fields) > 0 {
			return &t
		}
	case '[':
		var elem *Type
		for _, e := range n.elems {
			elem = twinUnify(elem, e, depth+1)
		}
		if elem != nil {
			return &Type{Kind: List, Elem: elem}
		}
	}
	return nil
}

func twinUnify(t *Type, n *node, depth int) *Type {
	other := twinType(n, depth)
	switch {
	case t == nil:
		return other
	case t.Kind == Struct && n.kind == '{':
		twinGrow(t, n, depth)
		return t
	case t.Kind == List && n.kind == '[':
		for _, e := range n.elems {
			t.Elem = twinUnify(t.Elem, e, depth+1)
		}
		return t
	case other == nil || t.Kind == other.Kind:
		return t
	case t.Kind+other.Kind == BigInt+Double && (t.Kind == BigInt || t.Kind == Double):
		return &Type{Kind: Double}
	default:
		return &Type{Kind: JSON}
	}
}

// twinGrow lets the type of something grow by a value, where the first type stands.
func twinGrow(t *Type, n *node, depth int) {
	switch {
	case t.Kind == Struct && n.kind == '{':
		for _, key := range n.keys {
			found := false
			for i := range t.Fields {
				if f := &t.Fields[i]; f.Key == key {
					found = true
					if !f.Overridden {
						twinGrow(&f.Type, n.members[key], depth+1)
					}
				}
			}
			if key == "" || len(key) > MaxKey || strings.Contains(key, "\x00") || found {
				continue
			}
			if inner := twinType(n.members[key], depth+1); inner != nil {
				t.Fields = append(t.Fields, Field{Key: key, Type: *inner})
			}
		}
	case t.Kind == List && n.kind == '[':
		for _, e := range n.elems {
			twinGrow(t.Elem, e, depth+1)
		}
	case t.Kind == BigInt && n.kind == '0' && n.fraction():
		if _, finite := n.float(); finite {
			t.Kind = Double
		}
	}
}

// clone copies a type, so that it may grow.
func (t Type) clone() Type {
	if t.Elem != nil {
		elem := t.Elem.clone()
		t.Elem = &elem
	}
	fields := t.Fields
	t.Fields = nil
	for _, f := range fields {
		f.Type = f.Type.clone()
		t.Fields = append(t.Fields, f)
	}
	return t
}

// twinValue is a value as a type has it, in Go's types; a STRUCT and a LIST are []any. Bad is set when there is a misfit.
func twinValue(t Type, overridden bool, n *node, bad *bool) any {
	switch {
	case n == nil || n.kind == 'n':
		return nil
	case t.Kind == JSON || overridden && t.Kind == Varchar && n.kind != '"':
		return n.raw
	case t.Kind == Varchar && n.kind == '"':
		return n.text
	case t.Kind == Boolean && n.kind == 'f':
		return n.raw == "true"
	case t.Kind == BigInt && n.kind == '0':
		if i, ok := n.int64(); ok {
			return i
		}
	case t.Kind == Double && n.kind == '0':
		if f, finite := n.float(); finite {
			return f
		}
	case t.Kind == Struct && n.kind == '{':
		out := []any{}
		for _, f := range t.Fields {
			out = append(out, twinValue(f.Type, f.Overridden, n.members[f.Key], bad))
		}
		return out
	case t.Kind == List && n.kind == '[':
		out := []any{}
		for _, e := range n.elems {
			out = append(out, twinValue(*t.Elem, false, e, bad))
		}
		return out
	}
	*bad = true
	return nil
}

// valueAt is what an array has in a row, in the twin's terms.
func valueAt(t rapid.TB, a arrow.Array, i int) any {
	t.Helper()
	if a.IsNull(i) {
		return nil
	}
	switch a := a.(type) {
	case *array.Boolean:
		return a.Value(i)
	case *array.Int32:
		return a.Value(i)
	case *array.Int64:
		return a.Value(i)
	case *array.Float64:
		return a.Value(i)
	case *array.Timestamp:
		return int64(a.Value(i))
	case *array.String:
		return a.Value(i)
	case *array.Binary:
		return a.Value(i)
	case *array.Struct:
		out := []any{}
		for f := range a.NumField() {
			out = append(out, valueAt(t, a.Field(f), i))
		}
		return out
	case *array.List:
		out := []any{}
		begin, end := a.ValueOffsets(i)
		for j := begin; j < end; j++ {
			out = append(out, valueAt(t, a.ListValues(), int(j)))
		}
		return out
	}
	t.Fatalf("no values of %s", a.DataType())
	return nil
}

// same compares values of the twin, with the sign of zero.
func same2(a, b any) bool {
	x, isList := a.([]any)
	y, alsoList := b.([]any)
	if isList != alsoList || len(x) != len(y) {
		return false
	}
	for i := range x {
		if !same2(x[i], y[i]) {
			return false
		}
	}
	if isList {
		return true
	}
	if f, ok := a.(float64); ok {
		g, ok := b.(float64)
		return ok && math.Float64bits(f) == math.Float64bits(g)
	}
	if p, ok := a.([]byte); ok {
		q, ok := b.([]byte)
		return ok && bytes.Equal(p, q)
	}
	return a == b
}
