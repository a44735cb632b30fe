package nemesis

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/tidemark-io/tidemark/client"
)

// How TestKillLeaders goes.
const (
	killFirst = 5 * time.Second
	killEvery = 15 * time.Second
	killedFor = 5 * time.Second  // until it is started again
	killAfter = 10 * time.Second // that the run goes on after the last
)

// lasting reads a duration from the environment.
func lasting(t *testing.T, name string, otherwise time.Duration) time.Duration {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatalf("%s=%q: %v", name, s, err)
	}
	return d
}

// groupWork is what the proofs about leaders have on: producers with ids, and three members of a group that read and commit.
func groupWork(t *testing.T, c *Cluster) *Workload {
	t.Helper()
	if err := GroupsServed(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	w, err := NewWorkload(t.Context(), c, WorkloadConfig{
		Topics: []TopicSpec{{Name: "events", Partitions: 12, Durability: "object"}},
		Rate:   int(setting(t, "TIDEMARK_NEMESIS_RATE", 20_000)),
		Reader: func(k int) Reader { return groupReader(clients(t), k, 0) },
		Kafka:  c.options.Kafka,
		Direct: true, // a client of one node that is killed waits for it, which says nothing about leaders
	}, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return w
}

// TestKillLeaders kills the node that leads most partitions again and again, under load, for TIDEMARK_KILL_LEADERS (20s: once). Nothing
// that was acknowledged may be lost, nothing be there twice, and order is kept, for producers, for the group, and for SQL. TIDEMARK_NEMESIS_RATE,
// _CLIENTS, _BIN, _RACE and _SVG are as for TestNemesis.
func TestKillLeaders(t *testing.T) {
	run := lasting(t, "TIDEMARK_KILL_LEADERS", 20*time.Second)
	programs := binaries(t)
	c := StartCluster(t, Options{Binaries: &programs, Kafka: clients(t) != ownClients})
	w := groupWork(t, c)
	var steps []Step
	var before *killLeader
	for at := killFirst; at+killAfter <= max(run, killFirst+killAfter); at += killEvery {
		before = &killLeader{Cluster: c, Before: before}
		steps = append(steps, Step{At: at, For: killedFor, Kind: "leader killed", Class: OfNodes, Fault: before})
	}
	faults := Perform(t.Context(), steps, w.Began(), t.Logf)
	wait(t.Context(), run-w.Now())
	result := finish(t, w, 0, faults, nil)

	var text strings.Builder
	var longest time.Duration
	for i, s := range steps {
		kill, _ := s.Fault.(*killLeader)
		if kill.killed == nil {
			continue
		}
		at, until := kill.at.Sub(w.Began()), w.Now()
		if i+1 < len(steps) {
			until = steps[i+1].At - 500*time.Millisecond // what waits when it is killed has waited for a flush already
		}
		led := w.handovers(kill.killed, at, until, result.Measured.Stalls)
		again := max(lastOf(led)-at, 0)
		longest = max(longest, again)
		fmt.Fprintf(&text, "%6.1fs  kill -9 %s, which led %d: the last of them was led again after %.1f s; longest produce stall %.1f s, longest read stall %.1f s\n",
			at.Seconds(), kill.killed.id, len(led), again.Seconds(),
			longestIn(result.Measured.Stalls, at, until).Length().Seconds(), longestIn(result.Measured.Unread, at, until).Length().Seconds())
		if len(led) == 0 {
			t.Errorf("the kill at %.1f s moved nothing", at.Seconds())
		}
	}
	t.Logf("%d records acknowledged, %d kills; longest produce stall of a partition %.1f s, longest read stall of the group %.1f s, longest without a leader %.1f s\n%s",
		result.Counts.Acked, result.injected(), result.Measured.LongestStall.Length().Seconds(), result.Measured.LongestUnread.Length().Seconds(), longest.Seconds(), text.String())
	report(t, c, result, len(steps))
	mustKnowAll(t, w, result)
	countBySQL(t, w, result)
}

// mustKnowAll fails when what the proof rests on was not seen.
func mustKnowAll(t *testing.T, w *Workload, r *Result) {
	t.Helper()
	if err := w.journal.knows(); err != nil {
		t.Error(err)
	}
	if r.Counts.Commits == 0 || r.Counts.Leads == 0 {
		t.Errorf("%d commits of the group and %d blocks of leaders: nothing was tested", r.Counts.Commits, r.Counts.Leads)
	}
}

// mustKnowLeaders fails when what leaders did was not seen, but for a history of etcd that a fault of this very run has compacted away: then that
// is said, and the offsets alone tell of two leaders.
func mustKnowLeaders(t *testing.T, w *Workload, r *Result) {
	t.Helper()
	if err := w.journal.knows(); err != nil {
		compacted := slices.ContainsFunc(r.Kinds, func(k KindResult) bool { return k.Kind == kindCompacted && k.Injected > 0 })
		if !compacted {
			t.Error(err)
			return
		}
		t.Logf("who led what was not checked in this run: %v", err)
		return
	}
	if r.Counts.Leads == 0 {
		t.Error("no block of a leader was seen: who led what was not tested")
	}
}

// countBySQL has SQL say how many records there are and how many different ones.
func countBySQL(t *testing.T, w *Workload, r *Result) {
	t.Helper()
	asked, err := w.cluster.NewClient(w.cluster.nodes[0])
	if err != nil {
		t.Fatal(err)
	}
	defer asked.Close()
	for _, topic := range w.config.Topics {
		rows, err := asked.Query(t.Context(), "SELECT count(*), count(DISTINCT id) FROM "+topic.Name, client.QueryOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		rec, err := rows.Next()
		if err != nil {
			t.Fatal(err)
		}
		count, distinct := rec.Column(0).(*array.Int64).Value(0), rec.Column(1).(*array.Int64).Value(0)
		rec.Release()
		if count != distinct || len(w.config.Topics) == 1 && (count < r.Counts.Acked || count > r.Counts.Acked+r.Counts.Unknown) {
			t.Errorf("SQL counts %d records of %s, %d of them different; %d were acknowledged and %d are unknown", count, topic.Name, distinct, r.Counts.Acked, r.Counts.Unknown)
		}
		t.Logf("SQL counts %d records of %s, %d of them different", count, topic.Name, distinct)
	}
}
