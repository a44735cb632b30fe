package ingest

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// Limits of what is on its way to one other node and not answered yet.
const (
	forwardBytes    = 64 << 20
	forwardRequests = 10_000
	// forwardDelay is how long a produce may wait for room on that way before it is refused. Whoever sends for several leaders waits meanwhile with
	// what is for the others, so after one wait that was in vain nobody waits until there is room again.
	forwardDelay = 2 * time.Second
	// A node that cannot be reached is not dialed again before so long.
	forwardRetryLeast = 100 * time.Millisecond
	forwardRetryMost  = time.Second
)

// produceCallStream is a ProduceStream as its caller has it.
type produceCallStream interface {
	Send(request *tidemarkv1.ProduceStreamRequest) error
	Receive() (*tidemarkv1.ProduceStreamResponse, error)
	CloseRequest() error
}

// forwarder sends produces to one other node, in order, over one stream that stays open.
//
//	produce ── room ──► waiting ── send ──► sent ── answer by correlation ──► done
//
// Nothing is ever sent twice: the order within a partition is the producer's, and a batch that comes again behind its successor is refused
// or, without a producer id, written twice. When a stream breaks:
//
//   - what was not handed to it goes over the next one, or is refused with NOT_LEADER if the node cannot be reached;
//   - what was handed to it and not answered is OUTCOME_UNKNOWN, but for two cases in which nobody can have taken it: no connection was
//     made, or the node ended the stream with SHUTTING_DOWN, which it does after it has answered all that it took (service_stream.go).
//     Then it is refused with NOT_LEADER too.
type forwarder struct {
	node  meta.NodeID
	clock clock.Clock
	open  func(ctx context.Context) (produceCallStream, error)

	life context.Context //nolint:containedctx // the life of the stream itself
	end  context.CancelFunc

	bytes, requests *semaphore.Weighted
	stuck           atomic.Bool   // somebody has waited for room in vain, and there has been none since
	wake            chan struct{} // room for one: something waits

	mu      sync.Mutex
	next    uint64 // correlation
	waiting queue[*forwardedProduce]
	sent    map[uint64]*forwardedProduce
	away    *Error    // why the node cannot be reached
	until   time.Time // nobody tries before
	ended   bool
}

type forwardedProduce struct {
	correlation uint64
	request     ProduceRequest
	size        int64
	done        func(ProduceResult, error)
}

func newForwarder(life context.Context, node meta.NodeID, c clock.Clock, open func(context.Context) (produceCallStream, error)) *forwarder {
	life, end := context.WithCancel(life)
	return &forwarder{
		node: node, clock: c, open: open, life: life, end: end,
		bytes: semaphore.NewWeighted(forwardBytes), requests: semaphore.NewWeighted(forwardRequests),
		wake: make(chan struct{}, 1), sent: make(map[uint64]*forwardedProduce),
	}
}

// close ends the stream and the loop; who waits is answered.
func (f *forwarder) close() { f.end() }

// produce queues a batch behind those before it. It may block for forwardDelay when the way is full, and done is called exactly once, never under a lock.
func (f *forwarder) produce(ctx context.Context, q ProduceRequest, done func(ProduceResult, error)) {
	p := &forwardedProduce{request: q, size: min(int64(len(q.Batch))+256, forwardBytes), done: done}
	if refused := f.enter(ctx, p.size); refused != nil {
		done(ProduceResult{}, refused)
		return
	}
	f.mu.Lock()
	refused := f.refusal()
	if refused == nil {
		f.next++
		p.correlation = f.next
		f.waiting.push(p)
	}
	f.mu.Unlock()
	if refused != nil {
		f.leave(p)
		done(ProduceResult{}, refused)
		return
	}
	notify(f.wake)
}

// refusal is why nothing can be taken now. Called with mu.
func (f *forwarder) refusal() *Error {
	switch {
	case f.ended:
		return f.notTaken(errors.New("the way there was closed"))
	case f.away != nil && f.clock.Now().Before(f.until):
		return f.away
	}
	return nil
}

