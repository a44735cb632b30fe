package query

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var t0 = time.Unix(1_800_000_000, 0)

func admitted(a *admission) []jobID {
	var out []jobID
	for _, e := range a.take() {
		if e.kind == effectAdmit {
			out = append(out, e.id)
		}
	}
	return out
}

func told(a *admission) []jobID {
	var out []jobID
	for _, e := range a.take() {
		if e.kind == effectEnd {
			out = append(out, e.id)
		}
	}
	return out
}

// TestQueueIsFair: a client with a thousand queries delays another's first by one, and another connection of its host's too.
func TestQueueIsFair(t *testing.T) {
	a := newAdmission(admissionLimits{Slots: 1, Waiting: 1000, PerConnection: 500, Parked: 4})
	greedy, second, other := clientKey{"10.0.0.1", "10.0.0.1:1"}, clientKey{"10.0.0.1", "10.0.0.1:2"}, clientKey{"10.0.0.2", "10.0.0.2:1"}
	for id := range jobID(300) {
		if ok, _ := a.enter(id+1, greedy, t0); !ok {
			t.Fatal("the queue is not full")
		}
	}
	a.enter(1001, second, t0)
	a.enter(2001, other, t0)
	a.enter(2002, other, t0)
	order := admitted(a)
	for len(order) < 8 {
		a.leave(order[len(order)-1], t0)
		order = append(order, admitted(a)...)
	}
	want := []jobID{1, 2, 2001, 1001, 2002, 3, 4, 5}
	if !slices.Equal(order, want) {
		t.Errorf("admitted in the order %v, want %v", order, want)
	}
}

func TestQueueIsBounded(t *testing.T) {
	a := newAdmission(admissionLimits{Slots: 1, Waiting: 5, PerConnection: 3, Parked: 1})
	one := clientKey{"a", "a:1"}
	for id := range jobID(4) { // one runs, three wait
		if ok, _ := a.enter(id+1, one, t0); !ok {
			t.Fatalf("query %d found no room", id+1)
		}
	}
	if ok, connection := a.enter(5, one, t0); ok || !connection {
		t.Error("a fourth query of one connection waits")
	}
	a.leave(3, t0)
	a.leave(4, t0)
	for id, host := range []string{"b", "c", "d", "e"} {
		a.enter(jobID(6+id), clientKey{host, host + ":1"}, t0)
	}
	if ok, connection := a.enter(10, clientKey{"f", "f:1"}, t0); ok || connection {
		t.Error("a sixth query waits")
	}
	a.leave(2, t0)
	if ok, _ := a.enter(11, clientKey{"f", "f:1"}, t0); !ok {
		t.Error("there is room again, and it is not given")
	}
}

func pushedOut(a *admission) []jobID {
	var out []jobID
	for _, e := range a.take() {
		if e.kind == effectPushOut {
			out = append(out, e.id)
		}
	}
	return out
}

// TestFullQueueIsFair: who fills the queue keeps nobody out of it but himself.
func TestFullQueueIsFair(t *testing.T) {
	a := newAdmission(admissionLimits{Slots: 1, Waiting: 6, PerConnection: 4, Parked: 1})
	greedy := func(n int) clientKey { return clientKey{"greedy", fmt.Sprint("greedy:", n)} }
	id := jobID(0)
	enter := func(c clientKey) (bool, []jobID) {
		id++
		ok, _ := a.enter(id, c, t0)
		return ok, pushedOut(a)
	}
	for _, n := range []int{1, 1, 1, 1, 2, 2, 2} { // 1 runs, 2 to 4 and 5 to 7 wait
		if ok, out := enter(greedy(n)); !ok || len(out) != 0 {
			t.Fatal("the queue is not full", out)
		}
	}
	if ok, out := enter(greedy(1)); ok || out != nil {
		t.Error("the only host pushed out", out)
	}
	if ok, out := enter(greedy(3)); !ok || len(out) != 1 || out[0] != 4 && out[0] != 7 {
		t.Error("a connection with none in the queue pushed out", out)
	}
	for range 3 {
		if ok, out := enter(clientKey{"honest", "honest:1"}); !ok || len(out) != 1 || out[0] > 7 {
			t.Error("an honest client pushed out", out)
		}
	}
	if ok, out := enter(clientKey{"honest", "honest:2"}); !ok || len(out) != 1 || out[0] != 12 {
		t.Error("with half of the queue, another connection of the client pushed out", out)
	}
	if ok, out := enter(clientKey{"third", "third:1"}); !ok || len(out) != 1 {
		t.Error("a third client pushed out", out)
	}
	if a.waiting != 6 {
		t.Errorf("%d wait", a.waiting)
	}
}

