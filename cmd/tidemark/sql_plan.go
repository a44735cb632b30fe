package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/query/render"
)

// planResult is what EXPLAIN answers, for people: the drawing as it was drawn, and not as a cell of a table.
type planResult struct {
	out   io.Writer
	below *tableResult // for the line below it
}

// isPlan tells the columns of EXPLAIN's answer.
func isPlan(s *arrow.Schema) bool {
	return s.NumFields() == 2 && s.Field(0).Name == "explain_key" && s.Field(1).Name == "explain_value" && s.Field(1).Type.ID() == arrow.STRING
}

func (r planResult) write(rec arrow.Record) error {
	drawings, ok := rec.Column(1).(*array.String)
	if !ok {
		return fmt.Errorf("the plan is no text but %s", rec.Column(1).DataType())
	}
	for n := range drawings.Len() {
		for line := range strings.Lines(drawings.Value(n)) {
			if _, err := fmt.Fprintln(r.out, render.Escape(strings.TrimRight(line, "\r\n"))); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r planResult) end(rows *client.Rows) error {
	r.below.printed = true
	r.below.table.columns = len(r.below.table.names)
	return r.below.end(rows)
}
