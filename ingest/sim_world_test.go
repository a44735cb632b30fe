package ingest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/tidemark-io/tidemark/ingest/wal"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier"
)

const (
	simNode  = meta.NodeID("a")
	simOther = meta.NodeID("b")
	simDisk  = "disk-of-a"
)

// simFailure is what a check panics with.
type simFailure struct{ message string }

// sim is one seeded run: a world of models around a real core. Everything that happens is a step that the seed chose.
type sim struct {
	random *rand.Rand
	trace  []string
	now    time.Time
	calm   bool // the adversary rests and everything works: what is there must come to an end

	etcd        *simEtcd
	truth       *simIndex // at the newest revision
	assignments map[meta.Revision]meta.Assignment
	epochs      map[meta.Partition]meta.Epoch // the last given, of every partition
	store       simStore
	topics      []meta.Topic
	elsewhere   map[meta.Partition]meta.Epoch // led by the other node
	otherSeq    meta.Seq

	otherAnswers bool // the other node is answering
	story        simStory

	life         *simLife // nil while the node is down
	registered   *simRegistration
	incarnations uint64
	disk         simWAL
	puts         []*simPut
	requests     []*simRequest

	producers []*simProducer
	contents  int

	// What must hold.
	committed map[meta.Partition][]string         // the log, content by offset
	blocks    map[string][]string                 // content of blocks, by object and position
	where     map[string]string                   // content to its place
	refused   map[string]string                   // content that was refused for good, and with what
	acked     map[meta.Partition]map[int64]string // acknowledged, not seen in the log yet
	observed  map[meta.Partition]map[int64]string // read, not seen in the log yet
	hwm       map[meta.Partition]int64
	acks      int
	retries   int // answers to retries
	reads     int
	folds     int
	restarts  int
	moves     int
	handed    int // partitions that the node let go
	stops     int // in good order
}

// simStore is the object store: what is put is there.
type simStore map[string][]byte

func (s simStore) Put(_ context.Context, name string, body [][]byte) error {
	s[name] = bytes.Join(body, nil)
	return nil
}

func (s simStore) ReadAt(_ context.Context, name string, p []byte, off int64) error {
	object, ok := s[name]
	switch {
	case !ok:
		return fmt.Errorf("%w: %s", tier.ErrNotFound, name)
	case off+int64(len(p)) > int64(len(object)):
		return io.ErrUnexpectedEOF
	}
	copy(p, object[off:])
	return nil
}

func (s simStore) Stat(_ context.Context, name string) (tier.Object, error) {
	object, ok := s[name]
	if !ok {
		return tier.Object{}, fmt.Errorf("%w: %s", tier.ErrNotFound, name)
	}
	return tier.Object{Name: name, Size: int64(len(object))}, nil
}

func (s simStore) List(context.Context, string, func(tier.Object) error) error { return nil }

func (s simStore) Delete(_ context.Context, name string) error {
	delete(s, name)
	return nil
}

// simWAL is the log on disk: frames by LSN. A crash keeps what was synced and any part of the rest.
type simWAL struct {
	frames []simFrame
	end    wal.LSN // written
	synced wal.LSN
}

type simFrame struct {
	at         wal.LSN
	id         meta.Partition
	epoch      meta.Epoch
	appendTime int64
	batch      record.Batch
}

func (f simFrame) end() wal.LSN { return f.at + wal.LSN(len(f.batch)) + 40 }

func (d *simWAL) read(at wal.LSN) (simFrame, bool) {
	for _, f := range d.frames {
		if f.at == at {
			return f, true
		}
	}
	return simFrame{}, false
}

// simRegistration is a start that has got as far as its registration.
type simRegistration struct {
	incarnation               meta.Incarnation
	nodeRev, headRev, revison meta.Revision
}

