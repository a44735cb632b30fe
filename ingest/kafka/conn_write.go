package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Answers go out in the order of their requests, each when it is there, and what is ready goes out together.

const (
	// writeAtOnce bounds what one write has to get rid of. takenEachSecond is how fast a client has to take what is ready while others wait for room.
	writeAtOnce     = 1 << 20
	takenEachSecond = 512 << 10
	// gatherAnswers is how many answers that are ready go out in one write, while they have less than gatherBytes: those to produces are made for it.
	gatherAnswers = 64
	gatherBytes   = 256 << 10
)

// write writes answers in the order of their requests until there are no more, and has everything released that they hold.
func (c *conn) write() {
	for {
		k := c.next
		if c.next = nil; k == nil {
			if len(c.answers) == 0 {
				c.pace = time.Time{}
			}
			var ok bool
			if k, ok = <-c.answers; !ok {
				return
			}
		}
		c.gathered = append(c.gathered[:0], k)
		if err := c.writeNext(k); err != nil {
			c.cancel(err)
		}
		for _, k := range c.gathered {
			// One that is still being worked on gives back what it holds when it is answered.
			k.written()
		}
		clear(c.gathered)
	}
}

// writeNext writes an answer when it is there, with those behind it that are there as well.
func (c *conn) writeNext(k *call) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = c.panicked(c.gathered[len(c.gathered)-1], cause) // the last one that was made
		}
	}()
	if !c.await(k) {
		return nil
	}
	c.gather()
	return c.writeAnswers(c.gathered)
}

// await waits for an answer; false when the connection ends before.
func (c *conn) await(k *call) bool {
	if !k.isDone() {
		c.pace = time.Time{}
		var due <-chan time.Time
		if !k.deadline.IsZero() {
			timer := c.server.Clock.NewTimer(k.deadline.Sub(c.server.Clock.Now()))
			defer timer.Stop()
			due = timer.C()
		}
		for !k.isDone() {
			select {
			case <-k.done:
			case <-due:
				due = nil
				k.timeOut()
			case <-c.ctx.Done():
				return false
			}
		}
	}
	if c.ctx.Err() != nil {
		return false
	}
	k.makeAnswer()
	return true
}

// gather adds those behind that are answered already, for one write. Of the others it takes the first out of the queue.
func (c *conn) gather() {
	for size := c.gathered[0].left; len(c.gathered) < gatherAnswers && size < gatherBytes; {
		select {
		case k, ok := <-c.answers:
			if !ok || !k.isDone() {
				c.next = k
				return
			}
			c.gathered = append(c.gathered, k)
			k.makeAnswer()
			size += k.left
		default:
			return
		}
	}
}

// writeAnswers writes and reports progress to those whose bytes go.
func (c *conn) writeAnswers(calls []*call) error {
	for len(calls) > 0 {
		var out net.Buffers
		size, n := 0, 0
		for n < len(calls) && (n == 0 || size+calls[n].left <= writeAtOnce) {
			out = append(out, calls[n].buffers...)
			size += calls[n].left
			n++
		}
		if n == 1 && size > writeAtOnce {
			if err := c.writeLarge(calls[0]); err != nil {
				return err
			}
		} else if size > 0 {
			if err := c.writeSome(out, size); err != nil {
				return err
			}
		}
		calls = calls[n:]
	}
	return nil
}

// writeLarge writes one answer in pieces, each in its time.
func (c *conn) writeLarge(k *call) error {
	rest := k.buffers
	for len(rest) > 0 {
		var piece net.Buffers
		size := 0
		for len(rest) > 0 && size < writeAtOnce {
			b := rest[0]
			if more := writeAtOnce - size; len(b) > more {
				b, rest[0] = b[:more], b[more:]
			} else {
				rest = rest[1:]
			}
			piece = append(piece, b)
			size += len(b)
		}
		if err := c.writeSome(piece, size); err != nil {
			return err
		}
		k.sent(size)
	}
	return nil
}

// writeSome writes so many bytes. The client has stallPatience to take them; while others wait for room, it has the room's patience and what the bytes
// take at takenEachSecond, counted from where it had nothing left to take.
func (c *conn) writeSome(b net.Buffers, size int) error {
	if err := c.allowWrite(); err != nil {
		return fmt.Errorf("write to a client: %w", err)
	}
	if now := c.server.Clock.Now(); c.pace.IsZero() || c.pace.After(now) {
		c.pace = now
	}
	c.pace = c.pace.Add(time.Duration(size) * time.Second / takenEachSecond)
	c.dueAt.Store(c.pace.Add(c.server.send.Patience()).UnixNano())
	defer c.dueAt.Store(0)
	if _, err := b.WriteTo(c.net); err != nil {
		if errors.Is(err, net.ErrClosed) {
			return errGone
		}
		return fmt.Errorf("write to a client: %w", err)
	}
	return nil
}

// allowWrite gives the client its time to take something.
func (c *conn) allowWrite() error {
	err := c.net.SetWriteDeadline(c.server.Clock.Now().Add(stallPatience))
	if err == nil && c.waits.Err() != nil && errors.Is(context.Cause(c.waits), errStopping) {
		err = c.net.SetWriteDeadline(c.server.Clock.Now().Add(drainPatience))
	}
	return err //nolint:wrapcheck // it is about the connection as a whole
}
