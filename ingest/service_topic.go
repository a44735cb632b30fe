package ingest

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// topicNode is what the Topic service needs of a node.
type topicNode interface {
	CreateTopic(ctx context.Context, name string, partitions int32, config map[string]string, ifNotExists bool) (meta.Topic, bool, error)
	Topic(ctx context.Context, name string) (meta.Topic, []PartitionState, error)
	Ends(ctx context.Context, name string) (meta.Topic, []PartitionState, error)
	// FindTopic is Topic for whoever does not care where the partitions stand: no leader is asked.
	FindTopic(ctx context.Context, name string) (meta.Topic, error)
	Topics(ctx context.Context) ([]meta.Topic, error)
	UpdateTopic(ctx context.Context, name string, config map[string]string) (meta.Topic, error)
	AddPartitions(ctx context.Context, name string, total int32) (meta.Topic, error)
	DeleteTopic(ctx context.Context, name string) error
	OffsetForTime(ctx context.Context, topic string, partition int32, timestampMs int64) (int64, error)
}

// maxPage is the greatest page of a listing; a token is a name of a topic, so none is longer than longestPageToken.
const (
	maxPage          = 1000
	longestPageToken = 255
)

// topicService is tidemark.v1.TopicService.
type topicService struct{ node topicNode }

// CreateTopic makes a topic; it answers when the topic takes records.
func (s *topicService) CreateTopic(ctx context.Context, r *tidemarkv1.CreateTopicRequest) (*tidemarkv1.CreateTopicResponse, error) {
	if err := checkTopicName(r.GetName()); err != nil {
		return nil, ConnectError(err)
	}
	partitions := r.GetPartitions()
	if partitions == 0 {
		partitions = 1
	}
	if partitions < 0 {
		return nil, ConnectError(Errorf(ReasonInvalidTopic, "a topic has 1 partition or more, not %d", partitions))
	}
	topic, created, err := s.node.CreateTopic(ctx, r.GetName(), partitions, r.GetConfig(), r.GetIfNotExists())
	if err != nil {
		return nil, ConnectError(err)
	}
	return &tidemarkv1.CreateTopicResponse{Topic: topicMessage(topic), Created: created}, nil
}

// GetTopic tells where the partitions of a topic stand.
func (s *topicService) GetTopic(ctx context.Context, r *tidemarkv1.GetTopicRequest) (*tidemarkv1.GetTopicResponse, error) {
	topic, states, err := s.topic(ctx, r.GetName())
	if err != nil {
		return nil, ConnectError(err)
	}
	out := &tidemarkv1.GetTopicResponse{Topic: topicMessage(topic), Partitions: make([]*tidemarkv1.PartitionState, 0, len(states))}
	for _, p := range states {
		out.Partitions = append(out.Partitions, stateMessage(p))
	}
	return out, nil
}

func (s *topicService) topic(ctx context.Context, name string) (meta.Topic, []PartitionState, error) {
	if err := checkTopicName(name); err != nil {
		return meta.Topic{}, nil, err
	}
	return s.node.Topic(ctx, name)
}

// ListTopics lists by name, in pages. A token is the last name given, so that a page begins right even when topics come and
// go between two calls.
func (s *topicService) ListTopics(ctx context.Context, r *tidemarkv1.ListTopicsRequest) (*tidemarkv1.ListTopicsResponse, error) {
	size := int(r.GetPageSize())
	switch {
	case size < 0 || size > maxPage:
		return nil, ConnectError(Errorf(ReasonInvalidRequest, "page_size is 1 to %d, or 0 for %d; not %d", maxPage, maxPage, size))
	case size == 0:
		size = maxPage
	}
	after, err := base64.RawURLEncoding.DecodeString(r.GetPageToken())
	if err != nil || len(after) > longestPageToken {
		return nil, ConnectError(Errorf(ReasonInvalidRequest, "page_token %.64q was not given by this service; leave it empty for the first page", r.GetPageToken()))
	}
	topics, err := s.node.Topics(ctx)
	if err != nil {
		return nil, ConnectError(err)
	}
	slices.SortFunc(topics, func(a, b meta.Topic) int { return strings.Compare(a.Name, b.Name) })
	from, found := slices.BinarySearchFunc(topics, string(after), func(t meta.Topic, name string) int { return strings.Compare(t.Name, name) })
	if found {
		from++
	}
	topics = topics[from:]
	out := &tidemarkv1.ListTopicsResponse{}
	if len(topics) > size {
		topics = topics[:size]
		out.NextPageToken = base64.RawURLEncoding.EncodeToString([]byte(topics[size-1].Name))
	}
	for _, t := range topics {
		out.Topics = append(out.Topics, topicMessage(t))
	}
	return out, nil
}

