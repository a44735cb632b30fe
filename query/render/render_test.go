package render

import (
	"bytes"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/decimal256"
	"github.com/apache/arrow/go/v17/arrow/float16"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"pgregory.net/rapid"
)

// column builds an array of a type; fill appends to its builder.
func column[B array.Builder](t arrow.DataType, fill func(B)) arrow.Array {
	b := array.NewBuilder(memory.DefaultAllocator, t)
	defer b.Release()
	fill(b.(B))
	return b.NewArray()
}

// record has columns c, c, … of the arrays.
func record(cols ...arrow.Array) arrow.Record {
	fields := make([]arrow.Field, len(cols))
	for i, c := range cols {
		fields[i] = arrow.Field{Name: "c", Type: c.DataType(), Nullable: true}
	}
	return array.NewRecord(arrow.NewSchema(fields, nil), cols, int64(cols[0].Len()))
}

func asJSON(t interface{ Fatal(...any) }, rec arrow.Record) string {
	var out bytes.Buffer
	w := NewJSON(&out, rec.Schema())
	if err := errors.Join(w.Write(rec), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func asCSV(t interface{ Fatal(...any) }, rec arrow.Record) string {
	var out bytes.Buffer
	w := NewCSV(&out, rec.Schema())
	if err := errors.Join(w.Write(rec), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func hugeInt(s string) decimal128.Num {
	n, ok := new(big.Int).SetString(s, 10)
	if !ok {
		panic(s)
	}
	low := new(big.Int).And(n, new(big.Int).SetUint64(math.MaxUint64)).Uint64()
	return decimal128.New(new(big.Int).Rsh(n, 64).Int64(), low)
}

func micros(s string) arrow.Timestamp {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return arrow.Timestamp(t.UnixMicro())
}

func union(t *testing.T) arrow.Array {
	t.Helper()
	ints := column(arrow.PrimitiveTypes.Int64, func(b *array.Int64Builder) { b.AppendValues([]int64{7, 0, 0}, []bool{true, true, false}) })
	strs := column(arrow.BinaryTypes.String, func(b *array.StringBuilder) { b.AppendValues([]string{"", "x", ""}, nil) })
	u, err := array.NewSparseUnionFromArrays(column(arrow.PrimitiveTypes.Int8, func(b *array.Int8Builder) { b.AppendValues([]int8{0, 1, 0}, nil) }), []arrow.Array{ints, strs})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// Each type has one form in JSON, in CSV and in a table.
func TestValues(t *testing.T) {
	list := arrow.ListOf(arrow.PrimitiveTypes.Int64)
	object := arrow.StructOf(
		arrow.Field{Name: "z", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, arrow.Field{Name: `a"`, Type: arrow.BinaryTypes.String, Nullable: true},
		arrow.Field{Name: "z", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
	)
	mapping := arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Float64)
	enum := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Uint8, ValueType: arrow.BinaryTypes.String}
	utc := &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "Europe/Berlin"}
	type cell struct{ json, csv, table string }
	same := func(texts ...string) (cells []cell) {
		for _, s := range texts {
			cells = append(cells, cell{s, s, s})
		}
		return cells
	}
	inQuotes := func(texts ...string) (cells []cell) {
		for _, s := range texts {
			cells = append(cells, cell{`"` + s + `"`, s, s})
		}
		return cells
	}
	null := cell{"null", "", "NULL"}
	for name, c := range map[string]struct {
		col  arrow.Array
		want []cell
	}{
		"bool": {column(arrow.FixedWidthTypes.Boolean, func(b *array.BooleanBuilder) { b.AppendValues([]bool{true, false}, nil); b.AppendNull() }), append(same("true", "false"), null)},
		"int8": {column(arrow.PrimitiveTypes.Int8, func(b *array.Int8Builder) { b.AppendValues([]int8{-128, 127}, nil) }), same("-128", "127")},
		"int64": {column(arrow.PrimitiveTypes.Int64, func(b *array.Int64Builder) {
			b.AppendValues([]int64{math.MinInt64, math.MaxInt64, 0}, nil)
			b.AppendNull()
		}), append(same("-9223372036854775808", "9223372036854775807", "0"), null)},
		"uint64": {column(arrow.PrimitiveTypes.Uint64, func(b *array.Uint64Builder) { b.Append(math.MaxUint64) }), same("18446744073709551615")},
		"hugeint": {column(&arrow.Decimal128Type{Precision: 38}, func(b *array.Decimal128Builder) {
			for _, s := range []string{"0", "-1", "10000000000000000000", "170141183460469231731687303715884105727", "-170141183460469231731687303715884105728"} {
				b.Append(hugeInt(s))
			}
			b.AppendNull()
		}), append(same("0", "-1", "10000000000000000000", "170141183460469231731687303715884105727", "-170141183460469231731687303715884105728"), null)},
		"decimal": {column(&arrow.Decimal128Type{Precision: 9, Scale: 2}, func(b *array.Decimal128Builder) {
			for _, n := range []int64{0, 5, -5, 123, -12345, 100} {
				b.Append(decimal128.FromI64(n))
			}
		}), same("0.00", "0.05", "-0.05", "1.23", "-123.45", "1.00")},
		"decimal with a negative scale": {column(&arrow.Decimal128Type{Precision: 9, Scale: -2}, func(b *array.Decimal128Builder) {
			b.Append(decimal128.FromI64(0))
			b.Append(decimal128.FromI64(-7))
		}), same("0", "-700")},
		"decimal256": {column(&arrow.Decimal256Type{Precision: 60, Scale: 3}, func(b *array.Decimal256Builder) {
			b.Append(decimal256.FromI64(-1))
			b.Append(decimal256.FromI64(0))
			b.Append(decimal256.FromBigInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(50), nil)))
		}), same("-0.001", "0.000", "1"+strings.Repeat("0", 47)+".000")},
		"double": {column(arrow.PrimitiveTypes.Float64, func(b *array.Float64Builder) {
			b.AppendValues([]float64{0, math.Copysign(0, -1), 3, 0.1, 1e300, -5e-324, 123456789012345678, 1e21, 1e-6}, nil)
		}), same("0.0", "-0.0", "3.0", "0.1", "1e+300", "-5e-324", "123456789012345680.0", "1e+21", "0.000001")},
		"not finite": {column(arrow.PrimitiveTypes.Float64, func(b *array.Float64Builder) {
			b.AppendValues([]float64{math.NaN(), math.Inf(1), math.Inf(-1)}, nil)
		}), inQuotes("NaN", "Infinity", "-Infinity")},
		"float":   {column(arrow.PrimitiveTypes.Float32, func(b *array.Float32Builder) { b.AppendValues([]float32{0.1, 16777216}, nil) }), same("0.1", "16777216.0")},
		"float16": {column(arrow.FixedWidthTypes.Float16, func(b *array.Float16Builder) { b.Append(float16.New(1.5)) }), same("1.5")},
		"text": {column(arrow.BinaryTypes.String, func(b *array.StringBuilder) {
			b.AppendValues([]string{"", "ä \\ 日本", "a\"b", "\x1b[2J\n\r\t\x00\x7f", "\u2028\u202e\u009b", "a\xff\xe2\x80b"}, nil)
			b.AppendNull()
		}), []cell{
			{`""`, "", ""},
			{`"ä \\ 日本"`, `ä \ 日本`, `ä \ 日本`},
			{`"a\"b"`, `a"b`, `a"b`},
			{`"\u001b[2J\n\r\t\u0000\u007f"`, "\x1b[2J\n\r\t\x00\x7f", `\x1b[2J\n\r\t\x00\x7f`},
			{"\"\\u2028\u202e\\u009b\"", "\u2028\u202e\u009b", `\u2028\u202e\x9b`},
			{"\"a\uFFFD\uFFFD\uFFFDb\"", "a\uFFFD\uFFFD\uFFFDb", "a\uFFFD\uFFFD\uFFFDb"},
			null,
		}},
		"blob": {column(arrow.BinaryTypes.Binary, func(b *array.BinaryBuilder) { b.Append([]byte("a\xff\\\x1b")); b.Append(nil); b.AppendNull() }), []cell{
			{`"Yf9cGw=="`, "Yf9cGw==", `a\xFF\x5C\x1B`}, {`""`, "", ""}, null,
		}},
		"fixed blob": {column(&arrow.FixedSizeBinaryType{ByteWidth: 2}, func(b *array.FixedSizeBinaryBuilder) { b.Append([]byte("ab")) }), []cell{{`"YWI="`, "YWI=", "ab"}}},
		"timestamptz": {column(utc, func(b *array.TimestampBuilder) {
			for _, s := range []string{"2026-11-24T10:00:00Z", "1969-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"} {
				b.Append(micros(s))
			}
			b.AppendNull()
		}), append(inQuotes("2026-11-24T10:00:00.000000Z", "1969-12-31T23:59:59.999999Z", "0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.000000Z"), null)},
		"timestamp": {column(&arrow.TimestampType{Unit: arrow.Microsecond}, func(b *array.TimestampBuilder) {
			b.AppendValues([]arrow.Timestamp{1, math.MaxInt64, -math.MaxInt64, math.MinInt64, math.MaxInt64 - 1}, nil)
		}), inQuotes("1970-01-01T00:00:00.000001", "infinity", "-infinity", "-290308-12-21T19:59:05.224192", "+294247-01-10T04:00:54.775806")},
		"timestamp_ns": {column(&arrow.TimestampType{Unit: arrow.Nanosecond}, func(b *array.TimestampBuilder) { b.Append(-1) }), inQuotes("1969-12-31T23:59:59.999999999")},
		"timestamp_ms": {column(&arrow.TimestampType{Unit: arrow.Millisecond}, func(b *array.TimestampBuilder) { b.Append(1001) }), inQuotes("1970-01-01T00:00:01.001000")},
		"timestamp_s":  {column(&arrow.TimestampType{Unit: arrow.Second}, func(b *array.TimestampBuilder) { b.Append(61) }), inQuotes("1970-01-01T00:01:01.000000")},
		"date": {column(arrow.FixedWidthTypes.Date32, func(b *array.Date32Builder) {
			b.AppendValues([]arrow.Date32{20781, -719528, -719529, math.MaxInt32, -math.MaxInt32, 2932897}, nil)
		}), inQuotes("2026-11-24", "0000-01-01", "-0001-12-31", "infinity", "-infinity", "+10000-01-01")},
		"date64": {column(arrow.FixedWidthTypes.Date64, func(b *array.Date64Builder) { b.Append(-1) }), inQuotes("1969-12-31")},
		"time":   {column(arrow.FixedWidthTypes.Time64us, func(b *array.Time64Builder) { b.AppendValues([]arrow.Time64{36000000000, 86399999999}, nil) }), inQuotes("10:00:00.000000", "23:59:59.999999")},
		"time32": {column(arrow.FixedWidthTypes.Time32ms, func(b *array.Time32Builder) { b.Append(1) }), inQuotes("00:00:00.001000")},
		"interval": {column(arrow.FixedWidthTypes.MonthDayNanoInterval, func(b *array.MonthDayNanoIntervalBuilder) {
			for _, v := range []arrow.MonthDayNanoInterval{
				{Months: 14, Days: 3, Nanoseconds: 14706000007000}, {}, {Days: 1}, {Months: -13, Nanoseconds: -1000}, {Nanoseconds: 1}, {Nanoseconds: math.MinInt64},
				{Months: 1, Days: -1, Nanoseconds: 360_000_000_000_000},
			} {
				b.Append(v)
			}
		}), inQuotes("1 year 2 months 3 days 04:05:06.000007", "00:00:00", "1 day", "-1 year -1 month -00:00:00.000001", "00:00:00.000000001", "-2562047:47:16.854775808", "1 month -1 day 100:00:00")},
		"months":   {column(arrow.FixedWidthTypes.MonthInterval, func(b *array.MonthIntervalBuilder) { b.Append(25) }), inQuotes("2 years 1 month")},
		"days":     {column(arrow.FixedWidthTypes.DayTimeInterval, func(b *array.DayTimeIntervalBuilder) { b.Append(arrow.DayTimeInterval{Days: 2, Milliseconds: 5}) }), inQuotes("2 days 00:00:00.005000")},
		"duration": {column(arrow.FixedWidthTypes.Duration_us, func(b *array.DurationBuilder) { b.Append(-1_500_000) }), inQuotes("-00:00:01.500000")},
		"list": {column(list, func(b *array.ListBuilder) {
			values := b.ValueBuilder().(*array.Int64Builder)
			b.Append(true)
			values.AppendValues([]int64{1, 2}, nil)
			values.AppendNull()
			b.Append(true)
			b.AppendNull()
		}), append(same("[1,2,null]", "[]"), null)},
		"array": {column(arrow.FixedSizeListOf(2, arrow.BinaryTypes.String), func(b *array.FixedSizeListBuilder) {
			b.Append(true)
			b.ValueBuilder().(*array.StringBuilder).AppendValues([]string{"\x1b", "b"}, nil)
		}), same(`["\u001b","b"]`)},
		"struct": {column(object, func(b *array.StructBuilder) {
			b.Append(true)
			b.FieldBuilder(0).(*array.Int64Builder).Append(1)
			b.FieldBuilder(1).AppendNull()
			b.FieldBuilder(2).(*array.BooleanBuilder).Append(true)
			b.AppendNull()
		}), append(same(`{"z":1,"a\"":null,"z_1":true}`), null)},
		"map": {column(mapping, func(b *array.MapBuilder) {
			b.Append(true)
			b.KeyBuilder().(*array.StringBuilder).AppendValues([]string{"b", "a"}, nil)
			b.ItemBuilder().(*array.Float64Builder).AppendValues([]float64{1, math.NaN()}, nil)
			b.Append(true)
			b.AppendNull()
		}), append(same(`[{"key":"b","value":1.0},{"key":"a","value":"NaN"}]`, "[]"), null)},
		"enum": {column(enum, func(b *array.BinaryDictionaryBuilder) {
			for _, s := range []string{"a", "b", "a"} {
				if err := b.AppendString(s); err != nil {
					panic(err)
				}
			}
			b.AppendNull()
		}), append(inQuotes("a", "b", "a"), null)},
		"union": {union(t), []cell{{"7", "7", "7"}, {`"x"`, "x", "x"}, null}},
		"null":  {array.NewNull(2), []cell{null, null}},
		"runs": {column(arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, arrow.BinaryTypes.String), func(b *array.RunEndEncodedBuilder) {
			b.Append(2)
			b.ValueBuilder().(*array.StringBuilder).Append("x")
			b.AppendNull()
		}), append(inQuotes("x", "x"), null)},
		"string view":  {column(arrow.BinaryTypes.StringView, func(b *array.StringViewBuilder) { b.Append("view") }), inQuotes("view")},
		"large string": {column(arrow.BinaryTypes.LargeString, func(b *array.LargeStringBuilder) { b.Append("large") }), inQuotes("large")},
	} {
		t.Run(name, func(t *testing.T) {
			// Twice: as it is, and as a slice of something longer, which moves offsets.
			sliced, err := array.Concatenate([]arrow.Array{c.col, c.col}, memory.DefaultAllocator)
			var twin arrow.Array
			if err == nil {
				twin = array.NewSlice(sliced, int64(c.col.Len()), int64(2*c.col.Len()))
			} else {
				twin = c.col // Arrow cannot concatenate this one
			}
			for _, col := range []arrow.Array{c.col, twin} {
				lines := strings.SplitAfter(asJSON(t, record(col)), "\n")
				for row, want := range c.want {
					if got := strings.TrimSuffix(lines[row], "\n"); got != `{"c":`+want.json+`}` || !json.Valid([]byte(got)) {
						t.Errorf("JSON %s, want %s", got, want.json)
					}
					got, err := Text(col, row)
					if err != nil || got != want.table {
						t.Errorf("table %q, want %q, %v", got, want.table, err)
					}
				}
				rows, err := csv.NewReader(strings.NewReader(asCSV(t, record(col, col)))).ReadAll()
				if err != nil || len(rows) != col.Len()+1 || !slices.Equal(rows[0], []string{"c", "c_1"}) {
					t.Fatal(rows, err)
				}
				for row, want := range c.want {
					if got := rows[row+1][1]; got != strings.ReplaceAll(want.csv, "\r", "\r") {
						t.Errorf("CSV %q, want %q", got, want.csv)
					}
				}
			}
		})
	}
}

func TestCSVTellsNullFromEmpty(t *testing.T) {
	col := column(arrow.BinaryTypes.String, func(b *array.StringBuilder) { b.Append(""); b.AppendNull(); b.Append(` a,"b"`); b.Append("x\ny") })
	if got := asCSV(t, record(col, col)); got != "c,c_1\n\"\",\"\"\n,\n\" a,\"\"b\"\"\",\" a,\"\"b\"\"\"\n\"x\ny\",\"x\ny\"\n" {
		t.Errorf("%q", got)
	}
	var out bytes.Buffer
	w := NewCSV(&out, record(col).Schema())
	if err := w.Close(); err != nil || out.String() != "c\n" {
		t.Errorf("without records: %q %v", &out, err)
	}
}

func TestNames(t *testing.T) {
	for _, c := range [][2]string{
		{"a b", "a b"},
		{"n n n", "n n_1 n_2"},
		{"n n n_1", "n n_2 n_1"},
		{"n_1 n n", "n_1 n n_2"},
		{"n n_1 n n_1", "n n_1 n_2 n_1_1"},
		{"N n", "N n"},
	} {
		if got := strings.Join(Names(strings.Fields(c[0])), " "); got != c[1] {
			t.Errorf("%s → %s, want %s", c[0], got, c[1])
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOf(rapid.StringMatching(`n(_[12])?(_[12])?`)).Draw(t, "names")
		out := Names(in)
		if seen := slices.Compact(slices.Sorted(slices.Values(out))); len(seen) != len(in) {
			t.Fatalf("%v → %v", in, out)
		}
	})
}

// What is written reads back as what it was, whatever it was.
func TestReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.SampledFrom([]rune("\x00\x1b\"\\\n\r\t,  \u2028\u202eä日𝄞")))).Draw(t, "text")
		f := rapid.Float64().Draw(t, "number")
		raw := rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
		huge := decimal128.New(rapid.Int64().Draw(t, "high"), rapid.Uint64().Draw(t, "low"))
		days := rapid.Int32Range(-719162, 2932896).Draw(t, "day") // the years from 1 to 9999
		at := rapid.Int64Range(-62135596800000000, 253402300799999999).Draw(t, "time")
		rec := record(
			column(arrow.BinaryTypes.String, func(b *array.StringBuilder) { b.Append(s) }),
			column(arrow.PrimitiveTypes.Float64, func(b *array.Float64Builder) { b.Append(f) }),
			column(arrow.BinaryTypes.Binary, func(b *array.BinaryBuilder) { b.Append(raw) }),
			column(&arrow.Decimal128Type{Precision: 38}, func(b *array.Decimal128Builder) { b.Append(huge) }),
			column(arrow.FixedWidthTypes.Date32, func(b *array.Date32Builder) { b.Append(arrow.Date32(days)) }),
			column(&arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, func(b *array.TimestampBuilder) { b.Append(arrow.Timestamp(at)) }),
		)
		var got struct {
			Text   string      `json:"c"`
			Number json.Number `json:"c_1"`
			Bytes  []byte      `json:"c_2"`
			Huge   json.Number `json:"c_3"`
			Day    string      `json:"c_4"`
			Time   time.Time   `json:"c_5"`
		}
		line := asJSON(t, rec)
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(line, err)
		}
		number, err := strconv.ParseFloat(got.Number.String(), 64)
		if got.Text != s || err != nil || number != f || !bytes.Equal(got.Bytes, raw) || got.Huge.String() != huge.BigInt().String() || got.Time.UnixMicro() != at {
			t.Fatalf("%s is not %q %v %x %v %v", line, s, f, raw, huge.BigInt(), at)
		}
		if want := time.Unix(int64(days)*86400, 0).UTC().Format(time.DateOnly); got.Day != want {
			t.Fatalf("day %s, want %s", got.Day, want)
		}
		rows, err := csv.NewReader(strings.NewReader(asCSV(t, rec))).ReadAll()
		// Go's reader takes \r\n for \n, also in quotes.
		if err != nil || rows[1][0] != strings.ReplaceAll(s, "\r\n", "\n") || rows[1][2] != base64.StdEncoding.EncodeToString(raw) {
			t.Fatal(rows, err)
		}
		cell, err := Text(rec.Column(0), 0)
		if err != nil || strings.ContainsFunc(cell, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x202e || r == 0x2028 }) {
			t.Fatalf("%q is dangerous: %v", cell, err)
		}
	})
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestWritersSayWhatFailed(t *testing.T) {
	full := errors.New("disk full")
	rec := record(column(arrow.PrimitiveTypes.Int64, func(b *array.Int64Builder) { b.Append(1) }))
	j, c := NewJSON(failingWriter{full}, rec.Schema()), NewCSV(failingWriter{full}, rec.Schema())
	for _, err := range []error{j.Write(rec), j.Write(rec), j.Close(), c.Write(rec), c.Write(rec), c.Close()} {
		if !errors.Is(err, full) {
			t.Error(err)
		}
	}
	for _, err := range []error{unknown(func(s *arrow.Schema) error { return NewJSON(nil, s).Close() }), unknown(func(s *arrow.Schema) error { return NewCSV(nil, s).Close() })} {
		if err == nil || !strings.Contains(err.Error(), "cast the column to VARCHAR") || !strings.Contains(err.Error(), `"odd"`) {
			t.Error(err)
		}
	}
}

