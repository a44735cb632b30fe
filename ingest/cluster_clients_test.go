package ingest

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/proof/history"
	"github.com/tidemark-io/tidemark/proof/mutant"
	"github.com/tidemark-io/tidemark/record"
)

// clusterProducer is a client that appends to one partition, at whichever node it believes to lead: idempotent with retries, or not
// idempotent and without.
type clusterProducer struct {
	c        *cluster
	number   int
	topic    string
	id       meta.Partition
	producer int64 // -1: not idempotent
	sequence int32
	unacked  []*clusterBatch
	unheard  []*clusterBatch // of those not idempotent, without an answer
	at       *clusterLife    // where it sends
	inFlight int
	round    int  // attempts of an earlier round are not listened to
	resend   bool // something failed: everything unacknowledged is sent again, in order, once nothing is in flight
	gone     bool
	sent     int
}

type clusterBatch struct {
	first    uint64
	count    int
	sequence int32
	attempts int
	invoked  int64
}

func (b *clusterBatch) values() []uint64 {
	out := make([]uint64, b.count)
	for i := range out {
		out[i] = b.first + uint64(i)
	}
	return out
}

// buildValues makes a batch of records with these values.
func buildValues(first uint64, count int, producer int64, sequence int32) record.Batch {
	b := record.NewBuilder(record.None)
	for i := range count {
		value := binary.BigEndian.AppendUint64(make([]byte, 0, 40), first+uint64(i))
		if err := b.Append(record.Record{Timestamp: 1_700_000_000_000 + int64(i), Value: value[:40]}); err != nil {
			panic(err)
		}
	}
	epoch := int16(0)
	if producer < 0 {
		epoch, sequence = -1, -1
	}
	out, err := b.Build(producer, epoch, sequence)
	if err != nil {
		panic(err)
	}
	return out
}

func batchValues(b record.Batch) []uint64 {
	out := make([]uint64, 0, b.Count())
	for r, err := range b.Records(record.DefaultLimits()) {
		if err != nil {
			panic(err)
		}
		out = append(out, binary.BigEndian.Uint64(r.Value))
	}
	return out
}

func (c *cluster) stamp() int64 { return int64(c.operations) }

// believed is the node that a client takes for the leader of a partition, or nil: mostly the one that etcd names, at times any other.
func (c *cluster) believed(p meta.Partition) *clusterLife {
	var at *clusterNode
	if l, ok := c.truth.Leader(p); ok && (c.calm || c.chance(85)) {
		at = c.nodes[l.Node[0]-'a']
	} else {
		at = c.nodes[c.choose(len(c.nodes))]
	}
	if at.life == nil || at.life.ended != nil || at.paused || at.cutClients {
		return nil
	}
	return at.life
}

func (c *cluster) stepProduce() bool {
	p, ok := oneOf(c, c.producers)
	if !ok || p.gone {
		return false
	}
	if p.producer < 0 {
		if c.calm {
			return false
		}
		return p.produceOnce()
	}
	if p.inFlight > 0 && !p.reachable() {
		p.giveUp() // the connection is gone, or nothing comes over it
		return true
	}
	if p.inFlight == 0 && (p.at == nil || !p.reachable() || p.resend) {
		if p.at = c.believed(p.id); p.at == nil {
			return false
		}
	}
	if p.resend {
		if p.inFlight > 0 {
			return false
		}
		p.resend = false
		for i, b := range slices.Clone(p.unacked) {
			p.send(b, i == 0)
		}
		return true
	}
	if len(p.unacked) >= 4 || c.calm || c.scope.topics[0].producers == 0 {
		return false
	}
	if limit := c.batchLimit(); limit > 0 && p.sent >= limit {
		return false
	}
	p.send(p.newBatch(), len(p.unacked) == 1)
	return true
}

func (p *clusterProducer) reachable() bool {
	return p.at != nil && p.at.alive() && !p.at.node.paused && !p.at.node.cutClients
}

func (p *clusterProducer) newBatch() *clusterBatch {
	b := &clusterBatch{first: p.c.values + 1, count: 1 + p.c.choose(3), sequence: p.sequence, invoked: p.c.stamp()}
	p.c.values += uint64(b.count)
	p.sequence += int32(b.count)
	p.unacked = append(p.unacked, b)
	p.sent++
	p.c.operations++
	return b
}

// lostConnection: a node has died, and with it whatever was on the way to it and back.
func (p *clusterProducer) lostConnection(l *clusterLife) {
	if p.at == l {
		p.giveUp()
	}
}

// giveUp stops waiting; what is unacknowledged is sent again while the first attempts are still on their way.
func (p *clusterProducer) giveUp() {
	p.round++
	p.inFlight, p.at = 0, nil
	p.resend = len(p.unacked) > 0
}

