package render

import (
	"encoding/base64"
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
)

// appender appends the text of one row of a column.
type appender func(dst []byte, row int) []byte

// style is what differs between JSON, CSV and the cells of a table.
type style uint8

const (
	styleJSON  style = iota // also what is inside of lists, structs and maps, in every style
	styleCSV                // plain text, to be quoted by who asked
	styleTable              // as CSV, with blobs as DuckDB shows them
)

// bind returns what writes the values of an array that are not NULL. Deciding by type happens here, once an array, not for every row.
func bind(col arrow.Array, s style) (appender, error) {
	if f := bindNumber(col, s); f != nil {
		return f, nil
	}
	if f := bindText(col, s); f != nil {
		return f, nil
	}
	if f := bindTime(col, s); f != nil {
		return f, nil
	}
	return bindNested(col, s)
}

// nullable adds NULL to what bind returned.
func nullable(col arrow.Array, null string, f appender) appender {
	if col.NullN() == 0 {
		return f
	}
	return func(dst []byte, row int) []byte {
		if col.IsNull(row) {
			return append(dst, null...)
		}
		return f(dst, row)
	}
}

// bindNumber is nil when the array holds something else.
func bindNumber(col arrow.Array, s style) appender {
	switch col := col.(type) {
	case *array.Null:
		return func(dst []byte, _ int) []byte { return append(dst, "null"...) } // every row is NULL: never called
	case *array.Boolean:
		return func(dst []byte, row int) []byte {
			if col.Value(row) {
				return append(dst, "true"...)
			}
			return append(dst, "false"...)
		}
	case *array.Int8:
		return integers(col.Int8Values())
	case *array.Int16:
		return integers(col.Int16Values())
	case *array.Int32:
		return integers(col.Int32Values())
	case *array.Int64:
		return integers(col.Int64Values())
	case *array.Uint8:
		return naturals(col.Uint8Values())
	case *array.Uint16:
		return naturals(col.Uint16Values())
	case *array.Uint32:
		return naturals(col.Uint32Values())
	case *array.Uint64:
		return naturals(col.Uint64Values())
	case *array.Float16:
		return func(dst []byte, row int) []byte { return appendFloat(dst, float64(col.Value(row).Float32()), 32, s) }
	case *array.Float32:
		values := col.Float32Values()
		return func(dst []byte, row int) []byte { return appendFloat(dst, float64(values[row]), 32, s) }
	case *array.Float64:
		values := col.Float64Values()
		return func(dst []byte, row int) []byte { return appendFloat(dst, values[row], 64, s) }
	case *array.Decimal128:
		scale := scaleOf(col.DataType())
		return func(dst []byte, row int) []byte { return appendInt128(dst, col.Value(row), scale) }
	case *array.Decimal256:
		scale := scaleOf(col.DataType())
		return func(dst []byte, row int) []byte { return appendBig(dst, col.Value(row).BigInt(), scale) }
	}
	return nil
}

// scaleOf is the number of digits behind the point of a decimal type.
func scaleOf(t arrow.DataType) int32 {
	if d, ok := t.(arrow.DecimalType); ok {
		return d.GetScale()
	}
	return 0
}

// bindText is nil when the array holds something else.
func bindText(col arrow.Array, s style) appender {
	switch col := col.(type) {
	case *array.String:
		return texts(col.Value, s)
	case *array.LargeString:
		return texts(col.Value, s)
	case *array.StringView:
		return texts(col.Value, s)
	case *array.Binary:
		return blobs(col.Value, s)
	case *array.LargeBinary:
		return blobs(col.Value, s)
	case *array.BinaryView:
		return blobs(col.Value, s)
	case *array.FixedSizeBinary:
		return blobs(col.Value, s)
	}
	return nil
}

func texts(value func(int) string, s style) appender {
	if s == styleJSON {
		return func(dst []byte, row int) []byte { return appendJSONString(dst, value(row)) }
	}
	return func(dst []byte, row int) []byte { return appendValid(dst, value(row)) }
}

func blobs(value func(int) []byte, s style) appender {
	switch s {
	case styleJSON:
		return func(dst []byte, row int) []byte {
			return append(base64.StdEncoding.AppendEncode(append(dst, '"'), value(row)), '"')
		}
	case styleTable:
		return func(dst []byte, row int) []byte { return appendBlobText(dst, value(row)) }
	default:
		return func(dst []byte, row int) []byte { return base64.StdEncoding.AppendEncode(dst, value(row)) }
	}
}

// appendBlobText shows bytes as DuckDB does: printable ASCII as it is, the rest as \x and two digits.
func appendBlobText(dst, b []byte) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range b {
		if c < ' ' || c > '~' || c == '\\' {
			dst = append(dst, '\\', 'x', digits[c>>4], digits[c&15])
			continue
		}
		dst = append(dst, c)
	}
	return dst
}

// unknownType is the error of a column that cannot be written.
func unknownType(t arrow.DataType) error {
	return fmt.Errorf("there is no text form of the Arrow type %s: cast the column to VARCHAR", t)
}

// checkType says whether arrays of a type can be written, without one at hand.
func checkType(t arrow.DataType) error {
	switch t := t.(type) {
	case *arrow.ListType:
		return checkType(t.Elem())
	case *arrow.LargeListType:
		return checkType(t.Elem())
	case *arrow.FixedSizeListType:
		return checkType(t.Elem())
	case *arrow.ListViewType:
		return checkType(t.Elem())
	case *arrow.LargeListViewType:
		return checkType(t.Elem())
	case *arrow.MapType:
		if err := checkType(t.KeyType()); err != nil {
			return err
		}
		return checkType(t.ItemType())
	case *arrow.StructType:
		return checkFields(t.Fields())
	case arrow.UnionType:
		return checkFields(t.Fields())
	case *arrow.DictionaryType:
		return checkType(t.ValueType)
	case *arrow.RunEndEncodedType:
		return checkType(t.Encoded())
	case arrow.ExtensionType:
		return checkType(t.StorageType())
	}
	switch t.ID() { //nolint:exhaustive // the nested ones are above
	case arrow.NULL, arrow.BOOL, arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64, arrow.UINT8, arrow.UINT16, arrow.UINT32, arrow.UINT64,
		arrow.FLOAT16, arrow.FLOAT32, arrow.FLOAT64, arrow.DECIMAL128, arrow.DECIMAL256, arrow.STRING, arrow.LARGE_STRING, arrow.STRING_VIEW,
		arrow.BINARY, arrow.LARGE_BINARY, arrow.BINARY_VIEW, arrow.FIXED_SIZE_BINARY, arrow.DATE32, arrow.DATE64, arrow.TIME32, arrow.TIME64,
		arrow.TIMESTAMP, arrow.DURATION, arrow.INTERVAL_MONTHS, arrow.INTERVAL_DAY_TIME, arrow.INTERVAL_MONTH_DAY_NANO:
		return nil
	}
	return unknownType(t)
}

func checkFields(fields []arrow.Field) error {
	for _, f := range fields {
		if err := checkType(f.Type); err != nil {
			return err
		}
	}
	return nil
}
