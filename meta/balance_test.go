package meta

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// board is an index with a store under it that executes transactions: what a controller plans against.
type board struct {
	t     *testing.T
	keys  Keys
	index *Index
	kvs   map[string]KeyValue
	lease LeaseID
}

func newBoard(t *testing.T) *board {
	t.Helper()
	keys := NewKeys("test")
	return &board{t: t, keys: keys, index: NewIndex(keys), kvs: make(map[string]KeyValue)}
}

// do executes a transaction, and tells whether its compares held.
func (b *board) do(txn Txn) bool {
	b.t.Helper()
	if err := txn.Validate(); err != nil {
		b.t.Fatal(err)
	}
	for _, c := range txn.If {
		if kv := b.kvs[c.Key]; c.Create != 0 && kv.Create != c.Create || c.Create == 0 && kv.Mod != c.Mod {
			return false
		}
	}
	change := Change{Revision: b.index.revision + 1}
	for _, op := range txn.Then {
		before, there := b.kvs[op.Key]
		switch op.Kind {
		case Put:
			kv := KeyValue{Key: op.Key, Value: op.Value, Mod: change.Revision, Create: change.Revision, Lease: op.Lease}
			if there {
				kv.Create = before.Create
			}
			b.kvs[op.Key] = kv
			change.Events = append(change.Events, Event{Type: EventPut, KV: kv})
		case Delete:
			if there {
				delete(b.kvs, op.Key)
				change.Events = append(change.Events, Event{Type: EventDelete, KV: KeyValue{Key: op.Key, Mod: change.Revision}})
			}
		case Get:
		}
	}
	if err := b.index.Apply(change, nil); err != nil {
		b.t.Fatal(err)
	}
	return true
}

// join registers a node.
func (b *board) join(id NodeID, disk, zone string) Registration {
	b.t.Helper()
	b.lease++
	info := NodeInfo{ID: id, Incarnation: Incarnation(b.lease), Disk: disk, Zone: zone, Roles: []string{RoleIngest}}
	b.do(Txn{Then: []Op{PutLeasedOp(b.keys.Node(id), encodeNode(info), b.lease), PutOp(b.keys.Head(id), encodeHead(Head{Incarnation: info.Incarnation}))}})
	return Registration{Node: id, Disk: disk, Incarnation: info.Incarnation, Lease: b.lease, NodeRev: b.index.revision, HeadRev: b.index.revision}
}

// die removes everything that is on a node's lease.
func (b *board) die(id NodeID) {
	lease := b.kvs[b.keys.Node(id)].Lease
	var ops []Op
	for key, kv := range b.kvs {
		if kv.Lease == lease {
			ops = append(ops, DeleteOp(key))
		}
	}
	b.do(Txn{Then: ops})
}

func (b *board) topic(name string, partitions int32, durability Durability) TopicID {
	id := TopicID{byte(len(b.index.topics) + 1)}
	config := DefaultTopicConfig()
	config.Durability = durability
	b.do(Txn{Then: []Op{PutOp(b.keys.Topic(name), encodeTopic(Topic{Name: name, ID: id, Partitions: partitions, Config: config, Created: time.Unix(0, 0)}))}})
	return id
}

// release lets go of whatever the node is asked for, as a node does.
func (b *board) release(id NodeID) int {
	a := b.index.assigned[id]
	let := make(map[Partition]Epoch)
	for p, e := range a.Epochs {
		if b.index.LetGo(id, p, e) || b.index.Released(id, p, e) {
			let[p] = e
		}
	}
	if len(let) > 0 && !maps.Equal(let, b.index.ReleasedBy(id)) {
		b.do(Txn{Then: []Op{PutOp(b.keys.Release(id), encodeRelease(let))}})
	}
	return len(let)
}

// settle lets every node plan and let go until nothing is to be done, and returns how many partitions were assigned.
func (b *board) settle(balance bool, regs ...Registration) int {
	b.t.Helper()
	moved := 0
	for range 10_000 {
		done := true
		for _, reg := range regs {
			if _, alive := b.index.nodes[reg.Node]; !alive {
				continue
			}
			step, err := b.index.PlanPlacement(reg, balance)
			if err != nil {
				b.t.Fatal(err)
			}
			if len(step.Txn.Then) > 0 {
				done = false
				if !b.do(step.Txn) {
					b.t.Fatalf("a plan from the newest state was refused: %+v", step)
				}
				if step.To != "" && step.What != "asked for by balance" {
					moved += step.Moves
				}
			}
			before := b.index.revision
			b.release(reg.Node)
			done = done && before == b.index.revision
		}
		b.check()
		if done {
			return moved
		}
	}
	b.t.Fatal("the assignment does not come to rest")
	return 0
}

