package tier_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/tier"
	"github.com/tidemark-io/tidemark/tier/tiertest"
)

func openS3(tb testing.TB, srv *tiertest.Server, change func(*tier.S3Config)) *tier.S3 {
	tb.Helper()
	cfg := tier.S3Config{
		Bucket: "log", Prefix: "deep/er", Endpoint: srv.Endpoint, AccessKey: srv.AccessKey, SecretKey: srv.SecretKey, Backoff: time.Millisecond,
	}
	if change != nil {
		change(&cfg)
	}
	s, err := tier.OpenS3(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// TestS3 runs against a real MinIO server.
func TestS3(t *testing.T) {
	srv := tiertest.StartMinIO(t)
	srv.MakeBucket(t, "log")
	n := 0
	t.Run("Contract", func(t *testing.T) {
		tiertest.Run(t, func(t *testing.T) tier.Store {
			t.Helper()
			n++
			return openS3(t, srv, func(c *tier.S3Config) { c.Prefix = fmt.Sprintf("contract/%d", n) })
		})
	})
	t.Run("WholeBucket", func(t *testing.T) {
		srv.MakeBucket(t, "whole")
		s := openS3(t, srv, func(c *tier.S3Config) { c.Bucket, c.Prefix = "whole", "" })
		for i := range 1005 { // more than a page
			if err := s.Put(t.Context(), fmt.Sprintf("p/%04d", i), nil); err != nil {
				t.Fatal(err)
			}
		}
		seen := 0
		if err := s.List(t.Context(), "p/", func(o tier.Object) error {
			if want := fmt.Sprintf("p/%04d", seen); o.Name != want {
				t.Errorf("list shows %q, want %q", o.Name, want)
			}
			seen++
			return nil
		}); err != nil || seen != 1005 {
			t.Errorf("listed %d: %v", seen, err)
		}
	})
	t.Run("Errors", func(t *testing.T) { s3Errors(t, srv) })
	t.Run("Retry", func(t *testing.T) { s3Retry(t, srv) })
	t.Run("Probe", func(t *testing.T) { probeAll(t, openS3(t, srv, nil)) })
	t.Run("Claim", func(t *testing.T) { claim(t, openS3(t, srv, nil)) })
	t.Run("Killed", func(t *testing.T) { s3Killed(t, srv) })
}

func s3Errors(t *testing.T, srv *tiertest.Server) {
	t.Helper()
	for _, c := range []struct {
		name   string
		change func(*tier.S3Config)
		kind   error
		says   []string
	}{
		{"WrongSecret", func(c *tier.S3Config) { c.SecretKey = "wrong-secret" }, tier.ErrDenied, []string{`bucket "log"`, srv.Endpoint, "AWS_SECRET_ACCESS_KEY"}},
		{"WrongKey", func(c *tier.S3Config) { c.AccessKey = "nobody" }, tier.ErrDenied, []string{"AWS_ACCESS_KEY_ID"}},
		{"WrongRegion", func(c *tier.S3Config) { c.Region = "eu-west-7" }, tier.ErrDenied, []string{"AWS_REGION"}},
		{"NoBucket", func(c *tier.S3Config) { c.Bucket = "missing" }, tier.ErrNoBucket, []string{`create bucket "missing"`}},
		{"Unreachable", func(c *tier.S3Config) { c.Endpoint = unusedEndpoint(t); c.Attempts = 2 }, tier.ErrUnavailable, []string{"refused", "--s3-endpoint"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openS3(t, srv, c.change)
			for op, err := range map[string]error{
				"put":  s.Put(t.Context(), "x", [][]byte{[]byte("x")}),
				"read": s.ReadAt(t.Context(), "x", make([]byte, 1), 0),
				"list": s.List(t.Context(), "", func(tier.Object) error { return nil }),
			} {
				if !errors.Is(err, c.kind) || errors.Is(err, tier.ErrNotFound) {
					t.Errorf("%s: %v", op, err)
					continue
				}
				for _, want := range c.says {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%s: %q does not say %q", op, err, want)
					}
				}
				if strings.Contains(err.Error(), "\n") {
					t.Errorf("%s: %q is more than a line", op, err)
				}
			}
		})
	}
}

func unusedEndpoint(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	return "http://" + l.Addr().String()
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// s3Retry: an answer that is lost, a hang, a body cut short, and an overload that lasts.
func s3Retry(t *testing.T, srv *tiertest.Server) {
	t.Helper()
	var calls atomic.Int32
	var fault atomic.Pointer[roundTripper]
	s := openS3(t, srv, func(c *tier.S3Config) {
		c.Prefix, c.AttemptTimeout = "retry", 300*time.Millisecond
		c.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			calls.Add(1)
			if f := fault.Swap(nil); f != nil {
				return (*f)(r)
			}
			return http.DefaultTransport.RoundTrip(r)
		})
	})
	data := tiertest.Bytes(3, 300_000)
	lost := roundTripper(func(r *http.Request) (*http.Response, error) {
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err == nil {
			err = resp.Body.Close()
		}
		return nil, errors.Join(&net.OpError{Op: "read", Err: errors.New("connection reset")}, err)
	})
	hang := roundTripper(func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	})
	cut := roundTripper(func(r *http.Request) (*http.Response, error) {
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err == nil {
			resp.Body = http.MaxBytesReader(nil, resp.Body, 65_189)
		}
		return resp, err
	})
	for name, f := range map[string]roundTripper{"lost": lost, "hang": hang} {
		calls.Store(0)
		fault.Store(&f)
		if err := s.Put(t.Context(), name, [][]byte{data[:9], data[9:]}); err != nil || calls.Load() != 2 {
			t.Errorf("put, %s: %v after %d calls", name, err, calls.Load())
		}
	}
	for name, f := range map[string]roundTripper{"lost": lost, "hang": hang, "cut": cut} {
		calls.Store(0)
		fault.Store(&f)
		got := make([]byte, len(data))
		if err := s.ReadAt(t.Context(), "lost", got, 0); err != nil || calls.Load() != 2 || !bytes.Equal(got, data) {
			t.Errorf("read, %s: %v after %d calls", name, err, calls.Load())
		}
	}
	busy := openS3(t, srv, func(c *tier.S3Config) {
		c.Attempts = 3
		c.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			calls.Add(1)
			return &http.Response{StatusCode: http.StatusServiceUnavailable, Status: "503 Slow Down", Request: r, Header: http.Header{}, Body: http.NoBody}, nil
		})
	})
	calls.Store(0)
	if err := busy.Put(t.Context(), "busy", [][]byte{data}); !errors.Is(err, tier.ErrUnavailable) || calls.Load() != 3 {
		t.Errorf("overloaded: %v after %d calls, want 3", err, calls.Load())
	}
	fault.Store(&hang)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Put(ctx, "mine", nil); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, tier.ErrUnavailable) {
		t.Errorf("the caller's deadline: %v", err)
	}
}

