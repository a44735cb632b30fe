package tier

import (
	"cmp"
	"slices"

	"github.com/tidemark-io/tidemark/meta"
)

// FoldCandidate is what PlanFold knows of a committed L0 record.
type FoldCandidate struct {
	Incarnation meta.Incarnation
	Seq         meta.Seq
	Size        int64 // bytes of the object
	Entries     int   // of its index
}

const (
	// MaxRecords is the number of L0 records that a node never exceeds.
	MaxRecords = 10_000
	// foldTierFactor is the ratio between the largest and the smallest object of a tier.
	foldTierFactor = 4
	// foldWidth is how many objects of a tier are folded. Even the smallest such output is larger than its tier by
	// foldWidth/foldTierFactor, so no byte is folded twice within a tier.
	foldWidth = 64
	// foldBytes is the most that a fold reads while the number of records is no worry.
	foldBytes = 64 << 20
	// foldFull is the size from which an object is left alone while the number of records is no worry.
	foldFull = foldBytes / 2
	// foldLarge is the size from which an object is left alone as well when its blocks have foldBlock bytes or more on average.
	foldLarge = 4 << 20
	foldBlock = 128 << 10
	// foldEntries bounds the index of an output; an object with half of it counts as full.
	foldEntries = 500_000
	// foldPressure is the number of records from which full objects are folded too.
	foldPressure = MaxRecords * 8 / 10
)

// PlanFold chooses which records of a node to fold next, or nil when there is nothing to do. It is pure. The records come in the
// order of their commits; the result are positions in it, ascending, at most MaxFoldInputs and at least two.
//
// Objects are put in tiers by size, each four times as wide as the one before. A tier with 64 objects, or with 64 MiB of them, is
// folded, oldest first, into one of at most 64 MiB. So a node has fewer than 64 records a tier, some hundreds in all, beside
// the full ones of 32 MiB and more, and a byte is rewritten about once per factor of 64 between the size at which it was
// flushed and a full object: once at 1 MiB, at most three times at 1 KiB.
//
// An object of 4 MiB and more whose blocks are large counts as full, too: it is what a node flushes under load from some dozens of partitions. No reader
// gains from a rewriting, since one reads a block of 1 MiB at most at a time, or all of an object; and the node would pay for it when it has least to
// spare, with a third of its time and of what its disk or its link to the store can do.
//
// Full objects stay until there are 8,000 records (32 GB at least: compaction has not run for long). From there on the
// smallest are folded whatever their size, up to 128, 256 and in the end MaxPutBytes at a time. What a node can hold in 10,000
// records is thus 5 TB; PlanFold then returns nil although there are MaxRecords, and the node must take nothing more.
func PlanFold(records []FoldCandidate) []int {
	if len(records) >= foldPressure {
		return planPressed(records)
	}
	const tiers = 16
	var counts [tiers]int
	var bytes [tiers]int64
	for i := range records {
		if !records[i].full() {
			t := foldTier(records[i].Size)
			counts[t]++
			bytes[t] += records[i].Size
		}
	}
	for t := range tiers {
		if counts[t] < foldWidth && bytes[t] < foldBytes {
			continue
		}
		var members []int
		for i := range records {
			if !records[i].full() && foldTier(records[i].Size) == t {
				members = append(members, i)
			}
		}
		if plan := takeFold(records, members, foldBytes, foldEntries); plan != nil {
			return plan
		}
	}
	return nil
}

// full says whether an object is left alone while the number of records is no worry.
func (c FoldCandidate) full() bool {
	return c.Size >= foldFull || c.Entries >= foldEntries/2 || c.Size >= max(foldLarge, int64(c.Entries)*foldBlock)
}

// foldTier returns the tier of a size: 0 up to 1 KiB, and one more for each factor.
func foldTier(size int64) int {
	t := 0
	for limit := int64(1 << 10); size > limit; limit *= foldTierFactor {
		t++
	}
	return t
}

// planPressed folds the smallest objects.
func planPressed(records []FoldCandidate) []int {
	limit := int64(MaxPutBytes) * 9 / 10 // leaves room for the index
	switch {
	case len(records) < MaxRecords*9/10:
		limit = 2 * foldBytes
	case len(records) < MaxRecords*95/100:
		limit = 4 * foldBytes
	}
	order := make([]int, len(records))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(records[a].Size, records[b].Size), cmp.Compare(a, b))
	})
	return takeFold(records, order, limit, 4*foldEntries)
}

// takeFold takes members from the front while they fit, or returns nil when that is not even two.
func takeFold(records []FoldCandidate, members []int, maxBytes int64, maxEntries int) []int {
	var plan []int
	var size int64
	entries := 0
	for _, i := range members {
		size += records[i].Size
		entries += records[i].Entries
		if len(plan) == MaxFoldInputs || size > maxBytes || entries > maxEntries {
			break
		}
		plan = append(plan, i)
	}
	if len(plan) < 2 {
		return nil
	}
	slices.Sort(plan)
	return plan
}
