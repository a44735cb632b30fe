package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier"
)

// ---- the controller

// movable are partitions that may leave a node that has not let them go.
func (s *sim) movable(p meta.Partition) bool { return p.Topic != s.topics[1].ID }

func (s *sim) stepTakeAway() bool {
	assigned := s.assigned()
	var candidates []meta.Partition
	for _, p := range sortedPartitions(assigned) {
		if s.movable(p) {
			candidates = append(candidates, p)
		}
	}
	if len(candidates) == 0 {
		return false
	}
	p := candidates[s.random.IntN(len(candidates))]
	delete(assigned, p)
	s.epochs[p]++
	s.elsewhere[p] = s.epochs[p]
	s.moves++
	s.notef("etcd: %s goes to the other node at epoch %d", name(p), s.epochs[p])
	s.assign(assigned)
	return true
}

// stepAsk asks the node to let a partition go, whatever its durability.
func (s *sim) stepAsk() bool {
	assigned := s.assigned()
	if len(assigned) == 0 {
		return false
	}
	asked := make(map[meta.Partition]meta.Epoch)
	for p, e := range s.truth.asked {
		if assigned[p] == e {
			asked[p] = e
		}
	}
	list := sortedPartitions(assigned)
	p := list[s.random.IntN(len(list))]
	asked[p] = assigned[p]
	s.notef("etcd: the node is asked to let %s go at epoch %d", name(p), assigned[p])
	s.etcd.put(s.etcd.keys.Prefix()+simMoves, appendSimEpochs([]byte{1}, asked))
	s.changed()
	return true
}

// stepWithdraw takes back what was asked for: it may have happened.
func (s *sim) stepWithdraw() bool {
	if len(s.truth.asked) == 0 {
		return false
	}
	s.notef("etcd: what the node was asked for is taken back")
	s.etcd.apply(meta.Txn{Then: []meta.Op{meta.DeleteOp(s.etcd.keys.Prefix() + simMoves)}})
	s.changed()
	return true
}

// stepMove moves what the node has let go at the epoch at which it has it: to the other node, or back at the next one.
func (s *sim) stepMove() bool {
	assigned := s.assigned()
	var to []string
	for _, p := range sortedPartitions(s.truth.released) {
		if assigned[p] != s.truth.released[p] {
			continue
		}
		s.epochs[p]++
		if s.chance(20) && !s.truth.stopping {
			assigned[p] = s.epochs[p]
			to = append(to, name(p)+" back")
			continue
		}
		delete(assigned, p)
		s.elsewhere[p] = s.epochs[p]
		to = append(to, name(p)+" away")
	}
	if len(to) == 0 {
		return false
	}
	s.moves++
	s.notef("etcd: moved: %v", to)
	s.assign(assigned)
	return true
}

// stepStop says that the node stops.
func (s *sim) stepStop() bool {
	l := s.life
	if l == nil || l.ended != nil || s.truth.stopping || s.truth.alive != l.incarnation.String() || s.chance(60) {
		return false
	}
	s.notef("etcd: the node stops")
	s.etcd.put(s.etcd.keys.Prefix()+simStopping, []byte("1"))
	s.changed()
	return true
}

// stepGoOnStopping has a node that stops take nothing more, and end when it has let everything go.
func (s *sim) stepGoOnStopping() bool {
	l := s.life
	switch {
	case l == nil || l.ended != nil || !l.index.stopping:
		return false
	case !l.core.draining:
		s.notef("the node takes nothing more")
		l.core.drain(s.now)
	case l.core.handedOver():
		if s.truth.alive == l.incarnation.String() {
			for p, e := range s.assigned() {
				if s.truth.assigned.Revision <= l.index.revision && s.truth.released[p] != e {
					s.failf("%s is still led when the node stops", name(p))
				}
			}
		}
		s.stops++
		l.core.end(errors.New("it stops"))
	default:
		return false
	}
	return true
}

func (s *sim) stepGiveBack() bool {
	list := sortedPartitions(s.elsewhere)
	if len(list) == 0 || s.truth.stopping {
		return false
	}
	p := list[s.random.IntN(len(list))]
	delete(s.elsewhere, p)
	s.epochs[p]++
	assigned := s.assigned()
	assigned[p] = s.epochs[p]
	s.notef("etcd: %s comes back at epoch %d", name(p), s.epochs[p])
	s.assign(assigned)
	return true
}

