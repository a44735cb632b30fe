package ingest

import (
	"testing"

	"github.com/tidemark-io/tidemark/meta"
)

// TestProducerThatBeganAnew: what the index has of producer 1, which was forgotten, began anew at sequence 0 and goes on: its new batch must be appended, not taken for the one of its earlier life.
func TestProducerThatBeganAnew(t *testing.T) {
	at := func(offset int64, s int32) meta.L0Producer {
		return meta.L0Producer{ProducerID: 1, BaseOffset: offset, FirstSequence: s, LastSequence: s}
	}
	topic := meta.Topic{Name: "t"}
	topic.Config.MaxMessageBytes = 1 << 20
	p := newPartition(meta.Partition{}, topic, 2, 0, 20004, []meta.L0Producer{at(0, 0), at(1, 1), at(2, 2), at(20003, 0)})
	var out partitionEffects
	b := buildValues(0, 1, 1, 1)
	call := &produceCall{request: ProduceRequest{Acks: AcksAll}, batch: b}
	if err := p.Step(produced{call: call}, &out); err != nil {
		t.Fatal(err)
	}
	if !out.appended {
		t.Errorf("a new batch was not appended: %+v", out.answers)
	}
}

// TestABurstOfProducersIsForgotten: what one burst has the leader remember it forgets when all of it is committed.
func TestABurstOfProducersIsForgotten(t *testing.T) {
	s := newPartitionStory(t, meta.DurabilityObject, 0)
	for id := range int64(6 * producersKept) {
		s.produce("x", AcksAll, buildValues(0, 1, id+1, 0))
	}
	if err := s.step(committedTo{end: s.p.end}); err != nil {
		t.Fatal(err)
	}
	for id := range int64(10) {
		s.produce("x", AcksAll, buildValues(0, 1, 1_000_000+id, 0))
	}
	if err := s.step(committedTo{end: s.p.end}); err != nil {
		t.Fatal(err)
	}
	if n := len(s.p.producers); n > producersKept+producersSlack {
		t.Errorf("%d producers are remembered, nobody of whom waits", n)
	}
}
