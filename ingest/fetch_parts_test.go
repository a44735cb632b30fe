package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier"
	"github.com/tidemark-io/tidemark/tier/tierfake"
)

// many makes a topic of several partitions.
func (w *nodeWorld) many(name string, partitions int32, settings map[string]string) meta.Topic {
	w.t.Helper()
	topic, _, err := w.node.CreateTopic(w.ctx, name, partitions, settings, false)
	if err != nil {
		w.t.Fatal(err)
	}
	return topic
}

// fill appends one batch to a partition.
func (w *nodeWorld) fill(topic meta.Topic, partition int32, values ...string) {
	w.t.Helper()
	if _, err := w.node.Produce(w.ctx, ProduceRequest{Topic: topic.Name, Partition: partition, Batch: oneBatch(values...)}); err != nil {
		w.t.Fatal(err)
	}
}

// saidParts puts into words what came of each part: its values, or why there are none.
func saidParts(t *testing.T, parts []PartFetched) string {
	t.Helper()
	var out []string
	for _, p := range parts {
		if p.Err != nil {
			out = append(out, string(ReasonOf(p.Err)))
			continue
		}
		var values []string
		for _, rest := range p.Batches {
			for len(rest) > 0 {
				b, after, err := record.Next(rest)
				if err != nil {
					t.Fatal(err)
				}
				for r, err := range b.Records(record.Limits{}) {
					if err != nil {
						t.Fatal(err)
					}
					if len(r.Value) > 8 {
						r.Value = r.Value[:8]
					}
					values = append(values, string(r.Value))
				}
				rest = after
			}
		}
		out = append(out, fmt.Sprintf("%s<%d", strings.Join(values, ","), p.NextOffset))
	}
	return strings.Join(out, " ")
}

func TestPartsStandForThemselves(t *testing.T) {
	inNodeWorld(t, nil, func(w *nodeWorld) {
		t := w.t
		a, b := w.many("a", 2, map[string]string{"durability": "disk"}), w.many("b", 1, nil)
		w.fill(a, 1, "x", "y")
		w.fill(b, 0, "z")
		leads := w.node.current.Load().core.partitions[meta.Partition{Topic: b.ID}].epoch
		began := clock.System().Now()
		got, err := w.node.FetchParts(w.ctx, FetchPartsRequest{MaxWait: time.Hour, MinBytes: 1 << 20, Parts: []PartTarget{
			{Topic: a.ID, Partition: 0},
			{Topic: a.ID, Partition: 1, Offset: 1},
			{Topic: a.ID, Partition: 2},
			{Topic: b.ID, Epoch: leads},
			{Topic: b.ID, Epoch: leads + 1},
			{Topic: meta.TopicID{9}},
			{Topic: a.ID, Partition: 1, Offset: 3},
			{Topic: a.ID, Partition: 1, Offset: -1},
			{Topic: a.ID, Partition: 1, Offset: 2},
		}})
		if err != nil {
			t.Fatal(err)
		}
		const want = "<0 x,y<2 UNKNOWN_PARTITION z<1 NOT_LEADER UNKNOWN_TOPIC OFFSET_OUT_OF_RANGE OFFSET_OUT_OF_RANGE <2"
		if said := saidParts(t, got); said != want {
			t.Fatalf("%s\nwant %s", said, want)
		}
		if waited := clock.System().Now().Sub(began); waited > time.Minute {
			t.Fatalf("errors were told after %v", waited)
		}
		if !errors.Is(got[4].Err, ErrNewEpoch) || errors.Is(got[4].Err, ErrOldEpoch) {
			t.Fatalf("of the epoch it is said %v", got[4].Err)
		}
		if got[3].LeaderEpoch != leads || got[3].HighWatermark != 1 || got[1].HighWatermark != 2 || got[1].Topic != a.ID {
			t.Fatalf("%+v", got)
		}
	})
}

