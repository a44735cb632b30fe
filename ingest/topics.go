package ingest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

// PartitionState is where a partition stands.
type PartitionState struct {
	Partition   int32
	Leader      string // empty while nobody leads it
	LeaderEpoch int32
	// LogStartOffset <= CommittedOffset <= LogEndOffset, and HighWatermark <= LogEndOffset.
	LogStartOffset, HighWatermark, CommittedOffset, LogEndOffset int64

	replayedTo int64 // as in partition
}

// adminPatience bounds a change of topics: while etcd is away the caller is told so instead of waiting for as long as that takes.
const adminPatience = 15 * time.Second

// CreateTopic makes a topic and returns when this node leads every partition of it. With ifNotExists an existing topic is
// returned as it is, and created is false.
func (n *Node) CreateTopic(ctx context.Context, name string, partitions int32, config map[string]string, ifNotExists bool) (topic meta.Topic, created bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, adminPatience)
	defer cancel()
	i, refused := n.serving()
	if refused != nil {
		return meta.Topic{}, false, refused
	}
	parsed, err := meta.ParseTopicConfig(config)
	if err != nil {
		return meta.Topic{}, false, Errorf(ReasonInvalidConfig, "create topic %s: %w", name, err)
	}
	if refused := n.roomFor(i, "create topic "+name, partitions); refused != nil {
		return meta.Topic{}, false, refused
	}
	topic, err = n.deps.Meta.CreateTopic(ctx, name, partitions, parsed)
	created = err == nil
	if errors.Is(err, meta.ErrTopicExists) && ifNotExists {
		existing, getErr := n.currentTopic(ctx, i, name)
		if getErr != nil {
			return meta.Topic{}, false, getErr
		}
		topic, err = existing, nil
	}
	if err != nil {
		return meta.Topic{}, false, metaError("create topic "+name, err)
	}
	return topic, created, n.lead(ctx, i, topic)
}

// Topic describes a topic and its partitions.
func (n *Node) Topic(ctx context.Context, name string) (meta.Topic, []PartitionState, error) {
	i, refused := n.serving()
	if refused != nil {
		return meta.Topic{}, nil, refused
	}
	topic, err := n.currentTopic(ctx, i, name)
	if err != nil {
		return meta.Topic{}, nil, err
	}
	states, err := i.states(ctx, topic)
	return topic, states, err
}

