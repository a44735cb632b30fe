package column

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemark-io/tidemark/record"
)

// orders are records as the demo's shop makes them, about 200 bytes of JSON.
func orders(n int) []record.Record {
	random := rand.New(rand.NewPCG(1, 2))
	regions, states := []string{"eu", "us", "apac"}, []string{"placed", "paid", "shipped", "returned"}
	out := make([]record.Record, n)
	for i := range out {
		customer := fmt.Sprintf("c-%05d", random.IntN(5000))
		v := fmt.Appendf(nil, `{"order_id":"o-%08d","customer":%q,"region":%q,"amount":%d.%02d,"items":[`, i, customer, regions[random.IntN(3)], random.IntN(500), random.IntN(100))
		for j := range 1 + random.IntN(2) {
			if j > 0 {
				v = append(v, ',')
			}
			v = fmt.Appendf(v, `{"sku":"sku-%04d","quantity":%d,"price":%d.%02d}`, random.IntN(500), 1+random.IntN(5), random.IntN(100), random.IntN(100))
		}
		v = fmt.Appendf(v, `],"status":%q,"express":%t,"coupon":null,"ts":"2026-11-26T11:%02d:%02d.123Z"}`, states[random.IntN(4)], random.IntN(2) == 0, random.IntN(60), random.IntN(60))
		out[i] = record.Record{Offset: int64(i), Timestamp: 1_760_000_000_000 + int64(i), Key: []byte(customer), Value: v}
	}
	return out
}

// BenchmarkDecode appends and shreds records one core's worth.
func BenchmarkDecode(b *testing.B) {
	mem := memory.NewGoAllocator()
	recs := orders(MaxRows)
	rows := NewRows(mem, 0)
	schema := Empty
	bytes := 0
	for _, r := range recs {
		rows.Append(r)
		bytes += len(r.Value)
	}
	raw := rows.Take()
	c, d := Shred(mem, raw, schema)
	schema = schema.Extend(d)
	c.Release()
	raw.Release()
	b.SetBytes(int64(bytes))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		for i := range recs {
			rows.Append(recs[i])
		}
		raw := rows.Take()
		c, d := Shred(mem, raw, schema)
		if d != nil {
			b.Fatal("a discovery")
		}
		raw.Release()
		c.Release()
		n += len(recs)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(bytes)/float64(len(recs)), "B/record")
}