// A topic that is a leader's of the past: it does not know how far the log has come, and says so instead of sending a reader back to the start.
func TestPartsOfAFormerLeaderAreNotOutOfRange(t *testing.T) {
	inNodeWorld(t, nil, func(w *nodeWorld) {
		t := w.t
		topic := w.many("t", 1, nil)
		w.fill(topic, 0, "x")
		i := w.node.current.Load()
		id := meta.Partition{Topic: topic.ID}
		done := make(chan struct{})
		i.post(func(time.Time) {
			i.core.partitions[id].epoch-- // as if the assignment that raised it were not applied yet
			close(done)
		})
		<-done
		got, err := w.node.FetchParts(w.ctx, FetchPartsRequest{Parts: []PartTarget{{Topic: topic.ID, Offset: 7}, {Topic: topic.ID}}})
		if err != nil || saidParts(t, got) != "NOT_LEADER x<1" {
			t.Fatalf("%s, %v", saidParts(t, got), err)
		}
		i.post(func(time.Time) { i.core.partitions[id].epoch++ })
	})
}

func TestPartsWaitAndShare(t *testing.T) {
	inNodeWorld(t, nil, func(w *nodeWorld) {
		t := w.t
		disk := map[string]string{"durability": "disk"}
		a, b := w.many("a", 1, disk), w.many("b", 1, disk)
		both := []PartTarget{{Topic: a.ID}, {Topic: b.ID}}
		began := clock.System().Now()
		got, err := w.node.FetchParts(w.ctx, FetchPartsRequest{Parts: both, MaxWait: 5 * time.Second})
		if waited := clock.System().Now().Sub(began); err != nil || saidParts(t, got) != "<0 <0" || waited != 5*time.Second {
			t.Fatalf("%s, %v after %v", saidParts(t, got), err, waited)
		}
		answer := make(chan string, 1)
		go func() {
			got, err := w.node.FetchParts(w.ctx, FetchPartsRequest{Parts: both, MaxWait: time.Hour, MinBytes: 150})
			if err != nil {
				t.Error(err)
			}
			answer <- saidParts(t, got)
		}()
		synctest.Wait()
		w.fill(a, 0, strings.Repeat("a", 50))
		synctest.Wait()
		select {
		case said := <-answer:
			t.Fatalf("too little was there, and the answer is %s", said)
		default:
		}
		w.fill(b, 0, strings.Repeat("b", 50))
		if said := <-answer; said != "aaaaaaaa<1 bbbbbbbb<1" {
			t.Fatal(said)
		}
		// The first batch is given though it is larger than every cap, the others only where they fit, together and each by itself.
		w.fill(a, 0, strings.Repeat("A", 50))
		w.fill(b, 0, strings.Repeat("B", 50))
		for _, c := range []struct {
			maxBytes, ofA, ofB int
			want               string
		}{
			{1, 0, 0, "aaaaaaaa<1 <0"},
			{1 << 20, 1, 1, "aaaaaaaa<1 <0"},
			{300, 0, 0, "aaaaaaaa,AAAAAAAA<2 <0"},
			{400, 150, 0, "aaaaaaaa<1 bbbbbbbb,BBBBBBBB<2"},
			{400, 0, 0, "aaaaaaaa,AAAAAAAA<2 bbbbbbbb<1"},
			{1 << 20, 0, 0, "aaaaaaaa,AAAAAAAA<2 bbbbbbbb,BBBBBBBB<2"},
		} {
			got, err := w.node.FetchParts(w.ctx, FetchPartsRequest{MaxBytes: c.maxBytes, Parts: []PartTarget{{Topic: a.ID, MaxBytes: c.ofA}, {Topic: b.ID, MaxBytes: c.ofB}}})
			if err != nil || saidParts(t, got) != c.want {
				t.Errorf("%+v: %s, %v", c, saidParts(t, got), err)
			}
		}
		ctx, cancel := context.WithCancel(w.ctx)
		go func() { <-clock.System().NewTimer(time.Second).C(); cancel() }()
		_, err = w.node.FetchParts(ctx, FetchPartsRequest{Parts: []PartTarget{{Topic: a.ID, Offset: 2}}, MaxWait: time.Hour})
		reasonIs(t, err, ReasonCanceled)
	})
}

