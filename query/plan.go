package query

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/query/column"
	"github.com/tidemark-io/tidemark/query/sandbox"
	"github.com/tidemark-io/tidemark/query/tail"
)

// plan is a statement with its tables at their positions.
type plan struct {
	checked *checked
	covers  []position
	tables  []Table
	toRead  int64
	sql     string
	of      []int                  // by reference, its place in tables
	back    func(position int) int // of sql to the whole text
	answer  *memoryTable           // instead of sql: the catalog answers
	held    []interface{ Release() }
}

// plan resolves the tables of a statement, fixes their positions and waits until the tail has reached them. The caller releases
// the plan.
func (s *Service) plan(ctx context.Context, c *checked, atLeast map[string]map[int32]int64, e *entry) (p *plan, err error) {
	p = &plan{checked: c}
	defer func() {
		if err != nil {
			p.release()
		}
	}()
	tables, snapshots, err := s.pin(ctx, c, atLeast)
	for _, snap := range snapshots {
		if snap != nil {
			p.held = append(p.held, snap)
		}
	}
	if err != nil {
		return p, err
	}
	for i, snap := range snapshots {
		p.covers = append(p.covers, position{topic: tables.topics[i].Name, offsets: snap.Position()})
		p.tables = append(p.tables, countedTable{snap, e})
	}
	for _, t := range tables.system {
		filled, err := t.fill(ctx, s)
		if err != nil {
			return p, err
		}
		p.held = append(p.held, filled)
		p.tables = append(p.tables, countedTable{filled, e})
	}
	for _, n := range tables.of {
		p.toRead += p.tables[n].Rows()
	}
	switch {
	case c.statement.Kind == sandbox.ShowTables:
		p.answer, err = s.showTables(ctx)
	case c.describesTable() && tables.of[0] < len(tables.topics):
		p.answer = describeTopic(snapshots[0].Columns())
	case c.describesTable():
		p.answer = describeSystem(tables.system[0])
	default:
		p.rewrite(tables.of)
		return p, nil
	}
	if err != nil {
		return p, err
	}
	if c.explain != sandbox.ExplainNone {
		p.answer.Release()
		p.answer = explainCatalog()
	}
	p.held = append(p.held, p.answer)
	p.toRead = 0
	return p, nil
}

// release lets go of what the plan holds.
func (p *plan) release() {
	for _, h := range p.held {
		h.Release()
	}
	p.held = nil
}

// rewrite makes the text that the engine runs.
func (p *plan) rewrite(of []int) {
	c := p.checked
	p.of = of
	text, back := c.statement.Rewrite(c.body, func(n int, _ sandbox.Reference) string { return fmt.Sprintf("%s(%d)", ScanFunction, of[n]) })
	prefix := ""
	switch c.explain {
	case sandbox.ExplainPlan:
		prefix = "EXPLAIN "
	case sandbox.ExplainAnalyze:
		prefix = "EXPLAIN ANALYZE "
	case sandbox.ExplainNone:
	}
	p.sql = prefix + text
	p.back = func(position int) int {
		if position < len(prefix) {
			return -1
		}
		return c.whole(back(position - len(prefix)))
	}
}

// start begins the statement.
func (p *plan) start(ctx context.Context, engine Engine) (Result, error) {
	if p.answer != nil {
		return p.answer, nil
	}
	result, err := engine.Start(ctx, Statement{SQL: p.sql, Tables: p.tables})
	if err != nil {
		return nil, p.failed(err)
	}
	return result, nil
}

// failed makes an *Error of what the engine, or a table that it reads, says.
func (p *plan) failed(err error) error {
	e, is := errors.AsType[*StatementError](err)
	if !is {
		return tailError(err)
	}
	position := -1
	if e.Position >= 0 && p.back != nil {
		position = p.back(e.Position)
	}
	reason := ReasonInvalidSQL
	switch kind := strings.ToLower(e.Kind); {
	case strings.Contains(kind, "internal"), strings.Contains(kind, "fatal"):
		return errorf(ReasonInternal, "the SQL engine failed: %s; please report this with the statement", firstLines(e.Message)).because(err)
	case (kind == "binder" || kind == "catalog") && strings.Contains(e.Message, "olumn") &&
		(strings.Contains(e.Message, "not found") || strings.Contains(e.Message, "does not exist") || strings.Contains(e.Message, "does not have a column")):
		reason = ReasonUnknownColumn
	case kind == "conversion", kind == "out of range", kind == "invalid input", kind == "mismatch type", kind == "decimal", kind == "divide by zero":
		reason = ReasonSQLError
	}
	return p.checked.errorAt(reason, position, p.next(reason, e.Message), firstLines(e.Message)).because(err)
}

