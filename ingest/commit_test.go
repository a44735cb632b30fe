package ingest

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

// commitStory drives a committer against a model of etcd, one transaction at a time, delivered when the story says so.
type commitStory struct {
	t       *testing.T
	etcd    *simEtcd
	c       committer
	sent    *meta.Txn
	now     time.Time
	p0, p1  meta.Partition
	leaves  map[meta.Partition]int64 // what is to be let go at epoch 1, and up to where it must be committed
	lastOut commitEffects
}

func newCommitStory(t *testing.T) *commitStory {
	t.Helper()
	s := &commitStory{t: t, etcd: newSimEtcd(), now: time.UnixMilli(1_000_000), p0: meta.Partition{Topic: meta.TopicID{1}}}
	s.p1 = meta.Partition{Topic: meta.TopicID{1}, Partition: 1}
	registered := s.etcd.apply(meta.Txn{Then: []meta.Op{
		meta.PutOp(s.etcd.keys.Node(simNode), []byte("1")),
		meta.PutOp(s.etcd.keys.Head(simNode), simHead{Version: 1, Incarnation: meta.Incarnation(1).String()}.encode()),
	}}).Revision
	s.c = committer{
		keys: s.etcd.keys, node: simNode, incarnation: 1, leaving: s, guards: meta.Guards{NodeRev: registered, HeadRev: registered}, numbers: make(map[meta.Seq]bool),
	}
	s.assign(map[meta.Partition]meta.Epoch{s.p0: 1, s.p1: 1})
	s.read()
	return s
}

func (s *commitStory) assign(epochs map[meta.Partition]meta.Epoch) {
	s.etcd.put(s.etcd.keys.Assign(simNode), encodeSimAssignment(simDisk, epochs))
}

// read has the node apply the newest assignment.
func (s *commitStory) read() {
	s.t.Helper()
	kv := s.etcd.now[s.etcd.keys.Assign(simNode)]
	// What a refusal shows is decoded as the index decodes it.
	d, err := s.etcd.keys.DecideCommit(meta.CommitRequest{Node: simNode, Incarnation: 1, Seq: 99}, meta.Guards{}, meta.TxnResult{Gets: []*meta.KeyValue{nil, &kv, headOf(s.etcd)}})
	if err != nil || d.Assignment == nil {
		s.t.Fatalf("read the assignment: %+v, %v", d, err)
	}
	s.step(assignmentRead{assignment: *d.Assignment})
}

func headOf(e *simEtcd) *meta.KeyValue {
	kv := e.now[e.keys.Head(simNode)]
	return &kv
}

func (s *commitStory) step(e commitEvent) commitEffects {
	s.t.Helper()
	out, err := s.c.Step(e, 7)
	if err != nil {
		s.t.Fatal(err)
	}
	s.take(out)
	return out
}

func (s *commitStory) take(out commitEffects) {
	if out.send != nil {
		txn := *out.send
		s.sent = &txn
	}
	s.lastOut = out
}

// next begins the next job, as the node does when it has heard of a finished one.
func (s *commitStory) next() {
	s.t.Helper()
	out, err := s.c.nudge(7)
	if err != nil {
		s.t.Fatal(err)
	}
	s.take(out)
}

// arrive lets the transaction that was sent apply and gives back its answer.
func (s *commitStory) arrive() commitEffects {
	s.t.Helper()
	if s.sent == nil {
		s.t.Fatal("nothing was sent")
	}
	txn := *s.sent
	s.sent = nil
	return s.step(commitAnswered{result: s.etcd.apply(txn), now: s.now})
}

// cut makes a job of batches of some partitions at epoch 1.
func (s *commitStory) cut(ids ...meta.Partition) *commitJob {
	s.t.Helper()
	job := &commitJob{number: s.c.nextNumber()}
	job.record = &meta.L0Record{Object: fmt.Sprintf("object-%d", job.number), Inline: true}
	encoded := job.record.Index.Encode()
	job.record.IndexLength, job.record.IndexCRC = int32(len(encoded)), meta.CRC32C(encoded)
	for _, id := range ids {
		job.entries = append(job.entries, &entry{partition: id, epoch: 1})
	}
	s.step(flushCut{job: job})
	return job
}

