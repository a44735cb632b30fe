package ingest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/tidemark-io/tidemark/ingest/wal"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/proof/history"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier"
)

// cluster is one simulated world: nodes that run the real core over the real index and the real plans of leadership, around models of
// disk, object store and etcd, with clients. Everything that happens is a step, and a chooser decides which: a seed (cluster_sim_test.go)
// or an exhaustive search (cluster_small_test.go).
type cluster struct {
	scope  scope
	choose func(n int) int // 0 <= choice < n

	trace   []string
	tracing bool
	began   time.Time
	now     time.Time
	calm    bool // the adversary rests and everything works: what is there must come to an end

	etcd    *clusterEtcd
	keys    meta.Keys
	admin   *meta.Client
	truth   *meta.Index // at the newest revision
	store   simStore
	topics  []meta.Topic
	nodes   []*clusterNode
	network []*clusterRequest // transactions on their way to etcd, and their answers on the way back
	puts    []*clusterPut
	faults  map[string]int

	producers []*clusterProducer
	consumers []*clusterConsumer
	values    uint64
	ids       int64
	history   *history.History // nil in small scopes

	// What must hold.
	log        map[meta.Partition]*clusterLog
	where      map[uint64]string // value to its place in the log
	refused    map[uint64]string // value that was refused for good, and with what
	acked      map[meta.Partition]map[int64]uint64
	observed   map[meta.Partition]map[int64]uint64
	hwm        map[meta.Partition]int64
	everOnDisk map[meta.TopicID]bool

	operations, acks, retries, reads, folds, starts, moves, takeovers, releases, elections, forgets int
}

// clusterLog is what the committed log of a partition has held so far.
type clusterLog struct {
	values map[int64]uint64
	end    int64
}

// scope says how large a world is.
type scope struct {
	nodes     int
	ttl       time.Duration
	flush     flushSettings
	admission admissionLimits
	tailBytes int64
	topics    []scopeTopic
	tick      time.Duration // the longest
	batches   int           // of one producer; 0 is no bound
}

type scopeTopic struct {
	partitions int32
	durability meta.Durability
	producers  int // a partition, idempotent
	once       bool
}

// simStopped is what a check panics with.
type simStopped struct{ message string }

func (c *cluster) failf(format string, args ...any) {
	panic(simStopped{fmt.Sprintf(format, args...)})
}

func (c *cluster) notef(format string, args ...any) {
	if c.tracing {
		c.trace = append(c.trace, fmt.Sprintf("%9.3f  %s", c.now.Sub(c.began).Seconds(), fmt.Sprintf(format, args...)))
	}
}

func (c *cluster) chance(percent int) bool { return c.choose(100) < percent }

func (c *cluster) fault(name string) { c.faults[name]++ }

// clusterNode is a machine with a name and a disk.
type clusterNode struct {
	c    *cluster
	id   meta.NodeID
	disk string
	wal  simWAL
	skew time.Duration // its wall clock, from the world's

	life     *clusterLife
	starting *clusterStart

	paused               bool
	cutEtcd, cutStore    bool
	cutClients, diskFull bool
	down                 bool // not started again for now
	unlucky              bool // it was killed with something in its log that was not synced
}

// clusterStart is a start that has got as far as its registration.
type clusterStart struct {
	reg   meta.Registration
	index *meta.Index // only with a mutant: read before the registration
}

// clusterLife is one incarnation of a node and the outside of its core.
type clusterLife struct {
	node  *clusterNode
	reg   meta.Registration
	core  *core
	index *meta.Index
	ended error

	queue      []queuedBatch
	written    []simGroup // written, not reported
	syncWanted bool
	synced     []wal.LSN // synced, not reported
	trimTo     wal.LSN
	wakeAt     time.Time
	keepAlives []time.Time

	folding *commitJob
	foldRev meta.Revision
	born    time.Time // the world's

	placing    bool          // an assignment is on its way
	placeAfter meta.Revision // not before the index is there
	nodesRev   meta.Revision
	calmSince  time.Time
}

// clusterPut is an object on its way to the store.
type clusterPut struct {
	owner  *clusterLife
	job    *commitJob
	name   string
	object *tier.L0Object // nil until it is built
	batch  []plannedBatch
}

