package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemark-io/tidemark/ingest"
)

// maxToldGroups is of how many groups one answer tells: each costs a read or a write of etcd. Of the others it says COORDINATOR_LOAD_IN_PROGRESS, at which
// Kafka's tools ask for them again.
const maxToldGroups = 1000

var (
	errToldLater = refuse(kerr.CoordinatorLoadInProgress, "one answer tells of %d groups; ask for the others again", maxToldGroups)
	errGrown     = refuse(kerr.CoordinatorLoadInProgress, "the group grew while it was looked at; ask again")
	errToldMuch  = refuse(kerr.InvalidRequest, "there is too much to tell of these groups in one answer; ask for fewer at once")
)

// groupTelling is how the groups of one answer are told, by their number in the request.
type groupTelling struct {
	look func(i int) (ingest.GroupView, error)
	// size is what is held of a view until it is told, and what the answer takes, about; also of a view that is empty.
	size func(i int, view ingest.GroupView) int64
	// tell is called once for each group, in their order.
	tell func(i int, view ingest.GroupView, err error)
}

// tellGroups tells of n groups. What it takes is known only when they were looked at; so those are looked at twice that are more than may be held without room:
// once for their size, and again when there is room for all.
func (k *call) tellGroups(n int, t groupTelling) error {
	type seen struct {
		view *ingest.GroupView // nil: it is looked at again
		size int64
		err  error
	}
	groups := make([]seen, n)
	total := int64(0)
	for i := range groups {
		g := &groups[i]
		if i >= maxToldGroups {
			g.err = errToldLater
			total += t.size(i, ingest.GroupView{})
			continue
		}
		var view ingest.GroupView
		if view, g.err = t.look(i); g.err != nil {
			view = ingest.GroupView{}
		}
		g.size = t.size(i, view)
		if g.err == nil && total+g.size > maxToldBytes {
			g.err, g.size = errToldMuch, t.size(i, ingest.GroupView{})
		}
		if total += g.size; total <= makeAtOnce {
			g.view = &view
		}
	}
	if err := k.reserve(total); err != nil {
		return err
	}
	for i := range groups {
		g := groups[i]
		groups[i] = seen{}
		if g.err == nil && g.view == nil {
			view, err := t.look(i)
			if err == nil && t.size(i, view) > 2*g.size {
				err = errGrown
			}
			g.view, g.err = &view, err
		}
		if g.err != nil {
			g.view = &ingest.GroupView{}
		}
		t.tell(i, *g.view, g.err)
	}
	return nil
}
