package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// benchFlags are the flags of both benchmarks.
type benchFlags struct {
	topic       string
	records     int64
	size        int
	producers   int
	duration    time.Duration
	rate        float64
	acks        string
	durability  string
	partitions  int32
	batch       int
	compression string
	dataDir     string
	noLimits    bool
}

const benchHelp = `
Unless --topic names one, it makes a topic for the run and deletes it afterwards.

Beside the figures stand the limits of the machine, measured in the same run:
sequential writes with one fsync behind them, the latency of an fsync after 4 KiB,
and one TCP connection over loopback. They take about five seconds; --no-limits
leaves them out. --data-dir says on which disk: name the server's, if it is here.`

func newBenchCommand(a *app) *cobra.Command {
	group := &cobra.Command{Use: "bench", Short: "Measure how fast records go in and come out, and how fast SQL is answered"}
	commandGroup(group)
	group.AddCommand(newBenchProduceCommand(a), newBenchConsumeCommand(a), newBenchQueryCommand(a))
	return group
}

func (f *benchFlags) declare(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.topic, "topic", "", "use this `TOPIC`, and leave it")
	flags.Int64Var(&f.records, "records", 0, "stop after `N` records")
	flags.IntVar(&f.size, "size", 1024, "`BYTES` of each value")
	flags.IntVar(&f.producers, "producers", 4, "`N`umber of producers, each with a connection of its own")
	flags.StringVar(&f.acks, "acks", "all", "what producers wait for: all, 1 or 0")
	flags.StringVar(&f.durability, "durability", "object", "of the topic that is made: object or disk")
	flags.Int32Var(&f.partitions, "partitions", 4, "of the topic that is made: `N`")
	flags.IntVar(&f.batch, "batch", 0, "greatest batch in `BYTES` (default: the client's)")
	flags.StringVar(&f.compression, "compression", "none", "how batches are compressed: none, gzip, snappy, lz4 or zstd")
	flags.StringVar(&f.dataDir, "data-dir", "", "measure the disk of this `DIR` (default: that of temporary files)")
	flags.BoolVar(&f.noLimits, "no-limits", false, "do not measure the machine's limits")
}

func (f *benchFlags) check() error {
	switch {
	case f.size < 0 || f.size > 64<<20:
		return usagef("use a size from 0 to 67108864", "--size %d is out of range", f.size)
	case f.producers < 1 || f.producers > 1024:
		return usagef("use 1 to 1024", "--producers %d is out of range", f.producers)
	case f.records < 0 || f.duration < 0 || f.rate < 0 || f.batch < 0:
		return usagef("leave it away for the default", "--records, --duration, --rate and --batch are not negative")
	case f.durability != "object" && f.durability != "disk":
		return usagef("use object or disk", "unknown --durability %q", f.durability)
	case f.partitions < 1:
		return usagef("use 1 or more", "--partitions %d is out of range", f.partitions)
	}
	return checkCompression(f.compression)
}

// benchReport is what a benchmark prints.
type benchReport struct {
	Benchmark        string         `json:"benchmark"`
	Topic            string         `json:"topic"`
	Acks             string         `json:"acks,omitempty"`
	Durability       string         `json:"durability"`
	Partitions       int32          `json:"partitions"`
	Producers        int            `json:"producers,omitempty"`
	ValueBytes       int            `json:"value_bytes"`
	TargetRate       float64        `json:"target_records_per_second,omitempty"`
	Records          int64          `json:"records"`
	Bytes            int64          `json:"bytes"`
	Seconds          float64        `json:"seconds"`
	RecordsPerSecond float64        `json:"records_per_second"`
	MBPerSecond      float64        `json:"mb_per_second"`
	Latency          *latencyReport `json:"ack_latency,omitempty"`
	ServerRSS        int64          `json:"server_resident_bytes,omitempty"`
	Limits           *machineLimits `json:"limits,omitempty"`
}

func (r *benchReport) finish(elapsed time.Duration) {
	r.Seconds = elapsed.Seconds()
	r.RecordsPerSecond = float64(r.Records) / r.Seconds
	r.MBPerSecond = float64(r.Bytes) / 1e6 / r.Seconds
}