type oddType struct{ arrow.NullType }

func (*oddType) ID() arrow.Type { return arrow.Type(99) }

func unknown(f func(*arrow.Schema) error) error {
	return f(arrow.NewSchema([]arrow.Field{{Name: "odd", Type: arrow.ListOf(&oddType{})}}, nil))
}

// A row larger than the buffer comes out whole, and its memory is let go.
func TestHugeRow(t *testing.T) {
	rec := record(column(arrow.BinaryTypes.String, func(b *array.StringBuilder) { b.Append(strings.Repeat("x", 4<<20)); b.Append("y") }))
	var out bytes.Buffer
	w := NewJSON(&out, rec.Schema())
	if err := w.Write(rec); err != nil || out.Len() != 4<<20+len(`{"c":""}`)+1+len(`{"c":"y"}`)+1 {
		t.Error(out.Len(), err)
	}
	if cap(w.buf) > 8*flushBytes {
		t.Errorf("it holds %d bytes", cap(w.buf))
	}
}

func orders(rows int) arrow.Record {
	return record(
		column(arrow.PrimitiveTypes.Int64, func(b *array.Int64Builder) {
			for i := range rows {
				b.Append(int64(i) * 7919)
			}
		}),
		column(&arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, func(b *array.TimestampBuilder) {
			for i := range rows {
				b.Append(arrow.Timestamp(1764000000000000 + int64(i)*977))
			}
		}),
		column(arrow.BinaryTypes.String, func(b *array.StringBuilder) {
			for i := range rows {
				b.Append("customer " + strconv.Itoa(i%5000))
			}
		}),
		column(arrow.PrimitiveTypes.Float64, func(b *array.Float64Builder) {
			for i := range rows {
				b.Append(float64(i%100000) / 100)
			}
		}),
		column(arrow.FixedWidthTypes.Boolean, func(b *array.BooleanBuilder) {
			for i := range rows {
				b.Append(i%3 == 0)
			}
		}),
	)
}

type countingWriter int64

func (w *countingWriter) Write(p []byte) (int, error) {
	*w += countingWriter(len(p))
	return len(p), nil
}

func benchmark(b *testing.B, write func(*countingWriter, arrow.Record) error) {
	rec := orders(65536)
	var out countingWriter
	b.ReportAllocs()
	for b.Loop() {
		out = 0
		if err := write(&out, rec); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(out))
	b.ReportMetric(float64(b.N)*65536/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkJSON(b *testing.B) {
	benchmark(b, func(w *countingWriter, rec arrow.Record) error { return NewJSON(w, rec.Schema()).Write(rec) })
}

func BenchmarkCSV(b *testing.B) {
	benchmark(b, func(w *countingWriter, rec arrow.Record) error { return NewCSV(w, rec.Schema()).Write(rec) })
}
