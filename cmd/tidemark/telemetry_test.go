package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/ingest"
)

func TestExported(t *testing.T) {
	for _, c := range []struct {
		environ string
		want    bool
	}{
		{"", false},
		{"OTEL_SERVICE_NAME=x", false},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", true},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://c:4318", true},
		{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://c:4318", false},
		{"OTEL_TRACES_EXPORTER=console", true},
		{"OTEL_TRACES_EXPORTER=none OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", false},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318 OTEL_SDK_DISABLED=true", false},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=", false},
	} {
		if got := exported(strings.Fields(c.environ), "TRACES"); got != c.want {
			t.Errorf("%q: %v", c.environ, got)
		}
	}
}

func TestMetricsHavePrometheusNames(t *testing.T) {
	tel, err := newTelemetry(t.Context(), nil, "node-1", "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	node, err := ingest.NewTelemetry(tel.meters, tel.tracers)
	if err != nil {
		t.Fatal(err)
	}
	stop, err := node.ObserveNode(func() ingest.NodeLevels { return ingest.NodeLevels{Partitions: 4, BufferedBytes: 9} })
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	node.Produced(ctx, 3, 300, ingest.ReachedDisk, time.Millisecond)
	node.ProduceFailed(ctx, ingest.Errorf(ingest.ReasonTooLarge, "too large"))
	node.LogAppended(ctx, 100)
	node.LogSynced(ctx, time.Millisecond)
	node.LogFailed(ctx)
	node.Flushed(ctx, 2, 300, time.Second)
	node.FlushFailed(ctx)
	node.Committed(ctx, "done", time.Millisecond)
	node.CommitInDoubt(ctx)
	node.Fetched(ctx, time.Second)
	node.FetchedFrom(ctx, ingest.FetchObject, 10)
	node.FetchFailed(ctx, errors.New("a bug"))
	node.RequestPanicked(ctx)
	w := httptest.NewRecorder()
	tel.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		`tidemark_produce_records_total{reached="disk"} 3`,
		`tidemark_produce_bytes_total{reached="disk"} 300`,
		`tidemark_produce_duration_seconds_count{reached="disk"} 1`,
		`tidemark_produce_failures_total{reason="TOO_LARGE"} 1`,
		`tidemark_wal_bytes_total 100`,
		`tidemark_wal_sync_duration_seconds_count 1`,
		`tidemark_wal_failures_total 1`,
		`tidemark_flush_objects_total 1`,
		`tidemark_flush_bytes_total 300`,
		`tidemark_flush_failures_total 1`,
		`tidemark_commit_decisions_total{outcome="done"} 1`,
		`tidemark_commit_doubts_total 1`,
		`tidemark_fetch_bytes_total{source="object"} 10`,
		`tidemark_fetch_failures_total{reason="INTERNAL"} 1`,
		`tidemark_request_panics_total 1`,
		`tidemark_node_partitions 4`,
		`tidemark_node_buffered_bytes 9`,
		`service_instance_id="node-1"`,
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	stop()
	if err := tel.close(ctx); err != nil {
		t.Error(err)
	}
}

// A collector that nobody runs costs a log line, and the process goes on and ends in time.
func TestTelemetryWithoutItsCollector(t *testing.T) {
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TIMEOUT": "100", "OTEL_METRICS_EXPORTER": "otlp",
	} {
		t.Setenv(name, value)
	}
	tel, err := newTelemetry(t.Context(), os.Environ(), "node-1", "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	node, err := ingest.NewTelemetry(tel.meters, tel.tracers)
	if err != nil {
		t.Fatal(err)
	}
	if !node.Traced() {
		t.Error("nothing is traced")
	}
	_, span := node.Span(t.Context(), "flush")
	ingest.EndSpan(span, io.ErrUnexpectedEOF)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := tel.close(ctx); err == nil {
		t.Error("a collector that nobody runs took everything")
	}
	if ctx.Err() != nil {
		t.Error("the end waited for the collector")
	}

	t.Setenv("OTEL_TRACES_EXPORTER", "no-such-exporter")
	var log syncBuffer
	tel, err = newTelemetry(t.Context(), os.Environ(), "node-1", "", slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil || !strings.Contains(log.String(), "traces are not exported") {
		t.Errorf("error %v, log %s", err, log.String())
	}
	_ = tel.close(ctx)
}
