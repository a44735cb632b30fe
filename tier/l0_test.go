package tier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
)

// mapStore is the least store that L0 code needs; package tierfake cannot be used inside this package.
type mapStore struct {
	Store
	mu      sync.Mutex
	objects map[string][]byte
	mangle  func(p []byte) // applied to the next read only
}

func (m *mapStore) ReadAt(_ context.Context, name string, p []byte, off int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.objects[name]
	if !ok {
		return &Error{Op: "read", Name: name, Kind: ErrNotFound}
	}
	if off+int64(len(p)) > int64(len(data)) {
		return io.ErrUnexpectedEOF
	}
	copy(p, data[off:])
	if m.mangle != nil {
		m.mangle(p)
		m.mangle = nil
	}
	return nil
}

func testBatch(tb testing.TB, seed int, base int64, epoch int32, producer int64, sequence int32, records, size int) record.Batch {
	tb.Helper()
	b := record.NewBuilder(record.None)
	for i := range records {
		value := bytes.Repeat([]byte{byte(seed), byte(i)}, size/2)
		if err := b.Append(record.Record{Timestamp: int64(1000*seed + i), Value: value}); err != nil {
			tb.Fatal(err)
		}
	}
	pe := int16(-1)
	if producer >= 0 {
		pe = 3
	}
	batch, err := b.Build(producer, pe, sequence)
	if err != nil {
		tb.Fatal(err)
	}
	batch.Stamp(base, epoch)
	return batch
}

func recordOf(o *L0Object, name string, inline bool) *meta.L0Record {
	r := &meta.L0Record{Object: name, Size: o.Size, IndexOffset: o.IndexOffset, IndexLength: int32(len(o.IndexBytes)), IndexCRC: o.IndexCRC, Inline: inline}
	if inline {
		r.Index = o.Index
	}
	return r
}

// randomLog returns batches of several partitions in random order, some with holes and changes of epoch between them, and what
// each partition holds in order.
func randomLog(tb testing.TB, seed uint64) ([]L0Batch, map[meta.Partition][]byte) {
	tb.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	var all []L0Batch
	want := map[meta.Partition][]byte{}
	for topic := range 3 {
		for p := range 4 {
			where := meta.Partition{Topic: meta.TopicID{byte(3 - topic), 7}, Partition: int32(p)}
			base, epoch := int64(rng.IntN(1000)), int32(1)
			for i := range rng.IntN(12) {
				if rng.IntN(8) == 0 {
					epoch++
				}
				if rng.IntN(8) == 0 {
					base += 5
				}
				n := 1 + rng.IntN(4)
				producer := int64(rng.IntN(3) - 1)
				b := testBatch(tb, i+10*p, base, epoch, producer, int32(100*i), n, 2+rng.IntN(100_000))
				all = append(all, L0Batch{Topic: where.Topic, Partition: where.Partition, AppendTime: int64(i), Batch: b})
				want[where] = append(want[where], b...)
				base += int64(n)
			}
		}
	}
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all, want
}

