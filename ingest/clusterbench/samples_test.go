package clusterbench

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// samples are measured times. Its methods may be called from any goroutine.
type samples struct {
	mu  sync.Mutex
	all []time.Duration
}

func (s *samples) add(d time.Duration) {
	s.mu.Lock()
	s.all = append(s.all, d)
	s.mu.Unlock()
}

// at is the quantile q of what was measured: 1 is the longest.
func (s *samples) at(q float64) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) == 0 {
		return 0
	}
	slices.Sort(s.all)
	return s.all[min(len(s.all)-1, int(q*float64(len(s.all))))]
}

func (s *samples) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

func TestSamples(t *testing.T) {
	var s samples
	if s.at(1) != 0 {
		t.Error("nothing was measured")
	}
	for n := range 100 {
		s.add(time.Duration(99-n) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0: 0, 0.5: 50 * time.Millisecond, 0.99: 99 * time.Millisecond, 1: 99 * time.Millisecond} {
		if got := s.at(q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}
