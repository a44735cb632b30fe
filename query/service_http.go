package query

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/apache/arrow/go/v17/arrow"

	"github.com/tidemark-io/tidemark/query/render"
)

// plainHandler is POST /v1/sql, for curl.
//
// The body is the statement, whatever the Content-Type says (curl calls everything a form), or {"sql":"…"} with application/json.
// Query parameters:
//
//	format=ndjson|csv        what comes back; without it the Accept header says so, and ndjson it is otherwise
//	at_least=orders 0:12     the answer covers at least this; may be given several times
//	timeout=10s              how long the query may take, waiting included
//	max_rows=1000            more rows end the query
//
// The answer has the headers Tidemark-Query-Id and Tidemark-Position, such as `orders 0:12 1:3, users 0:7`; the latter is left
// out when it is longer than maxPositionHeader. An error before the first row has a status and a JSON body. One that comes later
// breaks the connection off, so that nobody takes half a result for a whole one (which needs HTTP/1.1 or later); with ndjson a last line {"error":{…}} tells why.
type plainHandler struct{ service *Service }

// maxPositionHeader is the longest Tidemark-Position; many clients refuse longer headers.
const maxPositionHeader = 32 << 10

// plainError has the names of a Connect error in JSON, and the reason beside them.
type plainError struct {
	Code         string            `json:"code"`
	Reason       string            `json:"reason"`
	Message      string            `json:"message"`
	RetryAfterMs int64             `json:"retry_after_ms,omitempty"`
	Metadata     map[string]string `json:"metadata,omitempty"`
}

func plainErrorOf(err error) (*plainError, *Error, connect.Code) {
	if ce, is := errors.AsType[*connect.Error](err); is { // of the body's guard
		if own, is := errors.AsType[*Error](ce); is {
			err = own
		}
	}
	e := asError(err)
	code := e.Reason.Code()
	return &plainError{
		Code: code.String(), Reason: string(e.Reason), Message: e.Message, RetryAfterMs: e.retryHint().Milliseconds(), Metadata: e.Metadata,
	}, e, code
}

// writePlainError answers a request of which nothing was answered yet.
func writePlainError(w http.ResponseWriter, err error) {
	body, e, code := plainErrorOf(err)
	setRetryAfter(w.Header(), e)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	status := httpStatus(code)
	if errors.Is(err, errOldHTTP) {
		status = http.StatusHTTPVersionNotSupported
	}
	w.WriteHeader(status)
	writeJSONLine(w, body)
}

// errOldHTTP: before HTTP/1.1 a body ends with its connection, so that half a result looks like a whole one.
var errOldHTTP = errorf(ReasonInvalidRequest, "results need HTTP/1.1 or later: with an older version a result that was broken off looks like a whole one")

func writeJSONLine(w io.Writer, body any) {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		return // the client is gone: the body is a struct of ours
	}
}

// ServeHTTP runs one statement.
func (h *plainHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !r.ProtoAtLeast(1, 1) {
		writePlainError(w, errOldHTTP)
		return
	}
	q, format, err := readPlain(r)
	if err != nil {
		if reasonOf(err) == ReasonTooLarge {
			// What is left of the body is not worth reading.
			w.Header().Set("Connection", "close")
		}
		writePlainError(w, err)
		return
	}
	q.client, q.outlet = clientOf(r.RemoteAddr), outletOf(r.Context())
	out := &plainSink{w: w, csv: format == formatCSV}
	err = h.service.execute(r.Context(), q, out)
	switch {
	case err == nil:
	case !out.begun:
		writePlainError(w, err)
	default:
		if !out.csv {
			body, _, _ := plainErrorOf(err)
			writeJSONLine(w, struct {
				Error *plainError `json:"error"`
			}{body})
			out.flush()
		}
		panic(http.ErrAbortHandler)
	}
}

const (
	formatNDJSON = "ndjson"
	formatCSV    = "csv"
)

