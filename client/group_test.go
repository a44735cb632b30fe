package client_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/client"
)

// Close commits what was processed, not the piece that the application was still at, and gives the partitions away at once.
func TestGroupClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 1)
		f.create("t", 1)
		f.pieceBytes = 1
		f.fill("t", 3)
		c := f.client(client.Config{})
		var told []string
		g, err := c.NewGroupConsumer("g", []string{"t"}, client.GroupConfig{AutoCommit: time.Hour, OnRevoke: func(by map[string][]int32) { told = append(told, fmt.Sprint(by)) }})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := g.Poll(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := fmt.Sprint(g.Position()); got != "[t 0:2]" || f.committed(0) != -1 {
			t.Error(got, f.committed(0))
		}
		if err := g.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := g.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if f.committed(0) != 1 || !slices.Equal(told, []string{"map[t:[0]]"}) {
			t.Errorf("committed up to %d, %v", f.committed(0), told)
		}
		if _, err := g.Poll(t.Context()); !errors.Is(err, client.ErrClosed) {
			t.Error(err)
		}
		if err := g.CommitPolled(t.Context()); err != nil {
			t.Error(err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if n := len(f.group("g").members); n != 0 {
			t.Errorf("%d members", n)
		}
	})
}

// A member knows the generation that it commits at, which rises when another one comes.
func TestGroupGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 1)
		f.create("t", 2)
		c := f.client(client.Config{})
		g, err := c.NewGroupConsumer("g", []string{"t"}, client.GroupConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if got := g.Generation(); got != -1 {
			t.Errorf("generation %d before it has joined", got)
		}
		poll := func() {
			f.fill("t", 1)
			if _, err := g.Poll(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		poll()
		f.mu.Lock()
		want := f.group("g").generation
		f.mu.Unlock()
		first := g.Generation()
		if first != want || first < 1 {
			t.Errorf("generation %d, and the coordinator has %d", first, want)
		}
		other, err := c.NewGroupConsumer("g", []string{"t"}, client.GroupConfig{})
		if err != nil {
			t.Fatal(err)
		}
		joined := make(chan struct{})
		go func() {
			defer close(joined)
			for ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second); ; {
				if _, err := other.Poll(ctx); err != nil {
					cancel()
					return
				}
			}
		}()
		for range 20 {
			poll()
			idle(time.Second)
		}
		<-joined
		if now := g.Generation(); now <= first || now != other.Generation() {
			t.Errorf("generations %d and %d after a member came, and %d before", now, other.Generation(), first)
		}
		for _, g := range []*client.GroupConsumer{g, other} {
			if err := g.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

// Commit is durable when it returns; it never goes back, and it fails by name for what is not the member's.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 1)
		f.create("t", 2)
		f.fill("t", 10)
		c := f.client(client.Config{})
		g, err := c.NewGroupConsumer("g", []string{"t"}, client.GroupConfig{AutoCommit: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = g.Close(context.WithoutCancel(t.Context())) }()
		polled := map[int32]*client.Batches{}
		for len(polled) < 2 {
			b, err := g.Poll(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			polled[b.Partition] = b
		}
		if err := g.Commit(t.Context(), polled[0].Position()); err != nil || f.committed(0) != 10 || f.committed(1) != -1 {
			t.Error(err, f.committed(0), f.committed(1))
		}
		if err := g.Commit(t.Context(), client.Position{Topic: "t", Offsets: map[int32]int64{0: 4}}); err != nil || f.committed(0) != 10 {
			t.Error(err, f.committed(0))
		}
		err = g.Commit(t.Context(), client.Position{Topic: "t", Offsets: map[int32]int64{1: 5, 7: 1}})
		var e *client.Error
		if !errors.As(err, &e) || e.Reason != client.ReasonNotAssigned || e.Metadata["partition"] != "7" || f.committed(1) != 5 {
			t.Error(err, f.committed(1))
		}
		// A coordinator that is away for a while delays a commit.
		f.away(true)
		done := make(chan error)
		go func() { done <- g.CommitPolled(t.Context()) }()
		idle(20 * time.Second)
		f.away(false)
		if err := <-done; err != nil || f.committed(1) != 10 {
			t.Error(err, f.committed(1))
		}
		// One that stays away fails it.
		f.away(true)
		f.fill("t", 1)
		for at := int64(0); at < 22; at = sum(g.Position()) {
			if _, err := g.Poll(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := g.CommitPolled(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		f.away(false)
	})
}

// A commit that was stored, and whose answer was lost before the partition was, is not said to have failed.
func TestGroupCommitInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 1)
		f.create("t", 2)
		f.fill("t", 10)
		c := f.client(client.Config{})
		finished := make(chan struct{})
		g, err := c.NewGroupConsumer("g", []string{"t"}, client.GroupConfig{AutoCommit: -1, OnLost: func(map[string][]int32) { <-finished }})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = g.Close(context.WithoutCancel(t.Context())) }()
		polled := map[int32]*client.Batches{}
		for len(polled) < 2 {
			b, err := g.Poll(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			polled[b.Partition] = b
		}
		if err := g.Commit(t.Context(), polled[1].Position()); err != nil {
			t.Fatal(err)
		}
		f.mu.Lock()
		f.commitsUnanswered = true
		f.mu.Unlock()
		done := make(chan error)
		go func() {
			done <- g.Commit(t.Context(), polled[0].Position(), client.Position{Topic: "t", Offsets: map[int32]int64{7: 1}})
		}()
		eventually(t, "the commit is stored", func() bool { return f.committed(0) == 10 })
		f.mu.Lock()
		clear(f.group("g").members) // the coordinator takes it for dead
		f.mu.Unlock()
		polling, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = g.Poll(polling)
		}()
		err = <-done
		close(finished)
		cancel()
		<-ended
		joined, ok := err.(interface{ Unwrap() []error })
		if !ok || len(joined.Unwrap()) != 2 {
			t.Fatalf("%v, want an error for each partition", err)
		}
		for i, partition := range []string{"0", "7"} {
			var e *client.Error
			if err := joined.Unwrap()[i]; !errors.As(err, &e) || e.Reason != client.ReasonNotAssigned || e.Metadata["partition"] != partition ||
				errors.Is(err, client.ErrOutcomeUnknown) != (partition == "0") {
				t.Errorf("partition %s: %v", partition, err)
			}
		}
		f.mu.Lock()
		f.commitsUnanswered = false
		f.mu.Unlock()
	})
}

