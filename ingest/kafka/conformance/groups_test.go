package conformance

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"
)

// round writes one record into each partition and has the members read until all of them came, and commit. It returns which partitions each
// member read of this round.
func (t *trial) round(ctx context.Context, topic string, partitions int, seen map[string]int, members ...member) []map[int32]bool {
	t.Helper()
	fresh := plain(partitions, partitions)
	for i := range fresh {
		fresh[i].Value = []byte(t.name + " " + time.Now().Format(time.RFC3339Nano) + string(fresh[i].Key))
	}
	t.must("produce", t.reference.produce(ctx, topic, producing{Acks: "all", Codec: "none"}, fresh))
	wanted := map[string]bool{}
	for _, r := range fresh {
		wanted[string(r.Value)] = true
	}
	read := make([]map[int32]bool, len(members))
	for i := range read {
		read[i] = map[int32]bool{}
	}
	for len(wanted) > 0 {
		for i, m := range members {
			got, err := m.poll(ctx, 300*time.Millisecond)
			t.must("poll", err)
			for _, r := range got {
				seen[string(r.Value)]++
				if wanted[string(r.Value)] {
					read[i][r.Partition] = true
					delete(wanted, string(r.Value))
				}
			}
			if len(got) > 0 {
				// A commit may meet a rebalance; then the records come again to whoever has the partition.
				if err := m.commit(ctx); err != nil {
					t.Logf("commit: %v", err)
				}
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("%d records of a round did not come", len(wanted))
		}
	}
	return read
}

func (t *trial) rebalances() {
	ctx, cancel := t.context()
	defer cancel()
	const partitions = 4
	topic := t.topic(ctx, partitions)
	seen := map[string]int{}
	first, err := t.client.join(ctx, t.name, topic)
	t.must("join", err)
	left := false
	t.Cleanup(func() {
		if !left {
			_ = first.leave()
		}
	})
	if got := t.round(ctx, topic, partitions, seen, first); len(got[0]) != partitions {
		t.Errorf("a member alone reads partitions %v", slices.Sorted(maps.Keys(got[0])))
	}
	second, err := t.client.join(ctx, t.name, topic)
	t.must("join", err)
	t.Cleanup(func() {
		if err := second.leave(); err != nil {
			t.Errorf("leave: %v", err)
		}
	})
	for shared := false; !shared; {
		got := t.round(ctx, topic, partitions, seen, first, second)
		shared = len(got[0]) == partitions/2 && len(got[1]) == partitions/2
	}
	t.must("leave", first.leave())
	left = true
	if got := t.round(ctx, topic, partitions, seen, second); len(got[0]) != partitions {
		t.Errorf("the member that stayed reads partitions %v", slices.Sorted(maps.Keys(got[0])))
	}
}

// until polls until so many records have come.
func (t *trial) until(ctx context.Context, m member, n int) []record {
	t.Helper()
	var out []record
	for len(out) < n {
		got, err := m.poll(ctx, 300*time.Millisecond)
		t.must("poll", err)
		out = append(out, got...)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d records came", len(out), n)
		}
	}
	return out
}

func (t *trial) resumes() {
	ctx, cancel := t.context()
	defer cancel()
	const partitions = 2
	topic := t.topic(ctx, partitions)
	sent := plain(40, partitions)
	halves := [][]record{sent[:20], sent[20:]}
	for _, half := range halves {
		t.must("produce", t.reference.produce(ctx, topic, producing{Acks: "all", Codec: "none"}, half))
		m, err := t.client.join(ctx, t.name, topic)
		t.must("join", err)
		got := t.until(ctx, m, len(half))
		t.must("commit", m.commit(ctx))
		t.must("leave", m.leave())
		t.same("what a member reads", got, half)
	}
}

func TestPartitionRule(t *testing.T) {
	// Values of org.apache.kafka.common.utils.Utils.murmur2, from its own tests.
	for key, hash := range map[string]int32{"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "abc": 479470107} {
		const partitions = 1000
		if got, want := partitionOf([]byte(key), partitions), hash&0x7fffffff%partitions; got != want {
			t.Errorf("%q: partition %d, want %d", key, got, want)
		}
	}
}
