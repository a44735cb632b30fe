package ingest

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
)

// rangesKept is how many batches of a producer the leader remembers, as Kafka does: a client keeps at most five in flight,
// so an older one is never sent again.
const rangesKept = 5

// A partition remembers the producersKept producers that were the last to append, and up to producersSlack more, so that the look for those to forget is
// not taken for each new one. Which they are is seen from the log, and a new leader knows as many. One that is forgotten is like one that never was: it
// is told UNKNOWN_PRODUCER unless it begins at sequence 0. Whoever waits for the answer to its last batch is not
// forgotten by this leader; the next one knows what is committed alone.
const (
	producersKept  = meta.ProducersKept
	producersSlack = producersKept / 8
)

// forgetProducers forgets the producers that have not appended for the longest.
func (p *partition) forgetProducers() {
	newest := make([]int64, 0, len(p.producers))
	for _, known := range p.producers {
		newest = append(newest, known.last().base)
	}
	slices.Sort(newest)
	oldest := newest[len(newest)-producersKept] // no two have the same
	maps.DeleteFunc(p.producers, func(_ int64, known *producer) bool {
		last := known.last()
		return last.base < oldest && last.next <= p.hwm
	})
	p.forgetAt = max(producersKept, len(p.producers)) + producersSlack
}

// sequenceRange is one batch of an idempotent producer.
type sequenceRange struct {
	first, last int32
	base, next  int64 // offsets: base <= offset < next
}

// producer is what a leader knows of one producer id on one partition.
//
// ranges[:count] are its newest batches, oldest first; their sequences and offsets ascend.
type producer struct {
	epoch  int16
	count  int8
	ranges [rangesKept]sequenceRange
}

// sequenceVerdict is what the producer's state says about a batch.
type sequenceVerdict uint8

const (
	sequenceNext      sequenceVerdict = iota // follows the last one: append it
	sequenceDuplicate                        // one of the last five: answer as the first time
)

// checkSequence decides about a batch of a producer whose state is p (nil when unknown). Pure.
func checkSequence(p *producer, b record.Batch) (sequenceVerdict, sequenceRange, *Error) {
	id, epoch, first := b.ProducerID(), b.ProducerEpoch(), b.BaseSequence()
	if p == nil {
		if first != 0 {
			return 0, sequenceRange{}, Errorf(ReasonUnknownProducer, "producer %d is not known on this partition, but its batch has sequence %d, not 0: "+
				"take a new producer id and begin at 0", id, first)
		}
		return sequenceNext, sequenceRange{}, nil
	}
	switch {
	case epoch < p.epoch:
		return 0, sequenceRange{}, Errorf(ReasonFencedProducer, "producer %d with epoch %d is fenced: epoch %d has written", id, epoch, p.epoch)
	case epoch > p.epoch:
		if first != 0 {
			return 0, sequenceRange{}, Errorf(ReasonOutOfOrderSequence, "producer %d begins epoch %d with sequence %d, not 0", id, epoch, first)
		}
		return sequenceNext, sequenceRange{}, nil
	}
	for _, r := range p.ranges[:p.count] {
		if r.first == first && r.last == b.LastSequence() {
			return sequenceDuplicate, r, nil
		}
	}
	last := p.last().last
	if first != nextSequence(last) {
		return 0, sequenceRange{}, &Error{
			Reason:  ReasonOutOfOrderSequence,
			Message: fmt.Sprintf("producer %d sent sequence %d after %d; expected %d", id, first, last, nextSequence(last)),
			Metadata: map[string]string{
				"expected_sequence": fmt.Sprint(nextSequence(last)),
			},
		}
	}
	return sequenceNext, sequenceRange{}, nil
}

// nextSequence is the sequence after s; sequences wrap from 2^31-1 to 0.
func nextSequence(s int32) int32 {
	if s == math.MaxInt32 {
		return 0
	}
	return s + 1
}

// last is the newest batch.
func (p *producer) last() sequenceRange { return p.ranges[p.count-1] }

// remember notes a batch that was given offsets.
func (p *producer) remember(epoch int16, r sequenceRange) {
	if epoch != p.epoch || p.count > 0 && r.first != nextSequence(p.last().last) { // a new epoch, or it was forgotten and began anew
		*p = producer{epoch: epoch}
	}
	if p.count == rangesKept {
		copy(p.ranges[:], p.ranges[1:])
		p.count--
	}
	p.ranges[p.count] = r
	p.count++
}

// restoreProducers builds the state from what commits carried, ordered by offset within each producer.
func restoreProducers(committed []meta.L0Producer) map[int64]*producer {
	known := make(map[int64]*producer)
	for _, c := range committed {
		p := known[c.ProducerID]
		if p == nil {
			p = &producer{epoch: c.Epoch}
			known[c.ProducerID] = p
		}
		records := int64(c.LastSequence) - int64(c.FirstSequence) + 1
		if records <= 0 { // wrapped
			records += int64(math.MaxInt32) + 1
		}
		p.remember(c.Epoch, sequenceRange{first: c.FirstSequence, last: c.LastSequence, base: c.BaseOffset, next: c.BaseOffset + records})
	}
	return known
}
