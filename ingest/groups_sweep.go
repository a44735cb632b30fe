package ingest

import (
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

// runExpiry looks through etcd once in a while for groups that nobody uses any more.
func (g *Groups) runExpiry() {
	for pause(g.ctx, g.config.Clock, expireGroupsEvery) {
		if err := g.expire(); err != nil && g.ctx.Err() == nil {
			g.config.Logger.Warn("groups that nobody uses could not be looked for; it is tried again in an hour", "cause", err)
		}
	}
}

// expire loads every group of this node that is not in memory and has something to be cleaned: it was not used for longer than
// offsets are kept, it lost its members to a coordinator that died, or it has offsets in topics that are gone. What is to be
// done the actor decides, from what it has claimed.
func (g *Groups) expire() error {
	seat, refused := g.seat()
	if refused != nil {
		return refused
	}
	stored, err := g.config.Store.StoredGroups(g.ctx)
	if err != nil {
		return err
	}
	now := g.config.Clock.Now()
	for _, s := range stored {
		owner, ok := groupOwner(s.Group, seat.Index)
		if !ok || owner.ID != seat.Registration.Node {
			continue
		}
		old := now.Sub(time.UnixMilli(s.State.Changed)) > OffsetsRetention
		if !old && !topicGone(s, seat.Index) {
			continue
		}
		a, refused := g.load(s.Group, seat)
		if refused != nil {
			return refused
		}
		a.post(groupCall{run: a.expire})
	}
	return nil
}

// topicGone tells whether a group has offsets in a topic that the index does not know: it is gone, or so new that the index is not there
// yet. The actor waits for the index before it decides.
func topicGone(s meta.StoredGroup, index GroupIndex) bool {
	for _, id := range s.Topics {
		if _, there := index.TopicByID(id); !there {
			return true
		}
	}
	return false
}
