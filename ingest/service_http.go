package ingest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
)

// Limits of a plain HTTP produce: the whole body is checked before any of it is written, so it is held in memory.
const (
	maxPlainBody = 8 << 20
	maxPlainLine = 4 << 20
	// plainBatchBytes is where a batch ends though the topic would take a larger one.
	plainBatchBytes = 512 << 10
)

// plainService is POST /v1/topics/{topic}/records, for curl.
//
// The body is NDJSON: every line is the value of one record, bytes as they are, without its newline; blank lines are skipped.
// With Content-Type text/plain lines need not be JSON, and an empty line is an empty value. Query parameters:
//
//	key_field=F   the top-level field F of each line is its key, and chooses the partition as Kafka's Java client would
//	partition=N   all records go to partition N
//	acks=all|1|0  as in the Produce service
//
// Every line is checked before the first record is written; an error of the input names its line, and nothing was written.
// The answer is JSON: {"records":3,"reached":"object","position":{"0":17}}. If writing fails midway, the answer has the
// error beside what was acknowledged.
type plainService struct {
	node      topicNode
	patience  *patience
	clock     clock.Clock
	telemetry *Telemetry
	turn      atomic.Uint32 // spreads requests without keys over partitions
}

type plainAnswer struct {
	Records  int64            `json:"records"`
	Reached  string           `json:"reached"`
	Position map[string]int64 `json:"position"`
	Error    *plainError      `json:"error,omitempty"`
}

// plainError has the names of a Connect error in JSON, and the reason beside them.
type plainError struct {
	Code         string            `json:"code"`
	Reason       string            `json:"reason"`
	Message      string            `json:"message"`
	RetryAfterMs int64             `json:"retry_after_ms,omitempty"`
	Metadata     map[string]string `json:"metadata,omitempty"`
}

func plainErrorOf(err error) (*plainError, *Error) {
	e := AsError(err)
	return &plainError{
		Code: e.Reason.Code().String(), Reason: string(e.Reason), Message: e.Error(),
		RetryAfterMs: e.retryHint().Milliseconds(), Metadata: e.Metadata,
	}, e
}

// writePlainError answers a plain request that wrote nothing.
func writePlainError(w http.ResponseWriter, err error) {
	body, e := plainErrorOf(err)
	setRetryAfter(w.Header(), e)
	writeJSON(w, httpStatus(e.Reason.Code()), body)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		return // the client is gone: the body is a struct of ours
	}
}

func (s *plainService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request, err := s.read(r)
	if err != nil {
		s.telemetry.ProduceFailed(r.Context(), err)
		if ReasonOf(err) == ReasonTooLarge {
			// What is left of the body is not worth reading.
			w.Header().Set("Connection", "close")
		}
		writePlainError(w, err)
		return
	}
	answer, err := s.write(r, request)
	if err == nil {
		writeJSON(w, http.StatusOK, answer)
		return
	}
	if answer.Records == 0 {
		writePlainError(w, err)
		return
	}
	var e *Error
	answer.Error, e = plainErrorOf(err)
	setRetryAfter(w.Header(), e)
	writeJSON(w, httpStatus(e.Reason.Code()), answer)
}

// plainRequest is a checked request: batches in the order in which they are written.
type plainRequest struct {
	topic   string
	acks    Acks
	batches []plainBatch
}

type plainBatch struct {
	partition int32
	batch     record.Batch
}

// plainOptions are the query parameters.
type plainOptions struct {
	keyField  string
	partition int32 // -1: not given
	acks      Acks
	text      bool // lines need not be JSON
}

func (s *plainService) read(r *http.Request) (plainRequest, error) {
	name := r.PathValue("topic")
	if err := checkTopicName(name); err != nil {
		return plainRequest{}, err
	}
	options, err := plainOptionsOf(r)
	if err != nil {
		return plainRequest{}, err
	}
	topic, err := s.node.FindTopic(r.Context(), name)
	if err != nil {
		return plainRequest{}, err
	}
	if options.partition >= topic.Partitions {
		return plainRequest{}, unknownPartition(name, options.partition, topic.Partitions)
	}
	body, err := readPlainBody(r)
	if err != nil {
		return plainRequest{}, err
	}
	batches, err := s.encode(body, topic, options)
	if err != nil {
		return plainRequest{}, err
	}
	return plainRequest{topic: name, acks: options.acks, batches: batches}, nil
}

