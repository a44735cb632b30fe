package ingest

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
)

// partitionStory drives one partition and writes down what it answers, a word for each.
type partitionStory struct {
	t        *testing.T
	p        *partition
	effects  partitionEffects
	answered []string
}

func newPartitionStory(t *testing.T, durability meta.Durability, end int64, committed ...meta.L0Producer) *partitionStory {
	t.Helper()
	config := meta.DefaultTopicConfig()
	config.Durability = durability
	topic := meta.Topic{Name: "t", ID: meta.TopicID{1}, Partitions: 1, Config: config}
	return &partitionStory{t: t, p: newPartition(meta.Partition{Topic: topic.ID}, topic, 3, 0, end, committed)}
}

func (s *partitionStory) step(e partitionEvent) error {
	s.effects.reset()
	err := s.p.Step(e, &s.effects)
	for _, a := range s.effects.answers {
		a.deliver()
	}
	return err
}

// produce asks for a batch to be appended; its answer is noted as "<who>=<base>/<reached>" or "<who>=<reason>", with a + for
// a duplicate.
func (s *partitionStory) produce(who string, acks Acks, b record.Batch) {
	s.t.Helper()
	call := &produceCall{request: ProduceRequest{Topic: "t", Acks: acks}, batch: b, done: func(r ProduceResult, err error) {
		word := fmt.Sprintf("%s=%d/%s", who, r.BaseOffset, r.Reached)
		if r.Duplicate {
			word += "+"
		}
		if err != nil {
			word = fmt.Sprintf("%s=%s", who, ReasonOf(err))
		}
		s.answered = append(s.answered, word)
	}}
	if err := s.step(produced{call: call}); err != nil {
		s.t.Fatal(err)
	}
}

// said checks the answers since the last call.
func (s *partitionStory) said(want string) {
	s.t.Helper()
	if got := strings.Join(s.answered, " "); got != want {
		s.t.Fatalf("answers %q, want %q", got, want)
	}
	s.answered = nil
}

func TestPartitionAcks(t *testing.T) {
	for _, c := range []struct {
		durability                          meta.Durability
		acks                                Acks
		atOnce, written, synced, onceStored string
	}{
		{meta.DurabilityObject, AcksAll, "", "", "", "x=7/object"},
		{meta.DurabilityObject, AcksLeader, "", "x=7/buffered", "", ""},
		{meta.DurabilityObject, AcksNone, "x=-1/none", "", "", ""},
		{meta.DurabilityDisk, AcksAll, "", "", "x=7/disk", ""},
		{meta.DurabilityDisk, AcksLeader, "", "", "x=7/disk", ""},
		{meta.DurabilityDisk, AcksNone, "x=-1/none", "", "", ""},
	} {
		t.Run(fmt.Sprintf("%s acks=%s", c.durability, c.acks), func(t *testing.T) {
			s := newPartitionStory(t, c.durability, 7)
			b := oneBatch("a", "b")
			s.produce("x", c.acks, b)
			if !s.effects.appended || b.BaseOffset() != 7 || b.LeaderEpoch() != 3 || s.p.end != 9 {
				t.Fatalf("stamped %d at epoch %d, end %d", b.BaseOffset(), b.LeaderEpoch(), s.p.end)
			}
			s.said(c.atOnce)
			for _, step := range []struct {
				event partitionEvent
				want  string
			}{{logWritten{end: 9}, c.written}, {logSynced{end: 9}, c.synced}, {committedTo{end: 9}, c.onceStored}} {
				if err := s.step(step.event); err != nil {
					t.Fatal(err)
				}
				s.said(step.want)
			}
			if s.p.hwm != 9 {
				t.Fatalf("hwm %d", s.p.hwm)
			}
		})
	}
}

// A commit may be known before the log tells of its write: the object was built from memory.
func TestPartitionCommitOvertakesTheLog(t *testing.T) {
	s := newPartitionStory(t, meta.DurabilityObject, 0)
	s.produce("one", AcksLeader, oneBatch("a"))
	s.produce("all", AcksAll, oneBatch("b"))
	if err := s.step(committedTo{end: 2}); err != nil {
		t.Fatal(err)
	}
	s.said("all=1/object one=0/object")
}