// UpdateTopic changes the settings that are named.
func (s *topicService) UpdateTopic(ctx context.Context, r *tidemarkv1.UpdateTopicRequest) (*tidemarkv1.UpdateTopicResponse, error) {
	if err := checkTopicName(r.GetName()); err != nil {
		return nil, ConnectError(err)
	}
	if len(r.GetConfig()) == 0 {
		return nil, ConnectError(Errorf(ReasonInvalidConfig, "no setting to change was given"))
	}
	topic, err := s.node.UpdateTopic(ctx, r.GetName(), r.GetConfig())
	if err != nil {
		return nil, ConnectError(err)
	}
	return &tidemarkv1.UpdateTopicResponse{Topic: topicMessage(topic)}, nil
}

// AddPartitions raises the number of partitions.
func (s *topicService) AddPartitions(ctx context.Context, r *tidemarkv1.AddPartitionsRequest) (*tidemarkv1.AddPartitionsResponse, error) {
	if err := checkTopicName(r.GetName()); err != nil {
		return nil, ConnectError(err)
	}
	if r.GetPartitions() < 1 {
		return nil, ConnectError(Errorf(ReasonInvalidTopic, "partitions is the new total, 1 or more; not %d", r.GetPartitions()))
	}
	topic, err := s.node.AddPartitions(ctx, r.GetName(), r.GetPartitions())
	if err != nil {
		return nil, ConnectError(err)
	}
	return &tidemarkv1.AddPartitionsResponse{Topic: topicMessage(topic)}, nil
}

// DeleteTopic answers when nobody leads a partition of the topic any more.
func (s *topicService) DeleteTopic(ctx context.Context, r *tidemarkv1.DeleteTopicRequest) (*tidemarkv1.DeleteTopicResponse, error) {
	if err := checkTopicName(r.GetName()); err != nil {
		return nil, ConnectError(err)
	}
	if err := s.node.DeleteTopic(ctx, r.GetName()); err != nil {
		return nil, ConnectError(err)
	}
	return &tidemarkv1.DeleteTopicResponse{}, nil
}

// ListOffsets resolves start, end or a timestamp.
func (s *topicService) ListOffsets(ctx context.Context, r *tidemarkv1.ListOffsetsRequest) (*tidemarkv1.ListOffsetsResponse, error) {
	topic, states, err := s.offsetsOf(ctx, r)
	if err != nil {
		return nil, ConnectError(err)
	}
	if err := sameTopic(topic, r.GetTopicId()); err != nil {
		return nil, ConnectError(err)
	}
	states, err = selectPartitions(r.GetTopic(), states, r.GetPartitions())
	if err != nil {
		return nil, ConnectError(err)
	}
	out := &tidemarkv1.ListOffsetsResponse{Offsets: make([]*tidemarkv1.PartitionOffset, 0, len(states))}
	for _, p := range states {
		var offset int64
		switch at := r.GetAt().(type) {
		case *tidemarkv1.ListOffsetsRequest_Start:
			offset = p.LogStartOffset
		case *tidemarkv1.ListOffsetsRequest_End:
			if err := knownEnd(topic, p); err != nil {
				return nil, ConnectError(err)
			}
			offset = p.HighWatermark
		case *tidemarkv1.ListOffsetsRequest_TimestampMs:
			offset, err = s.node.OffsetForTime(ctx, r.GetTopic(), p.Partition, at.TimestampMs)
			if err != nil {
				return nil, ConnectError(err)
			}
		default:
			return nil, ConnectError(Errorf(ReasonInvalidRequest, "set one of start, end and timestamp_ms"))
		}
		out.Offsets = append(out.Offsets, &tidemarkv1.PartitionOffset{Partition: p.Partition, Offset: offset})
	}
	return out, nil
}

