package group

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"pgregory.net/rapid"
)

// process is a consumer of the world, that may be slow, deaf or dead, but follows the rules.
type process struct {
	name, instance string
	subscribed     bool
	strategy       Strategy
	topics         []string
	metadata       []byte

	id         string
	generation int32
	leader     bool
	// call is the call it waits for; waitsFor what came back and was not read yet.
	call  Token
	inbox *Reply
	// wantsJoin: it has been told to.
	wantsJoin, wantsSync bool
	members              []string
	// reads is what it really reads; assigned what it was told to read last.
	reads    map[TopicPartition]bool
	assigned []TopicPartition
	stopped  bool // told to stop for good
	synced   string
}

// world is a group, its store and its processes, in an order of events that is drawn.
type world struct {
	t *rapid.T
	*checked
	processes  []*process
	partitions map[string]int32
	drawn      int
	// assignments that the leader of each generation made, by generation and member id at that time.
	made map[int32]map[string]string
}

func newWorld(t *rapid.T, limits Limits, restored Restored) *world {
	w := &world{t: t, partitions: map[string]int32{"t": 4, "u": 3, "v": 0}, made: make(map[int32]map[string]string)}
	w.checked = newChecked(restored, limits, t.Fatalf)
	return w
}

func (w *world) newID() string {
	w.drawn++
	return fmt.Sprintf("id%03d", w.drawn)
}

// happens applies an event and puts the answers where they belong.
func (w *world) happens(event Event) { w.take(w.step(event)) }

func (w *world) take(out Effects) {
	for _, r := range out.Replies {
		for _, p := range w.processes {
			if p.call == r.Token {
				p.inbox = &r
			}
		}
	}
	w.exclusive()
}

// exclusive: whatever any process reads, no other one that is a member reads too. Those that were removed, or replaced under
// their instance id, may still be reading; their commits are refused.
func (w *world) exclusive() {
	reader := make(map[TopicPartition]*process)
	for _, p := range w.processes {
		m := w.members[p.id]
		if m == nil || p.id == "" {
			continue
		}
		for partition := range p.reads {
			if other := reader[partition]; other != nil {
				w.t.Fatalf("%v is read by %s (%s) and %s (%s)", partition, p.name, p.id, other.name, other.id)
			}
			reader[partition] = p
			if w.holders[partition] != m {
				w.t.Fatalf("%v is read by %s (%s), and the group does not know", partition, p.name, p.id)
			}
		}
	}
}

func (w *world) join(p *process) {
	e := Join{
		Token: w.call(), MemberID: p.id, NewMemberID: w.newID(), InstanceID: p.instance, RequireKnownMemberID: !p.subscribed,
		SessionTimeout: 10 * time.Second, RebalanceTimeout: 20 * time.Second,
	}
	if p.subscribed {
		s := &Subscription{Topics: p.topics, Strategy: p.strategy, Partitions: w.partitions}
		if p.strategy.eager() {
			clear(p.reads)
		}
		s.Owned = slices.SortedFunc(maps.Keys(p.reads), TopicPartition.compare)
		e.Subscription = s
	} else {
		e.ProtocolType, e.Protocols = "consumer", []Protocol{{Name: "range", Metadata: p.metadata}}
	}
	p.call, p.inbox, p.wantsJoin, p.wantsSync = e.Token, nil, false, false
	w.happens(e)
}

func (w *world) sync(p *process) {
	e := Sync{Token: w.call(), MemberID: p.id, InstanceID: p.instance, Generation: p.generation, ProtocolName: "range"}
	if p.leader {
		e.Assignments = make(map[string][]byte)
		made := make(map[string]string)
		for _, id := range p.members {
			made[id] = fmt.Sprintf("%d of %s by %s", p.generation, id, p.id)
			e.Assignments[id] = []byte(made[id])
		}
		if w.state == CompletingRebalance && w.leader == p.id && w.told == p.generation {
			w.made[p.generation] = made
		}
	}
	p.call, p.inbox, p.wantsSync = e.Token, nil, false
	w.happens(e)
}

func (w *world) beat(p *process, ack bool) {
	e := Heartbeat{Token: w.call(), MemberID: p.id, InstanceID: p.instance, Generation: p.generation, Acknowledged: ack}
	m := w.members[p.id]
	stale := m != nil && m.generation != p.generation
	out := w.step(e)
	for _, r := range out.Replies {
		if r.Token == e.Token {
			if stale && r.Err == nil {
				w.t.Fatalf("a heartbeat of generation %d is taken in %d", p.generation, m.generation)
			}
			w.obey(p, r.Err)
		}
	}
	w.take(out)
}

