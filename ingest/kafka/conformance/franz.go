package conformance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// franz is franz-go.
type franz struct {
	broker string
	admin  *kgo.Client
}

func openFranz(broker string) (client, error) {
	admin, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		return nil, err
	}
	return &franz{broker: broker, admin: admin}, nil
}

func (f *franz) createTopic(ctx context.Context, topic string, partitions int) error {
	q := kmsg.NewPtrCreateTopicsRequest()
	q.TimeoutMillis = 10_000
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, int32(partitions), -1
	q.Topics = append(q.Topics, t)
	a, err := q.RequestWith(ctx, f.admin)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(a.Topics[0].ErrorCode)
}

func (f *franz) deleteTopic(ctx context.Context, topic string) error {
	q := kmsg.NewPtrDeleteTopicsRequest()
	q.TimeoutMillis = 10_000
	q.TopicNames = []string{topic}
	t := kmsg.NewDeleteTopicsRequestTopic()
	t.Topic = &topic
	q.Topics = append(q.Topics, t)
	a, err := q.RequestWith(ctx, f.admin)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(a.Topics[0].ErrorCode)
}

func (f *franz) produce(ctx context.Context, topic string, how producing, records []record) error {
	acks := map[string]kgo.Acks{"all": kgo.AllISRAcks(), "1": kgo.LeaderAck(), "0": kgo.NoAck()}[how.Acks]
	codec := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}[how.Codec]
	options := []kgo.Opt{kgo.SeedBrokers(f.broker), kgo.RequiredAcks(acks), kgo.ProducerBatchCompression(codec)}
	if !how.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	if !how.ByKey {
		options = append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	c, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	defer c.Close()
	sent := make([]*kgo.Record, len(records))
	for i, r := range records {
		sent[i] = &kgo.Record{Topic: topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Timestamp: millis(r.Timestamp)}
		for _, h := range r.Headers {
			sent[i].Headers = append(sent[i].Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
	}
	if err := c.ProduceSync(ctx, sent...).FirstErr(); err != nil {
		return err
	}
	for i, r := range sent {
		records[i].Partition, records[i].Offset = r.Partition, r.Offset
	}
	return nil
}

func fromFranz(r *kgo.Record) record {
	out := record{Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, header{Key: h.Key, Value: h.Value})
	}
	return out
}

// read reads n records from where it is told.
func (f *franz) read(ctx context.Context, n int, from map[string]map[int32]kgo.Offset) ([]*kgo.Record, error) {
	c, err := kgo.NewClient(kgo.SeedBrokers(f.broker), kgo.ConsumePartitions(from), kgo.FetchMaxWait(time.Second))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var out []*kgo.Record
	for len(out) < n {
		got := c.PollFetches(ctx)
		if err := got.Err(); err != nil {
			return nil, errUnfinished(len(out), n, err)
		}
		got.EachRecord(func(r *kgo.Record) { out = append(out, r) })
	}
	return out, nil
}

func fromStart(topic string, partitions int) map[string]map[int32]kgo.Offset {
	offsets := map[int32]kgo.Offset{}
	for p := range int32(partitions) {
		offsets[p] = kgo.NewOffset().AtStart()
	}
	return map[string]map[int32]kgo.Offset{topic: offsets}
}

func (f *franz) consume(ctx context.Context, topic string, partitions, n int) ([]record, error) {
	got, err := f.read(ctx, n, fromStart(topic, partitions))
	var out []record
	for _, r := range got {
		out = append(out, fromFranz(r))
	}
	return out, err
}

// codecs reads which codecs the batches of a topic have in the log.
func (f *franz) codecs(ctx context.Context, topic string, partitions, n int) (map[string]int, error) {
	got, err := f.read(ctx, n, fromStart(topic, partitions))
	out := map[string]int{}
	for _, r := range got {
		out[[]string{"none", "gzip", "snappy", "lz4", "zstd"}[r.Attrs.CompressionType()]]++
	}
	return out, err
}

func (f *franz) seek(ctx context.Context, topic string, partition int32, ms int64) (record, error) {
	got, err := f.read(ctx, 1, map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AfterMilli(ms)}})
	if err != nil {
		return record{}, err
	}
	return fromFranz(got[0]), nil
}

type franzMember struct {
	client *kgo.Client
	last   []*kgo.Record
}

func (f *franz) join(_ context.Context, group, topic string) (member, error) {
	c, err := kgo.NewClient(kgo.SeedBrokers(f.broker), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.HeartbeatInterval(heartbeat), kgo.SessionTimeout(session), kgo.RebalanceTimeout(session), kgo.FetchMaxWait(time.Second))
	if err != nil {
		return nil, err
	}
	return &franzMember{client: c}, nil
}

func (m *franzMember) poll(ctx context.Context, patience time.Duration) ([]record, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	got := m.client.PollFetches(ctx)
	for _, e := range got.Errors() {
		if !errors.Is(e.Err, context.DeadlineExceeded) {
			return nil, fmt.Errorf("poll %s/%d: %w", e.Topic, e.Partition, e.Err)
		}
	}
	var out []record
	got.EachRecord(func(r *kgo.Record) {
		out = append(out, fromFranz(r))
		m.last = append(m.last, r)
	})
	return out, nil
}

func (m *franzMember) commit(ctx context.Context) error {
	err := m.client.CommitRecords(ctx, m.last...)
	m.last = nil
	return err
}

func (m *franzMember) leave() error {
	m.client.Close()
	return nil
}

func (f *franz) close() error {
	f.admin.Close()
	return nil
}

// Timeouts of groups: short, so that a rebalance does not take long.
const (
	heartbeat = 300 * time.Millisecond
	session   = 8 * time.Second
)
