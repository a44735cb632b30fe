package tail

import (
	"context"
	"fmt"
	"time"

	"github.com/tidemark-io/tidemark/query/column"
)

// retryRoom is how often it is tried whether there is room on the disk, when nobody says so.
const retryRoom = time.Second

// ingest takes the records of a piece in, and waits in the middle when there is no room for them.
func (t *tail) ingest(piece Piece) error {
	p := t.partitions[piece.Partition]
	if p == nil {
		return fmt.Errorf("follow topic %q: the reader gave partition %d, which was not asked for", t.name, piece.Partition)
	}
	for r, err := range piece.Records {
		if err != nil {
			return fmt.Errorf("follow topic %q: decode partition %d behind offset %d: %w", t.name, p.number, p.next, err)
		}
		if r.Offset < p.next {
			continue
		}
		p.rows.Append(r)
		if !p.rows.Full() {
			p.next = r.Offset + 1 // told to others at the end of the piece
			continue
		}
		t.moved(p, r.Offset+1)
		if err := t.seal(p); err != nil {
			return err
		}
		if err := t.makeRoom(); err != nil {
			return err
		}
	}
	t.count(p)
	t.moved(p, max(piece.Next, p.next))
	return nil
}

// makeRoom spills what is too much. While there is no room it reads nothing and answers whoever asks.
func (t *tail) makeRoom() error {
	for {
		before := t.pool.waiting()
		err := t.pool.makeRoom(t.usage)
		if err == nil {
			if t.full != nil {
				t.store.config.Logger.Info("there is room again, following goes on", "topic", t.name)
			}
			t.full = nil
			return nil
		}
		if t.full == nil {
			t.store.config.Logger.Warn("following a topic pauses", "topic", t.name, "error", err)
		}
		t.full = err
		if err := t.answer(); err != nil {
			return err
		}
		if err := t.awaitRoom(before); err != nil {
			return err
		}
	}
}

// awaitRoom answers requests until it is worth trying again.
func (t *tail) awaitRoom(before waiting) error {
	timer := t.store.config.Clock.NewTimer(retryRoom)
	defer timer.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return context.Cause(t.ctx)
		case r := <-t.requests:
			if err := t.asked(r); err != nil {
				return err
			}
		case <-timer.C():
			if t.idle() <= 0 {
				return errIdle
			}
			return nil
		case <-before.room:
			if t.pool.worthwhile(t.usage, before) {
				return nil
			}
			before.room = t.pool.waiting().room
		}
	}
}

// count makes the pool know how much the open rows take.
func (t *tail) count(p *partition) {
	bytes := p.rows.Bytes()
	switch {
	case bytes > p.bytes:
		t.pool.take(t.usage, bytes-p.bytes)
	case bytes < p.bytes:
		t.pool.give(t.usage, p.bytes-bytes)
	}
	p.bytes = bytes
}

// seal makes a young chunk of a partition's open rows.
func (t *tail) seal(p *partition) error {
	if p.rows.Len() == 0 {
		return nil
	}
	raw := p.rows.Take()
	defer raw.Release()
	c, err := t.shred(raw)
	t.count(p)
	if err != nil {
		return err
	}
	t.publish(c)
	p.young = append(p.young, t.pool.block(t.usage, c))
	return t.settle(p)
}

// settle merges young chunks and moves those that will not be merged any more into a run.
func (t *tail) settle(p *partition) error {
	for n := len(p.young); n > 0; n = len(p.young) {
		last := p.young[n-1]
		before := last
		if n > 1 {
			before = p.young[n-2]
		}
		switch neighbours(n, sizeOf(before), sizeOf(last)) {
		case keep:
			return nil
		case merge:
			both, err := t.merge(before, last)
			if err != nil {
				return err
			}
			p.young[n-2], p.young[n-1] = both, nil
			p.young = p.young[:n-1]
			before.release()
			last.release()
		case freeze:
			return t.freeze(p, n-1)
		case freezeAll:
			return t.freeze(p, n)
		}
	}
	return nil
}

// freeze moves the first of the young chunks into a run.
func (t *tail) freeze(p *partition, n int) error {
	for range n {
		if err := t.shelve(p.young[0]); err != nil {
			return err
		}
		p.young = append(p.young[:0], p.young[1:]...)
	}
	return nil
}

// maxMerged is the most bytes of a chunk that was merged.
const maxMerged = 2 << 20

type size struct {
	rows  int
	bytes int64
}

func sizeOf(b *block) size { return size{b.chunk.Rows(), b.bytes} }

type decision uint8

const (
	keep      decision = iota // the last may grow first
	merge                     // make one of the last two
	freeze                    // the last two are too much for one chunk: all but the last stay as they are
	freezeAll                 // the last one is great enough
)

// neighbours decides about the last two of n young chunks of a partition. Only the last one grows from now on, so what does not fit
// with it now never will. A row is merged about as often as the number of rows of a chunk can be halved, and young chunks are few, however often
// snapshots are taken.
func neighbours(n int, before, last size) decision {
	switch {
	case last.rows >= column.MaxRows*3/4 || last.bytes >= maxMerged/2:
		return freezeAll
	case n == 1:
		return keep
	case before.rows+last.rows > column.MaxRows || before.bytes+last.bytes > maxMerged:
		return freeze
	case 2*last.rows >= before.rows:
		return merge
	default:
		return keep
	}
}
