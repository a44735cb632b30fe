package kafka

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest"
)

// dialSmall connects a client for whom the kernel keeps little that it does not read.
func dialSmall(t *testing.T, address string) net.Conn {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) { set = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 2048) })
		return errors.Join(err, set)
	}}
	c, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // it may have been closed by the server
	return c
}

// askUnread sends so many requests as far as the server takes them, and reads nothing.
func askUnread(c net.Conn, q kmsg.Request, version int16, count int) {
	frame := string(requestFrame(q, version))
	go func() { _, _ = c.Write([]byte(strings.Repeat(frame, count))) }() // it is to get stuck
}

// only is the server's one connection.
func (s *Server) only(t *testing.T) *conn {
	t.Helper()
	var one *conn
	until(t, "a connection", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			one = c
		}
		return one != nil
	})
	return one
}

// until waits for what will be soon.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := clock.System().NewTimer(0)
	defer tick.Stop()
	for began := clock.System().Now(); !is(); tick.Reset(5 * time.Millisecond) {
		<-tick.C()
		if clock.System().Now().Sub(began) > 20*time.Second {
			t.Fatalf("there is no %s", what)
		}
	}
}

// change changes what a server has besides its configuration, before anybody dials.
func (s *Server) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// TestSmallAnswersNeedNoRoom: while clients that do not read hold all the room for answers, others are served all the same.
func TestSmallAnswersNeedNoRoom(t *testing.T) {
	s, address := quietServer(t, 0)
	all := s.send.Try(sendBytes, nil)
	defer all.Give()
	isServed(t, address)
}

// TestProducesHoldUpNobodyElse: while the frames of produces that wait for the log hold all the room that they have, other large frames come in.
func TestProducesHoldUpNobodyElse(t *testing.T) {
	s, address := quietServer(t, 0)
	all := s.receive.Try(receiveBytes, nil)
	defer all.Give()
	q := kmsg.NewPtrApiVersionsRequest()
	q.ClientSoftwareName = strings.Repeat("x", 2*firstBytes)
	if _, err := askRaw(dial(t, address), requestFrame(q, 3)); err != nil {
		t.Fatal(err)
	}
}

// TestWhoDoesNotReadIsNotServedOn: a client that asks for much and reads nothing comes to a halt long before it holds the room for answers alone.
func TestWhoDoesNotReadIsNotServedOn(t *testing.T) {
	s, address := quietServer(t, 5_000)
	const each = 512 << 10 // an answer has less
	askUnread(dialSmall(t, address), kmsg.NewPtrMetadataRequest(), 12, maxPending)
	c := s.only(t)
	until(t, "halt", func() bool {
		c.backlog.mu.Lock()
		defer c.backlog.mu.Unlock()
		return c.backlog.asked == maxAsked && c.dueAt.Load() != 0
	})
	rest := s.send.Try(sendBytes-maxAsked*each, nil)
	if rest == nil {
		t.Fatal("it holds more than it may")
	}
	rest.Give()
}

// TestSmallRequestsComeToAHalt: of requests whose answers are small as well, few are taken from a client that reads nothing.
func TestSmallRequestsComeToAHalt(t *testing.T) {
	s, address := quietServer(t, 0)
	askUnread(dialSmall(t, address), kmsg.NewPtrApiVersionsRequest(), 3, 100_000)
	c := s.only(t)
	until(t, "halt", func() bool {
		c.backlog.mu.Lock()
		defer c.backlog.mu.Unlock()
		if c.backlog.asked > maxAsked || c.backlog.calls > maxAsked {
			t.Fatalf("%d requests are under way", c.backlog.calls)
		}
		return c.backlog.asked == maxAsked
	})
}

