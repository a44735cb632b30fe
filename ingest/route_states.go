package ingest

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/meta"
)

const (
	// statesPatience is how long a description waits for other leaders before it tells what the index knows.
	statesPatience = time.Second
	// leaderAttempt bounds one question to a leader that has to answer.
	leaderAttempt = 5 * time.Second
	// leadersAtOnce is how many nodes are asked at the same time.
	leadersAtOnce = 16
)

// Topic describes a topic and its partitions: as their leaders say, and where a leader cannot be asked within a second, as the index
// knows it, which is what is committed.
func (r *Router) Topic(ctx context.Context, name string) (meta.Topic, []PartitionState, error) {
	h, refused := r.here(ctx)
	if refused != nil {
		return meta.Topic{}, nil, refused
	}
	topic, err := h.find(ctx, name, 0)
	if err != nil {
		return meta.Topic{}, nil, err
	}
	states, err := h.life.states(ctx, topic)
	if err != nil {
		return meta.Topic{}, nil, err
	}
	if !h.forwarded {
		r.askOthers(ctx, h, topic, states)
	}
	for n := range states {
		if states[n].Leader == "" {
			states[n] = h.stateFromIndex(topic, int32(n))
		}
	}
	return topic, states, nil
}

// stateFromIndex tells of a partition what is committed, and who leads it if somebody does.
func (h here) stateFromIndex(topic meta.Topic, partition int32) PartitionState {
	id := meta.Partition{Topic: topic.ID, Partition: partition}
	end := h.index.End(id)
	out := PartitionState{Partition: partition, LogStartOffset: h.index.Start(id), HighWatermark: end, CommittedOffset: end, LogEndOffset: end, fromIndex: true}
	if l, waitsFor := ledBy(h.index, topic, partition); waitsFor == "" {
		out.Leader, out.LeaderEpoch = string(l.Node), l.Epoch
	}
	return out
}

// askOthers fills in the states of partitions that other nodes lead, as far as those answer in time.
func (r *Router) askOthers(ctx context.Context, h here, topic meta.Topic, states []PartitionState) {
	var wanted []FetchPartition
	for n := range states {
		if states[n].Leader == "" {
			wanted = append(wanted, FetchPartition{Partition: int32(n)})
		}
	}
	parts, _, _ := splitFetch(h, topic, wanted)
	parts = slices.DeleteFunc(parts, func(p leaderPart) bool { return p.node == r.self })
	if len(parts) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, statesPatience)
	defer cancel()
	answers := r.askLeaders(ctx, topic, parts, 0)
	for _, got := range answers {
		for _, s := range got {
			if int(s.Partition) < len(states) && s.Partition >= 0 {
				states[s.Partition] = s
			}
		}
	}
}

