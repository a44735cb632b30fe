package nemesis

import (
	"maps"
	"testing"
)

// A member commits what it polled and has not committed, of what it still has: else the client would answer by itself.
func TestUncommitted(t *testing.T) {
	m := &member{
		work:   &Workload{config: WorkloadConfig{Topics: []TopicSpec{{Name: "events"}, {Name: "ledger"}}}},
		polled: make(map[string]map[int32]int64),
	}
	check := func(what string, parts map[string][]int32, want map[string]map[int32]int64) {
		t.Helper()
		got := make(map[string]map[int32]int64)
		for _, p := range m.uncommitted(parts) {
			got[p.Topic] = p.Offsets
		}
		if !maps.EqualFunc(got, want, maps.Equal) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	m.reached("events", 0, 5)
	m.reached("events", 1, 7)
	m.reached("ledger", 0, 2)
	check("all", nil, map[string]map[int32]int64{"events": {0: 5, 1: 7}, "ledger": {0: 2}})
	check("some", map[string][]int32{"events": {1, 9}}, map[string]map[int32]int64{"events": {1: 7}})
	m.reached("events", 0, 6)
	m.stored("events", 0, 5) // polled on meanwhile
	m.stored("events", 1, 7)
	check("after a commit", nil, map[string]map[int32]int64{"events": {0: 6}, "ledger": {0: 2}})
	m.forget(map[string][]int32{"events": {0}, "ledger": {0}})
	check("after all are gone", nil, nil)
}

func TestLeadsMost(t *testing.T) {
	nodes := paper(3).nodes
	for _, c := range []struct {
		leaders map[string]int
		not     *Node
		want    *Node
	}{
		{map[string]int{"n1": 4, "n2": 4, "n3": 4}, nil, nodes[0]},
		{map[string]int{"n1": 4, "n2": 4, "n3": 4}, nodes[0], nodes[1]},
		{map[string]int{"n1": 4, "n2": 4, "n3": 4}, nodes[1], nodes[0]},
		{map[string]int{"n1": 3, "n2": 4, "n3": 5}, nodes[2], nodes[2]},
		{map[string]int{"n1": 3, "n2": 5, "n3": 5}, nodes[1], nodes[2]},
		{nil, nil, nil},
	} {
		if got := leadsMost(nodes, c.leaders, c.not); got != c.want {
			t.Errorf("%v without %v: %v, want %v", c.leaders, c.not, got, c.want)
		}
	}
}
