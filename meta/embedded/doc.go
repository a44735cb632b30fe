// Package embedded runs a real etcd inside this process, for tidemark dev and for tests: one member, with its data in one
// directory.
//
// It is etcd as anybody runs it, down to its fsyncs; only what a laptop feels is set smaller: the files of its log, how many
// old ones it keeps, and the time of an election that a single member wins by itself. This process talks to it by function
// calls (Server.Client, Server.KV); for etcdctl and tests it also listens on a loopback port that is new at every start.
// Nothing listens for peers. History is not compacted by etcd but by meta.Compactor, as with an etcd outside.
package embedded
