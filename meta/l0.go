package meta

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemark-io/tidemark/proof/mutant"
)

// MaxInlineIndex is the greatest index, encoded, that a record carries itself; a greater one stays in its object.
const MaxInlineIndex = 64 << 10

// L0Entry is one block of an L0 object: consecutive batches of one partition, written in one epoch.
type L0Entry struct {
	Topic      TopicID
	Partition  int32
	Epoch      Epoch
	BaseOffset int64
	Count      int32 // the offsets are BaseOffset to BaseOffset+Count-1
	Position   int64 // where the block begins in the object, bytes
	Length     int32 // bytes
	CRC        uint32
	Batches    int32
	// MaxTimestamp is the greatest timestamp of the block's records, ms as producers set it.
	MaxTimestamp int64
	// FirstAppend and LastAppend are when its leader took the first and the last batch, ms by the leader's clock.
	FirstAppend, LastAppend int64
}

// End is the first offset behind the block.
func (e L0Entry) End() int64 { return e.BaseOffset + int64(e.Count) }

// Where is the block's partition.
func (e L0Entry) Where() Partition { return Partition{Topic: e.Topic, Partition: e.Partition} }

// L0Producer is one batch of an idempotent producer, kept so that the next leader recognises a retry.
type L0Producer struct {
	Topic                       TopicID
	Partition                   int32
	ProducerID                  int64
	Epoch                       int16
	FirstSequence, LastSequence int32
	BaseOffset                  int64
	AppendTime                  int64 // ms by the leader's clock
}

// Where is the batch's partition.
func (p L0Producer) Where() Partition { return Partition{Topic: p.Topic, Partition: p.Partition} }

// L0Index is what an L0 object contributes: its blocks, sorted by topic, partition and offset, and for each partition and
// producer at most the last five batches, in offset order.
type L0Index struct {
	Entries   []L0Entry
	Producers []L0Producer
}

// L0Record is a committed L0 object: the authority over what the object contributes to the log.
type L0Record struct {
	Node        NodeID      // from the key
	Incarnation Incarnation // from the key
	Seq         Seq         // from the key
	Object      string      // name in the store
	Size        int64
	IndexOffset int64
	IndexLength int32
	IndexCRC    uint32
	// Inline says that Index is here; otherwise it is read from the object, and checked against length and CRC.
	Inline bool
	Index  L0Index
	// Excluded are partitions whose blocks in the object are not part of the log.
	Excluded []Partition
}

// Topics lists the topics of the index, each once.
func (r *L0Record) Topics() []TopicID {
	var out []TopicID
	for _, e := range r.Index.Entries {
		if len(out) == 0 || out[len(out)-1] != e.Topic {
			out = append(out, e.Topic)
		}
	}
	return out
}

// Excludes tells whether a partition's blocks are not part of the log.
func (r *L0Record) Excludes(p Partition) bool {
	return slices.Contains(r.Excluded, p)
}

// L0ObjectName names the object with a number of one incarnation: l0/<node>/<incarnation>/<number>-<attempt>. A name stands
// for one content for ever, so other bytes take the next attempt.
func L0ObjectName(node NodeID, incarnation Incarnation, number Seq, attempt int) string {
	if mutant.On(mutant.K2) {
		node, incarnation = "any", 0
	}
	return fmt.Sprintf("l0/%s/%s/%020d-%d", node, incarnation, uint64(number), attempt)
}

