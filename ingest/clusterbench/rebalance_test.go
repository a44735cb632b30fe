package clusterbench

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

// BenchmarkRebalance is a group of 50 members on 200 partitions, each a stream over HTTP/2 on loopback, in turn to both nodes of a cluster. One
// member leaves and, when the 49 have all partitions, comes back. Measured is how long it takes from its goodbye until every partition has been
// given to one of the others, and from its first message until all 50 have their assignment of a generation that has it, and all partitions.
func BenchmarkRebalance(b *testing.B) {
	const members, partitions = 50, 200
	for _, strategy := range []string{"cooperative-sticky", "range"} {
		b.Run(strategy, func(b *testing.B) {
			for range b.N {
				w := openWorld(b)
				s := serveGroups(b, w, "a", "b")
				w.create(w.nodes["a"], "t", partitions)
				g := &benchGroup{strategy: strategy, held: make(map[int]*tidemarkv1.GroupAssign), streams: make(map[int]*benchMember), changed: make(chan struct{})}
				b.Cleanup(g.end)
				for n := range members {
					g.join(b, s, n)
				}
				g.until(b, members, partitions)
				var leave, join samples
				for round := range 5 {
					who := (round * 7) % members
					began := now()
					g.leave(who)
					g.until(b, members-1, partitions)
					leave.add(now().Sub(began))
					began = now()
					g.join(b, s, who)
					g.until(b, members, partitions)
					join.add(now().Sub(began))
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(milliseconds(leave.at(0.5)), "leave-ms")
				b.ReportMetric(milliseconds(leave.at(1)), "leave-max-ms")
				b.ReportMetric(milliseconds(join.at(0.5)), "join-ms")
				b.ReportMetric(milliseconds(join.at(1)), "join-max-ms")
			}
		})
	}
}

// groupServers are the group services of some nodes.
type groupServers struct {
	urls   []string
	client *http.Client
}

// serveGroups opens nodes with their services.
func serveGroups(b *testing.B, w *world, nodes ...meta.NodeID) *groupServers {
	b.Helper()
	both := new(http.Protocols)
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	two := new(http.Protocols)
	two.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: two, DisableCompression: true}
	s := &groupServers{client: &http.Client{Transport: transport}}
	telemetry, err := ingest.NewTelemetry(nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	for _, id := range nodes {
		l, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		url := "http://" + l.Addr().String()
		n := w.open(id, url)
		router, err := ingest.NewRouter(ingest.RouterConfig{
			Self: id, Node: func() (*ingest.Node, error) { return n.Node, nil }, Clock: clock.System(), Logger: logger, Telemetry: telemetry,
		})
		if err != nil {
			b.Fatal(err)
		}
		groups, err := ingest.NewGroups(ingest.GroupsConfig{Store: n.client, Seat: n.GroupSeat, Clock: clock.System(), Random: rand.Reader, Logger: logger})
		if err != nil {
			b.Fatal(err)
		}
		services, err := ingest.NewServices(ingest.ServicesConfig{
			Node: router, Cluster: router, Clock: clock.System(), Logger: logger, Telemetry: telemetry,
			More: []ingest.Mount{{
				Name: ingest.GroupServiceName, MaxMessage: ingest.MaxGroupMessage,
				Handler: func(closing <-chan struct{}, options ...connect.HandlerOption) (string, http.Handler) {
					return ingest.NewGroupService(ingest.GroupServiceConfig{
						Groups: groups, Log: router, Peers: router.Peers(), Clock: clock.System(), Logger: logger, Closing: closing, Options: options,
					})
				},
			}},
		})
		if err != nil {
			b.Fatal(err)
		}
		server := &http.Server{Handler: services, Protocols: both, ReadHeaderTimeout: time.Minute}
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		b.Cleanup(func() {
			services.Close()
			groups.Close()
			router.Close()
			_ = server.Close()
			<-served
		})
		s.urls = append(s.urls, url)
	}
	b.Cleanup(transport.CloseIdleConnections)
	return s
}

// benchGroup is what the members of a group hold.
type benchGroup struct {
	strategy string
	work     sync.WaitGroup

	mu      sync.Mutex
	held    map[int]*tidemarkv1.GroupAssign // by member; of members that are there
	streams map[int]*benchMember            // of members that are there
	cancels []context.CancelFunc            // of every stream
	changed chan struct{}
	err     error
}

// benchMember is one member's stream.
type benchMember struct {
	sending sync.Mutex
	stream  *connect.BidiStreamForClientSimple[tidemarkv1.GroupServiceConsumeRequest, tidemarkv1.GroupServiceConsumeResponse]
}

func (m *benchMember) send(r *tidemarkv1.GroupServiceConsumeRequest) error {
	m.sending.Lock()
	defer m.sending.Unlock()
	return m.stream.Send(r)
}

func (g *benchGroup) join(b *testing.B, s *groupServers, who int) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	client := tidemarkv1connect.NewGroupServiceClient(s.client, s.urls[who%len(s.urls)])
	stream, err := client.Consume(ctx)
	if err != nil {
		cancel()
		b.Fatal(err)
	}
	m := &benchMember{stream: stream}
	err = m.send(&tidemarkv1.GroupServiceConsumeRequest{Event: &tidemarkv1.GroupServiceConsumeRequest_Open{Open: &tidemarkv1.GroupOpen{Join: &tidemarkv1.JoinRequest{
		Group: "g", ClientId: fmt.Sprint(who), Topics: []string{"t"}, Strategy: g.strategy, SessionTimeoutMs: 45_000,
	}}}})
	if err != nil {
		b.Fatal(err)
	}
	g.mu.Lock()
	g.streams[who] = m
	g.cancels = append(g.cancels, cancel)
	g.mu.Unlock()
	g.work.Go(func() {
		defer cancel()
		for {
			r, err := m.stream.Receive()
			if err == nil && r.GetRevoke() != nil {
				err = m.send(&tidemarkv1.GroupServiceConsumeRequest{Event: &tidemarkv1.GroupServiceConsumeRequest_Revoked{
					Revoked: &tidemarkv1.GroupRevoked{Generation: r.GetRevoke().GetGeneration()},
				}})
			}
			g.note(who, m, r.GetAssign(), err)
			if err != nil {
				return
			}
		}
	})
}

