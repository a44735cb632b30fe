package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"pgregory.net/rapid"

	"github.com/tidemark-io/tidemark/client"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// readAll reads a result to its end: the numbers of its first column, and how it ended.
func readAll(rows *client.Rows) (got []int64, err error) {
	for {
		rec, err := rows.Next()
		if err != nil {
			return got, err
		}
		got = append(got, rec.Column(0).(*array.Int64).Int64Values()...)
		rec.Release()
	}
}

func TestQuery(t *testing.T) {
	stream := numbers(t, 3, 0, 4)
	var request *tidemarkv1.ExecuteRequest
	s := &queryServer{execute: func(_ context.Context, _ int, r *tidemarkv1.ExecuteRequest, send func(*tidemarkv1.ExecuteResponse)) error {
		request = r
		send(started("q1"))
		send(progressed(1))
		for i := 0; i < len(stream); i += 7 { // the pieces need not be whole messages
			send(piece(stream[i:min(i+7, len(stream))]))
		}
		send(progressed(2))
		send(finished(7))
		return nil
	}}
	c := startQueryServer(t, s)
	memory := memory.NewCheckedAllocator(memory.DefaultAllocator)
	var told []client.QueryProgress
	rows, err := c.Query(t.Context(), "SELECT n", client.QueryOptions{
		AtLeast: []client.Position{{Topic: "t", Offsets: map[int32]int64{0: 5}}}, Timeout: 2 * time.Second, MaxRows: 100, Memory: memory,
		Progress: func(p client.QueryProgress) { told = append(told, p) }, ProgressEvery: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if rows.ID() != "q1" || len(rows.Position()) != 1 || rows.Position()[0].String() != "t 0:10 1:20" || rows.Schema().Field(1).Name != "n" {
		t.Errorf("id %q, position %v, schema %v", rows.ID(), rows.Position(), rows.Schema())
	}
	got, err := readAll(rows)
	if !errors.Is(err, io.EOF) || !slices.Equal(got, []int64{0, 1, 2, 3, 4, 5, 6}) {
		t.Errorf("%v, %v", got, err)
	}
	want := client.QueryStats{Rows: 7, RowsRead: 14, Elapsed: 3 * time.Millisecond, Queued: time.Millisecond, CaughtUp: 500 * time.Microsecond}
	if rows.Stats() != want {
		t.Errorf("stats %+v", rows.Stats())
	}
	if len(told) != 2 || told[1] != (client.QueryProgress{RowsRead: 2, RowsToRead: 9, Rows: 1}) {
		t.Errorf("progress %v", told)
	}
	if request.GetSql() != "SELECT n" || request.GetAtLeast()[0].GetOffsets()[0] != 5 || request.GetMaxRows() != 100 || request.GetProgressMs() != 100 ||
		request.GetTimeoutMs() != 2000 {
		t.Errorf("request %v", request)
	}
	rows.Close()
	if _, err := rows.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after Close: %v", err)
	}
	memory.AssertSize(t, 0)
}

// A result that is not whole is never taken for a short one.
func TestQueryNeverShort(t *testing.T) {
	stream := numbers(t, 3, 4)
	end := stream[:len(stream)-8] // without the marker of its end
	for name, c := range map[string]struct {
		events []*tidemarkv1.ExecuteResponse
		err    error
		reason string
	}{
		"nothing":                {nil, nil, ""},
		"only started":           {[]*tidemarkv1.ExecuteResponse{started("q")}, nil, ""},
		"not started":            {[]*tidemarkv1.ExecuteResponse{piece(stream)}, nil, client.ReasonCorruptData},
		"started twice":          {[]*tidemarkv1.ExecuteResponse{started("q"), started("q")}, nil, client.ReasonCorruptData},
		"not finished":           {[]*tidemarkv1.ExecuteResponse{started("q"), piece(stream)}, nil, ""},
		"cut in the middle":      {[]*tidemarkv1.ExecuteResponse{started("q"), piece(stream[:len(stream)/2])}, nil, ""},
		"cut between batches":    {[]*tidemarkv1.ExecuteResponse{started("q"), piece(end)}, nil, ""},
		"finished in the middle": {[]*tidemarkv1.ExecuteResponse{started("q"), piece(stream[:len(stream)/2]), finished(7)}, nil, client.ReasonCorruptData},
		"finished too early":     {[]*tidemarkv1.ExecuteResponse{started("q"), finished(0)}, nil, client.ReasonCorruptData},
		"rows are missing":       {[]*tidemarkv1.ExecuteResponse{started("q"), piece(stream), finished(8)}, nil, client.ReasonCorruptData},
		"more behind the end":    {[]*tidemarkv1.ExecuteResponse{started("q"), piece(stream), piece(stream), finished(7)}, nil, client.ReasonCorruptData},
		"no Arrow":               {[]*tidemarkv1.ExecuteResponse{started("q"), piece([]byte("SELECT 1, 2, 3, 4, 5, 6, 7"))}, nil, ""},
		"failed in the middle": {
			[]*tidemarkv1.ExecuteResponse{started("q"), piece(end)},
			queryFailure(connect.CodeResourceExhausted, "RESULT_TOO_LARGE", nil), client.ReasonResultTooLarge,
		},
		"failed at the end": {
			[]*tidemarkv1.ExecuteResponse{started("q"), piece(stream)},
			queryFailure(connect.CodeCanceled, "QUERY_CANCELED", nil), client.ReasonQueryCanceled,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &queryServer{execute: func(_ context.Context, _ int, _ *tidemarkv1.ExecuteRequest, send func(*tidemarkv1.ExecuteResponse)) error {
				for _, e := range c.events {
					send(e)
				}
				return c.err
			}}
			cl := startQueryServer(t, s)
			memory := memory.NewCheckedAllocator(memory.DefaultAllocator)
			defer memory.AssertSize(t, 0)
			rows, err := cl.Query(t.Context(), "", client.QueryOptions{RetryFor: -1, Memory: memory})
			if err == nil {
				_, err = readAll(rows)
				rows.Close()
			}
			var e *client.Error
			if !errors.As(err, &e) || e.Reason != c.reason && c.reason != "" {
				t.Errorf("%v (%T)", err, err)
			}
			if s.attempts != 1 {
				t.Errorf("%d attempts", s.attempts)
			}
		})
	}
}

