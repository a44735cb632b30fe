package tail

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"

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
		if err := t.sealAll(p); err != nil {
			return err
		}
	}
	t.count(p)
	t.moved(p, max(piece.Next, p.next))
	return t.makeRoom() // queries that come often seal rows before they are full
}

// roomAfter spills what is too much after rows were sealed. Where there is no room everything stays as it is: an answer of what is there
// needs none, and following pauses with what is read next.
func (t *tail) roomAfter() error {
	if t.full == nil {
		if err := t.pool.makeRoom(t.usage); !roomless(err) {
			return err
		}
	}
	return nil // while it is full it is tried again soon, and whenever something was given back
}

// roomless tells of an error that says that there is no room: no reason to end a tail.
func roomless(err error) bool {
	_, room := errors.AsType[*roomError](err)
	return room
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
		if !roomless(err) {
			return err
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

// count makes the pool know how much the open rows and the rest take.
func (t *tail) count(p *partition) {
	bytes := p.rows.Bytes()
	if p.rest != nil {
		bytes += p.rest.Bytes()
	}
	switch {
	case bytes > p.bytes:
		t.pool.take(t.usage, bytes-p.bytes)
	case bytes < p.bytes:
		t.pool.give(t.usage, p.bytes-bytes)
	}
	p.bytes = bytes
}

// sealAll seals the open rows of a partition, and waits when there is no room for what becomes of them.
func (t *tail) sealAll(p *partition) error {
	for {
		err := t.seal(p)
		if err != nil && !roomless(err) {
			return err
		}
		if rerr := t.makeRoom(); rerr != nil || err == nil {
			return rerr
		}
	}
}

// seal makes a young chunk of a partition's open rows, or several. When it fails for want of room, the rest waits.
func (t *tail) seal(p *partition) error {
	for {
		switch {
		case p.rest != nil:
			if err := t.pool.makeRoom(t.usage); err != nil {
				return err
			}
		case p.rows.Len() == 0:
			return nil
		default:
			p.rest = p.rows.Take()
		}
		c, err := t.shred(p.rest)
		if err != nil {
			t.count(p)
			return err
		}
		before := p.rest
		p.rest = behind(t.pool.mem, before, c)
		before.Release()
		t.count(p)
		t.publish(c)
		p.young = append(p.young, t.pool.block(t.usage, c))
		if err := t.settle(p); err != nil {
			return err
		}
	}
}

// behind is what a chunk that was made of some records did not take, or nil.
func behind(mem memory.Allocator, raw *column.Raw, c *column.Chunk) *column.Raw {
	if c.Rows() == raw.Rows() {
		return nil
	}
	return raw.Rest(mem, c.Rows())
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
			if older := olderOf(before, last); older >= 0 {
				// Only chunks of one schema are merged. What is made anew may be too much for that: it is looked at again.
				if err := t.renew(p, n-2+older); err != nil {
					return err
				}
				continue
			}
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

// olderOf says which of two chunks was made under the older schema; -1 when both were under the same.
func olderOf(before, last *block) int {
	switch a, b := before.chunk.Schema().Version, last.chunk.Schema().Version; {
	case a < b:
		return 0
	case b < a:
		return 1
	default:
		return -1
	}
}

// freeze moves the first of the young chunks into a run.
func (t *tail) freeze(p *partition, n int) error {
	for range n {
		if t.shapeOf(p.young[0]) != t.shape {
			count := len(p.young)
			if err := t.renew(p, 0); err != nil {
				return err
			}
			if len(p.young) < count {
				continue
			}
		}
		t.runs = t.append(t.runs, p.young[0])
		p.young = slices.Delete(p.young, 0, 1)
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
