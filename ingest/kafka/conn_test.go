package kafka

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest"
)

// notes is what a server writes into its log.
type notes struct {
	mu   sync.Mutex
	text strings.Builder
}

func (n *notes) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(b)
}

func (n *notes) lines(with string) (out []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for line := range strings.Lines(n.text.String()) {
		if strings.Contains(line, with) {
			out = append(out, line)
		}
	}
	return out
}

// brokenCluster has a bug that shows when a test wants it to.
type brokenCluster struct {
	*fakeCluster

	broken atomic.Bool
}

func (c *brokenCluster) Index() (ingest.ClusterIndex, error) {
	if c.broken.Load() {
		panic("a bug")
	}
	return c.fakeCluster.Index()
}

// A bug that is met while an answer is made, when its turn has come, costs its connection and nobody else.
func TestAPanicWhileAnAnswerIsMade(t *testing.T) {
	cluster, noted := &brokenCluster{fakeCluster: &fakeCluster{leader: "n1"}}, &notes{}
	cluster.add("orders", 1)
	s, dial := fakeServer(t, "n1", cluster.fakeCluster, func(c *Config) {
		c.Cluster, c.Logger = cluster, slog.New(slog.NewTextHandler(noted, nil))
		c.Log = func() (Log, error) { return discard{}, nil }
	})
	c := dial()
	cluster.broken.Store(true)
	q := produceOf(topicOf("orders"), -1, plain(t, "x"))
	q.SetVersion(9)
	if _, err := c.Write(bytes.Repeat(frameOf(q, 1), 3)); err != nil {
		t.Fatal(err)
	}
	if !c.hungUp() {
		t.Error("the connection goes on")
	}
	until(t, "end of the connection", func() bool { return s.open.Load() == 0 })
	if lines := noted.lines("panicked"); len(lines) != 1 || !strings.Contains(lines[0], "conn_test.go") {
		t.Errorf("the log says %q", lines)
	}
	cluster.broken.Store(false)
	wantKafka(t, "another client", sendProduce(dial(), 9, q)[0].ErrorCode, nil)
}

// A client that has asked nothing yet may take its time, unless connections are scarce.
func TestWhoAsksLater(t *testing.T) {
	s, address := quietServer(t, 0)
	s.change(func() { s.first = 20 * time.Millisecond })
	c := dial(t, address)
	if err := c.SetReadDeadline(clock.System().Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n > 0 || !isTimeout(err) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if _, err := askRaw(c, requestFrame(kmsg.NewPtrApiVersionsRequest(), 3)); err != nil {
		t.Fatal(err)
	}
}

func TestWhoAsksNothingWhileConnectionsAreScarce(t *testing.T) {
	s, address := quietServer(t, 0)
	s.change(func() { s.first, s.most = 20*time.Millisecond, 2 })
	hungUp(t, dial(t, address))
}

// Whoever looks after the node learns that clients are refused, and which, but not of every one.
func TestRefusedClientsAreNoted(t *testing.T) {
	noted := &notes{}
	s, dial := fakeServer(t, "n1", &fakeCluster{}, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(noted, nil)) })
	s.change(func() { s.mostOfAddress = 1 })
	askWire[*kmsg.ApiVersionsResponse](dial(), 3, kmsg.NewPtrApiVersionsRequest())
	for range 3 {
		if !dial().hungUp() {
			t.Error("a client too many is served")
		}
	}
	lines := noted.lines("refused")
	if len(lines) != 1 || !strings.Contains(lines[0], "address=127.0.0.1") || !strings.Contains(lines[0], "limit_of_address=1") {
		t.Errorf("the log says %q", lines)
	}
}
