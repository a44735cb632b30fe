package kafka

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/clock"
)

// wire is a connection on which a test says exactly what it wants, in the versions that it wants.
type wire struct {
	net.Conn

	w    *world
	in   *bufio.Reader
	last int32 // correlation id
}

// dial connects to a node as a client does that no library restrains.
func (w *world) dial(n *worldNode) *wire {
	w.t.Helper()
	c, err := net.Dial("tcp", n.address)
	w.must(err)
	w.t.Cleanup(func() { _ = c.Close() })
	w.must(c.SetDeadline(clock.System().Now().Add(storyPatience)))
	return &wire{Conn: c, w: w, in: bufio.NewReader(c)}
}

// frameOf is a request's frame in its version.
func frameOf(q kmsg.Request, correlation int32) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("wire")).AppendRequest(nil, q, correlation)
}

// send sends a request in a version.
func (c *wire) send(version int16, q kmsg.Request) {
	c.w.t.Helper()
	q.SetVersion(version)
	c.last++
	_, err := c.Write(frameOf(q, c.last))
	c.w.must(err)
}

// receive reads the next answer into one of q's kind, which has the version that was asked, and returns its correlation id.
func receive[A kmsg.Response](c *wire, q kmsg.Request) (A, int32) {
	c.w.t.Helper()
	var size [4]byte
	_, err := io.ReadFull(c.in, size[:])
	c.w.must(err)
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err = io.ReadFull(c.in, b)
	c.w.must(err)
	correlation := int32(binary.BigEndian.Uint32(b))
	b = b[4:]
	answer := q.ResponseKind()
	answer.SetVersion(q.GetVersion())
	if answer.IsFlexible() && answer.Key() != int16(kmsg.ApiVersions) {
		b = b[1:]
	}
	c.w.must(answer.ReadFrom(b))
	return answer.(A), correlation // another type is a bug of the test
}

// askWire sends a request in a version and reads its answer.
func askWire[A kmsg.Response](c *wire, version int16, q kmsg.Request) A {
	c.w.t.Helper()
	c.send(version, q)
	answer, correlation := receive[A](c, q)
	if correlation != c.last {
		c.w.t.Fatalf("the answer is one to request %d, not %d", correlation, c.last)
	}
	return answer
}

// hungUp tells whether the node ends the connection without saying more.
func (c *wire) hungUp() bool {
	n, err := c.in.Read(make([]byte, 1))
	return n == 0 && err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}
