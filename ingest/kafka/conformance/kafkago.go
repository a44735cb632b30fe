package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// kafkaGo is segmentio/kafka-go.
type kafkaGo struct{ broker string }

func openKafkaGo(broker string) (client, error) { return &kafkaGo{broker: broker}, nil }

func (k *kafkaGo) admin() *kafka.Client {
	return &kafka.Client{Addr: kafka.TCP(k.broker), Timeout: 20 * time.Second, Transport: new(kafka.Transport)}
}

func (k *kafkaGo) createTopic(ctx context.Context, topic string, partitions int) error {
	a, err := k.admin().CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}}})
	if err != nil {
		return err
	}
	return a.Errors[topic]
}

func (k *kafkaGo) deleteTopic(ctx context.Context, topic string) error {
	a, err := k.admin().DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	if err != nil {
		return err
	}
	return a.Errors[topic]
}

func (k *kafkaGo) produce(ctx context.Context, topic string, how producing, records []record) error {
	var mu sync.Mutex
	w := &kafka.Writer{
		Addr: kafka.TCP(k.broker), Topic: topic, BatchTimeout: 5 * time.Millisecond, Transport: new(kafka.Transport),
		RequiredAcks: map[string]kafka.RequiredAcks{"all": kafka.RequireAll, "1": kafka.RequireOne, "0": kafka.RequireNone}[how.Acks],
		Compression:  map[string]kafka.Compression{"gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd}[how.Codec],
		Balancer: kafka.BalancerFunc(func(m kafka.Message, _ ...int) int {
			return int(records[m.WriterData.(int)].Partition)
		}),
		Completion: func(messages []kafka.Message, err error) {
			mu.Lock()
			defer mu.Unlock()
			for _, m := range messages {
				if err == nil {
					r := &records[m.WriterData.(int)]
					r.Partition, r.Offset = int32(m.Partition), m.Offset
				}
			}
		},
	}
	if how.ByKey {
		w.Balancer = kafka.Murmur2Balancer{}
	}
	sent := make([]kafka.Message, len(records))
	for i, r := range records {
		sent[i] = kafka.Message{Key: r.Key, Value: r.Value, Time: millis(r.Timestamp), WriterData: i}
		for _, h := range r.Headers {
			sent[i].Headers = append(sent[i].Headers, kafka.Header{Key: h.Key, Value: h.Value})
		}
	}
	err := w.WriteMessages(ctx, sent...)
	err = errors.Join(err, w.Close())
	mu.Lock()
	defer mu.Unlock()
	return err
}

func fromKafkaGo(m kafka.Message) record {
	out := record{Partition: int32(m.Partition), Offset: m.Offset, Timestamp: m.Time.UnixMilli(), Key: m.Key, Value: m.Value}
	for _, h := range m.Headers {
		out.Headers = append(out.Headers, header{Key: h.Key, Value: h.Value})
	}
	return out
}

func (k *kafkaGo) reader(topic string, partition int32) *kafka.Reader {
	return kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{k.broker}, Topic: topic, Partition: int(partition), MaxWait: 500 * time.Millisecond, MinBytes: 1, MaxBytes: 10 << 20,
		ReadBatchTimeout: 5 * time.Second, Dialer: &kafka.Dialer{Timeout: 10 * time.Second, Resolver: net.DefaultResolver},
	})
}

func (k *kafkaGo) consume(ctx context.Context, topic string, partitions, n int) ([]record, error) {
	came := make(chan record)
	failed := make(chan error, partitions)
	reading, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer stop()
	for p := range int32(partitions) {
		work.Go(func() {
			r := k.reader(topic, p)
			defer func() { _ = r.Close() }() // all was read
			if err := r.SetOffset(kafka.FirstOffset); err != nil {
				failed <- err
				return
			}
			for {
				m, err := r.ReadMessage(reading)
				if err != nil {
					if reading.Err() == nil {
						failed <- err
					}
					return
				}
				select {
				case came <- fromKafkaGo(m):
				case <-reading.Done():
					return
				}
			}
		})
	}
	var out []record
	for len(out) < n {
		select {
		case r := <-came:
			out = append(out, r)
		case err := <-failed:
			return nil, err
		case <-ctx.Done():
			return nil, errUnfinished(len(out), n, ctx.Err())
		}
	}
	return out, nil
}

func (k *kafkaGo) seek(ctx context.Context, topic string, partition int32, ms int64) (record, error) {
	r := k.reader(topic, partition)
	defer func() { _ = r.Close() }() // all was read
	if err := r.SetOffsetAt(ctx, millis(ms)); err != nil {
		return record{}, fmt.Errorf("set the offset: %w", err)
	}
	m, err := r.ReadMessage(ctx)
	return fromKafkaGo(m), err
}

type kafkaGoMember struct {
	reader *kafka.Reader
	last   []kafka.Message
}

func (k *kafkaGo) join(_ context.Context, group, topic string) (member, error) {
	return &kafkaGoMember{reader: kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{k.broker}, GroupID: group, Topic: topic, MaxWait: 300 * time.Millisecond, MinBytes: 1, MaxBytes: 10 << 20,
		HeartbeatInterval: heartbeat, SessionTimeout: session, RebalanceTimeout: session, JoinGroupBackoff: 300 * time.Millisecond,
		StartOffset: kafka.FirstOffset, ReadBatchTimeout: 5 * time.Second,
	})}, nil
}

func (m *kafkaGoMember) poll(ctx context.Context, patience time.Duration) ([]record, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var out []record
	for {
		got, err := m.reader.FetchMessage(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		m.last = append(m.last, got)
		out = append(out, fromKafkaGo(got))
	}
}

func (m *kafkaGoMember) commit(ctx context.Context) error {
	err := m.reader.CommitMessages(ctx, m.last...)
	m.last = nil
	return err
}

func (m *kafkaGoMember) leave() error { return m.reader.Close() }
func (k *kafkaGo) close() error       { return nil }
