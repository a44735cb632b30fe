package meta

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/tidemark-io/tidemark/proof/mutant"
)

// Block is a block of the committed log and the object that holds it.
type Block struct {
	L0Entry
	Object string
}

// Index is the whole prefix at one revision, with the log's index made of it. It is a plain structure without a lock: a Follower
// guards one, and has the same methods for reading. What its methods return may be kept, and must not be changed.
type Index struct {
	keys      Keys
	revision  Revision
	topicsRev Revision

	topics   map[string]Topic
	byID     map[TopicID]Topic
	assigned map[NodeID]Assignment
	released map[NodeID]map[Partition]Epoch
	nodes    map[NodeID]NodeInfo
	heads    map[NodeID]Head
	deleted  map[TopicID]bool
	records  map[string]*L0Record // by key
	objects  map[string]int       // object name to the records that name it
	logs     map[Partition]*partitionLog
	lost     map[Partition]Manifest
	late     []*L0Record // only with a mutant

	leadership
}

// partitionLog is the committed log of one partition.
type partitionLog struct {
	blocks    []indexedBlock // by base offset
	end       int64          // the first offset behind the last block; never goes back
	lost      []OffsetRange  // ascending; no block stands in them, and they join what is before to what is behind
	hole      error          // the blocks do not join
	producers map[int64][]L0Producer
}

// indexedBlock is a block by reference: a million of them take 24 MB beside their records.
type indexedBlock struct {
	base   int64 // of the entry: what lookups compare
	record *L0Record
	entry  int32 // of the record's index
}

func (b indexedBlock) at() *L0Entry { return &b.record.Index.Entries[b.entry] }

func (b indexedBlock) end() int64 { return b.base + int64(b.at().Count) }

func (b indexedBlock) block() Block { return Block{L0Entry: *b.at(), Object: b.record.Object} }

// NewIndex makes an index of nothing, at revision 0.
func NewIndex(keys Keys) *Index {
	return &Index{
		keys: keys, topics: make(map[string]Topic), byID: make(map[TopicID]Topic), assigned: make(map[NodeID]Assignment),
		released: make(map[NodeID]map[Partition]Epoch), nodes: make(map[NodeID]NodeInfo), heads: make(map[NodeID]Head),
		deleted: make(map[TopicID]bool), records: make(map[string]*L0Record), objects: make(map[string]int), logs: make(map[Partition]*partitionLog),
		lost: make(map[Partition]Manifest), leadership: newLeadership(),
	}
}

// Apply takes one whole revision. loaded holds the records of the revision's puts under l0/, by key, with their indexes.
// A fold removes records and puts one that stands for them in the same revision, so the log is joined before and after.
func (v *Index) Apply(change Change, loaded map[string]*L0Record) error {
	gone := make(map[*L0Record]bool)
	var added []*L0Record
	if mutant.On(mutant.C1) && len(v.late) > 0 {
		v.index(gone, v.late)
		v.late = nil
	}
	for _, e := range change.Events {
		key := e.KV.Key
		rest, ok := strings.CutPrefix(key, v.keys.prefix)
		if !ok {
			continue
		}
		if strings.HasPrefix(rest, dirL0) {
			if old := v.records[key]; old != nil {
				gone[old] = true
				v.forget(key, old)
			}
			if r := loaded[key]; r != nil {
				v.records[key] = r
				v.objects[r.Object]++
				added = append(added, r)
			}
			continue
		}
		if err := v.applyPlain(rest, e); err != nil {
			return err
		}
	}
	if mutant.On(mutant.C1) && len(gone) > 0 {
		v.late, added = added, nil
	}
	v.index(gone, added)
	for _, r := range added {
		v.shed(r)
	}
	v.revision = max(v.revision, change.Revision)
	return nil
}

// shed drops what a record says of producers, once the logs remember it: who wants all of it reads the index again from the object. A record that
// carries its index is all that readers need, and stays whole.
func (v *Index) shed(r *L0Record) {
	if !r.Inline {
		r.Index.Producers = nil
	}
}

func (v *Index) forget(key string, r *L0Record) {
	delete(v.records, key)
	if v.objects[r.Object]--; v.objects[r.Object] <= 0 {
		delete(v.objects, r.Object)
	}
}

