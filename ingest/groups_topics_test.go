package ingest

import (
	"fmt"
	"testing"
)

// TestTopicsOfAGroupAreCountedOnce: a group has offsets in 980 topics of 1,000. One commit names 30 of them and a new one.
func TestTopicsOfAGroupAreCountedOnce(t *testing.T) {
	w := newGroupWorld(t, "a")
	n := w.nodes["a"]
	var offsets []GroupCommitOffset
	for i := range 981 {
		w.topic(fmt.Sprintf("t%04d", i), 1)
		offsets = append(offsets, GroupCommitOffset{Topic: fmt.Sprintf("t%04d", i), Offset: 1, LeaderEpoch: -1})
	}
	commit := func(o []GroupCommitOffset) {
		t.Helper()
		errs, err := n.groups.Commit(t.Context(), GroupCommit{Group: "g", Generation: -1, Offsets: o})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range errs {
			if e != nil {
				t.Fatal(e)
			}
		}
	}
	for i := 0; i < 980; i += 10 {
		commit(offsets[i : i+10])
	}
	commit(offsets[950:981])
}
