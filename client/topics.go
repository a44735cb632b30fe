package client

import (
	"context"
	"errors"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// CreateTopic makes a topic; 0 partitions mean 1. With ifNotExists an existing topic is the answer, and created is false;
// it may then be false for a topic that this very call made, when the node that made it was lost before it answered.
func (c *Client) CreateTopic(ctx context.Context, name string, partitions int32, config map[string]string, ifNotExists bool) (t *tidemarkv1.Topic, created bool, err error) {
	r, err := ask(ctx, c, ifNotExists, func(e *endpoint) (*tidemarkv1.CreateTopicResponse, error) {
		return e.topic.CreateTopic(ctx, &tidemarkv1.CreateTopicRequest{Name: name, Partitions: partitions, Config: config, IfNotExists: ifNotExists})
	})
	if err != nil {
		return nil, false, err
	}
	return r.GetTopic(), r.GetCreated(), nil
}

// GetTopic returns a topic and where its partitions begin and end.
func (c *Client) GetTopic(ctx context.Context, name string) (*tidemarkv1.Topic, []*tidemarkv1.PartitionState, error) {
	r, err := ask(ctx, c, true, func(e *endpoint) (*tidemarkv1.GetTopicResponse, error) {
		return e.topic.GetTopic(ctx, &tidemarkv1.GetTopicRequest{Name: name})
	})
	if err != nil {
		return nil, nil, err
	}
	return r.GetTopic(), r.GetPartitions(), nil
}

// ListTopics returns all topics by name.
func (c *Client) ListTopics(ctx context.Context) ([]*tidemarkv1.Topic, error) {
	var all []*tidemarkv1.Topic
	token := ""
	for {
		r, err := ask(ctx, c, true, func(e *endpoint) (*tidemarkv1.ListTopicsResponse, error) {
			return e.topic.ListTopics(ctx, &tidemarkv1.ListTopicsRequest{PageToken: token})
		})
		if err != nil {
			return nil, err
		}
		all = append(all, r.GetTopics()...)
		next := r.GetNextPageToken()
		if next == "" {
			return all, nil
		}
		if next == token {
			return nil, errors.New("list topics: the server gave the same page token twice")
		}
		token = next
	}
}

// UpdateTopic changes the settings that are named and leaves the others.
func (c *Client) UpdateTopic(ctx context.Context, name string, config map[string]string) (*tidemarkv1.Topic, error) {
	r, err := ask(ctx, c, false, func(e *endpoint) (*tidemarkv1.UpdateTopicResponse, error) {
		return e.topic.UpdateTopic(ctx, &tidemarkv1.UpdateTopicRequest{Name: name, Config: config})
	})
	if err != nil {
		return nil, err
	}
	return r.GetTopic(), nil
}

// AddPartitions raises the number of partitions to total.
func (c *Client) AddPartitions(ctx context.Context, name string, total int32) (*tidemarkv1.Topic, error) {
	r, err := ask(ctx, c, false, func(e *endpoint) (*tidemarkv1.AddPartitionsResponse, error) {
		return e.topic.AddPartitions(ctx, &tidemarkv1.AddPartitionsRequest{Name: name, Partitions: total})
	})
	if err != nil {
		return nil, err
	}
	return r.GetTopic(), nil
}

// DeleteTopic deletes a topic and its records.
func (c *Client) DeleteTopic(ctx context.Context, name string) error {
	_, err := ask(ctx, c, false, func(e *endpoint) (*tidemarkv1.DeleteTopicResponse, error) {
		return e.topic.DeleteTopic(ctx, &tidemarkv1.DeleteTopicRequest{Name: name})
	})
	return err
}

// ListOffsets resolves From (start, end or a time) to offsets, of all partitions when none is named.
func (c *Client) ListOffsets(ctx context.Context, topic string, at From, partitions ...int32) (map[int32]int64, error) {
	req := &tidemarkv1.ListOffsetsRequest{Topic: topic, Partitions: partitions}
	switch at.kind {
	case fromStart:
		req.At = &tidemarkv1.ListOffsetsRequest_Start{Start: true}
	case fromEnd:
		req.At = &tidemarkv1.ListOffsetsRequest_End{End: true}
	case fromTimestamp:
		req.At = &tidemarkv1.ListOffsetsRequest_TimestampMs{TimestampMs: at.value}
	case fromOffset, fromOffsets:
		return nil, errors.New("list offsets: an offset has nothing to resolve")
	}
	return c.listOffsets(ctx, req)
}

// EndOffsets returns the high watermark of every partition, and covers every record that was acknowledged before the call, by
// whomever. With a topicID the topic must have that id: one that was deleted and made again under its name is not found.
func (c *Client) EndOffsets(ctx context.Context, topic, topicID string) (map[int32]int64, error) {
	return c.listOffsets(ctx, &tidemarkv1.ListOffsetsRequest{Topic: topic, TopicId: topicID, At: &tidemarkv1.ListOffsetsRequest_End{End: true}, Linearizable: true})
}

func (c *Client) listOffsets(ctx context.Context, req *tidemarkv1.ListOffsetsRequest) (map[int32]int64, error) {
	r, err := ask(ctx, c, true, func(e *endpoint) (*tidemarkv1.ListOffsetsResponse, error) {
		return e.topic.ListOffsets(ctx, req)
	})
	if err != nil {
		return nil, err
	}
	out := make(map[int32]int64, len(r.GetOffsets()))
	for _, o := range r.GetOffsets() {
		out[o.GetPartition()] = o.GetOffset()
	}
	return out, nil
}
