package ingest

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Code is the Connect code that a reason goes out with.
func (r Reason) Code() connect.Code {
	switch r {
	case ReasonUnknownTopic, ReasonUnknownPartition, ReasonUnknownNode, ReasonUnknownGroup:
		return connect.CodeNotFound
	case ReasonTopicExists:
		return connect.CodeAlreadyExists
	case ReasonInvalidTopic, ReasonInvalidConfig, ReasonInvalidRequest, ReasonInvalidRecord, ReasonCorruptBatch,
		ReasonUnknownCodec, ReasonTooLarge, ReasonInvalidGroup:
		return connect.CodeInvalidArgument
	case ReasonOffsetOutOfRange:
		return connect.CodeOutOfRange
	case ReasonBackPressure, ReasonGroupFull:
		return connect.CodeResourceExhausted
	case ReasonOutOfOrderSequence, ReasonUnknownProducer, ReasonFencedProducer, ReasonLastNode, ReasonNodeAlive,
		ReasonGroupNotEmpty, ReasonUnknownMemberID, ReasonMemberIDRequired, ReasonIllegalGeneration, ReasonFencedInstanceID, ReasonInconsistentGroupProtocol:
		return connect.CodeFailedPrecondition
	case ReasonOutcomeUnknown:
		// Not unavailable: gRPC clients repeat that code by themselves, and a repetition may write twice.
		return connect.CodeUnknown
	case ReasonCorruptData:
		return connect.CodeDataLoss
	case ReasonRebalanceInProgress:
		return connect.CodeAborted
	case ReasonNotLeader, ReasonNotCoordinator, ReasonShuttingDown, ReasonUnavailable:
		return connect.CodeUnavailable
	case ReasonTimeout:
		return connect.CodeDeadlineExceeded
	case ReasonCanceled:
		return connect.CodeCanceled
	case ReasonInternal:
		return connect.CodeInternal
	}
	return connect.CodeInternal
}

// defaultRetryAfter is the hint when an error that may be repeated names none.
const defaultRetryAfter = 100 * time.Millisecond

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

// ConnectError gives any error of a node as a Connect error: code by reason, a google.rpc.ErrorInfo with reason, domain and
// metadata, and a google.rpc.RetryInfo when a repetition may help. A Connect error stays as it is; nil stays nil.
func ConnectError(err error) error {
	if err == nil {
		return nil
	}
	e, own := errors.AsType[*Error](err)
	if already, ok := errors.AsType[*connect.Error](err); ok {
		// An error of ours above it, such as what a node says of the call to another, is the one that counts.
		if !own {
			return already
		}
		if _, below := errors.AsType[*connect.Error](error(e)); !below {
			return already
		}
	}
	if !own {
		e = AsError(err)
	}
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