// note takes what a member has received. What comes after its goodbye does not count.
func (g *benchGroup) note(who int, m *benchMember, assign *tidemarkv1.GroupAssign, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.streams[who] != m {
		return
	}
	if err != nil {
		g.err = err
	}
	if assign != nil {
		g.held[who] = assign
	}
	close(g.changed)
	g.changed = make(chan struct{})
}

// leave closes a member's side of its stream, as a consumer that stops does.
func (g *benchGroup) leave(who int) {
	g.mu.Lock()
	m := g.streams[who]
	delete(g.streams, who)
	delete(g.held, who)
	g.mu.Unlock()
	_ = m.stream.CloseRequest()
}

func (g *benchGroup) end() {
	g.mu.Lock()
	for _, m := range g.streams {
		_ = m.stream.CloseRequest()
	}
	clear(g.streams)
	for _, cancel := range g.cancels {
		cancel()
	}
	g.mu.Unlock()
	g.work.Wait()
}

// until waits until so many members have an assignment of one generation, and together every partition, each once.
func (g *benchGroup) until(b *testing.B, members, partitions int) {
	b.Helper()
	for {
		g.mu.Lock()
		changed, settled, err := g.changed, g.settled(members, partitions), g.err
		g.mu.Unlock()
		if err != nil {
			b.Fatal(err)
		}
		if settled {
			return
		}
		<-changed
	}
}

func (g *benchGroup) settled(members, partitions int) bool {
	seen := make(map[int32]bool)
	generations := make(map[int32]bool)
	total := 0
	for _, a := range g.held {
		generations[a.GetGeneration()] = true
		total += len(a.GetAssigned())
		for _, p := range a.GetAssigned() {
			seen[p.GetPartition()] = true
		}
	}
	return len(g.held) == members && len(generations) == 1 && len(seen) == partitions && total == partitions
}
