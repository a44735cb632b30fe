package nemesis

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tidemark-io/tidemark/proof/history"
)

// Result is what a run came to. As JSON, durations are in nanoseconds.
type Result struct {
	Seed     uint64            `json:"seed"`
	Nodes    int               `json:"nodes"`
	Etcds    int               `json:"etcds"`
	Rate     int               `json:"rate"` // records a second that were asked for
	Run      time.Duration     `json:"run_ns"`
	Faults   []Span            `json:"faults"`
	Kinds    []KindResult      `json:"kinds"`
	Skipped  map[string]string `json:"skipped"` // kinds that this cluster cannot have, and why
	Counts   Counts            `json:"counts"`
	Errors   map[string]int    `json:"errors"` // what clients were told, and how often
	Measured Measured          `json:"measured"`
	// Anomalies are those that must not be, by kind; Allowed those that may.
	Anomalies map[string]int `json:"anomalies"`
	Allowed   map[string]int `json:"allowed"`
	Undecided []string       `json:"undecided"`
	// Trouble is what else was wrong.
	Trouble []string `json:"trouble"`
}

// KindResult is what one kind of faults came to.
type KindResult struct {
	Kind     string        `json:"kind"`
	Injected int           `json:"injected"`
	Failed   int           `json:"failed"` // times when it could not be injected
	Total    time.Duration `json:"total_ns"`
	// Stall is the longest time in which a partition with records that waited had no answer and the fault was in force, or
	// had been within the last 2 s. Other faults may have been in force too.
	Stall time.Duration `json:"longest_stall_ns"`
}

// aftermath is how long after its end a fault is still held to be a cause.
const aftermath = 2 * time.Second

// Result says what the workload came to. It needs Stop.
func (w *Workload) Result(seed uint64, run time.Duration, faults []Span, skipped map[string]string, report history.Report) *Result {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := &Result{
		Seed: seed, Nodes: len(w.cluster.nodes), Etcds: len(w.cluster.etcd), Rate: w.config.Rate, Run: run, Faults: faults, Skipped: skipped,
		Counts: w.count.result(), Errors: w.failures, Measured: w.measure.result(), Undecided: report.Unknown, Trouble: w.trouble,
		Anomalies: make(map[string]int), Allowed: make(map[string]int),
	}
	r.Measured.LongestUnread, r.Measured.Unread = w.reading.result()
	for kind, finding := range report.Anomalies {
		if kind.Allowed() {
			r.Allowed[string(kind)] = finding.Count
		} else {
			r.Anomalies[string(kind)] = finding.Count
		}
	}
	r.Kinds = byKind(faults, r.Measured.Stalls)
	return r
}

func byKind(faults []Span, stalls []Stall) []KindResult {
	var out []KindResult
	for _, f := range faults {
		i := slices.IndexFunc(out, func(k KindResult) bool { return k.Kind == f.Kind })
		if i < 0 {
			i = len(out)
			out = append(out, KindResult{Kind: f.Kind})
		}
		k := &out[i]
		if !f.Injected {
			k.Failed++
			continue
		}
		k.Injected++
		k.Total += f.To - f.From
		for _, s := range stalls {
			if s.Partition != "" && s.From < f.To+aftermath && s.To > f.From {
				k.Stall = max(k.Stall, s.Length())
			}
		}
	}
	slices.SortFunc(out, func(a, b KindResult) int { return strings.Compare(a.Kind, b.Kind) })
	return out
}

// OK tells whether every promise was kept, as far as that could be decided.
func (r *Result) OK() bool { return len(r.Anomalies) == 0 && len(r.Trouble) == 0 }

func (r *Result) injected() (times int) {
	for _, k := range r.Kinds {
		times += k.Injected
	}
	return times
}

func (r *Result) title() string {
	nodes := "nodes"
	if r.Nodes == 1 {
		nodes = "node"
	}
	return fmt.Sprintf("%s with faults: %d %s, %d etcd, 1 object store; %s records acknowledged, %s",
		r.Run.Round(time.Second), r.Nodes, nodes, r.Etcds, thousands(float64(r.Counts.Acked)), verdict(r))
}

