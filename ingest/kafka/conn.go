package kafka

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/semaphore"

	"github.com/tidemark-io/tidemark/ingest/room"
)

// Limits of one connection.
const (
	// maxPending is how many requests may be taken and not answered, produces among them (see backlog); more are left in the connection.
	maxPending = 256
	// pendingBytes is what those may hold, unless it is one alone.
	pendingBytes = 48 << 20
	// readBuffer gathers small requests. It is what an idle connection costs most.
	readBuffer = 4 << 10
	// idlePatience is how long a client may ask nothing, firstPatience how long before it asks anything while half of the connections are taken, and
	// stallPatience how long it may send or take nothing in the middle of something; drainPatience is stallPatience for who takes answers of a server that
	// drains.
	idlePatience  = 10 * time.Minute
	firstPatience = 30 * time.Second
	stallPatience = 30 * time.Second
	drainPatience = 2 * time.Second
	// gonePatience is how long what a client has asked for goes on after it is gone.
	gonePatience = time.Second
)

// conn is one client. Three goroutines serve it: read takes frames off the wire, one ahead if it is small or nothing that may wait is handled; handle has
// them handled in order; write writes the answers in the order of their requests.
type conn struct {
	server *Server
	net    net.Conn
	in     *bufio.Reader

	// ctx ends with the connection, and waits with it or earlier, when the server drains: who waits for records or members stops waiting.
	ctx    context.Context //nolint:containedctx // the life of the connection
	cancel context.CancelCauseFunc
	waits  context.Context //nolint:containedctx // as ctx
	finish func()
	leave  context.CancelCauseFunc // ends waits
	// handled is closed when nothing is left to handle.
	handled chan struct{}

	window  *semaphore.Weighted // pendingBytes
	frames  chan frame
	answers chan *call
	backlog backlog

	// dueAt is when the client keeps others waiting if it has not taken what is being written, in nanoseconds since 1970; 0 when nothing is.
	dueAt atomic.Int64

	// Of the reading goroutine alone.
	begun bool // a request has come

	// Of the writing goroutine alone.
	pace     time.Time // see writeSome
	gathered []*call   // what is being written
	next     *call     // was taken out of the queue, and is not answered yet

	// Of the handling goroutine alone.
	software string // what the client calls itself, with its version
	sessions fetchSessions
}

// frame is a request as it was read, with what it holds of the rooms.
type frame struct {
	head
	rest     []byte // what follows the head
	received time.Time
	share    *room.Share
	held     int64 // of the connection's window
}

func newConn(s *Server, accepted net.Conn) *conn {
	c := &conn{
		server: s, net: accepted, in: bufio.NewReaderSize(accepted, readBuffer),
		window: semaphore.NewWeighted(pendingBytes), frames: make(chan frame), answers: make(chan *call, maxPending),
		handled: make(chan struct{}), backlog: newBacklog(),
	}
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	c.waits, c.leave = context.WithCancelCause(c.ctx)
	c.finish = func() {
		c.leave(errStopping)
		_ = accepted.SetReadDeadline(time.Unix(1, 0)) // a connection that is gone needs none
		_ = c.allowWrite()
	}
	return c
}

// run serves the client until it is gone, misbehaves or the server ends.
func (c *conn) run() {
	hangUp := context.AfterFunc(c.ctx, func() { _ = c.net.Close() })
	var work sync.WaitGroup
	work.Go(c.read)
	work.Go(c.write)
	c.handle()
	work.Wait()
	c.sessions.close()
	cause := context.Cause(c.ctx)
	c.cancel(errGone)
	if hangUp() {
		_ = c.net.Close() // whatever there was to say has been said
	}
	if cause != nil && !errors.Is(cause, errGone) && !errors.Is(cause, errStopping) {
		c.server.Telemetry.hungUp(context.WithoutCancel(c.ctx))
		c.server.Logger.Debug("a Kafka client was disconnected", "client", c.net.RemoteAddr().String(), "software", c.software, "cause", cause)
	}
}

