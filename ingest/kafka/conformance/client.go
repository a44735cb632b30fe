package conformance

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// record is a record as every reader has to see it.
type record struct {
	Partition int32
	Offset    int64
	// Timestamp is in milliseconds since 1970.
	Timestamp int64
	// Key and Value are nil when they are NULL, which is not the same as empty.
	Key, Value []byte
	Headers    []header
}

// header is one header of a record. A key may come more than once; order counts.
type header struct {
	Key   string
	Value []byte // nil when it is NULL
}

// producing says how to produce.
type producing struct {
	// Acks is all, 1 or 0.
	Acks       string
	Idempotent bool
	// Codec is none, gzip, snappy, lz4 or zstd.
	Codec string
	// ByKey has the client choose the partition by its rule that is Kafka's own; otherwise records go where they say.
	ByKey bool
}

// client is one client library. Its methods are called one after the other, but for members.
type client interface {
	// createTopic makes a topic of the client's own accord.
	createTopic(ctx context.Context, topic string, partitions int) error
	deleteTopic(ctx context.Context, topic string) error
	// produce sends records and waits for their acknowledgements. It fills in partitions and offsets; with acks 0 nobody knows them.
	produce(ctx context.Context, topic string, how producing, records []record) error
	// consume reads a topic from its beginning until it has so many records.
	consume(ctx context.Context, topic string, partitions, n int) ([]record, error)
	// seek finds the first record of a partition at or after a time, in milliseconds, and reads it.
	seek(ctx context.Context, topic string, partition int32, ms int64) (record, error)
	// join makes a member of a group, which begins at the beginning where the group has committed nothing.
	join(ctx context.Context, group, topic string) (member, error)
	close() error
}

// member is one member of a group.
type member interface {
	// poll returns what comes within about the given time; none is no error.
	poll(ctx context.Context, patience time.Duration) ([]record, error)
	// commit commits all that was polled.
	commit(ctx context.Context) error
	// leave leaves the group in order.
	leave() error
}

// seat is a client with its place in the table.
type seat struct {
	name    string
	version string
	// lacks says of features why the library does not offer them.
	lacks map[string]string
	// blurs says what the library does not keep of a record; blur does the same to one that it reads, and writes to one that it is given.
	blurs        string
	blur, writes func(record) record
	open         func(broker string) (client, error)
}

// errUnfinished is what a client says that did not get all within its time.
func errUnfinished(got, want int, cause error) error {
	return errors.Join(fmt.Errorf("%d of %d records came", got, want), cause)
}

// millis is a time of a record.
func millis(ms int64) time.Time { return time.UnixMilli(ms) }
