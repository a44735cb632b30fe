package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

func newBenchConsumeCommand(a *app) *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "consume",
		Short: "Measure how fast records are read",
		Long: `Measure how fast records are read, from the start to the end, decoded one by one.

Unless --topic names a topic with records in it, it first fills one with --records
(default 1000000) records, which then are the newest of the log: so this measures
the way from the server's memory to the consumer.
` + benchHelp,
		Example: `  tidemark bench consume --size 1024
  tidemark bench consume --topic access`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.benchConsume(cmd.Context(), &f) },
	}
	f.declare(cmd)
	cmd.Flags().DurationVar(&f.duration, "duration", 0, "stop reading after this `TIME` (default: at the end)")
	return cmd
}

func (a *app) benchConsume(ctx context.Context, f *benchFlags) error {
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
			Benchmark: "consume", Topic: topic.GetName(), Durability: topic.GetConfig()["durability"],
			Partitions: topic.GetPartitions(), ValueBytes: f.size, Limits: limits,
		}
		if f.topic == "" {
			fill := *f
			fill.rate, fill.duration = 0, time.Hour
			if fill.records == 0 {
				fill.records = 1_000_000
			}
			err := a.runBenchProduce(ctx, &fill, &benchReport{}, producerOptions{
				topic: topic.GetName(), acks: acks, compression: f.compression, batchBytes: f.batch,
			})
			if err != nil {
				return err
			}
		}
		err := a.runBenchConsume(ctx, f, r)
		if r.Records > 0 {
			r.ServerRSS = a.serverRSS(context.WithoutCancel(ctx))
			err = errors.Join(a.renderBench(r), err)
		}
		return err
	})
}

// runBenchConsume reads to the end and fills in r, also when it fails in the middle.
func (a *app) runBenchConsume(ctx context.Context, f *benchFlags, r *benchReport) error {
	run, cancel := ctx, context.CancelFunc(func() {})
	if f.duration > 0 {
		run, cancel = context.WithTimeoutCause(ctx, f.duration, errBenchDone)
	}
	defer cancel()
	begin := a.clock.Now()
	c, err := a.newConsumer(run, consumerOptions{topic: r.Topic, start: true, offset: -1, untilEnd: true})
	if err != nil {
		return doing(err, "consume %q", r.Topic)
	}
	for err == nil {
		err = c.poll(run, func(m *message) error {
			r.Records++
			r.Bytes += int64(m.size())
			if r.Records == f.records && f.topic != "" {
				return errBenchDone
			}
			return nil
		})
	}
	r.finish(a.clock.Now().Sub(begin))
	closeErr := c.close()
	if r.Records > 0 && f.topic != "" {
		r.ValueBytes = int(r.Bytes / r.Records)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, errBenchDone) || errors.Is(context.Cause(run), errBenchDone) {
		return doing(closeErr, "consume %q", r.Topic)
	}
	return doing(err, "consume %q", r.Topic)
}