// errGone ends a connection that the client has closed.
var errGone = errors.New("the client is gone")

// errStalled ends a connection whose client keeps others waiting.
var errStalled = errors.New("the client made no progress while others waited for room")

// evict ends the connection if its client does not take what is written. What the connection holds otherwise is not its client's fault.
func (c *conn) evict() bool {
	due := c.dueAt.Load()
	stalls := due != 0 && c.server.Clock.Now().UnixNano() > due
	if stalls {
		c.cancel(errStalled)
	}
	return stalls
}

// evictSender ends the connection because its client does not send the rest of its frame.
func (c *conn) evictSender() bool {
	c.cancel(errStalled)
	return true
}

// read takes frames off the wire until the client is gone or sends none. What it has sent is handled all the same: a producer that wants no
// acknowledgement and a member that leaves its group may be gone by then. Only who waits for records or members does not wait much longer.
func (c *conn) read() {
	gone := c.readFrames()
	close(c.frames)
	if !gone {
		return
	}
	timer := c.server.Clock.NewTimer(gonePatience)
	defer timer.Stop()
	select {
	case <-timer.C():
		c.leave(errGone)
	case <-c.handled:
	case <-c.ctx.Done():
	}
}

// readFrames is true when the client has said that no more will come, between two frames.
func (c *conn) readFrames() (gone bool) {
	for c.waits.Err() == nil {
		f, err := c.readFrame()
		if err != nil {
			f.release(c)
			switch {
			case c.waits.Err() != nil && c.ctx.Err() == nil: // the server drains; what was taken is answered
			case errors.Is(err, io.EOF):
				return true
			case errors.Is(err, net.ErrClosed):
				c.cancel(errGone)
			default:
				c.cancel(err)
			}
			return false
		}
		select {
		case c.frames <- f:
			c.backlog.passed(f.key)
		case <-c.waits.Done():
			f.release(c)
			return false
		}
	}
	return false
}

// awaitTurn waits until a frame of a kind would be handled at once, and is called before it takes room that others need: what is handled before it may wait
// for as long as it likes. left bytes of the frame are to come. A client that is gone before it has sent them ends the connection, which is noticed unless
// it had sent a whole buffer of them.
func (c *conn) awaitTurn(key int16, left int) error {
	if c.backlog.isCalm(key) {
		return nil
	}
	if err := c.allowRead(c.server.idle); err != nil {
		return err
	}
	turn := make(chan error, 1)
	go func() {
		err := c.backlog.await(c.waits, key)
		_ = c.net.SetReadDeadline(time.Unix(1, 0)) // who peeks has peeked enough; whoever reads on sets another
		turn <- err
	}()
	if _, err := c.in.Peek(readBuffer); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && c.in.Buffered() < left {
		c.cancel(fmt.Errorf("read a request: %w", err))
	}
	return <-turn
}

// readFrame reads one request. What it holds is in the frame, also with an error.
func (c *conn) readFrame() (f frame, err error) {
	if err := c.awaitFrame(); err != nil {
		return f, err
	}
	if err := c.allowRead(stallPatience); err != nil {
		return f, err
	}
	if f.head, err = readHead(c.in); err != nil {
		return f, err
	}
	if most := maxFrame(f.key); f.size > most {
		return f, fmt.Errorf("%w: a frame of %d bytes for a request of kind %d, which may have %d", errFrame, f.size, f.key, most)
	}
	f.held = min(int64(f.size), pendingBytes)
	if err := c.window.Acquire(c.waits, f.held); err != nil {
		f.held = 0
		return f, context.Cause(c.waits)
	}
	c.begun = true
	held, receive := 0, c.server.asked
	if f.key == int16(kmsg.Produce) {
		receive = c.server.receive
	}
	f.rest, err = readRest(c.in, f.head, func(memory int) error {
		var err error
		switch {
		case memory == 0:
			f.share.Progress()
		case f.share == nil:
			if err = c.awaitTurn(f.key, f.size-(headBytes-sizeBytes)-firstBytes); err == nil {
				f.share, err = receive.Take(c.waits, int64(memory), c.evictSender)
			}
		default:
			err = f.share.Grow(c.waits, int64(memory-held))
		}
		if err != nil {
			return err
		}
		held = max(held, memory)
		return c.allowRead(stallPatience)
	})
	if err != nil {
		return f, err
	}
	if f.share != nil {
		f.share.Settle(c.evict)
	}
	f.received = c.server.Clock.Now()
	return f, nil
}

