package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

// The adversary: what may happen to a cluster beside the delays and losses of every message.

func (c *cluster) anyNode(want func(*clusterNode) bool) (*clusterNode, bool) {
	var list []*clusterNode
	for _, n := range c.nodes {
		if want(n) {
			list = append(list, n)
		}
	}
	return oneOf(c, list)
}

func running(n *clusterNode) bool { return n.life != nil || n.starting != nil }

// stepCrash kills a process, or with it the machine: then what was not synced goes, from some point on.
func (c *cluster) stepCrash() bool {
	n, ok := c.anyNode(running)
	if c.chance(40) { // a bad day: what has just come up goes down again
		if young, there := c.anyNode(func(n *clusterNode) bool { return n.life != nil && c.now.Sub(n.life.born) < 2*time.Second }); there {
			n, ok = young, true
		}
	}
	if !ok {
		return false
	}
	c.crash(n, c.chance(50))
	return true
}

// stepPowerAgain takes the power from a node that has just come up after its process was killed: what it found in its log on disk and what it
// had not synced itself may go, whoever has read it.
func (c *cluster) stepPowerAgain() bool {
	n, ok := c.anyNode(func(n *clusterNode) bool { return n.life != nil && n.unlucky && c.now.Sub(n.life.born) < time.Second })
	if !ok {
		return false
	}
	c.fault("power lost after a kill")
	c.crash(n, true)
	return true
}

// crash kills a process, or with it the machine: then what was not synced goes, from some point on.
func (c *cluster) crash(n *clusterNode, power bool) {
	what := "process killed"
	n.unlucky = !power && n.wal.synced < n.wal.end
	if power {
		what = "power lost"
		w := &n.wal
		kept := 0
		for kept < len(w.frames) && (w.frames[kept].at < w.synced || c.chance(60)) {
			kept++
		}
		w.frames = slices.Clone(w.frames[:kept])
		w.end = w.synced
		if kept > 0 {
			w.end = max(w.synced, w.frames[kept-1].end())
		}
	}
	c.fault(what)
	c.notef("%s: %s; its log has %d frames to %d", n.id, what, len(n.wal.frames), n.wal.end)
	n.down = c.chance(50) // for a while
	n.paused = false
	n.stop()
}

func (c *cluster) stepRepair() bool {
	n, ok := c.anyNode(func(n *clusterNode) bool { return n.down })
	if !ok {
		return false
	}
	n.down = false
	return true
}

// stepLoseDisk replaces the disk of a node that is down: nothing is left of its log.
func (c *cluster) stepLoseDisk() bool {
	n, ok := c.anyNode(func(n *clusterNode) bool { return !running(n) })
	if !ok || c.chance(30) {
		return false
	}
	c.fault("disk lost")
	n.disk = fmt.Sprintf("disk-%d-of-%s", c.value(), n.id)
	n.wal = simWAL{}
	c.notef("%s: comes back with %s", n.id, n.disk)
	return true
}

func (c *cluster) stepPause() bool {
	n, ok := c.anyNode(func(n *clusterNode) bool { return n.life != nil && !n.paused })
	if !ok {
		return false
	}
	n.paused = true
	c.fault("process paused")
	c.notef("%s: paused", n.id)
	return true
}

func (c *cluster) stepResume() bool {
	n, ok := c.anyNode(func(n *clusterNode) bool { return n.paused })
	if !ok {
		return false
	}
	n.paused = false
	c.notef("%s: goes on", n.id)
	return true
}

func (c *cluster) stepCut() bool {
	n, ok := oneOf(c, c.nodes)
	if !ok {
		return false
	}
	switch c.choose(4) {
	case 0:
		n.cutEtcd = true
		c.fault("link to etcd cut")
	case 1:
		n.cutStore = true
		c.fault("link to the store cut")
	case 2:
		n.cutClients = true
		c.fault("link to clients cut")
	case 3:
		n.diskFull = true
		c.fault("disk full")
	}
	c.notef("%s", n)
	return true
}

func (c *cluster) stepHeal() bool {
	n, ok := c.anyNode(func(n *clusterNode) bool { return n.cutEtcd || n.cutStore || n.cutClients || n.diskFull })
	if !ok {
		return false
	}
	n.cutEtcd, n.cutStore, n.cutClients, n.diskFull = false, false, false, false
	c.notef("%s", n)
	return true
}

func (c *cluster) stepQuorum() bool {
	if c.etcd.down {
		c.etcd.down = false
		c.etcd.elect(c.now)
		c.notef("etcd: has a leader again")
		return true
	}
	if c.chance(60) {
		c.etcd.elect(c.now)
		c.fault("etcd elects")
		return true
	}
	c.etcd.down = true
	c.fault("etcd without quorum")
	c.notef("etcd: no quorum")
	return true
}

// stepClock sets a node's wall clock ahead. What safety rests on is measured by a clock that nobody sets.
func (c *cluster) stepClock() bool {
	n, ok := oneOf(c, c.nodes)
	if !ok || n.skew > time.Hour {
		return false
	}
	n.skew += time.Duration(1+c.choose(100)) * 100 * time.Millisecond
	c.fault("clock jumps")
	return true
}

// stepStop ends a node in good order: it tells so, lets go of what it leads, and its lease goes last.
func (c *cluster) stepStop() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool { return !l.core.draining && !l.node.cutEtcd }))
	if !ok || c.etcd.down {
		return false
	}
	if err := c.admin.Stopping(context.Background(), l.reg); err != nil {
		if errors.Is(err, meta.ErrLeaseGone) {
			return false
		}
		c.failf("stop %s: %v", l.node.id, err)
	}
	c.fault("graceful stop")
	c.notef("%s: stops", l.node.id)
	l.core.drain(l.now())
	return true
}

