package nemesis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/proof/history"
)

// KafkaGrouped is Grouped with one of Kafka's clients: a member of a group that rebalances cooperatively, reads all topics of the workload, and commits
// by itself.
type KafkaGrouped struct {
	Number int
	Group  string
	// Subscribed has the coordinator say who reads what, by the protocol of KIP-848, and not the member that leads the group.
	Subscribed bool
	// Stays is how long it stays before it leaves; 0 is for ever.
	Stays time.Duration
}

// commitPatience is how long a commit may take. While it takes, its member gives no partition away.
const commitPatience = 5 * time.Second

// Run joins, reads and leaves until ctx ends.
func (g *KafkaGrouped) Run(ctx context.Context, w *Workload, process int32) {
	log, err := w.openKafkaLog("kafka-consumer-" + strconv.Itoa(g.Number+1))
	if err != nil {
		w.Troublef("%v", err)
		return
	}
	defer log.close()
	for ctx.Err() == nil {
		life, cancel := context.WithCancel(ctx)
		if g.Stays > 0 {
			life, cancel = context.WithTimeout(ctx, g.Stays)
		}
		if err := g.belong(life, w, log, process); err != nil {
			w.Troublef("make one of Kafka's group consumers: %v", err)
		}
		cancel()
	}
}

// kafkaMember is one membership. From when a poll answers until the loop allows it again (BlockRebalanceOnPoll) the client takes nothing from the member:
// neither revoked nor lost is called meanwhile. So what was polled of a partition is in the history, and a commit of it is answered, before the
// member gives the partition away.
type kafkaMember struct {
	work    *Workload
	client  *kgo.Client
	group   history.Group
	process int32
	// subscribed members have an epoch each, which says nothing about those of others, and so are of no generation.
	subscribed bool
	began      context.Context // has the values of the membership's context, and no end

	// written counts the requests to commit that left, since several may be behind one answer.
	written atomic.Int32

	mu sync.Mutex
	// asked is when the client last was told what it has, and began to ask where that was committed.
	asked time.Duration
	// next is the position in each partition.
	next map[spot]int64
	// polled is what was polled of each partition and is not committed.
	polled map[spot]kgo.EpochOffset
}

// spot is a partition of a topic.
type spot struct {
	topic     string
	partition int32
}

// belong is one membership.
func (g *KafkaGrouped) belong(ctx context.Context, w *Workload, log *kafkaLog, process int32) error {
	m := &kafkaMember{
		work: w, group: w.history.Group(g.Group), process: process, subscribed: g.Subscribed, began: context.WithoutCancel(ctx),
		next: make(map[spot]int64), polled: make(map[spot]kgo.EpochOffset),
	}
	topics := make([]string, 0, len(w.config.Topics))
	for _, topic := range w.config.Topics {
		topics = append(topics, topic.Name)
	}
	options := append(w.kafkaOptions(g.Number, log),
		kgo.ConsumerGroup(g.Group), kgo.ConsumeTopics(topics...), kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(sessionTimeout), kgo.RebalanceTimeout(sessionTimeout), kgo.HeartbeatInterval(sessionTimeout/5),
		kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(), kgo.AdjustFetchOffsetsFn(m.found),
		kgo.OnPartitionsAssigned(m.assigned), kgo.OnPartitionsRevoked(m.revoked), kgo.OnPartitionsLost(m.lost), kgo.WithHooks(m),
	)
	if g.Subscribed {
		options = append(options, kgo.ServerSideBalancer())
	}
	c, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	m.client = c
	m.read(ctx)
	c.CloseAllowingRebalance() // leaves, and commits in revoked
	return nil
}

// OnBrokerWrite counts requests to commit.
func (m *kafkaMember) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if kmsg.Key(key) == kmsg.OffsetCommit {
		m.written.Add(1)
	}
}