func (c *cluster) stepGiveUp() bool {
	p, ok := oneOf(c, c.producers)
	if !ok || p.inFlight == 0 {
		return false
	}
	c.notef("producer %d of %s gives up waiting", p.number, c.name(p.id))
	p.giveUp()
	return true
}

// send makes an attempt; first says that it is the oldest batch and nothing else is in flight.
func (p *clusterProducer) send(b *clusterBatch, first bool) {
	c, at := p.c, p.at
	b.attempts++
	p.inFlight++
	round := p.round
	c.notef("producer %d sends %d+%d sequence %d to %s/%s, attempt %d", p.number, b.first, b.count, b.sequence, c.name(p.id), at.node.id, b.attempts)
	call := &produceCall{request: ProduceRequest{Topic: p.topic, Partition: p.id.Partition}, batch: buildValues(b.first, b.count, p.producer, b.sequence)}
	call.done = func(r ProduceResult, err error) {
		if err == nil {
			// An answer that nobody waits for is a promise all the same.
			c.promised(p.id, at, r, b.values())
		}
		if round != p.round {
			return
		}
		p.inFlight--
		switch reason := ReasonOf(err); reason {
		case "":
			c.acks++
			if b.attempts > 1 {
				c.retries++
			}
			p.finish(b, history.OK, r.BaseOffset)
		case ReasonOutOfOrderSequence, ReasonUnknownProducer:
			p.outOfOrder(first, at, err)
		case ReasonUnknownTopic:
			if _, ok := c.truth.TopicByID(p.id.Topic); ok {
				c.failf("produce to %s: %v", c.name(p.id), err)
			}
			p.gone = true
		case ReasonNotLeader, ReasonBackPressure, ReasonOutcomeUnknown, ReasonUnavailable, ReasonShuttingDown, ReasonUnknownPartition:
			c.notef("producer %d: %d: %s", p.number, b.first, reason)
			p.resend = true
		default:
			c.failf("produce to %s: %v", c.name(p.id), err)
		}
	}
	at.core.produce(p.id, call, at.now())
}

func (p *clusterProducer) finish(b *clusterBatch, outcome history.Outcome, offset int64) {
	p.unacked = slices.DeleteFunc(p.unacked, func(o *clusterBatch) bool { return o == b })
	p.record(b, outcome, offset)
}

func (p *clusterProducer) record(b *clusterBatch, outcome history.Outcome, offset int64) {
	h := p.c.history
	if h == nil {
		return
	}
	p.c.operations++
	h.Produce(history.Produce{
		Call:      history.Call{Process: int32(p.number), Invoke: b.invoked, Complete: p.c.stamp()},
		Partition: p.c.inHistory(p.id), Value: b.first, Count: b.count, Outcome: outcome, Offset: offset,
	})
}

// outOfOrder: a node that really leads must know every sequence, but for those that were lost with a disk.
func (p *clusterProducer) outOfOrder(first bool, at *clusterLife, err error) {
	c := p.c
	m := at.core.partitions[p.id]
	if !first || m == nil || !c.leads(at, p.id, m.epoch) {
		p.resend = true
		return
	}
	if len(c.truth.Lost(p.id)) == 0 {
		c.failf("the retry of %d to %s was refused: %v", p.unacked[0].first, c.name(p.id), err)
	}
	// What is in doubt stays in doubt; the producer begins anew.
	for _, b := range p.unacked {
		p.record(b, history.Info, 0)
	}
	c.ids++
	p.producer, p.sequence, p.unacked, p.resend = 1000+c.ids, 0, nil, false
	p.round++
	p.inFlight = 0
}

// produceOnce sends records without a producer id, once.
func (p *clusterProducer) produceOnce() bool {
	c := p.c
	at := c.believed(p.id)
	if at == nil {
		return false
	}
	acks := []Acks{AcksAll, AcksAll, AcksLeader, AcksNone}[c.choose(4)]
	c.operations++
	b := &clusterBatch{first: c.values + 1, count: 1, invoked: c.stamp()}
	c.values++
	c.notef("once: %d to %s/%s acks=%s", b.first, c.name(p.id), at.node.id, acks)
	answered := false
	p.unheard = append(p.unheard, b)
	at.core.produce(p.id, &produceCall{
		request: ProduceRequest{Topic: p.topic, Partition: p.id.Partition, Acks: acks}, batch: buildValues(b.first, 1, -1, 0),
		done: func(r ProduceResult, err error) {
			if answered {
				c.failf("%d was answered twice", b.first)
			}
			answered = true
			p.unheard = slices.DeleteFunc(p.unheard, func(o *clusterBatch) bool { return o == b })
			switch {
			case err == nil && acks == AcksAll:
				c.acks++
				c.promised(p.id, at, r, b.values())
				p.record(b, history.OK, r.BaseOffset)
			case err == nil, ReasonOf(err) == ReasonOutcomeUnknown:
				p.record(b, history.Info, 0)
			default:
				if place, ok := c.where[b.first]; ok {
					c.failf("%d was refused (%v) and is in the log at %s", b.first, err, place)
				}
				c.refused[b.first] = err.Error()
				p.record(b, history.Fail, 0)
			}
		},
	}, at.now())
	return true
}

