package history

import "testing"

// What a group may do without anything being lost: reset an offset, commit from outside, stand at the log start or behind a loss.
func TestGroupsMayMoveOnPurpose(t *testing.T) {
	h := New()
	p, g := h.Partition("orders/0"), h.Group("billing")
	now := int64(0)
	call := func() Call {
		now += 2
		return Call{Process: 1, Invoke: now, Complete: now + 1}
	}
	committed := func(offset int64) {
		h.FetchCommitted(FetchCommitted{Call: call(), Group: g, Partition: p, Offset: offset})
	}
	committed(-1)
	h.Assign(Assign{Call: call(), Group: g, Partition: p, Offset: 9}) // where new groups begin is their own affair
	h.Commit(Commit{Call: call(), Group: g, Partition: p, Offset: 20, Generation: 5})
	committed(20)
	h.Commit(Commit{Call: call(), Group: g, Partition: p, Offset: 3, Generation: -1, Reset: true})
	committed(3)
	h.Commit(Commit{Call: call(), Group: g, Partition: p, Offset: 4, Generation: 5})
	h.Commit(Commit{Call: call(), Group: g, Partition: p, Offset: 2, Generation: 4, Outcome: Fail})
	late := call()
	h.Commit(Commit{Call: late, Group: g, Partition: p, Offset: 6, Generation: 5, Outcome: Info})
	committed(4) // it has not happened yet,
	committed(6) // now it has
	h.LogStart(p, 30)
	h.Lost(p, 50, 60)
	h.Assign(Assign{Call: call(), Group: g, Partition: p, Offset: 30})
	h.Assign(Assign{Call: call(), Group: g, Partition: p, Offset: 60})
	if r := h.Check(Options{Registers: true}); r.Bad() != nil || r.Unknown != nil {
		t.Fatalf("found %v", r.Anomalies)
	}
	committed(4)
	r := h.Check(Options{Registers: true})
	if r.Anomalies[CommitRegister].Count != 1 {
		t.Errorf("an unknown commit was taken back, and the register found %v", r.Anomalies)
	}
	h.Assign(Assign{Call: call(), Group: g, Partition: p, Offset: 31})
	if r := h.Check(Options{}); r.Anomalies[UncommittedOffset].Count != 1 {
		t.Errorf("a member stands at an offset that nobody committed, and found was %v", r.Anomalies)
	}
}
