package group

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// checked is a group whose every step is checked from inside and outside.
type checked struct {
	*Group
	now time.Time
	// open are the calls that wait; each is answered once.
	open map[Token]bool
	// next is the next token.
	next Token
	// highest generation that any reply named.
	told int32
	// storing is the generation of the Store that has no outcome yet.
	storing int32
	wake    time.Time
	fail    func(format string, args ...any)
}

func newChecked(restored Restored, limits Limits, fail func(string, ...any)) *checked {
	return &checked{
		Group: New("g", restored, limits), now: time.Unix(1_000_000, 0), open: make(map[Token]bool),
		told: restored.Generation, fail: fail,
	}
}

// call gives a token to a call.
func (c *checked) call() Token {
	c.next++
	c.open[c.next] = true
	return c.next
}

func (c *checked) step(event Event) Effects {
	switch e := event.(type) {
	case Cancel:
		delete(c.open, e.Token)
	case Stored:
		if e.Generation == c.storing {
			c.storing = 0
		}
	case Resign, StoreFailed:
		c.storing = 0
	}
	most := c.Memory() + c.Grows(event)
	out := c.Step(c.now, event)
	switch event.(type) {
	case Join, Sync:
		if now := c.Memory(); now > most {
			c.fail("%T: the group takes %d bytes, at most %d were foreseen", event, now, most)
		}
	}
	for _, r := range out.Replies {
		if !c.open[r.Token] {
			c.fail("%T: an answer to call %d, which is not open", event, r.Token)
		}
		delete(c.open, r.Token)
		if r.Join != nil && r.Err == nil {
			if r.Join.Generation < c.told {
				c.fail("%T: generation %d after %d", event, r.Join.Generation, c.told)
			}
			c.told = r.Join.Generation
			if c.storing != 0 && r.Join.Generation >= c.storing {
				c.fail("%T: told generation %d before it was stored", event, r.Join.Generation)
			}
		}
	}
	if out.Store != nil {
		if c.storing != 0 {
			c.fail("%T: a store of %d while %d has no outcome", event, out.Store.Generation, c.storing)
		}
		if out.Store.Generation <= c.told {
			c.fail("%T: a store of generation %d after %d", event, out.Store.Generation, c.told)
		}
		c.storing = out.Store.Generation
	}
	c.wake = out.Wake
	if err := c.inside(); err != nil {
		c.fail("after %T %+v: %v", event, event, err)
	}
	return out
}

// inside are the invariants that the fields of a group promise.
func (c *checked) inside() error {
	g := c.Group
	joined, bytes, kept, partitions, waiting, held := 0, 0, 0, 0, 0, 0
	assigned := make(map[TopicPartition]string)
	subscribers := make(map[string]int)
	knowing := make(map[string]int)
	for id, m := range g.members {
		if m.id != id || m.instance != "" && g.statics[m.instance] != m {
			return fmt.Errorf("member %s is filed under %s", m.id, id)
		}
		if m.kind != g.kind || m.generation > g.told {
			return fmt.Errorf("member %s: kind %d in a group of kind %d, generation %d > %d", id, m.kind, g.kind, m.generation, g.told)
		}
		bytes += m.bytes
		kept += m.keeps(m.bytes) + len(m.assignment)
		held += len(m.holds)
		for _, waits := range []call{m.joining, m.syncing} {
			if waits.open {
				waiting++
				if g.waiting[waits.token] != m {
					return fmt.Errorf("call %d of %s cannot be found", waits.token, id)
				}
			}
		}
		if m.joining.open {
			joined++
		}
		for _, p := range m.protocols {
			knowing[p.Name]++
		}
		for _, topic := range m.topics {
			subscribers[topic]++
		}
		for p := range m.holds {
			if g.holders[p] != m {
				return fmt.Errorf("%v is held by %s and filed under another", p, id)
			}
		}
		if !slices.IsSortedFunc(m.assigned, TopicPartition.compare) {
			return fmt.Errorf("%s: assigned is not sorted", id)
		}
		for _, p := range m.assigned {
			if other, twice := assigned[p]; twice && g.state == Stable {
				return fmt.Errorf("%v is assigned to %s and %s", p, id, other)
			}
			assigned[p] = id
			if _, ok := m.holds[p]; !ok && g.state == Stable {
				return fmt.Errorf("%v is assigned to %s, which does not hold it", p, id)
			}
		}
	}
	for _, t := range g.topics {
		partitions += int(t.partitions)
	}
	switch {
	case joined != g.joined || waiting != len(g.waiting) || waiting != len(c.open):
		return fmt.Errorf("%d joined (counted %d), %d calls wait (counted %d, outside %d)", joined, g.joined, waiting, len(g.waiting), len(c.open))
	case bytes != g.bytes || bytes > g.limits.MaxGroupBytes:
		return fmt.Errorf("%d bytes, counted %d", bytes, g.bytes)
	case kept != g.kept:
		return fmt.Errorf("members take %d bytes of memory, counted %d", kept, g.kept)
	case held != len(g.holders) || partitions != g.partitions:
		return fmt.Errorf("%d held, counted %d; %d partitions, counted %d", held, len(g.holders), partitions, g.partitions)
	case len(g.members)+len(g.pending) > g.limits.MaxMembers:
		return fmt.Errorf("%d members and %d pending", len(g.members), len(g.pending))
	case !maps.EqualFunc(subscribers, g.topics, func(n int, t *topic) bool { return n == t.subscribers }):
		return fmt.Errorf("subscribers %v", subscribers)
	case !maps.Equal(knowing, g.knowing):
		return fmt.Errorf("%v know, counted %v", knowing, g.knowing)
	case (g.state == Empty || g.state == Dead) != (len(g.members) == 0):
		return fmt.Errorf("%v with %d members", g.state, len(g.members))
	case g.storing != (c.storing != 0) || g.told > g.generation:
		return fmt.Errorf("storing %v, told %d, generation %d", g.storing, g.told, g.generation)
	case (g.state == Stable || g.state == CompletingRebalance && !g.storing) && g.members[g.leader] == nil:
		return fmt.Errorf("%v with leader %q, who is no member", g.state, g.leader)
	}
	if deadline := g.nextDeadline(); !deadline.IsZero() && (g.wake.IsZero() || g.wake.After(deadline)) {
		return fmt.Errorf("wakes at %v, a deadline is at %v", g.wake, deadline)
	}
	if g.followUpDue() {
		return fmt.Errorf("withheld partitions have no holder, and no rebalance begins")
	}
	return c.waits()
}

// waits says whether every call that waits has a deadline.
func (c *checked) waits() error {
	if len(c.open) > 0 && c.wake.IsZero() {
		return fmt.Errorf("%d calls wait for nothing", len(c.open))
	}
	return nil
}

// until steps through every tick up to a time.
func (c *checked) until(end time.Time, after func(Effects)) {
	for range 10_000 {
		if c.wake.IsZero() || c.wake.After(end) {
			if c.now.Before(end) {
				c.now = end
			}
			return
		}
		if c.wake.After(c.now) {
			c.now = c.wake
		}
		before := c.wake
		after(c.step(Tick{}))
		if !c.wake.IsZero() && !c.wake.After(before) {
			c.fail("a tick at %v leaves the next one at %v", before, c.wake)
			return
		}
	}
	c.fail("ticks without end")
}
