package client_test

import (
	"errors"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
)

// Three members share twelve partitions while records come, one after the other comes and goes, and leaders move. With orderly moves
// every record is processed exactly once, in order, whichever strategy shares them out.
func TestGroupOrderlyMoves(t *testing.T) {
	for _, strategy := range []string{client.CooperativeSticky, client.Range, client.RoundRobin} {
		t.Run(strategy, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := startFleet(t, 3)
				f.create("t", 12)
				l := newLedger(t, f)
				cfg := client.GroupConfig{Strategy: strategy}
				workers := []*worker{l.start("a", cfg)}
				feed := func() {
					for range 20 {
						f.fill("t", 3)
						idle(10 * time.Millisecond)
					}
				}
				feed()
				workers = append(workers, l.start("b", cfg), l.start("c", cfg))
				feed()
				eventually(t, "four partitions each", func() bool { return maps.Equal(l.shares(), map[string]int{"a": 4, "b": 4, "c": 4}) })
				f.lead("t", 5, "n1")
				feed()
				if err := workers[0].close(); err != nil {
					t.Fatal(err)
				}
				feed()
				eventually(t, "six partitions each", func() bool { return maps.Equal(l.shares(), map[string]int{"b": 6, "c": 6}) })
				eventually(t, "everything is processed", l.processed("t"))
				l.check("t", false)
				if err := errors.Join(workers[1].close(), workers[2].close()); err != nil {
					t.Fatal(err)
				}
				f.mu.Lock()
				defer f.mu.Unlock()
				g := f.group("g")
				if len(g.members) != 0 || g.leaves != 3 || g.backwards != 0 {
					t.Errorf("%d members are left, %d left, %d commits went back", len(g.members), g.leaves, g.backwards)
				}
				for n, p := range f.topics["t"].parts {
					if at := g.committed[fleetKey{"t", int32(n)}]; at != p.end {
						t.Errorf("partition %d is committed up to %d, not %d", n, at, p.end)
					}
				}
				if n := g.rebalances; n > 16 {
					t.Errorf("%d rebalances", n)
				}
			})
		})
	}
}

// A member that is silent loses its partitions to the others after its session: nothing is skipped, and it hears so itself.
func TestGroupMemberDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		f.create("t", 12)
		l := newLedger(t, f)
		cfg := client.GroupConfig{SessionTimeout: 10 * time.Second}
		dead := l.start("dead", cfg)
		l.start("b", cfg)
		l.start("c", cfg)
		eventually(t, "four partitions each", func() bool { return maps.Equal(l.shares(), map[string]int{"dead": 4, "b": 4, "c": 4}) })
		f.fill("t", 50)
		eventually(t, "everything is processed", l.processed("t"))
		dead.away.Store(true)
		f.fill("t", 50)
		begin := clock.System().Now()
		eventually(t, "everything is processed", l.processed("t"))
		if took := clock.System().Now().Sub(begin); took < 5*time.Second || took > 15*time.Second {
			t.Errorf("the others took over after %v", took)
		}
		eventually(t, "the dead member hears of it", func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.lost["dead"] == 4
		})
		if err := dead.g.Commit(t.Context(), client.Position{Topic: "t", Offsets: map[int32]int64{3: 1}}); reasonOf(err) != client.ReasonNotAssigned {
			t.Error(err)
		}
		dead.away.Store(false)
		f.fill("t", 50)
		eventually(t, "it is back", func() bool { return maps.Equal(l.shares(), map[string]int{"dead": 4, "b": 4, "c": 4}) })
		eventually(t, "everything is processed", l.processed("t"))
		l.check("t", true)
	})
}

func reasonOf(err error) string {
	if e, ok := errors.AsType[*client.Error](err); ok {
		return e.Reason
	}
	return fmt.Sprint(err)
}

