package meta_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/meta/metafake"
)

// register makes a node known.
func register(t *testing.T, c *meta.Client, node string, incarnation meta.Incarnation) meta.Registration {
	t.Helper()
	reg, err := c.Register(t.Context(), meta.NodeInfo{ID: meta.NodeID(node), Incarnation: incarnation, Disk: "disk-" + node}, leaseTime)
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

func claimGroup(t *testing.T, c *meta.Client, group string, reg meta.Registration) (meta.GroupClaim, meta.GroupState, map[meta.TopicID]meta.GroupOffsets) {
	t.Helper()
	claim, state, offsets, err := c.ClaimGroup(t.Context(), group, reg)
	if err != nil {
		t.Fatal(err)
	}
	return claim, state, offsets
}

// at is a write of one offset of partition 0.
func at(topic meta.TopicID, offset int64) meta.GroupWrite {
	return meta.GroupWrite{State: meta.GroupState{Generation: 1}, Offsets: map[meta.TopicID]meta.GroupOffsets{
		topic: {0: {Offset: offset, LeaderEpoch: -1, Committed: 1000}},
	}}
}

func TestGroupIsClaimedWrittenAndRead(t *testing.T) {
	store := newStore()
	c := newClient(t, store)
	a, b := register(t, c, "a", 1), register(t, c, "b", 2)
	name := "orders/eu 50% ä"
	claim, state, offsets := claimGroup(t, c, name, a)
	if claim.Epoch != 1 || state != (meta.GroupState{}) || len(offsets) != 0 {
		t.Fatalf("a new group: %+v, %+v, %v", claim, state, offsets)
	}
	// A group whose name begins with the other's has nothing to do with it.
	if other, _, _ := claimGroup(t, c, "orders", b); other.Epoch != 1 {
		t.Fatal(other)
	}

	x, y := meta.TopicID{1}, meta.TopicID{2}
	write := meta.GroupWrite{
		State: meta.GroupState{Generation: 7, ProtocolType: "consumer", Protocol: "range", Members: 2, Digest: "abc", Changed: 5},
		Offsets: map[meta.TopicID]meta.GroupOffsets{
			x: {0: {Offset: 10, LeaderEpoch: 3, Committed: 1_700_000_000_000, Metadata: "\x00 any text"}, 9_999: {Offset: 1<<63 - 1, LeaderEpoch: 1<<31 - 1}},
			y: {5: {Offset: 0, LeaderEpoch: -1}},
		},
	}
	claim, err := c.WriteGroup(t.Context(), claim, write)
	if err != nil {
		t.Fatal(err)
	}
	claim, err = c.WriteGroup(t.Context(), claim, meta.GroupWrite{State: write.State, Offsets: map[meta.TopicID]meta.GroupOffsets{y: nil}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.HoldsGroup(t.Context(), claim); err != nil {
		t.Fatal(err)
	}

	next, state, offsets := claimGroup(t, c, name, b)
	if next.Epoch != 2 || next.Seq != 0 || state != write.State {
		t.Errorf("the next coordinator: %+v, %+v", next, state)
	}
	if want := map[meta.TopicID]meta.GroupOffsets{x: write.Offsets[x]}; !reflect.DeepEqual(offsets, want) {
		t.Errorf("offsets %v, want %v", offsets, want)
	}
	if err := c.HoldsGroup(t.Context(), claim); !errors.Is(err, meta.ErrNotCoordinator) {
		t.Errorf("the first coordinator holds the group: %v", err)
	}
	groups, err := c.StoredGroups(t.Context())
	if err != nil || len(groups) != 2 || groups[0].Group != "orders" || groups[1].Group != name || !reflect.DeepEqual(groups[1].Topics, []meta.TopicID{x}) {
		t.Errorf("groups %+v, %v", groups, err)
	}

	if next, err = c.WriteGroup(t.Context(), next, meta.GroupWrite{Delete: true, Offsets: map[meta.TopicID]meta.GroupOffsets{x: nil}}); err != nil {
		t.Fatal(err)
	}
	if there, err := c.GroupExists(t.Context(), name); there || err != nil {
		t.Errorf("a group that was deleted is there: %v", err)
	}
	if _, err := c.WriteGroup(t.Context(), next, at(x, 1)); !errors.Is(err, meta.ErrNotCoordinator) {
		t.Errorf("a write of a group that was deleted: %v", err)
	}
	if kvs, _, err := store.Range(t.Context(), "/tidemark/test/groups/", 0); err != nil || len(kvs) != 1 {
		t.Errorf("%d keys are left, %v", len(kvs), err)
	}
}

// TestLateCommitOfTheOldCoordinator is B15 of the protocol: two nodes think that they coordinate a group. What the first one
// still had on its way arrives at every place in the takeover; either the second has read it, or it never counts.
func TestLateCommitOfTheOldCoordinator(t *testing.T) {
	for place, name := range []string{"before the claim", "after the claim", "after the next commit"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newStore()
				c := newClient(t, store)
				a, b := register(t, c, "a", 1), register(t, c, "b", 2)
				topic := meta.TopicID{1}
				old, _, _ := claimGroup(t, c, "g", a)
				old, err := c.WriteGroup(t.Context(), old, at(topic, 10))
				if err != nil {
					t.Fatal(err)
				}
				store.FailTxns(metafake.Detach)
				ctx, cancel := context.WithCancel(t.Context())
				answered := make(chan error, 1)
				go func() {
					_, err := c.WriteGroup(ctx, old, at(topic, 20))
					answered <- err
				}()
				synctest.Wait()
				if place != 0 {
					cancel() // before it sends again: what is on its way is all that there is
					if err := <-answered; !errors.Is(err, context.Canceled) {
						t.Fatal(err)
					}
				}
				arrives := func(now int) {
					if now != place {
						return
					}
					if result, err := store.Release(0); err != nil || result.Succeeded != (place == 0) {
						t.Errorf("the late commit: %+v, %v", result, err)
					}
				}
				arrives(0)
				claim, state, offsets := claimGroup(t, c, "g", b)
				want := int64(10)
				if place == 0 {
					want = 20
				}
				if got := offsets[topic][0].Offset; got != want || state.Generation != 1 {
					t.Errorf("the next coordinator begins at %d, generation %d; want %d, 1", got, state.Generation, want)
				}
				arrives(1)
				if _, err := c.WriteGroup(t.Context(), claim, at(topic, 30)); err != nil {
					t.Fatal(err)
				}
				arrives(2)
				if _, _, offsets := claimGroup(t, c, "g", b); offsets[topic][0].Offset != 30 {
					t.Errorf("offsets went to %d", offsets[topic][0].Offset)
				}
				if place == 0 {
					// The answer of the copy that was made was lost, and another claim came: the outcome is not known any more.
					time.Sleep(time.Minute) //nolint:forbidigo // a fake clock
					if err := <-answered; !errors.Is(err, meta.ErrNotCoordinator) {
						t.Errorf("the old coordinator was told %v", err)
					}
				}
				cancel()
			})
		})
	}
}

