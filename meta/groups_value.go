package meta

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// groupValue is groups/<group>.
type groupValue struct {
	Version      int    `json:"v"`
	Epoch        int64  `json:"epoch"`
	Node         string `json:"node"`
	Incarnation  string `json:"incarnation"`
	Seq          uint64 `json:"seq"`
	Generation   int32  `json:"generation"`
	ProtocolType string `json:"type,omitempty"`
	Protocol     string `json:"protocol,omitempty"`
	Members      int    `json:"members"`
	Digest       string `json:"digest,omitempty"`
	Changed      int64  `json:"changed"`
}

func (s GroupState) validate() error {
	for _, text := range []string{s.ProtocolType, s.Protocol, s.Digest} {
		if len(text) > maxGroupText {
			return fmt.Errorf("%w: %.20q... has %d bytes, more than %d", ErrTooLarge, text, len(text), maxGroupText)
		}
		if !utf8.ValidString(text) {
			return fmt.Errorf("%q is no UTF-8", text)
		}
	}
	if s.Generation < 0 || s.Members < 0 || s.Changed < 0 {
		return fmt.Errorf("generation %d, %d members, changed at %d", s.Generation, s.Members, s.Changed)
	}
	return nil
}

func encodeGroup(c GroupClaim, s GroupState) []byte {
	return encodeJSON(groupValue{
		Version: valueVersion, Epoch: c.Epoch, Node: string(c.Node), Incarnation: c.Incarnation.String(), Seq: c.Seq, Generation: s.Generation,
		ProtocolType: s.ProtocolType, Protocol: s.Protocol, Members: s.Members, Digest: s.Digest, Changed: s.Changed,
	})
}

func decodeGroup(name string, kv KeyValue) (GroupClaim, GroupState, error) {
	var v groupValue
	if err := decodeJSON(kv.Key, kv.Value, &v); err != nil {
		return GroupClaim{}, GroupState{}, err
	}
	incarnation, err := parseIncarnation(kv.Key, v.Incarnation)
	if err != nil {
		return GroupClaim{}, GroupState{}, err
	}
	s := GroupState{
		Generation: v.Generation, ProtocolType: v.ProtocolType, Protocol: v.Protocol, Members: v.Members, Digest: v.Digest, Changed: v.Changed,
	}
	if v.Epoch < 1 {
		return GroupClaim{}, GroupState{}, fmt.Errorf("%w: key %s: coordinator epoch %d", ErrFormat, kv.Key, v.Epoch)
	}
	if err := s.validate(); err != nil {
		return GroupClaim{}, GroupState{}, fmt.Errorf("%w: key %s: %w", ErrFormat, kv.Key, err)
	}
	return GroupClaim{
		Group: name, Node: NodeID(v.Node), Incarnation: incarnation, Epoch: v.Epoch, Seq: v.Seq, Revision: kv.Mod,
	}, s, nil
}

const (
	groupOffsetsVersion = 1
	// maxGroupTime fits seven bytes of varint, some 17,000 years.
	maxGroupTime = 1<<49 - 1
	// groupOffsetBytes is the most that an offset without metadata takes: partition 2, offset 9, leader epoch 5, time 7, length of
	// the metadata 2.
	groupOffsetBytes = 25
	// leastGroupOffsetBytes is the least.
	leastGroupOffsetBytes = 5
)

// encodeGroupOffsets packs the offsets of a group in one topic, by partition:
//
//	version u8 = 1 · partitions uvarint × (partition uvarint · offset uvarint · leader epoch + 1 uvarint · committed uvarint, ms ·
//	  metadata (uvarint length, bytes))
func encodeGroupOffsets(offsets GroupOffsets) ([]byte, error) {
	size := 0
	partitions := make([]int32, 0, len(offsets))
	for p, o := range offsets {
		if p < 0 || p >= MaxPartitions {
			return nil, fmt.Errorf("there is no partition %d", p)
		}
		if err := o.Validate(); err != nil {
			return nil, fmt.Errorf("partition %d: %w", p, err)
		}
		size += o.Size()
		partitions = append(partitions, p)
	}
	if size > MaxGroupOffsetsBytes {
		return nil, fmt.Errorf("%w: its offsets and their metadata take %d bytes, at most %d are kept", ErrTooLarge, size, MaxGroupOffsetsBytes)
	}
	slices.Sort(partitions)
	out := make([]byte, 1, 4+size)
	out[0] = groupOffsetsVersion
	out = binary.AppendUvarint(out, uint64(len(partitions)))
	for _, p := range partitions {
		o := offsets[p]
		out = binary.AppendUvarint(out, uint64(p))
		out = binary.AppendUvarint(out, uint64(o.Offset))
		out = binary.AppendUvarint(out, uint64(int64(o.LeaderEpoch)+1))
		out = binary.AppendUvarint(out, uint64(o.Committed))
		out = binary.AppendUvarint(out, uint64(len(o.Metadata)))
		out = append(out, o.Metadata...)
	}
	return out, nil
}

func decodeGroupOffsets(kv KeyValue) (GroupOffsets, error) {
	d := decoder{rest: kv.Value}
	if v := d.byte(); d.err == nil && v != groupOffsetsVersion {
		return nil, fmt.Errorf("%w: key %s has version %d, this release reads %d", ErrFormat, kv.Key, v, groupOffsetsVersion)
	}
	n := d.count(leastGroupOffsetBytes)
	out := make(GroupOffsets, n)
	last := int32(-1)
	for range n {
		p := int32(d.uint(MaxPartitions - 1))
		o := GroupOffset{Offset: d.int64(), LeaderEpoch: int32(int64(d.uint(math.MaxInt32+1)) - 1), Committed: int64(d.uint(maxGroupTime))}
		o.Metadata = string(d.bytes(int(d.uint(MaxOffsetMetadata))))
		if d.err == nil && p <= last {
			d.failf("partition %d behind partition %d", p, last)
		}
		if d.err != nil {
			break
		}
		out[p], last = o, p
	}
	return out, d.end("key " + kv.Key)
}