func sum(positions []client.Position) (n int64) {
	for _, p := range positions {
		for _, at := range p.Offsets {
			n += at
		}
	}
	return n
}

// Another coordinator costs nothing but a delay; one that is away for longer than the session costs the partitions, and one rebalance.
func TestGroupCoordinatorMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		f.create("t", 6)
		l := newLedger(t, f)
		cfg := client.GroupConfig{SessionTimeout: 30 * time.Second}
		for _, name := range []string{"a", "b", "c"} {
			l.start(name, cfg)
		}
		eventually(t, "two partitions each", func() bool { return maps.Equal(l.shares(), map[string]int{"a": 2, "b": 2, "c": 2}) })
		before := f.rebalances()
		for range 3 {
			f.away(true)
			f.fill("t", 20)
			eventually(t, "everything is processed", l.processed("t"))
			idle(15 * time.Second)
			f.away(false)
			idle(10 * time.Second)
		}
		if n := f.rebalances(); n != before {
			t.Errorf("%d rebalances", n-before)
		}
		l.check("t", false)
		f.away(true)
		idle(2 * time.Minute)
		f.fill("t", 20)
		f.away(false)
		eventually(t, "everything is processed", l.processed("t"))
		l.check("t", true)
		idle(time.Minute)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.lost["a"] != 2 || l.lost["b"] != 2 || l.lost["c"] != 2 {
			t.Error(l.lost)
		}
		if n := f.rebalances() - before; n > 6 {
			t.Errorf("%d rebalances", n)
		}
	})
}