// TestWriteOfAGroupInDoubt loses answers and requests: the same write is sent again and counts once.
func TestWriteOfAGroupInDoubt(t *testing.T) {
	for fault, faults := range map[string][]metafake.Fault{
		"lost replies":  {metafake.LoseReply, metafake.LoseReply},
		"lost requests": {metafake.Drop, metafake.Drop},
		"both":          {metafake.Drop, metafake.LoseReply, metafake.Drop},
	} {
		t.Run(fault, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newStore()
				c := newClient(t, store)
				a := register(t, c, "a", 1)
				topic := meta.TopicID{1}
				store.FailTxns(faults...)
				claim, _, _ := claimGroup(t, c, "g", a)
				var err error
				for n := range int64(3) {
					store.FailTxns(faults...)
					before := claim
					if claim, err = c.WriteGroup(t.Context(), claim, at(topic, n)); err != nil || claim.Seq != before.Seq+1 || claim.Revision <= before.Revision {
						t.Fatalf("write %d: %+v after %+v, %v", n, claim, before, err)
					}
				}
				store.FailTxns(faults...)
				if _, err = c.WriteGroup(t.Context(), claim, meta.GroupWrite{Delete: true, Offsets: map[meta.TopicID]meta.GroupOffsets{topic: nil}}); err != nil {
					t.Fatal(err)
				}
				if groups, err := c.StoredGroups(t.Context()); err != nil || len(groups) != 0 {
					t.Errorf("groups %v, %v", groups, err)
				}
			})
		})
	}
}

