package kafka

import (
	"cmp"
	"context"
	"regexp"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
)

// OffsetCommit and OffsetFetch. From version 10 on they name topics by id.

// groupOffsets keeps what groups have read; see Groups.
type groupOffsets interface {
	Commit(ctx context.Context, c ingest.GroupCommit) ([]*ingest.Error, error)
	View(ctx context.Context, name string) (ingest.GroupView, error)
}

// topicsByID is the version of both requests from which on they name topics by id.
const topicsByID = 10

// serveOffsetCommit answers when the offsets are durable.
func serveOffsetCommit(ctx context.Context, k *call) error {
	q := requestOf[*kmsg.OffsetCommitRequest](k)
	commit := ingest.GroupCommit{Group: q.Group, MemberID: q.MemberID, InstanceID: deref(q.InstanceID), Generation: q.Generation}
	if err := k.weigh(); err != nil {
		return err
	}
	if err := k.reserve(committedBytes(q)); err != nil {
		return err
	}
	out := kmsg.NewPtrOffsetCommitResponse()
	names := k.topicNames()
	var committed []*kmsg.OffsetCommitResponseTopicPartition // in the order of commit.Offsets
	for _, t := range q.Topics {
		topic := kmsg.NewOffsetCommitResponseTopic()
		topic.Topic, topic.TopicID = t.Topic, t.TopicID
		topic.Partitions = make([]kmsg.OffsetCommitResponseTopicPartition, len(t.Partitions))
		name, unknown := names(t.Topic, t.TopicID)
		for i, p := range t.Partitions {
			answer := &topic.Partitions[i]
			answer.Partition = p.Partition
			if unknown != nil {
				answer.ErrorCode = groupCode(unknown)
				continue
			}
			committed = append(committed, answer)
			commit.Offsets = append(commit.Offsets, ingest.GroupCommitOffset{
				Topic: name, TopicID: t.TopicID, Partition: p.Partition, Offset: p.Offset, LeaderEpoch: p.LeaderEpoch, Metadata: deref(p.Metadata),
			})
		}
		out.Topics = append(out.Topics, topic)
	}
	k.settle()
	ctx, cancel := context.WithTimeout(ctx, groupPatience)
	defer cancel()
	refused, err := k.conn.server.commit(ctx, commit)
	for i, answer := range committed {
		switch {
		case err != nil:
			answer.ErrorCode = commitCode(err)
		case refused[i] != nil:
			answer.ErrorCode = commitCode(refused[i])
			if refused[i].Reason == ingest.ReasonTooLarge && len(commit.Offsets[i].Metadata) > meta.MaxOffsetMetadata {
				answer.ErrorCode = kerr.OffsetMetadataTooLarge.Code
			}
		}
	}
	return k.answerLarge(k.conn.ctx, out)
}

// committedBytes is what a commit takes from then on that its request is dropped, with its answer, about.
func committedBytes(q *kmsg.OffsetCommitRequest) int64 {
	bytes := int64(0)
	for _, t := range q.Topics {
		bytes += namedBytes + int64(len(t.Partitions))*offsetBytes
		for _, p := range t.Partitions {
			bytes += int64(len(deref(p.Metadata)))
		}
	}
	return bytes
}

// commit stores offsets: those of a member of KIP-848's protocol in its name.
func (s *Server) commit(ctx context.Context, c ingest.GroupCommit) ([]*ingest.Error, error) {
	if m := s.subscribers.find(c.Group, c.MemberID); m != nil {
		return m.commit(ctx, c)
	}
	refused, err := s.Groups.Commit(ctx, c)
	if ingest.ReasonOf(err) == ingest.ReasonRebalanceInProgress && !givenID.MatchString(c.MemberID) {
		// It has drawn its id by itself, as members of KIP-848's protocol do, and its coordinator is another one now. Such clients know of no rebalance that
		// they had to join.
		return nil, refuse(kerr.UnknownMemberID, "group %q has another coordinator now; join it again", c.Group)
	}
	return refused, err
}

// givenID is the form of ids that a coordinator draws for members; see ingest.Groups.Join.
var givenID = regexp.MustCompile(`-[0-9a-f]{32}$`)

// commitCode is groupCode for a commit.
func commitCode(err error) int16 {
	switch code := groupCode(err); {
	case code == kerr.NonEmptyGroup.Code:
		// Of a coordinator that has just taken the group over and does not know whether its members come back. It will: the client tries again.
		return kerr.CoordinatorLoadInProgress.Code
	case ingest.ReasonOf(err) == ingest.ReasonTooLarge:
		return kerr.InvalidCommitOffsetSize.Code
	default:
		return code
	}
}