// check: no partition has two leaders, and the leaders are those of the assignments.
func (b *board) check() {
	b.t.Helper()
	seen := make(map[Partition]NodeID)
	for id, a := range b.index.assigned {
		for p, e := range a.Epochs {
			if other, twice := seen[p]; twice {
				b.t.Fatalf("%v is led by %s and %s", p, id, other)
			}
			seen[p] = id
			if l := b.index.leaders[p]; l.Node != id || l.Epoch != e || l.Disk != a.Disk {
				b.t.Fatalf("%v: leader %+v, assigned to %s at %d", p, l, id, e)
			}
		}
	}
	if len(seen) != len(b.index.leaders) {
		b.t.Fatalf("%d leaders of %d assigned partitions", len(b.index.leaders), len(seen))
	}
}

func (b *board) counts() map[NodeID]int {
	out := make(map[NodeID]int)
	for _, l := range b.index.leaders {
		out[l.Node]++
	}
	return out
}

// TestPlacement tells the life of a small cluster.
func TestPlacement(t *testing.T) {
	b := newBoard(t)
	objects, disks := b.topic("objects", 30, DurabilityObject), b.topic("disks", 6, DurabilityDisk)
	one := b.join("n1", "d1", "a")
	if moved := b.settle(true, one); moved != 36 {
		t.Fatalf("a node that is alone leads %d of 36", moved)
	}
	// Others come. Nothing moves before it is quiet, then only what must, by request and release.
	two, three := b.join("n2", "d2", "a"), b.join("n3", "d3", "b")
	if moved := b.settle(false, one, two, three); moved != 0 {
		t.Fatalf("%d moved without balance", moved)
	}
	if moved := b.settle(true, one, two, three); moved != 24 {
		t.Fatalf("%d moved, 24 are the least", moved)
	}
	if c := b.counts(); c["n1"] != 12 || c["n2"] != 12 || c["n3"] != 12 {
		t.Fatalf("counts %v", c)
	}
	// The controller dies. Others take over what needs no disk of it; the rest waits for it.
	heldByOne := 0
	for p, l := range b.index.leaders {
		if l.Node == "n1" && p.Topic == disks {
			heldByOne++
		}
	}
	epochs := maps.Clone(b.index.leaders)
	b.die("n1")
	b.settle(true, two, three)
	if name, _ := b.index.Controller(); name != "n2" {
		t.Errorf("the controller is %q", name)
	}
	if c := b.counts(); c["n1"] != heldByOne || c["n2"]+c["n3"] != 36-heldByOne {
		t.Fatalf("after a death %v, %d wait for its disk", c, heldByOne)
	}
	for p, l := range b.index.leaders {
		if want := epochs[p].Epoch + 1; epochs[p].Node == "n1" && p.Topic == objects && l.Epoch != want {
			t.Errorf("%v was taken over at epoch %d, not %d", p, l.Epoch, want)
		}
	}
	// It comes back with another disk: its name still stands for the old one.
	other := b.join("n1", "d9", "a")
	if err := b.index.HeldBack("n1"); heldByOne > 0 && !errors.Is(err, ErrDiskChanged) {
		t.Errorf("another disk: %v", err)
	}
	before := b.counts()
	b.settle(true, other, two, three)
	if c := b.counts(); !maps.Equal(c, before) {
		t.Errorf("another disk was given something: %v, before %v", c, before)
	}
	b.die("n1")
	// It comes back with its own, and gets its share.
	one = b.join("n1", "d1", "a")
	b.settle(true, one, two, three)
	if c := b.counts(); c["n1"] != 12 || c["n2"] != 12 || c["n3"] != 12 {
		t.Errorf("after it came back %v", c)
	}
	// Drained, it keeps nothing, disk or not.
	b.do(Txn{Then: []Op{PutOp(b.keys.Drain("n1"), encodeJSON(drainValue{Version: valueVersion}))}})
	b.settle(true, one, two, three)
	if c := b.counts(); c["n1"] != 0 || c["n2"] != 18 || c["n3"] != 18 {
		t.Errorf("after the drain %v", c)
	}
	// The others are drained too: somebody has to lead.
	b.do(Txn{Then: []Op{PutOp(b.keys.Drain("n2"), encodeJSON(drainValue{Version: valueVersion}))}})
	b.settle(true, one, two, three)
	b.do(Txn{Then: []Op{PutOp(b.keys.Drain("n3"), encodeJSON(drainValue{Version: valueVersion}))}})
	b.settle(true, one, two, three)
	if c := b.counts(); c["n3"] != 36 {
		t.Errorf("with every node drained %v", c)
	}
	// A topic that is held is a disk topic to the controller.
	held := b.index.byID[objects]
	held.Held = true
	b.do(Txn{Then: []Op{PutOp(b.keys.Topic("objects"), encodeTopic(held)), DeleteOp(b.keys.Drain("n1")), DeleteOp(b.keys.Drain("n2"))}})
	b.die("n3")
	b.settle(true, one, two)
	if c := b.counts(); c["n3"] != 36 {
		t.Errorf("held partitions moved: %v", c)
	}
}

