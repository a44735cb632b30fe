package meta

import (
	"bytes"
	"errors"
	"maps"
	"reflect"
	"runtime"
	"testing"
)

// allocates runs decode and fails when it took much more memory than the input has bytes.
func allocates(t *testing.T, input []byte, perByte, fixed uint64, decode func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	decode()
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > fixed+perByte*uint64(len(input)) {
		t.Errorf("%d bytes of input took %d bytes of memory", len(input), took)
	}
}

func sampleIndex() L0Index {
	return L0Index{
		Entries: []L0Entry{
			{Topic: TopicID{1}, Epoch: 3, BaseOffset: 100, Count: 5, Length: 900, CRC: 0xfeedface, MaxTimestamp: -1, FirstAppend: 1_700_000_000_000, LastAppend: 1_700_000_000_250, Batches: 2},
			{Topic: TopicID{1}, Epoch: 4, BaseOffset: 105, Count: 1, Position: 900, Length: 70, MaxTimestamp: 1_700_000_000_000, FirstAppend: 1_700_000_000_000, LastAppend: 1_699_999_999_999, Batches: 1},
			{Topic: TopicID{2}, Partition: 9_999, Epoch: 1, BaseOffset: 1 << 40, Count: 1<<31 - 1, Position: 970, Length: 1, Batches: 1},
		},
		Producers: []L0Producer{
			{Topic: TopicID{1}, ProducerID: 1000, Epoch: 7, FirstSequence: 4, LastSequence: 8, BaseOffset: 100, AppendTime: 1_700_000_000_000},
			{Topic: TopicID{2}, Partition: 9_999, ProducerID: 1 << 50, LastSequence: 1<<31 - 1, BaseOffset: 1 << 40},
		},
	}
}

func sampleRecord(inline bool) *L0Record {
	x := sampleIndex()
	encoded := x.Encode()
	r := &L0Record{
		Object: L0ObjectName("node-1", 0xabcdef, 17, 2), Size: 1 << 23, IndexOffset: 1<<23 - 500, IndexLength: int32(len(encoded)), IndexCRC: CRC32C(encoded),
		Inline: inline, Excluded: []Partition{{Topic: TopicID{2}, Partition: 9_999}},
	}
	if inline {
		r.Index = x
	}
	return r
}

func TestRoundTrips(t *testing.T) {
	if x, err := DecodeL0Index(sampleIndex().Encode()); err != nil || !reflect.DeepEqual(x, sampleIndex()) {
		t.Errorf("index: %+v, %v", x, err)
	}
	for _, inline := range []bool{false, true} {
		if r, err := DecodeL0Record(sampleRecord(inline).Encode()); err != nil || !reflect.DeepEqual(r, sampleRecord(inline)) {
			t.Errorf("record: %+v, %v", r, err)
		}
	}
	epochs := map[Partition]Epoch{{Topic: TopicID{1}}: 1, {Topic: TopicID{1}, Partition: 1}: 1, {Topic: TopicID{1}, Partition: 3}: 2, {Topic: TopicID{9}, Partition: 7}: 1<<31 - 1}
	a, err := decodeAssignment("a", KeyValue{Value: encodeAssignment("disk", epochs), Mod: 8})
	if err != nil || a.Disk != "disk" || a.Revision != 8 || !maps.Equal(a.Epochs, epochs) {
		t.Errorf("assignment: %+v, %v", a, err)
	}
	if got, err := decodeRelease(KeyValue{Value: encodeRelease(epochs)}); err != nil || !maps.Equal(got, epochs) {
		t.Errorf("release: %v, %v", got, err)
	}
	name := L0ObjectName("node-1", 0xabcdef, 17, 2)
	if node, incarnation, number, attempt, err := ParseL0ObjectName(name); node != "node-1" || incarnation != 0xabcdef || number != 17 || attempt != 2 || err != nil {
		t.Errorf("%s: %v %v %v %v %v", name, node, incarnation, number, attempt, err)
	}
	keys := NewKeys("test")
	if node, incarnation, seq, err := keys.parseL0(keys.L0("node-1", 0xabcdef, 17)); node != "node-1" || incarnation != 0xabcdef || seq != 17 || err != nil {
		t.Errorf("key: %v %v %v %v", node, incarnation, seq, err)
	}
}

