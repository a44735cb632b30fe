package ingest

import (
	"context"
	"errors"
	"io"
	"sync"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// Limits of one produce stream: what may be taken and not yet answered and written to the client.
const (
	streamBytes    = 32 << 20
	streamRequests = 4096
)

// produceMessages is the stream as produceStream uses it.
type produceMessages interface {
	Receive() (*tidemarkv1.ProduceStreamRequest, error)
	Send(response *tidemarkv1.ProduceStreamResponse) error
}

// produceStream is one ProduceStream call.
//
//	receive (one goroutine) ── ProduceAsync in the order received ──► node
//	                                                                   │ done, from any goroutine, never blocks
//	send (the handler's goroutine) ◄── head of each partition's queue ─┘
//
// A request holds its place in the window from when it was received until its response was handed to the connection. A
// client that does not read its responses thus fills the window, and then nothing more of it is received: it costs the
// window, however much it sends. A request larger than the window is taken alone.
//
// When the node drains, everything taken is answered before the stream ends with SHUTTING_DOWN: whatever has no answer then was never
// taken. Other nodes rely on that (route_forward.go).
//
// Responses of one partition go out in the order of its requests, whatever the order in which they are answered: a refusal
// that is known at once waits for the appends before it. Those of different partitions overtake each other.
type produceStream struct {
	service   *produceService
	settle    func() // a message was received whole
	interrupt func() // make Receive return

	maxBytes, maxRequests int

	mu         sync.Mutex
	bytes      int // in the window
	requests   int
	partitions map[streamPartition]*queue[*streamRequest]
	ready      []*streamRequest // to be sent
	received   bool             // no more requests will come
	receiveErr error
	wake       chan struct{} // room for one: something of the above changed, for send
	room       chan struct{} // room for one: the window shrank, for receive
}

type streamPartition struct {
	topic     string
	partition int32
}

type streamRequest struct {
	key      streamPartition
	bytes    int
	response *tidemarkv1.ProduceStreamResponse
	answered bool
}

func newProduceStream(s *produceService, maxBytes, maxRequests int) *produceStream {
	return &produceStream{
		service: s, settle: func() {}, interrupt: func() {},
		maxBytes: maxBytes, maxRequests: maxRequests,
		partitions: make(map[streamPartition]*queue[*streamRequest]),
		wake:       make(chan struct{}, 1), room: make(chan struct{}, 1),
	}
}

// run serves until the client has closed its side and everything is answered, the client is gone, or the node drains. It
// returns after its goroutine has ended; what the node has taken goes on without it.
func (p *produceStream) run(ctx context.Context, messages produceMessages) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var receiver sync.WaitGroup
	receiver.Go(func() { p.receive(ctx, messages) })
	err := p.send(ctx, messages)
	cancel()
	p.interrupt()
	receiver.Wait()
	return err
}

// receive takes requests in order, as long as the window has room.
func (p *produceStream) receive(ctx context.Context, messages produceMessages) {
	for {
		message, err := messages.Receive()
		if err != nil {
			p.endReceiving(err)
			return
		}
		p.settle()
		request := &streamRequest{
			key:      streamPartition{message.GetProduce().GetTopic(), message.GetProduce().GetPartition()},
			response: &tidemarkv1.ProduceStreamResponse{Correlation: message.GetCorrelation()},
			bytes:    produceSize(message.GetProduce()),
		}
		if !p.enter(ctx, request) {
			p.endReceiving(context.Cause(ctx))
			return
		}
		produce, err := p.service.request(message.GetProduce())
		if err != nil {
			p.service.telemetry.ProduceFailed(ctx, err)
			p.answer(request, ProduceResult{}, err)
			continue
		}
		p.service.node.ProduceAsync(ctx, produce, func(result ProduceResult, err error) { p.answer(request, result, err) })
	}
}

// produceSize is what a request holds in memory, about.
func produceSize(r *tidemarkv1.ProduceRequest) int {
	size := 128 + len(r.GetTopic()) + len(r.GetBatch())
	for _, m := range r.GetRecords() {
		size += 96 + len(m.GetKey()) + len(m.GetValue())
		for _, h := range m.GetHeaders() {
			size += 64 + len(h.GetKey()) + len(h.GetValue())
		}
	}
	return size
}

// enter waits for room in the window and queues the request behind those of its partition; false when ctx ended first.
func (p *produceStream) enter(ctx context.Context, r *streamRequest) bool {
	for {
		p.mu.Lock()
		if p.requests == 0 || (p.requests < p.maxRequests && p.bytes+r.bytes <= p.maxBytes) {
			p.requests++
			p.bytes += r.bytes
			q := p.partitions[r.key]
			if q == nil {
				q = &queue[*streamRequest]{}
				p.partitions[r.key] = q
			}
			q.push(r)
			p.mu.Unlock()
			return true
		}
		p.mu.Unlock()
		select {
		case <-p.room:
		case <-ctx.Done():
			return false
		}
	}
}

// answer notes a request's result and makes ready what can be sent by it. It does not block.
func (p *produceStream) answer(r *streamRequest, result ProduceResult, err error) {
	if err != nil {
		r.response.Result = &tidemarkv1.ProduceStreamResponse_Error{Error: produceErrorMessage(err)}
	} else {
		r.response.Result = &tidemarkv1.ProduceStreamResponse_Produced{Produced: produceMessage(result)}
	}
	p.mu.Lock()
	r.answered = true
	q := p.partitions[r.key]
	for q.len() > 0 && (*q.peek()).answered {
		p.ready = append(p.ready, q.pop())
	}
	if q.len() == 0 {
		delete(p.partitions, r.key)
	}
	p.mu.Unlock()
	notify(p.wake)
}

func (p *produceStream) endReceiving(err error) {
	p.mu.Lock()
	p.received, p.receiveErr = true, err
	p.mu.Unlock()
	notify(p.wake)
}

// send writes responses until all are written and no more will come.
func (p *produceStream) send(ctx context.Context, messages produceMessages) error {
	closing := p.service.closing
	var drained error
	for {
		p.mu.Lock()
		batch := p.ready
		p.ready = nil
		finished := p.received && p.requests == len(batch)
		receiveErr := p.receiveErr
		p.mu.Unlock()

		for _, r := range batch {
			if err := messages.Send(r.response); err != nil {
				return err
			}
			p.mu.Lock()
			p.requests--
			p.bytes -= r.bytes
			p.mu.Unlock()
			notify(p.room)
		}
		if finished {
			switch {
			case drained != nil:
				return drained
			case errors.Is(receiveErr, io.EOF):
				return nil
			}
			return receiveErr
		}
		select {
		case <-p.wake:
		case <-ctx.Done():
			return AsError(context.Cause(ctx))
		case <-closing:
			// Take nothing more, answer what was taken, then say why.
			closing, drained = nil, errClosing
			p.interrupt()
		}
	}
}