// TestClaimNeedsTheRegistration has a node that lost its place claim a group, also with a request that arrives late.
func TestClaimNeedsTheRegistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		c := newClient(t, store)
		first := register(t, c, "a", 1)
		claimGroup(t, c, "g", first)
		store.FailTxns(metafake.Detach)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, _, _, err := c.ClaimGroup(ctx, "g", first); err == nil {
			t.Fatal("a claim without an answer was made")
		}
		second := register(t, c, "a", 2)
		if result, err := store.Release(0); err != nil || result.Succeeded {
			t.Errorf("the claim of the earlier life: %+v, %v", result, err)
		}
		if _, _, _, err := c.ClaimGroup(t.Context(), "g", first); !errors.Is(err, meta.ErrLeaseGone) {
			t.Errorf("a claim of the earlier life: %v", err)
		}
		if claim, _, _ := claimGroup(t, c, "g", second); claim.Epoch != 2 {
			t.Errorf("epoch %d", claim.Epoch)
		}
	})
}

// TestOffsetsOfAGroupNeverGoBack runs two coordinators that both think that the group is theirs, under random faults, and
// holds what etcd has against what was acknowledged.
func TestOffsetsOfAGroupNeverGoBack(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			store := newStore()
			c := newClient(t, store)
			topic := meta.TopicID{1}
			nodes := []meta.Registration{register(t, c, "a", 1), register(t, c, "b", 2)}
			claims := make([]*meta.GroupClaim, len(nodes))
			offset := int64(0)
			generation := int32(0)
			var acknowledged int64
			for step := range 120 {
				switch random.IntN(4) {
				case 0:
					store.FailTxns(metafake.Fault(random.IntN(int(metafake.Detach)) + 1))
				case 1:
					if store.Held() > 0 {
						_, _ = store.Release(random.IntN(store.Held()))
					}
				}
				n := random.IntN(len(nodes))
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(100))*time.Millisecond)
				if claims[n] == nil {
					claim, state, offsets, err := c.ClaimGroup(ctx, "g", nodes[n])
					cancel()
					if err != nil {
						continue
					}
					if got := offsets[topic][0].Offset; got < acknowledged || state.Generation < generation {
						t.Fatalf("seed %d, step %d: a claim reads offset %d, generation %d after %d and %d were acknowledged", seed, step, got, state.Generation, acknowledged, generation)
					}
					claims[n] = &claim
					continue
				}
				// Every member reads on from what it was told, so offsets only rise, whoever commits.
				offset++
				w := at(topic, offset)
				w.State.Generation = int32(offset)
				claim, err := c.WriteGroup(ctx, *claims[n], w)
				cancel()
				if err != nil {
					claims[n] = nil // in doubt, or another's: either way a new claim decides
					continue
				}
				claims[n] = &claim
				acknowledged, generation = offset, int32(offset)
			}
			for store.Held() > 0 {
				_, _ = store.Release(0)
			}
			if _, _, offsets := claimGroup(t, c, "g", nodes[0]); offsets[topic][0].Offset < acknowledged {
				t.Errorf("seed %d: offset %d, but %d was acknowledged", seed, offsets[topic][0].Offset, acknowledged)
			}
		})
	}
}