func plainOptionsOf(r *http.Request) (plainOptions, error) {
	out := plainOptions{partition: -1}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return out, Errorf(ReasonInvalidRequest, "the query cannot be read: %w", err)
	}
	for name, values := range query {
		value := values[len(values)-1]
		switch name {
		case "key_field":
			out.keyField = value
		case "partition":
			number, err := strconv.ParseInt(value, 10, 32)
			if err != nil || number < 0 {
				return out, Errorf(ReasonInvalidRequest, "partition is a number from 0 on, not %q", value)
			}
			out.partition = int32(number)
		case "acks":
			switch value {
			case "all", "-1":
				out.acks = AcksAll
			case "1":
				out.acks = AcksLeader
			case "0":
				out.acks = AcksNone
			default:
				return out, Errorf(ReasonInvalidRequest, "acks is all, 1 or 0, not %q", value)
			}
		default:
			return out, Errorf(ReasonInvalidRequest, "unknown query parameter %q: there are key_field, partition and acks", name)
		}
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return out, Errorf(ReasonInvalidRequest, "the body must not be compressed, and it is %q", encoding)
	}
	if given := r.Header.Get("Content-Type"); given != "" {
		media, _, err := mime.ParseMediaType(given)
		switch {
		case err != nil:
			return out, Errorf(ReasonInvalidRequest, "Content-Type %q cannot be read: %w", given, err)
		case media == "text/plain":
			out.text = true
		case media == "application/x-ndjson", media == "application/jsonl", media == "application/json",
			media == "application/x-www-form-urlencoded", media == "application/octet-stream":
			// What curl sends unasked counts as NDJSON.
		default:
			return out, Errorf(ReasonInvalidRequest, "Content-Type %q is not taken here: send application/x-ndjson or text/plain", given)
		}
	}
	if out.text && out.keyField != "" {
		return out, Errorf(ReasonInvalidRequest, "key_field needs JSON lines, and Content-Type is text/plain")
	}
	return out, nil
}

// readPlainBody reads the whole body; memory grows with what has arrived.
func readPlainBody(r *http.Request) ([]byte, error) {
	if r.ContentLength > maxPlainBody {
		return nil, tooLargeBody()
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxPlainBody+1))
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok {
			return nil, e
		}
		return nil, Errorf(ReasonInvalidRequest, "the body did not arrive whole, and nothing was written: %w", err)
	}
	if len(body) > maxPlainBody {
		return nil, tooLargeBody()
	}
	if b := bodyOf(r.Context()); b != nil {
		b.settle()
	}
	return body, nil
}

func tooLargeBody() error {
	return Errorf(ReasonTooLarge, "the body is larger than %d MiB, and nothing was written: send it in pieces, or use `tidemark produce`", maxPlainBody>>20)
}

