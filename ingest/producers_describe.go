package ingest

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

// ProducerState is what the leader of a partition knows of an idempotent producer.
type ProducerState struct {
	ID    int64
	Epoch int16
	// LastSequence is the sequence number of the last record that was given an offset, and NextOffset the offset behind it.
	LastSequence int32
	NextOffset   int64
}

// Producers lists the idempotent producers that this node, as the leader of a partition, knows there, by id. A batch that was given its offsets
// counts, whether or not it is acknowledged yet.
func (n *Node) Producers(ctx context.Context, topic string, partition int32) ([]ProducerState, error) {
	i, refused := n.reading()
	if refused != nil {
		return nil, refused
	}
	known, refused := topicNamed(i.follower, topic, meta.TopicID{})
	if refused != nil {
		return nil, refused
	}
	id := meta.Partition{Topic: known.ID, Partition: partition}
	type answer struct {
		states  []ProducerState
		refused *Error
	}
	got := make(chan answer, 1)
	if !i.post(func(time.Time) {
		p := i.core.partitions[id]
		if p == nil {
			got <- answer{refused: i.core.notLed(id, topic)}
			return
		}
		got <- answer{states: p.producerStates()}
	}) {
		return nil, Errorf(ReasonUnavailable, "the node begins anew").WithRetryAfter(200 * time.Millisecond)
	}
	select {
	case a := <-got:
		if a.refused != nil {
			return nil, a.refused
		}
		slices.SortFunc(a.states, func(a, b ProducerState) int { return cmp.Compare(a.ID, b.ID) })
		return a.states, nil
	case <-ctx.Done():
		return nil, callerGone(ctx, "list the producers of topic "+topic)
	}
}

func (p *partition) producerStates() []ProducerState {
	out := make([]ProducerState, 0, len(p.producers))
	for id, known := range p.producers {
		last := known.last()
		out = append(out, ProducerState{ID: id, Epoch: known.epoch, LastSequence: last.last, NextOffset: last.next})
	}
	return out
}