// TestBlockedQueryLendsItsSlot: it keeps its slot while nobody wants it, loses it 100 ms after it began to wait when somebody
// does, and gets one again in its turn.
func TestBlockedQueryLendsItsSlot(t *testing.T) {
	a := newAdmission(admissionLimits{Slots: 1, Waiting: 10, PerConnection: 10, Parked: 2})
	a.enter(1, clientKey{"a", "a:1"}, t0)
	a.wait(1, blockedByClient, t0)
	a.tick(t0.Add(10 * time.Second))
	if !a.resume(1, t0.Add(10*time.Second)) {
		t.Fatal("it lost a slot that nobody wanted")
	}
	a.take()
	at := t0.Add(20 * time.Second)
	a.wait(1, blockedByClient, at)
	a.enter(2, clientKey{"b", "b:1"}, at)
	if got := admitted(a); len(got) != 0 {
		t.Fatalf("%v took the slot at once", got)
	}
	if due := a.next(); !due.Equal(at.Add(blockedLong)) {
		t.Fatalf("the next tick is due at %v", due.Sub(at))
	}
	a.tick(at.Add(blockedLong))
	if got := admitted(a); !slices.Equal(got, []jobID{2}) {
		t.Fatalf("admitted %v, want 2", got)
	}
	if a.resume(1, at.Add(time.Second)) {
		t.Fatal("1 has a slot, and there is only one")
	}
	a.leave(2, at.Add(2*time.Second))
	if got := admitted(a); !slices.Equal(got, []jobID{1}) {
		t.Fatalf("admitted %v, want 1", got)
	}
}

// TestStalledQueriesMakeRoom: a thousand clients that never read hold no more than their share, and those that took nothing for
// the longest time go first.
func TestStalledQueriesMakeRoom(t *testing.T) {
	a := newAdmission(admissionLimits{Slots: 2, Waiting: 1000, PerConnection: 10, Parked: 3})
	now, ended := t0, map[jobID]bool{}
	for id := range jobID(100) {
		a.enter(id+1, clientKey{fmt.Sprint("host", id), "x"}, now)
	}
	a.enter(1000, clientKey{"honest", "x"}, now)
	honest := false
	for step := 0; step < 10_000 && !honest; step++ {
		effects := a.take()
		for _, e := range effects {
			switch {
			case e.kind == effectEnd:
				ended[e.id] = true
				a.leave(e.id, now)
			case e.id == 1000:
				honest = true
			default:
				a.wait(e.id, blockedByClient, now)
			}
		}
		if a.held > 3 || a.running > 2 {
			t.Fatalf("%d are parked and %d run", a.held, a.running)
		}
		if len(effects) > 0 {
			continue // what they lead to comes first
		}
		if due := a.next(); due.After(now) {
			now = due
		}
		a.tick(now)
	}
	if !honest {
		t.Fatal("the honest client never ran")
	}
	// It is last in the first round. Five stalled ones have room at a time, and go after a second.
	if took := now.Sub(t0); took > 25*time.Second {
		t.Errorf("it waited %s", took)
	}
	if !ended[1] {
		t.Error("the first that stalled was not the first to go")
	}
}

