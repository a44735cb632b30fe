package ingest

import (
	"context"
	"errors"
	"math"
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
	// fromIndex: the leader was not asked. What is committed is told, and the leader may have more.
	fromIndex bool
}

// Patience of changes and questions.
const (
	// adminPatience bounds a change of topics: while etcd is away the caller is told so instead of waiting for as long as that takes.
	adminPatience = 15 * time.Second
	// leaderPatience bounds the wait for a leader that is looked for, such as while a partition moves.
	leaderPatience = 10 * time.Second
)

// CreateTopic makes a topic and returns when every partition of it has a leader that leads. With ifNotExists an existing topic is
// returned as it is, and created is false.
func (r *Router) CreateTopic(ctx context.Context, name string, partitions int32, config map[string]string, ifNotExists bool) (topic meta.Topic, created bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, adminPatience)
	defer cancel()
	here, refused := r.here(ctx)
	if refused != nil {
		return meta.Topic{}, false, refused
	}
	parsed, err := meta.ParseTopicConfig(config)
	if err != nil {
		return meta.Topic{}, false, Errorf(ReasonInvalidConfig, "create topic %s: %w", name, err)
	}
	if refused := here.roomFor("create topic "+name, partitions); refused != nil {
		return meta.Topic{}, false, refused
	}
	topic, err = here.home.metadata().CreateTopic(ctx, name, partitions, parsed)
	created = err == nil
	if errors.Is(err, meta.ErrTopicExists) && ifNotExists {
		topic, err = here.find(ctx, name, 0)
	}
	if err != nil {
		return meta.Topic{}, false, metaError("create topic "+name, err)
	}
	return topic, created, r.awaitLeaders(ctx, topic)
}

// UpdateTopic changes settings; those that config does not name keep their values.
//
// A topic that leaves durability=disk is flushed by every leader before and after: what was acknowledged on a disk alone goes to the
// object store before its partitions may move without that disk. A leader that cannot be asked is named, and the change can be repeated.
func (r *Router) UpdateTopic(ctx context.Context, name string, config map[string]string) (meta.Topic, error) {
	ctx, cancel := context.WithTimeout(ctx, adminPatience)
	defer cancel()
	here, refused := r.here(ctx)
	if refused != nil {
		return meta.Topic{}, refused
	}
	before, err := here.find(ctx, name, 0)
	if err != nil {
		return meta.Topic{}, err
	}
	after, err := before.Config.With(config)
	if err != nil {
		return meta.Topic{}, metaError("alter topic "+name, err)
	}
	if before.OnDisk() && after.Durability == meta.DurabilityObject {
		if err := r.flushLeaders(ctx, here, before); err != nil {
			return meta.Topic{}, err
		}
	}
	topic, err := here.home.metadata().AlterTopic(ctx, name, config)
	if err != nil {
		return meta.Topic{}, metaError("alter topic "+name, err)
	}
	if err := here.follow(ctx, topic.Revision); err != nil {
		return topic, err
	}
	if !topic.Held {
		return topic, nil
	}
	// The leaders have heard of the change by then, so nothing more is acknowledged on their disks alone.
	if err := r.flushLeaders(ctx, here, topic); err != nil {
		return topic, err
	}
	if topic, err = here.home.metadata().ConfirmDurability(ctx, topic); err != nil {
		return topic, metaError("alter topic "+name, err)
	}
	return topic, here.follow(ctx, topic.Revision)
}

// AddPartitions raises the number of partitions to total and returns when all have leaders that lead.
func (r *Router) AddPartitions(ctx context.Context, name string, total int32) (meta.Topic, error) {
	ctx, cancel := context.WithTimeout(ctx, adminPatience)
	defer cancel()
	here, refused := r.here(ctx)
	if refused != nil {
		return meta.Topic{}, refused
	}
	before, err := here.find(ctx, name, 0)
	if err != nil {
		return meta.Topic{}, err
	}
	if refused := here.roomFor("add partitions to topic "+name, total-before.Partitions); refused != nil {
		return meta.Topic{}, refused
	}
	topic, err := here.home.metadata().AddPartitions(ctx, name, total)
	if err != nil {
		return meta.Topic{}, metaError("add partitions to topic "+name, err)
	}
	return topic, r.awaitLeaders(ctx, topic)
}

// DeleteTopic removes a topic. When it returns nobody is assigned a partition of it and nothing more can be committed to it; another
// node may give its last records for as long as it has not heard of the deletion.
func (r *Router) DeleteTopic(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, adminPatience)
	defer cancel()
	here, refused := r.here(ctx)
	if refused != nil {
		return refused
	}
	revision, err := here.home.metadata().DeleteTopic(ctx, name)
	if err != nil {
		return metaError("delete topic "+name, err)
	}
	return here.follow(ctx, revision)
}

