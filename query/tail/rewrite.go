package tail

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tidemark-io/tidemark/query/column"
)

// conform makes everything that the tail holds fit the newest schema. When it fails, what it has done so far stays, and the rest can be
// done later.
func (t *tail) conform() error {
	for {
		target := t.shape
		for _, p := range t.partitions {
			for i := 0; i < len(p.young); {
				if b := p.young[i]; t.fits(t.shapeOf(b), b.chunk.Deferred(), b.chunk.Elements()) {
					i++
				} else if err := t.renew(p, i); err != nil {
					return err
				}
			}
		}
		for i := 0; i < len(t.runs); {
			r := t.runs[i]
			deferred, elements := r.traits()
			if t.fits(r.shape, deferred, elements) {
				i++
				continue
			}
			newer, err := t.rewrite(r)
			if err != nil {
				return err
			}
			t.runs = append(t.runs[:i], append(newer, t.runs[i+1:]...)...)
			r.release()
			i += len(newer)
			if err := t.pool.makeRoom(t.usage); err != nil {
				return err
			}
		}
		if t.shape == target {
			return nil
		}
	}
}

// renew makes the young chunk i of a partition anew under the newest schema. When it becomes several they are too great to be young: they
// go into runs.
func (t *tail) renew(p *partition, i int) error {
	b := p.young[i]
	c, err := t.shred(b.chunk.Raw())
	if err != nil {
		return err
	}
	if c.Schema().Version <= b.chunk.Schema().Version {
		c.Release()
		return fmt.Errorf("topic %q: the newest schema is not newer than version %d of a chunk", t.name, b.chunk.Schema().Version)
	}
	t.recount = true
	if c.Rows() == b.chunk.Rows() {
		p.young[i] = t.pool.block(t.usage, c)
		b.release()
		return nil
	}
	c.Release()
	newer, err := t.remake(func(keep func(*column.Raw) error) error { return keep(b.chunk.Raw()) })
	if err != nil {
		return err
	}
	if n := len(t.runs); n > 0 {
		t.runs[n-1].finish()
	}
	t.runs = append(t.runs, newer...)
	p.young = slices.Delete(p.young, i, i+1)
	b.release()
	return nil
}

// rewrite makes the chunks of a run anew under the newest schema.
func (t *tail) rewrite(r *run) ([]*run, error) {
	p := r.part()
	defer r.release()
	t.recount = true
	out, err := t.remake(func(keep func(*column.Raw) error) error {
		blocks, f := p.open(0)
		defer releaseAll(blocks)
		for _, b := range blocks {
			if err := keep(b.chunk.Raw()); err != nil {
				return err
			}
		}
		if f == nil {
			return nil
		}
		return t.reread(f, p, keep)
	})
	for _, o := range out {
		o.inherit(r)
	}
	return out, err
}

// remake makes runs of all records that each hands to keep, under the newest schema.
func (t *tail) remake(each func(keep func(*column.Raw) error) error) ([]*run, error) {
	var out []*run
	done := false
	defer func() {
		if !done {
			for _, r := range out {
				r.release()
			}
		}
	}()
	err := each(func(raw *column.Raw) error {
		raw.Retain()
		defer func() { raw.Release() }()
		for {
			if err := context.Cause(t.ctx); err != nil {
				return err
			}
			c, err := t.shred(raw)
			if err != nil {
				return err
			}
			rest := behind(t.pool.mem, raw, c)
			out = t.append(out, t.pool.block(t.usage, c))
			if rest == nil {
				return nil
			}
			raw.Release()
			raw = rest
			if err := t.pool.makeRoom(t.usage); err != nil {
				return err
			}
		}
	})
	if err != nil {
		return nil, err
	}
	for _, r := range out {
		r.finish() // others go on with runs of their own
	}
	done = true
	return out, nil
}

// reread gives the records of a run on disk, chunk by chunk.
func (t *tail) reread(f *file, p part, each func(*column.Raw) error) error {
	columns := make([]int, len(recordColumns))
	for i, name := range recordColumns {
		columns[i] = f.shape.arrow.FieldIndices(name)[0]
	}
	chunks, err := f.read(t.ctx, columns, p.chunks)
	if err != nil {
		if damage, ok := errors.AsType[*DamageError](err); ok {
			t.damaged(damage)
		}
		return t.cause(err)
	}
	defer releaseArrays(chunks)
	for i, a := range chunks {
		if err := eachRaw(column.NewRows(t.pool.mem, p.extents[i].partition), a, each); err != nil {
			return err
		}
	}
	return nil
}

// eachRaw gathers the records of a chunk.
func eachRaw(rows *column.Rows, a arrays, each func(*column.Raw) error) error {
	defer rows.Release()
	give := func() error {
		raw := rows.Take()
		defer raw.Release()
		return each(raw)
	}
	c, err := newRecords(a)
	if err != nil {
		return err
	}
	for i := range c.offsets.Len() {
		rows.Append(c.at(i))
		if rows.Full() {
			if err := give(); err != nil {
				return err
			}
		}
	}
	if rows.Len() == 0 {
		return nil
	}
	return give()
}
