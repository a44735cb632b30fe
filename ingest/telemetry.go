package ingest

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
)

// instrumentationScope names this package to OpenTelemetry.
const instrumentationScope = "github.com/tidemark-io/tidemark/ingest"

// Telemetry is what a node tells about itself: metrics and spans through produce, log, flush, commit and fetch. It holds no
// global state, every method may be called from any goroutine, and none blocks, fails or allocates for each record.
//
// Names follow OpenTelemetry; Prometheus shows them with underscores, units and _total:
//
//	tidemark.produce.records    tidemark_produce_records_total
//	tidemark.produce.bytes      tidemark_produce_bytes_total
//	tidemark.flush.duration     tidemark_flush_duration_seconds
//
// No metric has a topic as an attribute, so that their number does not grow with the data; spans do.
type Telemetry struct {
	tracer trace.Tracer
	traced bool
	meter  metric.Meter

	produceRecords  metric.Int64Counter
	produceBytes    metric.Int64Counter
	produceDuration metric.Float64Histogram
	produceFailures metric.Int64Counter

	logBytes        metric.Int64Counter
	logSyncDuration metric.Float64Histogram
	logFailures     metric.Int64Counter

	flushObjects  metric.Int64Counter
	flushBytes    metric.Int64Counter
	flushBatches  metric.Int64Counter
	flushDuration metric.Float64Histogram
	flushFailures metric.Int64Counter

	commits        metric.Int64Counter
	commitDuration metric.Float64Histogram
	commitDoubts   metric.Int64Counter

	partitionsLetGo    metric.Int64Counter
	letGoDuration      metric.Float64Histogram
	partitionsTookOver metric.Int64Counter
	takeoverDuration   metric.Float64Histogram

	fetchBytes    metric.Int64Counter
	fetchRequests metric.Int64Counter
	fetchDuration metric.Float64Histogram
	fetchFailures metric.Int64Counter

	requestPanics metric.Int64Counter

	// Options are made once: adding to a counter then costs no allocation.
	bySource  map[FetchSource]metric.MeasurementOption
	byReached map[Reached]metric.MeasurementOption
}

// FetchSource is where fetched bytes came from.
type FetchSource uint8

// Where fetched bytes come from.
const (
	// FetchMemory is the node's own tail.
	FetchMemory FetchSource = iota
	// FetchLog is the write-ahead log on the node's disk.
	FetchLog
	// FetchObject is the object store.
	FetchObject
)

// String is the source's name in metrics.
func (s FetchSource) String() string {
	switch s {
	case FetchMemory:
		return "memory"
	case FetchLog:
		return "wal"
	case FetchObject:
		return "object"
	}
	return "unknown"
}

// latencyBuckets are seconds: fine where acknowledgements live, and up to a stalled object store.
var latencyBuckets = []float64{
	.0005, .001, .002, .005, .01, .015, .02, .03, .05, .1, .2, .3, .5, 1, 2, 5, 10, 30,
}

