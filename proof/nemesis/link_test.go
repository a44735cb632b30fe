package nemesis

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/clock"
)

// echo sends back what it is sent, and counts it.
type echo struct {
	listener net.Listener
	wait     sync.WaitGroup
	mu       sync.Mutex
	got      int
	conns    []net.Conn
}

func startEcho(t *testing.T) *echo {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{listener: l}
	e.wait.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			e.mu.Lock()
			e.conns = append(e.conns, conn)
			e.mu.Unlock()
			e.wait.Go(func() {
				buffer := make([]byte, 1<<16)
				for {
					n, err := conn.Read(buffer)
					e.mu.Lock()
					e.got += n
					e.mu.Unlock()
					if err != nil {
						return
					}
					_, _ = conn.Write(buffer[:n])
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		e.mu.Lock()
		for _, c := range e.conns {
			_ = c.Close()
		}
		e.mu.Unlock()
		e.wait.Wait()
	})
	return e
}

func (e *echo) received() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.got
}

func openLink(t *testing.T, upstream string) *Link {
	t.Helper()
	l, err := newLinks().open(t.Context(), "a→b", upstream)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

// say sends a line over a new connection and waits up to patience for it to come back.
func say(t *testing.T, address string, patience time.Duration) error {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	return sayOn(conn, patience)
}

func sayOn(conn net.Conn, patience time.Duration) error {
	if err := conn.SetDeadline(clock.System().Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && line != "hello\n" {
		return errors.New("came back as " + line)
	}
	return err
}

const (
	soon = 5 * time.Second
	no   = 150 * time.Millisecond
)

func TestLinkCut(t *testing.T) {
	for _, ways := range []Ways{Requests, Answers, BothWays} {
		t.Run(ways.String(), func(t *testing.T) {
			server := startEcho(t)
			l := openLink(t, server.listener.Addr().String())
			open, err := net.Dial("tcp", l.Address())
			if err != nil {
				t.Fatal(err)
			}
			defer open.Close()
			if err := sayOn(open, soon); err != nil {
				t.Fatal(err)
			}
			before := server.received()
			if err := l.Cut(ways); err != nil {
				t.Fatal(err)
			}
			for name, err := range map[string]error{"a connection there was": sayOn(open, no), "a new connection": say(t, l.Address(), no)} {
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("over %s: %v, want silence", name, err)
				}
			}
			if arrived := server.received() > before; arrived != (ways == Answers) {
				t.Errorf("requests arrived: %v", arrived)
			}
			if err := l.Heal(); err != nil {
				t.Fatal(err)
			}
			if err := say(t, l.Address(), soon); err != nil {
				t.Errorf("after Heal: %v", err)
			}
			if err := sayOn(open, soon); err == nil {
				t.Error("a connection over which something was lost went on after Heal")
			}
		})
	}
}

func TestLinkSlow(t *testing.T) {
	l := openLink(t, startEcho(t).listener.Addr().String())
	conn, err := net.Dial("tcp", l.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := l.Slow(100*time.Millisecond, 10*time.Millisecond, 0); err != nil {
		t.Fatal(err)
	}
	began := clock.System().Now()
	if err := sayOn(conn, soon); err != nil {
		t.Fatal(err)
	}
	if took := since(began); took < 180*time.Millisecond {
		t.Errorf("there and back took %v with 100 ms ± 10 ms each way", took)
	}
	if err := l.Heal(); err != nil {
		t.Fatal(err)
	}
	began = clock.System().Now()
	if err := sayOn(conn, soon); err != nil {
		t.Fatalf("a slow connection did not go on after Heal: %v", err)
	}
	if took := since(began); took > 100*time.Millisecond {
		t.Errorf("after Heal there and back took %v", took)
	}
}

// TestLinkNarrow heals a link whose connections have more to send than it lets through.
func TestLinkNarrow(t *testing.T) {
	l := openLink(t, startEcho(t).listener.Addr().String())
	var writers sync.WaitGroup
	defer writers.Wait()
	for range 8 {
		conn, err := net.Dial("tcp", l.Address())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		writers.Go(func() { _, _ = io.Copy(io.Discard, conn) })
		writers.Go(func() {
			for piece := make([]byte, 64<<10); ; {
				if _, err := conn.Write(piece); err != nil {
					return
				}
			}
		})
	}
	if err := l.Slow(20*time.Millisecond, 10*time.Millisecond, 100); err != nil {
		t.Fatal(err)
	}
	if err := say(t, l.Address(), time.Minute); err != nil {
		t.Error(err)
	}
	healed := make(chan error, 1)
	go func() { healed <- l.Heal() }()
	timer := clock.System().NewTimer(20 * time.Second)
	defer timer.Stop()
	select {
	case err := <-healed:
		if err != nil {
			t.Fatal(err)
		}
	case <-timer.C():
		t.Fatal("it cannot be healed")
	}
	if err := say(t, l.Address(), soon); err != nil {
		t.Errorf("after Heal: %v", err)
	}
}

func TestLinkResetAndLimit(t *testing.T) {
	for name, inject := range map[string]func(*Link) error{
		"reset": func(l *Link) error { return l.Reset(time.Millisecond) },
		"limit": func(l *Link) error { return l.Limit(3) },
	} {
		t.Run(name, func(t *testing.T) {
			l := openLink(t, startEcho(t).listener.Addr().String())
			if err := inject(l); err != nil {
				t.Fatal(err)
			}
			if err := say(t, l.Address(), soon); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%v, want a connection that ends", err)
			}
			if err := l.Heal(); err != nil {
				t.Fatal(err)
			}
			if err := say(t, l.Address(), soon); err != nil {
				t.Errorf("after Heal: %v", err)
			}
		})
	}
}

// TestLinkStuck heals a link whose client does not read, as one that was stopped does not.
func TestLinkStuck(t *testing.T) {
	l := openLink(t, startEcho(t).listener.Addr().String())
	conn, err := net.Dial("tcp", l.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := l.Slow(time.Millisecond, 0, 0); err != nil {
		t.Fatal(err)
	}
	// More than all buffers on the way hold: until writing gets stuck as well.
	if err := conn.SetWriteDeadline(clock.System().Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	piece := make([]byte, 1<<20)
	for {
		if _, err := conn.Write(piece); err != nil {
			break
		}
	}
	if err := l.Heal(); err != nil {
		t.Fatal(err)
	}
	if err := say(t, l.Address(), soon); err != nil {
		t.Errorf("after Heal: %v", err)
	}
}

// TestRouter has an HTTP client call an address that is nowhere, by way of HTTP_PROXY's mechanism, as etcd's members do.
func TestRouter(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) }))
	defer server.Close()
	r, err := newRouter(t.Context(), map[string]string{"192.0.2.1:2380": server.Listener.Addr().String(), "192.0.2.2:2380": "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "socks5", Host: r.address()})}
	defer transport.CloseIdleConnections()
	get := func(address string) (string, error) {
		answer, err := (&http.Client{Transport: transport}).Get("http://" + address + "/")
		if err != nil {
			return "", err
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		return string(text), err
	}
	if text, err := get("192.0.2.1:2380"); err != nil || text != "192.0.2.1:2380" {
		t.Errorf("a routed address: %q, %v", text, err)
	}
	for _, address := range []string{"192.0.2.2:2380", "192.0.2.3:2380"} {
		if _, err := get(address); err == nil || !strings.Contains(err.Error(), "socks") {
			t.Errorf("%s: %v, want an error of SOCKS", address, err)
		}
	}
}

// TestRouterHangsUp feeds it what is no SOCKS.
func TestRouterHangsUp(t *testing.T) {
	r, err := newRouter(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	for _, text := range []string{"GET / HTTP/1.1\r\n\r\n", "\x04\x01", "\x05\x01\x00\x05\x02\x00\x01........", "\x05\x01\x00\x05\x01\x00\x03........"} {
		conn, err := net.Dial("tcp", r.address())
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(clock.System().Now().Add(soon)); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, text)
		if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: not hung up", text)
		}
		_ = conn.Close()
	}
}

func TestPortsAreNotGivenTwice(t *testing.T) {
	seen := make(map[string]bool)
	for range 50 {
		address, err := ports.address(context.Background()) //nolint:usetesting // the search outlives nothing
		if err != nil {
			t.Fatal(err)
		}
		if seen[address] {
			t.Fatalf("%s was given twice", address)
		}
		seen[address] = true
	}
}
