package ingest

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/tidemark-io/tidemark/ingest/group"
)

// What the Kafka listener asks of groups beyond what the group service does: each broker lists its own groups.

// NativeProtocolType is the protocol type of a group whose members subscribe, and have the coordinator assign.
const NativeProtocolType = nativeProtocolType

// groupLists reads the groups of this node on behalf of everybody who asks for them. One read is under way at a time; whoever comes meanwhile shares the
// next one, because what this one brings may be older than they are. The groups' mu guards it.
type groupLists struct {
	running bool
	next    *groupList // that nobody reads yet; nil when nobody waits for one
}

// groupList is one read. What it brought may be read once done is closed.
type groupList struct {
	done   chan struct{}
	groups []GroupListing
	err    error
}

// groupListPatience bounds one read of all groups.
const groupListPatience = 15 * time.Second

// ListHere lists the groups that fall to this node, by name: those in use as they are, those that are being claimed without a state (Known is false), and
// those that only etcd has as empty. It costs one read of
// all groups in etcd, which calls at the same time share, as they do the answer: it must not be changed.
func (g *Groups) ListHere(ctx context.Context) ([]GroupListing, error) {
	l := &g.lists
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil, errClosing
	}
	if l.next == nil {
		l.next = &groupList{done: make(chan struct{})}
	}
	mine := l.next
	if !l.running {
		l.running = true
		g.work.Go(g.runLists)
	}
	g.mu.Unlock()
	select {
	case <-mine.done:
		return mine.groups, mine.err
	case <-ctx.Done():
		return nil, callerGone(ctx, "list the groups")
	}
}

// runLists reads until nobody waits any more.
func (g *Groups) runLists() {
	l := &g.lists
	for {
		g.mu.Lock()
		now := l.next
		l.next = nil
		l.running = now != nil
		g.mu.Unlock()
		if now == nil {
			return
		}
		ctx, cancel := context.WithTimeout(g.ctx, groupListPatience)
		now.groups, now.err = g.listHere(ctx)
		cancel()
		close(now.done)
	}
}

func (g *Groups) listHere(ctx context.Context) ([]GroupListing, error) {
	seat, refused := g.seat()
	if refused != nil {
		return nil, refused
	}
	stored, err := g.config.Store.StoredGroups(ctx)
	if err != nil {
		return nil, Errorf(ReasonUnavailable, "list the groups: %w", err)
	}
	inUse := make(map[string]GroupListing)
	for _, l := range g.Listings() {
		inUse[l.Name] = l
	}
	out := make([]GroupListing, 0, len(inUse))
	for _, s := range stored {
		if owner, ok := groupOwner(s.Group, seat.Index); !ok || owner.ID != seat.Registration.Node {
			continue
		}
		l, used := inUse[s.Group]
		if !used {
			l = GroupListing{Name: s.Group, Coordinator: seat.Registration.Node, Known: true, State: group.Empty}
		}
		if l.ProtocolType == "" {
			l.ProtocolType = s.State.ProtocolType
		}
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b GroupListing) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}
