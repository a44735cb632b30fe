package nemesis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/proof/history"
)

// Grouped is a member of a consumer group that reads all topics of the workload. It commits by itself, so that the history has
// every commit, and leaves and joins again from time to time, so that partitions move also when nothing is broken.
type Grouped struct {
	Number int
	Group  string
	// Stays is how long it stays before it leaves; 0 is for ever.
	Stays time.Duration
}

const (
	commitEvery    = time.Second
	sessionTimeout = 10 * time.Second
)

// member is one membership of a Grouped.
type member struct {
	work     *Workload
	consumer *client.GroupConsumer
	group    history.Group
	process  int32

	mu sync.Mutex
	// polled is what was polled of each partition and is not committed, by the member that has it now.
	polled map[string]map[int32]int64
}

// GroupsServed is nil when the cluster serves consumer groups, or why not.
func GroupsServed(ctx context.Context, c *Cluster) error {
	asked, err := c.NewClient(c.nodes[0])
	if err != nil {
		return err
	}
	defer asked.Close()
	if _, err = asked.ListGroups(ctx); err != nil {
		return fmt.Errorf("the cluster serves no groups: %w", err)
	}
	return nil
}

// Run joins, reads and leaves until ctx ends.
func (g *Grouped) Run(ctx context.Context, w *Workload, process int32) {
	c, err := w.client(g.Number)
	if err != nil {
		w.Troublef("make a group consumer: %v", err)
		return
	}
	defer c.Close()
	for ctx.Err() == nil {
		life, cancel := context.WithCancel(ctx)
		if g.Stays > 0 {
			life, cancel = context.WithTimeout(ctx, g.Stays)
		}
		failure := g.belong(life, w, c, process)
		left := life.Err() != nil
		cancel()
		if !left {
			w.PollFailed(failure, true)
			wait(ctx, 200*time.Millisecond)
		}
	}
}

// belong is one membership, and returns why it ended.
func (g *Grouped) belong(ctx context.Context, w *Workload, c *client.Client, process int32) error {
	m := &member{work: w, group: w.history.Group(g.Group), process: process, polled: make(map[string]map[int32]int64)}
	topics := make([]string, 0, len(w.config.Topics))
	for _, topic := range w.config.Topics {
		topics = append(topics, topic.Name)
	}
	var err error
	m.consumer, err = c.NewGroupConsumer(g.Group, topics, client.GroupConfig{
		SessionTimeout: sessionTimeout, RebalanceTimeout: sessionTimeout, AutoCommit: -1,
		OnAssign: m.assigned, OnRevoke: func(parts map[string][]int32) { m.commit(ctx, parts); m.forget(parts) }, OnLost: m.forget,
	})
	if err != nil {
		w.Troublef("make a group consumer: %v", err)
		return err
	}
	committing, stop := context.WithCancel(ctx)
	var commits sync.WaitGroup
	commits.Go(func() {
		for wait(committing, commitEvery) {
			m.commit(committing, nil)
		}
	})
	err = m.read(ctx)
	stop()
	commits.Wait()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), sessionTimeout)
	defer cancel()
	m.commit(closing, nil)
	if failed := m.consumer.Close(closing); failed != nil {
		w.noteError("leave a group", failed)
	}
	return err
}

// assigned tells the history that a partition is read from where the group says; the next poll shows where that is.
func (m *member) assigned(parts map[string][]int32) {
	now := int64(m.work.Now())
	for topic, partitions := range parts {
		for _, p := range partitions {
			m.work.history.Assign(history.Assign{
				Call:      history.Call{Process: m.process, Invoke: now, Complete: now},
				Partition: m.work.Partition(topic, p), Offset: -1, Group: m.group, Generation: -1,
			})
		}
	}
}

// forget drops what was polled of partitions that others read from now on.
func (m *member) forget(parts map[string][]int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for topic, partitions := range parts {
		for _, p := range partitions {
			delete(m.polled[topic], p)
		}
	}
}

