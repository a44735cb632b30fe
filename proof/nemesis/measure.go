package nemesis

import (
	"math"
	"math/bits"
	"sync"
	"time"
)

// latencies is a histogram of durations with 8 buckets for each power of two of microseconds: quantiles are right within 9 %.
type latencies struct {
	count   uint64
	buckets [256]uint32
}

func (l *latencies) add(d time.Duration) {
	l.count++
	l.buckets[bucketOf(d)]++
}

func bucketOf(d time.Duration) int {
	micros := uint64(max(d.Microseconds(), 0))
	if micros < 8 {
		return int(micros)
	}
	exponent := bits.Len64(micros) - 4
	return min((exponent+1)*8+int(micros>>exponent)-8, 255)
}

// bucketStart is the least duration in a bucket.
func bucketStart(i int) time.Duration {
	if i < 8 {
		return time.Duration(i) * time.Microsecond
	}
	exponent := i/8 - 1
	return time.Duration(uint64(8+i%8)<<exponent) * time.Microsecond
}

func (l *latencies) merge(o *latencies) {
	l.count += o.count
	for i, n := range &o.buckets {
		l.buckets[i] += n
	}
}

// quantile returns the duration below which a share q of all lie; 0 of none.
func (l *latencies) quantile(q float64) time.Duration {
	if l.count == 0 {
		return 0
	}
	wanted := uint64(math.Ceil(q * float64(l.count)))
	var seen uint64
	for i, n := range &l.buckets {
		seen += uint64(n)
		if seen >= wanted {
			return (bucketStart(i) + bucketStart(i+1)) / 2
		}
	}
	return bucketStart(len(l.buckets))
}

// Second is what was acknowledged in one second of a run.
type Second struct {
	Acked int64         `json:"acked"`
	P50   time.Duration `json:"p50_ns"`
	P99   time.Duration `json:"p99_ns"`
}

// Stall is a time in which records of a partition waited and none of them was answered.
type Stall struct {
	Partition string        `json:"partition"` // "" when no partition was answered
	From      time.Duration `json:"from_ns"`
	To        time.Duration `json:"to_ns"`
}

// Length of the stall.
func (s Stall) Length() time.Duration { return s.To - s.From }

// worthTelling is how long a stall must be to be kept.
const worthTelling = 100 * time.Millisecond

// measures is what is counted while producers work. Its methods may be called from any goroutine.
type measures struct {
	mu      sync.Mutex
	seconds []latencies
	stalls  []Stall
	longest Stall // of one partition
	dark    Stall // of all
	waiting map[string]*waiting
}

type waiting struct {
	open  int           // records without an answer
	since time.Duration // since when none was answered, while open > 0
}

func newMeasures() *measures { return &measures{waiting: map[string]*waiting{"": {}}} }

func (m *measures) sent(partition string, records int, now time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range [...]string{partition, ""} {
		w := m.waiting[name]
		if w == nil {
			w = &waiting{}
			m.waiting[name] = w
		}
		if w.open == 0 {
			w.since = now
		}
		w.open += records
	}
}

// answered says that a record which was sent at a time got its answer now; acked, that it was the good one.
func (m *measures) answered(partition string, sent, now time.Duration, acked bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if acked {
		second := int(now / time.Second)
		for len(m.seconds) <= second {
			m.seconds = append(m.seconds, latencies{})
		}
		m.seconds[second].add(now - sent)
	}
	for _, name := range [...]string{partition, ""} {
		w := m.waiting[name]
		if stall := (Stall{Partition: name, From: w.since, To: now}); acked {
			if stall.Length() >= worthTelling {
				m.stalls = append(m.stalls, stall)
			}
			if longest := &m.longest; name != "" && stall.Length() > longest.Length() {
				*longest = stall
			}
			if name == "" && stall.Length() > m.dark.Length() {
				m.dark = stall
			}
			w.since = now
		}
		w.open--
	}
}

// readings are the times in which acknowledged records of a partition waited and no consumer was given any of them. Its methods
// may be called from any goroutine.
type readings struct {
	mu      sync.Mutex
	by      map[string]*unread
	longest Stall
	stalls  []Stall
}

// unread waits while polled < acked, and has since since.
type unread struct {
	acked, polled int64 // the first offset that is not
	since         time.Duration
}

func newReadings() *readings { return &readings{by: make(map[string]*unread)} }

func (r *readings) of(partition string) *unread {
	u := r.by[partition]
	if u == nil {
		u = &unread{}
		r.by[partition] = u
	}
	return u
}

func (r *readings) acked(partition string, offset int64, now time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.of(partition)
	if u.polled >= u.acked && offset >= u.polled {
		u.since = now
	}
	u.acked = max(u.acked, offset+1)
}

func (r *readings) polled(partition string, next int64, now time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.of(partition)
	if next <= u.polled {
		return // read again: nobody waited for that
	}
	if u.polled < u.acked {
		s := Stall{Partition: partition, From: u.since, To: now}
		if s.Length() > r.longest.Length() {
			r.longest = s
		}
		if s.Length() >= worthTelling {
			r.stalls = append(r.stalls, s)
		}
	}
	u.polled, u.since = next, now
}

func (r *readings) result() (longest Stall, stalls []Stall) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.longest, append([]Stall(nil), r.stalls...)
}

// longestIn is the longest of stalls that went on within [from, to).
func longestIn(stalls []Stall, from, to time.Duration) (longest Stall) {
	for _, s := range stalls {
		if s.Partition != "" && s.From < to && s.To > from && s.Length() > longest.Length() {
			longest = s
		}
	}
	return longest
}

// Measured is what came of a run's measures.
type Measured struct {
	Seconds []Second `json:"seconds"`
	// P50, P99, Max are the latencies of all acknowledged records, from the producer's taking one to its answer.
	P50 time.Duration `json:"p50_ns"`
	P99 time.Duration `json:"p99_ns"`
	// LongestStall is of one partition, LongestDark of all at once.
	LongestStall Stall   `json:"longest_stall"`
	LongestDark  Stall   `json:"longest_dark"`
	Stalls       []Stall `json:"-"`
	// LongestUnread is the longest time in which acknowledged records of a partition waited and no consumer was given any.
	LongestUnread Stall   `json:"longest_unread"`
	Unread        []Stall `json:"-"`
}

func (m *measures) result() Measured {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := Measured{LongestStall: m.longest, LongestDark: m.dark, Stalls: append([]Stall(nil), m.stalls...)}
	var all latencies
	for i := range m.seconds {
		l := &m.seconds[i]
		out.Seconds = append(out.Seconds, Second{Acked: int64(l.count), P50: l.quantile(0.5), P99: l.quantile(0.99)})
		all.merge(l)
	}
	out.P50, out.P99 = all.quantile(0.5), all.quantile(0.99)
	return out
}