func (c *cluster) stepStopped() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool { return l.core.draining && l.core.handedOver() }))
	if !ok {
		return false
	}
	c.notef("%s: has stopped", l.node.id)
	l.core.end(&lostError{cause: errors.New("stopped")})
	return true
}

// stepDrain has an operator drain a node, or take that back.
func (c *cluster) stepDrain() bool {
	if c.etcd.down {
		return false
	}
	for _, n := range c.nodes {
		if d, ok := c.truth.Drains()[n.id]; ok && d.Wanted && (c.calm || c.chance(50)) {
			c.notef("%s: its drain is taken back", n.id)
			c.mustApply(meta.Txn{Then: []meta.Op{meta.DeleteOp(c.keys.Drain(n.id))}})
			return true
		}
	}
	if c.calm || c.chance(60) {
		return false
	}
	n, _ := oneOf(c, c.nodes)
	c.fault("drain")
	c.notef("%s: is drained", n.id)
	c.mustApply(meta.Txn{Then: []meta.Op{meta.PutOp(c.keys.Drain(n.id), []byte(`{"v":1}`))}})
	return true
}

func (c *cluster) mustApply(txn meta.Txn) {
	if _, err := c.etcd.apply(txn); err != nil {
		panic(err)
	}
}

// stepForget gives up nodes that are not alive and whose disk is gone.
func (c *cluster) stepForget() bool {
	if c.etcd.down {
		return false
	}
	for _, n := range c.nodes {
		a, leads := c.truth.Assignment(n.id)
		if _, alive := c.truth.Node(n.id); alive || !leads || a.Disk == n.disk && (c.calm || c.chance(97)) {
			continue
		}
		for {
			result, _, txn, err := c.truth.PlanForget(n.id)
			if err != nil {
				return false // nobody else is there
			}
			if len(txn.Then) == 0 {
				break
			}
			c.notef("%s: is forgotten; %d partitions lose what only its disk had", n.id, len(result.Lost))
			c.mustApply(txn)
		}
		c.forgets++
		c.fault("node forgotten")
		n.down = false
		return true
	}
	return false
}

// stepAlter changes the durability of a topic, the one way at once, the other as far as its leaders are there.
func (c *cluster) stepAlter() bool {
	if c.etcd.down {
		return false
	}
	for i := range c.topics {
		t, alive := c.truth.TopicByID(c.topics[i].ID)
		if !alive || !t.Held {
			continue
		}
		return c.confirm(t)
	}
	if c.calm || c.chance(90) {
		return false
	}
	t, _ := oneOf(c, c.topics)
	now, alive := c.truth.TopicByID(t.ID)
	if !alive || !c.everOnDisk[t.ID] {
		return false
	}
	to := "disk"
	if now.Config.Durability == meta.DurabilityDisk {
		to = "object"
	}
	c.fault("durability changed")
	c.notef("etcd: topic %s has durability %s", t.Name, to)
	if _, err := c.admin.AlterTopic(context.Background(), t.Name, map[string]string{meta.ConfigDurability: to}); err != nil {
		panic(err)
	}
	return true
}

// confirm ends that a topic is held, when every leader has flushed by an index that shows the change.
func (c *cluster) confirm(t meta.Topic) bool {
	for n := range t.Partitions {
		p := meta.Partition{Topic: t.ID, Partition: n}
		at, ok := c.truth.Leader(p)
		if !ok {
			return false
		}
		l := c.nodes[at.Node[0]-'a'].life
		if l == nil || l.ended != nil || l.index.Revision() < c.etcd.revision || !c.leads(l, p, at.Epoch) {
			return false
		}
		m := l.core.partitions[p]
		if m == nil || m.epoch != at.Epoch || m.end != m.committed {
			done := make(chan struct{})
			l.core.flushTopic(t.ID, done, l.now())
			return true
		}
	}
	c.notef("etcd: topic %s is held by no disk any more", t.Name)
	if _, err := c.admin.ConfirmDurability(context.Background(), t); err != nil {
		panic(err)
	}
	return true
}

// stepGrow gives the first topic another partition.
func (c *cluster) stepGrow() bool {
	t, alive := c.truth.TopicByID(c.topics[0].ID)
	if !alive || c.etcd.down || t.Partitions >= 12 || c.chance(80) {
		return false
	}
	c.fault("topic grows")
	if _, err := c.admin.AddPartitions(context.Background(), t.Name, t.Partitions+1); err != nil {
		panic(err)
	}
	c.topics[0].Partitions = t.Partitions + 1
	id := meta.Partition{Topic: t.ID, Partition: t.Partitions}
	c.notef("etcd: %s is new", c.name(id))
	c.ids++
	c.producers = append(c.producers, &clusterProducer{c: c, number: len(c.producers), topic: t.Name, id: id, producer: 1000 + c.ids})
	c.consumers = append(c.consumers, &clusterConsumer{c: c, number: len(c.consumers), id: id})
	return true
}

// stepDeleteTopic deletes the last topic: it goes from every assignment with it.
func (c *cluster) stepDeleteTopic() bool {
	t := c.topics[len(c.topics)-1]
	if _, alive := c.truth.TopicByID(t.ID); !alive || c.etcd.down || c.chance(97) {
		return false
	}
	c.fault("topic deleted")
	c.notef("etcd: topic %s is deleted", t.Name)
	if _, err := c.admin.DeleteTopic(context.Background(), t.Name); err != nil {
		panic(err)
	}
	for p := range c.log {
		if p.Topic == t.ID {
			delete(c.log, p)
		}
	}
	for n := range t.Partitions {
		p := meta.Partition{Topic: t.ID, Partition: n}
		delete(c.acked, p)
		delete(c.observed, p)
		delete(c.hwm, p)
	}
	return true
}
