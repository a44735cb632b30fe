package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/ingest/room"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
)

// Fetch. A request is turned into what it asks for (fetch_session.go) and dropped; then the node is asked, which may wait for records; and the answer is
// written around the batches that the node has (fetch_answer.go).
//
//	frame ──► session ──► node: wait ──► how much? ──► room ──► read ──► answer
//	                        ▲   holds no room         │ none
//	                        └── wait for room ◄───────┘
//
// What is read takes room for answers before it is read. While there is none the fetch waits for it with nothing in its hands, and then looks anew.

// fetchLog is what fetching needs of the node.
type fetchLog interface {
	FetchParts(ctx context.Context, r ingest.FetchPartsRequest) ([]ingest.PartFetched, error)
}

const (
	// fetchWaitMost is how long a fetch may wait for records, whatever its client says.
	fetchWaitMost = time.Minute
	// fetchOverhead is about what an answer has for a partition besides its batches.
	fetchOverhead = 64
)

func fetchAPIs() []api {
	return []api{{key: int16(kmsg.Fetch), min: 4, max: 18, serve: serveFetch}}
}

// fetching is one fetch under way.
type fetching struct {
	call      *call
	session   *fetchSession
	fresh     bool // everything is answered for
	committed bool // the client's isolation level
	request   ingest.FetchPartsRequest

	index  ingest.ClusterIndex
	topics map[*fetchTopic]fetchedAs
	known  []broker // once asked for
	errs   []error  // by part; what is wrong before the node is asked
	asked  []int    // the parts that the node is asked for
	share  *room.Share
	held   int64    // of share
	lent   [][]byte // in which the batches lie
}

// fetchedAs is what a name means.
type fetchedAs struct {
	topic meta.Topic
	err   error
}

func serveFetch(ctx context.Context, k *call) error {
	q := requestOf[*kmsg.FetchRequest](k)
	f := fetching{call: k, committed: q.IsolationLevel == 1}
	f.request.MinBytes = int(max(q.MinBytes, 1))
	f.request.MaxBytes = int(max(q.MaxBytes, 1))
	if q.MinBytes > 0 {
		f.request.MaxWait = min(time.Duration(max(q.MaxWaitMillis, 0))*time.Millisecond, fetchWaitMost)
	}
	replica := q.ReplicaID
	if k.version >= fetchReplica {
		replica = q.ReplicaState.ID
	}
	session, fresh, code, err := k.conn.sessions.fetchBegin(k, q)
	if err != nil {
		return err
	}
	k.settle()
	if code != 0 {
		answer := fetchAnswer{code: code}
		k.answerFetch(&answer, nil)
		return nil
	}
	if session.id == 0 {
		defer session.give()
		if err := session.awaitTurn(ctx, k.conn.server); err != nil {
			return err
		}
	}
	f.session, f.fresh, f.errs = session, fresh, make([]error, len(session.parts))
	f.request.Buffer = f.lend
	k.drop = f.giveBack
	got, err := f.fetch(ctx, replica >= 0)
	if err != nil {
		if f.share != nil {
			f.share.Give()
		}
		return err
	}
	answer := f.answer(got)
	k.answerFetch(answer, f.share)
	return nil
}

// fetch asks the node for what can be asked for. Its answer belongs to the parts in f.asked.
func (f *fetching) fetch(ctx context.Context, follower bool) ([]ingest.PartFetched, error) {
	log, err := f.call.conn.log()
	if err == nil {
		f.index, err = f.call.conn.server.Cluster.Index()
	}
	if err == nil && follower {
		err = ingest.Errorf(ingest.ReasonInvalidRequest, "nothing replicates from this node: its log is in the object store")
	}
	if err != nil {
		f.refuse(err)
		return nil, nil
	}
	f.resolve()
	if len(f.request.Parts) == 0 {
		return nil, nil
	}
	got, err := f.read(ctx, log)
	if err != nil && ctx.Err() != nil && f.call.conn.ctx.Err() == nil {
		// The server drains: what there is, is the answer.
		f.request.MaxWait = 0
		got, err = f.read(f.call.conn.ctx, log)
	}
	switch {
	case f.call.conn.ctx.Err() != nil:
		return nil, context.Cause(f.call.conn.ctx)
	case err != nil:
		f.refuse(err)
		return nil, nil
	}
	return got, nil
}