// next is what to do about an engine's message, "" when that is not known.
func (p *plan) next(reason Reason, message string) string {
	if strings.Contains(message, "Referenced table") && strings.Contains(message, "not found") {
		if found := qualified.FindStringSubmatch(p.checked.body); found != nil {
			return "A column is written behind its table's name alone: write " + shown(found[1]) + "."
		}
	}
	if reason == ReasonUnknownColumn && len(p.covers) == 1 && len(p.tables) == 1 {
		return `DESCRIBE "` + p.covers[0].topic + `" shows the columns.`
	}
	return ""
}

// qualified is a column with its table and schema; the group is what it may be written as.
var qualified = regexp.MustCompile(`(?i)(?:\b(?:system|main)|"(?:system|main)")\s*\.\s*((?:"(?:[^"]|"")+"|\w+)\s*\.\s*(?:"(?:[^"]|"")+"|\w+))`)

// firstLines are the words of an engine's message, without the copy of the statement that it draws below: that is the
// rewritten one, which nobody has written.
func firstLines(message string) string {
	var out []string
	for line := range strings.Lines(message) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "LINE ") {
			break
		}
		if line != "" {
			out = append(out, line)
		}
	}
	return cut(strings.Join(out, " "), 2<<10)
}

// pinAttempts is how often a statement is resolved again because a topic was deleted and made anew meanwhile.
const pinAttempts = 3

// pin resolves the tables of a statement and takes a snapshot of each of its topics that covers every record acknowledged before
// the call, and at_least. The caller releases the snapshots also when there is an error; some may be nil then.
func (s *Service) pin(ctx context.Context, c *checked, atLeast map[string]map[int32]int64) (tables *resolved, snapshots []snapshot, err error) {
	for attempt := 1; ; attempt++ {
		if tables, err = s.resolve(ctx, c); err != nil {
			return nil, nil, err
		}
		if err := s.checkAtLeast(ctx, tables.topics, atLeast); err != nil {
			return nil, nil, err
		}
		snapshots = make([]snapshot, len(tables.topics))
		numbers := make([]int, len(tables.topics))
		for i := range numbers {
			numbers[i] = i
		}
		// All at once: one that lags must not hold up the beginning of others.
		_, err = eachOf(ctx, maxTopics, numbers, func(ctx context.Context, i int) (none struct{}, err error) {
			t := tables.topics[i]
			snapshots[i], err = s.snap(ctx, t, atLeast[t.Name])
			return none, err
		})
		if err == nil || !errors.Is(err, errGone) || attempt == pinAttempts {
			return tables, snapshots, err
		}
		for _, snap := range snapshots {
			if snap != nil {
				snap.Release()
			}
		}
	}
}

// errGone: a topic was deleted, and maybe made again, while a query began.
var errGone = errorf(ReasonUnknownTopic, "a topic was deleted while the query began; ask again")

// checkAtLeast refuses positions of topics that are not there. Those of topics that the statement does not read count for
// nothing.
func (s *Service) checkAtLeast(ctx context.Context, read []meta.Topic, atLeast map[string]map[int32]int64) error {
	var others []string
	for _, name := range slices.Sorted(maps.Keys(atLeast)) {
		if !slices.ContainsFunc(read, func(t meta.Topic) bool { return t.Name == name }) {
			others = append(others, name)
		}
	}
	_, err := eachOf(ctx, atOnce, others, func(ctx context.Context, name string) (none struct{}, err error) {
		t, err := s.topics.Topic(ctx, name)
		switch {
		case errors.Is(err, meta.ErrUnknownTopic), errors.Is(err, meta.ErrInvalidTopic):
			return none, errorf(ReasonUnknownTopic, "at_least names the topic %q, and there is none of this name", cut(name, 80))
		case err != nil:
			return none, unavailable("read topic "+name, err)
		}
		return none, checkPartitions(t, t.Partitions, atLeast[name])
	})
	return err
}