// An application that is slow stays a member for as long as it likes. What it is to give up waits for its Poll: when that comes in
// time nothing is lost; else the partitions go without it, and it hears so.
func TestGroupSlowPoller(t *testing.T) {
	for name, strategy := range map[string]string{"in time": client.CooperativeSticky, "late": client.CooperativeSticky, "everything in time": client.Range} {
		late := name == "late"
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := startFleet(t, 2)
				f.create("t", 4)
				f.fill("t", 20)
				l := newLedger(t, f)
				cfg := client.GroupConfig{Strategy: strategy, SessionTimeout: 6 * time.Second, RebalanceTimeout: 40 * time.Second}
				slow := l.start("slow", cfg)
				eventually(t, "everything is processed", l.processed("t"))
				free := slow.stick()
				f.fill("t", 20)
				idle(time.Minute) // many sessions
				if f.rebalances() != 1 {
					t.Error("a slow member was thrown out")
				}
				l.start("other", cfg)
				idle(20 * time.Second)
				if n := l.shares()["other"]; n != 0 {
					t.Errorf("the other one has %d partitions that the slow one did not give up", n)
				}
				if late {
					idle(20 * time.Second)
					if n := l.shares()["other"]; n != 2 {
						t.Errorf("the other one has %d partitions", n)
					}
				}
				free()
				eventually(t, "two partitions each", func() bool { return maps.Equal(l.shares(), map[string]int{"slow": 2, "other": 2}) })
				eventually(t, "everything is processed", l.processed("t"))
				l.check("t", late)
				l.mu.Lock()
				if lost := l.lost["slow"]; late != (lost == 2) || !late && lost != 0 {
					t.Errorf("%d partitions were lost: %v", lost, l.lists)
				}
				l.mu.Unlock()
			})
		})
	}
}

// While a rebalance waits for a member that does not come, the others read on with what they keep.
func TestGroupReadsOnThroughRebalance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		f.create("t", 4)
		l := newLedger(t, f)
		l.start("a", client.GroupConfig{})
		eventually(t, "all partitions", func() bool { return l.shares()["a"] == 4 })
		// A member of the coordinator's that joins, and then does not come to the next rebalance.
		f.mu.Lock()
		g := f.group("g")
		g.members["x"] = &fleetMember{id: "x", topics: []string{"t"}, session: time.Hour, rebalance: time.Minute, deadline: clock.System().Now().Add(time.Hour)}
		g.prepare()
		f.mu.Unlock()
		idle(10 * time.Second)
		f.fill("t", 100)
		begin := clock.System().Now()
		eventually(t, "everything is processed", l.processed("t"))
		if took := clock.System().Now().Sub(begin); took > 2*time.Second {
			t.Errorf("reading took %v", took)
		}
		f.mu.Lock()
		if !g.preparing || g.rebalances != 1 {
			t.Error("the rebalance is over")
		}
		f.mu.Unlock()
		eventually(t, "the rebalance is over", func() bool { return f.rebalances() == 2 })
		f.fill("t", 100)
		eventually(t, "everything is processed", l.processed("t"))
		l.check("t", false)
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.lists["a"]) != 1 {
			t.Errorf("a heard %v", l.lists["a"])
		}
	})
}

// A member with a name of its own that restarts within its session has its partitions again, without a rebalance; a second one with
// the name puts the first out.
func TestGroupStaticMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		f.create("t", 4)
		l := newLedger(t, f)
		cfg := client.GroupConfig{InstanceID: "one", SessionTimeout: 20 * time.Second}
		a := l.start("a", cfg)
		l.start("b", client.GroupConfig{})
		eventually(t, "two partitions each", func() bool { return maps.Equal(l.shares(), map[string]int{"a": 2, "b": 2}) })
		f.fill("t", 10)
		eventually(t, "everything is processed", l.processed("t"))
		before := f.rebalances()
		if err := a.close(); err != nil {
			t.Fatal(err)
		}
		f.fill("t", 10)
		idle(10 * time.Second)
		again := l.start("a", cfg)
		eventually(t, "everything is processed", l.processed("t"))
		l.check("t", false)
		if n := f.rebalances(); n != before {
			t.Errorf("%d rebalances", n-before)
		}
		l.start("second", cfg)
		<-again.ended
		if reasonOf(again.err) != client.ReasonFencedInstance {
			t.Error(again.err)
		}
		f.fill("t", 10)
		eventually(t, "everything is processed", l.processed("t"))
		l.check("t", true)
	})
}
