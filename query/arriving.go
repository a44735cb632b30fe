package query

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemark-io/tidemark/clock"
)

// Bounds on what requests may hold before a slot bounds them.
const (
	// receiveTimeout is how long a request may take to arrive.
	receiveTimeout = 30 * time.Second
	// receivingBytes caps the bytes of requests that are arriving, all clients together.
	receivingBytes = 128 << 20
	// statementBytes caps the texts of statements that wait or run.
	statementBytes = 64 << 20
)

// budget is a number of bytes that many share.
type budget struct {
	limit int64
	used  atomic.Int64
}

// reserve takes bytes and tells whether they were there.
func (b *budget) reserve(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) free(n int64) { b.used.Add(-n) }

// arriving bounds what requests hold before anything of theirs is understood: their bytes, and for how long.
type arriving struct {
	clock  clock.Clock
	budget *budget
}

func newArriving(c clock.Clock) *arriving {
	return &arriving{clock: c, budget: &budget{limit: receivingBytes}}
}

// guard makes next's body arrive within receiveTimeout and the budget, or fail.
func (g *arriving) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		// A writer without a connection takes no deadline, and its body cannot stall.
		_ = control.SetReadDeadline(g.clock.Now().Add(receiveTimeout))
		body := &arrivingBody{body: r.Body, budget: g.budget}
		body.arrived = sync.OnceFunc(func() {
			g.budget.free(body.held)
			_ = control.SetReadDeadline(time.Time{}) // as above
		})
		defer body.arrived()
		r.Body = body
		next.ServeHTTP(w, r)
	})
}

// arrivingBody accounts for a body until it has arrived whole, or cannot.
type arrivingBody struct {
	body    io.ReadCloser
	budget  *budget
	held    int64
	arrived func()
}

// Read reads and accounts. Its error is a Connect error where a client can do something about it.
func (b *arrivingBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if err != nil {
		b.arrived()
		return n, err
	}
	if !b.budget.reserve(int64(n)) {
		b.arrived()
		return 0, connectError(errorf(ReasonQueueFull, "too many bytes of requests are arriving (limit %d MiB for all clients together); send again later",
			b.budget.limit>>20).again())
	}
	b.held += int64(n)
	return n, nil
}

// Close ends the reading.
func (b *arrivingBody) Close() error {
	b.arrived()
	return b.body.Close()
}
