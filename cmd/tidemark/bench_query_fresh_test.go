package main

import (
	"testing"
	"time"
)

// TestVisibilityCountsEveryAck: an answer that takes long shows in everything that was acknowledged while it was under way, not in one
// sample.
func TestVisibilityCountsEveryAck(t *testing.T) {
	v, begin := newVisibility(), time.Unix(1_800_000_000, 0)
	after := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	for offset := range 100 { // one in every millisecond, in turn to two partitions, while one answer takes 100
		v.acked(acked{partition: int32(offset % 2), offset: int64(offset / 2)}, after(offset))
	}
	v.acked(acked{partition: 0, err: errFake}, after(99))
	v.answered(map[int32]int64{0: 50, 1: 40}, after(100))
	if n := v.samples.TotalCount(); n != 90 {
		t.Fatalf("%d samples", n)
	}
	if r := reportLatencies(v.samples); r.Max < 99.9 || r.Max > 100.2 || r.P50 < 50 || r.P50 > 60 {
		t.Errorf("%+v", r)
	}
	v.answered(map[int32]int64{1: 60}, after(1100))
	if r := reportLatencies(v.samples); v.samples.TotalCount() != 100 || r.Max < 1000 || r.Max > 1030 {
		t.Errorf("%d samples, %+v", v.samples.TotalCount(), r)
	}
	v.acked(acked{partition: 1, offset: 59}, after(1200)) // an answer had it before its producer was told
	if v.samples.TotalCount() != 101 || v.samples.Min() > 1 {
		t.Errorf("%d samples, the least %d µs", v.samples.TotalCount(), v.samples.Min())
	}
}
