package ingest

import (
	"context"
	"errors"
	"net"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// Reasons of errors about nodes.
const (
	// ReasonUnknownNode: no node of this name is alive or leads anything.
	ReasonUnknownNode Reason = "UNKNOWN_NODE"
	// ReasonLastNode: nobody else could take what the node leads.
	ReasonLastNode Reason = "LAST_NODE"
	// ReasonNodeAlive: the node is alive, so it cannot be forgotten.
	ReasonNodeAlive Reason = "NODE_ALIVE"
)

// Metadata of NOT_LEADER, for clients that go to leaders themselves.
const (
	metadataLeader    = "leader"
	metadataLeaderURL = "leader_url"
)

// peerError is the error of a call to another node: what that node said, or that it cannot be reached.
func peerError(ctx context.Context, node meta.NodeID, err error) *Error {
	if own := remoteError(err); own != nil {
		return own
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return Errorf(ReasonTimeout, "node %s has not answered in time", node)
	case ctx.Err() != nil:
		return Errorf(ReasonCanceled, "the caller has gone before node %s answered", node)
	}
	return unreachable(node, err)
}

// unreachable says that a node that is alive for etcd cannot be reached from here.
func unreachable(node meta.NodeID, cause error) *Error {
	return Errorf(ReasonUnavailable, "node %s cannot be reached from here: %s", node, whatFailed(cause)).WithRetryAfter(defaultRetryAfter)
}

// whatFailed is what a failed call says, without the code that connect puts before it.
func whatFailed(err error) string {
	if ce, ok := errors.AsType[*connect.Error](err); ok {
		return ce.Message()
	}
	return err.Error()
}

// remoteError reads the error that a node's service answered with; nil when none did, and the call failed on its way.
func remoteError(err error) *Error {
	ce, ok := errors.AsType[*connect.Error](err)
	if !ok || !connect.IsWireError(err) {
		return nil
	}
	out := &Error{Message: ce.Message()}
	for _, d := range ce.Details() {
		value, err := d.Value()
		if err != nil {
			continue // a detail of a newer release
		}
		switch v := value.(type) {
		case *errdetails.ErrorInfo:
			out.Reason, out.Metadata = Reason(v.GetReason()), v.GetMetadata()
		case *errdetails.RetryInfo:
			out.RetryAfter = v.GetRetryDelay().AsDuration()
		}
	}
	if out.Reason == "" {
		return nil
	}
	return out
}

// streamedError is the error of one request of a produce stream.
func streamedError(e *tidemarkv1.ProduceError) *Error {
	return &Error{Reason: Reason(e.GetReason()), Message: e.GetMessage(), RetryAfter: time.Duration(e.GetRetryAfterMs()) * time.Millisecond}
}

// neverSent tells that a call failed because not even a connection could be made, so that nobody has seen anything of it.
func neverSent(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// leaderAway tells errors that pass when another node is asked, or the same one a moment later.
func leaderAway(err error) bool {
	switch ReasonOf(err) {
	case ReasonNotLeader, ReasonUnavailable, ReasonShuttingDown:
		return true
	default:
		return false
	}
}
