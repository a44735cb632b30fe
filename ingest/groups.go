package ingest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/ingest/group"
	"github.com/tidemark-io/tidemark/meta"
)

// OffsetsRetention is how long a group without members and without commits keeps its offsets.
const OffsetsRetention = 7 * 24 * time.Hour

// Limits of what groups take on one node.
const (
	maxGroups       = 10_000
	maxWaitingJoins = 10_000
	// maxMailbox is how many calls wait for one group and maxMailboxBytes how large they are together, unless there is but one; maxMailboxesBytes is
	// for all groups. maxOffsetBytes is what the offsets of all groups in memory may count for.
	maxMailbox        = 20_000
	maxMailboxBytes   = 4 << 20
	maxMailboxesBytes = 64 << 20
	maxOffsetBytes    = 128 << 20
	// maxMemberBytes is what the members of all groups may take in memory, as group.Group.Memory counts.
	maxMemberBytes = 256 << 20
	// idleGroup is how long a group without members stays in memory after its last call.
	idleGroup = 10 * time.Minute
	// sweepGroupsEvery is how often memory is looked through, expireGroupsEvery how often etcd is.
	sweepGroupsEvery  = time.Minute
	expireGroupsEvery = time.Hour
	// lookEvery bounds how often the index is looked at, which moves on with every write of anybody.
	lookEvery = 50 * time.Millisecond
)

// GroupStore is what groups need of the metadata store; *meta.Client is one.
type GroupStore interface {
	ClaimGroup(ctx context.Context, name string, reg meta.Registration) (meta.GroupClaim, meta.GroupState, map[meta.TopicID]meta.GroupOffsets, error)
	WriteGroup(ctx context.Context, claim meta.GroupClaim, w meta.GroupWrite) (meta.GroupClaim, error)
	HoldsGroup(ctx context.Context, claim meta.GroupClaim) error
	GroupExists(ctx context.Context, name string) (bool, error)
	StoredGroups(ctx context.Context) ([]meta.StoredGroup, error)
}

// GroupSeat is one incarnation of the node as groups see it. What they hold goes with it.
type GroupSeat struct {
	// Context ends with the incarnation.
	Context      context.Context //nolint:containedctx // a life, not a call
	Registration meta.Registration
	Index        GroupIndex
}

// GroupsConfig is what Groups need. Limits of zero are the defaults.
type GroupsConfig struct {
	Store GroupStore
	// Seat is the present incarnation, or why there is none.
	Seat   func() (GroupSeat, error)
	Clock  clock.Clock
	Random io.Reader
	Logger *slog.Logger
	Limits group.Limits
}

// Groups coordinates the consumer groups that fall to this node. Its methods may be called from any goroutine.
//
// Each group in use is an actor: one goroutine that steps the group's machine, and one write at a time on its chain in etcd. While
// a write is under way what comes next gathers, and goes with the next one; nobody hears of a commit or of a generation before
// it is durable. A group is claimed when it is first used here, and given up when the node's incarnation ends, another node
// claims it, or the index says that it falls to another node; then everybody who waits is told NOT_COORDINATOR, after what was
// under way is decided.
type Groups struct {
	config GroupsConfig
	limits group.Limits

	ctx  context.Context //nolint:containedctx // the life of the groups
	stop context.CancelFunc
	work sync.WaitGroup

	absent absentGroups
	lists  groupLists

	mu     sync.Mutex
	actors map[string]*groupActor
	closed bool

	joins       atomic.Int64 // that wait
	bytes       atomic.Int64 // of the offsets in memory
	memberBytes atomic.Int64 // of the machines, with what their members want and have
	mailBytes   atomic.Int64 // of the calls in the mailboxes
	tokens      atomic.Uint64
	randomMu    sync.Mutex
}

