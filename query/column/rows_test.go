package column

import (
	"bytes"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemark-io/tidemark/record"
)

// The columns that every topic has, of records with everything that a record can have.
func TestRows(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	rows := NewRows(mem, 7)
	for _, r := range []record.Record{
		{Offset: 10, Timestamp: 1_500, Key: []byte("k"), Value: []byte("v"), Headers: []record.Header{{Key: "h", Value: []byte{0xff}}, {Key: "", Value: nil}}},
		{Offset: 11, Timestamp: -1, Key: []byte{0xff}, Value: nil},
		{Offset: 15, Timestamp: math.MaxInt64, Key: nil, Value: []byte("a\x00\xfe")},
		{Offset: 16, Timestamp: math.MinInt64, Key: []byte{}, Value: []byte{}},
		{Offset: 17, Timestamp: maxMillis, Headers: []record.Header{{Key: "h", Value: []byte{}}}},
		{Offset: 18, Timestamp: -maxMillis},
		{Offset: 19, Timestamp: maxMillis + 1},
	} {
		rows.Append(r)
	}
	raw := rows.Take()
	c, d := Shred(mem, raw, Empty)
	if !d.Empty() || c.Rows() != 7 || c.Partition() != 7 || c.First() != 10 || c.Last() != 19 || rows.Len() != 0 || c.Deferred() || c.Misfits() != nil {
		t.Fatalf("rows %d of partition %d, offsets %d to %d", c.Rows(), c.Partition(), c.First(), c.Last())
	}
	seven := int32(7)
	for i, want := range [][]any{
		{seven, seven, seven, seven, seven, seven, seven},
		{int64(10), int64(11), int64(15), int64(16), int64(17), int64(18), int64(19)},
		{int64(1_500_000), nil, nil, nil, int64(maxMillis * 1000), int64(-maxMillis * 1000), nil},
		{"k", nil, nil, "", nil, nil, nil},
		{[]any{[]any{"h", []byte{0xff}}, []any{"", nil}}, []any{}, []any{}, []any{}, []any{[]any{"h", []byte{}}}, []any{}, []any{}},
		{"v", nil, nil, "", nil, nil, nil},
		{[]byte("k"), []byte{0xff}, nil, []byte{}, nil, nil, nil},
		{[]byte("v"), nil, []byte("a\x00\xfe"), []byte{}, nil, nil, nil},
	} {
		wellFormed(t, c.Columns()[i].Data())
		for row, w := range want {
			if got := valueAt(t, c.Columns()[i], row); !same2(got, w) {
				t.Errorf("column %s, row %d: got %#v, want %#v", Empty.Arrow().Field(i).Name, row, got, w)
			}
		}
	}
	// The texts are no second copy, and the count of memory is that of the allocator.
	for _, pair := range [][2]int{{3, 6}, {5, 7}} {
		text, bytes := c.Columns()[pair[0]].Data().Buffers(), c.Columns()[pair[1]].Data().Buffers()
		if text[1] != bytes[1] || text[2] != bytes[2] {
			t.Error("a text has memory of its own")
		}
		again := Text(mem, c.Columns()[pair[1]].(*array.Binary))
		if !array.Equal(again, c.Columns()[pair[0]]) || again.Data().Buffers()[2] != bytes[2] {
			t.Error("Text gives another text than Shred")
		}
		again.Release()
	}
	// What is behind some records is what they would be alone.
	for first := 1; first < 7; first++ {
		rest := raw.Rest(mem, first)
		for i, a := range rest.columns {
			wellFormed(t, a.Data())
			for row := range a.Len() {
				if got, want := valueAt(t, a, row), valueAt(t, raw.columns[i], first+row); !same2(got, want) || a.Len() != 7-first {
					t.Errorf("behind %d records, row %d of column %d: got %#v, want %#v", first, row, i, got, want)
				}
			}
		}
		rest.Release()
	}
	raw.Release()
	if c.Bytes() != int64(mem.CurrentAlloc()) {
		t.Errorf("the chunk counts %d bytes, the allocator has %d", c.Bytes(), mem.CurrentAlloc())
	}
	c.Release()
	mem.AssertSize(t, 0)
}

func TestRowsAreFull(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	rows := NewRows(mem, 0)
	for i := range MaxRows {
		if rows.Full() {
			t.Fatalf("full with %d rows", i)
		}
		rows.Append(record.Record{Offset: int64(i), Value: []byte("{}")})
	}
	if !rows.Full() || rows.Bytes() < 2*MaxRows {
		t.Fatalf("%d rows in %d bytes are not full", rows.Len(), rows.Bytes())
	}
	rows.Release()
	value := []byte(strings.Repeat("x", 1<<20))
	for i := range 4 {
		if rows.Full() {
			t.Fatalf("full with %d MiB", i)
		}
		rows.Append(record.Record{Offset: int64(i), Value: value})
	}
	if !rows.Full() {
		t.Fatal("not full with 4 MiB")
	}
	raw := rows.Take()
	if raw.Bytes() != int64(mem.CurrentAlloc()) || rows.Full() {
		t.Errorf("the records count %d bytes, the allocator has %d", raw.Bytes(), int64(mem.CurrentAlloc()))
	}
	raw.Release()
	rows.Append(record.Record{Offset: 9, Value: value})
	rows.Release()
	if mem.CurrentAlloc() != 0 {
		t.Errorf("%d bytes are not released", mem.CurrentAlloc())
	}
}

