package ingest

import (
	"context"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

// Headers of a call that one node forwards to another.
//
// A call that carries a hop is served by the node that gets it, or refused with NOT_LEADER: it is never forwarded again, so no two
// nodes that disagree about a leader can send it back and forth. The revision is that of the sender's index when it chose this node:
// the receiver waits, for a while, until its own index is there before it says that it does not lead.
//
// Both are believed from anybody. The second can only make its own caller wait. With the first a node takes the caller's word for what the
// sender of a forwarded call has done already: calls of groups are not resolved and checked again, so whoever sends it gets no more than
// somebody who may call the node at all, but may name offsets that no log has.
const (
	headerHops          = "Tidemark-Hops"
	headerIndexRevision = "Tidemark-Index-Revision"
)

// forwardedWait bounds the wait for a sender's revision.
const forwardedWait = 5 * time.Second

// forwardedCall is what a call tells about the node that forwarded it.
type forwardedCall struct {
	revision meta.Revision
	waited   atomic.Bool // a stream waits once
}

type forwardedKey struct{}

// forwardedOf finds out whether a call was forwarded by another node; nil when it comes from a client.
func forwardedOf(ctx context.Context) *forwardedCall {
	f, _ := ctx.Value(forwardedKey{}).(*forwardedCall)
	return f
}

// withForwarded reads the headers of a call into its context.
func withForwarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hops := r.Header.Get(headerHops); hops != "" && hops != "0" {
			call := &forwardedCall{}
			if revision, err := strconv.ParseInt(r.Header.Get(headerIndexRevision), 10, 64); err == nil {
				call.revision = revision
			}
			r = r.WithContext(context.WithValue(r.Context(), forwardedKey{}, call))
		}
		next.ServeHTTP(w, r)
	})
}

// await waits until an index is where the sender's was, once for a call.
func (f *forwardedCall) await(ctx context.Context, index interface {
	Revision() meta.Revision
	WaitFor(ctx context.Context, revision meta.Revision) error
},
) {
	if f.revision <= index.Revision() || f.waited.Swap(true) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, forwardedWait)
	defer cancel()
	_ = index.WaitFor(ctx, f.revision) // what it has not reached it neither leads nor coordinates by, and says so
}
