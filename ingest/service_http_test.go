package ingest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/record"
)

type plainAnswer struct {
	Records  int64            `json:"records"`
	Reached  string           `json:"reached"`
	Position map[string]int64 `json:"position"`
	Code     string           `json:"code"`
	Reason   string           `json:"reason"`
	Message  string           `json:"message"`
	Error    *struct {
		Reason string `json:"reason"`
	} `json:"error"`
}

func (s *serviceServer) post(t *testing.T, path, contentType, body string) (int, plainAnswer) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(r) // HTTP/1.1, as curl
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var out plainAnswer
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatalf("%d %s: %v", resp.StatusCode, text, err)
	}
	return resp.StatusCode, out
}

func TestPlainProduce(t *testing.T) {
	s := startServices(t)
	s.create(t, "a", 1, nil)
	status, got := s.post(t, "/v1/topics/a/records", "application/x-www-form-urlencoded", "{\"n\": 1}\n\n  [2] \r\n\"three\"")
	if status != 200 || got.Records != 3 || got.Reached != "object" || got.Position["0"] != 3 {
		t.Fatalf("%d %+v", status, got)
	}
	records := s.node.records(t, "a", 0)
	for i, want := range []string{"{\"n\": 1}", "  [2] \r", "\"three\""} {
		if string(records[i].Value) != want || records[i].Key != nil || records[i].Timestamp == 0 {
			t.Errorf("record %d: %q", i, records[i].Value)
		}
	}
	status, got = s.post(t, "/v1/topics/a/records?acks=1", "text/plain; charset=utf-8", "no json\n\n\xff\xfe")
	if status != 200 || got.Records != 3 || got.Reached != "buffered" {
		t.Fatalf("%d %+v", status, got)
	}
	if r := s.node.records(t, "a", 0)[4]; r.Value == nil || len(r.Value) != 0 {
		t.Errorf("an empty line is %v", r.Value)
	}
	if status, got = s.post(t, "/v1/topics/a/records?acks=0", "", "{}"); status != 200 || got.Reached != "none" || len(got.Position) != 0 {
		t.Errorf("acks=0: %d %+v", status, got)
	}
}

func TestPlainProduceByKey(t *testing.T) {
	s := startServices(t)
	s.create(t, "a", 4, nil)
	var body bytes.Buffer
	for i := range 200 {
		fmt.Fprintf(&body, "{\"ip\":\"10.0.0.%d\",\"n\":%d}\n", i%17, i)
	}
	status, got := s.post(t, "/v1/topics/a/records?key_field=ip", "", body.String())
	if status != 200 || got.Records != 200 {
		t.Fatalf("%d %+v", status, got)
	}
	var total int
	for p := range 4 {
		last := map[string]int{}
		for _, r := range s.node.records(t, "a", p) {
			total++
			if want := record.PartitionForKey(r.Key, 4); int(want) != p {
				t.Errorf("key %s is in partition %d, want %d", r.Key, p, want)
			}
			var v struct {
				N int `json:"n"`
			}
			if err := json.Unmarshal(r.Value, &v); err != nil || v.N < last[string(r.Key)] {
				t.Errorf("key %s: %d after %d, %v", r.Key, v.N, last[string(r.Key)], err)
			}
			last[string(r.Key)] = v.N
		}
	}
	if total != 200 {
		t.Errorf("%d records", total)
	}
	if status, got = s.post(t, "/v1/topics/a/records?key_field=k&partition=2", "", "{\"k\":12.50}\n{\"k\":null}\n{\"k\":true}\n"); status != 200 {
		t.Fatalf("%d %+v", status, got)
	}
	records := s.node.records(t, "a", 2)
	records = records[len(records)-3:]
	if string(records[0].Key) != "12.50" || records[1].Key != nil || string(records[2].Key) != "true" {
		t.Errorf("keys %q %q %q", records[0].Key, records[1].Key, records[2].Key)
	}
}

