package render

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
)

// JSON writes records as one JSON object a line. Not safe for concurrent use.
type JSON struct {
	w      io.Writer
	fields []arrow.Field
	buf    []byte
	err    error
}

// NewJSON makes a writer of records of schema s. That a column's type has no text form is told by Write and Close.
func NewJSON(w io.Writer, s *arrow.Schema) *JSON {
	return &JSON{w: w, fields: s.Fields(), err: checkColumns(s)}
}

// Write writes a record, in one or a few calls of its writer. It does not keep the record.
func (j *JSON) Write(rec arrow.Record) error {
	if j.err != nil {
		return j.err
	}
	var m members
	if m, j.err = bindMembers(j.fields, rec.Column); j.err != nil {
		return j.err
	}
	for row := range int(rec.NumRows()) {
		j.buf = append(m.append(j.buf, row), '\n')
		if len(j.buf) >= flushBytes {
			j.flush()
			if j.err != nil {
				return j.err
			}
		}
	}
	j.flush()
	return j.err
}

// Close returns the error of an earlier Write. Everything is written by then.
func (j *JSON) Close() error { return j.err }

func (j *JSON) flush() {
	if len(j.buf) > 0 {
		_, j.err = j.w.Write(j.buf)
	}
	j.buf = reuse(j.buf)
}

// flushBytes is how much text is gathered before it is written.
const flushBytes = 256 << 10

// reuse empties a buffer, and lets go of one that a huge row made large.
func reuse(buf []byte) []byte {
	if cap(buf) > 8*flushBytes {
		return nil
	}
	return buf[:0]
}

// CSV writes records as comma-separated values under a line of names. Not safe for concurrent use.
type CSV struct {
	w      io.Writer
	names  []string
	header bool // is written
	buf    []byte
	cell   []byte
	err    error
}

// NewCSV makes a writer of records of schema s. That a column's type has no text form is told by Write and Close.
func NewCSV(w io.Writer, s *arrow.Schema) *CSV {
	return &CSV{w: w, names: Columns(s), err: checkColumns(s)}
}

// Columns are the names of a schema's columns, made to differ as by Names.
func Columns(s *arrow.Schema) []string {
	names := make([]string, s.NumFields())
	for i, f := range s.Fields() {
		names[i] = f.Name
	}
	return Names(names)
}

// Write writes a record, in one or a few calls of its writer. It does not keep the record.
func (c *CSV) Write(rec arrow.Record) error {
	if c.err != nil {
		return c.err
	}
	c.begin()
	values := make([]appender, rec.NumCols())
	for i, col := range rec.Columns() {
		if values[i], c.err = c.bind(col); c.err != nil {
			return c.err
		}
	}
	for row := range int(rec.NumRows()) {
		for i, f := range values {
			if i > 0 {
				c.buf = append(c.buf, ',')
			}
			c.buf = f(c.buf, row)
		}
		c.buf = append(c.buf, '\n')
		if len(c.buf) >= flushBytes {
			c.flush()
			if c.err != nil {
				return c.err
			}
		}
	}
	c.cell = reuse(c.cell)
	c.flush()
	return c.err
}

// bind returns what writes the fields of a column. Those of numbers and times need no quotes.
func (c *CSV) bind(col arrow.Array) (appender, error) {
	f, err := bindInner(col, styleCSV)
	if err != nil || plain(col.DataType()) {
		return f, err
	}
	return func(dst []byte, row int) []byte {
		if c.cell = f(c.cell[:0], row); len(c.cell) == 0 && isNull(col, row) {
			return dst
		}
		return appendField(dst, c.cell)
	}, nil
}

// plain are the types whose text holds nothing but letters, digits, signs and single spaces in the middle.
func plain(t arrow.DataType) bool {
	switch t.ID() { //nolint:exhaustive // the rest may hold anything
	case arrow.NULL, arrow.BOOL, arrow.DATE32, arrow.DATE64, arrow.TIME32, arrow.TIME64, arrow.TIMESTAMP, arrow.DURATION,
		arrow.INTERVAL_MONTHS, arrow.INTERVAL_DAY_TIME, arrow.INTERVAL_MONTH_DAY_NANO:
		return true
	}
	return Numeric(t)
}

// isNull also looks behind what only points at values.
func isNull(col arrow.Array, row int) bool {
	switch col := col.(type) {
	case *array.Dictionary:
		return col.IsNull(row) || isNull(col.Dictionary(), col.GetValueIndex(row))
	case *array.RunEndEncoded:
		return isNull(col.Values(), col.GetPhysicalIndex(row))
	case *array.SparseUnion:
		return isNull(col.Field(col.ChildID(row)), row)
	case *array.DenseUnion:
		return isNull(col.Field(col.ChildID(row)), int(col.ValueOffset(row)))
	case array.ExtensionArray:
		return isNull(col.Storage(), row)
	case *array.Null:
		return true
	}
	return col.IsNull(row)
}

// Close writes the line of names if there was no record, and returns the error of an earlier Write.
func (c *CSV) Close() error {
	if c.err == nil {
		c.begin()
		c.flush()
	}
	return c.err
}

func (c *CSV) begin() {
	if c.header {
		return
	}
	c.header = true
	for i, n := range c.names {
		if i > 0 {
			c.buf = append(c.buf, ',')
		}
		c.buf = appendField(c.buf, []byte(strings.ToValidUTF8(n, "\uFFFD")))
	}
	c.buf = append(c.buf, '\n')
}

func (c *CSV) flush() {
	if len(c.buf) > 0 {
		_, c.err = c.w.Write(c.buf)
	}
	c.buf = reuse(c.buf)
}

// appendField writes one field, in quotes where it needs them: the empty string does, to differ from NULL, and so does white
// space at its ends, which readers like to drop.
func appendField(dst, field []byte) []byte {
	if len(field) > 0 && !blank(field[0]) && !blank(field[len(field)-1]) && !bytes.ContainsAny(field, ",\"\n\r") {
		return append(dst, field...)
	}
	dst = append(dst, '"')
	for _, b := range field {
		if b == '"' {
			dst = append(dst, '"')
		}
		dst = append(dst, b)
	}
	return append(dst, '"')
}

func blank(b byte) bool { return b == ' ' || b == '\t' }

func checkColumns(s *arrow.Schema) error {
	for _, f := range s.Fields() {
		if err := checkType(f.Type); err != nil {
			return fmt.Errorf("column %q: %w", f.Name, err)
		}
	}
	return nil
}
