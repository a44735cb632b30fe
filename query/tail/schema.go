package tail

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidemark-io/tidemark/meta"
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

// fits tells whether a chunk or run can be shown under the newest schema as it is; elements are the most that a chunk of it has.
func (t *tail) fits(sh *shape, deferred bool, elements int) bool {
	if sh == t.shape {
		return true
	}
	if !column.Bounded(sh.schema, t.shape.schema, elements) {
		return false
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

// shred makes a chunk of the first records, all unless that were too much, under the newest schema, which it extends until nothing is left to
// discover.
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

// extend agrees with the other nodes on the schema that a discovery leads to. Trouble is waited out, but for a topic that is gone. The loop
// stands still meanwhile: what was read is not as it must be shown, and there is no chunk of it.
func (t *tail) extend(d *column.Discovery) error {
	for n := 1; ; n++ {
		s, err := t.store.config.Schemas.Extend(t.ctx, t.topic, t.shape.schema, d)
		if err == nil {
			t.ail(nil)
			t.adopt(s)
			return nil
		}
		err = &SchemaError{Topic: t.name, Err: err, doing: "extend"}
		t.ail(err)
		if n == mostExtends || errors.Is(err, meta.ErrUnknownTopic) {
			return t.cause(err)
		}
		if !pause(t.ctx, t.store.config.Clock, backoff(n)) {
			return context.Cause(t.ctx)
		}
	}
}

// merge makes one chunk of two neighbours of one schema.
func (t *tail) merge(before, last *block) (*block, error) {
	c, err := column.Concat(t.pool.mem, []*column.Chunk{before.chunk, last.chunk})
	if err != nil {
		return nil, fmt.Errorf("merge chunks of topic %q, partition %d, at offset %d: %w", t.name, last.chunk.Partition(), last.chunk.First(), err)
	}
	return t.pool.block(t.usage, c), nil
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
