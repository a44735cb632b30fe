package ingest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/meta/metafake"
	"github.com/tidemark-io/tidemark/tier"
	"github.com/tidemark-io/tidemark/tier/tierfake"
)

// What a node builds on is gone for a while, or answers get lost: produces wait or are refused, and nothing is lost or there twice.

func TestNodeWaitsForTheObjectStore(t *testing.T) {
	inNodeWorld(t, func(c *Config) { c.LogBytes = 64 << 10 }, func(w *nodeWorld) {
		t := w.t
		w.create("t", nil)
		for range 60 {
			w.store.FailNext(tierfake.Put, fmt.Errorf("%w: 503 slow down", tier.ErrUnavailable), tierfake.Before)
		}
		var sent []<-chan outcome
		value := strings.Repeat("x", 4000)
		for range 30 {
			sent = append(sent, w.send("t", oneBatch(value)))
		}
		w.pending(sent[0]) // taken; it waits for the store
		w.pending(sent[29])
		w.after(3 * time.Second) // delayed long enough
		refused, taken := 0, []<-chan outcome(nil)
		for _, out := range sent {
			select {
			case o := <-out:
				reasonIs(t, o.err, ReasonBackPressure, "the object store", "503")
				refused++
			default:
				taken = append(taken, out)
			}
		}
		if refused == 0 || len(taken) == 0 {
			t.Fatalf("%d refused, %d taken", refused, len(taken))
		}
		for _, out := range taken {
			if o := <-out; o.err != nil || o.result.Reached != ReachedObject {
				t.Fatalf("what was taken: %+v, %v", o.result, o.err)
			}
		}
		w.mustProduce("t", "again")
		if got := w.readAll("t", 0); len(got) != len(taken)+1 {
			t.Fatalf("%d records for %d that were taken and one more", len(got), len(taken))
		}
	})
}

func TestNodeWaitsForEtcd(t *testing.T) {
	inNodeWorld(t, nil, func(w *nodeWorld) {
		t := w.t
		w.create("t", nil)
		w.mustProduce("t", "before")
		before := w.node.current.Load()
		w.kv.SetUnavailable(true)
		out := w.send("t", oneBatch("during"))
		w.after(3 * time.Second)
		w.pending(out)
		w.kv.SetUnavailable(false)
		if o := <-out; o.err != nil || o.result.BaseOffset != 1 || o.result.Reached != ReachedObject {
			t.Fatalf("%+v, %v", o.result, o.err)
		}
		if w.node.current.Load() != before {
			t.Fatal("the node began anew for nothing")
		}
		if got := w.readAll("t", 0); fmt.Sprint(got) != "[before during]" {
			t.Fatal(got)
		}
	})
}

// The answers to two commits are lost, and one request never arrives: the outcome is found, nothing is there twice.
func TestNodeInDoubt(t *testing.T) {
	for _, fault := range []metafake.Fault{metafake.LoseReply, metafake.Drop, metafake.Detach} {
		t.Run(fmt.Sprint(fault), func(t *testing.T) {
			inNodeWorld(t, nil, func(w *nodeWorld) {
				t := w.t
				w.create("t", nil)
				w.kv.FailTxns(fault, fault)
				for n := range 5 {
					if r := w.mustProduce("t", fmt.Sprint(n)); r.BaseOffset != int64(n) {
						t.Fatalf("%+v", r)
					}
				}
				for w.kv.Held() > 0 { // the late requests arrive at last
					if r, err := w.kv.Release(0); err != nil || r.Succeeded {
						t.Fatalf("a late commit: %+v, %v", r, err)
					}
				}
				w.mustProduce("t", "5")
				if got := w.readAll("t", 0); fmt.Sprint(got) != "[0 1 2 3 4 5]" {
					t.Fatal(got)
				}
			})
		})
	}
}

func TestNodeWaitsForItsDisk(t *testing.T) {
	inNodeWorld(t, nil, func(w *nodeWorld) {
		t := w.t
		w.create("t", map[string]string{"durability": "disk"})
		w.mustProduce("t", "before")
		w.store.Hang(tierfake.Put)
		w.fs.SetCapacity(1 << 10)
		value := strings.Repeat("x", 900<<10)
		var sent []<-chan outcome
		for range 45 {
			sent = append(sent, w.send("t", oneBatch(value)))
		}
		w.after(3 * time.Second)
		refused := 0
		var waiting []<-chan outcome
		for _, out := range sent {
			select {
			case o := <-out:
				if o.err != nil {
					reasonIs(t, o.err, ReasonBackPressure, "disk")
					refused++
				}
			default:
				waiting = append(waiting, out)
			}
		}
		if refused == 0 || len(waiting) == 0 {
			t.Fatalf("%d refused, %d wait", refused, len(waiting))
		}
		w.fs.SetCapacity(1 << 40)
		for _, out := range waiting {
			if o := <-out; o.err != nil || o.result.Reached < ReachedDisk {
				t.Fatalf("%+v, %v", o.result, o.err)
			}
		}
		w.mustProduce("t", "again")
		ctx, cancel := context.WithCancel(w.ctx)
		cancel()
		_ = w.node.Close(ctx) // the store hangs: what is on disk stays there
	})
}
