package meta

import (
	"testing"
)

// TestGuards changes, between a plan and its arrival, one thing that the plan was made from: it must be refused.
func TestGuards(t *testing.T) {
	type world struct {
		*board

		one, two Registration
		disks    TopicID
	}
	begin := func(t *testing.T) *world {
		t.Helper()
		w := &world{board: newBoard(t)}
		w.one = w.join("n1", "d1", "")
		w.settle(false, w.one)
		w.disks = w.topic("disks", 4, DurabilityDisk)
		w.settle(false, w.one)
		w.two = w.join("n2", "d2", "")
		w.settle(false, w.one, w.two)
		return w
	}
	assign := func(w *world) Txn { // a new topic, most of it for the second node
		w.topic("new", 4, DurabilityDisk)
		step, err := w.index.PlanPlacement(w.one, false)
		if err != nil || step.To != "n2" {
			w.t.Fatalf("planned %+v, %v", step, err)
		}
		return step.Txn
	}
	forget := func(w *world) Txn {
		w.die("n1")
		_, _, txn, err := w.index.PlanForget("n1")
		if err != nil {
			w.t.Fatal(err)
		}
		return txn
	}
	p := func(w *world) Partition { return Partition{Topic: w.disks} }
	for _, row := range []struct {
		name   string
		plan   func(w *world) Txn
		change func(w *world)
	}{
		{"the receiver has died", assign, func(w *world) { w.die("n2") }},
		{"the receiver came back with another disk", assign, func(w *world) { w.die("n2"); w.join("n2", "d9", "") }},
		{"the receiver began to stop", assign, func(w *world) {
			w.do(Txn{Then: []Op{PutOp(w.keys.Drain("n2"), encodeJSON(drainValue{Version: valueVersion, Stopping: true}))}})
		}},
		{"something else was assigned", assign, func(w *world) { w.do(Txn{Then: []Op{placementOp(w.keys, 7)}}) }},
		{"another node controls", assign, func(w *world) {
			w.do(Txn{Then: []Op{PutOp(w.keys.Controller(), encodeJSON(controllerValue{Version: valueVersion, Node: "n2", Incarnation: w.two.Incarnation.String()}))}})
		}},
		{"the forgotten node is back", forget, func(w *world) { w.join("n1", "d1", "") }},
		{"the forgotten node had committed", forget, func(w *world) {
			w.do(Txn{Then: []Op{PutOp(w.keys.Head("n1"), encodeHead(Head{Incarnation: 1, Seq: 9}))}})
		}},
		{"somebody else gave offsets up", forget, func(w *world) {
			w.do(Txn{Then: []Op{PutOp(w.keys.Manifest(p(w)), encodeManifest(Manifest{Version: 1, Lost: []OffsetRange{{From: 0, To: 5}}}))}})
		}},
		{"the heir has died", forget, func(w *world) { w.die("n2") }},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := begin(t)
			txn := row.plan(w)
			row.change(w)
			if w.do(txn) {
				t.Error("it applied")
			}
			w.check()
		})
	}
}

// TestAnotherDiskRaisesEpochs: nothing that a node led on one disk stands at the same epoch on another, so that no log on disk is replayed
// onto what the other has committed.
func TestAnotherDiskRaisesEpochs(t *testing.T) {
	b := newBoard(t)
	one, two := b.join("n1", "d1", ""), b.join("n2", "d2", "")
	b.settle(false, one)
	b.topic("t", 8, DurabilityObject)
	b.settle(false, one, two)
	before := b.index.assigned["n1"].Epochs
	b.die("n1")
	one = b.join("n1", "d9", "")
	b.settle(false, one, two)
	for p, e := range b.index.assigned["n1"].Epochs {
		if was, ok := before[p]; ok && e <= was {
			t.Errorf("%v is at epoch %d on the second disk, and was at %d on the first", p, e, was)
		}
	}
	after := b.index.assigned["n1"].Epochs
	b.die("n1")
	one = b.join("n1", "d1", "")
	b.settle(false, one, two)
	for p, e := range b.index.assigned["n1"].Epochs {
		if was, ok := after[p]; ok && e <= was {
			t.Errorf("%v is at epoch %d on the first disk again, and was at %d", p, e, was)
		}
	}
}