// applyPlain takes a key that is not an L0 record.
func (v *Index) applyPlain(rest string, e Event) (err error) {
	put := e.Type == EventPut
	switch {
	case rest == "placement":
		v.placementRev = 0
		if put {
			var count counterValue
			if decodeJSON(e.KV.Key, e.KV.Value, &count) != nil {
				count.Next = 0 // its revision is what counts
			}
			v.placementRev, v.placementCount = e.KV.Mod, count.Next
		}
	case rest == "controller":
		v.placeRev = max(v.placeRev, e.KV.Mod)
		v.controller = nil
		if put {
			v.controller, err = decodeController(e.KV)
		}
	case strings.HasPrefix(rest, dirDrain):
		node := NodeID(strings.TrimPrefix(rest, dirDrain))
		v.placeRev, v.letGoRev = max(v.placeRev, e.KV.Mod), max(v.letGoRev, e.KV.Mod)
		delete(v.drains, node)
		delete(v.drainRevs, node)
		if put {
			v.drainRevs[node] = e.KV.Mod
			v.drains[node], err = decodeDrain(e.KV)
		}
	case strings.HasPrefix(rest, dirMoves):
		node := NodeID(strings.TrimPrefix(rest, dirMoves))
		v.placeRev, v.letGoRev = max(v.placeRev, e.KV.Mod), max(v.letGoRev, e.KV.Mod)
		delete(v.asked, node)
		delete(v.askedRevs, node)
		if put {
			v.askedRevs[node] = e.KV.Mod
			v.asked[node], err = decodeMoves(e.KV)
		}
	case strings.HasPrefix(rest, dirManifest):
		return v.applyManifest(strings.TrimPrefix(rest, dirManifest), e)
	case strings.HasPrefix(rest, dirTopics):
		name := strings.TrimPrefix(rest, dirTopics)
		if old, ok := v.topics[name]; ok {
			delete(v.topics, name)
			delete(v.byID, old.ID)
			if !put {
				v.dropLogs(old.ID)
			}
		}
		v.topicsRev = max(v.topicsRev, e.KV.Mod)
		v.placeRev = max(v.placeRev, e.KV.Mod)
		if !put {
			return nil
		}
		t, err := decodeTopic(name, e.KV)
		if err != nil {
			return err
		}
		v.topics[name], v.byID[t.ID] = t, t
	case strings.HasPrefix(rest, dirAssign):
		node := NodeID(strings.TrimPrefix(rest, dirAssign))
		v.placeRev, v.letGoRev = max(v.placeRev, e.KV.Mod), max(v.letGoRev, e.KV.Mod)
		before := v.assigned[node]
		delete(v.assigned, node)
		if put {
			v.assigned[node], err = decodeAssignment(node, e.KV)
		}
		if err == nil {
			v.reassign(node, before, v.assigned[node])
		}
	case strings.HasPrefix(rest, dirRelease):
		node := NodeID(strings.TrimPrefix(rest, dirRelease))
		v.placeRev = max(v.placeRev, e.KV.Mod)
		delete(v.released, node)
		if put {
			v.released[node], err = decodeRelease(e.KV)
		}
	case strings.HasPrefix(rest, dirNodes):
		node := NodeID(strings.TrimPrefix(rest, dirNodes))
		v.placeRev, v.letGoRev, v.nodesRev = max(v.placeRev, e.KV.Mod), max(v.letGoRev, e.KV.Mod), max(v.nodesRev, e.KV.Mod)
		delete(v.nodes, node)
		delete(v.registered, node)
		if put {
			v.nodes[node], err = decodeNode(node, e.KV)
			v.registered[node] = e.KV.Mod
		}
	case strings.HasPrefix(rest, dirHeads):
		node := NodeID(strings.TrimPrefix(rest, dirHeads))
		delete(v.heads, node)
		delete(v.headRevs, node)
		if put {
			v.heads[node], err = decodeHead(e.KV)
			v.headRevs[node] = e.KV.Mod
		}
	case strings.HasPrefix(rest, dirDeleted):
		id, err := ParseTopicID(strings.TrimPrefix(rest, dirDeleted))
		if err != nil {
			return fmt.Errorf("%w: key %s: %w", ErrFormat, e.KV.Key, err)
		}
		delete(v.deleted, id)
		if put {
			v.deleted[id] = true
		}
	}
	return err
}

func (v *Index) dropLogs(id TopicID) {
	for p := range v.logs {
		if p.Topic == id {
			delete(v.logs, p)
		}
	}
	for p := range v.lost {
		if p.Topic == id {
			delete(v.lost, p)
			delete(v.manifestRevs, p)
		}
	}
}

// edit is what one revision does to one partition's blocks, but for those that simply come next.
type edit struct {
	low, high int64 // every block that goes or comes begins in low <= base < high
	added     []indexedBlock
}