// promised notes an acknowledgement of acks=all by a node.
func (c *cluster) promised(p meta.Partition, by *clusterLife, r ProduceResult, values []uint64) {
	c.notef("%d+%d acknowledged at %s offset %d, %s", values[0], len(values), c.name(p), r.BaseOffset, r.Reached)
	if _, alive := c.truth.TopicByID(p.Topic); !alive {
		return
	}
	if r.NextOffset-r.BaseOffset != int64(len(values)) {
		c.failf("%d got offsets %d to %d", values[0], r.BaseOffset, r.NextOffset-1)
	}
	committed := r.NextOffset <= c.truth.End(p)
	m := by.core.partitions[p]
	switch {
	case committed:
	case r.Reached == ReachedObject, !c.everOnDisk[p.Topic]:
		c.failf("%d was acknowledged at %s offset %d as in the object store, but %d are committed", values[0], c.name(p), r.BaseOffset, c.truth.End(p))
	case m == nil || !by.node.durableOnDisk(p, r.BaseOffset, m.epoch):
		if !mutant.Built {
			c.failf("%d was acknowledged at %s offset %d, but the disk does not have it synced", values[0], c.name(p), r.BaseOffset)
		}
	}
	if !committed && by.lostForGood(p) {
		return // given up by name while it could not hear of it: the one exception, see outlived
	}
	for i, v := range values {
		c.claim(c.acked, "acknowledged", p, r.BaseOffset+int64(i), v)
	}
}

// lostForGood tells whether what a node has on its disk of a partition was given up, for a node that may not have heard of it.
func (l *clusterLife) lostForGood(p meta.Partition) bool {
	m := l.core.partitions[p]
	return m != nil && len(l.c().truth.Lost(p)) > len(l.index.Lost(p))
}

// clusterConsumer reads one partition from its start on, or goes somewhere else at times.
type clusterConsumer struct {
	c      *cluster
	number int
	id     meta.Partition
	next   int64
}

func (c *cluster) stepPoll() bool {
	r, ok := oneOf(c, c.consumers)
	if !ok {
		return false
	}
	return r.poll()
}

