package tail

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemark-io/tidemark/query/column"
)

// Snapshot is all rows of a topic below a position. It does not change, whatever happens to the tail, and its methods may be called from
// any goroutine.
type Snapshot struct {
	tail     *tail
	shape    *shape
	position map[int32]int64
	rows     int64
	parts    []part
	young    []*block
	shapes   map[int64]*shape
	mappings map[int64]*column.Mapping // from versions that differ from the snapshot's

	refs     atomic.Int64 // the snapshot's own and one for each scan
	released sync.Once
}

// snapshot seals what is open and takes hold of everything.
func (t *tail) snapshot() (*Snapshot, error) {
	for _, p := range t.partitions {
		if err := t.seal(p); err != nil {
			return nil, err
		}
	}
	if err := t.conform(); err != nil {
		return nil, err
	}
	if err := t.roomAfter(); err != nil {
		return nil, err
	}
	t.recounted()
	s := &Snapshot{
		tail: t, shape: t.shape, position: make(map[int32]int64, len(t.partitions)), parts: make([]part, 0, len(t.runs)),
		shapes: map[int64]*shape{}, mappings: map[int64]*column.Mapping{},
	}
	s.refs.Store(1)
	for _, r := range t.runs {
		p := r.part()
		s.parts = append(s.parts, p)
		s.rows += p.rows
		s.know(t, r.shape)
	}
	for n, p := range t.partitions {
		s.position[n] = p.next
		for _, b := range p.young {
			b.retain()
			s.young = append(s.young, b)
			s.rows += int64(b.chunk.Rows())
			s.know(t, t.shapeOf(b))
		}
	}
	t.prune(s.shapes)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held++
	return s, nil
}

// prune forgets the versions that nothing is of any more. Snapshots have their own.
func (t *tail) prune(used map[int64]*shape) {
	unused := func(v int64) bool { return used[v] == nil && v != t.shape.schema.Version }
	maps.DeleteFunc(t.shapes, func(v int64, _ *shape) bool { return unused(v) })
	maps.DeleteFunc(t.mappings, func(v int64, _ *column.Mapping) bool { return unused(v) })
	maps.DeleteFunc(t.fitting, func(f fit, _ bool) bool { return unused(f.version) })
}

// know prepares the way from a version.
func (s *Snapshot) know(t *tail, sh *shape) {
	v := sh.schema.Version
	if s.shapes[v] == nil {
		s.shapes[v] = sh
		s.mappings[v] = t.mapping(sh)
	}
}

// Schema is what all rows are shown under.
func (s *Snapshot) Schema() *column.Schema { return s.shape.schema }

// Position is the offset of each partition below which all rows are here, and no others. The caller must not change it.
func (s *Snapshot) Position() map[int32]int64 { return s.position }

// Rows is how many there are.
func (s *Snapshot) Rows() int64 { return s.rows }

// Release gives the snapshot up. Scans that are open go on. Releasing twice is harmless.
func (s *Snapshot) Release() { s.released.Do(s.unref) }

func (s *Snapshot) unref() {
	if s.refs.Add(-1) > 0 {
		return
	}
	for _, p := range s.parts {
		p.run.release()
	}
	releaseAll(s.young)
	s.tail.mu.Lock()
	s.tail.held--
	s.tail.mu.Unlock()
	s.tail.use()
}

// Scan begins reading some columns, by their places in Schema().Arrow(), in the order given: maybe none. A column may be asked for once. The
// snapshot must not have been released; the scan goes on when it is.
func (s *Snapshot) Scan(columns []int) (*Scan, error) {
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		if c < 0 || c >= s.shape.arrow.NumFields() {
			return nil, fmt.Errorf("scan topic %q: there is no column %d among %d", s.tail.name, c, s.shape.arrow.NumFields())
		}
		if slices.Contains(columns[:i], c) {
			return nil, fmt.Errorf("scan topic %q: column %d is asked for twice", s.tail.name, c)
		}
		fields[i] = s.shape.arrow.Field(c)
	}
	s.refs.Add(1)
	return &Scan{
		snapshot: s, number: s.tail.pool.scan(), columns: slices.Clone(columns), schema: arrow.NewSchema(fields, nil),
		parts: slices.Clone(s.parts), young: s.young,
	}, nil
}
