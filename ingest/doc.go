// Package ingest is the node that owns partitions: it takes batches, makes them durable, makes them part of the log and
// gives them back.
//
//	produce ──► admission ──► partition ──► log on disk ──► flush ──► object store ──► commit in etcd
//	             may delay     gives the     one for all     one object   PUT, again      one at a time,
//	             or refuse     offset        partitions      for all      and again       in order
//	                              │              │                                          │
//	                              │              └── acks=1, durability=disk                └── durability=object
//	                              └── the tail: what memory and the log have
//	fetch ───► the tail, and below it the objects that the index names
//
// # Machines
//
// Everything that decides is a step machine: an event goes in, effects come out, and there is no clock, no I/O and no
// goroutine inside.
//
//	partition   offsets, producers' sequences, the high watermark, who may be answered      partition.go, producers.go
//	admission   which produces get in; delays and refuses before an offset is given         backpressure.go
//	tail        what is appended and may not be in the index yet; bytes in memory           tail.go
//	flusher     when an object is cut                                                       flush.go
//	committer   one transaction after the other, and what its answer means                  commit.go
//	fetcher     who gets what now and who waits                                             fetch.go
//	lease       keep-alives, and when promises that rest on this disk alone must wait       lease.go
//
// core (core.go, core_flush.go, core_lead.go, core_release.go, core_fetch.go) is their wiring: its methods are all the events of one incarnation, and the interface outside is all that
// it can do to the world. incarnation (incarnation.go) runs a core on one goroutine, the loop, performs its effects on
// others, and posts what comes of them back to the loop. So a simulation can run the same core through any order of events
// (sim_test.go), and does.
//
// An incarnation is one registration in etcd. When its lease is lost it ends: whoever waits is told OUTCOME_UNKNOWN,
// everything volatile goes, and Node (node.go) begins another one from the log on disk. A Node ends by itself only for what
// another incarnation cannot mend: a failed fsync, a log that lost what others know it had, another node with this name.
//
// # Start
//
// In this order, and no other (start.go):
//
//  1. Register: one transaction writes nodes/<id> and heads/<id>. From here on no commit of an earlier incarnation can
//     succeed, however late it arrives.
//  2. Read assignment, releases and log at one revision, at or above that.
//  3. Open the log on disk. Its recovered tail is durable before anybody reads it. Replay what was written at the epochs
//     that are still assigned.
//  4. Lead.
//
// # Outcomes of a commit
//
// A commit compares the revisions of nodes/<id>, assign/<id> and heads/<id>, and puts the record of one object and the head.
//
//	done         it succeeded, or the head shows this incarnation at this sequence or above
//	refused      one snapshot shows the head below and a guard changed: no copy can ever succeed. Batches whose epoch is no
//	             longer assigned are excluded and get NOT_LEADER; the rest is committed anew
//	in doubt     anything else. The same transaction is sent again until etcd decides. Until then nobody is answered, no
//	             offset is used again, no assignment is applied and nothing is deleted
//	superseded   another incarnation has the head. What is open stays open: OUTCOME_UNKNOWN
//
// The epoch counts, not membership: a partition that went to another node and came back is assigned again, but what was
// appended before has lost its offsets. docs/architecture.md tells why each rule is there.
//
// # Letting go
//
// A partition moves when its node lets it go (core_release.go): because the controller asked for it, or because the node is being drained or
// stops, and somebody else could lead. It takes nothing more, what has offsets is flushed at once, and the transaction of its last
// commit puts it into release/<id>, with its epoch. What has nothing to commit goes with whatever is sent next, or alone; all that is ready
// goes together, so that a thousand partitions cost one object and a commit or two. From then on this node does not lead the
// partition at that epoch, also when it died before it heard that the transaction had applied. A partition with durability=disk never moves
// otherwise, unless an operator gives its disk up.
//
// A partition that is assigned and not led yet, because a commit is under way or the index is a moment behind, is waited for: produces
// as long as for room, fetches as long as they say.
//
// # Guarantees
//
//   - What was acknowledged with acks=all is readable at its offset for ever: on durability=object once it is in the object
//     store and committed, on durability=disk once it is synced on the leader's disk. With acks=1 the leader's log has it,
//     and on durability=object it may still be lost; nobody can have read it then.
//   - Offsets of a partition join and are never used twice. A batch that has an offset goes only with its whole uncommitted
//     suffix, and that only with leadership.
//   - Nobody reads at or above the high watermark, and it does not go back. One exception: when a topic is changed from disk
//     to object and its node starts anew before the next flush, the mark begins at the committed end and rises to where it
//     was with that flush; the records stay where they were.
//   - A retry of an idempotent produce gets the offsets of its first attempt, across restarts and leaders. While the first
//     attempt is pending the retry waits with it. That is so for the 10,000 producers of a partition that were the last to append
//     to it; others are forgotten, and are told UNKNOWN_PRODUCER unless they begin anew.
//   - NOT_LEADER, UNKNOWN_TOPIC, BACK_PRESSURE and UNAVAILABLE say that nothing of the batch is or will be in the log.
//     OUTCOME_UNKNOWN, TIMEOUT and CANCELED claim nothing.
//   - Memory is bounded: bytes before the log, before the commit, parked, cached and in uploads each have a limit, and
//     fetches are capped.
//   - The bytes that a producer sent are the bytes in log, object and answer; the node writes only base offset and leader
//     epoch, which no checksum of the producer covers.
//   - No clock decides anything of this but one: acknowledgements on disk stop when the last confirmed keep-alive is older
//     than the lease.
//
// # Files
//
//	node.go incarnation.go start.go    lives of a node, the loop, the order of a start
//	produce.go read.go topics.go       what callers call: ProduceAsync, Fetch, topics
//	fetch_parts.go offset_parts.go     the same for partitions of many topics: FetchParts, PartStates, FirstSince, EpochEnd
//	read_plan.go                       the bytes of a fetch, gathered
//	append.go upload.go                the goroutines that write and sync the log, build and store objects
//	fold.go sweep.go                   small objects merged; what nothing refers to deleted
//	acks.go errors.go telemetry.go     words that leave the node
//	queue.go                           a list with two ends
//	controller.go                      who gives out partitions, on the node that does
//	route*.go peers.go metadata.go     calls on their way to the node that they concern
//	groups*.go                         consumer groups: coordinators over the machine of package group
//	service*.go                        the Connect services and the HTTP intake over all of it
//	wal/                               the log on disk
package ingest
