package tier

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/proof/mutant"
)

const (
	// MaxFoldInputs is the most records that one fold replaces: their removals share a transaction with the commit, and a
	// transaction holds 128 operations.
	MaxFoldInputs = 100
	// foldReaders is how many reads run side by side.
	foldReaders = 4
)

// Fold reads the blocks of the inputs and builds one object of them. It leaves out the partitions that a record excludes and
// the entries that keep refuses (nil refuses none); keep may refuse only what the log has elsewhere or has no more, because
// what producers wrote there is forgotten with it. Each block is verified before it is used. If nothing remains the object
// has an empty index and need not be stored. Memory holds the kept blocks once: at most MaxPutBytes, and by PlanFold's
// choice rarely more than 64 MiB.
func Fold(ctx context.Context, s Store, inputs []*meta.L0Record, keep func(meta.L0Entry) bool) (*L0Object, error) {
	if len(inputs) == 0 || len(inputs) > MaxFoldInputs {
		return nil, fmt.Errorf("fold %d L0 objects: want 1 to %d", len(inputs), MaxFoldInputs)
	}
	var (
		blocks []BlockRead
		ranges producerRanges
		total  int64
	)
	for _, rec := range inputs {
		index, err := ReadL0Index(ctx, s, rec)
		if err != nil {
			return nil, fmt.Errorf("fold L0 objects: %w", err)
		}
		from := len(blocks)
		for _, e := range index.Entries {
			if slices.Contains(rec.Excluded, meta.Partition{Topic: e.Topic, Partition: e.Partition}) || keep != nil && !keep(e) {
				continue
			}
			if err := checkEntry(rec.Object, e); err != nil {
				return nil, err
			}
			blocks = append(blocks, BlockRead{Object: rec.Object, Entry: e})
			total += int64(e.Length)
		}
		kept := blocks[from:]
		slices.SortFunc(kept, compareBlocks)
		for _, p := range index.Producers {
			if holds(kept, p) {
				ranges.add(p)
			}
		}
	}
	if total > MaxPutBytes {
		return nil, fmt.Errorf("fold L0 objects: %d bytes; the limit is %d", total, MaxPutBytes)
	}
	if err := readBlocks(ctx, s, blocks); err != nil {
		return nil, fmt.Errorf("fold L0 objects: %w", err)
	}
	slices.SortFunc(blocks, compareBlocks)
	var l layout
	l.start(len(blocks))
	for _, b := range blocks {
		if err := l.add(b.Entry, b.Data); err != nil {
			return nil, fmt.Errorf("fold L0 objects: %w", err)
		}
	}
	slices.SortFunc(ranges.all, func(a, b meta.L0Producer) int {
		return cmp.Or(slices.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.BaseOffset, b.BaseOffset))
	})
	if mutant.On(mutant.C3) {
		return l.finish(nil)
	}
	return l.finish(ranges.last())
}

func compareBlocks(a, b BlockRead) int {
	return cmp.Or(slices.Compare(a.Entry.Topic[:], b.Entry.Topic[:]), cmp.Compare(a.Entry.Partition, b.Entry.Partition),
		cmp.Compare(a.Entry.BaseOffset, b.Entry.BaseOffset))
}

// holds says whether the ordered blocks of an object hold the batch of a producer's range.
func holds(blocks []BlockRead, p meta.L0Producer) bool {
	i, found := slices.BinarySearchFunc(blocks, BlockRead{Entry: meta.L0Entry{Topic: p.Topic, Partition: p.Partition, BaseOffset: p.BaseOffset}}, compareBlocks)
	if found {
		return true
	}
	if i == 0 {
		return false
	}
	e := blocks[i-1].Entry
	return e.Topic == p.Topic && e.Partition == p.Partition && p.BaseOffset < e.BaseOffset+int64(e.Count)
}

// readBlocks fills in the data of every block, reading neighbours together.
func readBlocks(ctx context.Context, s Store, blocks []BlockRead) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(foldReaders)
	for _, run := range PlanRuns(blocks) {
		g.Go(func() error {
			run.Read(ctx, s, make([]byte, run.Size))
			for _, b := range run.blocks {
				if b.Err != nil {
					return b.Err
				}
			}
			return nil
		})
	}
	return g.Wait()
}
