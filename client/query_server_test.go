package client_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/tidemark-io/tidemark/client"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
)

// queryServer answers every statement by a script of the test's.
type queryServer struct {
	tidemarkv1connect.UnimplementedQueryServiceHandler
	tidemarkv1connect.UnimplementedTopicServiceHandler
	tidemarkv1connect.UnimplementedConsumeServiceHandler
	execute func(ctx context.Context, attempt int, r *tidemarkv1.ExecuteRequest, send func(*tidemarkv1.ExecuteResponse)) error

	mu       sync.Mutex
	attempts int
	canceled []string
	offsets  *tidemarkv1.ListOffsetsRequest
	consumed *tidemarkv1.ConsumeRequest
}

func (s *queryServer) Execute(ctx context.Context, r *tidemarkv1.ExecuteRequest, st *connect.ServerStream[tidemarkv1.ExecuteResponse]) error {
	s.mu.Lock()
	attempt := s.attempts
	s.attempts++
	s.mu.Unlock()
	var sendErr error
	err := s.execute(ctx, attempt, r, func(m *tidemarkv1.ExecuteResponse) { sendErr = errors.Join(sendErr, st.Send(m)) })
	return errors.Join(err, sendErr)
}

func (s *queryServer) Explain(_ context.Context, r *tidemarkv1.ExplainRequest) (*tidemarkv1.ExplainResponse, error) {
	return &tidemarkv1.ExplainResponse{Plan: "plan of " + r.GetSql(), Position: r.GetAtLeast()}, nil
}

func (s *queryServer) Cancel(_ context.Context, r *tidemarkv1.CancelRequest) (*tidemarkv1.CancelResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.canceled = append(s.canceled, r.GetQueryId())
	return &tidemarkv1.CancelResponse{}, nil
}

func (s *queryServer) ListTables(context.Context, *tidemarkv1.ListTablesRequest) (*tidemarkv1.ListTablesResponse, error) {
	return &tidemarkv1.ListTablesResponse{Tables: []*tidemarkv1.Table{{Name: "orders", TopicId: "00ff", Columns: []*tidemarkv1.Column{{Name: "amount", Type: "DOUBLE"}}}}}, nil
}

func (s *queryServer) ListOffsets(_ context.Context, r *tidemarkv1.ListOffsetsRequest) (*tidemarkv1.ListOffsetsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offsets = r
	return &tidemarkv1.ListOffsetsResponse{Offsets: []*tidemarkv1.PartitionOffset{{Partition: 1, Offset: 7}}}, nil
}

func (s *queryServer) Consume(_ context.Context, r *tidemarkv1.ConsumeRequest, _ *connect.ServerStream[tidemarkv1.ConsumeResponse]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.consumed = r
	return connect.NewError(connect.CodeNotFound, errors.New("another topic of this name"))
}

func startQueryServer(tb testing.TB, s *queryServer) *client.Client {
	tb.Helper()
	mux := http.NewServeMux()
	mux.Handle(tidemarkv1connect.NewQueryServiceHandler(s))
	mux.Handle(tidemarkv1connect.NewTopicServiceHandler(s))
	mux.Handle(tidemarkv1connect.NewConsumeServiceHandler(s))
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	h := &http.Server{Handler: mux, Protocols: &protocols, ReadHeaderTimeout: time.Minute}
	var wg sync.WaitGroup
	wg.Go(func() { _ = h.Serve(l) })
	c, err := client.New(client.Config{Server: "http://" + l.Addr().String()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		c.Close()
		_ = h.Close()
		wg.Wait()
	})
	return c
}

func queryFailure(code connect.Code, reason string, metadata map[string]string) error {
	err := connect.NewError(code, errors.New("the message of "+reason))
	if d, derr := connect.NewErrorDetail(&errdetails.ErrorInfo{Reason: reason, Domain: "tidemark.io", Metadata: metadata}); derr == nil {
		err.AddDetail(d)
	}
	return err
}

func started(id string) *tidemarkv1.ExecuteResponse {
	return &tidemarkv1.ExecuteResponse{Event: &tidemarkv1.ExecuteResponse_Started{Started: &tidemarkv1.QueryStarted{
		QueryId: id, Position: []*tidemarkv1.Position{{Topic: "t", Offsets: map[int32]int64{1: 20, 0: 10}}},
	}}}
}

func piece(b []byte) *tidemarkv1.ExecuteResponse {
	return &tidemarkv1.ExecuteResponse{Event: &tidemarkv1.ExecuteResponse_Arrow{Arrow: b}}
}

func progressed(read int64) *tidemarkv1.ExecuteResponse {
	return &tidemarkv1.ExecuteResponse{Event: &tidemarkv1.ExecuteResponse_Progress{Progress: &tidemarkv1.QueryProgress{RowsRead: read, RowsToRead: 9, Rows: 1}}}
}

func finished(rows int64) *tidemarkv1.ExecuteResponse {
	return &tidemarkv1.ExecuteResponse{Event: &tidemarkv1.ExecuteResponse_Finished{Finished: &tidemarkv1.QueryFinished{Rows: rows, RowsRead: 2 * rows, ElapsedUs: 3000, QueuedUs: 1000, CaughtUpUs: 500}}}
}

// numbers is an Arrow stream with the integers from 0 on, in batches of so many rows.
func numbers(tb testing.TB, batches ...int) []byte {
	tb.Helper()
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}, {Name: "n", Type: arrow.BinaryTypes.String}}, nil)
	var out bytes.Buffer
	w := ipc.NewWriter(&out, ipc.WithSchema(schema))
	next := int64(0)
	for _, rows := range batches {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		for range rows {
			b.Field(0).(*array.Int64Builder).Append(next)
			b.Field(1).(*array.StringBuilder).Append("row")
			next++
		}
		rec := b.NewRecord()
		if err := w.Write(rec); err != nil {
			tb.Fatal(err)
		}
		rec.Release()
		b.Release()
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}
