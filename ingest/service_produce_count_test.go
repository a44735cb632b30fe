package ingest_test

import (
	"strings"
	"testing"

	"connectrpc.com/connect"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// TestProduceOfFarTooManyRecords: two bytes of a request can be a record that takes a hundred in memory, so that they are counted before they are decoded.
func TestProduceOfFarTooManyRecords(t *testing.T) {
	s := startServices(t)
	s.create(t, "a", 1, nil)
	records := make([]*tidemarkv1.Record, 600_000)
	for n := range records {
		records[n] = &tidemarkv1.Record{}
	}
	_, err := s.produce().Produce(t.Context(), &tidemarkv1.ProduceRequest{Topic: "a", Records: records})
	if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "far more than") {
		t.Errorf("600,000 empty records: %v", err)
	}
	if _, err := s.produce().Produce(t.Context(), &tidemarkv1.ProduceRequest{Topic: "a", Records: records[:1000]}); err != nil {
		t.Errorf("a thousand of them: %v", err)
	}
}
