package query

import (
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"go.uber.org/goleak"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// harness is a service over a world, behind a real HTTP server.
type harness struct {
	*world

	t       *testing.T
	engine  *fakeEngine
	service *Service
	server  *httptest.Server
	memory  *memory.CheckedAllocator
	query   tidemarkv1connect.QueryServiceClient
}

func newHarness(t *testing.T, w *world, change func(*components)) *harness {
	t.Helper()
	h := &harness{world: w, t: t, engine: &fakeEngine{}, memory: memory.NewCheckedAllocator(memory.NewGoAllocator())}
	cfg := components{
		engine: h.engine, topics: w, log: w, tail: w, clock: clock.System(), random: rand.NewChaCha8([32]byte{2}),
		logger: slog.New(slog.DiscardHandler), memory: h.memory,
	}
	if change != nil {
		change(&cfg)
	}
	s, err := newService(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.service = s
	h.server = httptest.NewUnstartedServer(s)
	h.server.Config.Protocols = new(http.Protocols)
	h.server.Config.Protocols.SetHTTP1(true)
	h.server.Config.Protocols.SetUnencryptedHTTP2(true)
	h.server.Start()
	h.query = h.client()
	t.Cleanup(func() {
		s.Drain()
		h.server.CloseClientConnections()
		h.server.Close()
		if err := s.Close(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error("close:", err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.snapshots != 0 {
			t.Errorf("%d snapshots were not released", w.snapshots)
		}
		if h.engine.open != 0 {
			t.Errorf("%d results were not closed", h.engine.open)
		}
		h.memory.AssertSize(t, 0)
	})
	return h
}

// client makes a client with connections of its own.
func (h *harness) client() tidemarkv1connect.QueryServiceClient {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	h.t.Cleanup(transport.CloseIdleConnections)
	return tidemarkv1connect.NewQueryServiceClient(&http.Client{Transport: transport}, h.server.URL, connect.WithAcceptCompression("gzip", nil, nil))
}

// until waits for something that happens soon, without sleeping.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := clock.System().Now().Add(20 * time.Second)
	for !is() {
		if clock.System().Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		runtime.Gosched()
	}
}