func TestPartitionIdempotence(t *testing.T) {
	s := newPartitionStory(t, meta.DurabilityObject, 0)
	s.produce("unknown", AcksAll, testBatch(9, 4, "x"))
	s.said("unknown=" + string(ReasonUnknownProducer))
	s.produce("acks1", AcksLeader, testBatch(9, 0, "x"))
	s.said("acks1=" + string(ReasonInvalidRequest))

	s.produce("first", AcksAll, testBatch(9, 0, "a", "b"))
	s.produce("second", AcksAll, testBatch(9, 2, "c"))
	s.produce("again", AcksAll, testBatch(9, 0, "a", "b")) // its first attempt waits, so it waits with it
	if s.effects.appended {
		t.Fatal("a duplicate was appended")
	}
	s.produce("gap", AcksAll, testBatch(9, 5, "x"))
	s.produce("overlap", AcksAll, testBatch(9, 1, "b", "c"))
	s.said("gap=OUT_OF_ORDER_SEQUENCE overlap=OUT_OF_ORDER_SEQUENCE")
	if err := s.step(committedTo{end: 2}); err != nil {
		t.Fatal(err)
	}
	s.said("first=0/object again=0/object+")
	s.produce("late", AcksAll, testBatch(9, 0, "a", "b")) // behind the mark: answered at once
	s.said("late=0/object+")
	s.produce("pending", AcksAll, testBatch(9, 2, "c"))
	if err := s.step(committedTo{end: 3}); err != nil {
		t.Fatal(err)
	}
	s.said("second=2/object pending=2/object+")

	for n := range int32(rangesKept) {
		s.produce("more", AcksAll, testBatch(9, 3+n, "x"))
	}
	s.produce("forgotten", AcksAll, testBatch(9, 2, "c")) // older than the last five
	s.said("forgotten=OUT_OF_ORDER_SEQUENCE")

	newer := testBatchOfEpoch(9, 1, 0, "y")
	s.produce("epoch", AcksAll, newer)
	s.produce("fenced", AcksAll, testBatch(9, 8, "z"))
	s.produce("middle", AcksAll, testBatchOfEpoch(9, 2, 7, "z"))
	s.said("fenced=FENCED_PRODUCER middle=OUT_OF_ORDER_SEQUENCE")
	if err := s.step(leadershipLost{cause: Errorf(ReasonNotLeader, "gone")}); err != nil {
		t.Fatal(err)
	}
	s.said("more=NOT_LEADER more=NOT_LEADER more=NOT_LEADER more=NOT_LEADER more=NOT_LEADER epoch=NOT_LEADER")
}

func testBatchOfEpoch(producer int64, epoch int16, sequence int32, value string) record.Batch {
	b := record.NewBuilder(record.None)
	if err := b.Append(record.Record{Timestamp: 1, Value: []byte(value)}); err != nil {
		panic(err)
	}
	out, err := b.Build(producer, epoch, sequence)
	if err != nil {
		panic(err)
	}
	return out
}

// A new leader knows the producers from what commits carried, also across the end of the sequences.
func TestPartitionRestoresProducers(t *testing.T) {
	known := meta.L0Producer{Topic: meta.TopicID{1}, ProducerID: 9, FirstSequence: math.MaxInt32 - 1, LastSequence: 0, BaseOffset: 40}
	s := newPartitionStory(t, meta.DurabilityObject, 43, known)
	s.produce("retry", AcksAll, testBatch(9, math.MaxInt32-1, "a", "b", "c"))
	s.said("retry=40/object+")
	s.produce("next", AcksAll, testBatch(9, 1, "d"))
	if err := s.step(committedTo{end: 44}); err != nil {
		t.Fatal(err)
	}
	s.said("next=43/object")
	for _, c := range [][2]int32{{0, 1}, {math.MaxInt32 - 1, math.MaxInt32}, {math.MaxInt32, 0}} {
		if got := nextSequence(c[0]); got != c[1] {
			t.Errorf("after %d comes %d", c[0], got)
		}
	}
}

