package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/proof/mutant"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier"
)

// What can happen to logs on disk and to objects in the store.

func (c *cluster) stepWriteLog() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool { return len(l.queue) > 0 }))
	if !ok {
		return false
	}
	if l.node.diskFull {
		l.core.logStalled(errors.New("no space left on device"))
		c.fault("disk full met")
		return true
	}
	w := &l.node.wal
	n := 1 + c.choose(len(l.queue))
	group := simGroup{}
	for _, q := range l.queue[:n] {
		f := simFrame{at: w.end, id: q.entry.partition, epoch: q.frame.Epoch, appendTime: q.frame.AppendTime, batch: q.frame.Batch}
		w.frames = append(w.frames, f)
		w.end = f.end()
		group.entries, group.at = append(group.entries, q.entry), append(group.at, f.at)
	}
	group.end = w.end
	l.queue = slices.Clone(l.queue[n:])
	l.written = append(l.written, group)
	c.notef("%s: log: %d frames to %d", l.node.id, n, w.end)
	return true
}

func (c *cluster) stepReportWritten() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool { return len(l.written) > 0 }))
	if !ok {
		return false
	}
	g := l.written[0]
	l.written = l.written[1:]
	l.syncWanted = true
	l.core.logWritten(g.entries, g.at, g.end, l.now())
	return true
}

func (c *cluster) stepSync() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool { return l.syncWanted }))
	if !ok {
		return false
	}
	l.syncWanted = false
	l.node.wal.synced = l.node.wal.end
	l.synced = append(l.synced, l.node.wal.end)
	return true
}

func (c *cluster) stepReportSynced() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool { return len(l.synced) > 0 }))
	if !ok {
		return false
	}
	end := l.synced[0]
	l.synced = l.synced[1:]
	c.notef("%s: log: synced to %d", l.node.id, end)
	l.core.logSynced(end, l.now())
	return true
}

func (c *cluster) stepTrim() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool { f := l.node.wal.frames; return len(f) > 0 && f[0].end() <= l.trimTo }))
	if !ok {
		return false
	}
	w := &l.node.wal
	n := 0
	for n < len(w.frames) && w.frames[n].end() <= l.trimTo {
		n++
	}
	n = 1 + c.choose(n) // whole files only: some stay
	w.frames = slices.Clone(w.frames[n:])
	return true
}

func (c *cluster) stepBuild() bool {
	for _, p := range c.puts {
		if p.object != nil || !p.owner.alive() || p.owner.node.paused {
			continue
		}
		var input []tier.L0Batch
		for _, b := range p.batch {
			bytes := record.Batch(b.bytes)
			if bytes == nil {
				f, ok := p.owner.node.wal.read(b.at)
				if !ok || f.id != b.id || f.epoch != b.epoch || f.batch.BaseOffset() != b.base {
					c.failf("the log of %s does not have %s offset %d at %d", p.owner.node.id, c.name(b.id), b.base, b.at)
				}
				bytes = f.batch
			}
			input = append(input, tier.L0Batch{Topic: b.id.Topic, Partition: b.id.Partition, AppendTime: b.appendTime, Batch: slices.Clone(bytes)})
		}
		object, err := tier.BuildL0(input)
		if err != nil {
			c.failf("build %s: %v", p.name, err)
		}
		p.object = object
		return true
	}
	return false
}

