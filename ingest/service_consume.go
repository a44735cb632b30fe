package ingest

import (
	"cmp"
	"context"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// consumeNode is what the Consume service needs of a node.
type consumeNode interface {
	Fetch(ctx context.Context, r FetchRequest) ([]PartitionBatches, error)
	Topic(ctx context.Context, name string) (meta.Topic, []PartitionState, error)
	OffsetForTime(ctx context.Context, topic string, partition int32, timestampMs int64) (int64, error)
}

// Limits of reading.
const (
	defaultFetchBytes  = 8 << 20
	maxFetchBytes      = 32 << 20
	maxFetchWait       = time.Minute
	maxFetchPartitions = 10_000
	// A stream asks for this much at a time. It sends nothing while its client does not read, so that a client that never
	// reads costs one answer, which all of them share sendRoom for, and the connection's buffers.
	streamFetchBytes = 4 << 20
	streamFetchWait  = 10 * time.Second
)

// consumeService is tidemark.v1.ConsumeService.
type consumeService struct {
	node interface {
		consumeNode
		Ends(ctx context.Context, name string) (meta.Topic, []PartitionState, error)
	}
	clock     clock.Clock
	telemetry *Telemetry
	closing   <-chan struct{}
}

// Fetch reads once, waiting for data up to the time that the request gives.
func (s *consumeService) Fetch(ctx context.Context, r *tidemarkv1.FetchRequest) (*tidemarkv1.FetchResponse, error) {
	request, err := fetchRequest(r)
	if err != nil {
		s.telemetry.FetchFailed(ctx, err)
		return nil, ConnectError(err)
	}
	if body := bodyOf(ctx); body != nil && proto.Size(r) <= freeAnswer {
		body.settle() // it may wait for as long as a message may take to arrive
	}
	ctx, _, stop := untilClosing(ctx, s.closing)
	defer stop()
	parts, err := s.fetchAnswer(ctx, request)
	if err != nil {
		return nil, ConnectError(err)
	}
	out := &tidemarkv1.FetchResponse{Partitions: make([]*tidemarkv1.PartitionBatches, 0, len(parts))}
	for _, p := range parts {
		out.Partitions = append(out.Partitions, batchesMessage(p))
	}
	return out, nil
}

// fetchAnswer is fetch with room for what comes until the client has it. Whoever waits for room waits without holding anything.
func (s *consumeService) fetchAnswer(ctx context.Context, request FetchRequest) ([]PartitionBatches, error) {
	answer, room := answerOf(ctx), sendRoomOf(ctx)
	if answer == nil || room == nil {
		return s.fetch(ctx, request)
	}
	reader := &sendReader{evict: answer.end}
	pieces, share, err := room.fetchInto(ctx, reader, request, s.fetch)
	if err != nil {
		return nil, err
	}
	reader.begin(s.clock.Now())
	answer.hold(share)
	return pieces, nil
}

func fetchRequest(r *tidemarkv1.FetchRequest) (FetchRequest, error) {
	if err := checkTopicName(r.GetTopic()); err != nil {
		return FetchRequest{}, err
	}
	switch {
	case len(r.GetPartitions()) == 0:
		return FetchRequest{}, Errorf(ReasonInvalidRequest, "the fetch names no partition")
	case len(r.GetPartitions()) > maxFetchPartitions:
		return FetchRequest{}, Errorf(ReasonTooLarge, "a fetch names at most %d partitions, not %d", maxFetchPartitions, len(r.GetPartitions()))
	case r.GetMaxBytes() < 0 || r.GetMaxBytes() > maxFetchBytes:
		return FetchRequest{}, Errorf(ReasonInvalidRequest, "max_bytes is 1 to %d, or 0 for %d; not %d", maxFetchBytes, defaultFetchBytes, r.GetMaxBytes())
	case r.GetMinBytes() < 0:
		return FetchRequest{}, Errorf(ReasonInvalidRequest, "min_bytes cannot be %d", r.GetMinBytes())
	case r.GetMaxWaitMs() < 0 || time.Duration(r.GetMaxWaitMs())*time.Millisecond > maxFetchWait:
		return FetchRequest{}, Errorf(ReasonInvalidRequest, "max_wait_ms is 0 to %d, not %d", maxFetchWait.Milliseconds(), r.GetMaxWaitMs())
	}
	id, err := parseTopicID(r.GetTopicId())
	if err != nil {
		return FetchRequest{}, err
	}
	out := FetchRequest{
		Topic:      r.GetTopic(),
		TopicID:    id,
		MaxBytes:   int(r.GetMaxBytes()),
		MinBytes:   max(1, int(r.GetMinBytes())),
		MaxWait:    time.Duration(r.GetMaxWaitMs()) * time.Millisecond,
		Partitions: make([]FetchPartition, 0, len(r.GetPartitions())),
	}
	if out.MaxBytes == 0 {
		out.MaxBytes = defaultFetchBytes
	}
	out.MinBytes = min(out.MinBytes, out.MaxBytes)
	seen := make(map[int32]bool, len(r.GetPartitions()))
	for _, p := range r.GetPartitions() {
		switch {
		case p.GetPartition() < 0:
			return FetchRequest{}, Errorf(ReasonUnknownPartition, "there is no partition %d", p.GetPartition())
		case p.GetOffset() < 0:
			return FetchRequest{}, Errorf(ReasonOffsetOutOfRange, "there is no offset %d", p.GetOffset())
		case seen[p.GetPartition()]:
			return FetchRequest{}, Errorf(ReasonInvalidRequest, "partition %d is named twice", p.GetPartition())
		}
		seen[p.GetPartition()] = true
		out.Partitions = append(out.Partitions, FetchPartition{Partition: p.GetPartition(), Offset: p.GetOffset()})
	}
	return out, nil
}

// fetch asks the node, and tells a stop of the process from a caller that went.
func (s *consumeService) fetch(ctx context.Context, r FetchRequest) ([]PartitionBatches, error) {
	parts, err := s.node.Fetch(ctx, r)
	return parts, closingOr(ctx, err)
}

// batchesMessage joins the batches of a piece. A single slice goes out as it is: it is read only to everybody.
func batchesMessage(p PartitionBatches) *tidemarkv1.PartitionBatches {
	out := &tidemarkv1.PartitionBatches{
		Partition: p.Partition, NextOffset: p.NextOffset, HighWatermark: p.HighWatermark, LogStartOffset: p.LogStartOffset,
	}
	for _, l := range p.Lost {
		out.Lost = append(out.Lost, &tidemarkv1.OffsetRange{From: l.From, To: l.To})
	}
	if len(p.Batches) == 1 {
		out.Batches = p.Batches[0]
	} else {
		out.Batches = slices.Concat(p.Batches...)
	}
	return out
}

// consumePartition is one partition of a stream on its way.
type consumePartition struct {
	partition int32
	next      int64
	end       int64 // high watermark when the stream began
}

// Consume streams batches. The first message holds the ranges; every other one a piece of one partition.
func (s *consumeService) Consume(ctx context.Context, r *tidemarkv1.ConsumeRequest, stream *connect.ServerStream[tidemarkv1.ConsumeResponse]) error {
	if body := bodyOf(ctx); body != nil {
		body.settle()
	}
	ctx, _, stop := untilClosing(ctx, s.closing)
	defer stop()
	return ConnectError(s.consume(ctx, r, stream.Send))
}

func (s *consumeService) consume(ctx context.Context, r *tidemarkv1.ConsumeRequest, send func(*tidemarkv1.ConsumeResponse) error) error {
	topic, parts, err := s.begin(ctx, r)
	if err != nil {
		return err
	}
	ranges := &tidemarkv1.ConsumeResponse{Ranges: make([]*tidemarkv1.ConsumeRange, 0, len(parts))}
	for _, p := range parts {
		ranges.Ranges = append(ranges.Ranges, &tidemarkv1.ConsumeRange{Partition: p.partition, From: p.next, End: p.end})
	}
	if err := send(ranges); err != nil {
		return err
	}
	request := FetchRequest{Topic: r.GetTopic(), TopicID: topic.ID, MaxBytes: streamFetchBytes, MinBytes: 1, MaxWait: streamFetchWait}
	for {
		if r.GetUntilEnd() {
			parts = slices.DeleteFunc(parts, func(p consumePartition) bool { return p.next >= p.end })
			if len(parts) == 0 {
				return nil
			}
		}
		request.Partitions = request.Partitions[:0]
		for _, p := range parts {
			request.Partitions = append(request.Partitions, FetchPartition{Partition: p.partition, Offset: p.next})
		}
		pieces, share, err := s.fetchInto(ctx, request)
		if err != nil {
			return err
		}
		if err := sendPieces(pieces, share, parts, send); err != nil {
			return err
		}
		// The partition that was first goes last, so that a full answer of one does not starve the others.
		parts = append(parts[1:], parts[0])
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
	}
}

// fetchInto is fetch for a stream, which has room then for what has come.
func (s *consumeService) fetchInto(ctx context.Context, request FetchRequest) ([]PartitionBatches, *sendShare, error) {
	room, reader := sendRoomOf(ctx), &sendReader{evict: evictor(ctx)}
	pieces, share, err := room.fetchInto(ctx, reader, request, func(ctx context.Context, r FetchRequest) ([]PartitionBatches, error) {
		pieces, err := s.fetch(ctx, r)
		if r.MaxWait == 0 && ReasonOf(err) == ReasonNotLeader {
			return nil, nil // the next fetch waits for the leader
		}
		return pieces, err
	})
	if err == nil {
		reader.begin(s.clock.Now())
	}
	return pieces, share, err
}

// sendPieces sends what is new of pieces, moves the partitions on, and gives the share back.
func sendPieces(pieces []PartitionBatches, share *sendShare, parts []consumePartition, send func(*tidemarkv1.ConsumeResponse) error) error {
	defer share.give()
	for n, piece := range pieces {
		size := pieceSize(piece)
		i := slices.IndexFunc(parts, func(p consumePartition) bool { return p.partition == piece.Partition })
		if i >= 0 && piece.NextOffset > parts[i].next {
			parts[i].next = piece.NextOffset
			if err := send(&tidemarkv1.ConsumeResponse{Batches: batchesMessage(piece)}); err != nil {
				return err
			}
		}
		pieces[n].Batches = nil
		share.sent(size)
	}
	return nil
}

// states finds out where a topic stands. A stream that begins or ends at the high watermark needs the leaders for that where a topic is
// on disk, and waits for them.
func (s *consumeService) states(ctx context.Context, r *tidemarkv1.ConsumeRequest) (meta.Topic, []PartitionState, error) {
	_, atEnd := r.GetFrom().(*tidemarkv1.ConsumeRequest_End)
	until := s.clock.Now().Add(leaderPatience)
	for {
		topic, states, err := s.node.Topic(ctx, r.GetTopic())
		if err != nil || (!atEnd && !r.GetUntilEnd()) {
			return topic, states, err
		}
		for _, p := range states {
			if len(r.GetPartitions()) == 0 || slices.Contains(r.GetPartitions(), p.Partition) {
				err = cmp.Or(err, knownEnd(topic, p))
			}
		}
		if err == nil || s.clock.Now().Add(askAgain).After(until) || !pause(ctx, s.clock, askAgain) {
			return topic, states, err
		}
	}
}

// begin resolves where the stream starts, and where it ends with until_end.
func (s *consumeService) begin(ctx context.Context, r *tidemarkv1.ConsumeRequest) (meta.Topic, []consumePartition, error) {
	if err := checkTopicName(r.GetTopic()); err != nil {
		return meta.Topic{}, nil, err
	}
	topic, states, err := s.states(ctx, r)
	if err != nil {
		return meta.Topic{}, nil, err
	}
	if sameTopic(topic, r.GetTopicId()) != nil {
		// This node may not have heard yet that the topic was made anew: where it ends is asked of etcd.
		if topic, states, err = s.node.Ends(ctx, r.GetTopic()); err == nil {
			err = sameTopic(topic, r.GetTopicId())
		}
		if err != nil {
			return meta.Topic{}, nil, err
		}
	}
	wanted := r.GetPartitions()
	if from := r.GetOffsets().GetOffsets(); len(from) > 0 && len(wanted) == 0 {
		for p := range from {
			wanted = append(wanted, p)
		}
	}
	states, err = selectPartitions(r.GetTopic(), states, wanted)
	if err != nil {
		return meta.Topic{}, nil, err
	}
	parts := make([]consumePartition, 0, len(states))
	for _, p := range states {
		part := consumePartition{partition: p.Partition, end: p.HighWatermark}
		switch from := r.GetFrom().(type) {
		case nil, *tidemarkv1.ConsumeRequest_Start:
			part.next = p.LogStartOffset
		case *tidemarkv1.ConsumeRequest_End:
			part.next = p.HighWatermark
		case *tidemarkv1.ConsumeRequest_Offset:
			part.next = from.Offset
		case *tidemarkv1.ConsumeRequest_TimestampMs:
			part.next, err = s.node.OffsetForTime(ctx, r.GetTopic(), p.Partition, from.TimestampMs)
			if err != nil {
				return meta.Topic{}, nil, err
			}
		case *tidemarkv1.ConsumeRequest_Offsets:
			offset, named := from.Offsets.GetOffsets()[p.Partition]
			if !named {
				return meta.Topic{}, nil, Errorf(ReasonInvalidRequest, "offsets names no offset for partition %d", p.Partition)
			}
			part.next = offset
		}
		if part.next < p.LogStartOffset {
			return meta.Topic{}, nil, offsetOutOfRange(r.GetTopic(), part.next, p)
		}
		if part.next > p.HighWatermark {
			// Only a leader knows that there is nothing above, and only when it still is one: a fetch asks.
			_, err := s.fetch(ctx, FetchRequest{Topic: r.GetTopic(), MaxBytes: 1, Partitions: []FetchPartition{{Partition: p.Partition, Offset: part.next}}})
			if err != nil && !ReasonOf(err).Retryable() {
				return meta.Topic{}, nil, err
			}
		}
		parts = append(parts, part)
	}
	return topic, parts, nil
}

func offsetOutOfRange(topic string, offset int64, p PartitionState) error {
	e := Errorf(ReasonOffsetOutOfRange, "offset %d of topic %q, partition %d, is out of range: it holds %d up to, not including, %d",
		offset, topic, p.Partition, p.LogStartOffset, p.HighWatermark)
	e.Metadata = map[string]string{
		"partition":        formatInt(int64(p.Partition)),
		"log_start_offset": formatInt(p.LogStartOffset),
		"high_watermark":   formatInt(p.HighWatermark),
	}
	return e
}
