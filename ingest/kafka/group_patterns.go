package kafka

import (
	"context"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
)

// Patterns of topics. A short one may be a large program that takes its time with each name. So its size is bounded and counted, members that want the same
// pattern share it with what it matches, and the topics are matched by one of all members at a time.

// Limits of patterns of topics.
const (
	// maxPatterns is how many different ones the members of a node may want.
	maxPatterns = 1000
	// maxPatternBytes caps the text of one, and maxPatternSteps the steps of the program that it becomes.
	maxPatternBytes = 1 << 10
	maxPatternSteps = 500
	// stepBytes is about what a step takes, and patternBytes what a pattern takes that has few.
	stepBytes    = 200
	patternBytes = 2 << 10
	// matchedAtOnce is how many names are matched before others may match theirs.
	matchedAtOnce = 100
)

// pattern is one that whole names of topics are to match.
type pattern struct {
	text       string
	expression *regexp.Regexp
	bytes      int64
	members    int // that want it, as the subscribers count under their mu

	// looking is held by who looks, and guards what matched at a revision of the topics: -1 for none.
	looking  chan struct{}
	revision meta.Revision
	matched  []string
}

// pattern is the one of a text, nil for none: one that members want, or a new one.
func (s *subscribers) pattern(text string) (*pattern, error) {
	if text == "" {
		return nil, nil
	}
	s.mu.Lock()
	known := s.patterns[text]
	s.mu.Unlock()
	if known != nil {
		return known, nil
	}
	return readPattern(text)
}

// readPattern compiles a pattern.
func readPattern(text string) (*pattern, error) {
	invalid := func(why string) error { return refuse(kerr.InvalidRegularExpression, "pattern of topics: %s", why) }
	if len(text) > maxPatternBytes {
		return nil, invalid(fmt.Sprintf("it has %d bytes, at most %d are allowed", len(text), maxPatternBytes))
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, invalid(err.Error())
	}
	steps := stepsOf(parsed)
	if steps > maxPatternSteps {
		return nil, invalid(fmt.Sprintf("it is too large: repetitions written out it has more than %d steps", maxPatternSteps))
	}
	expression, err := regexp.Compile(`^(?:` + text + `)$`)
	if err != nil {
		return nil, invalid(err.Error())
	}
	return &pattern{
		text: text, expression: expression, bytes: patternBytes + int64(steps)*stepBytes, looking: make(chan struct{}, 1), revision: -1,
	}, nil
}

// stepsOf is about how many steps a pattern becomes, no less than that, found before any repetition is written out. A class of many letters counts as several.
func stepsOf(r *syntax.Regexp) int {
	const lettersOfStep = 12
	steps := 1 + len(r.Rune)
	if r.Op == syntax.OpCharClass {
		steps = 1 + len(r.Rune)/lettersOfStep
	}
	for _, sub := range r.Sub {
		steps += 1 + stepsOf(sub)
	}
	if r.Op == syntax.OpRepeat {
		steps *= max(r.Min+1, r.Max)
	}
	return min(steps, maxPatternSteps+1)
}

// topics are the names that the client wants, sorted: of topics that are there or may be one day. They are shared. An error says that the member ends.
func (m *subscriber) topics(w *wanted, index ingest.ClusterIndex) ([]string, error) {
	if w.pattern == nil {
		return w.names, nil
	}
	matched, err := m.owner.match(m.ctx, w.pattern, index)
	if err != nil || len(w.names) == 0 {
		return matched, err
	}
	topics := slices.Concat(w.names, matched)
	slices.Sort(topics)
	return slices.Compact(topics), nil
}

// match gives the names of topics that match a pattern, sorted.
func (s *subscribers) match(ctx context.Context, p *pattern, index ingest.ClusterIndex) ([]string, error) {
	if err := enter(ctx, p.looking); err != nil {
		return nil, err
	}
	defer func() { <-p.looking }()
	revision := index.TopicsRevision()
	if p.revision == revision {
		return p.matched, nil
	}
	var matched []string
	for some := range slices.Chunk(index.Topics(), matchedAtOnce) {
		if err := enter(ctx, s.matching); err != nil {
			return nil, err
		}
		for _, t := range some {
			if p.expression.MatchString(t.Name) {
				matched = append(matched, t.Name)
			}
		}
		<-s.matching
	}
	slices.Sort(matched)
	p.revision, p.matched = revision, matched
	return matched, nil
}

// enter waits for the one place that there is.
func enter(ctx context.Context, place chan<- struct{}) error {
	select {
	case place <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