// assigned is called before the client asks where partitions that are new to it were committed.
func (m *kafkaMember) assigned(context.Context, *kgo.Client, map[string][]int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = m.work.Now()
}

// found hears where partitions were committed, before the client reads from there.
func (m *kafkaMember) found(_ context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	_, generation := m.client.GroupMetadata()
	generation, now := m.generation(generation), m.work.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for topic, partitions := range offsets {
		for p, offset := range partitions {
			at := max(offset.EpochOffset().Offset, 0) // below 0 when nothing was committed: from the start
			m.next[spot{topic, p}] = at
			m.work.history.Assign(history.Assign{
				Call:      history.Call{Process: m.process, Invoke: int64(m.asked), Complete: int64(now)},
				Partition: m.work.Partition(topic, p), Offset: at, Group: m.group, Generation: generation,
			})
		}
	}
	return offsets, nil
}

// generation is what the history is told of the member's generation or epoch.
func (m *kafkaMember) generation(n int32) int32 {
	if m.subscribed {
		return -1
	}
	return n
}

func (m *kafkaMember) revoked(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	m.commit(m.uncommitted(parts))
	m.forget(parts)
}

func (m *kafkaMember) lost(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	m.forget(parts)
}

// forget drops what is known of partitions that others read from now on.
func (m *kafkaMember) forget(parts map[string][]int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for topic, partitions := range parts {
		for _, p := range partitions {
			delete(m.polled, spot{topic, p})
			delete(m.next, spot{topic, p})
		}
	}
}

// uncommitted is what was polled and is not committed, of some partitions, of all for nil.
func (m *kafkaMember) uncommitted(parts map[string][]int32) map[string]map[int32]kgo.EpochOffset {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[string]map[int32]kgo.EpochOffset)
	take := func(s spot, at kgo.EpochOffset) {
		if out[s.topic] == nil {
			out[s.topic] = make(map[int32]kgo.EpochOffset)
		}
		out[s.topic][s.partition] = at
	}
	if parts == nil {
		for s, at := range m.polled {
			take(s, at)
		}
		return out
	}
	for topic, partitions := range parts {
		for _, p := range partitions {
			if at, ok := m.polled[spot{topic, p}]; ok {
				take(spot{topic, p}, at)
			}
		}
	}
	return out
}

// read polls until ctx ends.
func (m *kafkaMember) read(ctx context.Context) {
	committed := m.work.Now()
	for ctx.Err() == nil {
		invoke := m.work.Now()
		polling, cancel := context.WithTimeout(ctx, commitEvery)
		fetches := m.client.PollFetches(polling)
		cancel()
		complete := m.work.Now()
		fetches.EachError(m.failed)
		fetches.EachPartition(func(f kgo.FetchTopicPartition) {
			if len(f.Records) > 0 {
				m.took(f, history.Call{Process: m.process, Invoke: int64(invoke), Complete: int64(complete)})
			}
		})
		// A poll without an answer holds nothing back.
		if len(fetches) > 0 && complete-committed >= commitEvery {
			m.commit(m.uncommitted(nil))
			committed = m.work.Now()
		}
		m.client.AllowRebalance()
	}
}

// failed hears of one failure of a poll.
func (m *kafkaMember) failed(topic string, partition int32, err error) {
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, kgo.ErrClientClosed):
	default:
		if loss, ok := errors.AsType[*kgo.ErrDataLoss](err); ok {
			m.work.Troublef("one of Kafka's consumers (process %d) was told that records are gone: %v", m.process, loss)
		}
		m.work.PollFailed(fmt.Errorf("%s partition %d: %w", topic, partition, err), false)
	}
}

