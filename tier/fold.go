package tier

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/proof/mutant"
)

const (
	// MaxFoldInputs is the most records that one fold replaces: their removals share a transaction with the commit, and a
	// transaction holds 128 operations.
	MaxFoldInputs = 100
	// foldRead is the most that is read of an object at once, and foldReaders how many such reads run side by side.
	foldRead    = 8 << 20
	foldReaders = 4
)

// foldBlock is a block of an input.
type foldBlock struct {
	object string
	entry  meta.L0Entry
	data   []byte // set once read and verified
}

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
		blocks []foldBlock
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
			if e.Length <= 0 || e.Length > l0MaxBlock || e.Position < l0HeaderSize {
				return nil, &CorruptionError{Object: rec.Object, Offset: e.Position, Reason: fmt.Sprintf("its index names a block of %d bytes", e.Length)}
			}
			blocks = append(blocks, foldBlock{object: rec.Object, entry: e})
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
		if err := l.add(b.entry, b.data); err != nil {
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

func compareBlocks(a, b foldBlock) int {
	return cmp.Or(slices.Compare(a.entry.Topic[:], b.entry.Topic[:]), cmp.Compare(a.entry.Partition, b.entry.Partition),
		cmp.Compare(a.entry.BaseOffset, b.entry.BaseOffset))
}

// holds says whether the ordered blocks of an object hold the batch of a producer's range.
func holds(blocks []foldBlock, p meta.L0Producer) bool {
	i, found := slices.BinarySearchFunc(blocks, foldBlock{entry: meta.L0Entry{Topic: p.Topic, Partition: p.Partition, BaseOffset: p.BaseOffset}}, compareBlocks)
	if found {
		return true
	}
	if i == 0 {
		return false
	}
	e := blocks[i-1].entry
	return e.Topic == p.Topic && e.Partition == p.Partition && p.BaseOffset < e.BaseOffset+int64(e.Count)
}

// readBlocks fills in the data of every block, reading neighbours together.
func readBlocks(ctx context.Context, s Store, blocks []foldBlock) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(foldReaders)
	order := make([]*foldBlock, len(blocks))
	for i := range blocks {
		order[i] = &blocks[i]
	}
	slices.SortStableFunc(order, func(a, b *foldBlock) int {
		return cmp.Or(cmp.Compare(a.object, b.object), cmp.Compare(a.entry.Position, b.entry.Position))
	})
	for len(order) > 0 {
		n, size := 1, int64(order[0].entry.Length)
		for n < len(order) {
			last, next := order[n-1], order[n]
			if next.object != last.object || next.entry.Position != last.entry.Position+int64(last.entry.Length) ||
				size+int64(next.entry.Length) > foldRead {
				break
			}
			n, size = n+1, size+int64(next.entry.Length)
		}
		run := order[:n]
		order = order[n:]
		g.Go(func() error { return readRun(ctx, s, run, size) })
	}
	return g.Wait()
}

// readRun reads neighbouring blocks by one request. A block that does not match its checksum is read again by itself.
func readRun(ctx context.Context, s Store, run []*foldBlock, size int64) error {
	buf := make([]byte, size)
	err := readExact(ctx, s, run[0].object, buf, run[0].entry.Position)
	var corrupt *CorruptionError
	if err != nil && !errors.As(err, &corrupt) {
		return err
	}
	for _, b := range run {
		n := b.entry.Length
		b.data, buf = buf[:n:n], buf[n:]
		if err == nil && crc32.Checksum(b.data, castagnoli) == b.entry.CRC {
			continue
		}
		if b.data, err = ReadBlock(ctx, s, b.object, b.entry, b.data); err != nil {
			return err // names the very block
		}
	}
	return nil
}
