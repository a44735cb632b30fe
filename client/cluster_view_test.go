package client

import (
	"errors"
	"fmt"
	"net"
	"testing"

	"connectrpc.com/connect"
	"pgregory.net/rapid"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

func nodeAt(id, url string) *tidemarkv1.Node { return &tidemarkv1.Node{Id: id, Alive: true, Http: url} }

func topicLed(name, id string, leaders ...*tidemarkv1.PartitionLeader) *tidemarkv1.TopicMetadata {
	return &tidemarkv1.TopicMetadata{Topic: &tidemarkv1.Topic{Name: name, Id: id}, Partitions: leaders}
}

func by(node string, epoch int32) *tidemarkv1.PartitionLeader {
	return &tidemarkv1.PartitionLeader{Node: node, Epoch: epoch}
}

// Whatever is said, a view ends at the newest of each thing: revisions and, within a topic's life, epochs do not go back.
func TestViewKeepsTheNewest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		asked := map[string]bool{"t": true}
		v := view{}
		v.setNodes([]*tidemarkv1.Node{nodeAt("a", "http://a"), nodeAt("b", "http://b/")})
		var id string
		var newest, revision int64
		var epoch int32
		for range rapid.IntRange(1, 30).Draw(t, "messages") {
			r := &metadata{Revision: rapid.Int64Range(0, 20).Draw(t, "revision")}
			said := rapid.SampledFrom([]string{"1", "2"}).Draw(t, "id")
			at := rapid.Int32Range(0, 9).Draw(t, "epoch")
			r.Topics = append(r.Topics, topicLed("t", said, by("a", at)), topicLed("other", "3", by("a", 1)))
			_, ok := v.apply(r, asked, false)
			if ok != (r.Revision >= revision) {
				t.Fatalf("revision %d after %d: %v", r.Revision, revision, ok)
			}
			if !ok {
				continue
			}
			revision = r.Revision
			if said != id || at > epoch {
				id, epoch, newest = said, at, revision
			}
			if _, got, known := v.leader("t", 0); !known || got != epoch || v.topics["t"].id != id {
				t.Fatalf("epoch %d of %s, want %d of %s, as of revision %d", got, v.topics["t"].id, epoch, id, newest)
			}
			if _, _, known := v.leader("other", 0); known {
				t.Fatal("it keeps what nobody asked for")
			}
		}
	})
}

func TestViewTellsChanges(t *testing.T) {
	asked := map[string]bool{"t": true}
	v := view{}
	for _, step := range []struct {
		name        string
		message     *metadata
		believe     bool
		changed, ok bool
		leader      string
	}{
		{"first", &metadata{Revision: 5, NodesChanged: true, Nodes: []*tidemarkv1.Node{nodeAt("a", "http://a")}, Topics: []*tidemarkv1.TopicMetadata{topicLed("t", "1", by("a", 3))}}, false, true, true, "http://a"},
		{"the same", &metadata{Revision: 6, NodesChanged: true, Nodes: []*tidemarkv1.Node{nodeAt("a", "http://a")}, Topics: []*tidemarkv1.TopicMetadata{topicLed("t", "1", by("a", 3))}}, false, false, true, "http://a"},
		{"nothing", &metadata{Revision: 7}, false, false, true, "http://a"},
		{"older", &metadata{Revision: 4, Missing: []string{"t"}}, false, false, false, "http://a"},
		{"a node without an address", &metadata{Revision: 8, NodesChanged: true, Nodes: []*tidemarkv1.Node{nodeAt("a", "")}}, false, true, true, ""},
		{"another address", &metadata{Revision: 9, NodesChanged: true, Nodes: []*tidemarkv1.Node{nodeAt("a", "http://c")}}, false, true, true, "http://c"},
		{"missing", &metadata{Revision: 10, Missing: []string{"t", "u"}}, false, true, true, ""},
		{"missing still", &metadata{Revision: 10, Missing: []string{"t"}}, false, false, true, ""},
		{"made anew", &metadata{Revision: 11, Topics: []*tidemarkv1.TopicMetadata{topicLed("t", "2", by("a", 1))}}, false, true, true, "http://c"},
		{"history went back", &metadata{Revision: 2, NodesChanged: true, Nodes: []*tidemarkv1.Node{nodeAt("z", "http://z")}, Topics: []*tidemarkv1.TopicMetadata{topicLed("t", "9", by("z", 0))}}, true, true, true, "http://z"},
	} {
		changed, ok := v.apply(step.message, asked, step.believe)
		url, _, _ := v.leader("t", 0)
		if changed != step.changed || ok != step.ok || url != step.leader {
			t.Errorf("%s: changed %v, ok %v, leader %q", step.name, changed, ok, url)
		}
	}
	v.keep(map[string]bool{})
	if len(v.topics) != 0 {
		t.Error("it keeps what nobody follows")
	}
}

