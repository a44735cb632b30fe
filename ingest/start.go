package ingest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/tidemark-io/tidemark/ingest/wal"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/proof/failpoint"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier"
)

// startPatience bounds what is asked of etcd and the object store before the log on disk is read, and what is asked after it; the supervisor tries
// again. The log itself takes as long as it is: with a deadline on that a long one would never be through.
const startPatience = 30 * time.Second

// begin starts an incarnation, in the one order that is safe:
//
//  1. register: one transaction writes nodes/<id> and heads/<id>, which fences every earlier incarnation of this node;
//  2. read assignment, releases and log, at one revision at or above that;
//  3. open the log on disk, whose recovered tail is durable before anybody reads it, and replay what was written at the
//     epochs that are still assigned;
//  4. lead.
//
// Reading before fencing would miss a commit of the earlier incarnation that was still on its way, and give its offsets again.
func (n *Node) begin(ctx context.Context) (*incarnation, error) {
	began := n.deps.Clock.Now()
	attempt, cancelAttempt := context.WithTimeout(ctx, startPatience)
	defer cancelAttempt()

	var random [8]byte
	if _, err := io.ReadFull(n.deps.Random, random[:]); err != nil {
		return nil, fmt.Errorf("draw an incarnation: %w", err)
	}
	id := meta.Incarnation(binary.BigEndian.Uint64(random[:]))
	info := n.config.Info
	info.Incarnation = id
	if err := n.checkKnown(attempt); err != nil {
		return nil, err
	}
	registration, err := n.deps.Meta.Register(attempt, info, n.config.LeaseTTL)
	if err != nil {
		return nil, fmt.Errorf("register node %s: %w", n.config.Node, err)
	}
	failpoint.Here(failpoint.StartAfterRegister)
	i := &incarnation{
		node: n, id: id, registration: registration, began: began, ready: make(chan struct{}, 1), drained: make(chan struct{}),
		trimDue: make(chan struct{}, 1), foldDue: make(chan struct{}, 1), placeDue: make(chan struct{}, 1), unreadable: make(map[string]bool),
	}
	i.ctx, i.cancel = context.WithCancelCause(ctx)
	stopRenewing := i.renew(began)
	err = i.open(began)
	confirmed := stopRenewing()
	if err == nil {
		i.core.lease = newLease(n.config.LeaseTTL, confirmed)
	}
	if err != nil {
		i.cancel(err)
		if i.follower != nil {
			i.follower.Close()
		}
		if i.log != nil {
			err = errors.Join(err, i.log.Close())
		}
		n.revoke(registration.Lease)
		return nil, err
	}
	return i, nil
}

// checkKnown refuses an etcd that knows nothing of a node which has a log on disk: it is not the one that the log was written
// with, and leading by it would trim what it does not know. It looks before Register, which would make the node known: a
// log is opened only after a registration, and heads are never removed.
func (n *Node) checkKnown(ctx context.Context) error {
	head, _, err := n.deps.Meta.KV().Get(ctx, n.deps.Meta.Keys().Head(n.config.Node))
	if err != nil {
		return fmt.Errorf("look for node %s in etcd: %w", n.config.Node, err)
	}
	if head != nil {
		return nil
	}
	files, err := n.deps.FS.ReadDir(n.config.LogDir)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && len(files) == 0) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for the log on disk: %w", err)
	}
	return fmt.Errorf("etcd knows nothing of node %s, which has a log in %s: this is not the etcd that it wrote with; give it that one back, or another data directory",
		n.config.Node, n.config.LogDir)
}

// renew keeps the lease while the incarnation opens, however long the log on disk is: the loop, which does it later, does not
// run yet. The function returned stops it and tells when the last keep-alive that was answered had been sent.
func (i *incarnation) renew(granted time.Time) (stop func() time.Time) {
	ctx, cancel := context.WithCancel(i.ctx)
	confirmed := granted
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pause(ctx, i.clock(), i.node.config.LeaseTTL/3) {
			sentAt := i.clock().Now()
			if _, err := i.node.deps.Meta.KV().KeepAlive(ctx, i.registration.Lease); err == nil {
				confirmed = sentAt
			} // a lease that is gone shows at the loop's first keep-alive
		}
	}()
	return func() time.Time {
		cancel()
		<-done
		return confirmed
	}
}

