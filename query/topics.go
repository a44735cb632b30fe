package query

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/query/column"
	"github.com/tidemark-io/tidemark/query/tail"
)

// registryOfTopics is what a catalog needs of etcd. *meta.Client is the real one.
type registryOfTopics interface {
	GetTopic(ctx context.Context, name string) (meta.Topic, error)
	ListTopics(ctx context.Context) ([]meta.Topic, error)
	TopicSchema(ctx context.Context, id meta.TopicID) (meta.Pointer, error)
	SwapTopicSchema(ctx context.Context, t meta.Topic, from meta.Revision, value []byte) (meta.Pointer, error)
}

// catalog is topicReader and tail.Schemas over etcd. Everything is read anew, so that no answer has fewer columns than an earlier one,
// whichever node gave that; what is kept is only what a value was decoded to.
//
// A topic's schema is changed by compare-and-swap alone: whoever finds that a column is missing, or that the topic's settings
// choose another type for one, extends what is stored and swaps; who loses reads what won and extends that.
type catalog struct {
	registry registryOfTopics

	mu      sync.Mutex
	decoded map[meta.TopicID]decodedSchema
}

type decodedSchema struct {
	revision meta.Revision
	schema   *column.Schema
}

// maxDecoded bounds the decoded schemas that are kept.
const maxDecoded = 1_000

func newCatalog(r registryOfTopics) *catalog {
	return &catalog{registry: r, decoded: make(map[meta.TopicID]decodedSchema)}
}

// Topic implements topicReader.
func (c *catalog) Topic(ctx context.Context, name string) (meta.Topic, error) {
	return c.registry.GetTopic(ctx, name)
}

// List implements topicReader.
func (c *catalog) List(ctx context.Context) ([]meta.Topic, error) { return c.registry.ListTopics(ctx) }

// Schema implements topicReader.
func (c *catalog) Schema(ctx context.Context, t meta.Topic) (*column.Schema, error) {
	pointer, err := c.registry.TopicSchema(ctx, t.ID)
	if err != nil {
		return nil, fmt.Errorf("read the columns of topic %s: %w", t.Name, err)
	}
	schema, err := c.decode(t, pointer)
	if err != nil {
		return nil, err
	}
	if overridden(schema, t) == schema {
		return schema, nil
	}
	return c.change(ctx, t.Name, t.ID.String(), func(s *column.Schema) *column.Schema { return s })
}

// Load implements tail.Schemas.
func (c *catalog) Load(ctx context.Context, t tail.Topic) (*column.Schema, error) {
	return c.change(ctx, t.Name, t.ID, func(s *column.Schema) *column.Schema { return s })
}

// Extend implements tail.Schemas.
func (c *catalog) Extend(ctx context.Context, t tail.Topic, from *column.Schema, d *column.Discovery) (*column.Schema, error) {
	return c.change(ctx, t.Name, t.ID, func(s *column.Schema) *column.Schema { return s.Extend(d) })
}

// change makes the stored schema what change and the topic's settings make of it, and returns it.
func (c *catalog) change(ctx context.Context, name, id string, change func(*column.Schema) *column.Schema) (*column.Schema, error) {
	topicID, err := meta.ParseTopicID(id)
	if err != nil {
		return nil, err
	}
	for {
		// The settings must be at least as new as those that the stored schema was made by: the topic is read behind it.
		pointer, err := c.registry.TopicSchema(ctx, topicID)
		if err != nil {
			return nil, fmt.Errorf("read the columns of topic %s: %w", name, err)
		}
		t, err := c.registry.GetTopic(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("read topic %s: %w", name, err)
		}
		if t.ID != topicID {
			return nil, fmt.Errorf("%w: %s was deleted and made again", meta.ErrUnknownTopic, name)
		}
		schema, err := c.decode(t, pointer)
		if err != nil {
			return nil, err
		}
		next := change(overridden(schema, t))
		if next == schema {
			return schema, nil
		}
		swapped, err := c.registry.SwapTopicSchema(ctx, t, pointer.Revision, next.Encode())
		switch {
		case err == nil:
			return c.decode(t, swapped)
		case errors.Is(err, meta.ErrPointerMoved): // others were quicker: theirs is what is extended
		default: // also that the topic was deleted
			return nil, fmt.Errorf("store the columns of topic %s: %w", name, err)
		}
	}
}

// overridden folds a topic's settings into its schema; it is s itself when nothing changes.
func overridden(s *column.Schema, t meta.Topic) *column.Schema {
	types, err := column.Overrides(t.Config.Columns())
	if err != nil {
		return s // settings of a later release choose what this one does not know: the columns stay as they are
	}
	return s.Override(types)
}

// decode reads a stored schema; none at all is the empty one.
func (c *catalog) decode(t meta.Topic, p meta.Pointer) (*column.Schema, error) {
	if p.Revision == 0 {
		return column.Empty, nil
	}
	c.mu.Lock()
	kept, found := c.decoded[t.ID]
	c.mu.Unlock()
	if found && kept.revision == p.Revision {
		return kept.schema, nil
	}
	schema, err := column.Decode(p.Value)
	if err != nil {
		return nil, fmt.Errorf("%w: topic %s: %w; a later release may have written them", errCorruptSchema, t.Name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.decoded) >= maxDecoded {
		clear(c.decoded)
	}
	if kept := c.decoded[t.ID]; kept.revision < p.Revision {
		c.decoded[t.ID] = decodedSchema{p.Revision, schema}
	}
	return schema, nil
}