// Two hundred partitions are read from the store by one request, because a flush puts them side by side; and by none while there is no room.
func TestPartsAreReadTogether(t *testing.T) {
	const partitions = 200
	setup := func(c *Config) { c.TailBytes, c.FlushInterval = 1, time.Second }
	inNodeWorld(t, setup, func(w *nodeWorld) {
		t := w.t
		topic := w.many("t", partitions, nil)
		answers := make([]<-chan outcome, partitions)
		var parts []PartTarget
		var want []string
		for p := range int32(partitions) {
			out := make(chan outcome, 1)
			w.node.ProduceAsync(w.ctx, ProduceRequest{Topic: "t", Partition: p, Batch: oneBatch(fmt.Sprint("of ", p))}, func(r ProduceResult, err error) { out <- outcome{r, err} })
			answers[p] = out
			parts = append(parts, PartTarget{Topic: topic.ID, Partition: p})
			want = append(want, fmt.Sprintf("of %d<1", p))
		}
		for _, a := range answers {
			if o := <-a; o.err != nil {
				t.Fatal(o.err)
			}
		}
		synctest.Wait()
		slices.Reverse(parts)
		slices.Reverse(want)
		puts := w.store.Count(tierfake.Put)
		asked := int64(0)
		request := FetchPartsRequest{Parts: parts, Reserve: func(n int64) bool { asked = n; return false }}
		if _, err := w.node.FetchParts(w.ctx, request); !errors.Is(err, ErrNoRoom) || w.store.Count(tierfake.ReadAt) != 0 {
			t.Fatalf("without room: %v, %d reads", err, w.store.Count(tierfake.ReadAt))
		}
		room := asked
		request.Reserve = func(n int64) bool { asked = n; return n <= room }
		got, err := w.node.FetchParts(w.ctx, request)
		if err != nil || saidParts(t, got) != strings.Join(want, " ") {
			t.Fatalf("%s, %v", saidParts(t, got), err)
		}
		if reads := w.store.Count(tierfake.ReadAt); reads > puts {
			t.Fatalf("%d reads of %d objects", reads, puts)
		}
		t.Logf("%d partitions: %d bytes of %d objects by %d reads", partitions, asked, puts, w.store.Count(tierfake.ReadAt))

		// Who brings memory finds the answer in it.
		var brought [][]byte
		request.Buffer = func(n int) []byte {
			brought = append(brought, make([]byte, n))
			return brought[len(brought)-1]
		}
		got, err = w.node.FetchParts(w.ctx, request)
		if err != nil || saidParts(t, got) != strings.Join(want, " ") || len(brought) == 0 {
			t.Fatalf("%s, %v", saidParts(t, got), err)
		}
		for _, b := range brought {
			clear(b)
		}
		if got[0].Batches[0][16] != 0 {
			t.Fatal("the answer is not in the memory that was brought for it")
		}

		// One block is damaged: its partition says so, and the others are whole.
		name := w.store.Names()[0]
		w.store.Mangle(func(object string, off int64, p []byte) int {
			if object == name && off == 16 {
				p[70] ^= 1
			}
			return len(p)
		})
		got, err = w.node.FetchParts(w.ctx, FetchPartsRequest{Parts: parts})
		bad := 0
		for _, p := range got {
			if p.Err != nil {
				bad++
				reasonIs(t, p.Err, ReasonCorruptData, name)
			}
		}
		if err != nil || bad != 1 {
			t.Fatalf("%d partitions fail, %v", bad, err)
		}
		w.store.Mangle(nil)

		// What is folded away while it is read is planned again, for those that it concerns.
		w.store.FailNext(tierfake.ReadAt, fmt.Errorf("%w: folded away", tier.ErrNotFound), tierfake.Before)
		if got, err = w.node.FetchParts(w.ctx, FetchPartsRequest{Parts: parts}); err != nil || saidParts(t, got) != strings.Join(want, " ") {
			t.Fatalf("%s, %v", saidParts(t, got), err)
		}
	})
}

