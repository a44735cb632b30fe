package kafka

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// What one connection may have under way before its next request is handled.
const (
	// maxAsked is how many of its requests may wait for their answers to be written, produces aside.
	maxAsked = 32
	// smallBytes is what may be kept for it without room: small answers, and what call.hold counts.
	smallBytes = 1 << 20
	// largeBytes is what its answers may hold of the room for answers, unless it is one alone.
	largeBytes = 48 << 20
)

// backlog is what a connection has been asked and its client has not taken. A client that asks and does not read comes to a halt by itself: its next
// request is handled when it has taken some.
type backlog struct {
	mu           sync.Mutex
	calls, asked int // all of them, and those that are no produces
	small, large int64
	shrunk       chan struct{} // has one when there is less than before
}

func newBacklog() backlog { return backlog{shrunk: make(chan struct{}, 1)} }

// take counts a call in when there is room for another, for which it waits until ctx ends. One goroutine calls it.
func (b *backlog) take(ctx context.Context, k *call) error {
	for !b.add(k) {
		select {
		case <-b.shrunk:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (b *backlog) add(k *call) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.small >= smallBytes || b.large >= largeBytes || k.key != int16(kmsg.Produce) && b.asked >= maxAsked {
		return false
	}
	b.calls++
	if k.key != int16(kmsg.Produce) {
		b.asked++
	}
	return true
}

// keep counts bytes of a call, in the room for answers or not, until it is dropped.
func (b *backlog) keep(k *call, small, large int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.small += small
	b.large += large
	k.small += small
	k.large += large
}

// drop counts a call out that was taken.
func (b *backlog) drop(k *call) {
	b.mu.Lock()
	b.calls--
	if k.key != int16(kmsg.Produce) {
		b.asked--
	}
	b.small -= k.small
	b.large -= k.large
	k.small, k.large = 0, 0
	b.mu.Unlock()
	select {
	case b.shrunk <- struct{}{}:
	default:
	}
}

// busy tells whether anything is under way.
func (b *backlog) busy() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls > 0
}
