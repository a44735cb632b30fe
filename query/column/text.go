package column

import (
	"unicode/utf8"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// Text is the text of byte strings: `_value` of `_value_bytes`, `_key` of `_key_bytes`. It is NULL where they are not UTF-8. It shares their
// memory but for the bits that say so, which come from mem. Bytes begins at the beginning of its buffers.
func Text(mem memory.Allocator, bytes *array.Binary) *array.String {
	var bad []int32
	for i := range bytes.Len() {
		if bytes.IsNull(i) || !utf8.Valid(bytes.Value(i)) {
			bad = append(bad, int32(i))
		}
	}
	return textOf(mem, bytes, bad)
}

// textOf is Text when the rows are known that are NULL or not UTF-8.
func textOf(mem memory.Allocator, bytes *array.Binary, bad []int32) *array.String {
	shared := bytes.Data().Buffers()
	valid := shared[0]
	if len(bad) != bytes.NullN() {
		valid = validity(mem, bytes.Len(), bad)
		defer valid.Release()
	}
	data := array.NewData(arrow.BinaryTypes.String, bytes.Len(), []*memory.Buffer{valid, shared[1], shared[2]}, nil, len(bad), 0)
	defer data.Release()
	return array.NewStringData(data)
}

// newBinary makes an array out of data whose reference it takes over.
func newBinary(data arrow.ArrayData) *array.Binary {
	defer data.Release()
	return array.NewBinaryData(data)
}
