package meta

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

// testRecord is a record with one block for each entry.
func testRecord(object string, entries ...L0Entry) *L0Record {
	return &L0Record{Node: "a", Object: object, Index: L0Index{Entries: entries}}
}

func testView(topics ...TopicID) *Index {
	v := NewIndex(NewKeys("test"))
	for n, id := range topics {
		t := Topic{Name: fmt.Sprintf("t%d", n), ID: id, Partitions: 10}
		v.topics[t.Name], v.byID[id] = t, t
	}
	return v
}

// step applies one revision that removes some records and puts others.
func (v *Index) step(tb testing.TB, revision Revision, remove []string, put map[string]*L0Record) {
	tb.Helper()
	change := Change{Revision: revision}
	for _, key := range remove {
		change.Events = append(change.Events, Event{Type: EventDelete, KV: KeyValue{Key: key, Mod: revision}})
	}
	for key := range put {
		change.Events = append(change.Events, Event{Type: EventPut, KV: KeyValue{Key: key, Mod: revision, Create: revision}})
	}
	if err := v.Apply(change, put); err != nil {
		tb.Fatal(err)
	}
}

func TestHoles(t *testing.T) {
	topic := TopicID{1}
	p := Partition{Topic: topic}
	block := func(base int64, count int32) L0Entry { return L0Entry{Topic: topic, BaseOffset: base, Count: count} }
	keys := NewKeys("test")
	for _, row := range []struct {
		name   string
		steps  [][]L0Entry // one record each
		remove int         // then remove the record of this step, counted from 1
		hole   bool
		end    int64
	}{
		{name: "joined", steps: [][]L0Entry{{block(0, 2)}, {block(2, 3)}}, end: 5},
		{name: "joined within a record", steps: [][]L0Entry{{block(0, 2), block(2, 3)}}, end: 5},
		{name: "a gap at the start", steps: [][]L0Entry{{block(1, 2)}}, hole: true, end: 3},
		{name: "a gap", steps: [][]L0Entry{{block(0, 2)}, {block(3, 1)}}, hole: true, end: 4},
		{name: "a gap that is filled", steps: [][]L0Entry{{block(0, 2)}, {block(3, 1)}, {block(2, 1)}}, end: 4},
		{name: "offsets twice", steps: [][]L0Entry{{block(0, 2)}, {block(0, 2)}}, hole: true, end: 2},
		{name: "offsets twice within a block", steps: [][]L0Entry{{block(0, 4)}, {block(2, 2)}}, hole: true, end: 4},
		{name: "offsets twice, and more", steps: [][]L0Entry{{block(0, 4)}, {block(3, 2)}}, hole: true, end: 5},
		{name: "twice within a record", steps: [][]L0Entry{{block(0, 4), block(3, 2)}}, hole: true, end: 5},
		{name: "the middle is lost", steps: [][]L0Entry{{block(0, 2)}, {block(2, 2)}, {block(4, 2)}}, remove: 2, hole: true, end: 6},
		{name: "the end is lost", steps: [][]L0Entry{{block(0, 2)}, {block(2, 2)}}, remove: 2, hole: true, end: 4},
		{name: "all is lost", steps: [][]L0Entry{{block(0, 2)}}, remove: 1, hole: true, end: 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			v := testView(topic)
			for n, entries := range row.steps {
				v.step(t, Revision(n+1), nil, map[string]*L0Record{keys.L0("a", 1, Seq(n+1)): testRecord(fmt.Sprint(n), entries...)})
			}
			if row.remove > 0 {
				v.step(t, 100, []string{keys.L0("a", 1, Seq(row.remove))}, nil)
			}
			log := v.logs[p]
			if (log.hole != nil) != row.hole || log.end != row.end {
				t.Errorf("end %d, hole %v", log.end, log.hole)
			}
		})
	}
}

// TestInherit: a fresh listing that knows less than was known before is a log with a hole, not a shorter one.
func TestInherit(t *testing.T) {
	topic := TopicID{1}
	p := Partition{Topic: topic}
	old := testView(topic)
	old.step(t, 1, nil, map[string]*L0Record{old.keys.L0("a", 1, 1): testRecord("o", L0Entry{Topic: topic, Count: 5})})
	fresh := testView(topic)
	fresh.log(p).inherit(p, old.logs[p])
	if log := fresh.logs[p]; log.end != 5 || log.hole == nil {
		t.Errorf("end %d, hole %v", log.end, log.hole)
	}
}

