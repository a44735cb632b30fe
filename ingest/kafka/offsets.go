package kafka

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/semaphore"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
)

// ListOffsets, OffsetForLeaderEpoch and DeleteRecords. All three are about partitions that this node leads; who leads is asked of etcd once for a request, because
// a leader of the past would answer with marks of the past.

// offsetLog is what questions about offsets need of the node.
type offsetLog interface {
	PartStates(ctx context.Context, ids []meta.Partition) ([]ingest.PartState, error)
	FirstSince(ctx context.Context, id meta.Partition, timestampMs int64) (ingest.RecordTime, bool, error)
	Newest(ctx context.Context, id meta.Partition) (ingest.RecordTime, bool, error)
	EpochEnd(id meta.Partition, epoch meta.Epoch) (at meta.Epoch, end int64, err error)
}

func offsetAPIs() []api {
	return []api{
		{key: int16(kmsg.ListOffsets), min: 1, max: 11, serve: simple(serveListOffsets)},
		{key: int16(kmsg.OffsetForLeaderEpoch), min: 2, max: 4, serve: simple(serveOffsetForLeaderEpoch)},
		{key: int16(kmsg.DeleteRecords), min: 0, max: 2, serve: simple(serveDeleteRecords)},
	}
}

const (
	// maxOffsetParts is how many partitions one of these requests may name.
	maxOffsetParts = 10_000
	// offsetLookups is how many batches are looked into at once, for all clients together: each may be 32 MiB, and more when it is decompressed.
	// clientLookups is how many of them one client has while others wait. lookupPatience is how long after its request a client is answered at the latest,
	// whatever it asks for: clients wait for 30 s, and ask again for what they were not told, but not for the rest.
	offsetLookups  = 8
	clientLookups  = 2
	lookupPatience = 12 * time.Second
	// offsetNotAvailable is the version of ListOffsets from which on OFFSET_NOT_AVAILABLE is known.
	offsetNotAvailable = 5
)

// The timestamps of ListOffsets that are none, with the version from which on each is known.
const (
	offsetLatest         = -1
	offsetEarliest       = -2
	offsetNewest         = -3 // of the record with the greatest timestamp; 7
	offsetEarliestLocal  = -4 // that needs no tier; 8
	offsetLatestTiered   = -5 // behind what the tier has; 9
	offsetEarliestUntier = -6 // what the tier does not have yet; 11
)

// offsetsAsked are the partitions of a request in their order, and where they stand.
type offsetsAsked struct {
	log    Log
	ids    []meta.Partition
	states []ingest.PartState // or why it is not known
}

// topicPartition is a partition as clients name it.
type topicPartition struct {
	topic     string
	partition int32
}

// namedIn are the partitions that a request names, in its order.
func namedIn[T, P any](topics []T, in func(*T) (string, []P), number func(*P) int32) iter.Seq[topicPartition] {
	return func(yield func(topicPartition) bool) {
		for i := range topics {
			name, parts := in(&topics[i])
			for j := range parts {
				if !yield(topicPartition{topic: name, partition: number(&parts[j])}) {
					return
				}
			}
		}
	}
}

// standing finds out where partitions stand. Of one that is named more than once it is INVALID_REQUEST, but for the first time. An error ends the connection: they
// are too many.
func (k *call) standing(ctx context.Context, named iter.Seq[topicPartition]) (*offsetsAsked, error) {
	var o offsetsAsked
	var index ingest.ClusterIndex
	var err error
	if o.log, err = k.conn.log(); err == nil {
		index, err = k.conn.server.Cluster.Index()
	}
	var asked []int
	seen := make(map[topicPartition]struct{})
	for name := range named {
		if len(o.ids) == maxOffsetParts {
			return nil, errTooMany("partitions", maxOffsetParts+1, maxOffsetParts)
		}
		id, state := meta.Partition{Partition: name.partition}, ingest.PartState{Err: err}
		_, twice := seen[name]
		seen[name] = struct{}{}
		switch {
		case twice:
			state.Err = kerr.InvalidRequest
		case err == nil:
			t, ok := index.Topic(name.topic)
			if id.Topic = t.ID; ok {
				asked = append(asked, len(o.ids))
			} else {
				state.Err = kerr.UnknownTopicOrPartition
			}
		}
		o.ids, o.states = append(o.ids, id), append(o.states, state)
	}
	if len(asked) == 0 {
		return &o, nil
	}
	ids := make([]meta.Partition, len(asked))
	for n, at := range asked {
		ids[n] = o.ids[at]
	}
	states, err := o.log.PartStates(ctx, ids)
	for n, at := range asked {
		if err != nil {
			o.states[at].Err = err
		} else {
			o.states[at] = states[n]
		}
	}
	return &o, nil
}

