package ingest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/clock"
)

// Limits of what clients may make a node hold or wait for before anything of theirs is understood.
const (
	// receivingBytes caps the bytes of half-received messages, all clients together.
	receivingBytes = 256 << 20
	// sweepEvery is how often half-received messages are looked at; one that is still the same after sweepsToStall sweeps
	// has stalled.
	sweepEvery    = 5 * time.Second
	sweepsToStall = 12
)

// intake bounds what clients can pile up in front of the services: the bytes of messages that are still being received,
// and how long a message may take. What has been received whole is bounded by whoever takes it.
type intake struct {
	limit int64
	used  atomic.Int64

	mu     sync.Mutex
	bodies map[*guardedBody]struct{}
}

func newIntake(limit int64) *intake {
	return &intake{limit: limit, bodies: make(map[*guardedBody]struct{})}
}

// guard makes next read its body through the account. maxMessage is the largest message that next accepts.
func (in *intake) guard(maxMessage int64, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		body := &guardedBody{inner: r.Body, intake: in, maxMessage: 2 * maxMessage}
		body.interrupt = func() {
			// A deadline in the past ends a blocked Read. Only a writer without a connection refuses it, and such a one ends
			// with its request.
			_ = control.SetReadDeadline(time.Unix(1, 0))
		}
		in.mu.Lock()
		in.bodies[body] = struct{}{}
		in.mu.Unlock()
		defer func() {
			in.mu.Lock()
			delete(in.bodies, body)
			in.mu.Unlock()
			body.settle()
		}()
		r = r.WithContext(context.WithValue(r.Context(), bodyKey{}, body))
		r.Body = body
		next.ServeHTTP(w, r)
	})
}

// run sweeps until ctx ends.
func (in *intake) run(ctx context.Context, c clock.Clock) {
	timer := c.NewTimer(sweepEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C():
			in.sweep()
			timer.Reset(sweepEvery)
		}
	}
}

// sweep ends every body whose present message has been under way for too many sweeps.
func (in *intake) sweep() {
	in.mu.Lock()
	defer in.mu.Unlock()
	for b := range in.bodies {
		message := b.message.Load()
		if b.unsettled.Load() == 0 || message != b.sweptMessage {
			b.sweptMessage, b.sweeps = message, 0
			continue
		}
		if b.sweeps++; b.sweeps >= sweepsToStall {
			b.end(errStalled)
		}
	}
}

type bodyKey struct{}

// bodyOf finds the guarded body of a request; nil when it has none.
func bodyOf(ctx context.Context) *guardedBody {
	b, _ := ctx.Value(bodyKey{}).(*guardedBody)
	return b
}

// errStalled ends a request whose message does not arrive.
var errStalled = connect.NewError(connect.CodeDeadlineExceeded,
	errors.New("the request's message did not arrive whole in a minute"))

// guardedBody counts the bytes of the message being read.
type guardedBody struct {
	inner      io.ReadCloser
	intake     *intake
	maxMessage int64
	interrupt  func()

	unsettled atomic.Int64  // bytes read of the present message
	message   atomic.Uint64 // messages settled
	ended     atomic.Pointer[error]

	// Held by the sweeper, under intake.mu.
	sweptMessage uint64
	sweeps       int
}

// Read reads and accounts. Its errors are Connect errors where a client can do something about them.
func (b *guardedBody) Read(p []byte) (int, error) {
	if cause := b.ended.Load(); cause != nil {
		return 0, *cause
	}
	n, err := b.inner.Read(p)
	if cause := b.ended.Load(); cause != nil && err != nil && !errors.Is(err, io.EOF) {
		return n, *cause
	}
	if n == 0 {
		return n, err
	}
	if b.intake.used.Add(int64(n)) > b.intake.limit {
		b.unsettled.Add(int64(n))
		return n, ConnectError(Errorf(ReasonBackPressure,
			"too many bytes of unfinished requests (limit %d MiB for all clients together); send again later", b.intake.limit>>20).
			WithRetryAfter(time.Second))
	}
	if held := b.unsettled.Add(int64(n)); held > b.maxMessage {
		return n, ConnectError(Errorf(ReasonTooLarge, "the request is far above the limit of %d bytes", b.maxMessage/2))
	}
	return n, err
}

func (b *guardedBody) Close() error { return b.inner.Close() }

// settle says that what was read so far has become a message that somebody else accounts for. Not beside Read.
func (b *guardedBody) settle() {
	b.intake.used.Add(-b.unsettled.Swap(0))
	b.message.Add(1)
}

// end makes the present Read, and every later one, fail with cause.
func (b *guardedBody) end(cause error) {
	if b.ended.CompareAndSwap(nil, &cause) {
		b.interrupt()
	}
}