// readPlain reads the request and its statement.
func readPlain(r *http.Request) (q request, format string, err error) {
	q, format, err = plainOptions(r)
	if err != nil {
		return q, "", err
	}
	media := ""
	if given := r.Header.Get("Content-Type"); given != "" {
		if media, _, err = mime.ParseMediaType(given); err != nil {
			return q, "", errorf(ReasonInvalidRequest, "Content-Type %q cannot be read: %w", given, err)
		}
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return q, "", errorf(ReasonInvalidRequest, "the body must not be compressed, and it is %q", encoding)
	}
	limit := int64(maxSQL)
	switch media {
	case "multipart/form-data":
		return q, "", errorf(ReasonInvalidRequest, "the body is the statement itself and no form: with curl, send it by --data-binary 'SELECT 1'")
	case "application/json":
		limit = maxRequestBytes
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	switch {
	case err != nil:
		if ce, is := errors.AsType[*connect.Error](err); is {
			return q, "", ce
		}
		return q, "", errorf(ReasonInvalidRequest, "the statement did not arrive whole: %w", err)
	case int64(len(body)) > limit:
		return q, "", errorf(ReasonTooLarge, "the statement is longer than %d bytes; put long lists of values into a topic", maxSQL)
	}
	if media != "application/json" {
		q.sql = string(body)
		return q, format, nil
	}
	var wrapped struct {
		SQL string `json:"sql"`
	}
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.DisallowUnknownFields()
	if err := d.Decode(&wrapped); err != nil {
		return q, "", errorf(ReasonInvalidRequest, `the body is not {"sql":"…"}: %w`, err)
	}
	if d.More() {
		return q, "", errorf(ReasonInvalidRequest, `the body has more than one {"sql":"…"}`)
	}
	q.sql = wrapped.SQL
	return q, format, nil
}

// plainOptions reads what stands beside the statement.
func plainOptions(r *http.Request) (q request, format string, err error) {
	parameters, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return q, "", errorf(ReasonInvalidRequest, "the query parameters cannot be read: %w", err)
	}
	format = acceptedFormat(r.Header.Values("Accept"))
	q.atLeast = make(map[string]map[int32]int64)
	for name, values := range parameters {
		value := values[len(values)-1]
		switch name {
		case "format":
			if value != formatNDJSON && value != formatCSV {
				return q, "", errorf(ReasonInvalidRequest, "format is %s or %s, not %q", formatNDJSON, formatCSV, value)
			}
			format = value
		case "at_least":
			if len(values) > maxPositions {
				return q, "", errorf(ReasonInvalidRequest, "at_least is there %d times, more than %d", len(values), maxPositions)
			}
			for _, text := range values {
				topic, offsets, err := parsePosition(text)
				if err != nil {
					return q, "", err
				}
				if err := addPosition(q.atLeast, topic, offsets); err != nil {
					return q, "", err
				}
			}
		case "timeout":
			q.timeout, err = time.ParseDuration(value)
			if err != nil || q.timeout <= 0 {
				return q, "", errorf(ReasonInvalidRequest, "timeout is a duration above 0 such as 10s or 5m, not %q", value)
			}
		case "max_rows":
			q.maxRows, err = strconv.ParseInt(value, 10, 64)
			if err != nil || q.maxRows < 1 {
				return q, "", errorf(ReasonInvalidRequest, "max_rows is a number above 0, not %q", value)
			}
		default:
			return q, "", errorf(ReasonInvalidRequest, "unknown query parameter %q: there are format, at_least, timeout and max_rows", name)
		}
	}
	return q, format, nil
}

// acceptedFormat is the first format that an Accept header names.
func acceptedFormat(headers []string) string {
	for _, header := range headers {
		for part := range strings.SplitSeq(header, ",") {
			media, _, err := mime.ParseMediaType(part)
			if err != nil {
				continue // what cannot be read asks for nothing that we have
			}
			switch media {
			case "text/csv":
				return formatCSV
			case "application/x-ndjson", "application/jsonl", "application/json":
				return formatNDJSON
			}
		}
	}
	return formatNDJSON
}

// plainSink writes a result as text. The status and the headers go with the first of it, so that an error before has its own.
type plainSink struct {
	w     http.ResponseWriter
	csv   bool
	via   func(write func() error) error
	begun bool
	text  interface {
		Write(rec arrow.Record) error
		Close() error
	}
}

func (s *plainSink) bind(send func(write func() error) error) { s.via = send }

func (s *plainSink) started(id string, covers []position, schema *arrow.Schema) error {
	h := s.w.Header()
	h.Set("Tidemark-Query-Id", id)
	if text := formatPositions(covers); len(text) <= maxPositionHeader {
		h.Set("Tidemark-Position", text)
	}
	h.Set("X-Content-Type-Options", "nosniff")
	out := plainWriter{s}
	if s.csv {
		h.Set("Content-Type", "text/csv; charset=utf-8")
		s.text = render.NewCSV(out, schema)
		return nil
	}
	h.Set("Content-Type", "application/x-ndjson")
	s.text = render.NewJSON(out, schema)
	return nil
}

// plainWriter is where the text goes.
type plainWriter struct{ sink *plainSink }

// Write writes through the gate.
func (w plainWriter) Write(p []byte) (n int, err error) {
	w.sink.begun = true
	err = w.sink.via(func() error {
		n, err = w.sink.w.Write(p)
		return err
	})
	return n, err
}

func (s *plainSink) batch(rec arrow.Record) error {
	if err := s.text.Write(rec); err != nil {
		return unrendered(err)
	}
	return s.via(func() error {
		s.flush()
		return nil
	})
}

// unrendered tells a write that failed from a type that has no text.
func unrendered(err error) error {
	if _, known := errors.AsType[*Error](err); known {
		return err
	}
	return errorf(ReasonInvalidRequest, "the result cannot be written as text: %w; cast the column to VARCHAR", err)
}

func (s *plainSink) flush() {
	if f, is := s.w.(http.Flusher); is {
		f.Flush()
	}
}

func (s *plainSink) progress(int64, int64, int64) error { return nil }

func (s *plainSink) finished(stats) error {
	if err := s.text.Close(); err != nil {
		return unrendered(err)
	}
	if !s.begun {
		s.begun = true
		s.w.WriteHeader(http.StatusOK)
	}
	return nil
}
