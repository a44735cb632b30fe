package kafkabench

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// createTopic makes a topic; config has the settings that this peer is to have.
func createTopic(t *testing.T, s *server, name string, partitions int32, config map[string]string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.address))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	q := kmsg.NewPtrCreateTopicsRequest()
	m := kmsg.NewCreateTopicsRequestTopic()
	m.Topic, m.NumPartitions, m.ReplicationFactor = name, partitions, 1
	for key, value := range config {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = key, &value
		m.Configs = append(m.Configs, c)
	}
	q.Topics = append(q.Topics, m)
	for until := now().Add(30 * time.Second); ; sleep(time.Second) {
		r, err := q.RequestWith(t.Context(), client)
		if err == nil && r.Topics[0].ErrorCode == 0 {
			break
		}
		if now().After(until) {
			t.Fatalf("create topic %s at %s: %v, %+v", name, s.name, err, r)
		}
	}
	awaitLeaders(t, client, name)
}

// deleteTopic makes room on the disk for what is measured next.
func deleteTopic(t *testing.T, s *server, name string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.address))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	q := kmsg.NewPtrDeleteTopicsRequest()
	q.TopicNames, q.TimeoutMillis = []string{name}, 30_000
	m := kmsg.NewDeleteTopicsRequestTopic()
	m.Topic = &name
	q.Topics = append(q.Topics, m)
	r, err := q.RequestWith(t.Context(), client)
	if err == nil {
		err = kerr.ErrorForCode(r.Topics[0].ErrorCode)
	}
	if err != nil {
		t.Fatalf("delete topic %s at %s: %v", name, s.name, err)
	}
}

// awaitLeaders waits until a topic that was just made is led: Kafka's brokers answer before they lead it.
func awaitLeaders(t *testing.T, client *kgo.Client, name string) {
	t.Helper()
	q := kmsg.NewPtrMetadataRequest()
	m := kmsg.NewMetadataRequestTopic()
	m.Topic = &name
	q.Topics = append(q.Topics, m)
	for until := now().Add(30 * time.Second); ; sleep(100 * time.Millisecond) {
		r, err := q.RequestWith(t.Context(), client)
		led := err == nil && r.Topics[0].ErrorCode == 0
		for n := 0; led && n < len(r.Topics[0].Partitions); n++ {
			led = r.Topics[0].Partitions[n].ErrorCode == 0
		}
		if led {
			sleep(500 * time.Millisecond) // the metadata is ahead of the log that it tells of
			return
		}
		if now().After(until) {
			t.Fatalf("topic %s has no leaders: %v, %+v", name, err, r)
		}
	}
}

// produceRecords has franz-go produce records for a while, and gives how many were acknowledged.
func produceRecords(t *testing.T, s *server, topic string, valueBytes int, lasts time.Duration) (acked int64, took time.Duration) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.address), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(1_000_000))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	value := make([]byte, valueBytes)
	var failed atomic.Pointer[error]
	var n atomic.Int64
	began := now()
	for now().Sub(began) < lasts {
		for range 100 {
			client.Produce(t.Context(), &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
				if err != nil {
					failed.Store(&err)
					return
				}
				n.Add(1)
			})
		}
	}
	if err := client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if cause := failed.Load(); cause != nil {
		t.Fatal(*cause)
	}
	return n.Load(), now().Sub(began)
}

// reader reads a topic from its beginning.
func reader(t *testing.T, s *server, topic string) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.address), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// consumeRecords has franz-go read so many bytes of values of a topic from its beginning.
func consumeRecords(t *testing.T, s *server, topic string, bytes int64) (records int64, took time.Duration) {
	t.Helper()
	client := reader(t, s, topic)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	began := now()
	for bytes > 0 {
		got := client.PollFetches(ctx)
		if err := got.Err(); err != nil {
			t.Fatalf("read %s at %s, of which %d bytes are left: %v", topic, s.name, bytes, err)
		}
		got.EachRecord(func(r *kgo.Record) {
			records++
			bytes -= int64(len(r.Value))
		})
	}
	return records, now().Sub(began)
}
