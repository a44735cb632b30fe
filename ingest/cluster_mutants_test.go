//go:build mutants

package ingest

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/proof/mutant"
)

// TestMutants puts on one mutant after the other: each must be found. TIDEMARK_MUTANT names one alone, TIDEMARK_SIM_SHRINK how many
// seconds to look for a short trace.
func TestMutants(t *testing.T) {
	only := os.Getenv("TIDEMARK_MUTANT")
	seeds, patience := envNumber("TIDEMARK_SIM_SEEDS", 400), time.Duration(envNumber("TIDEMARK_SIM_SHRINK", 5))*time.Second
	var table strings.Builder
	fmt.Fprintf(&table, "%-14s %6s %8s %8s  %s\n", "mutant", "seeds", "steps", "shortest", "found as")
	for m := mutant.None + 1; m < mutant.Count; m++ {
		if only != "" && only != m.String() {
			continue
		}
		mutant.Put(m)
		found := false
		for seed := uint64(1); seed <= seeds && !found; seed++ {
			_, at, failure := runSeed(seed, clusterSteps1, nil, false)
			if failure == "" {
				continue
			}
			found = true
			steps, _ := shrink(seed, at, failure, patience)
			first, _, _ := strings.Cut(failure, "\n")
			fmt.Fprintf(&table, "%-14s %6d %8d %8d  %s\n", m, seed, at, len(steps), first)
			if only != "" {
				set := make(map[uint64]bool)
				for _, n := range steps {
					set[n] = true
				}
				s, _, again := runSeed(seed, steps[len(steps)-1], func(n uint64) bool { return set[n] }, true)
				t.Logf("%s\nthen: %s", s, again)
			}
		}
		if !found {
			t.Errorf("mutant %s was not found by %d seeds", m, seeds)
		}
	}
	mutant.Put(mutant.None)
	t.Logf("\n%s", &table)
}
