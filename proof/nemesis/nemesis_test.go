package nemesis

import (
	"context"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/proof/history"
)

// shortRun is how long TestNemesis goes on when TIDEMARK_NEMESIS does not say.
const shortRun = 20 * time.Second

// setting reads a number from the environment.
func setting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q: %v", name, s, err)
	}
	return n
}

// TestNemesis runs a cluster, breaks it, and looks whether all promises were kept. The environment says how:
//
//	TIDEMARK_NEMESIS        how long, such as 10m
//	TIDEMARK_NEMESIS_NODES  how many nodes
//	TIDEMARK_NEMESIS_RATE   records a second
//	TIDEMARK_NEMESIS_FAULTS only kinds of faults whose name has one of these words, separated by commas; "none" for no faults
//	TIDEMARK_NEMESIS_GROUP  0: consumers are told their partitions; else they are a group
//	TIDEMARK_NEMESIS_CLIENTS kafka: who produces, and is in the group, are Kafka's clients (franz-go); kafka-848: and the group is of KIP-848
//	TIDEMARK_NEMESIS_RACE   1: tidemark has the race detector
//	TIDEMARK_NEMESIS_BIN    a directory with tidemark, etcd and makebucket, instead of building them
//	TIDEMARK_NEMESIS_SVG    where the plot goes; the result as JSON goes beside it, and the logs when something is wrong
//	TIDEMARK_SEED           draws the schedule
func TestNemesis(t *testing.T) {
	run := shortRun
	if s := os.Getenv("TIDEMARK_NEMESIS"); s != "" {
		var err error
		if run, err = time.ParseDuration(s); err != nil {
			t.Fatalf("TIDEMARK_NEMESIS=%q: %v", s, err)
		}
	}
	seed := setting(t, "TIDEMARK_SEED", uint64(clock.System().Now().UnixNano()))
	programs := binaries(t)
	o := Options{Nodes: int(setting(t, "TIDEMARK_NEMESIS_NODES", DefaultNodes)), Binaries: &programs, SmallDisk: 1 << 30, Kafka: clients(t) != ownClients}
	c := StartCluster(t, o)
	kinds, skipped := Fitting(c, wanted(Kinds()))
	steps := Plan(c, kinds, run, PaceFor(run), rand.New(rand.NewPCG(seed, 1)))
	t.Logf("TIDEMARK_SEED=%d draws this schedule:\n%s", seed, Describe(steps))

	work := WorkloadConfig{Rate: int(setting(t, "TIDEMARK_NEMESIS_RATE", 20_000)), Kafka: o.Kafka}
	grouped := setting(t, "TIDEMARK_NEMESIS_GROUP", 1) == 1
	if grouped {
		if err := GroupsServed(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		work.Reader = func(k int) Reader {
			return groupReader(clients(t), k, time.Duration(20+7*k)*time.Second)
		}
	}
	w, err := NewWorkload(t.Context(), c, work, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	during, cancel := context.WithTimeout(t.Context(), run)
	defer cancel()
	faults := Perform(during, steps, w.Began(), t.Logf)
	<-during.Done()

	result := finish(t, w, seed, faults, skipped)
	result.Run = max(result.Run, run)
	report(t, c, result, len(steps))
	mustKnowLeaders(t, w, result)
	if grouped && result.Counts.Commits == 0 {
		t.Error("no commit of the group was seen: nothing of it was tested")
	}
}

// TestBrokenPromiseIsSeen has the object store forget what it said it stored. A run must not come out well then.
func TestBrokenPromiseIsSeen(t *testing.T) {
	programs := binaries(t)
	c := StartCluster(t, Options{Nodes: 1, Etcds: 1, Binaries: &programs, Patience: 10 * time.Second})
	w, err := NewWorkload(t.Context(), c, WorkloadConfig{Rate: 5000, QueryEvery: -1}, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	wait(t.Context(), time.Second)
	c.Gate().Set(GateForgets)
	wait(t.Context(), time.Second)
	c.Gate().Set(GatePasses)
	c.Nodes()[0].Kill() // it may still have in memory what the store forgot
	r := finish(t, w, 0, nil, nil)
	if r.Counts.Acked == 0 {
		t.Fatalf("nothing was acknowledged: %+v", r.Counts)
	}
	if r.OK() {
		t.Errorf("the store lost objects, and all is well:\n%+v", r)
	}
	t.Logf("seen: anomalies %v, trouble %q", r.Anomalies, r.Trouble)
}

// shared is a directory that lives as long as all tests, and built the programs in it once one needed them.
var (
	shared string
	built  *Binaries
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "tidemark-nemesis")
	if err != nil {
		panic(err)
	}
	shared = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// binaries are built for the first test, unless the environment has them.
func binaries(t *testing.T) Binaries {
	t.Helper()
	if dir := os.Getenv("TIDEMARK_NEMESIS_BIN"); dir != "" {
		return In(t, dir)
	}
	if built == nil {
		b := BuildInto(t, shared, setting(t, "TIDEMARK_NEMESIS_RACE", 0) == 1)
		built = &b
	}
	return *built
}

// finish heals everything, waits until the cluster has nothing left to do, reads it all and judges.
func finish(t *testing.T, w *Workload, seed uint64, faults []Span, skipped map[string]string) *Result {
	t.Helper()
	c := w.Cluster()
	wrong := func(err error) {
		if err != nil {
			w.Troublef("%v", err)
		}
	}
	wrong(c.Heal())
	wrong(c.Ready(t.Context()))
	w.StopProducing()
	t.Logf("%6.1fs  healed, and every record is answered", w.Now().Seconds())
	wrong(w.Settled(t.Context()))
	wrong(w.CaughtUp(t.Context()))
	wrong(w.Committed(t.Context()))
	wrong(w.journal.caughtUp(t.Context(), c))
	run := w.Now()
	w.Stop()
	t.Logf("%6.1fs  consumers are at the end", w.Now().Seconds())
	reading, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	wrong(w.ReadAll(reading))
	t.Logf("%6.1fs  everything was read once more through each node", w.Now().Seconds())
	for _, text := range c.Crashes() {
		w.Troublef("%s", text)
	}
	began := clock.System().Now()
	verdict := w.History().Check(history.Options{MustSee: w.MustSee(), Registers: true, RegisterTimeout: time.Second})
	t.Logf("the history was checked in %.1f s", since(began).Seconds())
	var text strings.Builder
	if err := verdict.Write(&text); err != nil {
		t.Fatal(err)
	}
	t.Log(text.String())
	return w.Result(seed, run, faults, skipped, verdict)
}

// report prints the result, keeps it as files and fails the test when something is wrong.
func report(t *testing.T, c *Cluster, r *Result, planned int) {
	t.Helper()
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + text.String())
	svg := os.Getenv("TIDEMARK_NEMESIS_SVG")
	if svg == "" {
		svg = filepath.Join(t.TempDir(), "nemesis.svg")
	}
	if err := os.MkdirAll(filepath.Dir(svg), 0o750); err != nil {
		t.Fatal(err)
	}
	write := func(name string, to func(io.Writer) error) {
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := to(f); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	base := strings.TrimSuffix(svg, filepath.Ext(svg))
	write(svg, func(to io.Writer) error { return WritePlot(to, r) })
	write(base+".json", r.WriteJSON)
	t.Logf("plot: %s", svg)
	if !r.OK() {
		if err := c.KeepLogs(base + "-logs"); err != nil {
			t.Error(err)
		}
		t.Errorf("a promise was broken; logs of all processes: %s\n%s", base+"-logs", c.Logs(3000))
	}
	if planned > 0 && r.injected() == 0 {
		t.Errorf("none of %d faults was injected", planned)
	}
	if r.Counts.Acked == 0 || r.Counts.Polled == 0 || r.Counts.FinalReads == 0 || r.Counts.Queries == 0 {
		t.Errorf("nothing was tested: %+v", r.Counts)
	}
}

// wanted are the kinds that the environment asks for.
func wanted(kinds []Kind) []Kind {
	words := os.Getenv("TIDEMARK_NEMESIS_FAULTS")
	if words == "" {
		return kinds
	}
	var out []Kind
	for _, k := range kinds {
		for word := range strings.SplitSeq(words, ",") {
			if strings.Contains(k.Name, word) {
				out = append(out, k)
				break
			}
		}
	}
	return out
}
