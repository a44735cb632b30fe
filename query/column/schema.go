package column

import (
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/apache/arrow/go/v17/arrow"
)

// Limits of a topic's typed columns.
const (
	// MaxFields is how many fields with names the values of a topic may define, nested ones counted. Columns made by settings
	// come on top.
	MaxFields = 1000
	// MaxDepth is how deep a type may be. A column is at depth 1; the fields of a STRUCT and the elements of a LIST are one deeper.
	MaxDepth = 16
	// MaxKey is how many bytes the key of a column may have.
	MaxKey = 256
	// MaxOverrides is how many columns of a topic settings may choose.
	MaxOverrides = 100
)

// The columns that every topic has: so many stand before the typed ones, the rest behind them.
const builtinsBefore = 6

// headersType is LIST(STRUCT(key VARCHAR, value BLOB)).
var headersType = arrow.ListOf(arrow.StructOf(
	arrow.Field{Name: "key", Type: arrow.BinaryTypes.String, Nullable: true},
	arrow.Field{Name: "value", Type: arrow.BinaryTypes.Binary, Nullable: true},
))

var timestampType = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}

var builtins = [...]struct {
	name, sql string
	arrow     arrow.DataType
}{
	{"_partition", "INTEGER", arrow.PrimitiveTypes.Int32},
	{"_offset", "BIGINT", arrow.PrimitiveTypes.Int64},
	{"_timestamp", "TIMESTAMP WITH TIME ZONE", timestampType},
	{"_key", "VARCHAR", arrow.BinaryTypes.String},
	{"_headers", "STRUCT(key VARCHAR, value BLOB)[]", headersType},
	{"_value", "VARCHAR", arrow.BinaryTypes.String},
	{"_key_bytes", "BLOB", arrow.BinaryTypes.Binary},
	{"_value_bytes", "BLOB", arrow.BinaryTypes.Binary},
}

// Schema is one version of a topic's typed columns. It is made by Decode, Extend and Override, begins as Empty, and is never changed:
// any number of goroutines may use it.
type Schema struct {
	// Version goes up by one with every change; 0 is Empty.
	Version int64
	// Fields are the typed columns, in their order. Read only.
	Fields []Field

	arrow *arrow.Schema
	named int       // fields with names, at every level
	pool  sync.Pool // of *shredder
}

// Empty is the schema of a topic whose values have shown nothing yet.
var Empty = newSchema(0, nil)

// newSchema derives what follows from the fields, which it keeps.
func newSchema(version int64, fields []Field) *Schema {
	s := &Schema{Version: version, Fields: fields}
	columns := make([]arrow.Field, 0, len(builtins)+len(fields))
	for i, b := range builtins {
		if i == builtinsBefore {
			for _, f := range fields {
				columns = append(columns, arrow.Field{Name: f.Name, Type: f.Type.arrow(), Nullable: true})
			}
		}
		columns = append(columns, arrow.Field{Name: b.name, Type: b.arrow, Nullable: true})
	}
	s.arrow = arrow.NewSchema(columns, nil)
	s.named = Type{Kind: Struct, Fields: fields}.named()
	return s
}

// full tells whether no value can define a field any more.
func (s *Schema) full() bool { return s.named >= MaxFields }

// Arrow is the whole table: _partition, _offset, _timestamp, _key, _headers, _value, the typed columns, _key_bytes, _value_bytes.
func (s *Schema) Arrow() *arrow.Schema { return s.arrow }

// Columns are the names and types of the whole table, in the order of Arrow.
func (s *Schema) Columns() []Column {
	out := make([]Column, 0, len(builtins)+len(s.Fields))
	for i, b := range builtins {
		if i == builtinsBefore {
			for _, f := range s.Fields {
				out = append(out, Column{Name: f.Name, Type: f.Type.String()})
			}
		}
		out = append(out, Column{Name: b.name, Type: b.sql})
	}
	return out
}

// usable tells whether a key may become a column.
func usable[K string | []byte](key K) bool {
	if len(key) == 0 || len(key) > MaxKey {
		return false
	}
	for i := range len(key) {
		if key[i] == 0 {
			return false
		}
	}
	return true
}

// names hands out the names of one level.
type names map[string]struct{}

// newNames begins a level: the names of columns that every topic has are taken at the top.
func newNames(top bool) names {
	n := make(names)
	if top {
		for _, b := range builtins {
			n[b.name] = struct{}{}
		}
	}
	return n
}

// take says whether a name was free, ignoring the case of ASCII letters, and takes it.
func (n names) take(name string) bool {
	name = lower(name)
	if _, taken := n[name]; taken {
		return false
	}
	n[name] = struct{}{}
	return true
}

// give finds the name for a key: the key itself, or with the first suffix that is free.
func (n names) give(key string) string {
	name := key
	for suffix := 1; !n.take(name); suffix++ {
		name = suffixed(key, suffix)
	}
	return name
}

func suffixed(key string, suffix int) string {
	if suffix == 0 {
		return key
	}
	return key + "_" + strconv.Itoa(suffix)
}

// lower lowers ASCII letters only, as the engine compares names.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// validKey tells whether a key that comes from outside a document may become a column.
func validKey(key string) bool { return usable(key) && utf8.ValidString(key) }
