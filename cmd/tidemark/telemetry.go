package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"

	"connectrpc.com/connect"
	"connectrpc.com/otelconnect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
)

// telemetry holds the providers of one process. /metrics is always there; what is sent elsewhere is set by the usual OTEL_*
// variables, and nothing is sent when none is set. A collector that cannot be reached costs a log line, nothing else.
type telemetry struct {
	meters   *sdkmetric.MeterProvider
	tracers  trace.TracerProvider // nil: nothing is traced
	handler  http.Handler
	shutdown []func(context.Context) error
}

// exported tells whether the environment asks for a signal ("TRACES", "METRICS") to be sent.
func exported(environ []string, signal string) bool {
	var endpoint, chosen bool
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if value == "" {
			continue
		}
		switch name {
		case "OTEL_SDK_DISABLED":
			if strings.EqualFold(value, "true") {
				return false
			}
		case "OTEL_" + signal + "_EXPORTER":
			if value == "none" {
				return false
			}
			chosen = true
		case "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_" + signal + "_ENDPOINT":
			endpoint = true
		}
	}
	return chosen || endpoint
}

// newTelemetry makes the providers. It never fails for an exporter: a log must not stop because its telemetry does.
func newTelemetry(ctx context.Context, environ []string, node, zone string, logger *slog.Logger) (*telemetry, error) {
	otel.SetErrorHandler(&telemetryErrors{logger: logger})
	described, err := resource.New(ctx,
		resource.WithAttributes(semconv.ServiceName("tidemark"), semconv.ServiceVersion(readVersion().Version),
			semconv.ServiceInstanceID(node), semconv.CloudAvailabilityZone(zone)),
		resource.WithFromEnv(), resource.WithTelemetrySDK())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) && described == nil {
		return nil, fmt.Errorf("describe the process to OpenTelemetry: %w", err)
	}

	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	toPrometheus, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo())
	if err != nil {
		return nil, fmt.Errorf("set up /metrics: %w", err)
	}
	options := []sdkmetric.Option{sdkmetric.WithResource(described), sdkmetric.WithReader(toPrometheus)}
	if exported(environ, "METRICS") {
		reader, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			logger.Warn("metrics are not exported: check the OTEL_* variables", "cause", err)
		} else {
			options = append(options, sdkmetric.WithReader(reader))
		}
	}
	t := &telemetry{
		meters: sdkmetric.NewMeterProvider(options...),
		handler: promhttp.HandlerFor(registry, promhttp.HandlerOpts{
			// Mostly scrapers that went away.
			ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug), ErrorHandling: promhttp.ContinueOnError, DisableCompression: true,
		}),
	}
	t.shutdown = append(t.shutdown, t.meters.Shutdown)
	if exported(environ, "TRACES") {
		exporter, err := autoexport.NewSpanExporter(ctx)
		if err != nil {
			logger.Warn("traces are not exported: check the OTEL_* variables", "cause", err)
		} else {
			tracers := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(described))
			t.tracers = tracers
			t.shutdown = append(t.shutdown, tracers.Shutdown)
		}
	}
	return t, nil
}

// interceptors measure and trace unary calls. Streams are left alone: the interceptor would see every message of the data
// path, and the node measures and traces each batch itself.
func (t *telemetry) interceptors() ([]connect.Interceptor, error) {
	options := []otelconnect.Option{
		otelconnect.WithMeterProvider(t.meters),
		otelconnect.WithPropagator(propagation.TraceContext{}),
		otelconnect.WithTrustRemote(),
	}
	if t.tracers != nil {
		options = append(options, otelconnect.WithTracerProvider(t.tracers))
	} else {
		options = append(options, otelconnect.WithoutTracing())
	}
	i, err := otelconnect.NewInterceptor(options...)
	if err != nil {
		return nil, fmt.Errorf("set up call telemetry: %w", err)
	}
	return []connect.Interceptor{connect.UnaryInterceptorFunc(i.WrapUnary)}, nil
}

// close sends what is left as long as ctx allows.
func (t *telemetry) close(ctx context.Context) error {
	var errs []error
	for _, f := range slices.Backward(t.shutdown) {
		errs = append(errs, f(ctx))
	}
	return errors.Join(errs...)
}

// telemetryErrors logs what OpenTelemetry cannot do, each cause once in a row.
type telemetryErrors struct {
	logger *slog.Logger
	last   textOnce
}

// Handle implements otel.ErrorHandler.
func (e *telemetryErrors) Handle(err error) {
	if text := err.Error(); e.last.changed(text) {
		e.logger.Warn("telemetry could not be sent", "cause", text)
	}
}

// textOnce tells whether a text is another than the one before. The zero value has seen "".
type textOnce struct {
	mu   sync.Mutex
	last string
}

func (t *textOnce) changed(text string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	news := text != t.last
	t.last = text
	return news
}