// lend gives memory for what is read.
func (f *fetching) lend(bytes int) []byte {
	p := f.call.conn.server.buffers.get(bytes)
	f.lent = append(f.lent, p)
	return p
}

// giveBack is called when the answer is written, or never will be.
func (f *fetching) giveBack() {
	for _, p := range f.lent {
		f.call.conn.server.buffers.put(p)
	}
	f.lent = nil
}

// refuse is the answer for every part.
func (f *fetching) refuse(err error) {
	f.asked = nil
	for n := range f.errs {
		if f.errs[n] == nil {
			f.errs[n] = err
		}
	}
}

// resolve finds out what the names mean.
func (f *fetching) resolve() {
	f.topics = make(map[*fetchTopic]fetchedAs, len(f.session.topics))
	f.request.Parts = make([]ingest.PartTarget, 0, len(f.session.parts))
	f.asked = make([]int, 0, len(f.session.parts))
	for n, p := range f.session.parts {
		as, ok := f.topics[p.topic]
		if !ok {
			as = f.meaning(p.topic)
			f.topics[p.topic] = as
		}
		switch {
		case as.err != nil:
			f.errs[n] = as.err
		case p.offset < 0:
			f.errs[n] = kerr.OffsetOutOfRange
		default:
			f.asked = append(f.asked, n)
			f.request.Parts = append(f.request.Parts, ingest.PartTarget{
				Topic: as.topic.ID, Partition: p.partition, Offset: p.offset, MaxBytes: int(max(p.maxBytes, 1)), Epoch: max(p.epoch, 0),
			})
		}
	}
	if len(f.asked) < len(f.session.parts) {
		f.request.MaxWait = 0 // there is something to tell
	}
}

func (f *fetching) meaning(t *fetchTopic) (as fetchedAs) {
	if f.session.byID {
		topic, ok := f.index.TopicByID(t.id)
		if !ok {
			as.err = kerr.UnknownTopicID
		}
		as.topic = topic
		return as
	}
	topic, ok := f.index.Topic(t.name)
	if !ok {
		as.err = kerr.UnknownTopicOrPartition
	}
	as.topic = topic
	return as
}

// read reads with room.
func (f *fetching) read(ctx context.Context, log Log) ([]ingest.PartFetched, error) {
	send, evict := f.call.conn.server.send, f.call.conn.evict
	overhead, need := int64(fetchOverhead*len(f.session.parts)), int64(0)
	f.request.Reserve = func(bytes int64) bool {
		need = bytes + overhead
		if f.share == nil {
			if f.share = send.Try(need, evict); f.share != nil {
				f.held = need
			}
		}
		return f.share != nil && need <= f.held
	}
	for {
		got, err := log.FetchParts(ctx, f.request)
		if err != nil {
			f.giveBack()
		}
		if !errors.Is(err, ingest.ErrNoRoom) {
			return got, err //nolint:wrapcheck // it is the node's word
		}
		if f.share != nil {
			f.share.Give()
			f.share = nil
		}
		if f.share, err = send.Take(ctx, need, evict); err != nil {
			return nil, fmt.Errorf("wait for room for an answer: %w", err)
		}
		f.held = need
		f.request.MaxWait = 0 // it has waited
	}
}

// answer tells what came of the parts, and remembers it for those of a session.
func (f *fetching) answer(got []ingest.PartFetched) *fetchAnswer {
	out := &fetchAnswer{session: f.session.id}
	gave := make([]bool, len(f.session.parts))
	some := false
	places := make(map[*fetchTopic]int, len(f.session.topics))
	next := 0
	for n, p := range f.session.parts {
		var told fetchedPart
		if next < len(f.asked) && f.asked[next] == n {
			told = f.told(p, &got[next])
			next++
		} else {
			told = f.failed(p, f.errs[n])
		}
		gave[n] = len(told.batches) > 0 || told.code != 0 // what fails may have cost those behind it their turn
		some = some || gave[n]
		if !f.fresh && p.told && told.code == 0 && len(told.batches) == 0 && (told.hwm < 0 || told.hwm == p.hwm && told.start == p.start) {
			continue // nothing new
		}
		p.told, p.hwm, p.start = true, told.hwm, told.start
		at, ok := places[p.topic] // each topic once: there are clients that take only the last of two
		if !ok {
			at = len(out.topics)
			places[p.topic] = at
			out.topics = append(out.topics, fetchedTopic{fetchTopic: p.topic})
		}
		out.topics[at].parts = append(out.topics[at].parts, told)
		if told.leader >= 0 && f.call.version >= fetchEndpoints {
			f.addBroker(out, told.leader)
		}
	}
	if some && f.session.id != 0 {
		f.session.rotate(gave)
	}
	return out
}

