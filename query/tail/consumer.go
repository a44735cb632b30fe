package tail

import (
	"context"
	"fmt"
	"iter"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/record"
)

// Consumers is the Log that a client reads as any consumer.
type Consumers struct {
	Client *client.Client
	// Limits bound the decompression of batches; zero fields mean the defaults.
	Limits record.Limits
}

// Open makes a consumer of a topic's partitions. It connects at the first Poll.
func (l Consumers) Open(topic Topic, from map[int32]int64) (Reader, error) {
	config := client.ConsumerConfig{TopicID: topic.ID, Limits: l.Limits, From: client.Start()}
	for n, offset := range from {
		config.Partitions = append(config.Partitions, n)
		if offset > 0 {
			config.From = client.Offsets(from)
		}
	}
	c, err := l.Client.NewConsumer(topic.Name, config)
	if err != nil {
		return nil, err
	}
	return &consumer{c: c, topic: topic.Name, limits: l.Limits}, nil
}

type consumer struct {
	c      *client.Consumer
	topic  string
	limits record.Limits
}

func (c *consumer) Close() { c.c.Close() }

// Poll waits for the next piece.
func (c *consumer) Poll(ctx context.Context) (Piece, error) {
	b, err := c.c.Poll(ctx)
	if err != nil {
		return Piece{}, err
	}
	return Piece{Partition: b.Partition, Next: b.Next, Records: c.records(b)}, nil
}

// records gives the records of a piece that belong to it. Control batches have none that are anybody's.
func (c *consumer) records(b *client.Batches) iter.Seq2[record.Record, error] {
	return func(yield func(record.Record, error) bool) {
		for raw := range b.Raw() {
			if raw.IsControl() {
				continue
			}
			for r, err := range raw.Records(c.limits) {
				if err != nil {
					yield(record.Record{}, &client.Error{
						Code: connect.CodeDataLoss, Reason: client.ReasonCorruptData,
						Message: fmt.Sprintf("decode batch at offset %d of %s/%d: %v", raw.BaseOffset(), c.topic, b.Partition, err),
					})
					return
				}
				if r.Offset < b.From || r.Offset >= b.Next {
					continue
				}
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}
