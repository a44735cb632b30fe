package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/apache/arrow/go/v17/arrow"
	"golang.org/x/term"
	"golang.org/x/text/width"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/query/render"
)

// What a table holds before it is printed: its columns are as wide as their widest cell.
const (
	maxTableRows  = 10_000
	maxTableBytes = 64 << 20
)

// textTable is cells in aligned columns. Its cells hold nothing that a terminal would obey.
type textTable struct {
	names   []string
	right   []bool // columns that are aligned on their right end
	rows    [][]string
	bytes   int
	hidden  int64 // rows that were not added
	columns int   // how many print showed
}

// full tells that no more rows are added.
func (t *textTable) full() bool { return len(t.rows) >= maxTableRows || t.bytes >= maxTableBytes }

func (t *textTable) add(row []string) {
	t.rows = append(t.rows, row)
	for _, cell := range row {
		t.bytes += len(cell) + 16
	}
}

// print writes the table. With a width, it cuts cells that are too long for their column, and leaves out the last columns when
// there is no room for them.
func (t *textTable) print(out io.Writer, width int) error {
	widths := t.fit(width)
	t.columns = len(widths)
	w := bufio.NewWriterSize(out, 64<<10)
	var line strings.Builder
	put := func(cells []string) {
		line.Reset()
		for i, most := range widths {
			if i > 0 {
				line.WriteString("  ")
			}
			cell, has := cut(cells[i], most)
			pad := strings.Repeat(" ", most-has)
			if t.right[i] {
				cell = pad + cell
			} else {
				cell += pad
			}
			line.WriteString(cell)
		}
		// The writer keeps its first error for Flush.
		_, _ = w.WriteString(strings.TrimRight(line.String(), " "))
		_ = w.WriteByte('\n')
	}
	put(t.names)
	rule := make([]string, len(widths))
	for i, n := range widths {
		rule[i] = strings.Repeat("-", n)
	}
	put(rule)
	for _, row := range t.rows {
		put(row)
	}
	return w.Flush()
}

// minColumn is how far a column may be cut.
const minColumn = 8

// fit gives the width of each column that is shown. The widest are cut first, all to the same width.
func (t *textTable) fit(width int) []int {
	widths := make([]int, len(t.names))
	for i, name := range t.names {
		widths[i] = displayWidth(name)
		for _, row := range t.rows {
			widths[i] = max(widths[i], displayWidth(row[i]))
		}
	}
	if width <= 0 {
		return widths
	}
	needs := func(n, most int) int {
		sum := 2 * (n - 1)
		for _, w := range widths[:n] {
			sum += min(w, most)
		}
		return sum
	}
	n := len(widths)
	for n > 1 && needs(n, minColumn) > width {
		n--
	}
	most := width
	for most > minColumn && needs(n, most) > width {
		most--
	}
	widths = widths[:n]
	for i := range widths {
		widths[i] = min(widths[i], most)
	}
	return widths
}

// cut shortens s to a display width, and says how wide it is then. What was cut off is told by an ellipsis.
func cut(s string, most int) (text string, has int) {
	if has = displayWidth(s); has <= most {
		return s, has
	}
	has = 0
	for i, r := range s {
		w := runeWidth(r)
		if has+w > most-1 {
			return s[:i] + "…", has + 1
		}
		has += w
	}
	return s, has
}

func displayWidth(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// runeWidth is how many cells of a terminal a character takes: two for the wide ones of East Asia and for emoji, none for marks
// that stand on the character before.
func runeWidth(r rune) int {
	if r < 0x300 {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0
	}
	switch width.LookupRune(r).Kind() { //nolint:exhaustive // the others are narrow
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// terminalWidth is that of the terminal behind w, 80 if it does not tell.
func terminalWidth(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			return columns
		}
	}
	return 80
}

// tableResult is a result as a table for people.
type tableResult struct {
	out     io.Writer
	width   int
	table   textTable
	printed bool
}

func newTableResult(out io.Writer, width int, s *arrow.Schema) *tableResult {
	r := &tableResult{out: out, width: width}
	for i, f := range s.Fields() {
		r.table.names = append(r.table.names, render.Escape(strings.ToValidUTF8(s.Field(i).Name, "\uFFFD")))
		r.table.right = append(r.table.right, render.Numeric(f.Type))
	}
	return r
}

// write holds rows until there are enough of them; what comes behind those is only counted.
func (r *tableResult) write(rec arrow.Record) error {
	if r.table.full() {
		r.table.hidden += rec.NumRows()
		return nil
	}
	columns := make([]func(int) string, rec.NumCols())
	for i, col := range rec.Columns() {
		f, err := render.Cells(col)
		if err != nil {
			return fmt.Errorf("column %q: %w", rec.ColumnName(i), err)
		}
		columns[i] = f
	}
	for n := range int(rec.NumRows()) {
		if r.table.full() {
			r.table.hidden += rec.NumRows() - int64(n)
			break
		}
		row := make([]string, len(columns))
		for i, f := range columns {
			row[i] = f(n)
			if r.width > 0 { // no more than that is ever seen
				row[i], _ = cut(row[i], r.width)
			}
			row[i] = strings.Clone(row[i])
		}
		r.table.add(row)
	}
	if r.table.full() {
		return r.print()
	}
	return nil
}

func (r *tableResult) print() error {
	if r.printed {
		return nil
	}
	r.printed = true
	return r.table.print(r.out, r.width)
}

// end prints the table, unless it was too long to wait for its end, and the line below it.
func (r *tableResult) end(rows *client.Rows) error {
	if err := r.print(); err != nil {
		return err
	}
	stats := rows.Stats()
	text := fmt.Sprintf("%d rows", stats.Rows)
	if stats.Rows == 1 {
		text = "1 row"
	}
	text += " in " + millis(float64(stats.Elapsed.Microseconds())/1000)
	if r.table.hidden > 0 {
		text += fmt.Sprintf(", of which %d are not shown: -o csv prints all", r.table.hidden)
	}
	if n := len(r.table.names) - r.table.columns; n > 0 {
		text += fmt.Sprintf("; no room for %d more columns: name those you want, or use -o json", n)
	}
	for _, p := range rows.Position() {
		text += "; " + render.Escape(p.String())
	}
	_, err := fmt.Fprintf(r.out, "(%s)\n", text)
	return err
}
