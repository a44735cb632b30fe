package nemesis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/proof/history"
)

// queryPatience is how long a query may take.
const queryPatience = 30 * time.Second

// ask asks SQL for count and sum, and for the ends of the log, of one topic after the other, at one node after the other.
func (w *Workload) ask(ctx context.Context) {
	clients := make([]*client.Client, 0, len(w.cluster.nodes))
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()
	for _, n := range w.cluster.nodes {
		c, err := w.cluster.NewClient(n)
		if err != nil {
			w.Troublef("make a client for queries: %v", err)
			return
		}
		clients = append(clients, c)
	}
	for n := 0; wait(ctx, w.config.QueryEvery); n++ {
		c := clients[n/len(w.config.Topics)%len(clients)]
		topic := w.config.Topics[n%len(w.config.Topics)]
		// What was asked when the run ended is given its time: its outcome is of interest.
		if err := w.query(context.WithoutCancel(ctx), c, topic, firstAsker); err != nil {
			w.count.queryErrors.Add(1)
			w.noteError("query", err)
		} else {
			w.count.queries.Add(1)
		}
		if err := w.watermarks(ctx, c, topic, firstAsker); err != nil && ctx.Err() == nil {
			w.noteError("ends", err)
		}
	}
}

// query records one answer of SQL.
func (w *Workload) query(ctx context.Context, c *client.Client, topic TopicSpec, process int32) error {
	ctx, cancel := context.WithTimeout(ctx, queryPatience)
	defer cancel()
	invoke := w.Now()
	rows, err := c.Query(ctx, "SELECT _partition, count(*), coalesce(sum(id), 0)::BIGINT FROM "+topic.Name+" GROUP BY _partition", client.QueryOptions{})
	if err != nil {
		return err
	}
	defer rows.Close()
	answers := make([]history.Answer, topic.Partitions)
	for p := range answers {
		answers[p].Partition = w.Partition(topic.Name, int32(p))
	}
	for {
		rec, err := rows.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		partition, ok1 := rec.Column(0).(*array.Int32)
		count, ok2 := rec.Column(1).(*array.Int64)
		sum, ok3 := rec.Column(2).(*array.Int64)
		if !ok1 || !ok2 || !ok3 {
			rec.Release()
			return fmt.Errorf("the query's columns are %v", rows.Schema())
		}
		for i := range int(rec.NumRows()) {
			a := &answers[partition.Value(i)]
			a.Count += count.Value(i)
			a.Sum += uint64(sum.Value(i))
		}
		rec.Release()
	}
	if len(rows.Position()) != 1 || len(rows.Position()[0].Offsets) != int(topic.Partitions) {
		w.Troublef("a query over %s gave the position %v", topic.Name, rows.Position())
		return errors.New("a query without its position")
	}
	for p, end := range rows.Position()[0].Offsets {
		answers[p].End = end
	}
	w.history.Query(history.Query{
		Call: history.Call{Process: process, Invoke: int64(invoke), Complete: int64(w.Now())}, Answers: answers,
	})
	return nil
}

// watermarks records how far each partition may be read.
func (w *Workload) watermarks(ctx context.Context, c *client.Client, topic TopicSpec, process int32) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	invoke := w.Now()
	ends, err := c.EndOffsets(ctx, topic.Name, "")
	if err != nil {
		return err
	}
	call := history.Call{Process: process, Invoke: int64(invoke), Complete: int64(w.Now())}
	for p, end := range ends {
		w.history.HighWatermark(history.HighWatermark{Call: call, Partition: w.Partition(topic.Name, p), Offset: end})
	}
	return nil
}
