package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
)

// TestGroupsSpreadOverNodes looks at the shares, and at what moves when a node comes.
func TestGroupsSpreadOverNodes(t *testing.T) {
	owner := func(name string, nodes int) meta.NodeID {
		var out []meta.NodeInfo
		for i := range nodes {
			out = append(out, meta.NodeInfo{ID: meta.NodeID(fmt.Sprintf("node-%d", i+1))})
		}
		best := out[0].ID
		for _, n := range out[1:] {
			if groupRank(name, n.ID) > groupRank(name, best) {
				best = n.ID
			}
		}
		return best
	}
	share, moved := make(map[meta.NodeID]int), 0
	for i := range 5000 {
		name := fmt.Sprintf("consumer-%d", i)
		now, later := owner(name, 4), owner(name, 5)
		share[now]++
		if now != later {
			moved++
			if later != "node-5" {
				t.Fatalf("group %s moved from %s to %s though neither is new", name, now, later)
			}
		}
	}
	for node, n := range share {
		if n < 1100 || n > 1400 {
			t.Errorf("node %s has %d of 5000 groups", node, n)
		}
	}
	if moved < 850 || moved > 1150 {
		t.Errorf("%d of 5000 groups moved to the fifth node", moved)
	}
}

// TestFiftyMembersRebalance is the time that a takeover costs a group of fifty that heartbeat every second: each hears of it by its
// next heartbeat, and joins again under the name that it has.
func TestFiftyMembersRebalance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a")
		w.topic("orders", 100)
		var node atomic.Pointer[groupNode]
		node.Store(w.nodes["a"])
		var mu sync.Mutex
		placed := make(map[int32]map[int32]int) // generation, partition, member
		ctx, cancel := context.WithCancel(t.Context())
		var members sync.WaitGroup
		for number := range 50 {
			members.Go(func() {
				join := subscriber("app", nil, "orders")
				for ctx.Err() == nil {
					m, err := node.Load().groups.Join(ctx, "g", join)
					if err != nil {
						pause(ctx, clock.System(), 100*time.Millisecond)
						continue
					}
					join.MemberID, join.Subscription.Owned = m.MemberID, m.Assigned
					mu.Lock()
					if placed[m.Generation] == nil {
						placed[m.Generation] = make(map[int32]int)
					}
					for _, p := range m.Assigned {
						placed[m.Generation][p.Partition] = number
					}
					mu.Unlock()
					if m.Acknowledge {
						continue
					}
					for err == nil && pause(ctx, clock.System(), longestBeat) {
						err = node.Load().groups.Heartbeat(ctx, "g", group.Heartbeat{MemberID: m.MemberID, Generation: m.Generation})
					}
				}
			})
		}
		// whole waits until every partition is assigned in one generation above another.
		whole := func(above int32) (generation int32, took time.Duration) {
			began := time.Now() //nolint:forbidigo // a fake clock
			for {
				time.Sleep(10 * time.Millisecond) //nolint:forbidigo // a fake clock
				mu.Lock()
				for g, partitions := range placed {
					if g > above && len(partitions) == 100 && len(slices.Compact(slices.Sorted(maps.Values(partitions)))) == 50 {
						generation = g
					}
				}
				mu.Unlock()
				if generation > 0 {
					return generation, time.Since(began) //nolint:forbidigo // a fake clock
				}
			}
		}
		before, took := whole(0)
		t.Logf("from nothing: %v", took)
		node.Load().stop(errors.New("the lease is lost"))
		node.Load().groups.Close()
		node.Store(w.start("a", 2))
		after, took := whole(before)
		t.Logf("after a takeover: %v", took)
		if took > 2*time.Second {
			t.Errorf("fifty members took %v to go on after a takeover", took)
		}
		for p, member := range placed[before] {
			if placed[after][p] != member {
				t.Errorf("partition %d moved from member %d to %d", p, member, placed[after][p])
			}
		}
		cancel()
		members.Wait()
	})
}
