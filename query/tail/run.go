package tail

import (
	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemark-io/tidemark/query/column"
)

// shape is a schema with what is worth knowing of it once.
type shape struct {
	schema *column.Schema
	arrow  *arrow.Schema
	// text has the columns that are no more than the text of another one: which of which. They are never written.
	text map[int]int
}

// The columns that are the text of others.
var textOf = map[string]string{"_key": "_key_bytes", "_value": "_value_bytes"}

func newShape(s *column.Schema) *shape {
	sh := &shape{schema: s, arrow: s.Arrow(), text: map[int]int{}}
	for text, bytes := range textOf {
		from, to := sh.arrow.FieldIndices(bytes), sh.arrow.FieldIndices(text)
		if len(from) == 1 && len(to) == 1 {
			sh.text[to[0]] = from[0]
		}
	}
	return sh
}

// extent says what a chunk of a run has.
type extent struct {
	partition int32
	rows      int
}

// run is a group of chunks of one schema that goes to disk as a whole. Its owner adds to it until it is complete. It is in memory
// or on disk:
//
//	len(blocks) == len(extents) and file == nil, or blocks == nil and file != nil
//
// All but what does not change is guarded by the pool's mutex.
type run struct {
	pool  *pool
	usage *usage
	topic string
	shape *shape

	blocks   []*block
	file     *file
	extents  []extent
	rows     int64
	bytes    int64
	misfits  misfits // the owner's
	deferred bool
	elements int  // the most that a chunk has
	complete bool // nothing is added any more
	spilling bool // somebody writes it
	scanned  int64
	refs     int // of the tail and of snapshots
}

// begin makes a run of one block, which it takes over. It has one reference.
func (p *pool) begin(u *usage, topic string, sh *shape, b *block) *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &run{pool: p, usage: u, topic: topic, shape: sh, refs: 1}
	p.runs = append(p.runs, r)
	r.put(b)
	return r
}

// add takes over a block of the run's schema, unless the run is complete.
func (r *run) add(b *block) bool {
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	if r.complete {
		return false
	}
	r.put(b)
	return true
}

// put adds a block; the pool's mutex is held.
func (r *run) put(b *block) {
	r.blocks = append(r.blocks, b)
	r.extents = append(r.extents, extent{partition: b.chunk.Partition(), rows: b.chunk.Rows()})
	r.misfits = r.misfits.add(b.chunk)
	r.rows += int64(b.chunk.Rows())
	r.bytes += b.bytes
	r.deferred = r.deferred || b.chunk.Deferred()
	r.elements = max(r.elements, b.chunk.Elements())
	r.complete = r.bytes >= r.pool.runBytes || r.rows >= r.pool.runRows
}

// finish lets nobody add any more.
func (r *run) finish() {
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	r.complete = true
}

// release gives up a reference; with the last, memory and file go.
func (r *run) release() {
	p := r.pool
	p.mu.Lock()
	r.refs--
	var held []*block
	var f *file
	if r.refs == 0 {
		held, f = r.blocks, r.file
		r.blocks, r.file = nil, nil
		p.unlist(r)
	}
	p.mu.Unlock()
	releaseAll(held)
	if f != nil {
		f.remove()
	}
}

// part is what a snapshot has of a run: its first chunks.
type part struct {
	run     *run
	chunks  int
	rows    int64
	extents []extent // of the chunks
}

// part takes a reference to all that the run has now.
func (r *run) part() part {
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	r.refs++
	n := len(r.extents)
	return part{run: r, chunks: n, rows: r.rows, extents: r.extents[:n:n]}
}

// open gives the blocks of a part, retained, or the file that has them.
func (p part) open(scan int64) ([]*block, *file) {
	pool := p.run.pool
	pool.mu.Lock()
	defer pool.mu.Unlock()
	p.run.scanned = max(p.run.scanned, scan)
	if p.run.file != nil {
		return nil, p.run.file
	}
	return retainAll(p.run.blocks[:p.chunks]), nil
}

// traits tells whether a chunk of the run is deferred, and the most elements that one has.
func (r *run) traits() (deferred bool, elements int) {
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	return r.deferred, r.elements
}

// inherit makes a run that stands for another as old as that.
func (r *run) inherit(from *run) {
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	r.scanned = from.scanned
}
