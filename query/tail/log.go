package tail

import (
	"context"
	"iter"

	"github.com/tidemark-io/tidemark/query/column"
	"github.com/tidemark-io/tidemark/record"
)

// Topic is what a tail follows.
type Topic struct {
	// ID says which topic this is; one that is made again under the name of another has another.
	ID string
	// Name is for people, and for a Log that asks by name.
	Name string
	// Partitions are numbered from 0. They may grow from one Snapshot to the next, never shrink.
	Partitions int32
	// Revision stands for the topic's configuration. It is not looked at here: it is for Schemas, who gets the greatest one known.
	Revision int64
}

// Log is where a tail reads.
type Log interface {
	// Open begins reading a topic's partitions at the offsets given. An offset of 0 stands for the beginning, wherever that is.
	Open(topic Topic, from map[int32]int64) (Reader, error)
}

// Reader reads on and on. Poll is called by one goroutine at a time and not beside Close.
type Reader interface {
	// Poll waits for the next piece of any partition. The pieces of a partition join. After an error that is retryable (a *client.Error that
	// says so) it may be called again and goes on without a gap; any other is final.
	Poll(ctx context.Context) (Piece, error)
	Close()
}

// Piece is a part of one partition's log.
type Piece struct {
	Partition int32
	// Next is the offset behind the piece. It may lie beyond the last record's: there are offsets without a record.
	Next int64
	// Records, never nil, gives the records, whose offsets rise and are below Next, once; their bytes need not stay valid. Its error is final.
	Records iter.Seq2[record.Record, error]
}

// Schemas keeps the columns of topics, for all nodes.
type Schemas interface {
	// Load returns a topic's schema, never nil. Of a topic that is gone it says meta.ErrUnknownTopic.
	Load(ctx context.Context, topic Topic) (*column.Schema, error)
	// Extend returns a schema in force that knows what was discovered under an earlier one, as far as the limits of a schema
	// allow. It may be one that somebody else has written meanwhile. An error is not the end, and it is tried again for a while, unless it is
	// meta.ErrUnknownTopic.
	Extend(ctx context.Context, topic Topic, from *column.Schema, d *column.Discovery) (*column.Schema, error)
}