// TestViewAgainstTwin applies random commits, folds and deletions to the view and to a list of blocks, and compares every lookup.
func TestViewAgainstTwin(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		topics := []TopicID{{1}, {2}, {3}}
		v := testView(topics...)
		type twin struct {
			key     string
			entries []L0Entry
			object  string
		}
		var records []twin // in the order of their offsets
		ends := map[Partition]int64{}
		var dead *TopicID
		for step := range 150 {
			revision := Revision(step + 2)
			key := v.keys.L0("a", Incarnation(random.Uint64()), Seq(step))
			object := fmt.Sprintf("o%d", step)
			switch {
			case len(records) > 5 && random.IntN(4) == 0: // fold some neighbours
				from := random.IntN(len(records) - 3)
				count := 2 + random.IntN(2)
				var merged []L0Entry
				var remove []string
				for _, r := range records[from : from+count] {
					remove = append(remove, r.key)
					for _, e := range r.entries {
						if dead != nil && e.Topic == *dead && random.IntN(2) == 0 {
							continue // a fold may still have what was deleted, or not
						}
						i := slices.IndexFunc(merged, func(m L0Entry) bool { return m.Where() == e.Where() && m.End() == e.BaseOffset })
						if i >= 0 {
							merged[i].Count += e.Count
						} else {
							merged = append(merged, e)
						}
					}
				}
				records = slices.Replace(records, from, from+count, twin{key: key, entries: merged, object: object})
				v.step(t, revision, remove, map[string]*L0Record{key: testRecord(object, merged...)})
			case dead == nil && step == 80:
				dead = &topics[random.IntN(len(topics))]
				name := v.byID[*dead].Name
				if err := v.Apply(Change{Revision: revision, Events: []Event{
					{Type: EventDelete, KV: KeyValue{Key: v.keys.Topic(name), Mod: revision}},
					{Type: EventPut, KV: KeyValue{Key: v.keys.Deleted(*dead), Mod: revision}},
				}}, nil); err != nil {
					t.Fatal(err)
				}
			default:
				var entries []L0Entry
				for _, id := range topics {
					if dead != nil && id == *dead || random.IntN(3) == 0 {
						continue
					}
					p := Partition{Topic: id, Partition: random.Int32N(3)}
					e := L0Entry{Topic: id, Partition: p.Partition, BaseOffset: ends[p], Count: 1 + random.Int32N(4), MaxTimestamp: random.Int64N(1000)}
					ends[p] = e.End()
					entries = append(entries, e)
				}
				records = append(records, twin{key: key, entries: entries, object: object})
				v.step(t, revision, nil, map[string]*L0Record{key: testRecord(object, entries...)})
			}
		}
		for p, end := range ends {
			log := v.logs[p]
			if dead != nil && p.Topic == *dead {
				if log != nil {
					t.Fatalf("seed %d: the deleted topic has a log", seed)
				}
				continue
			}
			if log.hole != nil || log.end != end {
				t.Fatalf("seed %d: end %d of %d, %v", seed, log.end, end, log.hole)
			}
			for offset := int64(-1); offset <= end; offset++ {
				want := ""
				for _, r := range records {
					for _, e := range r.entries {
						if e.Where() == p && e.BaseOffset <= offset && offset < e.End() {
							want = r.object
						}
					}
				}
				b, ok := log.lookup(offset)
				if b.Object != want || ok != (want != "") {
					t.Fatalf("seed %d: offset %d is in %q, want %q", seed, offset, b.Object, want)
				}
			}
		}
	}
}

func TestRememberProducers(t *testing.T) {
	l := partitionLog{producers: make(map[int64][]L0Producer)}
	for _, base := range []int64{50, 10, 30, 30, 20, 60, 40, 5, 60} {
		l.remember(L0Producer{ProducerID: 1, BaseOffset: base})
		l.remember(L0Producer{ProducerID: 0, BaseOffset: base + 1})
	}
	var got []int64
	for _, q := range l.batches() {
		got = append(got, q.BaseOffset)
	}
	if want := []int64{21, 31, 41, 51, 61, 20, 30, 40, 50, 60}; !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
}

const benchPartitions = 100

// bigView has one block for each of a million (partition, offset) pairs, 100 a record.
func bigView(tb testing.TB, blocks int) *Index {
	tb.Helper()
	topic := TopicID{1}
	v := NewIndex(NewKeys("test"))
	v.byID[topic] = Topic{Name: "t", ID: topic, Partitions: benchPartitions}
	for n := range blocks / benchPartitions {
		v.commitOne(tb, topic, n)
	}
	return v
}

func (v *Index) commitOne(tb testing.TB, topic TopicID, n int) {
	tb.Helper()
	entries := make([]L0Entry, benchPartitions)
	for p := range entries {
		entries[p] = L0Entry{Topic: topic, Partition: int32(p), Epoch: 1, BaseOffset: int64(n) * 10, Count: 10}
	}
	v.step(tb, Revision(n+1), nil, map[string]*L0Record{v.keys.L0("a", 1, Seq(n)): testRecord("l0/a/0000000000000001/00000000000000000001-0", entries...)})
}

// BenchmarkIndexMemory reports what a block takes.
func BenchmarkIndexMemory(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		v := bigView(b, 1_000_000)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "bytes/block")
		runtime.KeepAlive(v)
	}
}

// BenchmarkApplyCommit applies commits of 100 blocks to an index of a million.
func BenchmarkApplyCommit(b *testing.B) {
	v := bigView(b, 1_000_000)
	n := 1_000_000 / benchPartitions
	for b.Loop() {
		v.commitOne(b, TopicID{1}, n)
		n++
	}
}

