//go:build cgo

package twintest

import (
	"fmt"
	"strings"
	"testing"
)

// kind is what a column, a field or an element holds.
type kind uint8

const (
	boolean kind = iota + 1
	integer
	double
	text
	jsonText // any value, as its text; SQL calls it VARCHAR too
	structure
	list
)

// colType is a type of the kinds that values have.
type colType struct {
	kind   kind
	fields []field // of a structure
	elem   *colType
}

// field is a column or a field of a structure.
type field struct {
	name, key string
	typ       colType
	chosen    bool  // by a setting: a VARCHAR then takes values of any kind
	since     place // of a column: the record that defined it
}

// readType reads a type as SQL writes it.
func readType(s string) (colType, error) {
	p := typeReader{rest: s}
	t, err := p.read()
	if err == nil && p.rest != "" {
		err = fmt.Errorf("%q is behind the type", p.rest)
	}
	if err != nil {
		return colType{}, fmt.Errorf("read type %s: %w", s, err)
	}
	return t, nil
}

type typeReader struct{ rest string }

func (p *typeReader) take(prefix string) bool {
	rest, found := strings.CutPrefix(p.rest, prefix)
	p.rest = rest
	return found
}

func (p *typeReader) read() (colType, error) {
	var t colType
	switch {
	case p.take("STRUCT("):
		t.kind = structure
		for {
			name, err := p.name()
			if err != nil {
				return t, err
			}
			if !p.take(" ") {
				return t, fmt.Errorf("no type at %q", p.rest)
			}
			inner, err := p.read()
			if err != nil {
				return t, err
			}
			t.fields = append(t.fields, field{name: name, typ: inner})
			if p.take(")") {
				break
			}
			if !p.take(", ") {
				return t, fmt.Errorf("no comma at %q", p.rest)
			}
		}
		nameKeys(t.fields)
	case p.take("BOOLEAN"):
		t.kind = boolean
	case p.take("BIGINT"):
		t.kind = integer
	case p.take("DOUBLE"):
		t.kind = double
	case p.take("VARCHAR"):
		t.kind = text
	default:
		return t, fmt.Errorf("no type at %q", p.rest)
	}
	for p.take("[]") {
		elem := t
		t = colType{kind: list, elem: &elem}
	}
	return t, nil
}

func (p *typeReader) name() (string, error) {
	if !p.take(`"`) {
		i := strings.IndexByte(p.rest, ' ')
		if i <= 0 {
			return "", fmt.Errorf("no name at %q", p.rest)
		}
		name := p.rest[:i]
		p.rest = p.rest[i:]
		return name, nil
	}
	var name strings.Builder
	for {
		before, after, found := strings.Cut(p.rest, `"`)
		if !found {
			return "", fmt.Errorf("a name without end at %q", p.rest)
		}
		name.WriteString(before)
		p.rest = after
		if !p.take(`"`) {
			return name.String(), nil
		}
		name.WriteByte('"')
	}
}

// nameKeys finds the keys of a structure's fields, which nothing describes: a name that is an earlier one in other letters, with _<number>
// behind it, is that of a field whose key lacks the number. The test's own values have no key that ends like that.
func nameKeys(fields []field) {
	for i := range fields {
		f := &fields[i]
		f.key = f.name
		at := strings.LastIndexByte(f.name, '_')
		if at < 0 || at == len(f.name)-1 || strings.Trim(f.name[at+1:], "0123456789") != "" {
			continue
		}
		for _, earlier := range fields[:i] {
			if strings.EqualFold(earlier.name, f.name[:at]) {
				f.key = f.name[:at]
			}
		}
	}
}

// structureOf is the type as from_json wants to be told it.
func (t colType) structureOf() string {
	switch t.kind {
	case boolean:
		return `"BOOLEAN"`
	case integer:
		return `"BIGINT"`
	case double:
		return `"DOUBLE"`
	case structure:
		return structureOf(t.fields)
	case list:
		return "[" + t.elem.structureOf() + "]"
	default:
		return `"VARCHAR"`
	}
}

func structureOf(fields []field) string {
	var out strings.Builder
	for i, f := range fields {
		out.WriteByte("{,"[min(i, 1)])
		writeText(&out, f.name)
		out.WriteString(":" + f.typ.structureOf())
	}
	return strings.ReplaceAll(out.String()+"}", "\n", "")
}

// tell says which of the VARCHARs hold the text of any value, by a type that was inferred from the value that defined this one.
func (t *colType) tell(defined *colType) {
	switch {
	case defined == nil:
	case t.kind == text && defined.kind == jsonText:
		t.kind = jsonText
	case t.kind == list && defined.kind == list:
		t.elem.tell(defined.elem)
	case t.kind == structure && defined.kind == structure:
		for i := range t.fields {
			for j := range defined.fields {
				if t.fields[i].key == defined.fields[j].key {
					t.fields[i].typ.tell(&defined.fields[j].typ)
				}
			}
		}
	}
}

// tellMixed does the same for lists that were found later, inside of structures: by the convention that those which are called mixed always are.
func (t *colType) tellMixed(name string) {
	switch t.kind {
	case list:
		if t.elem.kind == text && strings.HasPrefix(name, "mixed") {
			t.elem.kind = jsonText
		}
		t.elem.tellMixed("")
	case structure:
		for i := range t.fields {
			t.fields[i].typ.tellMixed(t.fields[i].key)
		}
	default:
	}
}

func TestReadType(t *testing.T) {
	typ, err := readType(`STRUCT(a BIGINT, "b ""c" VARCHAR[][], d STRUCT("E" BOOLEAN, e_1 DOUBLE)[])`)
	if err != nil {
		t.Fatal(err)
	}
	if got := typ.structureOf(); got != `{"a":"BIGINT","b \"c":[["VARCHAR"]],"d":[{"E":"BOOLEAN","e_1":"DOUBLE"}]}` {
		t.Error(got)
	}
	if key := typ.fields[2].typ.elem.fields[1].key; key != "e" {
		t.Errorf("the key of e_1 is %q", key)
	}
	for _, bad := range []string{"", "STRUCT(", "STRUCT(a)", "STRUCT(a BIGINT", `STRUCT("a BIGINT)`, "BIGINT[", "DATE", "BIGINT x"} {
		if typ, err := readType(bad); err == nil {
			t.Errorf("%q is %v", bad, typ)
		}
	}
}
