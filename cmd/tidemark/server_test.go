package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
)

// fakeServices answers /v1/… and remembers that it was drained.
type fakeServices struct {
	http.Handler
	drained atomic.Bool
}

func (*fakeServices) Names() []string { return []string{"tidemark.v1.TopicService"} }
func (*fakeServices) Paths() []string { return []string{"/v1/"} }
func (f *fakeServices) Drain()        { f.drained.Store(true) }

type testServer struct {
	*server
	log      *syncBuffer
	ready    atomic.Pointer[error]
	alive    atomic.Pointer[error]
	panics   atomic.Int32
	services *fakeServices
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func startTestServer(t *testing.T, handler http.HandlerFunc) *testServer {
	t.Helper()
	l, err := listenHTTP(t.Context(), "127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	ts := &testServer{log: &syncBuffer{}, services: &fakeServices{Handler: handler}}
	check := func(p *atomic.Pointer[error]) func() error {
		return func() error {
			if e := p.Load(); e != nil {
				return *e
			}
			return nil
		}
	}
	ts.server = newServer(l, []drainable{ts.services}, serverOptions{
		hosts:    []string{"tidemark.example.com:8640"},
		metrics:  http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metric 1\n") }),
		ready:    check(&ts.ready),
		alive:    check(&ts.alive),
		logger:   slog.New(slog.NewTextHandler(ts.log, nil)),
		panicked: func(context.Context) { ts.panics.Add(1) },
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		if err := ts.close(ctx); err != nil {
			t.Error(err)
		}
		if !ts.services.drained.Load() {
			t.Error("the streams were not drained")
		}
		if err := <-ts.failed(); err != nil {
			t.Error(err)
		}
	})
	return ts
}

func hello(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }

func (ts *testServer) get(t *testing.T, path string, edit func(*http.Request)) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, ts.URL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(r)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestHostAndOrigin(t *testing.T) {
	ts := startTestServer(t, hello)
	_, port, _ := net.SplitHostPort(ts.listener.Addr().String())
	for _, c := range []struct {
		name, host, origin string
		want               int
	}{
		{"as dialled", "", "", 200},
		{"localhost", "localhost:" + port, "", 200},
		{"any case, root dot", "LocalHost.:" + port, "", 200},
		{"IPv6 loopback", "[::1]:" + port, "", 200},
		{"another loopback", "127.8.8.8", "", 200},
		{"configured", "tidemark.example.com", "", 200},
		{"rebinding", "attacker.example.net:" + port, "", 403},
		{"rebinding by suffix", "localhost.attacker.example.net", "", 403},
		{"other address", "192.0.2.1:8640", "", 403},
		{"own page", "localhost:" + port, "http://localhost:" + port, 200},
		{"page of another port", "localhost:" + port, "http://localhost:3000", 403},
		{"foreign page", "127.0.0.1:" + port, "https://attacker.example.net", 403},
		{"sandboxed page", "127.0.0.1:" + port, "null", 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body := ts.get(t, "/v1/x", func(r *http.Request) {
				if c.host != "" {
					r.Host = c.host
				}
				if c.origin != "" {
					r.Header.Set("Origin", c.origin)
				}
			})
			if status != c.want {
				t.Errorf("status %d, want %d: %s", status, c.want, body)
			}
		})
	}
	t.Run("no Host at all", func(t *testing.T) {
		c, err := net.Dial("tcp", ts.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "GET /v1/x HTTP/1.0\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("status %d", resp.StatusCode)
		}
	})
	t.Run("a gRPC client is refused in its protocol", func(t *testing.T) {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, ts.URL()+"/tidemark.v1.TopicService/ListTopics", strings.NewReader("{}"))
		r.Host = "attacker.example.net"
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Connect-Protocol-Version", "1")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !strings.Contains(string(body), `"permission_denied"`) || !strings.Contains(string(body), "--allow-host attacker.example.net") {
			t.Errorf("answer %s", body)
		}
	})
}

func TestProbes(t *testing.T) {
	ts := startTestServer(t, hello)
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ready\n", "/metrics": "metric 1\n"} {
		if status, body := ts.get(t, path, nil); status != 200 || body != want {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
	cause := errors.New("etcd at http://127.0.0.1:2379 does not answer\nsecond line")
	ts.ready.Store(&cause)
	if status, body := ts.get(t, "/readyz", nil); status != 503 || body != "etcd at http://127.0.0.1:2379 does not answer second line\n" {
		t.Errorf("/readyz: %d %q", status, body)
	}
	if status, _ := ts.get(t, "/healthz", nil); status != 200 {
		t.Errorf("/healthz: %d: a node that waits is alive", status)
	}
	ts.alive.Store(&cause)
	if status, _ := ts.get(t, "/healthz", nil); status != 503 {
		t.Errorf("/healthz: %d", status)
	}
	if status, _ := ts.get(t, "/nowhere", nil); status != 404 {
		t.Errorf("/nowhere: %d", status)
	}
}

// plainHTTP2 speaks HTTP/2 without TLS, as gRPC clients do.
func plainHTTP2() *http.Client {
	two := new(http.Protocols)
	two.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: two}}
}

