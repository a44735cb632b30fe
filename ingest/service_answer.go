package ingest

import (
	"context"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/tidemark-io/tidemark/clock"
)

// Limits of answers to unary calls.
const (
	// freeAnswer is how large an answer may be that takes no room: about what a connection costs anyway.
	freeAnswer = 64 << 10
	// answerChunk is how much of an answer a client must take within sendPatience, or the call is ended.
	answerChunk = 256 << 10
)

// callAnswer is one call's answer on its way to the client. Connect encodes a unary answer and writes it after the service's method has returned;
// so it is the HTTP handler around Connect that knows when the client has it:
//
//	withAnswer ── Connect ── boundAnswers ── method: fetch, hold room
//	    │            └ Write ──► callAnswer: in chunks, each with a deadline, each giving its room back
//	    └ give what is left
//
// Streams do not go through it: they take room for each message, and their clients may take as long as nobody waits.
type callAnswer struct {
	http.ResponseWriter
	control *http.ResponseController
	clock   clock.Clock

	mu    sync.Mutex
	unary bool
	share *sendShare
	ended bool // the client keeps others waiting
}

type answerKey struct{}

// withAnswer lets the unary calls of next hold room for their answers until the client has them.
func withAnswer(c clock.Clock, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := &callAnswer{ResponseWriter: w, control: http.NewResponseController(w), clock: c}
		defer a.hold(nil)
		next.ServeHTTP(a, r.WithContext(context.WithValue(r.Context(), answerKey{}, a)))
	})
}

// answerOf finds the answer of a call; nil where there is no withAnswer.
func answerOf(ctx context.Context) *callAnswer {
	a, _ := ctx.Value(answerKey{}).(*callAnswer)
	return a
}

// boundAnswers has the answer of each unary call written with deadlines, and takes room for a large one. When there is none a call without side
// effects is refused: to wait it would have to hold what it waits for. The answer of one that has changed something goes out without room.
func boundAnswers() connect.UnaryInterceptorFunc {
	return func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
			a := answerOf(ctx)
			if a != nil {
				a.begin()
			}
			response, err := next(ctx, request)
			room := sendRoomOf(ctx)
			if err != nil || a == nil || room == nil || a.held() {
				return response, err
			}
			message, ok := response.Any().(proto.Message)
			if !ok {
				return response, nil
			}
			size := int64(proto.Size(message))
			if size <= freeAnswer {
				return response, nil
			}
			share := room.try(size, a.end)
			if share == nil && request.Spec().IdempotencyLevel != connect.IdempotencyNoSideEffects {
				return response, nil // it is done, and whoever is told that it was not would do it again: a member that nobody knows, for one
			}
			if share == nil {
				room.evictStalled()
				return nil, ConnectError(Errorf(ReasonBackPressure,
					"clients that do not read leave no room for an answer of %d bytes (limit %d MiB for all clients together); ask again later", size, room.limit>>20).
					WithRetryAfter(time.Second))
			}
			a.hold(share)
			return response, nil
		}
	}
}

// begin says that the call is a unary one.
func (a *callAnswer) begin() {
	a.mu.Lock()
	a.unary = true
	a.mu.Unlock()
}

// hold keeps a share until the answer is written, in the place of the one that it has.
func (a *callAnswer) hold(share *sendShare) {
	a.mu.Lock()
	before := a.share
	a.share = share
	a.mu.Unlock()
	before.give()
}

func (a *callAnswer) held() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.share != nil
}

// end makes the writing fail, whatever it waits for.
func (a *callAnswer) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	// Only a writer without a connection refuses deadlines, and such a one ends with its request.
	_ = a.control.SetWriteDeadline(time.Unix(1, 0))
}

// extend gives the client time for another chunk.
func (a *callAnswer) extend() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return errNotRead
	}
	// The last deadline stays for what the connection still holds of the answer; the server takes it away before the next request.
	_ = a.control.SetWriteDeadline(a.clock.Now().Add(sendPatience))
	return nil
}

// errNotRead ends an answer whose client keeps others waiting.
var errNotRead = Errorf(ReasonTimeout, "the client does not read its answer, and others wait")

// Write writes to the client, and gives back the room of what it has taken.
func (a *callAnswer) Write(p []byte) (int, error) {
	a.mu.Lock()
	unary, share := a.unary, a.share
	a.mu.Unlock()
	if !unary {
		return a.ResponseWriter.Write(p)
	}
	written := 0
	for first := true; first || written < len(p); first = false {
		if err := a.extend(); err != nil {
			return written, err
		}
		n, err := a.ResponseWriter.Write(p[written:min(len(p), written+answerChunk)])
		written += n
		if err != nil {
			return written, err
		}
		if share != nil {
			share.sent(int64(n))
		}
	}
	return written, nil
}

// Flush is what Connect needs of the writer of a stream.
func (a *callAnswer) Flush() { _ = a.control.Flush() } // one that cannot be flushed is not buffered

// Unwrap lets deadlines be set through it.
func (a *callAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