// encode checks every line and makes batches of them. The order of lines is kept within each partition.
func (s *plainService) encode(body []byte, topic meta.Topic, options plainOptions) ([]plainBatch, error) {
	now := s.clock.Now().UnixMilli()
	limit := topic.Config.MaxMessageBytes
	soft := min(limit, plainBatchBytes)
	unkeyed := options.partition
	if unkeyed < 0 {
		unkeyed = int32(s.turn.Add(1) % uint32(topic.Partitions))
	}
	builders := make(map[int32]*record.Builder)
	var out []plainBatch
	finish := func(partition int32, b *record.Builder) error {
		batch, err := b.Build(-1, -1, -1)
		if err != nil {
			return recordError("encode the records", err)
		}
		out = append(out, plainBatch{partition, batch})
		return nil
	}
	lines := 0
	for number := 1; len(body) > 0; number++ {
		line, rest, _ := bytes.Cut(body, []byte{'\n'})
		body = rest
		if !options.text && len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if len(line) > maxPlainLine {
			return nil, Errorf(ReasonTooLarge, "line %d has %d bytes, and nothing was written: the limit is %d", number, len(line), maxPlainLine)
		}
		r := record.Record{Timestamp: now, Value: line}
		if r.Value == nil {
			r.Value = []byte{}
		}
		if !options.text {
			key, err := checkLine(line, options.keyField)
			if err != nil {
				return nil, Errorf(ReasonInvalidRecord, "line %d: %w; nothing was written", number, err)
			}
			r.Key = key
		}
		partition := unkeyed
		if options.partition < 0 && r.Key != nil {
			partition = record.PartitionForKey(r.Key, topic.Partitions)
		}
		b := builders[partition]
		if b == nil {
			b = record.NewBuilder(record.None)
			builders[partition] = b
		}
		if b.Len() > 0 && b.SizeWith(r) > soft {
			if err := finish(partition, b); err != nil {
				return nil, err
			}
		}
		if size := b.SizeWith(r); size > limit {
			return nil, Errorf(ReasonTooLarge, "line %d makes a batch of %d bytes, and nothing was written: the topic's max.message.bytes is %d", number, size, limit)
		}
		if err := b.Append(r); err != nil {
			return nil, recordError(fmt.Sprintf("line %d", number), err)
		}
		lines++
	}
	if lines == 0 {
		return nil, Errorf(ReasonInvalidRequest, "the body holds no line")
	}
	for partition, b := range builders {
		if b.Len() == 0 {
			continue
		}
		if err := finish(partition, b); err != nil {
			return nil, err
		}
	}
	// Batches of a partition are in order already; partitions in order make answers the same every time.
	slices.SortStableFunc(out, func(a, b plainBatch) int { return cmp.Compare(a.partition, b.partition) })
	return out, nil
}

// checkLine tells whether a line is JSON, and finds its key.
func checkLine(line []byte, keyField string) ([]byte, error) {
	if keyField == "" {
		if !json.Valid(line) {
			return nil, notJSON(line)
		}
		return nil, nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(line, &object); err != nil || object == nil {
		if !json.Valid(line) {
			return nil, notJSON(line)
		}
		return nil, fmt.Errorf("it is not a JSON object, so it has no field %q", keyField)
	}
	raw, found := object[keyField]
	if !found {
		return nil, fmt.Errorf("it has no field %q", keyField)
	}
	switch {
	case raw[0] == '"':
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return nil, fmt.Errorf("read field %q: %w", keyField, err)
		}
		return []byte(text), nil
	case string(raw) == "null":
		return nil, nil
	case raw[0] == '{' || raw[0] == '[':
		return nil, fmt.Errorf("field %q is no text, number or boolean", keyField)
	}
	return raw, nil
}

// notJSON says where a line stops being JSON.
func notJSON(line []byte) error {
	var discard any
	if err := json.Unmarshal(line, &discard); err != nil {
		return fmt.Errorf("it is not JSON: %w", err)
	}
	return errors.New("it is not JSON")
}

// write produces the batches, pipelined, and waits for all of them.
func (s *plainService) write(r *http.Request, request plainRequest) (plainAnswer, error) {
	requests := make([]ProduceRequest, 0, len(request.batches))
	for _, b := range request.batches {
		requests = append(requests, ProduceRequest{Topic: request.topic, Partition: b.partition, Batch: b.batch, Acks: request.acks})
	}
	out := plainAnswer{Position: map[string]int64{}}
	reached := ReachedObject
	var failure error
	for _, outcome := range s.patience.produce(r.Context(), requests) {
		if outcome.err != nil {
			failure = cmp.Or(failure, outcome.err)
			continue
		}
		result := outcome.result
		out.Records += int64(result.Records)
		reached = min(reached, result.Reached)
		if partition := formatInt(int64(result.Partition)); result.NextOffset > 0 {
			out.Position[partition] = max(out.Position[partition], result.NextOffset)
		}
	}
	if out.Records == 0 {
		reached = ReachedNone
	}
	out.Reached = reached.String()
	return out, failure
}

func formatInt(n int64) string { return strconv.FormatInt(n, 10) }
