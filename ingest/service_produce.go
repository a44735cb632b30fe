package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/clock"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/record"
)

// produceNode is what the Produce service needs of a node.
type produceNode interface {
	ProduceAsync(ctx context.Context, r ProduceRequest, done func(ProduceResult, error))
	InitProducer(ctx context.Context) (id int64, epoch int16, err error)
}

// produceService is tidemark.v1.ProduceService.
type produceService struct {
	node      produceNode
	patience  *patience
	clock     clock.Clock
	telemetry *Telemetry
	closing   <-chan struct{}
}

// Produce appends one batch.
func (s *produceService) Produce(ctx context.Context, r *tidemarkv1.ProduceRequest) (*tidemarkv1.ProduceResponse, error) {
	if body := bodyOf(ctx); body != nil {
		body.settle()
	}
	request, err := s.request(r)
	if err != nil {
		s.telemetry.ProduceFailed(ctx, err)
		return nil, ConnectError(err)
	}
	// The node counts and traces what it is handed; refusals of form are counted here.
	outcome := s.patience.produce(ctx, []ProduceRequest{request})[0]
	if outcome.err != nil {
		return nil, ConnectError(outcome.err)
	}
	return produceMessage(outcome.result), nil
}

// InitProducer gives out a producer id.
func (s *produceService) InitProducer(ctx context.Context, _ *tidemarkv1.InitProducerRequest) (*tidemarkv1.InitProducerResponse, error) {
	id, epoch, err := s.node.InitProducer(ctx)
	if err != nil {
		return nil, ConnectError(err)
	}
	return &tidemarkv1.InitProducerResponse{ProducerId: id, ProducerEpoch: int32(epoch)}, nil
}

// request checks the form of a message and makes a batch of its records. The message is the caller's alone, so that its
// batch becomes the node's without a copy.
func (s *produceService) request(r *tidemarkv1.ProduceRequest) (ProduceRequest, error) {
	if r == nil {
		return ProduceRequest{}, Errorf(ReasonInvalidRequest, "the request holds no produce")
	}
	if err := checkTopicName(r.GetTopic()); err != nil {
		return ProduceRequest{}, err
	}
	id, err := parseTopicID(r.GetTopicId())
	if err != nil {
		return ProduceRequest{}, err
	}
	out := ProduceRequest{Topic: r.GetTopic(), TopicID: id, Partition: r.GetPartition(), Batch: record.Batch(r.GetBatch())}
	switch r.GetAcks() {
	case tidemarkv1.Acks_ACKS_UNSPECIFIED, tidemarkv1.Acks_ACKS_ALL:
		out.Acks = AcksAll
	case tidemarkv1.Acks_ACKS_LEADER:
		out.Acks = AcksLeader
	case tidemarkv1.Acks_ACKS_NONE:
		out.Acks = AcksNone
	default:
		return ProduceRequest{}, Errorf(ReasonInvalidRequest, "acks has the unknown value %d", r.GetAcks())
	}
	if out.Partition < 0 {
		return ProduceRequest{}, Errorf(ReasonUnknownPartition, "there is no partition %d", out.Partition)
	}
	switch {
	case len(r.GetBatch()) > 0 && len(r.GetRecords()) > 0:
		return ProduceRequest{}, Errorf(ReasonInvalidRequest, "set either batch or records, not both")
	case len(r.GetBatch()) > 0:
		return out, nil
	case len(r.GetRecords()) == 0:
		return ProduceRequest{}, Errorf(ReasonInvalidRequest, "the request holds no records")
	}
	batch, err := encodeRecords(r.GetRecords(), s.clock.Now().UnixMilli())
	if err != nil {
		return ProduceRequest{}, err
	}
	out.Batch = batch
	return out, nil
}

// encodeRecords makes one uncompressed batch without a producer id.
func encodeRecords(records []*tidemarkv1.Record, now int64) (record.Batch, error) {
	builder := record.NewBuilder(record.None)
	for i, m := range records {
		r := record.Record{Timestamp: m.GetTimestampMs(), Key: m.Key, Value: m.Value}
		if r.Timestamp == 0 {
			r.Timestamp = now
		}
		for _, h := range m.GetHeaders() {
			r.Headers = append(r.Headers, record.Header{Key: h.GetKey(), Value: h.Value})
		}
		if err := builder.Append(r); err != nil {
			return nil, recordError(fmt.Sprintf("record %d", i), err)
		}
	}
	batch, err := builder.Build(-1, -1, -1)
	if err != nil {
		return nil, recordError("the records", err)
	}
	return batch, nil
}

// recordError gives an error of package record its reason.
func recordError(what string, err error) *Error {
	reason := ReasonInvalidRecord
	switch {
	case errors.Is(err, record.ErrTooLarge):
		reason = ReasonTooLarge
	case errors.Is(err, record.ErrCorrupt):
		reason = ReasonCorruptBatch
	case errors.Is(err, record.ErrCodec):
		reason = ReasonUnknownCodec
	}
	return Errorf(reason, "%s: %w", what, err)
}

func produceMessage(r ProduceResult) *tidemarkv1.ProduceResponse {
	out := &tidemarkv1.ProduceResponse{
		Topic:      r.Topic,
		Partition:  r.Partition,
		BaseOffset: r.BaseOffset,
		Records:    r.Records,
		Reached:    reachedMessage(r.Reached),
		Duplicate:  r.Duplicate,
	}
	if r.NextOffset > 0 {
		out.Position = &tidemarkv1.Position{Topic: r.Topic, Offsets: map[int32]int64{r.Partition: r.NextOffset}}
	}
	return out
}

func reachedMessage(r Reached) tidemarkv1.Reached {
	switch r {
	case ReachedNone:
		return tidemarkv1.Reached_REACHED_NONE
	case ReachedBuffered:
		return tidemarkv1.Reached_REACHED_BUFFERED
	case ReachedDisk:
		return tidemarkv1.Reached_REACHED_DISK
	case ReachedObject:
		return tidemarkv1.Reached_REACHED_OBJECT
	}
	return tidemarkv1.Reached_REACHED_UNSPECIFIED
}

// produceErrorMessage is what ConnectError is for a whole call, for one request of a stream.
func produceErrorMessage(err error) *tidemarkv1.ProduceError {
	e := AsError(err)
	return &tidemarkv1.ProduceError{
		Code:         e.Reason.Code().String(),
		Reason:       string(e.Reason),
		Message:      e.Error(),
		Retryable:    e.Reason.Retryable(),
		RetryAfterMs: e.retryHint().Milliseconds(),
	}
}

// ProduceStream is Produce, pipelined; see produceStream.
func (s *produceService) ProduceStream(ctx context.Context, stream *connect.BidiStream[tidemarkv1.ProduceStreamRequest, tidemarkv1.ProduceStreamResponse]) error {
	p := newProduceStream(s, streamBytes, streamRequests)
	if body := bodyOf(ctx); body != nil {
		p.settle = body.settle
		p.interrupt = func() { body.end(ConnectError(errClosing)) }
	}
	err := p.run(ctx, stream)
	if err == nil || errors.Is(err, io.EOF) {
		return nil
	}
	return ConnectError(err)
}
