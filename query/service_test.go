package query

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// answer is what a client got of one Execute.
type answer struct {
	started  *tidemarkv1.QueryStarted
	pieces   [][]byte
	progress []*tidemarkv1.QueryProgress
	finished *tidemarkv1.QueryFinished
	err      error
}

func (h *harness) run(sql string, change ...func(*tidemarkv1.ExecuteRequest)) answer {
	r := &tidemarkv1.ExecuteRequest{Sql: sql}
	for _, c := range change {
		c(r)
	}
	return read(h.query.Execute(h.t.Context(), r))
}

func read(stream *connect.ServerStreamForClient[tidemarkv1.ExecuteResponse], err error) (a answer) {
	if err != nil {
		a.err = err
		return a
	}
	for stream.Receive() {
		switch e := stream.Msg().GetEvent().(type) {
		case *tidemarkv1.ExecuteResponse_Started:
			a.started = e.Started
		case *tidemarkv1.ExecuteResponse_Arrow:
			a.pieces = append(a.pieces, bytes.Clone(e.Arrow))
		case *tidemarkv1.ExecuteResponse_Progress:
			a.progress = append(a.progress, e.Progress)
		case *tidemarkv1.ExecuteResponse_Finished:
			a.finished = e.Finished
		}
	}
	a.err = stream.Err()
	stream.Close()
	return a
}