// askLeaders asks several nodes at once where their partitions stand; nothing stands for those that do not answer before ctx ends.
func (r *Router) askLeaders(ctx context.Context, topic meta.Topic, parts []leaderPart, revision meta.Revision) [][]PartitionState {
	answers := make([][]PartitionState, len(parts))
	var group errgroup.Group
	group.SetLimit(leadersAtOnce)
	for n, part := range parts {
		group.Go(func() error {
			remote, refused := r.remote(part.node)
			if refused != nil {
				return refused
			}
			wanted := make([]int32, 0, len(part.partitions))
			for _, p := range part.partitions {
				wanted = append(wanted, p.Partition)
			}
			var err error
			answers[n], err = remote.partitions(ctx, topic, wanted, revision)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		r.logger.DebugContext(ctx, "ask leaders", "topic", topic.Name, "cause", err)
	}
	return answers
}

// led tells where the partitions of a topic stand that this node leads, from an index at a revision or above; all of them when wanted is
// empty. Above revision 0 the answer covers everything that this node or an earlier life of it has acknowledged: see Ends.
func (h here) led(ctx context.Context, id meta.TopicID, wanted []int32, revision meta.Revision) ([]PartitionState, error) {
	if err := h.follow(ctx, revision); err != nil {
		return nil, err
	}
	topic, ok := h.index.TopicByID(id)
	if !ok {
		return nil, Errorf(ReasonUnknownTopic, "there is no topic with the id %s (any more)", id)
	}
	states, err := h.life.states(ctx, topic)
	if err != nil {
		return nil, err
	}
	asked := make(map[int32]bool, len(wanted))
	for _, number := range wanted {
		asked[number] = true
	}
	states = slices.DeleteFunc(states, func(s PartitionState) bool {
		return s.Leader == "" || (len(asked) > 0 && !asked[s.Partition])
	})
	if revision == 0 {
		return states, nil
	}
	if topic.Config.Durability == meta.DurabilityObject {
		if err := h.awaitReplayed(ctx, topic, states); err != nil {
			return nil, err
		}
		for n := range states {
			states[n].HighWatermark = max(states[n].HighWatermark, h.index.End(meta.Partition{Topic: id, Partition: states[n].Partition}))
		}
	}
	return states, nil
}

// fromLeaders asks the leaders of a topic, named by an index at a revision or above, until each of its partitions was answered for by
// the node that the index names at the epoch that it names.
func (r *Router) fromLeaders(ctx context.Context, topic meta.Topic, revision meta.Revision, patience time.Duration) ([]PartitionState, error) {
	states := make([]PartitionState, topic.Partitions)
	missing := make([]FetchPartition, 0, topic.Partitions)
	for n := range topic.Partitions {
		missing = append(missing, FetchPartition{Partition: n})
	}
	err := r.untilLed(ctx, patience, func(ctx context.Context, h here) error {
		if err := h.follow(ctx, revision); err != nil {
			return err
		}
		at := h.index.Revision()
		if _, there := h.index.TopicByID(topic.ID); !there {
			return Errorf(ReasonUnknownTopic, "topic %s was deleted meanwhile", topic.Name)
		}
		parts, _, away := splitFetch(h, topic, missing)
		if away != nil && away.Reason != ReasonNotLeader {
			return away
		}
		attempt, cancel := context.WithTimeout(ctx, leaderAttempt)
		defer cancel()
		others := slices.DeleteFunc(slices.Clone(parts), func(p leaderPart) bool { return p.node == r.self })
		answers := r.askLeaders(attempt, topic, others, at)
		if len(others) < len(parts) {
			mine, err := h.led(ctx, topic.ID, nil, at)
			if err != nil {
				return err
			}
			answers = append(answers, mine)
		}
		for _, got := range answers {
			missing = h.accept(topic, states, missing, got)
		}
		if len(missing) == 0 {
			return nil
		}
		if away != nil {
			return away
		}
		to := h.leaderOf(topic, missing[0].Partition)
		refused := Errorf(ReasonNotLeader, "topic %s partition %d: node %s does not lead it yet, or does not answer", topic.Name, missing[0].Partition, to.node)
		return refused.WithRetryAfter(askAgain).With(metadataLeader, string(to.node))
	})
	return states, err
}

// accept takes the states that come from the leader that the index names, at the epoch that it names, and returns what is still missing.
func (h here) accept(topic meta.Topic, states []PartitionState, missing []FetchPartition, got []PartitionState) []FetchPartition {
	led := make(map[int32]PartitionState, len(got))
	for _, s := range got {
		l, ok := h.index.Leader(meta.Partition{Topic: topic.ID, Partition: s.Partition})
		if ok && string(l.Node) == s.Leader && l.Epoch == s.LeaderEpoch {
			led[s.Partition] = s
		}
	}
	return slices.DeleteFunc(missing, func(p FetchPartition) bool {
		s, ok := led[p.Partition]
		if ok {
			states[p.Partition] = s
		}
		return ok
	})
}

// awaitLeaders waits until every partition of a topic has a leader that leads.
func (r *Router) awaitLeaders(ctx context.Context, topic meta.Topic) error {
	_, err := r.fromLeaders(ctx, topic, topic.Revision, adminPatience)
	if err == nil || !leaderAway(err) {
		return err
	}
	e := AsError(err)
	return Errorf(e.Reason, "topic %s is there, but not all of its partitions have a leader yet: %w", topic.Name, err).WithRetryAfter(time.Second)
}

// flushLeaders has every leader of a topic, as of its revision or later, commit what it has taken for it.
func (r *Router) flushLeaders(ctx context.Context, h here, topic meta.Topic) error {
	if err := h.follow(ctx, topic.Revision); err != nil {
		return err
	}
	leaders := make(map[meta.NodeID]bool)
	for n := range topic.Partitions {
		if l, assigned := h.index.Leader(meta.Partition{Topic: topic.ID, Partition: n}); assigned {
			leaders[l.Node] = true
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(leadersAtOnce)
	for node := range leaders {
		group.Go(func() error {
			if node == r.self {
				return h.life.flush(ctx, topic)
			}
			err := r.flushAt(ctx, node, topic)
			if err != nil && leaderAway(err) {
				return Errorf(ReasonUnavailable, "topic %s must be flushed by node %s, which leads it and cannot be asked: %w; try again when it is back", topic.Name, node, err).
					WithRetryAfter(time.Second)
			}
			return err
		})
	}
	return group.Wait()
}

func (r *Router) flushAt(ctx context.Context, node meta.NodeID, topic meta.Topic) error {
	remote, refused := r.remote(node)
	if refused != nil {
		return refused
	}
	return remote.flush(ctx, topic, topic.Revision)
}
