package nemesis

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// shelf is an object store of the simplest kind.
type shelf struct {
	mu      sync.Mutex
	objects map[string]string
	hosts   map[string]bool
	arrived chan struct{} // after each PUT
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts[r.Host] = true
	switch r.Method {
	case http.MethodPut:
		body, _ := io.ReadAll(r.Body)
		s.objects[r.URL.Path] = string(body)
		s.arrived <- struct{}{}
	case http.MethodGet:
		w.Header().Set("Content-Length", strconv.Itoa(len(s.objects[r.URL.Path]))) // as every object store does
		_, _ = io.WriteString(w, s.objects[r.URL.Path])
	}
}

func (s *shelf) get(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[name]
}

func startGate(t *testing.T) (*Gate, *shelf) {
	t.Helper()
	store := &shelf{objects: make(map[string]string), hosts: make(map[string]bool), arrived: make(chan struct{}, 10)}
	server := httptest.NewServer(store)
	t.Cleanup(server.Close)
	g, err := openGate(t.Context(), server.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.close)
	return g, store
}

func call(ctx context.Context, g *Gate, method, name, body string) (int, string, error) {
	transport := &http.Transport{DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+g.address()+name, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, "", err
	}
	answer, err := transport.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

func TestGatePasses(t *testing.T) {
	g, store := startGate(t)
	if status, _, err := call(t.Context(), g, http.MethodPut, "/a", "content"); status != 200 || err != nil {
		t.Fatal(status, err)
	}
	if status, text, err := call(t.Context(), g, http.MethodGet, "/a", ""); status != 200 || text != "content" || err != nil {
		t.Fatal(status, text, err)
	}
	if !store.hosts[g.address()] || len(store.hosts) != 1 {
		t.Errorf("the store was called by the names %v, and a signature covers %s", store.hosts, g.address())
	}
}

func TestGateRefuses(t *testing.T) {
	g, store := startGate(t)
	g.Set(GateRefuses)
	if status, text, err := call(t.Context(), g, http.MethodPut, "/a", "content"); status != 503 || !strings.Contains(text, "SlowDown") || err != nil {
		t.Errorf("%d %q %v", status, text, err)
	}
	if store.get("/a") != "" {
		t.Error("the object was stored")
	}
}

func TestGateStoresAndRefuses(t *testing.T) {
	g, store := startGate(t)
	g.Set(GateStoresAndRefuses)
	var refused int
	for _, name := range []string{"/a", "/b", "/c", "/d"} {
		status, _, err := call(t.Context(), g, http.MethodPut, name, "content")
		if err != nil {
			t.Fatal(err)
		}
		if status == 503 {
			refused++
		}
		if store.get(name) != "content" {
			t.Errorf("%s was answered %d and is not stored", name, status)
		}
	}
	if refused != 2 {
		t.Errorf("%d of 4 refused, want every second", refused)
	}
}

func TestGateHangs(t *testing.T) {
	g, store := startGate(t)
	g.Set(GateHangs)
	ctx, cancel := context.WithTimeout(t.Context(), no)
	defer cancel()
	if _, _, err := call(ctx, g, http.MethodPut, "/late", "content"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v, want silence", err)
	}
	if store.get("/late") != "" {
		t.Error("it was stored at once")
	}
	g.Set(GatePasses)
	select {
	case <-store.arrived: // though nobody waits for it any more
	case <-t.Context().Done():
	}
	if store.get("/late") != "content" {
		t.Error("what hung did not reach the store in the end")
	}
}

func TestGateTruncates(t *testing.T) {
	g, _ := startGate(t)
	content := strings.Repeat("content ", 20_000)
	if _, _, err := call(t.Context(), g, http.MethodPut, "/a", content); err != nil {
		t.Fatal(err)
	}
	g.Set(GateTruncates)
	var cut int
	for range 4 {
		_, text, err := call(t.Context(), g, http.MethodGet, "/a", "")
		switch {
		case err == nil && text == content:
		case err != nil && len(text) < len(content) && strings.HasPrefix(content, text):
			cut++
		default:
			t.Errorf("%d bytes, %v", len(text), err)
		}
	}
	if cut != 2 {
		t.Errorf("%d of 4 answers were cut short, want every second", cut)
	}
}

func TestProcess(t *testing.T) {
	s := newSpawner()
	defer s.close()
	died := make(chan string, 1)
	p := &process{
		name: "sleeper", path: "/bin/sh", args: []string{"-c", `echo begin; exec sleep 60`}, logName: t.TempDir() + "/log", spawner: s,
		died: func(_ *process, how string) { died <- how },
	}
	defer p.kill()
	for life := 1; life <= 2; life++ {
		if err := p.start(); err != nil {
			t.Fatal(err)
		}
		if err := p.start(); err == nil {
			t.Fatal("it runs twice")
		}
		if err := p.pause(); err != nil || !p.isPaused() {
			t.Fatalf("pause: %v", err)
		}
		if err := p.resume(); err != nil || p.isPaused() {
			t.Fatalf("resume: %v", err)
		}
		if life == 1 {
			p.kill()
		} else if err := p.stop(t.Context(), 10*time.Second); err != nil {
			t.Fatal(err)
		}
		if p.running() {
			t.Fatal("it runs after its end")
		}
	}
	if len(died) > 0 {
		t.Errorf("an end that was asked for was reported: %s", <-died)
	}
	p.args = []string{"-c", `echo "panic: of its own"; exit 3`}
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	if how := <-died; how != "exit status 3" {
		t.Errorf("its end was reported as %q", how)
	}
	if got := p.crashes(); len(got) != 1 || got[0] != "sleeper: panic: of its own" {
		t.Errorf("its log shows %q", got)
	}
	if text, err := os.ReadFile(p.logName); err != nil || strings.Count(string(text), "begin\n") > 2 {
		t.Errorf("its log is %q, %v", text, err)
	}
}

func TestStopKillsWhoDoesNotListen(t *testing.T) {
	s := newSpawner()
	defer s.close()
	p := &process{
		name: "deaf", path: "/bin/sh", args: []string{"-c", `trap "" TERM; echo ready; while :; do sleep 1; done`}, logName: t.TempDir() + "/log",
		spawner: s, died: func(*process, string) {},
	}
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(p.tail(100), "ready") {
		wait(t.Context(), time.Millisecond)
	}
	if err := p.stop(t.Context(), 50*time.Millisecond); err == nil || p.running() {
		t.Errorf("stop: %v; running: %v", err, p.running())
	}
}
