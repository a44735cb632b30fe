//go:build cgo

package duck

import (
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/duckdb/duckdb-go/v2/mapping"
)

// logicalType is the type of DuckDB to which duckdb_data_chunk_from_arrow turns an Arrow type. The caller destroys it.
// Tables have these types only; others are an error.
func logicalType(t arrow.DataType) (mapping.LogicalType, error) {
	switch t := t.(type) {
	case *arrow.ListType:
		elem, err := logicalType(t.Elem())
		if err != nil {
			return mapping.LogicalType{}, err
		}
		defer mapping.DestroyLogicalType(&elem)
		return mapping.CreateListType(elem), nil
	case *arrow.StructType:
		types := make([]mapping.LogicalType, 0, t.NumFields())
		names := make([]string, 0, t.NumFields())
		defer func() {
			for n := range types {
				mapping.DestroyLogicalType(&types[n])
			}
		}()
		for _, f := range t.Fields() {
			child, err := logicalType(f.Type)
			if err != nil {
				return mapping.LogicalType{}, err
			}
			types, names = append(types, child), append(names, f.Name)
		}
		return mapping.CreateStructType(types, names), nil
	case *arrow.TimestampType:
		if t.Unit == arrow.Microsecond && t.TimeZone != "" {
			return mapping.CreateLogicalType(mapping.TypeTimestampTZ), nil
		}
	}
	if flat, ok := flatTypes[t.ID()]; ok {
		return mapping.CreateLogicalType(flat), nil
	}
	return mapping.LogicalType{}, fmt.Errorf("a table's column of Arrow type %s has no counterpart in DuckDB", t)
}

var flatTypes = map[arrow.Type]mapping.Type{
	arrow.BOOL: mapping.TypeBoolean, arrow.INT32: mapping.TypeInteger, arrow.INT64: mapping.TypeBigInt,
	arrow.FLOAT64: mapping.TypeDouble, arrow.STRING: mapping.TypeVarchar, arrow.BINARY: mapping.TypeBlob,
}