func TestHealthAndReflection(t *testing.T) {
	ts := startTestServer(t, hello)
	h2 := plainHTTP2()
	defer h2.CloseIdleConnections()
	health := grpchealth.NewClient(h2, ts.URL(), connect.WithGRPC())
	check := func(service string) (grpchealth.Status, error) {
		r, err := health.Check(t.Context(), &grpchealth.CheckRequest{Service: service})
		if err != nil {
			return 0, err
		}
		return r.Status, nil
	}
	if got, err := check(""); err != nil || got != grpchealth.StatusServing {
		t.Errorf("health: %v, %v", got, err)
	}
	cause := errors.New("not yet")
	ts.ready.Store(&cause)
	if got, err := check("tidemark.v1.TopicService"); err != nil || got != grpchealth.StatusNotServing {
		t.Errorf("health: %v, %v", got, err)
	}
	if _, err := check("nobody"); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("health of an unknown service: %v", err)
	}
	stream := grpcreflect.NewClient(h2, ts.URL(), connect.WithGRPC()).NewStream(t.Context())
	names, err := stream.ListServices()
	if err != nil || len(names) != 2 || names[1] != "tidemark.v1.TopicService" && names[0] != "tidemark.v1.TopicService" {
		t.Errorf("reflection: %v, %v", names, err)
	}
	if _, err := stream.Close(); err != nil {
		t.Error(err)
	}
}

func TestPanicCostsOneLine(t *testing.T) {
	ts := startTestServer(t, func(http.ResponseWriter, *http.Request) { panic("a bug") })
	if status, _ := ts.get(t, "/v1/x", nil); status != 500 {
		t.Errorf("status %d", status)
	}
	if got := ts.log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "a bug") {
		t.Errorf("log: %q", got)
	}
	if ts.panics.Load() != 1 {
		t.Error("the panic was not counted")
	}
	if status, _ := ts.get(t, "/readyz", nil); status != 200 {
		t.Errorf("after a panic: %d", status)
	}
}

func TestHeadersAreLimited(t *testing.T) {
	ts := startTestServer(t, hello)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, ts.URL()+"/v1/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Long", strings.Repeat("x", 2*maxHeaderBytes))
	// The server stops reading, so that the client sees the answer or the end of the connection, whichever comes first.
	if resp, err := http.DefaultClient.Do(r); err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
	if status, _ := ts.get(t, "/readyz", nil); status != 200 {
		t.Errorf("afterwards: %d", status)
	}
}

func TestListenErrors(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	for _, c := range []struct {
		name, address string
		insecure      bool
		code          int
		message, next string
	}{
		{"taken", taken.Addr().String(), false, exitFailed, "port " + port + " on 127.0.0.1 is taken", "--http 127.0.0.1:PORT"},
		{"every address", ":0", false, exitUsage, "no TLS or authentication", "--insecure"},
		{"every IPv4 address", "0.0.0.0:0", false, exitUsage, "0.0.0.0 is not a loopback", "--insecure"},
		{"every IPv6 address", "[::]:0", false, exitUsage, ":: is not a loopback", "--insecure"},
		{"another machine", "192.0.2.1:0", true, exitFailed, "no address of this machine", "--http"},
		{"no port", "127.0.0.1", false, exitUsage, "missing port", "--http 127.0.0.1:8640"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := listenHTTP(t.Context(), c.address, c.insecure)
			if err == nil {
				l.Close()
				t.Fatal("no error")
			}
			var f *failure
			if !errors.As(err, &f) || f.code != c.code {
				t.Fatalf("error %v, want code %d", err, c.code)
			}
			if !strings.Contains(err.Error(), c.message) || !strings.Contains(f.next, c.next) {
				t.Errorf("error %q, next %q", err, f.next)
			}
		})
	}
	if l, err := listenHTTP(t.Context(), "0.0.0.0:0", true); err != nil {
		t.Error(err)
	} else {
		if got := baseURL(l); !strings.HasPrefix(got, "http://127.0.0.1:") {
			t.Errorf("URL %s", got)
		}
		l.Close()
	}
}
