package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"connectrpc.com/connect"
)

// originGuard refuses what a web page could make a browser send to a node on its user's machine.
//
// A page may bind its own name to 127.0.0.1 (DNS rebinding) and so reach the node as if it were its own server: then the
// Host header names the page's host, which is none of ours. Or it sends a request across origins: then Origin is there and
// is not the host it was sent to. Programs that are no browsers send the right Host and no Origin, and notice nothing.
type originGuard struct {
	next   http.Handler
	hosts  []string // names besides loopback ones, as hostName gives them
	writer *connect.ErrorWriter
}

func newOriginGuard(next http.Handler, hosts []string) *originGuard {
	g := &originGuard{next: next, writer: connect.NewErrorWriter()}
	for _, h := range hosts {
		if name := hostName(h); name != "" {
			g.hosts = append(g.hosts, name)
		}
	}
	return g
}

func (g *originGuard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := g.check(r); err != nil {
		g.refuse(w, r, err)
		return
	}
	g.next.ServeHTTP(w, r)
}

func (g *originGuard) check(r *http.Request) error {
	if !g.allowed(r) {
		return fmt.Errorf("the Host header %.100q is none of this node's names: use 127.0.0.1 or localhost, or start the node with --allow-host %.100s", r.Host, hostName(r.Host))
	}
	for _, origin := range r.Header.Values("Origin") {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || !strings.EqualFold(u.Host, r.Host) {
			return fmt.Errorf("a page of %.100q may not call this node", origin)
		}
	}
	return nil
}

// allowed tells whether Host is a name of this node: loopback, the address the connection came in on, or configured.
func (g *originGuard) allowed(r *http.Request) bool {
	name := hostName(r.Host)
	if name == "" {
		return false
	}
	if name == "localhost" || slices.Contains(g.hosts, name) {
		return true
	}
	ip, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	ip = ip.Unmap()
	if ip.IsLoopback() {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.AddrPort().Addr().Unmap() == ip
}

// refuse answers in the caller's protocol.
func (g *originGuard) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if g.writer.IsSupported(r) {
		// The only error left is a client that is gone.
		_ = g.writer.Write(w, r, connect.NewError(connect.CodePermissionDenied, err))
		return
	}
	http.Error(w, err.Error(), http.StatusForbidden)
}

// checkHosts refuses configured names that no Host header can match.
func checkHosts(hosts []string) error {
	for _, h := range hosts {
		if hostName(h) == "" || strings.ContainsAny(h, "/ ,@?#") {
			return usagef("give --allow-host a name, for example --allow-host tidemark.example.com", "host %q: %w", h, errors.New("not a host name"))
		}
	}
	return nil
}
