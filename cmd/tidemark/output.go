package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Values of -o.
const (
	outputTable = "table"
	outputJSON  = "json"
	outputCSV   = "csv"
	// Only for results of SQL.
	outputArrow   = "arrow"
	outputParquet = "parquet"
)

// moreOutputs is the annotation of a command that takes other values of -o than table, json and csv: their names, with spaces
// between.
const moreOutputs = "outputs"

// checkOutput refuses what a command does not print; more are the values of its moreOutputs.
func checkOutput(o, more string) error {
	all := append([]string{outputTable, outputJSON, outputCSV}, strings.Fields(more)...)
	if slices.Contains(all, o) {
		return nil
	}
	last := len(all) - 1
	next := "use -o " + strings.Join(all[:last], ", -o ") + " or -o " + all[last]
	if o == outputArrow || o == outputParquet {
		return usagef(next, "-o %s is for `tidemark sql` only", o)
	}
	return usagef(next, "unknown output format %q", o)
}

// view is one result in every shape that -o can ask for.
type view struct {
	columns []string
	rows    [][]string
	json    any // what -o json prints, indented
	// plain, when set, takes the place of the table.
	plain func(w io.Writer) error
}

// render prints v to standard output as -o says.
func (a *app) render(v view) error {
	switch a.output {
	case outputJSON:
		e := json.NewEncoder(a.stdout)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(v.json)
	case outputCSV:
		w := csv.NewWriter(a.stdout)
		if err := w.Write(v.columns); err != nil {
			return err
		}
		return w.WriteAll(v.rows)
	}
	if v.plain != nil {
		return v.plain(a.stdout)
	}
	return writeTable(a.stdout, v.columns, v.rows)
}

// writeTable prints aligned columns under upper-case titles.
func writeTable(out io.Writer, columns []string, rows [][]string) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = strings.ToUpper(strings.ReplaceAll(c, "_", "-"))
	}
	if _, err := fmt.Fprintln(w, strings.Join(titles, "\t")); err != nil {
		return err
	}
	for _, r := range rows {
		if _, err := fmt.Fprintln(w, strings.Join(r, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}
