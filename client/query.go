package client

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow/go/v17/arrow/memory"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// Reasons of queries.
const (
	// ReasonSyntax: the text is no SQL. Like those about names, it may have line, column and position in its metadata (from 1, from 1, and a byte
	// offset from 0), and next: what to do.
	ReasonSyntax = "SYNTAX"
	// ReasonUnknownTable: there is no such topic or system table.
	ReasonUnknownTable = "UNKNOWN_TABLE"
	// ReasonUnknownColumn: a table has no such column.
	ReasonUnknownColumn = "UNKNOWN_COLUMN"
	// ReasonStatementNotAllowed: the statement is none of those that read.
	ReasonStatementNotAllowed = "STATEMENT_NOT_ALLOWED"
	// ReasonNotOneStatement: there is more than one.
	ReasonNotOneStatement = "NOT_ONE_STATEMENT"
	// ReasonFunctionNotAllowed: a function in it does more than compute, or is not known.
	ReasonFunctionNotAllowed = "FUNCTION_NOT_ALLOWED"
	// ReasonTableNotAllowed: a table in it is no topic and no system table, such as one of another schema.
	ReasonTableNotAllowed = "TABLE_NOT_ALLOWED"
	// ReasonUnsupported: something else in it is not on the list of what a query may use.
	ReasonUnsupported = "UNSUPPORTED"
	// ReasonInvalidSQL: the statement is well formed, and wrong: its types do not fit, for example.
	ReasonInvalidSQL = "INVALID_SQL"
	// ReasonSQLError: it failed over the rows, as a cast does.
	ReasonSQLError = "SQL_ERROR"
	// ReasonResultTooLarge: the result has more rows than were asked for or the server allows.
	ReasonResultTooLarge = "RESULT_TOO_LARGE"
	// ReasonQueryMemory: the query needs more memory than it may take.
	ReasonQueryMemory = "QUERY_MEMORY"
	// ReasonQueryTempSpace: the query needs more temporary disk space than it may take.
	ReasonQueryTempSpace = "QUERY_TEMP_SPACE"
	// ReasonQueryTimeout: the query took longer than it may.
	ReasonQueryTimeout = "QUERY_TIMEOUT"
	// ReasonPositionNotReached: AtLeast asks for more than the log has, and nobody was acknowledged there.
	ReasonPositionNotReached = "POSITION_NOT_REACHED"
	// ReasonQueryCanceled: somebody canceled the query.
	ReasonQueryCanceled = "QUERY_CANCELED"
	// ReasonQueryQueueFull: too many queries wait already.
	ReasonQueryQueueFull = "QUERY_QUEUE_FULL"
	// ReasonNoSQLEngine: the server's build executes no SQL.
	ReasonNoSQLEngine = "NO_SQL_ENGINE"
)

// QueryOptions are the settings of one query. The zero value is ready to use.
type QueryOptions struct {
	// AtLeast are positions that the answer covers at least; the query waits for them.
	AtLeast []Position
	// Timeout is how long the query may take, waiting included; 0 is the server's limit, which also bounds it. It is cut to
	// milliseconds, and 1 ms at least.
	Timeout time.Duration
	// MaxRows is how many rows the result may have: more end the query with ReasonResultTooLarge. 0 is the server's limit.
	MaxRows int64
	// Progress, unless nil, hears every ProgressEvery (1 s when 0, and 100 ms at least) how far the query is. Query and Next call it.
	Progress      func(QueryProgress)
	ProgressEvery time.Duration
	// RetryFor is how long a query is tried again that no server has begun because it was busy or about to stop, or whose connection
	// broke; 5 s when 0, not at all below 0, and never longer than Timeout. That nobody listens at any server's address is told at once.
	RetryFor time.Duration
	// Memory is where the records of the result come from; nil is Go's heap.
	Memory memory.Allocator
}

// QueryProgress says how far a query is.
type QueryProgress struct {
	// RowsRead are the rows read from tables so far, of RowsToRead; a table that is read twice counts twice.
	RowsRead, RowsToRead int64
	// Rows of the result so far.
	Rows int64
}

// QueryStats says what a query that is over took.
type QueryStats struct {
	// Rows of the result, and rows read from tables.
	Rows, RowsRead int64
	// Elapsed is from the call to its end, on the server; Queued and CaughtUp are the parts of it that were spent in the queue and
	// waiting for the tail to reach the position.
	Elapsed, Queued, CaughtUp time.Duration
}

