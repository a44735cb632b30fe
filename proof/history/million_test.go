package history

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
)

// large records a history of n records as a ten-minute run has it: 24 partitions, one entry for each record, 3 consumers, 4 sources, commits and queries.
func large(h *History, n int) {
	const partitions, producers, consumers = 24, 16, 3
	rng := rand.New(rand.NewPCG(1, 2))
	var parts []Partition
	for i := range partitions {
		parts = append(parts, h.Partition(string(rune('a'+i))))
	}
	group := h.Group("g")
	logs := make([][]Record, partitions)
	polled := [consumers][partitions]int{}
	now := int64(0)
	for i := range n {
		now += 10
		p := rng.IntN(partitions)
		producer := int32(i % producers)
		r := Record{Offset: int64(len(logs[p])), Value: uint64(producer)<<48 + uint64(i)}
		logs[p] = append(logs[p], r)
		h.Produce(Produce{Call: Call{Process: producer, Invoke: now - 9*int64(1+rng.IntN(producers-1)), Complete: now}, Partition: parts[p], Value: r.Value, Offset: r.Offset})
		if i%50 == 0 {
			for c := range consumers {
				q := rng.IntN(partitions)
				from := polled[c][q]
				batch := logs[q][from:min(len(logs[q]), from+3000)]
				polled[c][q] += len(batch)
				h.Poll(Poll{Call: Call{Process: int32(100 + c), Invoke: now, Complete: now}, Partition: parts[q], From: int64(from), Linearizable: true, HighWatermark: int64(len(logs[q])), Records: batch})
				if c == 0 && i%500 == 0 {
					h.Commit(Commit{Call: Call{Process: 100, Invoke: now, Complete: now}, Group: group, Partition: parts[q], Offset: int64(polled[c][q]), Generation: 1})
				}
			}
		}
		if i%5000 == 0 {
			q := rng.IntN(partitions)
			a := Answer{Partition: parts[q], End: int64(len(logs[q])), Count: int64(len(logs[q]))}
			for _, r := range logs[q] {
				a.Sum += r.Value
			}
			h.Query(Query{Call: Call{Process: 200, Invoke: now, Complete: now}, Answers: []Answer{a}})
			h.HighWatermark(HighWatermark{Call: Call{Process: 201, Invoke: now, Complete: now}, Partition: parts[q], Offset: int64(len(logs[q]))})
		}
	}
	for p := range parts {
		for c := range consumers {
			h.Poll(Poll{Call: Call{Process: int32(100 + c), Invoke: now, Complete: now}, Partition: parts[p], From: int64(polled[c][p]), Records: logs[p][polled[c][p]:]})
		}
		for _, source := range []string{"memory", "log on disk", "object store", "sql"} {
			h.FinalRead(FinalRead{Source: source, Partition: parts[p], Records: logs[p]})
		}
	}
}

// BenchmarkCheckMillion tells the time for a million records with 3 consumers and 4 sources, and what a record costs in memory.
func BenchmarkCheckMillion(b *testing.B) {
	const n = 1_000_000
	before := liveBytes()
	h := New()
	large(h, n)
	recorded := liveBytes()
	b.ResetTimer()
	for b.Loop() {
		if bad := h.Check(Options{MustSee: [][]int32{{100}, {101}, {102}}}).Bad(); bad != nil {
			b.Fatal(bad)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(recorded-before)/n, "recordedB/record")
	b.ReportMetric(float64(liveBytes()-before)/n, "checkedB/record")
	runtime.KeepAlive(h)
}

// BenchmarkCheckSmall tells what one short simulated history costs.
func BenchmarkCheckSmall(b *testing.B) {
	h := New()
	s := healthy(1)
	for b.Loop() {
		h.Reset()
		s.record(h)
		if bad := h.Check(Options{MustSee: mustSee}).Bad(); bad != nil {
			b.Fatal(bad)
		}
	}
}

func liveBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A large history is checked within the memory that a nemesis run can spare.
func TestLargeHistoryNeedsLittleMemory(t *testing.T) {
	const n = 200_000
	before := liveBytes()
	h := New()
	large(h, n)
	r := h.Check(Options{})
	if bad := r.Bad(); bad != nil {
		t.Fatalf("healthy, but found %v: %v", bad, r.Anomalies)
	}
	if r.Seen.Acked != n || r.Seen.Polled != 3*n || r.Seen.Final != 4*n {
		t.Fatalf("saw %+v", r.Seen)
	}
	if cost := int(liveBytes()-before) / n; cost > 200 {
		t.Errorf("%d bytes a record", cost)
	}
	runtime.KeepAlive(h)
}

// Clients of a cluster record from many goroutines.
func TestRecordingIsSafeForConcurrentUse(t *testing.T) {
	h := New()
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			for i := range 500 {
				p := h.Partition(string(rune('a' + c)))
				call := Call{Process: int32(c), Invoke: int64(2 * i), Complete: int64(2*i + 1)}
				r := Record{Offset: int64(i), Value: uint64(c*1000 + i)}
				h.Produce(Produce{Call: call, Partition: p, Value: r.Value, Offset: r.Offset})
				h.Poll(Poll{Call: call, Partition: p, From: r.Offset, Records: []Record{r}})
				h.Commit(Commit{Call: call, Group: h.Group("g"), Partition: p, Offset: r.Offset})
			}
		})
	}
	wg.Wait()
	if r := h.Check(Options{}); r.Bad() != nil || r.Seen.Acked != 4000 || r.Seen.Polled != 4000 {
		t.Errorf("saw %+v, found %v", r.Seen, r.Bad())
	}
}
