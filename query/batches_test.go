package query

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// sent encodes records as a service does and reads them back.
func sent(t *testing.T, records ...arrow.Record) (rows []string, pieces int) {
	t.Helper()
	schema := simplifySchema(records[0].Schema())
	e, err := newEncoder(schema)
	if err != nil {
		t.Fatal(err)
	}
	stream := bytes.Clone(e.first())
	b := &batcher{schema: schema}
	send := func(rec arrow.Record) error {
		return e.batch(rec, func(piece []byte) error {
			pieces++
			stream = append(stream, piece...)
			return nil
		})
	}
	for _, rec := range records {
		rec.Retain()
		b.add(rec)
		if b.full() {
			if err := b.flush(send); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !b.empty() {
		if err := b.flush(send); err != nil {
			t.Fatal(err)
		}
	}
	last, err := e.last()
	if err != nil {
		t.Fatal(err)
	}
	r, err := ipc.NewReader(bytes.NewReader(append(stream, last...)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	for r.Next() {
		for i := range int(r.Record().NumRows()) {
			var row []string
			for _, c := range r.Record().Columns() {
				row = append(row, c.ValueStr(i))
			}
			rows = append(rows, strings.Join(row, "|"))
		}
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return rows, pieces
}

// TestEveryShapeIsJoined: nested columns, NULLs and ENUMs with differing dictionaries come out as they went in.
func TestEveryShapeIsJoined(t *testing.T) {
	dictionary := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Uint8, ValueType: arrow.BinaryTypes.String}
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "enum", Type: dictionary, Nullable: true},
		{Name: "enums", Type: arrow.ListOf(dictionary), Nullable: true},
		{Name: "pair", Type: arrow.StructOf(arrow.Field{Name: "e", Type: dictionary, Nullable: true}, arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}), Nullable: true},
		{Name: "map", Type: arrow.MapOf(arrow.BinaryTypes.String, dictionary), Nullable: true},
	}, nil)
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	make1 := func(word string) arrow.Record {
		b := array.NewRecordBuilder(mem, schema)
		defer b.Release()
		for i := range 3 {
			null := i == 1
			text, enum, list := b.Field(0).(*array.StringBuilder), b.Field(1).(*array.BinaryDictionaryBuilder), b.Field(2).(*array.ListBuilder)
			pair, m := b.Field(3).(*array.StructBuilder), b.Field(4).(*array.MapBuilder)
			if null {
				for _, f := range b.Fields() {
					f.AppendNull()
				}
				continue
			}
			text.Append(fmt.Sprint(word, i))
			_ = enum.AppendString(fmt.Sprint(word, i%2))
			list.Append(true)
			for range i {
				_ = list.ValueBuilder().(*array.BinaryDictionaryBuilder).AppendString(word)
			}
			pair.Append(true)
			_ = pair.FieldBuilder(0).(*array.BinaryDictionaryBuilder).AppendString(word + "!")
			pair.FieldBuilder(1).(*array.Int64Builder).Append(int64(i))
			m.Append(true)
			m.KeyBuilder().(*array.StringBuilder).Append("k")
			_ = m.ItemBuilder().(*array.BinaryDictionaryBuilder).AppendString(word)
		}
		return b.NewRecord()
	}
	one, two := make1("a"), make1("b")
	got, pieces := sent(t, one, two)
	want := []string{
		`a0|a0|[]|{"e":"a!","n":0}|[{"key":"k","value":"a"}]`, `(null)|(null)|(null)|(null)|(null)`, `a2|a0|["a","a"]|{"e":"a!","n":2}|[{"key":"k","value":"a"}]`,
		`b0|b0|[]|{"e":"b!","n":0}|[{"key":"k","value":"b"}]`, `(null)|(null)|(null)|(null)|(null)`, `b2|b0|["b","b"]|{"e":"b!","n":2}|[{"key":"k","value":"b"}]`,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || pieces != 1 {
		t.Errorf("in %d pieces:\n%v\nwant\n%v", pieces, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	one.Release()
	two.Release()
	mem.AssertSize(t, 0)
}

func texts(values ...string) arrow.Record {
	b := array.NewStringBuilder(memory.DefaultAllocator)
	defer b.Release()
	b.AppendValues(values, nil)
	col := b.NewArray()
	defer col.Release()
	return array.NewRecord(columnsOf("v", textType), []arrow.Array{col}, int64(len(values)))
}

// TestLargeRowsAreCut: a batch that is too large goes in parts, every row once and in order; a row that fits nothing is refused.
func TestLargeRowsAreCut(t *testing.T) {
	var values []string
	for i := range 100 {
		size := 100
		if i > 80 {
			size = 1 << 20
		}
		values = append(values, fmt.Sprintf("%03d", i)+strings.Repeat("x", size))
	}
	got, pieces := sent(t, texts(values...))
	if len(got) != 100 || pieces < 2 || pieces > 8 {
		t.Fatalf("%d rows in %d pieces", len(got), pieces)
	}
	for i, v := range got {
		if v != values[i] {
			t.Fatalf("row %d is %.10s", i, v)
		}
	}
	e, err := newEncoder(columnsOf("v", textType))
	if err != nil {
		t.Fatal(err)
	}
	err = e.batch(texts("a", strings.Repeat("x", maxMessage+1)), func([]byte) error { return nil })
	if reasonOf(err) != ReasonResultTooLarge {
		t.Error("a row of 48 MiB:", err)
	}
	broken := errors.New("broken")
	if err := e.batch(texts("a"), func([]byte) error { return broken }); !errors.Is(err, broken) {
		t.Error("the sender's error is lost:", err)
	}
}

func TestPositionsAsText(t *testing.T) {
	topic, offsets, err := parsePosition(" orders  1:20 0:12 ")
	if err != nil || (position{topic, offsets}).String() != "orders 0:12 1:20" {
		t.Error(topic, offsets, err)
	}
	for _, bad := range []string{"", "orders", "orders 0", "orders 0:", "orders :1", "orders 0:-1", "orders -1:0", "orders 0:1 0:2", "orders 99999999999:1", "orders 0:1:2"} {
		if _, _, err := parsePosition(bad); reasonOf(err) != ReasonInvalidRequest {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