// BenchmarkApplyFold folds 100 records of 100 blocks each into one, in the middle of an index of a million.
func BenchmarkApplyFold(b *testing.B) {
	v := bigView(b, 1_000_000)
	at := 1000
	for b.Loop() {
		remove := make([]string, 100)
		for n := range remove {
			remove[n] = v.keys.L0("a", 1, Seq(at+n))
		}
		entries := make([]L0Entry, benchPartitions)
		for p := range entries {
			entries[p] = L0Entry{Topic: TopicID{1}, Partition: int32(p), Epoch: 1, BaseOffset: int64(at) * 10, Count: 1000}
		}
		v.step(b, v.revision+1, remove, map[string]*L0Record{v.keys.L0("a", 2, Seq(at)): testRecord("fold", entries...)})
		if at += 100; at > 9_000 {
			b.StopTimer()
			v, at = bigView(b, 1_000_000), 1000
			b.StartTimer()
		}
	}
}

// BenchmarkLookup finds offsets in an index of a million blocks.
func BenchmarkLookup(b *testing.B) {
	v := bigView(b, 1_000_000)
	random := rand.New(rand.NewPCG(1, 1))
	for b.Loop() {
		p := Partition{Topic: TopicID{1}, Partition: random.Int32N(benchPartitions)}
		if _, ok := v.logs[p].lookup(random.Int64N(100_000)); !ok {
			b.Fatal("not found")
		}
	}
}

// Lookups by what is not in the order of offsets, and by epoch, which is.
func TestLookups(t *testing.T) {
	topic := TopicID{1}
	p := Partition{Topic: topic}
	block := func(base int64, epoch Epoch, newest int64) L0Entry {
		return L0Entry{Topic: topic, BaseOffset: base, Count: 10, Epoch: epoch, MaxTimestamp: newest}
	}
	v := testView(topic)
	if _, ok := v.LookupNewest(p); ok {
		t.Error("a log without blocks has a newest one")
	}
	if _, before, later := v.LookupEpoch(p, 1); later || before != 0 {
		t.Error("a log without blocks has epochs")
	}
	v.step(t, 1, nil, map[string]*L0Record{NewKeys("test").L0("a", 1, 1): testRecord("o", block(0, 2, 50), block(10, 2, -7), block(20, 5, 90), block(30, 9, 90), block(40, 9, 60))})
	if b, ok := v.LookupNewest(p); !ok || b.BaseOffset != 20 {
		t.Errorf("the newest is at %d", b.BaseOffset)
	}
	for epoch, want := range map[Epoch]string{0: "0 0 true", 1: "0 0 true", 2: "20 2 true", 4: "20 2 true", 5: "30 5 true", 8: "30 5 true", 9: "0 9 false", 10: "0 9 false"} {
		first, before, later := v.LookupEpoch(p, epoch)
		if got := fmt.Sprint(first, before, later); got != want {
			t.Errorf("epoch %d: %s, want %s", epoch, got, want)
		}
	}
}

// Of a partition's producers those that were the last to append are remembered, in whatever order records come.
func TestProducersAreForgotten(t *testing.T) {
	id := TopicID{1}
	v := testView(id)
	batch := func(producer, offset int64) L0Producer {
		return L0Producer{Topic: id, ProducerID: producer, BaseOffset: offset}
	}
	old := testRecord("old", L0Entry{Topic: id, BaseOffset: 0, Count: 2})
	old.Index.Producers = []L0Producer{batch(1, 0), batch(2, 1)}
	v.step(t, 1, nil, map[string]*L0Record{v.keys.prefix + dirL0 + "old": old})
	const more = 2 * ProducersKept
	many := testRecord("many", L0Entry{Topic: id, BaseOffset: 2, Count: more})
	for n := range int64(more) {
		many.Index.Producers = append(many.Index.Producers, batch(10+n, 2+n))
	}
	again := testRecord("again", L0Entry{Topic: id, BaseOffset: 2 + more, Count: 1})
	again.Index.Producers = []L0Producer{batch(10, 2+more), batch(2, 1)} // one that was forgotten, and what a fold says anew
	v.step(t, 2, nil, map[string]*L0Record{v.keys.prefix + dirL0 + "many": many})
	v.step(t, 3, nil, map[string]*L0Record{v.keys.prefix + dirL0 + "again": again})
	known := make(map[int64]bool)
	for _, q := range v.Producers(Partition{Topic: id}) {
		known[q.ProducerID] = true
	}
	if n := len(known); n < ProducersKept || n > ProducersKept+ProducersKept/8 {
		t.Errorf("%d producers are remembered", n)
	}
	if known[1] || !known[10] {
		t.Error("the wrong ones are forgotten")
	}
	for n := range int64(ProducersKept - 1) {
		if !known[10+more-1-n] {
			t.Fatalf("the last but %d is forgotten", n)
		}
	}
}