// enter waits for room, first come first served.
func (f *forwarder) enter(ctx context.Context, size int64) *Error {
	if f.requests.TryAcquire(1) {
		if f.bytes.TryAcquire(size) {
			f.stuck.Store(false)
			return nil
		}
		f.requests.Release(1)
	}
	if f.stuck.Load() {
		return f.full(ctx)
	}
	patient, cancel := context.WithTimeout(ctx, forwardDelay)
	defer cancel()
	if err := f.requests.Acquire(patient, 1); err != nil {
		return f.full(ctx)
	}
	if err := f.bytes.Acquire(patient, size); err != nil {
		f.requests.Release(1)
		return f.full(ctx)
	}
	return nil
}

func (f *forwarder) full(ctx context.Context) *Error {
	if ctx.Err() != nil {
		return callerGone(ctx, "forward to node "+string(f.node))
	}
	f.stuck.Store(true)
	return Errorf(ReasonBackPressure, "node %s, which leads the partition, answers slower than producers send; send again later, nothing of this request was taken", f.node).
		WithRetryAfter(time.Second)
}

func (f *forwarder) leave(p *forwardedProduce) {
	f.bytes.Release(p.size)
	f.requests.Release(1)
}

// run keeps a stream open while there is something to send, and opens another when it breaks.
func (f *forwarder) run() {
	wait := forwardRetryLeast
	for {
		select {
		case <-f.wake:
		case <-f.life.Done():
			f.finish()
			return
		}
		answered, err := f.stream()
		if f.life.Err() != nil {
			f.finish()
			return
		}
		if answered {
			wait = forwardRetryLeast
		}
		f.broke(err, !answered, wait)
		if !answered {
			wait = min(2*wait, forwardRetryMost)
		}
		f.mu.Lock()
		if f.waiting.len() > 0 {
			notify(f.wake)
		}
		f.mu.Unlock()
	}
}

// stream sends what waits until something ends the stream, and tells whether it brought an answer.
func (f *forwarder) stream() (answered bool, err error) {
	ctx, cancel := context.WithCancel(f.life)
	defer cancel()
	s, err := f.open(ctx)
	if err != nil {
		return false, err
	}
	ended := make(chan error, 1)
	go func() {
		for {
			response, err := s.Receive()
			if err != nil {
				ended <- err
				return
			}
			answered = true
			f.answer(response)
		}
	}()
	// HTTP/2 looks at the context only when the body of the request has ended, so that has to come first.
	stop := func() {
		_ = s.CloseRequest() // the stream is over either way
		cancel()
		err = <-ended
	}
	for {
		p := f.pick()
		if p == nil {
			select {
			case <-f.wake:
				continue
			case err = <-ended:
				return answered, err
			case <-f.life.Done():
				stop()
				return answered, err
			}
		}
		sendErr := s.Send(&tidemarkv1.ProduceStreamRequest{Correlation: p.correlation, Produce: &tidemarkv1.ProduceRequest{
			Topic: p.request.Topic, TopicId: idMessage(p.request.TopicID), Partition: p.request.Partition, Batch: p.request.Batch, Acks: acksMessage(p.request.Acks),
		}})
		switch {
		case sendErr == nil:
		case errors.Is(sendErr, io.EOF): // why is at the receiving end, and there already or about to be
			err = <-ended
			return answered, err
		default:
			stop()
			return answered, errors.Join(sendErr, err)
		}
	}
}

// pick takes the oldest produce that waits; from now on it counts as sent, whatever becomes of it.
func (f *forwarder) pick() *forwardedProduce {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting.len() == 0 {
		return nil
	}
	p := f.waiting.pop()
	f.sent[p.correlation] = p
	return p
}

func (f *forwarder) answer(m *tidemarkv1.ProduceStreamResponse) {
	f.mu.Lock()
	p := f.sent[m.GetCorrelation()]
	delete(f.sent, m.GetCorrelation())
	f.away = nil
	f.mu.Unlock()
	if p == nil {
		return // it was answered already: the node repeats itself
	}
	f.leave(p)
	switch result := m.GetResult().(type) {
	case *tidemarkv1.ProduceStreamResponse_Produced:
		p.done(resultFromMessage(p.request, result.Produced), nil)
	case *tidemarkv1.ProduceStreamResponse_Error:
		p.done(ProduceResult{}, streamedError(result.Error))
	default:
		p.done(ProduceResult{}, f.unknown(errNoAnswer))
	}
}

