package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-io/tidemark/client"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// benchQueryFlags are the flags of bench query.
type benchQueryFlags struct {
	benchFlags
	repetitions int
	keep        bool
}

func newBenchQueryCommand(a *app) *cobra.Command {
	var f benchQueryFlags
	cmd := &cobra.Command{
		Use:   "query",
		Short: "Measure how fast SQL is answered, and how soon it sees what was acknowledged",
		Long: `Measure how fast SQL is answered over orders of about 200 bytes, the same in every
run:

  first query   count(*) right after the records were produced: the server decodes
                all of them into columns
  sum, group    sums by a column of few values, counts by a text of many
  point, limit  one record by its offset, any 10 records
  stream        the whole topic: time to the first rows, and rows a second
  freshness     while records come in at --rate for --duration, with one question behind
                the other: from every acknowledgement to the first answer that covers
                it; an answer that lacks a record that was acknowledged before the
                question fails the run

Unless --topic names one, it makes a topic for the run and deletes it afterwards. A
topic that is named is made and filled if it is not there; it stays.

Beside the figures stand the limits of the machine, measured in the same run.`,
		Example: `  tidemark bench query
  tidemark bench query --records 100000 --durability disk --duration 3s -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.benchQuery(cmd.Context(), &f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.topic, "topic", "", "use this `TOPIC`, and leave it")
	flags.Int64Var(&f.records, "records", 1_000_000, "fill the topic with `N` records")
	flags.DurationVar(&f.duration, "duration", 5*time.Second, "measure freshness for this `TIME`")
	flags.Float64Var(&f.rate, "rate", 20_000, "`N` records a second come in meanwhile")
	flags.IntVar(&f.repetitions, "repetitions", 20, "ask each question `N` times")
	flags.StringVar(&f.durability, "durability", "object", "of the topic that is made: object or disk")
	flags.Int32Var(&f.partitions, "partitions", 4, "of the topic that is made: `N`")
	flags.BoolVar(&f.keep, "keep", false, "leave the topic that was made")
	flags.StringVar(&f.dataDir, "data-dir", "", "measure the disk of this `DIR` (default: that of temporary files)")
	flags.BoolVar(&f.noLimits, "no-limits", false, "do not measure the machine's limits")
	return cmd
}

func (f *benchQueryFlags) check() error {
	f.producers, f.compression = 1, "none"
	switch {
	case f.records < 1:
		return usagef("use 1 or more", "--records %d is out of range", f.records)
	case f.repetitions < 1 || f.repetitions > 100_000:
		return usagef("use 1 to 100000", "--repetitions %d is out of range", f.repetitions)
	case f.duration > 0 && (f.rate <= 0 || f.rate > 10_000_000):
		return usagef("use 1 to 10000000, or --duration 0 to leave freshness out", "--rate %v is out of range", f.rate)
	}
	return f.benchFlags.check()
}

// benchQueryReport is what the benchmark prints.
type benchQueryReport struct {
	Benchmark  string           `json:"benchmark"`
	Topic      string           `json:"topic"`
	Durability string           `json:"durability"`
	Partitions int32            `json:"partitions"`
	Records    int64            `json:"records"`
	Bytes      int64            `json:"bytes"` // of the records that this run produced before the questions
	Questions  []benchQuestion  `json:"questions"`
	Freshness  *freshnessReport `json:"freshness,omitempty"`
	ServerRSS  int64            `json:"server_resident_bytes,omitempty"`
	Limits     *machineLimits   `json:"limits,omitempty"`
}

// benchQuestion is one statement, asked several times.
type benchQuestion struct {
	Name        string        `json:"name"`
	SQL         string        `json:"sql"`
	Repetitions int           `json:"repetitions"`
	FirstRow    latencyReport `json:"first_row"` // from the question to the first rows
	Latency     latencyReport `json:"latency"`   // to the last
	// Per second, at the median: records of the topic, and rows of the result.
	RecordsPerSecond float64 `json:"records_per_second"`
	RowsPerSecond    float64 `json:"rows_per_second"`
}

func (a *app) benchQuery(ctx context.Context, f *benchQueryFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	limits, err := a.limits(ctx, &f.benchFlags)
	if err != nil {
		return err
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	return a.withQueryTopic(ctx, c, f, func(topic *tidemarkv1.Topic, fresh bool) error {
		r := &benchQueryReport{
			Benchmark: "query", Topic: topic.GetName(), Durability: topic.GetConfig()["durability"], Partitions: topic.GetPartitions(), Limits: limits,
		}
		err := a.runBenchQuery(ctx, c, f, r, fresh)
		if len(r.Questions) > 0 {
			r.ServerRSS = a.serverRSS(context.WithoutCancel(ctx))
			err = errors.Join(a.renderBenchQuery(r), err)
		}
		return err
	})
}

// withQueryTopic runs use with the topic of the flags; fresh tells that it was made now and is empty.
func (a *app) withQueryTopic(ctx context.Context, c *client.Client, f *benchQueryFlags, use func(t *tidemarkv1.Topic, fresh bool) error) (err error) {
	name := f.topic
	if name == "" {
		name = "bench-" + strconv.FormatInt(a.clock.Now().UnixNano(), 36)
	}
	topic, created, err := c.CreateTopic(ctx, name, f.partitions, map[string]string{"durability": f.durability}, f.topic != "")
	if err != nil {
		return doing(err, "create topic %q for the run", name)
	}
	if f.topic == "" && !f.keep {
		defer func() {
			// Also after an interrupt: the run's data is of use to nobody.
			cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushGrace)
			defer cancel()
			if deleteErr := c.DeleteTopic(cleanup, name); deleteErr != nil && err == nil {
				err = doing(deleteErr, "delete topic %q of the run", name)
			}
		}()
	}
	return use(topic, created)
}

// runBenchQuery fills in r, also when it fails in the middle.
func (a *app) runBenchQuery(ctx context.Context, c *client.Client, f *benchQueryFlags, r *benchQueryReport, fresh bool) error {
	var acks ackedPosition
	acks.topic = r.Topic
	if fresh {
		bytes, err := a.fillOrders(ctx, r.Topic, f.records, &acks)
		if err != nil {
			return doing(err, "produce to %q", r.Topic)
		}
		r.Bytes = bytes
	}
	table := quoteName(r.Topic)
	count := "SELECT count(*) FROM " + table
	first := &benchQuestion{Name: "first query", SQL: count, Repetitions: 1}
	if err := a.askBench(ctx, c, first, client.QueryOptions{AtLeast: acks.position()}, func(n int64) { r.Records = n }); err != nil {
		return err
	}
	if acked := acks.records(); r.Records < acked {
		return missingRecords(r.Records, acked)
	}
	first.RecordsPerSecond = perSecond(r.Records, first.Latency.P50)
	r.Questions = append(r.Questions, *first)
	for _, q := range []benchQuestion{
		{Name: "sum", SQL: "SELECT region, count(*), sum(amount) FROM " + table + " GROUP BY region ORDER BY region"},
		{Name: "group", SQL: "SELECT customer, count(*) FROM " + table + " GROUP BY customer ORDER BY 2 DESC, 1 LIMIT 10"},
		{Name: "point", SQL: "SELECT * FROM " + table + " WHERE _partition = 0 AND _offset = 1"},
		{Name: "limit", SQL: "SELECT * FROM " + table + " LIMIT 10"},
		{Name: "stream", SQL: "SELECT * FROM " + table, Repetitions: min(3, f.repetitions)},
	} {
		if q.Repetitions == 0 {
			q.Repetitions = f.repetitions
		}
		if err := a.askBench(ctx, c, &q, client.QueryOptions{}, nil); err != nil {
			return err
		}
		q.RecordsPerSecond = perSecond(r.Records, q.Latency.P50)
		r.Questions = append(r.Questions, q)
	}
	if f.duration == 0 {
		return nil
	}
	report, err := a.measureFreshness(ctx, c, f, r.Topic, count, r.Records-acks.records(), &acks)
	if report != nil {
		r.Freshness = report
	}
	return err
}

func perSecond(n int64, ms float64) float64 { return float64(n) / max(ms, 0.001) * 1000 }

// longQuestion is when a question is not repeated any more, however often it was to be.
const longQuestion = 30 * time.Second

// askBench asks a question again and again. number, unless nil, gets the integer of the only row of its answers.
func (a *app) askBench(ctx context.Context, c *client.Client, q *benchQuestion, o client.QueryOptions, number func(int64)) error {
	firsts, lasts := newLatencies(), newLatencies()
	begin := a.clock.Now()
	var rows int64
	asked := 0
	for asked < q.Repetitions && (asked == 0 || a.clock.Now().Sub(begin) < longQuestion) {
		asked++
		answer, err := a.timeQuery(ctx, c, q.SQL, o)
		if err != nil {
			return doing(err, "ask for %s", q.Name)
		}
		if number != nil {
			number(answer.number)
		}
		rows = answer.rows
		recordLatency(firsts, answer.firstRow)
		recordLatency(lasts, answer.lastRow)
	}
	q.Repetitions, q.FirstRow, q.Latency = asked, reportLatencies(firsts), reportLatencies(lasts)
	q.RowsPerSecond = perSecond(rows, q.Latency.P50)
	return nil
}

// benchAnswer is one answer, and when it was there, from the question on.
type benchAnswer struct {
	rows              int64
	number            int64 // the first value, when it is a BIGINT
	covers            []client.Position
	firstRow, lastRow time.Duration
}

func (a *app) timeQuery(ctx context.Context, c *client.Client, sql string, o client.QueryOptions) (benchAnswer, error) {
	var answer benchAnswer
	begin := a.clock.Now()
	rows, err := c.Query(ctx, sql, o)
	if err != nil {
		return answer, err
	}
	defer rows.Close()
	answer.covers = rows.Position()
	for {
		rec, err := rows.Next()
		if errors.Is(err, io.EOF) {
			answer.lastRow = a.clock.Now().Sub(begin)
			if answer.rows == 0 {
				answer.firstRow = answer.lastRow
			}
			return answer, nil
		}
		if err != nil {
			return answer, err
		}
		if answer.rows == 0 {
			answer.firstRow = a.clock.Now().Sub(begin)
			answer.number = firstInteger(rec)
		}
		answer.rows += rec.NumRows()
		rec.Release()
	}
}

func (a *app) renderBenchQuery(r *benchQueryReport) error {
	columns := []string{"question", "repetitions", "first_row_p50_ms", "p50_ms", "p90_ms", "p99_ms", "max_ms", "records_per_second", "rows_per_second"}
	ms := func(f float64) string { return strconv.FormatFloat(f, 'f', 3, 64) }
	var rows [][]string
	for _, q := range r.Questions {
		l := q.Latency
		rows = append(rows, []string{
			q.Name, strconv.Itoa(q.Repetitions), ms(q.FirstRow.P50), ms(l.P50), ms(l.P90), ms(l.P99), ms(l.Max),
			strconv.FormatFloat(q.RecordsPerSecond, 'f', 0, 64), strconv.FormatFloat(q.RowsPerSecond, 'f', 0, 64),
		})
	}
	if f := r.Freshness; f != nil {
		l := f.Visible
		rows = append(rows, []string{"freshness", strconv.FormatInt(f.Acknowledgements, 10), "", ms(l.P50), ms(l.P90), ms(l.P99), ms(l.Max), strconv.FormatFloat(f.RecordsPerSecond, 'f', 0, 64), ""})
	}
	return a.render(view{columns: columns, rows: rows, json: r, plain: r.print})
}

// print is the report for people.
func (r *benchQueryReport) print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "query  durability=%s, %d partitions, %d records\n", r.Durability, r.Partitions, r.Records)
	for _, q := range r.Questions {
		switch {
		case q.Repetitions == 1:
			fmt.Fprintf(&b, "  %-12s%s, %.0f records/s\n", q.Name, millis(q.Latency.P50), q.RecordsPerSecond)
		case q.Name == "stream":
			fmt.Fprintf(&b, "  %-12s%s  first rows after p50 %s, %.0f rows/s\n", q.Name, q.Latency, millis(q.FirstRow.P50), q.RowsPerSecond)
		default:
			fmt.Fprintf(&b, "  %-12s%s  (%d times)\n", q.Name, q.Latency, q.Repetitions)
		}
	}
	if f := r.Freshness; f != nil {
		fmt.Fprintf(&b, "  freshness   %s\n              (from each of %d acks to the first answer that covers it, %d answers, at %.0f records/s of %.0f)\n", f.Visible, f.Acknowledgements, f.Queries, f.RecordsPerSecond, f.TargetRate)
	}
	if r.ServerRSS > 0 {
		fmt.Fprintf(&b, "  server      %.0f MB resident\n", float64(r.ServerRSS)/1e6)
	}
	if r.Limits != nil {
		b.WriteString(r.Limits.text())
	}
	_, err := io.WriteString(w, b.String())
	return err
}