// Query runs one statement, at most 1 MiB of SQL, and returns when a server has begun it and told the result's columns. The
// caller reads the rows and closes them. When ctx ends, so does the query. Errors are *Error.
//
// A server that is busy or stops says so before it begins, and the query is tried again as RetryFor says, on another node where there is one.
// A query whose connection broke before it returned anything is sent again once, no more: it may be what broke the server.
func (c *Client) Query(ctx context.Context, sql string, o QueryOptions) (*Rows, error) {
	begin := c.clock.Now()
	retryFor := o.RetryFor
	if retryFor == 0 {
		retryFor = 5 * time.Second
	}
	if o.Timeout > 0 {
		retryFor = min(retryFor, o.Timeout)
	}
	tried := map[*endpoint]bool{}
	resent := false
	for attempt := 0; ; attempt++ {
		spent := time.Duration(0)
		if attempt > 0 {
			spent = c.clock.Now().Sub(begin)
		}
		to := c.anyBut(serveQueries, tried)
		rows, begun, err := c.startQuery(ctx, to, o.request(sql, spent), &o)
		if err == nil {
			c.worked(to)
			return rows, nil
		}
		c.failed(to, err)
		e := c.queryError(to, err)
		if ctx.Err() != nil || retryFor < 0 {
			return nil, e
		}
		tried[to] = true
		others := !tried[c.anyBut(serveQueries, tried)]
		switch stops := e.Reason == reasonShuttingDown && !begun; {
		case neverSent(err):
			if !others {
				return nil, e
			}
		case connectionTrouble(err) && !stops:
			if resent {
				return nil, e
			}
			resent = true
		case begun || !e.Retryable:
			return nil, e
		}
		wait := time.Duration(0)
		if !others {
			clear(tried)
			wait = c.backoff(attempt, e.RetryAfter)
		}
		if c.clock.Now().Sub(begin)+wait >= retryFor {
			return nil, e
		}
		c.log.Info("query is tried again", "server", to.url, "error", e)
		t := c.clock.NewTimer(wait)
		select {
		case <-t.C():
		case <-ctx.Done():
			t.Stop()
			return nil, e
		}
	}
}

// Explain tells how a statement would run, as text in lines, and which position it would cover.
func (c *Client) Explain(ctx context.Context, sql string, o QueryOptions) (plan string, covers []Position, err error) {
	r, err := askQueries(ctx, c, connectionTrouble, func(to *endpoint) (*tidemarkv1.ExplainResponse, error) {
		return to.query.Explain(ctx, &tidemarkv1.ExplainRequest{Sql: sql, AtLeast: positionsToProto(o.AtLeast), TimeoutMs: timeoutMillis(o.Timeout, 0)})
	})
	if err != nil {
		return "", nil, err
	}
	return r.GetPlan(), positionsFromProto(r.GetPosition()), nil
}

// CancelQuery ends a running or waiting query, whoever began it, on whichever node.
func (c *Client) CancelQuery(ctx context.Context, id string) error {
	elsewhere := func(err error) bool { return connect.CodeOf(err) == connect.CodeNotFound || connectionTrouble(err) }
	_, err := askQueries(ctx, c, elsewhere, func(to *endpoint) (*tidemarkv1.CancelResponse, error) {
		return to.query.Cancel(ctx, &tidemarkv1.CancelRequest{QueryId: id})
	})
	return err
}

// ListTables returns every table that SQL knows with its columns, as far as they are known, by schema and name. Topics have the
// schema "".
func (c *Client) ListTables(ctx context.Context) ([]*tidemarkv1.Table, error) {
	r, err := askQueries(ctx, c, connectionTrouble, func(to *endpoint) (*tidemarkv1.ListTablesResponse, error) {
		return to.query.ListTables(ctx, &tidemarkv1.ListTablesRequest{})
	})
	return r.GetTables(), err
}

// askQueries makes a unary call about queries, and on one further node after the other while another may know better.
func askQueries[T any](ctx context.Context, c *Client, elsewhere func(error) bool, call func(*endpoint) (T, error)) (T, error) {
	tried := map[*endpoint]bool{}
	for {
		to := c.anyBut(serveQueries, tried)
		r, err := call(to)
		if err == nil {
			c.worked(to)
			return r, nil
		}
		c.failed(to, err)
		tried[to] = true
		if !elsewhere(err) || ctx.Err() != nil || tried[c.anyBut(serveQueries, tried)] {
			return r, c.queryError(to, err)
		}
	}
}

func (o *QueryOptions) request(sql string, spent time.Duration) *tidemarkv1.ExecuteRequest {
	r := &tidemarkv1.ExecuteRequest{Sql: sql, AtLeast: positionsToProto(o.AtLeast), TimeoutMs: timeoutMillis(o.Timeout, spent), MaxRows: o.MaxRows}
	if o.Progress != nil {
		every := o.ProgressEvery
		if every <= 0 {
			every = time.Second
		}
		r.ProgressMs = max(100, every.Milliseconds())
	}
	return r
}

// timeoutMillis is what is left of a timeout, 0 for none.
func timeoutMillis(timeout, spent time.Duration) int64 {
	if timeout <= 0 {
		return 0
	}
	return max(1, (timeout - spent).Milliseconds())
}

// queryError is remoteError for queries: a full queue is empty again soon, whatever else the server says of it.
func (c *Client) queryError(of *endpoint, err error) *Error {
	e := c.errorFrom(of.url, err)
	if e.Reason == ReasonQueryQueueFull {
		e.Retryable = true
	}
	return e
}

// brokenResult is the error of a result that is not what the protocol says.
func brokenResult(cause error, message string) *Error {
	return &Error{Code: connect.CodeDataLoss, Reason: ReasonCorruptData, Message: "read the result: " + message, cause: cause}
}
