package ingest

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/ingest/group"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
	"github.com/tidemark-io/tidemark/record"
)

// Limits of finding out how far a group is behind.
const (
	lagPatience = 2 * time.Second
	// maxLagFetches is for how many partitions the age of the first record that is not committed is looked up, lagReaders how many
	// of them at a time.
	maxLagFetches = 200
	lagReaders    = 8
)

// measureLag fills in where the partitions stand, and how old the first record is that the group has not committed. What cannot be found out
// in time stays -1.
func (s *groupService) measureLag(ctx context.Context, lag []*tidemarkv1.GroupLag) {
	ctx, cancel := context.WithTimeout(ctx, lagPatience)
	defer cancel()
	var behind []*tidemarkv1.GroupLag
	for _, partitions := range slices.Collect(chunksByTopic(lag)) {
		topic, states, err := s.Log.Topic(ctx, partitions[0].GetTopic())
		if err != nil {
			continue
		}
		for _, l := range partitions {
			at := slices.IndexFunc(states, func(p PartitionState) bool { return p.Partition == l.GetPartition() })
			if at < 0 || states[at].Leader == "" {
				continue
			}
			p := states[at]
			l.LogStartOffset, l.HighWatermark = p.LogStartOffset, p.HighWatermark
			if knownEnd(topic, p) != nil {
				continue // there may be more than is committed, and only its leader could tell
			}
			from := max(l.GetCommitted(), p.LogStartOffset)
			l.Lag = max(p.HighWatermark-from, 0)
			if l.GetLag() == 0 {
				l.LagSeconds = 0
			} else {
				behind = append(behind, l)
			}
		}
	}
	behind = behind[:min(len(behind), maxLagFetches)]
	work := make(chan *tidemarkv1.GroupLag)
	var readers sync.WaitGroup
	for range min(lagReaders, len(behind)) {
		readers.Go(func() {
			for l := range work {
				if at, ok := s.firstTimestamp(ctx, l); ok {
					l.LagSeconds = max(s.Clock.Now().Sub(time.UnixMilli(at)).Seconds(), 0)
				}
			}
		})
	}
	for _, l := range behind {
		work <- l
	}
	close(work)
	readers.Wait()
}

// chunksByTopic cuts a sorted list where the topic changes.
func chunksByTopic(lag []*tidemarkv1.GroupLag) func(yield func([]*tidemarkv1.GroupLag) bool) {
	return func(yield func([]*tidemarkv1.GroupLag) bool) {
		for len(lag) > 0 {
			n := slices.IndexFunc(lag, func(l *tidemarkv1.GroupLag) bool { return l.GetTopic() != lag[0].GetTopic() })
			if n < 0 {
				n = len(lag)
			}
			if !yield(lag[:n]) {
				return
			}
			lag = lag[n:]
		}
	}
}

// firstTimestamp is that of the first record that a group has not committed.
func (s *groupService) firstTimestamp(ctx context.Context, l *tidemarkv1.GroupLag) (int64, bool) {
	if ctx.Err() != nil {
		return 0, false
	}
	from := max(l.GetCommitted(), l.GetLogStartOffset())
	pieces, err := s.Log.Fetch(ctx, FetchRequest{
		Topic: l.GetTopic(), Partitions: []FetchPartition{{Partition: l.GetPartition(), Offset: from}}, MaxBytes: 1, MinBytes: 1,
	})
	if err != nil || len(pieces) == 0 {
		return 0, false
	}
	for _, rest := range pieces[0].Batches {
		for len(rest) > 0 {
			b, behind, err := record.Next(rest)
			if err != nil {
				return 0, false
			}
			for r, err := range b.Records(record.DefaultLimits()) {
				if err != nil {
					return 0, false
				}
				if r.Offset >= from {
					return r.Timestamp, r.Timestamp >= 0
				}
			}
			rest = behind
		}
	}
	return 0, false
}

// kafkaAssignment reads the partitions of a consumer's assignment in Kafka's protocol; what is none is nil:
//
//	int16 version │ int32 topics │ topics × (int16 length │ name │ int32 partitions │ partitions × int32) │ user data
func kafkaAssignment(p []byte) []group.TopicPartition {
	var out []group.TopicPartition
	take := func(n int) []byte {
		if n < 0 || n > len(p) {
			p = nil
			return nil
		}
		taken := p[:n]
		p = p[n:]
		return taken
	}
	number := func() int {
		if four := take(4); four != nil {
			return int(int32(binary.BigEndian.Uint32(four)))
		}
		return 0
	}
	take(2)
	for range min(max(number(), 0), len(p)) {
		length := take(2)
		if length == nil {
			return nil
		}
		name := cutText(string(take(int(int16(binary.BigEndian.Uint16(length))))), 255)
		for range min(max(number(), 0), len(p)/4) {
			out = append(out, group.TopicPartition{Topic: name, Partition: int32(number())})
		}
	}
	slices.SortFunc(out, func(a, b group.TopicPartition) int {
		return compareTopicPartition(a.Topic, a.Partition, b.Topic, b.Partition)
	})
	return out
}
