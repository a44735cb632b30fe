package group

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestAssignRange(t *testing.T) {
	got := Assign(Range, []AssignMember{
		{ID: "z", InstanceID: "1", Topics: []string{"t", "u"}},
		{ID: "a", InstanceID: "2", Topics: []string{"t", "u"}},
		{ID: "m", Topics: []string{"t", "missing"}},
	}, map[string]int32{"t": 7, "u": 3})
	want := map[string]string{"z": "t:0-2,u:0-1", "a": "t:3-4,u:2", "m": "t:5-6"}
	sameAssignment(t, got, want)
}

func TestAssignRoundRobin(t *testing.T) {
	got := Assign(RoundRobin, []AssignMember{
		{ID: "c", Topics: []string{"u"}},
		{ID: "a", Topics: []string{"t", "u"}},
		{ID: "b", Topics: []string{"t", "u"}},
	}, map[string]int32{"t": 3, "u": 3})
	want := map[string]string{"a": "t:0,t:2,u:2", "b": "t:1,u:0", "c": "u:1"}
	sameAssignment(t, got, want)
}

func TestAssignSticky(t *testing.T) {
	got := Assign(CooperativeSticky, []AssignMember{
		{ID: "a", Topics: []string{"t"}, Owned: list(t, "t:0-4")},
		{ID: "b", Topics: []string{"t"}, Owned: list(t, "t:4-5,u:0,t:9")},
		{ID: "c", Topics: []string{"t"}},
	}, map[string]int32{"t": 7})
	sameAssignment(t, got, map[string]string{"a": "t:0-2", "b": "t:4-5", "c": "t:3,t:6"})
}

// TestAssignStickyMovesAlongChains: c can only have more when b hands one on and gets one from a.
func TestAssignStickyMovesAlongChains(t *testing.T) {
	got := Assign(CooperativeSticky, []AssignMember{
		{ID: "a", Topics: []string{"t"}, Owned: list(t, "t:0-2")},
		{ID: "b", Topics: []string{"t", "u"}, Owned: list(t, "u:0-1")},
		{ID: "c", Topics: []string{"u"}},
	}, map[string]int32{"t": 4, "u": 2})
	loads := make(map[string]int)
	for id, partitions := range got {
		loads[id] = len(partitions)
	}
	if want := map[string]int{"a": 2, "b": 2, "c": 2}; !maps.Equal(loads, want) {
		t.Errorf("got %v", got)
	}
}

func TestAssignNobodyOrNothing(t *testing.T) {
	for _, strategy := range []Strategy{Range, RoundRobin, CooperativeSticky} {
		if got := Assign(strategy, nil, map[string]int32{"t": 3}); len(got) != 0 {
			t.Errorf("%s: %v", strategy, got)
		}
		got := Assign(strategy, []AssignMember{{ID: "a", Topics: []string{"t", "u"}}, {ID: "b"}}, map[string]int32{"t": 0, "v": 3})
		if len(got) != 2 || len(got["a"])+len(got["b"]) != 0 {
			t.Errorf("%s: %v", strategy, got)
		}
	}
}

func sameAssignment(t *testing.T, got map[string][]TopicPartition, want map[string]string) {
	t.Helper()
	spelt := make(map[string]string)
	for id, partitions := range got {
		spelt[id] = spell(partitions)
	}
	if !maps.Equal(spelt, want) {
		t.Errorf("got  %v\nwant %v", spelt, want)
	}
}

// drawMembers draws members, whose claims may contradict each other, and topics.
func drawMembers(t *rapid.T, equal bool) ([]AssignMember, map[string]int32) {
	partitions := make(map[string]int32)
	for i := range rapid.IntRange(1, 4).Draw(t, "topics") {
		partitions[fmt.Sprint("t", i)] = rapid.Int32Range(0, 7).Draw(t, "partitions")
	}
	topics := slices.Sorted(maps.Keys(partitions))
	members := make([]AssignMember, rapid.IntRange(1, 6).Draw(t, "members"))
	for i := range members {
		m := &members[i]
		m.ID = fmt.Sprint("m", i)
		if rapid.IntRange(0, 3).Draw(t, "static") == 0 {
			m.InstanceID = fmt.Sprint("i", 9-i)
		}
		for _, topic := range topics {
			if equal || rapid.Bool().Draw(t, "subscribed") {
				m.Topics = append(m.Topics, topic)
			}
		}
		m.Owned = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) TopicPartition {
			return TopicPartition{rapid.SampledFrom(topics).Draw(t, "topic"), rapid.Int32Range(-1, 8).Draw(t, "partition")}
		}), 0, 10).Draw(t, "owned")
	}
	return members, partitions
}

