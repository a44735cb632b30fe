package ingest

import (
	"fmt"
	"sort"
	"time"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/proof/mutant"
	"github.com/tidemark-io/tidemark/record"
)

// partition is the step machine of one partition that this incarnation leads: it gives offsets, keeps the high watermark,
// and says who may be answered. It does no I/O, holds no clock and starts no goroutine; the node's loop is its only caller.
//
// Offsets, with what each says about the batches below it:
//
//	start <= committed <= end           committed: in the object store and in etcd
//	start <= synced <= written <= end   written: in the log file; synced: on the disk
//	hwm = max over time of (committed, and on disk topics synced)   hwm <= end
//
// A batch that was given an offset is never taken out alone: the whole uncommitted suffix goes with leadership, by the
// event leadershipLost, and nothing else removes it.
type partition struct {
	id         meta.Partition
	topic      string
	epoch      meta.Epoch
	durability meta.Durability
	// messageBytes caps a batch.
	messageBytes int

	start, committed, synced, written, end, hwm int64
	// replayedTo is the end of what this incarnation took back from the log on disk. Below it may lie records that an earlier one
	// acknowledged on disk, also when the topic is an object topic by now and the high watermark has not come back to them yet.
	replayedTo int64
	// going: the partition is to be let go and takes nothing more.
	going bool

	producers map[int64]*producer
	// forgetAt is above how many producers some are forgotten.
	forgetAt int

	// Callers that wait, by ascending next offset: for the log (acks=1), and for the high watermark (acks=all).
	leaderWaiters []waiter
	allWaiters    []waiter
	retries       int // of allWaiters, those that wait with a first attempt
}

// maxRetries is how many retries may wait with the first attempts of a partition. Their callers may be gone; what they repeat is counted once.
const maxRetries = 10_000

// maxUnflushedOffsets is how many offsets of a partition may be given and not committed. When a disk is given up, its log goes on as
// far above the committed end, and so above every offset that anybody can have been told.
const maxUnflushedOffsets = meta.LostGap

// waiter is a produce that has its offsets and waits for its answer.
type waiter struct {
	call       *produceCall
	base, next int64
	duplicate  bool
}

// partitionEvent is what can happen to a partition.
type partitionEvent interface{ isPartitionEvent() }

type (
	// produced: a validated batch wants to be appended.
	produced struct{ call *produceCall }
	// replayed: a batch that recovery found in the log, at this epoch; it has its offsets already and is durable on disk.
	replayed struct{ batch record.Batch }
	// logWritten: batches below end are in the log file.
	logWritten struct{ end int64 }
	// logSynced: batches below end are on the disk.
	logSynced struct{ end int64 }
	// committedTo: batches below end are committed.
	committedTo struct{ end int64 }
	// configured: the topic's settings, at first and after each change.
	configured struct {
		durability   meta.Durability
		messageBytes int
	}
	// leaves: the partition is to be let go, or no more.
	leaves struct{ going bool }
	// leadershipLost: the node leads the partition no more; everyone who waits is told cause.
	leadershipLost struct{ cause *Error }
)

func (produced) isPartitionEvent()       {}
func (replayed) isPartitionEvent()       {}
func (logWritten) isPartitionEvent()     {}
func (logSynced) isPartitionEvent()      {}
func (committedTo) isPartitionEvent()    {}
func (configured) isPartitionEvent()     {}
func (leaves) isPartitionEvent()         {}
func (leadershipLost) isPartitionEvent() {}

// partitionEffects is what the node must do after a step. Reused between steps: reset it first.
type partitionEffects struct {
	// appended: the batch of the event has its offsets and goes to the log and the tail.
	appended bool
	// advanced: the high watermark went up.
	advanced bool
	answers  []answer
}

func (e *partitionEffects) reset() {
	e.appended, e.advanced = false, false
	clear(e.answers)
	e.answers = e.answers[:0]
}

// newPartition makes the machine of a partition whose committed log ends at end. committed is the producers' state as of end.
func newPartition(id meta.Partition, topic meta.Topic, epoch meta.Epoch, start, end int64, committed []meta.L0Producer) *partition {
	return &partition{
		id: id, topic: topic.Name, epoch: epoch,
		durability: topic.Config.Durability, messageBytes: topic.Config.MaxMessageBytes,
		start: start, committed: end, synced: end, written: end, end: end, hwm: end,
		producers: restoreProducers(committed), forgetAt: producersKept + producersSlack,
	}
}

