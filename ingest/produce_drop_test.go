package ingest

import (
	"errors"
	"testing"

	"github.com/tidemark-io/tidemark/meta"
)

// While a produce waits for the object store, the log on disk holds its bytes, and nobody else.
func TestProduceHoldsItsBytesUntilTheyAreLogged(t *testing.T) {
	s, l := quietSim()
	p := meta.Partition{Topic: s.topics[0].ID} // an object topic
	logged := 0
	send := func(sequence int32) (*produceCall, *error) {
		var got error = errPending
		b := buildSim([]string{"x"}, 7, sequence)
		call := &produceCall{
			request: ProduceRequest{Acks: AcksAll, Batch: b, Logged: func() { logged++ }}, id: p, batch: b,
			done: func(_ ProduceResult, err error) { got = err },
		}
		l.core.produce(p, call, s.now)
		return call, &got
	}
	expect := func(what string, call *produceCall, got *error, held bool, loggedSoFar int) {
		t.Helper()
		if !errors.Is(*got, errPending) {
			t.Errorf("%s was answered: %v", what, *got)
		}
		if (call.batch != nil) != held || (call.request.Batch != nil) != held || logged != loggedSoFar {
			t.Errorf("%s: held=%t, and %d are logged; want %t, %d", what, call.batch != nil, logged, held, loggedSoFar)
		}
	}
	first, got := send(0)
	expect("a batch that is not in the log", first, got, true, 0)
	for len(l.queue) > 0 {
		s.stepWriteLog()
	}
	s.untilQuiet(s.stepReportWritten)
	expect("a batch in the log", first, got, false, 1)
	again, gotAgain := send(0)
	expect("a retry of it", again, gotAgain, false, 2)
	refused, gotRefused := send(5)
	reasonIs(t, *gotRefused, ReasonOutOfOrderSequence)
	if refused.batch != nil || logged != 3 {
		t.Error("a batch that was refused is held")
	}
}