// clusterRequest is a transaction on its way to etcd, and its answer on the way back.
type clusterRequest struct {
	owner   *clusterLife
	txn     meta.Txn
	place   *meta.PlacementStep // an assignment, not a commit
	applied bool
	result  meta.TxnResult
	err     error
	waited  bool // the owner has not heard yet
}

func (l *clusterLife) c() *cluster { return l.node.c }

func (l *clusterLife) alive() bool { return l.node.life == l && l.ended == nil }

func (l *clusterLife) now() time.Time { return l.node.c.now.Add(l.node.skew) }

func (l *clusterLife) appendLog(e *entry, sync bool) {
	l.queue = append(l.queue, queuedBatch{entry: e, frame: wal.Frame{
		Topic: e.partition.Topic, Partition: e.partition.Partition, Epoch: e.epoch, AppendTime: e.appendTime, Batch: e.batch,
	}})
	_ = sync
}

func (l *clusterLife) trimLog(below wal.LSN) { l.trimTo = max(l.trimTo, below) }

func (l *clusterLife) upload(job *commitJob, batches []plannedBatch) {
	c := l.c()
	c.puts = append(c.puts, &clusterPut{owner: l, job: job, batch: batches, name: meta.L0ObjectName(l.node.id, l.reg.Incarnation, job.number, 0)})
}

func (l *clusterLife) sendCommit(txn *meta.Txn) {
	c := l.c()
	c.network = append(c.network, &clusterRequest{owner: l, txn: *txn, waited: true})
}

func (l *clusterLife) keepAlive() { l.keepAlives = append(l.keepAlives, l.now()) }

func (l *clusterLife) wake(at time.Time) {
	if l.wakeAt.IsZero() || at.Before(l.wakeAt) {
		l.wakeAt = at
	}
}

func (l *clusterLife) letGo(n int, _ time.Time)    { l.c().releases += n }
func (l *clusterLife) tookOver(n int, _ time.Time) { l.c().takeovers += n }
func (l *clusterLife) committed()                  {}
func (l *clusterLife) changed()                    {}
func (l *clusterLife) troubled(string)             {}
func (l *clusterLife) end(cause error)             { l.ended = cause }

// newCluster makes a world; choose decides whatever is left open.
func newCluster(s scope, choose func(int) int) *cluster {
	began := time.UnixMilli(1_700_000_000_000)
	c := &cluster{
		scope: s, choose: choose, began: began, now: began, keys: meta.NewKeys("sim"), store: make(simStore), faults: make(map[string]int),
		log: make(map[meta.Partition]*clusterLog), where: make(map[uint64]string), refused: make(map[uint64]string),
		acked: make(map[meta.Partition]map[int64]uint64), observed: make(map[meta.Partition]map[int64]uint64), hwm: make(map[meta.Partition]int64),
		everOnDisk: make(map[meta.TopicID]bool),
	}
	c.truth = meta.NewIndex(c.keys)
	c.etcd = newClusterEtcd(c.keys.Prefix(), func() time.Time { return c.now })
	c.etcd.applied = c.changed
	var err error
	if c.admin, err = meta.New(meta.Config{KV: c.etcd, Cluster: "sim", Clock: simClock{c}, Random: &simRandom{rand.NewPCG(1, 2)}}); err != nil {
		panic(err)
	}
	for n := range s.nodes {
		id := meta.NodeID(rune('a' + n))
		c.nodes = append(c.nodes, &clusterNode{c: c, id: id, disk: "disk-1-of-" + string(id)})
	}
	for n, st := range s.topics {
		config := meta.DefaultTopicConfig()
		config.Durability = st.durability
		t, err := c.admin.CreateTopic(context.Background(), fmt.Sprintf("t%d", n), st.partitions, config)
		if err != nil {
			panic(err)
		}
		c.topics = append(c.topics, t)
		c.everOnDisk[t.ID] = st.durability == meta.DurabilityDisk
		for p := range st.partitions {
			id := meta.Partition{Topic: t.ID, Partition: p}
			for range st.producers {
				c.ids++
				c.producers = append(c.producers, &clusterProducer{c: c, number: len(c.producers), topic: t.Name, id: id, producer: 1000 + c.ids})
			}
			if st.once {
				c.producers = append(c.producers, &clusterProducer{c: c, number: len(c.producers), topic: t.Name, id: id, producer: -1})
			}
		}
	}
	return c
}