// What was lost with a disk is passed over within one answer, and is not taken for news.
func TestPartsPassOverWhatIsLost(t *testing.T) {
	setup := func(c *Config) { c.IdleFlushInterval, c.TailBytes = time.Hour, 1 }
	inNodeWorld(t, setup, func(w *nodeWorld) {
		t := w.t
		topic := w.many("t", 1, map[string]string{"durability": "disk"})
		w.fill(topic, 0, "a", "b")
		if err := w.node.current.Load().flush(w.ctx, topic); err != nil {
			t.Fatal(err)
		}
		w.fill(topic, 0, "lost") // on the disk of n1 alone
		release := w.store.Hang(tierfake.Put)
		ctx, cancel := context.WithCancel(w.ctx)
		cancel()
		if err := w.node.Close(ctx); err != nil {
			t.Fatal(err)
		}
		release()
		second := w.join("n2")
		i := second.current.Load()
		if result, err := second.deps.Meta.Forget(w.ctx, i.follower, "n1", false); err != nil || len(result.Lost) != 1 {
			t.Fatalf("%+v, %v", result, err)
		}
		w.after(time.Second)
		fetch := func(offset int64, wait time.Duration) ([]PartFetched, time.Duration) {
			began := clock.System().Now()
			got, err := second.FetchParts(w.ctx, FetchPartsRequest{Parts: []PartTarget{{Topic: topic.ID, Offset: offset}}, MaxWait: wait})
			if err != nil {
				t.Fatal(err)
			}
			return got, clock.System().Now().Sub(began)
		}
		const behind = 2 + meta.LostGap
		if got, waited := fetch(2, time.Minute); saidParts(t, got) != fmt.Sprintf("<%d", behind) || waited != time.Minute {
			t.Fatalf("nothing is behind it yet, and after %v there is %s", waited, saidParts(t, got))
		}
		for _, v := range []string{"c", "d"} {
			if _, err := second.Produce(w.ctx, ProduceRequest{Topic: "t", Batch: oneBatch(v)}); err != nil {
				t.Fatal(err)
			}
			if err := i.flush(w.ctx, topic); err != nil {
				t.Fatal(err)
			}
		}
		w.after(time.Second)
		for _, c := range []struct {
			from int64
			want string
		}{{0, "a,b,c,d"}, {1, "a,b,c,d"}, {2, "c,d"}, {3, "c,d"}, {behind - 1, "c,d"}, {behind, "c,d"}, {behind + 1, "d"}} {
			got, waited := fetch(c.from, time.Minute)
			if said := saidParts(t, got); said != fmt.Sprintf("%s<%d", c.want, behind+2) || waited > time.Second || len(got[0].Lost) != 0 {
				t.Errorf("from %d: %s after %v", c.from, said, waited)
			}
		}
		for _, c := range []struct {
			epoch, at meta.Epoch
			end       int64
		}{{1, 1, behind}, {2, 2, behind + 2}} {
			at, end, err := second.EpochEnd(meta.Partition{Topic: topic.ID}, c.epoch)
			if err != nil || at != c.at || end != c.end {
				t.Errorf("epoch %d ends at %d of %d, %v; want %d of %d", c.epoch, end, at, err, c.end, c.at)
			}
		}
		if err := second.Close(w.ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		w.open()
	})
}

// A partition that is about to be led counts as one with nothing new; one that was lost is told at once.
func TestFetcherOfParts(t *testing.T) {
	a, b := meta.Partition{Topic: meta.TopicID{1}}, meta.Partition{Topic: meta.TopicID{2}}
	start := time.UnixMilli(1_000_000)
	log := shelf{a: -1, b: 0}
	f := fetcher{view: log, byPartition: make(map[meta.Partition][]fetchWait)}
	ask := func(minBytes int) *fetchCall {
		call := &fetchCall{
			partitions: []fetchTarget{{id: a}, {id: b}}, minBytes: minBytes, maxBytes: 100, each: true, deadline: start.Add(time.Second), reply: make(chan fetchPlan, 1),
		}
		f.Step(fetchAsked{call: call, now: start})
		return call
	}
	got := func(call *fetchCall) string {
		select {
		case plan := <-call.reply:
			var out []string
			for _, p := range plan.partitions {
				if p.err != nil {
					out = append(out, string(p.err.Reason))
				} else {
					out = append(out, fmt.Sprint(len(p.tail), p.hwm < 0))
				}
			}
			return strings.Join(out, ", ")
		default:
			return "waits"
		}
	}
	calls := map[string]*fetchCall{"little": ask(1), "much": ask(50), "more": ask(1000)}
	check := func(when string, want map[string]string) {
		t.Helper()
		for name, call := range calls {
			if said := got(call); said != want[name] {
				t.Errorf("%s, who waits for %s: %s, want %s", when, name, said, want[name])
			} else if said != "waits" {
				delete(calls, name)
			}
		}
	}
	check("one is about to be led", map[string]string{"little": "waits", "much": "waits", "more": "waits"})
	f.Step(fetchAdvanced{id: a})
	check("it still is", map[string]string{"little": "waits", "much": "waits", "more": "waits"})
	log[b] = 30
	f.Step(fetchAdvanced{id: b})
	check("the other has something", map[string]string{"little": "0 true, 1 false", "much": "waits", "more": "waits"})
	log[a] = 20
	f.Step(fetchAdvanced{id: a})
	check("both have", map[string]string{"much": "1 false, 1 false", "more": "waits"})
	delete(log, a)
	f.Step(fetchAdvanced{id: a})
	check("one is lost", map[string]string{"more": "NOT_LEADER, 1 false"})
	if len(f.byPartition)+len(f.deadlines) != 0 {
		t.Fatal("somebody is still waited for")
	}
	// Deadlines are met in their order, whatever the order of the questions.
	log[a], log[b] = 0, 0
	var late []*fetchCall
	for _, n := range []int{5, 1, 4, 2, 3} {
		call := &fetchCall{partitions: []fetchTarget{{id: a}}, minBytes: 1, maxBytes: 1, each: true, deadline: start.Add(time.Duration(n) * time.Second), reply: make(chan fetchPlan, 1)}
		f.Step(fetchAsked{call: call, now: start})
		late = append(late, call)
	}
	f.Step(fetchCanceled{call: late[3]})
	if next := f.Step(fetchTick{now: start.Add(3 * time.Second)}); !next.Equal(start.Add(4 * time.Second)) {
		t.Fatalf("ticks next at %v", next)
	}
	for n, want := range []string{"waits", "0 false", "waits", "waits", "0 false"} {
		if said := got(late[n]); said != want {
			t.Errorf("call %d: %s, want %s", n, said, want)
		}
	}
	f.Step(fetchEnded{cause: Errorf(ReasonUnavailable, "over")})
	if len(f.byPartition)+len(f.deadlines) != 0 {
		t.Fatal("somebody is still waited for")
	}
}

// A fetch of many partitions does not wait for more than the node cares to count.
func TestManyPartsWaitForLittle(t *testing.T) {
	inNodeWorld(t, nil, func(w *nodeWorld) {
		t := w.t
		topic := w.many("t", fewParts+1, map[string]string{"durability": "disk"})
		r := FetchPartsRequest{MinBytes: 50 << 20, MaxWait: time.Hour}
		for p := range topic.Partitions {
			r.Parts = append(r.Parts, PartTarget{Topic: topic.ID, Partition: p})
		}
		for range 3 {
			w.fill(topic, 3, strings.Repeat("x", 400_000))
		}
		began := clock.System().Now()
		got, err := w.node.FetchParts(w.ctx, r)
		if took := clock.System().Now().Sub(began); err != nil || got[3].NextOffset != 3 || took > time.Minute {
			t.Errorf("offset %d after %s, %v", got[3].NextOffset, took, err)
		}
		r.Parts = r.Parts[:fewParts]
		if _, err = w.node.FetchParts(w.ctx, r); err != nil || clock.System().Now().Sub(began) < time.Hour {
			t.Errorf("a fetch of few waited %s, %v", clock.System().Now().Sub(began), err)
		}
	})
}

// However many ask at once where partitions stand, etcd is asked once or twice.
func TestQuestionsToEtcdAreShared(t *testing.T) {
	inNodeWorld(t, nil, func(w *nodeWorld) {
		t := w.t
		topic := w.many("t", 1, nil)
		asked, goOn := 0, make(chan struct{})
		var work sync.WaitGroup
		defer work.Wait()
		work.Go(func() {
			_, err := w.node.looks.read(w.ctx, func(ctx context.Context) (meta.Revision, error) {
				asked++
				<-goOn
				return w.node.deps.Meta.Revision(ctx)
			})
			if err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		for range 100 {
			work.Go(func() {
				states, err := w.node.PartStates(w.ctx, []meta.Partition{{Topic: topic.ID}})
				if err != nil || states[0].Err != nil {
					t.Error(err, states)
				}
			})
		}
		synctest.Wait()
		close(goOn)
		work.Wait()
		if asked != 2 {
			t.Errorf("etcd was asked %d times", asked)
		}
	})
}
