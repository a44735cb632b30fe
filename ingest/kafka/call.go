package kafka

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/ingest/room"
)

// call is one request on its way to its answer.
//
// The handling goroutine decodes it and hands it to who serves it. Whoever that is answers it exactly once, from any goroutine, without
// blocking; the writer writes the answer when its turn has come. What the request holds of the rooms is given back when the answer is
// written, or, when the connection has ended, when both the writer and who serves it are through with it.
type call struct {
	frame
	conn     *conn
	api      *api
	clientID string
	// request is what the frame said. It may share the frame's bytes.
	request kmsg.Request
	// decoded is what the request takes beyond its frame, or may take: see weigh.
	decoded *room.Share
	// made is what an answer takes while it is made: see reserve and hold.
	made *room.Share
	// counted is of the connection's backlog.
	counted counted
	// drop, if not nil, drops what whoever serves the call has kept for the answer: there is none any more, or it is written.
	drop func()

	// deadline is when an answer is asked for that has not come: see expires. Zero for never.
	deadline time.Time

	// Written by answer, read by the writer after done.
	response func() kmsg.Response // makes the answer, if not nil
	buffers  net.Buffers
	left     int // bytes of buffers
	sending  *room.Share
	done     chan struct{} // closed by the answer

	mu        sync.Mutex
	expire    func()
	expired   bool
	answered  bool
	through   bool // the writer is
	abandoned bool // its connection ends; an answer that comes all the same goes nowhere
}

// decode finds out what is asked and who serves it.
func (k *call) decode() (serve, error) {
	a := apis[k.key]
	if a == nil {
		return nil, fmt.Errorf("%w: a request of the unknown kind %d", errFrame, k.key)
	}
	k.api = a
	k.request = a.request()
	if k.key == int16(kmsg.ApiVersions) && k.version > a.max {
		// A client that is newer than we are learns what we know from an answer of version 0.
		return func(_ context.Context, k *call) error { return k.tooNew() }, nil
	}
	k.request.SetVersion(k.version)
	if k.version < a.min || k.version > a.max {
		// As Kafka does: an answer of a version that is not known could not be read. Clients have asked for the versions before.
		return nil, fmt.Errorf("%w: %s version %d; %d to %d are served, and clients before Kafka 2.1 are not", errFrame, a.name, k.version, a.min, a.max)
	}
	var body []byte
	var err error
	if k.clientID, body, err = splitHeader(k.rest, k.request.IsFlexible()); err != nil {
		return nil, err
	}
	if a.skim != nil {
		if err := a.skim(body, k.version); err != nil {
			return nil, fmt.Errorf("%w: %s version %d: %w", errFrame, a.name, k.version, err)
		}
	} else if cost := int64(len(body)) * amplification; len(body) > decodeAtOnce {
		if k.decoded, err = k.conn.server.decode.Take(k.conn.waits, cost, nil); err != nil {
			return nil, err
		}
	}
	if err := k.request.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("%w: %s version %d: %w", errFrame, a.name, k.version, err)
	}
	if a.patience != nil {
		k.deadline = k.received.Add(a.patience(k.request))
	}
	k.conn.server.Telemetry.requested(k.conn.ctx, a.name)
	return a.serve, nil
}

// amplification is what a decoder of kmsg makes of a byte at most: elements of a byte or two become structs of up to a hundred, and lists in lists add up.
const amplification = 128

// decodeAtOnce is how large a body may be for which no room is asked: it is one for each connection, since a request is dropped before the next is decoded,
// unless those who wait keep it.
const decodeAtOnce = 512

// settle is for who waits long: it drops the request, of which it has kept copies of what it needs, and gives back what request and frame took.
func (k *call) settle() {
	k.request = nil
	if k.decoded != nil {
		k.decoded.Give()
		k.decoded = nil
	}
	k.frame.release(k.conn)
}

// answer answers with a message of the request's version, which is no larger than the request, about. It settles the call.
func (k *call) answer(r kmsg.Response) {
	b := k.encode(r)
	k.settle()
	k.answerBytes(net.Buffers{b}, len(b), nil)
}

// answerWith is answer with a message that the writer has made when its turn has come: for who answers on a goroutine that has better to do.
func (k *call) answerWith(response func() kmsg.Response) { k.finish(response, nil, 0, nil) }

// makeAnswer makes what answerWith was given. It is called by the writer, after done.
func (k *call) makeAnswer() {
	if k.response == nil {
		return
	}
	b := k.encode(k.response())
	k.response, k.buffers, k.left = nil, net.Buffers{b}, len(b)
}

// expires has f called by the writer when the deadline of the request passes before it is answered and all requests before it are, or the connection
// ends before. f may answer.
func (k *call) expires(f func()) {
	k.mu.Lock()
	k.expire = f
	late := k.expired
	k.mu.Unlock()
	if late {
		f()
	}
}

// timeOut says that the deadline has passed.
func (k *call) timeOut() {
	k.mu.Lock()
	k.expired = true
	f := k.expire
	k.mu.Unlock()
	if f != nil {
		f()
	}
}

