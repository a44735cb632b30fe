// Package killtest holds the tests that kill the process.
//
// TestKill: tidemark dev runs as a user runs it, a producer never stops, and
// again and again the process dies without a word. After each restart every record that was acknowledged is in the log once,
// at the offset that the acknowledgement named, in order; and SQL counts exactly the records that a consumer reads up to the position of its
// answer, which lies above every acknowledgement. A short form runs with the other tests; `make kill` kills fifty times for each durability.
//
// TestKillMatrix: a node dies at each point of package failpoint, that is on either side of each durable step, under load on each durability.
// Then it starts again, or the other node goes on where a partition was on its way, and the history of all clients is checked (package
// history): what was acknowledged is there once, in order, without a hole; what was refused is not; nobody read what is not there in the end;
// what a group committed did not go back. A point that is not met is a failure.
//
//	log, store, commit, ack, trim, fold   one node dies under load and starts again
//	start                                 one node is killed under load, and dies again while it starts
//	release                               of two nodes, the one that is drained, or that stops, dies letting go
//	assign                                of two nodes, the one that controls dies moving what the other has let go; or one node, with a new topic
//	group                                 one node dies writing what a member of a consumer group commits
//
// Of two nodes the survivor goes on alone on object, after the dead one's lease; on disk the dead one has to come back. The short form
// has each point once on each durability; `make kill-matrix` has a second time, or another occasion, of each.
package killtest
