//go:build cgo

package twintest

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/duckdb/duckdb-go/v2"
)

// answer is what a statement gave, in terms that both sides have.
type answer struct {
	names []string
	rows  [][]cell
}

// cell is a value. A double that stands alone has its number beside its text, so that it can be compared with tolerance.
type cell struct {
	text   string
	number float64
	double bool
}

// how says how answers are compared.
type how struct {
	ordered bool // the rows are in order
	inexact bool // doubles are sums whose order nobody promises
	bits    bool // a zero has its sign
}

// difference tells how two answers differ, "" when they do not.
func difference(server, twin answer, h how) string {
	if !slices.Equal(server.names, twin.names) {
		return fmt.Sprintf("columns: the server has %q, the twin %q", server.names, twin.names)
	}
	a, b := rendered(server.rows, h), rendered(twin.rows, h)
	if !h.ordered {
		a, b = sorted(a), sorted(b)
	}
	if len(a) == len(b) {
		at := slices.IndexFunc(indices(len(a)), func(i int) bool { return !a[i].same(b[i]) })
		if at < 0 {
			return ""
		}
		if h.ordered {
			return fmt.Sprintf("row %d of %d: the server has\n  %s\nthe twin\n  %s", at, len(a), a[at], b[at])
		}
	}
	onlyA, onlyB := subtract(a, b), subtract(b, a)
	if len(a) == len(b) && len(onlyA) == 0 && len(onlyB) == 0 {
		return ""
	}
	return fmt.Sprintf("the server has %d rows, the twin %d\nonly the server has%s\nonly the twin has%s%s", len(a), len(b), listed(onlyA), listed(onlyB), nearest(onlyA, onlyB, server.names))
}

