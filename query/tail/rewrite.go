package tail

import (
	"context"
	"errors"

	"github.com/tidemark-io/tidemark/query/column"
)

// conform makes everything that the tail holds fit the newest schema. When it fails, what it has done so far stays, and the rest can be
// done later.
func (t *tail) conform() error {
	for {
		target := t.shape
		for _, p := range t.partitions {
			for i, b := range p.young {
				if t.fits(t.shapeOf(b), b.chunk.Deferred()) {
					continue
				}
				newer, err := t.renew(b)
				if err != nil {
					return err
				}
				p.young[i] = newer
				b.release()
			}
		}
		for i := 0; i < len(t.runs); {
			r := t.runs[i]
			if t.fits(r.shape, r.isDeferred()) {
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

// rewrite makes the chunks of a run anew under the newest schema.
func (t *tail) rewrite(r *run) (_ []*run, err error) {
	p := r.part()
	defer r.release()
	var out []*run
	defer func() {
		if err != nil {
			for _, r := range out {
				r.release()
			}
		}
	}()
	keep := func(raw *column.Raw) error {
		if err := context.Cause(t.ctx); err != nil {
			return err
		}
		c, err := t.shred(raw)
		if err != nil {
			return err
		}
		out = t.append(out, t.pool.block(t.usage, c))
		return nil
	}
	t.recount = true
	blocks, f := p.open(0)
	defer releaseAll(blocks)
	for _, b := range blocks {
		if err := keep(b.chunk.Raw()); err != nil {
			return nil, err
		}
	}
	if f != nil {
		if err := t.reread(f, p, keep); err != nil {
			return nil, err
		}
	}
	for _, o := range out {
		o.finish() // others go on with runs of their own
		o.inherit(r)
	}
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
