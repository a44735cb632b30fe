//go:build !mutants

package mutant

// Built tells that bugs can be put on.
const Built = false

// On tells whether a bug is on: never.
func On(Bug) bool { return false }
