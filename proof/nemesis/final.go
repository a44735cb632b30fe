package nemesis

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/proof/history"
)

// ReadAll reads the whole log through each node with a client that is new, and asks SQL to count it there. It needs Stop.
func (w *Workload) ReadAll(ctx context.Context) error {
	for i, node := range w.cluster.nodes {
		if err := w.readThrough(ctx, node, firstAsker+1+int32(i)); err != nil {
			return fmt.Errorf("read everything through %s: %w", node.id, err)
		}
	}
	return nil
}

func (w *Workload) readThrough(ctx context.Context, node *Node, process int32) error {
	c, err := w.cluster.NewClient(node)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, topic := range w.config.Topics {
		// The last records may still wait for their turn to be found; a client that knows the end waits for them.
		if err := w.readTopic(ctx, c, node, topic); err != nil {
			return err
		}
		if err := w.cluster.until(ctx, "SQL counts "+topic.Name, func(ctx context.Context) error {
			return w.query(context.WithoutCancel(ctx), c, topic, process)
		}); err != nil {
			return err
		}
		w.count.finalQueries.Add(1)
	}
	return nil
}

func (w *Workload) readTopic(ctx context.Context, c *client.Client, node *Node, topic TopicSpec) error {
	consumer, err := c.NewConsumer(topic.Name, client.ConsumerConfig{UntilEnd: true})
	if err != nil {
		return err
	}
	defer consumer.Close()
	next := make([]int64, topic.Partitions)
	source := "through " + node.id
	for {
		batches, err := consumer.Poll(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		records, err := decode(batches)
		if err != nil {
			w.Troublef("%s partition %d from %d, read at the end through %s: %v", topic.Name, batches.Partition, batches.From, node.id, err)
			return err
		}
		for raw := range batches.Raw() {
			if err := w.journal.appended(w.names[topic.Name][batches.Partition], raw.BaseOffset(), raw.LastOffset(), raw.LeaderEpoch()); err != nil {
				w.Troublef("read at the end through %s: %v", node.id, err)
			}
		}
		w.count.finalReads.Add(int64(len(records)))
		w.history.FinalRead(history.FinalRead{
			Source: source, Partition: w.Partition(topic.Name, batches.Partition), From: next[batches.Partition], End: batches.Next, Records: records,
		})
		next[batches.Partition] = batches.Next
	}
	for p, from := range next {
		w.history.FinalRead(history.FinalRead{Source: source, Partition: w.Partition(topic.Name, int32(p)), From: from})
	}
	return nil
}
