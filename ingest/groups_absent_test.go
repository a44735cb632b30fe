package ingest

import (
	"testing"
	"testing/synctest"

	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
)

// stillIndex stands at one revision.
type stillIndex struct {
	GroupIndex
	at meta.Revision
}

func (s stillIndex) Revision() meta.Revision { return s.at }

// TestViewSeesAGroupThatWasNotThere asks a node, which has said that there is no such group and whose index stands still, for a group to which another
// node has answered a commit since.
func TestViewSeesAGroupThatWasNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newGroupWorld(t, "a", "b")
		topic := w.topic("orders", 1)
		a, b := w.nodes["a"], w.nodes["b"]
		name := w.ownedBy("a")
		var still GroupIndex = stillIndex{a.index, a.index.Revision()}
		a.view.Store(&still)
		_, err := a.groups.View(t.Context(), name)
		wantReason(t, err, ReasonUnknownGroup)
		wantReason(t, a.groups.Delete(t.Context(), name), ReasonUnknownGroup)
		wantReason(t, a.groups.Heartbeat(t.Context(), name, group.Heartbeat{MemberID: "m"}), ReasonUnknownMemberID)

		b.sees(meta.NodeInfo{ID: "b"}) // b has not heard of a
		if err := w.commit(b, name, GroupJoined{JoinResult: group.JoinResult{Generation: -1}}, "orders", 0, 7); err != nil {
			t.Fatal(err)
		}
		if got := w.committed(a, name, topic, 0); got != 7 {
			t.Errorf("a sees %d, after a commit of 7 was answered", got)
		}
		if err := a.groups.Delete(t.Context(), name); err != nil {
			t.Errorf("delete: %v", err)
		}
	})
}