func (s *commitStory) record(seq meta.Seq) *meta.L0Record {
	s.t.Helper()
	kv, ok := s.etcd.now[s.etcd.keys.L0(simNode, 1, seq)]
	if !ok {
		s.t.Fatalf("there is no record %d", seq)
	}
	r, err := meta.DecodeL0Record(kv.Value)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// ready lets go what lies in the object that is being committed.
func (s *commitStory) ready(ends func() map[meta.Partition]int64) map[meta.Partition]meta.Epoch {
	out := make(map[meta.Partition]meta.Epoch)
	for id, end := range s.leaves {
		if ends()[id] >= end {
			out[id] = 1
		}
	}
	return out
}

func (s *commitStory) head() simHead { return decodeSimHead(headOf(s.etcd).Value) }

func TestCommitterKeepsTheOrderOfCuts(t *testing.T) {
	s := newCommitStory(t)
	first, second := s.cut(s.p0), s.cut(s.p1)
	s.step(objectStored{job: second})
	if s.sent != nil {
		t.Fatal("the second went before the first")
	}
	s.step(objectStored{job: first})
	if out := s.arrive(); out.done != first || len(out.excluded) != 0 || out.revision != s.etcd.revision {
		t.Fatalf("%+v", out)
	}
	if h := s.head(); h.Seq != 1 || h.Settled != 1 || h.WAL != 7 {
		t.Fatalf("head %+v", h)
	}
	s.next()
	if out := s.arrive(); out.done != second {
		t.Fatalf("%+v", out)
	}
	if h := s.head(); h.Seq != 2 || h.Settled != 2 || s.record(2).Object != "object-2" {
		t.Fatalf("head %+v", h)
	}
}

// Another partition of the object was lost before the commit arrived: membership does not count, epochs do.
func TestCommitterExcludesByEpoch(t *testing.T) {
	for name, after := range map[string]map[meta.Partition]meta.Epoch{
		"gone":               {{Topic: meta.TopicID{1}}: 1},
		"gone and come back": {{Topic: meta.TopicID{1}}: 1, {Topic: meta.TopicID{1}, Partition: 1}: 3},
	} {
		t.Run(name, func(t *testing.T) {
			s := newCommitStory(t)
			job := s.cut(s.p0, s.p1)
			s.step(objectStored{job: job})
			s.assign(after)
			out := s.arrive()
			if out.assignment == nil || !reflect.DeepEqual(out.assignment.Epochs, after) || out.done != nil || s.sent != nil {
				t.Fatalf("%+v", out)
			}
			s.step(assignmentRead{assignment: *out.assignment})
			out = s.arrive()
			if out.done != job || !out.excluded[s.p1] || out.excluded[s.p0] {
				t.Fatalf("%+v", out)
			}
			if x := s.record(1).Excluded; len(x) != 1 || x[0] != s.p1 {
				t.Fatalf("the record excludes %v", x)
			}
		})
	}
	s := newCommitStory(t)
	s.assign(map[meta.Partition]meta.Epoch{s.p0: 2, s.p1: 2})
	s.read()
	job := s.cut(s.p0, s.p1)
	if out := s.step(objectStored{job: job}); out.done != job || s.sent != nil || out.revision != 0 || len(out.excluded) != 2 {
		t.Fatalf("nothing is left of it, and yet: %+v", out)
	}
}

func TestCommitterInDoubt(t *testing.T) {
	s := newCommitStory(t)
	job := s.cut(s.p0)
	s.step(objectStored{job: job})
	first := *s.sent
	pause := time.Duration(0)
	for n := range 9 {
		out := s.step(commitFailed{err: errors.New("deadline exceeded"), now: s.now})
		next := out.retryAt.Sub(s.now)
		if out.done != nil || out.lost != nil || out.send != nil || next < pause || next > time.Second {
			t.Fatalf("after failure %d: %+v", n, out)
		}
		pause = next
		if s.c.idle() {
			t.Fatal("an assignment may be applied in doubt")
		}
		s.sent = nil
		s.step(commitRetry{})
		if s.sent == nil || !reflect.DeepEqual(*s.sent, first) {
			t.Fatal("what is sent again is not the same")
		}
	}
	// An answer whose snapshot shows the guards as they were proves nothing: the request may still be on its way.
	node, assign := s.etcd.now[s.etcd.keys.Node(simNode)], s.etcd.now[s.etcd.keys.Assign(simNode)]
	out := s.step(commitAnswered{result: meta.TxnResult{Gets: []*meta.KeyValue{&node, &assign, headOf(s.etcd)}}, now: s.now})
	if out.done != nil || out.assignment != nil || out.lost != nil || out.retryAt.IsZero() {
		t.Fatalf("%+v", out)
	}
	// The first copy has applied by now; the last one finds the head.
	s.etcd.apply(first)
	s.assign(map[meta.Partition]meta.Epoch{}) // and everything was taken away since
	s.sent = nil
	s.step(commitRetry{})
	if out := s.arrive(); out.done != job || len(out.excluded) != 0 {
		t.Fatalf("it is in the log, but: %+v", out)
	}
}

func TestCommitterIsOver(t *testing.T) {
	for name, happens := range map[string]func(*commitStory){
		"lease gone": func(s *commitStory) {
			s.etcd.apply(meta.Txn{Then: []meta.Op{meta.DeleteOp(s.etcd.keys.Node(simNode))}})
		},
		"registered again": func(s *commitStory) { s.etcd.put(s.etcd.keys.Node(simNode), []byte("2")) },
		"assignment removed": func(s *commitStory) {
			s.etcd.apply(meta.Txn{Then: []meta.Op{meta.DeleteOp(s.etcd.keys.Assign(simNode))}})
		},
		"another's head": func(s *commitStory) {
			s.etcd.put(s.etcd.keys.Head(simNode), simHead{Version: 1, Incarnation: meta.Incarnation(2).String(), Seq: 5}.encode())
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newCommitStory(t)
			job := s.cut(s.p0)
			s.step(objectStored{job: job})
			happens(s)
			if out := s.arrive(); out.lost == nil || out.done != nil {
				t.Fatalf("%+v", out)
			}
		})
	}
}