// TestBacklog: what a call is counted for is what it is counted out for, and the next waits for room.
func TestBacklog(t *testing.T) {
	s, address := quietServer(t, 0)
	dial(t, address)
	c := s.only(t)
	produce := func() *call { return &call{conn: c, frame: frame{head: head{key: int16(kmsg.Produce)}}} }
	first := produce()
	if err := c.backlog.take(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if !first.hold(heldBytes) {
		t.Fatal("there is no room in an idle server")
	}
	if rest := s.holding.Try(holdingBytes-heldBytes+1, nil); rest != nil {
		t.Error("what is held is not in the room")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	second := produce()
	if err := c.backlog.take(ctx, second); err == nil {
		t.Error("a request is taken beyond the limit")
	}
	taken := make(chan error, 1)
	go func() { taken <- c.backlog.take(t.Context(), second) }()
	first.release()
	if err := <-taken; err != nil {
		t.Fatal(err)
	}
	c.backlog.keep(second, counted{large: largeBytes})
	if c.backlog.add(produce()) {
		t.Error("a request is taken beyond what one connection may hold of the room for answers")
	}
	c.backlog.drop(second)
	if c.backlog.busy() || c.backlog.counted != (counted{}) || c.backlog.asked != 0 {
		t.Errorf("something is left in %d calls, %+v, %d", c.backlog.calls, c.backlog.counted, c.backlog.asked)
	}
	all := s.holding.Try(holdingBytes, nil)
	if all == nil {
		t.Fatal("the room is not given back")
	}
	all.Give()
}

// TestWhoSaysNothing: a client that never asks is disconnected soon, and one that waits for an answer never.
func TestWhoSaysNothing(t *testing.T) {
	s, address := quietServer(t, 0)
	s.change(func() { s.first, s.idle = 100*time.Millisecond, 20*time.Millisecond })
	hungUp(t, dial(t, address))
	s, address = quietServer(t, 1_000)
	s.change(func() { s.idle = 20 * time.Millisecond })
	all := s.making.Try(makingBytes, nil)
	waits := dial(t, address)
	if _, err := waits.Write(requestFrame(kmsg.NewPtrMetadataRequest(), 12)); err != nil {
		t.Fatal(err)
	}
	if err := waits.SetReadDeadline(clock.System().Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := waits.Read(make([]byte, 1)); n > 0 || !isTimeout(err) {
		t.Fatalf("%d bytes, %v while the answer waits for room", n, err)
	}
	all.Give()
	if err := waits.SetReadDeadline(clock.System().Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := waits.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// TestConnectionsOfAnAddress: one machine may not have them all.
func TestConnectionsOfAnAddress(t *testing.T) {
	s, address := quietServer(t, 0)
	s.change(func() { s.mostOfAddress = 2 })
	conns := []net.Conn{dial(t, address), dial(t, address)}
	hungUp(t, dial(t, address))
	_ = conns[0].Close()
	until(t, "place", func() bool { return s.open.Load() < 2 })
	isServed(t, address)
}

// TestDrainWaitsForNobodyWhoDoesNotRead: what is left is written to those that take it.
func TestDrainWaitsForNobodyWhoDoesNotRead(t *testing.T) {
	s, address := quietServer(t, 20_000)
	askUnread(dialSmall(t, address), kmsg.NewPtrMetadataRequest(), 12, maxAsked)
	c := s.only(t)
	until(t, "halt", func() bool {
		c.backlog.mu.Lock()
		defer c.backlog.mu.Unlock()
		return c.backlog.asked >= maxAsked/2 && c.dueAt.Load() != 0
	})
	began := clock.System().Now()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s.Drain(ctx)
	if took := clock.System().Now().Sub(began); took > 4*drainPatience {
		t.Errorf("the drain took %s", took)
	}
}

// TestFirstBytesHoldLittle: a frame that has only begun takes a few kilobytes of the room.
func TestFirstBytesHoldLittle(t *testing.T) {
	var first int
	h := head{size: produceFrame}
	_, err := readRest(strings.NewReader(strings.Repeat("x", firstBytes+5)), h, func(memory int) error {
		first = max(first, memory)
		return nil
	})
	if err == nil || first > 16<<10 {
		t.Errorf("%d bytes hold %d, %v", firstBytes+5, first, err)
	}
}

// blockLog is a log of which the first fetch is given 40 MiB, and every other the last 1,000 bytes of a block of 8 MiB, which is read and kept whole.
type blockLog struct {
	stuckLog

	fetched atomic.Int64
}

func (l *blockLog) FetchParts(_ context.Context, r ingest.FetchPartsRequest) ([]ingest.PartFetched, error) {
	size, given := 8<<20, 1000
	if l.fetched.Load() == 0 {
		size, given = 40<<20, 40<<20
	}
	if !r.Reserve(int64(size)) {
		return nil, ingest.ErrNoRoom
	}
	l.fetched.Add(1)
	out := make([]ingest.PartFetched, len(r.Parts))
	out[0].Batches = [][]byte{make([]byte, size)[size-given:]}
	return out, nil
}

// TestWhatAnswersKeepInMemoryCounts: a client that reads nothing comes to a halt by what its answers hold, however little of that it is sent.
func TestWhatAnswersKeepInMemoryCounts(t *testing.T) {
	cluster, log := &fakeCluster{leader: "n1"}, new(blockLog)
	s, dial := fakeServer(t, "n1", cluster, func(c *Config) { c.Log = func() (Log, error) { return log, nil } })
	cluster.add("orders", 1)
	first := dial() // that knows the address
	c := s.only(t)
	_ = first.Close()
	until(t, "end of the first", func() bool { return s.open.Load() == 0 })
	askUnread(dialSmall(t, c.net.LocalAddr().String()), poll(1), 11, maxAsked)
	c = s.only(t)
	until(t, "halt", func() bool {
		c.backlog.mu.Lock()
		defer c.backlog.mu.Unlock()
		return c.backlog.counted.large >= largeBytes
	})
	isFree(t, "one connection", s.send, sendBytes-64<<20)
	if n := log.fetched.Load(); n != 2 {
		t.Errorf("%d fetches were answered", n)
	}
}
