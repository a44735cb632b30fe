package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/ingest/room"
	"github.com/tidemark-io/tidemark/meta"
)

// Limits of all clients together.
const (
	// maxConnections is how many clients may be connected, or half of the files that the process may open; one more is disconnected at once. One address
	// may have half of them: there may be a proxy behind it.
	maxConnections = 20_000
	// receiveBytes is the room of the frames of produces larger than firstBytes, as much of each as it takes in memory, until the log has its batches.
	// askedBytes is that of all others, until the request is decoded and its service needs it no more: produces that wait for the object store hold up
	// no fetch and no group.
	receiveBytes = 256 << 20
	askedBytes   = 64 << 20
	// receivePatience is how long a client may take for receiveStep bytes of a frame while others wait for room.
	receivePatience = 5 * time.Second
	receiveStep     = 64 << 10
	// decodeBytes is the room of what decoders make of frames.
	decodeBytes = 256 << 20
	// sendBytes is the room of answers larger than makeAtOnce that clients have not taken: those to fetches above all. sendPatience is how long a client
	// may be behind while others wait for room; see conn.writeSome.
	sendBytes    = 256 << 20
	sendPatience = 5 * time.Second
	// makingBytes is the room of large answers that are being made, or wait for room to be sent.
	makingBytes = 256 << 20
	// holdingBytes is the room of what call.hold counts.
	holdingBytes = 256 << 20
)

// Log is the part of the log that this node leads; *ingest.Node is one.
type Log interface {
	produceLog
	fetchLog
	offsetLog
}

// Cluster is the cluster as this node knows it, and where topics are changed; *ingest.Router is one.
type Cluster interface {
	// Index is what the node knows now; an error while it knows nothing.
	Index() (ingest.ClusterIndex, error)
	// ClusterID is the cluster's identity.
	ClusterID(ctx context.Context) (string, error)
	topicAdmin
}

// Config says what a server serves.
type Config struct {
	Self meta.NodeID
	// Log is the node of this process, or why there is none yet.
	Log     func() (Log, error)
	Cluster Cluster
	Groups  Groups
	// Advertise is the address, HOST:PORT, by which clients of other machines reach this node; empty: where each client dialled.
	Advertise string
	// AutoCreateTopics makes topics that clients ask for and that are not there, unless a client asks not to.
	AutoCreateTopics bool
	// Partitions is how many a topic has that a client makes without saying how many; 0 is 1.
	Partitions int32

	Clock     clock.Clock
	Logger    *slog.Logger
	Telemetry *Telemetry
}

// Server serves Kafka's protocol on listeners that it is given. Its methods may be called from any goroutine.
type Server struct {
	Config

	receive, asked, decode, send, making, holding *room.Room

	subscribers *subscribers
	// Of fetch sessions, in partitions; and the last id that was given to one.
	keptParts, namedParts, queuedParts *room.Room
	sessionIDs                         atomic.Int32
	buffers                            buffers // of fetches
	// lookups bounds how many batches are looked into at once for records of a time.
	lookups *semaphore.Weighted

	ctx  context.Context //nolint:containedctx // the life of the server
	stop context.CancelCauseFunc
	work sync.WaitGroup

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	draining  bool
	// perAddress counts the connections of each address, of which it may have mostOfAddress, and all of them most.
	perAddress          map[netip.Addr]int
	most, mostOfAddress int
	warned              time.Time     // of refusals
	first, idle         time.Duration // firstPatience, idlePatience
	lookup              time.Duration // lookupPatience

	open atomic.Int64
}

// errStopping ends connections when the process stops.
var errStopping = errors.New("the node is stopping")

