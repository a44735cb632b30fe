package main

import (
	"context"
	"time"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// acked is the answer to one record.
type acked struct {
	partition int32
	offset    int64 // -1 with acks=0
	reached   tidemarkv1.Reached
	err       error
}

// producer is what commands need of a producer.
type producer interface {
	// produce takes m and copies what it needs before it returns; m.partition -1 leaves the choice to the key. It waits
	// while too much is under way. Unless it fails, done is called exactly once, from any goroutine, and in order within
	// a partition; done must not block.
	produce(ctx context.Context, m *message, done func(acked)) error
	// flush waits until everything taken is answered.
	flush(ctx context.Context) error
	// close gives up what is not answered; its done is called with an error. Safe twice.
	close(ctx context.Context) error
}

// producerOptions are the settings that commands have for a producer.
type producerOptions struct {
	topic       string
	acks        tidemarkv1.Acks
	compression string // none, gzip, snappy, lz4 or zstd
	batchBytes  int    // 0 leaves it to the client
}

// consumer is what commands need of a consumer.
type consumer interface {
	// poll waits for records and calls each for all that came at once, in order within a partition; m is valid during the
	// call only. It returns io.EOF when the consumer was to stop at the end and has, and the error of each as it is.
	poll(ctx context.Context, each func(m *message) error) error
	// printed tells that each was done with all that it was called for by the last poll. A member of a group commits that, at the latest
	// when it closes; what was not printed comes again.
	printed()
	close() error
}

// consumerOptions say what to read. Exactly one of the starts counts: start and end first, then offset unless it is
// negative, then timestampMs.
type consumerOptions struct {
	topic       string
	partitions  []int32 // all when empty
	start, end  bool
	offset      int64
	timestampMs int64
	untilEnd    bool // stop at the high watermarks of the beginning

	// A member of a group reads its share of all partitions from where the group has got to; start and end count for those
	// where it has committed nothing.
	group, instance, strategy string
	commitEvery               time.Duration
}
