package query

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// ErrorDomain is the domain of the google.rpc.ErrorInfo that goes with every error of the service.
const ErrorDomain = "tidemark.io"

// Reason is a stable word for programs: it says why a query failed, and callers act by it, never by the message. Those of
// refused statements that are not listed here come from package sandbox.
type Reason string

// Every reason of the query service's own. A word is never given another meaning; new ones may be added.
const (
	// ReasonInvalidRequest: the request contradicts itself or lacks a field.
	ReasonInvalidRequest Reason = "INVALID_REQUEST"
	// ReasonTooLarge: the statement or the request is above a limit.
	ReasonTooLarge Reason = "TOO_LARGE"
	// ReasonInvalidSQL: the statement does not parse or means nothing. Metadata: position, line, column, next.
	ReasonInvalidSQL Reason = "INVALID_SQL"
	// ReasonUnknownTable: there is no topic or system table of the name. Metadata: table, position, line, column, next.
	ReasonUnknownTable Reason = "UNKNOWN_TABLE"
	// ReasonUnknownColumn: no table of the statement has the column. Metadata: position, line, column.
	ReasonUnknownColumn Reason = "UNKNOWN_COLUMN"
	// ReasonSQLError: the statement is right and a value is not: a text that is no number, a number too large for its type.
	ReasonSQLError Reason = "SQL_ERROR"
	// ReasonUnknownTopic: at_least names a topic that is not there, or one was deleted under the query.
	ReasonUnknownTopic Reason = "UNKNOWN_TOPIC"
	// ReasonUnknownPartition: at_least names a partition that the topic does not have.
	ReasonUnknownPartition Reason = "UNKNOWN_PARTITION"
	// ReasonPositionNotReached: at_least names an offset above the end of its partition, and the log did not come there in time. Nobody was
	// acknowledged there. Metadata: topic, partition, asked, end, next.
	ReasonPositionNotReached Reason = "POSITION_NOT_REACHED"
	// ReasonUnknownQuery: no query of this id is waiting or running here.
	ReasonUnknownQuery Reason = "UNKNOWN_QUERY"
	// ReasonQueueFull: too many queries are waiting. Nothing was run.
	ReasonQueueFull Reason = "QUERY_QUEUE_FULL"
	// ReasonTimeout: the query's time is over, waiting included.
	ReasonTimeout Reason = "QUERY_TIMEOUT"
	// ReasonResultTooLarge: the result has more rows than were allowed, or a row that fits no message.
	ReasonResultTooLarge Reason = "RESULT_TOO_LARGE"
	// ReasonMemory: the query needs more memory than a query may take.
	ReasonMemory Reason = "QUERY_MEMORY"
	// ReasonTempSpace: the query needs more temporary disk space than there is for it.
	ReasonTempSpace Reason = "QUERY_TEMP_SPACE"
	// ReasonClientTooSlow: the client did not take its result.
	ReasonClientTooSlow Reason = "CLIENT_TOO_SLOW"
	// ReasonNoEngine: this build executes no SQL.
	ReasonNoEngine Reason = "NO_SQL_ENGINE"
	// ReasonQueryCanceled: somebody canceled the query by its id.
	ReasonQueryCanceled Reason = "QUERY_CANCELED"
	// ReasonCanceled: the client went away.
	ReasonCanceled Reason = "CANCELED"
	// ReasonShuttingDown: the service is stopping and takes nothing more.
	ReasonShuttingDown Reason = "SHUTTING_DOWN"
	// ReasonUnavailable: etcd or the log is not to be had right now.
	ReasonUnavailable Reason = "UNAVAILABLE"
	// ReasonCorruptData: stored data does not match its checksum or means nothing.
	ReasonCorruptData Reason = "CORRUPT_DATA"
	// ReasonInternal: our bug; the log has the rest.
	ReasonInternal Reason = "INTERNAL"
)

// Code is the Connect code that a reason goes out with. A reason that is none of this package's is one of a refused statement.
func (r Reason) Code() connect.Code {
	switch r {
	case ReasonInvalidRequest, ReasonTooLarge, ReasonInvalidSQL, ReasonUnknownColumn, ReasonSQLError:
		return connect.CodeInvalidArgument
	case ReasonUnknownTable, ReasonUnknownTopic, ReasonUnknownPartition, ReasonUnknownQuery:
		return connect.CodeNotFound
	case ReasonQueueFull, ReasonResultTooLarge, ReasonMemory, ReasonTempSpace:
		return connect.CodeResourceExhausted
	case ReasonTimeout:
		return connect.CodeDeadlineExceeded
	case ReasonPositionNotReached:
		return connect.CodeFailedPrecondition
	case ReasonClientTooSlow:
		return connect.CodeAborted
	case ReasonNoEngine:
		return connect.CodeUnimplemented
	case ReasonCanceled, ReasonQueryCanceled:
		return connect.CodeCanceled
	case ReasonShuttingDown, ReasonUnavailable:
		return connect.CodeUnavailable
	case ReasonCorruptData:
		return connect.CodeDataLoss
	case ReasonInternal:
		return connect.CodeInternal
	}
	return connect.CodeInvalidArgument
}

// Retryable tells whether the same request may succeed later without anybody changing it. A query changes nothing, so it may
// always be repeated; the others fail again.
func (r Reason) Retryable() bool {
	switch r {
	case ReasonQueueFull, ReasonShuttingDown, ReasonUnavailable:
		return true
	default:
		return false
	}
}

// ours tells whether a reason says something about the service rather than about the request: such failures are logged.
func (r Reason) ours() bool {
	switch r {
	case ReasonInternal, ReasonUnavailable, ReasonCorruptData, ReasonTempSpace:
		return true
	default:
		return false
	}
}