// took tells the history of one partition's records.
func (m *kafkaMember) took(f kgo.FetchTopicPartition, call history.Call) {
	records := make([]history.Record, 0, len(f.Records))
	for _, r := range f.Records {
		id, err := parseValue(r.Value)
		if err != nil {
			m.work.Troublef("%s partition %d offset %d: %v", f.Topic, f.Partition, r.Offset, err)
			return
		}
		records = append(records, history.Record{Offset: r.Offset, Value: id})
	}
	last := f.Records[len(f.Records)-1]
	s, next := spot{f.Topic, f.Partition}, last.Offset+1
	m.mu.Lock()
	from, known := m.next[s]
	m.next[s] = next
	m.polled[s] = kgo.EpochOffset{Epoch: last.LeaderEpoch, Offset: next}
	m.mu.Unlock()
	if !known {
		m.work.Troublef("process %d was given records of %s partition %d, offset %d, which it does not have", m.process, f.Topic, f.Partition, records[0].Offset)
		from = records[0].Offset
	}
	m.work.Polled(history.Poll{
		Call: call, Partition: m.work.Partition(f.Topic, f.Partition), From: from, HighWatermark: f.HighWatermark,
		Group: m.group, Generation: -1, Records: records,
	}, f.Topic, f.Partition, next)
}

// commit commits, and tells the history of each offset. It is called while the client holds back changes, so that all of it is the member's
// until it is done.
func (m *kafkaMember) commit(offsets map[string]map[int32]kgo.EpochOffset) {
	if len(offsets) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(m.began, commitPatience)
	defer cancel()
	invoke := m.work.Now()
	m.written.Store(0)
	m.client.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, request *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
		complete := m.work.Now()
		codes := commitCodes(request, response)
		written := m.written.Load()
		for topic, partitions := range offsets {
			for p, at := range partitions {
				attempt := history.Commit{
					Call:  history.Call{Process: m.process, Invoke: int64(invoke), Complete: int64(complete)},
					Group: m.group, Partition: m.work.Partition(topic, p), Offset: at.Offset, Generation: m.generation(request.Generation), Outcome: history.Info,
				}
				failure := err
				if code, answered := codes[spot{topic, p}]; err == nil && answered {
					failure = kerr.ErrorForCode(code)
					attempt.Outcome = kafkaCommitted(failure, written)
				}
				if failure != nil {
					m.work.noteError("commit", failure)
				}
				m.work.history.Commit(attempt)
				if attempt.Outcome != history.OK {
					continue
				}
				if written > 1 {
					// What an attempt before it asked for may still be done, and whenever.
					attempt.Outcome = history.Info
					m.work.history.Commit(attempt)
				}
				m.work.count.commits.Add(1)
				m.stored(spot{topic, p}, at.Offset)
			}
		}
	})
}

// stored notes that everything below offset is committed.
func (m *kafkaMember) stored(s spot, offset int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at, ok := m.polled[s]; ok && at.Offset <= offset {
		delete(m.polled, s)
	}
}

// commitCodes are the codes of an answer by partition. An answer of a new version names topics by the ids that the request has beside their names.
func commitCodes(request *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse) map[spot]int16 {
	out := make(map[spot]int16)
	if response == nil {
		return out
	}
	names := make(map[[16]byte]string)
	for _, t := range request.Topics {
		names[t.TopicID] = t.Topic
	}
	for _, t := range response.Topics {
		name := t.Topic
		if name == "" {
			name = names[t.TopicID]
		}
		for _, p := range t.Partitions {
			out[spot{name, p.Partition}] = p.ErrorCode
		}
	}
	return out
}

// kafkaCommitted is what the answer to a commit says, which was written so many times. A refusal says nothing about an attempt before it.
func kafkaCommitted(err error, written int32) history.Outcome {
	if err == nil {
		return history.OK
	}
	if written == 1 {
		for _, definite := range []error{
			kerr.IllegalGeneration, kerr.UnknownMemberID, kerr.FencedInstanceID, kerr.RebalanceInProgress, kerr.StaleMemberEpoch, kerr.FencedMemberEpoch,
		} {
			if errors.Is(err, definite) {
				return history.Fail
			}
		}
	}
	return history.Info
}
