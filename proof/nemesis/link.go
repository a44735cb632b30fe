package nemesis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/rs/zerolog"

	"github.com/tidemark-io/tidemark/clock"
)

// Ways are the directions of a link that a fault concerns.
type Ways uint8

const (
	// Requests go from who connected to who was called.
	Requests Ways = 1 << iota
	// Answers come back.
	Answers
	// BothWays are all that passes.
	BothWays = Requests | Answers
)

// String is the direction for people.
func (w Ways) String() string {
	switch w {
	case Requests:
		return "requests"
	case Answers:
		return "answers"
	default:
		return "both ways"
	}
}

func (w Ways) streams() []stream.Direction {
	var out []stream.Direction
	if w&Requests != 0 {
		out = append(out, stream.Upstream)
	}
	if w&Answers != 0 {
		out = append(out, stream.Downstream)
	}
	return out
}

// Link is a TCP proxy between two of the processes. Its faults hold for the connections there are and for those that come.
// Its methods may be called from any goroutine.
type Link struct {
	name     string
	address  string
	upstream string
	server   *toxiproxy.ApiServer

	mu    sync.Mutex
	proxy *toxiproxy.Proxy
	again bool // the connections do not survive Heal
}

// healPatience is for how long a link may take to let its toxics go. Longer means that a connection's reader is stuck, as behind
// a process that was stopped, and then the proxy is made anew.
const healPatience = 2 * time.Second

// links makes links.
type links struct{ server *toxiproxy.ApiServer }

func newLinks() *links {
	zerolog.SetGlobalLevel(zerolog.Disabled) // toxiproxy's bandwidth toxic prints through the global logger
	return &links{server: toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())}
}

func (l *links) open(ctx context.Context, name, upstream string) (*Link, error) {
	address, err := ports.address(ctx)
	if err != nil {
		return nil, err
	}
	link := &Link{name: name, address: address, upstream: upstream, server: l.server}
	if err := link.open(); err != nil {
		return nil, err
	}
	return link, nil
}

// Name is like n1→etcd2.
func (l *Link) Name() string { return l.name }

// Address is where the link listens, HOST:PORT.
func (l *Link) Address() string { return l.address }

// URL is Address as one.
func (l *Link) URL() string { return "http://" + l.address }

// open is for holders of mu, and for before the link is shared.
func (l *Link) open() error {
	proxy := toxiproxy.NewProxy(l.server, l.name, l.address, l.upstream)
	if err := proxy.Start(); err != nil {
		return fmt.Errorf("open link %s at %s: %w", l.name, l.address, err)
	}
	l.proxy, l.again = proxy, false
	return nil
}

// Cut lets nothing through. What is sent is lost, connections stay open, new ones are accepted and hear nothing: as when a cable
// is pulled, nobody is told.
func (l *Link) Cut(ways Ways) error {
	return l.add("timeout", ways, map[string]any{"timeout": 0})
}

// Slow delays everything by latency, more or less jitter, and lets kilobytes a second through when that is above 0.
func (l *Link) Slow(latency, jitter time.Duration, kilobytes int) error {
	if err := l.add("latency", BothWays, map[string]any{"latency": latency.Milliseconds(), "jitter": jitter.Milliseconds()}); err != nil {
		return err
	}
	if kilobytes <= 0 {
		return nil
	}
	return l.add("bandwidth", BothWays, map[string]any{"rate": kilobytes})
}

// Reset resets each connection when after has passed since something was sent over it.
func (l *Link) Reset(after time.Duration) error {
	return l.add("reset_peer", Requests, map[string]any{"timeout": after.Milliseconds()})
}

// Limit ends each connection when n bytes came back over it.
func (l *Link) Limit(n int64) error {
	return l.add("limit_data", Answers, map[string]any{"bytes": n})
}

func (l *Link) add(kind string, ways Ways, attributes map[string]any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	// What a narrow connection holds back cannot be let go of without its getting stuck now and then.
	if kind != "latency" {
		l.again = true
	}
	for _, direction := range ways.streams() {
		text, err := json.Marshal(map[string]any{"type": kind, "stream": direction.String(), "attributes": attributes})
		if err != nil {
			return fmt.Errorf("%s on link %s: %w", kind, l.name, err)
		}
		proxy := l.proxy
		added := make(chan error, 1)
		go func() {
			_, err := proxy.Toxics.AddToxicJson(strings.NewReader(string(text)))
			added <- err
		}()
		switch err := await(added); {
		case errors.Is(err, errStuck):
			// A connection whose reader does not read holds its toxics. New ones are had by new connections alone.
			if err := l.renew(); err != nil {
				return err
			}
			if _, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(string(text))); err != nil {
				return fmt.Errorf("%s on link %s: %w", kind, l.name, err)
			}
		case err != nil:
			return fmt.Errorf("%s on link %s: %w", kind, l.name, err)
		}
	}
	return nil
}

var errStuck = errors.New("a connection is stuck")

func await(done <-chan error) error {
	timer := clock.System().NewTimer(healPatience)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C():
		return errStuck
	}
}

// Heal ends every fault of the link. Connections over which something was lost end too, as TCP would end them some day, and those
// that were narrow; those that were only delayed go on.
func (l *Link) Heal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.again {
		return l.renew()
	}
	proxy := l.proxy
	healed := make(chan error, 1)
	go func() {
		proxy.Toxics.ResetToxics(context.Background()) // a value for its logger
		healed <- nil
	}()
	if err := await(healed); err != nil {
		return l.renew()
	}
	return nil
}

// Drop ends all connections at once; new ones come through.
func (l *Link) Drop() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.renew()
}

// renew is for holders of mu.
func (l *Link) renew() error {
	l.end()
	return l.open()
}

// end is for holders of mu. A proxy with a connection that is stuck may never end: it listens no more then, and is left to itself.
func (l *Link) end() {
	proxy := l.proxy
	stopped := make(chan error, 1)
	go func() {
		proxy.Stop()
		stopped <- nil
	}()
	_ = await(stopped)
}

func (l *Link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end()
}
