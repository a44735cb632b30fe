// Package metafake is a metadata store in memory, for tests: meta.KV with revisions, leases, compaction and watches as etcd
// has them, and with faults that etcd shows rarely.
//
// It obeys package metatest, the contract that etcd obeys too. Nothing in it happens by itself, unless it was given a clock
// for its leases: what a test does in one order has one outcome. Faults fall on transactions chosen by number (FailTxns) or by
// a function that sees each of them (OnTxn):
//
//	LoseReply   the transaction takes effect, its caller gets an error
//	Drop        it never takes effect, its caller gets an error
//	Delay       it is held: its caller waits, until Release lets it take effect or the caller's context ends
//	Detach      it is held, and its caller gets an error at once
//
// The caller cannot tell these apart, which is the point: each is "in doubt". Besides, the whole store can be unavailable or
// full, and can hold back what its watches deliver.
package metafake