func TestPartitionReplay(t *testing.T) {
	at := func(base int64, values ...string) record.Batch {
		b := testBatch(9, int32(base), values...)
		b.Stamp(base, 3)
		return b
	}
	for _, c := range []struct {
		name    string
		batches []record.Batch
		end     int64
		fails   bool
	}{
		{"nothing", nil, 4, false},
		{"all of it is committed", []record.Batch{at(0, "a", "b"), at(2, "c", "d")}, 4, false},
		{"some is, some is not", []record.Batch{at(2, "c", "d"), at(4, "e"), at(5, "f", "g")}, 7, false},
		{"it begins above the end", []record.Batch{at(6, "x")}, 4, true},
		{"a hole", []record.Batch{at(4, "e"), at(6, "g")}, 5, true},
		{"it goes back", []record.Batch{at(4, "e"), at(3, "d")}, 5, true},
		{"half of a batch is committed", []record.Batch{at(3, "d", "e")}, 4, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, durability := range []meta.Durability{meta.DurabilityObject, meta.DurabilityDisk} {
				s := newPartitionStory(t, durability, 4)
				var err error
				for _, b := range c.batches {
					if e := s.step(replayed{batch: b}); e != nil {
						err = e
					}
				}
				if (err != nil) != c.fails || s.p.end != c.end {
					t.Fatalf("%v; end %d", err, s.p.end)
				}
				hwm := map[meta.Durability]int64{meta.DurabilityObject: 4, meta.DurabilityDisk: c.end}[durability]
				if s.p.hwm != hwm {
					t.Fatalf("%s: hwm %d, want %d", durability, s.p.hwm, hwm)
				}
			}
		})
	}
	s := newPartitionStory(t, meta.DurabilityObject, 0)
	if err := s.step(replayed{batch: at(0, "a", "b")}); err != nil {
		t.Fatal(err)
	}
	s.produce("retry", AcksAll, testBatch(9, 0, "a", "b")) // not committed: it waits
	s.said("")
	if err := s.step(committedTo{end: 2}); err != nil {
		t.Fatal(err)
	}
	s.said("retry=0/object+")
}

func TestPartitionConfigured(t *testing.T) {
	s := newPartitionStory(t, meta.DurabilityObject, 0)
	s.produce("x", AcksAll, oneBatch("a"))
	if err := s.step(logSynced{end: 1}); err != nil {
		t.Fatal(err)
	}
	s.said("")
	if err := s.step(configured{durability: meta.DurabilityDisk, messageBytes: 200}); err != nil {
		t.Fatal(err)
	}
	s.said("x=0/disk")
	s.produce("y", AcksAll, oneBatch("b"))
	if err := s.step(configured{durability: meta.DurabilityObject, messageBytes: 100}); err != nil {
		t.Fatal(err)
	}
	if s.p.hwm != 1 {
		t.Fatalf("the mark went to %d", s.p.hwm)
	}
	if err := s.step(logSynced{end: 2}); err != nil {
		t.Fatal(err)
	}
	s.said("") // asked when it was a disk topic, answered as the topic is now
	s.produce("big", AcksAll, oneBatch(strings.Repeat("x", 100)))
	s.said("big=TOO_LARGE")
	if err := s.step(committedTo{end: 2}); err != nil {
		t.Fatal(err)
	}
	s.said("y=1/object")
}

func TestFlusher(t *testing.T) {
	start := time.UnixMilli(1_000_000)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	settings := flushSettings{bytes: 100, interval: 10 * time.Millisecond, idleInterval: time.Second, maxUploads: 2}
	batch := func(bytes, ms int, waits bool) flushEvent {
		return gatheredBatch{bytes: bytes, waitsObject: waits, now: at(ms)}
	}
	for _, c := range []struct {
		name   string
		events []flushEvent
		now    int
		due    bool
		next   int // -1: after the next event
	}{
		{"nothing there", nil, 5000, false, -1},
		{"too young", []flushEvent{batch(10, 0, true)}, 9, false, 10},
		{"interval", []flushEvent{batch(10, 0, true), batch(10, 9, true)}, 10, true, -1},
		{"nobody waits", []flushEvent{batch(10, 0, false)}, 999, false, 1000},
		{"idle interval", []flushEvent{batch(10, 0, false)}, 1000, true, -1},
		{"one waits among many that do not", []flushEvent{batch(10, 0, false), batch(10, 500, true)}, 505, false, 510},
		{"idle comes first", []flushEvent{batch(10, 0, false), batch(10, 995, true)}, 1000, true, -1},
		{"bytes", []flushEvent{batch(60, 0, false), batch(40, 0, false)}, 0, true, -1},
		{"forced", []flushEvent{batch(1, 0, false), flushForced{}}, 0, true, -1},
		{"forced with nothing there", []flushEvent{flushForced{}, batch(1, 0, false)}, 0, false, 1000},
		{"every slot is taken", []flushEvent{batch(500, 0, true), cutTaken{left: 400, oldestAny: at(0)}, cutTaken{left: 300, oldestAny: at(0)}}, 5000, false, -1},
		{"a slot is free again", []flushEvent{batch(500, 0, true), cutTaken{left: 400}, cutTaken{left: 300}, uploadEnded{}}, 0, true, -1},
		{"what a cut leaves keeps its age", []flushEvent{batch(50, 0, true), cutTaken{left: 20, oldestAny: at(2), oldestObject: at(3)}}, 12, false, 13},
		{"a cut takes all", []flushEvent{batch(50, 0, true), flushForced{}, cutTaken{}, flushTick{}}, 5000, false, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := flusher{settings: settings}
			for _, e := range c.events {
				f.Step(e)
			}
			due, next := f.due(at(c.now))
			want := time.Time{}
			if c.next >= 0 {
				want = at(c.next)
			}
			if due != c.due || !next.Equal(want) {
				t.Fatalf("due %t, next %v; want %t, %v", due, next, c.due, want)
			}
		})
	}
}

