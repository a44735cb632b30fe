package ingest

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
)

// simProducer is a client that appends to one partition: idempotent with retries, or not idempotent and without.
type simProducer struct {
	sim      *sim
	topic    meta.Topic
	id       meta.Partition
	producer int64 // -1: not idempotent
	sequence int32
	unacked  []*simBatch
	inFlight int
	round    int  // attempts of an earlier round are not listened to
	resend   bool // something failed: everything unacknowledged is sent again, in order, once nothing is in flight
	gone     bool
}

type simBatch struct {
	contents []string
	sequence int32
	attempts int
	acked    bool
}

func buildSim(contents []string, producer int64, sequence int32) record.Batch {
	b := record.NewBuilder(record.None)
	for i, content := range contents {
		if err := b.Append(record.Record{Timestamp: 1_700_000_000_000 + int64(i), Value: []byte(content), Key: make([]byte, 60)}); err != nil {
			panic(err)
		}
	}
	epoch := int16(0)
	if producer < 0 {
		epoch, sequence = -1, -1
	}
	out, err := b.Build(producer, epoch, sequence)
	if err != nil {
		panic(err)
	}
	return out
}

func (s *sim) stepProduce() bool {
	p := s.producers[s.random.IntN(len(s.producers))]
	if s.life == nil || p.gone {
		return false
	}
	if p.producer < 0 {
		if s.calm {
			return false
		}
		s.produceOnce(p)
		return true
	}
	if p.resend {
		if p.inFlight > 0 {
			return false
		}
		p.resend = false
		for i, b := range slices.Clone(p.unacked) {
			p.send(b, i == 0)
		}
		return true
	}
	if len(p.unacked) >= 4 || s.calm {
		return false
	}
	p.send(p.newBatch(), false)
	return true
}

func (p *simProducer) newBatch() *simBatch {
	b := &simBatch{sequence: p.sequence}
	for range 1 + p.sim.random.IntN(3) {
		b.contents = append(b.contents, p.sim.content(fmt.Sprintf("p%d", p.producer)))
	}
	p.sequence += int32(len(b.contents))
	p.unacked = append(p.unacked, b)
	return b
}

func (p *simProducer) send(b *simBatch, first bool) {
	s := p.sim
	batch, done := p.attempt(b, first)
	s.notef("produce %s %v sequence %d attempt %d", name(p.id), b.contents, b.sequence, b.attempts)
	s.life.core.produce(p.id, &produceCall{request: ProduceRequest{Topic: p.topic.Name, Partition: p.id.Partition}, batch: batch, done: done}, s.now)
}

// next gives a batch for another leader: the oldest unanswered one, or a new one.
func (p *simProducer) next() (record.Batch, func(ProduceResult, error)) {
	if p.producer < 0 || p.gone || p.inFlight > 0 {
		return nil, nil
	}
	if len(p.unacked) == 0 {
		p.newBatch()
	}
	p.resend = len(p.unacked) > 1 || p.resend
	return p.attempt(p.unacked[0], true)
}

// attempt sends a batch; first says that it is the oldest one and nothing else is in flight.
func (p *simProducer) attempt(b *simBatch, first bool) (record.Batch, func(ProduceResult, error)) {
	s := p.sim
	b.attempts++
	p.inFlight++
	round := p.round
	return buildSim(b.contents, p.producer, b.sequence), func(r ProduceResult, err error) {
		if err == nil {
			// An answer that nobody waits for is a promise all the same.
			s.promised(p.id, r, b.contents)
		}
		if round != p.round {
			return
		}
		p.inFlight--
		switch ReasonOf(err) {
		case "":
			b.acked = true
			s.acks++
			if b.attempts > 1 {
				s.retries++
			}
			p.unacked = slices.DeleteFunc(p.unacked, func(o *simBatch) bool { return o == b })
		case ReasonOutOfOrderSequence, ReasonUnknownProducer:
			if first && s.leads(p.id) {
				s.failf("the retry of %v to %s was refused: %v", b.contents, name(p.id), err)
			}
			p.resend = true
		case ReasonUnknownTopic:
			if _, ok := s.truth.TopicByID(p.id.Topic); ok {
				s.failf("produce to %s: %v", name(p.id), err)
			}
			p.gone = true
		case ReasonNotLeader, ReasonBackPressure, ReasonOutcomeUnknown, ReasonUnavailable, ReasonShuttingDown:
			s.notef("%v: %s", b.contents, ReasonOf(err))
			p.resend = true
		default:
			s.failf("produce to %s: %v", name(p.id), err)
		}
	}
}