// index brings the logs of the partitions in gone and added up to date. Blocks of topics that are not there (any more) are
// left out: a topic is made in an earlier revision than the first block of it, and a record that is shared with other topics
// outlives its deletion.
func (v *Index) index(gone map[*L0Record]bool, added []*L0Record) {
	edits := make(map[Partition]*edit)
	in := func(e *L0Entry) *edit {
		x := edits[e.Where()]
		if x == nil {
			x = &edit{low: e.BaseOffset, high: e.End()}
			edits[e.Where()] = x
		}
		x.low, x.high = min(x.low, e.BaseOffset), max(x.high, e.End())
		return x
	}
	for r := range gone {
		for n := range r.Index.Entries {
			if e := &r.Index.Entries[n]; v.logs[e.Where()] != nil && !r.Excludes(e.Where()) {
				in(e)
			}
		}
	}
	for _, r := range added {
		for n := range r.Index.Entries {
			e := &r.Index.Entries[n]
			p := e.Where()
			if !v.indexes(r, p) {
				continue
			}
			log, block := v.log(p), indexedBlock{base: e.BaseOffset, record: r, entry: int32(n)}
			if edits[p] == nil && log.next() == e.BaseOffset {
				log.blocks = append(log.blocks, block)
				log.end = log.skip(e.End())
				continue
			}
			x := in(e)
			x.added = append(x.added, block)
		}
		for _, q := range r.Index.Producers {
			if v.indexes(r, q.Where()) {
				v.log(q.Where()).remember(q)
			}
		}
	}
	for _, r := range added {
		for n := range r.Index.Entries {
			if l := v.logs[r.Index.Entries[n].Where()]; l != nil && len(l.producers) > ProducersKept+ProducersKept/8 {
				l.forgetProducers()
			}
		}
	}
	for p, x := range edits {
		v.logs[p].splice(p, x, gone)
	}
}

// indexes tells whether a record's blocks of a partition are part of the log.
func (v *Index) indexes(r *L0Record, p Partition) bool {
	_, known := v.byID[p.Topic]
	return known && !v.deleted[p.Topic] && !r.Excludes(p)
}

func (v *Index) log(p Partition) *partitionLog {
	log := v.logs[p]
	if log == nil {
		log = &partitionLog{producers: make(map[int64][]L0Producer), lost: v.lost[p].Lost}
		log.end = log.skip(0)
		v.logs[p] = log
	}
	return log
}

// next is the offset at which the next block joins the others, -1 if none can.
func (l *partitionLog) next() int64 {
	if n := len(l.blocks); l.hole != nil || n > 0 && l.skip(l.blocks[n-1].end()) != l.end || n == 0 && l.end != l.skip(0) {
		return -1
	}
	return l.end
}

// splice makes an edit, and looks only at what it touches unless the log did not join before.
func (l *partitionLog) splice(p Partition, x *edit, gone map[*L0Record]bool) {
	from := sort.Search(len(l.blocks), func(i int) bool { return l.blocks[i].base >= x.low })
	to := sort.Search(len(l.blocks), func(i int) bool { return l.blocks[i].base >= x.high })
	for _, b := range l.blocks[from:to] {
		if !gone[b.record] {
			x.added = append(x.added, b)
		}
	}
	slices.SortFunc(x.added, func(a, b indexedBlock) int { return cmp.Compare(a.base, b.base) })
	l.blocks = slices.Replace(l.blocks, from, to, x.added...)
	if l.hole != nil {
		l.check(p, 0, len(l.blocks))
		return
	}
	l.check(p, from, min(len(l.blocks), from+len(x.added)+1))
}

// check looks whether the blocks from one place up to another join each other and what is before them, and moves the end.
func (l *partitionLog) check(p Partition, from, to int) {
	l.hole = nil
	at := int64(0)
	if from > 0 {
		at = l.blocks[from-1].end()
	}
	at = l.skip(at)
	for _, b := range l.blocks[from:to] {
		if b.base != at && l.hole == nil {
			l.hole = fmt.Errorf("the log of topic %s partition %d does not join: offset %d is expected where %d stands in object %s",
				p.Topic, p.Partition, at, b.base, b.record.Object)
		}
		at = l.skip(max(at, b.end()))
	}
	if to < len(l.blocks) {
		return
	}
	if at < l.end && l.hole == nil {
		l.hole = fmt.Errorf("the log of topic %s partition %d has lost its end: no record holds offsets %d to %d", p.Topic, p.Partition, at, l.end-1)
	}
	l.end = max(l.end, at)
}