func verdict(r *Result) string {
	switch n := len(r.Anomalies) + len(r.Trouble); n {
	case 0:
		if len(r.Undecided) > 0 {
			return fmt.Sprintf("0 anomalies, %d registers undecided", len(r.Undecided))
		}
		return "0 anomalies"
	default:
		return fmt.Sprintf("%d KINDS OF ANOMALIES", n)
	}
}

func (r *Result) subtitle() string {
	return fmt.Sprintf("%d faults of %d kinds; seed %d; %s records/s offered; p50 %s, p99 %s; longest stall of a partition %.1f s",
		r.injected(), len(r.Kinds), r.Seed, thousands(float64(r.Rate)), brief(r.Measured.P50), brief(r.Measured.P99), r.Measured.LongestStall.Length().Seconds())
}

func brief(d time.Duration) string {
	if d >= time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond))
}

// WriteText prints the result as tables.
func (r *Result) WriteText(to io.Writer) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(t, "fault\ttimes\tseconds\tlongest stall\t\n")
	for _, k := range r.Kinds {
		failed := ""
		if k.Failed > 0 {
			failed = fmt.Sprintf(" (not injected %d times)", k.Failed)
		}
		_, _ = fmt.Fprintf(t, "%s%s\t%d\t%.1f\t%.1f s\t\n", k.Kind, failed, k.Injected, k.Total.Seconds(), k.Stall.Seconds())
	}
	_ = t.Flush() // to a Builder
	for _, f := range r.Faults {
		if f.Err != "" {
			fmt.Fprintf(&b, "at %.1f s: %s: %s\n", f.From.Seconds(), f.Name, f.Err)
		}
	}
	for _, name := range sorted(r.Skipped) {
		fmt.Fprintf(&b, "not here: %s: %s\n", name, r.Skipped[name])
	}
	c := r.Counts
	fmt.Fprintf(&b, "\nproduced %d: acked %d, failed %d, unknown %d (not taken %d)\n", c.Produced, c.Acked, c.Failed, c.Unknown, c.NotTaken)
	fmt.Fprintf(&b, "polled %d (%d failed polls, %d consumers made anew); read at the end %d\n", c.Polled, c.PollErrors, c.ReaderRestart, c.FinalReads)
	fmt.Fprintf(&b, "queries %d, failed %d; at the end %d\n", c.Queries, c.QueryErrors, c.FinalQueries)
	m := r.Measured
	fmt.Fprintf(&b, "latency p50 %s, p99 %s; longest stall of a partition %.1f s (%s, from %.1f s), of all at once %.1f s (from %.1f s)\n",
		brief(m.P50), brief(m.P99), m.LongestStall.Length().Seconds(), m.LongestStall.Partition, m.LongestStall.From.Seconds(),
		m.LongestDark.Length().Seconds(), m.LongestDark.From.Seconds())
	fmt.Fprintf(&b, "acknowledged and not read: longest %.1f s (%s, from %.1f s); %d commits of the group, %d blocks of leaders\n",
		m.LongestUnread.Length().Seconds(), m.LongestUnread.Partition, m.LongestUnread.From.Seconds(), c.Commits, c.Leads)
	for _, text := range sorted(r.Errors) {
		fmt.Fprintf(&b, "  %6d × %s\n", r.Errors[text], text)
	}
	for _, kind := range sorted(r.Allowed) {
		fmt.Fprintf(&b, "allowed: %s %d\n", kind, r.Allowed[kind])
	}
	if len(r.Anomalies) == 0 {
		fmt.Fprintf(&b, "anomalies: none\n")
	}
	for _, kind := range sorted(r.Anomalies) {
		fmt.Fprintf(&b, "ANOMALY: %s %d\n", kind, r.Anomalies[kind])
	}
	for _, text := range r.Trouble {
		fmt.Fprintf(&b, "WRONG: %s\n", text)
	}
	for _, text := range r.Undecided {
		fmt.Fprintf(&b, "UNDECIDED: %s\n", text)
	}
	if _, err := io.WriteString(to, b.String()); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

func sorted[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// WriteJSON writes the result for programs.
func (r *Result) WriteJSON(to io.Writer) error {
	e := json.NewEncoder(to)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write the result as JSON: %w", err)
	}
	return nil
}
