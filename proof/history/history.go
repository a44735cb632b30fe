package history

import (
	"fmt"
	"math"
	"sync"
)

// Partition is the handle of a partition's name in one History. The zero Partition is none.
type Partition int32

// Group is the handle of a consumer group's name in one History. The zero Group is none.
type Group int32

// Outcome is what the caller of an operation knows about it.
type Outcome uint8

const (
	OK   Outcome = iota // it was done, once, and the answer says so
	Fail                // it was not done and never will be
	Info                // nobody knows: an error that claims nothing, a timeout, a crash of the caller
)

// Limits of one history. What is beyond them is not recorded and makes the report Malformed.
const (
	maxOffset  = int64(1) << 62
	maxRecords = 1 << 30
	maxSources = 8
)

// Call says who did something and when. Times are nanoseconds or steps of one clock that all processes of a history share;
// Complete >= Invoke, but for an operation of outcome Info, where it may be left out. A process is one client: it polls, and as a producer it is the unit of nonmonotonic-send.
type Call struct {
	Process          int32
	Invoke, Complete int64
}

// A Record is what a reader found at an offset.
type Record struct {
	Offset int64
	Value  uint64
}

// Produce is one send of Count records with the consecutive values Value, Value+1, … to a partition. A value is sent once in a history:
// attempts that a client repeats under one call are one Produce. An acknowledgement that promises less than the topic's
// durability (acks=1, acks=0) is recorded as Info, for its record may be lost.
type Produce struct {
	Call

	Partition Partition
	Value     uint64
	Count     int // 0 means 1
	Outcome   Outcome
	Offset    int64 // of the first record, when OK; the others follow without a hole
	MayRepeat bool  // it was sent again without a producer id, so that it may be in the log more than once
}

// Poll is one answer to a consumer: the records from offset From on, in the order in which they came. A poll that failed is not recorded.
// Polls of a process are recorded in the order in which it made them.
type Poll struct {
	Call

	Partition     Partition
	From          int64
	Group         Group // none for a consumer that was told its partitions
	Generation    int32
	Linearizable  bool     // the answer promised every record acknowledged before Invoke, as far as it has room
	HighWatermark int64    // that came with the answer; 0 when unknown
	Records       []Record // copied
}

// Assign says that a consumer's position was set: by a seek (no Group), or because its group gave it the partition.
// A group assignment must be to a committed offset; its Call then spans the reading of that offset.
type Assign struct {
	Call

	Partition  Partition
	Offset     int64 // -1 when only the next poll will tell
	Group      Group
	Generation int32
}

// Commit is one attempt to commit an offset for a group.
type Commit struct {
	Call

	Group      Group
	Partition  Partition
	Offset     int64
	Generation int32 // below 0 for a commit from outside, which nothing fences
	Outcome    Outcome
	Reset      bool // moved on purpose, perhaps backwards
}

// FetchCommitted is one successful read of a group's committed offset.
type FetchCommitted struct {
	Call

	Group     Group
	Partition Partition
	Offset    int64 // -1 for none
}

// Query is one SQL answer: for each partition it counted and summed the records of [From, End).
type Query struct {
	Call

	AsOf    bool // the caller fixed the position, so it need not be fresh
	Answers []Answer
}

// Answer is a query's answer about one partition. Sum wraps around at 2^64.
type Answer struct {
	Partition Partition
	From, End int64
	Count     int64
	Sum       uint64
}

// FinalRead is (a part of) what a fresh client read after the last operation from one source ("memory", "object store", "sql").
// The source holds exactly Records in [From, End). End 0 means the end of the log: nothing is missing behind the last record either.
// A large log is recorded in several parts; at most 8 sources take part.
type FinalRead struct {
	Source    string
	Partition Partition
	From, End int64
	Records   []Record // copied
}

// HighWatermark is one observation of a partition's high watermark, at the leader or as fresh as if it were.
type HighWatermark struct {
	Call

	Partition Partition
	Offset    int64
}

// Lead says that a node appended the offsets [From, To) at an epoch and that they became part of the log.
type Lead struct {
	Call

	Partition Partition
	Epoch     int32
	Node      int32
	From, To  int64
}

