package ingest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemark-io/tidemark/meta"
)

// simEtcd is a model of etcd: a map with revisions, and its history. It executes a transaction when it is told to.
type simEtcd struct {
	keys     meta.Keys
	revision meta.Revision
	now      map[string]meta.KeyValue
	changes  []simChange // by revision, from 1 on
}

// simChange is what one revision did.
type simChange struct {
	revision meta.Revision
	puts     []meta.KeyValue
	deletes  []string
}

func newSimEtcd() *simEtcd {
	return &simEtcd{keys: meta.NewKeys("sim"), now: make(map[string]meta.KeyValue)}
}

// apply executes a transaction.
func (e *simEtcd) apply(txn meta.Txn) meta.TxnResult {
	succeeded := true
	for _, c := range txn.If {
		if c.Create != 0 {
			panic("sim: no commit compares create revisions")
		}
		succeeded = succeeded && e.now[c.Key].Mod == c.Mod
	}
	ops := txn.Else
	if succeeded {
		ops = txn.Then
	}
	result := meta.TxnResult{Succeeded: succeeded, Revision: e.revision}
	change := simChange{revision: e.revision + 1}
	for _, op := range ops {
		switch op.Kind {
		case meta.Get:
			var found *meta.KeyValue
			if kv, ok := e.now[op.Key]; ok {
				found = &kv
			}
			result.Gets = append(result.Gets, found)
		case meta.Put:
			change.puts = append(change.puts, meta.KeyValue{Key: op.Key, Value: slices.Clone(op.Value), Mod: change.revision})
		case meta.Delete:
			if _, ok := e.now[op.Key]; ok {
				change.deletes = append(change.deletes, op.Key)
			}
		}
	}
	if len(change.puts)+len(change.deletes) == 0 {
		return result
	}
	for _, key := range change.deletes {
		delete(e.now, key)
	}
	for _, kv := range change.puts {
		e.now[kv.Key] = kv
	}
	e.revision, result.Revision = change.revision, change.revision
	e.changes = append(e.changes, change)
	return result
}

func (e *simEtcd) put(key string, value []byte) meta.Revision {
	return e.apply(meta.Txn{Then: []meta.Op{meta.PutOp(key, value)}}).Revision
}

// Keys below the prefix whose names and values are the world's own.
const (
	simMoves    = "moves" // epochs, as in a release
	simStopping = "stopping"
)

// simHead and simNode are values as package meta writes them.
type simHead struct {
	Version     int    `json:"v"`
	Incarnation string `json:"incarnation"`
	Seq         uint64 `json:"seq"`
	Settled     uint64 `json:"settled"`
	WAL         uint64 `json:"wal"`
}

func (h simHead) encode() []byte {
	out, err := json.Marshal(h)
	if err != nil {
		panic(err)
	}
	return out
}

func decodeSimHead(p []byte) simHead {
	var h simHead
	if err := json.Unmarshal(p, &h); err != nil {
		panic(err)
	}
	return h
}

// encodeSimAssignment writes an assignment as docs/formats/etcd.md draws it, a run a partition.
func encodeSimAssignment(disk string, epochs map[meta.Partition]meta.Epoch) []byte {
	out := binary.AppendUvarint([]byte{1}, uint64(len(disk)))
	return appendSimEpochs(append(out, disk...), epochs)
}

func appendSimEpochs(out []byte, epochs map[meta.Partition]meta.Epoch) []byte {
	byTopic := make(map[meta.TopicID][]meta.Partition)
	var topics []meta.TopicID
	for _, p := range sortedPartitions(epochs) {
		if len(byTopic[p.Topic]) == 0 {
			topics = append(topics, p.Topic)
		}
		byTopic[p.Topic] = append(byTopic[p.Topic], p)
	}
	out = binary.AppendUvarint(out, uint64(len(topics)))
	for _, id := range topics {
		out = append(out, id[:]...)
		out = binary.AppendUvarint(out, uint64(len(byTopic[id])))
		for _, p := range byTopic[id] {
			out = binary.AppendUvarint(out, uint64(p.Partition))
			out = binary.AppendUvarint(out, 1)
			out = binary.AppendUvarint(out, uint64(epochs[p]))
		}
	}
	return out
}

// decodeSimEpochs reads what a release holds: a version, then runs of partitions by topic.
func decodeSimEpochs(p []byte) map[meta.Partition]meta.Epoch {
	p = p[1:]
	next := func() uint64 {
		v, n := binary.Uvarint(p)
		p = p[n:]
		return v
	}
	out := make(map[meta.Partition]meta.Epoch)
	for range next() {
		var id meta.TopicID
		p = p[copy(id[:], p):]
		for range next() {
			first, count, epoch := next(), next(), next()
			for n := range count {
				out[meta.Partition{Topic: id, Partition: int32(first + n)}] = meta.Epoch(epoch)
			}
		}
	}
	return out
}

