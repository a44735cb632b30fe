package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// What is known of a record whose produce failed, for errors.Is on the errors of a Producer; ErrOutcomeUnknown also on those of a
// GroupConsumer's commits.
var (
	// ErrRefused: the record is not in the log and never will be by this call.
	ErrRefused = errors.New("refused")
	// ErrOutcomeUnknown: the record may or may not be in the log, the commit be stored or not.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrClosed: the producer or consumer was closed.
	ErrClosed = errors.New("closed")
)

// Reasons that the client itself gives; the others are the server's.
const (
	// ReasonUnreachable: nobody answers at the server's address.
	ReasonUnreachable = "UNREACHABLE"
	// ReasonTooLarge: the record is above a limit that the client knows.
	ReasonTooLarge = "TOO_LARGE"
	// ReasonInvalidRecord: the record cannot be encoded.
	ReasonInvalidRecord = "INVALID_RECORD"
	// ReasonUnknownPartition: the topic has fewer partitions.
	ReasonUnknownPartition = "UNKNOWN_PARTITION"
	// ReasonUnknownTopic: there is no such topic.
	ReasonUnknownTopic = "UNKNOWN_TOPIC"
	// ReasonOffsetOutOfRange: the offset asked for lies below the log's start or above its end. Metadata has log_start_offset and
	// high_watermark.
	ReasonOffsetOutOfRange = "OFFSET_OUT_OF_RANGE"
	// ReasonDeliveryTimeout: the producer's DeliveryTimeout passed.
	ReasonDeliveryTimeout = "DELIVERY_TIMEOUT"
	// ReasonCorruptData: what the server sent does not match its checksum or is no log.
	ReasonCorruptData = "CORRUPT_DATA"
	// ReasonFencedProducer: somebody writes under the producer's id with a newer epoch. The Producer is at its end; make another.
	ReasonFencedProducer = "FENCED_PRODUCER"

	reasonUnknownProducer    = "UNKNOWN_PRODUCER"
	reasonOutOfOrderSequence = "OUT_OF_ORDER_SEQUENCE"
	reasonNotLeader          = "NOT_LEADER"
	reasonBackPressure       = "BACK_PRESSURE"
	reasonOutcomeUnknown     = "OUTCOME_UNKNOWN"
	reasonShuttingDown       = "SHUTTING_DOWN"
	reasonUnavailable        = "UNAVAILABLE"
)

// Outcome is what an error says of the record, or the commit, that it is about.
type Outcome uint8

const (
	// OutcomeNone: the error says nothing about that.
	OutcomeNone Outcome = iota
	// OutcomeRefused: not in the log.
	OutcomeRefused
	// OutcomeUnknown: maybe in the log.
	OutcomeUnknown
)

// Error is the type of every error that came from the server or from the way to it; get it with errors.As.
type Error struct {
	Code connect.Code
	// Reason is a stable word for programs, such as UNKNOWN_TOPIC; empty when the server gave none.
	Reason string
	// Message is a sentence for people.
	Message string
	// Retryable: the same request may succeed later.
	Retryable bool
	// RetryAfter is the server's hint; 0 when there is none.
	RetryAfter time.Duration
	Metadata   map[string]string
	// Outcome is set on errors of produces, and is OutcomeUnknown on those of a GroupConsumer's commits that may have been stored.
	Outcome Outcome

	cause error
}

// Error is the message, and for a produce what is known of the record.
func (e *Error) Error() string {
	if e.Outcome == OutcomeUnknown {
		return "outcome unknown: " + e.Message
	}
	return e.Message
}

// Unwrap gives what lies below, or nil.
func (e *Error) Unwrap() error { return e.cause }

// Is matches ErrRefused and ErrOutcomeUnknown.
func (e *Error) Is(target error) bool {
	return target == ErrRefused && e.Outcome == OutcomeRefused || target == ErrOutcomeUnknown && e.Outcome == OutcomeUnknown
}

// IsNotFound tells that a topic or partition does not exist.
func IsNotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Code == connect.CodeNotFound || e.Reason == ReasonUnknownTopic || e.Reason == ReasonUnknownPartition)
}

// IsUnreachable tells that no server answered.
func IsUnreachable(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Reason == ReasonUnreachable
}

// remoteError makes an *Error of what a call returned.
func (c *Client) remoteError(err error) *Error { return c.errorFrom(c.server, err) }

// errorFrom is remoteError for a call to one server.
func (c *Client) errorFrom(server string, err error) *Error {
	if err == nil {
		return nil
	}
	if own, ok := errors.AsType[*Error](err); ok {
		return own
	}
	e := &Error{Code: connect.CodeOf(err), Message: err.Error(), cause: err}
	if errors.Is(err, context.DeadlineExceeded) {
		e.Code = connect.CodeDeadlineExceeded
	}
	if errors.Is(err, io.EOF) {
		e.Code, e.Message = connect.CodeUnavailable, errNoStream.Error()
	}
	var ce *connect.Error
	if errors.As(err, &ce) {
		e.Message = ce.Message()
		e.readDetails(ce)
	}
	switch e.Code {
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeAborted, connect.CodeResourceExhausted:
		e.Retryable = e.Retryable || e.Reason == "" || e.RetryAfter > 0 || retryableReason(e.Reason)
	default:
		e.Retryable = e.Retryable || retryableReason(e.Reason)
	}
	if e.Reason == "" && e.Code == connect.CodeUnavailable && (ce == nil || !connect.IsWireError(err)) {
		e.Reason = ReasonUnreachable
		e.Message = fmt.Sprintf("no answer from %s: %s", server, e.Message)
	}
	return e
}

func retryableReason(reason string) bool {
	switch reason {
	case reasonNotLeader, reasonBackPressure, reasonOutcomeUnknown, reasonShuttingDown, "TIMEOUT", reasonUnavailable:
		return true
	}
	return false
}

func (e *Error) readDetails(ce *connect.Error) {
	for _, d := range ce.Details() {
		v, err := d.Value()
		if err != nil {
			continue // a detail of a newer server: the code and the message are there all the same
		}
		switch v := v.(type) {
		case *errdetails.ErrorInfo:
			e.Reason, e.Metadata = v.GetReason(), v.GetMetadata()
		case *errdetails.RetryInfo:
			e.RetryAfter, e.Retryable = v.GetRetryDelay().AsDuration(), true
		case *tidemarkv1.ProduceError:
			e.Reason, e.Retryable = v.GetReason(), v.GetRetryable()
			e.RetryAfter = time.Duration(v.GetRetryAfterMs()) * time.Millisecond
		}
	}
}

// produceError makes an *Error of an answer in a stream.
func produceError(p *tidemarkv1.ProduceError) *Error {
	e := &Error{
		Code: connect.CodeUnknown, Reason: p.GetReason(), Message: p.GetMessage(), Retryable: p.GetRetryable(),
		RetryAfter: time.Duration(p.GetRetryAfterMs()) * time.Millisecond,
	}
	var code connect.Code
	if code.UnmarshalText([]byte(p.GetCode())) == nil {
		e.Code = code
	}
	return e
}

// excludesSuccess tells whether the failure of one attempt proves that the batch is not in the log by that attempt.
func (e *Error) excludesSuccess() bool {
	switch e.Reason {
	case reasonOutcomeUnknown, "TIMEOUT", "CANCELED", reasonUnavailable, reasonShuttingDown, "INTERNAL", "", ReasonUnreachable:
		return false
	}
	return true
}

// neverSent tells that the connection could not even be made.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func refused(code connect.Code, reason, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Reason: reason, Message: err.Error(), Outcome: OutcomeRefused, cause: errors.Unwrap(err)}
}
