package conformance

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// saramaClient is IBM/sarama.
type saramaClient struct {
	broker string
	admin  sarama.ClusterAdmin
}

func saramaConfig() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.ClientID = "conformance"
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.Group.Heartbeat.Interval = heartbeat
	c.Consumer.Group.Session.Timeout = session
	c.Consumer.Group.Rebalance.Timeout = session
	c.Consumer.MaxWaitTime = time.Second
	c.Consumer.Return.Errors = false
	c.Producer.Return.Successes = true
	return c
}

func openSarama(broker string) (client, error) {
	admin, err := sarama.NewClusterAdmin([]string{broker}, saramaConfig())
	if err != nil {
		return nil, err
	}
	return &saramaClient{broker: broker, admin: admin}, nil
}

func (s *saramaClient) createTopic(_ context.Context, topic string, partitions int) error {
	return s.admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: int32(partitions), ReplicationFactor: 1}, false)
}

func (s *saramaClient) deleteTopic(_ context.Context, topic string) error {
	return s.admin.DeleteTopic(topic)
}

func (s *saramaClient) produce(_ context.Context, topic string, how producing, records []record) error {
	c := saramaConfig()
	c.Producer.RequiredAcks = map[string]sarama.RequiredAcks{"all": sarama.WaitForAll, "1": sarama.WaitForLocal, "0": sarama.NoResponse}[how.Acks]
	c.Producer.Compression = map[string]sarama.CompressionCodec{
		"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
	}[how.Codec]
	c.Producer.Partitioner = sarama.NewManualPartitioner
	if how.ByKey {
		c.Producer.Partitioner = sarama.NewMurmur2Partitioner
	}
	if how.Idempotent {
		c.Producer.Idempotent, c.Net.MaxOpenRequests = true, 1
	}
	producer, err := sarama.NewSyncProducer([]string{s.broker}, c)
	if err != nil {
		return err
	}
	sent := make([]*sarama.ProducerMessage, len(records))
	for i, r := range records {
		m := &sarama.ProducerMessage{Topic: topic, Partition: r.Partition, Timestamp: millis(r.Timestamp)}
		if r.Key != nil {
			m.Key = sarama.ByteEncoder(r.Key)
		}
		if r.Value != nil {
			m.Value = sarama.ByteEncoder(r.Value)
		}
		for _, h := range r.Headers {
			m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
		}
		sent[i] = m
	}
	if err := producer.SendMessages(sent); err != nil {
		return errors.Join(err, producer.Close())
	}
	for i, m := range sent {
		records[i].Partition, records[i].Offset = m.Partition, m.Offset
	}
	return producer.Close()
}

func fromSarama(m *sarama.ConsumerMessage) record {
	out := record{Partition: m.Partition, Offset: m.Offset, Timestamp: m.Timestamp.UnixMilli(), Key: m.Key, Value: m.Value}
	for _, h := range m.Headers {
		out.Headers = append(out.Headers, header{Key: string(h.Key), Value: h.Value})
	}
	return out
}

// read reads n records of partitions from offsets on.
func (s *saramaClient) read(ctx context.Context, topic string, from map[int32]int64, n int) ([]record, error) {
	consumer, err := sarama.NewConsumer([]string{s.broker}, saramaConfig())
	if err != nil {
		return nil, err
	}
	defer func() { _ = consumer.Close() }() // all was read
	came := make(chan record)
	reading, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer stop()
	for partition, offset := range from {
		part, err := consumer.ConsumePartition(topic, partition, offset)
		if err != nil {
			return nil, err
		}
		work.Go(func() {
			defer part.AsyncClose()
			for {
				select {
				case m := <-part.Messages():
					select {
					case came <- fromSarama(m):
					case <-reading.Done():
						return
					}
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
		case <-ctx.Done():
			return nil, errUnfinished(len(out), n, ctx.Err())
		}
	}
	return out, nil
}

func (s *saramaClient) consume(ctx context.Context, topic string, partitions, n int) ([]record, error) {
	from := map[int32]int64{}
	for p := range int32(partitions) {
		from[p] = sarama.OffsetOldest
	}
	return s.read(ctx, topic, from, n)
}

func (s *saramaClient) seek(ctx context.Context, topic string, partition int32, ms int64) (record, error) {
	c, err := sarama.NewClient([]string{s.broker}, saramaConfig())
	if err != nil {
		return record{}, err
	}
	offset, err := c.GetOffset(topic, partition, ms)
	if err = errors.Join(err, c.Close()); err != nil {
		return record{}, err
	}
	got, err := s.read(ctx, topic, map[int32]int64{partition: offset}, 1)
	if err != nil {
		return record{}, err
	}
	return got[0], nil
}

// saramaMember runs a group's sessions on a goroutine of its own, which hands over what comes.
type saramaMember struct {
	group sarama.ConsumerGroup
	came  chan saramaMessage
	stop  context.CancelFunc
	work  sync.WaitGroup
	last  []saramaMessage

	mu     sync.Mutex
	failed error
}

type saramaMessage struct {
	*sarama.ConsumerMessage
	session sarama.ConsumerGroupSession
}

func (s *saramaClient) join(_ context.Context, group, topic string) (member, error) {
	g, err := sarama.NewConsumerGroup([]string{s.broker}, group, saramaConfig())
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	m := &saramaMember{group: g, came: make(chan saramaMessage), stop: stop}
	m.work.Go(func() {
		for ctx.Err() == nil {
			if err := g.Consume(ctx, []string{topic}, m); err != nil && ctx.Err() == nil {
				m.mu.Lock()
				m.failed = err
				m.mu.Unlock()
				return
			}
		}
	})
	return m, nil
}

// Setup, Cleanup and ConsumeClaim are what sarama calls.
func (m *saramaMember) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (m *saramaMember) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (m *saramaMember) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case got, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			select {
			case m.came <- saramaMessage{got, session}:
			case <-session.Context().Done():
				return nil
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func (m *saramaMember) poll(ctx context.Context, patience time.Duration) ([]record, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var out []record
	for {
		select {
		case got := <-m.came:
			m.last = append(m.last, got)
			out = append(out, fromSarama(got.ConsumerMessage))
		case <-ctx.Done():
			m.mu.Lock()
			defer m.mu.Unlock()
			return out, m.failed
		}
	}
}

func (m *saramaMember) commit(context.Context) error {
	for _, got := range m.last {
		got.session.MarkMessage(got.ConsumerMessage, "")
	}
	if len(m.last) > 0 {
		m.last[len(m.last)-1].session.Commit()
	}
	m.last = nil
	return nil
}

func (m *saramaMember) leave() error {
	m.stop()
	err := m.group.Close()
	m.work.Wait()
	return err
}

func (s *saramaClient) close() error { return s.admin.Close() }