// s3Killed: writers go on over kill -9 and restart of the server; what was acknowledged is whole.
func s3Killed(t *testing.T, srv *tiertest.Server) {
	t.Helper()
	s := openS3(t, srv, func(c *tier.S3Config) { c.Prefix, c.Attempts = "killed", 2 })
	acked := make(chan string, 1000)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			name := fmt.Sprintf("k/%d", i)
			for len(acked) < cap(acked) {
				err := s.Put(t.Context(), name, [][]byte{tiertest.Bytes(i, 50_000)})
				if err == nil {
					acked <- name
					break
				}
				if !errors.Is(err, tier.ErrUnavailable) {
					t.Errorf("put while the server is down: %v", err)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		}
	}()
	var before []string
	for range 20 {
		before = append(before, <-acked)
	}
	srv.Kill(t)
	srv.Restart(t)
	for range 20 {
		before = append(before, <-acked)
	}
	close(stop)
	<-done
	close(acked)
	for name := range acked {
		before = append(before, name)
	}
	for _, name := range before {
		var i int
		if _, err := fmt.Sscanf(name, "k/%d", &i); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 50_000)
		if err := s.ReadAt(t.Context(), name, got, 0); err != nil || !bytes.Equal(got, tiertest.Bytes(i, 50_000)) {
			t.Errorf("acknowledged object %q: %v", name, err)
		}
	}
}
