package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/record"
)

func ExampleClient_NewProducer() {
	ctx := context.Background()
	c, err := client.New(client.Config{Server: client.DefaultServer})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	p, err := c.NewProducer(client.ProducerConfig{Compression: record.Zstd})
	if err != nil {
		log.Fatal(err)
	}
	err = p.Produce(ctx, "orders", record.Record{Key: []byte("customer 7"), Value: []byte(`{"total":12}`)}, func(r client.Result) {
		switch {
		case errors.Is(r.Err, client.ErrOutcomeUnknown):
			log.Print("maybe stored: ", r.Err)
		case r.Err != nil:
			log.Print("not stored: ", r.Err)
		default:
			log.Printf("%s/%d at offset %d", r.Topic, r.Partition, r.Offset)
		}
	})
	if err != nil {
		log.Print("not taken: ", err)
	}
	if err := p.Close(ctx); err != nil {
		log.Print(err)
	}
}

func ExampleClient_NewConsumer() {
	c, err := client.New(client.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	consumer, err := c.NewConsumer("orders", client.ConsumerConfig{From: client.Start(), UntilEnd: true})
	if err != nil {
		log.Fatal(err)
	}
	defer consumer.Close()
	for {
		batches, err := consumer.Poll(context.Background())
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			log.Print(err)
			return
		}
		for r, err := range batches.Records() {
			if err != nil {
				log.Print(err)
				return
			}
			fmt.Printf("%d/%d %s\n", batches.Partition, r.Offset, r.Value)
		}
	}
}
