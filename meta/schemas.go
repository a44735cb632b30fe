package meta

import (
	"context"
	"errors"
	"fmt"
)

// GetTopic reads one topic as it is now; ErrUnknownTopic when there is none.
func (c *Client) GetTopic(ctx context.Context, name string) (Topic, error) {
	return c.readTopic(ctx, name)
}

// ListTopics reads every topic as of one revision of now, by name.
func (c *Client) ListTopics(ctx context.Context) ([]Topic, error) {
	dir := c.keys.prefix + dirTopics
	kvs, _, err := c.kv.Range(ctx, dir, 0)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	topics := make([]Topic, 0, len(kvs))
	for _, kv := range kvs {
		t, err := decodeTopic(kv.Key[len(dir):], kv)
		if err != nil {
			return nil, err
		}
		topics = append(topics, t)
	}
	return topics, nil
}

// TopicSchema reads the stored columns of a topic as they are now; a topic whose values have shown none has revision 0.
func (c *Client) TopicSchema(ctx context.Context, id TopicID) (Pointer, error) {
	return c.GetPointer(ctx, c.keys.Schema(id))
}

// SwapTopicSchema replaces the stored columns of a topic, of which from is the revision, 0 for none. Value holds a version, so that it never was
// there before. When others were quicker, it is ErrPointerMoved, and the pointer is what they stored. When the topic was deleted, it is
// ErrUnknownTopic, and nothing of it is stored or ever will be. In doubt it asks until etcd decides, as SwapPointer does.
func (c *Client) SwapTopicSchema(ctx context.Context, t Topic, from Revision, value []byte) (Pointer, error) {
	p, err := c.SwapPointer(ctx, Swap{
		Key: c.keys.Schema(t.ID), From: from, Value: value, Guards: []Compare{IfCreate(c.keys.Topic(t.Name), t.CreateRevision)},
	})
	// Only the deletion of the topic removes the key.
	if errors.Is(err, ErrGuardChanged) || errors.Is(err, ErrPointerMoved) && p.Revision == 0 {
		return Pointer{}, fmt.Errorf("%w: %s was deleted", ErrUnknownTopic, t.Name)
	}
	return p, err
}
