package column

import (
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
)

// Kind is what a column, a field or an element holds.
type Kind uint8

// JSON is the text of any JSON value as it stands in the document; SQL sees it as VARCHAR.
const (
	Boolean Kind = iota + 1
	BigInt
	Double
	Varchar
	JSON
	Struct
	List
)

// Type is the type of a column, a field or an element.
type Type struct {
	Kind   Kind
	Fields []Field // of a Struct, one or more
	Elem   *Type   // of a List
}

// Field is a typed column, or a field of a Struct.
type Field struct {
	// Key is the JSON key, unique at its level; Name the column's, unique at its level ignoring the case of ASCII letters.
	Key, Name string
	Type      Type
	// Partition and Offset say where the field was first seen; both are -1 when a setting made it.
	Partition int32
	Offset    int64
	// Overridden: a setting chose the type, and no value widens it.
	Overridden bool
}

// Column is a column as SQL describes it.
type Column struct {
	Name string
	Type string // as SQL writes it
}

// String is the type as SQL writes it, such as STRUCT(a BIGINT, "b c" VARCHAR[]).
func (t Type) String() string {
	switch t.Kind {
	case Boolean:
		return "BOOLEAN"
	case BigInt:
		return "BIGINT"
	case Double:
		return "DOUBLE"
	case Varchar, JSON:
		return "VARCHAR"
	case List:
		return t.Elem.String() + "[]"
	case Struct:
		var out strings.Builder
		out.WriteString("STRUCT(")
		for i, f := range t.Fields {
			if i > 0 {
				out.WriteString(", ")
			}
			out.WriteString(quote(f.Name))
			out.WriteByte(' ')
			out.WriteString(f.Type.String())
		}
		out.WriteByte(')')
		return out.String()
	default:
		return "NULL"
	}
}

// quote writes a name as SQL does: in double quotes unless it is a plain word that no keyword is.
func quote(name string) string {
	plain := name != "" && !slices.Contains(keywords, strings.ToLower(name))
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			plain = false
		}
	}
	if plain {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// keywords are those that SQL reserves.
var keywords = []string{
	"all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "both", "case", "cast", "check", "collate", "column",
	"constraint", "create", "default", "deferrable", "desc", "describe", "distinct", "do", "else", "end", "except", "false", "fetch", "for",
	"foreign", "from", "group", "having", "in", "initially", "intersect", "into", "lambda", "lateral", "leading", "limit", "not", "null",
	"offset", "on", "only", "or", "order", "pivot", "pivot_longer", "pivot_wider", "placing", "primary", "qualify", "references",
	"returning", "select", "show", "some", "summarize", "symmetric", "table", "then", "to", "trailing", "true", "union", "unique",
	"unpivot", "using", "variadic", "when", "where", "window", "with",
}

// arrow is the type as Arrow has it.
func (t Type) arrow() arrow.DataType {
	switch t.Kind {
	case Boolean:
		return arrow.FixedWidthTypes.Boolean
	case BigInt:
		return arrow.PrimitiveTypes.Int64
	case Double:
		return arrow.PrimitiveTypes.Float64
	case List:
		return arrow.ListOf(t.Elem.arrow())
	case Struct:
		fields := make([]arrow.Field, len(t.Fields))
		for i, f := range t.Fields {
			fields[i] = arrow.Field{Name: f.Name, Type: f.Type.arrow(), Nullable: true}
		}
		return arrow.StructOf(fields...)
	default:
		return arrow.BinaryTypes.String
	}
}

// named counts the fields in the type that have names.
func (t Type) named() int {
	switch t.Kind {
	case List:
		return t.Elem.named()
	case Struct:
		n := 0
		for _, f := range t.Fields {
			n += 1 + f.Type.named()
		}
		return n
	default:
		return 0
	}
}
