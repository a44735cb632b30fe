package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
)

// quietCluster has one node and so many topics of one partition that nobody leads.
type quietCluster struct {
	ingest.ClusterIndex
	topicAdmin
	topics []meta.Topic
}

func (c *quietCluster) Index() (ingest.ClusterIndex, error)               { return c, nil }
func (c *quietCluster) ClusterID(context.Context) (string, error)         { return "quiet", nil }
func (c *quietCluster) Nodes() []meta.NodeInfo                            { return []meta.NodeInfo{{ID: "node-1"}} }
func (c *quietCluster) Topics() []meta.Topic                              { return c.topics }
func (c *quietCluster) Leader(meta.Partition) (l meta.Leadership, _ bool) { return l, false }

// quietServer serves nothing but what needs no log, on loopback, until the test ends.
func quietServer(tb testing.TB, topics int) (*Server, string) {
	tb.Helper()
	cluster := &quietCluster{}
	for n := range topics {
		cluster.topics = append(cluster.topics, meta.Topic{Name: fmt.Sprintf("topic-%06d", n), Partitions: 1})
	}
	s, err := New(Config{
		Self: "node-1", Cluster: cluster, Groups: struct{ Groups }{}, Clock: clock.System(),
		Log: func() (Log, error) { return nil, errors.New("no log here") },
	})
	if err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	tb.Cleanup(func() {
		s.Close()
		if err := <-served; err != nil {
			tb.Error(err)
		}
	})
	return s, l.Addr().String()
}

func dial(tb testing.TB, address string) net.Conn {
	tb.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() }) // it may have been closed by the test, or by the server
	return c
}

// askRaw sends a request and gives the body of its answer, behind the correlation id.
func askRaw(c net.Conn, request []byte) ([]byte, error) {
	if err := c.SetDeadline(clock.System().Now().Add(20 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := c.Write(request); err != nil {
		return nil, err
	}
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:])-4)
	_, err := io.ReadFull(c, body)
	return body, err
}

// isServed fails unless a client with nothing special about it is answered at once.
func isServed(tb testing.TB, address string) {
	tb.Helper()
	c := dial(tb, address)
	defer c.Close()
	began := clock.System().Now()
	if _, err := askRaw(c, requestFrame(kmsg.NewPtrApiVersionsRequest(), 3)); err != nil {
		tb.Errorf("a client beside the hostile ones: %v", err)
	}
	if took := clock.System().Now().Sub(began); took > 5*time.Second {
		tb.Errorf("a client beside the hostile ones waited for %s", took)
	}
}

// hungUp fails unless the server ends the connection.
func hungUp(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(clock.System().Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, c); n > 0 || errors.Is(err, context.DeadlineExceeded) || err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("the server said %d bytes, %v, instead of ending the connection", n, err)
	}
}

func TestWhatIsNoKafkaIsHungUp(t *testing.T) {
	_, address := quietServer(t, 0)
	oversize := requestFrame(kmsg.NewPtrMetadataRequest(), 12)
	binary.BigEndian.PutUint32(oversize, smallFrame+1)
	greatest := requestFrame(kmsg.NewPtrProduceRequest(), 9)
	binary.BigEndian.PutUint32(greatest, 0x7fffffff)
	negative := requestFrame(kmsg.NewPtrMetadataRequest(), 12)
	binary.BigEndian.PutUint32(negative, 0xffffffff)
	unknown := requestFrame(kmsg.NewPtrMetadataRequest(), 12)
	binary.BigEndian.PutUint16(unknown[4:], 999)
	tooNew := requestFrame(kmsg.NewPtrMetadataRequest(), 12)
	binary.BigEndian.PutUint16(tooNew[6:], 99)
	tooOld := requestFrame(kmsg.NewPtrProduceRequest(), 1)
	cut := requestFrame(kmsg.NewPtrMetadataRequest(), 12)
	cut = cut[:len(cut)-1]
	binary.BigEndian.PutUint32(cut, uint32(len(cut)-sizeBytes))
	for name, bytes := range map[string][]byte{
		"HTTP":                         []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
		"TLS":                          {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 9, 9, 9},
		"zeros":                        make([]byte, 64),
		"a frame above its kind's cap": oversize,
		"a frame of two gigabytes":     greatest,
		"a negative size":              negative,
		"an unknown kind":              unknown,
		"a version that is to come":    tooNew,
		"a version from before 2.1":    tooOld,
		"a body that is cut off":       cut,
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, address)
			if _, err := c.Write(bytes); err != nil {
				t.Fatal(err)
			}
			hungUp(t, c)
		})
	}
	isServed(t, address)
}

