package main

import (
	"bytes"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"
)

func TestSQLParquet(t *testing.T) {
	_, newApp := newFakeServer(t)
	for statement, want := range map[string]int64{"SELECT many": 25_000, "SELECT none": 0, "SELECT * FROM regions": 3} {
		a := newApp()
		if code := a.exec("sql", statement, "-o", "parquet"); code != 0 {
			t.Fatalf("exit %d: %s", code, &a.err)
		}
		r, err := file.NewParquetReader(bytes.NewReader(a.out.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		in, err := pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
		if err != nil {
			t.Fatal(err)
		}
		table, err := in.ReadTable(t.Context())
		if err != nil || table.NumRows() != want {
			t.Fatalf("%s: %d rows, %v", statement, table.NumRows(), err)
		}
		if want == 3 {
			total := table.Column(2).Data().Chunk(0).(*array.Float64)
			if total.Value(1) != 20 || !total.IsNull(2) {
				t.Error(total)
			}
		}
		if want > 0 && want < r.MetaData().NumRows {
			t.Error(r.MetaData().NumRows)
		}
	}
	newApp().expect(t, 1, "", `column "took": Parquet has no such type: cast it to VARCHAR`, "sql", "SELECT interval", "-o", "parquet")
	// What fails in the middle leaves nothing that a reader would take for a file.
	a := newApp()
	if code := a.exec("sql", "SELECT too much", "-o", "parquet"); code != 1 {
		t.Error(code)
	}
	if _, err := file.NewParquetReader(bytes.NewReader(a.out.Bytes())); err == nil {
		t.Error("half a result is a file")
	}
}
