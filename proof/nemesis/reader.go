package nemesis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/proof/history"
)

// Reader is one consumer of a workload.
type Reader interface {
	// Run consumes until ctx ends, and tells the workload of each answer (Polled, PollFailed) and its History of whatever else
	// it does (assignments, commits). It may use ten processes, from the one it is given on.
	Run(ctx context.Context, w *Workload, process int32)
}

// Assigned is a consumer without a group: the consumer Number of Of, from 0, has each partition whose number leaves the rest
// Number when it is divided by Of.
type Assigned struct{ Number, Of int }

// Run has one stream and one process for each topic.
func (a *Assigned) Run(ctx context.Context, w *Workload, process int32) {
	var work sync.WaitGroup
	for i, topic := range w.Topics() {
		var mine []int32
		for p := range topic.Partitions {
			if int(p)%a.Of == a.Number {
				mine = append(mine, p)
			}
		}
		if len(mine) > 0 {
			work.Go(func() { follow(ctx, w, a.Number, topic.Name, mine, process+int32(i)) })
		}
	}
	work.Wait()
}

// follow reads partitions from their start until ctx ends. A consumer that fails for good is made anew at its position.
func follow(ctx context.Context, w *Workload, number int, topic string, partitions []int32, process int32) {
	c, err := w.client(number)
	if err != nil {
		w.Troublef("make a consumer: %v", err)
		return
	}
	defer c.Close()
	next := make(map[int32]int64)
	for _, p := range partitions {
		next[p] = 0
	}
	for ctx.Err() == nil {
		consumer, err := c.NewConsumer(topic, client.ConsumerConfig{Partitions: partitions, From: client.Offsets(next), RetryFor: 10 * time.Second})
		if err != nil {
			w.Troublef("make a consumer: %v", err)
			return
		}
		failure := consume(ctx, w, consumer, topic, process, next)
		consumer.Close()
		if ctx.Err() == nil {
			w.PollFailed(failure, true)
		}
		wait(ctx, 200*time.Millisecond)
	}
}

// consume returns why the consumer cannot go on: ctx ended, or something that trying again does not mend.
func consume(ctx context.Context, w *Workload, consumer *client.Consumer, topic string, process int32, next map[int32]int64) error {
	for {
		invoke := w.Now()
		batches, err := consumer.Poll(ctx)
		if err != nil {
			if e, ok := errors.AsType[*client.Error](err); !ok || !e.Retryable || ctx.Err() != nil {
				return err
			}
			w.PollFailed(err, false)
			wait(ctx, 100*time.Millisecond)
			continue
		}
		records, err := decode(batches)
		if err != nil {
			w.Troublef("%s partition %d from %d: %v", topic, batches.Partition, batches.From, err)
			return err
		}
		w.Polled(history.Poll{
			Call:      history.Call{Process: process, Invoke: int64(invoke), Complete: int64(w.Now())},
			Partition: w.Partition(topic, batches.Partition), From: batches.From, HighWatermark: batches.HighWatermark, Records: records,
		}, topic, batches.Partition, batches.Next)
		next[batches.Partition] = batches.Next
	}
}

func decode(batches *client.Batches) ([]history.Record, error) {
	var out []history.Record
	for r, err := range batches.Records() {
		if err != nil {
			return nil, fmt.Errorf("decode records: %w", err)
		}
		id, err := parseValue(r.Value)
		if err != nil {
			return nil, fmt.Errorf("decode the record at %d: %w", r.Offset, err)
		}
		out = append(out, history.Record{Offset: r.Offset, Value: id})
	}
	return out, nil
}
