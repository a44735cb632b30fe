package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/clock"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

func newBenchProduceCommand(a *app) *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "produce",
		Short: "Measure how fast records are acknowledged",
		Long: `Measure how fast records are acknowledged.

Without --rate, producers send as fast as they may: that measures throughput, and
the latency is that of a full pipe. With --rate, each record is due at a time that
was fixed beforehand, and its latency counts from then on, whether or not it could
be sent in time: what a stall does to all that wait behind it is in the figures (no
coordinated omission).
` + benchHelp,
		Example: `  tidemark bench produce --durability disk --producers 4 --size 100
  tidemark bench produce --rate 20000 --duration 30s -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.benchProduce(cmd.Context(), &f) },
	}
	f.declare(cmd)
	cmd.Flags().DurationVar(&f.duration, "duration", 10*time.Second, "stop after this `TIME`, unless --records comes first")
	cmd.Flags().Float64Var(&f.rate, "rate", 0, "`N` records a second, all producers together (default: as many as go)")
	return cmd
}

func (a *app) benchProduce(ctx context.Context, f *benchFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	acks, err := parseAcks(f.acks)
	if err != nil {
		return err
	}
	limits, err := a.limits(ctx, f)
	if err != nil {
		return err
	}
	return a.withBenchTopic(ctx, f, func(topic *tidemarkv1.Topic) error {
		r := &benchReport{
			Benchmark: "produce", Topic: topic.GetName(), Acks: f.acks, Durability: topic.GetConfig()["durability"],
			Partitions: topic.GetPartitions(), Producers: f.producers, ValueBytes: f.size, TargetRate: f.rate, Limits: limits,
		}
		err := a.runBenchProduce(ctx, f, r, producerOptions{
			topic: topic.GetName(), acks: acks, compression: f.compression, batchBytes: f.batch,
		})
		if r.Records > 0 {
			r.ServerRSS = a.serverRSS(context.WithoutCancel(ctx))
			err = errors.Join(a.renderBench(r), err)
		}
		return err
	})
}

// plan says how many records are sent at most, 0 for no end, and when the run ends at the latest. With a rate, the records
// that are due in the duration are all sent, however late: to leave those out that a stall held up would be the omission
// that a rate is there to avoid.
func (f *benchFlags) plan() (records int64, latest time.Duration, cause error) {
	if f.rate == 0 {
		return f.records, f.duration, errBenchDone
	}
	records = max(1, int64(f.rate*f.duration.Seconds()))
	if f.records > 0 {
		records = min(records, f.records)
	}
	return records, 3*f.duration + 10*time.Second, errTooSlow
}

var errTooSlow = errors.New("the server does not keep up with --rate: the run was given up after three times its duration")

// runBenchProduce drives the producers and fills in r, also when it fails in the middle.
func (a *app) runBenchProduce(ctx context.Context, f *benchFlags, r *benchReport, o producerOptions) error {
	records, latest, cause := f.plan()
	drivers := make([]*benchDriver, 0, f.producers)
	defer func() {
		for _, d := range drivers {
			// Everything that counts was flushed; what close could still say changes no figure.
			_ = d.producer.close(ctx)
		}
	}()
	for i := range f.producers {
		if records > 0 && int64(i) >= records {
			break // no more producers than records: a share of 0 would mean no end
		}
		p, err := a.newProducer(ctx, o)
		if err != nil {
			return doing(err, "start producer %d", i+1)
		}
		share := records / int64(f.producers)
		if int64(i) < records%int64(f.producers) {
			share++
		}
		drivers = append(drivers, newBenchDriver(a.clock, p, f, i, share))
	}
	begin := a.clock.Now()
	endProgress := a.progress(func() string {
		var done int64
		for _, d := range drivers {
			done += d.acknowledged()
		}
		return fmt.Sprintf("%d records, %.0f records/s", done, float64(done)/a.clock.Now().Sub(begin).Seconds())
	})
	// run ends with the time, with the interrupt, or with the first record that is refused.
	run, cancel := context.WithTimeoutCause(ctx, latest, cause)
	defer cancel()
	group, run := errgroup.WithContext(run)
	for _, d := range drivers {
		group.Go(func() error { return d.drive(ctx, run, begin) })
	}
	err := group.Wait()
	elapsed := a.clock.Now().Sub(begin)
	endProgress()
	latencies := newLatencies()
	for _, d := range drivers {
		r.Records += d.acknowledged()
		latencies.Merge(d.latencies)
	}
	r.Bytes = r.Records * int64(f.size)
	r.finish(elapsed)
	if f.acks != "0" {
		report := reportLatencies(latencies)
		r.Latency = &report
	}
	return doing(err, "produce to %q", o.topic)
}

// benchDriver is one producer of the benchmark.
type benchDriver struct {
	clock    clock.Clock
	producer producer
	message  message
	share    int64         // records to send; 0 for no end
	every    time.Duration // between two records that are due; 0 without a rate
	offset   time.Duration // of the first one

	mu        sync.Mutex
	latencies *hdrhistogram.Histogram
	records   int64
	err       error
}

func newBenchDriver(clk clock.Clock, p producer, f *benchFlags, number int, share int64) *benchDriver {
	d := &benchDriver{clock: clk, producer: p, share: share, latencies: newLatencies()}
	// No key: the client spreads the records as it does for anyone who gives none.
	d.message = message{partition: -1, value: make([]byte, f.size)}
	fillNoise(d.message.value)
	if f.rate > 0 {
		d.every = time.Duration(float64(time.Second) * float64(f.producers) / f.rate)
		d.offset = d.every * time.Duration(number) / time.Duration(f.producers)
	}
	return d
}

func (d *benchDriver) acknowledged() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.records
}

// drive sends until run is done or its share is sent, and waits for the answers; only ctx ends the waiting.
func (d *benchDriver) drive(ctx, run context.Context, begin time.Time) error {
	err := d.send(run, begin)
	if flushErr := d.producer.flush(ctx); err == nil {
		err = flushErr
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return d.err
	}
	return err
}

func (d *benchDriver) send(run context.Context, begin time.Time) error {
	for i := int64(0); d.share == 0 || i < d.share; i++ {
		if run.Err() != nil {
			return d.ended(run)
		}
		due := d.clock.Now()
		if d.every > 0 {
			now := due
			due = begin.Add(d.offset + time.Duration(i)*d.every)
			switch wait := due.Sub(now); {
			case wait >= timerSlack:
				if !d.wait(run, wait) {
					return d.ended(run)
				}
			case wait > 0:
				due = now // sent a little early: it counts from when it was sent
			}
		}
		err := d.producer.produce(run, &d.message, func(k acked) { d.done(due, k) })
		if run.Err() != nil {
			return d.ended(run)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ended is nil when the time was up, and otherwise says what ended the run.
func (d *benchDriver) ended(run context.Context) error {
	if cause := context.Cause(run); !errors.Is(cause, errBenchDone) {
		return cause
	}
	return nil
}

// timerSlack is how early a record may be sent: a timer would be later than that anyway, and at high rates a burst of a
// few records does what a timer for each could not.
const timerSlack = 200 * time.Microsecond

func (d *benchDriver) wait(run context.Context, wait time.Duration) bool {
	timer := d.clock.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-run.Done():
		return false
	case <-timer.C():
		return true
	}
}

func (d *benchDriver) done(due time.Time, k acked) {
	now := d.clock.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if k.err != nil {
		if d.err == nil {
			d.err = k.err
		}
		return
	}
	d.records++
	recordLatency(d.latencies, now.Sub(due))
}