// Error is the one type of every error that leaves the service; get it with errors.AsType. It is immutable once returned.
type Error struct {
	Reason Reason
	// Message is a sentence for people: what, why, and what to do next.
	Message string
	// RetryAfter is a hint for retryable reasons; 0 when there is none.
	RetryAfter time.Duration
	// Cause is what lies below, or nil. It is not shown to callers beyond what Message says of it.
	Cause error
	// Metadata is for programs; keys are lower case with underscores.
	Metadata map[string]string
}

// Error is the message; the reason travels beside it.
func (e *Error) Error() string { return e.Message }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// errorf makes an error of a reason. A %w in the format sets the cause.
func errorf(reason Reason, format string, args ...any) *Error {
	wrapped := fmt.Errorf(format, args...)
	return &Error{Reason: reason, Message: wrapped.Error(), Cause: errors.Unwrap(wrapped)}
}

// with returns a copy of e with one more metadata entry; an empty value adds none.
func (e *Error) with(key, value string) *Error {
	if value == "" {
		return e
	}
	c := *e
	c.Metadata = maps.Clone(e.Metadata)
	if c.Metadata == nil {
		c.Metadata = make(map[string]string, 1)
	}
	c.Metadata[key] = value
	return &c
}

// again returns a copy of e with the hint to try again after a second.
func (e *Error) again() *Error {
	c := *e
	c.RetryAfter = time.Second
	return &c
}

// asError gives err as an *Error; nil stays nil. What nobody has given a reason is INTERNAL, but for a context's end and the
// limits of an engine.
func asError(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	switch {
	case errors.Is(err, ErrMemory):
		return errorf(ReasonMemory, "%w; select fewer columns, filter earlier or group by fewer values, or give queries more memory", err)
	case errors.Is(err, ErrTemp):
		return errorf(ReasonTempSpace, "%w; sort or join less at once, or give the server more disk space", err)
	case errors.Is(err, ErrNoEngine):
		return errorf(ReasonNoEngine, "%w", err)
	case errors.Is(err, context.DeadlineExceeded):
		return errorf(ReasonTimeout, "the caller's deadline passed: %w", err)
	case errors.Is(err, context.Canceled):
		return errorf(ReasonCanceled, "the caller went away: %w", err)
	}
	return errorf(ReasonInternal, "a bug or a failure in the server ended this query; its log has the details: %w", err)
}

// reasonOf finds the reason of any error; nil has none.
func reasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	return asError(err).Reason
}

// defaultRetryAfter is the hint when an error that may be repeated names none.
const defaultRetryAfter = 200 * time.Millisecond

// retryHint is how long to wait before the same request may succeed; 0 when it never will.
func (e *Error) retryHint() time.Duration {
	if !e.Reason.Retryable() {
		return 0
	}
	if e.RetryAfter > 0 {
		return e.RetryAfter
	}
	return defaultRetryAfter
}

// connectError gives any error as a Connect error: code by reason, a google.rpc.ErrorInfo with reason, domain and metadata, and
// a google.rpc.RetryInfo when a repetition may help. A Connect error stays as it is; nil stays nil.
func connectError(err error) error {
	if err == nil {
		return nil
	}
	if already, ok := errors.AsType[*connect.Error](err); ok {
		return already
	}
	e := asError(err)
	out := connect.NewError(e.Reason.Code(), e)
	addDetail(out, &errdetails.ErrorInfo{Reason: string(e.Reason), Domain: ErrorDomain, Metadata: e.Metadata})
	if hint := e.retryHint(); hint > 0 {
		addDetail(out, &errdetails.RetryInfo{RetryDelay: durationpb.New(hint)})
	}
	return out
}

func addDetail(to *connect.Error, message proto.Message) {
	detail, err := connect.NewErrorDetail(message)
	if err != nil {
		// Only a message that cannot be marshaled fails, that is, one with invalid UTF-8; the error is worth more than its detail.
		return
	}
	to.AddDetail(detail)
}

// httpStatus is the status of a plain HTTP answer: the one that Connect gives for the same code.
func httpStatus(code connect.Code) int {
	switch code {
	case connect.CodeInvalidArgument, connect.CodeFailedPrecondition, connect.CodeOutOfRange:
		return http.StatusBadRequest
	case connect.CodeNotFound:
		return http.StatusNotFound
	case connect.CodeAlreadyExists, connect.CodeAborted:
		return http.StatusConflict
	case connect.CodeResourceExhausted:
		return http.StatusTooManyRequests
	case connect.CodeUnavailable:
		return http.StatusServiceUnavailable
	case connect.CodeDeadlineExceeded:
		return http.StatusGatewayTimeout
	case connect.CodeCanceled:
		return 499 // client closed request: nobody reads it
	case connect.CodePermissionDenied:
		return http.StatusForbidden
	case connect.CodeUnauthenticated:
		return http.StatusUnauthorized
	case connect.CodeUnimplemented:
		return http.StatusNotImplemented
	case connect.CodeUnknown, connect.CodeInternal, connect.CodeDataLoss:
		return http.StatusInternalServerError
	}
	return http.StatusInternalServerError
}

// setRetryAfter sets the header that HTTP clients understand; whole seconds, at least one.
func setRetryAfter(h http.Header, e *Error) {
	if hint := e.retryHint(); hint > 0 {
		h.Set("Retry-After", strconv.FormatInt(max(1, int64((hint+time.Second-1)/time.Second)), 10))
	}
}

// because returns a copy of e with a cause that only the log shows.
func (e *Error) because(cause error) *Error {
	c := *e
	c.Cause = cause
	return &c
}
