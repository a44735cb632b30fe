package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/tidemark-io/tidemark/ingest"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/proto/tidemark/v1/tidemarkv1connect"
	"github.com/tidemark-io/tidemark/record"
)

// protocols are the ways to call a service.
var protocols = map[string][]connect.ClientOption{
	"connect":  nil,
	"grpc":     {connect.WithGRPC()},
	"grpc-web": {connect.WithGRPCWeb()},
	"json":     {connect.WithProtoJSON()},
}

func (s *serviceServer) topics(o ...connect.ClientOption) tidemarkv1connect.TopicServiceClient {
	return tidemarkv1connect.NewTopicServiceClient(s.http, s.url, o...)
}

func (s *serviceServer) produce(o ...connect.ClientOption) tidemarkv1connect.ProduceServiceClient {
	return tidemarkv1connect.NewProduceServiceClient(s.http, s.url, o...)
}

func (s *serviceServer) consume(o ...connect.ClientOption) tidemarkv1connect.ConsumeServiceClient {
	return tidemarkv1connect.NewConsumeServiceClient(s.http, s.url, o...)
}

func (s *serviceServer) create(t *testing.T, name string, partitions int32, config map[string]string) {
	t.Helper()
	if _, err := s.topics().CreateTopic(t.Context(), &tidemarkv1.CreateTopicRequest{Name: name, Partitions: partitions, Config: config}); err != nil {
		t.Fatal(err)
	}
}

// wantError checks code and the ErrorInfo, and returns the retry hint.
func wantError(t *testing.T, err error, code connect.Code, reason ingest.Reason) time.Duration {
	t.Helper()
	ce, ok := errors.AsType[*connect.Error](err)
	if !ok {
		t.Fatalf("error %v, want a Connect error %s", err, code)
	}
	if ce.Code() != code {
		t.Errorf("code %s, want %s: %v", ce.Code(), code, err)
	}
	var hint time.Duration
	var found bool
	for _, d := range ce.Details() {
		value, err := d.Value()
		if err != nil {
			t.Fatal(err)
		}
		switch v := value.(type) {
		case *errdetails.ErrorInfo:
			found = true
			if v.GetReason() != string(reason) || v.GetDomain() != ingest.ErrorDomain {
				t.Errorf("ErrorInfo %v, want %s", v, reason)
			}
		case *errdetails.RetryInfo:
			hint = v.GetRetryDelay().AsDuration()
		}
	}
	if !found {
		t.Errorf("no ErrorInfo in %v", err)
	}
	return hint
}