// Topics lists the topics by name.
func (n *Node) Topics(context.Context) ([]meta.Topic, error) {
	i, refused := n.serving()
	if refused != nil {
		return nil, refused
	}
	out := i.follower.Topics()
	slices.SortFunc(out, func(a, b meta.Topic) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// UpdateTopic changes settings; those that config does not name keep their values.
func (n *Node) UpdateTopic(ctx context.Context, name string, config map[string]string) (meta.Topic, error) {
	ctx, cancel := context.WithTimeout(ctx, adminPatience)
	defer cancel()
	i, refused := n.serving()
	if refused != nil {
		return meta.Topic{}, refused
	}
	before, err := n.currentTopic(ctx, i, name)
	if err != nil {
		return meta.Topic{}, err
	}
	// What was acknowledged on disk alone goes to the object store before the topic stops promising the disk.
	if err := i.flush(ctx, before); err != nil {
		return meta.Topic{}, err
	}
	topic, err := n.deps.Meta.AlterTopic(ctx, name, config)
	if err != nil {
		return meta.Topic{}, metaError("alter topic "+name, err)
	}
	if err := n.follow(ctx, i, topic.Revision); err != nil {
		return topic, err
	}
	return topic, i.flush(ctx, before)
}

// flush waits until everything that a disk topic has taken before the call is committed.
func (i *incarnation) flush(ctx context.Context, topic meta.Topic) error {
	if topic.Config.Durability != meta.DurabilityDisk {
		return nil
	}
	done := make(chan struct{})
	if !i.post(func(now time.Time) { i.core.flushTopic(topic.ID, done, now) }) {
		return Errorf(ReasonUnavailable, "the node begins anew").WithRetryAfter(200 * time.Millisecond)
	}
	select {
	case <-done:
		return nil
	case <-i.ctx.Done():
		return Errorf(ReasonUnavailable, "the node begins anew").WithRetryAfter(200 * time.Millisecond)
	case <-ctx.Done():
		return callerGone(ctx, "flush topic "+topic.Name)
	}
}

// AddPartitions raises the number of partitions to total and returns when this node leads them all.
func (n *Node) AddPartitions(ctx context.Context, name string, total int32) (meta.Topic, error) {
	ctx, cancel := context.WithTimeout(ctx, adminPatience)
	defer cancel()
	i, refused := n.serving()
	if refused != nil {
		return meta.Topic{}, refused
	}
	if refused := n.roomFor(i, "add partitions to topic "+name, total); refused != nil {
		return meta.Topic{}, refused
	}
	topic, err := n.deps.Meta.AddPartitions(ctx, name, total)
	if err != nil {
		return meta.Topic{}, metaError("add partitions to topic "+name, err)
	}
	return topic, n.lead(ctx, i, topic)
}

// DeleteTopic removes a topic. When it returns nobody leads a partition of it, and its records are not readable.
func (n *Node) DeleteTopic(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, adminPatience)
	defer cancel()
	i, refused := n.serving()
	if refused != nil {
		return refused
	}
	revision, err := n.deps.Meta.DeleteTopic(ctx, name)
	if err != nil {
		return metaError("delete topic "+name, err)
	}
	return n.follow(ctx, i, revision)
}

// roomFor refuses what the node's assignment, one value in etcd, would have no room for.
func (n *Node) roomFor(i *incarnation, what string, partitions int32) *Error {
	if !i.follower.Room(partitions) {
		return Errorf(ReasonInvalidTopic, "%s: the nodes lead as many partitions as they can: delete topics that nobody needs, or add nodes", what)
	}
	return nil
}

// currentTopic finds a topic in an index that is not older than the call, when the index as it is does not have it.
func (n *Node) currentTopic(ctx context.Context, i *incarnation, name string) (meta.Topic, error) {
	if t, ok := i.follower.Topic(name); ok {
		return t, nil
	}
	revision, err := n.deps.Meta.Revision(ctx)
	if err != nil {
		return meta.Topic{}, metaError("look for topic "+name, err)
	}
	if err := n.follow(ctx, i, revision); err != nil {
		return meta.Topic{}, err
	}
	if t, ok := i.follower.Topic(name); ok {
		return t, nil
	}
	return meta.Topic{}, unknownTopic(name)
}

// follow waits until the index is at a revision.
func (n *Node) follow(ctx context.Context, i *incarnation, revision meta.Revision) error {
	if err := i.follower.WaitFor(ctx, revision); err != nil {
		return metaError("wait for the index", err)
	}
	return nil
}

// lead has every partition assigned and waits until this node leads those of the topic.
func (n *Node) lead(ctx context.Context, i *incarnation, topic meta.Topic) error {
	for {
		changed := n.change()
		states, err := i.states(ctx, topic)
		if err != nil {
			return err
		}
		waitsFor := slices.IndexFunc(states, func(s PartitionState) bool { return s.Leader == "" })
		if waitsFor < 0 {
			return nil
		}
		shown := i.follower.Revision() >= topic.Revision // asked first: the index moves on between two questions
		if _, ok := i.follower.TopicByID(topic.ID); !ok && shown {
			return Errorf(ReasonUnknownTopic, "topic %s was deleted meanwhile", topic.Name)
		}
		if err := i.follower.Hole(meta.Partition{Topic: topic.ID, Partition: states[waitsFor].Partition}); err != nil {
			return Errorf(ReasonCorruptData, "topic %s partition %d: %w", topic.Name, states[waitsFor].Partition, err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return callerGone(ctx, "wait for the leaders of topic "+topic.Name)
		}
	}
}

// states asks the loop for the partitions of a topic.
func (i *incarnation) states(ctx context.Context, topic meta.Topic) ([]PartitionState, error) {
	answer := make(chan []PartitionState, 1)
	posted := i.post(func(time.Time) {
		out := make([]PartitionState, topic.Partitions)
		for n := range out {
			id := meta.Partition{Topic: topic.ID, Partition: int32(n)}
			out[n] = PartitionState{Partition: int32(n)}
			if p := i.core.partitions[id]; p != nil {
				out[n] = PartitionState{
					Partition: p.id.Partition, Leader: string(i.node.config.Node), LeaderEpoch: p.epoch, LogStartOffset: p.start,
					HighWatermark: p.hwm, CommittedOffset: p.committed, LogEndOffset: p.end, replayedTo: p.replayedTo,
				}
			}
		}
		answer <- out
	})
	if !posted {
		return nil, Errorf(ReasonUnavailable, "the node begins anew").WithRetryAfter(200 * time.Millisecond)
	}
	select {
	case out := <-answer:
		return out, nil
	case <-ctx.Done():
		return nil, callerGone(ctx, "describe topic "+topic.Name)
	}
}

// metaError turns what package meta says into the reason that a caller acts on.
func metaError(what string, err error) *Error {
	var known *Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, meta.ErrUnknownTopic):
		return Errorf(ReasonUnknownTopic, "%s: %w", what, err)
	case errors.Is(err, meta.ErrTopicExists):
		return Errorf(ReasonTopicExists, "%s: %w", what, err)
	case errors.Is(err, meta.ErrInvalidConfig):
		return Errorf(ReasonInvalidConfig, "%s: %w", what, err)
	case errors.Is(err, meta.ErrInvalidTopic):
		return Errorf(ReasonInvalidTopic, "%s: %w", what, err)
	case errors.Is(err, context.DeadlineExceeded):
		return Errorf(ReasonTimeout, "%s: %w", what, err)
	case errors.Is(err, context.Canceled):
		return Errorf(ReasonCanceled, "%s: %w", what, err)
	default:
		return Errorf(ReasonUnavailable, "%s: %w", what, err).WithRetryAfter(time.Second)
	}
}
