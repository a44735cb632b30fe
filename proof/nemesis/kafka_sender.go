package nemesis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/record"
)

// kafkaProducer is an idempotent producer of Kafka's, with what it was told as results of our own client. Only one goroutine calls it.
//
// franz-go sends a batch that may be in the log again under the same producer id, epoch and sequence only: a batch that it gives up is never sent
// again. The one exception is a producer that goes on after it was told that its sequence is broken, and so it stops then
// (StopProducerOnDataLossDetected): its records are of unknown outcome, and a client with an id of its own takes its place.
type kafkaProducer struct {
	work    *Workload
	number  int
	log     *kafkaLog
	client  *kgo.Client
	stopped atomic.Bool    // the client sends nothing any more
	open    sync.WaitGroup // records without an answer
}

const (
	// kafkaBuffered is how many records a producer takes before it makes its caller wait: some seconds of them.
	kafkaBuffered = 50_000
	// kafkaLinger is how long a record waits for others.
	kafkaLinger = 5 * time.Millisecond
)

func newKafkaProducer(w *Workload, number int) (*kafkaProducer, error) {
	p := &kafkaProducer{work: w, number: number}
	var err error
	if p.log, err = w.openKafkaLog("kafka-producer-" + strconv.Itoa(number+1)); err != nil {
		return nil, err
	}
	if err := p.begin(); err != nil {
		p.log.close()
		return nil, err
	}
	return p, nil
}

func (p *kafkaProducer) begin() error {
	c, err := kgo.NewClient(append(p.work.kafkaOptions(p.number, p.log),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RecordDeliveryTimeout(p.work.config.Delivery),
		kgo.MaxBufferedRecords(kafkaBuffered),
		kgo.ProducerLinger(kafkaLinger),
		kgo.UnknownTopicRetries(-1),
		kgo.StopProducerOnDataLossDetected(),
	)...)
	if err != nil {
		return fmt.Errorf("make one of Kafka's producers: %w", err)
	}
	p.client = c
	p.stopped.Store(false)
	return nil
}

// ProduceTo may wait for room.
func (p *kafkaProducer) ProduceTo(ctx context.Context, topic string, partition int32, r record.Record, answered client.Callback) error {
	if p.stopped.Load() {
		p.client.Close()
		if err := p.begin(); err != nil {
			return err
		}
	}
	p.open.Add(1)
	p.client.Produce(ctx, &kgo.Record{Topic: topic, Partition: partition, Value: bytes.Clone(r.Value)}, func(r *kgo.Record, err error) {
		defer p.open.Done()
		if sequenceBroken(err) && !p.stopped.Swap(true) {
			p.work.Troublef("one of Kafka's producers (%d) was told that its sequence is broken in %s partition %d: %v", p.number+1, r.Topic, r.Partition, err)
		}
		result := client.Result{Topic: topic, Partition: partition, Offset: r.Offset, Err: kafkaOutcome(err)}
		if err == nil && r.Offset < 0 {
			result.Err = fmt.Errorf("%w: it is in the log, and nobody said where", client.ErrOutcomeUnknown)
		}
		answered(result)
	})
	return nil
}

// sequenceBroken tells whether an error is one after which the producer would have to go on without knowing what is in the log.
func sequenceBroken(err error) bool {
	return errors.Is(err, kerr.OutOfOrderSequenceNumber) || errors.Is(err, kerr.UnknownProducerID) ||
		errors.Is(err, kerr.InvalidProducerEpoch) || errors.Is(err, kerr.InvalidProducerIDMapping)
}

// kafkaOutcome is what an error of franz-go says about a record, as our own client says it. Those are definite that are about the record itself, so that
// every attempt was answered alike; or it was never sent. Of any other an attempt before may have gone through.
func kafkaOutcome(err error) error {
	if err == nil {
		return nil
	}
	for _, definite := range []error{
		kgo.ErrMaxBuffered, kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.UnsupportedCompressionType,
		kerr.InvalidTopicException, kerr.InvalidRequiredAcks,
	} {
		if errors.Is(err, definite) {
			return fmt.Errorf("%w: %w", client.ErrRefused, err)
		}
	}
	return fmt.Errorf("%w: %w", client.ErrOutcomeUnknown, err)
}

// Close waits for the answers as long as ctx allows; whatever has none then is of unknown outcome, and there is an error.
func (p *kafkaProducer) Close(ctx context.Context) error {
	failed := p.client.Flush(ctx)
	p.client.Close()
	p.open.Wait()
	p.log.close()
	return failed
}
