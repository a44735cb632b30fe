package group

import "time"

// Effects is what the caller does after a step. Slices and bytes in it are never changed later; they may be shared between
// replies, so they are only read.
type Effects struct {
	// Replies are the calls that have their answers now, this event's and others'.
	Replies []Reply
	// Store must be made durable; then comes Stored or StoreFailed. There is one at a time: while its outcome is in doubt the
	// same is tried again. Nil: nothing to store.
	Store *Snapshot
	// Wake is when a Tick is due at the latest. Zero: not before the next event. It counts until the next Effects.
	Wake time.Time
}

// Reply answers one call. With an error the result is nil, but for ErrMemberIDRequired, whose Join has the MemberID.
type Reply struct {
	Token Token
	Err   error
	Join  *JoinResult
	Sync  *SyncResult
	Leave *LeaveResult
}

// JoinResult is a member's place in a generation.
type JoinResult struct {
	Generation int32
	MemberID   string
	// Leader is the id of the leader. When it is the member's own, the member is to assign and to bring the outcome with Sync.
	Leader                 string
	ProtocolType, Protocol string
	// Members is for the leader.
	Members []JoinedMember
	// SkipAssignment: the leader came back; the assignments stand and it brings none.
	SkipAssignment bool

	// Assigned is what a subscribed member reads in this generation, sorted. It gives up everything else now.
	Assigned []TopicPartition
	// Revoked is what the group knows or heard of this member that is not in Assigned, sorted.
	Revoked []TopicPartition
	// Acknowledge: others wait for what is in Revoked. When it is given up, say so by Heartbeat or by Join, within the rebalance
	// timeout.
	Acknowledge bool
	// Withheld: partitions of the group wait until who has them gives them up; another generation will give them out.
	Withheld bool
}

// JoinedMember is what the leader gets to know of a member.
type JoinedMember struct {
	MemberID, InstanceID string
	// Metadata of the protocol that was chosen.
	Metadata []byte
}

// SyncResult is a protocol member's assignment.
type SyncResult struct {
	ProtocolType, Protocol string
	Assignment             []byte
}

// LeaveResult has one entry for each of Leave.Members, in their order.
type LeaveResult struct{ Members []LeftMember }

// LeftMember is what came of one of them.
type LeftMember struct {
	MemberID, InstanceID string
	Err                  error
}

// Snapshot is what of a rebalance must be durable before its members hear of it.
type Snapshot struct {
	Generation             int32
	ProtocolType, Protocol string
	// Members is how many members the generation has.
	Members int
	// Digest is SHA-256 over the sorted member and instance ids, each behind its length.
	Digest [32]byte
}

// Restored is what was stored of the group before; the zero value for a new group.
type Restored struct {
	// Generation: the next one is higher.
	Generation int32
	// Members is the Snapshot's. The first rebalance waits for as many, up to Limits.TakeoverDelay, and the group does not count as empty
	// before Limits.ReturnDelay after At.
	Members int
	// At is when the group was taken over.
	At time.Time
}