func TestTopicService(t *testing.T) {
	for name, options := range protocols {
		t.Run(name, func(t *testing.T) {
			s := startServices(t)
			c, ctx := s.topics(options...), t.Context()
			created, err := c.CreateTopic(ctx, &tidemarkv1.CreateTopicRequest{Name: "a"})
			if err != nil || !created.GetCreated() || created.GetTopic().GetPartitions() != 1 || len(created.GetTopic().GetId()) != 32 {
				t.Fatalf("create: %v, %v", created, err)
			}
			if got := created.GetTopic().GetConfig()["durability"]; got != "object" {
				t.Errorf("durability %q", got)
			}
			_, err = c.CreateTopic(ctx, &tidemarkv1.CreateTopicRequest{Name: "a"})
			if hint := wantError(t, err, connect.CodeAlreadyExists, ingest.ReasonTopicExists); hint != 0 {
				t.Errorf("a retry hint of %s for what never succeeds", hint)
			}
			again, err := c.CreateTopic(ctx, &tidemarkv1.CreateTopicRequest{Name: "a", IfNotExists: true})
			if err != nil || again.GetCreated() {
				t.Errorf("create if not exists: %v, %v", again, err)
			}
			for _, bad := range []string{"", ".", "..", "a/b", "a b", "ä", strings.Repeat("x", 250)} {
				_, err := c.CreateTopic(ctx, &tidemarkv1.CreateTopicRequest{Name: bad})
				wantError(t, err, connect.CodeInvalidArgument, ingest.ReasonInvalidTopic)
			}
			for _, bad := range []int32{-1, 10_001} {
				_, err := c.CreateTopic(ctx, &tidemarkv1.CreateTopicRequest{Name: "b", Partitions: bad})
				wantError(t, err, connect.CodeInvalidArgument, ingest.ReasonInvalidTopic)
			}
			_, err = c.CreateTopic(ctx, &tidemarkv1.CreateTopicRequest{Name: "b", Config: map[string]string{"durabilty": "disk"}})
			wantError(t, err, connect.CodeInvalidArgument, ingest.ReasonInvalidConfig)
			updated, err := c.UpdateTopic(ctx, &tidemarkv1.UpdateTopicRequest{Name: "a", Config: map[string]string{"durability": "disk"}})
			if err != nil || updated.GetTopic().GetConfig()["durability"] != "disk" {
				t.Errorf("update: %v, %v", updated, err)
			}
			_, err = c.UpdateTopic(ctx, &tidemarkv1.UpdateTopicRequest{Name: "a"})
			wantError(t, err, connect.CodeInvalidArgument, ingest.ReasonInvalidConfig)
			if more, err := c.AddPartitions(ctx, &tidemarkv1.AddPartitionsRequest{Name: "a", Partitions: 3}); err != nil || more.GetTopic().GetPartitions() != 3 {
				t.Errorf("add partitions: %v, %v", more, err)
			}
			got, err := c.GetTopic(ctx, &tidemarkv1.GetTopicRequest{Name: "a"})
			if err != nil || len(got.GetPartitions()) != 3 {
				t.Errorf("get: %v, %v", got, err)
			}
			offsets, err := c.ListOffsets(ctx, &tidemarkv1.ListOffsetsRequest{Topic: "a", At: &tidemarkv1.ListOffsetsRequest_End{End: true}})
			if err != nil || len(offsets.GetOffsets()) != 3 || offsets.GetOffsets()[2].GetPartition() != 2 {
				t.Errorf("offsets: %v, %v", offsets, err)
			}
			_, err = c.ListOffsets(ctx, &tidemarkv1.ListOffsetsRequest{Topic: "a", Partitions: []int32{7}, At: &tidemarkv1.ListOffsetsRequest_End{End: true}})
			wantError(t, err, connect.CodeNotFound, ingest.ReasonUnknownPartition)
			asked := s.node.endsAsked
			fresh, err := c.ListOffsets(ctx, &tidemarkv1.ListOffsetsRequest{Topic: "a", TopicId: got.GetTopic().GetId(), Linearizable: true, At: &tidemarkv1.ListOffsetsRequest_End{End: true}})
			if err != nil || len(fresh.GetOffsets()) != 3 || s.node.endsAsked != asked+1 {
				t.Errorf("linearizable offsets: %v, %v, the node was asked %d times", fresh, err, s.node.endsAsked-asked)
			}
			_, err = c.ListOffsets(ctx, &tidemarkv1.ListOffsetsRequest{Topic: "a", Linearizable: true, At: &tidemarkv1.ListOffsetsRequest_Start{Start: true}})
			wantError(t, err, connect.CodeInvalidArgument, ingest.ReasonInvalidRequest)
			_, err = c.ListOffsets(ctx, &tidemarkv1.ListOffsetsRequest{Topic: "a", TopicId: strings.Repeat("0", 32), At: &tidemarkv1.ListOffsetsRequest_End{End: true}})
			wantError(t, err, connect.CodeNotFound, ingest.ReasonUnknownTopic)
			if _, err := c.DeleteTopic(ctx, &tidemarkv1.DeleteTopicRequest{Name: "a"}); err != nil {
				t.Error(err)
			}
			_, err = c.GetTopic(ctx, &tidemarkv1.GetTopicRequest{Name: "a"})
			wantError(t, err, connect.CodeNotFound, ingest.ReasonUnknownTopic)
		})
	}
}