// Folds and flushes take turns, and a number counts as settled when nothing below it is open.
func TestCommitterFolds(t *testing.T) {
	s := newCommitStory(t)
	one := s.cut(s.p0)
	s.step(objectStored{job: one})
	s.arrive()
	s.next()

	two, three := s.cut(s.p0), s.cut(s.p0)
	fold := &commitJob{number: s.c.nextNumber(), replaces: []string{s.etcd.keys.L0(simNode, 1, 1)}, record: &meta.L0Record{Object: "folded"}}
	abandoned := s.c.nextNumber()
	s.step(objectStored{job: two}) // goes at once
	s.step(objectStored{job: three})
	s.step(objectStored{job: fold})
	if out := s.arrive(); out.done != two {
		t.Fatalf("%+v", out)
	}
	if h := s.head(); h.Seq != 2 || h.Settled != 2 {
		t.Fatalf("head %+v", h)
	}
	s.next()
	if out := s.arrive(); out.done != fold { // it has waited for a flush
		t.Fatalf("%+v", out)
	}
	if h := s.head(); h.Seq != 3 || h.Settled != 2 {
		t.Fatalf("number 3 is open, and the head says %+v", h)
	}
	if _, ok := s.etcd.now[s.etcd.keys.L0(simNode, 1, 1)]; ok {
		t.Fatal("what was folded is still there")
	}
	s.next()
	if out := s.arrive(); out.done != three {
		t.Fatalf("%+v", out)
	}
	if h := s.head(); h.Settled != 4 {
		t.Fatalf("number %d is open, and the head says %+v", abandoned, h)
	}
	s.step(foldAbandoned{number: abandoned})
	last := s.cut(s.p0)
	s.step(objectStored{job: last})
	s.arrive()
	if h := s.head(); h.Settled != uint64(last.number) || s.c.pending() != 0 {
		t.Fatalf("head %+v", h)
	}
}

// What is to be let go goes with the commit after which nothing of it is uncommitted, and alone when there is none.
func TestCommitterLetsGo(t *testing.T) {
	s := newCommitStory(t)
	released := func() map[meta.Partition]meta.Epoch {
		kv, ok := s.etcd.now[s.etcd.keys.Release(simNode)]
		if !ok {
			return nil
		}
		return decodeSimEpochs(kv.Value)
	}
	one, two := s.cut(s.p0), s.cut(s.p0)
	one.entries[0].next, two.entries[0].next = 1, 2
	s.leaves = map[meta.Partition]int64{s.p0: 2}
	s.step(objectStored{job: one})
	if out := s.arrive(); out.done != one || len(out.released) != 0 || released() != nil {
		t.Fatalf("%+v; let go is %v", out, released())
	}
	s.next()
	s.step(objectStored{job: two})
	if out := s.arrive(); out.done != two || out.released[s.p0] != 1 || released()[s.p0] != 1 {
		t.Fatalf("%+v; let go is %v", out, released())
	}
	// The other one has nothing to commit. The first is assigned still, so it stays let go.
	s.leaves = map[meta.Partition]int64{s.p1: 0}
	s.step(leavingChanged{})
	if out := s.arrive(); out.released[s.p1] != 1 || len(out.released) != 1 || len(released()) != 2 || s.head().Seq != 3 {
		t.Fatalf("%+v; let go is %v, head %+v", out, released(), s.head())
	}
	if _, ok := s.etcd.now[s.etcd.keys.L0(simNode, 1, 3)]; ok {
		t.Fatal("a commit that only lets go has a record")
	}
	// One that is refused is found anew, from what is assigned and ready then.
	s.assign(map[meta.Partition]meta.Epoch{s.p0: 2, s.p1: 3})
	s.read()
	s.step(leavingChanged{})
	s.assign(map[meta.Partition]meta.Epoch{s.p0: 2, s.p1: 4})
	out := s.arrive()
	if out.assignment == nil || len(out.released) != 0 || s.c.pending() != 0 {
		t.Fatalf("%+v", out)
	}
	s.leaves = nil
	s.step(assignmentRead{assignment: *out.assignment})
	if s.sent != nil || len(released()) != 2 || s.c.hasReleased(s.p0, 2) || !s.c.hasReleased(s.p0, 1) {
		t.Fatalf("let go is %v", released())
	}
}