// simIndex is the log as etcd has it at a revision; it goes on as far as it is told to. It is written for being plainly
// right: everything is made anew from the records whenever they change.
type simIndex struct {
	etcd     *simEtcd
	node     meta.NodeID
	revision meta.Revision

	topics      map[meta.TopicID]meta.Topic
	topicsRev   meta.Revision
	assignments map[meta.Revision]meta.Assignment // of the node, by the revision that wrote them; the world fills it
	assigned    *meta.Assignment
	released    map[meta.Partition]meta.Epoch
	asked       map[meta.Partition]meta.Epoch // to be let go
	stopping    bool
	letGoRev    meta.Revision
	story       simStory
	alive       string // incarnation in nodes/<id>
	head        simHead
	records     map[string]*meta.L0Record
	logs        map[meta.Partition]*simLog
}

// simStory is what a story says of the log; no step of the world brings it about.
type simStory struct {
	lost  map[meta.Partition][]meta.OffsetRange
	holes map[meta.Partition]error
}

type simLog struct {
	blocks    []meta.Block // by base offset
	end       int64
	hole      error
	producers []meta.L0Producer // by offset
}

func newSimIndex(etcd *simEtcd, node meta.NodeID, assignments map[meta.Revision]meta.Assignment) *simIndex {
	return &simIndex{
		etcd: etcd, node: node, assignments: assignments, topics: make(map[meta.TopicID]meta.Topic),
		records: make(map[string]*meta.L0Record), logs: make(map[meta.Partition]*simLog),
	}
}

// advance applies whole revisions up to one.
func (x *simIndex) advance(to meta.Revision) {
	recordsChanged := false
	for x.revision < to {
		change := x.etcd.changes[x.revision]
		for _, key := range change.deletes {
			recordsChanged = x.take(key, meta.KeyValue{Key: key}, false) || recordsChanged
		}
		for _, kv := range change.puts {
			recordsChanged = x.take(kv.Key, kv, true) || recordsChanged
		}
		x.revision = change.revision
	}
	if recordsChanged {
		x.rebuild()
	}
}

func (x *simIndex) take(key string, kv meta.KeyValue, put bool) bool {
	rest := strings.TrimPrefix(key, x.etcd.keys.Prefix())
	switch {
	case strings.HasPrefix(rest, "l0/"):
		delete(x.records, key)
		if put {
			x.records[key] = decodeSimRecord(rest, kv.Value)
		}
		return true
	case strings.HasPrefix(rest, "topics/"):
		id, config, _ := strings.Cut(strings.TrimPrefix(rest, "topics/"), "/")
		_ = config
		topic, err := meta.ParseTopicID(id)
		if err != nil {
			panic(err)
		}
		x.topicsRev = x.etcd.changes[x.revision].revision
		delete(x.topics, topic)
		if put {
			x.topics[topic] = decodeSimTopic(topic, kv)
		} else {
			for p := range x.logs {
				if p.Topic == topic {
					delete(x.logs, p)
				}
			}
		}
	case key == x.etcd.keys.Assign(x.node):
		x.assigned = nil
		if put {
			a := x.assignments[kv.Mod]
			x.assigned = &a
		}
	case key == x.etcd.keys.Release(x.node):
		x.released = decodeSimEpochs(kv.Value)
	case rest == simMoves:
		x.asked, x.letGoRev = nil, x.etcd.changes[x.revision].revision
		if put {
			x.asked = decodeSimEpochs(kv.Value)
		}
	case rest == simStopping:
		x.stopping, x.letGoRev = put, x.etcd.changes[x.revision].revision
	case key == x.etcd.keys.Node(x.node):
		x.alive = string(kv.Value)
	case key == x.etcd.keys.Head(x.node):
		x.head = decodeSimHead(kv.Value)
	}
	return false
}

func decodeSimRecord(rest string, value []byte) *meta.L0Record {
	parts := strings.Split(rest, "/")
	r, err := meta.DecodeL0Record(value)
	if err != nil {
		panic(err)
	}
	incarnation, err := strconv.ParseUint(parts[2], 16, 64)
	if err != nil {
		panic(err)
	}
	seq, err := strconv.ParseUint(parts[3], 10, 64)
	if err != nil {
		panic(err)
	}
	r.Node, r.Incarnation, r.Seq = meta.NodeID(parts[1]), meta.Incarnation(incarnation), meta.Seq(seq)
	return r
}

// A topic's value is "<name> <partitions> <durability>".
func encodeSimTopic(t meta.Topic) []byte {
	return fmt.Appendf(nil, "%s %d %d", t.Name, t.Partitions, t.Config.Durability)
}

func decodeSimTopic(id meta.TopicID, kv meta.KeyValue) meta.Topic {
	t := meta.Topic{ID: id, Config: meta.DefaultTopicConfig(), Revision: kv.Mod}
	var durability int
	if _, err := fmt.Sscanf(string(kv.Value), "%s %d %d", &t.Name, &t.Partitions, &durability); err != nil {
		panic(err)
	}
	t.Config.Durability = meta.Durability(durability)
	return t
}

