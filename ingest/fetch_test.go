package ingest

import (
	"fmt"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
)

// shelf is a log view that has some bytes of each partition.
type shelf map[meta.Partition]int

func (s shelf) available(t fetchTarget, _ int) (n int, next int64, err *Error) {
	n, ok := s[t.id]
	if !ok {
		return 0, 0, Errorf(ReasonNotLeader, "not here")
	}
	return n - int(t.offset), int64(n), nil // each byte has an offset
}

func (s shelf) isComing(id meta.Partition) bool { return s[id] < 0 }

func (s shelf) plan(t fetchTarget, maxBytes int) (partitionPlan, *Error) {
	if s[t.id] < 0 {
		return partitionPlan{}, Errorf(ReasonNotLeader, "not here yet")
	}
	p := partitionPlan{fetchTarget: t}
	if n := s[t.id]; n > 0 && maxBytes > 0 {
		p.tail = []plannedBatch{{size: n}}
	}
	return p, nil
}

func (s shelf) passLost(t fetchTarget) fetchTarget { return t }

func TestFetcher(t *testing.T) {
	a, b := meta.Partition{Topic: meta.TopicID{1}}, meta.Partition{Topic: meta.TopicID{1}, Partition: 1}
	start := time.UnixMilli(1_000_000)
	log := shelf{a: 0, b: 0}
	f := fetcher{view: log, byPartition: make(map[meta.Partition][]fetchWait)}
	ask := func(minBytes, waitMs int) *fetchCall {
		return &fetchCall{
			partitions: []fetchTarget{{id: a}, {id: b}}, minBytes: minBytes, maxBytes: 1000,
			deadline: start.Add(time.Duration(waitMs) * time.Millisecond), reply: make(chan fetchPlan, 1),
		}
	}
	// got says what a call was answered: "-" not yet, "err", or how many batches.
	got := func(call *fetchCall) string {
		select {
		case p := <-call.reply:
			if p.err != nil {
				return string(p.err.Reason)
			}
			n := 0
			for _, part := range p.partitions {
				n += len(part.tail)
			}
			return fmt.Sprint(n)
		default:
			return "-"
		}
	}
	expect := func(what string, call *fetchCall, want string) {
		t.Helper()
		if g := got(call); g != want {
			t.Fatalf("%s: %s, want %s", what, g, want)
		}
	}
	patient, later, canceled, greedy := ask(10, 100), ask(10, 200), ask(10, 300), ask(1<<20, 400)
	now := ask(1, 0)
	f.Step(fetchAsked{call: now, now: start})
	expect("no patience", now, "0")
	for _, c := range []*fetchCall{patient, later, canceled, greedy} {
		f.Step(fetchAsked{call: c, now: start})
		expect("nothing is there", c, "-")
	}
	f.Step(fetchCanceled{call: canceled})
	log[a] = 6
	f.Step(fetchAdvanced{id: a})
	expect("too little", patient, "-")
	if next := f.Step(fetchTick{now: start.Add(100 * time.Millisecond)}); !next.Equal(later.deadline) {
		t.Fatalf("ticks next at %v", next)
	}
	expect("at the deadline what there is", patient, "1")
	log[b] = 4
	f.Step(fetchAdvanced{id: b})
	expect("enough from both", later, "2")
	expect("canceled", canceled, "-")
	delete(log, b)
	f.Step(fetchAdvanced{id: b})
	expect("a partition was lost", greedy, string(ReasonNotLeader))
	log[b] = 0
	last := ask(1<<20, 500)
	f.Step(fetchAsked{call: last, now: start})
	f.Step(fetchEnded{cause: Errorf(ReasonUnavailable, "over")})
	expect("the end", last, string(ReasonUnavailable))
	if len(f.byPartition)+len(f.deadlines) != 0 {
		t.Fatal("somebody is still waited for")
	}
	// The cap counts over all partitions: the second gets nothing.
	log[a], log[b] = 1000, 1000
	capped := ask(1, 0)
	f.Step(fetchAsked{call: capped, now: start})
	expect("capped", capped, "1")
}

