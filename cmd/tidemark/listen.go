package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"golang.org/x/net/netutil"
)

// maxConnections is how many clients may be connected at once; more wait for one to leave.
const maxConnections = 4096

// opening is a port that a process opens: what speaks there, and the flag that says where.
type opening struct {
	protocol, flag, example string
	// orElse is what else the user can do when the port is taken.
	orElse string
}

var (
	openingHTTP  = opening{protocol: "HTTP", flag: "--http", example: "127.0.0.1:8640"}
	openingKafka = opening{protocol: "Kafka", flag: "--kafka", example: defaultKafka, orElse: ", or go without with --kafka off"}
)

// listenHTTP opens the one HTTP port.
func listenHTTP(ctx context.Context, address string, insecure bool) (net.Listener, error) {
	l, err := openingHTTP.listen(ctx, address, insecure)
	if err != nil {
		return nil, err
	}
	return netutil.LimitListener(l, maxConnections), nil
}

// listen opens a port. An address that others can reach is refused without insecure, because there is neither TLS nor authentication
// yet.
func (o opening) listen(ctx context.Context, address string, insecure bool) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, usagef(fmt.Sprintf("give %s as HOST:PORT, for example %s %s", o.flag, o.flag, o.example), "listen address %q: %w", address, err)
	}
	if !insecure {
		if err := o.checkLoopback(ctx, host); err != nil {
			return nil, err
		}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fail(exitFailed, fmt.Sprintf("stop the process that has it, or choose another port with %s %s%s", o.flag, net.JoinHostPort(host, "PORT"), o.orElse),
			"listen for %s: port %s on %s is taken", o.protocol, port, displayHost(host))
	case errors.Is(err, syscall.EACCES):
		return nil, fail(exitFailed, "choose a port from 1024 on with "+o.flag, "listen for %s: port %s needs privileges: %w", o.protocol, port, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fail(exitFailed, "give an address of this machine with "+o.flag, "listen for %s: %s is no address of this machine", o.protocol, host)
	}
	return nil, fail(exitFailed, "check the address behind "+o.flag, "listen for %s on %s: %w", o.protocol, address, err)
}

func displayHost(host string) string {
	if host == "" {
		return "every address"
	}
	return host
}

func (o opening) checkLoopback(ctx context.Context, host string) error {
	const next = "bind 127.0.0.1, or add --insecure if everyone who can reach the address may read and write everything"
	if host == "" {
		return usagef(next, "listen for %s: an empty host means every address, and there is no TLS or authentication yet", o.protocol)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if !ip.Unmap().IsLoopback() {
			return usagef(next, "listen for %s: %s is not a loopback address, and there is no TLS or authentication yet", o.protocol, host)
		}
		return nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return fail(exitFailed, "check the host behind "+o.flag, "listen for %s: look up %s: %w", o.protocol, host, err)
	}
	for _, ip := range ips {
		if !ip.Unmap().IsLoopback() {
			return usagef(next, "listen for %s: %s is %s, not a loopback address, and there is no TLS or authentication yet", o.protocol, host, ip)
		}
	}
	return nil
}

// baseURL is how clients on this machine reach a listener.
func baseURL(l net.Listener) string { return "http://" + localAddress(l) }

// localAddress is HOST:PORT by which clients on this machine reach a listener.
func localAddress(l net.Listener) string {
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return l.Addr().String()
	}
	ip := addr.AddrPort().Addr().Unmap()
	if ip.IsUnspecified() {
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.AddrPortFrom(ip, addr.AddrPort().Port()).String()
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
