package group

import (
	"bytes"
	"slices"
	"time"
)

// member is one member of the group. It stays the same member when another process takes over its instance id; only its id
// changes then.
type member struct {
	id, instance     string
	clientID, host   string
	order            uint64 // of arrival
	sessionTimeout   time.Duration
	rebalanceTimeout time.Duration
	// told: somebody outside knows the id, so the member can come back under it.
	told bool
	// silentUntil is when the session expires. It counts only while no call of the member waits.
	silentUntil time.Time
	// generation is the last one that it was told, or would have been had its call been there; -1 before.
	generation int32

	// The calls that wait. joining.open is what "has joined this rebalance" means.
	joining, syncing call

	wants
	// bytes is what wants counts for, kept what the member takes in memory with it.
	bytes, kept int

	// assignment is a protocol member's, from the leader of this generation; synced says that it was asked for.
	assignment []byte
	synced     bool

	// A subscribed member's, sorted. assigned is what it may read in the generation that was told; next, in the one that is being
	// stored; target, what it gets in the end.
	assigned, next, target []TopicPartition
	// holds is everything that it may be reading, a superset of the truth at any time. No two members hold the same, and from
	// being told until the next join assigned ⊆ holds.
	holds map[TopicPartition]struct{}
	// blocks: others wait for what it holds beyond assigned, until blocksUntil.
	blocks      bool
	blocksUntil time.Time
}

// call is a join or sync that may wait.
type call struct {
	token Token
	open  bool
}

func (m *member) waits() bool { return m.joining.open || m.syncing.open }

// wants is what a member joined for: protocols, or topics and a strategy.
type wants struct {
	kind         kind
	protocolType string
	protocols    []Protocol
	topics       []string // sorted, each once
	strategy     Strategy
}

// kind is what sort of members a group has.
type kind int

const (
	noKind kind = iota
	// protocolKind: the leader assigns.
	protocolKind
	// subscribedKind: the coordinator assigns.
	subscribedKind
)

// metadata of a protocol; nil when the member does not know it.
func (w *wants) metadata(protocol string) []byte {
	for _, p := range w.protocols {
		if p.Name == protocol {
			return p.Metadata
		}
	}
	return nil
}

func (w *wants) knows(protocol string) bool {
	return slices.ContainsFunc(w.protocols, func(p Protocol) bool { return p.Name == protocol })
}

// equal says whether both want the same, to the byte.
func (w *wants) equal(other *wants) bool {
	return w.kind == other.kind && w.protocolType == other.protocolType && w.strategy == other.strategy &&
		slices.Equal(w.topics, other.topics) &&
		slices.EqualFunc(w.protocols, other.protocols, func(p, q Protocol) bool {
			return p.Name == q.Name && bytes.Equal(p.Metadata, q.Metadata)
		})
}

// sameSubscription says whether an assignment made for w also suits other. Metadata of consumers is compared by its topics:
// what else is in it (owned partitions, generation) changes with every restart.
func (w *wants) sameSubscription(other *wants) bool {
	return w.kind == other.kind && w.protocolType == other.protocolType && w.strategy == other.strategy &&
		slices.Equal(w.topics, other.topics) &&
		slices.EqualFunc(w.protocols, other.protocols, func(p, q Protocol) bool {
			return p.Name == q.Name && sameTopics(w.protocolType, p.Metadata, q.Metadata)
		})
}