// New makes a server. Serve it listeners, and Close it before what it was given.
func New(cfg Config) (*Server, error) {
	if cfg.Log == nil || cfg.Cluster == nil || cfg.Groups == nil || cfg.Clock == nil || cfg.Self == "" {
		return nil, errors.New("serve Kafka's protocol: self, log, cluster, groups and clock are needed")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Telemetry == nil {
		t, err := NewTelemetry(nil)
		if err != nil {
			return nil, fmt.Errorf("serve Kafka's protocol: %w", err)
		}
		cfg.Telemetry = t
	}
	cfg.Partitions = max(cfg.Partitions, 1)
	s := &Server{
		Config:  cfg,
		receive: room.New(receiveBytes, receivePatience, cfg.Clock), asked: room.New(askedBytes, receivePatience, cfg.Clock),
		decode: room.New(decodeBytes, stallPatience, cfg.Clock),
		send:   room.New(sendBytes, sendPatience, cfg.Clock), making: room.New(makingBytes, sendPatience, cfg.Clock),
		holding:   room.New(holdingBytes, sendPatience, cfg.Clock),
		keptParts: room.New(keptFetchParts, stallPatience, cfg.Clock), namedParts: room.New(namedFetchParts, stallPatience, cfg.Clock),
		queuedParts: room.New(queuedFetchParts, stallPatience, cfg.Clock),
		lookups:     semaphore.NewWeighted(offsetLookups),
		listeners:   make(map[net.Listener]struct{}), conns: make(map[*conn]struct{}), perAddress: make(map[netip.Addr]int),
		most: mostConnections(), first: firstPatience, idle: idlePatience, lookup: lookupPatience,
	}
	s.mostOfAddress = (s.most + 1) / 2
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	s.subscribers = newSubscribers(s)
	return s, nil
}

// Serve accepts clients until the listener or the server is closed, and closes the listener. It returns nil after Drain or Close.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		return l.Close()
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	for wait := acceptAgainLeast; ; {
		accepted, err := l.Accept()
		switch {
		case err == nil:
			wait = acceptAgainLeast
			s.admit(accepted)
			continue
		case s.isDraining():
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept Kafka clients: %w", err)
		}
		// Too many open files, or a client that was gone before it was accepted: others may come.
		s.Logger.Warn("a Kafka client could not be accepted", "cause", err)
		if !s.pause(wait) {
			return errors.Join(err, l.Close())
		}
		wait = min(2*wait, acceptAgainMost)
	}
}

const (
	acceptAgainLeast = 5 * time.Millisecond
	acceptAgainMost  = time.Second
)

// pause waits; false when the server is closed meanwhile.
func (s *Server) pause(d time.Duration) bool {
	timer := s.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-s.ctx.Done():
		return false
	}
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// mostConnections leaves half of the files that the process may open to the log and to everybody else.
func mostConnections() int { return max(min(openFiles()/2, maxConnections), 1) }

// addressOf is whose connection it is: of a network of version 6, 64 bits stand for whoever has it.
func addressOf(accepted net.Conn) netip.Addr {
	tcp, ok := accepted.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	if ip.Is6() {
		if network, err := ip.Prefix(64); err == nil {
			return network.Addr()
		}
	}
	return ip
}

// admit serves one client, unless there are too many.
func (s *Server) admit(accepted net.Conn) {
	from := addressOf(accepted)
	s.mu.Lock()
	if s.draining || len(s.conns) >= s.most || s.perAddress[from] >= s.mostOfAddress {
		s.refuse(accepted, from)
		s.mu.Unlock()
		return
	}
	c := newConn(s, accepted)
	s.conns[c] = struct{}{}
	s.perAddress[from]++
	s.work.Add(1)
	s.mu.Unlock()
	s.open.Add(1)
	s.Telemetry.connected(s.ctx, 1)
	go func() {
		defer s.work.Done()
		c.run()
		s.Telemetry.connected(s.ctx, -1)
		s.mu.Lock()
		delete(s.conns, c)
		if s.perAddress[from]--; s.perAddress[from] == 0 {
			delete(s.perAddress, from)
		}
		s.mu.Unlock()
		s.open.Add(-1)
	}()
}

// warnEvery is how often it is told at most that clients are refused.
const warnEvery = time.Minute

// refuse ends a connection of which nobody has said anything yet. The server is locked.
func (s *Server) refuse(accepted net.Conn, from netip.Addr) {
	_ = accepted.Close() // nothing was said yet
	if s.draining {
		return
	}
	s.Telemetry.refused(s.ctx)
	now := s.Clock.Now()
	if !s.warned.IsZero() && now.Sub(s.warned) < warnEvery {
		return
	}
	s.warned = now
	s.Logger.Warn("Kafka clients are refused because too many are connected; if these are yours, raise the limit of open files, or have them close what they do not use",
		"address", from.String(), "connections", len(s.conns), "limit", s.most, "connections_of_address", s.perAddress[from], "limit_of_address", s.mostOfAddress)
}

// crowded tells whether half of the connections that there may be are taken.
func (s *Server) crowded() bool { return 2*s.open.Load() >= int64(s.most) }

// Drain accepts nobody any more, takes no further request, and returns when what was taken is answered or ctx ends. Clients see their
// connections end, and ask for leaders elsewhere.
func (s *Server) Drain(ctx context.Context) {
	s.mu.Lock()
	s.draining = true
	for l := range s.listeners {
		_ = l.Close() // nobody is in it: what was accepted has its own connection
	}
	for c := range s.conns {
		c.finish()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// Close ends every connection, and returns when nothing of the server runs any more. Safe to call twice.
func (s *Server) Close() {
	s.mu.Lock()
	s.draining = true
	for l := range s.listeners {
		_ = l.Close()
	}
	s.mu.Unlock()
	s.stop(errStopping)
	s.work.Wait()
	s.subscribers.work.Wait()
}
