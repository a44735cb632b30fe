package tail

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/query/column"
)

const (
	// A run is complete when it has one of these.
	defaultRunBytes = 8 << 20
	defaultRunRows  = 32 * column.MaxRows
)

// pool is the memory and the disk that all tails share. Its mutex guards the runs as well, and nothing is waited for under it.
type pool struct {
	mem      memory.Allocator
	fs       disk.FS
	dir      string
	log      *slog.Logger
	budget   int64
	capacity int64 // of the disk
	runBytes int64 // a run of so many bytes or rows is complete
	runRows  int64

	mu     sync.Mutex
	memory int64
	disk   int64
	runs   []*run // those in memory, in the order in which they were begun
	number int64  // of files
	scans  int64
	files  int64         // how many were removed
	room   chan struct{} // closed when memory or disk is given back; nil while nobody waits
}

// usage is what one tail takes of the pool, which guards it.
type usage struct {
	memory int64
	disk   int64
}

// limit is the memory of all tails up to which this one need not spill. A small one may use what is kept from the great ones.
func (p *pool) limit(u *usage) int64 {
	if u.memory > p.budget/16 {
		return p.budget - p.budget/8
	}
	return p.budget
}

// take counts memory, which may be above the budget: makeRoom comes after.
func (p *pool) take(u *usage, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.memory += bytes
	u.memory += bytes
}

func (p *pool) give(u *usage, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.memory -= bytes
	u.memory -= bytes
	p.wake()
}

// taken is what a tail takes.
func (p *pool) taken(u *usage) (memory, disk int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return u.memory, u.disk
}

// wake tells those who wait for room; p.mu is held.
func (p *pool) wake() {
	if p.room != nil {
		close(p.room)
		p.room = nil
	}
}

// reserve counts bytes of the disk before they are written.
func (p *pool) reserve(u *usage, bytes int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.disk+bytes > p.capacity {
		return false
	}
	p.disk += bytes
	u.disk += bytes
	return true
}

// unreserve gives bytes of the disk back. Those of a file that could not be written wake nobody: it would be tried again at once.
func (p *pool) unreserve(u *usage, bytes int64, wake bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.disk -= bytes
	u.disk -= bytes
	if wake {
		p.files++
		p.wake()
	}
}

// waiting is where a tail stands that waits for room.
type waiting struct {
	room  <-chan struct{} // closed when something was given back
	files int64
}

func (p *pool) waiting() waiting {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.room == nil {
		p.room = make(chan struct{})
	}
	return waiting{room: p.room, files: p.files}
}

// worthwhile tells whether trying again may succeed where it failed before.
func (p *pool) worthwhile(u *usage, before waiting) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.memory <= p.limit(u) || p.files != before.files
}

// makeRoom spills runs until a tail may hold what it holds, or nothing is left that can be spilled.
func (p *pool) makeRoom(u *usage) error {
	for {
		r, blocks := p.victim(u)
		if r == nil {
			return nil
		}
		if err := p.spill(r, blocks); err != nil {
			return err
		}
	}
}

// victim chooses the run to spill next: that scanned longest ago, of equals the oldest. Its blocks are retained, and nobody else gets
// it.
func (p *pool) victim(u *usage) (*run, []*block) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.memory <= p.limit(u) {
		return nil, nil
	}
	var best *run
	for _, r := range p.runs {
		if r.spilling || !r.complete && r.bytes < p.runBytes/8 {
			continue
		}
		if best == nil || r.scanned < best.scanned {
			best = r
		}
	}
	if best == nil {
		return nil, nil
	}
	best.spilling, best.complete = true, true
	return best, retainAll(best.blocks)
}

// spill writes a run that victim chose.
func (p *pool) spill(r *run, blocks []*block) error {
	f, err := p.write(r, blocks)
	p.mu.Lock()
	_, bug := errors.AsType[*PanicError](err)
	r.spilling = bug // it would come again: the run stays in memory, and no tail but this one ends
	var held []*block
	unwanted := err == nil && r.refs == 0
	if err == nil && !unwanted {
		held, r.blocks, r.file = r.blocks, nil, f
		p.unlist(r)
	}
	p.mu.Unlock()
	releaseAll(held)
	releaseAll(blocks)
	if unwanted {
		f.remove()
	}
	return err
}

// unlist takes a run that is no longer in memory off the list; p.mu is held.
func (p *pool) unlist(r *run) {
	for i := range p.runs {
		if p.runs[i] == r {
			p.runs = append(p.runs[:i], p.runs[i+1:]...)
			return
		}
	}
}

// scan numbers the scans, so that it is known which was last.
func (p *pool) scan() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.scans++
	return p.scans
}

// block is a chunk in memory, counted until its last user releases it.
type block struct {
	chunk *column.Chunk
	bytes int64
	pool  *pool
	usage *usage
	refs  atomic.Int32
}

// block takes over a chunk.
func (p *pool) block(u *usage, c *column.Chunk) *block {
	b := &block{chunk: c, bytes: c.Bytes(), pool: p, usage: u}
	b.refs.Store(1)
	p.take(u, b.bytes)
	return b
}

func (b *block) retain() { b.refs.Add(1) }

// release must not be called under the pool's mutex.
func (b *block) release() {
	if b.refs.Add(-1) == 0 {
		b.chunk.Release()
		b.pool.give(b.usage, b.bytes)
	}
}

func retainAll(blocks []*block) []*block {
	out := make([]*block, len(blocks))
	for i, b := range blocks {
		b.retain()
		out[i] = b
	}
	return out
}

func releaseAll(blocks []*block) {
	for _, b := range blocks {
		b.release()
	}
}
