package meta

import (
	"cmp"
	"slices"

	"github.com/tidemark-io/tidemark/proof/mutant"
)

// Revision is the one that every read answers for.
func (v *Index) Revision() Revision { return v.revision }

// TopicsRevision goes up whenever a topic is made, changed or deleted.
func (v *Index) TopicsRevision() Revision { return v.topicsRev }

// Topic finds a topic by name.
func (v *Index) Topic(name string) (Topic, bool) {
	t, ok := v.topics[name]
	return t, ok
}

// TopicByID finds a topic by id.
func (v *Index) TopicByID(id TopicID) (Topic, bool) {
	t, ok := v.byID[id]
	return t, ok
}

// Topics lists all topics, in no order.
func (v *Index) Topics() []Topic {
	out := make([]Topic, 0, len(v.topics))
	for _, t := range v.topics {
		out = append(out, t)
	}
	return out
}

// Head is a node's last commit.
func (v *Index) Head(id NodeID) (Head, bool) {
	h, ok := v.heads[id]
	return h, ok
}

// Start is the first offset of a partition that is kept. Nothing removes records yet, so it is 0.
func (v *Index) Start(Partition) int64 { return 0 }

// End is the first offset behind what is committed, and behind what was lost there.
func (v *Index) End(p Partition) int64 {
	if log := v.logs[p]; log != nil {
		return log.end
	}
	return 0
}

// Hole is an error when the blocks of a partition do not join; it must then be neither led nor read.
func (v *Index) Hole(p Partition) error {
	if log := v.logs[p]; log != nil {
		return log.hole
	}
	return nil
}

// Lost lists the offsets of a partition that were given up with a disk, ascending.
func (v *Index) Lost(p Partition) []OffsetRange { return v.lost[p].Lost }

// Lookup finds the block that holds an offset.
func (v *Index) Lookup(p Partition, offset int64) (Block, bool) {
	log := v.logs[p]
	if log == nil {
		return Block{}, false
	}
	return log.lookup(offset)
}

// LookupTime finds the first block with a record whose timestamp (ms, as producers set it) is this one or later.
func (v *Index) LookupTime(p Partition, timestampMs int64) (Block, bool) {
	log := v.logs[p]
	if log == nil {
		return Block{}, false
	}
	return log.lookupTime(timestampMs)
}

// LookupNewest finds the first block with the greatest timestamp that any record has (ms, as producers set it).
func (v *Index) LookupNewest(p Partition) (Block, bool) {
	log := v.logs[p]
	if log == nil {
		return Block{}, false
	}
	return log.lookupNewest()
}

// LookupEpoch finds the first offset of a block that was written at a later epoch than this one; later tells that there is one. before is the epoch of the last
// block that was not, 0 without one.
func (v *Index) LookupEpoch(p Partition, epoch Epoch) (first int64, before Epoch, later bool) {
	log := v.logs[p]
	if log == nil {
		return 0, 0, false
	}
	return log.lookupEpoch(epoch)
}

// Blocks lists the blocks of a partition by offset.
func (v *Index) Blocks(p Partition) []Block {
	log := v.logs[p]
	if log == nil {
		return nil
	}
	out := make([]Block, len(log.blocks))
	for i, b := range log.blocks {
		out[i] = b.block()
	}
	return out
}

// Producers is the committed state of a partition's idempotent producers: of each the last ProducerRanges batches, by
// producer id and offset.
func (v *Index) Producers(p Partition) []L0Producer {
	log := v.logs[p]
	if log == nil {
		return nil
	}
	return log.batches()
}

// Records lists the records of a node, by incarnation and sequence as their keys sort.
func (v *Index) Records(node NodeID) []*L0Record {
	var out []*L0Record
	for _, r := range v.records {
		if r.Node == node {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *L0Record) int {
		return cmp.Or(cmp.Compare(a.Incarnation, b.Incarnation), cmp.Compare(a.Seq, b.Seq))
	})
	return out
}

// Names tells whether a record names an object.
func (v *Index) Names(object string) bool { return v.objects[object] > 0 }

// IsGarbage tells whether an object of this name is in nobody's way: no record names it, and none ever will, because its
// incarnation is dead or has settled its number.
func (v *Index) IsGarbage(name string) bool {
	node, incarnation, number, _, err := ParseL0ObjectName(name)
	if err != nil || v.objects[name] > 0 {
		return false
	}
	if mutant.On(mutant.C4) {
		return true // it has been there for long enough
	}
	alive, ok := v.nodes[node]
	if !ok || alive.Incarnation != incarnation {
		return true
	}
	head, ok := v.heads[node]
	return ok && head.Incarnation == incarnation && number <= head.Settled
}
