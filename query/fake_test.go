package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"go.uber.org/goleak"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
	"github.com/tidemark-io/tidemark/query/column"
	"github.com/tidemark-io/tidemark/query/tail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeClock goes only when it is told to.
type fakeClock struct {
	mu     sync.Mutex
	now    time.Time
	timers map[*fakeTimer]struct{}
}

func newFakeClock() *fakeClock {
	// Deadlines of connections are real times, so it begins at the present.
	return &fakeClock{now: clock.System().Now(), timers: map[*fakeTimer]struct{}{}}
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) NewTimer(d time.Duration) clock.Timer {
	t := &fakeTimer{clock: c, c: make(chan time.Time, 1)}
	t.Reset(d)
	return t
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	for t := range c.timers {
		t.fireIfDue()
	}
}

// run lets the time go on in steps, at most twenty times as fast as the real one, until the returned function is called. Were it faster,
// a client on a busy machine would look like one that takes nothing for half a minute.
func (c *fakeClock) run(step time.Duration) (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		pace := clock.System().NewTimer(step / 20)
		defer pace.Stop()
		for {
			select {
			case <-done:
				return
			case <-pace.C():
				c.advance(step)
				pace.Reset(step / 20)
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}

type fakeTimer struct {
	clock *fakeClock
	c     chan time.Time
	at    time.Time
}

func (t *fakeTimer) C() <-chan time.Time { return t.c }

func (t *fakeTimer) fireIfDue() {
	if !t.at.After(t.clock.now) {
		delete(t.clock.timers, t)
		t.c <- t.clock.now
	}
}

func (t *fakeTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	return t.stop()
}

func (t *fakeTimer) stop() bool {
	_, pending := t.clock.timers[t]
	delete(t.clock.timers, t)
	select {
	case <-t.c:
	default:
	}
	return pending
}

func (t *fakeTimer) Reset(d time.Duration) bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	pending := t.stop()
	t.at = t.clock.now.Add(d)
	t.clock.timers[t] = struct{}{}
	t.fireIfDue()
	return pending
}

// fakeEngine parses just enough to know tables by their names, and hands a statement to a function.
type fakeEngine struct {
	start func(ctx context.Context, s Statement) (Result, error)

	mu     sync.Mutex
	open   int
	most   int
	sql    []string
	parses int
}

var (
	fromTable  = regexp.MustCompile(`(?i)\b(?:from|join|describe|desc|summarize)\s+((?:"?system"?\.)?)("[^"]+"|[a-z_][a-z0-9_]*)`)
	comment    = regexp.MustCompile(`/\*.*?\*/|--[^\n]*`)
	firstWord  = regexp.MustCompile(`^\s*([A-Za-z]+)`)
	scanCall   = regexp.MustCompile(`tidemark_scan\((\d+)\)`)
	noLocation = json.RawMessage("18446744073709551615")
)

// Parse makes the tree that DuckDB makes of FROM t JOIN u …
func (e *fakeEngine) Parse(_ context.Context, sql string) ([]byte, error) {
	e.mu.Lock()
	e.parses++
	e.mu.Unlock()
	sql = comment.ReplaceAllStringFunc(sql, func(c string) string { return strings.Repeat(" ", len(c)) })
	word := strings.ToLower(firstWord.FindString(sql))
	word = strings.TrimSpace(word)
	failed := func(message string, at int) ([]byte, error) {
		return json.Marshal(map[string]any{"error": true, "error_type": "parser", "error_message": message, "position": strconv.Itoa(at)})
	}
	if word == "selec" {
		return failed(`syntax error at or near "SELEC"`, 0)
	}
	for _, bad := range []string{"access-log", "order"} {
		if at := strings.Index(sql, "FROM "+bad); at >= 0 && !strings.Contains(sql, "FROM orders") {
			return failed("syntax error", at+5+max(0, strings.Index(bad, "-")))
		}
	}
	var from any = map[string]any{"type": "EMPTY", "alias": "", "sample": nil, "query_location": noLocation}
	for i, m := range fromTable.FindAllStringSubmatchIndex(sql, -1) {
		schema, name := strings.Trim(strings.TrimSuffix(sql[m[2]:m[3]], "."), `"`), strings.Trim(sql[m[4]:m[5]], `"`)
		at := m[2]
		table := map[string]any{
			"type": "BASE_TABLE", "alias": "", "sample": nil, "query_location": at, "schema_name": schema, "table_name": name,
			"column_name_alias": []any{}, "catalog_name": "", "at_clause": nil,
		}
		if i == 0 {
			from = table
			continue
		}
		from = map[string]any{
			"type": "JOIN", "alias": "", "sample": nil, "query_location": noLocation, "left": from, "right": table, "condition": nil,
			"join_type": "INNER", "ref_type": "CROSS", "using_columns": []any{}, "delim_flipped": false, "duplicate_eliminated_columns": []any{},
		}
	}
	show := func(kind string, query any, name string) any {
		return map[string]any{
			"type": "SHOW_REF", "alias": "", "sample": nil, "query_location": noLocation, "table_name": name, "query": query,
			"show_type": kind, "catalog_name": "", "schema_name": "",
		}
	}
	node := selectNode(from, json.RawMessage("7"))
	switch word {
	case "show":
		node = selectNode(show("SHOW_UNQUALIFIED", nil, `"tables"`), noLocation)
	case "describe", "desc":
		node = selectNode(show("DESCRIBE", selectNode(from, noLocation), ""), noLocation)
	case "summarize":
		node = selectNode(show("SUMMARY", selectNode(from, noLocation), ""), noLocation)
	}
	return json.Marshal(map[string]any{"error": false, "statements": []any{map[string]any{"node": node, "named_param_map": []any{}}}})
}

func selectNode(from any, star json.RawMessage) map[string]any {
	return map[string]any{
		"type": "SELECT_NODE", "modifiers": []any{}, "cte_map": map[string]any{"map": []any{}},
		"select_list": []any{map[string]any{
			"class": "STAR", "type": "STAR", "alias": "", "query_location": star, "relation_name": "", "exclude_list": []any{}, "replace_list": []any{},
			"columns": false, "expr": nil, "qualified_exclude_list": []any{}, "rename_list": []any{},
		}},
		"from_table": from, "where_clause": nil, "group_expressions": []any{}, "group_sets": []any{}, "aggregate_handling": "STANDARD_HANDLING",
		"having": nil, "sample": nil, "qualify": nil,
	}
}

func (e *fakeEngine) Start(ctx context.Context, s Statement) (Result, error) {
	e.mu.Lock()
	e.sql = append(e.sql, s.SQL)
	e.mu.Unlock()
	start := e.start
	if start == nil {
		start = scanAll
	}
	r, err := start(ctx, s)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.open++
	e.most = max(e.most, e.open)
	e.mu.Unlock()
	return &openResult{Result: r, engine: e}, nil
}

func (e *fakeEngine) Close() error { return nil }

type openResult struct {
	Result

	engine *fakeEngine
	once   sync.Once
}

func (r *openResult) Close() {
	r.once.Do(func() {
		r.Result.Close()
		r.engine.mu.Lock()
		r.engine.open--
		r.engine.mu.Unlock()
	})
}

// scanAll gives the rows of every table that the text scans, one behind the other; they have the columns of the first.
func scanAll(ctx context.Context, s Statement) (Result, error) {
	var tables []Table
	for _, m := range scanCall.FindAllStringSubmatch(s.SQL, -1) {
		n, _ := strconv.Atoi(m[1])
		tables = append(tables, s.Tables[n])
	}
	if strings.HasPrefix(s.SQL, "EXPLAIN") {
		b := newTableBuilder(memory.DefaultAllocator, columnsOf("explain_key", textType, "explain_value", textType))
		b.row("physical_plan", "SCAN of "+strconv.Itoa(len(tables)))
		return owned{b.finish()}, nil
	}
	if len(tables) == 0 {
		b := newTableBuilder(memory.DefaultAllocator, columnsOf("1", int64Type))
		b.row(int64(1))
		return owned{b.finish()}, nil
	}
	out := &memoryTable{schema: tables[0].Schema()}
	all := make([]int, out.schema.NumFields())
	for i := range all {
		all[i] = i
	}
	for _, t := range tables {
		scan, err := t.Scan(all[:min(len(all), t.Schema().NumFields())])
		if err != nil {
			return nil, err
		}
		for {
			rec, err := scan.Next(ctx)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, err
			}
			out.records = append(out.records, array.NewRecord(out.schema, rec.Columns(), rec.NumRows()))
			rec.Release()
		}
		scan.Close()
	}
	return owned{out}, nil
}

