package tier

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/tidemark-io/tidemark/meta"
)

const (
	// runBytes is the most that one request reads, unless one block is longer.
	runBytes = 8 << 20
	// runGap is how many bytes between two blocks that nobody wants are read with them, because a request costs more than they do.
	runGap = 16 << 10
)

// BlockRead is a block that is to be read, and what came of it.
type BlockRead struct {
	Object string
	Entry  meta.L0Entry
	// Data is the block, verified, or Err says why it is not there. Data lies in the memory that its run was read into.
	Data []byte
	Err  error
}

// Run is blocks that lie side by side in an object, or nearly, and are read by one request.
type Run struct {
	// Size is how many bytes the request reads, and the memory that it takes.
	Size   int64
	blocks []*BlockRead
}

// PlanRuns orders reads into as few requests as are sensible. A block whose entry names what no object holds is in none, and has its Err.
func PlanRuns(blocks []BlockRead) []Run {
	order := make([]*BlockRead, 0, len(blocks))
	for i := range blocks {
		b := &blocks[i]
		if b.Err = checkEntry(b.Object, b.Entry); b.Err == nil {
			order = append(order, b)
		}
	}
	slices.SortStableFunc(order, func(a, b *BlockRead) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Entry.Position, b.Entry.Position))
	})
	var runs []Run
	spare := int64(runBytes)
	for len(order) > 0 {
		first, n := order[0], 1
		end := first.Entry.Position + int64(first.Entry.Length)
		for ; n < len(order); n++ {
			next := order[n]
			gap := next.Entry.Position - end
			if next.Object != first.Object || gap < 0 || gap > min(runGap, spare) ||
				next.Entry.Position+int64(next.Entry.Length)-first.Entry.Position > runBytes {
				break
			}
			spare -= gap
			end = next.Entry.Position + int64(next.Entry.Length)
		}
		runs = append(runs, Run{Size: end - first.Entry.Position, blocks: order[:n:n]})
		order = order[n:]
	}
	return runs
}

// Read reads the blocks of a run into buf, which has r.Size bytes, and verifies each. What fails, fails for the blocks that it concerns; a block that does not match its checksum is
// read again by itself, as ReadBlock does.
func (r Run) Read(ctx context.Context, s Store, buf []byte) {
	first := r.blocks[0]
	err := readExact(ctx, s, first.Object, buf, first.Entry.Position)
	corrupt, ok := errors.AsType[*CorruptionError](err)
	for _, b := range r.blocks {
		if err != nil && !ok {
			b.Err = err
			continue
		}
		at := b.Entry.Position - first.Entry.Position
		b.Data = buf[at : at+int64(b.Entry.Length) : at+int64(b.Entry.Length)]
		if corrupt == nil && crc32.Checksum(b.Data, castagnoli) == b.Entry.CRC {
			continue
		}
		b.Data, b.Err = ReadBlock(ctx, s, b.Object, b.Entry, b.Data) // names the very block
	}
}

// checkEntry refuses what would have a damaged or hostile index make a reader allocate.
func checkEntry(object string, e meta.L0Entry) error {
	if e.Length <= 0 || e.Length > l0MaxBlock || e.Position < l0HeaderSize {
		return &CorruptionError{Object: object, Offset: e.Position, Reason: fmt.Sprintf("its index names a block of %d bytes", e.Length)}
	}
	return nil
}