// obey does what an error says.
func (w *world) obey(p *process, err error) {
	switch CodeOf(err) {
	case 0:
	case ErrUnknownMemberID:
		p.id, p.generation, p.wantsJoin = "", -1, true
		clear(p.reads)
	case ErrFencedInstanceID:
		p.id, p.stopped = "", true
		clear(p.reads)
	case ErrRebalanceInProgress, ErrIllegalGeneration, ErrCoordinatorNotAvailable, ErrMemberIDRequired:
		p.wantsJoin = true
	case ErrInconsistentGroupProtocol, ErrGroupMaxSizeReached:
		p.wantsJoin = true
	default:
		w.t.Fatalf("%s: %v", p.name, err)
	}
}

// read takes an answer out of the inbox.
func (w *world) read(p *process) {
	r := p.inbox
	if r == nil {
		return
	}
	p.inbox, p.call = nil, 0
	if errors.Is(r.Err, ErrMemberIDRequired) {
		p.id = r.Join.MemberID
	}
	w.obey(p, r.Err)
	switch {
	case r.Err != nil:
	case r.Join != nil:
		p.id, p.generation = r.Join.MemberID, r.Join.Generation
		if p.subscribed {
			// It begins with what is new at once, and gives up what is not its own any more when it comes to it.
			p.assigned = r.Join.Assigned
			for _, partition := range p.assigned {
				p.reads[partition] = true
			}
		} else {
			p.leader, p.wantsSync = r.Join.Leader == p.id, true
			p.members = nil
			for _, m := range r.Join.Members {
				p.members = append(p.members, m.MemberID)
			}
			if r.Join.SkipAssignment {
				p.leader = false
			}
		}
	case r.Sync != nil:
		p.synced = string(r.Sync.Assignment)
		ok := p.synced == ""
		for _, made := range w.made[p.generation] {
			ok = ok || made == p.synced
		}
		if !ok {
			w.t.Fatalf("%s got %q in generation %d, which its leader did not make: %v", p.name, p.synced, p.generation, w.made[p.generation])
		}
	}
}

// revoke gives up what is not assigned.
func (p *process) revoke() {
	maps.DeleteFunc(p.reads, func(partition TopicPartition, _ bool) bool { return !slices.Contains(p.assigned, partition) })
}

func (w *world) cancel(p *process) {
	if p.call != 0 && w.open[p.call] {
		w.happens(Cancel{Token: p.call})
	}
	p.call, p.inbox = 0, nil
}

// act is one drawn thing that happens to a process, or that it does.
func (w *world) act(p *process) {
	waits := p.call != 0 && p.inbox == nil
	switch rapid.IntRange(0, 11).Draw(w.t, "action") {
	case 0, 1, 2:
		if p.inbox != nil {
			w.read(p)
		} else if !waits && !p.stopped && p.wantsJoin {
			w.join(p)
		}
	case 3:
		if !waits && !p.stopped {
			w.read(p)
			if !p.stopped {
				w.join(p)
			}
		}
	case 4:
		if !waits && p.inbox == nil && p.id != "" {
			w.beat(p, false)
		}
	case 5:
		if !waits && p.inbox == nil && p.id != "" {
			p.revoke()
			w.beat(p, true)
		}
	case 6:
		if p.wantsSync && !waits {
			w.sync(p)
		}
	case 7: // the connection breaks: the answer is lost, or the call is canceled
		w.cancel(p)
		p.wantsJoin = true
	case 8: // the process dies and another one starts in its place
		w.cancel(p)
		*p = w.process(p.name, p.instance, p.subscribed, p.strategy)
	case 9:
		if p.id != "" && !waits && p.inbox == nil && rapid.IntRange(0, 3).Draw(w.t, "leaves") == 0 {
			e := Leave{Token: w.call(), Members: []LeavingMember{{MemberID: p.id, InstanceID: p.instance}}}
			w.happens(e)
			*p = w.process(p.name, p.instance, p.subscribed, p.strategy)
		}
	case 10:
		if p.id != "" {
			generation := p.generation + rapid.Int32Range(-1, 1).Draw(w.t, "generation")
			err := w.CheckCommit(w.now, p.id, p.instance, generation)
			if m := w.members[p.id]; err == nil && (m == nil || m.generation != generation || generation != w.Group.told) {
				w.t.Fatalf("%s may commit in generation %d", p.name, generation)
			}
		}
	case 11:
		if p.subscribed {
			p.topics = rapid.SampledFrom([][]string{{"t"}, {"t", "u"}, {"u", "v"}, {"t", "u", "v"}}).Draw(w.t, "topics")
		} else {
			p.metadata = []byte(rapid.SampledFrom([]string{"x", "y"}).Draw(w.t, "metadata"))
		}
	}
}