// NewGroups begins to coordinate. Close it before what it was given.
func NewGroups(config GroupsConfig) (*Groups, error) {
	if config.Store == nil || config.Seat == nil || config.Clock == nil || config.Random == nil {
		return nil, errors.New("coordinate groups: store, seat, clock and random are needed")
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	g := &Groups{config: config, limits: config.Limits, ctx: ctx, stop: stop, actors: make(map[string]*groupActor)}
	g.work.Go(g.watch)
	g.work.Go(g.runExpiry)
	return g, nil
}

// Close gives every group up, at once: what is under way stays undecided, and whoever waits is told NOT_COORDINATOR. Safe to call twice.
func (g *Groups) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.stop()
	g.work.Wait()
}

// seat is the present incarnation.
func (g *Groups) seat() (GroupSeat, *Error) {
	seat, err := g.config.Seat()
	if err != nil {
		return GroupSeat{}, AsError(err)
	}
	return seat, nil
}

// Coordinator is the node to which a group falls, as far as this one knows.
func (g *Groups) Coordinator(name string) (meta.NodeInfo, error) {
	if refused := checkGroupName(name); refused != nil {
		return meta.NodeInfo{}, refused
	}
	seat, refused := g.seat()
	if refused != nil {
		return meta.NodeInfo{}, refused
	}
	owner, ok := groupOwner(name, seat.Index)
	if !ok {
		return meta.NodeInfo{}, Errorf(ReasonUnavailable, "no node that could coordinate group %q is alive", name)
	}
	return owner, nil
}

// absence is what find does about a group that is not in memory.
type absence uint8

const (
	// createAbsent: the group comes into being if it is not there.
	createAbsent absence = iota
	// askAbsent: etcd is asked whether it is there.
	askAbsent
	// recallAbsent: as askAbsent, but what etcd has said may be as old as the index. It is for members: at worst one joins anew.
	recallAbsent
)

// find gives the actor of a group that falls to this node. One that is not in memory is claimed; unless it may be created only when etcd has
// the group, and otherwise it is UNKNOWN_GROUP.
func (g *Groups) find(ctx context.Context, name string, otherwise absence) (*groupActor, *Error) {
	if refused := checkGroupName(name); refused != nil {
		return nil, refused
	}
	seat, refused := g.seat()
	if refused != nil {
		return nil, refused
	}
	owner, ok := groupOwner(name, seat.Index)
	if !ok || owner.ID != seat.Registration.Node {
		return nil, notCoordinator(name, fmt.Sprintf("node %q is its coordinator", owner.ID)).With("coordinator", string(owner.ID))
	}
	if a := g.loaded(name, seat); a != nil {
		return a, nil
	}
	if otherwise != createAbsent {
		if refused := g.exists(ctx, name, seat, otherwise == recallAbsent); refused != nil {
			return nil, refused
		}
	}
	return g.load(name, seat)
}

// exists is UNKNOWN_GROUP for a group that etcd does not have.
func (g *Groups) exists(ctx context.Context, name string, seat GroupSeat, recall bool) *Error {
	at := absentIn(seat)
	there := false
	if !recall || !g.absent.has(name, at) {
		var err error
		if there, err = g.config.Store.GroupExists(ctx, name); err != nil {
			if ctx.Err() != nil {
				return callerGone(ctx, fmt.Sprintf("look for group %q", name))
			}
			return groupMetaError("look for", name, err)
		}
	}
	if there {
		return nil
	}
	g.absent.add(name, at)
	return Errorf(ReasonUnknownGroup, "there is no group %q: it was never used, was deleted, or has expired; it comes into being when a member joins or an offset is committed", name)
}

// loaded is the actor of a group in memory that belongs to the incarnation; nil when there is none.
func (g *Groups) loaded(name string, seat GroupSeat) *groupActor {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a := g.actors[name]; a != nil && a.seat.Registration.NodeRev == seat.Registration.NodeRev {
		return a
	}
	return nil
}