// simLife is one incarnation of the node under test and the outside of its core.
type simLife struct {
	sim         *sim
	incarnation meta.Incarnation
	core        *core
	index       *simIndex
	ended       error

	queue      []queuedBatch
	written    []simGroup // written, not reported
	syncWanted bool
	synced     []wal.LSN // synced, not reported
	trimTo     wal.LSN
	wakeAt     time.Time
	keepAlives []time.Time

	folding *commitJob
	foldRev meta.Revision
}

type simGroup struct {
	entries []*entry
	at      []wal.LSN
	end     wal.LSN
}

// simPut is an object on its way to the store.
type simPut struct {
	owner  *simLife
	job    *commitJob
	name   string
	object *tier.L0Object // nil until it is built
	batch  []plannedBatch
}

// simRequest is a transaction on its way to etcd, and its answer on the way back.
type simRequest struct {
	owner   *simLife
	txn     meta.Txn
	applied bool
	result  meta.TxnResult
	waited  bool // the owner has not heard yet
}

func (l *simLife) appendLog(e *entry, sync bool) {
	l.queue = append(l.queue, queuedBatch{entry: e, frame: wal.Frame{
		Topic: e.partition.Topic, Partition: e.partition.Partition, Epoch: e.epoch, AppendTime: e.appendTime, Batch: e.batch,
	}})
	_ = sync
}

func (l *simLife) trimLog(below wal.LSN) { l.trimTo = max(l.trimTo, below) }

func (l *simLife) upload(job *commitJob, batches []plannedBatch) {
	l.sim.puts = append(l.sim.puts, &simPut{owner: l, job: job, batch: batches, name: meta.L0ObjectName(simNode, l.incarnation, job.number, 0)})
}

func (l *simLife) sendCommit(txn *meta.Txn) {
	l.sim.requests = append(l.sim.requests, &simRequest{owner: l, txn: *txn, waited: true})
}

func (l *simLife) keepAlive() { l.keepAlives = append(l.keepAlives, l.sim.now) }

func (l *simLife) wake(at time.Time) {
	if l.wakeAt.IsZero() || at.Before(l.wakeAt) {
		l.wakeAt = at
	}
}

func (l *simLife) letGo(n int, _ time.Time) {
	l.sim.handed += n
	l.sim.notef("%d partitions are let go", n)
}

func (l *simLife) committed()              {}
func (l *simLife) changed()                {}
func (l *simLife) tookOver(int, time.Time) {}
func (l *simLife) troubled(string)         {}
func (l *simLife) end(cause error)         { l.ended = cause }

func newSim(seed uint64) *sim {
	s := &sim{
		random: rand.New(rand.NewPCG(seed, 0x7469646d61726b)), now: time.UnixMilli(1_700_000_000_000),
		etcd: newSimEtcd(), assignments: make(map[meta.Revision]meta.Assignment), epochs: make(map[meta.Partition]meta.Epoch),
		store: make(simStore), elsewhere: make(map[meta.Partition]meta.Epoch),
		committed: make(map[meta.Partition][]string), blocks: make(map[string][]string), where: make(map[string]string),
		refused: make(map[string]string), acked: make(map[meta.Partition]map[int64]string),
		observed: make(map[meta.Partition]map[int64]string), hwm: make(map[meta.Partition]int64),
	}
	s.truth = newSimIndex(s.etcd, simNode, s.assignments)
	for n, durability := range []meta.Durability{meta.DurabilityObject, meta.DurabilityDisk, meta.DurabilityObject} {
		t := meta.Topic{Name: fmt.Sprintf("t%d", n), ID: meta.TopicID{byte(n + 1)}, Partitions: 1, Config: meta.DefaultTopicConfig()}
		if n == 0 {
			t.Partitions = 2
		}
		t.Config.Durability = durability
		s.topics = append(s.topics, t)
		s.etcd.put(s.topicKey(t), encodeSimTopic(t))
		for p := range t.Partitions {
			id := meta.Partition{Topic: t.ID, Partition: p}
			s.producers = append(s.producers,
				&simProducer{sim: s, topic: t, id: id, producer: int64(100 + len(s.producers))},
				&simProducer{sim: s, topic: t, id: id, producer: -1})
		}
	}
	epochs := make(map[meta.Partition]meta.Epoch)
	for _, p := range s.producers {
		epochs[p.id], s.epochs[p.id] = 1, 1
	}
	s.assign(epochs)
	return s
}