func TestQueryTriesAgainBeforeItBegan(t *testing.T) {
	stream := numbers(t, 1)
	for name, c := range map[string]struct {
		err      error // of the first two attempts
		begun    bool  // before the error
		options  client.QueryOptions
		attempts int
		reason   string
	}{
		"a full queue":      {err: queryFailure(connect.CodeResourceExhausted, "QUERY_QUEUE_FULL", nil), attempts: 3},
		"a node that stops": {err: queryFailure(connect.CodeUnavailable, "SHUTTING_DOWN", nil), attempts: 3},
		"no retries": {
			err: queryFailure(connect.CodeResourceExhausted, "QUERY_QUEUE_FULL", nil), options: client.QueryOptions{RetryFor: -1},
			attempts: 1, reason: "QUERY_QUEUE_FULL",
		},
		"no time": {
			err: queryFailure(connect.CodeResourceExhausted, "QUERY_QUEUE_FULL", nil), options: client.QueryOptions{Timeout: time.Millisecond},
			attempts: 1, reason: "QUERY_QUEUE_FULL",
		},
		"wrong SQL":                         {err: queryFailure(connect.CodeInvalidArgument, "SYNTAX", nil), attempts: 1, reason: "SYNTAX"},
		"out of time":                       {err: queryFailure(connect.CodeDeadlineExceeded, "QUERY_TIMEOUT", nil), attempts: 1, reason: "QUERY_TIMEOUT"},
		"it had begun":                      {err: queryFailure(connect.CodeUnavailable, "UNAVAILABLE", nil), begun: true, attempts: 1, reason: "UNAVAILABLE"},
		"it had begun on a node that stops": {err: queryFailure(connect.CodeUnavailable, "SHUTTING_DOWN", nil), begun: true, attempts: 2, reason: "SHUTTING_DOWN"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &queryServer{execute: func(_ context.Context, attempt int, _ *tidemarkv1.ExecuteRequest, send func(*tidemarkv1.ExecuteResponse)) error {
				if attempt < 2 {
					if c.begun {
						send(started("q"))
					}
					return c.err
				}
				send(started("q"))
				send(piece(stream))
				send(finished(1))
				return nil
			}}
			rows, err := startQueryServer(t, s).Query(t.Context(), "", c.options)
			if err == nil {
				if _, err = readAll(rows); errors.Is(err, io.EOF) {
					err = nil
				}
				rows.Close()
			}
			var e *client.Error
			if s.attempts != c.attempts || (err == nil) != (c.reason == "") || err != nil && (!errors.As(err, &e) || e.Reason != c.reason) {
				t.Errorf("%d attempts, %v", s.attempts, err)
			}
		})
	}
}

