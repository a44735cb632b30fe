package sandbox

import (
	_ "embed"
	"maps"
	"slices"
	"strings"
)

// The functions of DuckDB 1.5.6, one a line, # begins a comment. A name is in both when it is a function that may be called, and a table or
// a pragma that may not. functions_test.go writes the first (go test -update) and holds both against the engine.
var (
	//go:embed functions.txt
	functionsText string
	//go:embed denied.txt
	deniedText string
)

var (
	// allowedFunctions are those of expressions: scalar, aggregate, window and macro functions, and operators.
	allowedFunctions = readAllowed(functionsText)
	// deniedFunctions are the others, each with the reason.
	deniedFunctions = readDenied(deniedText)
	// tableFunctions are those of FROM: they make rows of their arguments alone.
	tableFunctions = words("unnest", "generate_series", "range", "json_each", "json_tree", "repeat")
	// functionNames are all that may be called, in order, to suggest from.
	functionNames = slices.Sorted(maps.Keys(allowedFunctions))
)

func readAllowed(text string) map[string]bool {
	m := make(map[string]bool)
	for line := range strings.Lines(text) {
		if name := strings.TrimSpace(line); name != "" && !strings.HasPrefix(name, "#") {
			m[fold(name)] = true
		}
	}
	return m
}

func readDenied(text string) map[string]string {
	m := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, reason, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			m[fold(name)] = reason
		}
	}
	return m
}
