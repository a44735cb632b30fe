package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/record"
)

func ExampleClient_NewProducer() { //nolint:testableexamples // needs a server
	ctx := context.Background()
	c, err := client.New(client.Config{Server: client.DefaultServer})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	p, err := c.NewProducer(client.ProducerConfig{Compression: record.Zstd})
	if err != nil {
		panic(err)
	}
	err = p.Produce(ctx, "orders", record.Record{Key: []byte("customer 7"), Value: []byte(`{"total":12}`)}, func(r client.Result) {
		switch {
		case errors.Is(r.Err, client.ErrOutcomeUnknown):
			slog.Warn("maybe stored", "error", r.Err)
		case r.Err != nil:
			slog.Error("not stored", "error", r.Err)
		default:
			slog.Info("stored", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset)
		}
	})
	if err != nil {
		slog.Error("not taken", "error", err)
	}
	if err := p.Close(ctx); err != nil {
		slog.Error("example", "error", err)
	}
}

func ExampleClient_NewConsumer() { //nolint:testableexamples // needs a server
	c, err := client.New(client.Config{})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	consumer, err := c.NewConsumer("orders", client.ConsumerConfig{From: client.Start(), UntilEnd: true})
	if err != nil {
		panic(err)
	}
	defer consumer.Close()
	for {
		batches, err := consumer.Poll(context.Background())
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			slog.Error("example", "error", err)
			return
		}
		for r, err := range batches.Records() {
			if err != nil {
				slog.Error("example", "error", err)
				return
			}
			fmt.Printf("%d/%d %s\n", batches.Partition, r.Offset, r.Value)
		}
	}
}