// skip is where a log that has come to an offset goes on: there, or behind what was lost.
func (l *partitionLog) skip(at int64) int64 {
	for _, r := range l.lost {
		if r.From == at {
			at = r.To
		}
	}
	return at
}

// Inherit takes over what was known before a listing that v was made from: ends never go back, and what was deleted in between has changed.
func (v *Index) Inherit(old *Index) {
	v.topicsRev, v.placeRev = max(v.topicsRev, old.topicsRev+1), max(v.placeRev, old.placeRev+1)
	v.letGoRev, v.nodesRev = max(v.letGoRev, old.letGoRev+1), max(v.nodesRev, old.nodesRev+1)
	for p, log := range old.logs {
		if _, kept := v.byID[p.Topic]; kept {
			v.log(p).inherit(p, log)
		}
	}
}

// inherit takes over from the log as it was known before: an end never goes back.
func (l *partitionLog) inherit(p Partition, old *partitionLog) {
	if old.end > l.end {
		l.end = old.end
		l.check(p, 0, len(l.blocks))
	}
}

// remember keeps the last batches of a producer, in offset order. What is known already is not counted twice.
func (l *partitionLog) remember(q L0Producer) {
	list := l.producers[q.ProducerID]
	i := sort.Search(len(list), func(i int) bool { return list[i].BaseOffset >= q.BaseOffset })
	switch {
	case i < len(list) && list[i].BaseOffset == q.BaseOffset:
	case len(list) < ProducerRanges:
		if len(list) == cap(list) {
			list = append(make([]L0Producer, 0, min(2*len(list)+1, ProducerRanges)), list...) // 1, 3, 5: most producers stay, and there are many
		}
		l.producers[q.ProducerID] = slices.Insert(list, i, q)
	case i > 0: // the oldest goes
		copy(list, list[1:i])
		list[i-1] = q
	}
}

// ProducerRanges is how many batches of a producer are kept on a partition.
const ProducerRanges = 5

// ProducersKept is how many producers of a partition are remembered at least: those that were the last to append. Somewhat more are, now and then.
const ProducersKept = 10_000

// forgetProducers forgets the producers that have not appended for the longest: what is left depends on the log alone.
func (l *partitionLog) forgetProducers() {
	newest := make([]int64, 0, len(l.producers))
	for _, list := range l.producers {
		newest = append(newest, list[len(list)-1].BaseOffset)
	}
	slices.Sort(newest)
	oldest := newest[len(newest)-ProducersKept] // no two have the same
	maps.DeleteFunc(l.producers, func(_ int64, list []L0Producer) bool { return list[len(list)-1].BaseOffset < oldest })
}

// lookup finds the block that holds an offset.
func (l *partitionLog) lookup(offset int64) (Block, bool) {
	i := sort.Search(len(l.blocks), func(i int) bool { return l.blocks[i].base > offset }) - 1
	if i < 0 || l.blocks[i].end() <= offset {
		return Block{}, false
	}
	return l.blocks[i].block(), true
}

// lookupTime finds the first block with a record of this time or later. Timestamps are the producers' and follow no order,
// so it looks at one after the other.
func (l *partitionLog) lookupTime(timestampMs int64) (Block, bool) {
	for _, b := range l.blocks {
		if b.at().MaxTimestamp >= timestampMs {
			return b.block(), true
		}
	}
	return Block{}, false
}

// lookupNewest finds the first block with the greatest timestamp, as lookupTime by looking at all.
func (l *partitionLog) lookupNewest() (Block, bool) {
	newest := -1
	for i, b := range l.blocks {
		if newest < 0 || b.at().MaxTimestamp > l.blocks[newest].at().MaxTimestamp {
			newest = i
		}
	}
	if newest < 0 {
		return Block{}, false
	}
	return l.blocks[newest].block(), true
}

// lookupEpoch finds where a later epoch begins than this one, and the epoch before it. Epochs rise with the offsets.
func (l *partitionLog) lookupEpoch(epoch Epoch) (first int64, before Epoch, later bool) {
	i := sort.Search(len(l.blocks), func(i int) bool { return l.blocks[i].at().Epoch > epoch })
	if i > 0 {
		before = l.blocks[i-1].at().Epoch
	}
	if i == len(l.blocks) {
		return 0, before, false
	}
	return l.blocks[i].base, before, true
}

// batches lists the producers' last batches, by producer and offset.
func (l *partitionLog) batches() []L0Producer {
	var out []L0Producer
	for _, id := range slices.Sorted(maps.Keys(l.producers)) {
		out = append(out, l.producers[id]...)
	}
	return out
}