func TestTail(t *testing.T) {
	id := meta.Partition{Topic: meta.TopicID{1}}
	tl := newTail(250)
	tl.lead(id, 10)
	add := func(base, next int64, inLog bool) *entry {
		e := &entry{partition: id, base: base, next: next, size: 100, batch: make(record.Batch, 100), inLog: inLog, maxTimestamp: base * 10}
		tl.append(e)
		return e
	}
	bases := func(offset, below int64, maxBytes int) string {
		out := ""
		for _, e := range tl.from(id, offset, below, maxBytes, nil) {
			out += fmt.Sprint(e.base, " ")
		}
		return out
	}
	first, second, third, fourth := add(10, 12, true), add(12, 13, true), add(13, 20, false), add(20, 21, true)
	for _, c := range []struct {
		offset, below int64
		maxBytes      int
		want          string
	}{
		{10, 21, 1000, "10 12 13 20 "}, {11, 21, 1000, "10 12 13 20 "}, {12, 21, 1000, "12 13 20 "}, {15, 21, 1, "13 "},
		{10, 21, 200, "10 12 "}, {10, 20, 1000, "10 12 13 "}, {10, 19, 1000, "10 12 "}, {21, 21, 1000, ""}, {9, 21, 1000, ""},
	} {
		if got := bases(c.offset, c.below, c.maxBytes); got != c.want {
			t.Errorf("from %d below %d, %d bytes: %q, want %q", c.offset, c.below, c.maxBytes, got, c.want)
		}
	}
	if e := tl.firstSince(id, 121, 21); e != third {
		t.Errorf("since 121: %+v", e)
	}
	if e := tl.firstSince(id, 121, 19); e != nil {
		t.Errorf("above the mark: %+v", e)
	}

	tl.evict() // 400 bytes, and 250 are allowed: the two oldest go
	if first.batch != nil || second.batch != nil || third.batch == nil || tl.cachedSize != 200 {
		t.Fatalf("%d bytes are cached", tl.cachedSize)
	}
	if at, _ := tl.first(id); at != 10 {
		t.Fatalf("the index does not cover it, and the tail begins at %d", at)
	}
	tl.covered(id, 13)
	if at, _ := tl.first(id); at != 13 {
		t.Fatalf("the tail begins at %d", at)
	}
	tl.covered(id, 12) // an older revision tells nothing new
	tl.budget = 0
	tl.evict()
	if third.batch == nil || fourth.batch == nil {
		t.Fatal("evicted though the log does not have it")
	}
	third.inLog = true
	tl.evict()
	if third.batch != nil || fourth.batch != nil || tl.cachedSize != 0 {
		t.Fatal("not evicted")
	}
	tl.covered(id, 20)
	if got := bases(20, 21, 1000); got != "20 " {
		t.Fatalf("what is left is %q", got)
	}
	tl.lose(id)
	if _, ok := tl.first(id); ok || !fourth.dropped || third.dropped {
		t.Fatal("lost wrongly")
	}
	tl.covered(id, 50) // nobody's any more
}

// countedShelf counts how often a partition was looked at.
type countedShelf struct {
	shelf

	looks *int
}

func (s countedShelf) available(t fetchTarget, enough int) (int, int64, *Error) {
	*s.looks++
	return s.shelf.available(t, enough)
}

// What comes to one partition costs a look at that one, however many others a call names, and what one brings counts once.
func TestFetcherLooksAtWhatHappened(t *testing.T) {
	start := time.UnixMilli(1_000_000)
	looks := 0
	log := shelf{}
	var targets []fetchTarget
	for n := range 1000 {
		id := meta.Partition{Topic: meta.TopicID{1}, Partition: int32(n)}
		log[id] = 0
		targets = append(targets, fetchTarget{id: id})
	}
	f := fetcher{view: countedShelf{log, &looks}, byPartition: make(map[meta.Partition][]fetchWait)}
	var calls []*fetchCall
	for n := range 100 {
		call := &fetchCall{partitions: targets, each: true, minBytes: 50, maxBytes: 1 << 20, deadline: start.Add(time.Minute + time.Duration(n*37%100)), reply: make(chan fetchPlan, 1)}
		f.Step(fetchAsked{call: call, now: start})
		calls = append(calls, call)
	}
	looks = 0
	for n := range 49 {
		log[targets[n%2].id]++
		f.Step(fetchAdvanced{id: targets[n%2].id})
	}
	if looks > 49*100 {
		t.Errorf("49 appends cost %d looks for 100 calls", looks)
	}
	f.Step(fetchCanceled{call: calls[30]})
	f.Step(fetchTick{now: start.Add(time.Minute + 50)})
	for _, id := range []meta.Partition{targets[5].id, targets[999].id} { // whoever is left is still where its partitions are
		if n := len(f.byPartition[id]); n != len(f.deadlines) {
			t.Fatalf("%d calls wait, and %d for a partition", len(f.deadlines), n)
		}
		for place, w := range f.byPartition[id] {
			if !w.call.waiting || w.call.waits[w.n].place != place || w.call.partitions[w.n].id != id {
				t.Fatal("a call is not where it was put")
			}
		}
	}
	if len(f.deadlines) == 0 || len(f.deadlines) > 60 {
		t.Fatalf("%d calls wait", len(f.deadlines))
	}
	log[targets[2].id]++ // the fiftieth
	f.Step(fetchAdvanced{id: targets[2].id})
	if len(f.byPartition)+len(f.deadlines) != 0 {
		t.Errorf("%d calls wait though there is enough", len(f.deadlines))
	}
}
