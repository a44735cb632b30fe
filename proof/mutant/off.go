//go:build !mutants

package mutant

// Built tells that mutants can be put on.
const Built = false

// On tells whether a mutant is on: never.
func On(Mutant) bool { return false }