// leads tells whether the node that answers leads a partition as etcd has it. A node that has lost one and
// has not heard of it may take a right sequence for a wrong one; nothing of that batch is stored.
func (s *sim) leads(p meta.Partition) bool {
	if s.otherAnswers || s.life == nil {
		return s.otherAnswers
	}
	m := s.life.core.partitions[p]
	return m != nil && m.epoch == s.epochs[p] && s.truth.alive == s.life.incarnation.String()
}

// stepGiveUp has a client stop waiting; it sends again while the first attempts are still on their way.
func (s *sim) stepGiveUp() bool {
	p := s.producers[s.random.IntN(len(s.producers))]
	if p.inFlight == 0 {
		return false
	}
	s.notef("a producer of %s gives up waiting", name(p.id))
	p.round++
	p.inFlight, p.resend = 0, true
	return true
}

// produceOnce sends records without a producer id, once.
func (s *sim) produceOnce(p *simProducer) {
	acks := []Acks{AcksAll, AcksAll, AcksLeader, AcksNone}[s.random.IntN(4)]
	contents := []string{s.content("once")}
	s.notef("produce %s %v acks=%s", name(p.id), contents, acks)
	answered := false
	s.life.core.produce(p.id, &produceCall{
		request: ProduceRequest{Topic: p.topic.Name, Partition: p.id.Partition, Acks: acks}, batch: buildSim(contents, -1, 0),
		done: func(r ProduceResult, err error) {
			if answered {
				s.failf("%v was answered twice", contents)
			}
			answered = true
			switch {
			case err == nil && acks == AcksAll:
				s.acks++
				s.promised(p.id, r, contents)
			case err == nil:
			case ReasonOf(err) == ReasonOutcomeUnknown:
			default:
				s.notef("%v: %v", contents, err)
				if place, ok := s.where[contents[0]]; ok {
					s.failf("%v was refused (%v) and is in the log at %s", contents, err, place)
				}
				s.refused[contents[0]] = err.Error()
			}
		},
	}, s.now)
}

// promised notes an acknowledgement of acks=all.
func (s *sim) promised(p meta.Partition, r ProduceResult, contents []string) {
	s.notef("%v acknowledged at %s offset %d, %s", contents, name(p), r.BaseOffset, r.Reached)
	if _, alive := s.truth.TopicByID(p.Topic); !alive {
		return
	}
	if r.NextOffset-r.BaseOffset != int64(len(contents)) {
		s.failf("%v got offsets %d to %d", contents, r.BaseOffset, r.NextOffset-1)
	}
	committed := r.NextOffset <= int64(len(s.committed[p]))
	switch {
	case committed:
	case r.Reached == ReachedObject, s.topicOf(p).Config.Durability == meta.DurabilityObject && p.Topic != s.topics[1].ID:
		s.failf("%v was acknowledged at %s offset %d as in the object store, but %d are committed", contents, name(p), r.BaseOffset, len(s.committed[p]))
	case !s.durableOnDisk(p, r.BaseOffset):
		s.failf("%v was acknowledged at %s offset %d, but the disk does not have it synced", contents, name(p), r.BaseOffset)
	}
	for i, content := range contents {
		s.claim(s.acked, "acknowledged", p, r.BaseOffset+int64(i), content)
	}
}

func (s *sim) topicOf(p meta.Partition) meta.Topic {
	for _, t := range s.topics {
		if t.ID == p.Topic {
			return t
		}
	}
	panic("sim: no topic")
}

