package meta

import "testing"

// TestForgettingDependsOnOffsetsAlone: records are listed by node, not by offset: a producer that was never among the forgotten keeps all of its last batches.
func TestForgettingDependsOnOffsetsAlone(t *testing.T) {
	id := TopicID{1}
	seq := func(producer, offset int64, s int32) L0Producer {
		return L0Producer{Topic: id, ProducerID: producer, BaseOffset: offset, FirstSequence: s, LastSequence: s}
	}
	const some = 6000
	fill := func(r *L0Record, from int64) {
		for n := range int64(some) {
			r.Index.Producers = append(r.Index.Producers, seq(from+n, from+n, 0))
		}
	}
	make3 := func() (a1, b1, a2 *L0Record) {
		a1 = testRecord("a1", L0Entry{Topic: id, BaseOffset: 1, Count: 1})
		a1.Index.Producers = []L0Producer{seq(1, 1, 0)}
		b1 = testRecord("b1", L0Entry{Topic: id, BaseOffset: 2, Count: some + 1})
		fill(b1, 2)
		b1.Index.Producers = append(b1.Index.Producers, seq(1, some+2, 1))
		a2 = testRecord("a2", L0Entry{Topic: id, BaseOffset: some + 3, Count: some})
		fill(a2, some+3)
		return a1, b1, a2
	}
	k := NewKeys("test")
	a1, b1, a2 := make3()
	count := func(v *Index) (n int) {
		for _, q := range v.Producers(Partition{Topic: id}) {
			if q.ProducerID == 1 {
				n++
			}
		}
		return n
	}
	live := testView(id)
	live.step(t, 1, nil, map[string]*L0Record{k.L0("a", 1, 1): a1})
	live.step(t, 2, nil, map[string]*L0Record{k.L0("b", 1, 1): b1})
	live.step(t, 3, nil, map[string]*L0Record{k.L0("a", 1, 2): a2})
	a1, b1, a2 = make3()
	listed := testView(id)
	change := Change{Revision: 9}
	loaded := map[string]*L0Record{k.L0("a", 1, 1): a1, k.L0("a", 1, 2): a2, k.L0("b", 1, 1): b1}
	for _, key := range []string{k.L0("a", 1, 1), k.L0("a", 1, 2), k.L0("b", 1, 1)} {
		change.Events = append(change.Events, Event{Type: EventPut, KV: KeyValue{Key: key, Mod: 9, Create: 9}})
	}
	if err := listed.Apply(change, loaded); err != nil {
		t.Fatal(err)
	}
	if count(live) != count(listed) {
		t.Errorf("%d batches of the producer are known to who followed, %d to who listed", count(live), count(listed))
	}
}