// isDone tells whether the call is answered.
func (k *call) isDone() bool {
	select {
	case <-k.done:
		return true
	default:
		return false
	}
}

// answerLarge is answer for what may be much larger than its request. It settles the call, and waits for room in which to hold what is larger than
// makeAtOnce until the client has taken it. It is called by the goroutine that handles the connection, or when that is through with the call.
func (k *call) answerLarge(ctx context.Context, r kmsg.Response) error {
	b := k.encode(r)
	k.settle()
	var share *room.Share
	if len(b) > makeAtOnce {
		var err error
		if share, err = k.conn.server.send.Take(ctx, int64(len(b)), k.conn.evict); err != nil {
			return err
		}
	}
	k.unreserve()
	k.answerBytes(net.Buffers{b}, len(b), share)
	return nil
}

// reserve waits for room in which an answer can be made that may be much larger than its request, of so many bytes as messages and encoded, about.
// It is for who serves the call, once, before the answer is made; answerLarge gives the room back.
func (k *call) reserve(bytes int64) (err error) {
	if bytes > makeAtOnce {
		k.made, err = k.conn.server.making.Take(k.conn.ctx, bytes, k.conn.evict)
	}
	return err
}

// hold counts bytes that a request keeps until its answer is written, however late that is: against what the connection may have under way, and, beyond
// makeAtOnce, in a room of their own: they may stay for as long as the object store is away. False when there is no room: whoever waited for it would keep
// its frame from others for as long. It is instead of reserve, for who answers with answerWith.
func (k *call) hold(bytes int64) bool {
	k.conn.backlog.keep(k, counted{held: bytes})
	if bytes > makeAtOnce {
		k.made = k.conn.server.holding.Try(bytes, nil)
		return k.made != nil
	}
	return true
}

// makeAtOnce is what an answer may take without asking for room.
const makeAtOnce = 64 << 10

func (k *call) unreserve() {
	if k.made != nil {
		k.made.Give()
		k.made = nil
	}
}

// encode makes the whole frame of an answer.
func (k *call) encode(r kmsg.Response) []byte {
	r.SetVersion(k.version)
	b := make([]byte, sizeBytes, 256)
	b = k.appendHeader(b, r.IsFlexible())
	b = r.AppendTo(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-sizeBytes))
	return b
}

// appendHeader appends what precedes every answer: the correlation id and, in flexible versions of all but ApiVersions, no tags.
func (k *call) appendHeader(b []byte, flexible bool) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(k.correlation))
	if flexible && k.key != int16(kmsg.ApiVersions) {
		b = append(b, 0)
	}
	return b
}

// answerBytes answers with a whole frame. The bytes belong to the call from now on, but those that others share are only read. sending is what
// they hold of the room for answers, or nil.
func (k *call) answerBytes(b net.Buffers, size int, sending *room.Share) {
	k.finish(nil, b, size, sending)
}

func (k *call) finish(response func() kmsg.Response, b net.Buffers, size int, sending *room.Share) {
	k.mu.Lock()
	if k.abandoned {
		k.mu.Unlock()
		if sending != nil {
			sending.Give()
		}
		return
	}
	if k.answered {
		k.mu.Unlock()
		panic(fmt.Sprintf("kafka: two answers to one request of kind %d", k.key))
	}
	k.answered = true
	k.response, k.buffers, k.left, k.sending = response, b, size, sending
	if sending == nil {
		k.conn.backlog.keep(k, counted{small: int64(size)})
	} else {
		// What is sent may be a small part of what stays in memory for it.
		k.conn.backlog.keep(k, counted{large: max(int64(size), sending.Size())})
	}
	through := k.through
	k.mu.Unlock()
	close(k.done)
	if through {
		k.release()
	}
}

// noAnswer is for a request that gets none.
func (k *call) noAnswer() { k.answerBytes(nil, 0, nil) }

// abandon ends a call that cannot be served, together with its connection.
func (k *call) abandon() {
	k.mu.Lock()
	answered := k.answered
	k.answered, k.abandoned = true, true
	through := k.through
	k.mu.Unlock()
	if answered {
		return
	}
	close(k.done)
	if through {
		k.release()
	}
}

// sent says that the client has taken so many bytes of a large answer.
func (k *call) sent(size int) {
	if k.sending != nil {
		k.sending.Sent(int64(size))
	}
}

// written says that the writer is through with the call. When it is not answered, the connection has ended: who would answer late need not.
func (k *call) written() {
	k.mu.Lock()
	k.through = true
	answered := k.answered
	k.mu.Unlock()
	if answered {
		k.release()
	} else {
		k.timeOut()
	}
}

// release gives back what the call holds.
func (k *call) release() {
	k.settle()
	k.unreserve()
	if k.sending != nil {
		k.sending.Give()
	}
	k.response, k.buffers = nil, nil
	if k.drop != nil {
		k.drop()
	}
	k.conn.backlog.drop(k)
}