// TestSlowReaderStays: a client that takes a little every 20 s is not idle, one that takes nothing for 30 s is.
func TestSlowReaderStays(t *testing.T) {
	a := newAdmission(admissionLimits{Slots: 1, Waiting: 1, PerConnection: 1, Parked: 1})
	a.enter(1, clientKey{"a", "a"}, t0)
	a.wait(1, blockedByClient, t0)
	now := t0
	for range 10 {
		now = now.Add(20 * time.Second)
		a.progress(1, now)
		a.tick(now)
	}
	if got := told(a); len(got) != 0 {
		t.Fatalf("%v were told to end", got)
	}
	a.tick(now.Add(idleLimit))
	a.tick(now.Add(2 * idleLimit))
	if got := told(a); !slices.Equal(got, []jobID{1}) {
		t.Fatalf("%v were told to end, want 1, once", got)
	}
}

// TestAdmissionKeepsItsWord plays any order of calls: the bounds hold after every step, no free slot is left while somebody
// waits, and everybody who stays gets a slot in the end.
func TestAdmissionKeepsItsWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := admissionLimits{
			Slots: rapid.IntRange(1, 4).Draw(t, "slots"), Waiting: rapid.IntRange(1, 8).Draw(t, "waiting"),
			PerConnection: rapid.IntRange(1, 4).Draw(t, "connection"), Parked: rapid.IntRange(1, 3).Draw(t, "parked"),
		}
		a := newAdmission(l)
		now, last := t0, jobID(0)
		running, live := map[jobID]bool{}, map[jobID]bool{}
		waiting := func() (hosts map[string]int, conns map[clientKey]int, newest map[clientKey]jobID) {
			hosts, conns, newest = map[string]int{}, map[clientKey]int{}, map[clientKey]jobID{}
			for id, j := range a.jobs {
				if j.state == jobRunning || j.engine {
					continue
				}
				hosts[j.client.host]++
				conns[j.client]++
				newest[j.client] = max(newest[j.client], id)
			}
			return hosts, conns, newest
		}
		check := func() {
			for _, e := range a.take() {
				if e.kind == effectPushOut {
					t.Fatalf("%d was pushed out, and nobody came", e.id)
				}
				if e.kind == effectAdmit {
					if running[e.id] {
						t.Fatalf("%d was admitted twice", e.id)
					}
					running[e.id] = true
				}
			}
			for id := range running {
				if j := a.jobs[id]; j == nil || j.state == jobParked {
					delete(running, id)
				}
			}
			switch {
			case a.running > l.Slots, a.running != len(running):
				t.Fatalf("%d run of %d, and %d were told", a.running, l.Slots, len(running))
			case a.running < l.Slots && a.queued > 0:
				t.Fatalf("%d slots are free and %d wait", l.Slots-a.running, a.queued)
			case a.held > l.Parked:
				t.Fatalf("%d are parked", a.held)
			case a.waiting > l.Waiting+l.Slots:
				t.Fatalf("%d wait", a.waiting)
			case len(a.jobs) != len(live):
				t.Fatalf("%d jobs are known of %d", len(a.jobs), len(live))
			}
			queued := 0
			for _, h := range a.ring {
				for _, c := range h.conns {
					queued += len(c.jobs)
					if len(c.jobs) == 0 {
						t.Fatal("an empty connection is in the ring")
					}
				}
			}
			if queued != a.queued {
				t.Fatalf("%d are in the ring and %d counted", queued, a.queued)
			}
		}
		pick := func(from map[jobID]bool) jobID {
			var all []jobID
			for id := range from {
				all = append(all, id)
			}
			slices.Sort(all)
			return all[rapid.IntRange(0, len(all)-1).Draw(t, "which")]
		}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			switch op := rapid.IntRange(0, 5).Draw(t, "op"); {
			case op == 0 || op == 1:
				last++
				host := fmt.Sprint(rapid.IntRange(0, 2).Draw(t, "host"))
				mine := clientKey{host, host + fmt.Sprint(rapid.IntRange(0, 1).Draw(t, "conn"))}
				hosts, conns, newest := waiting()
				ok, connectionFull := a.enter(last, mine, now)
				if ok {
					live[last] = true
				}
				if !ok && !connectionFull { // then nobody has more of the queue
					for h, n := range hosts {
						if n > hosts[mine.host]+1 {
							t.Fatalf("a client was refused with %d in the queue, and %s has %d", hosts[mine.host], h, n)
						}
					}
					for c, n := range conns {
						if c.host == mine.host && n > conns[mine]+1 {
							t.Fatalf("a connection was refused with %d in the queue, and %v has %d", conns[mine], c, n)
						}
					}
				}
				kept := a.effects[:0]
				for _, e := range a.effects {
					if e.kind != effectPushOut {
						kept = append(kept, e)
						continue
					}
					var out clientKey
					for c, id := range newest {
						if id == e.id {
							out = c
						}
					}
					switch {
					case out == clientKey{}:
						t.Fatalf("%d was pushed out, and is not the newest that waits", e.id)
					case out.host != mine.host && hosts[out.host] <= hosts[mine.host]+1, out.host == mine.host && conns[out] <= conns[mine]+1:
						t.Fatalf("%v was pushed out by %v: %v", out, mine, conns)
					case !live[e.id], running[e.id], a.jobs[e.id] != nil:
						t.Fatalf("%d was pushed out and is there", e.id)
					case a.resume(e.id, now):
						t.Fatalf("%d was pushed out and has a slot", e.id)
					}
					delete(live, e.id)
				}
				a.effects = kept
			case op == 2 && len(live) > 0:
				id := pick(live)
				a.leave(id, now)
				delete(live, id)
				delete(running, id)
			case op == 3 && len(running) > 0:
				id := pick(running)
				kind := blockedByClient
				if !a.jobs[id].engine && rapid.Bool().Draw(t, "log") {
					kind = blockedByLog
				}
				a.wait(id, kind, now)
			case op == 4 && len(a.blocked) > 0:
				var all []jobID
				for id := range a.blocked {
					all = append(all, id)
				}
				slices.Sort(all)
				a.resume(all[rapid.IntRange(0, len(all)-1).Draw(t, "blocked")], now)
			case op == 5:
				now = now.Add(time.Duration(rapid.IntRange(1, 40_000).Draw(t, "ms")) * time.Millisecond)
				a.tick(now)
			}
			check()
		}
		// Everybody who has a slot leaves: nobody waits for ever.
		for range 1000 {
			if len(live) == 0 {
				return
			}
			for id := range a.blocked {
				a.resume(id, now)
				break
			}
			check()
			for id := range running {
				a.leave(id, now)
				delete(live, id)
				delete(running, id)
				break
			}
			check()
		}
		t.Fatalf("%d jobs never got a slot", len(live))
	})
}

