package query

import (
	"regexp"
	"strconv"

	"github.com/apache/arrow/go/v17/arrow"
)

// writtenCall is a table as the engine writes it in the name of a column that was given none, such as a subquery's.
var writtenCall = regexp.MustCompile(`\b` + ScanFunction + `\(([0-9]{1,9})\)(?: AS ("(?:[^"]|"")*"|[A-Za-z_][A-Za-z0-9_]*))?`)

// named is a result's schema in which columns that are called by their own text show the tables that the user wrote, and not what
// stands for them.
func (p *plan) named(s *arrow.Schema) *arrow.Schema {
	var fields []arrow.Field
	for i, f := range s.Fields() {
		name := writtenCall.ReplaceAllStringFunc(f.Name, p.tableWritten)
		if name == f.Name {
			continue
		}
		if fields == nil {
			fields = append(fields, s.Fields()...)
		}
		fields[i].Name = name
	}
	if fields == nil {
		return s
	}
	return arrow.NewSchema(fields, nil)
}

// tableWritten is what stands for a call of ScanFunction in the statement as it was sent: the first reference to its table.
func (p *plan) tableWritten(call string) string {
	parts := writtenCall.FindStringSubmatch(call)
	n, err := strconv.Atoi(parts[1])
	if err != nil {
		return call
	}
	for i, r := range p.checked.statement.References {
		if i >= len(p.of) || p.of[i] != n {
			continue
		}
		written := p.checked.body[r.Start:r.End]
		if alias := parts[2]; alias != "" && alias != r.Name && alias != `"`+r.Name+`"` {
			written += " AS " + alias
		}
		return written
	}
	return call
}
