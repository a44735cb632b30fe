package ingest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tidemark-io/tidemark/tier"
)

// sweepInterval is how often the store is listed for objects that nothing refers to.
const sweepInterval = time.Hour

// discarded is an object that a fold has replaced, to be deleted when slow readers are done.
type discarded struct {
	name string
	due  time.Time
}

// discard notes an object that no record names any more.
func (i *incarnation) discard(name string) {
	i.discardMu.Lock()
	defer i.discardMu.Unlock()
	i.discards.push(discarded{name: name, due: i.clock().Now().Add(i.node.config.GarbageGrace)})
}

func (i *incarnation) nextDiscard(now time.Time) (string, bool) {
	i.discardMu.Lock()
	defer i.discardMu.Unlock()
	if i.discards.len() == 0 || now.Before(i.discards.peek().due) {
		return "", false
	}
	return i.discards.pop().name, true
}

// runSweeper deletes what nothing refers to: objects that folds have replaced, when their grace is over, and now and then
// whatever a listing proposes and etcd confirms, such as uploads of an earlier incarnation that were never committed.
func (i *incarnation) runSweeper(ctx context.Context) {
	listed := i.clock().Now().Add(-sweepInterval + time.Minute) // not while the node starts
	for {
		if !pause(ctx, i.clock(), min(i.node.config.GarbageGrace, 5*time.Second)) {
			return
		}
		now := i.clock().Now()
		for {
			name, ok := i.nextDiscard(now)
			if !ok {
				break
			}
			if i.follower.IsGarbage(name) {
				i.remove(ctx, name)
			}
		}
		if now.Sub(listed) >= sweepInterval {
			listed = now
			if err := i.sweepListing(ctx, now); err != nil && ctx.Err() == nil {
				i.node.deps.Logger.Warn("look for objects that nothing refers to; it is tried again in an hour", "cause", err)
			}
		}
	}
}

// sweepListing lists this node's L0 objects. The listing only proposes: an object goes when the index, which is not older
// than the listing, says that no record names it and none ever will, and when its age says that slow readers are done.
func (i *incarnation) sweepListing(ctx context.Context, now time.Time) error {
	var old, all []string
	err := i.node.deps.Store.List(ctx, fmt.Sprintf("l0/%s/", i.node.config.Node), func(o tier.Object) error {
		all = append(all, o.Name)
		if now.Sub(o.Modified) > i.node.config.GarbageGrace {
			old = append(old, o.Name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	revision, err := i.node.deps.Meta.Revision(ctx)
	if err != nil {
		return err
	}
	if err := i.follower.WaitFor(ctx, revision); err != nil {
		return err
	}
	var garbage []string
	for _, name := range old {
		if i.follower.IsGarbage(name) {
			garbage = append(garbage, name)
		}
	}
	if len(garbage) > 0 && !slices.ContainsFunc(all, i.follower.Names) {
		// Nothing at all is named: more likely a wrong etcd than a log that was deleted to the last record.
		i.node.deps.Logger.Warn("no object of this node is part of the log; none is deleted", "objects", len(all))
		return nil
	}
	for _, name := range garbage {
		i.remove(ctx, name)
	}
	if len(garbage) > 0 {
		i.node.deps.Logger.Info("deleted objects that nothing referred to", "objects", len(garbage), "of", len(all))
	}
	return nil
}

// remove deletes one object. If that fails the next listing proposes it again.
func (i *incarnation) remove(ctx context.Context, name string) {
	if err := i.node.deps.Store.Delete(ctx, name); err != nil && ctx.Err() == nil {
		i.node.deps.Logger.Debug("delete an object that nothing refers to", "object", name, "cause", err)
	}
}
