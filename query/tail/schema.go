package tail

import (
	"context"
	"fmt"

	"github.com/tidemark-io/tidemark/query/column"
)

// mostExtends is how often it is tried to extend a schema, over about 15 s, before the tail ends.
const mostExtends = 13

// fit asks whether what was made under a version can be mapped to the newest.
type fit struct {
	version  int64
	deferred bool
}

// adopt makes a schema the newest known, if it is.
func (t *tail) adopt(s *column.Schema) {
	if t.shape != nil && s.Version <= t.shape.schema.Version {
		return
	}
	t.shape = newShape(s)
	t.shapes[s.Version] = t.shape
	t.fitting = map[fit]bool{}
	t.mappings = map[int64]*column.Mapping{}
}

// fits tells whether a chunk or run can be shown under the newest schema as it is.
func (t *tail) fits(sh *shape, deferred bool) bool {
	if sh == t.shape {
		return true
	}
	key := fit{sh.schema.Version, deferred}
	ok, known := t.fitting[key]
	if !known {
		ok = column.Fits(sh.schema, t.shape.schema, deferred)
		t.fitting[key] = ok
	}
	return ok
}

// mapping leads from a version to the newest; nil when that is the same.
func (t *tail) mapping(sh *shape) *column.Mapping {
	if sh == t.shape {
		return nil
	}
	m := t.mappings[sh.schema.Version]
	if m == nil {
		m = column.Map(sh.schema, t.shape.schema)
		t.mappings[sh.schema.Version] = m
	}
	return m
}

// shapeOf is the shape under which a chunk was made.
func (t *tail) shapeOf(b *block) *shape { return t.shapes[b.chunk.Schema().Version] }

// shred makes a chunk under the newest schema, which it extends until nothing is left to discover.
func (t *tail) shred(raw *column.Raw) (*column.Chunk, error) {
	for {
		c, found := column.Shred(t.pool.mem, raw, t.shape.schema)
		if found.Empty() {
			return c, nil
		}
		before := t.shape
		if err := t.extend(found); err != nil {
			c.Release()
			return nil, err
		}
		if t.shape == before {
			return c, nil // what is missing has no place in it: it stays in _value
		}
		c.Release()
	}
}

// extend agrees with the other nodes on the schema that a discovery leads to.
func (t *tail) extend(d *column.Discovery) error {
	for n := 1; ; n++ {
		s, err := t.store.config.Schemas.Extend(t.ctx, t.topic, t.shape.schema, d)
		if err == nil {
			t.ail(nil)
			t.adopt(s)
			return nil
		}
		err = fmt.Errorf("extend the columns of topic %q: %w", t.name, err)
		t.ail(err)
		if n == mostExtends {
			return t.cause(err)
		}
		if !pause(t.ctx, t.store.config.Clock, backoff(n)) {
			return context.Cause(t.ctx)
		}
	}
}

// merge makes one chunk of two neighbours.
func (t *tail) merge(before, last *block) (*block, error) {
	a, b := before.chunk, last.chunk
	a.Retain()
	b.Retain()
	defer func() { a.Release(); b.Release() }()
	// Shredding may extend the schema once more: the second is then the newer one.
	for a.Schema().Version != b.Schema().Version {
		older := &a
		if b.Schema().Version < a.Schema().Version {
			older = &b
		}
		c, err := t.shred((*older).Raw())
		if err != nil {
			return nil, err
		}
		if c.Schema().Version <= (*older).Schema().Version {
			c.Release()
			return nil, fmt.Errorf("topic %q: the newest schema is older than version %d of a chunk", t.name, b.Schema().Version)
		}
		(*older).Release()
		*older = c
		t.recount = true
	}
	c, err := column.Concat(t.pool.mem, []*column.Chunk{a, b})
	if err != nil {
		return nil, fmt.Errorf("merge chunks of topic %q, partition %d, at offset %d: %w", t.name, a.Partition(), a.First(), err)
	}
	return t.pool.block(t.usage, c), nil
}

// renew makes a block anew under the newest schema. The old one stays the caller's.
func (t *tail) renew(b *block) (*block, error) {
	c, err := t.shred(b.chunk.Raw())
	if err != nil {
		return nil, err
	}
	t.recount = true
	return t.pool.block(t.usage, c), nil
}

// shelve moves a block into the last run, or a new one. It is the caller's when that fails.
func (t *tail) shelve(b *block) error {
	if t.shapeOf(b) != t.shape {
		newer, err := t.renew(b)
		if err != nil {
			return err
		}
		b.release()
		b = newer
	}
	t.runs = t.append(t.runs, b)
	return nil
}

// append adds a block to the last of some runs if it is open and of the same schema, else to a new one.
func (t *tail) append(runs []*run, b *block) []*run {
	sh := t.shapeOf(b)
	if n := len(runs); n > 0 {
		if runs[n-1].shape == sh && runs[n-1].add(b) {
			return runs
		}
		runs[n-1].finish()
	}
	return append(runs, t.pool.begin(t.usage, t.name, sh, b))
}
