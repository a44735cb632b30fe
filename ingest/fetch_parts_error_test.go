package ingest

import (
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
)

// TestDoubtedErrorIsToldAtOnce: what goes wrong with one partition has the call answered at once, also when etcd had to be asked.
func TestDoubtedErrorIsToldAtOnce(t *testing.T) {
	inNodeWorld(t, nil, func(w *nodeWorld) {
		t := w.t
		topic := w.many("t", 2, nil)
		w.fill(topic, 0, "x")
		i := w.node.current.Load()
		id := meta.Partition{Topic: topic.ID}
		done := make(chan struct{})
		i.post(func(time.Time) {
			i.core.partitions[id].epoch--
			close(done)
		})
		<-done
		began := clock.System().Now()
		got, err := w.node.FetchParts(w.ctx, FetchPartsRequest{MaxWait: time.Hour, Parts: []PartTarget{{Topic: topic.ID, Offset: 7}, {Topic: topic.ID, Partition: 1}}})
		if err != nil || saidParts(t, got) != "NOT_LEADER <0" {
			t.Errorf("%s, %v", saidParts(t, got), err)
		}
		if waited := clock.System().Now().Sub(began); waited > time.Minute {
			t.Errorf("the error was told after %v", waited)
		}
		i.post(func(time.Time) { i.core.partitions[id].epoch++ })
	})
}

// TestPlanErrorsAreFinal: an error of the plan is final: nothing is planned anew for it.
func TestPlanErrorsAreFinal(t *testing.T) {
	inNodeWorld(t, nil, func(w *nodeWorld) {
		t := w.t
		rounds := 0
		i := w.node.current.Load()
		done := make(chan struct{})
		i.post(func(time.Time) {
			i.core.fetch.view = countingView{logView: i.core, planned: &rounds}
			close(done)
		})
		<-done
		if _, err := w.node.FetchParts(w.ctx, FetchPartsRequest{Parts: []PartTarget{{Topic: meta.TopicID{9}}}}); err != nil {
			t.Fatal(err)
		}
		if rounds != 2 { // once by ready, once by planOf
			t.Errorf("looked at %d times", rounds)
		}
	})
}

type countingView struct {
	logView
	planned *int
}

func (v countingView) available(t fetchTarget, enough int) (int, int64, *Error) {
	*v.planned++
	return v.logView.available(t, enough)
}