// ParseL0ObjectName takes a name apart.
func ParseL0ObjectName(name string) (node NodeID, incarnation Incarnation, number Seq, attempt int, err error) {
	bad := func() error { return fmt.Errorf("%q is not the name of an L0 object", name) }
	parts := strings.Split(name, "/")
	if len(parts) != 4 || parts[0] != "l0" || parts[1] == "" {
		return "", 0, 0, 0, bad()
	}
	i, err := strconv.ParseUint(parts[2], 16, 64)
	if err != nil || len(parts[2]) != 16 {
		return "", 0, 0, 0, bad()
	}
	digits, tail, ok := strings.Cut(parts[3], "-")
	n, err := strconv.ParseUint(digits, 10, 64)
	a, attemptErr := strconv.Atoi(tail)
	if !ok || err != nil || attemptErr != nil || len(digits) != 20 {
		return "", 0, 0, 0, bad()
	}
	return NodeID(parts[1]), Incarnation(i), Seq(n), a, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC32C is the checksum of every format of ours.
func CRC32C(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

// ErrFormat says that stored metadata is malformed or of an unknown version.
var ErrFormat = errors.New("unreadable metadata")

const (
	indexVersion  = 1
	recordVersion = 1
)

// Encode gives the index's bytes, as they stand in an L0 object and, when short, in its record. docs/formats/l0.md draws them:
//
//	version u8 = 1
//	groups uvarint, and for each partition that occurs:
//	  topic id [16] · partition uvarint · blocks uvarint · producers uvarint
//	  blocks:    epoch uvarint · base offset varint (delta to the end of the one before) · count uvarint · position uvarint ·
//	             length uvarint · crc u32 · batches uvarint · max timestamp varint · first append varint · last append delta uvarint
//	  producers: id uvarint · epoch uvarint · first, last sequence uvarint · base offset varint · append time varint
func (x L0Index) Encode() []byte {
	type group struct {
		where     Partition
		entries   []L0Entry
		producers []L0Producer
	}
	var groups []*group
	at := make(map[Partition]*group)
	find := func(p Partition) *group {
		g := at[p]
		if g == nil {
			g = &group{where: p}
			at[p] = g
			groups = append(groups, g)
		}
		return g
	}
	for _, e := range x.Entries {
		g := find(e.Where())
		g.entries = append(g.entries, e)
	}
	for _, p := range x.Producers {
		g := find(p.Where())
		g.producers = append(g.producers, p)
	}
	out := []byte{indexVersion}
	out = binary.AppendUvarint(out, uint64(len(groups)))
	for _, g := range groups {
		out = append(out, g.where.Topic[:]...)
		out = binary.AppendUvarint(out, uint64(g.where.Partition))
		out = binary.AppendUvarint(out, uint64(len(g.entries)))
		out = binary.AppendUvarint(out, uint64(len(g.producers)))
		end := int64(0)
		for _, e := range g.entries {
			out = binary.AppendUvarint(out, uint64(e.Epoch))
			out = binary.AppendVarint(out, e.BaseOffset-end)
			out = binary.AppendUvarint(out, uint64(e.Count))
			out = binary.AppendUvarint(out, uint64(e.Position))
			out = binary.AppendUvarint(out, uint64(e.Length))
			out = binary.BigEndian.AppendUint32(out, e.CRC)
			out = binary.AppendUvarint(out, uint64(e.Batches))
			out = binary.AppendVarint(out, e.MaxTimestamp)
			out = binary.AppendVarint(out, e.FirstAppend)
			out = binary.AppendVarint(out, e.LastAppend-e.FirstAppend)
			end = e.End()
		}
		for _, p := range g.producers {
			out = binary.AppendUvarint(out, uint64(p.ProducerID))
			out = binary.AppendUvarint(out, uint64(p.Epoch))
			out = binary.AppendUvarint(out, uint64(p.FirstSequence))
			out = binary.AppendUvarint(out, uint64(p.LastSequence))
			out = binary.AppendVarint(out, p.BaseOffset)
			out = binary.AppendVarint(out, p.AppendTime)
		}
	}
	return out
}

// The least bytes that one group, block and producer take: counts beyond what is left are refused before memory is taken.
const (
	leastGroup    = 19
	leastEntry    = 13
	leastProducer = 6
)

// DecodeL0Index reads what Encode wrote. Errors are ErrFormat.
func DecodeL0Index(p []byte) (L0Index, error) {
	d := decoder{rest: p}
	if v := d.byte(); d.err == nil && v != indexVersion {
		return L0Index{}, fmt.Errorf("%w: L0 index of version %d, this release reads %d", ErrFormat, v, indexVersion)
	}
	var x L0Index
	groups := d.count(leastGroup)
	if groups > 0 {
		x.Entries = make([]L0Entry, 0, groups) // most have one block each, and the index stays in memory
	}
	for range groups {
		var where Partition
		copy(where.Topic[:], d.bytes(len(where.Topic)))
		where.Partition = d.int32()
		entries := d.count(leastEntry)
		producers := d.count(leastProducer)
		end := int64(0)
		for range entries {
			e := L0Entry{Topic: where.Topic, Partition: where.Partition}
			e.Epoch = d.int32()
			e.BaseOffset = end + d.varint()
			e.Count = d.int32()
			e.Position = d.int64()
			e.Length = d.int32()
			if crc := d.bytes(4); crc != nil {
				e.CRC = binary.BigEndian.Uint32(crc)
			}
			e.Batches = d.int32()
			e.MaxTimestamp = d.varint()
			e.FirstAppend = d.varint()
			e.LastAppend = e.FirstAppend + d.varint()
			if d.err == nil && (e.Count < 1 || e.BaseOffset < 0 || e.BaseOffset > math.MaxInt64-int64(e.Count)) {
				d.failf("a block has %d offsets from %d on", e.Count, e.BaseOffset)
			}
			if d.err != nil {
				return L0Index{}, d.error("L0 index")
			}
			end = e.End()
			x.Entries = append(x.Entries, e)
		}
		for range producers {
			q := L0Producer{Topic: where.Topic, Partition: where.Partition}
			q.ProducerID = d.int64()
			q.Epoch = int16(d.uint(math.MaxInt16))
			q.FirstSequence = d.int32()
			q.LastSequence = d.int32()
			q.BaseOffset = d.varint()
			q.AppendTime = d.varint()
			if d.err != nil {
				return L0Index{}, d.error("L0 index")
			}
			if x.Producers == nil {
				x.Producers = make([]L0Producer, 0, groups)
			}
			x.Producers = append(x.Producers, q)
		}
	}
	return x, d.end("L0 index")
}

// Encode gives the record's value in etcd. Node, Incarnation and Seq are in the key.
//
//	version u8 = 1 · flags u8 (1: the index is inline) · object (uvarint length, bytes) · size uvarint ·
//	index offset uvarint · index length uvarint · index CRC32C u32 · excluded uvarint × (topic id [16] · partition uvarint) ·
//	inline index, to the end
func (r *L0Record) Encode() []byte {
	var flags byte
	var index []byte
	if r.Inline {
		flags = 1
		index = r.Index.Encode()
	}
	out := make([]byte, 0, 64+len(r.Object)+20*len(r.Excluded)+len(index))
	out = append(out, recordVersion, flags)
	out = binary.AppendUvarint(out, uint64(len(r.Object)))
	out = append(out, r.Object...)
	out = binary.AppendUvarint(out, uint64(r.Size))
	out = binary.AppendUvarint(out, uint64(r.IndexOffset))
	out = binary.AppendUvarint(out, uint64(r.IndexLength))
	out = binary.BigEndian.AppendUint32(out, r.IndexCRC)
	out = binary.AppendUvarint(out, uint64(len(r.Excluded)))
	for _, p := range r.Excluded {
		out = append(out, p.Topic[:]...)
		out = binary.AppendUvarint(out, uint64(p.Partition))
	}
	return append(out, index...)
}

// DecodeL0Record reads what Encode wrote; the caller sets what the key says. Errors are ErrFormat.
func DecodeL0Record(p []byte) (*L0Record, error) {
	d := decoder{rest: p}
	if v := d.byte(); d.err == nil && v != recordVersion {
		return nil, fmt.Errorf("%w: L0 record of version %d, this release reads %d", ErrFormat, v, recordVersion)
	}
	flags := d.byte()
	if flags > 1 {
		d.failf("unknown flags %02x", flags)
	}
	r := &L0Record{Inline: flags == 1}
	r.Object = string(d.bytes(d.count(1)))
	r.Size = d.int64()
	r.IndexOffset = d.int64()
	r.IndexLength = d.int32()
	if crc := d.bytes(4); crc != nil {
		r.IndexCRC = binary.BigEndian.Uint32(crc)
	}
	for range d.count(17) {
		var x Partition
		copy(x.Topic[:], d.bytes(len(x.Topic)))
		x.Partition = d.int32()
		if d.err == nil {
			r.Excluded = append(r.Excluded, x)
		}
	}
	if d.err != nil {
		return nil, d.error("L0 record")
	}
	if !r.Inline {
		return r, d.end("L0 record")
	}
	if CRC32C(d.rest) != r.IndexCRC || len(d.rest) != int(r.IndexLength) {
		return nil, fmt.Errorf("%w: L0 record of %s: its index does not match length and checksum", ErrFormat, r.Object)
	}
	var err error
	r.Index, err = DecodeL0Index(d.rest)
	return r, err
}
