//go:build cgo

package twintest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/duckdb/duckdb-go/v2"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/record"
)

const (
	shortQueries = 100 // when TIDEMARK_TWIN_QUERIES does not say
	warmUp       = 400 // records of each topic before the first query
	mostRecords  = 8_000
)

// run is one run of the test.
type run struct {
	t       *testing.T
	seed    uint64
	process *process
	client  *client.Client
	twin    *twin
	topics  map[string]*topic
	names   []string
	acked   map[string]func() map[int32]int64 // what is acknowledged of a topic
	last    string                            // statement

	// The topics' columns as the server described them last.
	seen      string
	described map[string]string
	columns   map[string][]field
	versions  map[string]int // how many each topic had

	queries, rows, empty, errors, again, kills int
	asking, twinAsking, following, describing  time.Duration
}

func TestTwin(t *testing.T) {
	queries := setting(t, "TIDEMARK_TWIN_QUERIES", shortQueries)
	r := newRun(t, setting(t, "TIDEMARK_TWIN_SEED", uint64(clock.System().Now().UnixNano())))
	t.Logf("TIDEMARK_TWIN_SEED=%d chooses the statements and the records", r.seed)
	r.create("events", 4, map[string]string{"durability": "object"})
	r.create("orders", 3, map[string]string{"durability": "disk"})
	r.create("access-log", 1, map[string]string{"durability": "object", "column.chosen": "VARCHAR", "column.raw": "JSON", "column.price": "DOUBLE"})
	stop := r.produce()
	defer stop()

	random := rand.New(rand.NewPCG(r.seed, 1<<40))
	only := setting(t, "TIDEMARK_TWIN_ONLY", queries)
	begin, failed := clock.System().Now(), 0
	for n := range queries {
		if only < queries && n != only {
			continue
		}
		switch n {
		case queries / 3:
			r.alter("orders", map[string]string{"column.n": "VARCHAR", "column.address": "JSON"})
		case queries / 2:
			r.alter("events", map[string]string{"column.tags": "JSON", "column.name": "BIGINT", "column.amount": "BOOLEAN", "column.never seen": "DOUBLE"})
		}
		killed := r.maybeKill(random, int(queries))
		st, position, diff := r.compare(n)
		killed()
		if diff == "" {
			continue
		}
		_, _, second := r.compare(n)
		if second == "" {
			second = "no difference"
		}
		t.Errorf("TIDEMARK_TWIN_SEED=%d TIDEMARK_TWIN_ONLY=%d:\n%s\nat %v:\n%s\nAsked again: %.300s", r.seed, n, st.sql, position, diff, second)
		if failed++; failed == 10 {
			break
		}
	}
	elapsed := clock.System().Now().Sub(begin)
	stop()
	r.mustNotice(queries)
	rebuilt, records := 0, 0
	for _, p := range r.topics {
		rebuilt += p.rebuilt
		for _, have := range p.records {
			records += len(have)
		}
	}
	t.Logf("%d queries, %d rows compared, %d empty answers, %d errors on both sides, %d differences; %d kills, %d records, schema versions %v, asked again for another schema %d, twin tables made %d; %v, of which the server took %v, the twin %v, following the log %v, reading schemas %v",
		r.queries, r.rows, r.empty, r.errors, failed, r.kills, records, r.versions, r.again, rebuilt,
		elapsed.Round(time.Second), r.asking.Round(time.Second), r.twinAsking.Round(time.Second), r.following.Round(time.Second), r.describing.Round(time.Second))
	if r.queries >= shortQueries && r.empty*10 > r.queries*3 {
		t.Errorf("%d of %d answers are empty: the statements ask for too little", r.empty, r.queries)
	}
}

func newRun(t *testing.T, seed uint64) *run {
	t.Helper()
	r := &run{
		t: t, seed: seed, topics: map[string]*topic{}, described: map[string]string{}, columns: map[string][]field{}, versions: map[string]int{}, acked: map[string]func() map[int32]int64{},
		twin: newTwin(t), process: newProcess(t, build(t), "--tail-memory", "16MiB"),
	}
	r.client = r.process.client()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last of %d statements was\n%s", r.queries, r.last)
		}
	})
	return r
}