// History is what the clients of a cluster did and saw. Its recording methods may be called by many goroutines; Check and Reset
// may not run beside them. The zero History is empty and ready.
type History struct {
	mu         sync.Mutex
	partitions names
	groups     names
	sources    names
	store      arena
	sends      list[sent]
	polls      list[polled] // polls and assignments, in the order of recording
	finals     list[final]
	commits    list[Commit]
	fetches    list[fetched]
	answers    list[answered]
	waters     list[HighWatermark]
	leads      list[Lead]
	losses     []interval
	starts     []start
	malformed  []string
	records    int // values sent
	queries    int

	check checker // buffers that checks of one History share
}

type (
	sent struct {
		Call

		value     uint64
		offset    int64
		count     int32
		partition Partition
		first     uint32 // number of its first record among all that were sent
		outcome   Outcome
		mayRepeat bool
	}
	polled struct {
		Call

		run

		from, water  int64
		partition    Partition
		group        Group
		generation   int32
		linearizable bool
		assign       bool // no poll but an Assign to offset from
	}
	final struct {
		run

		partition Partition
		source    int32
		from, end int64
	}
	fetched struct {
		FetchCommitted

		assign bool
	}
	answered struct {
		Call
		Answer

		asOf bool
	}
	interval struct {
		partition Partition
		from, to  int64
	}
	start struct {
		partition Partition
		offset    int64
	}
)

// New returns an empty history.
func New() *History { return &History{} }

// Reset forgets everything that was recorded and keeps the memory and the handles of partitions and groups.
func (h *History) Reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.store.reset()
	h.sends.reset()
	h.polls.reset()
	h.finals.reset()
	h.commits.reset()
	h.fetches.reset()
	h.answers.reset()
	h.waters.reset()
	h.leads.reset()
	h.sources = names{}
	h.losses, h.starts, h.malformed = h.losses[:0], h.starts[:0], h.malformed[:0]
	h.records, h.queries = 0, 0
}

// Partition returns the handle of a partition; the same name gives the same handle.
func (h *History) Partition(name string) Partition {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Partition(h.partitions.intern(name))
}

// Group returns the handle of a consumer group; the same name gives the same handle.
func (h *History) Group(name string) Group {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Group(h.groups.intern(name))
}

// Produce records a send.
func (h *History) Produce(p Produce) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.Count == 0 {
		p.Count = 1
	}
	if p.Outcome != OK {
		p.Offset = 0 // nobody was told
	}
	if p.Outcome == Info && p.Complete < p.Invoke {
		p.Complete = math.MaxInt64
	}
	switch {
	case !h.sane("produce", p.Call, p.Partition, p.Offset):
	case p.Count < 0 || h.records+p.Count > maxRecords:
		h.malformf("produce of %d records after %d", p.Count, h.records)
	case p.Value+uint64(p.Count) < p.Value:
		h.malformf("produce of %d values from %d on", p.Count, p.Value)
	default:
		h.sends.add(sent{
			Call: p.Call, value: p.Value, offset: p.Offset, count: int32(p.Count), partition: p.Partition,
			first: uint32(h.records), outcome: p.Outcome, mayRepeat: p.MayRepeat,
		})
		h.records += p.Count
	}
}

// Poll records what a consumer was given.
func (h *History) Poll(p Poll) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.sane("poll", p.Call, p.Partition, p.From) || !h.saneRecords("poll", p.Records) {
		return
	}
	h.polls.add(polled{
		Call: p.Call, run: h.store.keep(p.Records), from: p.From, water: p.HighWatermark, partition: p.Partition,
		group: p.Group, generation: p.Generation, linearizable: p.Linearizable,
	})
}

// Assign records that a consumer's position was set.
func (h *History) Assign(a Assign) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sane("assign", a.Call, a.Partition, max(a.Offset, 0)) {
		h.polls.add(polled{
			Call: a.Call, from: a.Offset, partition: a.Partition, group: a.Group, generation: a.Generation, assign: true,
		})
	}
}

