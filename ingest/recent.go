package ingest

import (
	"context"
	"sync"

	"github.com/tidemark-io/tidemark/tier"
)

// recentIndexes is the object store as one incarnation writes to it. It keeps in memory how the newest L0 objects end: with their index. The
// node's own index of the log reads that as soon as the commit shows up in etcd, for every object whose record does not carry it, and need
// not fetch what has just been sent. What is read here is checked against record and footer like what comes from the store. Its methods may
// be called from any goroutine.
type recentIndexes struct {
	tier.Store

	mu    sync.Mutex
	tails map[string]objectTail
	names queue[string] // of tails, oldest first
}

// objectTail is the end of an object, from off on.
type objectTail struct {
	off  int64
	data []byte
}

const (
	recentTails     = 2 * maxUploads
	recentTailBytes = 2 << 20 // a longer one is fetched
)

// Put implements tier.Store.
func (s *recentIndexes) Put(ctx context.Context, name string, body [][]byte) error {
	if err := s.Store.Put(ctx, name, body); err != nil {
		return err
	}
	if len(body) < 2 {
		return nil
	}
	index, footer := body[len(body)-2], body[len(body)-1]
	if len(index)+len(footer) > recentTailBytes {
		return nil
	}
	tail := objectTail{data: append(append(make([]byte, 0, len(index)+len(footer)), index...), footer...)}
	for _, part := range body[:len(body)-2] {
		tail.off += int64(len(part))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.tails[name]; !known {
		s.names.push(name)
	}
	s.tails[name] = tail
	for s.names.len() > recentTails {
		delete(s.tails, s.names.pop())
	}
	return nil
}

// ReadAt implements tier.Store.
func (s *recentIndexes) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	s.mu.Lock()
	tail, known := s.tails[name]
	s.mu.Unlock()
	if known && off == tail.off && len(p) == len(tail.data) {
		copy(p, tail.data)
		return nil
	}
	return s.Store.ReadAt(ctx, name, p, off)
}
