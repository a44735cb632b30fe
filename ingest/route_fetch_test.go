package ingest

import (
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
)

// slowPeers are nodes that are a while away.
type slowPeers struct {
	Peers

	delay time.Duration
}

func (s slowPeers) Peer(n meta.NodeID) (Peer, bool) {
	p, ok := s.Peers.Peer(n)
	p.HTTP = slowHTTP{p.HTTP, s.delay}
	return p, ok
}

type slowHTTP struct {
	connect.HTTPClient

	delay time.Duration
}

func (s slowHTTP) Do(r *http.Request) (*http.Response, error) {
	if !pause(r.Context(), clock.System(), s.delay) {
		return nil, r.Context().Err()
	}
	return s.HTTPClient.Do(r)
}

// slow puts the other nodes a while away from this one.
func (n *routeNode) slow(delay time.Duration) {
	r := n.router
	r.peers = slowPeers{r.peers, delay}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, known := range r.remotes {
		known.forward.close()
	}
	clear(r.remotes)
}

// One leader answers at once and always has more, the other takes much longer: its records come all the same.
func TestAFetchDoesNotStarveTheSlowerLeader(t *testing.T) {
	inRouteWorld(t, 2, func(w *routeWorld) {
		t := w.t
		w.create("n1", "a", 2, nil)
		near, far := w.ledBy("a", "n1"), w.ledBy("a", "n2")
		const records = 20
		for range records {
			w.nodes["n1"].mustSend("a", near, "near")
		}
		w.nodes["n2"].mustSend("a", far, "far")
		w.after(time.Second)
		n := w.nodes["n1"]
		n.slow(600 * time.Millisecond)
		for _, wait := range []time.Duration{0, time.Second} {
			at := map[int32]int64{}
			parts := []int32{near, far}
			fetches := 0
			for ; at[far] < 1; fetches++ {
				if fetches == records {
					t.Fatalf("waiting up to %s, nothing has come of the slower leader by fetch %d", wait, fetches)
				}
				q := FetchRequest{Topic: "a", MaxBytes: 1, MinBytes: 1, MaxWait: wait}
				for _, p := range parts {
					q.Partitions = append(q.Partitions, FetchPartition{Partition: p, Offset: at[p]})
				}
				got, err := n.router.Fetch(w.ctx, q)
				if err != nil {
					t.Fatal(err)
				}
				for _, g := range got {
					at[g.Partition] = max(at[g.Partition], g.NextOffset)
				}
				parts[0], parts[1] = parts[1], parts[0] // the cap is the first one's
			}
			if fetches > 2 {
				t.Errorf("waiting up to %s, the record of the slower leader came with fetch %d", wait, fetches)
			}
		}
	})
}

// A leader that has nothing more is not waited for when another has given something.
func TestAFetchLeavesLongPollsBehind(t *testing.T) {
	inRouteWorld(t, 2, func(w *routeWorld) {
		t := w.t
		w.create("n1", "a", 2, nil)
		near, far := w.ledBy("a", "n1"), w.ledBy("a", "n2")
		w.nodes["n1"].mustSend("a", near, "near")
		w.nodes["n2"].mustSend("a", far, "far")
		w.after(time.Second)
		n := w.nodes["n1"]
		n.slow(600 * time.Millisecond)
		began := clock.System().Now()
		got, err := n.router.Fetch(w.ctx, FetchRequest{
			Topic: "a", MinBytes: 1, MaxWait: time.Minute, Partitions: []FetchPartition{{Partition: near}, {Partition: far, Offset: 1}},
		})
		if took := clock.System().Now().Sub(began); err != nil || len(got) != 2 || len(got[0].Batches) == 0 || took > 100*time.Millisecond {
			t.Errorf("%v, %v after %s", got, err, took)
		}
	})
}

// A leader that hangs with something to give holds a fetch up no longer than it waits, nor than it leads.
func TestAFetchDoesNotWaitForWhoLeadsNoMore(t *testing.T) {
	inRouteWorld(t, 2, func(w *routeWorld) {
		t := w.t
		w.create("n1", "a", 2, nil)
		near, far := w.ledBy("a", "n1"), w.ledBy("a", "n2")
		w.nodes["n1"].mustSend("a", near, "near")
		w.nodes["n2"].mustSend("a", far, "far")
		w.after(time.Second)
		n := w.nodes["n1"]
		n.slow(time.Hour)
		q := FetchRequest{Topic: "a", MinBytes: 1, MaxWait: time.Second, Partitions: []FetchPartition{{Partition: near}, {Partition: far}}}
		took := func() time.Duration {
			began := clock.System().Now()
			got, err := n.router.Fetch(w.ctx, q)
			if err != nil || len(got) != 2 || len(got[0].Batches) == 0 {
				t.Errorf("%v, %v", got, err)
			}
			return clock.System().Now().Sub(began)
		}
		if took := took(); took < time.Second || took > time.Second+peerSlack {
			t.Errorf("the answer came after %s", took)
		}
		w.nodes["n2"].kv.cut.Store(true)
		q.MaxWait = time.Minute
		if took := took(); took > 20*time.Second {
			t.Errorf("the answer came after %s, though another leads since the lease ran out", took)
		}
	})
}
