package ingest

import (
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

// ask has the cluster want the node to let partitions go at the epochs at which it leads them, and the node hear of it.
func (s *sim) ask(ids ...meta.Partition) {
	asked, assigned := maps.Clone(s.truth.asked), s.assigned()
	if asked == nil {
		asked = make(map[meta.Partition]meta.Epoch)
	}
	for _, id := range ids {
		asked[id] = assigned[id]
	}
	s.etcd.put(s.etcd.keys.Prefix()+simMoves, appendSimEpochs([]byte{1}, asked))
	s.changed()
	s.untilQuiet(s.stepIndex)
}

// flush lets everything that is on its way to the store and to etcd arrive and be answered. The clock stands still.
func (s *sim) flush() { s.untilQuiet(s.stepBuild, s.stepStore, s.stepApply, s.stepAnswer) }

// moveAway gives a partition to the other node at the next epoch, and moveBack back.
func (s *sim) moveAway(id meta.Partition) {
	assigned := s.assigned()
	delete(assigned, id)
	s.epochs[id]++
	s.elsewhere[id] = s.epochs[id]
	s.assign(assigned)
}

func (s *sim) moveBack(id meta.Partition) {
	assigned := s.assigned()
	delete(s.elsewhere, id)
	s.epochs[id]++
	assigned[id] = s.epochs[id]
	s.assign(assigned)
}

// fetch asks for a partition and gives its plan when it is answered.
func (s *sim) fetch(id meta.Partition, offset int64, wait time.Duration) chan fetchPlan {
	call := &fetchCall{
		partitions: []fetchTarget{{id: id, offset: offset}}, maxBytes: 1 << 20, minBytes: 1, deadline: s.now.Add(wait), reply: make(chan fetchPlan, 1),
	}
	s.life.core.fetchAsked(call, s.now)
	return call.reply
}

func isMovingAway(t *testing.T, err error) {
	t.Helper()
	reasonIs(t, err, ReasonNotLeader, "is moving to another node")
	if AsError(err).RetryAfter != 50*time.Millisecond {
		t.Fatalf("retry after %v", AsError(err).RetryAfter)
	}
}

// restart kills the node and starts it again, with everything that was written to its log.
func (s *sim) restart() *simLife {
	s.down()
	s.register()
	s.lead()
	return s.life
}

func TestReleaseWithWhatIsUncommitted(t *testing.T) {
	for n, durability := range []meta.Durability{meta.DurabilityObject, meta.DurabilityDisk} {
		t.Run(durability.String(), func(t *testing.T) {
			s, l := quietSim()
			p := meta.Partition{Topic: s.topics[n].ID}
			taken := s.put(p, AcksAll, "taken")
			s.untilQuiet(s.stepReportSynced)
			s.ask(p)
			isMovingAway(t, *s.put(p, AcksAll, "late"))
			isMovingAway(t, *s.put(p, AcksLeader, "late too"))
			if plan := <-s.fetch(p, 0, 0); plan.err != nil {
				t.Fatalf("a consumer, while the partition leaves: %v", plan.err)
			}
			if len(s.puts) != 1 {
				t.Fatalf("%d objects are on their way at once", len(s.puts)) // the clock has not moved: nobody waits for flush.interval
			}
			s.untilQuiet(s.stepBuild, s.stepStore)
			if len(s.requests) != 1 {
				t.Fatalf("%d transactions", len(s.requests))
			}
			s.untilQuiet(s.stepApply)
			if len(s.committed[p]) != 1 || s.truth.released[p] != 1 {
				t.Fatalf("one transaction commits and lets go: the log has %v, and let go is %v", s.committed[p], s.truth.released)
			}
			waits := s.fetch(p, 1, time.Hour)
			s.untilQuiet(s.stepAnswer)
			if *taken != nil {
				t.Fatalf("what was taken: %v", *taken)
			}
			isMovingAway(t, (<-waits).err)
			isMovingAway(t, (<-s.fetch(p, 0, time.Hour)).err)
			isMovingAway(t, *s.put(p, AcksAll, "later"))
			s.untilQuiet(s.stepIndex)
			if l.core.partitions[p] != nil || len(l.core.leaving) != 0 || s.handed != 1 {
				t.Fatal("it is still led")
			}
			if l.trimTo != s.disk.end {
				t.Fatalf("the log was trimmed to %d of %d", l.trimTo, s.disk.end)
			}
		})
	}
}

// A partition with nothing to commit is let go at once, by a transaction that writes no record, and no object.
func TestReleaseOfAnIdlePartition(t *testing.T) {
	s, l := quietSim()
	p, q := meta.Partition{Topic: s.topics[0].ID}, meta.Partition{Topic: s.topics[1].ID}
	s.ask(p)
	s.flush()
	if s.truth.released[p] != 1 || len(s.store) != 0 || len(s.truth.records) != 0 || l.core.partitions[p] != nil {
		t.Fatalf("let go is %v, %d objects", s.truth.released, len(s.store))
	}
	s.ask(q) // p has not moved yet: what was let go before stays let go
	s.flush()
	if s.truth.released[p] != 1 || s.truth.released[q] != 1 {
		t.Fatalf("let go is %v", s.truth.released)
	}
	s.moveAway(p)
	s.moveAway(q)
	s.moveBack(q) // at the next epoch but one
	s.untilQuiet(s.stepIndex)
	back := s.put(q, AcksLeader, "at the new epoch")
	if s.untilQuiet(s.stepReportSynced); *back != nil {
		t.Fatalf("it came back: %v", *back)
	}
	s.ask(meta.Partition{Topic: s.topics[2].ID})
	s.flush()
	if want := (map[meta.Partition]meta.Epoch{{Topic: s.topics[2].ID}: 1}); !maps.Equal(s.truth.released, want) {
		t.Fatalf("what is led elsewhere, or at another epoch, is not let go any more: %v", s.truth.released)
	}
	if l.core.partitions[q] == nil {
		t.Fatal("the release of an epoch that is over took the partition away")
	}
}

func TestReleaseInDoubt(t *testing.T) {
	s, l := quietSim()
	p := meta.Partition{Topic: s.topics[1].ID}
	taken := s.put(p, AcksAll, "a")
	s.untilQuiet(s.stepReportSynced)
	s.ask(p)
	s.untilQuiet(s.stepBuild, s.stepStore)
	first := s.requests[0].txn
	s.stepLoseAnswer()
	// What was asked is taken back while nobody knows whether it has happened.
	s.stepWithdraw()
	s.untilQuiet(s.stepIndex)
	isMovingAway(t, *s.put(p, AcksAll, "b"))
	if plan := <-s.fetch(p, 0, 0); plan.err != nil || plan.partitions[0].hwm != 1 {
		t.Fatalf("in doubt: %+v", plan)
	}
	for range 3 {
		s.now = s.now.Add(time.Second)
		l.core.leaseStep(leaseKept{sentAt: s.now, now: s.now}, s.now)
		l.core.tick(s.now)
		last := s.requests[len(s.requests)-1].txn
		if fmt.Sprint(last) != fmt.Sprint(first) {
			t.Fatal("what is sent again is not the same")
		}
		s.stepLoseAnswer()
		isMovingAway(t, *s.put(p, AcksAll, "c"))
	}
	s.calm = false // the first request arrives late
	for !s.requests[0].applied {
		s.stepApply()
	}
	s.calm = true
	if s.truth.released[p] != 1 || l.core.partitions[p] == nil {
		t.Fatal("applied and not answered")
	}
	isMovingAway(t, *s.put(p, AcksAll, "d"))
	s.now = s.now.Add(time.Second)
	l.core.leaseStep(leaseKept{sentAt: s.now, now: s.now}, s.now)
	l.core.tick(s.now)
	s.flush()
	if *taken != nil || l.core.partitions[p] != nil {
		t.Fatalf("decided: %v", *taken)
	}
	s.untilQuiet(s.stepIndex)
	isMovingAway(t, *s.put(p, AcksAll, "e"))
}

// The transaction that lets go applies, and the node dies before it hears of it. Its next incarnation, still assigned, does not
// lead: somebody else may any moment.
func TestReleaseNotHeardOf(t *testing.T) {
	s, _ := quietSim()
	p, other := meta.Partition{Topic: s.topics[1].ID}, meta.Partition{Topic: s.topics[0].ID}
	s.put(p, AcksAll, "a")
	s.put(other, AcksAll, "b")
	s.ask(p)
	s.untilQuiet(s.stepBuild, s.stepStore, s.stepApply)
	l := s.restart()
	if l.core.partitions[p] != nil || l.core.partitions[other] == nil {
		t.Fatal("it leads what it has let go")
	}
	isMovingAway(t, *s.put(p, AcksAll, "c"))
	s.put(other, AcksAll, "d")
	// What the log on disk still has of it is committed, and keeps the log from nothing.
	s.now = s.now.Add(time.Second)
	l.core.leaseStep(leaseKept{sentAt: s.now, now: s.now}, s.now)
	l.core.tick(s.now)
	s.flush()
	s.untilQuiet(s.stepReportWritten, s.stepReportSynced, s.stepIndex)
	if l.trimTo != s.disk.end {
		t.Fatalf("the log was trimmed to %d of %d", l.trimTo, s.disk.end)
	}
	// It comes back at a higher epoch: led anew, from the log as it is.
	s.moveAway(p)
	s.moveBack(p)
	s.untilQuiet(s.stepIndex)
	if m := l.core.partitions[p]; m == nil || m.epoch != 3 || m.end != 1 {
		t.Fatalf("back: %+v", m)
	}
	if got := s.put(p, AcksLeader, "d"); errors.Is(*got, errPending) {
		s.untilQuiet(s.stepReportSynced)
		if *got != nil {
			t.Fatal(*got)
		}
	}
}

// A partition leaves, the other node writes to it, and it comes back: the epochs keep the three apart.
func TestReleaseThereAndBack(t *testing.T) {
	s, l := quietSim()
	p := meta.Partition{Topic: s.topics[1].ID}
	s.put(p, AcksAll, "ours")
	s.ask(p)
	s.flush()
	s.moveAway(p)
	s.untilQuiet(s.stepIndex)
	reasonIs(t, *s.put(p, AcksAll, "x"), ReasonNotLeader)
	for len(s.committed[p]) < 2 {
		s.stepOtherCommits()
	}
	s.moveBack(p)
	s.untilQuiet(s.stepIndex)
	m := l.core.partitions[p]
	if m == nil || m.epoch != 3 || m.end != int64(len(s.committed[p])) || m.hwm != m.end {
		t.Fatalf("back: %+v", m)
	}
	// The new leader is at the end of the log, and says so: above it is out of range, at it one waits.
	reasonIs(t, (<-s.fetch(p, m.end+1, time.Hour)).err, ReasonOffsetOutOfRange)
	waits := s.fetch(p, m.end, time.Hour)
	select {
	case plan := <-waits:
		t.Fatalf("%+v", plan)
	default:
	}
	got := s.put(p, AcksAll, "ours again")
	s.untilQuiet(s.stepReportSynced)
	if plan := <-waits; *got != nil || plan.err != nil || len(plan.partitions[0].tail) != 1 {
		t.Fatalf("%v, %+v", *got, plan)
	}
	s.ask(p) // the wish for epoch 1 was no wish for epoch 3; this is one
	s.flush()
	if s.truth.released[p] != 3 || l.core.partitions[p] != nil || len(s.committed[p]) != int(m.end) {
		t.Fatalf("let go is %v; the log %v", s.truth.released, s.committed[p])
	}
}

func TestReleaseOfAThousandPartitions(t *testing.T) {
	const many = 1000
	s := newSim(1)
	s.calm = true
	big := meta.Topic{Name: "big", ID: meta.TopicID{9}, Partitions: many, Config: meta.DefaultTopicConfig()}
	s.etcd.put(s.topicKey(big), encodeSimTopic(big))
	s.topics = append(s.topics, big)
	assigned := s.assigned()
	var all []meta.Partition
	for n := range int32(many) {
		id := meta.Partition{Topic: big.ID, Partition: n}
		assigned[id], s.epochs[id] = 1, 1
		all = append(all, id)
	}
	s.assign(assigned)
	s.register()
	s.lead()
	l := s.life
	l.core.settings.flush.bytes, l.core.flush.settings.bytes = 8<<20, 8<<20
	l.core.admission.limits = admissionLimits{unlogged: 1 << 20, uncommitted: 1 << 20, batches: many, parked: 1 << 20, delay: time.Second}
	var taken []*error
	for _, id := range all[:many/2] {
		taken = append(taken, s.put(id, AcksAll, id.Topic.String()+fmt.Sprint(id.Partition)))
	}
	before := s.etcd.revision
	s.ask(all...)
	s.flush()
	for _, got := range taken {
		if *got != nil {
			t.Fatal(*got)
		}
	}
	if len(s.truth.released) != many || s.handed != many || len(l.core.partitions) != len(assigned)-many {
		t.Fatalf("%d are let go", len(s.truth.released))
	}
	if commits := s.etcd.revision - before - 1; commits > 2 || len(s.store) != 1 {
		t.Fatalf("%d commits and %d objects for %d partitions", commits, len(s.store), many)
	}
}

// Whoever waits for room is told at once, also behind others, who stay in their order.
func TestReleaseRefusesWhoWaitsForRoom(t *testing.T) {
	s, l := quietSim()
	p, q := meta.Partition{Topic: s.topics[0].ID}, meta.Partition{Topic: s.topics[1].ID}
	l.core.admission.full = true
	var of []*error
	for _, id := range []meta.Partition{q, p, q, p} {
		of = append(of, s.put(id, AcksAll, "waits"))
	}
	s.ask(p)
	isMovingAway(t, *of[1])
	isMovingAway(t, *of[3])
	l.core.recordsFull(false, s.now)
	for len(l.queue) > 0 {
		s.stepWriteLog()
	}
	s.untilQuiet(s.stepReportWritten, s.stepSync, s.stepReportSynced)
	if *of[0] != nil || *of[2] != nil || l.core.admission.parkedBytes != 0 {
		t.Fatalf("the others: %v, %v", *of[0], *of[2])
	}
}

// A retry of what has offsets is answered as the first attempt is, also by a partition that takes nothing more.
func TestReleaseAnswersRetries(t *testing.T) {
	s := newPartitionStory(t, meta.DurabilityObject, 0)
	s.produce("first", AcksAll, testBatch(9, 0, "a"))
	if err := s.step(leaves{going: true}); err != nil {
		t.Fatal(err)
	}
	s.produce("retry", AcksAll, testBatch(9, 0, "a"))
	s.produce("next", AcksAll, testBatch(9, 1, "b"))
	s.produce("behind it", AcksAll, testBatch(9, 2, "c")) // not out of order: what was before it comes again with it
	s.produce("other", AcksLeader, oneBatch("d"))
	s.said("next=NOT_LEADER behind it=NOT_LEADER other=NOT_LEADER")
	if err := s.step(committedTo{end: 1}); err != nil {
		t.Fatal(err)
	}
	s.said("first=0/object retry=0/object+")
	if err := s.step(leaves{going: false}); err != nil {
		t.Fatal(err)
	}
	s.produce("next", AcksAll, testBatch(9, 1, "b"))
	if s.p.end != 2 {
		t.Fatalf("it stays, and ends at %d", s.p.end)
	}
}

// What is asked may be taken back as long as no transaction says otherwise.
func TestReleaseTakenBack(t *testing.T) {
	s, l := quietSim()
	p := meta.Partition{Topic: s.topics[0].ID}
	first := s.put(p, AcksAll, "a")
	s.ask(p)
	isMovingAway(t, *s.put(p, AcksAll, "b"))
	s.stepWithdraw()
	s.untilQuiet(s.stepIndex)
	second := s.put(p, AcksAll, "c")
	s.flush()
	s.now = s.now.Add(20 * time.Millisecond)
	l.core.tick(s.now)
	s.flush()
	if *first != nil || *second != nil || len(s.truth.released) != 0 || len(s.committed[p]) != 2 {
		t.Fatalf("%v, %v; let go is %v, the log %v", *first, *second, s.truth.released, s.committed[p])
	}
}

// A commit that lets go is refused for another partition's sake: what it lets go is found anew.
func TestReleaseRefused(t *testing.T) {
	s, l := quietSim()
	p, q := meta.Partition{Topic: s.topics[0].ID}, meta.Partition{Topic: s.topics[0].ID, Partition: 1}
	taken, lost := s.put(p, AcksAll, "p"), s.put(q, AcksAll, "q")
	s.ask(p, q)
	s.untilQuiet(s.stepBuild, s.stepStore)
	s.moveAway(q) // its lease was thought to be gone, say
	s.flush()
	reasonIs(t, *lost, ReasonNotLeader)
	if want := (map[meta.Partition]meta.Epoch{p: 1}); *taken != nil || !maps.Equal(s.truth.released, want) || len(l.core.leaving) != 0 {
		t.Fatalf("%v; let go is %v, leaving %v", *taken, s.truth.released, l.core.leaving)
	}
}

// What cannot be led is let go when the log on disk has nothing of it, and only then.
func TestReleaseOfWhatIsNotLed(t *testing.T) {
	for _, onDisk := range []bool{false, true} {
		t.Run(fmt.Sprint("on disk ", onDisk), func(t *testing.T) {
			s, _ := quietSim()
			p := meta.Partition{Topic: s.topics[1].ID}
			if onDisk {
				s.put(p, AcksAll, "acknowledged here alone")
			}
			s.story.holes = map[meta.Partition]error{p: errors.New("a record is missing")}
			s.restart()
			s.ask(p)
			s.flush()
			if got := s.truth.released[p] == 1; got == onDisk {
				t.Fatalf("let go: %t", got)
			}
			reasonIs(t, *s.put(p, AcksAll, "x"), ReasonCorruptData)
			// The hole is mended. What the log on disk has was not replayed, and only the next incarnation does that.
			delete(s.story.holes, p)
			s.etcd.put(s.topicKey(s.topics[2]), encodeSimTopic(s.topics[2]))
			s.changed()
			s.untilQuiet(s.stepIndex)
			reasonIs(t, *s.put(p, AcksAll, "y"), ReasonNotLeader)
			if l := s.restart(); onDisk && l.core.partitions[p].hwm != 1 {
				t.Fatal("what was acknowledged is gone")
			}
		})
	}
}

// A node that stops with nobody to take over flushes; with somebody it lets go as well, and reads go on until then.
func TestReleaseWhenStopping(t *testing.T) {
	for _, alone := range []bool{true, false} {
		t.Run(fmt.Sprint("alone ", alone), func(t *testing.T) {
			s, l := quietSim()
			p := meta.Partition{Topic: s.topics[0].ID}
			taken := s.put(p, AcksAll, "a")
			if !alone {
				s.etcd.put(s.etcd.keys.Prefix()+simStopping, []byte("1"))
				s.changed()
				s.untilQuiet(s.stepIndex)
			}
			l.core.drain(s.now)
			late := s.put(p, AcksAll, "b")
			reasonIs(t, *late, ReasonShuttingDown)
			if l.core.handedOver() {
				t.Fatal("it is not flushed")
			}
			waits := s.fetch(p, 0, time.Hour)
			s.flush()
			if *taken != nil || !l.core.handedOver() || !l.core.drained() {
				t.Fatalf("flushed: %v", *taken)
			}
			if plan := <-waits; plan.err != nil {
				t.Fatalf("the record can be read: %v", plan.err)
			}
			want := 4
			if alone {
				want = 0
			}
			if len(s.truth.released) != want {
				t.Fatalf("let go is %v", s.truth.released)
			}
		})
	}
}
