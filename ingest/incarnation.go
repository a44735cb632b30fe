package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest/wal"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/proof/failpoint"
)

// commitAttempt bounds one sending of a transaction; after it the outcome is in doubt and the same is sent again.
const commitAttempt = 5 * time.Second

// incarnation is one life of a node: a registration, an index, an open log, and a core that one goroutine, the loop, runs.
// It performs the core's effects and posts what comes of them back to the loop.
type incarnation struct {
	node         *Node
	id           meta.Incarnation
	registration meta.Registration
	follower     *meta.Follower
	log          *wal.Log
	core         *core
	appender     *appender
	uploader     *uploader
	began        time.Time

	replayedBatches int

	ctx    context.Context //nolint:containedctx // the life of the incarnation itself
	cancel context.CancelCauseFunc
	work   sync.WaitGroup // every goroutine but the loop

	mu     sync.Mutex
	events []func(now time.Time)
	closed bool
	ready  chan struct{}

	wakeAt  time.Time // the loop's
	commits int       // the loop's
	// drained is closed when everything is committed that was taken, and the node takes nothing more.
	drained chan struct{}
	// handedOver, the loop's, is nil until the node is to stop, and closed when it has let go besides what others can lead.
	handedOver chan struct{}

	trimTo   atomic.Uint64
	trimDue  chan struct{}
	foldDue  chan struct{}
	placeDue chan struct{} // the index has moved on
	// unreadable objects are left out of folds; the folder's.
	unreadable map[string]bool
	full       bool // the node has tier.MaxRecords; the folder's

	discardMu sync.Mutex
	discards  queue[discarded]
}

// post hands an event to the loop. False means that the incarnation has ended and the event will not run.
func (i *incarnation) post(event func(now time.Time)) bool {
	i.mu.Lock()
	if i.closed {
		i.mu.Unlock()
		return false
	}
	i.events = append(i.events, event)
	i.mu.Unlock()
	notify(i.ready)
	return true
}

func (i *incarnation) take(last bool) []func(time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	out := i.events
	i.events = nil
	i.closed = i.closed || last
	return out
}

// run is the loop. It returns when the incarnation has ended and everything it started has, with the cause.
func (i *incarnation) run() error {
	i.start()
	clk := i.node.deps.Clock
	timer := clk.NewTimer(0)
	defer timer.Stop()
	var armed time.Time
	for i.ctx.Err() == nil {
		now := clk.Now()
		for _, event := range i.take(false) {
			event(now)
		}
		if i.core.draining && i.core.drained() {
			closeOnce(i.drained)
		}
		if i.handedOver != nil && i.core.handedOver() {
			closeOnce(i.handedOver)
		}
		if !i.wakeAt.IsZero() && (armed.IsZero() || i.wakeAt.Before(armed)) {
			armed = i.wakeAt
			timer.Reset(armed.Sub(now))
		}
		i.wakeAt = time.Time{}
		select {
		case <-i.ready:
		case <-timer.C():
			armed = time.Time{}
			i.core.tick(clk.Now())
		case <-i.ctx.Done():
		}
	}
	return i.finish()
}

func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// finish answers whoever waits, ends every goroutine, and gives back log, index and, last, the lease.
func (i *incarnation) finish() error {
	cause := context.Cause(i.ctx)
	now := i.node.deps.Clock.Now()
	i.core.end(cause)
	for _, event := range i.take(true) {
		event(now)
	}
	closeOnce(i.drained)
	if i.handedOver != nil {
		closeOnce(i.handedOver)
	}
	i.work.Wait()
	i.follower.Close()
	if err := i.log.Close(); err != nil && !errors.Is(cause, wal.ErrFailed) {
		cause = errors.Join(cause, fmt.Errorf("close the log on disk: %w", err))
	}
	i.node.revoke(i.registration.Lease)
	return cause
}

// revoke gives a lease back. If that fails the lease runs out by itself, so it is only told.
func (n *Node) revoke(lease meta.LeaseID) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := n.deps.Meta.KV().Revoke(ctx, lease); err != nil && !errors.Is(err, meta.ErrLeaseGone) {
		n.deps.Logger.Debug("revoke the lease", "cause", err)
	}
}

// start runs the goroutines that perform effects.
func (i *incarnation) start() {
	i.spawn(i.appender.runWriter)
	i.spawn(i.appender.runSyncer)
	i.spawn(i.runTrimmer)
	i.spawn(i.runFolder)
	i.spawn(i.runSweeper)
	i.spawn(i.runController)
	i.post(func(now time.Time) { i.core.begin(now) })
}

func (i *incarnation) spawn(work func(context.Context)) {
	i.work.Go(func() { work(i.ctx) })
}

// drain flushes what is there and lets go what others can lead: both as long as ctx allows, and the latter as long as patience does.
func (i *incarnation) drain(ctx, patience context.Context) {
	handedOver := make(chan struct{})
	if !i.post(func(now time.Time) {
		i.handedOver = handedOver
		i.core.drain(now)
	}) {
		return
	}
	select {
	case <-handedOver:
	case <-patience.Done():
	}
	select {
	case <-i.drained:
	case <-ctx.Done():
	}
}

// announceStop tells the cluster that the node is about to stop, and returns when the index shows it: the core then knows whether
// anybody could take over. When etcd is away nobody is told, and nothing can be handed over.
func (i *incarnation) announceStop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, announcePatience)
	defer cancel()
	if err := i.node.deps.Meta.Stopping(ctx, i.registration); err != nil {
		return err
	}
	revision, err := i.node.deps.Meta.Revision(ctx)
	if err != nil {
		return err
	}
	return i.follower.WaitFor(ctx, revision)
}

