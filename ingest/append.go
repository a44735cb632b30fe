package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/ingest/wal"
	"github.com/tidemark-io/tidemark/proof/failpoint"
	"github.com/tidemark-io/tidemark/record"
)

const (
	// appendGroupBytes caps what one write to the log holds.
	appendGroupBytes = 4 << 20
	// appendStallPause is how long a full disk is left alone before the next try.
	appendStallPause = 200 * time.Millisecond
)

// appender is the outside of the core's appendLog: one goroutine writes to the log in the order of the queue, another syncs
// it. While a sync runs the next group gathers and is written, so that a disk busy syncing is a disk that syncs more at once.
type appender struct {
	log       *wal.Log
	clock     clock.Clock
	telemetry *Telemetry

	// written and synced post back to the loop; stalled says why the log takes nothing for now; failed ends the node.
	written func(entries []*entry, at []wal.LSN, end wal.LSN)
	synced  func(end wal.LSN)
	stalled func(error)
	failed  func(error)

	mu       sync.Mutex
	queue    []queuedBatch
	syncNext bool // the queue holds a batch that wants a sync
	ready    chan struct{}
	syncDue  chan struct{}
}

// queuedBatch is a batch on its way to the log. It has the bytes itself: the entry is the loop's.
type queuedBatch struct {
	entry *entry
	frame wal.Frame
}

func newAppender(log *wal.Log, clk clock.Clock, t *Telemetry) *appender {
	return &appender{log: log, clock: clk, telemetry: t, ready: make(chan struct{}, 1), syncDue: make(chan struct{}, 1)}
}

// enqueue is called by the loop; it does not block. The core's admission bounds the queue.
func (a *appender) enqueue(e *entry, batch record.Batch, sync bool) {
	a.mu.Lock()
	a.queue = append(a.queue, queuedBatch{entry: e, frame: wal.Frame{
		Topic: e.partition.Topic, Partition: e.partition.Partition, Epoch: e.epoch, AppendTime: e.appendTime, Batch: batch,
	}})
	a.syncNext = a.syncNext || sync
	a.mu.Unlock()
	notify(a.ready)
}

// notify wakes the owner of a channel of one; a wake-up that is already there serves for both.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take removes a group from the queue.
func (a *appender) take() (group []queuedBatch, sync bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	size, n := 0, 0
	for n < len(a.queue) && (n == 0 || size+len(a.queue[n].frame.Batch) <= appendGroupBytes) {
		size += len(a.queue[n].frame.Batch)
		n++
	}
	group = append(group, a.queue[:n]...)
	kept := copy(a.queue, a.queue[n:])
	clear(a.queue[kept:])
	a.queue = a.queue[:kept]
	sync = a.syncNext
	if kept == 0 {
		a.syncNext = false
		if cap(a.queue) > 4096 {
			a.queue = nil
		}
	}
	return group, sync
}

// runWriter writes groups until ctx ends.
func (a *appender) runWriter(ctx context.Context) {
	var frames []wal.Frame
	for {
		group, sync := a.take()
		if len(group) == 0 {
			select {
			case <-a.ready:
				continue
			case <-ctx.Done():
				return
			}
		}
		frames = frames[:0]
		size := 0
		entries := make([]*entry, len(group))
		at := make([]wal.LSN, len(group))
		for i, q := range group {
			entries[i] = q.entry
			frames = append(frames, q.frame)
			size += len(q.frame.Batch)
		}
		if !a.write(ctx, frames, at) {
			return
		}
		clear(frames) // or the last group's bytes would stay alive
		a.telemetry.LogAppended(ctx, size)
		a.written(entries, at, a.log.End())
		if sync {
			notify(a.syncDue)
		}
	}
}

// write appends one group, however long the disk is full. False ends the writer.
func (a *appender) write(ctx context.Context, frames []wal.Frame, at []wal.LSN) bool {
	for {
		failpoint.Here(failpoint.LogBeforeWrite)
		err := a.log.Append(frames, at)
		if err == nil {
			failpoint.Here(failpoint.LogAfterWrite)
			return true
		}
		a.telemetry.LogFailed(ctx)
		if !errors.Is(err, disk.ErrNoSpace) {
			a.failed(fmt.Errorf("append to the log on disk: %w", err))
			return false
		}
		a.stalled(err)
		if !pause(ctx, a.clock, appendStallPause) {
			return false
		}
	}
}

// runSyncer syncs as often as it is asked to, until ctx ends.
func (a *appender) runSyncer(ctx context.Context) {
	for {
		select {
		case <-a.syncDue:
		case <-ctx.Done():
			return
		}
		began := a.clock.Now()
		failpoint.Here(failpoint.LogBeforeSync)
		end, err := a.log.Sync()
		if err != nil {
			a.telemetry.LogFailed(ctx)
			a.failed(fmt.Errorf("sync the log on disk: %w", err)) // never again: the node stops
			return
		}
		failpoint.Here(failpoint.LogAfterSync)
		a.telemetry.LogSynced(ctx, a.clock.Now().Sub(began))
		a.synced(end)
	}
}

// pause waits; false means that ctx has ended.
func pause(ctx context.Context, clk clock.Clock, d time.Duration) bool {
	t := clk.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
		return true
	case <-ctx.Done():
		return false
	}
}