func indices(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// row is a row as it is compared: the text of what is exact, and the rest.
type row struct {
	cells  []string
	text   string
	floats []float64
}

func (r row) String() string {
	if len(r.floats) == 0 {
		return r.text
	}
	return fmt.Sprintf("%s %v", r.text, r.floats)
}

func (r row) same(other row) bool {
	if r.text != other.text || len(r.floats) != len(other.floats) {
		return false
	}
	for i, x := range r.floats {
		if !near(x, other.floats[i]) {
			return false
		}
	}
	return true
}

// near allows what another order of a sum changes.
func near(x, y float64) bool {
	if x == y || math.IsNaN(x) && math.IsNaN(y) {
		return true
	}
	return math.Abs(x-y) <= 1e-9*max(math.Abs(x), math.Abs(y))
}

func rendered(rows [][]cell, h how) []row {
	out := make([]row, 0, len(rows))
	for _, cells := range rows {
		var r row
		var text strings.Builder
		for _, c := range cells {
			switch {
			case c.double && h.inexact:
				r.floats = append(r.floats, c.number)
				c.text = "~"
			case c.double && c.number == 0 && !h.bits:
				c.text = "0d"
			}
			r.cells = append(r.cells, c.text)
			text.WriteString(c.text)
			text.WriteString(" | ")
		}
		r.text = text.String()
		out = append(out, r)
	}
	return out
}

func sorted(rows []row) []row {
	slices.SortFunc(rows, func(a, b row) int { return cmp.Or(strings.Compare(a.text, b.text), slices.Compare(a.floats, b.floats)) })
	return rows
}

// subtract is what a has and b has not, each row of b standing for one of a.
func subtract(a, b []row) []row {
	left := make(map[string][]row)
	for _, r := range b {
		left[r.text] = append(left[r.text], r)
	}
	var out []row
	for _, r := range a {
		at := slices.IndexFunc(left[r.text], func(other row) bool { return r.same(other) })
		if at < 0 {
			out = append(out, r)
			continue
		}
		left[r.text] = slices.Delete(left[r.text], at, at+1)
	}
	return out
}

// nearest tells in which columns the first row that only one side has differs from the row of the other side that is most like it.
func nearest(a, b []row, names []string) string {
	if len(a) == 0 || len(b) == 0 {
		return ""
	}
	var least []string
	for _, r := range b[:min(len(b), 1000)] {
		var differ []string
		for i := range names {
			if a[0].cells[i] != r.cells[i] {
				differ = append(differ, fmt.Sprintf("\n  %s: %.500s and %.500s", names[i], a[0].cells[i], r.cells[i]))
			}
		}
		if least == nil || len(differ) < len(least) {
			least = differ
		}
	}
	return "\nof the first, the nearest differs in" + strings.Join(least, "")
}

func listed(rows []row) string {
	var out strings.Builder
	for i, r := range rows {
		if i == 5 {
			fmt.Fprintf(&out, "\n  and %d more", len(rows)-i)
			break
		}
		fmt.Fprintf(&out, "\n  %.500s", r)
	}
	if len(rows) == 0 {
		return " nothing"
	}
	return out.String()
}

// The texts of values. Integers of any width are alike; a double ends with d, a decimal keeps its scale.

func doubleText(f float64) string {
	if math.IsNaN(f) {
		return "NaNd"
	}
	return strconv.FormatFloat(f, 'g', -1, 64) + "d"
}

func decimalText(i *big.Int, scale int) string {
	if scale == 0 {
		return i.String()
	}
	return fmt.Sprintf("%se-%d", i, scale)
}

func intervalText(months, days int32, micros int64) string {
	return fmt.Sprintf("%d months %d days %d us", months, days, micros)
}

func timeText(micros int64) string { return "t" + strconv.FormatInt(micros, 10) }

func structText(names []string, values []string) string {
	parts := make([]string, len(names))
	for i := range names {
		parts[i] = strconv.Quote(names[i]) + ": " + values[i]
	}
	slices.Sort(parts)
	return "{" + strings.Join(parts, ", ") + "}"
}

// arrowCell is a value of the server's answer.
func arrowCell(a arrow.Array, i int) (cell, error) {
	if d, ok := a.(*array.Float64); ok && a.IsValid(i) {
		return cell{text: doubleText(d.Value(i)), number: d.Value(i), double: true}, nil
	}
	s, err := arrowText(a, i)
	return cell{text: s}, err
}

func arrowText(a arrow.Array, i int) (string, error) {
	if a.IsNull(i) {
		return "NULL", nil
	}
	switch a := a.(type) {
	case *array.Null:
		return "NULL", nil
	case *array.Boolean:
		return strconv.FormatBool(a.Value(i)), nil
	case *array.Int8, *array.Int16, *array.Int32, *array.Int64, *array.Uint8, *array.Uint16, *array.Uint32, *array.Uint64:
		return a.ValueStr(i), nil
	case *array.Float32:
		return strconv.FormatFloat(float64(a.Value(i)), 'g', -1, 32) + "f", nil
	case *array.Float64:
		return doubleText(a.Value(i)), nil
	case *array.Decimal128:
		return decimalText(a.Value(i).BigInt(), int(a.DataType().(*arrow.Decimal128Type).Scale)), nil
	case *array.String:
		return strconv.Quote(a.Value(i)), nil
	case *array.LargeString:
		return strconv.Quote(a.Value(i)), nil
	case *array.Binary:
		return fmt.Sprintf("x%x", a.Value(i)), nil
	case *array.LargeBinary:
		return fmt.Sprintf("x%x", a.Value(i)), nil
	case *array.Date32:
		return timeText(int64(a.Value(i)) * 86_400_000_000), nil
	case *array.Timestamp:
		per := map[arrow.TimeUnit]int64{arrow.Second: 1_000_000, arrow.Millisecond: 1000, arrow.Microsecond: 1}[a.DataType().(*arrow.TimestampType).Unit]
		return timeText(int64(a.Value(i)) * per), nil
	case *array.MonthDayNanoInterval:
		v := a.Value(i)
		return intervalText(v.Months, v.Days, v.Nanoseconds/1000), nil
	case *array.List:
		begin, end := a.ValueOffsets(i)
		return arrowElems(a.ListValues(), begin, end)
	case *array.FixedSizeList:
		begin, end := a.ValueOffsets(i)
		return arrowElems(a.ListValues(), begin, end)
	case *array.Map:
		begin, end := a.ValueOffsets(i)
		return arrowElems(a.ListValues(), begin, end)
	case *array.Struct:
		var names, values []string
		for f := range a.NumField() {
			s, err := arrowText(a.Field(f), i)
			if err != nil {
				return "", err
			}
			names, values = append(names, a.DataType().(*arrow.StructType).Field(f).Name), append(values, s)
		}
		return structText(names, values), nil
	}
	return "", fmt.Errorf("the test has no text for Arrow type %s", a.DataType())
}

func arrowElems(a arrow.Array, begin, end int64) (string, error) {
	parts := make([]string, 0, end-begin)
	for j := begin; j < end; j++ {
		s, err := arrowText(a, int(j))
		if err != nil {
			return "", err
		}
		parts = append(parts, s)
	}
	return "[" + strings.Join(parts, ", ") + "]", nil
}

// goCell is a value of the twin's answer.
func goCell(v any) (cell, error) {
	if f, ok := v.(float64); ok {
		return cell{text: doubleText(f), number: f, double: true}, nil
	}
	s, err := goText(v)
	return cell{text: s}, err
}

func goText(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "NULL", nil
	case bool:
		return strconv.FormatBool(v), nil
	case int8, int16, int32, int64, uint8, uint16, uint32, uint64, *big.Int:
		return fmt.Sprint(v), nil
	case float32:
		return strconv.FormatFloat(float64(v), 'g', -1, 32) + "f", nil
	case float64:
		return doubleText(v), nil
	case duckdb.Decimal:
		return decimalText(v.Value, int(v.Scale)), nil
	case string:
		return strconv.Quote(v), nil
	case []byte:
		return fmt.Sprintf("x%x", v), nil
	case time.Time:
		return timeText(v.UnixMicro()), nil
	case duckdb.Interval:
		return intervalText(v.Months, v.Days, v.Micros), nil
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			s, err := goText(v[i])
			if err != nil {
				return "", err
			}
			parts[i] = s
		}
		return "[" + strings.Join(parts, ", ") + "]", nil
	case map[string]any:
		var names, values []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			s, err := goText(v[name])
			if err != nil {
				return "", err
			}
			names, values = append(names, name), append(values, s)
		}
		return structText(names, values), nil
	}
	return "", fmt.Errorf("the test has no text for %T", v)
}