// Step applies one event and adds what must be done to out. An error is returned only for replayed batches that do not fit
// the log; the partition must then not be led.
func (p *partition) Step(event partitionEvent, out *partitionEffects) error {
	switch e := event.(type) {
	case produced:
		p.produce(e.call, out)
	case replayed:
		return p.replay(e.batch, out)
	case logWritten:
		p.written = max(p.written, e.end)
		p.answerLeaderWaiters(out)
	case logSynced:
		p.synced = max(p.synced, e.end)
		p.written = max(p.written, p.synced)
		p.answerLeaderWaiters(out)
		p.advance(out)
	case committedTo:
		if e.end > p.end {
			panic(fmt.Sprintf("partition %s/%d committed to %d beyond its end %d", p.topic, p.id.Partition, e.end, p.end))
		}
		p.committed = max(p.committed, e.end)
		p.advance(out)
		p.answerLeaderWaiters(out)
	case configured:
		p.durability, p.messageBytes = e.durability, e.messageBytes
		p.answerLeaderWaiters(out)
		p.advance(out)
	case leaves:
		p.going = e.going
	case leadershipLost:
		p.lose(e.cause, out)
	default:
		panic(fmt.Sprintf("partition: unknown event %T", event))
	}
	return nil
}

func (p *partition) produce(call *produceCall, out *partitionEffects) {
	b := call.batch
	refuse := func(err *Error) { out.answers = append(out.answers, answer{call: call, err: err}) }
	if len(b) > p.messageBytes {
		refuse(Errorf(ReasonTooLarge, "batch of %d bytes is larger than max.message.bytes of topic %s, %d: send smaller batches, or raise it with topic alter",
			len(b), p.topic, p.messageBytes))
		return
	}
	if b.ProducerID() >= 0 {
		if call.request.Acks != AcksAll {
			refuse(Errorf(ReasonInvalidRequest, "a producer id needs acks=all, not acks=%s: with less, a lost batch leaves a gap in its sequence", call.request.Acks))
			return
		}
		verdict, first, err := checkSequence(p.producers[b.ProducerID()], b)
		switch {
		case err != nil && p.going: // the one before it may have been refused just for that, and it comes again with this one
			refuse(movingAway(p.topic, p.id.Partition))
			return
		case err != nil:
			refuse(err)
			return
		case verdict == sequenceDuplicate:
			if p.retries >= maxRetries && first.next > p.hwm {
				refuse(Errorf(ReasonOutcomeUnknown, "this batch of topic %s partition %d is in the log and waits to be acknowledged, and so many retries wait with it that this one cannot",
					p.topic, p.id.Partition).WithRetryAfter(time.Second))
				return
			}
			p.wait(waiter{call: call, base: first.base, next: first.next, duplicate: true}, out)
			return
		}
	}
	if p.going {
		refuse(movingAway(p.topic, p.id.Partition))
		return
	}
	if p.end+int64(b.Count())-p.committed > maxUnflushedOffsets {
		refuse(backPressure("the partition has as many offsets as may wait for the object store"))
		return
	}
	base := p.end
	b.Stamp(base, p.epoch)
	p.end = base + int64(b.Count())
	p.noteProducer(b)
	out.appended = true
	w := waiter{call: call, base: base, next: p.end}
	switch call.request.Acks {
	case AcksNone:
		out.answers = append(out.answers, answer{call: call, result: ProduceResult{
			Topic: p.topic, Partition: p.id.Partition, BaseOffset: -1, NextOffset: -1, Records: b.Count(), Reached: ReachedNone,
		}})
	case AcksLeader:
		p.leaderWaiters = append(p.leaderWaiters, w)
	case AcksAll:
		p.allWaiters = append(p.allWaiters, w)
	}
}

