package query

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// post asks over plain HTTP/1.1; the error is one of reading the body.
func (h *harness) post(target, body string, headers ...string) (*http.Response, string, error) {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, h.server.URL+target, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response, string(text), err
}

func TestPlainQuery(t *testing.T) {
	h := newHarness(t, newWorld("orders"), nil)
	h.produce("orders", "a", `b"c`)
	ndjson := "{\"_partition\":0,\"_offset\":0,\"_value\":\"a\"}\n{\"_partition\":0,\"_offset\":1,\"_value\":\"b\\\"c\"}\n"
	csv := "_partition,_offset,_value\n0,0,a\n0,1,\"b\"\"c\"\n"
	for _, test := range []struct{ target, body, header, value, want string }{
		{"/v1/sql", "SELECT * FROM orders", "Accept", "*/*", ndjson},
		{"/v1/sql", "SELECT * FROM orders", "Accept", "text/csv, */*", csv},
		{"/v1/sql?format=csv", "SELECT * FROM orders", "Accept", "application/json", csv},
		{"/v1/sql?timeout=10s&max_rows=2&at_least=orders+0:1&at_least=orders+1:0", "SELECT * FROM orders", "Content-Type", "text/plain; charset=utf-8", ndjson},
		{"/v1/sql", `{"sql":"SELECT * FROM orders"}`, "Content-Type", "application/json", ndjson},
	} {
		response, text, err := h.post(test.target, test.body, test.header, test.value)
		if err != nil || response.StatusCode != http.StatusOK || text != test.want {
			t.Errorf("%s: %s %v\n%s", test.target, response.Status, err, text)
		}
		if p := response.Header.Get("Tidemark-Position"); p != "orders 0:2 1:0" || len(response.Header.Get("Tidemark-Query-Id")) != 32 {
			t.Errorf("headers: %v", response.Header)
		}
	}
}

func TestPlainErrors(t *testing.T) {
	h := newHarness(t, newWorld("orders"), nil)
	for _, test := range []struct {
		target, body, media string
		status              int
		reason              string
	}{
		{"/v1/sql", "SELEC 1", "", 400, "SYNTAX"},
		{"/v1/sql", "SELECT * FROM nope", "", 404, "UNKNOWN_TABLE"},
		{"/v1/sql", "", "", 400, "INVALID_REQUEST"},
		{"/v1/sql", "SELECT * FROM nope", "application/x-www-form-urlencoded", 404, "UNKNOWN_TABLE"}, // as curl sends it
		{"/v1/sql", "SELECT 1", "multipart/form-data; boundary=x", 400, "INVALID_REQUEST"},
		{"/v1/sql", `{"sql":"SELECT 1","x":1}`, "application/json", 400, "INVALID_REQUEST"},
		{"/v1/sql", `{"sql":"SELECT 1"}{}`, "application/json", 400, "INVALID_REQUEST"},
		{"/v1/sql", strings.Repeat(" ", maxSQL+1), "", 400, "TOO_LARGE"},
		{"/v1/sql?format=xml", "SELECT 1", "", 400, "INVALID_REQUEST"},
		{"/v1/sql?timeout=x", "SELECT 1", "", 400, "INVALID_REQUEST"},
		{"/v1/sql?max_rows=0", "SELECT 1", "", 400, "INVALID_REQUEST"},
		{"/v1/sql?at_least=x", "SELECT 1", "", 400, "INVALID_REQUEST"},
		{"/v1/sql?at_least=nope+0:1", "SELECT 1", "", 404, "UNKNOWN_TOPIC"},
		{"/v1/sql?nope=1", "SELECT 1", "", 400, "INVALID_REQUEST"},
		{"/v1/sql", "SELECT 1", "a/b/c", 400, "INVALID_REQUEST"},
	} {
		response, text, err := h.post(test.target, test.body, "Content-Type", test.media)
		var e plainError
		if err != nil || json.Unmarshal([]byte(text), &e) != nil || response.StatusCode != test.status || e.Reason != test.reason || e.Message == "" {
			t.Errorf("%s %.30s: %s %v %s", test.target, test.body, response.Status, err, text)
		}
	}
	h.engine.start = func(context.Context, Statement) (Result, error) { return failing{nil}, nil }
	if response, text, _ := h.post("/v1/sql", "SELECT 1"); response.StatusCode != http.StatusInternalServerError || !strings.Contains(text, "INTERNAL") {
		t.Errorf("a panic: %s %s", response.Status, text)
	}
}

