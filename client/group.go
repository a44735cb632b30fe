package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/record"
)

// GroupConsumer is a member of a consumer group: it reads the partitions that the group's coordinator gives to it, each from
// the node that leads it, and commits how far it has got. Poll is for one goroutine at a time; the other methods are for any.
//
// # What a GroupConsumer promises
//
//   - Order: the records of a partition come in the order of their offsets, each once, for as long as the member has the partition.
//   - At least once: a partition is read from the offset that the group has committed. Nothing above that is skipped, whoever
//     reads it next, and nothing below it comes again. What was read and not committed comes again, to this member or another, after a
//     crash, a lost membership, or a move for which Poll was not called in time.
//   - Once across orderly moves: while members keep calling Poll and AutoCommit is on (or OnRevoke commits), a partition
//     moves to another member at exactly the record behind the last one that Poll returned; so it does with Close when
//     everything is committed.
//   - What AutoCommit commits is what the application is done with: everything that Poll returned before the Poll in progress or the
//     last one. The piece that the last Poll returned counts when Poll is called again, or when Commit or CommitPolled says so.
//   - A commit is durable when Commit returns nil. It never moves the group back, and for a partition that is not this member's any
//     more it fails with ReasonNotAssigned.
//   - Where the group has committed nothing, reading begins at the log's start. With FromEnd it begins at the end, which is committed
//     before anything is read, so that nothing is skipped from then on.
//   - Records that retention removed before the group came to them, and those lost with a node's disk, are reported by Batches.Lost.
//   - Callbacks run only inside Poll and Close, on the goroutine that called, one at a time. No record of a partition is
//     returned before the OnAssign that names it, nor after the OnRevoke or OnLost that does.
//   - Memory: one piece for each node that it reads from, as with a Consumer.
//
// # Membership
//
// Heartbeats are sent on their own, also while a rebalance waits for others, so that a slow application stays a member. A rebalance, however, takes partitions away
// inside Poll: an application that does not call it for three quarters of RebalanceTimeout loses what is to be given up, and hears so by
// OnLost at the next Poll. With cooperative-sticky everything else is read on meanwhile; with range and roundrobin everything is given up
// in every rebalance. Another coordinator, or a cluster that does not answer for less than SessionTimeout, costs nothing but a
// delay of commits; after that the member gives up what it has, since others may have it.
type GroupConsumer struct {
	c      *Client
	group  string
	topics []string
	cfg    GroupConfig
	r      *reader
	ctx    context.Context // of the loops
	cancel context.CancelFunc
	loops  sync.WaitGroup
	bell   chan struct{} // wakes Poll: something of mu's has changed
	hurry  chan struct{} // wakes the heartbeat
	// polling is held by Poll and Close, and so while callbacks run.
	polling sync.Mutex
	// committing holds the one token of who commits, so that commits do not overtake each other.
	committing chan struct{}

	mu      sync.Mutex
	started bool
	closed  bool
	member  membership
	target  map[logKey]assignment
	held    map[logKey]*holding
	// revoking are those of held for which OnRevoke has been called and that are about to be given up.
	revoking map[logKey]bool
	lost     []logKey // to tell OnLost
	problem  *Error   // to tell Poll once
	fatal    error    // to tell Poll for ever
}

// membership is what the coordinator knows the member by.
type membership struct {
	id         string
	generation int32
	joining    bool
	moved      chan struct{} // closed when any of these changes
	heard      time.Time     // when what the coordinator last answered was sent
}

// assignment is one partition as the coordinator gave it.
type assignment struct {
	topicID   string
	committed int64 // -1: none
}

// holding is one partition that the application has. Offsets are -1 while there is none; committed <= sent, processed <= polled.
type holding struct {
	topicID           string
	polled, processed offsetAt
	committed         int64
	// sent is by a commit that may or may not have been stored, before is what it was without the last one.
	sent, before int64
}

// offsetAt is the next offset to read, and the leader epoch of the record before it, -1 when not known.
type offsetAt struct {
	offset int64
	epoch  int32
}

// Strategies of sharing out partitions.
const (
	// CooperativeSticky moves as few partitions as it can, and members read on meanwhile; it is the default.
	CooperativeSticky = "cooperative-sticky"
	// Range gives each member neighboring partitions of each topic.
	Range = "range"
	// RoundRobin deals the partitions out one by one.
	RoundRobin = "roundrobin"
)

// Reasons of group calls.
const (
	// ReasonUnknownMember: the coordinator does not know the member (any more).
	ReasonUnknownMember = "UNKNOWN_MEMBER_ID"
	// ReasonIllegalGeneration: the group has shared out its partitions without the member.
	ReasonIllegalGeneration = "ILLEGAL_GENERATION"
	// ReasonFencedInstance: another member has come with the same InstanceID.
	ReasonFencedInstance = "FENCED_INSTANCE_ID"
	// ReasonRebalanceInProgress: the group is sharing out its partitions.
	ReasonRebalanceInProgress = "REBALANCE_IN_PROGRESS"
	// ReasonNotAssigned: a commit names a partition that is not this member's (any more). Metadata has topic and partition. The consumer finds
	// that by itself; the stream Consume of the group service says ILLEGAL_GENERATION for the same.
	ReasonNotAssigned = "NOT_ASSIGNED"

	reasonNotCoordinator = "NOT_COORDINATOR"
)