func (r *run) create(name string, partitions int32, config map[string]string) {
	r.t.Helper()
	if _, _, err := r.client.CreateTopic(r.t.Context(), name, partitions, config, false); err != nil {
		r.t.Fatal(err)
	}
	consumer, err := r.client.NewConsumer(name, client.ConsumerConfig{})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(consumer.Close)
	p := &topic{name: name, consumer: consumer, records: map[int32][]record.Record{}, position: map[int32]int64{}, chosen: map[string]kind{}}
	p.choose(config)
	r.topics[name] = p
	r.names = append(r.names, name)
}

// choose remembers what VARCHARs of a setting hold.
func (p *topic) choose(config map[string]string) {
	for key, typ := range config {
		if column, ok := strings.CutPrefix(key, "column."); ok {
			p.chosen[column] = map[string]kind{"VARCHAR": text, "JSON": jsonText}[typ]
		}
	}
}

// alter chooses the types of columns that are there already.
func (r *run) alter(name string, config map[string]string) {
	r.t.Helper()
	r.topics[name].choose(config)
	for deadline := clock.System().Now().Add(time.Minute); ; pause(20 * time.Millisecond) {
		_, err := r.client.UpdateTopic(r.t.Context(), name, config)
		if err == nil {
			return
		}
		if !away(err) || clock.System().Now().After(deadline) {
			r.t.Fatalf("alter %s: %v", name, err)
		}
	}
}

// produce begins to write to every topic, and returns when there is something to ask for. What it returns ends that; every record must
// have been acknowledged then.
func (r *run) produce() (stop func()) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	var work, warm sync.WaitGroup
	for i, name := range r.names {
		producer, err := r.client.NewProducer(client.ProducerConfig{})
		if err != nil {
			r.t.Fatal(err)
		}
		r.acked[name] = func() map[int32]int64 { return producer.Position(name) }
		values := newValues(r.seed, uint64(i))
		send := func() {
			// Without ctx: a record that was taken must be answered, also one that waited for room when producing ended.
			err := producer.Produce(context.WithoutCancel(ctx), name, values.record(), func(res client.Result) {
				if res.Err != nil {
					r.t.Errorf("produce to %s: %v", name, res.Err)
				}
			})
			if err != nil {
				r.t.Errorf("produce to %s: %v", name, err)
			}
		}
		for range warmUp {
			send()
		}
		warm.Go(func() {
			if err := producer.Flush(ctx); err != nil {
				r.t.Errorf("flush %s: %v", name, err)
			}
		})
		work.Go(func() {
			for ctx.Err() == nil {
				pause(time.Duration(5+values.IntN(60)) * time.Millisecond) // bursts with pauses, as senders are
				for range values.IntN(5) {
					if values.made < mostRecords {
						send()
					}
				}
			}
			if err := producer.Close(context.WithoutCancel(ctx)); err != nil {
				r.t.Errorf("close the producer of %s: %v", name, err)
			}
		})
	}
	warm.Wait()
	return func() {
		cancel()
		work.Wait()
	}
}

// maybeKill kills the process once in fifty queries, while the next one runs. What it returns waits until the process is back.
func (r *run) maybeKill(random *rand.Rand, queries int) (wait func()) {
	if random.IntN(min(50, max(1, queries/3))) > 0 {
		return func() {}
	}
	r.kills++
	after := time.Duration(random.IntN(20_000)) * time.Microsecond
	var work sync.WaitGroup
	work.Go(func() {
		pause(after)
		r.process.kill()
		r.process.start()
	})
	return work.Wait
}

// compare asks both for statement n and tells how the answers differ.
func (r *run) compare(n uint64) (st statement, position []client.Position, diff string) {
	r.t.Helper()
	r.queries++
	return r.compareThat(func(tables []table) statement { return newStatement(r.seed, n, tables) })
}