// settle lets everything that is on its way arrive.
func (s *sim) settle() {
	s.notef("---- calm")
	s.calm = true
	for range 6000 {
		s.step()
		if s.settled() {
			return
		}
	}
	for _, p := range s.producers {
		s.notef("%s producer %d: %d unacked, %d in flight, resend %t", name(p.id), p.producer, len(p.unacked), p.inFlight, p.resend)
	}
	s.failf("the node does not come to rest: something waits for ever")
}

func (s *sim) settled() bool {
	l := s.life
	if l == nil || len(l.queue)+len(l.written)+len(l.synced) > 0 || len(s.elsewhere) > 0 || len(s.requests) > 0 || len(s.puts) > 0 || l.index.revision != s.etcd.revision {
		return false
	}
	if l.core.draining || len(l.core.leaving) > 0 || l.core.coming.len() > 0 {
		return false
	}
	for p, e := range s.assigned() {
		if s.truth.released[p] == e {
			return false
		}
	}
	for _, p := range s.producers {
		if !p.gone && (len(p.unacked) > 0 && p.producer >= 0) {
			return false
		}
	}
	return l.core.drained() && l.core.admission.parked.len() == 0
}

// finish checks what must hold in the end.
func (s *sim) finish() {
	for what, claims := range map[string]map[meta.Partition]map[int64]string{"acknowledged": s.acked, "read": s.observed} {
		for p, list := range claims {
			for offset, content := range list {
				s.failf("%s was %s at %s offset %d, and is lost: the log has %d", content, what, name(p), offset, len(s.committed[p]))
			}
		}
	}
	if n := s.life.core.admission; n.uncommitted != 0 || n.unlogged != 0 || n.parkedBytes != 0 {
		s.failf("everything is committed, but %d bytes count as uncommitted, %d as not logged, %d as parked", n.uncommitted, n.unlogged, n.parkedBytes)
	}
	s.truthStands()
}

// runSim runs one seed and returns what it found wrong.
func runSim(seed uint64, steps int) (s *sim, failure string) {
	s = newSim(seed)
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(simFailure)
			if !ok {
				panic(fmt.Sprintf("seed %d: %v\n%s", seed, r, s))
			}
			failure = f.message
		}
	}()
	for range steps {
		s.step()
	}
	s.settle()
	s.finish()
	return s, ""
}

// TestSim runs seeded worlds against the core. TIDEMARK_SIM_SEEDS says how many, TIDEMARK_SIM_SEED which one alone; a seed
// that fails prints every step.
func TestSim(t *testing.T) {
	seeds, steps := uint64(500), 400
	if n, err := strconv.ParseUint(os.Getenv("TIDEMARK_SIM_SEEDS"), 10, 64); err == nil {
		seeds = n
	}
	from := uint64(1)
	if n, err := strconv.ParseUint(os.Getenv("TIDEMARK_SIM_SEED"), 10, 64); err == nil {
		from, seeds = n, 1
	}
	var acks, retries, reads, folds, restarts, moves, handed, stops int
	for seed := from; seed < from+seeds; seed++ {
		s, failure := runSim(seed, steps)
		if failure != "" {
			t.Fatalf("seed %d: %s\n%s\nseed %d: %s", seed, failure, s, seed, failure)
		}
		acks, retries, reads, folds, restarts, moves = acks+s.acks, retries+s.retries, reads+s.reads, folds+s.folds, restarts+s.restarts, moves+s.moves
		handed, stops = handed+s.handed, stops+s.stops
	}
	t.Logf("%d seeds: %d acknowledgements (%d of retries), %d reads, %d folds, %d restarts, %d moves, %d let go, %d stops", seeds, acks, retries, reads, folds, restarts, moves, handed, stops)
	if seeds >= 100 && (acks < int(seeds) || retries == 0 || reads == 0 || folds == 0 || restarts < int(seeds) || moves == 0 || handed < int(seeds) || stops == 0) {
		t.Fatal("the worlds are too quiet to prove anything")
	}
}