// TestPlacementChain: of two plans from one state only one applies, whatever node they were made for.
func TestPlacementChain(t *testing.T) {
	b := newBoard(t)
	one := b.join("n1", "d1", "")
	b.settle(false, one)
	b.topic("t", 4, DurabilityObject)
	first, err := b.index.PlanPlacement(one, false)
	if err != nil {
		t.Fatal(err)
	}
	two := b.join("n2", "d2", "")
	second, err := b.index.PlanPlacement(one, false)
	if err != nil {
		t.Fatal(err)
	}
	if !b.do(second.Txn) || b.do(first.Txn) {
		t.Error("two plans from one placement applied")
	}
	b.settle(false, one, two)
	// A plan is the controller's alone.
	if step, err := b.index.PlanPlacement(two, true); err != nil || len(step.Txn.Then) > 0 {
		t.Errorf("a node that does not control planned %+v, %v", step, err)
	}
	// The controller's key went to its next life: a plan of the former one does not apply.
	b.topic("u", 1, DurabilityObject)
	late, err := b.index.PlanPlacement(one, true)
	if err != nil || len(late.Txn.Then) == 0 {
		t.Fatalf("nothing to assign: %+v, %v", late, err)
	}
	b.die("n1")
	if b.do(late.Txn) {
		t.Error("a plan of a controller that is no more applied")
	}
	if _, err := b.index.PlanPlacement(one, true); !errors.Is(err, ErrLeaseGone) {
		t.Errorf("a plan without a registration: %v", err)
	}
}

// TestForget: what only a lost disk had is given up by name, and the log goes on far behind it.
func TestForget(t *testing.T) {
	b := newBoard(t)
	one := b.join("n1", "d1", "")
	b.settle(false, one)
	disks, objects := b.topic("disks", 150, DurabilityDisk), b.topic("objects", 3, DurabilityObject)
	b.settle(false, one)
	if _, _, _, err := b.index.PlanForget("n1"); !errors.Is(err, ErrNodeAlive) {
		t.Errorf("a node that is alive: %v", err)
	}
	if _, _, _, err := b.index.PlanForget("nobody"); !errors.Is(err, ErrUnknownNode) {
		t.Errorf("a node that nobody knows: %v", err)
	}
	b.die("n1")
	if _, _, _, err := b.index.PlanForget("n1"); !errors.Is(err, ErrLastNode) {
		t.Errorf("the last node: %v", err)
	}
	two := b.join("n2", "d2", "")
	result, _, late, err := b.index.PlanForget("n1")
	if err != nil || result.Moved != 3 || len(result.Lost) != 150 {
		t.Fatalf("%d moved, %d lost, %v", result.Moved, len(result.Lost), err)
	}
	// It comes back before the decision is carried out: nothing of it applies.
	one = b.join("n1", "d1", "")
	if b.do(late) {
		t.Error("a node that is alive was forgotten")
	}
	b.die("n1")
	if b.do(late) {
		t.Error("a decision from before its last life applied")
	}
	for steps := 0; ; steps++ {
		_, _, txn, err := b.index.PlanForget("n1")
		if err != nil {
			t.Fatal(err)
		}
		if len(txn.Then) == 0 {
			break
		}
		if !b.do(txn) || steps > 10 {
			t.Fatalf("step %d of forgetting was refused", steps)
		}
		b.check()
	}
	if c := b.counts(); c["n2"] != 153 {
		t.Errorf("counts %v", c)
	}
	for n := range int32(150) {
		p := Partition{Topic: disks, Partition: n}
		if lost := b.index.Lost(p); len(lost) != 1 || lost[0] != (OffsetRange{From: 0, To: LostGap}) || b.index.End(p) != LostGap {
			t.Fatalf("%v lost %v, ends at %d", p, lost, b.index.End(p))
		}
	}
	if b.index.End(Partition{Topic: objects}) != 0 {
		t.Error("an object partition was moved forward")
	}
	b.settle(true, two)
	_ = one
}

