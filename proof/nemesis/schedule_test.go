package nemesis

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/proof/history"
)

// paper is a cluster that exists on paper only.
func paper(nodes int) *Cluster {
	c := &Cluster{peerLinks: make(map[pair]*Link), gate: &Gate{}}
	for i := range 3 {
		c.etcd = append(c.etcd, &Etcd{index: i, name: fmt.Sprintf("etcd%d", i+1)})
		for j := range 3 {
			c.peerLinks[pair{i, j}] = &Link{name: fmt.Sprintf("etcd%d→etcd%d", i+1, j+1)}
		}
	}
	for i := range nodes {
		id := fmt.Sprintf("n%d", i+1)
		n := &Node{cluster: c, id: id, toStore: &Link{name: id + "→store"}, peers: &Link{name: "nodes→" + id}, clients: &Link{name: "client→" + id}}
		for _, e := range c.etcd {
			n.toEtcd = append(n.toEtcd, &Link{name: id + "→" + e.name})
		}
		c.nodes = append(c.nodes, n)
	}
	return c
}

func TestPlanIsTheSeeds(t *testing.T) {
	plan := func(seed uint64) string {
		c := paper(3)
		kinds, _ := Fitting(c, Kinds())
		return Describe(Plan(c, kinds, 10*time.Minute, Pace{}, rand.New(rand.NewPCG(seed, 1))))
	}
	if a, b := plan(7), plan(7); a != b {
		t.Errorf("the same seed drew\n%s\nand\n%s", a, b)
	}
	if plan(7) == plan(8) {
		t.Error("two seeds drew the same")
	}
}

func TestPlan(t *testing.T) {
	const run = 10 * time.Minute
	c := paper(3)
	kinds, unfit := Fitting(c, Kinds())
	if len(unfit) != 1 { // no disk to fill
		t.Errorf("unfit: %v", unfit)
	}
	lasts := make(map[string]time.Duration)
	for _, k := range kinds {
		lasts[k.Name] = max(k.Lasts, 10*time.Second)
	}
	for seed := range uint64(50) {
		steps := Plan(c, kinds, run, Pace{}, rand.New(rand.NewPCG(seed, 1)))
		seen := make(map[string]int)
		quiet := make(map[time.Duration]bool)
		for round := time.Duration(0); round < run; round += 30 * time.Second {
			quiet[round] = true
		}
		for i, s := range steps {
			seen[s.Kind]++
			quiet[s.At.Truncate(30*time.Second)] = false
			if s.For != lasts[s.Kind] || s.At+s.For > run {
				t.Errorf("seed %d: %s from %v for %v", seed, s.Kind, s.At, s.For)
			}
			for _, other := range steps[:i] {
				if other.lane == s.lane && other.At+other.For > s.At {
					t.Errorf("seed %d: %s and %s meet in a lane", seed, other.Kind, s.Kind)
				}
				if other.At.Truncate(30*time.Second) == s.At.Truncate(30*time.Second) && other.lane != s.lane && other.Class == s.Class {
					t.Errorf("seed %d: %s and %s are of one class and at once", seed, other.Kind, s.Kind)
				}
			}
		}
		silent := 0
		for _, q := range quiet {
			if q {
				silent++
			}
		}
		if silent != 5 || quiet[0] {
			t.Errorf("seed %d: %d of 20 rounds without faults, want 5, and not the first", seed, silent)
		}
		if len(seen) < len(kinds)*2/3 {
			t.Errorf("seed %d: only %d of %d kinds: %v", seed, len(seen), len(kinds), seen)
		}
	}
}

// TestPlanShort has faults also in the short form.
func TestPlanShort(t *testing.T) {
	c := paper(1)
	kinds, _ := Fitting(c, Kinds())
	for seed := range uint64(20) {
		if steps := Plan(c, kinds, shortRun, PaceFor(shortRun), rand.New(rand.NewPCG(seed, 1))); len(steps) < 3 {
			t.Errorf("seed %d: %d faults in %v", seed, len(steps), shortRun)
		}
	}
	if steps := Plan(c, nil, shortRun, Pace{}, rand.New(rand.NewPCG(1, 1))); len(steps) != 0 {
		t.Errorf("faults of no kind: %v", steps)
	}
}

// note is a fault that tells what is done to it.
type note struct {
	name string
	fail error
	mu   *sync.Mutex
	log  *[]string
}

func (n *note) Name() string { return n.name }

func (n *note) say(what string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	*n.log = append(*n.log, what+" "+n.name)
}

