package ingest

import (
	"errors"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

// quietSim is a world without an adversary and a node that leads everything.
func quietSim() (*sim, *simLife) {
	s := newSim(1)
	s.calm = true
	s.register()
	s.lead()
	return s, s.life
}

// untilQuiet takes steps until none of them can be taken.
func (s *sim) untilQuiet(steps ...func() bool) {
	for more := true; more; {
		more = false
		for _, step := range steps {
			more = step() || more
		}
	}
}

// put produces to a partition and has the log written and synced, but not told of the sync.
func (s *sim) put(p meta.Partition, acks Acks, content string) *error {
	var got error = errPending
	s.life.core.produce(p, &produceCall{
		request: ProduceRequest{Acks: acks}, id: p, batch: buildSim([]string{content}, -1, 0),
		done: func(_ ProduceResult, err error) { got = err },
	}, s.now)
	for len(s.life.queue) > 0 {
		s.stepWriteLog()
	}
	s.untilQuiet(s.stepReportWritten)
	s.stepSync()
	return &got
}

var errPending = Errorf(ReasonInternal, "not answered")

// A node that the cluster may have given up does not promise what rests on its disk alone; it does when its lease is
// confirmed again, also when nothing but the report of the sync told it what time it is.
func TestCoreHoldsDiskAcksWithoutLease(t *testing.T) {
	s, l := quietSim()
	disk, object := meta.Partition{Topic: s.topics[1].ID}, meta.Partition{Topic: s.topics[0].ID}
	onDisk := s.put(disk, AcksAll, "disk")
	s.now = s.now.Add(time.Second) // five times the lease, and nobody ticked
	s.stepReportSynced()
	if !errors.Is(*onDisk, errPending) {
		t.Fatalf("answered without a lease: %v", *onDisk)
	}
	buffered := s.put(object, AcksLeader, "object") // promises no disk
	if *buffered != nil {
		t.Fatalf("acks=1 on an object topic: %v", *buffered)
	}
	if m := l.core.partitions[disk]; m.hwm != 0 {
		t.Fatalf("the mark went to %d", m.hwm)
	}
	l.core.leaseStep(leaseKept{sentAt: s.now, now: s.now}, s.now)
	if *onDisk != nil {
		t.Fatalf("the lease is confirmed, and: %v", *onDisk)
	}
}

// A commit that is refused because the registration has gone is not sent again, whatever else comes.
func TestCoreSendsNothingAfterItsEnd(t *testing.T) {
	s, l := quietSim()
	got := s.put(meta.Partition{Topic: s.topics[0].ID}, AcksAll, "a")
	number := l.core.foldNumber()
	s.now = s.now.Add(20 * time.Millisecond)
	l.core.tick(s.now)
	s.untilQuiet(s.stepBuild, s.stepStore)
	s.etcd.apply(meta.Txn{Then: []meta.Op{meta.DeleteOp(s.etcd.keys.Node(simNode))}})
	s.untilQuiet(s.stepApply, s.stepAnswer)
	reasonIs(t, *got, ReasonOutcomeUnknown)
	l.core.foldAbandoned(number, s.now)
	if len(s.requests) != 0 {
		t.Fatal("a commit was sent after the end")
	}
}

func TestCoreEndsWithItsLease(t *testing.T) {
	s, l := quietSim()
	disk, object := meta.Partition{Topic: s.topics[1].ID}, meta.Partition{Topic: s.topics[0].ID}
	waiting := []*error{s.put(disk, AcksAll, "a"), s.put(object, AcksAll, "b")}
	l.core.leaseStep(leaseGone{}, s.now)
	for _, got := range waiting {
		reasonIs(t, *got, ReasonOutcomeUnknown)
	}
	if l.ended == nil {
		t.Fatal("it goes on")
	}
	requests, puts := len(s.requests), len(s.puts)
	late := s.put(object, AcksAll, "c")
	if !ReasonOf(*late).Retryable() || errors.Is(*late, errPending) {
		t.Fatalf("after the end: %v", *late)
	}
	call := &fetchCall{partitions: []fetchTarget{{id: disk}}, reply: make(chan fetchPlan, 1), maxBytes: 1, minBytes: 1}
	l.core.fetchAsked(call, s.now)
	if p := <-call.reply; p.err == nil {
		t.Fatal("a fetch was served after the end")
	}
	l.core.tick(s.now.Add(time.Hour))
	l.core.foldAbandoned(l.core.foldNumber(), s.now)
	if len(s.requests) != requests || len(s.puts) != puts {
		t.Fatal("the dead still send")
	}
}

// The log keeps what the index does not show yet: a reader finds it nowhere else once memory has let it go.
func TestCoreTrimsBehindTheIndex(t *testing.T) {
	s, l := quietSim()
	object := meta.Partition{Topic: s.topics[0].ID}
	got := s.put(object, AcksAll, "a")
	s.untilQuiet(s.stepReportSynced)
	s.now = s.now.Add(20 * time.Millisecond)
	l.core.tick(s.now)
	s.untilQuiet(s.stepBuild, s.stepStore, s.stepApply, s.stepAnswer)
	if *got != nil {
		t.Fatalf("not committed: %v", *got)
	}
	if l.trimTo != 0 {
		t.Fatalf("the log was trimmed to %d before the index showed the commit", l.trimTo)
	}
	s.untilQuiet(s.stepIndex)
	if l.trimTo != s.disk.end {
		t.Fatalf("the log was trimmed to %d of %d", l.trimTo, s.disk.end)
	}
}