// told is what a client is told of a partition that the node was asked for.
func (f *fetching) told(p *fetchPart, got *ingest.PartFetched) fetchedPart {
	if got.Err != nil {
		return f.failed(p, got.Err)
	}
	out := fetchedPart{
		partition: p.partition, hwm: got.HighWatermark, start: got.LogStartOffset, committed: f.committed, batches: got.Batches, leader: -1, leaderEpoch: -1,
	}
	if f.call.version < fetchZstd && anyZstd(got.Batches) {
		return f.failed(p, kerr.UnsupportedCompressionType)
	}
	return out
}

// failed is what a client is told of a partition of which there is nothing but an error.
func (f *fetching) failed(p *fetchPart, err error) fetchedPart {
	out := fetchedPart{partition: p.partition, code: f.code(err), hwm: -1, start: -1, committed: f.committed, leader: -1, leaderEpoch: -1}
	if !namesLeader(err) || f.index == nil || f.call.version < fetchFlexible {
		return out
	}
	if as := f.topics[p.topic]; as.err == nil && as.topic.Name != "" && p.partition >= 0 && p.partition < as.topic.Partitions {
		out.leader, out.leaderEpoch = leaderIn(f.index, f.brokers(), as.topic, p.partition)
	}
	return out
}

// namesLeader tells whether an error means that another node leads, and not only that this one cannot serve for a moment.
func namesLeader(err error) bool {
	reason := ingest.ReasonOf(err)
	return reason == ingest.ReasonNotLeader && !errors.Is(err, ingest.ErrNewEpoch) || reason == ingest.ReasonShuttingDown
}

func (f *fetching) brokers() []broker {
	if f.known == nil {
		f.known = f.call.conn.server.brokers(f.index, f.call.conn.dialled())
	}
	return f.known
}

func (f *fetching) addBroker(out *fetchAnswer, id int32) {
	for _, b := range out.brokers {
		if b.id == id {
			return
		}
	}
	for _, b := range f.brokers() {
		if b.id == id {
			out.brokers = append(out.brokers, b)
		}
	}
}

// code is codeOf for fetches: what a consumer does not expect there ends it, so that whatever passes by itself must be one of the codes at which it asks again.
func (f *fetching) code(err error) int16 {
	if kafka, ok := errors.AsType[*kerr.Error](err); ok {
		return kafka.Code
	}
	if code := epochCode(err); code != 0 {
		return code
	}
	switch reason := ingest.ReasonOf(err); {
	case reason == ingest.ReasonUnknownTopic && f.session.byID:
		return kerr.UnknownTopicID.Code
	case reason == ingest.ReasonCorruptData:
		return kerr.CorruptMessage.Code
	case reason.Retryable() || reason == ingest.ReasonNotLeader || reason == ingest.ReasonShuttingDown || reason == ingest.ReasonCanceled:
		return kerr.NotLeaderForPartition.Code // some clients hand others to who reads
	}
	return codeOf(err)
}

// epochCode is the code of an error that has a leader epoch for its cause, else 0.
func epochCode(err error) int16 {
	switch {
	case errors.Is(err, ingest.ErrOldEpoch):
		return kerr.FencedLeaderEpoch.Code
	case errors.Is(err, ingest.ErrNewEpoch):
		return kerr.UnknownLeaderEpoch.Code
	}
	return 0
}

// anyZstd tells whether any batch is compressed with zstd.
func anyZstd(batches [][]byte) bool {
	for _, rest := range batches {
		for len(rest) > 0 {
			b, after, err := record.Next(rest)
			if err != nil {
				return false // whoever reads it finds out
			}
			if b.Codec() == record.Zstd {
				return true
			}
			rest = after
		}
	}
	return false
}

// answerFetch answers a fetch. share is what the batches hold of the room for answers.
func (k *call) answerFetch(answer *fetchAnswer, share *room.Share) {
	a := answer.newAround(sizeBytes)
	a.bytes = k.appendHeader(a.bytes, k.version >= fetchFlexible)
	answer.appendTo(&a, k.version)
	binary.BigEndian.PutUint32(a.bytes, uint32(a.size()-sizeBytes))
	k.answerBytes(a.buffers(), a.size(), share)
}
