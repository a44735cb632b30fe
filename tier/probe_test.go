package tier_test

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/tier"
	"github.com/tidemark-io/tidemark/tier/tierfake"
)

func probeAll(t *testing.T, s tier.Store) {
	t.Helper()
	for _, f := range tier.Probe(t.Context(), s, tier.ProbeConfig{Random: rand.Reader}) {
		t.Logf("%-16s %v %s (%v)", f.Name, f.OK, f.Detail, f.Duration)
		if !f.OK {
			t.Errorf("%s: %s; %s", f.Name, f.Detail, f.Fix)
		}
	}
}

func TestProbe(t *testing.T) {
	probeAll(t, openLocal(t))
	f := tierfake.New()
	probeAll(t, f)
	if left := f.Names(); len(left) > 0 {
		t.Errorf("the probe left %q", left)
	}
}

// TestProbeFinds: a store that denies, or returns other bytes, is found out.
func TestProbeFinds(t *testing.T) {
	f := tierfake.New()
	f.FailNext(tierfake.Put, tier.ErrDenied, tierfake.Before)
	found := tier.Probe(t.Context(), f, tier.ProbeConfig{Random: rand.Reader})
	if len(found) != 1 || found[0].OK || !strings.Contains(found[0].Detail, tier.ErrDenied.Error()) {
		t.Errorf("denied: %+v", found)
	}
	f = tierfake.New()
	f.Mangle(func(_ string, _ int64, p []byte) int { p[0] ^= 1; return len(p) })
	bad := 0
	for _, found := range tier.Probe(t.Context(), f, tier.ProbeConfig{Random: rand.Reader}) {
		if !found.OK {
			bad++
		}
	}
	if bad != 4 {
		t.Errorf("damaged reads were noticed by %d checks, want 4", bad)
	}
}