// checkPartitions refuses positions of partitions that are not there.
func checkPartitions(t meta.Topic, partitions int32, offsets map[int32]int64) error {
	for _, n := range slices.Sorted(maps.Keys(offsets)) {
		if n >= partitions {
			return errorf(ReasonUnknownPartition, "at_least names partition %d of topic %s, which has partitions 0 to %d", n, t.Name, partitions-1)
		}
	}
	return nil
}

// snap takes a snapshot of one topic.
func (s *Service) snap(ctx context.Context, t meta.Topic, atLeast map[int32]int64) (snapshot, error) {
	// Both are read at once: neither needs the other's answer.
	var ends map[int32]int64
	var schema *column.Schema
	var gone atomic.Bool
	_, err := eachOf(ctx, 2, []func(ctx context.Context) error{
		func(ctx context.Context) (err error) {
			ends, err = s.log.EndOffsets(ctx, t.Name, t.ID.String())
			if client.IsNotFound(err) {
				gone.Store(true)
				return errGone
			}
			if err != nil {
				return unavailable("ask for the ends of topic "+t.Name, err)
			}
			return nil
		},
		func(ctx context.Context) (err error) {
			if schema, err = s.topics.Schema(ctx, t); err != nil {
				return schemaError(t.Name, err)
			}
			return nil
		},
	}, func(ctx context.Context, f func(context.Context) error) (none struct{}, err error) {
		return none, f(ctx)
	})
	if gone.Load() { // whatever the other found in what is left of the topic
		return nil, errGone
	}
	if err != nil {
		return nil, err
	}
	for n := range ends { // partitions may have been added since the topic was read
		t.Partitions = max(t.Partitions, n+1)
	}
	if err := checkPartitions(t, t.Partitions, atLeast); err != nil {
		return nil, err
	}
	if above(atLeast, ends) >= 0 {
		return s.snapAbove(ctx, t, atLeast, ends, schema)
	}
	snap, err := s.tail.Snapshot(ctx, t, covering(ends, atLeast), schema)
	if err != nil {
		return nil, tailError(err)
	}
	return snap, nil
}

// mostLags is how many partitions an error tells about.
const mostLags = 4

// tailError makes an *Error of what the tail says.
func tailError(err error) error {
	if lag, is := errors.AsType[*tail.LagError](err); is {
		e := *errorf(ReasonUnavailable, "the records of the topic are not read yet")
		if cause := asError(lag.Unwrap()); cause != nil { // why the query stopped waiting
			e = *cause
		}
		for i, p := range lag.Partitions {
			if i == mostLags {
				e.Message += ", …"
				break
			}
			e.Message += fmt.Sprintf("; partition %d of topic %s is at offset %d of %d", p.Partition, lag.Topic, p.Reached, p.Wanted)
		}
		if lag.Reading != nil {
			e.Message += fmt.Sprintf("; reading it: %v", lag.Reading)
		}
		return &e
	}
	switch {
	case errors.Is(err, tail.ErrSpillFull):
		return errorf(ReasonTempSpace, "%w: give the server more memory or disk space for them, or query topics with fewer records", err)
	case errors.Is(err, tail.ErrDropped), errors.Is(err, meta.ErrUnknownTopic):
		return errGone
	case errors.Is(err, tail.ErrClosed):
		return errClosing
	}
	if _, is := errors.AsType[*tail.DamageError](err); is {
		return errorf(ReasonUnavailable, "%w", err)
	}
	if _, is := errors.AsType[*tail.RangeError](err); is {
		return errorf(ReasonUnavailable, "%w", err)
	}
	if _, is := errors.AsType[*tail.PanicError](err); is {
		return errorf(ReasonInternal, "a bug in the server ended this query; its log has the details").because(err)
	}
	if columns, is := errors.AsType[*tail.SchemaError](err); is {
		return schemaError(columns.Topic, err)
	}
	if remote, is := errors.AsType[*client.Error](err); is {
		if client.IsNotFound(err) {
			return errGone
		}
		if remote.Reason == client.ReasonCorruptData {
			return errorf(ReasonCorruptData, "%w", err)
		}
		return unavailable("read the log", err)
	}
	return asError(err)
}
