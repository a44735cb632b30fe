package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
	"github.com/tidemark-io/tidemark/query"
)

// lateQueries stands for the query service from the moment when the port opens: until the service is there, every call is told
// what it waits for.
type lateQueries struct {
	writer *connect.ErrorWriter

	mu      sync.RWMutex
	service *query.Service
	cause   error
	failed  bool // cause is for good
}

func newLateQueries() *lateQueries {
	return &lateQueries{writer: connect.NewErrorWriter(), cause: errors.New("the node is starting")}
}

// waitFor says why there is no service yet.
func (l *lateQueries) waitFor(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cause = cause
}

// ready is nil, or why not.
func (l *lateQueries) ready() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.service == nil {
		return l.cause
	}
	return nil
}

// fail says why there will be no service in this process.
func (l *lateQueries) fail(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cause, l.failed = cause, true
}

// settled is nil when queries are answered or never will be; else what is waited for.
func (l *lateQueries) settled() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.service == nil && !l.failed {
		return l.cause
	}
	return nil
}

func (l *lateQueries) arrive(s *query.Service) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.service = s
}

// Names are the full names of the services.
func (l *lateQueries) Names() []string { return []string{tidemarkv1connect.QueryServiceName} }

// Paths are the way to ask without a client.
func (l *lateQueries) Paths() []string { return []string{"/v1/sql"} }

// Drain refuses new queries.
func (l *lateQueries) Drain() {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.service != nil {
		l.service.Drain()
	}
}

// ServeHTTP answers, or says why not yet.
func (l *lateQueries) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.RLock()
	service, cause := l.service, l.cause
	l.mu.RUnlock()
	if service != nil {
		service.ServeHTTP(w, r)
		return
	}
	err := connect.NewError(connect.CodeUnavailable, fmt.Errorf("queries are not answered yet: %w", cause))
	if l.writer.IsSupported(r) {
		_ = l.writer.Write(w, r, err) // the only error is a client that is gone
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusServiceUnavailable)
	body, jsonErr := json.Marshal(map[string]string{"code": err.Code().String(), "message": err.Message()})
	if jsonErr != nil {
		body = []byte(`{"code":"unavailable"}`)
	}
	answerLine(w, string(body))
}