// awaitFrame waits for the beginning of a frame. A client that waits for an answer is not idle, and one that has asked nothing yet is taken for idle while
// there are connections enough.
func (c *conn) awaitFrame() error {
	patience := c.server.first
	if c.begun {
		patience = c.server.idle
	}
	for began := c.server.Clock.Now(); ; {
		if err := c.allowRead(patience); err != nil {
			return err
		}
		_, err := c.in.Peek(1)
		spared := !c.begun && c.server.Clock.Now().Sub(began) < c.server.idle && !c.server.crowded()
		if !errors.Is(err, os.ErrDeadlineExceeded) || !c.backlog.busy() && !spared {
			return err //nolint:wrapcheck // io.EOF is an answer
		}
	}
}

// allowRead gives the client so long to send something. It leaves the deadline of finish alone.
func (c *conn) allowRead(patience time.Duration) error {
	if err := c.net.SetReadDeadline(c.server.Clock.Now().Add(patience)); err != nil {
		return err //nolint:wrapcheck // it is about the connection as a whole
	}
	if c.waits.Err() != nil {
		return context.Cause(c.waits)
	}
	return nil
}

// release drops a frame's bytes and gives back what they hold.
func (f *frame) release(c *conn) {
	f.rest = nil
	if f.share != nil {
		f.share.Give()
		f.share = nil
	}
	if f.held > 0 {
		c.window.Release(f.held)
		f.held = 0
	}
}

// handle has the requests handled, one after the other, until no more come.
func (c *conn) handle() {
	defer close(c.handled)
	defer close(c.answers)
	for f := range c.frames {
		if err := c.handleOne(f); err != nil {
			c.cancel(err)
			for f := range c.frames {
				f.release(c)
			}
			return
		}
	}
}

// handleOne takes one request. Its answer may come later; an error ends the connection.
func (c *conn) handleOne(f frame) (err error) {
	k := &call{conn: c, frame: f, done: make(chan struct{})}
	defer c.backlog.through()
	if err := c.backlog.take(c.ctx, k); err != nil {
		k.frame.release(c)
		return err
	}
	queued := false
	defer func() {
		if cause := recover(); cause != nil {
			err = c.panicked(k, cause)
		}
		switch {
		case err == nil:
		case queued:
			k.abandon()
		default:
			k.release()
		}
	}()
	served, err := k.decode()
	if err != nil {
		return err
	}
	c.answers <- k // the backlog has no more than there is place for
	queued = true
	return served(c.waits, k)
}

// panicked tells of a bug that a request has met, which ends its connection.
func (c *conn) panicked(k *call, cause any) error {
	c.server.Telemetry.panicked(c.ctx)
	c.server.Logger.Error("a Kafka request panicked; please report this", "key", k.key, "version", k.version,
		"cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
	return errors.New("a bug in the server ended this connection; its log has the details")
}

// clientHost is where the client is, for people.
func (c *conn) clientHost() string {
	if host, _, err := net.SplitHostPort(c.net.RemoteAddr().String()); err == nil {
		return "/" + host
	}
	return c.net.RemoteAddr().String()
}

// dialled is the address at which the client reached this node.
func (c *conn) dialled() string { return c.net.LocalAddr().String() }

// log is the node of this process.
func (c *conn) log() (Log, error) { return c.server.Log() }
