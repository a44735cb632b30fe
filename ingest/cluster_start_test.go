package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/proof/mutant"
)

// Time, and the lives of nodes.

func (s simClock) Now() time.Time { return s.c.now }

func (s simClock) NewTimer(time.Duration) clock.Timer {
	fired := make(chan time.Time, 1)
	fired <- s.c.now
	return firedTimer(fired)
}

type firedTimer chan time.Time

func (f firedTimer) C() <-chan time.Time        { return f }
func (f firedTimer) Stop() bool                 { return false }
func (f firedTimer) Reset(d time.Duration) bool { return false }

func (c *cluster) stepTime() bool {
	c.now = c.now.Add(time.Duration(1 + c.choose(int(c.scope.tick))))
	if !c.etcd.down && c.etcd.expire(c.now) > 0 {
		c.notef("etcd: a lease expires")
	}
	return true
}

func (c *cluster) stepWake() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool { return !l.wakeAt.IsZero() && !l.now().Before(l.wakeAt) }))
	if !ok {
		return false
	}
	l.wakeAt = time.Time{}
	l.core.tick(l.now())
	return true
}

func (c *cluster) stepStart() bool {
	var down []*clusterNode
	for _, n := range c.nodes {
		if n.life == nil && !n.paused && !n.cutEtcd && (!n.down || c.calm) {
			down = append(down, n)
		}
	}
	n, ok := oneOf(c, down)
	if !ok || c.etcd.down {
		return false
	}
	switch {
	case n.starting == nil && mutant.On(mutant.A7):
		n.starting = &clusterStart{index: c.listed()}
	case n.starting == nil || n.starting.reg.Node == "":
		return n.register()
	default:
		n.lead()
	}
	return true
}

// register is the first part of a start: from here on no commit of an earlier incarnation can succeed.
func (n *clusterNode) register() bool {
	c := n.c
	start := n.starting
	if start == nil {
		start = &clusterStart{}
	}
	var random [8]byte
	c.values++
	for i := range random {
		random[i] = byte(c.values >> (8 * i))
	}
	info := meta.NodeInfo{ID: n.id, Disk: n.disk, Incarnation: meta.Incarnation(c.values), Roles: []string{meta.RoleIngest}}
	reg, err := c.admin.Register(context.Background(), info, c.scope.ttl)
	if err != nil {
		if _, held := errors.AsType[*meta.HeldError](err); held {
			return false // another disk of its name is alive
		}
		c.failf("register %s: %v", n.id, err)
	}
	if reg.PreviousHead != nil && reg.PreviousHead.WAL > uint64(n.wal.end) {
		c.notef("%s: its disk ends at %d, and a commit said %d: it does not start", n.id, n.wal.end, reg.PreviousHead.WAL)
		n.down = true
		return true
	}
	start.reg = reg
	n.starting = start
	c.notef("%s: incarnation %s registered at %d", n.id, reg.Incarnation, reg.Revision)
	return true
}

// lead is what is behind the registration, in the order of Node.begin.
func (n *clusterNode) lead() {
	c, start := n.c, n.starting
	n.starting = nil
	l := &clusterLife{node: n, reg: start.reg, index: meta.NewIndex(c.keys), calmSince: c.now.Add(n.skew), born: c.now}
	switch {
	case start.index != nil: // a mutant
		l.index = start.index
	case mutant.On(mutant.C2):
		l.index = c.listedTwice()
	default:
		l.index = c.listed() // and what the listing of an earlier moment has yet to see comes by steps
	}
	if err := l.index.HeldBack(n.id); err != nil {
		c.notef("%s: %v", n.id, err)
		n.down = true
		if err := c.etcd.Revoke(context.Background(), start.reg.Lease); err != nil && !errors.Is(err, meta.ErrLeaseGone) {
			panic(err)
		}
		return
	}
	if !mutant.On(mutant.B9) {
		n.wal.synced = n.wal.end // recovery
	}
	n.life = l
	c.starts++
	l.core = newCore(coreSettings{
		node: n.id, disk: n.disk, incarnation: l.reg.Incarnation, tailBytes: c.scope.tailBytes, flush: c.scope.flush, admission: c.scope.admission,
	}, l, l.index, c.keys, meta.Guards{NodeRev: l.reg.NodeRev, HeadRev: l.reg.HeadRev}, newLease(c.scope.ttl, l.now()))
	l.core.logEnd, l.core.logSyncEnd = n.wal.end, n.wal.synced
	c.notef("%s: incarnation %s leads from index %d", n.id, l.reg.Incarnation, l.index.Revision())
	l.core.indexAdvanced(l.now())
	for _, f := range n.wal.frames {
		if err := l.core.replay(f.id, f.epoch, f.at, f.appendTime, slices.Clone(f.batch), l.now()); err != nil {
			c.failf("%s: replay: %v", n.id, err)
		}
	}
	for id, m := range l.core.partitions {
		if c.everOnDisk[id.Topic] && m.durability == meta.DurabilityObject {
			// What was readable from the disk when the topic was changed to object is readable again when it is committed.
			c.hwm[id] = min(c.hwm[id], m.hwm)
		}
	}
	l.core.begin(l.now())
}

// durableOnDisk tells whether a node's log has a batch at an offset, synced.
func (n *clusterNode) durableOnDisk(p meta.Partition, base int64, epoch meta.Epoch) bool {
	return slices.ContainsFunc(n.wal.frames, func(f simFrame) bool {
		return f.id == p && f.batch.BaseOffset() == base && f.epoch == epoch && f.end() <= n.wal.synced
	})
}

func (c *cluster) value() uint64 {
	c.values++
	return c.values
}

func (n *clusterNode) String() string {
	return fmt.Sprintf("%s paused=%t etcd=%t store=%t clients=%t", n.id, n.paused, !n.cutEtcd, !n.cutStore, !n.cutClients)
}
