package render

import (
	"fmt"
	"strconv"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
)

// bindNested writes what is made of other arrays; inside, it is JSON in every style.
func bindNested(col arrow.Array, s style) (appender, error) {
	switch col := col.(type) {
	case *array.Struct:
		return bindStruct(col)
	case *array.Map: // before lists: it is one
		return bindMap(col)
	case array.ListLike:
		return bindList(col)
	case array.Union:
		return bindUnion(col, s)
	case *array.Dictionary:
		return bindDictionary(col, s)
	case *array.RunEndEncoded:
		f, err := bindInner(col.Values(), s)
		if err != nil {
			return nil, err
		}
		return func(dst []byte, row int) []byte { return f(dst, col.GetPhysicalIndex(row)) }, nil
	case array.ExtensionArray:
		return bind(col.Storage(), s)
	}
	return nil, unknownType(col.DataType())
}

// bindInner is bind for an array inside of another: its rows may be NULL.
func bindInner(col arrow.Array, s style) (appender, error) {
	f, err := bind(col, s)
	if err != nil {
		return nil, err
	}
	if col.DataType().ID() == arrow.NULL {
		return func(dst []byte, _ int) []byte { return append(dst, nullOf(s)...) }, nil
	}
	return nullable(col, nullOf(s), f), nil
}

// nullOf is how a style writes NULL.
func nullOf(s style) string {
	switch s {
	case styleCSV:
		return ""
	case styleTable:
		return "NULL"
	default:
		return "null"
	}
}

// members are the columns of an object: each with its name, quoted and with a colon behind.
type members struct {
	names  [][]byte
	values []appender
}

func bindMembers(fields []arrow.Field, cols func(int) arrow.Array) (members, error) {
	var m members
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	for i, name := range Names(names) {
		f, err := bindInner(cols(i), styleJSON)
		if err != nil {
			return m, fmt.Errorf("column %q: %w", fields[i].Name, err)
		}
		prefix := []byte{','}
		if i == 0 {
			prefix = prefix[:0]
		}
		m.names = append(m.names, append(appendJSONString(prefix, name), ':'))
		m.values = append(m.values, f)
	}
	return m, nil
}

func (m *members) append(dst []byte, row int) []byte {
	dst = append(dst, '{')
	for i, f := range m.values {
		dst = f(append(dst, m.names[i]...), row)
	}
	return append(dst, '}')
}

func bindStruct(col *array.Struct) (appender, error) {
	t, ok := col.DataType().(*arrow.StructType)
	if !ok {
		return nil, unknownType(col.DataType())
	}
	m, err := bindMembers(t.Fields(), col.Field)
	if err != nil {
		return nil, err
	}
	return m.append, nil
}

func bindList(col array.ListLike) (appender, error) {
	f, err := bindInner(col.ListValues(), styleJSON)
	if err != nil {
		return nil, err
	}
	return func(dst []byte, row int) []byte {
		dst = append(dst, '[')
		begin, end := col.ValueOffsets(row)
		for i := begin; i < end; i++ {
			if i > begin {
				dst = append(dst, ',')
			}
			dst = f(dst, int(i))
		}
		return append(dst, ']')
	}, nil
}

func bindMap(col *array.Map) (appender, error) {
	key, err := bindInner(col.Keys(), styleJSON)
	if err != nil {
		return nil, err
	}
	value, err := bindInner(col.Items(), styleJSON)
	if err != nil {
		return nil, err
	}
	return func(dst []byte, row int) []byte {
		dst = append(dst, '[')
		begin, end := col.ValueOffsets(row)
		for i := begin; i < end; i++ {
			if i > begin {
				dst = append(dst, ',')
			}
			dst = key(append(dst, `{"key":`...), int(i))
			dst = append(value(append(dst, `,"value":`...), int(i)), '}')
		}
		return append(dst, ']')
	}, nil
}

func bindUnion(col array.Union, s style) (appender, error) {
	children := make([]appender, col.NumFields())
	for i := range children {
		f, err := bindInner(col.Field(i), s)
		if err != nil {
			return nil, err
		}
		children[i] = f
	}
	dense, _ := col.(*array.DenseUnion)
	return func(dst []byte, row int) []byte {
		at := row
		if dense != nil {
			at = int(dense.ValueOffset(row))
		}
		return children[col.ChildID(row)](dst, at)
	}, nil
}

func bindDictionary(col *array.Dictionary, s style) (appender, error) {
	f, err := bindInner(col.Dictionary(), s)
	if err != nil {
		return nil, err
	}
	return func(dst []byte, row int) []byte { return f(dst, col.GetValueIndex(row)) }, nil
}

// Names makes names of columns or members differ: of equal ones, the second gets the suffix _1, the next _2 and so on; suffixes
// that make another name of the list are passed over. Names that differ already stay.
func Names(names []string) []string {
	taken := make(map[string]bool, len(names))
	for _, n := range names {
		taken[n] = true
	}
	used, next := make(map[string]bool, len(names)), map[string]int{}
	out := make([]string, len(names))
	for i, n := range names {
		unique := n
		for used[unique] || unique != n && taken[unique] {
			next[n]++
			unique = n + "_" + strconv.Itoa(next[n])
		}
		used[unique] = true
		out[i] = unique
	}
	return out
}
