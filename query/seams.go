package query

import (
	"context"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/query/column"
	"github.com/tidemark-io/tidemark/query/tail"
)

// topicReader is what the service needs to know of topics. A catalog, over etcd, is the real one. Its methods may be called
// from any goroutine.
type topicReader interface {
	// Topic returns a topic as it is at some moment of the call; meta.ErrUnknownTopic when there is none.
	Topic(ctx context.Context, name string) (meta.Topic, error)
	// List returns all topics by name, as they are at some moment of the call.
	List(ctx context.Context) ([]meta.Topic, error)
	// Schema returns the topic's columns, never fewer than an earlier call or any other node's has returned.
	Schema(ctx context.Context, t meta.Topic) (*column.Schema, error)
}

// endReader is what the service needs of the nodes that own partitions. *client.Client is the real one.
type endReader interface {
	// EndOffsets returns offsets of every partition that lie above every record acknowledged before the call.
	EndOffsets(ctx context.Context, topic, topicID string) (map[int32]int64, error)
	// GetTopic returns a topic and the state of its partitions.
	GetTopic(ctx context.Context, name string) (*tidemarkv1.Topic, []*tidemarkv1.PartitionState, error)
}

// tailReader holds the records of topics as columns. A tailStore is the real one.
type tailReader interface {
	// Snapshot waits until the tail has everything below atLeast and returns what it has, which stays until it is released.
	Snapshot(ctx context.Context, t meta.Topic, atLeast map[int32]int64, schema *column.Schema) (snapshot, error)
	// Stats tells about every topic that the tail holds.
	Stats() []tail.Stats
}

// snapshot is a topic up to a position. It is a Table.
type snapshot interface {
	Table
	// Position is the next offset of every partition: the snapshot has every record below it that the log still has.
	Position() map[int32]int64
	// Columns is the schema that the snapshot shows.
	Columns() *column.Schema
	// Release lets go of it; no scan runs then or later.
	Release()
}

// tailStore is a store of package tail as this package uses it.
type tailStore struct{ store *tail.Store }

// Snapshot implements tailReader.
func (t tailStore) Snapshot(ctx context.Context, topic meta.Topic, atLeast map[int32]int64, schema *column.Schema) (snapshot, error) {
	snap, err := t.store.Snapshot(ctx, tail.Topic{
		ID: topic.ID.String(), Name: topic.Name, Partitions: topic.Partitions, Revision: topic.Revision,
	}, atLeast, schema)
	if err != nil {
		return nil, err
	}
	return tailSnapshot{snap}, nil
}

// Stats implements tailReader.
func (t tailStore) Stats() []tail.Stats { return t.store.Stats() }

// tailSnapshot is a snapshot of package tail as a table.
type tailSnapshot struct{ *tail.Snapshot }

// Schema is the whole table.
func (s tailSnapshot) Schema() *arrow.Schema { return s.Snapshot.Schema().Arrow() }

// Columns implements snapshot.
func (s tailSnapshot) Columns() *column.Schema { return s.Snapshot.Schema() }

// Scan begins reading.
func (s tailSnapshot) Scan(columns []int) (Scan, error) {
	scan, err := s.Snapshot.Scan(columns)
	if err != nil {
		return nil, err
	}
	return scan, nil
}
