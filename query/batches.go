package query

import (
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// Bounds of one batch that is sent.
const (
	batchRows  = 65_536
	batchBytes = 8 << 20
	// maxMessage is the greatest batch that is sent at all, for a row that is greater than batchBytes by itself.
	maxMessage = 48 << 20
)

// batcher joins an engine's small records to batches that are worth a message.
type batcher struct {
	schema  *arrow.Schema
	records []arrow.Record
	rows    int64
	bytes   int64
}

// add takes one record over.
func (b *batcher) add(rec arrow.Record) {
	b.records = append(b.records, rec)
	b.rows += rec.NumRows()
	for _, c := range rec.Columns() {
		b.bytes += dataBytes(c.Data())
	}
}

// dataBytes is what the buffers of an array take; those of a slice count whole.
func dataBytes(data arrow.ArrayData) int64 {
	total := int64(0)
	for _, buffer := range data.Buffers() {
		if buffer != nil {
			total += int64(buffer.Len())
		}
	}
	for _, child := range data.Children() {
		total += dataBytes(child)
	}
	return total
}

// full tells that another record should not join; an engine's records are alike, so the mean of those here stands for it.
func (b *batcher) full() bool {
	n := int64(len(b.records))
	return n > 0 && (b.rows+min(MaxScanRows, b.rows/n) > batchRows || b.bytes+b.bytes/n > batchBytes)
}

func (b *batcher) empty() bool { return len(b.records) == 0 }

// flush gives what was added to send, in one batch where that is possible, and is empty then. Batches are released when send
// returns.
func (b *batcher) flush(send func(arrow.Record) error) error {
	records := b.records
	b.records, b.rows, b.bytes = nil, 0, 0
	defer func() {
		for _, rec := range records {
			rec.Release()
		}
	}()
	for i, rec := range records {
		simple, err := simplify(rec, b.schema)
		if err != nil {
			return err
		}
		rec.Release()
		records[i] = simple
	}
	joined, err := join(b.schema, records)
	if err != nil {
		// A type that cannot be joined, such as a union: it goes as it came.
		for _, rec := range records {
			if err := send(rec); err != nil {
				return err
			}
		}
		return nil
	}
	defer joined.Release()
	return send(joined)
}

// release drops what was not sent.
func (b *batcher) release() {
	for _, rec := range b.records {
		rec.Release()
	}
	b.records, b.rows, b.bytes = nil, 0, 0
}

// join makes one record of several.
func join(schema *arrow.Schema, records []arrow.Record) (arrow.Record, error) {
	if len(records) == 1 {
		records[0].Retain()
		return records[0], nil
	}
	columns := make([]arrow.Array, 0, schema.NumFields())
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	rows := int64(0)
	for _, rec := range records {
		rows += rec.NumRows()
	}
	parts := make([]arrow.Array, len(records))
	for i := range schema.NumFields() {
		for k, rec := range records {
			parts[k] = rec.Column(i)
		}
		column, err := array.Concatenate(parts, memory.DefaultAllocator)
		if err != nil {
			return nil, fmt.Errorf("join the batches of column %s: %w", schema.Field(i).Name, err)
		}
		columns = append(columns, column)
	}
	return array.NewRecord(schema, columns, rows), nil
}

// simplifySchema is a schema without dictionaries: an ENUM is sent as the text that it stands for, which every reader of Arrow
// IPC takes, whatever dictionaries the batches of one column have.
func simplifySchema(s *arrow.Schema) *arrow.Schema {
	fields := make([]arrow.Field, s.NumFields())
	for i, f := range s.Fields() {
		f.Type = simplifyType(f.Type)
		fields[i] = f
	}
	return arrow.NewSchema(fields, nil)
}

func simplifyType(t arrow.DataType) arrow.DataType {
	if !hasDictionary(t) {
		return t
	}
	switch t := t.(type) {
	case *arrow.DictionaryType:
		return simplifyType(t.ValueType)
	case *arrow.ListType:
		f := t.ElemField()
		f.Type = simplifyType(f.Type)
		return arrow.ListOfField(f)
	case *arrow.FixedSizeListType:
		f := t.ElemField()
		f.Type = simplifyType(f.Type)
		return arrow.FixedSizeListOfField(t.Len(), f)
	case *arrow.StructType:
		fields := make([]arrow.Field, t.NumFields())
		for i, f := range t.Fields() {
			f.Type = simplifyType(f.Type)
			fields[i] = f
		}
		return arrow.StructOf(fields...)
	case *arrow.MapType:
		m := arrow.MapOf(simplifyType(t.KeyType()), simplifyType(t.ItemType()))
		m.KeysSorted = t.KeysSorted
		m.SetItemNullable(t.ItemField().Nullable)
		return m
	}
	return t
}

func hasDictionary(t arrow.DataType) bool {
	if _, is := t.(*arrow.DictionaryType); is {
		return true
	}
	nested, is := t.(arrow.NestedType)
	if !is {
		return false
	}
	for _, f := range nested.Fields() {
		if hasDictionary(f.Type) {
			return true
		}
	}
	return false
}

// simplify gives a record the schema that simplifySchema made of its own.
func simplify(rec arrow.Record, schema *arrow.Schema) (arrow.Record, error) {
	columns := make([]arrow.Array, rec.NumCols())
	defer func() {
		for _, c := range columns {
			if c != nil {
				c.Release()
			}
		}
	}()
	for i := range columns {
		data, err := simplifyData(rec.Column(i).Data(), schema.Field(i).Type)
		if err != nil {
			return nil, fmt.Errorf("convert column %s of the result: %w", schema.Field(i).Name, err)
		}
		columns[i] = array.MakeFromData(data)
		data.Release()
	}
	return array.NewRecord(schema, columns, rec.NumRows()), nil
}

// simplifyData returns data of the simplified type; the caller releases it.
func simplifyData(data arrow.ArrayData, to arrow.DataType) (arrow.ArrayData, error) {
	from := data.DataType()
	if !hasDictionary(from) {
		data.Retain()
		return data, nil
	}
	if _, is := from.(*arrow.DictionaryType); is {
		return decodeDictionary(data, to)
	}
	targets := childTypes(to)
	children := data.Children()
	if len(targets) != len(children) {
		return nil, fmt.Errorf("an ENUM inside %s cannot be sent; cast it to VARCHAR", from)
	}
	out := make([]arrow.ArrayData, 0, len(children))
	defer func() {
		for _, c := range out {
			c.Release()
		}
	}()
	for i, child := range children {
		c, err := simplifyData(child, targets[i])
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return array.NewData(to, data.Len(), data.Buffers(), out, data.NullN(), data.Offset()), nil
}

func childTypes(t arrow.DataType) []arrow.DataType {
	var out []arrow.DataType
	switch t := t.(type) {
	case *arrow.ListType:
		out = append(out, t.Elem())
	case *arrow.FixedSizeListType:
		out = append(out, t.Elem())
	case *arrow.MapType:
		out = append(out, t.Elem())
	case *arrow.StructType:
		for _, f := range t.Fields() {
			out = append(out, f.Type)
		}
	}
	return out
}

func decodeDictionary(data arrow.ArrayData, to arrow.DataType) (arrow.ArrayData, error) {
	encoded := array.NewDictionaryData(data)
	defer encoded.Release()
	words, is := encoded.Dictionary().(*array.String)
	if !is || to.ID() != arrow.STRING {
		return nil, fmt.Errorf("a dictionary of %s cannot be sent; cast it to VARCHAR", encoded.Dictionary().DataType())
	}
	b := array.NewStringBuilder(memory.DefaultAllocator)
	defer b.Release()
	b.Reserve(encoded.Len())
	for i := range encoded.Len() {
		if encoded.IsNull(i) {
			b.AppendNull()
			continue
		}
		b.Append(words.Value(encoded.GetValueIndex(i)))
	}
	out := b.NewStringArray()
	defer out.Release()
	out.Data().Retain()
	return out.Data(), nil
}