// Where nothing is committed a group begins at the start, or with FromEnd at the end, which is committed before anything is read. What
// retention removed is reported.
func TestGroupBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 2)
		f.create("t", 4)
		f.fill("t", 10)
		f.mu.Lock()
		f.group("g").committed[fleetKey{"t", 0}] = 7
		f.group("g").committed[fleetKey{"t", 1}] = 2
		f.topics["t"].parts[1].start = 6
		f.mu.Unlock()
		c := f.client(client.Config{})
		g, err := c.NewGroupConsumer("g", []string{"t"}, client.GroupConfig{FromEnd: true, AutoCommit: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = g.Close(context.WithoutCancel(t.Context())) }()
		got := map[int32][]string{}
		poll := func(pieces int) {
			for range pieces {
				b, err := g.Poll(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				got[b.Partition] = append(got[b.Partition], fmt.Sprintf("%d to %d, lost %v", b.From, b.Next, b.Lost))
			}
		}
		poll(3)
		eventually(t, "the end is committed", func() bool { return f.committed(2) == 10 && f.committed(3) == 10 })
		f.fill("t", 1)
		poll(4)
		want := map[int32][]string{
			0: {"7 to 10, lost []", "10 to 11, lost []"}, 1: {"2 to 6, lost [{2 6}]", "6 to 10, lost []", "10 to 11, lost []"},
			2: {"10 to 11, lost []"}, 3: {"10 to 11, lost []"},
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v", got)
		}
	})
}

// A topic that is deleted and made again is another one: its offsets have nothing to do with the first one's.
func TestGroupTopicMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 1)
		f.create("t", 1)
		f.fill("t", 5)
		l := newLedger(t, f)
		l.start("a", client.GroupConfig{})
		eventually(t, "everything is processed", l.processed("t"))
		idle(10 * time.Second)
		f.create("t", 1)
		f.fill("t", 3)
		idle(5 * time.Second)
		f.mu.Lock()
		g := f.group("g")
		clear(g.committed)
		g.prepare()
		f.mu.Unlock()
		idle(20 * time.Second)
		l.mu.Lock()
		defer l.mu.Unlock()
		if got := fmt.Sprint(l.seen[fleetKey{"t", 0}]); got != "[0 1 2 3 4 0 1 2]" || f.committed(0) != 3 {
			t.Error(got, f.committed(0), l.lists)
		}
	})
}

func TestGroupErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, 1)
		f.create("t", 1)
		c := f.client(client.Config{})
		for _, cfg := range []struct {
			group  string
			topics []string
			cfg    client.GroupConfig
		}{{"", []string{"t"}, client.GroupConfig{}}, {"g", nil, client.GroupConfig{}}, {"g", []string{""}, client.GroupConfig{}}, {"g", []string{"t"}, client.GroupConfig{Strategy: "fair"}}} {
			if _, err := c.NewGroupConsumer(cfg.group, cfg.topics, cfg.cfg); err == nil {
				t.Error(cfg)
			}
		}
		// Nobody answers: Poll says so, and goes on when somebody does.
		f.nodes["n1"].stop()
		g, err := c.NewGroupConsumer("g", []string{"t"}, client.GroupConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Poll(t.Context()); !client.IsUnreachable(err) {
			t.Error(err)
		}
		f.startNode(1)
		f.fill("t", 1)
		if b, err := g.Poll(t.Context()); err != nil || b.Next != 1 {
			t.Error(b, err)
		}
		if err := g.Close(t.Context()); err != nil {
			t.Error(err)
		}
		never, err := c.NewGroupConsumer("g", []string{"t"}, client.GroupConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if err := never.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
