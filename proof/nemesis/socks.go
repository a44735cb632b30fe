package nemesis

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/clock"
)

// router is a SOCKS5 server (RFC 1928, without authentication, CONNECT only) that leads each address to one of its own choice.
// It knows who calls, since only one process is told its address; so it can give every pair of processes a link of its own where
// all call the same address.
//
//	greeting   05 | number of methods | methods        answer   05 00
//	request    05 01 00 | 01 | IPv4 (4) | port (2)     answer   05 status 00 01 | 0 (6)
type router struct {
	listener net.Listener
	routes   map[string]string // HOST:PORT that is asked for, HOST:PORT that is dialed

	wait   sync.WaitGroup
	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

func newRouter(ctx context.Context, routes map[string]string) (*router, error) {
	address, err := ports.address(ctx)
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", address)
	if err != nil {
		return nil, fmt.Errorf("listen for SOCKS: %w", err)
	}
	r := &router{listener: l, routes: routes, conns: make(map[net.Conn]struct{})}
	r.wait.Go(r.accept)
	return r, nil
}

func (r *router) address() string { return r.listener.Addr().String() }

func (r *router) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return // closed
		}
		if r.keep(conn) {
			r.wait.Go(func() {
				defer r.drop(conn)
				r.serve(conn)
			})
		}
	}
}

// keep remembers a connection, and closes it when it is too late for one.
func (r *router) keep(conn net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		_ = conn.Close()
		return false
	}
	r.conns[conn] = struct{}{}
	return true
}

func (r *router) drop(conn net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, conn)
	_ = conn.Close()
}

const handshakePatience = 5 * time.Second

// serve handles one connection to its end. Who breaks the protocol is hung up on.
func (r *router) serve(conn net.Conn) {
	if err := conn.SetDeadline(clock.System().Now().Add(handshakePatience)); err != nil {
		return
	}
	wanted, err := socksRequest(conn)
	if err != nil {
		return
	}
	answer := [10]byte{5, 0, 0, 1}
	target, ok := r.routes[wanted]
	if !ok {
		answer[1] = 4 // host unreachable
		_, _ = conn.Write(answer[:])
		return
	}
	dialer := net.Dialer{Timeout: handshakePatience}
	to, err := dialer.DialContext(context.Background(), "tcp", target)
	if err != nil {
		answer[1] = 5 // connection refused
		_, _ = conn.Write(answer[:])
		return
	}
	if !r.keep(to) {
		return
	}
	defer r.drop(to)
	if _, err := conn.Write(answer[:]); err != nil {
		return
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { splice(to, conn) })
	both.Go(func() { splice(conn, to) })
	both.Wait()
}

// splice copies until from ends, and then ends both: nobody here needs half a connection.
func splice(to, from net.Conn) {
	_, _ = io.Copy(to, from) // either end may break, that is what this package is for
	_ = to.Close()
	_ = from.Close()
}

// socksRequest reads greeting and request, and returns the address that is asked for.
func socksRequest(conn io.ReadWriter) (string, error) {
	var head [262]byte
	if _, err := io.ReadFull(conn, head[:2]); err != nil {
		return "", err
	}
	if head[0] != 5 {
		return "", errors.New("not SOCKS5")
	}
	if _, err := io.ReadFull(conn, head[:head[1]]); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte{5, 0}); err != nil {
		return "", err
	}
	if _, err := io.ReadFull(conn, head[:10]); err != nil {
		return "", err
	}
	if head[0] != 5 || head[1] != 1 || head[3] != 1 {
		return "", errors.New("only CONNECT to an IPv4 address is served")
	}
	ip := netip.AddrFrom4([4]byte(head[4:8]))
	return net.JoinHostPort(ip.String(), strconv.Itoa(int(binary.BigEndian.Uint16(head[8:10])))), nil
}

func (r *router) close() {
	r.mu.Lock()
	r.closed = true
	for conn := range r.conns {
		_ = conn.Close()
	}
	r.mu.Unlock()
	_ = r.listener.Close()
	r.wait.Wait()
}