var errNoAnswer = errors.New("it answered without an answer")

// broke answers what a broken stream has left behind. fruitless says that it brought nothing, so that trying again at once is of no use.
func (f *forwarder) broke(cause error, fruitless bool, wait time.Duration) {
	untaken := neverSent(cause) || ReasonOf(remoteOrNil(cause)) == ReasonShuttingDown
	f.mu.Lock()
	lost := f.takeSent()
	var refused []*forwardedProduce
	if fruitless {
		f.away, f.until = f.notTaken(cause), f.clock.Now().Add(wait)
		for f.waiting.len() > 0 {
			refused = append(refused, f.waiting.pop())
		}
	}
	f.mu.Unlock()
	for _, p := range lost {
		f.leave(p)
		if untaken {
			p.done(ProduceResult{}, f.notTaken(cause))
		} else {
			p.done(ProduceResult{}, f.unknown(cause))
		}
	}
	for _, p := range refused {
		f.leave(p)
		p.done(ProduceResult{}, f.notTaken(cause))
	}
}

// remoteOrNil is remoteError as an error.
func remoteOrNil(err error) error {
	if e := remoteError(err); e != nil {
		return e
	}
	return nil
}

// takeSent takes what was sent and not answered, in order. Called with mu.
func (f *forwarder) takeSent() []*forwardedProduce {
	out := make([]*forwardedProduce, 0, len(f.sent))
	for _, p := range f.sent {
		out = append(out, p)
	}
	clear(f.sent)
	slices.SortFunc(out, func(a, b *forwardedProduce) int { return cmp.Compare(a.correlation, b.correlation) })
	return out
}

// finish answers everybody at the end of the forwarder.
func (f *forwarder) finish() {
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	f.broke(errors.New("the way there was closed"), true, 0)
}

func (f *forwarder) notTaken(cause error) *Error {
	return Errorf(ReasonNotLeader, "node %s, which leads the partition, cannot be reached from here: %s; nothing of this request was taken", f.node, whatFailed(cause)).
		WithRetryAfter(askAgain)
}

func (f *forwarder) unknown(cause error) *Error {
	return Errorf(ReasonOutcomeUnknown, "the way to node %s, which leads the partition, broke before it answered (%s); only an idempotent producer may repeat this batch", f.node, whatFailed(cause)).
		WithRetryAfter(askAgain)
}

func acksMessage(a Acks) tidemarkv1.Acks {
	switch a {
	case AcksLeader:
		return tidemarkv1.Acks_ACKS_LEADER
	case AcksNone:
		return tidemarkv1.Acks_ACKS_NONE
	case AcksAll:
	}
	return tidemarkv1.Acks_ACKS_ALL
}

// resultFromMessage is the reverse of produceMessage.
func resultFromMessage(q ProduceRequest, m *tidemarkv1.ProduceResponse) ProduceResult {
	out := ProduceResult{
		Topic: q.Topic, Partition: q.Partition, BaseOffset: m.GetBaseOffset(), Records: m.GetRecords(),
		Reached: reachedFromMessage(m.GetReached()), NextOffset: -1, Duplicate: m.GetDuplicate(),
	}
	if next, ok := m.GetPosition().GetOffsets()[q.Partition]; ok {
		out.NextOffset = next
	}
	return out
}

func reachedFromMessage(r tidemarkv1.Reached) Reached {
	switch r {
	case tidemarkv1.Reached_REACHED_BUFFERED:
		return ReachedBuffered
	case tidemarkv1.Reached_REACHED_DISK:
		return ReachedDisk
	case tidemarkv1.Reached_REACHED_OBJECT:
		return ReachedObject
	case tidemarkv1.Reached_REACHED_NONE, tidemarkv1.Reached_REACHED_UNSPECIFIED:
	}
	return ReachedNone
}