// simRandom is where the world's topics have their ids from.
type simRandom struct{ source *rand.PCG }

func (r *simRandom) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.source.Uint64())
	}
	return len(p), nil
}

// simClock is the world's time; timers of it fire at once, since what waits for etcd here never has to.
type simClock struct{ c *cluster }

// name is a partition for people.
func (c *cluster) name(p meta.Partition) string {
	for _, t := range c.topics {
		if t.ID == p.Topic {
			return fmt.Sprintf("%s/%d", t.Name, p.Partition)
		}
	}
	return p.Topic.String()[:6]
}

// changed looks at what one revision did: the log may only have grown, every record has its object, and what was promised is there.
func (c *cluster) changed(change meta.Change) {
	loaded := c.etcd.records(c.keys, change)
	ends := make(map[meta.Partition]int64)
	for _, r := range loaded {
		for _, e := range r.Index.Entries {
			ends[e.Where()] = c.truth.End(e.Where())
		}
	}
	if err := c.truth.Apply(change, loaded); err != nil {
		panic(err)
	}
	for _, key := range slices.Sorted(maps.Keys(loaded)) {
		r := loaded[key]
		for _, e := range r.Index.Entries {
			if _, alive := c.truth.TopicByID(e.Topic); alive && !r.Excludes(e.Where()) {
				c.landed(r, e)
			}
		}
	}
	for _, p := range sortedPartitions(ends) {
		if err := c.truth.Hole(p); err != nil {
			c.failf("the log has a hole or an overlap: %v", err)
		}
	}
	for _, event := range change.Events {
		if strings.HasPrefix(event.KV.Key, c.keys.Prefix()+"manifest/") {
			c.lostSome()
		}
	}
}

// landed checks a block that has become part of the log: what is known at its offsets stays, the rest is new.
func (c *cluster) landed(r *meta.L0Record, e meta.L0Entry) {
	p := e.Where()
	log := c.log[p]
	if log == nil {
		log = &clusterLog{values: make(map[int64]uint64)}
		c.log[p] = log
	}
	at := e.BaseOffset
	for _, v := range c.valuesOf(meta.Block{L0Entry: e, Object: r.Object}) {
		if known, there := log.values[at]; there {
			if known != v {
				c.failf("%s offset %d was %d and is %d in %s", c.name(p), at, known, v, r.Object)
			}
		} else {
			if at < log.end {
				c.failf("%s offset %d is filled after the log had come to %d", c.name(p), at, log.end)
			}
			log.values[at] = v
			c.appeared(p, at, v)
		}
		at++
	}
	log.end = max(log.end, at)
}

// appeared checks a record that has just become part of the log.
func (c *cluster) appeared(p meta.Partition, offset int64, v uint64) {
	here := fmt.Sprintf("%s offset %d", c.name(p), offset)
	if there, twice := c.where[v]; twice {
		c.failf("%d is in the log twice: at %s and %s", v, there, here)
	}
	c.where[v] = here
	if why, ok := c.refused[v]; ok {
		c.failf("%d was refused (%s) and is in the log at %s", v, why, here)
	}
	for what, claims := range map[string]map[int64]uint64{"acknowledged": c.acked[p], "read": c.observed[p]} {
		if claimed, ok := claims[offset]; ok {
			if claimed != v {
				c.failf("%d was %s at %s, but the log has %d there", claimed, what, here, v)
			}
			delete(claims, offset)
		}
	}
}

