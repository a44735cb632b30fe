package tail

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
)

// Errors that callers act on; test with errors.Is.
var (
	// ErrSpillFull: the topic does not fit into the memory and the disk space that tails may take.
	ErrSpillFull = errors.New("no room for the rows of the topics that are queried")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("the store of tails is closed")
	// ErrDropped: the topic was dropped while the call waited.
	ErrDropped = errors.New("the topic is gone")
)

// Why a tail ends without anybody being told: whoever asks begins another.
var (
	errIdle    = errors.New("nobody queried the topic for long")
	errRebuild = errors.New("the tail is built anew")
)

// DamageError says that what was read from a spill file is not what was written there. The tail is built anew from the log, so that
// the same query may succeed when it is asked again.
type DamageError struct {
	Topic  string
	File   string
	Column string // empty when the file could not be opened
	cause  error
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("spill file %s of topic %q, column %q: %v; the topic is read anew from its log: ask again",
		e.File, e.Topic, e.Column, e.cause)
}

// Unwrap gives what is wrong.
func (e *DamageError) Unwrap() error { return e.cause }

// SchemaError says that the Schemas could not tell or extend the columns of a topic. The tail ends with it; a later Snapshot begins another.
type SchemaError struct {
	Topic string
	Err   error
	doing string
}

func (e *SchemaError) Error() string {
	return fmt.Sprintf("%s the columns of topic %q: %v", cmp.Or(e.doing, "keep"), e.Topic, e.Err)
}

// Unwrap gives what the Schemas said.
func (e *SchemaError) Unwrap() error { return e.Err }

// RangeError says that the records that a tail was about to read were deleted, again and again when it began anew: they are deleted faster than
// they are read.
type RangeError struct {
	Topic string
	Err   error
}

func (e *RangeError) Error() string {
	return fmt.Sprintf("the records of topic %q are deleted while they are read: %v; ask again, or keep them for longer", e.Topic, e.Err)
}

// Unwrap gives what the reader said.
func (e *RangeError) Unwrap() error { return e.Err }

// PanicError is a bug of ours that some record or file has brought to light: what was doing for a topic panicked. The tail ends with it; a
// later Snapshot begins another. Where it was is in the log.
type PanicError struct {
	Topic string
	Cause any // what it panicked with
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("a bug shows in topic %q: %v; the log of this process says where, please report it", e.Topic, e.Cause)
}

// caught is to be deferred: it makes an error of a panic, whose stack it logs.
func caught(log *slog.Logger, topic string, err *error) {
	if cause := recover(); cause != nil {
		log.Error("a bug shows in a topic", "topic", topic, "panic", cause, "stack", string(debug.Stack()))
		*err = &PanicError{Topic: topic, Cause: cause}
	}
}

// Lag is how far a partition is from where a Snapshot waits for it.
type Lag struct {
	Partition int32
	Reached   int64
	Wanted    int64
}

// LagError is a Snapshot whose context ended before the tail was where it should be. It unwraps to the context's cause.
type LagError struct {
	Topic string
	// Partitions that lag, in order; empty when the position was reached but the snapshot was not ready.
	Partitions []Lag
	// Reading is the last trouble that the tail had, or nil.
	Reading error
	cause   error
}

func (e *LagError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "wait for the tail of topic %q: %v", e.Topic, e.cause)
	const most = 8
	for i, l := range e.Partitions {
		if i == most {
			fmt.Fprintf(&b, ", and %d partitions more", len(e.Partitions)-most)
			break
		}
		sep := ", "
		if i == 0 {
			sep = "; "
		}
		fmt.Fprintf(&b, "%spartition %d is at offset %d of %d", sep, l.Partition, l.Reached, l.Wanted)
	}
	if e.Reading != nil {
		fmt.Fprintf(&b, "; reading: %v", e.Reading)
	}
	return b.String()
}

// Unwrap gives the context's cause.
func (e *LagError) Unwrap() error { return e.cause }

// lagging lists the partitions that are below what is wanted.
func lagging(reached, wanted map[int32]int64) []Lag {
	var out []Lag
	for n, want := range wanted {
		if at := reached[n]; at < want {
			out = append(out, Lag{Partition: n, Reached: at, Wanted: want})
		}
	}
	slices.SortFunc(out, func(a, b Lag) int { return int(a.Partition) - int(b.Partition) })
	return out
}
