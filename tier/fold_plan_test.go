package tier

import (
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/tidemark-io/tidemark/meta"
)

// TestPlanFold simulates a node that flushes for long while nothing compacts. TIDEMARK_LONG=1 makes it a million flushes.
func TestPlanFold(t *testing.T) {
	flushes := 40_000
	if os.Getenv("TIDEMARK_LONG") != "" {
		flushes = 1_000_000
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, load := range []struct {
		name    string
		size    func() int64
		entries int
		most    int // records
		of      int // share of the flushes
	}{
		{"idle, 1 KiB", func() int64 { return 1 << 10 }, 16, 700, 1},
		{"1 KiB to 64 KiB", func() int64 { return 1<<10 + rng.Int64N(63<<10) }, 16, 1000, 1},
		{"1 KiB to 8 MiB, even in powers", func() int64 { return (1 << 10) << rng.IntN(14) }, 16, MaxRecords, 1},
		{"busy, 8 MiB of 16 partitions", func() int64 { return 8 << 20 }, 16, MaxRecords, 2}, // a million would be 8 TB, more than 10,000 objects hold
		{"busy, 8 MiB of 1,000 partitions", func() int64 { return 8 << 20 }, 1000, MaxRecords, 2},
		{"odd, 63 small to a large", func() int64 {
			if rng.IntN(64) == 0 {
				return 8 << 20
			}
			return 2 << 10
		}, 16, MaxRecords, 1},
	} {
		t.Run(load.name, func(t *testing.T) { simulateFolds(t, flushes/load.of, load.most, load.size, load.entries) })
	}
}

func simulateFolds(t *testing.T, flushes, most int, size func() int64, entries int) {
	t.Helper()
	const every = 16 // flushes between two looks at the plan
	var (
		records                 []FoldCandidate
		flushed, rewritten      int64
		folds, high, widest     int
		largestFold, seq, count = int64(0), meta.Seq(0), 0
	)
	for range flushes {
		n := size()
		flushed += n
		seq++
		records = append(records, FoldCandidate{Incarnation: 1, Seq: seq, Size: n, Entries: entries})
		high = max(high, len(records))
		if count++; count%every != 0 {
			continue
		}
		for plan := PlanFold(records); plan != nil; plan = PlanFold(records) {
			if len(plan) < 2 || len(plan) > MaxFoldInputs || !slices.IsSorted(plan) {
				t.Fatalf("plan %v", plan)
			}
			var sum int64
			together := 0
			for _, i := range plan {
				sum += records[i].Size
				together += records[i].Entries
			}
			if len(records) < foldPressure && sum > foldBytes || sum > MaxPutBytes {
				t.Fatalf("a fold of %d bytes at %d records", sum, len(records))
			}
			rewritten += sum
			folds++
			widest, largestFold = max(widest, len(plan)), max(largestFold, sum)
			for k, i := range plan {
				records = slices.Delete(records, i-k, i-k+1)
			}
			seq++
			records = append(records, FoldCandidate{Incarnation: 1, Seq: seq, Size: sum, Entries: max(min(together, 4*entries), int(sum>>20))})
		}
	}
	t.Logf("%d flushes, %d MiB: at most %d records, %d now; %d folds of up to %d inputs and %d MiB; rewritten %.2f times",
		flushes, flushed>>20, high, len(records), folds, widest, largestFold>>20, float64(rewritten)/float64(flushed))
	if high > most {
		t.Errorf("%d records, want at most %d", high, most)
	}
}

// TestPlanFoldManyEntries: objects whose index is long do not block the rest.
func TestPlanFoldManyEntries(t *testing.T) {
	var records []FoldCandidate
	for i := range 200 {
		entries := 10_000
		if i < 100 {
			entries = foldEntries
		}
		records = append(records, FoldCandidate{Seq: meta.Seq(i), Size: 4 << 10, Entries: entries})
	}
	plan := PlanFold(records)
	if len(plan) < 2 || plan[0] < 100 {
		t.Errorf("plan %v", plan)
	}
}

// TestPlanFoldLeavesLargeObjects: what a busy node flushes is folded only for the sake of small blocks, or when records become many.
func TestPlanFoldLeavesLargeObjects(t *testing.T) {
	flushed := func(n, entries int) (records []FoldCandidate) {
		for i := range n {
			records = append(records, FoldCandidate{Seq: meta.Seq(i), Size: 8 << 20, Entries: entries})
		}
		return records
	}
	for _, c := range []struct {
		records, entries int
		folds            bool
	}{
		{foldPressure - 1, 16, false},
		{foldPressure - 1, 64, false},
		{foldPressure, 16, true},
		{8, 65, true},
		{7, 65, false},
	} {
		if plan := PlanFold(flushed(c.records, c.entries)); (plan != nil) != c.folds {
			t.Errorf("%d objects of 8 MiB with %d entries: plan %v", c.records, c.entries, plan)
		}
	}
}