// wait answers a retry as its first attempt was answered: at once when the high watermark has passed it, else with it.
func (p *partition) wait(w waiter, out *partitionEffects) {
	if w.next <= p.hwm || mutant.On(mutant.A8) {
		out.answers = append(out.answers, p.answer(w))
		return
	}
	at := sort.Search(len(p.allWaiters), func(i int) bool { return p.allWaiters[i].next > w.next })
	p.allWaiters = append(p.allWaiters, waiter{})
	copy(p.allWaiters[at+1:], p.allWaiters[at:])
	p.allWaiters[at] = w
	p.retries++
}

func (p *partition) noteProducer(b record.Batch) {
	id := b.ProducerID()
	if id < 0 {
		return
	}
	known := p.producers[id]
	if known == nil {
		known = &producer{epoch: b.ProducerEpoch()}
		p.producers[id] = known
	}
	known.remember(b.ProducerEpoch(), sequenceRange{first: b.BaseSequence(), last: b.LastSequence(), base: b.BaseOffset(), next: b.NextOffset()})
	if len(p.producers) > p.forgetAt {
		p.forgetProducers()
	}
}

// replay takes back a batch of an earlier incarnation that led at the same epoch. What is committed already is skipped.
func (p *partition) replay(b record.Batch, out *partitionEffects) error {
	switch {
	case b.NextOffset() <= p.committed && p.end == p.committed:
		return nil
	case b.BaseOffset() != p.end:
		return fmt.Errorf("topic %s partition %d: the log on disk goes on at offset %d, but the partition ends at %d: the data directory does not belong to this log",
			p.topic, p.id.Partition, b.BaseOffset(), p.end)
	}
	p.end = b.NextOffset()
	p.written, p.synced, p.replayedTo = p.end, p.end, p.end
	p.noteProducer(b)
	out.appended = true
	p.advance(out)
	return nil
}

// advance raises the high watermark to what the topic's durability asks for, and answers who waited for it. It never lowers
// it, also when durability is changed from disk to object.
func (p *partition) advance(out *partitionEffects) {
	mark := p.committed
	if p.durability == meta.DurabilityDisk {
		mark = max(mark, p.synced)
	}
	if mark <= p.hwm {
		return
	}
	p.hwm = mark
	out.advanced = true
	if p.forgetAt = producersKept + producersSlack; len(p.producers) > p.forgetAt {
		p.forgetProducers()
	}
	n := 0
	for n < len(p.allWaiters) && p.allWaiters[n].next <= p.hwm {
		out.answers = append(out.answers, p.answer(p.allWaiters[n]))
		if p.allWaiters[n].duplicate {
			p.retries--
		}
		n++
	}
	p.allWaiters = dropFront(p.allWaiters, n)
}

func (p *partition) answerLeaderWaiters(out *partitionEffects) {
	mark := p.written
	if p.durability == meta.DurabilityDisk {
		mark = p.synced
	}
	n := 0
	for n < len(p.leaderWaiters) && p.leaderWaiters[n].next <= max(mark, p.hwm) {
		out.answers = append(out.answers, p.answer(p.leaderWaiters[n]))
		n++
	}
	p.leaderWaiters = dropFront(p.leaderWaiters, n)
}

func (p *partition) answer(w waiter) answer {
	reached := ReachedBuffered
	switch {
	case w.next <= p.committed:
		reached = ReachedObject
	case w.next <= p.synced:
		reached = ReachedDisk
	}
	return answer{call: w.call, result: ProduceResult{
		Topic: p.topic, Partition: p.id.Partition, BaseOffset: w.base, NextOffset: w.next,
		Records: int32(w.next - w.base), Reached: reached, Duplicate: w.duplicate,
	}}
}

func (p *partition) lose(cause *Error, out *partitionEffects) {
	for _, list := range [][]waiter{p.leaderWaiters, p.allWaiters} {
		for _, w := range list {
			out.answers = append(out.answers, answer{call: w.call, err: cause})
		}
	}
	p.leaderWaiters, p.allWaiters, p.retries = nil, nil, 0
}

// dropFront removes the first n waiters, keeping the array for the next ones.
func dropFront(list []waiter, n int) []waiter {
	if n == 0 {
		return list
	}
	kept := copy(list, list[n:])
	clear(list[kept:])
	return list[:kept]
}