// GroupConfig has the settings of a GroupConsumer. The zero value is ready to use.
type GroupConfig struct {
	// InstanceID, unless empty, is a name of this member that outlives its restarts: one that comes back within SessionTimeout has its partitions
	// again without a rebalance. That is why Close does not give them to others then. Two members at a time with one name: the
	// older is out, with ReasonFencedInstance.
	InstanceID string
	// ClientID names the program, for people.
	ClientID string
	// Strategy is CooperativeSticky when empty. All members have the same.
	Strategy string
	// SessionTimeout is how long a member may be silent before its partitions go to others; 45 s. The coordinator takes 1 s to 30 min.
	SessionTimeout time.Duration
	// RebalanceTimeout is how long a rebalance waits for a member; 60 s. Heartbeats come at least eight times in it, or every 50 ms.
	RebalanceTimeout time.Duration
	// FromEnd begins at the end, not at the start, where the group has committed nothing.
	FromEnd bool
	// AutoCommit is how often what was processed is committed, beside the commits of OnRevoke's and Close's moments; 5 s. Below 0 only Commit and
	// CommitPolled commit.
	AutoCommit time.Duration
	// Limits bound the decompression of batches; zero fields mean the defaults.
	Limits record.Limits
	// OnAssign hears of new partitions before anything of them is returned, OnRevoke of those about to be given up: they are still
	// this member's until it returns, so that it can finish its work on them and Commit. OnLost hears of those that are gone already: others may have them, and no
	// commit is possible. Maps are by topic, partitions in order, and the callee's. Callbacks may call Commit, CommitPolled and
	// Position, but not Poll or Close.
	OnAssign, OnRevoke, OnLost func(map[string][]int32)
}

// NewGroupConsumer makes a member of a group that reads topics. It connects and joins at the first Poll.
func (c *Client) NewGroupConsumer(group string, topics []string, cfg GroupConfig) (*GroupConsumer, error) {
	if group == "" {
		return nil, errors.New("group consumer: no group")
	}
	if len(topics) == 0 || slices.Contains(topics, "") {
		return nil, errors.New("group consumer: no topic")
	}
	if cfg.Strategy == "" {
		cfg.Strategy = CooperativeSticky
	}
	if !slices.Contains([]string{CooperativeSticky, Range, RoundRobin}, cfg.Strategy) {
		return nil, fmt.Errorf("group consumer: there is no strategy %q: use %s, %s or %s", cfg.Strategy, CooperativeSticky, Range, RoundRobin)
	}
	if cfg.SessionTimeout <= 0 {
		cfg.SessionTimeout = 45 * time.Second
	}
	if cfg.RebalanceTimeout <= 0 {
		cfg.RebalanceTimeout = time.Minute
	}
	if cfg.AutoCommit == 0 {
		cfg.AutoCommit = 5 * time.Second
	}
	g := &GroupConsumer{
		c: c, group: group, topics: slices.Compact(slices.Sorted(slices.Values(topics))), cfg: cfg,
		bell: make(chan struct{}, 1), hurry: make(chan struct{}, 1), committing: make(chan struct{}, 1),
		member: membership{moved: make(chan struct{})}, target: map[logKey]assignment{}, held: map[logKey]*holding{},
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.r = newReader(c, readerConfig{limits: cfg.Limits, retryFor: cfg.SessionTimeout, grouped: true, fromEnd: g.beginAtEnd})
	return g, nil
}

func (g *GroupConsumer) eager() bool { return g.cfg.Strategy != CooperativeSticky }

// Generation is the generation of the group that this member belongs to: it rises with every rebalance, and what the member commits is
// refused once the group has a later one. It is -1 while the member has not joined yet. A commit that goes on while it changes may be stored
// at either.
func (g *GroupConsumer) Generation() int32 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.member.id == "" {
		return -1
	}
	return g.member.generation
}

// Position is how far each partition of this member has been returned by Poll, or where it begins when that is known: in order of topics.
func (g *GroupConsumer) Position() []Position {
	g.mu.Lock()
	defer g.mu.Unlock()
	by := map[string]map[int32]int64{}
	for key, h := range g.held {
		if h.polled.offset < 0 {
			continue
		}
		if by[key.topic] == nil {
			by[key.topic] = map[int32]int64{}
		}
		by[key.topic][key.partition] = h.polled.offset
	}
	out := make([]Position, 0, len(by))
	for _, topic := range g.topics {
		if offsets := by[topic]; offsets != nil {
			out = append(out, Position{Topic: topic, Offsets: offsets})
		}
	}
	return out
}