// owned is a table that its reading as a result releases.
type owned struct{ *memoryTable }

func (o owned) Close() { o.Release() }

// generator gives rows of one BIGINT column, until it has given all.
type generator struct {
	rows    int64
	given   int64
	step    int64
	onClose func()
}

var generated = columnsOf("n", int64Type)

func (g *generator) Schema() *arrow.Schema { return generated }

func (g *generator) Next(ctx context.Context) (arrow.Record, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	n := min(g.rows-g.given, max(g.step, 1))
	if n == 0 {
		return nil, io.EOF
	}
	b := array.NewInt64Builder(memory.DefaultAllocator)
	defer b.Release()
	for i := range n {
		b.Append(g.given + i)
	}
	g.given += n
	col := b.NewArray()
	defer col.Release()
	return array.NewRecord(generated, []arrow.Array{col}, n), nil
}

func (g *generator) Close() {
	if g.onClose != nil {
		g.onClose()
	}
}

// stuck gives nothing until its context ends.
type stuck struct{ begun chan struct{} }

func (s stuck) Schema() *arrow.Schema { return generated }

func (s stuck) Next(ctx context.Context) (arrow.Record, error) {
	select {
	case s.begun <- struct{}{}:
	case <-ctx.Done():
	}
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func (s stuck) Close() {}

// world is topics with their logs and the tail over them.
type world struct {
	mu        sync.Mutex
	topics    map[string]meta.Topic
	schemas   map[meta.TopicID]*column.Schema
	ends      map[string]map[int32]int64 // by topic id
	rows      map[string][]string        // values, by topic id
	changed   chan struct{}
	snapshots int // not released
	lists     int
	endsErr   error
	tailErr   error
	misfits   []tail.Misfit
	slowTail  bool // nothing that is asked for is reached
	waiting   int  // calls of Snapshot that wait
	asked     int  // calls of Snapshot

	beforeEnd      func(name string)
	beforeSchema   func(t meta.Topic) error
	beforeSnapshot func() error
}

func newWorld(names ...string) *world {
	w := &world{
		topics: map[string]meta.Topic{}, schemas: map[meta.TopicID]*column.Schema{}, ends: map[string]map[int32]int64{}, rows: map[string][]string{},
		changed: make(chan struct{}),
	}
	for _, n := range names {
		w.create(n, 2)
	}
	return w
}

var ids = rand.NewChaCha8([32]byte{1})

func (w *world) create(name string, partitions int32) meta.Topic {
	w.mu.Lock()
	defer w.mu.Unlock()
	id, err := meta.NewTopicID(ids)
	if err != nil {
		panic(err)
	}
	t := meta.Topic{Name: name, ID: id, Partitions: partitions, Config: meta.DefaultTopicConfig(), Created: time.UnixMilli(1_800_000_000_000)}
	w.topics[name] = t
	w.ends[id.String()] = map[int32]int64{}
	for n := range partitions {
		w.ends[id.String()][n] = 0
	}
	return t
}

// produce appends values to partition 0.
func (w *world) produce(name string, values ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := w.topics[name].ID.String()
	w.rows[id] = append(w.rows[id], values...)
	w.ends[id][0] += int64(len(values))
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *world) Topic(_ context.Context, name string) (meta.Topic, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := meta.ValidateTopicName(name); err != nil {
		return meta.Topic{}, err
	}
	t, found := w.topics[name]
	if !found {
		return t, fmt.Errorf("%w: %q", meta.ErrUnknownTopic, name)
	}
	return t, nil
}

func (w *world) List(context.Context) ([]meta.Topic, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lists++
	var out []meta.Topic
	for _, n := range slices.Sorted(maps.Keys(w.topics)) {
		out = append(out, w.topics[n])
	}
	return out, nil
}

func (w *world) topicSchema(t meta.Topic) *column.Schema {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.schemas[t.ID]; s != nil {
		return s
	}
	return column.Empty
}

func (w *world) Schema(_ context.Context, t meta.Topic) (*column.Schema, error) {
	if w.beforeSchema != nil {
		if err := w.beforeSchema(t); err != nil {
			return nil, err
		}
	}
	return w.topicSchema(t), nil
}

func (w *world) EndOffsets(_ context.Context, name, id string) (map[int32]int64, error) {
	if w.beforeEnd != nil {
		w.beforeEnd(name)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.endsErr != nil {
		return nil, w.endsErr
	}
	ends, found := w.ends[id]
	if t := w.topics[name]; !found || t.ID.String() != id {
		return nil, &client.Error{Code: connect.CodeNotFound, Reason: client.ReasonUnknownTopic, Message: "gone"}
	}
	return maps.Clone(ends), nil
}

func (w *world) GetTopic(_ context.Context, name string) (*tidemarkv1.Topic, []*tidemarkv1.PartitionState, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.topics[name]
	var states []*tidemarkv1.PartitionState
	for n := range t.Partitions {
		end := w.ends[t.ID.String()][n]
		states = append(states, &tidemarkv1.PartitionState{Partition: n, Leader: "node-1", LeaderEpoch: 3, HighWatermark: end, CommittedOffset: end, LogEndOffset: end})
	}
	return &tidemarkv1.Topic{Name: name}, states, nil
}

func (w *world) Stats() []tail.Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []tail.Stats
	for id := range w.rows {
		out = append(out, tail.Stats{TopicID: id, Memory: 10, Misfits: w.misfits})
	}
	return out
}

func (w *world) Snapshot(ctx context.Context, t meta.Topic, atLeast map[int32]int64, schema *column.Schema) (snapshot, error) {
	if w.beforeSnapshot != nil {
		if err := w.beforeSnapshot(); err != nil {
			return nil, err
		}
	}
	w.mu.Lock()
	w.asked++
	w.mu.Unlock()
	for {
		w.mu.Lock()
		changed := w.changed
		if err := w.tailErr; err != nil {
			w.mu.Unlock()
			return nil, err
		}
		ends := w.ends[t.ID.String()]
		reached := !w.slowTail
		for n, at := range atLeast {
			reached = reached && ends[n] >= at
		}
		if reached {
			b := newTableBuilder(memory.DefaultAllocator, columnsOf("_partition", int32Type, "_offset", int64Type, "_value", textType))
			for i, v := range w.rows[t.ID.String()] {
				b.row(int32(0), int64(i), v)
			}
			w.snapshots++
			out := &fakeSnapshot{memoryTable: b.finish(), world: w, at: maps.Clone(ends), schema: schema}
			w.mu.Unlock()
			return out, nil
		}
		lag := &tail.LagError{Topic: t.Name}
		for n, at := range atLeast {
			if w.slowTail {
				lag.Partitions = append(lag.Partitions, tail.Lag{Partition: n, Reached: 0, Wanted: at})
			} else if ends[n] < at {
				lag.Partitions = append(lag.Partitions, tail.Lag{Partition: n, Reached: ends[n], Wanted: at})
			}
		}
		w.waiting++
		w.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = fmt.Errorf("%w: %w", lag, context.Cause(ctx))
		}
		w.mu.Lock()
		w.waiting--
		w.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
}

type fakeSnapshot struct {
	*memoryTable

	world  *world
	at     map[int32]int64
	schema *column.Schema
}

func (s *fakeSnapshot) Position() map[int32]int64 { return s.at }

func (s *fakeSnapshot) Columns() *column.Schema { return s.schema }

func (s *fakeSnapshot) Release() {
	s.memoryTable.Release()
	s.world.mu.Lock()
	s.world.snapshots--
	s.world.mu.Unlock()
}

// bench is a service over a world, behind a real HTTP server.
type harness struct {
	*world

	t       *testing.T
	engine  *fakeEngine
	service *Service
	server  *httptest.Server
	memory  *memory.CheckedAllocator
	query   tidemarkv1connect.QueryServiceClient
}

func newHarness(t *testing.T, w *world, change func(*components)) *harness {
	t.Helper()
	h := &harness{world: w, t: t, engine: &fakeEngine{}, memory: memory.NewCheckedAllocator(memory.NewGoAllocator())}
	cfg := components{
		engine: h.engine, topics: w, log: w, tail: w, clock: clock.System(), random: rand.NewChaCha8([32]byte{2}),
		logger: slog.New(slog.DiscardHandler), memory: h.memory,
	}
	if change != nil {
		change(&cfg)
	}
	s, err := newService(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.service = s
	h.server = httptest.NewUnstartedServer(s)
	h.server.Config.Protocols = new(http.Protocols)
	h.server.Config.Protocols.SetHTTP1(true)
	h.server.Config.Protocols.SetUnencryptedHTTP2(true)
	h.server.Start()
	h.query = h.client()
	t.Cleanup(func() {
		s.Drain()
		h.server.CloseClientConnections()
		h.server.Close()
		if err := s.Close(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error("close:", err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.snapshots != 0 {
			t.Errorf("%d snapshots were not released", w.snapshots)
		}
		if h.engine.open != 0 {
			t.Errorf("%d results were not closed", h.engine.open)
		}
		h.memory.AssertSize(t, 0)
	})
	return h
}

// client makes a client with connections of its own.
func (h *harness) client() tidemarkv1connect.QueryServiceClient {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	h.t.Cleanup(transport.CloseIdleConnections)
	return tidemarkv1connect.NewQueryServiceClient(&http.Client{Transport: transport}, h.server.URL, connect.WithAcceptCompression("gzip", nil, nil))
}

// until waits for something that happens soon, without sleeping.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := clock.System().Now().Add(20 * time.Second)
	for !is() {
		if clock.System().Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		runtime.Gosched()
	}
}