func (i *incarnation) open(began time.Time) error {
	n := i.node
	store := &recentIndexes{Store: n.deps.Store, tails: make(map[string]objectTail)}
	loadIndex := func(ctx context.Context, r *meta.L0Record) (meta.L0Index, error) {
		return tier.ReadL0Index(ctx, store, r)
	}
	follower, err := n.deps.Meta.Follow(i.ctx, loadIndex, func(meta.Revision) {
		notify(i.placeDue)
		i.post(func(now time.Time) {
			if err := i.follower.Err(); err != nil {
				i.core.end(fmt.Errorf("follow the log's index: %w", err))
				return
			}
			i.core.indexAdvanced(now)
		})
	})
	if err != nil {
		return fmt.Errorf("read the log's index: %w", err)
	}
	i.follower = follower
	// Before the node is given anything: one whose log cannot be opened would hold what it will never lead.
	var durable wal.LSN
	if i.registration.PreviousHead != nil {
		durable = wal.LSN(i.registration.PreviousHead.WAL)
	}
	var salt [4]byte
	if _, err := io.ReadFull(n.deps.Random, salt[:]); err != nil {
		return fmt.Errorf("draw a salt for the log on disk: %w", err)
	}
	i.log, err = wal.Open(wal.Config{
		FS: n.deps.FS, Dir: n.config.LogDir, FileBytes: n.config.LogFileBytes, Durable: durable, Salt: binary.BigEndian.Uint32(salt[:]),
	})
	if err != nil {
		return fmt.Errorf("open the log on disk: %w", err)
	}
	failpoint.Here(failpoint.StartAfterRecovery)
	if r := i.log.Recovery(); r.TornBytes > 0 {
		n.deps.Logger.Warn("the log on disk had a torn tail, as after a crash; nothing that was acknowledged on disk is in it",
			"file", r.TornFile, "bytes", r.TornBytes)
	}

	ctx, cancel := context.WithTimeout(i.ctx, startPatience)
	defer cancel()
	if err := follower.WaitFor(ctx, i.registration.Revision); err != nil {
		return fmt.Errorf("read the log's index: %w", err)
	}
	// A node that is alone leads everything from the start; among others this does nothing, and what the controller gives it comes later.
	if _, _, err := n.deps.Meta.Place(ctx, follower, i.registration, false); err != nil {
		return err
	}
	if err := follower.HeldBack(n.config.Node); err != nil {
		return err
	}

	i.appender = newAppender(i.log, n.deps.Clock, n.deps.Telemetry)
	i.appender.written = func(entries []*entry, at []wal.LSN, end wal.LSN) {
		i.post(func(now time.Time) { i.core.logWritten(entries, at, end, now) })
	}
	i.appender.synced = func(end wal.LSN) { i.post(func(now time.Time) { i.core.logSynced(end, now) }) }
	i.appender.stalled = func(err error) { i.post(func(time.Time) { i.core.logStalled(err) }) }
	i.appender.failed = i.fail
	i.uploader = &uploader{
		node: n.config.Node, incarnation: i.id, store: store, log: i.log, clock: n.deps.Clock, telemetry: n.deps.Telemetry,
	}

	i.core = newCore(coreSettings{
		node: n.config.Node, disk: n.config.Disk, incarnation: i.id, tailBytes: n.config.TailBytes,
		flush: flushSettings{
			bytes: n.config.FlushBytes, interval: n.config.FlushInterval, idleInterval: n.config.IdleFlushInterval, maxUploads: maxUploads,
		},
		admission: admissionLimits{
			unlogged: unloggedBytes, uncommitted: n.config.LogBytes, batches: uncommittedBatches, parked: parkedBytes, delay: n.config.ProduceDelay,
		},
	}, i, follower, n.deps.Meta.Keys(), meta.Guards{NodeRev: i.registration.NodeRev, HeadRev: i.registration.HeadRev}, newLease(n.config.LeaseTTL, began))
	i.core.logEnd = i.log.End()
	i.core.logSyncEnd = i.log.Synced()

	now := n.deps.Clock.Now()
	i.core.indexAdvanced(now)
	for id := range i.core.assignment.Epochs {
		if err := follower.Hole(id); err != nil {
			n.deps.Logger.Error("a partition's log has a hole; it is not led", "topic", id.Topic, "partition", id.Partition, "cause", err)
		}
	}
	err = i.log.Replay(func(at wal.LSN, f wal.Frame) error {
		id := meta.Partition{Topic: f.Topic, Partition: f.Partition}
		i.replayedBatches++
		return i.core.replay(id, f.Epoch, at, f.AppendTime, record.Batch(f.Batch), now)
	})
	if err != nil {
		return fmt.Errorf("replay the log on disk: %w", err)
	}
	return nil
}
