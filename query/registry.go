package query

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/clock"
)

// Bounds of what the registry keeps for system.queries.
const (
	endedKept   = 100
	keptSQL     = 4 << 10
	keptMessage = 1 << 10
)

// queryState is how far a query has come, in the words of system.queries.
type queryState string

const (
	stateQueued     queryState = "queued"
	stateCatchingUp queryState = "catching up"
	stateRunning    queryState = "running"
	stateStreaming  queryState = "streaming"
	stateFinished   queryState = "finished"
	stateFailed     queryState = "failed"
	stateCanceled   queryState = "canceled"
)

// registry knows the queries that wait and run, and the last that ended.
type registry struct {
	clock  clock.Clock
	random io.Reader

	mu      sync.Mutex
	live    map[string]*entry
	order   []*entry      // live, in the order of their beginning
	ended   []queryRecord // the latest last
	closing bool
	empty   chan struct{} // closed when closing and nothing lives
}

func newRegistry(c clock.Clock, random io.Reader) *registry {
	return &registry{clock: c, random: random, live: make(map[string]*entry), empty: make(chan struct{})}
}

// entry is one query that lives.
type entry struct {
	id      string
	sql     string // cut
	client  string
	started time.Time
	cancel  context.CancelCauseFunc

	rows atomic.Int64
	read atomic.Int64

	mu       sync.Mutex
	state    queryState
	position string
}

// queryRecord is a query as system.queries shows it.
type queryRecord struct {
	id, sql, client string
	state           queryState
	started         time.Time
	elapsed         time.Duration
	rows, read      int64
	position        string
	err             string
}

// begin adds a query. The error says that the service is closing.
func (r *registry) begin(sql, client string, cancel context.CancelCauseFunc) (*entry, error) {
	var id [16]byte
	if _, err := io.ReadFull(r.random, id[:]); err != nil {
		return nil, fmt.Errorf("draw a query id: %w", err)
	}
	e := &entry{id: hex.EncodeToString(id[:]), sql: cut(sql, keptSQL), client: client, started: r.clock.Now(), cancel: cancel, state: stateQueued}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing {
		return nil, errClosing
	}
	r.live[e.id] = e
	r.order = append(r.order, e)
	return e, nil
}

// end takes a query out and keeps what is worth telling.
func (r *registry) end(e *entry, err error) {
	state, message := stateFinished, ""
	if err != nil {
		state, message = stateFailed, cut(err.Error(), keptMessage)
		if reasonOf(err).Code() == connect.CodeCanceled {
			state = stateCanceled
		}
	}
	e.set(state)
	record := e.record(r.clock.Now())
	record.err = message
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.live, e.id)
	r.order = slices.DeleteFunc(r.order, func(other *entry) bool { return other == e })
	if len(r.ended) == endedKept {
		r.ended = slices.Delete(r.ended, 0, 1)
	}
	r.ended = append(r.ended, record)
	r.closeIfEmpty()
}

// cancelQuery tells a query to end; false when no such query lives.
func (r *registry) cancelQuery(id string) bool {
	r.mu.Lock()
	e := r.live[id]
	r.mu.Unlock()
	if e == nil {
		return false
	}
	e.cancel(errorf(ReasonQueryCanceled, "the query was canceled"))
	return true
}

// drain refuses new queries.
func (r *registry) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closing {
		r.closing = true
		r.closeIfEmpty()
	}
}

func (r *registry) closeIfEmpty() {
	if r.closing && len(r.live) == 0 {
		select {
		case <-r.empty:
		default:
			close(r.empty)
		}
	}
}

// cancelAll tells every query to end.
func (r *registry) cancelAll(cause error) {
	r.mu.Lock()
	live := slices.Clone(r.order)
	r.mu.Unlock()
	for _, e := range live {
		e.cancel(cause)
	}
}

// records are the ended queries and then the living, each by its beginning or end.
func (r *registry) records() []queryRecord {
	now := r.clock.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Clone(r.ended)
	for _, e := range r.order {
		out = append(out, e.record(now))
	}
	return out
}

func (e *entry) set(s queryState) {
	e.mu.Lock()
	e.state = s
	e.mu.Unlock()
}

func (e *entry) covers(position string) {
	e.mu.Lock()
	e.position = position
	e.mu.Unlock()
}

func (e *entry) record(now time.Time) queryRecord {
	e.mu.Lock()
	defer e.mu.Unlock()
	return queryRecord{
		id: e.id, sql: e.sql, client: e.client, state: e.state, started: e.started, elapsed: now.Sub(e.started),
		rows: e.rows.Load(), read: e.read.Load(), position: e.position,
	}
}

// cut shortens a text to at most n bytes, without cutting a letter, and makes it UTF-8.
func cut(s string, n int) string {
	if len(s) > n {
		const mark = "…"
		n -= len(mark)
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n] + mark
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
