package ingest

import (
	"context"
	"crypto/rand"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk/crashdisk"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/tier/tierfake"
)

func TestEndsCoverEverythingAcknowledged(t *testing.T) {
	inNodeWorld(t, nil, func(w *nodeWorld) {
		w.create("on-object", nil)
		w.create("on-disk", map[string]string{"durability": "disk"})
		for n := range 20 {
			for _, topic := range []string{"on-object", "on-disk"} {
				acked := w.mustProduce(topic, "a", "b")
				found, states, err := w.node.Ends(w.ctx, topic)
				if err != nil || found.Name != topic || len(states) != 1 {
					t.Fatalf("ends of %s: %v %v %v", topic, found, states, err)
				}
				if states[0].HighWatermark < acked.BaseOffset+2 {
					t.Errorf("produce %d to %s was acknowledged at %d, the end is %d", n, topic, acked.BaseOffset, states[0].HighWatermark)
				}
			}
		}
		if _, _, err := w.node.Ends(w.ctx, "nobody"); ReasonOf(err) != ReasonUnknownTopic {
			t.Errorf("a topic that is not there: %v", err)
		}
	})
}

func TestEndsAreNeverGivenFromAnIndexThatLags(t *testing.T) {
	inNodeWorld(t, nil, func(w *nodeWorld) {
		w.create("a", nil)
		w.mustProduce("a", "1")
		w.kv.HoldWatches()
		acked := w.mustProduce("a", "2")
		type answer struct {
			states []PartitionState
			err    error
		}
		answers := make(chan answer, 1)
		go func() {
			_, states, err := w.node.Ends(w.ctx, "a")
			answers <- answer{states, err}
		}()
		synctest.Wait()
		select {
		case a := <-answers:
			t.Errorf("answered %v %v while the index lags", a.states, a.err)
		default:
		}
		w.kv.ReleaseWatches(0)
		if a := <-answers; a.err != nil || a.states[0].HighWatermark < acked.BaseOffset+1 {
			t.Errorf("afterwards: %v %v, acknowledged was %d", a.states, a.err, acked.BaseOffset)
		}
	})
}

func TestEndsNeedEtcd(t *testing.T) {
	inNodeWorld(t, nil, func(w *nodeWorld) {
		w.create("a", nil)
		w.mustProduce("a", "1")
		w.kv.SetUnavailable(true)
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		if _, _, err := w.node.Ends(ctx, "a"); err == nil {
			t.Error("ends were given without asking etcd")
		}
		w.kv.SetUnavailable(false)
	})
}

// A topic is changed from disk to object, and its node dies before it flushed what it had acknowledged on its disk: the ends cover it
// all the same.
func TestEndsCoverWhatWasAcknowledgedOnDiskBeforeTheTopicChanged(t *testing.T) {
	inNodeWorld(t, func(c *Config) { c.IdleFlushInterval = time.Hour }, func(w *nodeWorld) {
		t := w.t
		w.create("a", map[string]string{"durability": "disk"})
		acked := w.mustProduce("a", "1", "2", "3")
		w.kv.HoldWatches() // the node does not hear of the change any more
		admin, err := meta.New(meta.Config{KV: w.kv, Cluster: "test", Clock: clock.System(), Random: rand.Reader})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := admin.AlterTopic(w.ctx, "a", map[string]string{"durability": "object"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		crashed := w.fs.Crash(crashdisk.KeepNone, 1)
		w.store.Hang(tierfake.Put) // the first node can flush nothing any more
		w.kv.ReleaseWatches(0)
		ended, cancel := context.WithCancel(w.ctx)
		cancel()
		if err := w.node.Close(ended); err != nil {
			t.Fatal(err)
		}
		w.fs, w.store = crashed, tierfake.New()
		release := w.store.Hang(tierfake.Put) // nor can the second, for a while
		w.open()
		answered := make(chan []PartitionState, 1)
		go func() {
			_, states, err := w.node.Ends(w.ctx, "a")
			if err != nil {
				t.Error(err)
			}
			answered <- states
		}()
		synctest.Wait()
		select {
		case states := <-answered:
			t.Fatalf("answered %+v while %d is not committed", states, acked.BaseOffset+2)
		default:
		}
		release()
		if states := <-answered; len(states) != 1 || states[0].HighWatermark < acked.BaseOffset+3 {
			t.Errorf("acknowledged were offsets up to %d, the end is %+v", acked.BaseOffset+2, states)
		}
	})
}