// TestAClientFromTheFuture asks with a version of ApiVersions that is not known, and gets an answer of version 0 that says what is.
func TestAClientFromTheFuture(t *testing.T) {
	_, address := quietServer(t, 0)
	request := requestFrame(kmsg.NewPtrApiVersionsRequest(), 4)
	binary.BigEndian.PutUint16(request[6:], 77)
	body, err := askRaw(dial(t, address), request)
	if err != nil {
		t.Fatal(err)
	}
	var r kmsg.ApiVersionsResponse
	if err := r.ReadFrom(body); err != nil {
		t.Fatal(err)
	}
	if r.ErrorCode != 35 || len(r.ApiKeys) != len(apis) {
		t.Errorf("code %d, %d kinds", r.ErrorCode, len(r.ApiKeys))
	}
}

// TestIdleConnections: thousands of clients that say nothing cost little each, and nobody is in their way.
func TestIdleConnections(t *testing.T) {
	_, address := quietServer(t, 0)
	count := 4_500 // both ends are in this process, which may open 20,000 files; a quarter of them may be for one address
	if testing.Short() {
		count = 1_000
	}
	// Loopback has 28,000 ports to connect from, and one that was used is not free again at once.
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	conns := make([]net.Conn, count)
	for n := range conns {
		conns[n] = dial(t, address)
	}
	isServed(t, address)
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapInuse + after.StackInuse - before.HeapInuse - before.StackInuse) / uint64(count)
	t.Logf("%d idle connections cost %d bytes each, the client's side with it", count, each)
	if each > 64<<10 {
		t.Errorf("an idle connection costs %d bytes", each)
	}
	for n := 0; n < count; n += count / 10 {
		if _, err := askRaw(conns[n], requestFrame(kmsg.NewPtrApiVersionsRequest(), 3)); err != nil {
			t.Errorf("an idle client that asks something: %v", err)
		}
	}
}

// TestHalfFrames: clients that begin large frames and never end them hold about what they have sent, and when that fills the room others get it
// all the same, soon.
func TestHalfFrames(t *testing.T) {
	s, address := quietServer(t, 0)
	half := make([]byte, headBytes+2*firstBytes)
	binary.BigEndian.PutUint32(half, produceFrame)
	binary.BigEndian.PutUint16(half[6:], 9)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var conns []net.Conn
	for range 100 {
		c := dial(t, address)
		if _, err := c.Write(half); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	isServed(t, address)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if took := int64(after.HeapInuse) - int64(before.HeapInuse); took > 32<<20 {
		t.Errorf("a hundred frames of which 8 KiB have come hold %d MiB", took>>20)
	}
	// Now they send as much as it takes to hold the whole room, and stop.
	more := make([]byte, 1<<20)
	for _, c := range conns {
		go func() { _, _ = c.Write(more) }() // it is to get stuck
	}
	isServed(t, address) // a small frame needs no room
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := clock.System().Now()
	share, err := s.receive.Take(ctx, 16<<20, func() bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	share.Give()
	t.Logf("another frame of 16 MiB had room after %s", clock.System().Now().Sub(began))
	if took := clock.System().Now().Sub(began); took > 20*time.Second {
		t.Errorf("a frame of another client waited %s for room", took)
	}
}

// TestSlowReaders: clients that ask for much and read nothing hold no more than the room, and are disconnected when others want it.
func TestSlowReaders(t *testing.T) {
	s, address := quietServer(t, 20_000)
	request := requestFrame(kmsg.NewPtrMetadataRequest(), 12) // all topics: about a megabyte
	var before, peak runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 60 {
		c := dial(t, address)
		for range 20 {
			if _, err := c.Write(request); err != nil {
				t.Fatal(err)
			}
		}
	}
	isServed(t, address)
	// The room fills: at the latest when whoever stalls has been disconnected somebody else gets a good part of it.
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	share, err := s.send.Take(ctx, sendBytes/2, func() bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	share.Give()
	runtime.GC()
	runtime.ReadMemStats(&peak)
	if took := int64(peak.HeapInuse) - int64(before.HeapInuse); took > sendBytes+decodeBytes {
		t.Errorf("clients that do not read hold %d MiB", took>>20)
	}
	isServed(t, address)
}