// checkPartitions refuses requests that name more than anybody needs.
func checkPartitions[T any](topics []T, partitions func(T) int) error {
	if len(topics) > maxNamedTopics {
		return errTooMany("topics", len(topics), maxNamedTopics)
	}
	total := 0
	for _, t := range topics {
		total += partitions(t)
	}
	if total > maxNamedPartitions {
		return errTooMany("partitions", total, maxNamedPartitions)
	}
	return nil
}

// topicNames gives the name of a topic of the call, which names it or, in later versions, its id.
func (k *call) topicNames() func(name string, id [16]byte) (string, error) {
	if k.version < topicsByID {
		return func(name string, _ [16]byte) (string, error) { return name, nil }
	}
	index, err := k.conn.server.Cluster.Index()
	return func(_ string, id [16]byte) (string, error) {
		if err != nil {
			return "", err
		}
		if t, ok := index.TopicByID(id); ok {
			return t.Name, nil
		}
		return "", kerr.UnknownTopicID
	}
}

// serveOffsetFetch tells what groups have committed. From version 8 on it is asked about any number of groups.
func serveOffsetFetch(ctx context.Context, k *call, q *kmsg.OffsetFetchRequest) (*kmsg.OffsetFetchResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, groupPatience)
	defer cancel()
	out := kmsg.NewPtrOffsetFetchResponse()
	if k.version >= 8 {
		answers, err := k.fetchOffsets(ctx, q.Groups...)
		out.Groups = answers
		return out, err
	}
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = q.Group
	if q.Topics != nil || k.version < 2 {
		g.Topics = make([]kmsg.OffsetFetchRequestGroupTopic, 0, len(q.Topics))
	}
	for _, t := range q.Topics {
		g.Topics = append(g.Topics, kmsg.OffsetFetchRequestGroupTopic{Topic: t.Topic, Partitions: t.Partitions})
	}
	answers, err := k.fetchOffsets(ctx, g)
	if err != nil {
		return nil, err
	}
	answer := answers[0]
	if answer.ErrorCode != 0 && k.version < 2 {
		answer.Topics = refusedOffsets(g.Topics, answer.ErrorCode)
	}
	out.ErrorCode = answer.ErrorCode
	for _, t := range answer.Topics {
		topic := kmsg.NewOffsetFetchResponseTopic()
		topic.Topic = t.Topic
		topic.Partitions = make([]kmsg.OffsetFetchResponseTopicPartition, len(t.Partitions))
		for i, p := range t.Partitions {
			topic.Partitions[i] = kmsg.OffsetFetchResponseTopicPartition{
				Partition: p.Partition, Offset: p.Offset, LeaderEpoch: p.LeaderEpoch, Metadata: p.Metadata, ErrorCode: p.ErrorCode,
			}
		}
		out.Topics = append(out.Topics, topic)
	}
	return out, nil
}

// offsetBytes is what an offset takes in an answer, as messages and encoded, beyond its metadata.
const offsetBytes = 200

// fetchOffsets tells what groups have committed. The groups are looked at first, so that it is known what the answer takes.
func (k *call) fetchOffsets(ctx context.Context, groups ...kmsg.OffsetFetchRequestGroup) ([]kmsg.OffsetFetchResponseGroup, error) {
	index, err := k.conn.server.Cluster.Index()
	groups, again := once(groups, func(g kmsg.OffsetFetchRequestGroup) string { return g.Group })
	out := make([]kmsg.OffsetFetchResponseGroup, len(groups))
	return out, k.tellGroups(len(groups), groupTelling{
		look: func(i int) (ingest.GroupView, error) {
			switch {
			case err != nil:
				return ingest.GroupView{}, err
			case again[groups[i].Group]:
				return ingest.GroupView{}, refuse(kerr.InvalidRequest, "the request names a group more than once")
			}
			return k.viewOffsets(ctx, groups[i], index)
		},
		size: func(i int, view ingest.GroupView) int64 { return k.offsetsTold(groups[i], view, index) },
		tell: func(i int, view ingest.GroupView, err error) {
			out[i] = kmsg.NewOffsetFetchResponseGroup()
			if out[i].Group, out[i].ErrorCode = groups[i].Group, groupCode(err); err == nil {
				out[i].Topics = k.tellOffsets(groups[i], view, index)
			}
		},
	})
}