// rows are the cells of a whole answer, as text.
func (a answer) rows(t *testing.T) [][]string {
	t.Helper()
	if a.err != nil {
		t.Fatal("the query failed:", a.err)
	}
	r, err := ipc.NewReader(bytes.NewReader(bytes.Join(a.pieces, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	out := [][]string{{}}
	for _, f := range r.Schema().Fields() {
		out[0] = append(out[0], f.Name)
	}
	for r.Next() {
		rec := r.Record()
		for i := range int(rec.NumRows()) {
			var row []string
			for _, c := range rec.Columns() {
				if c.IsNull(i) {
					row = append(row, "NULL")
					continue
				}
				row = append(row, c.ValueStr(i))
			}
			out = append(out, row)
		}
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return out
}

// why is the reason, the metadata and the message of an error from the server.
func why(t *testing.T, err error) (reason string, metadata map[string]string, message string) {
	t.Helper()
	ce, is := errors.AsType[*connect.Error](err)
	if !is {
		t.Fatalf("%v is no error of the server", err)
	}
	for _, d := range ce.Details() {
		if v, err := d.Value(); err == nil {
			if info, is := v.(*errdetails.ErrorInfo); is {
				return info.GetReason(), info.GetMetadata(), ce.Message()
			}
		}
	}
	return "", nil, ce.Message()
}

func wantReason(t *testing.T, err error, want Reason) map[string]string {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", want)
	}
	reason, metadata, message := why(t, err)
	if reason != string(want) {
		t.Fatalf("failed with %s (%s), want %s", reason, message, want)
	}
	if code := connect.CodeOf(err); code != want.Code() {
		t.Errorf("%s came with the code %s, want %s", want, code, want.Code())
	}
	return metadata
}

func TestQueryCoversWhatWasAcknowledged(t *testing.T) {
	h := newHarness(t, newWorld("orders"), nil)
	h.produce("orders", "a", "b", "c")
	a := h.run("SELECT * FROM orders")
	got := a.rows(t)
	want := [][]string{{"_partition", "_offset", "_value"}, {"0", "0", "a"}, {"0", "1", "b"}, {"0", "2", "c"}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if p := a.started.GetPosition(); len(p) != 1 || p[0].GetTopic() != "orders" || p[0].GetOffsets()[0] != 3 || p[0].GetOffsets()[1] != 0 {
		t.Errorf("the position is %v", p)
	}
	if f := a.finished; f.GetRows() != 3 || f.GetRowsRead() != 3 || len(a.started.GetQueryId()) != 32 {
		t.Errorf("finished: %v, id %q", f, a.started.GetQueryId())
	}
	if sql := h.engine.sql[0]; sql != `SELECT * FROM tidemark_scan(0) AS "orders"` {
		t.Errorf("the engine ran %s", sql)
	}
	if len(a.pieces) != 3 {
		t.Errorf("%d pieces, want schema, batch and end", len(a.pieces))
	}
}

func TestEmptyResultHasColumns(t *testing.T) {
	h := newHarness(t, newWorld("orders"), nil)
	a := h.run("SELECT * FROM orders")
	if got := a.rows(t); len(got) != 1 || len(got[0]) != 3 || len(a.pieces) != 2 {
		t.Errorf("got %v in %d pieces", got, len(a.pieces))
	}
}

// TestSameTopicTwiceIsOneTable: both mentions see the same position.
func TestSameTopicTwiceIsOneTable(t *testing.T) {
	h := newHarness(t, newWorld("orders", "users"), nil)
	h.produce("orders", "a")
	h.produce("users", "u", "v")
	a := h.run("SELECT * FROM orders JOIN users JOIN ORDERS")
	if a.err != nil {
		t.Fatal(a.err)
	}
	if sql := h.engine.sql[0]; sql != `SELECT * FROM tidemark_scan(0) AS "orders" JOIN tidemark_scan(1) AS "users" JOIN tidemark_scan(0) AS "ORDERS"` {
		t.Errorf("the engine ran %s", sql)
	}
	if p := formatProto(a.started.GetPosition()); p != "orders 0:1 1:0, users 0:2 1:0" {
		t.Errorf("the position is %s", p)
	}
}

func formatProto(in []*tidemarkv1.Position) string {
	var out []position
	for _, p := range in {
		out = append(out, position{p.GetTopic(), p.GetOffsets()})
	}
	return formatPositions(out)
}

// TestAtLeastWaits: a query that must cover what is not there yet waits for it, and begins with a later position.
func TestAtLeastWaits(t *testing.T) {
	h := newHarness(t, newWorld("orders"), nil)
	h.produce("orders", "a")
	done := make(chan answer)
	go func() {
		done <- h.run("SELECT * FROM orders", func(r *tidemarkv1.ExecuteRequest) {
			r.AtLeast = []*tidemarkv1.Position{{Topic: "orders", Offsets: map[int32]int64{0: 2}}}
		})
	}()
	until(t, "it catches up", func() bool { return states(h.service)[stateCatchingUp] == 1 })
	select {
	case <-done:
		t.Fatal("it did not wait")
	default:
	}
	h.produce("orders", "b")
	if got := (<-done).rows(t); len(got) != 3 {
		t.Errorf("got %v", got)
	}
}

func states(s *Service) map[queryState]int {
	out := map[queryState]int{}
	for _, r := range s.registry.records() {
		out[r.state]++
	}
	return out
}

func TestAtLeastOfNothing(t *testing.T) {
	h := newHarness(t, newWorld("orders", "users"), nil)
	ask := func(topic string, partition int32) error {
		return h.run("SELECT * FROM orders", func(r *tidemarkv1.ExecuteRequest) {
			r.AtLeast = []*tidemarkv1.Position{{Topic: topic, Offsets: map[int32]int64{partition: 0}}}
		}).err
	}
	wantReason(t, ask("nope", 0), ReasonUnknownTopic)
	wantReason(t, ask("orders", 2), ReasonUnknownPartition)
	wantReason(t, ask("users", 7), ReasonUnknownPartition)
	wantReason(t, ask("", 0), ReasonInvalidRequest)
	wantReason(t, ask("orders", -1), ReasonInvalidRequest)
	if err := ask("users", 1); err != nil {
		t.Error("a position of a topic that is not read:", err)
	}
}

func TestProgress(t *testing.T) {
	c := newFakeClock()
	h := newHarness(t, newWorld("orders"), func(p *components) { p.clock = c })
	h.produce("orders", "a", "b")
	begun := make(chan struct{})
	h.engine.start = func(ctx context.Context, s Statement) (Result, error) {
		r, err := scanAll(ctx, s)
		if err == nil {
			r.Close()
		}
		return stuck{begun}, err
	}
	stream, err := h.query.Execute(t.Context(), &tidemarkv1.ExecuteRequest{Sql: "SELECT * FROM orders", ProgressMs: 1, TimeoutMs: 3_600_000})
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	defer c.run(10 * time.Millisecond)()
	for range 3 {
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
	}
	if p := stream.Msg().GetProgress(); p.GetRowsRead() != 2 || p.GetRowsToRead() != 2 {
		t.Errorf("progress: %v", p)
	}
	stream.Close()
}

// TestFirstRowsGoAtOnce: what an engine has given is sent after a moment, though it gives no more.
func TestFirstRowsGoAtOnce(t *testing.T) {
	c := newFakeClock()
	h := newHarness(t, newWorld(), func(p *components) { p.clock = c })
	begun := make(chan struct{})
	h.engine.start = func(context.Context, Statement) (Result, error) {
		return &first{Result: &generator{rows: 10, step: 10}, rest: stuck{begun}}, nil
	}
	stream, err := h.query.Execute(t.Context(), &tidemarkv1.ExecuteRequest{Sql: "SELECT 1", TimeoutMs: 3_600_000})
	if err != nil {
		t.Fatal(err)
	}
	<-begun // the ten rows are in the batch
	defer c.run(firstBatchWait / 4)()
	for range 3 {
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
	}
	if len(stream.Msg().GetArrow()) == 0 {
		t.Errorf("third came %v", stream.Msg())
	}
	stream.Close()
}

// first gives one record of a result, and then another result.
type first struct {
	Result

	given bool
	rest  Result
}

func (f *first) Next(ctx context.Context) (arrow.Record, error) {
	if f.given {
		return f.rest.Next(ctx)
	}
	f.given = true
	return f.Result.Next(ctx)
}

// TestLargeResult: many small records come in few batches, and every row once.
func TestLargeResult(t *testing.T) {
	h := newHarness(t, newWorld(), nil)
	const rows = 200_000
	h.engine.start = func(context.Context, Statement) (Result, error) {
		return &generator{rows: rows, step: MaxScanRows}, nil
	}
	a := h.run("SELECT 1")
	got := a.rows(t)
	if len(got) != rows+1 || got[rows][0] != fmt.Sprint(rows-1) || a.finished.GetRows() != rows {
		t.Errorf("%d rows, the last is %v", len(got)-1, got[len(got)-1])
	}
	if len(a.pieces) > rows/batchRows+40 {
		t.Errorf("%d rows came in %d pieces", rows, len(a.pieces))
	}
}