// checkObject stores the object and reads every block back through its record.
func checkObject(t *testing.T, o *L0Object, want map[meta.Partition][]byte) {
	t.Helper()
	data := bytes.Join(o.Body, nil)
	if int64(len(data)) != o.Size {
		t.Fatalf("object of %d bytes says %d", len(data), o.Size)
	}
	if err := CheckL0Header(data); err != nil {
		t.Error(err)
	}
	s := &mapStore{objects: map[string][]byte{"o": data}}
	index, err := ReadL0Index(t.Context(), s, recordOf(o, "o", false))
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(index) != fmt.Sprint(o.Index) {
		t.Fatalf("index read back differs:\n%v\n%v", index, o.Index)
	}
	got := map[meta.Partition][]byte{}
	position := int64(l0HeaderSize)
	for i, e := range index.Entries {
		if e.Position != position {
			t.Fatalf("block %d at %d, the one before ends at %d", i, e.Position, position)
		}
		position += int64(e.Length)
		block, err := ReadBlock(t.Context(), s, "o", e, nil)
		if err != nil {
			t.Fatal(err)
		}
		checkBlock(t, e, block)
		got[e.Where()] = append(got[e.Where()], block...)
	}
	for where, data := range want {
		if !bytes.Equal(got[where], data) {
			t.Errorf("partition %v: %d bytes, want %d, or other ones", where, len(got[where]), len(data))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d partitions, want %d", len(got), len(want))
	}
}

// checkBlock compares an entry with the batches that its block holds.
func checkBlock(t *testing.T, e meta.L0Entry, block []byte) {
	t.Helper()
	next, batches, maxTime := e.BaseOffset, int32(0), int64(-1)
	for rest := block; len(rest) > 0; batches++ {
		var b record.Batch
		var err error
		if b, rest, err = record.Next(rest); err != nil {
			t.Fatal(err)
		}
		if b.BaseOffset() != next || b.LeaderEpoch() != e.Epoch {
			t.Fatalf("batch at %d of epoch %d in block %+v, want offset %d", b.BaseOffset(), b.LeaderEpoch(), e, next)
		}
		next, maxTime = b.NextOffset(), max(maxTime, b.MaxTimestamp())
	}
	if next != e.End() || batches != e.Batches || maxTime != e.MaxTimestamp || e.FirstAppend > e.LastAppend {
		t.Errorf("entry %+v: batches end at %d, are %d, newest %d", e, next, batches, maxTime)
	}
	if len(block) > l0BlockBytes && batches > 1 {
		t.Errorf("block of %d bytes with %d batches", len(block), batches)
	}
}

func TestBuildAndFold(t *testing.T) {
	for seed := range uint64(20) {
		batches, want := randomLog(t, seed)
		whole, err := BuildL0(batches)
		if err != nil {
			t.Fatal(err)
		}
		checkObject(t, whole, want)
		checkProducers(t, whole, batches)

		// The same batches in four objects, folded, make the same object but for what blocks could not join inside an input.
		s := &mapStore{objects: map[string][]byte{}}
		var inputs []*meta.L0Record
		for i := range 4 {
			var part []L0Batch
			for j, b := range batches {
				if j%4 == i {
					part = append(part, b)
				}
			}
			o, err := BuildL0(part)
			if err != nil {
				t.Fatal(err)
			}
			name := fmt.Sprint("in", i)
			s.objects[name] = bytes.Join(o.Body, nil)
			inputs = append(inputs, recordOf(o, name, i%2 == 0))
		}
		folded, err := Fold(t.Context(), s, inputs, nil)
		if err != nil {
			t.Fatal(err)
		}
		checkObject(t, folded, want)
		checkProducers(t, folded, batches)

		// Excluded partitions and refused entries are gone, with their producers.
		gone := meta.Partition{Topic: meta.TopicID{2, 7}, Partition: 1}
		for _, rec := range inputs {
			rec.Excluded = []meta.Partition{gone}
		}
		refused := meta.TopicID{1, 7}
		folded, err = Fold(t.Context(), s, inputs, func(e meta.L0Entry) bool { return e.Topic != refused })
		if err != nil {
			t.Fatal(err)
		}
		rest := slices.DeleteFunc(slices.Clone(batches), func(b L0Batch) bool {
			return b.Topic == refused || b.Topic == gone.Topic && b.Partition == gone.Partition
		})
		for where := range want {
			if where == gone || where.Topic == refused {
				delete(want, where)
			}
		}
		checkObject(t, folded, want)
		checkProducers(t, folded, rest)

		nothing, err := Fold(t.Context(), s, inputs, func(meta.L0Entry) bool { return false })
		if err != nil || len(nothing.Index.Entries)+len(nothing.Index.Producers) != 0 {
			t.Errorf("fold of nothing: %v, %v", nothing, err)
		}
	}
}

// checkProducers compares the ranges with a plain computation.
func checkProducers(t *testing.T, o *L0Object, batches []L0Batch) {
	t.Helper()
	type owner struct {
		meta.Partition
		id int64
	}
	want, got := map[owner][]int64{}, map[owner][]int64{}
	for _, b := range batches {
		if id := b.Batch.ProducerID(); id >= 0 {
			k := owner{meta.Partition{Topic: b.Topic, Partition: b.Partition}, id}
			want[k] = append(want[k], b.Batch.BaseOffset())
		}
	}
	for k, offsets := range want {
		slices.Sort(offsets)
		want[k] = offsets[max(0, len(offsets)-5):]
	}
	for _, p := range o.Index.Producers {
		k := owner{p.Where(), p.ProducerID}
		got[k] = append(got[k], p.BaseOffset)
		if p.Epoch != 3 || p.FirstSequence != int32(100*p.AppendTime) || p.LastSequence < p.FirstSequence {
			t.Errorf("range %+v", p)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("producers %v, want %v", got, want)
	}
}

func TestBuildRefusesOverlap(t *testing.T) {
	topic := meta.TopicID{1}
	a, b := testBatch(t, 1, 10, 1, -1, -1, 5, 10), testBatch(t, 2, 14, 2, -1, -1, 5, 10)
	if _, err := BuildL0([]L0Batch{{Topic: topic, Batch: a}, {Topic: topic, Batch: b}}); err == nil {
		t.Error("two records at offset 14 were accepted")
	}
}

// TestCorruption flips each byte of an object in turn: no read ever returns other bytes than were written.
func TestCorruption(t *testing.T) {
	batches := []L0Batch{
		{Topic: meta.TopicID{1}, Batch: testBatch(t, 1, 0, 1, 9, 0, 2, 40)},
		{Topic: meta.TopicID{1}, Partition: 1, Batch: testBatch(t, 2, 7, 1, -1, -1, 3, 40)},
	}
	o, err := BuildL0(batches)
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Join(o.Body, nil)
	rec := recordOf(o, "o", false)
	for at := range data {
		damaged := slices.Clone(data)
		damaged[at] ^= 0x10
		s := &mapStore{objects: map[string][]byte{"o": damaged}}
		wrong := 0
		_, err := ReadL0Index(t.Context(), s, rec)
		wrong += expectCorrupt(t, at, err)
		for i, e := range o.Index.Entries {
			block, err := ReadBlock(t.Context(), s, "o", e, nil)
			if err == nil && !bytes.Equal(block, batches[i].Batch) {
				t.Fatalf("byte %d: bad bytes served", at)
			}
			wrong += expectCorrupt(t, at, err)
		}
		if at >= l0HeaderSize && wrong != 1 {
			t.Errorf("byte %d: damage was noticed %d times", at, wrong)
		}
		if _, err := Fold(t.Context(), s, []*meta.L0Record{rec}, nil); at >= l0HeaderSize && expectCorrupt(t, at, err) != 1 {
			t.Errorf("byte %d: folded", at)
		}
	}
	for cut := range data {
		s := &mapStore{objects: map[string][]byte{"o": data[:cut]}}
		if _, err := ReadL0Index(t.Context(), s, rec); expectCorrupt(t, cut, err) != 1 {
			t.Errorf("cut at %d: index read", cut)
		}
	}
	// What is damaged on its way once is read again.
	s := &mapStore{objects: map[string][]byte{"o": data}}
	for _, e := range o.Index.Entries {
		s.mangle = func(p []byte) { p[3] ^= 1 }
		if _, err := ReadBlock(t.Context(), s, "o", e, nil); err != nil {
			t.Error(err)
		}
	}
	s.mangle = func(p []byte) { p[3] ^= 1 }
	if _, err := Fold(t.Context(), s, []*meta.L0Record{rec}, nil); err != nil {
		t.Error(err)
	}
	if _, err := ReadBlock(t.Context(), s, "absent", o.Index.Entries[0], nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent object: %v", err)
	}
}

func expectCorrupt(t *testing.T, at int, err error) int {
	t.Helper()
	var corrupt *CorruptionError
	if err == nil {
		return 0
	}
	if !errors.As(err, &corrupt) || corrupt.Object != "o" {
		t.Errorf("byte %d: %v is no corruption of o", at, err)
	}
	return 1
}

func FuzzL0Tail(f *testing.F) {
	o, err := BuildL0([]L0Batch{{Topic: meta.TopicID{1}, Batch: testBatch(f, 1, 0, 1, 9, 0, 2, 40)}})
	if err != nil {
		f.Fatal(err)
	}
	tail := bytes.Join(o.Body, nil)[o.IndexOffset:]
	f.Add(tail, o.IndexOffset)
	f.Fuzz(func(t *testing.T, tail []byte, offset int64) {
		rec := &meta.L0Record{Object: "o", IndexOffset: offset, IndexLength: int32(len(tail) - l0FooterSize), Size: offset + int64(len(tail))}
		if len(tail) >= l0FooterSize {
			// Give the fuzzer the checksums, so that it gets past them.
			encoded := tail[:len(tail)-l0FooterSize]
			rec.IndexCRC = meta.CRC32C(encoded)
			tail = append(slices.Clone(encoded), encodeL0Footer(l0Footer{
				indexOffset: rec.IndexOffset, indexLength: uint32(len(encoded)), indexCRC: rec.IndexCRC, size: rec.Size,
			})...)
		}
		index, err := decodeL0Tail(tail, rec)
		if err != nil {
			return
		}
		for _, e := range index.Entries {
			if e.Position < l0HeaderSize || e.Position+int64(e.Length) > offset {
				t.Errorf("block outside the object: %+v", e)
			}
		}
	})
}

func FuzzL0Footer(f *testing.F) {
	f.Add(encodeL0Footer(l0Footer{indexOffset: 16, indexLength: 3, size: 59}))
	f.Fuzz(func(t *testing.T, p []byte) {
		d, err := decodeL0Footer(p)
		if err == nil && !bytes.Equal(encodeL0Footer(d), p) {
			t.Errorf("footer %x reads as %+v", p, d)
		}
	})
}

func BenchmarkBuildL0(b *testing.B) {
	var batches []L0Batch
	for i := range 128 { // 8 MiB of 64 KiB
		p := i % 16
		batches = append(batches, L0Batch{Topic: meta.TopicID{1}, Partition: int32(p), Batch: testBatch(b, i, int64(i/16)*64, 1, 5, int32(i), 64, 960)})
	}
	b.ReportAllocs()
	var size int64
	for b.Loop() {
		o, err := BuildL0(batches)
		if err != nil {
			b.Fatal(err)
		}
		size = o.Size
	}
	b.SetBytes(size)
}

func BenchmarkReadBlock(b *testing.B) {
	batch := testBatch(b, 1, 0, 1, -1, -1, 1000, 1000)
	o, err := BuildL0([]L0Batch{{Topic: meta.TopicID{1}, Batch: batch}})
	if err != nil {
		b.Fatal(err)
	}
	s := &mapStore{objects: map[string][]byte{"o": bytes.Join(o.Body, nil)}}
	b.SetBytes(int64(len(batch)))
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		if buf, err = ReadBlock(b.Context(), s, "o", o.Index.Entries[0], buf); err != nil {
			b.Fatal(err)
		}
	}
}