func (w *world) process(name, instance string, subscribed bool, strategy Strategy) process {
	return process{
		name: name, instance: instance, subscribed: subscribed, strategy: strategy, topics: []string{"t", "u", "v"}, metadata: []byte("x"),
		generation: -1, wantsJoin: true, reads: make(map[TopicPartition]bool),
	}
}

// outside is one drawn thing that happens to the group: time, its store, its topics.
func (w *world) outside() {
	switch rapid.IntRange(0, 5).Draw(w.t, "outside") {
	case 0, 1, 2:
		if w.storing != 0 {
			w.happens(Stored{Generation: w.storing})
		}
	case 3:
		w.until(w.now.Add(time.Duration(rapid.IntRange(1, 12).Draw(w.t, "seconds"))*time.Second), w.take)
	case 4:
		w.until(w.now.Add(500*time.Millisecond), w.take)
	case 5:
		topic := rapid.SampledFrom([]string{"t", "u", "v"}).Draw(w.t, "topic")
		w.partitions[topic] = rapid.Int32Range(0, 5).Draw(w.t, "partitions")
		w.happens(PartitionsChanged{Partitions: map[string]int32{topic: w.partitions[topic]}})
	}
}

// settle lets everyone do what is due until nothing is, and says how many generations that took.
func (w *world) settle() int32 {
	// Whoever was silent, or was replaced, has its time.
	for round := range 400 {
		busy := false
		if w.storing != 0 {
			w.happens(Stored{Generation: w.storing})
			busy = true
		}
		for _, p := range w.processes {
			if p.stopped {
				continue
			}
			waits := p.call != 0 && p.inbox == nil
			switch {
			case p.inbox != nil:
				w.read(p)
				busy = true
			case waits:
			case p.wantsJoin:
				w.join(p)
				busy = true
			case p.wantsSync:
				w.sync(p)
				busy = true
			default:
				p.revoke()
				w.beat(p, true)
				busy = busy || p.wantsJoin
			}
		}
		if w.state == Stable && !busy && w.quiet() {
			return int32(round)
		}
		w.until(w.now.Add(300*time.Millisecond), w.take)
	}
	w.t.Fatalf("the group does not become stable: %+v, %d pending, store %d", w.Describe(), len(w.pending), w.storing)
	return 0
}

// quiet says that every member is one of the processes that live.
func (w *world) quiet() bool {
	live := 0
	for _, p := range w.processes {
		if !p.stopped {
			live++
		}
	}
	return len(w.members) == live && len(w.pending) == 0 && !w.withheld
}

func (w *world) play() {
	for range rapid.SampledFrom([]int{5, 30, 100, 200}).Draw(w.t, "steps") {
		if rapid.IntRange(0, 3).Draw(w.t, "who") == 0 {
			w.outside()
		} else {
			w.act(rapid.SampledFrom(w.processes).Draw(w.t, "process"))
		}
		w.exclusive()
	}
}

func drawWorld(t *rapid.T, subscribed bool, strategy Strategy) *world {
	w := newWorld(t, Limits{InitialDelay: rapid.SampledFrom([]time.Duration{0, time.Second}).Draw(t, "delay")},
		Restored{Generation: rapid.Int32Range(0, 3).Draw(t, "restored"), Members: rapid.IntRange(0, 3).Draw(t, "expected")})
	for i := range rapid.IntRange(1, 5).Draw(t, "processes") {
		instance := ""
		if rapid.IntRange(0, 2).Draw(t, "static") == 0 {
			// Sometimes two processes believe that they are the same.
			instance = fmt.Sprint("instance", rapid.SampledFrom([]int{i, i, 0}).Draw(t, "instance"))
		}
		p := w.process(fmt.Sprint("p", i), instance, subscribed, strategy)
		w.processes = append(w.processes, &p)
	}
	return w
}
