package query

import (
	"context"
	"strings"

	"connectrpc.com/connect"
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// queryHandler is QueryService.
type queryHandler struct{ service *Service }

// Execute runs one statement and streams its result.
func (h *queryHandler) Execute(ctx context.Context, r *tidemarkv1.ExecuteRequest, stream *connect.ServerStream[tidemarkv1.ExecuteResponse]) error {
	atLeast, err := positionsOf(r.GetAtLeast())
	if err != nil {
		return connectError(err)
	}
	return connectError(h.service.execute(ctx, request{
		sql: r.GetSql(), atLeast: atLeast, timeout: millis(r.GetTimeoutMs()), maxRows: r.GetMaxRows(), progress: millis(r.GetProgressMs()),
		client: clientOf(stream.Conn().Peer().Addr), outlet: outletOf(ctx),
	}, &streamSink{stream: stream}))
}

// Explain tells how a statement would run.
func (h *queryHandler) Explain(ctx context.Context, r *tidemarkv1.ExplainRequest) (*tidemarkv1.ExplainResponse, error) {
	atLeast, err := positionsOf(r.GetAtLeast())
	if err != nil {
		return nil, connectError(err)
	}
	call, ok := connect.CallInfoForHandlerContext(ctx)
	address := ""
	if ok {
		address = call.Peer().Addr
	}
	var plan planSink
	err = h.service.execute(ctx, request{
		sql: r.GetSql(), atLeast: atLeast, timeout: millis(r.GetTimeoutMs()), explain: true, client: clientOf(address),
	}, &plan)
	if err != nil {
		return nil, connectError(err)
	}
	return &tidemarkv1.ExplainResponse{Plan: plan.text(), Position: protoPositions(plan.covers)}, nil
}

// Cancel ends a query.
func (h *queryHandler) Cancel(_ context.Context, r *tidemarkv1.CancelRequest) (*tidemarkv1.CancelResponse, error) {
	if !h.service.registry.cancelQuery(r.GetQueryId()) {
		return nil, connectError(errorf(ReasonUnknownQuery,
			"no query %q is waiting or running on this server: it has ended, or another server has it", cut(r.GetQueryId(), 64)))
	}
	return &tidemarkv1.CancelResponse{}, nil
}

// ListTables gives every table.
func (h *queryHandler) ListTables(ctx context.Context, _ *tidemarkv1.ListTablesRequest) (*tidemarkv1.ListTablesResponse, error) {
	var out *tidemarkv1.ListTablesResponse
	err := h.service.call(ctx, func(ctx context.Context) (err error) {
		out, err = h.service.listTables(ctx)
		return err
	})
	return out, connectError(err)
}

// streamSink sends a result as a stream of ExecuteResponse.
type streamSink struct {
	stream  *connect.ServerStream[tidemarkv1.ExecuteResponse]
	via     func(write func() error) error
	encoder *encoder
}

func (s *streamSink) bind(send func(write func() error) error) { s.via = send }

func (s *streamSink) send(r *tidemarkv1.ExecuteResponse) error {
	return s.via(func() error { return s.stream.Send(r) })
}

func (s *streamSink) piece(bytes []byte) error {
	return s.send(&tidemarkv1.ExecuteResponse{Event: &tidemarkv1.ExecuteResponse_Arrow{Arrow: bytes}})
}

func (s *streamSink) started(id string, covers []position, schema *arrow.Schema) (err error) {
	if s.encoder, err = newEncoder(schema); err != nil {
		return err
	}
	if err := s.send(&tidemarkv1.ExecuteResponse{Event: &tidemarkv1.ExecuteResponse_Started{
		Started: &tidemarkv1.QueryStarted{QueryId: id, Position: protoPositions(covers)},
	}}); err != nil {
		return err
	}
	return s.piece(s.encoder.first())
}

func (s *streamSink) batch(rec arrow.Record) error { return s.encoder.batch(rec, s.piece) }

func (s *streamSink) progress(read, toRead, rows int64) error {
	return s.send(&tidemarkv1.ExecuteResponse{Event: &tidemarkv1.ExecuteResponse_Progress{
		Progress: &tidemarkv1.QueryProgress{RowsRead: read, RowsToRead: toRead, Rows: rows},
	}})
}

func (s *streamSink) finished(st stats) error {
	end, err := s.encoder.last()
	if err != nil {
		return err
	}
	if err := s.piece(end); err != nil {
		return err
	}
	return s.send(&tidemarkv1.ExecuteResponse{Event: &tidemarkv1.ExecuteResponse_Finished{Finished: &tidemarkv1.QueryFinished{
		Rows: st.rows, RowsRead: st.read, ElapsedUs: st.elapsed.Microseconds(), QueuedUs: st.queued.Microseconds(), CaughtUpUs: st.caughtUp.Microseconds(),
	}}})
}

// maxPlan bounds the text of a plan.
const maxPlan = 4 << 20

// planSink keeps the text of an EXPLAIN: the last column of its rows.
type planSink struct {
	covers []position
	plan   strings.Builder
}

func (s *planSink) bind(func(write func() error) error) {}

func (s *planSink) started(_ string, covers []position, _ *arrow.Schema) error {
	s.covers = covers
	return nil
}

func (s *planSink) batch(rec arrow.Record) error {
	texts, is := rec.Column(int(rec.NumCols()) - 1).(*array.String)
	if !is {
		return errorf(ReasonInternal, "the engine's plan is no text")
	}
	for i := range texts.Len() {
		if s.plan.Len()+len(texts.Value(i)) > maxPlan {
			return errorf(ReasonResultTooLarge, "the plan is longer than %d MiB", maxPlan>>20)
		}
		if s.plan.Len() > 0 {
			s.plan.WriteByte('\n')
		}
		s.plan.WriteString(strings.TrimRight(texts.Value(i), "\n"))
	}
	return nil
}

func (s *planSink) text() string {
	if s.plan.Len() == 0 {
		return ""
	}
	return s.plan.String() + "\n"
}

func (s *planSink) progress(int64, int64, int64) error { return nil }

func (s *planSink) finished(stats) error { return nil }
