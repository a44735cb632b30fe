package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

// ErrorDomain is the domain of the google.rpc.ErrorInfo that goes with every error of a service.
const ErrorDomain = "tidemark.io"

// Reason is a stable word for programs: it says why a request failed, and callers act by it, never by the message.
type Reason string

// Every reason that leaves a node. A word is never given another meaning; new ones may be added.
const (
	// ReasonUnknownTopic: no topic of this name, or it was deleted meanwhile.
	ReasonUnknownTopic Reason = "UNKNOWN_TOPIC"
	// ReasonUnknownPartition: the topic has fewer partitions.
	ReasonUnknownPartition Reason = "UNKNOWN_PARTITION"
	// ReasonTopicExists: a topic of this name is there already.
	ReasonTopicExists Reason = "TOPIC_EXISTS"
	// ReasonInvalidTopic: the name or the number of partitions is not allowed.
	ReasonInvalidTopic Reason = "INVALID_TOPIC"
	// ReasonInvalidConfig: an unknown setting or a value out of its range.
	ReasonInvalidConfig Reason = "INVALID_CONFIG"
	// ReasonInvalidRequest: the request contradicts itself or lacks a field.
	ReasonInvalidRequest Reason = "INVALID_REQUEST"
	// ReasonInvalidRecord: a record or batch is malformed though its checksum is right.
	ReasonInvalidRecord Reason = "INVALID_RECORD"
	// ReasonCorruptBatch: the batch does not match its checksum, or is cut off.
	ReasonCorruptBatch Reason = "CORRUPT_BATCH"
	// ReasonUnknownCodec: the batch is compressed with a codec that this version does not know.
	ReasonUnknownCodec Reason = "UNKNOWN_CODEC"
	// ReasonTooLarge: a record, batch, line or request is above a limit.
	ReasonTooLarge Reason = "TOO_LARGE"
	// ReasonOffsetOutOfRange: the offset lies below the log's start or above its end.
	// Metadata: log_start_offset, high_watermark.
	ReasonOffsetOutOfRange Reason = "OFFSET_OUT_OF_RANGE"
	// ReasonNotLeader: this node does not lead the partition (any more); nothing of the request is in the log.
	ReasonNotLeader Reason = "NOT_LEADER"
	// ReasonBackPressure: buffers are full because something outside is slow; the message names it. Nothing was taken.
	ReasonBackPressure Reason = "BACK_PRESSURE"
	// ReasonOutOfOrderSequence: a batch of an idempotent producer does not follow its last one.
	ReasonOutOfOrderSequence Reason = "OUT_OF_ORDER_SEQUENCE"
	// ReasonUnknownProducer: no state of this producer id, and the sequence is not 0.
	ReasonUnknownProducer Reason = "UNKNOWN_PRODUCER"
	// ReasonFencedProducer: a newer epoch of this producer id has written.
	ReasonFencedProducer Reason = "FENCED_PRODUCER"
	// ReasonOutcomeUnknown: the records may or may not be in the log. Only an idempotent producer may repeat without a duplicate.
	ReasonOutcomeUnknown Reason = "OUTCOME_UNKNOWN"
	// ReasonCorruptData: stored data does not match its checksum, or an object is missing; the message names object and offset.
	ReasonCorruptData Reason = "CORRUPT_DATA"
	// ReasonShuttingDown: the node is stopping and takes nothing more.
	ReasonShuttingDown Reason = "SHUTTING_DOWN"
	// ReasonTimeout: the caller's deadline passed. A produce that was taken goes on.
	ReasonTimeout Reason = "TIMEOUT"
	// ReasonCanceled: the caller went away. A produce that was taken goes on.
	ReasonCanceled Reason = "CANCELED"
	// ReasonUnavailable: the object store, etcd or the node is not to be had right now.
	ReasonUnavailable Reason = "UNAVAILABLE"
	// ReasonInternal: our bug; the log has the rest.
	ReasonInternal Reason = "INTERNAL"
)

// Retryable tells whether the same request may succeed later without anybody changing it.
func (r Reason) Retryable() bool {
	switch r {
	case ReasonNotLeader, ReasonNotCoordinator, ReasonBackPressure, ReasonOutcomeUnknown, ReasonShuttingDown, ReasonTimeout, ReasonUnavailable:
		return true
	case ReasonUnknownTopic, ReasonUnknownPartition, ReasonTopicExists, ReasonInvalidTopic, ReasonInvalidConfig,
		ReasonInvalidRequest, ReasonInvalidRecord, ReasonCorruptBatch, ReasonUnknownCodec, ReasonTooLarge,
		ReasonOffsetOutOfRange, ReasonOutOfOrderSequence, ReasonUnknownProducer, ReasonFencedProducer,
		ReasonCorruptData, ReasonCanceled, ReasonInternal, ReasonUnknownNode, ReasonLastNode, ReasonNodeAlive,
		ReasonInvalidGroup, ReasonUnknownGroup, ReasonGroupFull, ReasonRebalanceInProgress, ReasonGroupNotEmpty, ReasonUnknownMemberID,
		ReasonMemberIDRequired, ReasonIllegalGeneration, ReasonFencedInstanceID, ReasonInconsistentGroupProtocol:
		return false
	}
	return false
}

// Error is the one type of every error that leaves the node; get it with errors.As. It is immutable once returned, and may
// be shared by many callers.
type Error struct {
	Reason Reason
	// Message is a sentence for people: what, why, and what to do next.
	Message string
	// RetryAfter is a hint for retryable reasons; 0 when there is none.
	RetryAfter time.Duration
	// Cause is what lies below, or nil. It is not shown to remote callers beyond what Message says of it.
	Cause error
	// Metadata is for programs; keys are lower case with underscores.
	Metadata map[string]string
}

// Error is the message; the reason travels beside it.
func (e *Error) Error() string {
	if e.Message == "" && e.Cause != nil {
		return e.Cause.Error()
	}
	return e.Message
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is makes errors.Is(err, &Error{Reason: r}) true for every error of the reason.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Reason == e.Reason && t.Message == "" && t.Cause == nil
}

// Errorf makes an error of a reason. A %w in the format sets the cause.
func Errorf(reason Reason, format string, args ...any) *Error {
	wrapped := fmt.Errorf(format, args...)
	return &Error{Reason: reason, Message: wrapped.Error(), Cause: errors.Unwrap(wrapped)}
}

// WithRetryAfter returns a copy of e with a retry hint.
func (e *Error) WithRetryAfter(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// With returns a copy of e with one more metadata entry.
func (e *Error) With(key, value string) *Error {
	c := *e
	c.Metadata = maps.Clone(e.Metadata)
	if c.Metadata == nil {
		c.Metadata = make(map[string]string, 1)
	}
	c.Metadata[key] = value
	return &c
}

// ReasonOf finds the reason of any error; nil has none. What is not an *Error is INTERNAL, but for a context's end.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return ReasonTimeout
	case errors.Is(err, context.Canceled):
		return ReasonCanceled
	}
	return ReasonInternal
}

// AsError gives err as an *Error, making one of the reason ReasonOf says when it is none; nil stays nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Reason: ReasonOf(err), Message: err.Error(), Cause: err}
}