// Topics lists the topics by name.
func (r *Router) Topics(ctx context.Context) ([]meta.Topic, error) {
	here, refused := r.here(ctx)
	if refused != nil {
		return nil, refused
	}
	out := here.index.Topics()
	slices.SortFunc(out, func(a, b meta.Topic) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// FindTopic finds a topic without asking its leaders.
func (r *Router) FindTopic(ctx context.Context, name string) (meta.Topic, error) {
	here, refused := r.here(ctx)
	if refused != nil {
		return meta.Topic{}, refused
	}
	return here.find(ctx, name, 0)
}

// roomFor refuses what no assignment would have room for: each is one value in etcd.
func (h here) roomFor(what string, partitions int32) *Error {
	if partitions < 1 || h.index.Room(partitions) {
		return nil // what is below 1 is refused by its own reason
	}
	return Errorf(ReasonInvalidTopic, "%s: the nodes lead as many partitions as they can, and have no room for %d more: start another node, or delete topics that nobody needs", what, partitions)
}

// find finds a topic that has at least so many partitions; when the index as it is does not show it, in one that is not older than
// the call. A topic with fewer is returned all the same, and is not news.
func (h here) find(ctx context.Context, name string, partitions int32) (meta.Topic, error) {
	if t, ok := h.index.Topic(name); ok && t.Partitions >= partitions {
		return t, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	revision, err := h.looks.read(ctx, h.home.metadata().Revision)
	if err != nil {
		return meta.Topic{}, metaError("look for topic "+name, err)
	}
	if err := h.follow(ctx, revision); err != nil {
		return meta.Topic{}, err
	}
	if t, ok := h.index.Topic(name); ok {
		return t, nil
	}
	return meta.Topic{}, unknownTopic(name)
}

// named is find for callers that may know the topic's id. When the index has another id, it may be behind the caller: it is looked at again at a
// revision that is not older than the call.
func (h here) named(ctx context.Context, name string, id meta.TopicID, partitions int32) (meta.Topic, error) {
	topic, err := h.find(ctx, name, partitions)
	if err == nil && id != (meta.TopicID{}) && topic.ID != id {
		topic, err = h.find(ctx, name, math.MaxInt32)
	}
	if err == nil && id != (meta.TopicID{}) && topic.ID != id {
		return meta.Topic{}, anotherTopic(name, id.String())
	}
	return topic, err
}

// topicNamed finds a topic in an index as it is. With an id, which is not the zero one, it must be the topic of that: the offsets of one that was
// deleted say nothing about another of the same name.
func topicNamed(index interface {
	Topic(name string) (meta.Topic, bool)
}, name string, id meta.TopicID) (meta.Topic, *Error) {
	topic, ok := index.Topic(name)
	switch {
	case !ok:
		return meta.Topic{}, unknownTopic(name)
	case id != (meta.TopicID{}) && topic.ID != id:
		return meta.Topic{}, anotherTopic(name, id.String())
	}
	return topic, nil
}

func anotherTopic(name, id string) *Error {
	return Errorf(ReasonUnknownTopic, "topic %q with the id %.64q is not there any more: another of the same name is", name, id)
}

// parseTopicID reads the id of a topic that a request may name; "" is the zero one.
func parseTopicID(id string) (meta.TopicID, error) {
	if id == "" {
		return meta.TopicID{}, nil
	}
	parsed, err := meta.ParseTopicID(id)
	if err != nil {
		return meta.TopicID{}, Errorf(ReasonInvalidRequest, "topic_id: %w", err)
	}
	return parsed, nil
}

// follow waits until the index is at a revision.
func (h here) follow(ctx context.Context, revision meta.Revision) error {
	if err := h.index.WaitFor(ctx, revision); err != nil {
		return metaError("wait for the index", err)
	}
	return nil
}

// metaError turns what package meta says into the reason that a caller acts on; what is put before it where it does not say so itself.
func metaError(what string, err error) *Error {
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	e := Errorf(metaReason(err), "%s: %w", what, err)
	if strings.HasPrefix(err.Error(), what+": ") {
		e = Errorf(e.Reason, "%w", err)
	}
	if e.Reason == ReasonUnavailable {
		e = e.WithRetryAfter(time.Second)
	}
	return e
}

func metaReason(err error) Reason {
	switch {
	case errors.Is(err, meta.ErrUnknownTopic):
		return ReasonUnknownTopic
	case errors.Is(err, meta.ErrTopicExists):
		return ReasonTopicExists
	case errors.Is(err, meta.ErrInvalidConfig):
		return ReasonInvalidConfig
	case errors.Is(err, meta.ErrInvalidTopic):
		return ReasonInvalidTopic
	case errors.Is(err, meta.ErrUnknownNode):
		return ReasonUnknownNode
	case errors.Is(err, meta.ErrLastNode):
		return ReasonLastNode
	case errors.Is(err, meta.ErrNodeAlive):
		return ReasonNodeAlive
	case errors.Is(err, context.DeadlineExceeded):
		return ReasonTimeout
	case errors.Is(err, context.Canceled):
		return ReasonCanceled
	default:
		return ReasonUnavailable
	}
}
