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
	// placeAgain is the pause after a plan that could not be carried out, doubled with each up to placeLongest.
	placeAgain   = 200 * time.Millisecond
	placeLongest = 5 * time.Second
	// lookAgain is how often the controller makes sure that its index follows etcd, and lagAllowed by how much it may be behind: one
	// whose index stands still sees no node die, and keeps its place as long as its lease is renewed.
	lookAgain  = 2 * time.Second
	lagAllowed = 6 * time.Second
)

// keepsUp makes sure that the index of a controller follows etcd, and gives the place up if it does not.
func (i *incarnation) keepsUp(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, lagAllowed)
	defer cancel()
	revision, err := i.node.deps.Meta.Revision(bounded)
	if err != nil {
		return nil // etcd does not answer: nobody else could do better
	}
	if err = i.follower.WaitFor(bounded, revision); err == nil || ctx.Err() != nil {
		return nil
	}
	attempt, done := context.WithTimeout(ctx, lagAllowed)
	defer done()
	if resigned := i.node.deps.Meta.ResignControl(attempt, i.follower, i.registration); resigned != nil {
		return errors.Join(err, resigned)
	}
	return err
}

// runController keeps the assignment of partitions as it should be while this node is the controller, and makes it the controller when
// nobody is. It plans whenever the index shows that a plan may have changed: see meta.Index.PlanPlacement.
func (i *incarnation) runController(ctx context.Context) {
	f := i.follower
	timer := i.clock().NewTimer(balanceAfter)
	defer timer.Stop()
	nodes, calm := f.NodesRevision(), i.clock().Now().Add(balanceAfter)
	planned, balanced := meta.Revision(-1), false
	pauseAfter, looked, told := placeAgain, i.clock().Now(), ""
	for {
		now := i.clock().Now()
		if f.NodesRevision() != nodes {
			nodes, calm, balanced = f.NodesRevision(), now.Add(balanceAfter), false
		}
		balance := !now.Before(calm)
		wait := time.Hour
		if controller, ok := f.Controller(); ok && controller == i.node.config.Node {
			if now.Sub(looked) >= lookAgain {
				looked = now
				if err := i.keepsUp(ctx); err != nil && ctx.Err() == nil {
					i.node.deps.Logger.Warn("this node's index does not follow etcd: another node takes over giving out partitions", "node", i.node.config.Node, "cause", err)
				}
			}
			wait = lookAgain
		}
		if at := f.PlaceRevision(); at != planned || balance && !balanced {
			bounded, cancel := context.WithTimeout(ctx, lagAllowed)
			_, _, err := i.node.deps.Meta.Place(bounded, f, i.registration, balance)
			cancel()
			switch {
			case ctx.Err() != nil, errors.Is(err, meta.ErrLeaseGone):
				return // the lease says the rest
			case err != nil:
				if told != err.Error() {
					told = err.Error()
					i.node.deps.Logger.Warn("partitions could not be assigned; it is tried again until they are", "node", i.node.config.Node, "cause", err)
				}
				wait, pauseAfter = pauseAfter, min(2*pauseAfter, placeLongest)
			default:
				planned, balanced, pauseAfter, told = at, balance, placeAgain, ""
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