// compareThat asks both for a statement over the topics as they are.
func (r *run) compareThat(write func([]table) statement) (st statement, position []client.Position, diff string) {
	r.t.Helper()
	for {
		r.describe()
		var tables []table
		for _, name := range r.names {
			tables = append(tables, table{name: name, columns: r.columns[name]})
		}
		seen := r.seen
		st = write(tables)
		acked := map[string]map[int32]int64{}
		for name, of := range r.acked {
			acked[name] = of()
		}
		r.last = st.sql
		begin := clock.System().Now()
		got, position, err := r.ask(st.sql)
		r.asking += clock.System().Now().Sub(begin)
		if r.describe(); r.seen != seen {
			r.again++ // the statement may have been answered under either schema
			continue
		}
		begin = clock.System().Now()
		for _, p := range position {
			for n, end := range acked[p.Topic] {
				if p.Offsets[n] < end {
					return st, position, fmt.Sprintf("the answer covers partition %d of %s below %d, and was asked for when everything below %d was acknowledged", n, p.Topic, p.Offsets[n], end)
				}
			}
			if err := r.topics[p.Topic].follow(r.t, r.twin, p.Offsets, r.described[p.Topic], slices.Clone(r.columns[p.Topic])); err != nil {
				return st, position, err.Error()
			}
		}
		if len(position) == 0 { // it failed before there was one: the tables must be there all the same
			for _, p := range r.topics {
				if err := p.follow(r.t, r.twin, p.position, r.described[p.name], slices.Clone(r.columns[p.name])); err != nil {
					return st, position, err.Error()
				}
			}
		}
		r.following += clock.System().Now().Sub(begin)
		begin = clock.System().Now()
		want, twinErr := r.twin.ask(r.t.Context(), st.sql)
		r.twinAsking += clock.System().Now().Sub(begin)
		if err != nil || twinErr != nil {
			if diff = differentErrors(err, twinErr); diff == "" {
				r.errors++
			}
			return st, position, diff
		}
		if len(got.rows) == 0 {
			r.empty++
		}
		r.rows += len(got.rows)
		return st, position, difference(got, want, st.how)
	}
}

// describe reads what columns the topics have.
func (r *run) describe() {
	r.t.Helper()
	begin := clock.System().Now()
	defer func() { r.describing += clock.System().Now().Sub(begin) }()
	seen := r.listed()
	if seen == r.seen {
		return
	}
	all, err := r.columnsOf()
	for deadline := clock.System().Now().Add(time.Minute); away(err) && clock.System().Now().Before(deadline); all, err = r.columnsOf() {
		pause(20 * time.Millisecond)
	}
	if err != nil {
		r.t.Fatalf("read system.columns: %v", err)
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(r.topics)) {
		before := r.described[name]
		if r.described[name], r.columns[name], err = described(all[name]); err != nil {
			r.t.Fatal(err)
		}
		if r.described[name] != before {
			r.versions[name]++
		}
		parts = append(parts, name+": "+r.described[name])
	}
	r.seen = strings.Join(parts, "\n")
}

// columnsOf reads system.columns.
func (r *run) columnsOf() (map[string][]describedColumn, error) {
	rows, err := r.client.Query(r.t.Context(), `SELECT topic, "column", type, key, since_partition, since_offset, overridden FROM system.columns ORDER BY topic, position`, client.QueryOptions{})
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[string][]describedColumn{}
	for {
		rec, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		text := func(c, i int) string { return rec.Column(c).(*array.String).Value(i) }
		for i := range int(rec.NumRows()) {
			all[text(0, i)] = append(all[text(0, i)], describedColumn{
				name: text(1, i), typ: text(2, i), key: text(3, i), typed: rec.Column(3).IsValid(i),
				chosen: rec.Column(6).(*array.Boolean).Value(i), since: place{rec.Column(4).(*array.Int32).Value(i), rec.Column(5).(*array.Int64).Value(i)},
			})
		}
		rec.Release()
	}
}

