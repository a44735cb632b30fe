// Package group is the coordinator of a consumer group as one step machine: an event goes in, effects come out. It has no
// clock, does no I/O and starts no goroutine; it imports nothing of ours. The Kafka listener and the group service feed the
// same machine, and see to what it asks for: answers, a tick, one record in etcd.
//
//	Join, Sync, Heartbeat, Leave, Delete ─►┌───────┐─► Replies  to these calls, and to those that waited
//	CheckCommit ──────────────────────────►│       │
//	Tick, Cancel, PartitionsChanged ──────►│ Group │─► Wake     when a Tick is due
//	Stored, StoreFailed, Resign ──────────►└───────┘─► Store    what must be durable before members hear of it
//
// # Two kinds of members
//
// Protocol members are Kafka's: their metadata is opaque, one of them, the leader, gets that of all, assigns, and brings the
// assignments with its Sync (the classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup).
//
// Subscribed members name topics, a strategy and what they own. The coordinator assigns (Assign), and the answer to Join
// carries the assignment: they have no Sync. A group has members of one kind at a time.
//
// # States
//
//	          first join                     all joined, or the slowest had its time
//	┌───────┐ ─────────► ┌────────────────────┐ ──────────► ┌─────────────────────┐
//	│ Empty │            │ PreparingRebalance │  Store{n+1} │ CompletingRebalance │──┐ Stored: joins are answered,
//	└───────┘ ◄───────── └────────────────────┘ ◄────────── └─────────────────────┘◄─┘ leader's Sync is awaited
//	          last left       ▲                  join, leave,   │ leader's Sync; Stored when the members
//	                          │                  timeout        ▼ are subscribed
//	                          │ join, leave, timeout,       ┌────────┐
//	                          └──────────────────────────── │ Stable │       any ── StoreFailed, Resign ──► Dead
//	                            new partitions, follow-up   └────────┘     Empty ── Delete ──────────────► Dead
//
// A rebalance completes in two steps. When all have joined, the machine asks for a Store of the next generation; the answers
// to the joins go out with Stored. What happens in between (a join, a member that leaves) begins the next rebalance at once, in
// which the waiting joins count; the stored generation is passed over, and nobody hears of it. One Store is on its way at a
// time. So members that arrive together, while the first of them is being stored, meet in the second generation.
//
// # What a rebalance waits for
//
//   - Every member's join, and ids that were given out and have not come back yet (MEMBER_ID_REQUIRED), for as long as the
//     longest rebalance timeout of the members that were there when it began. Who is late then is removed; a static member
//     stays until its session expires.
//   - After an empty group, InitialDelay. After a takeover, as many members as there were, for TakeoverDelay.
//   - The outcome of the Store. After a rebalance timeout the joins get COORDINATOR_NOT_AVAILABLE, and members ask again.
//   - The leader's Sync, and then everybody's, for a rebalance timeout. Who has not synced then is removed.
//
// The session of a member runs while none of its calls waits, and only a Tick ends it: a heartbeat that arrives before the
// tick that would have missed it counts, also when the coordinator itself was late.
//
// # Cooperative members
//
// With CooperativeSticky members go on reading while they rebalance. holds is, for each partition, the one member that may be
// reading it: it was assigned to it, or claimed by it in Join.Owned, and since then not given up.
//
//	generation n     A: 0 1 2 3                          B joins
//	generation n+1   A: 0 1      revoked 2 3             B: nothing, withheld: 2 3 are its target, but A holds them
//	                 A stops reading 2 3, says so by Heartbeat{Acknowledged} or by Join{Owned: 0 1}
//	generation n+2   A: 0 1                              B: 2 3
//
// The follow-up begins when all members that others wait for have acknowledged. Who has not within its rebalance timeout is
// removed. Members that do not change join the follow-up too, and go on reading meanwhile.
//
// The eager strategies have members give up everything before they join, so nothing is withheld, but from a static member
// that is still counted as there and has not joined.
//
// # Static members
//
// A process that joins without member id, but with an instance id that is there, takes that member's place under a new member
// id. The old id is fenced. When the group is stable and the subscription is the same, it gets the assignment back at once:
// no rebalance, and nobody else notices.
//
// # Takeover
//
// Only the generation and the number of members are stored. Until the first rebalance of a new coordinator completes, a member
// of the one before is told REBALANCE_IN_PROGRESS, joins under the id that it has, and claims what it owns: a cooperative member
// goes on reading. Whoever comes later is unknown and joins as a new member. For ReturnDelay, or until they have left, such members count
// though nobody has come back: the group can be neither deleted nor changed from outside.
//
// # Guarantees
//
//   - In one generation no partition is assigned to two subscribed members.
//   - With CooperativeSticky a partition goes to a member only after the member that held it has said it gave it up, has left,
//     or was removed. A coordinator knows of holders only what it assigned and what members claimed: after a takeover a member
//     that has not joined again within TakeoverDelay counts as removed.
//   - Generations only rise, across coordinators too, and members hear only of those that were stored.
//   - A sync, heartbeat or commit with any other than the member's last generation is refused, and so is one under a member id
//     that was removed or fenced.
//   - Every call is answered exactly once, or canceled. One that waits has a deadline, which Wake covers.
//   - When members join, sync, acknowledge and heartbeat in time, and the store answers, the group becomes stable: at the
//     latest two generations after the last change.
//   - Ids, metadata, subscriptions, members and claims are checked against Limits before any of them is kept.
//   - The same events at the same times have the same effects.
//
// What it does not do: a takeover is a rebalance, also for static members, and of two processes that live under one instance id
// the first to come then stays. Members with another strategy cannot join while others are there.
//
// # Files
//
//	event.go, effects.go, errors.go, limits.go   what goes in, comes out, is refused and is bounded
//	group.go                                     the machine: its state, waiting calls, members that go
//	member.go, subscription.go                   a member, and when two subscriptions are the same
//	join.go                                      who may join, and what a join leads to
//	rebalance.go                                 prepare, complete, stored, release
//	sync.go, heartbeat.go                        Sync; Heartbeat, CheckCommit and Leave
//	subscribed.go                                targets, holders, withholding, acknowledging
//	timeouts.go                                  Tick
//	describe.go                                  the read model
//	memory.go                                    what a group takes in memory, and what an event would add
//	assign.go, assign_sticky.go                  the assignors: pure functions
package group
