// Package history checks what clients of a log saw against what the log promises.
//
// Clients record every operation, with the times at which it was invoked and complete and what they know of its outcome: OK, Fail
// (not done, for good) or Info (nobody knows). Values are unique, so a value found anywhere names the operation that sent it. At the
// end fresh clients read every source to its end. [History.Check] then puts all that anybody said about an offset (final reads, polls,
// acknowledgements) beside each other and asks what Jepsen's workload for Kafka asks of a log without transactions, and some more:
//
//	lost-write               acknowledged, and not in the final reads (without these: polls read on both sides of it and nobody read it)
//	duplicate                a value at two offsets, or acknowledged at one and found at another
//	inconsistent-offsets     two values at one offset, for anyone at any time, acknowledgements included
//	reused-offset            two acknowledgements, or two appends of leaders, name one offset; or a lost range was filled again
//	gap                      an offset below the end without a record, outside of declared losses
//	phantom                  a value that nobody sent, or that was sent to another partition
//	aborted-read             (G1a) a record whose produce was answered with Fail
//	precommitted-read        polled, and at the end absent or another; or polled at or above a high watermark known then or later
//	sources-disagree         a final read lacks a record that another has, or has another value
//	unseen                   in the log, and polled by none of a set of consumers that should have (Options.MustSee)
//	poll-skip                a consumer's poll starts, or its first record lies, above known records that it needed next
//	nonmonotonic-poll        a consumer is given, or asks for, an offset below its position, without an assignment
//	int-poll-skip            one poll jumps over a known record
//	int-nonmonotonic-poll    the offsets of one poll, or of a final read, do not rise
//	stale-read               a linearizable poll lacks what was acknowledged before it began
//	nonmonotonic-send        a producer's acknowledged send lies before one that it had acknowledged before it began
//	realtime-send            the same between two producers
//	int-nonmonotonic-send    the records of one send are in the log in another order
//	high-watermark-back      an observation below one that was complete before it began; or the log ends below one
//	stale-generation-commit  a commit accepted after one of a later generation of the group
//	commit-back              a committed offset went back within a generation, and not by a Reset
//	lost-commit              a read, or an assignment, shows an offset that an accepted commit had replaced, or less
//	uncommitted-offset       a read, or an assignment, shows an offset that nobody committed, or whose commit was refused
//	wrong-query              count or sum differ from the final log below the position that the answer names
//	stale-query              an answer's position lies below what was acknowledged before the query began
//	two-leaders              two nodes appended at one epoch
//	epoch-back               an append at an epoch below one that was complete before it began
//	commit-register          commits and reads of one committed offset are not linearizable (Porcupine)
//	leader-register          appends of leaders are not linearizable as a register of epoch, node and end (Porcupine)
//	malformed                the history contradicts itself: a value sent twice, an unknown partition, a call that ends before it begins
//
// Three kinds are counted and allowed:
//
//	int-send-skip    a send's records do not follow each other: other producers wrote between its batches, or an unknown send went through in part
//	repeated-send    a value is there twice whose client sent it again without a producer id (Produce.MayRepeat): that is what it asked for
//	declared-loss    an acknowledged record is gone from a range that an operator gave up (History.Lost)
//
// And this is allowed, without being counted:
//
//   - A record of an unknown produce may be in the log or not, and may come late, behind later sends of its producer.
//   - A record that was read in a declared loss may be sent again, and stand behind it: it is declared-loss, not duplicate.
//   - A consumer may step over declared losses and what lies below the log start; who was given a record of such a range before keeps it.
//   - A consumer may go back where it was assigned. A manual assignment may be anywhere; a group's must be to a committed offset, or anywhere
//     before the first accepted commit, or to the log start or the end of a loss when what was committed is gone.
//   - An unknown commit may take effect at any time, also much later, or never. A negative generation is fenced by nothing.
//   - Queries with AsOf need not be fresh. An answer is not compared where final reads do not go back as far, or where a loss may have come after it.
//
// Write cycles (G0, G1c) need transactions, and none are recorded. Real time is compared strictly: operations that touch are concurrent.
//
// A check proves nothing about what was not recorded: callers look at [Report].Seen before they believe that nothing was found.
//
// # How it is fast
//
// Recording copies into chunks that never move, behind one mutex: 56 bytes a send, 8 a record read. The check gives each offset that
// anybody named a slot in flat arrays (offsets far apart form segments, so that a jump of 2^32 costs nothing) and each value an entry in one
// open table, and goes over everything a fixed number of times. All examples are texts that are made only while there is room for them.
// The report of a history is always the same. Only the registers start goroutines, and only when asked for.
package history