func TestListTopicsInPages(t *testing.T) {
	s := startServices(t)
	for i := range 25 {
		s.create(t, fmt.Sprintf("t%02d", i), 1, nil)
	}
	var names []string
	token := ""
	for pages := 1; ; pages++ {
		page, err := s.topics().ListTopics(t.Context(), &tidemarkv1.ListTopicsRequest{PageSize: 10, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, topic := range page.GetTopics() {
			names = append(names, topic.GetName())
		}
		if pages == 1 {
			// A topic that goes between two pages is no reason to miss another.
			if err := s.node.DeleteTopic(t.Context(), "t09"); err != nil {
				t.Fatal(err)
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if len(names) != 25 || names[0] != "t00" || names[24] != "t24" {
		t.Errorf("topics %v", names)
	}
	_, err := s.topics().ListTopics(t.Context(), &tidemarkv1.ListTopicsRequest{PageToken: "§"})
	wantError(t, err, connect.CodeInvalidArgument, ingest.ReasonInvalidRequest)
	_, err = s.topics().ListTopics(t.Context(), &tidemarkv1.ListTopicsRequest{PageSize: 1001})
	wantError(t, err, connect.CodeInvalidArgument, ingest.ReasonInvalidRequest)
}

func TestProduceUnary(t *testing.T) {
	for name, options := range protocols {
		t.Run(name, func(t *testing.T) {
			s := startServices(t)
			s.create(t, "a", 2, nil)
			c, ctx := s.produce(options...), t.Context()
			want := makeBatch(t, "x", "y")
			got, err := c.Produce(ctx, &tidemarkv1.ProduceRequest{Topic: "a", Partition: 1, Batch: want})
			if err != nil || got.GetBaseOffset() != 0 || got.GetRecords() != 2 || got.GetReached() != tidemarkv1.Reached_REACHED_OBJECT || got.GetPosition().GetOffsets()[1] != 2 {
				t.Fatalf("produce: %v, %v", got, err)
			}
			got, err = c.Produce(ctx, &tidemarkv1.ProduceRequest{Topic: "a", Partition: 1, Acks: tidemarkv1.Acks_ACKS_LEADER, Records: []*tidemarkv1.Record{
				{Key: []byte("k"), Value: nil, Headers: []*tidemarkv1.Header{{Key: "h", Value: []byte{0}}, {Key: "null"}}}, {Value: []byte{}, TimestampMs: 5},
			}})
			if err != nil || got.GetBaseOffset() != 2 || got.GetReached() != tidemarkv1.Reached_REACHED_BUFFERED {
				t.Fatalf("produce records: %v, %v", got, err)
			}
			records := s.node.records(t, "a", 1)
			if r := records[2]; string(r.Key) != "k" || r.Value != nil || r.Timestamp == 0 || len(r.Headers) != 2 || r.Headers[1].Value != nil {
				t.Errorf("record %+v", r)
			}
			if r := records[3]; r.Key != nil || r.Value == nil || r.Timestamp != 5 {
				t.Errorf("record %+v", r)
			}
			got, err = c.Produce(ctx, &tidemarkv1.ProduceRequest{Topic: "a", Acks: tidemarkv1.Acks_ACKS_NONE, Batch: makeBatch(t, "z")})
			if err != nil || got.GetBaseOffset() != -1 || got.GetPosition() != nil || got.GetReached() != tidemarkv1.Reached_REACHED_NONE {
				t.Errorf("acks none: %v, %v", got, err)
			}
			corrupt := makeBatch(t, "corrupt")
			corrupt[len(corrupt)-2] ^= 1
			for _, bad := range []struct {
				r      *tidemarkv1.ProduceRequest
				code   connect.Code
				reason ingest.Reason
			}{
				{&tidemarkv1.ProduceRequest{Topic: "a"}, connect.CodeInvalidArgument, ingest.ReasonInvalidRequest},
				{&tidemarkv1.ProduceRequest{Topic: "a", Batch: want, Records: []*tidemarkv1.Record{{}}}, connect.CodeInvalidArgument, ingest.ReasonInvalidRequest},
				{&tidemarkv1.ProduceRequest{Topic: "a", Batch: want, Acks: 9}, connect.CodeInvalidArgument, ingest.ReasonInvalidRequest},
				{&tidemarkv1.ProduceRequest{Topic: "nope", Batch: want}, connect.CodeNotFound, ingest.ReasonUnknownTopic},
				{&tidemarkv1.ProduceRequest{Topic: "a", Partition: 2, Batch: want}, connect.CodeNotFound, ingest.ReasonUnknownPartition},
				{&tidemarkv1.ProduceRequest{Topic: "a", Partition: -1, Batch: want}, connect.CodeNotFound, ingest.ReasonUnknownPartition},
				{&tidemarkv1.ProduceRequest{Topic: "a", Batch: corrupt}, connect.CodeInvalidArgument, ingest.ReasonCorruptBatch},
				{&tidemarkv1.ProduceRequest{Topic: "a", Batch: []byte("no batch")}, connect.CodeInvalidArgument, ""},
			} {
				_, err := c.Produce(ctx, bad.r)
				if bad.reason != "" {
					wantError(t, err, bad.code, bad.reason)
				} else if connect.CodeOf(err) != bad.code {
					t.Errorf("error %v, want %s", err, bad.code)
				}
			}
			id, err := c.InitProducer(ctx, &tidemarkv1.InitProducerRequest{})
			if err != nil || id.GetProducerId() == 0 {
				t.Errorf("init producer: %v, %v", id, err)
			}
		})
	}
}

func TestOversizeAndCompressedAreRefused(t *testing.T) {
	s := startServices(t)
	s.create(t, "a", 1, nil)
	huge := &tidemarkv1.ProduceRequest{Topic: "a", Batch: make([]byte, 33<<20)}
	for name, options := range protocols {
		if name == "json" {
			continue // base64 makes it larger still
		}
		if _, err := s.produce(options...).Produce(t.Context(), huge); connect.CodeOf(err) != connect.CodeResourceExhausted && connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.topics().CreateTopic(t.Context(), &tidemarkv1.CreateTopicRequest{Name: "b", Config: map[string]string{"x": strings.Repeat("y", 2<<20)}}); connect.CodeOf(err) != connect.CodeResourceExhausted && connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("a topic of 2 MiB: %v", err)
	}
	if _, err := s.produce(connect.WithSendGzip()).Produce(t.Context(), &tidemarkv1.ProduceRequest{Topic: "a", Batch: makeBatch(t, strings.Repeat("x", 9000))}); connect.CodeOf(err) != connect.CodeUnimplemented {
		t.Errorf("gzip: %v", err)
	}
	if got := s.node.records(t, "a", 0); len(got) != 0 {
		t.Errorf("%d records were stored", len(got))
	}
	if _, err := s.produce().Produce(t.Context(), &tidemarkv1.ProduceRequest{Topic: "a", Batch: makeBatch(t, "x")}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestEndlessBodyIsCutOff(t *testing.T) {
	s := startServices(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+tidemarkv1connect.TopicServiceListTopicsProcedure, endless{})
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := s.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusOK || !bytes.Contains(body, []byte("resource_exhausted")) && !bytes.Contains(body, []byte("invalid_argument")) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestEveryReasonHasItsCode(t *testing.T) {
	s := startServices(t)
	for reason, want := range map[ingest.Reason]connect.Code{
		ingest.ReasonUnknownTopic:       connect.CodeNotFound,
		ingest.ReasonUnknownPartition:   connect.CodeNotFound,
		ingest.ReasonTopicExists:        connect.CodeAlreadyExists,
		ingest.ReasonInvalidTopic:       connect.CodeInvalidArgument,
		ingest.ReasonInvalidConfig:      connect.CodeInvalidArgument,
		ingest.ReasonInvalidRequest:     connect.CodeInvalidArgument,
		ingest.ReasonInvalidRecord:      connect.CodeInvalidArgument,
		ingest.ReasonCorruptBatch:       connect.CodeInvalidArgument,
		ingest.ReasonUnknownCodec:       connect.CodeInvalidArgument,
		ingest.ReasonTooLarge:           connect.CodeInvalidArgument,
		ingest.ReasonOffsetOutOfRange:   connect.CodeOutOfRange,
		ingest.ReasonNotLeader:          connect.CodeUnavailable,
		ingest.ReasonBackPressure:       connect.CodeResourceExhausted,
		ingest.ReasonOutOfOrderSequence: connect.CodeFailedPrecondition,
		ingest.ReasonUnknownProducer:    connect.CodeFailedPrecondition,
		ingest.ReasonFencedProducer:     connect.CodeFailedPrecondition,
		ingest.ReasonOutcomeUnknown:     connect.CodeUnknown,
		ingest.ReasonCorruptData:        connect.CodeDataLoss,
		ingest.ReasonShuttingDown:       connect.CodeUnavailable,
		ingest.ReasonTimeout:            connect.CodeDeadlineExceeded,
		ingest.ReasonCanceled:           connect.CodeCanceled,
		ingest.ReasonUnavailable:        connect.CodeUnavailable,
		ingest.ReasonInternal:           connect.CodeInternal,
	} {
		s.node.mu.Lock()
		s.node.fail = ingest.Errorf(reason, "because of %s", reason).WithRetryAfter(70*time.Millisecond).With("key", "value")
		s.node.mu.Unlock()
		_, err := s.topics().ListTopics(t.Context(), &tidemarkv1.ListTopicsRequest{})
		hint := wantError(t, err, want, reason)
		if (hint == 70*time.Millisecond) != reason.Retryable() {
			t.Errorf("%s: retry hint %s", reason, hint)
		}
		if !strings.Contains(err.Error(), "because of "+string(reason)) {
			t.Errorf("%s: message %v", reason, err)
		}
	}
	s.node.mu.Lock()
	s.node.fail = errors.New("a plain error")
	s.node.mu.Unlock()
	_, err := s.topics().ListTopics(t.Context(), &tidemarkv1.ListTopicsRequest{})
	wantError(t, err, connect.CodeInternal, ingest.ReasonInternal)
}

func TestPanicEndsOneRequest(t *testing.T) {
	s := startServices(t)
	s.create(t, "a", 1, nil)
	s.node.mu.Lock()
	s.node.hold = func(ingest.ProduceRequest, func()) { panic("a bug of ours") }
	s.node.mu.Unlock()
	_, err := s.produce().Produce(t.Context(), &tidemarkv1.ProduceRequest{Topic: "a", Batch: makeBatch(t, "x")})
	wantError(t, err, connect.CodeInternal, ingest.ReasonInternal)
	resp, err := s.http.Post(s.url+"/v1/topics/a/records", "", strings.NewReader("{}\n"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusInternalServerError {
		t.Errorf("status %d", resp.StatusCode)
	}
	s.node.mu.Lock()
	s.node.hold = nil
	s.node.mu.Unlock()
	if _, err := s.produce().Produce(t.Context(), &tidemarkv1.ProduceRequest{Topic: "a", Batch: makeBatch(t, "x")}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestFetch(t *testing.T) {
	for name, options := range protocols {
		t.Run(name, func(t *testing.T) {
			s := startServices(t)
			s.create(t, "a", 2, nil)
			c, ctx := s.consume(options...), t.Context()
			fetch := func(offset int64, waitMs int32) (*tidemarkv1.FetchResponse, error) {
				return c.Fetch(ctx, &tidemarkv1.FetchRequest{Topic: "a", MaxWaitMs: waitMs, Partitions: []*tidemarkv1.FetchPartition{{Partition: 1, Offset: offset}}})
			}
			empty, err := fetch(0, 0)
			if err != nil || len(empty.GetPartitions()) != 1 || empty.GetPartitions()[0].GetNextOffset() != 0 {
				t.Fatalf("empty: %v, %v", empty, err)
			}
			// A long poll that begins before the record does.
			type answer struct {
				r   *tidemarkv1.FetchResponse
				err error
			}
			polled := make(chan answer, 1)
			go func() {
				r, err := fetch(0, 60_000)
				polled <- answer{r, err}
			}()
			want := makeBatch(t, "one")
			if _, err := s.produce().Produce(ctx, &tidemarkv1.ProduceRequest{Topic: "a", Partition: 1, Batch: want}); err != nil {
				t.Fatal(err)
			}
			got := <-polled
			if got.err != nil || got.r.GetPartitions()[0].GetHighWatermark() != 1 {
				t.Fatalf("long poll: %v, %v", got.r, got.err)
			}
			want.Stamp(0, 1)
			if !bytes.Equal(got.r.GetPartitions()[0].GetBatches(), want) {
				t.Error("the bytes are not those that were produced")
			}
			_, err = fetch(2, 0)
			wantError(t, err, connect.CodeOutOfRange, ingest.ReasonOffsetOutOfRange)
			for _, bad := range []*tidemarkv1.FetchRequest{
				{Topic: "a"},
				{Topic: "a", MaxWaitMs: 60_001, Partitions: []*tidemarkv1.FetchPartition{{}}},
				{Topic: "a", MaxBytes: 33 << 20, Partitions: []*tidemarkv1.FetchPartition{{}}},
				{Topic: "a", MinBytes: -1, Partitions: []*tidemarkv1.FetchPartition{{}}},
				{Topic: "a", Partitions: []*tidemarkv1.FetchPartition{{}, {}}},
			} {
				_, err := c.Fetch(ctx, bad)
				wantError(t, err, connect.CodeInvalidArgument, ingest.ReasonInvalidRequest)
			}
		})
	}
}

// receiveAll reads a stream to its end.
func receiveAll(stream *connect.ServerStreamForClient[tidemarkv1.ConsumeResponse]) (ranges []*tidemarkv1.ConsumeRange, values map[int32][]string, err error) {
	values = map[int32][]string{}
	for stream.Receive() {
		m := stream.Msg()
		ranges = append(ranges, m.GetRanges()...)
		rest := m.GetBatches().GetBatches()
		for len(rest) > 0 {
			var b record.Batch
			if b, rest, err = record.Next(rest); err != nil {
				return ranges, values, err
			}
			for r, err := range b.Records(record.DefaultLimits()) {
				if err != nil {
					return ranges, values, err
				}
				values[m.GetBatches().GetPartition()] = append(values[m.GetBatches().GetPartition()], string(r.Value))
			}
		}
	}
	return ranges, values, errors.Join(stream.Err(), stream.Close())
}

func TestConsumeUntilEnd(t *testing.T) {
	for name, options := range protocols {
		t.Run(name, func(t *testing.T) {
			s := startServices(t)
			s.create(t, "a", 3, nil)
			for i := range 40 {
				if _, err := s.produce().Produce(t.Context(), &tidemarkv1.ProduceRequest{Topic: "a", Partition: int32(i % 2), Batch: makeBatch(t, fmt.Sprint(i))}); err != nil {
					t.Fatal(err)
				}
			}
			c := s.consume(options...)
			stream, err := c.Consume(t.Context(), &tidemarkv1.ConsumeRequest{Topic: "a", UntilEnd: true})
			if err != nil {
				t.Fatal(err)
			}
			ranges, values, err := receiveAll(stream)
			if err != nil || len(ranges) != 3 || ranges[1].GetEnd() != 20 || len(values[0]) != 20 || len(values[1]) != 20 || values[0][19] != "38" {
				t.Errorf("from the start: %v %v %v", ranges, values, err)
			}
			stream, err = c.Consume(t.Context(), &tidemarkv1.ConsumeRequest{Topic: "a", UntilEnd: true, From: &tidemarkv1.ConsumeRequest_Offsets{Offsets: &tidemarkv1.StartOffsets{Offsets: map[int32]int64{1: 19}}}})
			if err != nil {
				t.Fatal(err)
			}
			if ranges, values, err := receiveAll(stream); err != nil || len(ranges) != 1 || len(values[1]) != 1 || values[1][0] != "39" {
				t.Errorf("from an offset: %v %v %v", ranges, values, err)
			}
			stream, err = c.Consume(t.Context(), &tidemarkv1.ConsumeRequest{Topic: "a", UntilEnd: true, From: &tidemarkv1.ConsumeRequest_End{End: true}})
			if err != nil {
				t.Fatal(err)
			}
			if ranges, values, err := receiveAll(stream); err != nil || len(ranges) != 3 || len(values) != 0 {
				t.Errorf("from the end: %v %v %v", ranges, values, err)
			}
			stream, err = c.Consume(t.Context(), &tidemarkv1.ConsumeRequest{Topic: "a", TopicId: strings.Repeat("0", 32), UntilEnd: true})
			if err != nil {
				t.Fatal(err)
			}
			for stream.Receive() {
				t.Error("a topic of another id is read")
			}
			wantError(t, stream.Err(), connect.CodeNotFound, ingest.ReasonUnknownTopic)
			stream, err = c.Consume(t.Context(), &tidemarkv1.ConsumeRequest{Topic: "a", From: &tidemarkv1.ConsumeRequest_Offset{Offset: 21}})
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = receiveAll(stream)
			wantError(t, err, connect.CodeOutOfRange, ingest.ReasonOffsetOutOfRange)
		})
	}
}

func TestConsumeEndsWithItsTopic(t *testing.T) {
	s := startServices(t)
	for _, again := range []bool{false, true} {
		s.create(t, "a", 1, nil)
		stream, err := s.consume().Consume(t.Context(), &tidemarkv1.ConsumeRequest{Topic: "a"})
		if err != nil {
			t.Fatal(err)
		}
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
		if again {
			// Deleted and made again at one moment: the stream must not go on with another log's records.
			s.node.mu.Lock()
			old := s.node.topics["a"]
			other := *old
			other.ID[7]++
			other.partitions = []*fakePartition{{}}
			s.node.topics["a"] = &other
			s.node.wake()
			s.node.mu.Unlock()
			if _, err := s.produce().Produce(t.Context(), &tidemarkv1.ProduceRequest{Topic: "a", Batch: makeBatch(t, "x")}); err != nil {
				t.Fatal(err)
			}
		} else if err := s.node.DeleteTopic(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		_, values, err := receiveAll(stream)
		wantError(t, err, connect.CodeNotFound, ingest.ReasonUnknownTopic)
		if len(values) != 0 {
			t.Errorf("records of another topic: %v", values)
		}
	}
}

func TestDrainEndsStreams(t *testing.T) {
	s := startServices(t)
	s.create(t, "a", 1, nil)
	consuming, err := s.consume().Consume(t.Context(), &tidemarkv1.ConsumeRequest{Topic: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if !consuming.Receive() {
		t.Fatal(consuming.Err())
	}
	// A produce stream with one request whose answer comes only after the drain began.
	held := make(chan func(), 1)
	s.node.mu.Lock()
	s.node.hold = func(_ ingest.ProduceRequest, answer func()) { held <- answer }
	s.node.mu.Unlock()
	producing, err := s.produce().ProduceStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := producing.Send(&tidemarkv1.ProduceStreamRequest{Correlation: 7, Produce: &tidemarkv1.ProduceRequest{Topic: "a", Batch: makeBatch(t, "x")}}); err != nil {
		t.Fatal(err)
	}
	answer := <-held
	s.Drain()
	_, _, err = receiveAll(consuming)
	wantError(t, err, connect.CodeUnavailable, ingest.ReasonShuttingDown)
	answer()
	response, err := producing.Receive()
	if err != nil || response.GetCorrelation() != 7 || response.GetProduced() == nil {
		t.Fatalf("what was taken is answered: %v, %v", response, err)
	}
	_, err = producing.Receive()
	wantError(t, err, connect.CodeUnavailable, ingest.ReasonShuttingDown)
	_ = producing.CloseRequest()
	_ = producing.CloseResponse()
}

func TestConsumerThatStopsReadingCostsLittle(t *testing.T) {
	s := startServices(t)
	s.create(t, "a", 1, nil)
	big := strings.Repeat("x", 900<<10)
	for range 40 {
		if _, err := s.produce().Produce(t.Context(), &tidemarkv1.ProduceRequest{Topic: "a", Batch: makeBatch(t, big)}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := s.consume().Consume(ctx, &tidemarkv1.ConsumeRequest{Topic: "a", UntilEnd: true})
	if err != nil {
		t.Fatal(err)
	}
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	// Others are served while this one reads nothing, and it ends when its client goes.
	other, err := s.consume().Consume(t.Context(), &tidemarkv1.ConsumeRequest{Topic: "a", UntilEnd: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, values, err := receiveAll(other); err != nil || len(values[0]) != 40 {
		t.Errorf("%d values, %v", len(values[0]), err)
	}
	cancel()
	_ = stream.Close()
}
