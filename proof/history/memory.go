package history

const (
	chunkRows  = 256
	firstArena = 1 << 10
	lastArena  = 1 << 17
)

// list grows without moving what it holds, so that a large history never exists twice.
type list[T any] struct {
	chunks [][]T
	n      int
}

func (l *list[T]) add(v T) {
	if l.n == len(l.chunks)*chunkRows {
		l.chunks = append(l.chunks, make([]T, chunkRows))
	}
	l.chunks[l.n/chunkRows][l.n%chunkRows] = v
	l.n++
}

func (l *list[T]) at(i int) *T { return &l.chunks[i/chunkRows][i%chunkRows] }

func (l *list[T]) len() int { return l.n }

func (l *list[T]) reset() { l.n = 0 }

// run is a sequence of records. When each offset follows the one before, data is the values alone; otherwise it is all offsets, then all values.
type run struct {
	first  int64
	data   []uint64
	n      int32
	sparse bool
}

func (r *run) at(i int) (offset int64, value uint64) {
	if r.sparse {
		return int64(r.data[i]), r.data[int(r.n)+i]
	}
	return r.first + int64(i), r.data[i]
}

// bounds returns the least offset and one above the greatest.
func (r *run) bounds() (lo, hi int64) {
	if !r.sparse {
		return r.first, r.first + int64(r.n)
	}
	lo, hi = r.first, r.first+1
	for _, o := range r.data[:r.n] {
		lo, hi = min(lo, int64(o)), max(hi, int64(o)+1)
	}
	return lo, hi
}

// value returns the first value that the run has at an offset.
func (r *run) value(offset int64) (value uint64, ok bool) {
	if r.n == 0 || !r.sparse && (offset < r.first || offset >= r.first+int64(r.n)) {
		return 0, false
	}
	if !r.sparse {
		return r.data[offset-r.first], true
	}
	for i, o := range r.data[:r.n] {
		if int64(o) == offset {
			return r.data[int(r.n)+i], true
		}
	}
	return 0, false
}

// arena keeps the words of runs in large chunks.
type arena struct {
	chunks [][]uint64
	cur    int // the chunk that is being filled
	used   int // of it
}

func (a *arena) keep(records []Record) run {
	if len(records) == 0 {
		return run{}
	}
	r := run{first: records[0].Offset, n: int32(len(records))}
	for i := range records {
		if records[i].Offset != r.first+int64(i) {
			r.sparse = true
			break
		}
	}
	if !r.sparse {
		r.data = a.take(len(records))
		for i := range records {
			r.data[i] = records[i].Value
		}
		return r
	}
	r.data = a.take(2 * len(records))
	for i := range records {
		r.data[i], r.data[len(records)+i] = uint64(records[i].Offset), records[i].Value
	}
	return r
}

func (a *arena) take(n int) []uint64 {
	for a.cur < len(a.chunks) && a.used+n > len(a.chunks[a.cur]) {
		a.cur, a.used = a.cur+1, 0
	}
	if a.cur == len(a.chunks) {
		a.chunks = append(a.chunks, make([]uint64, max(n, min(lastArena, firstArena<<min(a.cur, 7)))))
	}
	words := a.chunks[a.cur][a.used : a.used+n : a.used+n]
	a.used += n
	return words
}

func (a *arena) reset() { a.cur, a.used = 0, 0 }