// uncommitted is what was polled and is not committed, of some partitions, of all for nil. What is committed already must not be
// committed again: the client answers that without asking anybody, and so not at the generation that it believes in.
func (m *member) uncommitted(parts map[string][]int32) []client.Position {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []client.Position
	for _, topic := range m.work.config.Topics {
		if offsets := m.polled[topic.Name]; len(offsets) > 0 {
			out = append(out, client.Position{Topic: topic.Name, Offsets: maps.Clone(offsets)})
		}
	}
	if parts != nil {
		return only(out, parts)
	}
	return out
}

// reached notes that everything below next was polled.
func (m *member) reached(topic string, partition int32, next int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.polled[topic] == nil {
		m.polled[topic] = make(map[int32]int64)
	}
	m.polled[topic][partition] = next
}

// stored notes that everything below offset is committed.
func (m *member) stored(topic string, partition int32, offset int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at, ok := m.polled[topic][partition]; ok && at <= offset {
		delete(m.polled[topic], partition)
	}
}

// commit commits what was polled of some partitions, of all for nil. A commit that went on while the member got another generation
// is told without one: it may have been stored at either.
func (m *member) commit(ctx context.Context, parts map[string][]int32) {
	for _, p := range m.uncommitted(parts) {
		invoke, generation := m.work.Now(), m.consumer.Generation()
		err := m.consumer.Commit(ctx, p)
		if m.consumer.Generation() != generation {
			generation = -1
		}
		if err != nil {
			m.work.noteError("commit", err)
		}
		for partition, offset := range p.Offsets {
			outcome := committed(err, partition)
			m.work.history.Commit(history.Commit{
				Call:  history.Call{Process: m.process, Invoke: int64(invoke), Complete: int64(m.work.Now())},
				Group: m.group, Partition: m.work.Partition(p.Topic, partition), Offset: offset, Generation: generation, Outcome: outcome,
			})
			if outcome == history.OK {
				m.work.count.commits.Add(1)
				m.stored(p.Topic, partition, offset)
			}
		}
	}
}

// committed is what the error of a commit says about a partition. It joins one error for each partition that was not committed;
// an error that names no partition is about all of them, and claims nothing.
func committed(err error, partition int32) history.Outcome {
	if err == nil {
		return history.OK
	}
	each := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		each = joined.Unwrap()
	}
	outcome := history.OK
	for _, err := range each {
		e, ok := errors.AsType[*client.Error](err)
		switch {
		case !ok || e.Metadata["partition"] == "":
			return history.Info
		case e.Metadata["partition"] != strconv.Itoa(int(partition)):
		case e.Reason == client.ReasonNotAssigned && e.Outcome != client.OutcomeUnknown:
			outcome = history.Fail
		default:
			outcome = history.Info
		}
	}
	return outcome
}

func only(positions []client.Position, parts map[string][]int32) []client.Position {
	var out []client.Position
	for _, p := range positions {
		kept := client.Position{Topic: p.Topic, Offsets: make(map[int32]int64)}
		for _, partition := range parts[p.Topic] {
			if offset, ok := p.Offsets[partition]; ok {
				kept.Offsets[partition] = offset
			}
		}
		if len(kept.Offsets) > 0 {
			out = append(out, kept)
		}
	}
	return out
}

// read polls until ctx ends or the membership does, and returns why.
func (m *member) read(ctx context.Context) error {
	for {
		invoke := m.work.Now()
		batches, err := m.consumer.Poll(ctx)
		if err != nil {
			if e, ok := errors.AsType[*client.Error](err); !ok || !e.Retryable || ctx.Err() != nil {
				return err
			}
			m.work.PollFailed(err, false)
			wait(ctx, 100*time.Millisecond)
			continue
		}
		records, err := decode(batches)
		if err != nil {
			m.work.Troublef("%s partition %d from %d: %v", batches.Topic, batches.Partition, batches.From, err)
			return err
		}
		m.reached(batches.Topic, batches.Partition, batches.Next)
		m.work.Polled(history.Poll{
			Call:      history.Call{Process: m.process, Invoke: int64(invoke), Complete: int64(m.work.Now())},
			Partition: m.work.Partition(batches.Topic, batches.Partition), From: batches.From, HighWatermark: batches.HighWatermark,
			Group: m.group, Generation: -1, Records: records,
		}, batches.Topic, batches.Partition, batches.Next)
	}
}
