package ingest

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/tier"
	"github.com/tidemark-io/tidemark/tier/tierfake"
)

func TestNodeFindsOffsetsByTime(t *testing.T) {
	for _, where := range []string{"tier", "tail"} {
		t.Run(where, func(t *testing.T) {
			setup := func(c *Config) {
				if where == "tail" {
					c.IdleFlushInterval = time.Hour
				}
			}
			inNodeWorld(t, setup, func(w *nodeWorld) {
				t := w.t
				w.create("t", map[string]string{"durability": map[string]string{"tier": "object", "tail": "disk"}[where]})
				w.mustProduce("t", "a", "b", "c") // at 1000, 1001, 1002
				w.mustProduce("t", "d", "e", "f", "g")
				synctest.Wait()
				for at, want := range map[int64]int64{0: 0, 1000: 0, 1001: 1, 1002: 2, 1003: 6, 1004: 7} {
					if got, err := w.node.OffsetForTime(w.ctx, "t", 0, at); err != nil || got != want {
						t.Errorf("since %d: %d, %v; want %d", at, got, err, want)
					}
				}
			})
		})
	}
}

func TestNodePlansAReadAgain(t *testing.T) {
	inNodeWorld(t, func(c *Config) { c.TailBytes = 1 }, func(w *nodeWorld) {
		t := w.t
		w.create("t", nil)
		w.mustProduce("t", "a")
		w.mustProduce("t", "b")
		synctest.Wait()
		gone := fmt.Errorf("%w: folded away", tier.ErrNotFound)
		w.store.FailNext(tierfake.ReadAt, gone, tierfake.Before)
		if got := w.readAll("t", 0); fmt.Sprint(got) != "[a b]" {
			t.Fatal(got)
		}
		if w.store.Count(tierfake.ReadAt) < 2 {
			t.Fatal("the story did not touch the store")
		}
		for range 20 {
			w.store.FailNext(tierfake.ReadAt, gone, tierfake.Before)
		}
		_, err := w.node.Fetch(w.ctx, FetchRequest{Topic: "t", Partitions: []FetchPartition{{}}})
		reasonIs(t, err, ReasonCorruptData, "l0/n1/")
	})
}

func TestNodeFetchWaits(t *testing.T) {
	inNodeWorld(t, nil, func(w *nodeWorld) {
		t := w.t
		w.create("t", map[string]string{"durability": "disk"})
		began := clock.System().Now()
		got, err := w.node.Fetch(w.ctx, FetchRequest{Topic: "t", Partitions: []FetchPartition{{}}, MaxWait: 5 * time.Second})
		if waited := clock.System().Now().Sub(began); err != nil || len(got[0].Batches) != 0 || waited != 5*time.Second {
			t.Fatalf("%v, %v after %v", got, err, waited)
		}
		answer := make(chan []PartitionBatches, 1)
		go func() {
			got, err := w.node.Fetch(w.ctx, FetchRequest{Topic: "t", Partitions: []FetchPartition{{}}, MaxWait: time.Hour})
			if err != nil {
				t.Error(err)
			}
			answer <- got
		}()
		synctest.Wait()
		w.mustProduce("t", "x")
		if got := <-answer; len(got[0].Batches) != 1 || got[0].NextOffset != 1 {
			t.Fatalf("%+v", got)
		}
		_, err = w.node.Fetch(w.ctx, FetchRequest{Topic: "t", Partitions: []FetchPartition{{Offset: 9}}})
		reasonIs(t, err, ReasonOffsetOutOfRange)
		if m := AsError(err).Metadata; m["high_watermark"] != "1" || m["log_start_offset"] != "0" {
			t.Fatal(m)
		}
		ctx, cancel := context.WithCancel(w.ctx)
		go func() { <-clock.System().NewTimer(time.Second).C(); cancel() }()
		_, err = w.node.Fetch(ctx, FetchRequest{Topic: "t", Partitions: []FetchPartition{{Offset: 1}}, MaxWait: time.Hour})
		reasonIs(t, err, ReasonCanceled)
	})
}