// What any and leader choose from what is known.
func TestChoiceOfNodes(t *testing.T) {
	c, err := New(Config{Server: "http://start"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.known.asked = map[string]bool{"t": true}
	role := func(n *tidemarkv1.Node, roles ...string) *tidemarkv1.Node { n.Roles = roles; return n }
	going := nodeAt("d", "http://d")
	going.Draining = true
	c.apply(&metadata{Revision: 1, NodesChanged: true, Nodes: []*tidemarkv1.Node{
		role(nodeAt("a", "http://a"), "ingest"), role(nodeAt("q", "http://q"), "query"), going, role(nodeAt("s", "http://start"), "ingest"),
	}, Topics: []*tidemarkv1.TopicMetadata{topicLed("t", "1", by("a", 1), by("d", 1), by("s", 1), by("x", 1))}}, false)
	if e := c.any(); e.url != "http://start" || !e.configured {
		t.Error("any:", e.url)
	}
	if e := c.anyBut(serveQueries, nil); e.url != "http://q" {
		t.Error("any for queries:", e.url)
	}
	want := []string{"http://a", "http://d", "http://start", ""} // a node that drains leads to the end
	for n, url := range want {
		if e, ok := c.leader("t", int32(n)); ok != (url != "") || ok && e.url != url {
			t.Errorf("partition %d: %v", n, e)
		}
	}
	start, a := c.any(), c.known.learned["http://a"]
	dial := connect.NewError(connect.CodeUnavailable, &net.OpError{Op: "dial", Err: errors.New("refused")})
	c.failed(start, dial)
	if e := c.any(); e != a {
		t.Error("any after a failure:", e.url)
	}
	c.failed(a, dial)
	if e := c.any(); e.url != "http://d" {
		t.Error("any when all others have failed is one that is about to go:", e.url)
	}
	if _, ok := c.leader("t", 0); ok {
		t.Error("a leader that cannot be dialled")
	}
	c.worked(start)
	if e := c.any(); e != start {
		t.Error("any:", e.url)
	}
	again := nodeAt("a", "http://a")
	again.Incarnation = "2"
	c.apply(&metadata{Revision: 2, NodesChanged: true, Nodes: []*tidemarkv1.Node{again}}, false)
	if e, ok := c.leader("t", 0); !ok || e != a {
		t.Error("a node that has begun another life is tried again")
	}
	if !c.gone(&endpoint{url: "http://d"}) || c.gone(a) || c.gone(start) {
		t.Error("gone")
	}
}

// A client that was told to use TLS does not leave it because a node advertises an address without.
func TestNoWayAroundTLS(t *testing.T) {
	c, err := New(Config{Server: "https://start"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.known.asked = map[string]bool{"t": true}
	c.apply(&metadata{Revision: 1, NodesChanged: true, Nodes: []*tidemarkv1.Node{nodeAt("a", "http://a"), nodeAt("b", "https://b")},
		Topics: []*tidemarkv1.TopicMetadata{topicLed("t", "1", by("a", 1), by("b", 1))}}, false)
	if e, ok := c.leader("t", 0); ok {
		t.Error(e.url)
	}
	if e, ok := c.leader("t", 1); !ok || e.url != "https://b" {
		t.Error("no TLS address")
	}
}

func TestConnectionTrouble(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("http2: client connection lost"), true},
		{connect.NewError(connect.CodeUnavailable, errors.New("connection reset")), true},
		{connect.NewError(connect.CodeDeadlineExceeded, errors.New("no answer")), true},
		{connect.NewError(connect.CodeUnimplemented, errors.New("404")), false},
		{connect.NewWireError(connect.CodeUnavailable, errors.New("no leader")), false},
		{connect.NewWireError(connect.CodeInternal, errors.New("bug")), false},
		{&Error{Reason: ReasonUnreachable}, true},
		{&Error{Reason: reasonShuttingDown}, true},
		{&Error{Reason: ReasonUnknownTopic}, false},
		{&Error{cause: errors.New("connection reset")}, true},
		{fmt.Errorf("wrapped: %w", &Error{Reason: reasonNotLeader}), false},
	} {
		if got := connectionTrouble(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}
