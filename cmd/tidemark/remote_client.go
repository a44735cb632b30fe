package main

import (
	"context"
	"time"

	"github.com/tidemark-io/tidemark/client"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/record"
)

// connect makes a client of the server in force. It does not connect yet.
func (a *app) connect() (*client.Client, error) {
	c, err := client.New(client.Config{Server: a.server, Clock: a.clock})
	if err != nil {
		return nil, usagef("name it as http://host:port with --server or TIDEMARK_SERVER", "%w", err)
	}
	return c, nil
}

// clientProducer is a producer of package client, on a connection of its own.
type clientProducer struct {
	client   *client.Client
	producer *client.Producer
	topic    string
	headers  []record.Header // reused from record to record, as Produce copies
}

func (a *app) openProducer(_ context.Context, o producerOptions) (producer, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	codec, err := record.ParseCodec(o.compression)
	if err != nil {
		return nil, err
	}
	acks := client.AcksAll
	switch o.acks {
	case tidemarkv1.Acks_ACKS_LEADER:
		acks = client.AcksLeader
	case tidemarkv1.Acks_ACKS_NONE:
		acks = client.AcksNone
	case tidemarkv1.Acks_ACKS_ALL, tidemarkv1.Acks_ACKS_UNSPECIFIED:
	}
	p, err := c.NewProducer(client.ProducerConfig{Acks: acks, Compression: codec, BatchBytes: o.batchBytes})
	if err != nil {
		return nil, err
	}
	return &clientProducer{client: c, producer: p, topic: o.topic}, nil
}

func (p *clientProducer) produce(ctx context.Context, m *message, done func(acked)) error {
	r := record.Record{Timestamp: m.timestamp, Key: m.key, Value: m.value}
	if len(m.headers) > 0 {
		p.headers = p.headers[:0]
		for _, h := range m.headers {
			p.headers = append(p.headers, record.Header{Key: h.key, Value: h.value})
		}
		r.Headers = p.headers
	}
	answer := func(res client.Result) {
		done(acked{partition: res.Partition, offset: res.Offset, reached: res.Reached, err: res.Err})
	}
	if m.partition >= 0 {
		return p.producer.ProduceTo(ctx, p.topic, m.partition, r, answer)
	}
	return p.producer.Produce(ctx, p.topic, r, answer)
}

func (p *clientProducer) flush(ctx context.Context) error { return p.producer.Flush(ctx) }

func (p *clientProducer) close(ctx context.Context) error {
	err := p.producer.Close(ctx)
	p.client.Close()
	return err
}

// clientConsumer is a consumer of package client, on a connection of its own.
type clientConsumer struct {
	client   *client.Client
	consumer *client.Consumer
}

func (a *app) openConsumer(_ context.Context, o consumerOptions) (consumer, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	if o.group != "" {
		return a.openMember(c, o)
	}
	from := client.Start()
	switch {
	case o.start:
	case o.end:
		from = client.End()
	case o.offset >= 0:
		from = client.Offset(o.offset)
	default:
		from = client.Timestamp(time.UnixMilli(o.timestampMs))
	}
	consumer, err := c.NewConsumer(o.topic, client.ConsumerConfig{Partitions: o.partitions, From: from, UntilEnd: o.untilEnd})
	if err != nil {
		return nil, err
	}
	return &clientConsumer{client: c, consumer: consumer}, nil
}

func (c *clientConsumer) poll(ctx context.Context, each func(m *message) error) error {
	batches, err := c.consumer.Poll(ctx)
	if err != nil {
		return err
	}
	return eachMessage(batches, each)
}

// eachMessage hands the records of a piece over, one after the other.
func eachMessage(batches *client.Batches, each func(m *message) error) error {
	m := message{topic: batches.Topic, partition: batches.Partition}
	for raw := range batches.Raw() {
		m.epoch = raw.LeaderEpoch()
		break // a piece is of one partition; its batches share the leader but for a change in the middle
	}
	for r, err := range batches.Records() {
		if err != nil {
			return err
		}
		m.offset, m.timestamp, m.key, m.value = r.Offset, r.Timestamp, r.Key, r.Value
		m.headers = m.headers[:0]
		for _, h := range r.Headers {
			m.headers = append(m.headers, messageHeader{key: h.Key, value: h.Value})
		}
		if err := each(&m); err != nil {
			return err
		}
	}
	return nil
}

func (c *clientConsumer) printed() {}

func (c *clientConsumer) close() error {
	c.consumer.Close()
	c.client.Close()
	return nil
}