// TestCutAndFlipped: no value is read that ends early, goes on too long, or has another version; no flip is a panic.
func TestCutAndFlipped(t *testing.T) {
	for name, c := range map[string]struct {
		value  []byte
		decode func([]byte) error
	}{
		"index":      {sampleIndex().Encode(), func(p []byte) error { _, err := DecodeL0Index(p); return err }},
		"record":     {sampleRecord(false).Encode(), func(p []byte) error { _, err := DecodeL0Record(p); return err }},
		"inline":     {sampleRecord(true).Encode(), func(p []byte) error { _, err := DecodeL0Record(p); return err }},
		"assignment": {encodeAssignment("d", map[Partition]Epoch{{}: 1}), func(p []byte) error { _, err := decodeAssignment("a", KeyValue{Value: p}); return err }},
		"release":    {encodeRelease(map[Partition]Epoch{{}: 1}), func(p []byte) error { _, err := decodeRelease(KeyValue{Value: p}); return err }},
	} {
		if err := c.decode(c.value); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for n := range c.value {
			if err := c.decode(c.value[:n]); !errors.Is(err, ErrFormat) {
				t.Errorf("%s cut at %d: %v", name, n, err)
			}
			for bit := range 8 {
				flipped := bytes.Clone(c.value)
				flipped[n] ^= 1 << bit
				if err := c.decode(flipped); err != nil && !errors.Is(err, ErrFormat) {
					t.Errorf("%s, bit %d of byte %d: %v", name, bit, n, err)
				}
			}
		}
		for _, bad := range [][]byte{append(bytes.Clone(c.value), 0), append([]byte{2}, c.value[1:]...)} {
			if err := c.decode(bad); !errors.Is(err, ErrFormat) {
				t.Errorf("%s, longer or of another version: %v", name, err)
			}
		}
	}
}

func FuzzDecodeL0Index(f *testing.F) {
	f.Add(sampleIndex().Encode())
	f.Add(L0Index{}.Encode())
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, p []byte) {
		var x L0Index
		var err error
		allocates(t, p, 64, 1<<20, func() { x, err = DecodeL0Index(p) })
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Error(err)
			}
			return
		}
		if again, err := DecodeL0Index(x.Encode()); err != nil || len(again.Entries) != len(x.Entries) || len(again.Producers) != len(x.Producers) {
			t.Errorf("not read back: %v", err)
		}
	})
}

func FuzzDecodeL0Record(f *testing.F) {
	f.Add(sampleRecord(true).Encode())
	f.Add(sampleRecord(false).Encode())
	f.Fuzz(func(t *testing.T, p []byte) {
		var r *L0Record
		var err error
		allocates(t, p, 64, 1<<20, func() { r, err = DecodeL0Record(p) })
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Error(err)
			}
			return
		}
		if r.Inline { // another encoding of the same index has another checksum
			encoded := r.Index.Encode()
			r.IndexLength, r.IndexCRC = int32(len(encoded)), CRC32C(encoded)
		}
		if again, err := DecodeL0Record(r.Encode()); err != nil || again.Object != r.Object || len(again.Excluded) != len(r.Excluded) {
			t.Errorf("not read back: %v", err)
		}
	})
}

func FuzzDecodeAssignment(f *testing.F) {
	f.Add(encodeAssignment("disk", map[Partition]Epoch{{}: 1, {Partition: 1}: 2}))
	f.Add(encodeAssignment("", nil))
	// As many runs of 10,000 partitions as fit.
	bomb := []byte{1, 0, 0x80, 1}
	for n := range 128 {
		bomb = append(bomb, append(bytes.Repeat([]byte{byte(n)}, 16), 1, 0, 0x90, 0x4e, 1)...)
	}
	f.Add(bomb)
	f.Fuzz(func(t *testing.T, p []byte) {
		var a Assignment
		var err error
		// maxAssigned entries of a map, which doubles while it grows
		allocates(t, p, 64, 4*maxAssigned*40, func() { a, err = decodeAssignment("a", KeyValue{Key: "k", Value: p, Mod: 1}) })
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Error(err)
			}
			return
		}
		if len(a.Epochs) > maxAssigned {
			t.Errorf("%d partitions", len(a.Epochs))
		}
		if again, err := decodeAssignment("a", KeyValue{Value: encodeAssignment(a.Disk, a.Epochs)}); err != nil || !maps.Equal(again.Epochs, a.Epochs) {
			t.Errorf("not read back: %v", err)
		}
	})
}
