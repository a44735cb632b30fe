package main

import (
	"errors"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/ingest"
)

// lateNode is a node that cannot be opened yet, because etcd or the object store does not answer. The port is open from the start
// and says why; once the node is there everything goes to it.
type lateNode struct {
	mu    sync.RWMutex
	node  *ingest.Node
	cause error
}

func newLateNode(waitingFor string) *lateNode {
	return &lateNode{cause: errors.New("the node is starting: it waits for " + waitingFor)}
}

// waitFor notes why there is no node yet and tells whether that is news.
func (l *lateNode) waitFor(cause error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	news := l.cause == nil || l.cause.Error() != cause.Error()
	l.cause = cause
	return news
}

func (l *lateNode) arrive(n *ingest.Node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.node, l.cause = n, nil
}

func (l *lateNode) get() (*ingest.Node, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.node == nil {
		return nil, ingest.Errorf(ingest.ReasonUnavailable, "the node is not ready: %w", l.cause).WithRetryAfter(time.Second)
	}
	return l.node, nil
}

// ready is nil, or why not.
func (l *lateNode) ready() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.node == nil {
		return l.cause
	}
	return l.node.Ready()
}

// alive is nil, or the cause that ended the node.
func (l *lateNode) alive() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.node == nil {
		return nil
	}
	return l.node.Err()
}

// groupSeat is the node's present incarnation as groups see it.
func (l *lateNode) groupSeat() (ingest.GroupSeat, error) {
	n, err := l.get()
	if err != nil {
		return ingest.GroupSeat{}, err
	}
	return n.GroupSeat()
}