// TestLostRangesJoin: a log with what was lost in it has no hole, and nothing else bridges one.
func TestLostRangesJoin(t *testing.T) {
	topic := TopicID{1}
	p := Partition{Topic: topic}
	block := func(base int64, count int32) L0Entry { return L0Entry{Topic: topic, BaseOffset: base, Count: count} }
	lose := func(v *Index, revision Revision, ranges ...OffsetRange) {
		kv := KeyValue{Key: v.keys.Manifest(p), Value: encodeManifest(Manifest{Version: revision, Lost: ranges}), Mod: revision, Create: revision}
		if err := v.Apply(Change{Revision: revision, Events: []Event{{Type: EventPut, KV: kv}}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {2, 0, 1}, {1, 2, 0}, {2, 1, 0}} {
		v := testView(topic)
		for n, step := range order {
			revision := Revision(n + 1)
			switch step {
			case 0:
				v.step(t, revision, nil, map[string]*L0Record{v.keys.L0("a", 1, 1): testRecord("x", block(0, 5))})
			case 1:
				lose(v, revision, OffsetRange{From: 5, To: 100})
			case 2:
				v.step(t, revision, nil, map[string]*L0Record{v.keys.L0("b", 1, 1): testRecord("y", block(100, 7))})
			}
		}
		if err := v.Hole(p); err != nil || v.End(p) != 107 {
			t.Errorf("order %v: end %d, %v", order, v.End(p), err)
		}
		for offset, found := range map[int64]bool{4: true, 5: false, 99: false, 100: true} {
			if _, ok := v.Lookup(p, offset); ok != found {
				t.Errorf("order %v: offset %d is there: %t", order, offset, ok)
			}
		}
	}
	v := testView(topic)
	lose(v, 1, OffsetRange{From: 5, To: 100})
	v.step(t, 2, nil, map[string]*L0Record{v.keys.L0("a", 1, 1): testRecord("x", block(0, 4))})
	v.step(t, 3, nil, map[string]*L0Record{v.keys.L0("a", 1, 2): testRecord("y", block(100, 4))})
	if v.Hole(p) == nil {
		t.Error("a lost range bridged more than it covers")
	}
}

// TestPlacementAgainstChance plays random lives of a cluster, and checks that it comes to rest balanced, and that what waits for a disk stays.
func TestPlacementAgainstChance(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 5))
		b := newBoard(t)
		regs := make(map[NodeID]Registration)
		for n := range 2 + random.IntN(5) {
			id := NodeID(fmt.Sprintf("n%d", n))
			regs[id] = b.join(id, "disk-"+string(id), string(rune('a'+n%2)))
		}
		all := func() []Registration {
			var out []Registration
			for _, id := range slices.Sorted(maps.Keys(regs)) {
				out = append(out, regs[id])
			}
			return out
		}
		for range 40 {
			ids := slices.Sorted(maps.Keys(regs))
			id := ids[random.IntN(len(ids))]
			switch random.IntN(6) {
			case 0:
				if len(b.index.topics) < 8 {
					b.topic(fmt.Sprintf("t%d", len(b.index.topics)), 1+random.Int32N(12), Durability(random.IntN(2)))
				}
			case 1:
				if _, alive := b.index.nodes[id]; alive && len(b.index.nodes) > 1 {
					b.die(id)
				}
			case 2:
				regs[id] = b.join(id, "disk-"+string(id), "")
			case 3:
				b.do(Txn{Then: []Op{PutOp(b.keys.Drain(id), encodeJSON(drainValue{Version: valueVersion}))}})
			case 4:
				b.do(Txn{Then: []Op{DeleteOp(b.keys.Drain(id))}})
			case 5:
				b.settle(random.IntN(2) == 0, all()...)
			}
		}
		for _, id := range slices.Sorted(maps.Keys(regs)) {
			regs[id] = b.join(id, "disk-"+string(id), "")
			b.do(Txn{Then: []Op{DeleteOp(b.keys.Drain(id))}})
		}
		b.settle(true, all()...)
		least, most := 1<<30, 0
		for _, id := range slices.Sorted(maps.Keys(regs)) {
			n := b.counts()[id]
			least, most = min(least, n), max(most, n)
		}
		if most-least > 1 {
			t.Fatalf("seed %d: counts %v", seed, b.counts())
		}
		if again := b.settle(true, all()...); again != 0 {
			t.Fatalf("seed %d: %d moved though all was balanced", seed, again)
		}
	}
}

func BenchmarkTakeoverPlan(bench *testing.B) {
	b := newBoard(&testing.T{})
	var regs []Registration
	for n := range 3 {
		regs = append(regs, b.join(NodeID(fmt.Sprintf("n%d", n)), fmt.Sprintf("d%d", n), ""))
	}
	b.topic("t", 3000, DurabilityObject)
	b.settle(true, regs...)
	b.die("n0")
	if !b.do(b.index.elect(regs[1]).Txn) {
		bench.Fatal("not elected")
	}
	bench.ResetTimer()
	for range bench.N {
		if step, err := b.index.PlanPlacement(regs[1], false); err != nil || step.Moves == 0 {
			bench.Fatal(step, err)
		}
	}
}