// NewTelemetry makes the instruments. A nil provider records nothing.
func NewTelemetry(meters metric.MeterProvider, tracers trace.TracerProvider) (*Telemetry, error) {
	if meters == nil {
		meters = metricnoop.NewMeterProvider()
	}
	traced := tracers != nil
	if tracers == nil {
		tracers = tracenoop.NewTracerProvider()
	}
	b := instruments{meter: meters.Meter(instrumentationScope)}
	t := &Telemetry{
		tracer: tracers.Tracer(instrumentationScope),
		traced: traced,
		meter:  b.meter,

		produceRecords:  b.counter("tidemark.produce.records", "{record}", "Records acknowledged to producers."),
		produceBytes:    b.counter("tidemark.produce.bytes", "By", "Bytes of batches acknowledged to producers."),
		produceDuration: b.seconds("tidemark.produce.duration", "From taking a batch to acknowledging it."),
		produceFailures: b.counter("tidemark.produce.failures", "{request}", "Produce requests refused or failed, by reason."),

		logBytes:        b.counter("tidemark.wal.bytes", "By", "Bytes appended to the write-ahead log."),
		logSyncDuration: b.seconds("tidemark.wal.sync.duration", "One fsync of the write-ahead log."),
		logFailures:     b.counter("tidemark.wal.failures", "{failure}", "Writes or syncs of the write-ahead log that failed."),

		flushObjects:  b.counter("tidemark.flush.objects", "{object}", "L0 objects stored."),
		flushBytes:    b.counter("tidemark.flush.bytes", "By", "Bytes of L0 objects stored."),
		flushBatches:  b.counter("tidemark.flush.batches", "{batch}", "Batches in L0 objects stored."),
		flushDuration: b.seconds("tidemark.flush.duration", "Storing one L0 object, all attempts together."),
		flushFailures: b.counter("tidemark.flush.failures", "{attempt}", "Attempts to store an L0 object that failed."),

		commits:        b.counter("tidemark.commit.decisions", "{commit}", "Commits decided, by outcome."),
		commitDuration: b.seconds("tidemark.commit.duration", "From sending a commit to knowing its outcome."),
		commitDoubts:   b.counter("tidemark.commit.doubts", "{attempt}", "Attempts of a commit whose outcome was not known and that were sent again."),

		partitionsLetGo:    b.counter("tidemark.partitions.released", "{partition}", "Partitions let go for another node."),
		letGoDuration:      b.seconds("tidemark.release.duration", "From taking nothing more for partitions to having let them go."),
		partitionsTookOver: b.counter("tidemark.partitions.taken", "{partition}", "Partitions led that another node, or this one in an earlier epoch, led before."),
		takeoverDuration:   b.seconds("tidemark.takeover.duration", "From hearing of an assignment to leading what it gives."),

		fetchBytes:    b.counter("tidemark.fetch.bytes", "By", "Bytes of batches given to consumers, by where they came from."),
		fetchRequests: b.counter("tidemark.fetch.requests", "{request}", "Fetches answered."),
		fetchDuration: b.seconds("tidemark.fetch.duration", "Fetches, long polling included."),
		fetchFailures: b.counter("tidemark.fetch.failures", "{request}", "Fetches refused or failed, by reason."),

		requestPanics: b.counter("tidemark.request.panics", "{request}", "Requests ended by a bug of ours; the log has the stack."),

		bySource:  make(map[FetchSource]metric.MeasurementOption),
		byReached: make(map[Reached]metric.MeasurementOption),
	}
	for _, s := range []FetchSource{FetchMemory, FetchLog, FetchObject} {
		t.bySource[s] = metric.WithAttributeSet(attribute.NewSet(attribute.String("source", s.String())))
	}
	for _, r := range []Reached{ReachedNone, ReachedBuffered, ReachedDisk, ReachedObject} {
		t.byReached[r] = metric.WithAttributeSet(attribute.NewSet(attribute.String("reached", r.String())))
	}
	if b.err != nil {
		return nil, b.err
	}
	return t, nil
}

// instruments makes instruments and keeps the errors for one check at the end.
type instruments struct {
	meter metric.Meter
	err   error
}

func (b *instruments) counter(name, unit, description string) metric.Int64Counter {
	c, err := b.meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
	b.err = errors.Join(b.err, err)
	return c
}

func (b *instruments) seconds(name, description string) metric.Float64Histogram {
	h, err := b.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description),
		metric.WithExplicitBucketBoundaries(latencyBuckets...))
	b.err = errors.Join(b.err, err)
	return h
}

func byReason(err error) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("reason", string(ReasonOf(err))))
}

// Produced counts an acknowledged batch. A context is taken only for exemplars.
func (t *Telemetry) Produced(ctx context.Context, records, bytes int, reached Reached, took time.Duration) {
	opt, ok := t.byReached[reached]
	if !ok {
		opt = t.byReached[ReachedNone]
	}
	t.produceRecords.Add(ctx, int64(records), opt)
	t.produceBytes.Add(ctx, int64(bytes), opt)
	t.produceDuration.Record(ctx, took.Seconds(), opt)
}

// ProduceFailed counts a produce request that was refused or failed.
func (t *Telemetry) ProduceFailed(ctx context.Context, err error) {
	t.produceFailures.Add(ctx, 1, byReason(err))
}

// LogAppended counts bytes written to the log.
func (t *Telemetry) LogAppended(ctx context.Context, bytes int) { t.logBytes.Add(ctx, int64(bytes)) }

// LogSynced records one fsync.
func (t *Telemetry) LogSynced(ctx context.Context, took time.Duration) {
	t.logSyncDuration.Record(ctx, took.Seconds())
}

// LogFailed counts a failed append or fsync.
func (t *Telemetry) LogFailed(ctx context.Context) { t.logFailures.Add(ctx, 1) }

// Flushed records an object stored.
func (t *Telemetry) Flushed(ctx context.Context, batches int, bytes int64, took time.Duration) {
	t.flushObjects.Add(ctx, 1)
	t.flushBytes.Add(ctx, bytes)
	t.flushBatches.Add(ctx, int64(batches))
	t.flushDuration.Record(ctx, took.Seconds())
}

// FlushFailed counts one failed attempt to store an object.
func (t *Telemetry) FlushFailed(ctx context.Context) { t.flushFailures.Add(ctx, 1) }

// Committed records a decided commit; outcome is done, refused or superseded.
func (t *Telemetry) Committed(ctx context.Context, outcome string, took time.Duration) {
	opt := metric.WithAttributes(attribute.String("outcome", outcome))
	t.commits.Add(ctx, 1, opt)
	t.commitDuration.Record(ctx, took.Seconds(), opt)
}

// CommitInDoubt counts one attempt with an unknown outcome.
func (t *Telemetry) CommitInDoubt(ctx context.Context) { t.commitDoubts.Add(ctx, 1) }

