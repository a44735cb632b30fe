package ingest

import (
	"context"
	"errors"
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

const (
	// balanceAfter is how long no node has come or gone before partitions are moved only to spread them: a node that starts anew
	// keeps what it leads, and a cluster that starts is not shuffled with every node.
	balanceAfter = 3 * time.Second
	// placeAgain is the pause after a plan that could not be carried out.
	placeAgain = 200 * time.Millisecond
)

// runController keeps the assignment of partitions as it should be while this node is the controller, and makes it the controller when
// nobody is. It plans whenever the index shows that a plan may have changed: see meta.Index.PlanPlacement.
func (i *incarnation) runController(ctx context.Context) {
	f := i.follower
	timer := i.clock().NewTimer(balanceAfter)
	defer timer.Stop()
	nodes, calm := f.NodesRevision(), i.clock().Now().Add(balanceAfter)
	planned, balanced := meta.Revision(-1), false
	for {
		now := i.clock().Now()
		if f.NodesRevision() != nodes {
			nodes, calm, balanced = f.NodesRevision(), now.Add(balanceAfter), false
		}
		balance := !now.Before(calm)
		wait := time.Hour
		if at := f.PlaceRevision(); at != planned || balance && !balanced {
			switch _, _, err := i.node.deps.Meta.Place(ctx, f, i.registration, balance); {
			case ctx.Err() != nil, errors.Is(err, meta.ErrLeaseGone):
				return // the lease says the rest
			case err != nil:
				i.node.deps.Logger.Warn("partitions could not be assigned; it is tried again", "node", i.node.config.Node, "cause", err)
				wait = placeAgain
			default:
				planned, balanced = at, balance
			}
		}
		if !balance {
			wait = min(wait, calm.Sub(now))
		}
		timer.Reset(wait)
		select {
		case <-i.placeDue:
		case <-timer.C():
		case <-ctx.Done():
			return
		}
	}
}
