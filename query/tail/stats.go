package tail

import (
	"maps"
	"slices"
	"strings"

	"github.com/tidemark-io/tidemark/query/column"
)

// Stats is what a tail holds at the moment.
type Stats struct {
	TopicID string
	Topic   string
	// Rows that were read, and the position below which they are.
	Rows     int64
	Position map[int32]int64
	// Memory and Disk are what the topic takes of the budgets, in bytes, snapshots included.
	Memory, Disk int64
	// Misfits are the columns that lack values, by name.
	Misfits []Misfit
	// Trouble is why the tail does not get on, or nil.
	Trouble error
}

// Misfit counts the rows whose value for a column is of another type, so that it is NULL there.
type Misfit struct {
	Column string
	Rows   int64
	// Partition and Offset are where one is, the first that was read.
	Partition int32
	Offset    int64
}

// misfits are those of some chunks, by column.
type misfits map[string]Misfit

// add counts those of a chunk.
func (m misfits) add(c *column.Chunk) misfits {
	for _, f := range c.Misfits() {
		m = m.count(Misfit{Column: c.Schema().Fields[f.Column].Name, Rows: f.Rows, Partition: c.Partition(), Offset: f.First})
	}
	return m
}

// join counts those of others.
func (m misfits) join(others misfits) misfits {
	for _, f := range others {
		m = m.count(f)
	}
	return m
}

func (m misfits) count(f Misfit) misfits {
	if m == nil {
		m = misfits{}
	}
	if before, ok := m[f.Column]; ok {
		before.Rows += f.Rows
		f = before
	}
	m[f.Column] = f
	return m
}

// publish counts a chunk that was read.
func (t *tail) publish(c *column.Chunk) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows += int64(c.Rows())
	t.misfits = t.misfits.add(c)
}

// recounted counts the misfits anew after chunks were made anew under another schema.
func (t *tail) recounted() {
	if !t.recount {
		return
	}
	t.recount = false
	var m misfits
	for _, r := range t.runs {
		m = m.join(r.misfits)
	}
	for _, p := range t.partitions {
		for _, b := range p.young {
			m = m.add(b.chunk)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.misfits = m
}

// Stats tells about every tail, by the topic's name.
func (s *Store) Stats() []Stats {
	s.mu.Lock()
	tails := slices.Collect(maps.Values(s.tails))
	s.mu.Unlock()
	out := make([]Stats, 0, len(tails))
	for _, t := range tails {
		out = append(out, t.stats())
	}
	slices.SortFunc(out, func(a, b Stats) int {
		if c := strings.Compare(a.Topic, b.Topic); c != 0 {
			return c
		}
		return strings.Compare(a.TopicID, b.TopicID)
	})
	return out
}

func (t *tail) stats() Stats {
	memory, disk := t.pool.taken(t.usage)
	t.mu.Lock()
	defer t.mu.Unlock()
	out := Stats{
		TopicID: t.id, Topic: t.name, Rows: t.rows, Position: maps.Clone(t.position), Memory: memory, Disk: disk,
		Misfits: slices.Collect(maps.Values(t.misfits)), Trouble: t.trouble,
	}
	slices.SortFunc(out.Misfits, func(a, b Misfit) int { return strings.Compare(a.Column, b.Column) })
	return out
}
