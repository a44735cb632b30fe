package tail

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

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

// knownAfter is how long a server may be away before it is told. Reading goes on by itself after that, but who waits wants to know.
const knownAfter = 2 * time.Second

// Open makes a reader of a topic's partitions. It connects at the first Poll.
func (l Consumers) Open(topic Topic, from map[int32]int64) (Reader, error) {
	c := &consumer{client: l.Client, topic: topic, from: maps.Clone(from), limits: l.Limits}
	for _, n := range slices.Sorted(maps.Keys(from)) {
		if from[n] == 0 {
			c.beginning = append(c.beginning, n)
		}
	}
	return c, nil
}

type consumer struct {
	client    *client.Client
	topic     Topic
	from      map[int32]int64
	beginning []int32 // partitions that are read from their beginning, wherever that is
	limits    record.Limits
	c         *client.Consumer // nil until it is known where the partitions begin
}

func (c *consumer) Close() {
	if c.c != nil {
		c.c.Close()
	}
}

// Poll waits for the next piece.
func (c *consumer) Poll(ctx context.Context) (Piece, error) {
	if c.c == nil {
		if err := c.begin(ctx); err != nil {
			return Piece{}, err
		}
	}
	b, err := c.c.Poll(ctx)
	if err != nil {
		return Piece{}, err
	}
	return Piece{Partition: b.Partition, Next: b.Next, Records: c.records(b)}, nil
}

// begin makes the consumer. A consumer begins at the beginning of all partitions or at offsets, so that where only some are to be read from
// their beginning, it is asked for first.
func (c *consumer) begin(ctx context.Context) error {
	at := client.Start()
	if len(c.beginning) < len(c.from) {
		if len(c.beginning) > 0 {
			first, err := c.client.ListOffsets(ctx, c.topic.Name, client.Start(), c.beginning...)
			if err != nil {
				return err
			}
			for _, n := range c.beginning {
				c.from[n] = first[n]
			}
		}
		at = client.Offsets(c.from)
	}
	var err error
	c.c, err = c.client.NewConsumer(c.topic.Name, client.ConsumerConfig{
		TopicID: c.topic.ID, Partitions: slices.Sorted(maps.Keys(c.from)), From: at, Limits: c.limits, RetryFor: knownAfter,
	})
	return err
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
						Message: fmt.Sprintf("decode batch at offset %d of %s/%d: %v", raw.BaseOffset(), c.topic.Name, b.Partition, err),
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