// offsetEpoch compares the epoch that a client believes in, -1 when in none, with that of the leader.
func offsetEpoch(believed int32, s ingest.PartState) error {
	switch {
	case s.Err != nil:
		return s.Err
	case believed > 0 && believed < s.Epoch:
		return kerr.FencedLeaderEpoch
	case believed > s.Epoch:
		return kerr.UnknownLeaderEpoch
	}
	return nil
}

// offsetCode is codeOf for questions about offsets.
func offsetCode(err error) int16 {
	if code := epochCode(err); code != 0 {
		return code
	}
	switch ingest.ReasonOf(err) {
	case ingest.ReasonCanceled:
		return kerr.NotLeaderForPartition.Code // the node stops
	case ingest.ReasonTimeout:
		return kerr.LeaderNotAvailable.Code // at which every client asks again
	default:
		return codeOf(err)
	}
}

func serveListOffsets(ctx context.Context, k *call, q *kmsg.ListOffsetsRequest) (*kmsg.ListOffsetsResponse, error) {
	asked, err := k.standing(ctx, namedIn(q.Topics, func(t *kmsg.ListOffsetsRequestTopic) (string, []kmsg.ListOffsetsRequestTopicPartition) {
		return t.Topic, t.Partitions
	},
		func(p *kmsg.ListOffsetsRequestTopicPartition) int32 { return p.Partition }))
	if err != nil {
		return nil, err
	}
	out := kmsg.NewPtrListOffsetsResponse()
	ctx, cancel := k.withPatience(ctx)
	defer cancel()
	look := lookups{places: k.conn.server.lookups, ended: make(chan struct{}, 1)}
	n := 0
	for i := range q.Topics {
		t := kmsg.NewListOffsetsResponseTopic()
		t.Topic = q.Topics[i].Topic
		t.Partitions = make([]kmsg.ListOffsetsResponseTopicPartition, len(q.Topics[i].Partitions))
		for j, p := range q.Topics[i].Partitions {
			a := &t.Partitions[j]
			*a = kmsg.NewListOffsetsResponseTopicPartition()
			a.Partition = p.Partition
			l := offsetListing{call: k, log: asked.log, id: asked.ids[n], state: asked.states[n]}
			n++
			err := offsetEpoch(p.CurrentLeaderEpoch, l.state)
			switch {
			case q.ReplicaID >= 0:
				a.ErrorCode = kerr.InvalidRequest.Code // nothing replicates from here
			case err != nil:
				a.ErrorCode = offsetCode(err)
			case p.Timestamp >= 0 || p.Timestamp == offsetNewest:
				if err := look.begin(ctx, func() { l.byTime(ctx, p.Timestamp, a) }); err != nil {
					a.ErrorCode = offsetCode(ingest.Errorf(ingest.ReasonTimeout, "look for a record: %w", err))
				}
			default:
				l.byName(p.Timestamp, a)
			}
		}
		out.Topics = append(out.Topics, t)
	}
	look.work.Wait()
	return out, nil
}

// withPatience is ctx until the client of a request that looks into many batches wants to be told something.
func (k *call) withPatience(ctx context.Context) (context.Context, context.CancelFunc) {
	s := k.conn.server
	return context.WithTimeout(ctx, s.lookup-s.Clock.Now().Sub(k.received))
}

// lookups are those of one request. Its methods are called by one goroutine.
type lookups struct {
	places *semaphore.Weighted
	work   sync.WaitGroup
	under  atomic.Int64  // under way
	ended  chan struct{} // has one when there are fewer than before
}

// begin has f run when there is a place, for which it waits until ctx ends. While others wait for one it has no more than clientLookups run.
func (l *lookups) begin(ctx context.Context, f func()) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for !l.places.TryAcquire(1) {
		if l.under.Load() < clientLookups {
			if err := l.places.Acquire(ctx, 1); err != nil {
				return context.Cause(ctx)
			}
			break
		}
		<-l.ended
	}
	l.under.Add(1)
	l.work.Go(func() {
		f()
		l.places.Release(1)
		l.under.Add(-1)
		signal(l.ended)
	})
	return nil
}

// offsetListing is one partition of a ListOffsets.
type offsetListing struct {
	call  *call
	log   Log
	id    meta.Partition
	state ingest.PartState
}

// byName answers for the offsets that have a name.
func (l *offsetListing) byName(name int64, a *kmsg.ListOffsetsResponseTopicPartition) {
	switch name {
	case offsetLatest:
		if l.state.Behind {
			a.ErrorCode = l.notAvailable()
			return
		}
		a.Offset = l.state.HighWatermark
	case offsetEarliest, offsetEarliestLocal:
		a.Offset = l.state.Start
	case offsetLatestTiered, offsetEarliestUntier:
		a.Offset = l.state.Committed
	default:
		a.ErrorCode = kerr.UnsupportedVersion.Code
		return
	}
	a.LeaderEpoch = l.state.Epoch
}