func TestQueryOfNobody(t *testing.T) {
	c, err := client.New(client.Config{Server: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Query(t.Context(), "SELECT 1", client.QueryOptions{Timeout: time.Hour, RetryFor: time.Hour}); !client.IsUnreachable(err) {
		t.Error(err)
	}
}

// A query whose connection breaks before it returned anything goes to another node, once: it may be what breaks nodes.
func TestQueryGoesToAnotherNode(t *testing.T) {
	for _, begun := range []bool{false, true} {
		t.Run(fmt.Sprint("begun ", begun), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := startFleet(t, 3)
				f.create("t", 1)
				c := f.client(client.Config{})
				cons := consumer(t, c, "t", client.ConsumerConfig{}) // it has the nodes learned
				f.fill("t", 1)
				if _, err := cons.Poll(t.Context()); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				var asked []string
				breaks := 1
				stream := numbers(t, 5)
				for _, n := range f.nodes {
					n.execute = func(_ context.Context, _ *tidemarkv1.ExecuteRequest, send func(*tidemarkv1.ExecuteResponse) error) error {
						asked = append(asked, n.id)
						if begun {
							if err := send(started("q")); err != nil {
								return err
							}
						}
						if len(asked) <= breaks {
							n.pipes.cut()
							return nil
						}
						if begun {
							return errors.Join(send(piece(stream)), send(finished(5)))
						}
						return errors.Join(send(started("q")), send(piece(stream)), send(finished(5)))
					}
				}
				rows, err := c.Query(t.Context(), "SELECT n", client.QueryOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if got, err := readAll(rows); !errors.Is(err, io.EOF) || len(got) != 5 {
					t.Error(got, err)
				}
				rows.Close()
				if len(asked) != 2 || asked[0] == asked[1] {
					t.Error(asked)
				}
				asked, breaks = nil, 100
				if _, err := c.Query(t.Context(), "SELECT n", client.QueryOptions{}); err == nil || len(asked) != 2 {
					t.Error(asked, err)
				}
				asked = nil
				if _, err := c.Query(t.Context(), "SELECT n", client.QueryOptions{RetryFor: -1}); err == nil || len(asked) != 1 {
					t.Error(asked, err)
				}
			})
		})
	}
}

func TestQueryIsCanceled(t *testing.T) {
	stream := numbers(t, 2, 2)
	ended := make(chan struct{})
	s := &queryServer{execute: func(ctx context.Context, _ int, _ *tidemarkv1.ExecuteRequest, send func(*tidemarkv1.ExecuteResponse)) error {
		send(started("q"))
		send(piece(stream[:len(stream)-8]))
		<-ctx.Done()
		ended <- struct{}{}
		return ctx.Err()
	}}
	c := startQueryServer(t, s)
	for _, how := range []string{"context", "close"} {
		ctx, cancel := context.WithCancel(t.Context())
		rows, err := c.Query(ctx, "", client.QueryOptions{})
		if err != nil {
			t.Fatal(err)
		}
		rec, err := rows.Next()
		if err != nil {
			t.Fatal(err)
		}
		if how == "context" {
			cancel()
			if got, err := readAll(rows); !errors.Is(err, context.Canceled) {
				t.Error(got, err)
			}
		}
		rows.Close()
		rows.Close()
		if _, err := rows.Next(); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("after %s: %v", how, err)
		}
		if got := rec.Column(0).(*array.Int64).Value(1); got != 1 { // records outlive their result
			t.Error(got)
		}
		rec.Release()
		<-ended
		cancel()
	}
}