func TestLimitsOfAGroup(t *testing.T) {
	store := newStore()
	c := newClient(t, store)
	a := register(t, c, "a", 1)
	for _, bad := range []string{"", strings.Repeat("x", 256), "a\nb", "\xff", "\x7f"} {
		if _, _, _, err := c.ClaimGroup(t.Context(), bad, a); err == nil {
			t.Errorf("group %q was made", bad)
		}
	}
	claim, _, _ := claimGroup(t, c, strings.Repeat("/", 255), a)
	topic := meta.TopicID{1}
	full := make(meta.GroupOffsets)
	for p := range int32(meta.MaxPartitions) {
		full[p] = meta.GroupOffset{Offset: 1<<63 - 1, LeaderEpoch: 1<<31 - 1, Committed: 1<<49 - 1}
	}
	claim, err := c.WriteGroup(t.Context(), claim, meta.GroupWrite{Offsets: map[meta.TopicID]meta.GroupOffsets{topic: full}})
	if err != nil {
		t.Fatalf("every partition of a topic: %v", err)
	}
	kvs, _, err := store.Range(t.Context(), c.Keys().Prefix()+"groups/", 0)
	if err != nil || len(kvs) != 2 || len(kvs[1].Value) > meta.MaxGroupOffsetsBytes {
		t.Errorf("it takes %d bytes, %v", len(kvs[1].Value), err)
	}
	tooMuch := maps.Clone(full)
	for p := range int32(4) {
		tooMuch[p] = meta.GroupOffset{Metadata: strings.Repeat("m", meta.MaxOffsetMetadata)}
	}
	many := make(map[meta.TopicID]meta.GroupOffsets)
	for n := range meta.MaxGroupWriteTopics + 1 {
		many[meta.TopicID{byte(n)}] = nil
	}
	for what, w := range map[string]meta.GroupWrite{
		"too much metadata":        {Offsets: map[meta.TopicID]meta.GroupOffsets{topic: tooMuch}},
		"a metadata that is large": {Offsets: map[meta.TopicID]meta.GroupOffsets{topic: {0: {Metadata: strings.Repeat("m", meta.MaxOffsetMetadata+1)}}}},
		"too many topics":          {Offsets: many},
		"a long protocol":          {State: meta.GroupState{Protocol: strings.Repeat("p", 256)}},
	} {
		before := store.Revision()
		after, err := c.WriteGroup(t.Context(), claim, w)
		if !errors.Is(err, meta.ErrTooLarge) || after != claim || store.Revision() != before {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, o := range map[string]meta.GroupOffset{
		"a negative offset": {Offset: -1}, "a negative epoch": {LeaderEpoch: -2}, "a time far off": {Committed: 1 << 49},
	} {
		if _, err := c.WriteGroup(t.Context(), claim, meta.GroupWrite{Offsets: map[meta.TopicID]meta.GroupOffsets{topic: {0: o}}}); err == nil {
			t.Errorf("%s was written", what)
		}
	}
	if _, err := c.WriteGroup(t.Context(), claim, meta.GroupWrite{Offsets: map[meta.TopicID]meta.GroupOffsets{topic: {meta.MaxPartitions: {}}}}); err == nil {
		t.Error("a partition that no topic has was written")
	}
}

// TestStoredGroupThatCannotBeRead refuses versions and fields that this release does not know, and never overwrites them.
func TestStoredGroupThatCannotBeRead(t *testing.T) {
	for n, value := range []string{
		`{"v":2}`, `{"v":1,"epoch":1,"node":"a","incarnation":"1","seq":0,"generation":0,"members":0,"changed":0,"more":1}`, `{"v":1,"epoch":0,"incarnation":"1"}`, ``,
	} {
		store := newStore()
		c := newClient(t, store)
		a := register(t, c, "a", 1)
		if _, err := store.Txn(t.Context(), meta.Txn{Then: []meta.Op{meta.PutOp(c.Keys().Prefix()+"groups/g", []byte(value))}}); err != nil {
			t.Fatal(err)
		}
		before := store.Revision()
		if _, _, _, err := c.ClaimGroup(t.Context(), "g", a); !errors.Is(err, meta.ErrFormat) || store.Revision() != before {
			t.Errorf("value %d: %v", n, err)
		}
	}
	store := newStore()
	c := newClient(t, store)
	a := register(t, c, "a", 1)
	for n, value := range []string{"", "\x02\x00", "\x01\x01", "\x01\x02\x01\x05\x00\x00\x00\x01\x05\x00\x00\x00", "\x01\x00\x00"} {
		key := fmt.Sprintf("%sgroups/g%d", c.Keys().Prefix(), n)
		if _, err := store.Txn(t.Context(), meta.Txn{Then: []meta.Op{meta.PutOp(key+"/"+meta.TopicID{}.String(), []byte(value))}}); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := c.ClaimGroup(t.Context(), fmt.Sprintf("g%d", n), a); !errors.Is(err, meta.ErrFormat) {
			t.Errorf("offsets %d: %v", n, err)
		}
	}
}
