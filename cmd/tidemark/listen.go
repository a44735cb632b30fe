package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"golang.org/x/net/netutil"
)

// maxConnections is how many clients may be connected at once; more wait for one to leave.
const maxConnections = 4096

// listenHTTP opens the one HTTP port. An address that others can reach is refused without insecure, because there is
// neither TLS nor authentication yet.
func listenHTTP(ctx context.Context, address string, insecure bool) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, usagef("give --http as HOST:PORT, for example --http 127.0.0.1:8640", "listen address %q: %w", address, err)
	}
	if !insecure {
		if err := checkLoopback(ctx, host); err != nil {
			return nil, err
		}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	switch {
	case err == nil:
		return netutil.LimitListener(l, maxConnections), nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fail(exitFailed, "stop the process that has it, or choose another port with --http "+net.JoinHostPort(host, "PORT"),
			"listen for HTTP: port %s on %s is taken", port, displayHost(host))
	case errors.Is(err, syscall.EACCES):
		return nil, fail(exitFailed, "choose a port from 1024 on with --http", "listen for HTTP: port %s needs privileges: %w", port, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fail(exitFailed, "give an address of this machine with --http", "listen for HTTP: %s is no address of this machine", host)
	}
	return nil, fail(exitFailed, "check the address behind --http", "listen for HTTP on %s: %w", address, err)
}

func displayHost(host string) string {
	if host == "" {
		return "every address"
	}
	return host
}

func checkLoopback(ctx context.Context, host string) error {
	const next = "bind 127.0.0.1, or add --insecure if everyone who can reach the address may read and write everything"
	if host == "" {
		return usagef(next, "listen for HTTP: an empty host means every address, and there is no TLS or authentication yet")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if !ip.Unmap().IsLoopback() {
			return usagef(next, "listen for HTTP: %s is not a loopback address, and there is no TLS or authentication yet", host)
		}
		return nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return fail(exitFailed, "check the host behind --http", "listen for HTTP: look up %s: %w", host, err)
	}
	for _, ip := range ips {
		if !ip.Unmap().IsLoopback() {
			return usagef(next, "listen for HTTP: %s is %s, not a loopback address, and there is no TLS or authentication yet", host, ip)
		}
	}
	return nil
}

// baseURL is how clients on this machine reach a listener.
func baseURL(l net.Listener) string {
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return "http://" + l.Addr().String()
	}
	ip := addr.AddrPort().Addr().Unmap()
	if ip.IsUnspecified() {
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return "http://" + netip.AddrPortFrom(ip, addr.AddrPort().Port()).String()
}

// hostName is the host of a Host header or address, lower case, without port, brackets and the root's dot.
func hostName(hostport string) string {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// anyAddress tells whether a listen address means every address of the machine.
func anyAddress(address string) bool {
	host := hostName(address)
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}