// offsetsOf finds the topic of a ListOffsets, with ends that are as fresh as it asks for.
func (s *topicService) offsetsOf(ctx context.Context, r *tidemarkv1.ListOffsetsRequest) (meta.Topic, []PartitionState, error) {
	if !r.GetLinearizable() {
		return s.topic(ctx, r.GetTopic())
	}
	if _, end := r.GetAt().(*tidemarkv1.ListOffsetsRequest_End); !end {
		return meta.Topic{}, nil, Errorf(ReasonInvalidRequest, "linearizable goes with end only")
	}
	if err := checkTopicName(r.GetTopic()); err != nil {
		return meta.Topic{}, nil, err
	}
	return s.node.Ends(ctx, r.GetTopic())
}

// knownEnd refuses a high watermark that is not known: that of a topic on disk whose leader could not be asked.
func knownEnd(t meta.Topic, p PartitionState) error {
	if !p.fromIndex || !t.OnDisk() {
		return nil
	}
	return Errorf(ReasonNotLeader, "topic %q, partition %d: only its leader knows where it ends, and that cannot be asked now; ListLeaders tells what it waits for", t.Name, p.Partition).
		WithRetryAfter(askAgain)
}

// sameTopic refuses a topic that took the name of the one that the caller means; wanted is an id, or "" for whichever there is.
func sameTopic(t meta.Topic, wanted string) error {
	if wanted == "" || wanted == t.ID.String() {
		return nil
	}
	return anotherTopic(t.Name, wanted)
}

// selectPartitions gives the states of the partitions asked for, by number; all when none is named.
func selectPartitions(topic string, states []PartitionState, wanted []int32) ([]PartitionState, error) {
	byNumber := func(a, b PartitionState) int { return int(a.Partition) - int(b.Partition) }
	states = slices.SortedFunc(slices.Values(states), byNumber)
	if len(wanted) == 0 {
		return states, nil
	}
	wanted = slices.Sorted(slices.Values(wanted))
	out := make([]PartitionState, 0, len(wanted))
	for _, number := range slices.Compact(wanted) {
		i, found := slices.BinarySearchFunc(states, PartitionState{Partition: number}, byNumber)
		if !found {
			return nil, unknownPartition(topic, number, int32(len(states)))
		}
		out = append(out, states[i])
	}
	return out, nil
}

func unknownPartition(topic string, partition, have int32) error {
	return Errorf(ReasonUnknownPartition, "topic %q has no partition %d: its partitions are 0 to %d", topic, partition, have-1)
}

// checkTopicName refuses what cannot be a topic's name before anybody looks for it.
func checkTopicName(name string) error {
	if name == "" {
		return Errorf(ReasonInvalidTopic, "the name of the topic is missing")
	}
	if err := meta.ValidateTopicName(name); err != nil {
		return Errorf(ReasonInvalidTopic, "%w", err)
	}
	return nil
}

func topicMessage(t meta.Topic) *tidemarkv1.Topic {
	out := &tidemarkv1.Topic{Name: t.Name, Id: t.ID.String(), Partitions: t.Partitions, Config: t.Config.Map()}
	if !t.Created.IsZero() {
		out.Created = timestamppb.New(t.Created)
	}
	return out
}