// valuesOf reads a block: the object must be there, and right.
func (c *cluster) valuesOf(b meta.Block) []uint64 {
	if _, ok := c.store[b.Object]; !ok {
		c.failf("a record names object %s, which does not exist", b.Object)
	}
	got, err := tier.ReadBlock(context.Background(), c.store, b.Object, b.L0Entry, nil)
	if err != nil {
		c.failf("read %s at %d: %v", b.Object, b.Position, err)
	}
	var out []uint64
	at := b.BaseOffset
	for rest := got; len(rest) > 0; {
		batch, after, err := record.Next(rest)
		if err != nil {
			c.failf("read %s at %d: %v", b.Object, b.Position, err)
		}
		if batch.BaseOffset() != at || batch.LeaderEpoch() != b.Epoch {
			c.failf("%s: a batch says offset %d epoch %d, the index %d and %d", b.Object, batch.BaseOffset(), batch.LeaderEpoch(), at, b.Epoch)
		}
		out = append(out, batchValues(batch)...)
		at, rest = batch.NextOffset(), after
	}
	if at != b.End() {
		c.failf("%s ends at %d, its entry at %d", b.Object, at, b.End())
	}
	return out
}

// claim notes that somebody was told that a value stands at an offset.
func (c *cluster) claim(claims map[meta.Partition]map[int64]uint64, what string, p meta.Partition, offset int64, v uint64) {
	if _, alive := c.truth.TopicByID(p.Topic); !alive {
		return // deleted with its records
	}
	if log := c.log[p]; log != nil && offset < log.end {
		if known, there := log.values[offset]; !there || known != v {
			c.failf("%d was %s at %s offset %d, but the log has %d there", v, what, c.name(p), offset, known)
		}
		return
	}
	for _, r := range c.truth.Lost(p) {
		if r.From <= offset && offset < r.To {
			return
		}
	}
	if claims[p] == nil {
		claims[p] = make(map[int64]uint64)
	}
	if before, ok := claims[p][offset]; ok && before != v {
		c.failf("%d was %s at %s offset %d, and %d before", v, what, c.name(p), offset, before)
	}
	claims[p][offset] = v
}

// lostSome takes out of what was promised what an operator has given up.
func (c *cluster) lostSome() {
	for _, claims := range []map[meta.Partition]map[int64]uint64{c.acked, c.observed} {
		for p, list := range claims {
			for _, r := range c.truth.Lost(p) {
				maps.DeleteFunc(list, func(offset int64, _ uint64) bool { return r.From <= offset && offset < r.To })
			}
		}
	}
}

// leads tells whether a life leads a partition as etcd has it: registered, assigned at this epoch, and not released.
func (c *cluster) leads(l *clusterLife, p meta.Partition, epoch meta.Epoch) bool {
	at, ok := c.truth.Leader(p)
	alive, registered := c.truth.Node(l.node.id)
	return ok && registered && alive.Incarnation == l.reg.Incarnation && at.Node == l.node.id && at.Epoch == epoch && !c.truth.Released(l.node.id, p, epoch)
}

// watchMarks checks that no high watermark goes back, and that none is above what its topic promises.
func (c *cluster) watchMarks(l *clusterLife) {
	for id, m := range l.core.partitions {
		if m.hwm > m.end || m.committed > m.end {
			c.failf("%s: hwm %d, committed %d, end %d", c.name(id), m.hwm, m.committed, m.end)
		}
		if !c.leads(l, id, m.epoch) {
			continue
		}
		if m.hwm < c.hwm[id] {
			c.failf("the high watermark of %s went back from %d to %d", c.name(id), c.hwm[id], m.hwm)
		}
		c.hwm[id] = m.hwm
		if !c.everOnDisk[id.Topic] && m.hwm > c.truth.End(id) {
			c.failf("the high watermark of %s is %d, but only %d are committed", c.name(id), m.hwm, c.truth.End(id))
		}
	}
}

// truthStands checks that every record names an object that exists.
func (c *cluster) truthStands() {
	for _, n := range c.nodes {
		for _, r := range c.truth.Records(n.id) {
			if _, ok := c.store[r.Object]; !ok {
				c.failf("record %d of node %s names object %s, which does not exist", r.Seq, n.id, r.Object)
			}
		}
	}
}

// put stores an object: a name stands for one content for ever.
func (c *cluster) put(name string, object *tier.L0Object) {
	body := bytes.Join(object.Body, nil)
	if before, there := c.store[name]; there && !bytes.Equal(before, body) {
		c.notef("store: %s is written over with other bytes", name)
	}
	c.store[name] = body
}

func (c *cluster) String() string { return strings.Join(c.trace, "\n") }