func (s *sim) topicKey(t meta.Topic) string { return s.etcd.keys.Prefix() + "topics/" + t.ID.String() }

// notef adds a line to the trace.
func (s *sim) notef(format string, args ...any) {
	s.trace = append(s.trace, fmt.Sprintf("%5d  %s", s.now.UnixMilli()-1_700_000_000_000, fmt.Sprintf(format, args...)))
}

func (s *sim) failf(format string, args ...any) {
	panic(simFailure{fmt.Sprintf(format, args...)})
}

func (s *sim) chance(percent int) bool { return s.random.IntN(100) < percent }

// assign writes what the node under test leads.
func (s *sim) assign(epochs map[meta.Partition]meta.Epoch) {
	revision := s.etcd.revision + 1
	s.assignments[revision] = meta.Assignment{Node: simNode, Disk: simDisk, Epochs: epochs, Revision: revision}
	s.etcd.put(s.etcd.keys.Assign(simNode), encodeSimAssignment(simDisk, epochs))
	s.changed()
}

// assigned is what the node leads at the newest revision.
func (s *sim) assigned() map[meta.Partition]meta.Epoch {
	kv := s.etcd.now[s.etcd.keys.Assign(simNode)]
	out := make(map[meta.Partition]meta.Epoch)
	maps.Copy(out, s.assignments[kv.Mod].Epochs)
	return out
}

// changed looks at etcd after a change: the log may only have grown.
func (s *sim) changed() {
	s.truth.advance(s.etcd.revision)
	for _, p := range sortedPartitions(s.truth.logs) {
		log := s.truth.logs[p]
		if log.hole != nil {
			s.failf("the log has a hole or an overlap: %v", log.hole)
		}
		was := s.committed[p]
		var now []string
		for _, b := range log.blocks {
			now = append(now, s.contentOf(b)...)
		}
		if len(now) < len(was) {
			s.failf("the log of %s went back from %d to %d", name(p), len(was), len(now))
		}
		for offset := range was {
			if was[offset] != now[offset] {
				s.failf("%s offset %d was %s and is %s", name(p), offset, was[offset], now[offset])
			}
		}
		s.committed[p] = now
		for offset := int64(len(was)); offset < int64(len(now)); offset++ {
			s.appeared(p, offset, now[offset])
		}
	}
}

// appeared checks a record that has just become part of the log.
func (s *sim) appeared(p meta.Partition, offset int64, content string) {
	here := fmt.Sprintf("%s offset %d", name(p), offset)
	if there, twice := s.where[content]; twice {
		s.failf("%s is in the log twice: at %s and %s", content, there, here)
	}
	s.where[content] = here
	if why, ok := s.refused[content]; ok {
		s.failf("%s was refused (%s) and is in the log at %s", content, why, here)
	}
	for what, claims := range map[string]map[int64]string{"acknowledged": s.acked[p], "read": s.observed[p]} {
		if claimed, ok := claims[offset]; ok {
			if claimed != content {
				s.failf("%s was %s at %s, but the log has %s there", claimed, what, here, content)
			}
			delete(claims, offset)
		}
	}
}

