package kafka

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
)

// instrumentationScope names this package to OpenTelemetry.
const instrumentationScope = "github.com/tidemark-io/tidemark/ingest/kafka"

// Telemetry is what the listener tells about itself. What is produced and fetched is counted by the node, whoever asked.
//
//	tidemark.kafka.connections   tidemark_kafka_connections            open now
//	tidemark.kafka.requests      tidemark_kafka_requests_total         by api
//	tidemark.kafka.refused       tidemark_kafka_refused_total          connections refused because there were too many
//	tidemark.kafka.hangups       tidemark_kafka_hangups_total          connections ended because of what the client did
//	tidemark.kafka.panics        tidemark_kafka_panics_total           bugs
type Telemetry struct {
	connections metric.Int64UpDownCounter
	requests    metric.Int64Counter
	refusals    metric.Int64Counter
	hangups     metric.Int64Counter
	panics      metric.Int64Counter

	// byName is made once: counting costs no allocation then.
	byName map[string]metric.MeasurementOption
}

// NewTelemetry makes the metrics; nil makes none.
func NewTelemetry(meters metric.MeterProvider) (*Telemetry, error) {
	if meters == nil {
		meters = metricnoop.NewMeterProvider()
	}
	m := meters.Meter(instrumentationScope)
	t := &Telemetry{byName: make(map[string]metric.MeasurementOption, len(apis))}
	var err error
	if t.connections, err = m.Int64UpDownCounter("tidemark.kafka.connections", metric.WithDescription("Kafka clients that are connected")); err != nil {
		return nil, fmt.Errorf("make the metrics of the Kafka listener: %w", err)
	}
	for _, c := range []struct {
		to         *metric.Int64Counter
		name, what string
	}{
		{&t.requests, "tidemark.kafka.requests", "Requests of Kafka clients, by kind"},
		{&t.refusals, "tidemark.kafka.refused", "Kafka clients that were not accepted because too many are connected"},
		{&t.hangups, "tidemark.kafka.hangups", "Kafka clients that were disconnected for what they sent or did not take"},
		{&t.panics, "tidemark.kafka.panics", "Requests of Kafka clients that met a bug"},
	} {
		if *c.to, err = m.Int64Counter(c.name, metric.WithDescription(c.what)); err != nil {
			return nil, fmt.Errorf("make the metrics of the Kafka listener: %w", err)
		}
	}
	for _, a := range apis {
		t.byName[a.name] = metric.WithAttributeSet(attribute.NewSet(attribute.String("api", a.name)))
	}
	return t, nil
}

func (t *Telemetry) connected(ctx context.Context, n int64) { t.connections.Add(ctx, n) }

func (t *Telemetry) requested(ctx context.Context, name string) {
	t.requests.Add(ctx, 1, t.byName[name])
}

func (t *Telemetry) refused(ctx context.Context) { t.refusals.Add(ctx, 1) }

func (t *Telemetry) hungUp(ctx context.Context) { t.hangups.Add(ctx, 1) }

func (t *Telemetry) panicked(ctx context.Context) { t.panics.Add(ctx, 1) }