// viewOffsets looks at what one group has committed, and keeps what is asked for. A group that is not there has committed nothing.
func (k *call) viewOffsets(ctx context.Context, q kmsg.OffsetFetchRequestGroup, index ingest.ClusterIndex) (ingest.GroupView, error) {
	s := k.conn.server
	view, err := s.Groups.View(ctx, q.Group)
	if err != nil && ingest.ReasonOf(err) != ingest.ReasonUnknownGroup {
		return ingest.GroupView{}, err
	}
	if err := s.subscribers.mayFetch(q, view); err != nil {
		return ingest.GroupView{}, err
	}
	if q.Topics == nil {
		return ingest.GroupView{Offsets: view.Offsets}, nil
	}
	asked := make(map[meta.TopicID]meta.GroupOffsets)
	for _, t := range q.Topics {
		id, _ := k.topicOf(t, index)
		for _, p := range t.Partitions {
			o, there := view.Offsets[id][p]
			if !there {
				continue
			}
			if asked[id] == nil {
				asked[id] = make(meta.GroupOffsets)
			}
			asked[id][p] = o
		}
	}
	return ingest.GroupView{Offsets: asked}, nil
}

// offsetsTold is what the answer to a question takes, about.
func (k *call) offsetsTold(q kmsg.OffsetFetchRequestGroup, view ingest.GroupView, index ingest.ClusterIndex) int64 {
	bytes := int64(namedBytes)
	for _, t := range q.Topics {
		bytes += namedBytes + offsetBytes*int64(len(t.Partitions))
		if len(view.Offsets) == 0 {
			continue
		}
		id, _ := k.topicOf(t, index)
		for _, p := range t.Partitions {
			bytes += int64(len(view.Offsets[id][p].Metadata))
		}
	}
	if q.Topics != nil {
		return bytes
	}
	for _, offsets := range view.Offsets {
		bytes += namedBytes
		for _, o := range offsets {
			bytes += offsetBytes + int64(len(o.Metadata))
		}
	}
	return bytes
}

// topicOf is a topic that is named or, in later versions, given by its id. A name of nothing is no error: nothing was committed in it.
func (k *call) topicOf(t kmsg.OffsetFetchRequestGroupTopic, index ingest.ClusterIndex) (meta.TopicID, error) {
	if k.version < topicsByID {
		topic, _ := index.Topic(t.Topic)
		return topic.ID, nil
	}
	id := meta.TopicID(t.TopicID)
	if _, there := index.TopicByID(id); !there {
		return meta.TopicID{}, kerr.UnknownTopicID
	}
	return id, nil
}

// tellOffsets answers for one group.
func (k *call) tellOffsets(q kmsg.OffsetFetchRequestGroup, view ingest.GroupView, index ingest.ClusterIndex) (out []kmsg.OffsetFetchResponseGroupTopic) {
	if q.Topics == nil {
		for id, offsets := range view.Offsets {
			t, there := index.TopicByID(id)
			if !there {
				continue
			}
			topic := kmsg.NewOffsetFetchResponseGroupTopic()
			topic.Topic, topic.TopicID = t.Name, topicUUID(t.ID)
			for p, o := range offsets {
				topic.Partitions = append(topic.Partitions, committedOffset(p, o))
			}
			slices.SortFunc(topic.Partitions, func(a, b kmsg.OffsetFetchResponseGroupTopicPartition) int {
				return cmp.Compare(a.Partition, b.Partition)
			})
			out = append(out, topic)
		}
		slices.SortFunc(out, func(a, b kmsg.OffsetFetchResponseGroupTopic) int { return cmp.Compare(a.Topic, b.Topic) })
		return out
	}
	for _, t := range q.Topics {
		topic := kmsg.NewOffsetFetchResponseGroupTopic()
		topic.Topic, topic.TopicID = t.Topic, t.TopicID
		topic.Partitions = make([]kmsg.OffsetFetchResponseGroupTopicPartition, 0, len(t.Partitions))
		id, unknown := k.topicOf(t, index)
		for _, p := range t.Partitions {
			o, there := view.Offsets[id][p]
			if !there {
				o = meta.GroupOffset{Offset: -1, LeaderEpoch: -1}
			}
			answer := committedOffset(p, o)
			answer.ErrorCode = groupCode(unknown)
			topic.Partitions = append(topic.Partitions, answer)
		}
		out = append(out, topic)
	}
	return out
}

func committedOffset(partition int32, o meta.GroupOffset) kmsg.OffsetFetchResponseGroupTopicPartition {
	p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = partition, o.Offset, o.LeaderEpoch, &o.Metadata
	return p
}

// refusedOffsets answers each partition with an error, as version 1 does.
func refusedOffsets(topics []kmsg.OffsetFetchRequestGroupTopic, code int16) []kmsg.OffsetFetchResponseGroupTopic {
	out := make([]kmsg.OffsetFetchResponseGroupTopic, 0, len(topics))
	for _, t := range topics {
		topic := kmsg.NewOffsetFetchResponseGroupTopic()
		topic.Topic = t.Topic
		for _, p := range t.Partitions {
			answer := committedOffset(p, meta.GroupOffset{Offset: -1, LeaderEpoch: -1})
			answer.ErrorCode = code
			topic.Partitions = append(topic.Partitions, answer)
		}
		out = append(out, topic)
	}
	return out
}
