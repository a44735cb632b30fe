package meta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// classify turns what the client library says into the errors that callers act on, and says where and what to do. ctx is
// the caller's: its end is told from that of a request that nobody answered.
func (e *etcd) classify(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, ctx.Err())
	case errors.Is(err, rpctypes.ErrCompacted):
		return fmt.Errorf("%s: %w", what, ErrCompacted)
	case errors.Is(err, rpctypes.ErrFutureRev):
		return fmt.Errorf("%s: %w: was etcd restored from a backup?", what, ErrFutureRevision)
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return fmt.Errorf("%s: %w", what, ErrLeaseGone)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("%s: %w: %s has raised NOSPACE: compact it, defragment it, then disarm the alarm", what, ErrNoSpace, e.where())
	case errors.Is(err, rpctypes.ErrRequestTooLarge), errors.Is(err, rpctypes.ErrTooManyOps):
		return fmt.Errorf("%s: %w: %w: %s needs --max-txn-ops of %d and --max-request-bytes of %d or more",
			what, ErrTooLarge, err, e.where(), MaxTxnOps, MaxTxnBytes)
	case errors.Is(err, rpctypes.ErrUserEmpty), errors.Is(err, rpctypes.ErrPermissionDenied), errors.Is(err, rpctypes.ErrInvalidAuthToken):
		return fmt.Errorf("%s: %w: %s asks for a user, which is not supported yet: disable its authentication", what, err, e.where())
	case errors.Is(err, context.DeadlineExceeded), status.Code(err) == codes.DeadlineExceeded:
		return fmt.Errorf("%s: %w: no answer from %s within %v: check that it runs and has a quorum", what, ErrUnavailable, e.where(), requestTimeout)
	case unavailable(err):
		return fmt.Errorf("%s: %w: %s: %w: check that it runs and has a quorum", what, ErrUnavailable, e.where(), err)
	}
	return fmt.Errorf("%s: %s: %w", what, e.where(), err)
}

// unavailable reports whether an error comes from the way to etcd, or from an etcd without a leader or with too much to do.
func unavailable(err error) bool {
	if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
		return true // the caller's own context is not done: a stream was closed under the request
	}
	code := status.Code(err)
	if known, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		code = known.Code() // its status is hidden
	}
	switch code { //nolint:exhaustive // the others are not about reaching etcd
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.ResourceExhausted, codes.Internal:
		return true
	}
	return false
}

// where names the etcd for people.
func (e *etcd) where() string {
	if endpoints := e.client.Endpoints(); len(endpoints) > 0 {
		return "etcd at " + strings.Join(endpoints, ",")
	}
	return "the embedded etcd"
}
