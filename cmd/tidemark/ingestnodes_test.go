package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// nodesWorld is etcd's list of nodes, what happens to requests, and where they went.
type nodesWorld struct {
	*ingestNodes

	nodes  []meta.NodeInfo
	etcd   error
	asked  int
	called []string
	bodies []string
	answer map[string]func() (*http.Response, error) // by host; 200 when there is none
}

func newNodesWorld(clk clock.Clock, nodes ...meta.NodeInfo) *nodesWorld {
	w := &nodesWorld{nodes: nodes, answer: map[string]func() (*http.Response, error){}}
	w.ingestNodes = newIngestNodes(clk, func(context.Context) ([]meta.NodeInfo, error) { w.asked++; return w.nodes, w.etcd })
	w.next = roundTripper(func(r *http.Request) (*http.Response, error) {
		w.called = append(w.called, r.URL.Host+r.URL.Path)
		if answer := w.answer[r.URL.Host]; answer != nil {
			if r.Body != nil {
				r.Body.Close()
			}
			return answer()
		}
		if r.Body != nil {
			body, err := io.ReadAll(r.Body)
			w.bodies = append(w.bodies, string(body))
			r.Body.Close()
			if err != nil {
				return nil, err
			}
		}
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
	})
	return w
}

func (w *nodesWorld) call(t *testing.T, body string) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://log/x", io.NopCloser(strings.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	return w.RoundTrip(r)
}

func ingestNode(id, url string) meta.NodeInfo {
	return meta.NodeInfo{ID: meta.NodeID(id), HTTP: url, Roles: []string{roleIngest, roleQuery}}
}

func refusedDial() (*http.Response, error) {
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
}

// Requests stay with one node; of the list only those count that have the role.
func TestIngestNodesAreFound(t *testing.T) {
	w := newNodesWorld(clock.System(), meta.NodeInfo{ID: "q", HTTP: "http://q:1", Roles: []string{roleQuery}}, ingestNode("a", "http://a:1"), ingestNode("b", "http://b:1"))
	for range 3 {
		if _, err := w.call(t, ""); err != nil {
			t.Fatal(err)
		}
	}
	if w.asked != 1 || !slices.Equal(w.called, []string{"a:1/x", "a:1/x", "a:1/x"}) {
		t.Errorf("etcd was asked %d times, and called were %v", w.asked, w.called)
	}
	w = newNodesWorld(clock.System(), meta.NodeInfo{ID: "q", HTTP: "http://q:1", Roles: []string{roleQuery}})
	if _, err := w.call(t, ""); err == nil || !strings.Contains(err.Error(), "no node with the role ingest is alive") {
		t.Errorf("nobody: %v", err)
	}
	w = newNodesWorld(clock.System(), ingestNode("a", "nonsense"))
	if _, err := w.call(t, ""); err == nil || !strings.Contains(err.Error(), `node a advertises "nonsense"`) {
		t.Errorf("an address that is none: %v", err)
	}
}

// A node that died is still in etcd: what could not be connected goes to the next one, whole, and so does everything after it.
func TestIngestNodeDies(t *testing.T) {
	w := newNodesWorld(clock.System(), ingestNode("a", "http://a:1"), ingestNode("b", "http://b:1"), ingestNode("c", "http://c:1"))
	w.answer["a:1"], w.answer["b:1"] = refusedDial, refusedDial
	for _, body := range []string{"first", "second"} {
		if _, err := w.call(t, body); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(w.called, []string{"a:1/x", "b:1/x", "c:1/x", "c:1/x"}) || !slices.Equal(w.bodies, []string{"first", "second"}) {
		t.Errorf("called %v with %q", w.called, w.bodies)
	}
	w.answer["c:1"] = refusedDial
	before := len(w.called)
	if _, err := w.call(t, "third"); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("all nodes are dead: %v", err)
	}
	if got := w.called[before:]; len(got) != 3 {
		t.Errorf("with all nodes dead each is tried once, not %v", got)
	}
}

// Of a request that broke off nobody knows how far it got: it fails, and the next one goes elsewhere. So it is with a node that
// answers that it is not able to.
func TestIngestNodeBreaksOff(t *testing.T) {
	for name, answer := range map[string]func() (*http.Response, error){
		"breaks off": func() (*http.Response, error) { return nil, io.ErrUnexpectedEOF },
		"unavailable": func() (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusServiceUnavailable, Body: http.NoBody}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newNodesWorld(clock.System(), ingestNode("a", "http://a:1"), ingestNode("b", "http://b:1"))
			w.answer["a:1"] = answer
			response, err := w.call(t, "first")
			if err == nil && response.StatusCode == http.StatusOK {
				t.Error("the request was repeated")
			}
			if _, err := w.call(t, "second"); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(w.called, []string{"a:1/x", "b:1/x"}) || !slices.Equal(w.bodies, []string{"second"}) {
				t.Errorf("called %v with %q", w.called, w.bodies)
			}
		})
	}
}

// Nodes that come are found once the list is old, and while etcd is away those of before are used.
func TestIngestNodesComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNodesWorld(clock.System(), ingestNode("a", "http://a:1"))
		call := func() {
			t.Helper()
			if _, err := w.call(t, ""); err != nil {
				t.Fatal(err)
			}
		}
		later := func() { <-clock.System().NewTimer(nodeAddressAge).C() }
		call()
		w.nodes = []meta.NodeInfo{ingestNode("b", "http://b:1")}
		call()
		later()
		call()
		w.etcd = meta.ErrUnavailable
		later()
		call()
		if !slices.Equal(w.called, []string{"a:1/x", "a:1/x", "b:1/x", "b:1/x"}) || w.asked != 3 {
			t.Errorf("called %v, asked etcd %d times", w.called, w.asked)
		}
	})
}