func (a *app) renderBench(r *benchReport) error {
	columns := []string{"benchmark", "records", "bytes", "seconds", "records_per_second", "mb_per_second"}
	number := func(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }
	row := []string{r.Benchmark, fmt.Sprint(r.Records), fmt.Sprint(r.Bytes), number(r.Seconds), number(r.RecordsPerSecond), number(r.MBPerSecond)}
	if l := r.Latency; l != nil {
		columns = append(columns, "p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms")
		for _, ms := range []float64{l.P50, l.P90, l.P99, l.P999, l.Max} {
			row = append(row, strconv.FormatFloat(ms, 'f', 3, 64))
		}
	}
	return a.render(view{columns: columns, rows: [][]string{row}, json: r, plain: r.print})
}

// print is the report for people.
func (r *benchReport) print(w io.Writer) error {
	var b strings.Builder
	setup := fmt.Sprintf("durability=%s, %d partitions, %d B values", r.Durability, r.Partitions, r.ValueBytes)
	if r.Producers > 0 {
		setup += fmt.Sprintf(", %d producers, acks=%s", r.Producers, r.Acks)
	}
	fmt.Fprintf(&b, "%s  %s\n", r.Benchmark, setup)
	fmt.Fprintf(&b, "  records     %d in %.1f s\n", r.Records, r.Seconds)
	fmt.Fprintf(&b, "  throughput  %.0f records/s  %.1f MB/s\n", r.RecordsPerSecond, r.MBPerSecond)
	if r.Latency != nil {
		how := "from the moment each record was handed over, at full load"
		if r.TargetRate > 0 {
			how = fmt.Sprintf("from the moment each record was due, at %.0f records/s", r.TargetRate)
		}
		fmt.Fprintf(&b, "  ack         %s\n              (%s)\n", r.Latency, how)
	}
	if r.ServerRSS > 0 {
		fmt.Fprintf(&b, "  server      %.0f MB resident\n", float64(r.ServerRSS)/1e6)
	}
	if l := r.Limits; l != nil {
		b.WriteString(l.text())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// withBenchTopic runs use with the topic of the flags, or with one that it makes and deletes.
func (a *app) withBenchTopic(ctx context.Context, f *benchFlags, use func(*tidemarkv1.Topic) error) (err error) {
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	if f.topic != "" {
		topic, _, err := c.GetTopic(ctx, f.topic)
		if err != nil {
			return doing(err, "look up topic %q", f.topic)
		}
		return use(topic)
	}
	config := map[string]string{"durability": f.durability}
	if need := max(f.batch, f.size) + 4096; need > 1<<20 {
		config["max.message.bytes"] = strconv.Itoa(min(need, 8<<20))
	}
	name := "bench-" + strconv.FormatInt(a.clock.Now().UnixNano(), 36)
	topic, _, err := c.CreateTopic(ctx, name, f.partitions, config, false)
	if err != nil {
		return doing(err, "create topic %q for the run", name)
	}
	defer func() {
		// Also after an interrupt: the run's data is of use to nobody.
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushGrace)
		defer cancel()
		if deleteErr := c.DeleteTopic(cleanup, name); deleteErr != nil && err == nil {
			err = doing(deleteErr, "delete topic %q of the run", name)
		}
	}()
	return use(topic)
}

// serverRSS reads the server's resident memory from its metrics; 0 when they do not tell.
func (a *app) serverRSS(ctx context.Context) int64 {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	first, _, _ := strings.Cut(a.server, ",")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(first, "/")+"/metrics", nil)
	if err != nil {
		return 0
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	s := bufio.NewScanner(io.LimitReader(resp.Body, 16<<20))
	for s.Scan() {
		if text, ok := strings.CutPrefix(s.Text(), "process_resident_memory_bytes"); ok {
			fields := strings.Fields(text)
			if len(fields) == 0 {
				continue
			}
			// Labels, when there are any, hold no spaces: the value is the last field.
			if n, err := strconv.ParseFloat(fields[len(fields)-1], 64); err == nil {
				return int64(n)
			}
		}
	}
	return 0
}

// limits measures the machine unless the flags say not to.
func (a *app) limits(ctx context.Context, f *benchFlags) (*machineLimits, error) {
	if f.noLimits {
		return nil, nil //nolint:nilnil // nothing measured is no error
	}
	dir := f.dataDir
	if dir == "" {
		dir = a.tempDir
	}
	l, err := measureLimits(ctx, a.fs, a.clock, dir)
	if err != nil {
		return nil, fmt.Errorf("%w (--no-limits goes without)", err)
	}
	return &l, nil
}

var errBenchDone = errors.New("benchmark is done")
