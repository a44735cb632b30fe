package history

import (
	"math/rand/v2"
	"slices"
)

// A script is a history before it is recorded, so that a test can change it.
type script struct {
	events []any // in the order of recording
	rng    *rand.Rand
}

type (
	lostRange struct {
		partition Partition
		from, to  int64
	}
	logStart struct {
		partition Partition
		offset    int64
	}
)

const (
	scriptPartitions = 3
	reader           = 20 // the consumer without a group, which reads everything
	jump             = int64(1) << 32
)

func (s *script) record(h *History) {
	for _, name := range []string{"orders/0", "orders/1", "ledger/0"} {
		h.Partition(name)
	}
	h.Group("billing")
	for _, e := range s.events {
		switch e := e.(type) {
		case *Produce:
			h.Produce(*e)
		case *Poll:
			h.Poll(*e)
		case *Assign:
			h.Assign(*e)
		case *Commit:
			h.Commit(*e)
		case *FetchCommitted:
			h.FetchCommitted(*e)
		case *Query:
			h.Query(*e)
		case *FinalRead:
			h.FinalRead(*e)
		case *HighWatermark:
			h.HighWatermark(*e)
		case *Lead:
			h.Lead(*e)
		case *lostRange:
			h.Lost(e.partition, e.from, e.to)
		case *logStart:
			h.LogStart(e.partition, e.offset)
		}
	}
}

// world is a log service as it should be, with clients; it writes a script. Logs commit in order, leaders fail over and drop what was not
// committed, requests hang on the wire, one partition loses a range by decision.
type world struct {
	rng       *rand.Rand
	now       int64
	script    script
	logs      []*modelLog
	producers []*producer
	consumers []*consumer
	wire      []*send
	inFlight  []func() // operations that were invoked and are yet to take effect and complete

	generation int32
	owners     [scriptPartitions + 1]*consumer
	committed  map[Partition]int64
}

type modelLog struct {
	partition Partition
	records   []Record
	pending   []*send
	next      int64
	floor     int64 // the end of its last lost range
	epoch     int32
	node      int32
}

func (l *modelLog) end() int64 {
	if n := len(l.records); n > 0 {
		return max(l.records[n-1].Offset+1, l.next)
	}
	return l.next
}

// send is one produce on its way.
type send struct {
	op      Produce
	done    bool // committed, or refused for good
	givenUp bool // the producer no longer waits
	again   bool // the client sent it once more
}

type producer struct {
	process int32
	seq     uint64
	send    *send
}

type consumer struct {
	process    int32
	group      Group
	generation int32
	positions  map[Partition]int64
	busy       bool
	lives      int // assignments so far: what was in flight before the last is dropped
}

// healthy writes the history of a healthy cluster with faults.
func healthy(seed uint64) *script {
	w := &world{rng: rand.New(rand.NewPCG(seed, 7)), committed: map[Partition]int64{}, generation: 1}
	for p := range scriptPartitions {
		w.logs = append(w.logs, &modelLog{partition: Partition(p + 1), epoch: 1, node: int32(p)})
	}
	for i := range 4 {
		w.producers = append(w.producers, &producer{process: int32(i + 1)})
	}
	for i := range 2 {
		w.consumers = append(w.consumers, &consumer{process: int32(10 + i), group: 1, positions: map[Partition]int64{}})
	}
	w.consumers = append(w.consumers, &consumer{process: reader, positions: map[Partition]int64{1: 0, 2: 0, 3: 0}})
	w.rebalance()
	for range 250 + w.rng.IntN(250) {
		w.step()
	}
	w.finish()
	w.script.rng = w.rng
	return &w.script
}

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

func (w *world) tick() int64 {
	w.now += 1 + int64(w.rng.IntN(3))
	return w.now
}

func (w *world) emit(e any) { w.script.events = append(w.script.events, e) }

func (w *world) step() {
	w.tick()
	log := w.logs[w.rng.IntN(len(w.logs))]
	switch r := w.rng.IntN(100); {
	case r < 25:
		w.produce(w.producers[w.rng.IntN(len(w.producers))])
	case r < 40:
		w.deliver()
	case r < 53:
		w.commitLog(log)
	case r < 55:
		w.failOver(log)
	case r < 72:
		w.poll(w.consumers[w.rng.IntN(len(w.consumers))])
	case r < 78:
		w.commitOffset(w.consumers[w.rng.IntN(2)], log.partition)
	case r < 80:
		w.rebalance()
	case r < 83:
		w.query()
	case r < 86:
		w.observe(log)
	case r < 89:
		w.fetchCommitted(log.partition)
	default:
		w.land()
	}
}

// land lets one operation in flight take effect and complete.
func (w *world) land() {
	if n := len(w.inFlight); n > 0 {
		i := w.rng.IntN(n)
		f := w.inFlight[i]
		w.inFlight = slices.Delete(w.inFlight, i, i+1)
		f()
	}
}

