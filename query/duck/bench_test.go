//go:build cgo

package duck

import (
	"fmt"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
)

// BenchmarkScan scans a million rows in memory; rows/s are those of one thread.
func BenchmarkScan(b *testing.B) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "n", Type: arrow.PrimitiveTypes.Int64}, {Name: "region", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "amount", Type: arrow.PrimitiveTypes.Float64}, {Name: "customer", Type: arrow.BinaryTypes.String},
	}, nil)
	const rows = 4 << 20
	regions := []string{"eu-central", "eu-west", "us-east", "us-west", "ap-south-1-with-a-long-name"}
	table := build(b, schema, rows, 2048, func(rb *array.RecordBuilder, row int) {
		rb.Field(0).(*array.Int64Builder).Append(int64(row))
		rb.Field(1).(*array.StringBuilder).Append(regions[row%len(regions)])
		rb.Field(2).(*array.Float64Builder).Append(float64(row%1000) / 4)
		rb.Field(3).(*array.StringBuilder).Append(fmt.Sprint("c", row%5000))
	})
	for _, threads := range []int{1, 2} {
		e := open(b, Config{Threads: threads})
		for name, sql := range map[string]string{
			"sum":             `SELECT sum(n) FROM tidemark_scan(0)`,
			"group-by-string": `SELECT region, count(*) FROM tidemark_scan(0) GROUP BY region`,
			"group-sum":       `SELECT customer, count(*), sum(amount) FROM tidemark_scan(0) GROUP BY customer`,
			"like":            `SELECT count(*) FROM tidemark_scan(0) WHERE region LIKE '%long%'`,
		} {
			b.Run(fmt.Sprintf("%s/threads=%d", name, threads), func(b *testing.B) {
				for b.Loop() {
					all(b, e, sql, table)
				}
				b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
			})
		}
	}
}

// BenchmarkSmallStatement is what a statement costs that has next to nothing to do.
func BenchmarkSmallStatement(b *testing.B) {
	e := open(b, Config{})
	for b.Loop() {
		all(b, e, `SELECT 1`)
	}
}

// BenchmarkInstance is what a new instance costs.
func BenchmarkInstance(b *testing.B) {
	for b.Loop() {
		i, err := newInstance(Config{}.orDefault())
		if err != nil {
			b.Fatal(err)
		}
		i.close()
	}
}

func BenchmarkParse(b *testing.B) {
	e := open(b, Config{})
	for b.Loop() {
		if _, err := e.Parse(b.Context(), `SELECT status, count(*) AS n FROM access WHERE bytes > 100 GROUP BY status ORDER BY n DESC`); err != nil {
			b.Fatal(err)
		}
	}
}