func (c *cluster) stepStore() bool {
	var ready []*clusterPut
	for _, p := range c.puts {
		if p.object != nil && (!p.owner.alive() || !p.owner.node.cutStore) {
			ready = append(ready, p)
		}
	}
	p, ok := oneOf(c, ready)
	if !ok {
		return false
	}
	if p.owner.alive() && !c.calm && c.chance(8) {
		what := "store fails before"
		if c.chance(50) {
			what = "store fails after" // it is there, and nobody knows
			c.put(p.name, p.object)
		}
		c.fault(what)
		c.notef("%s: store: %s fails (%s)", p.owner.node.id, p.name, what)
		if mutant.On(mutant.K3) && !p.owner.node.paused {
			c.stored(p)
		} else if !p.job.isFold() && !p.owner.node.paused {
			p.owner.core.uploadFailing(errors.New("503"))
		}
		return true
	}
	if p.owner.node.paused && p.owner.alive() {
		return false // it lands; its owner hears when it wakes
	}
	c.put(p.name, p.object)
	if !p.owner.alive() {
		c.puts = slices.DeleteFunc(c.puts, func(o *clusterPut) bool { return o == p })
		c.fault("put lands after its node died")
		return true
	}
	c.notef("%s: store: %s is there", p.owner.node.id, p.name)
	c.stored(p)
	return true
}

// stored tells a node that an object of its is there.
func (c *cluster) stored(p *clusterPut) {
	c.puts = slices.DeleteFunc(c.puts, func(o *clusterPut) bool { return o == p })
	p.job.record = &meta.L0Record{
		Node: p.owner.node.id, Incarnation: p.owner.reg.Incarnation, Object: p.name, Size: p.object.Size, IndexOffset: p.object.IndexOffset,
		IndexLength: int32(len(p.object.IndexBytes)), IndexCRC: p.object.IndexCRC, Inline: true, Index: p.object.Index,
	}
	p.owner.core.uploaded(p.job, p.owner.now())
}

// stepFold merges some neighbours among the records that a node's index shows as its own.
func (c *cluster) stepFold() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool {
		return l.folding == nil && (l.index.Revision() >= l.foldRev || mutant.On(mutant.C6)) && !l.node.cutStore && len(l.index.Records(l.node.id)) >= 2
	}))
	if !ok {
		return false
	}
	records := l.index.Records(l.node.id)
	from := c.choose(len(records) - 1)
	inputs := records[from:min(len(records), from+2+c.choose(3))]
	var keys []string
	for _, r := range inputs {
		if _, there := c.store[r.Object]; !there {
			if l.index.Revision() == c.etcd.revision {
				c.failf("a record names object %s, which does not exist", r.Object)
			}
			return false // folded since: the node will see
		}
		keys = append(keys, c.keys.L0(r.Node, r.Incarnation, r.Seq))
	}
	object, err := tier.Fold(context.Background(), c.store, inputs, func(e meta.L0Entry) bool {
		_, alive := l.index.TopicByID(e.Topic)
		return alive
	})
	if err != nil {
		c.failf("fold: %v", err)
	}
	number := l.core.foldNumber()
	job := &commitJob{number: number, replaces: keys, cutAt: l.now(), committed: make(chan meta.Revision, 1)}
	if c.chance(10) {
		l.core.foldAbandoned(number, l.now())
		return true
	}
	l.folding = job
	c.notef("%s: fold %d of %d records", l.node.id, number, len(keys))
	if len(object.Index.Entries) == 0 {
		l.core.uploaded(job, l.now())
		return true
	}
	c.puts = append(c.puts, &clusterPut{owner: l, job: job, object: object, name: meta.L0ObjectName(l.node.id, l.reg.Incarnation, number, 0)})
	return true
}

// stepSweep deletes an object that nothing refers to, as a node's index has it.
func (c *cluster) stepSweep() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool { return !l.node.cutStore }))
	if !ok {
		return false
	}
	var garbage []string
	mine := fmt.Sprintf("l0/%s/", l.node.id)
	for object := range c.store {
		if strings.HasPrefix(object, mine) && l.index.IsGarbage(object) {
			garbage = append(garbage, object)
		}
	}
	slices.Sort(garbage)
	object, ok := oneOf(c, garbage)
	if !ok {
		return false
	}
	delete(c.store, object)
	c.notef("%s: store: %s deleted", l.node.id, object)
	if c.truth.Names(object) {
		c.failf("object %s was deleted, and a record names it", object)
	}
	return true
}
