package history

import (
	"fmt"
	"io"
	"strings"
)

// Finding is what was found of one kind.
type Finding struct {
	Count    int      // of occurrences
	Examples []string // the first of them, with the operations that show it
}

// Seen counts what a verdict rests on. A check of nothing finds nothing: callers should ask for numbers.
type Seen struct {
	Acked, Failed, Unknown int // records sent, by outcome
	Polls, Polled          int // polls, and records in them
	Final                  int // records of final reads, all sources together
	Commits, Fetches       int // commits that were OK, and reads of committed offsets
	Queries, Answers       int // queries, and their answers about a partition
}

// Report is the verdict on a history.
type Report struct {
	Anomalies map[Kind]Finding // found at least once, allowed kinds included
	Unknown   []string         // registers that could not be decided in time
	Seen      Seen
}

// Bad returns the kinds that were found and are not allowed, in the order of the package's documentation; nil for a history that is as it should be.
func (r Report) Bad() []Kind {
	var bad []Kind
	for _, k := range kinds {
		if r.Anomalies[k].Count > 0 && !k.Allowed() {
			bad = append(bad, k)
		}
	}
	return bad
}

// Write prints what was seen and found, a line for each kind, then the examples.
func (r Report) Write(w io.Writer) error {
	var b strings.Builder
	s := r.Seen
	fmt.Fprintf(&b, "sent: %d acknowledged, %d failed, %d unknown; polled: %d in %d polls; final reads: %d; commits: %d, reads of them: %d; queries: %d\n",
		s.Acked, s.Failed, s.Unknown, s.Polled, s.Polls, s.Final, s.Commits, s.Fetches, s.Queries)
	if len(r.Bad()) == 0 {
		b.WriteString("no anomaly\n")
	}
	for _, k := range kinds {
		if f, ok := r.Anomalies[k]; ok {
			allowed := ""
			if k.Allowed() {
				allowed = "  allowed"
			}
			fmt.Fprintf(&b, "%-24s %9d%s\n", k, f.Count, allowed)
		}
	}
	for _, k := range kinds {
		for i, example := range r.Anomalies[k].Examples {
			fmt.Fprintf(&b, "\n%s, example %d: %s\n", k, i+1, example)
		}
	}
	for _, u := range r.Unknown {
		fmt.Fprintf(&b, "\nundecided: %s\n", u)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write report of a history: %w", err)
	}
	return nil
}
