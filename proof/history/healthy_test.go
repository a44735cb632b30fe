package history

import (
	"strings"
	"testing"
)

var mustSee = [][]int32{{reader}}

// A cluster that does what it promises has no anomaly, whatever happens to it.
func TestHealthyHistoriesHaveNoAnomaly(t *testing.T) {
	h := New()
	var total Seen
	allowed := map[Kind]int{}
	for seed := range uint64(1000) {
		h.Reset()
		healthy(seed).record(h)
		r := h.Check(Options{MustSee: mustSee, Registers: seed%4 == 0})
		if bad := r.Bad(); bad != nil || r.Unknown != nil {
			var b strings.Builder
			if err := r.Write(&b); err != nil {
				t.Fatal(err)
			}
			t.Fatalf("seed %d: %v\n%s", seed, bad, b.String())
		}
		for k, f := range r.Anomalies {
			allowed[k] += f.Count
		}
		total.Acked += r.Seen.Acked
		total.Failed += r.Seen.Failed
		total.Unknown += r.Seen.Unknown
		total.Polled += r.Seen.Polled
		total.Final += r.Seen.Final
		total.Commits += r.Seen.Commits
		total.Fetches += r.Seen.Fetches
		total.Answers += r.Seen.Answers
	}
	for name, n := range map[string]int{
		"acknowledged": total.Acked, "failed": total.Failed, "unknown": total.Unknown, "polled": total.Polled, "final": total.Final,
		"commits": total.Commits, "fetches": total.Fetches, "answers": total.Answers,
		"repeated sends": allowed[RepeatedSend], "declared losses": allowed[DeclaredLoss],
	} {
		if n < 100 {
			t.Errorf("the healthy histories hold only %d %s", n, name)
		}
	}
	t.Logf("%+v, allowed %v", total, allowed)
}
