package tail

import (
	"errors"

	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemark-io/tidemark/record"
)

// Columns from which a record can be made again.
var recordColumns = []string{"_offset", "_timestamp", "_key_bytes", "_headers", "_value_bytes"}

// records reads the columns of recordColumns as records.
type records struct {
	offsets *array.Int64
	times   *array.Timestamp
	keys    *array.Binary
	headers *array.List
	values  *array.Binary

	headerKeys   *array.String
	headerValues *array.Binary
}

func newRecords(a arrays) (records, error) {
	var r records
	var ok [7]bool
	r.offsets, ok[0] = a[0].(*array.Int64)
	r.times, ok[1] = a[1].(*array.Timestamp)
	r.keys, ok[2] = a[2].(*array.Binary)
	r.headers, ok[3] = a[3].(*array.List)
	r.values, ok[4] = a[4].(*array.Binary)
	if ok[3] {
		if pairs, is := r.headers.ListValues().(*array.Struct); is {
			r.headerKeys, ok[5] = pairs.Field(0).(*array.String)
			r.headerValues, ok[6] = pairs.Field(1).(*array.Binary)
		}
	}
	for _, is := range ok {
		if !is {
			return r, errors.New("the columns of records are not of the types that they should be")
		}
	}
	return r, nil
}

// at is one record; its bytes are those of the arrays.
func (r *records) at(i int) record.Record {
	out := record.Record{Offset: r.offsets.Value(i), Timestamp: -1, Key: valueOf(r.keys, i), Value: valueOf(r.values, i)}
	if r.times.IsValid(i) {
		out.Timestamp = int64(r.times.Value(i)) / 1000 // a column of microseconds, made of milliseconds
	}
	begin, end := r.headers.ValueOffsets(i)
	for n := int(begin); n < int(end); n++ {
		out.Headers = append(out.Headers, record.Header{Key: r.headerKeys.Value(n), Value: valueOf(r.headerValues, n)})
	}
	return out
}

// valueOf is nil for NULL only.
func valueOf(a *array.Binary, i int) []byte {
	if a.IsNull(i) {
		return nil
	}
	if v := a.Value(i); v != nil {
		return v
	}
	return []byte{}
}
