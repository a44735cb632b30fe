package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/record"
)

// demoPace is how often something happens in the shop: with about five records each time, some 250 records a second.
const demoPace = 20 * time.Millisecond

const (
	// demoPatience bounds the last flush of the demo.
	demoPatience = 5 * time.Second
	// demoPast is how many moments the shop has behind it when it is seen for the first time: half a minute, some 7,000 records.
	demoPast = 1500
)

// runDemo makes the demo's topics and writes to them through the public API, as any program would, until ctx ends. begun is called
// once, when there is something to see.
func runDemo(ctx context.Context, server string, c clock.Clock, logger *slog.Logger, begun func()) (err error) {
	cl, err := client.New(client.Config{Server: server, Clock: c, Logger: logger})
	if err != nil {
		return fmt.Errorf("start the demo: %w", err)
	}
	defer cl.Close()
	fresh := false
	for topic, partitions := range map[string]int32{demoOrders: 4, demoAccessLog: 4} {
		_, created, err := cl.CreateTopic(ctx, topic, partitions, nil, true)
		if err != nil {
			return fmt.Errorf("make topic %s: %w", topic, err)
		}
		fresh = fresh || created
	}
	producer, err := cl.NewProducer(client.ProducerConfig{Linger: demoPace})
	if err != nil {
		return fmt.Errorf("start the demo: %w", err)
	}
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), demoPatience)
		defer cancel()
		err = errors.Join(err, producer.Close(last))
	}()

	trouble := demoTrouble{logger: logger}
	shop := newDemoShop(demoSeed)
	happens := func(now time.Time) error {
		for _, r := range shop.tick(now) {
			err := producer.Produce(ctx, r.topic, record.Record{Key: r.key, Value: r.value, Timestamp: r.timestamp}, trouble.answered)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			trouble.note(err)
		}
		return nil
	}
	if fresh {
		for n := range demoPast {
			if err := happens(c.Now().Add(time.Duration(n-demoPast) * demoPace)); err != nil {
				return err
			}
		}
		if err := producer.Flush(ctx); err != nil {
			return err
		}
	}
	begun()
	timer := c.NewTimer(demoPace)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-timer.C():
			if err := happens(now); err != nil {
				return err
			}
			timer.Reset(demoPace)
		}
	}
}

// demoTrouble logs failures of the demo, each once in a row. Callbacks and the loop share it.
type demoTrouble struct {
	logger *slog.Logger
	last   textOnce
}

func (t *demoTrouble) answered(r client.Result) { t.note(r.Err) }

func (t *demoTrouble) note(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if t.last.changed(text) && text != "" {
		t.logger.Warn("the demo could not write; it goes on", "cause", text)
	}
}
