package conformance

import (
	"context"
	"errors"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// librd is librdkafka, which confluent-kafka-go brings with it, and which clients of many languages stand on.
type librd struct {
	broker string
	// protocol is that of groups: classic or consumer, which is KIP-848's.
	protocol string
	admin    *kafka.AdminClient
}

func openLibrd(protocol string) func(string) (client, error) {
	return func(broker string) (client, error) {
		admin, err := kafka.NewAdminClient(&kafka.ConfigMap{"bootstrap.servers": broker})
		if err != nil {
			return nil, err
		}
		return &librd{broker: broker, protocol: protocol, admin: admin}, nil
	}
}

func firstError(results []kafka.TopicResult, err error) error {
	for _, r := range results {
		if r.Error.Code() != kafka.ErrNoError {
			err = errors.Join(err, r.Error)
		}
	}
	return err
}

func (l *librd) createTopic(ctx context.Context, topic string, partitions int) error {
	return firstError(l.admin.CreateTopics(ctx, []kafka.TopicSpecification{{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}}))
}

func (l *librd) deleteTopic(ctx context.Context, topic string) error {
	return firstError(l.admin.DeleteTopics(ctx, []string{topic}))
}

func (l *librd) produce(ctx context.Context, topic string, how producing, records []record) error {
	p, err := kafka.NewProducer(&kafka.ConfigMap{
		"bootstrap.servers": l.broker, "acks": how.Acks, "enable.idempotence": how.Idempotent, "compression.codec": how.Codec,
		"partitioner": "murmur2_random", "linger.ms": 5, "go.logs.channel.enable": false,
	})
	if err != nil {
		return err
	}
	defer p.Close()
	reports := make(chan kafka.Event, len(records))
	for i, r := range records {
		at := kafka.TopicPartition{Topic: &topic, Partition: r.Partition}
		if how.ByKey {
			at.Partition = kafka.PartitionAny
		}
		m := &kafka.Message{TopicPartition: at, Key: r.Key, Value: r.Value, Timestamp: millis(r.Timestamp), Opaque: i}
		for _, h := range r.Headers {
			m.Headers = append(m.Headers, kafka.Header{Key: h.Key, Value: h.Value})
		}
		if err := p.Produce(m, reports); err != nil {
			return err
		}
	}
	for n := range records {
		select {
		case e := <-reports:
			m, ok := e.(*kafka.Message)
			if !ok {
				return errors.New(e.String())
			}
			if m.TopicPartition.Error != nil {
				return m.TopicPartition.Error
			}
			r := &records[m.Opaque.(int)]
			r.Partition, r.Offset = m.TopicPartition.Partition, int64(m.TopicPartition.Offset)
		case <-ctx.Done():
			return errUnfinished(n, len(records), ctx.Err())
		}
	}
	return nil
}

func fromLibrd(m *kafka.Message) record {
	out := record{
		Partition: m.TopicPartition.Partition, Offset: int64(m.TopicPartition.Offset), Timestamp: m.Timestamp.UnixMilli(), Key: m.Key, Value: m.Value,
	}
	for _, h := range m.Headers {
		out.Headers = append(out.Headers, header{Key: h.Key, Value: h.Value})
	}
	return out
}

func (l *librd) consumer(group string) (*kafka.Consumer, error) {
	config := kafka.ConfigMap{
		"bootstrap.servers": l.broker, "group.id": group, "group.protocol": l.protocol, "auto.offset.reset": "earliest", "enable.auto.commit": false, "fetch.wait.max.ms": 500,
	}
	if l.protocol == "classic" { // in the other one the coordinator says
		config["session.timeout.ms"], config["heartbeat.interval.ms"] = int(session.Milliseconds()), int(heartbeat.Milliseconds())
	}
	return kafka.NewConsumer(&config)
}

// read reads n records of partitions from offsets on.
func (l *librd) read(ctx context.Context, from []kafka.TopicPartition, n int) (out []record, err error) {
	c, err := l.consumer("conformance-librdkafka-assigned")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.Assign(from); err != nil {
		return nil, err
	}
	for len(out) < n && ctx.Err() == nil {
		switch e := c.Poll(100).(type) {
		case *kafka.Message:
			out = append(out, fromLibrd(e))
		case kafka.Error:
			return nil, e
		}
	}
	if ctx.Err() != nil {
		return nil, errUnfinished(len(out), n, ctx.Err())
	}
	return out, nil
}

func (l *librd) consume(ctx context.Context, topic string, partitions, n int) ([]record, error) {
	var from []kafka.TopicPartition
	for p := range int32(partitions) {
		from = append(from, kafka.TopicPartition{Topic: &topic, Partition: p, Offset: kafka.OffsetBeginning})
	}
	return l.read(ctx, from, n)
}

func (l *librd) seek(ctx context.Context, topic string, partition int32, ms int64) (record, error) {
	c, err := l.consumer("conformance-librdkafka-times")
	if err != nil {
		return record{}, err
	}
	found, err := c.OffsetsForTimes([]kafka.TopicPartition{{Topic: &topic, Partition: partition, Offset: kafka.Offset(ms)}}, 10_000)
	if err = errors.Join(err, c.Close()); err != nil {
		return record{}, err
	}
	if found[0].Error != nil {
		return record{}, found[0].Error
	}
	got, err := l.read(ctx, found, 1)
	if err != nil {
		return record{}, err
	}
	return got[0], nil
}

type librdMember struct {
	consumer *kafka.Consumer
	last     map[int32]kafka.TopicPartition
}

func (l *librd) join(_ context.Context, group, topic string) (member, error) {
	c, err := l.consumer(group)
	if err != nil {
		return nil, err
	}
	if err := c.SubscribeTopics([]string{topic}, nil); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &librdMember{consumer: c, last: map[int32]kafka.TopicPartition{}}, nil
}

func (m *librdMember) poll(ctx context.Context, patience time.Duration) (out []record, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for ctx.Err() == nil {
		switch e := m.consumer.Poll(50).(type) {
		case *kafka.Message:
			out = append(out, fromLibrd(e))
			next := e.TopicPartition
			next.Offset++
			m.last[next.Partition] = next
		case kafka.Error:
			if e.IsFatal() {
				return out, e
			}
		}
	}
	return out, nil
}

func (m *librdMember) commit(context.Context) error {
	if len(m.last) == 0 {
		return nil
	}
	var offsets []kafka.TopicPartition
	for _, o := range m.last {
		offsets = append(offsets, o)
	}
	clear(m.last)
	_, err := m.consumer.CommitOffsets(offsets)
	return err
}

func (m *librdMember) leave() error { return m.consumer.Close() }

func (l *librd) close() error {
	l.admin.Close()
	return nil
}
