//go:build mutants

package ingest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/proof/mutant"
)

// firstFailing finds the lowest seed that fails, looking at several at once.
func firstFailing(seeds uint64) (seed, at uint64, failure string) {
	workers := uint64(runtime.GOMAXPROCS(0))
	type result struct {
		at      uint64
		failure string
	}
	for from := uint64(1); from <= seeds; from += workers {
		found := make([]result, workers)
		var running sync.WaitGroup
		for n := range workers {
			running.Go(func() { _, found[n].at, found[n].failure = runSeed(from+n, clusterSteps1, nil, false) })
		}
		running.Wait()
		for n, r := range found {
			if r.failure != "" {
				return from + uint64(n), r.at, r.failure
			}
		}
	}
	return 0, 0, ""
}

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
		var seed, at uint64
		var failure string
		if m != mutant.A5 { // see below
			seed, at, failure = firstFailing(seeds)
		}
		if failure != "" {
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
		if failure == "" {
			// What a controller of ours never does, take a partition from a node that lives and has not let go, the world of one node does.
			for seed = 1; seed <= 2000 && failure == ""; seed++ {
				_, failure = runSim(seed, 400)
			}
			first, _, _ := strings.Cut(failure, "\n")
			fmt.Fprintf(&table, "%-14s %6d %8d %8s  one node: %s\n", m, seed-1, 400, "", first)
		}
		if failure == "" {
			t.Errorf("mutant %s was not found by %d seeds", m, seeds)
		}
	}
	mutant.Put(mutant.None)
	t.Logf("\n%s", &table)
}
