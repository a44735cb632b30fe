package query

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/tidemark-io/tidemark/query/sandbox"
)

// checked is a statement that may run once its references are resolved.
type checked struct {
	sql       string // the whole text
	explain   sandbox.Explain
	body      string // without EXPLAIN; sql from offset on
	offset    int
	statement *sandbox.Statement
}

// check finds out whether a text is one statement that may run. It takes no slot: what it costs is bounded by the sandbox, and
// the engine parses only a few texts at once. So a wrong text is answered at once, however many queries wait.
func (s *Service) check(ctx context.Context, sql string) (*checked, error) {
	c := &checked{sql: sql}
	var err error
	if c.explain, c.body, c.offset, err = sandbox.Strip(sql); err != nil {
		return nil, c.refused(err)
	}
	if err := sandbox.Precheck(c.body); err != nil {
		return nil, c.refused(err)
	}
	tree, err := s.engine.Parse(ctx, c.body)
	if err != nil {
		return nil, asError(err)
	}
	if c.statement, err = sandbox.Check(c.body, tree); err != nil {
		return nil, s.hinted(ctx, c, err)
	}
	return c, nil
}

// refused makes an error of what the sandbox says of the body.
func (c *checked) refused(err error) error {
	r, is := errors.AsType[*sandbox.Refusal](err)
	if !is {
		return errorf(ReasonInternal, "check the statement: %w", err)
	}
	return c.errorAt(Reason(r.Reason), c.whole(r.Position), r.Next, r.Message).because(err)
}

// whole maps a byte offset of the body to one of the whole text; -1 stays.
func (c *checked) whole(position int) int {
	if position < 0 {
		return -1
	}
	return position + c.offset
}

// errorAt makes an error with a place in the whole text, -1 for none.
func (c *checked) errorAt(reason Reason, position int, next, message string) *Error {
	e := (&Error{Reason: reason, Message: strings.ToValidUTF8(message, "\uFFFD")}).with("next", strings.ToValidUTF8(next, "\uFFFD"))
	if line, column := sandbox.LineColumn(c.sql, position); line > 0 {
		e = e.with("position", strconv.Itoa(position)).with("line", strconv.Itoa(line)).with("column", strconv.Itoa(column))
	}
	return e
}

// hinted is refused, and tells about double quotes where the text shows the name of a topic that needs them.
func (s *Service) hinted(ctx context.Context, c *checked, err error) error {
	refused := c.refused(err)
	r, is := errors.AsType[*sandbox.Refusal](err)
	if !is || r.Reason != sandbox.Syntax && r.Reason != sandbox.TableNotAllowed {
		return refused
	}
	topic := needsQuotes(c.body, r.Position, s.knownTopics(ctx))
	if topic == "" {
		return refused
	}
	e := asError(refused)
	return e.with("next", quoteHint(topic)).with("table", topic)
}

// quoteHint tells how a topic's name is written.
func quoteHint(topic string) string {
	return `There is a topic ` + topic + `, whose name needs double quotes: write "` + topic + `".`
}

// needsQuotes finds the longest topic name that is no plain word of SQL and stands, without quotes, where position points into
// the text, or right before it; anywhere, when position is -1.
func needsQuotes(sql string, position int, topics []string) string {
	best := ""
	for _, topic := range topics {
		if len(topic) <= len(best) {
			continue
		}
		from, to := 0, len(sql)-len(topic)
		if position >= 0 {
			from, to = max(0, position-len(topic)-1), min(position, to)
		}
		for at := from; at <= to; at++ {
			if standsAt(sql, at, topic) {
				best = topic
				break
			}
		}
	}
	return best
}

// standsAt tells whether a name stands at a place as a word of its own, outside of quotes.
func standsAt(sql string, at int, name string) bool {
	end := at + len(name)
	if end > len(sql) || !strings.EqualFold(sql[at:end], name) {
		return false
	}
	return (at == 0 || !isNameByte(sql[at-1])) && (end == len(sql) || !isNameByte(sql[end]))
}

func isNameByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_' || b == '-' || b == '.' || b == '"' || b == '\''
}

// knownNames keeps the names of topics for a moment: hints are worth little, and a flood of wrong statements must cost etcd
// nothing.
type knownNames struct {
	turn  chan struct{} // has room for the one who looks
	names []string
	at    time.Time
	valid bool
}

// namesFor is how old the names may be.
const namesFor = 2 * time.Second

// knownTopics are the names of topics, a moment old; none when they are not to be had.
func (s *Service) knownTopics(ctx context.Context) []string {
	k := s.names
	select {
	case k.turn <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	defer func() { <-k.turn }()
	now := s.clock.Now()
	if k.valid && now.Sub(k.at) < namesFor {
		return k.names
	}
	topics, err := s.topics.List(ctx)
	if err != nil {
		return k.names // an older hint is better than none
	}
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = t.Name
	}
	k.names, k.at, k.valid = names, now, true
	return names
}
