package ingest

import (
	"sort"

	"github.com/tidemark-io/tidemark/ingest/wal"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
)

// tail holds what this node has appended and the committed index may not show yet, and keeps the newest bytes in memory.
//
// Every batch is in the tail from the moment it has its offsets until the index covers it and its bytes have been evicted. So
// a read finds an offset in the tail or in the index, never in neither. An entry loses its bytes when the budget asks for it
// and the log file has them; from then on it is read back from the log until it is committed. The loop is its only caller;
// the bytes that it gives out are shared and read only.
type tail struct {
	budget     int64 // bytes of batches kept in memory; entries not yet in the log do not obey it
	cachedSize int64
	cached     queue[*entry] // entries with bytes, by age
	partitions map[meta.Partition]*tailPartition
}

// tailPartition is the tail of one partition: its entries join, ascending.
type tailPartition struct {
	entries queue[*entry]
	indexed int64 // the index covers offsets below it
}

// entry is one batch in the tail.
type entry struct {
	partition    meta.Partition
	epoch        meta.Epoch
	base, next   int64
	size         int
	appendTime   int64 // ms since the Unix epoch
	maxTimestamp int64
	batch        record.Batch // nil once evicted
	at           wal.LSN      // where it stands in the log, once inLog
	inLog        bool
	dropped      bool // its partition was lost: not uploaded, not answered
	committed    bool // a commit covers it, or it was lost: the log need not keep it
	waitsObject  bool // somebody's ack or read waits for the object
	// call is the produce that brought it, until the log has it; nil for what was replayed.
	call *produceCall
}

func newTail(budget int64) *tail {
	return &tail{budget: budget, partitions: make(map[meta.Partition]*tailPartition)}
}

// lead begins the tail of a partition whose committed log ends at end.
func (t *tail) lead(id meta.Partition, end int64) {
	t.partitions[id] = &tailPartition{indexed: end}
}

// lose drops a partition with its entries. Uploads that hold their bytes go on.
func (t *tail) lose(id meta.Partition) {
	p := t.partitions[id]
	if p == nil {
		return
	}
	for _, e := range p.entries.live() {
		t.forget(e)
		e.dropped = true
	}
	delete(t.partitions, id)
}

func (t *tail) forget(e *entry) {
	if e.batch != nil {
		t.cachedSize -= int64(e.size)
		e.batch = nil
	}
}

// append adds a batch that was given its offsets. A batch that comes from the log has no bytes here.
func (t *tail) append(e *entry) {
	t.partitions[e.partition].entries.push(e)
	if e.batch != nil {
		t.cached.push(e)
		t.cachedSize += int64(e.size)
	}
}

// evict brings the bytes in memory under the budget, oldest first, as far as the log file has them.
func (t *tail) evict() {
	for t.cached.len() > 0 {
		e := *t.cached.peek()
		if e.batch != nil && t.cachedSize <= t.budget {
			return
		}
		if e.batch != nil && !e.inLog {
			return
		}
		t.cached.pop()
		t.forget(e)
		if p := t.partitions[e.partition]; p != nil && !e.dropped {
			p.release()
		}
	}
}

// covered notes that the index shows everything of the partition below end.
func (t *tail) covered(id meta.Partition, end int64) {
	if p := t.partitions[id]; p != nil && end > p.indexed {
		p.indexed = end
		p.release()
	}
}

// release removes entries from the front that the index covers and memory does not hold.
func (p *tailPartition) release() {
	for p.entries.len() > 0 {
		e := *p.entries.peek()
		if e.batch != nil || e.next > p.indexed {
			return
		}
		p.entries.pop()
	}
}

// first is the lowest offset in the tail, and false when the tail is empty.
func (t *tail) first(id meta.Partition) (int64, bool) {
	p := t.partitions[id]
	if p == nil || p.entries.len() == 0 {
		return 0, false
	}
	return (*p.entries.peek()).base, true
}

// from lists the entries that hold offsets in [offset, below), as many as maxBytes allows and at least one. It is empty when
// the offset lies below the tail.
func (t *tail) from(id meta.Partition, offset, below int64, maxBytes int, out []*entry) []*entry {
	p := t.partitions[id]
	if p == nil {
		return out
	}
	live := p.entries.live()
	i := sort.Search(len(live), func(i int) bool { return live[i].next > offset })
	if i == len(live) || live[i].base > offset {
		return out
	}
	size := 0
	for _, e := range live[i:] {
		if e.next > below || (size > 0 && size+e.size > maxBytes) {
			break
		}
		size += e.size
		out = append(out, e)
	}
	return out
}

// firstSince returns the first entry below the offset limit with a record as new as timestamp, or nil.
func (t *tail) firstSince(id meta.Partition, timestamp, below int64) *entry {
	p := t.partitions[id]
	if p == nil {
		return nil
	}
	for _, e := range p.entries.live() {
		if e.next > below {
			break
		}
		if e.maxTimestamp >= timestamp {
			return e
		}
	}
	return nil
}

// newest is the greatest timestamp of a record in the tail below the offset limit, or nil.
func (t *tail) newest(id meta.Partition, below int64) (newest *int64) {
	p := t.partitions[id]
	if p == nil {
		return nil
	}
	for _, e := range p.entries.live() {
		if e.next > below {
			break
		}
		if newest == nil || e.maxTimestamp > *newest {
			newest = &e.maxTimestamp
		}
	}
	return newest
}
