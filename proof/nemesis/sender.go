package nemesis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/proof/history"
	"github.com/tidemark-io/tidemark/record"
)

// sender is one producer at a fixed pace. Each tick it sends a few bursts of records with consecutive ids, each burst to one
// partition. Records of a burst that were answered alike and lie one behind the other are one operation of the history.
type sender struct {
	work     *Workload
	process  int32
	producer producer
	close    func()
	targets  []target

	mu   sync.Mutex       // callbacks run one at a time, but beside what was not taken
	last map[string]int64 // offset of the last acknowledgement, by partition
}

// producer is what a sender needs of ours, and of Kafka's behind kafkaProducer.
type producer interface {
	// ProduceTo copies the record and calls answered once, unless it returns an error: then the record never left.
	ProduceTo(ctx context.Context, topic string, partition int32, r record.Record, answered client.Callback) error
	// Close returns when every record is answered.
	Close(ctx context.Context) error
}

type target struct {
	topic     string
	partition int32
	name      string
	handle    history.Partition
}

// tick is how often a sender sends.
const tick = 20 * time.Millisecond

// bursts is how many partitions get records in one tick.
const bursts = 4

func (w *Workload) newSender(i int) (*sender, error) {
	s := &sender{work: w, process: firstProducer + int32(i), last: make(map[string]int64)}
	var err error
	if s.producer, s.close, err = w.newProducer(i); err != nil {
		return nil, err
	}
	for _, topic := range w.config.Topics {
		for partition := range topic.Partitions {
			s.targets = append(s.targets, target{topic.Name, partition, w.names[topic.Name][partition], w.Partition(topic.Name, partition)})
		}
	}
	return s, nil
}

// newProducer makes the producer of sender number i, and what ends its client after it.
func (w *Workload) newProducer(i int) (p producer, closed func(), err error) {
	if w.config.Kafka {
		p, err = newKafkaProducer(w, i)
		return p, func() {}, err
	}
	c, err := w.client(i)
	if err != nil {
		return nil, nil, err
	}
	if p, err = c.NewProducer(client.ProducerConfig{DeliveryTimeout: w.config.Delivery}); err != nil {
		c.Close()
		return nil, nil, err
	}
	return p, c.Close, nil
}

func (s *sender) run(ctx context.Context) {
	defer s.close()
	began := s.work.Now()
	perTick := float64(s.work.config.Rate) / float64(s.work.config.Producers) * tick.Seconds()
	owed, next := 0.0, int(s.process)
	for n := 1; ; n++ {
		// A producer that could not send for a while does not make up for it.
		ahead := began + time.Duration(n)*tick - s.work.Now()
		if ahead < -time.Second {
			began -= ahead
		}
		if !wait(ctx, ahead) {
			break
		}
		owed += perTick
		for b := range bursts {
			records := int(owed) / (bursts - b)
			owed -= float64(records)
			s.burst(ctx, &s.targets[next%len(s.targets)], records)
			next++
		}
	}
	// Every record that was taken has an answer after this, whatever ctx says: its own time limit sees to that.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.work.config.Delivery+10*time.Second)
	defer cancel()
	if err := s.producer.Close(closing); err != nil {
		s.work.Troublef("a producer could not be closed %v after its last record: %v", s.work.config.Delivery, err)
	}
}

// operation is what is recorded of answers that belong together. It is guarded by its sender's mu.
type operation struct {
	history.Produce

	open int // records of the burst without an answer
	at   time.Duration
}

func (s *sender) burst(ctx context.Context, to *target, records int) {
	if records == 0 {
		return
	}
	first := s.work.lastID.Add(uint64(records)) - uint64(records) + 1
	now := s.work.Now()
	op := &operation{open: records, at: now}
	s.work.measure.sent(to.name, records, now)
	var value []byte
	for i := range records {
		id := first + uint64(i)
		value = appendValue(value[:0], id, s.process)
		// Without ctx: a producer that waits for room when the run ends has time to send what it began.
		err := s.producer.ProduceTo(context.WithoutCancel(ctx), to.topic, to.partition, record.Record{Value: value}, func(r client.Result) {
			s.answered(to, op, id, r)
		})
		if err != nil {
			// It never left: a failure like any other, to the history.
			s.work.count.notTaken.Add(1)
			s.answered(to, op, id, client.Result{Err: fmt.Errorf("%w: %w", client.ErrRefused, err)})
		}
		s.work.count.produced.Add(1)
	}
}

// appendValue is a record: its id, who produced it, and something to carry.
func appendValue(to []byte, id uint64, process int32) []byte {
	to = append(to, `{"id":`...)
	to = strconv.AppendUint(to, id, 10)
	to = append(to, `,"p":`...)
	to = strconv.AppendInt(to, int64(process), 10)
	return append(to, `,"note":"the quick brown fox jumps over the lazy dog"}`...)
}

// parseValue is the id of a record.
func parseValue(value []byte) (uint64, error) {
	const before = len(`{"id":`)
	end := before
	for end < len(value) && value[end] >= '0' && value[end] <= '9' {
		end++
	}
	if end == before || end >= len(value) || value[end] != ',' || string(value[:before]) != `{"id":` {
		return 0, errors.New("the value is none of ours: " + string(value[:min(len(value), 100)]))
	}
	return strconv.ParseUint(string(value[before:end]), 10, 64)
}

// answered hears of one record.
func (s *sender) answered(to *target, op *operation, id uint64, r client.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.work.Now()
	outcome := history.OK
	switch {
	case r.Err == nil:
		s.work.count.acked.Add(1)
		if last, ok := s.last[to.name]; ok && r.Offset <= last {
			s.work.Troublef("%s: producer %d was told offset %d for a record that it produced after the one at %d", to.name, s.process, r.Offset, last)
		}
		s.last[to.name] = r.Offset
		s.work.reading.acked(to.name, r.Offset, now)
	case errors.Is(r.Err, client.ErrRefused):
		s.work.count.failed.Add(1)
		s.work.noteError("produce", r.Err)
		outcome = history.Fail
	default:
		s.work.count.unknown.Add(1)
		s.work.noteError("produce", r.Err)
		outcome = history.Info
	}
	s.work.measure.answered(to.name, op.at, now, outcome == history.OK)
	joins := op.Count > 0 && outcome == op.Outcome && id == op.Value+uint64(op.Count) &&
		(outcome != history.OK || r.Offset == op.Offset+int64(op.Count))
	if !joins {
		s.keep(op)
		op.Produce = history.Produce{
			Call:      history.Call{Process: s.process, Invoke: int64(op.at)},
			Partition: to.handle, Value: id, Outcome: outcome, Offset: r.Offset,
		}
	}
	op.Count++
	op.Complete = int64(now)
	if op.open--; op.open == 0 {
		s.keep(op)
	}
}

// keep records what there is of an operation.
func (s *sender) keep(op *operation) {
	if op.Count > 0 {
		s.work.history.Produce(op.Produce)
		op.Count = 0
	}
}