func (r *clusterConsumer) poll() bool {
	c := r.c
	at := c.believed(r.id)
	if at == nil {
		return false
	}
	if !c.calm && c.chance(2) { // it looks at something else
		r.next = c.choose64(r.next + 1)
		if c.history != nil {
			c.history.Assign(history.Assign{Call: r.call(), Partition: c.inHistory(r.id), Offset: r.next})
		}
	}
	c.operations++
	invoked, asked := c.stamp(), c.etcd.revision
	call := &fetchCall{
		partitions: []fetchTarget{{id: r.id, offset: r.next}}, maxBytes: 1 + c.choose(3000), minBytes: 1, deadline: at.now(), reply: make(chan fetchPlan, 1),
	}
	at.core.fetchAsked(call, at.now())
	plan := <-call.reply
	m := at.core.partitions[r.id]
	if plan.err != nil {
		switch ReasonOf(plan.err) {
		case ReasonNotLeader, ReasonUnavailable, ReasonShuttingDown, ReasonUnknownTopic, ReasonUnknownPartition:
		case ReasonOffsetOutOfRange:
			// Only a node that leads by an index not older than the question may say so; the others ask etcd first. See Node.confirmLeads.
			led, ok := at.index.Leader(r.id)
			confirmed := at.index.Revision() >= asked && m != nil && ok && led.Node == at.node.id && led.Epoch == m.epoch
			if (confirmed || mutant.On(mutant.K4)) && r.next <= c.truth.End(r.id) {
				c.failf("%s from %d is out of range at %s, but the log has come to %d: %v", c.name(r.id), r.next, at.node.id, c.truth.End(r.id), plan.err)
			}
		default:
			c.failf("fetch %s from %d: %v", c.name(r.id), r.next, plan.err)
		}
		return true
	}
	got := plan.partitions[0]
	if got.lost.To > 0 {
		r.jump(got.lost.To)
		return true
	}
	var values []uint64
	base := r.next
	switch {
	case got.fromTier:
		if at.node.cutStore {
			return true // it fails, and is tried again
		}
		if _, known := at.index.TopicByID(r.id.Topic); !known {
			return true // deleted, and the assignment that says so waits for a commit in doubt
		}
		b, ok := at.index.Lookup(r.id, r.next)
		if !ok {
			b, known := c.truth.Lookup(r.id, r.next)
			c.failf("%s offset %d is neither in the tail nor in the index of %s at %d, which ends at %d (%v); the mark is %d; etcd at %d has it in %s: %t",
				c.name(r.id), r.next, at.node.id, at.index.Revision(), at.index.End(r.id), at.index.Hole(r.id), got.hwm, c.etcd.revision, b.Object, known)
		}
		if _, there := c.store[b.Object]; !there && at.index.Revision() < c.etcd.revision {
			return true // folded and swept since: it plans anew
		}
		base = b.BaseOffset
		values = c.valuesOf(b)
	default:
		for _, b := range got.tail {
			bytes := record.Batch(b.bytes)
			if bytes == nil {
				f, ok := at.node.wal.read(b.at)
				if !ok || f.id != r.id || f.epoch != b.epoch || f.batch.BaseOffset() != b.base {
					c.failf("the log of %s does not have %s offset %d at %d", at.node.id, c.name(r.id), b.base, b.at)
				}
				bytes = f.batch
			}
			if b.next > got.hwm {
				c.failf("%s gives offset %d above the high watermark %d", c.name(r.id), b.next-1, got.hwm)
			}
			if len(values) == 0 {
				base = b.base
			}
			values = append(values, batchValues(bytes)...)
		}
	}
	c.reads++
	poll := history.Poll{Call: history.Call{Process: 1000 + int32(r.number), Invoke: invoked, Complete: invoked}, From: r.next, HighWatermark: got.hwm}
	for i, v := range values {
		offset := base + int64(i)
		if offset < r.next {
			continue
		}
		if offset != r.next {
			c.failf("%s: a fetch from %d gave %d", c.name(r.id), r.next, offset)
		}
		if at.lostForGood(r.id) {
			if lost := c.truth.Lost(r.id); offset >= lost[len(lost)-1].From {
				break // given up by name, at a node that has not heard of it
			}
		}
		c.claim(c.observed, "read", r.id, offset, v)
		poll.Records = append(poll.Records, history.Record{Offset: offset, Value: v})
		r.next++
	}
	if c.history != nil && len(poll.Records) > 0 {
		poll.Partition = c.inHistory(r.id)
		c.history.Poll(poll)
	}
	return true
}

func (r *clusterConsumer) call() history.Call {
	return history.Call{Process: 1000 + int32(r.number), Invoke: r.c.stamp(), Complete: r.c.stamp()}
}

func (r *clusterConsumer) jump(to int64) {
	r.next = to
	if r.c.history != nil {
		r.c.history.Assign(history.Assign{Call: r.call(), Partition: r.c.inHistory(r.id), Offset: to})
	}
}

func (c *cluster) choose64(n int64) int64 {
	if n > 1<<30 {
		return n - 1 - int64(c.choose(10))
	}
	return int64(c.choose(int(n)))
}

// stepQuery asks for the linearizable ends of the object topics, as a query does, and counts what is below.
func (c *cluster) stepQuery() bool {
	l, ok := oneOf(c, c.lives(func(l *clusterLife) bool { return !l.node.cutEtcd && !c.etcd.down }))
	if !ok || c.history == nil {
		return false
	}
	c.operations++
	invoked := c.stamp()
	c.advance(l.index, c.etcd.revision) // it waits for the revision of a linearizable read
	l.core.indexAdvanced(l.now())
	q := history.Query{Call: history.Call{Process: 2000, Invoke: invoked, Complete: invoked}}
	for _, t := range c.topics {
		if _, alive := c.truth.TopicByID(t.ID); !alive || c.everOnDisk[t.ID] {
			continue
		}
		for n := range t.Partitions {
			p := meta.Partition{Topic: t.ID, Partition: n}
			a := history.Answer{Partition: c.inHistory(p), End: l.index.End(p)}
			if log := c.log[p]; log != nil {
				for offset := range a.End {
					if v, there := log.values[offset]; there {
						a.Count++
						a.Sum += v
					}
				}
			}
			q.Answers = append(q.Answers, a)
		}
	}
	c.history.Query(q)
	return true
}

func (c *cluster) inHistory(p meta.Partition) history.Partition {
	return c.history.Partition(c.name(p))
}

// batchLimit bounds a producer's batches in small scopes; 0 is no bound.
func (c *cluster) batchLimit() int { return c.scope.batches }

func (p *clusterProducer) String() string {
	return fmt.Sprintf("producer %d of %s: %d unacked, %d in flight, resend %t", p.number, p.c.name(p.id), len(p.unacked), p.inFlight, p.resend)
}