// notAvailable is for a leader that has to catch up with what was read before it led.
func (l *offsetListing) notAvailable() int16 {
	if l.call.version < offsetNotAvailable {
		return kerr.LeaderNotAvailable.Code
	}
	return kerr.OffsetNotAvailable.Code
}

// byTime looks for a record by its time.
func (l *offsetListing) byTime(ctx context.Context, timestamp int64, a *kmsg.ListOffsetsResponseTopicPartition) {
	var r ingest.RecordTime
	var found bool
	var err error
	if timestamp == offsetNewest {
		r, found, err = l.log.Newest(ctx, l.id)
	} else {
		r, found, err = l.log.FirstSince(ctx, l.id, timestamp)
	}
	switch {
	case err != nil:
		a.ErrorCode = offsetCode(err)
	case found:
		a.Offset, a.Timestamp, a.LeaderEpoch = r.Offset, r.Timestamp, r.Epoch
	case l.state.Behind:
		a.ErrorCode = l.notAvailable()
	}
}

func serveOffsetForLeaderEpoch(ctx context.Context, k *call, q *kmsg.OffsetForLeaderEpochRequest) (*kmsg.OffsetForLeaderEpochResponse, error) {
	asked, err := k.standing(ctx, namedIn(q.Topics, func(t *kmsg.OffsetForLeaderEpochRequestTopic) (string, []kmsg.OffsetForLeaderEpochRequestTopicPartition) {
		return t.Topic, t.Partitions
	},
		func(p *kmsg.OffsetForLeaderEpochRequestTopicPartition) int32 { return p.Partition }))
	if err != nil {
		return nil, err
	}
	out := kmsg.NewPtrOffsetForLeaderEpochResponse()
	n := 0
	for i := range q.Topics {
		t := kmsg.NewOffsetForLeaderEpochResponseTopic()
		t.Topic = q.Topics[i].Topic
		for _, p := range q.Topics[i].Partitions {
			a := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			a.Partition = p.Partition
			err := offsetEpoch(p.CurrentLeaderEpoch, asked.states[n])
			if err == nil {
				at, end, unknown := asked.log.EpochEnd(asked.ids[n], p.LeaderEpoch)
				if err = unknown; err == nil {
					a.LeaderEpoch, a.EndOffset = at, end
				}
			}
			a.ErrorCode = offsetCode(err)
			t.Partitions = append(t.Partitions, a)
			n++
		}
		out.Topics = append(out.Topics, t)
	}
	return out, nil
}

// serveDeleteRecords answers that nothing can be deleted, unless nothing has to be: a log begins where it began until it is tiered.
func serveDeleteRecords(ctx context.Context, k *call, q *kmsg.DeleteRecordsRequest) (*kmsg.DeleteRecordsResponse, error) {
	asked, err := k.standing(ctx, namedIn(q.Topics, func(t *kmsg.DeleteRecordsRequestTopic) (string, []kmsg.DeleteRecordsRequestTopicPartition) {
		return t.Topic, t.Partitions
	},
		func(p *kmsg.DeleteRecordsRequestTopicPartition) int32 { return p.Partition }))
	if err != nil {
		return nil, err
	}
	out := kmsg.NewPtrDeleteRecordsResponse()
	n := 0
	for i := range q.Topics {
		t := kmsg.NewDeleteRecordsResponseTopic()
		t.Topic = q.Topics[i].Topic
		for _, p := range q.Topics[i].Partitions {
			a := kmsg.NewDeleteRecordsResponseTopicPartition()
			a.Partition = p.Partition
			a.LowWatermark, err = deleteBelow(p.Offset, asked.states[n])
			if a.ErrorCode = offsetCode(err); err != nil { // the answer has no place for words
				k.conn.server.Logger.Debug("a client's records were not deleted", "client", k.clientID, "topic", t.Topic, "partition", p.Partition, "cause", err)
			}
			t.Partitions = append(t.Partitions, a)
			n++
		}
		out.Topics = append(out.Topics, t)
	}
	return out, nil
}

// deleteBelow gives the log's start if that is where it is asked to begin.
func deleteBelow(offset int64, s ingest.PartState) (start int64, err error) {
	if s.Err != nil {
		return -1, s.Err
	}
	if offset == -1 {
		offset = s.HighWatermark
	}
	switch {
	case offset < 0 || offset > s.HighWatermark:
		return -1, kerr.OffsetOutOfRange
	case offset > s.Start:
		return -1, fmt.Errorf("%w: the log begins at %d, and records below %d cannot be deleted before it is tiered", kerr.PolicyViolation, s.Start, offset)
	}
	return s.Start, nil
}
