package ingest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"
)

// serveIntake runs a handler behind a guard over loopback and returns its URL.
func serveIntake(t *testing.T, in *intake, maxMessage int64, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(in.guard(maxMessage, handler))
	t.Cleanup(s.Close)
	return s.URL
}

func TestStalledMessageIsReleased(t *testing.T) {
	in := newIntake(1 << 20)
	began := make(chan struct{})
	ended := make(chan error, 1)
	url := serveIntake(t, in, 1<<10, func(w http.ResponseWriter, r *http.Request) {
		var half [4]byte
		if _, err := io.ReadFull(r.Body, half[:]); err != nil {
			t.Error(err)
		}
		close(began)
		_, err := io.ReadAll(r.Body)
		ended <- err
	})
	body, send := io.Pipe()
	defer send.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if resp, err := http.DefaultClient.Do(r); err == nil {
			resp.Body.Close()
		}
	}()
	if _, err := io.WriteString(send, "half"); err != nil {
		t.Fatal(err)
	}
	<-began
	for range sweepsToStall - 1 {
		in.sweep()
	}
	select {
	case err := <-ended:
		t.Fatalf("ended too early: %v", err)
	default:
	}
	in.sweep()
	in.sweep()
	if err := <-ended; connect.CodeOf(err) != connect.CodeDeadlineExceeded {
		t.Errorf("a stalled message ended with %v", err)
	}
}

func TestIdleStreamIsLeftAlone(t *testing.T) {
	in := newIntake(1 << 20)
	b := &guardedBody{inner: io.NopCloser(strings.NewReader("message")), intake: in, maxMessage: 100, interrupt: func() { t.Error("interrupted") }}
	in.bodies[b] = struct{}{}
	if _, err := io.ReadAll(b); err != nil {
		t.Fatal(err)
	}
	b.settle()
	for range 3 * sweepsToStall {
		in.sweep()
	}
	if got := in.used.Load(); got != 0 {
		t.Errorf("%d bytes are still accounted for", got)
	}
}

func TestIntakeIsBounded(t *testing.T) {
	in := newIntake(1000)
	read := func(size int, maxMessage int64) (*guardedBody, error) {
		b := &guardedBody{inner: io.NopCloser(strings.NewReader(strings.Repeat("x", size))), intake: in, maxMessage: maxMessage, interrupt: func() {}}
		_, err := io.ReadAll(b)
		return b, err
	}
	first, err := read(700, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	second, err := read(700, 1<<20)
	if connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("above the account: %v", err)
	}
	second.settle()
	first.settle()
	if _, err := read(700, 1<<20); err != nil {
		t.Errorf("after the first was settled: %v", err)
	}
	if _, err := read(200, 100); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("above a message's limit: %v", err)
	}
}

func TestErrorsKeepTheirReason(t *testing.T) {
	cause := errors.New("disk on fire")
	e := Errorf(ReasonUnavailable, "write: %w", cause).With("k", "v")
	if !errors.Is(e, cause) || !errors.Is(e, &Error{Reason: ReasonUnavailable}) || errors.Is(e, &Error{Reason: ReasonInternal}) {
		t.Errorf("error %v", e)
	}
	if ReasonOf(nil) != "" || AsError(nil) != nil || ConnectError(nil) != nil {
		t.Error("no error has a reason")
	}
	for err, want := range map[error]Reason{
		e: ReasonUnavailable, context.Canceled: ReasonCanceled, context.DeadlineExceeded: ReasonTimeout, cause: ReasonInternal,
	} {
		if got := ReasonOf(err); got != want {
			t.Errorf("reason of %v: %s, want %s", err, got, want)
		}
	}
}
