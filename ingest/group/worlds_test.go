package group

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestWorldOfSubscribedMembers: whatever happens in whatever order, no two members read the same partition; and when everyone
// behaves, everything is read, evenly, after two generations.
func TestWorldOfSubscribedMembers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		strategy := rapid.SampledFrom([]Strategy{CooperativeSticky, CooperativeSticky, Range, RoundRobin}).Draw(t, "strategy")
		w := drawWorld(t, true, strategy)
		w.play()
		w.settle()
		for _, p := range w.processes {
			if !p.stopped && !maps.Equal(p.reads, setOf(p.assigned)) {
				t.Fatalf("%s reads %v and has %v", p.name, p.reads, p.assigned)
			}
		}
		w.everythingIsRead()

		// One more joins, and one comes back to its place: at most two generations each.
		before := w.Group.told
		p := w.process("late", "", true, strategy)
		w.processes = append(w.processes, &p)
		w.settle()
		w.everythingIsRead()
		if rounds := w.Group.told - before; rounds > 2 {
			t.Fatalf("a member joined, and it took %d generations", rounds)
		}
	})
}

func setOf(partitions []TopicPartition) map[TopicPartition]bool {
	set := make(map[TopicPartition]bool)
	for _, p := range partitions {
		set[p] = true
	}
	return set
}

func (w *world) everythingIsRead() {
	read := make(map[TopicPartition]bool)
	wanted := 0
	least, most, same := 1<<30, 0, true
	topics := make(map[string]bool)
	for _, p := range w.processes {
		if p.stopped {
			continue
		}
		maps.Copy(read, p.reads)
		least, most = min(least, len(p.reads)), max(most, len(p.reads))
		m := w.members[p.id]
		same = same && slices.Equal(m.topics, w.members[w.leader].topics)
		for _, topic := range m.topics {
			topics[topic] = true
		}
	}
	for topic := range topics {
		wanted += int(w.partitions[topic])
	}
	if len(read) != wanted {
		w.t.Fatalf("%d partitions are read, %d are there: %+v", len(read), wanted, w.Describe())
	}
	if same && Strategy(w.protocol) == CooperativeSticky && most-least > 1 {
		w.t.Fatalf("some read %d partitions, some %d", least, most)
	}
}

// TestWorldOfProtocolMembers: whatever happens, a member gets only what the leader of its generation made; and when everyone
// behaves, everyone has an assignment of one generation.
func TestWorldOfProtocolMembers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t, false, "")
		w.play()
		w.settle()
		for _, p := range w.processes {
			if !p.stopped && (p.generation != w.Group.told || p.synced == "") {
				t.Fatalf("%s is in generation %d of %d and has %q", p.name, p.generation, w.Group.told, p.synced)
			}
		}
	})
}

// TestTakeoverKeepsReading: another node goes on with the generation and the number of members alone. When everyone finds it
// in time, nobody stops reading anything.
func TestTakeoverKeepsReading(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, Limits{}, Restored{})
		for i := range rapid.IntRange(1, 5).Draw(t, "processes") {
			p := w.process(fmt.Sprint("p", i), rapid.SampledFrom([]string{"", fmt.Sprint("i", i)}).Draw(t, "instance"), true, CooperativeSticky)
			w.processes = append(w.processes, &p)
		}
		w.settle()
		before := make(map[string]map[TopicPartition]bool)
		for _, p := range w.processes {
			before[p.name] = maps.Clone(p.reads)
		}
		now, generation := w.now, w.Group.told
		w.happens(Resign{})
		w.checked = newChecked(Restored{Generation: generation, Members: len(w.processes)}, Limits{}, t.Fatalf)
		w.now = now
		for _, p := range w.processes {
			p.inbox, p.call = nil, 0
		}
		w.settle()
		if w.Group.told != generation+1 {
			t.Fatalf("generation %d after %d", w.Group.told, generation)
		}
		for _, p := range w.processes {
			if !maps.Equal(p.reads, before[p.name]) {
				t.Fatalf("%s read %v and reads %v", p.name, before[p.name], p.reads)
			}
		}
	})
}

// TestFiftyAtOnce: members that join at the same time meet in one or two generations.
func TestFiftyAtOnce(t *testing.T) {
	for _, delay := range []time.Duration{0, 2 * time.Second} {
		c := newChecked(Restored{}, Limits{InitialDelay: delay}, t.Fatalf)
		for i := range 50 {
			c.step(Join{
				Token: c.call(), NewMemberID: fmt.Sprintf("m%02d", i), SessionTimeout: 10 * time.Second,
				Subscription: &Subscription{Topics: []string{"t"}, Partitions: map[string]int32{"t": 100}},
			})
		}
		c.until(c.now.Add(delay), func(Effects) {})
		answered := 0
		for c.storing != 0 {
			answered += len(c.step(Stored{Generation: c.storing}).Replies)
		}
		want := int32(2)
		if delay > 0 {
			want = 1
		}
		if answered != 50 || c.Generation() != want || c.State() != Stable {
			t.Errorf("delay %v: %d answers, generation %d, %v", delay, answered, c.Generation(), c.State())
		}
		for _, m := range c.Describe().Members {
			if len(m.Assigned) != 2 {
				t.Errorf("delay %v: %s has %v", delay, m.ID, m.Assigned)
			}
		}
	}
}