// Chunks joined are the chunk of their records.
func TestConcat(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	values := documents(`{"a":1,"o":{"x":[1,2]}}`, `no`, `{"a":"misfit","o":{"x":["misfit"]}}`, "\xff", `{"o":{"x":[]},"a":7,"t":[]}`, `{"a":"misfit","s":"ü"}`)
	s := follow(t, mem, Empty, 100, values)
	shred := func(s *Schema, partition int32, first int64, values [][]byte) *Chunk {
		raw := rawOf(mem, first, values...)
		raw.partition = partition
		defer raw.Release()
		c, _ := Shred(mem, raw, s)
		return c
	}
	parts := []*Chunk{shred(s, 3, 100, values[:1]), shred(s, 3, 101, values[1:3]), shred(s, 3, 103, values[3:])}
	joined, err := Concat(mem, parts)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		p.Release()
	}
	if joined.First() != 100 || joined.Last() != 105 || joined.Bytes() != int64(mem.CurrentAlloc()) {
		t.Errorf("offsets %d to %d, %d bytes of %d", joined.First(), joined.Last(), joined.Bytes(), mem.CurrentAlloc())
	}
	agrees(t, joined, values)
	whole := shred(s, 3, 100, values)
	for i, a := range joined.Columns() {
		if !array.Equal(a, whole.Columns()[i]) && i != 0 {
			t.Errorf("column %d is not that of the whole", i)
		}
	}
	if !joined.Deferred() { // the last value but one has an empty list below a key that is new
		t.Error("one of the parts was deferred, and the whole is not")
	}
	again, d := Shred(mem, joined.Raw(), s) // its records can be decoded again
	if !d.Empty() {
		t.Error("a discovery")
	}
	agrees(t, again, values)
	other := shred(s.Override(map[string]Type{"z": {Kind: JSON}}), 3, 106, values)
	elsewhere := shred(s, 4, 106, values)
	many := shred(s, 3, 106, make([][]byte, MaxRows))
	for name, bad := range map[string][]*Chunk{"none": nil, "other schema": {joined, other}, "other partition": {joined, elsewhere}, "wrong order": {joined, whole}, "too many": {joined, many}} {
		if _, err := Concat(mem, bad); err == nil {
			t.Errorf("%s: joined", name)
		}
	}
	for _, c := range []*Chunk{joined, whole, again, other, elsewhere, many} {
		c.Retain()
		c.Release()
		c.Release()
	}
	mem.AssertSize(t, 0)
}

// Schema, Raw and Chunk are for any number of goroutines.
func TestShredAtOnce(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	values := documents(`{"a":1,"o":{"x":[1,2]}}`, `no`, `{"a":"misfit","o":{"x":["misfit"],"y":{}}}`, `{"o":{"x":[]},"a":7,"new":1.5}`)
	s := follow(t, mem, Empty, 100, values[:3])
	raw := rawOf(mem, 100, values...)
	var all sync.WaitGroup
	versions := make([]*Schema, 8)
	for i := range versions {
		raw.Retain()
		all.Go(func() {
			defer raw.Release()
			for range 20 {
				c, d := Shred(mem, raw, s)
				versions[i] = s.Extend(d)
				c.Release()
			}
		})
	}
	raw.Release()
	all.Wait()
	for _, v := range versions {
		if !bytes.Equal(v.Encode(), versions[0].Encode()) || v == s {
			t.Error("two that saw the same extended the schema differently")
		}
	}
	mem.AssertSize(t, 0)
}

// What a record takes is copied, and nothing else is allocated for it.
func TestDecodeAllocates(t *testing.T) {
	mem := memory.NewGoAllocator()
	recs := orders(MaxRows)
	s := Empty
	decode := func() {
		rows := NewRows(mem, 0)
		for i := range recs {
			rows.Append(recs[i])
		}
		raw := rows.Take()
		c, d := Shred(mem, raw, s)
		s = s.Extend(d)
		c.Release()
		raw.Release()
	}
	decode()
	if n := testing.AllocsPerRun(5, decode); n > MaxRows/2 { // under the race detector pools forget at random, and it is twice of what it is else
		t.Errorf("%.0f allocations for %d records", n, len(recs))
	}
}
