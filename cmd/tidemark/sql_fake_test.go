package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// fakeRows are the rows of an answer, of which only some are sent before what fails.
type fakeRows struct {
	schema  *arrow.Schema
	records []arrow.Record
	fail    error
}

func rowsOf(fields []arrow.Field, batches int, fill func(b *array.RecordBuilder, batch int)) *fakeRows {
	r := &fakeRows{schema: arrow.NewSchema(fields, nil)}
	for i := range batches {
		b := array.NewRecordBuilder(memory.DefaultAllocator, r.schema)
		fill(b, i)
		r.records = append(r.records, b.NewRecord())
		b.Release()
	}
	return r
}

func numbersOf(n, batch int) *fakeRows {
	return rowsOf([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, n/batch, func(b *array.RecordBuilder, at int) {
		for i := range batch {
			b.Field(0).(*array.Int64Builder).Append(int64(at*batch + i))
		}
	})
}

func sqlError(code connect.Code, reason, message string, metadata map[string]string) error {
	err := connect.NewError(code, errors.New(message))
	if d, detailErr := connect.NewErrorDetail(&errdetails.ErrorInfo{Reason: reason, Domain: "tidemark", Metadata: metadata}); detailErr == nil {
		err.AddDetail(d)
	}
	return err
}

// answer is what the server says to a statement.
func (s *fakeServer) answer(sql string) (*fakeRows, error) {
	text := func(names ...string) (fields []arrow.Field) {
		for _, n := range names {
			fields = append(fields, arrow.Field{Name: n, Type: arrow.BinaryTypes.String, Nullable: true})
		}
		return fields
	}
	switch sql = strings.Join(strings.Fields(strings.TrimSuffix(strings.TrimSpace(sql), ";")), " "); {
	case sql == "SELECT * FROM regions":
		fields := append(text("region"), arrow.Field{Name: "orders", Type: arrow.PrimitiveTypes.Int64}, arrow.Field{Name: "total", Type: arrow.PrimitiveTypes.Float64, Nullable: true})
		return rowsOf(fields, 1, func(b *array.RecordBuilder, _ int) {
			b.Field(0).(*array.StringBuilder).AppendValues([]string{"eu", "日本", ""}, []bool{true, true, false})
			b.Field(1).(*array.Int64Builder).AppendValues([]int64{7, 12345, 0}, nil)
			b.Field(2).(*array.Float64Builder).AppendValues([]float64{1.5, 20, 0}, []bool{true, true, false})
		}), nil
	case sql == "SELECT hostile":
		return rowsOf(text("\x1b[31mname", "second"), 1, func(b *array.RecordBuilder, _ int) {
			b.Field(0).(*array.StringBuilder).Append("\x1b]0;owned\a" + strings.Repeat("x", 300))
			b.Field(1).(*array.StringBuilder).Append("a\nb\u202e")
		}), nil
	case sql == "SELECT many":
		return numbersOf(25_000, 2500), nil
	case sql == "SELECT none":
		return rowsOf(text("nothing"), 0, nil), nil
	case sql == "SELECT wide":
		names := strings.Split("a b c d e f g h i j k l m n o p q r s t u v w x y z", " ")
		return rowsOf(text(names...), 1, func(b *array.RecordBuilder, _ int) {
			for i := range names {
				b.Field(i).(*array.StringBuilder).Append(strings.Repeat("v", 20))
			}
		}), nil
	case sql == "SELECT interval":
		return rowsOf([]arrow.Field{{Name: "took", Type: arrow.FixedWidthTypes.MonthDayNanoInterval}}, 1, func(b *array.RecordBuilder, _ int) {
			b.Field(0).(*array.MonthDayNanoIntervalBuilder).Append(arrow.MonthDayNanoInterval{Days: 1})
		}), nil
	case sql == "SELECT too much":
		r := numbersOf(100, 50)
		r.fail = sqlError(connect.CodeResourceExhausted, "RESULT_TOO_LARGE", "the result has more than 100 rows", nil)
		return r, nil
	case sql == "SELECT slow":
		return nil, nil
	case sql == "SELECT bad value":
		return nil, sqlError(connect.CodeInvalidArgument, "SQL_ERROR", "Could not convert string 'x\x1b[2Jy'\nto INT32", nil)
	case sql == "SELECT unsupported":
		return nil, sqlError(connect.CodeInvalidArgument, "INVALID_SQL", "no function matches", nil)
	case sql == "SELECT ahead":
		return nil, sqlError(connect.CodeFailedPrecondition, "POSITION_NOT_REACHED", "at_least asks for offset 9", map[string]string{"next": "ask without it"})
	case strings.HasPrefix(sql, "SELEC "):
		return nil, sqlError(connect.CodeInvalidArgument, "SYNTAX", `syntax error at or near "SELEC"`, map[string]string{"line": "1", "column": "1", "position": "0", "next": "did you mean SELECT?"})
	case strings.Contains(sql, "regoin"):
		return nil, sqlError(connect.CodeInvalidArgument, "UNKNOWN_COLUMN", `there is no column "regoin"`, map[string]string{"line": "2", "column": "3"})
	case strings.Contains(sql, "read_csv"):
		return nil, sqlError(connect.CodeInvalidArgument, "FUNCTION_NOT_ALLOWED", "the function read_csv is not allowed", nil)
	case strings.HasPrefix(sql, "SELECT count(*) FROM "):
		topic := strings.Trim(strings.TrimPrefix(sql, "SELECT count(*) FROM "), `"`)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.topics[topic] == nil {
			return nil, sqlError(connect.CodeNotFound, "UNKNOWN_TABLE", "there is no table "+topic, nil)
		}
		n := int64(len(s.messages[topic]))
		return rowsOf([]arrow.Field{{Name: "count_star()", Type: arrow.PrimitiveTypes.Int64}}, 1, func(b *array.RecordBuilder, _ int) { b.Field(0).(*array.Int64Builder).Append(n) }), nil
	}
	return numbersOf(10, 10), nil
}

func (s *fakeServer) Execute(ctx context.Context, r *tidemarkv1.ExecuteRequest, st *connect.ServerStream[tidemarkv1.ExecuteResponse]) error {
	s.mu.Lock()
	s.asked = append(s.asked, r)
	s.mu.Unlock()
	rows, err := s.answer(r.GetSql())
	if err != nil {
		return err
	}
	position := []*tidemarkv1.Position{{Topic: "orders", Offsets: map[int32]int64{0: 812, 1: 790}}}
	if err := st.Send(&tidemarkv1.ExecuteResponse{Event: &tidemarkv1.ExecuteResponse_Started{Started: &tidemarkv1.QueryStarted{QueryId: "q1", Position: position}}}); err != nil {
		return err
	}
	if rows == nil {
		s.slow <- struct{}{}
		<-ctx.Done()
		s.canceled <- struct{}{}
		return ctx.Err()
	}
	var out bytes.Buffer
	w := ipc.NewWriter(&out, ipc.WithSchema(rows.schema))
	send := func() error {
		defer out.Reset()
		return st.Send(&tidemarkv1.ExecuteResponse{Event: &tidemarkv1.ExecuteResponse_Arrow{Arrow: out.Bytes()}})
	}
	var n int64
	for _, rec := range rows.records {
		n += rec.NumRows()
		if err := errors.Join(w.Write(rec), send()); err != nil {
			return err
		}
	}
	if rows.fail != nil {
		return rows.fail
	}
	if err := errors.Join(w.Close(), send()); err != nil {
		return err
	}
	return st.Send(&tidemarkv1.ExecuteResponse{Event: &tidemarkv1.ExecuteResponse_Finished{Finished: &tidemarkv1.QueryFinished{Rows: n, RowsRead: n, ElapsedUs: 12_300}}})
}

func (s *fakeServer) Explain(context.Context, *tidemarkv1.ExplainRequest) (*tidemarkv1.ExplainResponse, error) {
	return &tidemarkv1.ExplainResponse{}, nil
}

func (s *fakeServer) Cancel(context.Context, *tidemarkv1.CancelRequest) (*tidemarkv1.CancelResponse, error) {
	return &tidemarkv1.CancelResponse{}, nil
}

func (s *fakeServer) ListTables(context.Context, *tidemarkv1.ListTablesRequest) (*tidemarkv1.ListTablesResponse, error) {
	return &tidemarkv1.ListTablesResponse{Tables: []*tidemarkv1.Table{
		{Name: "access-log", TopicId: "01", Columns: []*tidemarkv1.Column{{Name: "path", Type: "VARCHAR"}, {Name: "Status Code", Type: "BIGINT"}}},
		{Name: "orders", TopicId: "02", Columns: []*tidemarkv1.Column{{Name: "region", Type: "VARCHAR"}, {Name: "order", Type: "BIGINT"}}},
		{Schema: "system", Name: "queries", Columns: []*tidemarkv1.Column{{Name: "query_id", Type: "VARCHAR"}}},
	}}, nil
}

func (s *fakeServer) lastAsked(t *testing.T) *tidemarkv1.ExecuteRequest {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asked) == 0 {
		t.Fatal("nothing was asked")
	}
	return s.asked[len(s.asked)-1]
}
