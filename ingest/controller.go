package ingest

import (
	"context"
	"errors"
	"fmt"
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
	// Other nodes look every lookSeldom. Whose index has not followed for lagMost begins anew: what it is given it would not lead, and when it was
	// elected meanwhile it would not know.
	lookSeldom = 10 * time.Second
	lagMost    = time.Minute
)

// keptUp is what came of looking whether a node's index follows etcd.
type keptUp struct {
	looked time.Time
	// followed is when the index was last seen to have everything that etcd had a moment before.
	followed time.Time
}

// keepsUp makes sure that the index follows etcd. A controller gives its place up when it does not, and when it has not for long the
// incarnation ends: the next one reads the index from its beginning, and a node that cannot do that gives its lease back.
func (i *incarnation) keepsUp(ctx context.Context, k *keptUp) {
	bounded, cancel := context.WithTimeout(ctx, lagAllowed)
	defer cancel()
	asked := i.clock().Now()
	revision, err := i.node.deps.Meta.Revision(bounded)
	if err != nil {
		k.followed = i.clock().Now() // etcd does not answer: nobody else could do better, and the lease says the rest
		return
	}
	if err = i.follower.WaitFor(bounded, revision); err == nil {
		k.followed = asked
		return
	}
	if ctx.Err() != nil {
		return
	}
	if behind := i.clock().Now().Sub(k.followed); behind >= lagMost {
		lost := &lostError{cause: fmt.Errorf("node %s: its index has not followed etcd for %s: %w", i.node.config.Node, behind.Round(time.Second), err)}
		i.post(func(time.Time) { i.core.end(lost) })
		return
	}
	attempt, done := context.WithTimeout(ctx, lagAllowed)
	defer done()
	if resigned := i.node.deps.Meta.ResignControl(attempt, i.follower, i.registration); resigned != nil {
		err = errors.Join(err, resigned)
	}
	if ctx.Err() == nil {
		i.node.deps.Logger.Warn("this node's index does not follow etcd; if it gave out partitions, another node does now, and when this lasts it begins anew",
			"node", i.node.config.Node, "cause", err)
	}
}

// runController keeps the assignment of partitions as it should be while this node is the controller, and makes it the controller when
// nobody is. It plans whenever the index shows that a plan may have changed: see meta.Index.PlanPlacement.
func (i *incarnation) runController(ctx context.Context) {
	f := i.follower
	timer := i.clock().NewTimer(balanceAfter)
	defer timer.Stop()
	nodes, calm := f.NodesRevision(), i.clock().Now().Add(balanceAfter)
	planned, balanced := meta.Revision(-1), false
	pauseAfter, told := placeAgain, ""
	kept := keptUp{looked: i.clock().Now(), followed: i.clock().Now()}
	for {
		now := i.clock().Now()
		if f.NodesRevision() != nodes {
			nodes, calm, balanced = f.NodesRevision(), now.Add(balanceAfter), false
		}
		balance := !now.Before(calm)
		every := lookSeldom
		if controller, ok := f.Controller(); ok && controller == i.node.config.Node {
			every = lookAgain
		}
		if now.Sub(kept.looked) >= every {
			kept.looked = now
			i.keepsUp(ctx, &kept)
		}
		wait := every
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
