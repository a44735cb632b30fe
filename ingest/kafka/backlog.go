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
	// smallBytes is what small answers may have, which need no room, and heldBytes is what call.hold may count: a few produces of 10,000 partitions.
	smallBytes = 1 << 20
	heldBytes  = 8 << 20
	// largeBytes is what its answers may hold of the room for answers, unless it is one alone.
	largeBytes = 48 << 20
)

// backlog is what a connection has been asked and its client has not taken. A client that asks and does not read comes to a halt by itself: its next
// request is handled when it has taken some.
type backlog struct {
	mu           sync.Mutex
	calls, asked int // all of them, and those that are no produces
	counted      counted
	handled      int           // frames that were passed on to be handled and are not through; for a moment one less
	brief        bool          // what was passed on last waits for nothing
	shrunk       chan struct{} // has one when there is less than before, for take
	calmed       chan struct{} // the same, or less is handled, for await
}

// counted are bytes that a backlog counts, and what it counts of one call.
type counted struct {
	small int64 // of answers without room
	held  int64 // by call.hold
	large int64 // of the room for answers
}

func (c *counted) add(more counted) {
	c.small += more.small
	c.held += more.held
	c.large += more.large
}

func newBacklog() backlog {
	return backlog{shrunk: make(chan struct{}, 1), calmed: make(chan struct{}, 1)}
}

// take counts a call in when there is room for another, for which it waits until ctx ends. One goroutine calls it.
func (b *backlog) take(ctx context.Context, k *call) error {
	return wait(ctx, b.shrunk, func() bool { return b.add(k) })
}

// await waits until nothing is handled that may wait, and a request of a kind would not wait to be taken. One goroutine calls it.
func (b *backlog) await(ctx context.Context, key int16) error {
	return wait(ctx, b.calmed, func() bool { return b.isCalm(key) })
}

// wait waits until something is done, which is tried anew at each change.
func wait(ctx context.Context, change <-chan struct{}, done func() bool) error {
	for !done() {
		select {
		case <-change:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (b *backlog) add(k *call) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full(k.key) {
		return false
	}
	b.calls++
	if k.key != int16(kmsg.Produce) {
		b.asked++
	}
	return true
}

// isCalm is what await waits for.
func (b *backlog) isCalm(key int16) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return (b.brief || b.handled == 0) && !b.full(key)
}

func (b *backlog) full(key int16) bool {
	c := b.counted
	return b.calls >= maxPending || c.small >= smallBytes || c.held >= heldBytes || c.large >= largeBytes || key != int16(kmsg.Produce) && b.asked >= maxAsked
}

// passed says that a frame of a kind was passed on, when all before it are through. A produce waits for nothing once it is taken, and what it may hold
// keeps none behind it waiting as long as little is held.
func (b *backlog) passed(key int16) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.handled++
	b.brief = key == int16(kmsg.Produce) && !b.full(key) && b.counted.held+mostHeld <= heldBytes
}

// through says that a frame is handled.
func (b *backlog) through() {
	b.mu.Lock()
	b.handled--
	b.mu.Unlock()
	signal(b.calmed)
}

// keep counts bytes of a call until it is dropped.
func (b *backlog) keep(k *call, more counted) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counted.add(more)
	k.counted.add(more)
}

// drop counts a call out that was taken.
func (b *backlog) drop(k *call) {
	b.mu.Lock()
	b.calls--
	if k.key != int16(kmsg.Produce) {
		b.asked--
	}
	b.counted.add(counted{small: -k.counted.small, held: -k.counted.held, large: -k.counted.large})
	k.counted = counted{}
	b.mu.Unlock()
	signal(b.shrunk)
	signal(b.calmed)
}

func signal(change chan<- struct{}) {
	select {
	case change <- struct{}{}:
	default:
	}
}

// busy tells whether anything is under way.
func (b *backlog) busy() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls > 0
}
