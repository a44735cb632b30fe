package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/apache/arrow/go/v17/arrow/array"

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

func ExampleClient_NewGroupConsumer() { //nolint:testableexamples // needs a server
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c, err := client.New(client.Config{Server: "http://10.0.0.7:8640,http://10.0.0.8:8640"})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	billing, err := c.NewGroupConsumer("billing", []string{"orders"}, client.GroupConfig{
		OnAssign: func(partitions map[string][]int32) { slog.Info("reading", "partitions", partitions) },
		OnRevoke: func(partitions map[string][]int32) { slog.Info("giving up", "partitions", partitions) },
		OnLost:   func(partitions map[string][]int32) { slog.Warn("lost", "partitions", partitions) },
	})
	if err != nil {
		panic(err)
	}
	defer func() {
		if err := billing.Close(context.WithoutCancel(ctx)); err != nil {
			slog.Error("example", "error", err)
		}
	}()
	for {
		batches, err := billing.Poll(ctx) // says that what it returned before is processed
		var e *client.Error
		switch {
		case errors.As(err, &e) && e.Retryable:
			slog.Warn("no partition is lost, the cluster is away", "error", err)
			continue
		case err != nil:
			return
		}
		for r, err := range batches.Records() {
			if err != nil {
				slog.Error("example", "error", err)
				return // what was not processed is not committed
			}
			fmt.Printf("%d/%d %s\n", batches.Partition, r.Offset, r.Value)
		}
	}
}

// Commits of the application's own: here a piece is committed as soon as it is stored elsewhere.
func ExampleGroupConsumer_Commit() { //nolint:testableexamples // needs a server
	ctx := context.Background()
	c, err := client.New(client.Config{})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	sink, err := c.NewGroupConsumer("sink", []string{"orders", "returns"}, client.GroupConfig{AutoCommit: -1})
	if err != nil {
		panic(err)
	}
	for {
		batches, err := sink.Poll(ctx)
		if err != nil {
			slog.Error("example", "error", err)
			break
		}
		store := func(*client.Batches) error { return nil }
		if err := store(batches); err != nil {
			slog.Error("example", "error", err)
			break
		}
		if err := sink.Commit(ctx, batches.Position()); err != nil {
			slog.Warn("it will come again", "error", err)
		}
	}
	if err := sink.Close(ctx); err != nil {
		slog.Error("example", "error", err)
	}
}

// A query sees every record that was acknowledged before it began; its result is Arrow.
func ExampleClient_Query() { //nolint:testableexamples // needs a server
	ctx := context.Background()
	c, err := client.New(client.Config{})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	rows, err := c.Query(ctx, "SELECT customer, sum(total) AS spent FROM orders GROUP BY customer ORDER BY spent DESC LIMIT 10", client.QueryOptions{})
	if err != nil {
		slog.Error("example", "error", err)
		return
	}
	defer rows.Close()
	fmt.Println(rows.Schema())
	for {
		rec, err := rows.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			slog.Error("example", "error", err)
			return
		}
		fmt.Println(rec)
		rec.Release()
	}
	fmt.Println("covers", rows.Position(), "took", rows.Stats().Elapsed)
}

// The same row by row, as values of Go.
func ExampleRows_Next() { //nolint:testableexamples // needs a server
	ctx := context.Background()
	c, err := client.New(client.Config{})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	rows, err := c.Query(ctx, "SELECT customer, total FROM orders WHERE total > 100", client.QueryOptions{Timeout: time.Minute, MaxRows: 1000})
	if err != nil {
		slog.Error("example", "error", err)
		return
	}
	defer rows.Close()
	for {
		rec, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			slog.Error("example", "error", err)
			return
		}
		customers, isText := rec.Column(0).(*array.String)
		totals, isNumber := rec.Column(1).(*array.Int64)
		if !isText || !isNumber {
			slog.Error("example", "schema", rec.Schema())
			rec.Release()
			return
		}
		for i := range int(rec.NumRows()) {
			if totals.IsValid(i) {
				fmt.Println(customers.Value(i), totals.Value(i))
			}
		}
		rec.Release()
	}
}