// Commit records an attempt to commit an offset.
func (h *History) Commit(c Commit) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.Outcome == Info {
		c.Complete = math.MaxInt64 // it may still happen
	}
	if h.sane("commit", c.Call, c.Partition, c.Offset) {
		h.commits.add(c)
	}
}

// FetchCommitted records a read of a committed offset.
func (h *History) FetchCommitted(f FetchCommitted) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sane("fetch of a committed offset", f.Call, f.Partition, max(f.Offset, 0)) {
		h.fetches.add(fetched{FetchCommitted: f})
	}
}

// Query records a SQL answer.
func (h *History) Query(q Query) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range q.Answers {
		if h.sane("query", q.Call, a.Partition, a.From) && h.sane("query", q.Call, a.Partition, a.End) {
			h.answers.add(answered{Call: q.Call, Answer: a, asOf: q.AsOf})
		}
	}
	h.queries++
}

// FinalRead records what was in a source at the end.
func (h *History) FinalRead(f FinalRead) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.sane("final read", Call{}, f.Partition, f.From) || !h.saneRecords("final read", f.Records) {
		return
	}
	source := h.sources.intern(f.Source)
	if source > maxSources {
		h.malformf("final read from a ninth source, %q", f.Source)
		return
	}
	if f.End == 0 {
		f.End = math.MaxInt64
	}
	for _, r := range f.Records {
		if r.Offset < f.From || r.Offset >= f.End {
			h.malformf("final read of [%d, %d) in %q holds offset %d", f.From, f.End, f.Source, r.Offset)
			return
		}
	}
	h.finals.add(final{run: h.store.keep(f.Records), partition: f.Partition, source: source, from: f.From, end: f.End})
}

// HighWatermark records an observation of a high watermark.
func (h *History) HighWatermark(w HighWatermark) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sane("high watermark", w.Call, w.Partition, w.Offset) {
		h.waters.add(w)
	}
}

// Lead records appends of a leader.
func (h *History) Lead(l Lead) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sane("lead", l.Call, l.Partition, l.From) && h.sane("lead", l.Call, l.Partition, l.To) {
		h.leads.add(l)
	}
}

// Lost declares that the offsets [from, to) were given up by decision of an operator: what was there may be gone.
func (h *History) Lost(p Partition, from, to int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sane("lost range", Call{}, p, from) && from < to {
		h.losses = append(h.losses, interval{partition: p, from: from, to: to})
	}
}

// LogStart declares that retention or a deletion moved the start of the log up to an offset: what was below may be gone.
func (h *History) LogStart(p Partition, offset int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sane("log start", Call{}, p, offset) {
		h.starts = append(h.starts, start{partition: p, offset: offset})
	}
}

func (h *History) sane(what string, c Call, p Partition, offset int64) bool {
	switch {
	case p <= 0 || int(p) > len(h.partitions.all):
		h.malformf("%s on partition %d, which this history did not name", what, p)
	case offset < 0 || offset > maxOffset:
		h.malformf("%s at offset %d", what, offset)
	case c.Complete < c.Invoke:
		h.malformf("%s by process %d completed at %d before it was invoked at %d", what, c.Process, c.Complete, c.Invoke)
	default:
		return true
	}
	return false
}

func (h *History) saneRecords(what string, records []Record) bool {
	for _, r := range records {
		if r.Offset < 0 || r.Offset > maxOffset {
			h.malformf("%s of a record at offset %d", what, r.Offset)
			return false
		}
	}
	return true
}

func (h *History) malformf(format string, args ...any) {
	h.malformed = append(h.malformed, fmt.Sprintf(format, args...))
}

// names gives each name a number, from 1 on.
type names struct {
	all   []string
	index map[string]int32
}

func (n *names) intern(name string) int32 {
	if id, ok := n.index[name]; ok {
		return id
	}
	if n.index == nil {
		n.index = make(map[string]int32)
	}
	n.all = append(n.all, name)
	n.index[name] = int32(len(n.all))
	return int32(len(n.all))
}

func (n *names) name(id int32) string {
	if id <= 0 || int(id) > len(n.all) {
		return "none"
	}
	return n.all[id-1]
}