// The comparator can say no.
func TestDifference(t *testing.T) {
	of := func(names string, rows ...[]any) answer {
		out := answer{names: strings.Fields(names)}
		for _, values := range rows {
			var cells []cell
			for _, v := range values {
				c, err := goCell(v)
				if err != nil {
					t.Fatal(err)
				}
				cells = append(cells, c)
			}
			out.rows = append(out.rows, cells)
		}
		return out
	}
	type rows = []any
	one, two := rows{int64(1), "x", 0.5}, rows{int64(2), "y", 1e15}
	off := rows{int64(2), "y", 1e15 + 1}
	negative := math.Copysign(0, -1)
	for name, c := range map[string]struct {
		a, b   answer
		how    how
		differ bool
	}{
		"same":                          {of("a b c", one, two), of("a b c", one, two), how{ordered: true}, false},
		"another order":                 {of("a b c", one, two), of("a b c", two, one), how{}, false},
		"another order that counts":     {of("a b c", one, two), of("a b c", two, one), how{ordered: true}, true},
		"a row less":                    {of("a b c", one, two), of("a b c", one), how{}, true},
		"a row twice":                   {of("a b c", one, two), of("a b c", one, two, two), how{}, true},
		"other multiplicities":          {of("a b c", one, one, two), of("a b c", one, two, two), how{}, true},
		"another name":                  {of("a b c", one), of("a b d", one), how{}, true},
		"empty and not":                 {of("a"), of("a", rows{nil}), how{}, true},
		"the last bit":                  {of("a b c", off), of("a b c", two), how{}, true},
		"the last bit of a sum":         {of("a b c", off, one), of("a b c", one, two), how{inexact: true}, false},
		"a text beside a sum":           {of("a", rows{"x", 1.0}), of("a", rows{"y", 1.0}), how{inexact: true}, true},
		"another sum":                   {of("a", rows{1.0}), of("a", rows{1.000001}), how{inexact: true}, true},
		"sums that sort differently":    {of("a b", rows{1e15, 2.0}, rows{1e15 + 1, 1.0}), of("a b", rows{1e15 + 1, 2.0}, rows{1e15, 1.0}), how{inexact: true}, false},
		"sums of other rows":            {of("a b", rows{1.0, 2.0}, rows{2.0, 1.0}), of("a b", rows{1.0, 1.0}, rows{2.0, 2.0}), how{inexact: true}, true},
		"NULL and text":                 {of("a", rows{nil}), of("a", rows{"NULL"}), how{}, true},
		"NULL and 0":                    {of("a", rows{nil}), of("a", rows{0.0}), how{inexact: true}, true},
		"number and text":               {of("a", rows{int64(1)}), of("a", rows{"1"}), how{}, true},
		"integer and double":            {of("a", rows{int64(1)}), of("a", rows{1.0}), how{}, true},
		"integers of other widths":      {of("a", rows{int64(1)}), of("a", rows{big.NewInt(1)}), how{}, false},
		"NaN":                           {of("a", rows{math.NaN()}), of("a", rows{math.NaN()}), how{inexact: true}, false},
		"NaN and NULL":                  {of("a", rows{math.NaN()}), of("a", rows{nil}), how{}, true},
		"zeros":                         {of("a", rows{negative}), of("a", rows{0.0}), how{}, false},
		"zeros with signs":              {of("a", rows{negative}), of("a", rows{0.0}), how{bits: true}, true},
		"bytes and text":                {of("a", rows{[]byte("x")}), of("a", rows{"x"}), how{}, true},
		"a NUL":                         {of("a", rows{"x\x00y"}), of("a", rows{"x"}), how{}, true},
		"lists":                         {of("a", rows{[]any{nil}}), of("a", rows{[]any{}}), how{}, true},
		"a text with brackets":          {of("a", rows{[]any{"a", "b"}}), of("a", rows{[]any{`a", "b`}}), how{}, true},
		"structures in any order":       {of("a", rows{map[string]any{"x": int8(1), "y": nil}}), of("a", rows{map[string]any{"y": nil, "x": int64(1)}}), how{}, false},
		"structures with another field": {of("a", rows{map[string]any{"x": int8(1)}}), of("a", rows{map[string]any{"y": int8(1)}}), how{}, true},
		"decimals":                      {of("a", rows{duckdb.Decimal{Scale: 2, Value: big.NewInt(150)}}), of("a", rows{duckdb.Decimal{Scale: 1, Value: big.NewInt(15)}}), how{}, true},
	} {
		if d := difference(c.a, c.b, c.how); (d != "") != c.differ {
			t.Errorf("%s: %q", name, d)
		}
		if d := difference(c.b, c.a, c.how); (d != "") != c.differ {
			t.Errorf("%s, the other way round: %q", name, d)
		}
	}
}