func (n *note) Inject(context.Context) error { n.say("inject"); return n.fail }

func (n *note) Heal(ctx context.Context) error { n.say("heal"); return ctx.Err() }

func TestPerformHealsWhatItInjects(t *testing.T) {
	var mu sync.Mutex
	var log []string
	fault := func(name string, fail error) Fault { return &note{name: name, fail: fail, mu: &mu, log: &log} }
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	spans := Perform(ctx, []Step{
		{At: 0, For: 10 * time.Millisecond, Kind: "a", Class: OfEtcd, Fault: fault("a", nil)},
		{At: 20 * time.Millisecond, For: 0, Kind: "b", Class: OfEtcd, Fault: fault("b", errors.New("not now"))},
		{At: 40 * time.Millisecond, For: time.Hour, Kind: "c", Class: OfEtcd, Fault: fault("c", nil)},
		{At: 50 * time.Millisecond, For: 0, Kind: "d", Class: OfEtcd, Fault: fault("d", nil), lane: 1}, // waits for the end of c
		{At: time.Hour, Kind: "e", Class: OfEtcd, Fault: fault("e", nil)},
	}, clock.System().Now(), func(string, ...any) {})
	const want = "inject a, heal a, inject b, heal b, inject c, heal c, inject d, heal d"
	if got := strings.Join(log, ", "); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if len(spans) != 4 || !spans[0].Injected || spans[1].Injected || spans[1].Err == "" || spans[2].Err != "" {
		t.Errorf("%+v", spans)
	}
}

