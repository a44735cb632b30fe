// Package meta is what Tidemark keeps in etcd: topics, nodes, who leads what, and the commits that make objects part of the log.
//
// # Layers
//
// KV is the seam: transactions, listings at one revision, watches by whole revisions, leases. NewEtcd is the real one, package
// embedded runs a real etcd inside the process, package metafake is the one of tests, with faults, and package metatest is the
// contract of all. DialEtcd connects.
//
// Client changes things: Register, LeadEverything, CreateTopic, SwapPointer and the others. Keys.CommitTxn and Keys.DecideCommit
// are the commit as two pure functions; sending it, and sending it again, is the node's part (package ingest).
//
// Follower reads: it keeps the log's index, which is everything under the cluster's prefix at one revision.
//
// Compactor forgets history.
//
// # One write is one transaction
//
//	          compares                                  puts                                  deletes
//	register  nodes/<id>, heads/<id>                    nodes/<id> (lease), heads/<id>
//	assign    placement, controller, nodes/<id>         placement, assign/<id>, controller (lease)
//	commit    nodes/<id>, assign/<id>, heads/<id>       heads/<id>, l0/..., release/<id>      l0/... that it replaces
//	create    topics/<name>, deleted/<topic id>         topics/<name>
//	alter     topics/<name>                             topics/<name>
//	delete    placement, topics/<name>                  placement, deleted/<topic id>,        topics/<name>
//	                                                    assign/<id> of who led it
//	ids       producers/next                            producers/next
//	swap      the pointer                               the pointer
//
// Every one of them writes a key whose mod revision it compares. So among copies of one transaction, and among plans from
// one state, at most one takes effect, however late the others arrive. Revisions never come back, so what was refused
// once is refused for ever. Leases only say who is alive; nothing rests on them alone.
//
// # In doubt
//
// An error of a transaction says nothing about its outcome: it may have taken effect, or may yet. There are two ways on. A commit
// and a swap of a pointer stand for bytes that are stored already: the same transaction is sent again until etcd decides, and the
// decision is read from a key that outlives it. Everything else is planned anew from a fresh read, which shows what an earlier copy
// did; a copy that is still on its way finds its compares changed. An operation ends with its context, and then says that
// its outcome is not known; or at once where repeating is of no use: a value that cannot be read, a lease that is gone, an etcd
// that was restored.
//
// # The index
//
// The follower lists once, at one pinned revision, and applies one watch, whole revisions in order; a listing follows only when the
// watch's history was compacted. A fold takes records away and puts the one that stands for them in one revision, so that a
// reader never sees a hole, and blocks of a partition that do not join are an error of that partition (Follower.Hole), never a shorter
// or longer log. Ends never go back. A block takes about 125 bytes of memory.
//
// # Restores
//
// Compares cannot see that etcd was restored from a backup. The client remembers the highest revision and etcd's cluster id
// (Client.Seen), and refuses an answer from below or from another etcd with ErrRestored, for good. The node keeps both in its data
// directory and hands them to its next life (Config.LowestRevision, Config.EtcdCluster).
//
// The keys and values are drawn in docs/formats/etcd.md.
package meta