// LetGo counts partitions that were let go together.
func (t *Telemetry) LetGo(ctx context.Context, partitions int, took time.Duration) {
	t.partitionsLetGo.Add(ctx, int64(partitions))
	t.letGoDuration.Record(ctx, took.Seconds())
}

// TookOver counts partitions whose lead was taken over together.
func (t *Telemetry) TookOver(ctx context.Context, partitions int, took time.Duration) {
	t.partitionsTookOver.Add(ctx, int64(partitions))
	t.takeoverDuration.Record(ctx, took.Seconds())
}

// FetchedFrom counts bytes given to a consumer.
func (t *Telemetry) FetchedFrom(ctx context.Context, source FetchSource, bytes int) {
	t.fetchBytes.Add(ctx, int64(bytes), t.bySource[source])
}

// Fetched records one fetch that was answered.
func (t *Telemetry) Fetched(ctx context.Context, took time.Duration) {
	t.fetchRequests.Add(ctx, 1)
	t.fetchDuration.Record(ctx, took.Seconds())
}

// FetchFailed counts a fetch that was refused or failed.
func (t *Telemetry) FetchFailed(ctx context.Context, err error) {
	t.fetchFailures.Add(ctx, 1, byReason(err))
}

// RequestPanicked counts a handler that panicked.
func (t *Telemetry) RequestPanicked(ctx context.Context) { t.requestPanics.Add(ctx, 1) }

// Traced tells whether spans go anywhere: callers on a hot path need not make attributes when not.
func (t *Telemetry) Traced() bool { return t.traced }

// Span starts a span; end it with EndSpan. Without a tracer provider it costs nothing.
func (t *Telemetry) Span(ctx context.Context, name string, attributes ...attribute.KeyValue) (context.Context, trace.Span) {
	if !t.traced {
		return ctx, noSpan
	}
	return t.tracer.Start(ctx, name, trace.WithAttributes(attributes...)) //nolint:spancheck // the caller ends it
}

// noSpan is what Span gives when nothing is traced.
var noSpan trace.Span = tracenoop.Span{}

// EndSpan ends a span with its outcome.
func EndSpan(s trace.Span, err error) {
	if err != nil && s.IsRecording() {
		s.SetAttributes(attribute.String("tidemark.reason", string(ReasonOf(err))))
		s.SetStatus(codes.Error, err.Error())
	}
	s.End()
}

// NodeLevels are a node's levels at one moment.
type NodeLevels struct {
	Partitions     int64 // led by this node
	BufferedBytes  int64 // batches in memory that are not committed
	LogBytes       int64 // write-ahead log on disk
	InFlight       int64 // L0 objects being stored or waiting for their commit
	WaitingAcks    int64 // produces not answered yet
	MetaRevision   int64 // etcd revision that the node's index has reached
	CommitSequence int64 // of the last commit
}

// ObserveNode registers levels to be asked for whenever metrics are collected, from another goroutine. The returned
// function ends it.
func (t *Telemetry) ObserveNode(levels func() NodeLevels) (stop func(), err error) {
	b := gauges{meter: t.meter}
	partitions := b.gauge("tidemark.node.partitions", "{partition}", "Partitions led by this node.")
	buffered := b.gauge("tidemark.node.buffered", "By", "Batches held in memory until they are committed.")
	log := b.gauge("tidemark.wal.size", "By", "Write-ahead log on disk.")
	inFlight := b.gauge("tidemark.flush.pending", "{object}", "L0 objects being stored or waiting for their commit.")
	waiting := b.gauge("tidemark.produce.waiting", "{request}", "Produce requests not answered yet.")
	revision := b.gauge("tidemark.meta.revision", "{revision}", "etcd revision that this node's index has reached.")
	sequence := b.gauge("tidemark.commit.sequence", "{commit}", "Sequence of the last commit of this incarnation.")
	if b.err != nil {
		return nil, b.err
	}
	registration, err := t.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		l := levels()
		o.ObserveInt64(partitions, l.Partitions)
		o.ObserveInt64(buffered, l.BufferedBytes)
		o.ObserveInt64(log, l.LogBytes)
		o.ObserveInt64(inFlight, l.InFlight)
		o.ObserveInt64(waiting, l.WaitingAcks)
		o.ObserveInt64(revision, l.MetaRevision)
		o.ObserveInt64(sequence, l.CommitSequence)
		return nil
	}, b.all...)
	if err != nil {
		return nil, err
	}
	return func() {
		// Unregister fails only for a registration that is none of the provider's.
		_ = registration.Unregister()
	}, nil
}

type gauges struct {
	meter metric.Meter
	all   []metric.Observable
	err   error
}

func (b *gauges) gauge(name, unit, description string) metric.Int64ObservableGauge {
	g, err := b.meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
	b.err = errors.Join(b.err, err)
	b.all = append(b.all, g)
	return g
}
