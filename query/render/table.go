package render

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/apache/arrow/go/v17/arrow"
)

// Cells returns what gives each row of a column as a cell of a table: NULL for NULL, blobs as DuckDB shows them, everything else
// as in CSV without its quotes. No cell holds anything that moves a terminal's cursor or changes its state: see Escape. The
// array must live as long as the function is used.
func Cells(col arrow.Array) (func(row int) string, error) {
	f, err := bindInner(col, styleTable)
	if err != nil {
		return nil, err
	}
	var buf []byte
	return func(row int) string {
		buf = f(reuse(buf), row)
		return Escape(string(buf))
	}, nil
}

// Text is one cell of Cells.
func Text(col arrow.Array, row int) (string, error) {
	f, err := Cells(col)
	if err != nil {
		return "", err
	}
	return f(row), nil
}

// Escape makes text safe for a line of a terminal: control characters, separators of lines, and what turns the direction of
// writing are written as \n, \t, \r, \x1b or \u202e. What can be seen stays as it is, backslashes too.
func Escape(s string) string {
	if strings.IndexFunc(s, unsafe) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case !unsafe(r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x100:
			b.Write([]byte{'\\', 'x', hexDigits[r>>4], hexDigits[r&15]})
		default: // all of them are below U+10000
			b.Write([]byte{'\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15]})
		}
	}
	return b.String()
}

// unsafe are characters that do something to a terminal instead of being seen on it.
func unsafe(r rune) bool {
	switch {
	case r < 0x7f:
		return r < ' '
	case r == utf8.RuneError:
		return false
	}
	return unicode.IsControl(r) || r == 0x2028 || r == 0x2029 || r == 0xfeff || unicode.Is(unicode.Bidi_Control, r)
}

// Numeric tells whether a column is one of numbers, which a table puts to the right.
func Numeric(t arrow.DataType) bool {
	switch t.ID() { //nolint:exhaustive // the rest is no number
	case arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64, arrow.UINT8, arrow.UINT16, arrow.UINT32, arrow.UINT64,
		arrow.FLOAT16, arrow.FLOAT32, arrow.FLOAT64, arrow.DECIMAL128, arrow.DECIMAL256:
		return true
	}
	return false
}