func TestQueryCalls(t *testing.T) {
	s := &queryServer{}
	c := startQueryServer(t, s)
	plan, covers, err := c.Explain(t.Context(), "SELECT 1", client.QueryOptions{AtLeast: []client.Position{{Topic: "t", Offsets: map[int32]int64{3: 4}}}})
	if err != nil || plan != "plan of SELECT 1" || covers[0].String() != "t 3:4" {
		t.Error(plan, covers, err)
	}
	if err := c.CancelQuery(t.Context(), "q7"); err != nil || !slices.Equal(s.canceled, []string{"q7"}) {
		t.Error(s.canceled, err)
	}
	tables, err := c.ListTables(t.Context())
	if err != nil || len(tables) != 1 || tables[0].GetColumns()[0].GetType() != "DOUBLE" {
		t.Error(tables, err)
	}
}

// A query reads exactly the topic it planned for, up to an end that covers what was acknowledged.
func TestTopicByID(t *testing.T) {
	s := &queryServer{}
	c := startQueryServer(t, s)
	ends, err := c.EndOffsets(t.Context(), "t", "00ff")
	if err != nil || !maps.Equal(ends, map[int32]int64{1: 7}) {
		t.Error(ends, err)
	}
	if r := s.offsets; !r.GetLinearizable() || !r.GetEnd() || r.GetTopicId() != "00ff" || r.GetTopic() != "t" {
		t.Error(r)
	}
	consumer, err := c.NewConsumer("t", client.ConsumerConfig{TopicID: "00ff"})
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	if _, err := consumer.Poll(t.Context()); !client.IsNotFound(err) || s.consumed.GetTopicId() != "00ff" {
		t.Error(err, s.consumed)
	}
}

func TestPosition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := client.Position{
			Topic:   rapid.StringMatching(`[a-zA-Z0-9._-]{1,249}`).Draw(t, "topic"),
			Offsets: rapid.MapOf(rapid.Int32Min(0), rapid.Int64Min(0)).Draw(t, "offsets"),
		}
		back, err := client.ParsePosition(p.String())
		if err != nil || back.Topic != p.Topic || !maps.Equal(back.Offsets, p.Offsets) {
			t.Fatalf("%v → %v, %v", p, back, err)
		}
	})
	if p, err := client.ParsePosition(" access\t1:2058  0:2394\n"); err != nil || p.String() != "access 0:2394 1:2058" {
		t.Error(p, err)
	}
	for _, s := range []string{
		"", "access", "access 0", "access 0:", "access :1", "access 0:-1", "access -1:0", "access +0:1", "access 00:1", "access 0:01",
		"access 0:1 0:1", "access 0:1,1:2", "access 2147483648:0", "access 0:9223372036854775808", "access 0:1:2", "access - 0:1", "access - -",
		"0:1 1:2", "a/b 0:1", strings.Repeat("a", 250) + " 0:1", "access 0:1" + strings.Repeat(" ", 1<<20),
	} {
		if p, err := client.ParsePosition(s); err == nil {
			t.Errorf("%.50q is %v", s, p)
		}
	}
}

func BenchmarkRows(b *testing.B) {
	stream := numbers(b, 65536, 65536, 65536, 65536)
	s := &queryServer{execute: func(_ context.Context, _ int, _ *tidemarkv1.ExecuteRequest, send func(*tidemarkv1.ExecuteResponse)) error {
		send(started("q"))
		for i := 0; i < len(stream); i += 1 << 20 {
			send(piece(stream[i:min(i+1<<20, len(stream))]))
		}
		send(finished(4 * 65536))
		return nil
	}}
	c := startQueryServer(b, s)
	for b.Loop() {
		rows, err := c.Query(b.Context(), "", client.QueryOptions{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := readAll(rows); !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
		rows.Close()
	}
	b.SetBytes(int64(len(stream)))
	b.ReportMetric(float64(b.N)*4*65536/b.Elapsed().Seconds(), "rows/s")
}