// stepOtherCommits has the other node lead properly: from the newest log, at its epoch, with the producers' state.
func (s *sim) stepOtherCommits() bool {
	list := sortedPartitions(s.elsewhere)
	if len(list) == 0 {
		return false
	}
	id := list[s.random.IntN(len(list))]
	s.otherAnswers = true
	defer func() { s.otherAnswers = false }()
	topic, _ := s.truth.TopicByID(id.Topic)
	p := newPartition(id, topic, s.elsewhere[id], 0, s.truth.End(id), s.truth.Producers(id))
	var effects partitionEffects
	call := &produceCall{request: ProduceRequest{Topic: topic.Name, Partition: id.Partition}, id: id}
	for _, producer := range s.producers {
		if producer.id == id && s.chance(60) {
			call.batch, call.done = producer.next()
			break
		}
	}
	if call.batch == nil {
		call.batch, call.done = buildSim([]string{s.content("other")}, -1, 0), func(ProduceResult, error) {}
	}
	if err := p.Step(produced{call: call}, &effects); err != nil {
		panic(err)
	}
	if effects.appended {
		object, err := tier.BuildL0([]tier.L0Batch{{Topic: id.Topic, Partition: id.Partition, AppendTime: s.now.UnixMilli(), Batch: call.batch}})
		if err != nil {
			panic(err)
		}
		s.otherSeq++
		object1 := meta.L0ObjectName(simOther, 1, s.otherSeq, 0)
		if err := s.store.Put(context.Background(), object1, object.Body); err != nil {
			panic(err)
		}
		r := &meta.L0Record{
			Object: object1, Size: object.Size, IndexOffset: object.IndexOffset, IndexLength: int32(len(object.IndexBytes)),
			IndexCRC: object.IndexCRC, Inline: true, Index: object.Index,
		}
		s.notef("etcd: the other node commits %s offset %d", name(id), call.batch.BaseOffset())
		s.etcd.put(s.etcd.keys.L0(simOther, 1, s.otherSeq), r.Encode())
		s.changed()
		effects.answers = nil
		if err := p.Step(committedTo{end: p.end}, &effects); err != nil {
			panic(err)
		}
		s.hwm[id] = max(s.hwm[id], p.hwm)
	}
	for _, a := range effects.answers {
		a.deliver()
	}
	return true
}

// stepDeleteTopic deletes the third topic: it goes from every assignment with it.
func (s *sim) stepDeleteTopic() bool {
	t := s.topics[2]
	if _, ok := s.truth.TopicByID(t.ID); !ok || s.chance(80) {
		return false
	}
	assigned := s.assigned()
	id := meta.Partition{Topic: t.ID}
	delete(assigned, id)
	delete(s.elsewhere, id)
	s.notef("etcd: topic %s is deleted", t.Name)
	revision := s.etcd.revision + 1
	s.assignments[revision] = meta.Assignment{Node: simNode, Disk: simDisk, Epochs: assigned, Revision: revision}
	s.etcd.apply(meta.Txn{Then: []meta.Op{
		meta.DeleteOp(s.topicKey(t)), meta.PutOp(s.etcd.keys.Assign(simNode), encodeSimAssignment(simDisk, assigned)),
	}})
	s.changed()
	delete(s.committed, id)
	delete(s.acked, id)
	delete(s.observed, id)
	delete(s.hwm, id)
	return true
}

// stepAlterTopic changes the durability of the second topic.
func (s *sim) stepAlterTopic() bool {
	t := &s.topics[1]
	if s.chance(50) {
		return false
	}
	if t.Config.Durability == meta.DurabilityDisk {
		t.Config.Durability = meta.DurabilityObject
	} else {
		t.Config.Durability = meta.DurabilityDisk
	}
	s.notef("etcd: topic %s has durability %s", t.Name, t.Config.Durability)
	s.etcd.put(s.topicKey(*t), encodeSimTopic(*t))
	s.changed()
	return true
}

// ---- consumers

func (s *sim) stepFetch() bool {
	l := s.life
	if l == nil {
		return false
	}
	p := s.producers[s.random.IntN(len(s.producers))].id
	m := l.core.partitions[p]
	if _, ok := l.index.TopicByID(p.Topic); m == nil || !ok {
		return false
	}
	offset := m.start + s.random.Int64N(m.hwm-m.start+1)
	call := &fetchCall{
		partitions: []fetchTarget{{id: p, offset: offset}}, maxBytes: 1 + s.random.IntN(2000), minBytes: 1,
		deadline: s.now, reply: make(chan fetchPlan, 1),
	}
	l.core.fetchAsked(call, s.now)
	plan := <-call.reply
	if plan.err != nil {
		s.failf("fetch %s from %d: %v", name(p), offset, plan.err)
	}
	got := plan.partitions[0]
	if got.hwm != m.hwm || len(got.tail) == 0 && !got.fromTier && offset < m.hwm {
		s.failf("fetch %s from %d below %d gives nothing", name(p), offset, m.hwm)
	}
	s.reads++
	if got.fromTier {
		b, ok := l.index.lookup(p, offset)
		if !ok {
			s.failf("%s offset %d is neither in the tail nor in the index at %d", name(p), offset, l.index.revision)
		}
		for i, content := range s.contentOf(b) {
			s.claim(s.observed, "read", p, b.BaseOffset+int64(i), content)
		}
		return true
	}
	for _, b := range got.tail {
		bytes := record.Batch(b.bytes)
		if bytes == nil {
			f, ok := s.disk.read(b.at)
			if !ok || f.id != p || f.epoch != b.epoch || f.batch.BaseOffset() != b.base {
				s.failf("the log does not have %s offset %d at %d", name(p), b.base, b.at)
			}
			bytes = f.batch
		}
		if b.next > m.hwm {
			s.failf("%s gives offset %d above the high watermark %d", name(p), b.next-1, m.hwm)
		}
		for i, content := range contentsOf(bytes) {
			s.claim(s.observed, "read", p, b.base+int64(i), content)
		}
	}
	return true
}

// durableOnDisk tells whether the log has a batch at an offset, synced.
func (s *sim) durableOnDisk(p meta.Partition, base int64) bool {
	return slices.ContainsFunc(s.disk.frames, func(f simFrame) bool {
		return f.id == p && f.batch.BaseOffset() == base && f.epoch == s.epochs[p] && f.end() <= s.disk.synced
	})
}

func (s *sim) content(who string) string {
	s.contents++
	return fmt.Sprintf("%s-%d", who, s.contents)
}
