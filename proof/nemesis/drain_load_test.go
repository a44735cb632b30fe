package nemesis

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// drainTarget is what a drain may cost the producers of a partition. It is told, not asserted: on a machine with other work it means little.
const drainTarget = time.Second

// TestDrainUnderLoad has the command drain one node after the other under load, and cancel it again, for TIDEMARK_DRAIN_LOAD (one drain).
// Everything that TestKillLeaders asks for holds here too; and no record fails. TIDEMARK_NEMESIS_RATE, _CLIENTS, _BIN, _RACE and _SVG are as for TestNemesis.
func TestDrainUnderLoad(t *testing.T) {
	run := lasting(t, "TIDEMARK_DRAIN_LOAD", 0)
	programs := binaries(t)
	c := StartCluster(t, Options{Binaries: &programs, Kafka: clients(t) != ownClients})
	w := groupWork(t, c)
	// A cluster that has just started still spreads its partitions.
	if !wait(t.Context(), 4*time.Second) {
		t.Fatal(context.Cause(t.Context()))
	}
	if err := w.spread(t.Context()); err != nil {
		t.Fatal(err)
	}
	type drain struct {
		node     *Node
		from, to time.Duration // of the command
		until    time.Duration // when the node led again
	}
	var drains []drain
	for n := 0; n == 0 || w.Now() < run; n++ {
		d := drain{node: c.nodes[n%len(c.nodes)], from: w.Now()}
		command(t, w, "cluster", "drain", d.node.id)
		d.to = w.Now()
		t.Logf("%6.1fs  %s is drained, in %.1f s", d.to.Seconds(), d.node.id, (d.to - d.from).Seconds())
		if left, err := c.Leaders(t.Context()); err != nil || left[d.node.id] > 0 {
			t.Errorf("%s is drained, and the leaders are %v: %v", d.node.id, left, err)
		}
		wait(t.Context(), 2*time.Second)
		command(t, w, "cluster", "drain", d.node.id, "--cancel")
		if err := w.spread(t.Context()); err != nil {
			t.Error(err)
		}
		d.until = w.Now()
		drains = append(drains, d)
	}
	wait(t.Context(), 2*time.Second)
	result := finish(t, w, 0, nil, nil)

	var text strings.Builder
	var longest Stall
	for _, d := range drains {
		// What comes back to the node is moved in the same way, and not counted here.
		until := d.to + 2*time.Second
		stall := longestIn(result.Measured.Stalls, d.from, until)
		if stall.Length() > longest.Length() {
			longest = stall
		}
		fmt.Fprintf(&text, "%6.1fs  drain of %s, %.1f s: longest produce stall %.2f s, longest read stall %.2f s; %.2f s and %.2f s when partitions came back; ms since then:\n%s",
			d.from.Seconds(), d.node.id, (d.to - d.from).Seconds(), stall.Length().Seconds(), longestIn(result.Measured.Unread, d.from, until).Length().Seconds(),
			longestIn(result.Measured.Stalls, until, d.until+2*time.Second).Length().Seconds(),
			longestIn(result.Measured.Unread, until, d.until+2*time.Second).Length().Seconds(),
			table(inOrder(w.handovers(d.node, d.from, until, result.Measured.Stalls), d.from), d.from))
		for _, m := range w.journal.between(d.from, until) {
			fmt.Fprintf(&text, "    %5d ms  %s\n", (m.at - d.from).Milliseconds(), m.what)
		}
	}
	t.Logf("%d records acknowledged, %d drains; longest produce stall of a partition while a node was drained %.2f s (the target is %v), in the whole run %.2f s; longest read stall %.2f s\n%s",
		result.Counts.Acked, len(drains), longest.Length().Seconds(), drainTarget, result.Measured.LongestStall.Length().Seconds(), result.Measured.LongestUnread.Length().Seconds(), text.String())
	report(t, c, result, 0)
	mustKnowAll(t, w, result)
	countBySQL(t, w, result)
	if n := result.Counts.Failed + result.Counts.Unknown; n > 0 {
		t.Errorf("%d records failed or are unknown: %v", n, result.Errors)
	}
}

// spread waits until every node leads a fair share.
func (w *Workload) spread(ctx context.Context) error {
	total := 0
	for _, topic := range w.config.Topics {
		total += int(topic.Partitions)
	}
	return w.cluster.until(ctx, "partitions are spread", func(ctx context.Context) error {
		leaders, err := w.cluster.Leaders(ctx)
		if err != nil {
			return err
		}
		for _, n := range w.cluster.nodes {
			if leaders[n.id] < total/len(w.cluster.nodes) {
				return fmt.Errorf("the nodes lead %v", leaders)
			}
		}
		return nil
	})
}

// command runs tidemark as an operator would.
func command(t *testing.T, w *Workload, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args = append(args, "--server", strings.Join(w.cluster.URLs(), ","))
	if text, err := exec.CommandContext(ctx, w.cluster.options.Binaries.Tidemark, args...).CombinedOutput(); err != nil {
		t.Errorf("tidemark %s: %v\n%s", strings.Join(args, " "), err, text)
	}
}
