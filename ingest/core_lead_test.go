package ingest

import (
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

// A partition is given back while a commit of another is under way. Calls for it wait for the lead and are answered in order.
func TestLeadIsWaitedFor(t *testing.T) {
	s, l := quietSim()
	p, q := meta.Partition{Topic: s.topics[0].ID}, meta.Partition{Topic: s.topics[1].ID}
	s.moveAway(p)
	s.untilQuiet(s.stepIndex)
	reasonIs(t, *s.put(p, AcksAll, "too early"), ReasonNotLeader)
	// The commit is sent.
	s.put(q, AcksAll, "q")
	l.core.flushTopic(q.Topic, make(chan struct{}), s.now)
	s.untilQuiet(s.stepBuild, s.stepStore)
	if len(s.requests) != 1 {
		t.Fatal("nothing is under way")
	}
	s.moveBack(p)
	s.untilQuiet(s.stepIndex)
	first, second, waits := s.put(p, AcksAll, "first"), s.put(p, AcksAll, "second"), s.fetch(p, 0, time.Hour)
	if len(l.queue) != 0 || l.core.admission.parkedBytes == 0 {
		t.Fatal("taken before it is led")
	}
	s.untilQuiet(s.stepApply, s.stepAnswer) // refused: the assignment is another one; it is applied, and the commit sent anew
	m := l.core.partitions[p]
	if m == nil || m.epoch != 3 || m.end != 2 || l.core.admission.parkedBytes != 0 {
		t.Fatalf("led: %+v", m)
	}
	s.now = s.now.Add(20 * time.Millisecond)
	l.core.tick(s.now)
	s.flush()
	if *first != nil || *second != nil || s.committed[p][0] != "first" || s.committed[p][1] != "second" {
		t.Fatalf("%v, %v; the log is %v", *first, *second, s.committed[p])
	}
	if plan := <-waits; plan.err != nil || len(plan.partitions[0].tail) == 0 {
		t.Fatalf("%+v", plan)
	}
}

// A refused commit shows the node its assignment before the index does: nothing is led until the index is there.
func TestLeadWaitsForTheIndex(t *testing.T) {
	s, l := quietSim()
	p, q := meta.Partition{Topic: s.topics[0].ID}, meta.Partition{Topic: s.topics[1].ID}
	s.moveAway(p)
	s.untilQuiet(s.stepIndex)
	for len(s.committed[p]) == 0 {
		s.stepOtherCommits()
	}
	s.moveBack(p)
	s.put(q, AcksAll, "q")
	l.core.flushTopic(q.Topic, make(chan struct{}), s.now)
	s.flush()
	got, waits := s.put(p, AcksAll, "waits"), s.fetch(p, 0, time.Hour)
	if l.core.partitions[p] != nil {
		t.Fatal("led from an index that lacks what the other node has committed")
	}
	s.untilQuiet(s.stepIndex)
	if m := l.core.partitions[p]; m == nil || m.committed != 1 || m.end != 2 {
		t.Fatalf("led: %+v", m)
	}
	if plan := <-waits; plan.err != nil || !plan.partitions[0].fromTier {
		t.Fatalf("%+v", plan)
	}
	s.now = s.now.Add(20 * time.Millisecond)
	l.core.tick(s.now)
	if s.flush(); *got != nil {
		t.Fatal(*got)
	}
}

func TestLeadIsNotWaitedForForEver(t *testing.T) {
	s, l := quietSim()
	p, q := meta.Partition{Topic: s.topics[0].ID}, meta.Partition{Topic: s.topics[1].ID}
	s.moveAway(p)
	s.untilQuiet(s.stepIndex)
	s.put(q, AcksAll, "q")
	l.core.flushTopic(q.Topic, make(chan struct{}), s.now)
	s.untilQuiet(s.stepBuild, s.stepStore)
	s.moveBack(p)
	s.untilQuiet(s.stepIndex)
	waits, impatient := s.put(p, AcksAll, "waits"), s.fetch(p, 0, 10*time.Millisecond)
	l.core.admission.limits.parked = l.core.admission.parkedBytes
	reasonIs(t, *s.put(p, AcksAll, "one too many"), ReasonNotLeader)
	reasonIs(t, (<-s.fetch(p, 0, 0)).err, ReasonNotLeader)
	s.now = s.now.Add(10 * time.Millisecond)
	l.core.tick(s.now)
	reasonIs(t, (<-impatient).err, ReasonNotLeader)
	s.now = s.now.Add(50 * time.Millisecond)
	l.core.tick(s.now)
	reasonIs(t, *waits, ReasonNotLeader)
	// Another waits; the partition is taken away again, and it is told at once.
	waits, patient := s.put(p, AcksAll, "waits"), s.fetch(p, 0, time.Hour)
	s.moveAway(p)
	s.untilQuiet(s.stepIndex)
	reasonIs(t, *waits, ReasonNotLeader)
	reasonIs(t, (<-patient).err, ReasonNotLeader)
	waiting := s.put(q, AcksAll, "q")
	s.moveBack(p)
	s.untilQuiet(s.stepIndex)
	last := s.put(p, AcksAll, "waits")
	l.core.end(lease0)
	reasonIs(t, *last, ReasonUnavailable)
	reasonIs(t, *waiting, ReasonOutcomeUnknown)
	if l.core.admission.parkedBytes != 0 {
		t.Fatalf("%d bytes wait", l.core.admission.parkedBytes)
	}
}

var lease0 = &lostError{cause: errPending}

// Offsets that were given up with a disk: whoever asks for them is sent behind them, whoever comes from below stops before them.
func TestLostRanges(t *testing.T) {
	const from, to = 2, 2 + meta.LostGap
	s, l := quietSim()
	p := meta.Partition{Topic: s.topics[0].ID}
	s.put(p, AcksAll, "a")
	s.put(p, AcksAll, "b")
	s.now = s.now.Add(20 * time.Millisecond)
	l.core.tick(s.now)
	s.flush()
	s.story.lost = map[meta.Partition][]meta.OffsetRange{p: {{From: from, To: to}}}
	l = s.restart()
	m := l.core.partitions[p]
	if m.hwm != to || m.end != to || m.committed != to {
		t.Fatalf("the log goes on at %d, readable to %d", m.end, m.hwm)
	}
	for _, offset := range []int64{from, from + 7, to - 1} {
		plan := <-s.fetch(p, offset, time.Hour)
		if got := plan.partitions[0]; plan.err != nil || got.lost != s.story.lost[p][0] || got.fromTier || len(got.tail) != 0 || got.hwm != to {
			t.Fatalf("from %d: %+v", offset, plan)
		}
	}
	if plan := <-s.fetch(p, 1, time.Hour); plan.err != nil || !plan.partitions[0].fromTier || plan.partitions[0].lost.To != 0 {
		t.Fatalf("below: %+v", plan)
	}
	waits := s.fetch(p, to, time.Hour)
	if r := s.put(p, AcksAll, "behind"); m.end != to+1 {
		t.Fatalf("%v, and the log ends at %d", *r, m.end)
	}
	s.now = s.now.Add(20 * time.Millisecond)
	l.core.tick(s.now)
	s.untilQuiet(s.stepBuild, s.stepStore)
	for len(s.requests) > 0 && !s.requests[0].applied { // the model of the log has no gaps: only the node looks at it
		r := s.requests[0]
		r.applied, r.result = true, s.etcd.apply(r.txn)
	}
	s.stepAnswer()
	if plan := <-waits; plan.err != nil || len(plan.partitions[0].tail) != 1 || plan.partitions[0].tail[0].base != to {
		t.Fatalf("behind: %+v", plan)
	}
	reasonIs(t, (<-s.fetch(p, to+2, 0)).err, ReasonOffsetOutOfRange)

	for offset, want := range map[int64]int{4: -1, 5: 0, 9: 0, 10: -1, 19: -1, 20: 1, 29: 1, 30: 2, 34: 2, 35: -1} {
		ranges := []meta.OffsetRange{{From: 5, To: 10}, {From: 20, To: 30}, {From: 30, To: 35}}
		if r, readable := lostAt(ranges, offset); readable != (want < 0) || !readable && r != ranges[want] {
			t.Errorf("offset %d lies in %v, %t", offset, r, readable)
		}
	}
}

// A partition never gives offsets so far ahead of what is committed that giving up a disk could give one of them again.
func TestPartitionBoundsWhatIsUncommitted(t *testing.T) {
	s := newPartitionStory(t, meta.DurabilityDisk, 10)
	s.p.end = 10 + meta.LostGap - 1
	s.produce("last", AcksNone, oneBatch("a"))
	s.produce("above", AcksAll, oneBatch("b"))
	s.said("last=-1/none above=BACK_PRESSURE")
	if err := s.step(committedTo{end: 11}); err != nil {
		t.Fatal(err)
	}
	s.produce("again", AcksNone, oneBatch("b"))
	s.said("again=-1/none")
}