// TestOldHTTPIsRefused: HTTP/1.0 cannot tell a whole result from a broken one.
func TestOldHTTPIsRefused(t *testing.T) {
	h := newHarness(t, newWorld(), nil)
	conn, err := net.Dial("tcp", h.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /v1/sql HTTP/1.0\r\nHost: x\r\nContent-Length: 8\r\n\r\nSELECT 1")
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(answer), " 505 ") || !strings.Contains(string(answer), "results need HTTP/1.1") || len(h.engine.sql) != 0 {
		t.Errorf("%v %s", err, answer)
	}
}

// TestPlainErrorAfterRows: half a result never looks like a whole one.
func TestPlainErrorAfterRows(t *testing.T) {
	h := newHarness(t, newWorld(), nil)
	h.engine.start = func(context.Context, Statement) (Result, error) {
		return &first{Result: &generator{rows: batchRows, step: batchRows}, rest: later{}}, nil
	}
	for _, format := range []string{"ndjson", "csv"} {
		response, text, err := h.post("/v1/sql?format="+format, "SELECT 1")
		if response.StatusCode != http.StatusOK || err == nil {
			t.Errorf("%s: %s, and the body ends with %v", format, response.Status, err)
		}
		lines := strings.Split(strings.TrimSpace(text), "\n")
		last := lines[len(lines)-1]
		if format == "ndjson" && !strings.Contains(last, `{"error":{"code":"resource_exhausted","reason":"QUERY_MEMORY"`) {
			t.Errorf("the last line is %s", last)
		}
		if format == "csv" && strings.Contains(text, "error") {
			t.Errorf("csv ends with %s", last)
		}
	}
}

// later fails once the rows before it were sent.
type later struct{ Result }

func (later) Next(context.Context) (arrow.Record, error) { return nil, fmt.Errorf("%w", ErrMemory) }

// TestClientThatNeverReads: its query is ended, whatever protocol it speaks, and everything it held is free.
func TestClientThatNeverReads(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(protocol, func(t *testing.T) {
			c := newFakeClock()
			h := newHarness(t, newWorld(), func(p *components) { p.clock = c })
			h.engine.start = func(context.Context, Statement) (Result, error) {
				return &generator{rows: 1 << 40, step: batchRows}, nil
			}
			if protocol == "HTTP/1.1" {
				conn, err := net.Dial("tcp", h.server.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				fmt.Fprintf(conn, "POST /v1/sql?timeout=1h HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nSELECT 1")
				if line, err := bufio.NewReaderSize(conn, 16).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
					t.Fatal(line, err)
				}
			} else {
				stream, err := h.query.Execute(t.Context(), &tidemarkv1.ExecuteRequest{Sql: "SELECT 1", TimeoutMs: 3_600_000})
				if err != nil || !stream.Receive() {
					t.Fatal(err)
				}
				defer stream.Close()
			}
			// The clock goes on only while nothing is taken, so that only a client that takes nothing grows old.
			var before int64
			until(t, "the query is ended", func() bool {
				records := h.service.registry.records()
				if rows := records[0].rows; rows == before {
					c.advance(time.Millisecond)
				} else {
					before = rows
				}
				return records[0].state == stateFailed
			})
			if got := h.service.registry.records()[0].err; got != errTooSlow.Message {
				t.Errorf("it ended with %q", got)
			}
			if running, waiting := h.service.gate.levels(); running != 0 || waiting != 0 {
				t.Errorf("%d run and %d wait", running, waiting)
			}
		})
	}
}

// TestManyWhoNeverReadHoldNobodyUp: an honest client's query runs though many others hold all slots and take nothing.
func TestManyWhoNeverReadHoldNobodyUp(t *testing.T) {
	c := newFakeClock()
	h := newHarness(t, newWorld(), func(p *components) {
		p.clock = c
		p.limits.Concurrent = 2
		p.limits.Stalled = 2
		p.limits.Timeout = time.Hour
	})
	h.engine.start = func(_ context.Context, s Statement) (Result, error) {
		if strings.Contains(s.SQL, "SELECT 2") {
			return &generator{rows: 5, step: 5}, nil
		}
		return &generator{rows: 1 << 40, step: batchRows}, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	var greedy sync.WaitGroup
	for range 8 {
		greedy.Go(func() {
			stream, err := h.client().Execute(ctx, &tidemarkv1.ExecuteRequest{Sql: "SELECT 1"})
			if err != nil {
				return
			}
			<-ctx.Done()
			stream.Close()
		})
	}
	until(t, "all slots are taken", func() bool { running, waiting := h.service.gate.levels(); return running == 2 && waiting > 0 })
	stop := c.run(5 * time.Millisecond)
	a := h.run("SELECT 2")
	if got := a.rows(t); len(got) != 6 {
		t.Errorf("got %v", got)
	}
	h.engine.mu.Lock()
	if h.engine.most > 2+2 {
		t.Errorf("%d engines were in use at once", h.engine.most)
	}
	h.engine.mu.Unlock()
	cancel()
	greedy.Wait()
	stop()
}
