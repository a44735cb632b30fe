package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

// Several servers may be named, and any of them will do.
func TestSeveralServers(t *testing.T) {
	c := startCluster(t, 1, 1, "a")
	const nobody = "http://127.0.0.1:1"
	for _, list := range []string{nobody + "," + c.node("a").url(), " " + c.node("a").url() + "/ , " + nobody} {
		cl := newClient(t, client.Config{Server: list})
		if topic, _, err := cl.GetTopic(t.Context(), "t"); err != nil || topic.GetName() != "t" {
			t.Error(list, err)
		}
	}
	away := newClient(t, client.Config{Server: nobody + ",http://127.0.0.1:2"})
	if away.Server() != nobody+",http://127.0.0.1:2" {
		t.Error(away.Server())
	}
	if _, _, err := away.GetTopic(t.Context(), "t"); !client.IsUnreachable(err) || !strings.Contains(err.Error(), away.Server()) {
		t.Error(err)
	}
	for _, list := range []string{"http://a:1,,http://b:2", "http://a:1,b:2", "ftp://a", "http://a:1,http://"} {
		if _, err := client.New(client.Config{Server: list}); err == nil {
			t.Error(list, "is no list of URLs")
		}
	}
}

// stopping is a node that is about to go.
type stopping struct {
	tidemarkv1connect.UnimplementedTopicServiceHandler

	asked atomic.Int32
}

func (s *stopping) refuse() error {
	s.asked.Add(1)
	err := connect.NewError(connect.CodeUnavailable, errors.New("the node is stopping"))
	if d, derr := connect.NewErrorDetail(&errdetails.ErrorInfo{Reason: "SHUTTING_DOWN"}); derr == nil {
		err.AddDetail(d)
	}
	return err
}

func (s *stopping) GetTopic(context.Context, *tidemarkv1.GetTopicRequest) (*tidemarkv1.GetTopicResponse, error) {
	return nil, s.refuse()
}

func (s *stopping) AddPartitions(context.Context, *tidemarkv1.AddPartitionsRequest) (*tidemarkv1.AddPartitionsResponse, error) {
	return nil, s.refuse()
}

// A question goes on to another node when one is about to stop; a change that may have been made does not.
func TestStoppingNodeIsLeft(t *testing.T) {
	c := startCluster(t, 1, 1, "a")
	var node stopping
	mux := http.NewServeMux()
	mux.Handle(tidemarkv1connect.NewTopicServiceHandler(&node))
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	s := httptest.NewUnstartedServer(mux)
	s.Config.Protocols = &protocols
	s.Start()
	defer s.Close()
	for first := false; !first; {
		cl := newClient(t, client.Config{Server: s.URL + "," + c.node("a").url()})
		if first = client.Any(cl) == s.URL; !first {
			continue
		}
		if _, err := cl.AddPartitions(t.Context(), "t", 2); err == nil || node.asked.Load() != 1 {
			t.Error("adding partitions was tried again:", err, node.asked.Load())
		}
	}
	node.asked.Store(0)
	for node.asked.Load() == 0 {
		cl := newClient(t, client.Config{Server: s.URL + "," + c.node("a").url()})
		if _, _, err := cl.GetTopic(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
	}
	alone := newClient(t, client.Config{Server: s.URL})
	var e *client.Error
	if _, _, err := alone.GetTopic(t.Context(), "t"); !errors.As(err, &e) || e.Reason != "SHUTTING_DOWN" || !e.Retryable {
		t.Error(err)
	}
}

// Leaders are known while a topic is followed, and changes are told.
func TestFollow(t *testing.T) {
	c := startCluster(t, 1, 2, "a", "b")
	cl := c.client("a")
	if client.Leader(cl, "t", 0) != "" {
		t.Error("a leader without following")
	}
	release := client.Follow(cl, "t")
	also := client.Follow(cl, "t")
	toldOf(t, cl, "the leaders are known", func() bool {
		return client.Leader(cl, "t", 0) == c.node("a").url() && client.Leader(cl, "t", 1) == c.node("b").url()
	})
	if n, id, ok := client.Partitions(cl, "t"); n != 2 || id != "00ff" || !ok {
		t.Error(n, id, ok)
	}
	if client.Leader(cl, "t", 2) != "" || client.Leader(cl, "t", -1) != "" || client.Leader(cl, "other", 0) != "" {
		t.Error("a leader of nothing")
	}
	c.move(0, "b")
	toldOf(t, cl, "the leader has changed", func() bool { return client.Leader(cl, "t", 0) == c.node("b").url() })
	c.move(0, "")
	toldOf(t, cl, "nobody leads", func() bool { return client.Leader(cl, "t", 0) == "" })
	c.move(0, "a")
	toldOf(t, cl, "somebody leads again", func() bool { return client.Leader(cl, "t", 0) == c.node("a").url() })
	release()
	release()
	other := client.Follow(cl, "other") // asks anew, with t, which is still held
	c.until("the stream was opened again", func() bool { return c.nodes["a"].watchers+c.nodes["b"].watchers == 2 })
	c.move(0, "b")
	toldOf(t, cl, "t is still followed", func() bool { return client.Leader(cl, "t", 0) == c.node("b").url() })
	also()
	other()
	defer client.Follow(cl, "third")()
	until(t, "t is forgotten", func() bool { _, _, ok := client.Partitions(cl, "t"); return !ok })
}

// toldOf waits for changes only, so that one that is not told is missed.
func toldOf(t *testing.T, cl *client.Client, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		changed := client.Changed(cl)
		if ok() {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatal("waited too long until", what)
		}
	}
}