// TestAssignIsValid: everything that somebody wants is given once, to somebody who wants it; the order of members does not
// matter; and the sticky assignor is content with its own work.
func TestAssignIsValid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members, partitions := drawMembers(t, false)
		strategy := rapid.SampledFrom([]Strategy{Range, RoundRobin, CooperativeSticky}).Draw(t, "strategy")
		got := Assign(strategy, members, partitions)
		checkValid(t, got, members, partitions)

		shuffled := rapid.Permutation(members).Draw(t, "order")
		if again := Assign(strategy, shuffled, partitions); !reflect.DeepEqual(got, again) {
			t.Fatalf("first %v\nthen  %v", got, again)
		}
		for i := range members {
			members[i].Owned = got[members[i].ID]
		}
		if again := Assign(strategy, members, partitions); !reflect.DeepEqual(got, again) {
			t.Fatalf("it moves its own assignment %v\nto %v", got, again)
		}
	})
}

func checkValid(t *rapid.T, got map[string][]TopicPartition, members []AssignMember, partitions map[string]int32) {
	if len(got) != len(members) {
		t.Fatalf("%d members in, %d out", len(members), len(got))
	}
	given := make(map[TopicPartition]string)
	wanted := 0
	for topic, count := range partitions {
		if slices.ContainsFunc(members, func(m AssignMember) bool { return slices.Contains(m.Topics, topic) }) {
			wanted += int(count)
		}
	}
	for _, m := range members {
		if !slices.IsSortedFunc(got[m.ID], TopicPartition.compare) {
			t.Fatalf("%s: not sorted", m.ID)
		}
		for _, p := range got[m.ID] {
			if other, twice := given[p]; twice {
				t.Fatalf("%v is given to %s and %s", p, m.ID, other)
			}
			given[p] = m.ID
			if !slices.Contains(m.Topics, p.Topic) || p.Partition < 0 || p.Partition >= partitions[p.Topic] {
				t.Fatalf("%v is given to %s, which has %v of %v", p, m.ID, m.Topics, partitions)
			}
		}
	}
	if len(given) != wanted {
		t.Fatalf("%d partitions are wanted, %d given", wanted, len(given))
	}
}

// rightful is who owns each partition before, as the assignors see it.
func rightful(members []AssignMember, partitions map[string]int32) map[TopicPartition]string {
	sorted := slices.SortedFunc(slices.Values(members), func(a, b AssignMember) int {
		return cmp.Or(cmp.Compare(a.order(), b.order()), cmp.Compare(a.ID, b.ID))
	})
	owner := make(map[TopicPartition]string)
	for _, m := range sorted {
		for _, p := range m.Owned {
			if _, taken := owner[p]; !taken && slices.Contains(m.Topics, p.Topic) && p.Partition >= 0 && p.Partition < partitions[p.Topic] {
				owner[p] = m.ID
			}
		}
	}
	return owner
}

// TestStickyKeepsAllItCan compares with a twin that tries every even assignment of so many each.
func TestStickyKeepsAllItCan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members, partitions := drawMembers(t, true)
		got := Assign(CooperativeSticky, members, partitions)
		owner := rightful(members, partitions)
		kept, total, least, most := 0, 0, 1<<30, 0
		owned := make(map[string]int)
		for p, id := range owner {
			owned[id]++
			if slices.Contains(got[id], p) {
				kept++
			}
		}
		for _, given := range got {
			least, most, total = min(least, len(given)), max(most, len(given)), total+len(given)
		}
		if most-least > 1 {
			t.Fatalf("uneven: %v", got)
		}
		// Every choice of who gets one more.
		best := 0
		each, more := total/len(members), total%len(members)
		for choice := range 1 << len(members) {
			extra, keeps := 0, 0
			for i, m := range members {
				quota := each
				if choice>>i&1 == 1 {
					quota++
					extra++
				}
				keeps += min(quota, owned[m.ID])
			}
			if extra == more {
				best = max(best, keeps)
			}
		}
		if kept != best {
			t.Fatalf("keeps %d of %d, %d are possible: %v", kept, len(owner), best, got)
		}
	})
}

// TestStickyIsAsEvenAsItCanBe compares the sum of squares of the loads with the least of all assignments, tried one by one.
func TestStickyIsAsEvenAsItCanBe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members, partitions := drawMembers(t, false)
		members = members[:min(len(members), 4)]
		got := Assign(CooperativeSticky, members, partitions)
		sum := 0
		for _, given := range got {
			sum += len(given) * len(given)
		}
		if best := leastSquares(members, partitions); sum != best {
			t.Fatalf("the sum of squares is %d, %d is possible: %v", sum, best, got)
		}
	})
}

// leastSquares goes through all vectors of loads that some assignment of the topics so far leads to.
func leastSquares(members []AssignMember, partitions map[string]int32) int {
	type loads [4]int
	reached := map[loads]bool{{}: true}
	for topic, count := range partitions {
		for range count {
			next := make(map[loads]bool)
			for have := range reached {
				for i, m := range members {
					if slices.Contains(m.Topics, topic) {
						more := have
						more[i]++
						next[more] = true
					}
				}
			}
			if len(next) == 0 {
				break // nobody wants it
			}
			reached = next
		}
	}
	best := 1 << 30
	for have := range reached {
		sum := 0
		for _, load := range have {
			sum += load * load
		}
		best = min(best, sum)
	}
	return best
}