func (g *Groups) load(name string, seat GroupSeat) (*groupActor, *Error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, notCoordinator(name, "this node is stopping")
	}
	a := g.actors[name]
	switch {
	case a != nil && a.seat.Registration.NodeRev == seat.Registration.NodeRev:
		return a, nil
	case a == nil && (len(g.actors) >= maxGroups || g.bytes.Load() > maxOffsetBytes):
		return nil, Errorf(ReasonBackPressure, "this node coordinates %d groups with offsets of %d MiB, and has no room for more; try again later",
			len(g.actors), g.bytes.Load()>>20).WithRetryAfter(5 * time.Second)
	}
	a = newGroupActor(g, name, seat)
	g.actors[name] = a
	g.work.Go(a.run)
	return a, nil
}

// forget takes an actor that has ended out of memory, unless another has its place already.
func (g *Groups) forget(a *groupActor) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.actors[a.name] == a {
		delete(g.actors, a.name)
	}
}

// all are the actors in memory.
func (g *Groups) all() []*groupActor {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]*groupActor, 0, len(g.actors))
	for _, a := range g.actors {
		out = append(out, a)
	}
	return out
}

// watch tells the actors what changed around them: nodes, topics, and that time has passed.
func (g *Groups) watch() {
	timer := g.config.Clock.NewTimer(sweepGroupsEvery)
	defer timer.Stop()
	var seen clusterSeen
	for {
		var changed, over <-chan struct{}
		if seat, refused := g.seat(); refused == nil {
			changed, over = seat.Index.Changed(), seat.Context.Done()
			if now := see(seat); now != seen {
				seen = now
				g.look(seat)
			}
		}
		wait := lookEvery
		if changed == nil {
			wait = time.Second // until the node lives again
		} else {
			select {
			case <-changed:
			case <-over:
			case <-timer.C():
				g.sweep()
				seen = clusterSeen{} // a group may have been claimed by what was known a moment before a change
				timer.Reset(sweepGroupsEvery)
				continue
			case <-g.ctx.Done():
				return
			}
		}
		if !pause(g.ctx, g.config.Clock, wait) {
			return
		}
	}
}

// clusterSeen is what of an index decides about groups.
type clusterSeen struct {
	seat, topics meta.Revision
	nodes        uint64
}

func see(seat GroupSeat) clusterSeen {
	drains := seat.Index.Drains()
	h := fnv.New64a()
	for _, n := range seat.Index.Nodes() {
		_, drain := drains[n.ID]
		_, _ = fmt.Fprintln(h, n.ID, n.Incarnation, drain, n.Roles)
	}
	return clusterSeen{seat: seat.Registration.NodeRev, topics: seat.Index.TopicsRevision(), nodes: h.Sum64()}
}

// look has each actor check whether the group still falls to this node, and whether its topics are what they were.
func (g *Groups) look(seat GroupSeat) {
	topics := seat.Index.TopicsRevision()
	for _, a := range g.all() {
		if a.seat.Registration.NodeRev != seat.Registration.NodeRev {
			continue
		}
		if owner, ok := groupOwner(a.name, seat.Index); ok && owner.ID != seat.Registration.Node {
			a.post(groupCall{run: func(now time.Time) {
				a.release(notCoordinator(a.name, fmt.Sprintf("it falls to node %q now", owner.ID)).With("coordinator", string(owner.ID)), now)
			}})
			continue
		}
		if a.topicsSeen.Swap(topics) != topics {
			a.post(groupCall{run: a.topicsChanged})
		}
	}
}

func (g *Groups) sweep() {
	for _, a := range g.all() {
		a.post(groupCall{run: a.sweep})
	}
}

// newMemberID draws an id for a member, which begins with what the client calls itself.
func (g *Groups) newMemberID(clientID string) (string, error) {
	var random [16]byte
	g.randomMu.Lock()
	_, err := io.ReadFull(g.config.Random, random[:])
	g.randomMu.Unlock()
	if err != nil {
		return "", fmt.Errorf("draw a member id: %w", err)
	}
	if clientID == "" {
		clientID = "member"
	}
	return cutText(clientID, 200) + "-" + hex.EncodeToString(random[:]), nil
}

// cutText makes at most so many bytes of UTF-8 of a text.
func cutText(s string, most int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}