func (w *world) produce(p *producer) {
	if s := p.send; s != nil {
		switch {
		case s.done:
			s.op.Complete = w.now
			w.emit(&s.op)
		case w.chance(10): // it stops waiting; the request goes its own way
			s.givenUp = true
			op := s.op
			op.Outcome, op.Complete = Info, w.now
			w.emit(&op)
		default:
			return
		}
		p.send = nil
		return
	}
	count := 1
	if w.chance(40) {
		count = 2 + w.rng.IntN(3)
	}
	s := &send{op: Produce{
		Call: Call{Process: p.process, Invoke: w.now}, Partition: Partition(1 + w.rng.IntN(scriptPartitions)),
		Value: uint64(p.process)<<40 + p.seq, Count: count, MayRepeat: w.chance(5),
	}}
	p.seq += uint64(count)
	p.send = s
	if w.chance(8) { // refused at the door
		s.op.Outcome, s.done = Fail, true
		return
	}
	w.wire = append(w.wire, s)
}

// deliver appends one request to its leader, or loses it on the way.
func (w *world) deliver() {
	if len(w.wire) == 0 {
		return
	}
	i := w.rng.IntN(len(w.wire))
	s := w.wire[i]
	w.wire = slices.Delete(w.wire, i, i+1)
	if s.givenUp && w.chance(50) {
		return
	}
	log := w.logs[s.op.Partition-1]
	log.pending = append(log.pending, s)
	if s.op.MayRepeat && !s.again {
		s.again = true
		w.wire = append(w.wire, s)
	}
}

func (w *world) commitLog(log *modelLog) {
	if len(log.pending) == 0 {
		return
	}
	n := 1 + w.rng.IntN(len(log.pending))
	from := log.next
	for _, s := range log.pending[:n] {
		if !s.done {
			s.op.Offset, s.done = log.next, true
		}
		for j := range s.op.Count {
			log.records = append(log.records, Record{Offset: log.next, Value: s.op.Value + uint64(j)})
			log.next++
		}
	}
	log.pending = slices.Clone(log.pending[n:])
	invoke := w.now
	w.emit(&Lead{Call: Call{Process: 100 + log.node, Invoke: invoke, Complete: w.tick()}, Partition: log.partition, Epoch: log.epoch, Node: log.node, From: from, To: log.next})
}

func (w *world) failOver(log *modelLog) {
	log.epoch++
	log.node = int32(w.rng.IntN(5))
	for _, s := range log.pending {
		switch {
		case s.done: // the repetition of a send that is in the log already
		case w.chance(50) || s.op.MayRepeat:
			w.wire = append(w.wire, s) // the client tries again
		case !s.givenUp:
			s.op.Outcome, s.done = Fail, true
		}
	}
	log.pending = nil
	if log.partition == 3 && w.chance(40) { // its disk is gone and somebody decides to go on without it
		for range w.rng.IntN(4) {
			if n := len(log.records); n > 0 && log.records[n-1].Offset >= log.floor {
				log.records = log.records[:n-1]
			}
		}
		from := log.floor
		if n := len(log.records); n > 0 {
			from = max(from, log.records[n-1].Offset+1)
		}
		log.next, log.floor = from+jump, from+jump
		w.emit(&lostRange{partition: 3, from: from, to: log.next})
	}
}

func (w *world) read(p Partition, from int64, limit int) []Record {
	log := w.logs[p-1]
	i, _ := slices.BinarySearchFunc(log.records, from, func(r Record, o int64) int {
		return int(max(-1, min(1, r.Offset-o)))
	})
	return slices.Clone(log.records[i:min(len(log.records), i+limit)])
}

func (w *world) poll(c *consumer) {
	if c.busy || len(c.positions) == 0 {
		return
	}
	var own []Partition
	for p := range Partition(scriptPartitions + 1) {
		if _, ok := c.positions[p]; ok {
			own = append(own, p)
		}
	}
	p := own[w.rng.IntN(len(own))]
	c.busy = true
	life, invoke := c.lives, w.now
	w.inFlight = append(w.inFlight, func() {
		c.busy = false
		if c.lives == life {
			w.completePoll(c, p, invoke)
		}
	})
}

func (w *world) completePoll(c *consumer, p Partition, invoke int64) {
	from := c.positions[p]
	records := w.read(p, from, 1+w.rng.IntN(6))
	if n := len(records); n > 0 {
		c.positions[p] = records[n-1].Offset + 1
	}
	w.emit(&Poll{
		Call: Call{Process: c.process, Invoke: invoke, Complete: w.tick()}, Partition: p, From: from, Group: c.group, Generation: c.generation,
		Linearizable: true, HighWatermark: w.logs[p-1].end(), Records: records,
	})
}