func TestPlainProduceRefusesAndStoresNothing(t *testing.T) {
	s := startServices(t)
	s.create(t, "a", 2, map[string]string{"max.message.bytes": "2048"})
	long := strings.Repeat("x", 3000)
	for _, c := range []struct {
		name, query, contentType, body string
		status                         int
		reason                         ingest.Reason
		message                        string
	}{
		{"bad line", "", "", "{}\n{}\n{\n{}\n", 400, ingest.ReasonInvalidRecord, "line 3"},
		{"blank lines count", "", "", "{}\n\n\nx\n", 400, ingest.ReasonInvalidRecord, "line 4"},
		{"no key field", "?key_field=k", "", "{\"k\":1}\n{}\n", 400, ingest.ReasonInvalidRecord, "line 2"},
		{"key is an object", "?key_field=k", "", "{\"k\":{}}\n", 400, ingest.ReasonInvalidRecord, "line 1"},
		{"line is no object", "?key_field=k", "", "[1]\n", 400, ingest.ReasonInvalidRecord, "line 1"},
		{"larger than the topic takes", "", "", "{}\n\"" + long + "\"\n", 400, ingest.ReasonTooLarge, "line 2"},
		{"larger than the service takes", "", "", strings.Repeat("{}\n", 3<<20), 400, ingest.ReasonTooLarge, "8 MiB"},
		{"empty", "", "", "", 400, ingest.ReasonInvalidRequest, "no line"},
		{"only blank lines", "", "", "\n \n", 400, ingest.ReasonInvalidRequest, "no line"},
		{"unknown parameter", "?keyfield=k", "", "{}", 400, ingest.ReasonInvalidRequest, "keyfield"},
		{"bad acks", "?acks=2", "", "{}", 400, ingest.ReasonInvalidRequest, "acks"},
		{"bad partition", "?partition=x", "", "{}", 400, ingest.ReasonInvalidRequest, "partition"},
		{"partition out of range", "?partition=2", "", "{}", 404, ingest.ReasonUnknownPartition, "partition 2"},
		{"content type", "", "text/csv", "a,b", 400, ingest.ReasonInvalidRequest, "text/csv"},
		{"key of text", "?key_field=k", "text/plain", "x", 400, ingest.ReasonInvalidRequest, "JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, got := s.post(t, "/v1/topics/a/records"+c.query, c.contentType, c.body)
			if status != c.status || got.Reason != string(c.reason) || !strings.Contains(got.Message, c.message) {
				t.Errorf("%d %+v", status, got)
			}
		})
	}
	if status, got := s.post(t, "/v1/topics/nope/records", "", "{}"); status != 404 || got.Code != "not_found" {
		t.Errorf("unknown topic: %d %+v", status, got)
	}
	if status, got := s.post(t, "/v1/topics/a%2Fb/records", "", "{}"); status != 400 || got.Reason != string(ingest.ReasonInvalidTopic) {
		t.Errorf("bad name: %d %+v", status, got)
	}
	for p := range 2 {
		if got := s.node.records(t, "a", p); len(got) != 0 {
			t.Errorf("partition %d holds %d records", p, len(got))
		}
	}
}

func TestPlainProduceThatFailsMidwaySaysWhatWasWritten(t *testing.T) {
	s := startServices(t)
	s.create(t, "a", 1, map[string]string{"max.message.bytes": "2048"})
	var calls int
	s.node.mu.Lock()
	s.node.hold = func(_ ingest.ProduceRequest, answer func()) {
		if calls++; calls == 2 {
			s.node.mu.Lock()
			s.node.fail = ingest.Errorf(ingest.ReasonBackPressure, "the object store is slow")
			s.node.mu.Unlock()
		}
		answer()
	}
	s.node.mu.Unlock()
	line := `"` + strings.Repeat("x", 1500) + "\"\n"
	status, got := s.post(t, "/v1/topics/a/records", "", line+line+line)
	if status != http.StatusTooManyRequests || got.Records != 2 || got.Position["0"] != 2 || got.Error == nil || got.Error.Reason != "BACK_PRESSURE" {
		t.Errorf("%d %+v", status, got)
	}
}