func TestLatencies(t *testing.T) {
	var l latencies
	if l.quantile(0.5) != 0 {
		t.Error("a quantile of nothing")
	}
	for i := range 10_000 {
		l.add(time.Duration(i+1) * 100 * time.Microsecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 0.001: time.Millisecond} {
		if got := l.quantile(q); got < want*9/10 || got > want*11/10 {
			t.Errorf("quantile %v is %v, want about %v", q, got, want)
		}
	}
	for i := range 255 {
		if bucketOf(bucketStart(i)) != i || bucketOf(bucketStart(i+1)-time.Microsecond) != i {
			t.Errorf("bucket %d from %v", i, bucketStart(i))
		}
	}
}

func TestStalls(t *testing.T) {
	m := newMeasures()
	at := func(n int) time.Duration { return time.Duration(n) * time.Second }
	m.sent("a", 2, at(1))
	m.sent("b", 1, at(2))
	m.answered("a", at(1), at(4), true)  // a waited 3 s, all waited 3 s
	m.answered("b", at(2), at(8), true)  // b waited 6 s, all 4 s
	m.answered("a", at(1), at(9), false) // a refusal is no progress
	m.sent("a", 1, at(20))               // nothing waited in between
	m.answered("a", at(20), at(21), true)
	r := m.result()
	if r.LongestStall != (Stall{"b", at(2), at(8)}) || r.LongestDark != (Stall{"", at(4), at(8)}) {
		t.Errorf("longest %+v, dark %+v", r.LongestStall, r.LongestDark)
	}
	kinds := byKind([]Span{
		{Kind: "x", From: at(7), To: at(8), Injected: true}, {Kind: "y", From: at(11), To: at(12), Injected: true}, {Kind: "x", From: at(1), To: at(1)},
	}, r.Stalls)
	if len(kinds) != 2 || kinds[0] != (KindResult{Kind: "x", Injected: 1, Failed: 1, Total: at(1), Stall: at(6)}) || kinds[1].Stall != 0 {
		t.Errorf("%+v", kinds)
	}
}

func TestValues(t *testing.T) {
	for _, id := range []uint64{1, 1 << 40, 1<<64 - 1} {
		got, err := parseValue(appendValue(nil, id, 3))
		if err != nil || got != id {
			t.Errorf("%d came back as %d, %v", id, got, err)
		}
	}
	for _, text := range []string{"", `{"id":`, `{"id":12`, `{"id":,`, `{"id":x,`, `{"ix":1,`, `{"id":99999999999999999999,`} {
		if id, err := parseValue([]byte(text)); err == nil {
			t.Errorf("%q is %d", text, id)
		}
	}
}

// TestOperations has answers of one burst come as they like, and looks what the history is told.
func TestOperations(t *testing.T) {
	w := &Workload{history: history.New(), measure: newMeasures(), reading: newReadings(), failures: make(map[string]int), began: clock.System().Now()}
	to := &target{name: "t/0", handle: w.history.Partition("t/0")}
	s := &sender{work: w, process: 1, last: make(map[string]int64)}
	w.measure.sent(to.name, 6, 0)
	op := &operation{open: 6}
	unknown := &client.Error{Outcome: client.OutcomeUnknown}
	for i, r := range []client.Result{{Offset: 10}, {Offset: 11}, {Offset: 20}, {Err: unknown}, {Err: unknown}, {Err: client.ErrRefused}} {
		s.answered(to, op, uint64(100+i), r)
	}
	w.history.Produce(history.Produce{Call: history.Call{Process: 2}, Partition: to.handle, Value: 500, Count: 8, Offset: 12}) // another's
	var others []history.Record
	for i := range int64(8) {
		others = append(others, history.Record{Offset: 12 + i, Value: uint64(500 + i)})
	}
	w.history.FinalRead(history.FinalRead{Source: "x", Partition: to.handle, From: 12, End: 20, Records: others})
	for i, offset := range []int64{10, 11, 20} {
		w.history.FinalRead(history.FinalRead{Source: "x", Partition: to.handle, From: offset, End: offset + 1, Records: []history.Record{{Offset: offset, Value: uint64(100 + i)}}})
	}
	report := w.history.Check(history.Options{})
	if report.Seen.Acked != 3+8 || report.Seen.Unknown != 2 || report.Seen.Failed != 1 || len(report.Bad()) > 0 {
		t.Errorf("%+v", report)
	}
	if op.open != 0 || op.Count != 0 {
		t.Errorf("left: %+v", op)
	}
	s.answered(to, &operation{open: 1}, 200, client.Result{Offset: 20})
	if len(w.trouble) != 1 {
		t.Errorf("an offset that does not rise made %q", w.trouble)
	}
}

func TestCommitted(t *testing.T) {
	of := func(partition, reason string) error {
		return &client.Error{Reason: reason, Metadata: map[string]string{"partition": partition}}
	}
	lost, moved := of("1", client.ReasonNotAssigned), of("2", "REBALANCE_IN_PROGRESS")
	doubtful := &client.Error{Reason: client.ReasonNotAssigned, Metadata: map[string]string{"partition": "0"}, Outcome: client.OutcomeUnknown}
	for _, c := range []struct {
		err  error
		want [3]history.Outcome // of partitions 0 to 2
	}{
		{nil, [3]history.Outcome{}},
		{lost, [3]history.Outcome{1: history.Fail}},
		{errors.Join(lost, moved), [3]history.Outcome{1: history.Fail, 2: history.Info}},
		{errors.Join(doubtful, lost), [3]history.Outcome{history.Info, history.Fail}}, // it was sent before it was lost
		{errors.Join(lost, context.Canceled), [3]history.Outcome{history.Info, history.Info, history.Info}},
		{io.ErrUnexpectedEOF, [3]history.Outcome{history.Info, history.Info, history.Info}},
	} {
		for partition, want := range c.want {
			if got := committed(c.err, int32(partition)); got != want {
				t.Errorf("%v says %v of partition %d, want %v", c.err, got, partition, want)
			}
		}
	}
}

func TestPlotIsXML(t *testing.T) {
	r := &Result{
		Nodes: 3, Etcds: 3, Rate: 20_000, Run: 30 * time.Second,
		Faults: []Span{
			{Kind: "node killed", Name: `kill -9 <n1> & "co"`, From: time.Second, To: 5 * time.Second, Injected: true},
			{Kind: "etcd quorum lost", From: 2 * time.Second, To: 2500 * time.Millisecond, Injected: true},
			{Kind: "store 503", From: 9 * time.Second, To: 10 * time.Second},
		},
		Measured: Measured{Seconds: []Second{{Acked: 100, P50: time.Millisecond, P99: time.Second}, {}, {Acked: 1 << 40, P50: time.Hour, P99: time.Hour}}},
	}
	for name, r := range map[string]*Result{"full": r, "empty": {}} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if err := WritePlot(&out, r); err != nil {
				t.Fatal(err)
			}
			bands := 0
			for d := xml.NewDecoder(strings.NewReader(out.String())); ; {
				token, err := d.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if e, ok := token.(xml.StartElement); ok && e.Name.Local == "g" {
					bands++
				}
			}
			if want := min(len(r.Faults), 2); bands != want {
				t.Errorf("%d faults are drawn, want %d", bands, want)
			}
			if strings.Contains(out.String(), "NaN") || strings.Contains(out.String(), "Inf") {
				t.Error("the plot has coordinates that are no numbers")
			}
		})
	}
}