// rebalance gives each partition to a member of the group, which goes on where the group had committed.
func (w *world) rebalance() {
	w.generation++
	for p := Partition(1); p <= scriptPartitions; p++ {
		if old := w.owners[p]; old != nil && w.chance(70) { // otherwise it is a zombie, and learns it when it commits
			delete(old.positions, p)
			old.lives++
		}
		c := w.consumers[w.rng.IntN(2)]
		w.owners[p] = c
		c.generation = w.generation
		c.lives++
		at, ok := w.committed[p]
		if !ok {
			at = 0
		}
		c.positions[p] = at
		offset := at
		if w.chance(30) {
			offset = -1
		}
		invoke := w.now
		w.emit(&Assign{Call: Call{Process: c.process, Invoke: invoke, Complete: w.tick()}, Partition: p, Offset: offset, Group: c.group, Generation: c.generation})
	}
}

func (w *world) commitOffset(c *consumer, p Partition) {
	at, ok := c.positions[p]
	if !ok {
		return
	}
	op := &Commit{Call: Call{Process: c.process, Invoke: w.now}, Group: 1, Partition: p, Offset: at, Generation: c.generation}
	zombie := w.owners[p] != c
	w.inFlight = append(w.inFlight, func() {
		op.Complete = w.now
		lost := w.chance(5)
		switch {
		case zombie || op.Generation != w.generation || w.owners[p] != c || at < w.committed[p]:
			op.Outcome = Fail
		case !lost:
			w.committed[p] = at
		}
		if lost || w.chance(5) && op.Outcome == OK {
			op.Outcome = Info
		}
		w.emit(op)
	})
}

func (w *world) fetchCommitted(p Partition) {
	invoke := w.now
	w.inFlight = append(w.inFlight, func() {
		at, ok := w.committed[p]
		if !ok {
			at = -1
		}
		w.emit(&FetchCommitted{Call: Call{Process: 30, Invoke: invoke, Complete: w.now}, Group: 1, Partition: p, Offset: at})
	})
}

func (w *world) observe(log *modelLog) {
	invoke := w.now
	w.inFlight = append(w.inFlight, func() {
		w.emit(&HighWatermark{Call: Call{Process: 31, Invoke: invoke, Complete: w.now}, Partition: log.partition, Offset: log.end()})
	})
}

func (w *world) query() {
	invoke, asOf := w.now, w.chance(30)
	w.inFlight = append(w.inFlight, func() {
		q := &Query{Call: Call{Process: 40, Invoke: invoke, Complete: w.now}, AsOf: asOf}
		for _, log := range w.logs {
			a := Answer{Partition: log.partition, End: log.end()}
			if asOf && a.End > 0 {
				a.End = w.rng.Int64N(min(a.End, int64(len(log.records))) + 1)
			}
			for _, r := range log.records {
				if r.Offset < a.End {
					a.Count, a.Sum = a.Count+1, a.Sum+r.Value
				}
			}
			q.Answers = append(q.Answers, a)
		}
		w.emit(q)
	})
}

// finish lets everything land, lets the reader catch up, and reads every source.
func (w *world) finish() {
	for len(w.wire) > 0 {
		w.deliver()
	}
	for _, log := range w.logs {
		for len(log.pending) > 0 {
			w.commitLog(log)
		}
	}
	for _, p := range w.producers {
		if p.send != nil {
			w.tick()
			w.produce(p)
		}
		if p.send != nil { // it was refused on the way and nobody told
			p.send.op.Outcome, p.send.done = Info, true
			w.produce(p)
		}
	}
	for len(w.inFlight) > 0 {
		w.tick()
		w.land()
	}
	for _, log := range w.logs {
		for c := w.consumers[2]; c.positions[log.partition] < log.end(); {
			before := c.positions[log.partition]
			w.completePoll(c, log.partition, w.tick())
			if c.positions[log.partition] == before {
				break
			}
		}
		w.readSources(log)
	}
}

func (w *world) readSources(log *modelLog) {
	from := int64(0)
	if log.partition == 1 && w.chance(30) && len(log.records) > 4 {
		from = int64(w.rng.IntN(4))
		w.emit(&logStart{partition: log.partition, offset: from})
	}
	all := w.read(log.partition, from, len(log.records))
	w.emit(&FinalRead{Source: "memory", Partition: log.partition, From: from, Records: all})
	w.emit(&FinalRead{Source: "log on disk", Partition: log.partition, From: from, Records: slices.Clone(all)})
	if len(all) == 0 {
		return
	}
	i := w.rng.IntN(len(all))
	w.emit(&FinalRead{Source: "object store", Partition: log.partition, From: from, End: all[i].Offset + 1, Records: slices.Clone(all[:i+1])})
	w.emit(&FinalRead{Source: "sql", Partition: log.partition, From: from, End: all[i].Offset + 1, Records: slices.Clone(all[:i+1])})
	w.emit(&FinalRead{Source: "sql", Partition: log.partition, From: all[i].Offset + 1, Records: slices.Clone(all[i+1:])})
}