func (x *simIndex) rebuild() {
	ends := make(map[meta.Partition]int64)
	for p, log := range x.logs {
		ends[p] = log.end
	}
	x.logs = make(map[meta.Partition]*simLog)
	log := func(p meta.Partition) *simLog {
		if x.logs[p] == nil {
			x.logs[p] = &simLog{end: ends[p]}
		}
		return x.logs[p]
	}
	keys := make([]string, 0, len(x.records))
	for key := range x.records {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		r := x.records[key]
		for _, e := range r.Index.Entries {
			if _, alive := x.topics[e.Topic]; alive && !r.Excludes(e.Where()) {
				l := log(e.Where())
				l.blocks = append(l.blocks, meta.Block{L0Entry: e, Object: r.Object})
			}
		}
		for _, q := range r.Index.Producers {
			if _, alive := x.topics[q.Topic]; alive && !r.Excludes(q.Where()) {
				l := log(q.Where())
				l.producers = append(l.producers, q)
			}
		}
	}
	for p, l := range x.logs {
		slices.SortFunc(l.blocks, func(a, b meta.Block) int { return int(a.BaseOffset - b.BaseOffset) })
		slices.SortFunc(l.producers, func(a, b meta.L0Producer) int { return int(a.BaseOffset - b.BaseOffset) })
		at := int64(0)
		for _, b := range l.blocks {
			if b.BaseOffset != at && l.hole == nil {
				l.hole = fmt.Errorf("partition %d: offset %d is followed by %d in %s", p.Partition, at-1, b.BaseOffset, b.Object)
			}
			at = b.End()
		}
		l.end = max(l.end, at)
	}
}

// ---- logIndex

func (x *simIndex) Revision() meta.Revision       { return x.revision }
func (x *simIndex) TopicsRevision() meta.Revision { return x.topicsRev }
func (x *simIndex) Start(meta.Partition) int64    { return 0 }

func (x *simIndex) Lost(p meta.Partition) []meta.OffsetRange { return x.story.lost[p] }

func (x *simIndex) Released(_ meta.NodeID, p meta.Partition, epoch meta.Epoch) bool {
	return x.released[p] == epoch
}

func (x *simIndex) ReleasedBy(meta.NodeID) map[meta.Partition]meta.Epoch { return x.released }

func (x *simIndex) LetGo(_ meta.NodeID, p meta.Partition, epoch meta.Epoch) bool {
	return x.stopping || x.asked[p] == epoch
}

func (x *simIndex) LetGoRevision() meta.Revision { return x.letGoRev }

func (x *simIndex) TopicByID(id meta.TopicID) (meta.Topic, bool) {
	t, ok := x.topics[id]
	return t, ok
}

func (x *simIndex) Assignment(meta.NodeID) (meta.Assignment, bool) {
	if x.assigned == nil {
		return meta.Assignment{}, false
	}
	return *x.assigned, true
}

func (x *simIndex) End(p meta.Partition) int64 {
	end := int64(0)
	if l := x.logs[p]; l != nil {
		end = l.end
	}
	for _, r := range x.story.lost[p] {
		end = max(end, r.To)
	}
	return end
}

func (x *simIndex) Hole(p meta.Partition) error {
	if err := x.story.holes[p]; err != nil {
		return err
	}
	if l := x.logs[p]; l != nil {
		return l.hole
	}
	return nil
}

// Producers gives the last batches of each producer, as the follower does.
func (x *simIndex) Producers(p meta.Partition) []meta.L0Producer {
	l := x.logs[p]
	if l == nil {
		return nil
	}
	byID := make(map[int64][]meta.L0Producer)
	var ids []int64
	for _, q := range l.producers {
		if len(byID[q.ProducerID]) == 0 {
			ids = append(ids, q.ProducerID)
		}
		byID[q.ProducerID] = append(byID[q.ProducerID], q)
	}
	var out []meta.L0Producer
	for _, id := range ids {
		list := byID[id]
		out = append(out, list[max(0, len(list)-meta.ProducerRanges):]...)
	}
	return out
}

// lookup finds the block that holds an offset.
func (x *simIndex) lookup(p meta.Partition, offset int64) (meta.Block, bool) {
	if l := x.logs[p]; l != nil {
		for _, b := range l.blocks {
			if b.BaseOffset <= offset && offset < b.End() {
				return b, true
			}
		}
	}
	return meta.Block{}, false
}

// isGarbage is the rule by which objects are deleted.
func (x *simIndex) isGarbage(name string) bool {
	for _, r := range x.records {
		if r.Object == name {
			return false
		}
	}
	node, incarnation, number, _, err := meta.ParseL0ObjectName(name)
	if err != nil || node != x.node {
		return false
	}
	if x.alive != incarnation.String() {
		return true
	}
	return x.head.Incarnation == incarnation.String() && uint64(number) <= x.head.Settled
}