// The only configured node dies. The client goes on over those that it learned.
func TestLearnedNodesAreStarts(t *testing.T) {
	c := startCluster(t, 1, 2, "a", "b", "c")
	cl := c.client("a")
	defer client.Follow(cl, "t")()
	toldOf(t, cl, "the leaders are known", func() bool { return client.Leader(cl, "t", 1) == c.node("b").url() })
	if client.Any(cl) != c.node("a").url() {
		t.Error(client.Any(cl))
	}
	c.kill("a")
	c.move(0, "c")
	toldOf(t, cl, "the next leader is known", func() bool { return client.Leader(cl, "t", 0) == c.node("c").url() })
	if _, _, err := cl.GetTopic(t.Context(), "t"); err != nil {
		t.Error(err)
	}
}

// A node that hangs while it tells about the cluster is left.
func TestHangingMetadataStreamIsLeft(t *testing.T) {
	c := startCluster(t, 1, 1, "a", "b")
	cl := c.client("a")
	client.SetPings(cl, 50*time.Millisecond, 50*time.Millisecond)
	defer client.Follow(cl, "t")()
	toldOf(t, cl, "the leader is known", func() bool { return client.Leader(cl, "t", 0) == c.node("a").url() })
	a := c.node("a")
	a.stop()
	defer a.cont()
	c.move(0, "b")
	toldOf(t, cl, "the next leader is known", func() bool { return client.Leader(cl, "t", 0) == c.node("b").url() })
}

// Servers that know nothing of metadata forward; among several the one that knows is found.
func TestOldServers(t *testing.T) {
	old, cl := startServer(t)
	old.create("t", 2, nil)
	s := newStory(t, producer(t, cl, client.ProducerConfig{Linger: -1}), 2)
	for i := range 40 {
		s.produce(i % 2)
	}
	if err := s.p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for v, r := range s.got {
		if r.Err != nil {
			t.Error(v, r.Err)
		}
	}
	if client.Any(cl) != cl.Server() || client.Leader(cl, "t", 0) != "" {
		t.Error(client.Any(cl), client.Leader(cl, "t", 0))
	}
	c := startCluster(t, 1, 1, "a")
	for range 4 { // each begins at one of the two by chance
		mixed := newClient(t, client.Config{Server: cl.Server() + "," + c.node("a").url()})
		release := client.Follow(mixed, "t")
		toldOf(t, mixed, "the leader is known", func() bool { return client.Leader(mixed, "t", 0) == c.node("a").url() })
		release()
	}
}

// later is the system's clock, moved forward by what is added to it.
type later struct {
	clock.Clock

	by atomic.Int64
}

func (l *later) Now() time.Time { return l.Clock.Now().Add(time.Duration(l.by.Load())) }

// History goes back when a cluster is made anew. For a while that looks like a node that lags; then it is believed.
func TestClusterMadeAnew(t *testing.T) {
	c := startCluster(t, 1, 1, "a")
	for range 20 {
		c.move(0, "a")
	}
	now := &later{Clock: clock.System()}
	cl := newClient(t, client.Config{Server: c.node("a").url(), Clock: now})
	defer client.Follow(cl, "t")()
	toldOf(t, cl, "the leader is known", func() bool { return client.Leader(cl, "t", 0) == c.node("a").url() })
	address := c.node("a").address
	c.kill("a")
	anew := startCluster(t, 1, 2)
	z := anew.start("z", address, "")
	anew.move(0, "z")
	if z.address != address {
		t.Skip("the port was taken meanwhile")
	}
	anew.until("the new cluster was asked", func() bool { return z.watchers > 1 })
	now.by.Add(int64(time.Minute))
	toldOf(t, cl, "the new cluster is believed", func() bool {
		n, _, _ := client.Partitions(cl, "t")
		return n == 2 && client.Leader(cl, "t", 0) == z.url()
	})
}

// A node that knows less than is known already is left for another, or until it has caught up.
func TestNodeThatLags(t *testing.T) {
	c := startCluster(t, 1, 1, "a", "b")
	for range 20 {
		c.move(0, "a")
	}
	c.until("b has heard", func() bool { return c.nodes["b"].index.GetRevision() == c.revision })
	cl := c.client("a")
	defer client.Follow(cl, "t")()
	toldOf(t, cl, "the leader is known", func() bool { return client.Leader(cl, "t", 0) == c.node("a").url() })
	c.mu.Lock()
	c.nodes["b"].deaf = true
	c.mu.Unlock()
	c.move(0, "b")
	c.move(0, "a")
	c.kill("a") // b alone is left, and knows less than the client may
	c.until("b is asked", func() bool { return c.nodes["b"].watchers > 0 })
	c.mu.Lock()
	c.nodes["b"].deaf = false
	c.mu.Unlock()
	c.move(0, "b")
	toldOf(t, cl, "the next leader is known", func() bool { return client.Leader(cl, "t", 0) == c.node("b").url() })
}