func TestLease(t *testing.T) {
	start := time.UnixMilli(1_000_000)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	l := newLease(6*time.Second, start)
	check := func(what string, got leaseEffects, send, stale, lost bool) {
		t.Helper()
		if got.send != send || got.stale != stale || got.lost != lost {
			t.Fatalf("%s: %+v", what, got)
		}
	}
	check("too early", l.Step(leaseTick{now: at(1)}), false, false, false)
	check("a third", l.Step(leaseTick{now: at(2)}), true, false, false)
	check("one at a time", l.Step(leaseTick{now: at(3)}), false, false, false)
	check("kept", l.Step(leaseKept{sentAt: at(2), now: at(3)}), false, false, false)
	out := l.Step(leaseTick{now: at(4)})
	check("and again", out, true, false, false)
	if !out.wake.Equal(at(8)) {
		t.Fatalf("wakes at %v, when it turns stale is %v", out.wake, at(8))
	}
	check("no answer", l.Step(leaseFailed{now: at(5)}), false, false, false)
	check("soon again", l.Step(leaseTick{now: at(6)}), true, false, false)
	check("older than the lease", l.Step(leaseTick{now: at(8)}), false, true, false)
	check("an answer to an old one does not help", l.Step(leaseKept{sentAt: at(1), now: at(9)}), true, true, false)
	check("one that was sent since does", l.Step(leaseKept{sentAt: at(9), now: at(10)}), false, false, false)
	check("gone", l.Step(leaseGone{}), false, true, true)
}

func TestAdmission(t *testing.T) {
	start := time.UnixMilli(1_000_000)
	cause := func() string { return "the object store: 503" }
	call := func(bytes int) *produceCall { return &produceCall{batch: make(record.Batch, bytes)} }
	a := admission{limits: admissionLimits{unlogged: 100, uncommitted: 300, batches: 3, parked: 120, delay: time.Second}}
	if ok, err := a.offer(call(90), start, cause); !ok || err != nil {
		t.Fatalf("%t %v", ok, err)
	}
	a.unlogged = 100 // the log is behind
	first, second := call(100), call(20)
	for _, c := range []*produceCall{first, second} {
		if ok, err := a.offer(c, start, cause); ok || err != nil {
			t.Fatalf("not parked: %t %v", ok, err)
		}
	}
	_, err := a.offer(call(1), start, cause)
	reasonIs(t, err, ReasonBackPressure, "object store", "503")
	if err.RetryAfter == 0 {
		t.Fatal("no hint when to try again")
	}
	if c, at := a.expired(start); c != nil || !at.Equal(start.Add(time.Second)) {
		t.Fatalf("expired %v, next %v", c, at)
	}
	if c, ok := a.next(); ok {
		t.Fatalf("there is no room, and %v got in", c)
	}
	a.unlogged = 0
	if ok, err := a.offer(call(0), start, cause); ok || err != nil {
		t.Fatal("one that comes later went first")
	}
	if c, ok := a.next(); !ok || c != first {
		t.Fatal("not in order")
	}
	for range 3 {
		a.taken(10)
	}
	if _, ok := a.next(); ok {
		t.Fatal("more batches than allowed")
	}
	if c, _ := a.expired(start.Add(time.Second)); c != second {
		t.Fatal("the oldest has waited long enough")
	}
	a.settled(10)
	if _, ok := a.next(); !ok {
		t.Fatal("there is room again")
	}
	if a.parkedBytes != 0 || a.parked.len() != 0 {
		t.Fatalf("%d bytes of %d calls are parked", a.parkedBytes, a.parked.len())
	}
	a.full = true
	if ok, err := a.offer(call(1), start, cause); ok || err != nil {
		t.Fatalf("a node with as many records as it may took a batch, or refused it at once: %t %v", ok, err)
	}
	a.full = false
	if _, ok := a.next(); !ok {
		t.Fatal("there is room again")
	}
}