// contentOf reads a block: the object must be there, and right.
func (s *sim) contentOf(b meta.Block) []string {
	key := fmt.Sprintf("%s@%d", b.Object, b.Position)
	if _, ok := s.store[b.Object]; !ok {
		s.failf("a record names object %s, which does not exist", b.Object)
	}
	if known, ok := s.blocks[key]; ok {
		return known
	}
	got, err := tier.ReadBlock(context.Background(), s.store, b.Object, b.L0Entry, nil)
	if err != nil {
		s.failf("read %s: %v", key, err)
	}
	var out []string
	at := b.BaseOffset
	for rest := got; len(rest) > 0; {
		batch, after, err := record.Next(rest)
		if err != nil {
			s.failf("read %s: %v", key, err)
		}
		if batch.BaseOffset() != at || batch.LeaderEpoch() != b.Epoch {
			s.failf("%s: a batch says offset %d epoch %d, the index %d and %d", key, batch.BaseOffset(), batch.LeaderEpoch(), at, b.Epoch)
		}
		out = append(out, contentsOf(batch)...)
		at, rest = batch.NextOffset(), after
	}
	if at != b.End() {
		s.failf("%s ends at %d, its entry at %d", key, at, b.End())
	}
	s.blocks[key] = out
	return out
}

func contentsOf(b record.Batch) []string {
	var out []string
	for r, err := range b.Records(record.DefaultLimits()) {
		if err != nil {
			panic(err)
		}
		out = append(out, string(r.Value))
	}
	return out
}

func name(p meta.Partition) string { return fmt.Sprintf("t%d/%d", p.Topic[0]-1, p.Partition) }

// claim notes that somebody was told content stands at offset.
func (s *sim) claim(claims map[meta.Partition]map[int64]string, what string, p meta.Partition, offset int64, content string) {
	if _, alive := s.truth.TopicByID(p.Topic); !alive {
		return // deleted with its records
	}
	if log := s.committed[p]; offset < int64(len(log)) {
		if log[offset] != content {
			s.failf("%s was %s at %s offset %d, but the log has %s there", content, what, name(p), offset, log[offset])
		}
		return
	}
	if claims[p] == nil {
		claims[p] = make(map[int64]string)
	}
	if before, ok := claims[p][offset]; ok && before != content {
		s.failf("%s was %s at %s offset %d, and %s before", content, what, name(p), offset, before)
	}
	claims[p][offset] = content
}

// watchMarks checks that no high watermark goes back, among leaders that etcd names.
func (s *sim) watchMarks() {
	if s.life == nil || s.life.ended != nil {
		return
	}
	assigned := s.assigned()
	for _, p := range sortedPartitions(s.life.core.partitions) {
		m := s.life.core.partitions[p]
		if assigned[p] != m.epoch {
			continue
		}
		if s.truth.released[p] == m.epoch && !m.going {
			s.failf("%s was let go at epoch %d, and takes records at it", name(p), m.epoch)
		}
		if m.hwm > m.end || m.committed > m.end {
			s.failf("%s: hwm %d, committed %d, end %d", name(p), m.hwm, m.committed, m.end)
		}
		if s.truth.alive != s.life.incarnation.String() {
			continue
		}
		if m.hwm < s.hwm[p] {
			s.failf("the high watermark of %s went back from %d to %d", name(p), s.hwm[p], m.hwm)
		}
		s.hwm[p] = m.hwm
		if m.durability == meta.DurabilityObject && m.hwm > int64(len(s.committed[p])) && !s.wasDisk(p) {
			s.failf("the high watermark of %s is %d, but only %d are committed", name(p), m.hwm, len(s.committed[p]))
		}
	}
}

func (s *sim) wasDisk(p meta.Partition) bool { return p.Topic == s.topics[1].ID }

func (s *sim) String() string {
	return fmt.Sprintf("%s\n%d acks, %d retries, %d reads, %d folds, %d restarts, %d moves, %d let go, %d stops, revision %d",
		strings.Join(s.trace, "\n"), s.acks, s.retries, s.reads, s.folds, s.restarts, s.moves, s.handed, s.stops, s.etcd.revision)
}

// without removes the i-th of a list.
func removeAt[T any](list []T, i int) []T { return slices.Delete(list, i, i+1) }
