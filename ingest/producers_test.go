package ingest

import (
	"testing"

	"github.com/tidemark-io/tidemark/meta"
)

// A partition remembers so many producers, and forgets those that have not appended for the longest.
func TestProducersAreForgotten(t *testing.T) {
	s := newPartitionStory(t, meta.DurabilityObject, 0)
	append1 := func(producer int64, sequence int32) {
		s.produce("x", AcksAll, buildValues(0, 1, producer, sequence))
	}
	commit := func() {
		if err := s.step(committedTo{end: s.p.end}); err != nil {
			t.Fatal(err)
		}
		s.answered = nil
	}
	append1(1, 0)
	append1(2, 0)
	for id := range int64(producersKept) {
		append1(1000+id, 0)
	}
	commit()
	append1(1, 1) // it goes on
	commit()
	for id := range int64(2 * producersSlack) {
		append1(100_000+id, 0)
	}
	commit()
	if n := len(s.p.producers); n < producersKept || n > producersKept+producersSlack {
		t.Errorf("%d producers are remembered", n)
	}
	append1(1, 2)
	append1(1, 1)
	append1(2, 1)
	s.said("x=10002/object+ x=UNKNOWN_PRODUCER")
	commit()
	// Nobody who waits for an answer is forgotten, and the look for others is not taken for each.
	for id := range int64(producersKept) {
		append1(200_000+id, 0)
	}
	waiting := len(s.p.allWaiters)
	for id := range int64(2 * producersSlack) {
		append1(300_000+id, 0)
	}
	append1(200_000, 0)
	if len(s.p.allWaiters) != waiting+2*producersSlack+1 {
		t.Error("a retry was not taken for one")
	}
	commit()
}

// Retries whose callers have given up do not add up while the object store is away.
func TestRetriesThatWaitAreBounded(t *testing.T) {
	s := newPartitionStory(t, meta.DurabilityObject, 0)
	retry := func() { s.produce("x", AcksAll, buildValues(0, 1, 1, 0)) }
	for range maxRetries + 1 {
		retry()
	}
	s.said("")
	retry()
	s.said("x=OUTCOME_UNKNOWN")
	if err := s.step(committedTo{end: s.p.end}); err != nil {
		t.Fatal(err)
	}
	if len(s.answered) != maxRetries+1 || s.p.retries != 0 {
		t.Errorf("%d were answered, and %d wait", len(s.answered), s.p.retries)
	}
}
