package query

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/tidemark-io/tidemark/query/tail"
)

// instrumentationScope names this package to OpenTelemetry.
const instrumentationScope = "github.com/tidemark-io/tidemark/query"

// telemetry is what the service tells about itself. Names follow OpenTelemetry; Prometheus shows tidemark.query.rows.read as
// tidemark_query_rows_read_total. Outcomes are reasons, or "ok", so that their number is small.
type telemetry struct {
	tracer trace.Tracer
	meter  metric.Meter

	queries      metric.Int64Counter
	duration     metric.Float64Histogram
	queued       metric.Float64Histogram
	caughtUp     metric.Float64Histogram
	rowsRead     metric.Int64Counter
	rowsReturned metric.Int64Counter
	panics       metric.Int64Counter

	stop func()
}

var queryBuckets = []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 300, 1800, 3600}

func newTelemetry(meters metric.MeterProvider, tracers trace.TracerProvider) (*telemetry, error) {
	if meters == nil {
		meters = metricnoop.NewMeterProvider()
	}
	if tracers == nil {
		tracers = tracenoop.NewTracerProvider()
	}
	b := instruments{meter: meters.Meter(instrumentationScope)}
	t := &telemetry{
		tracer:       tracers.Tracer(instrumentationScope),
		meter:        b.meter,
		queries:      b.counter("tidemark.query.queries", "{query}", "Queries that ended, by outcome."),
		duration:     b.seconds("tidemark.query.duration", "Queries from the call to their end, by outcome."),
		queued:       b.seconds("tidemark.query.queue.duration", "Waiting for a slot."),
		caughtUp:     b.seconds("tidemark.query.catch_up.duration", "Waiting until the tail has reached the query's position."),
		rowsRead:     b.counter("tidemark.query.rows.read", "{row}", "Rows read from tables."),
		rowsReturned: b.counter("tidemark.query.rows.returned", "{row}", "Rows sent to clients."),
		panics:       b.counter("tidemark.query.panics", "{query}", "Requests ended by a bug of ours; the log has the stack."),
		stop:         func() {},
	}
	return t, b.err
}

// instruments makes instruments and keeps the errors for one check at the end.
type instruments struct {
	meter metric.Meter
	all   []metric.Observable
	err   error
}

func (b *instruments) counter(name, unit, description string) metric.Int64Counter {
	c, err := b.meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
	b.err = errors.Join(b.err, err)
	return c
}

func (b *instruments) seconds(name, description string) metric.Float64Histogram {
	h, err := b.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description),
		metric.WithExplicitBucketBoundaries(queryBuckets...))
	b.err = errors.Join(b.err, err)
	return h
}

func (b *instruments) gauge(name, unit, description string) metric.Int64ObservableGauge {
	g, err := b.meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
	b.err = errors.Join(b.err, err)
	b.all = append(b.all, g)
	return g
}

// observe registers the levels, to be asked for whenever metrics are collected.
func (t *telemetry) observe(g *gate, stats func() []tail.Stats) error {
	b := instruments{meter: t.meter}
	running := b.gauge("tidemark.query.running", "{query}", "Queries that hold a slot.")
	waiting := b.gauge("tidemark.query.waiting", "{query}", "Queries that wait for a slot.")
	inMemory := b.gauge("tidemark.query.tail.memory", "By", "Records of topics held as columns in memory.")
	onDisk := b.gauge("tidemark.query.tail.disk", "By", "Records of topics held as columns on disk.")
	if b.err != nil {
		return b.err
	}
	registration, err := t.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		r, w := g.levels()
		memory, disk := int64(0), int64(0)
		for _, s := range stats() {
			memory += s.Memory
			disk += s.Disk
		}
		o.ObserveInt64(running, int64(r))
		o.ObserveInt64(waiting, int64(w))
		o.ObserveInt64(inMemory, memory)
		o.ObserveInt64(onDisk, disk)
		return nil
	}, b.all...)
	if err != nil {
		return err
	}
	t.stop = func() {
		// Unregister fails only for a registration that is none of the provider's.
		_ = registration.Unregister()
	}
	return nil
}

// span starts the span of one query.
func (t *telemetry) span(ctx context.Context) (context.Context, trace.Span) {
	return t.tracer.Start(ctx, "tidemark.query") //nolint:spancheck // ended ends it
}

// ended records one query.
func (t *telemetry) ended(ctx context.Context, span trace.Span, s stats, err error) {
	outcome := "ok"
	if err != nil {
		outcome = string(reasonOf(err))
		span.SetStatus(codes.Error, err.Error())
	}
	span.SetAttributes(attribute.String("tidemark.outcome", outcome), attribute.Int64("tidemark.rows", s.rows),
		attribute.Int64("tidemark.rows_read", s.read), attribute.Float64("tidemark.queued_seconds", s.queued.Seconds()))
	span.End()
	by := metric.WithAttributes(attribute.String("outcome", outcome))
	t.queries.Add(ctx, 1, by)
	t.duration.Record(ctx, s.elapsed.Seconds(), by)
	t.queued.Record(ctx, s.queued.Seconds())
	t.caughtUp.Record(ctx, s.caughtUp.Seconds())
	t.rowsRead.Add(ctx, s.read)
	t.rowsReturned.Add(ctx, s.rows)
}

// stats is what a query took.
type stats struct {
	rows, read                int64
	elapsed, queued, caughtUp time.Duration
}
