package group

import "time"

// Limits bound what a group takes from its members, in memory and in time. A field that is zero or below has its default;
// the two delays have 0 and 3 s, and a negative TakeoverDelay is none.
type Limits struct {
	// MinSessionTimeout and MaxSessionTimeout bound the session timeout of a member: 1 s and 30 min.
	MinSessionTimeout, MaxSessionTimeout time.Duration
	// MaxRebalanceTimeout cuts longer rebalance timeouts: 1 h. It bounds how long a join may wait.
	MaxRebalanceTimeout time.Duration
	// InitialDelay holds the first rebalance of an empty group open, so that members that start together meet in it: 0. Each
	// new member begins it anew, within the rebalance timeout.
	InitialDelay time.Duration
	// TakeoverDelay is how long the first rebalance after a takeover waits for as many members as the group had: 3 s.
	TakeoverDelay time.Duration
	// ReturnDelay is how long after a takeover a group that had members counts as one with members, though none has come back: 45 s, which is
	// the usual session timeout. Until then nobody can change or delete it from outside.
	ReturnDelay time.Duration
	// MaxMembers caps members, and ids given to members that have not come yet: 1,000.
	MaxMembers int
	// MaxMemberBytes caps protocols and topics of a member, and its assignment when the leader sends it: 256 KiB.
	MaxMemberBytes int
	// MaxGroupBytes caps the same over all members: 4 MiB.
	MaxGroupBytes int
	// MaxGroupMemory caps what a group takes in memory, as Group.Memory counts, when a member joins: 64 MiB.
	MaxGroupMemory int
	// MaxProtocols caps the protocols of a member: 32.
	MaxProtocols int
	// MaxTopics caps the topics of a subscription: 1,000.
	MaxTopics int
	// MaxPartitions caps the partitions of all topics to which members of the group are subscribed, when a member joins;
	// topics that grow later are not refused. It also caps what a member may claim to own. 50,000.
	MaxPartitions int
}

// maxIDBytes caps member ids, instance ids, and names of protocols and topics. Client ids and hosts are only for people: they
// are cut there.
const maxIDBytes = 255

func (l Limits) withDefaults() Limits {
	positive(&l.MinSessionTimeout, time.Second)
	positive(&l.MaxSessionTimeout, 30*time.Minute)
	positive(&l.MaxRebalanceTimeout, time.Hour)
	positive(&l.ReturnDelay, 45*time.Second)
	positive(&l.MaxMembers, 1000)
	positive(&l.MaxMemberBytes, 256<<10)
	positive(&l.MaxGroupBytes, 4<<20)
	positive(&l.MaxGroupMemory, 64<<20)
	positive(&l.MaxProtocols, 32)
	positive(&l.MaxTopics, 1000)
	positive(&l.MaxPartitions, 50_000)
	l.InitialDelay = max(l.InitialDelay, 0)
	if l.TakeoverDelay == 0 {
		l.TakeoverDelay = 3 * time.Second
	}
	return l
}

func positive[N ~int | ~int64](value *N, fallback N) {
	if *value <= 0 {
		*value = fallback
	}
}