// TestGateLosesNoWakeUp: many queries that block and go on, from many goroutines, all end.
func TestGateLosesNoWakeUp(t *testing.T) {
	c := newFakeClock()
	g := newGate(c, admissionLimits{Slots: 3, Waiting: 1000, PerConnection: 1000, Parked: 4})
	ctx, stop := context.WithCancel(t.Context())
	var background sync.WaitGroup
	background.Go(func() { g.run(ctx) })
	background.Go(func() {
		for ctx.Err() == nil {
			c.advance(30 * time.Millisecond)
			runtime.Gosched()
		}
	})
	var running, ended atomic.Int64
	var queries sync.WaitGroup
	for i := range 200 {
		queries.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			mine, cancel := context.WithCancelCause(ctx)
			defer cancel(nil)
			turn, err := g.enter(mine, clientKey{fmt.Sprint(i % 5), fmt.Sprint(i % 20)}, cancel)
			if err != nil {
				t.Error(err)
				return
			}
			defer turn.leave()
			for range 20 {
				if n := running.Add(1); n > 3 {
					t.Errorf("%d run at once", n)
				}
				for range random.IntN(20) {
					runtime.Gosched()
				}
				running.Add(-1)
				kind := blockedByClient
				turn.blocked(kind)
				for range random.IntN(50) {
					turn.took()
					runtime.Gosched()
				}
				if err := turn.resume(mine); err != nil {
					if !errors.Is(err, errTooSlow) {
						t.Error(err)
					}
					ended.Add(1)
					return
				}
			}
		})
	}
	queries.Wait()
	stop()
	background.Wait()
	if running, waiting := g.levels(); running != 0 || waiting != 0 || len(g.turns) != 0 {
		t.Errorf("%d run and %d wait when all have left", running, waiting)
	}
}