// fail ends the incarnation from outside the loop.
func (i *incarnation) fail(cause error) {
	i.post(func(time.Time) { i.core.end(cause) })
}

func (i *incarnation) clock() clock.Clock { return i.node.deps.Clock }

// ---- what the core asks for; see outside

func (i *incarnation) appendLog(e *entry, sync bool) { i.appender.enqueue(e, e.batch, sync) }

func (i *incarnation) trimLog(below wal.LSN) {
	if uint64(below) > i.trimTo.Load() {
		i.trimTo.Store(uint64(below))
		notify(i.trimDue)
	}
}

func (i *incarnation) runTrimmer(ctx context.Context) {
	for {
		select {
		case <-i.trimDue:
		case <-ctx.Done():
			return
		}
		failpoint.Here(failpoint.LogBeforeTrim)
		if err := i.log.Trim(wal.LSN(i.trimTo.Load())); err != nil {
			i.fail(fmt.Errorf("trim the log on disk: %w", err))
			return
		}
		failpoint.Here(failpoint.LogAfterTrim)
	}
}

func (i *incarnation) upload(job *commitJob, batches []plannedBatch) {
	i.spawn(func(ctx context.Context) {
		record, err := i.uploader.flush(ctx, job.number, batches, func(err error) {
			i.post(func(time.Time) { i.core.uploadFailing(err) })
		})
		if err != nil {
			if ctx.Err() == nil {
				i.fail(err)
			}
			return
		}
		i.post(func(now time.Time) {
			job.record = record
			i.core.uploaded(job, now)
		})
	})
}

func (i *incarnation) sendCommit(txn *meta.Txn) {
	sent := *txn
	began := i.clock().Now()
	i.spawn(func(ctx context.Context) {
		attempt, cancel := context.WithTimeout(ctx, commitAttempt)
		defer cancel()
		attempt, span := i.node.deps.Telemetry.Span(attempt, "tidemark.commit")
		failpoint.Here(failpoint.CommitBeforeSend)
		if releases(i.node.deps.Meta.Keys(), i.node.config.Node, sent) {
			failpoint.Here(failpoint.ReleaseBeforeSend)
		}
		result, err := i.node.deps.Meta.KV().Txn(attempt, sent)
		failpoint.Here(failpoint.CommitAfterAnswer)
		if releases(i.node.deps.Meta.Keys(), i.node.config.Node, sent) {
			failpoint.Here(failpoint.ReleaseAfterAnswer)
		}
		EndSpan(span, err)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			i.node.deps.Telemetry.CommitInDoubt(ctx)
			i.post(func(now time.Time) { i.core.commitFailed(err, now) })
			return
		}
		i.node.deps.Telemetry.Committed(ctx, outcomeName(result.Succeeded), i.clock().Now().Sub(began))
		i.post(func(now time.Time) {
			failpoint.Here(failpoint.BeforeAck)
			i.core.commitAnswered(result, now)
		})
	})
}

// releases tells whether a transaction lets partitions go.
func releases(k meta.Keys, node meta.NodeID, txn meta.Txn) bool {
	return slices.ContainsFunc(txn.Then, func(op meta.Op) bool { return op.Key == k.Release(node) })
}

func outcomeName(succeeded bool) string {
	if succeeded {
		return "done"
	}
	return "guarded"
}

func (i *incarnation) keepAlive() {
	i.spawn(func(ctx context.Context) {
		sentAt := i.clock().Now()
		attempt, cancel := context.WithTimeout(ctx, i.node.config.LeaseTTL/3)
		defer cancel()
		_, err := i.node.deps.Meta.KV().KeepAlive(attempt, i.registration.Lease)
		i.post(func(now time.Time) {
			switch {
			case err == nil:
				i.core.leaseStep(leaseKept{sentAt: sentAt, now: now}, now)
			case errors.Is(err, meta.ErrLeaseGone):
				i.core.leaseStep(leaseGone{}, now)
			default:
				i.core.leaseStep(leaseFailed{now: now}, now)
			}
		})
	})
}

func (i *incarnation) wake(at time.Time) {
	if i.wakeAt.IsZero() || at.Before(i.wakeAt) {
		i.wakeAt = at
	}
}

// foldEvery is how many commits go by between two looks at what could be folded: a look sorts every record of the node.
const foldEvery = 16

func (i *incarnation) committed() {
	if i.commits++; i.commits%foldEvery == 0 {
		notify(i.foldDue)
	}
}

func (i *incarnation) changed() { i.node.notifyChanged() }

func (i *incarnation) letGo(partitions int, since time.Time) {
	took := i.clock().Now().Sub(since)
	i.node.deps.Telemetry.LetGo(i.ctx, partitions, took)
	i.node.deps.Logger.Info("partitions let go", "node", i.node.config.Node, "partitions", partitions, "took", took.Round(time.Millisecond).String())
}

func (i *incarnation) tookOver(partitions int, since time.Time) {
	took := i.clock().Now().Sub(since)
	i.node.deps.Telemetry.TookOver(i.ctx, partitions, took)
	i.node.deps.Logger.Info("partitions taken over", "node", i.node.config.Node, "partitions", partitions, "took", took.Round(time.Millisecond).String())
}

// troubled writes one line when something begins to hold writes back, and one when they go on.
func (i *incarnation) troubled(cause string) {
	if cause == "" {
		i.node.deps.Logger.Info("writes go on", "node", i.node.config.Node)
		return
	}
	i.node.deps.Logger.Warn("writes wait; what was acknowledged is kept, and they go on by themselves when this passes", "node", i.node.config.Node, "cause", cause)
}

func (i *incarnation) end(cause error) { i.cancel(cause) }
