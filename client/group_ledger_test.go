package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
)

// ledger is what the members of a group have processed, all together.
type ledger struct {
	t *testing.T
	f *fleet

	mu    sync.Mutex
	seen  map[fleetKey][]int64
	owner map[fleetKey]string
	lost  map[string]int // member → partitions of OnLost
	lists map[string][]string
}

func newLedger(t *testing.T, f *fleet) *ledger {
	t.Helper()
	return &ledger{t: t, f: f, seen: map[fleetKey][]int64{}, owner: map[fleetKey]string{}, lost: map[string]int{}, lists: map[string][]string{}}
}

func keysOf(by map[string][]int32) (out []fleetKey) {
	for topic, partitions := range by {
		for _, n := range partitions {
			out = append(out, fleetKey{topic, n})
		}
	}
	return out
}

// worker is an application with one member.
type worker struct {
	l      *ledger
	name   string
	g      *client.GroupConsumer
	client *client.Client
	cancel context.CancelFunc
	ended  chan struct{}
	err    error         // why Poll ended, when ended is closed
	away   atomic.Bool   // the network does not reach it
	stuck  chan struct{} // it does nothing until this is closed
}

func (l *ledger) config(name string, cfg client.GroupConfig) client.GroupConfig {
	note := func(what string, by map[string][]int32) {
		for topic, partitions := range by {
			l.lists[name] = append(l.lists[name], fmt.Sprintf("%s %s %v", what, topic, partitions))
		}
	}
	cfg.ClientID = name
	cfg.OnAssign = func(by map[string][]int32) {
		l.mu.Lock()
		defer l.mu.Unlock()
		note("assign", by)
		for _, key := range keysOf(by) {
			l.owner[key] = name
		}
	}
	cfg.OnRevoke = func(by map[string][]int32) {
		l.mu.Lock()
		defer l.mu.Unlock()
		note("revoke", by)
		for _, key := range keysOf(by) {
			if l.owner[key] != name {
				l.t.Errorf("%s gives up %v, which %s has", name, key, l.owner[key])
			}
			delete(l.owner, key)
		}
	}
	cfg.OnLost = func(by map[string][]int32) {
		l.mu.Lock()
		defer l.mu.Unlock()
		note("lost", by)
		l.lost[name] += len(keysOf(by))
	}
	return cfg
}

// start runs a member that takes a millisecond for each piece.
func (l *ledger) start(name string, cfg client.GroupConfig, topics ...string) *worker {
	l.t.Helper()
	w := &worker{l: l, name: name, ended: make(chan struct{}), client: l.f.client(client.Config{})}
	dial := l.f.dial
	w.client.Dial(func(ctx context.Context, network, address string) (net.Conn, error) {
		if w.away.Load() {
			return nil, &net.OpError{Op: "dial", Net: "pipe", Err: errors.New("no network")}
		}
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &lonelyConn{Conn: c, away: &w.away}, nil
	})
	if len(topics) == 0 {
		topics = []string{"t"}
	}
	var err error
	if w.g, err = w.client.NewGroupConsumer("g", topics, l.config(name, cfg)); err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(l.t.Context())
	w.cancel = cancel
	go func() {
		defer close(w.ended)
		for {
			b, err := w.g.Poll(ctx)
			var e *client.Error
			if errors.As(err, &e) && e.Retryable {
				continue
			}
			if err != nil {
				w.err = err
				return
			}
			l.took(name, b)
			idle(time.Millisecond)
			l.mu.Lock()
			stuck := w.stuck
			l.mu.Unlock()
			if stuck != nil {
				<-stuck
			}
		}
	}()
	l.t.Cleanup(func() { w.close() })
	return w
}

func (l *ledger) took(name string, b *client.Batches) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := fleetKey{b.Topic, b.Partition}
	if l.owner[key] != name && l.lost[name] == 0 {
		l.t.Errorf("%s reads %v, which it was not told of", name, key)
	}
	for r, err := range b.Records() {
		if err != nil {
			l.t.Error(err)
		}
		l.seen[key] = append(l.seen[key], r.Offset)
	}
}

// stick has the member do nothing from now on; it returns how to go on.
func (w *worker) stick() (free func()) {
	stuck := make(chan struct{})
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	w.stuck = stuck
	return func() {
		w.l.mu.Lock()
		w.stuck = nil
		w.l.mu.Unlock()
		close(stuck)
	}
}

// close ends the loop as a program does that is told to stop: what was returned is processed.
func (w *worker) close() error {
	w.cancel()
	<-w.ended
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.l.t.Context()), 10*time.Second)
	defer cancel()
	return w.g.Close(ctx)
}

func idle(d time.Duration) { <-clock.System().NewTimer(d).C() }

// eventually waits for something that happens by itself.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 6000 {
		if done() {
			return
		}
		idle(100 * time.Millisecond)
	}
	t.Fatal("never: " + what)
}

// processed tells whether every record of a topic was.
func (l *ledger) processed(topic string) func() bool {
	return func() bool {
		l.f.mu.Lock()
		defer l.f.mu.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		for n, p := range l.f.topics[topic].parts {
			seen := l.seen[fleetKey{topic, int32(n)}]
			if len(seen) == 0 || slices.Max(seen) < p.end-1 {
				return false
			}
		}
		return true
	}
}

// check is that no record was skipped, and, unless twice, that each came once, in order, whoever read it.
func (l *ledger) check(topic string, twice bool) {
	l.t.Helper()
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for n, p := range l.f.topics[topic].parts {
		seen := l.seen[fleetKey{topic, int32(n)}]
		high := int64(-1)
		for i, offset := range seen {
			if offset > high+1 {
				l.t.Errorf("partition %d: %d comes after %d: records were skipped", n, offset, high)
			}
			if offset <= high && !twice {
				l.t.Errorf("partition %d: record %d comes again after %d, as number %d", n, offset, high, i)
			}
			high = max(high, offset)
		}
		if high != p.end-1 {
			l.t.Errorf("partition %d: the last record is %d, not %d", n, high, p.end-1)
		}
	}
}

// shares tells how many partitions each member has.
func (l *ledger) shares() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]int{}
	for _, name := range l.owner {
		out[name]++
	}
	return out
}

func (f *fleet) rebalances() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.group("g").rebalances
}

func (f *fleet) committed(partition int32) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, ok := f.group("g").committed[fleetKey{"t", partition}]
	if !ok {
		return -1
	}
	return at
}

func (f *fleet) away(away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.coordinatorAway = away
}

// lonelyConn is a connection on which nothing arrives while its member is away. It is of no use after that.
type lonelyConn struct {
	net.Conn
	away   *atomic.Bool
	broken atomic.Bool
}

func (c *lonelyConn) Write(b []byte) (int, error) {
	switch {
	case c.away.Load():
		c.broken.Store(true)
		return len(b), nil
	case c.broken.Load():
		return 0, net.ErrClosed
	}
	return c.Conn.Write(b)
}

func (c *lonelyConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		switch {
		case err != nil:
			return n, err
		case c.away.Load():
			c.broken.Store(true)
		case c.broken.Load():
			return 0, net.ErrClosed
		default:
			return n, nil
		}
	}
}