// listed is what ListTables says about the topics, which costs less than system.columns.
func (r *run) listed() string {
	r.t.Helper()
	for deadline := clock.System().Now().Add(time.Minute); ; pause(20 * time.Millisecond) {
		tables, err := r.client.ListTables(r.t.Context())
		if err != nil {
			if away(err) && clock.System().Now().Before(deadline) {
				continue
			}
			r.t.Fatalf("list tables: %v", err)
		}
		var parts []string
		for _, t := range tables {
			if t.GetSchema() != "" {
				continue
			}
			columns := make([]string, len(t.GetColumns()))
			for i, c := range t.GetColumns() {
				columns[i] = quoted(c.GetName()) + " " + c.GetType()
			}
			parts = append(parts, t.GetName()+": "+strings.Join(columns, ", "))
		}
		return strings.Join(parts, "\n")
	}
}

// ask asks the server, again and again while it is away.
func (r *run) ask(sql string) (answer, []client.Position, error) {
	for deadline := clock.System().Now().Add(time.Minute); ; pause(20 * time.Millisecond) {
		a, position, err := r.askOnce(sql)
		if away(err) && clock.System().Now().Before(deadline) {
			continue
		}
		return a, position, err
	}
}

// away tells whether a server did not answer, rather than with an error.
func away(err error) bool {
	e, ok := errors.AsType[*client.Error](err)
	return ok && (e.Retryable || e.Reason == "")
}

func (r *run) askOnce(sql string) (out answer, position []client.Position, err error) {
	rows, err := r.client.Query(r.t.Context(), sql, client.QueryOptions{})
	if err != nil {
		return answer{}, nil, err
	}
	defer rows.Close()
	for _, f := range rows.Schema().Fields() {
		out.names = append(out.names, f.Name)
	}
	for {
		rec, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return out, rows.Position(), nil
		}
		if err != nil {
			return answer{}, rows.Position(), err
		}
		for i := range int(rec.NumRows()) {
			cells := make([]cell, rec.NumCols())
			for c := range cells {
				if cells[c], err = arrowCell(rec.Column(c), i); err != nil {
					return answer{}, rows.Position(), err
				}
			}
			out.rows = append(out.rows, cells)
		}
		rec.Release()
	}
}

// differentErrors tells how the errors of both sides differ in kind, "" when they do not.
func differentErrors(server, twin error) string {
	var reason string
	if server != nil {
		e, ok := errors.AsType[*client.Error](server)
		if !ok {
			return fmt.Sprintf("the server's answer cannot be read: %v", server)
		}
		reason = e.Reason
	}
	var typ duckdb.ErrorType
	if twin != nil {
		e, ok := errors.AsType[*duckdb.Error](twin)
		if !ok {
			return fmt.Sprintf("the twin's answer cannot be read: %v", twin)
		}
		typ = e.Type
	}
	switch {
	case server == nil || twin == nil:
	case reason == "SQL_ERROR":
		if slices.Contains([]duckdb.ErrorType{duckdb.ErrorTypeConversion, duckdb.ErrorTypeOutOfRange, duckdb.ErrorTypeInvalidInput, duckdb.ErrorTypeExecutor}, typ) {
			return ""
		}
	case slices.Contains([]string{"SYNTAX", "INVALID_SQL", "UNKNOWN_COLUMN", "UNKNOWN_TABLE", "FUNCTION_NOT_ALLOWED"}, reason):
		if slices.Contains([]duckdb.ErrorType{duckdb.ErrorTypeParser, duckdb.ErrorTypeSyntax, duckdb.ErrorTypeBinder, duckdb.ErrorTypeCatalog}, typ) {
			return ""
		}
	}
	return fmt.Sprintf("the server's error: %s %v\nthe twin's error: %v", reason, server, twin)
}

// mustNotice takes one record away from the twin and expects to be told.
func (r *run) mustNotice(queries uint64) {
	r.t.Helper()
	if r.t.Failed() {
		return
	}
	p := r.topics["events"]
	p.lost, p.schema = &place{2, 40}, ""
	counts := *r
	defer func() {
		r.queries, r.rows, r.empty, r.errors = counts.queries, counts.rows, counts.empty, counts.errors
	}()
	for n := queries; n < queries+200; n++ {
		if _, _, diff := r.compare(n); diff != "" {
			r.t.Logf("a record that the twin lacks was noticed by statement %d of those that followed", n-queries+1)
			return
		}
	}
	r.t.Error("the twin lacks a record, and no statement noticed")
}
