package group

import "time"

// Token names a call that expects an answer. The caller chooses it; among the calls that wait in one group each is there once.
type Token uint64

// Event is what can happen to a group. The machine copies what it keeps of bytes and slices; an event may be used again.
type Event interface{ isEvent() }

// Join asks to be, or to stay, a member. It is answered when the rebalance it belongs to is durable, or at once when none is
// needed.
type Join struct {
	Token Token
	// MemberID is the id of the last answer; empty for a new member, and for an instance that starts anew.
	MemberID string
	// NewMemberID is the id for a member that has none: drawn by the caller, never used before.
	NewMemberID string
	// RequireKnownMemberID gives a new member without an instance id its id first (MEMBER_ID_REQUIRED), and makes it a member
	// when it joins with it. So a caller whose answers get lost leaves no members behind.
	RequireKnownMemberID bool
	// InstanceID makes a static member: a process that comes back under this name takes its old place. Empty: none.
	InstanceID string
	// ClientID and Host are kept for Describe.
	ClientID, Host string
	// SessionTimeout is how long the member may be silent.
	SessionTimeout time.Duration
	// RebalanceTimeout is how long a rebalance waits for this member. 0 or below: as SessionTimeout.
	RebalanceTimeout time.Duration

	// ProtocolType and Protocols make a protocol member, most wanted protocol first.
	ProtocolType string
	Protocols    []Protocol
	// SkipAssignment: the caller knows JoinResult.SkipAssignment (JoinGroup v9 and later).
	SkipAssignment bool

	// Subscription makes a subscribed member; then there are no Protocols.
	Subscription *Subscription
}

// Protocol is a way to assign that a protocol member knows, with its opaque metadata.
type Protocol struct {
	Name     string
	Metadata []byte
}

// Subscription is what a subscribed member wants, and what it has.
type Subscription struct {
	Topics []string
	// Strategy is the same for all members of a group. Empty: CooperativeSticky.
	Strategy Strategy
	// Owned is what the member reads at this moment and goes on reading while it waits. It must not name what the member gave
	// up: naming all it has is how it acknowledges a revocation. Eager strategies own nothing when they join.
	Owned []TopicPartition
	// Partitions is how many partitions the topics have, as far as the caller knows now. Topics that are not in it keep the
	// number that the group knows; 0 when it knows none.
	Partitions map[string]int32
}

// Sync is a protocol member that asks for its assignment; the leader brings those of all.
type Sync struct {
	Token      Token
	MemberID   string
	InstanceID string
	Generation int32
	// ProtocolType and ProtocolName are compared with the group's when they are not empty.
	ProtocolType, ProtocolName string
	// Assignments by member id, from the leader. Members without one get an empty one.
	Assignments map[string][]byte
}

// Heartbeat is a sign of life. It is answered at once.
type Heartbeat struct {
	Token      Token
	MemberID   string
	InstanceID string
	Generation int32
	// Acknowledged: a subscribed member has given up everything that is not in its assignment of this generation.
	Acknowledged bool
}

// Leave removes members. It is answered at once, with one result for each.
type Leave struct {
	Token   Token
	Members []LeavingMember
}

// LeavingMember names a member by its id, or a static one by its instance id alone.
type LeavingMember struct{ MemberID, InstanceID string }

// Delete makes an empty group dead, before what is stored of it is removed. It is answered at once; while a Store has no outcome
// it is to be sent again.
type Delete struct{ Token Token }

// Tick says that time has passed. Only a Tick removes members for being silent or late.
type Tick struct{}

// PartitionsChanged tells that topics were made, grew or were deleted (0). Topics without a subscriber are ignored; a group
// of subscribed members rebalances when anything changed.
type PartitionsChanged struct{ Partitions map[string]int32 }

// Cancel says that the caller of a waiting join or sync went away: it gets no answer. A member whose id nobody was told is
// removed; any other must be heard of within its session timeout.
type Cancel struct{ Token Token }

// Stored says that the Snapshot of this generation is durable.
type Stored struct{ Generation int32 }

// StoreFailed says that it never will be, because another node coordinates the group.
type StoreFailed struct{ Generation int32 }

// Resign says that this node coordinates the group no more, for whatever reason: everyone who waits gets ErrNotCoordinator.
type Resign struct{}

func (Join) isEvent()              {}
func (Sync) isEvent()              {}
func (Heartbeat) isEvent()         {}
func (Leave) isEvent()             {}
func (Delete) isEvent()            {}
func (Tick) isEvent()              {}
func (PartitionsChanged) isEvent() {}
func (Cancel) isEvent()            {}
func (Stored) isEvent()            {}
func (StoreFailed) isEvent()       {}
func (Resign) isEvent()            {}
