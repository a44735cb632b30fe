package query

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// outlet is the way of one request's output. It sits between the service and the connection, writes in pieces, and so sees
// whether the client takes what it is sent, and can end a write that does not end by itself.
type outlet struct {
	http.ResponseWriter

	flush   http.Flusher
	control *http.ResponseController

	mu      sync.Mutex
	took    func() // called after every piece; nil when nobody asks
	bounded bool
}

// outletPiece is how much is written at once: small, so that a client that takes little is told from one that takes nothing.
const outletPiece = 64 << 10

type outletKey struct{}

// withOutlet makes next write through an outlet, which outletOf finds.
func withOutlet(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		flusher, ok := w.(http.Flusher)
		if !ok {
			http.Error(w, "the server's connection cannot stream", http.StatusInternalServerError)
			return
		}
		o := &outlet{ResponseWriter: w, flush: flusher, control: http.NewResponseController(w)}
		defer o.unbound()
		next.ServeHTTP(o, r.WithContext(context.WithValue(r.Context(), outletKey{}, o)))
	})
}

func outletOf(ctx context.Context) *outlet {
	o, _ := ctx.Value(outletKey{}).(*outlet)
	return o
}

// Unwrap lets http.ResponseController find the connection.
func (o *outlet) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// Write writes in pieces.
func (o *outlet) Write(p []byte) (int, error) {
	written := 0
	for {
		n, err := o.ResponseWriter.Write(p[written:min(len(p), written+outletPiece)])
		written += n
		if err != nil {
			return written, err
		}
		o.progress()
		if written >= len(p) {
			return written, nil
		}
	}
}

// Flush sends what is buffered.
func (o *outlet) Flush() {
	o.flush.Flush()
	o.progress()
}

func (o *outlet) progress() {
	o.mu.Lock()
	took := o.took
	o.mu.Unlock()
	if took != nil {
		took()
	}
}

// watch makes took hear of every piece that went out.
func (o *outlet) watch(took func()) {
	o.mu.Lock()
	o.took = took
	o.mu.Unlock()
}

// interrupt makes a blocked write fail, and every later one.
func (o *outlet) interrupt() {
	// A deadline in the past. Only a writer without a connection refuses it, and such a one ends with its request.
	_ = o.control.SetWriteDeadline(time.Unix(1, 0))
}

// bound gives what is yet to be written, such as the error of a query, until at.
func (o *outlet) bound(at time.Time) {
	o.mu.Lock()
	o.bounded = true
	o.mu.Unlock()
	_ = o.control.SetWriteDeadline(at) // as above
}

// unbound lets the connection's next request write as long as it likes.
func (o *outlet) unbound() {
	o.mu.Lock()
	bounded := o.bounded
	o.mu.Unlock()
	if bounded {
		_ = o.control.SetWriteDeadline(time.Time{}) // as above
	}
}
