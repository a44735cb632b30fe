// Package mutant names the mutants that Tidemark's proofs must be able to find. Each stands for a rule of the protocol: with the
// mutant on, the code does what it did before the rule was known, and a simulation must see records lost, doubled or changed.
//
// A normal build has none of it: On is a constant false there, and the compiler drops what it guards. With the build tag
// mutants one of them at a time can be put on:
//
//	go test -tags mutants -run TestMutants ./ingest
//
// docs/guarantees.md has the rule and the trace behind each name.
package mutant
