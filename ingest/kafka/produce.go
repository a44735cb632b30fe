package kafka

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/ingest/room"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
)

// Produce. A request has one batch for each of its partitions. They are handed to the node in their order, and the request is answered when the node
// has answered for each of them, or when its timeout has passed: then those that are not answered are told REQUEST_TIMED_OUT, and go on.
//
//	frame ──► skim ──► decode ──► check ──► batch by batch to the node ──► the node answers ──► the last one: answer
//	                                        the frame's bytes, or a copy   on its own goroutine   made by the writer
//
// Nothing but the batches outlives the handing over, and what is done on the node's goroutine is no more than to note an outcome.
//
// Batches share the memory of their frame where that is theirs for the greater part. One that is less than half of its frame is copied: else
// a small batch would keep a large frame in memory for as long as the node keeps the batch, and the node counts the batch alone.

// produceLog is what producing needs of the node.
type produceLog interface {
	ProduceAsync(ctx context.Context, r ingest.ProduceRequest, done func(ingest.ProduceResult, error))
	InitProducer(ctx context.Context) (id int64, epoch int16, err error)
	Producers(ctx context.Context, topic string, partition int32) ([]ingest.ProducerState, error)
}

func produceAPIs() []api {
	return []api{
		{key: int16(kmsg.Produce), min: 3, max: 13, maxBytes: produceFrame, skim: skimProduce, patience: produceTimeout, serve: serveProduce},
		{key: int16(kmsg.InitProducerID), min: 0, max: 5, serve: simple(serveInitProducerID)},
		{key: int16(kmsg.DescribeProducers), min: 0, max: 0, serve: simple(serveDescribeProducers)},
	}
}

const (
	// produceBytes is about what each topic and partition of a request takes until its answer is written, and mostHeld what all of them may.
	produceBytes = 300
	mostHeld     = (maxProduceTopics + maxProducePartitions + 1) * produceBytes
	// usualProduceTimeout is for clients that name none, and greatestProduceTimeout bounds what others name.
	usualProduceTimeout    = 30 * time.Second
	greatestProduceTimeout = 10 * time.Minute
	// Versions of Produce from which on there is more: consumers that speak no later one than the first cannot read zstd; a topic is named by
	// its id; a new leader is told with its address.
	produceZstd   = 7
	produceLeader = 10
	produceByID   = 13
)

// produce is one request on its way through the node.
type produce struct {
	call   *call
	silent bool // acks=0: the client waits for no answer

	mu sync.Mutex
	// share is what the frame holds of the room for frames, until every batch is in the log on disk or answered for: until then it is counted nowhere
	// else, also when its client has been told of the timeout. From then on the node holds as much as it wants to, and refuses what is too much.
	share    *room.Share
	asked    *kmsg.ProduceRequest // without its batches; until it is answered
	outcomes []produceOutcome     // by partition, in the order of the request; until it is answered
	held     int                  // partitions whose batches the share is for, and one while they are handed over
	left     int                  // partitions that the node has not answered, and one while they are handed over
	failed   error                // the first error
	answered bool
}

// produceOutcome is what became of one batch.
type produceOutcome struct {
	known bool
	base  int64
	err   error
}

// refusal is an error that the protocol has a word for.
type refusal struct {
	code *kerr.Error
	why  string
}

func refuse(code *kerr.Error, format string, args ...any) error {
	return &refusal{code: code, why: fmt.Sprintf(format, args...)}
}

func (r *refusal) Error() string { return r.why }
func (r *refusal) Unwrap() error { return r.code }

func serveProduce(_ context.Context, k *call) error {
	q := requestOf[*kmsg.ProduceRequest](k)
	p := &produce{call: k, asked: q, silent: q.Acks == 0, left: 1}
	for _, t := range q.Topics {
		p.left += len(t.Partitions)
	}
	p.outcomes, k.drop = make([]produceOutcome, p.left-1), p.drop
	if !k.hold(int64(len(q.Topics)+p.left) * produceBytes) {
		p.refuse(errHolding)
		return nil
	}
	p.share, p.held = k.share, p.left
	frameBytes := cap(k.rest)
	k.request, k.rest, k.share = nil, nil, nil // from here on the frame is its batches'

	var log Log
	acks, why := checkProduce(q)
	if why == nil {
		log, why = k.conn.log()
	}
	n := 0
	for i := range q.Topics {
		t := &q.Topics[i]
		name, refused := t.Topic, why
		if k.version >= produceByID && refused == nil {
			name, refused = k.conn.server.topicName(t.TopicID)
		}
		for j := range t.Partitions {
			part := &t.Partitions[j]
			batch, err := part.Records, refused
			part.Records = nil
			if err == nil {
				err = checkBatch(batch, k.version)
			}
			if err != nil {
				p.letGo()
				p.done(n, ingest.ProduceResult{}, err)
			} else {
				if 2*len(batch) < frameBytes {
					batch = bytes.Clone(batch)
				}
				sent := &sentBatch{of: p, at: n}
				log.ProduceAsync(k.conn.ctx, ingest.ProduceRequest{
					Topic: name, TopicID: t.TopicID, Partition: part.Partition, Batch: batch, Acks: acks, Logged: sent.logged,
				}, sent.done)
			}
			n++
		}
	}
	p.letGo()
	k.expires(p.timeOut)
	p.through()
	return nil
}

// errHolding refuses a request for whose answer there is no room.
var errHolding = refuse(kerr.NotEnoughReplicas, "too much waits for the object store: nothing was appended, and the same may be sent again")

// refuse answers at once that nothing was appended.
func (p *produce) refuse(why error) {
	for n := range p.outcomes {
		p.outcomes[n] = produceOutcome{known: true, err: why}
	}
	if p.failed, p.answered = why, true; p.silent {
		p.endSilent()
		return
	}
	p.call.answer(p.response())
}

// endSilent ends a request that wants no answer.
func (p *produce) endSilent() {
	if p.failed != nil {
		// As Kafka does: there is no other way to tell a client that waits for no answer that something is wrong, and it looks for leaders anew.
		p.call.conn.cancel(fmt.Errorf("a produce with acks=0 failed: %w", p.failed))
	}
	p.call.noAnswer()
}

// drop drops what is kept for the answer. The node may have batches that it has not answered for.
func (p *produce) drop() {
	p.mu.Lock()
	p.asked, p.outcomes = nil, nil
	p.mu.Unlock()
}

// checkProduce looks at what concerns a request as a whole.
func checkProduce(q *kmsg.ProduceRequest) (ingest.Acks, error) {
	var acks ingest.Acks
	switch q.Acks {
	case -1:
		acks = ingest.AcksAll
	case 0:
		acks = ingest.AcksNone
	case 1:
		acks = ingest.AcksLeader
	default:
		return ingest.AcksAll, refuse(kerr.InvalidRequiredAcks, "acks=%d; there are 0, 1 and -1, which is all", q.Acks)
	}
	if q.TransactionID != nil && *q.TransactionID != "" {
		return acks, errTransactions
	}
	if p, twice := namedTwice(q); twice {
		return acks, refuse(kerr.InvalidRequest, "the request names partition %d twice; it may have one batch of each", p)
	}
	return acks, nil
}

// namedTwice finds a partition that a request names twice.
func namedTwice(q *kmsg.ProduceRequest) (int32, bool) {
	type name struct {
		topic     string
		id        [16]byte
		partition int32
	}
	total := 0
	for _, t := range q.Topics {
		total += len(t.Partitions)
	}
	if total < 2 {
		return 0, false
	}
	seen := make(map[name]struct{}, total)
	for _, t := range q.Topics {
		for _, p := range t.Partitions {
			n := name{topic: t.Topic, id: t.TopicID, partition: p.Partition}
			if _, twice := seen[n]; twice {
				return p.Partition, true
			}
			seen[n] = struct{}{}
		}
	}
	return 0, false
}

// checkBatch looks at what the protocol wants of a partition's records beyond what every batch must be: the node looks at that.
func checkBatch(records []byte, version int16) error {
	if len(records) == 0 {
		return refuse(kerr.InvalidRecord, "there is no batch; a produce of version %d has exactly one for each partition", version)
	}
	first, rest, err := record.Next(records)
	if err != nil || len(first) < record.HeaderSize {
		return nil //nolint:nilerr // the node says what is wrong with it
	}
	switch {
	case len(rest) > 0:
		return refuse(kerr.InvalidRecord, "%d bytes follow the batch; a produce of version %d has exactly one for each partition", len(rest), version)
	case first.IsTransactional():
		return errTransactions
	case version < produceZstd && first.Codec() == record.Zstd:
		return refuse(kerr.UnsupportedCompressionType, "zstd needs version %d of Produce, and this is version %d", produceZstd, version)
	}
	return nil
}

// topicName finds the name of a topic that a client names by its id.
func (s *Server) topicName(id meta.TopicID) (string, error) {
	index, err := s.Cluster.Index()
	if err != nil {
		return "", err
	}
	t, ok := index.TopicByID(id)
	if !ok {
		return "", refuse(kerr.UnknownTopicID, "there is no topic with the id %s", id)
	}
	return t.Name, nil
}

// sentBatch is a batch that the node was given. It calls the methods from its own goroutine.
type sentBatch struct {
	of    *produce
	at    int
	letGo bool // its bytes are held no more
}

// logged notes that the batch is in the log on disk, or need not be.
func (b *sentBatch) logged() {
	b.of.mu.Lock()
	news := !b.letGo
	b.letGo = true
	b.of.mu.Unlock()
	if news {
		b.of.letGo()
	}
}

func (b *sentBatch) done(result ingest.ProduceResult, err error) {
	b.logged()
	b.of.done(b.at, result, err)
}

// letGo counts one for which nothing is held any more, and gives the frame's share back when it was the last.
func (p *produce) letGo() {
	p.mu.Lock()
	p.held--
	var share *room.Share
	if p.held == 0 {
		share, p.share = p.share, nil
	}
	p.mu.Unlock()
	if share != nil {
		share.Give()
	}
}

// done notes what became of a partition's batch.
func (p *produce) done(n int, result ingest.ProduceResult, err error) {
	p.mu.Lock()
	if n < len(p.outcomes) { // else the client has been told of the timeout
		p.outcomes[n] = produceOutcome{known: true, base: result.BaseOffset, err: err}
	}
	if p.failed == nil {
		p.failed = err
	}
	p.mu.Unlock()
	p.through()
}

// through counts one that is, and answers when it was the last.
func (p *produce) through() {
	p.mu.Lock()
	p.left--
	last := p.left == 0
	answer := last && !p.answered
	p.answered = p.answered || last
	p.mu.Unlock()
	switch {
	case !answer:
	case p.silent:
		p.endSilent() // nobody else has it any more
	default:
		p.call.answerWith(p.response)
	}
}

// timeOut answers with what there is. It is called too when the client is gone: then the answer goes nowhere, and nothing is kept for it any more.
func (p *produce) timeOut() {
	if p.silent && p.call.conn.ctx.Err() == nil {
		return
	}
	p.mu.Lock()
	answer := !p.answered
	p.answered = true
	p.mu.Unlock()
	if answer {
		p.call.answerWith(p.response)
	}
}

// produceTimeout is how long a request wants to wait for its answer.
func produceTimeout(r kmsg.Request) time.Duration {
	q, ok := r.(*kmsg.ProduceRequest)
	if !ok || q.TimeoutMillis <= 0 {
		return usualProduceTimeout
	}
	return min(time.Duration(q.TimeoutMillis)*time.Millisecond, greatestProduceTimeout)
}

// response makes the answer of what is known by now. It is made once: what is not known then is nobody's any more.
func (p *produce) response() kmsg.Response {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := kmsg.NewPtrProduceResponse()
	out.Topics = make([]kmsg.ProduceResponseTopic, len(p.asked.Topics))
	look := produceView{server: p.call.conn.server, version: p.call.version, dialled: p.call.conn.dialled}
	rest := p.outcomes
	for i, t := range p.asked.Topics {
		to := kmsg.NewProduceResponseTopic()
		to.Topic, to.TopicID = t.Topic, t.TopicID
		to.Partitions = make([]kmsg.ProduceResponseTopicPartition, len(t.Partitions))
		look.begin(t)
		for j := range t.Partitions {
			to.Partitions[j] = look.partition(t.Partitions[j].Partition, rest[j], out)
		}
		rest = rest[len(t.Partitions):]
		out.Topics[i] = to
	}
	p.asked, p.outcomes = nil, nil
	return out
}

// produceView is the cluster as an answer tells it: where logs start, and who leads what this node does not. It looks no more often than it must.
type produceView struct {
	server  *Server
	version int16
	dialled func() string

	looked bool
	index  ingest.ClusterIndex // nil when the node begins anew
	known  []broker

	topic meta.Topic
	found bool
}

// begin goes on to a topic.
func (v *produceView) begin(t kmsg.ProduceRequestTopic) {
	if v.version < 5 {
		return // it has no use for any of this
	}
	if !v.looked {
		v.looked = true
		if index, err := v.server.Cluster.Index(); err == nil {
			v.index = index
		}
	}
	v.topic, v.found = meta.Topic{}, false
	switch {
	case v.index == nil:
	case v.version >= produceByID:
		v.topic, v.found = v.index.TopicByID(t.TopicID)
	default:
		v.topic, v.found = v.index.Topic(t.Topic)
	}
}

// partition tells a partition's outcome. A leader whom the client may not know is told, and added to the brokers of the answer.
func (v *produceView) partition(n int32, o produceOutcome, in *kmsg.ProduceResponse) kmsg.ProduceResponseTopicPartition {
	out := kmsg.NewProduceResponseTopicPartition()
	out.Partition, out.BaseOffset = n, -1
	inside := v.found && n >= 0 && n < v.topic.Partitions
	if inside {
		out.LogStartOffset = v.index.Start(meta.Partition{Topic: v.topic.ID, Partition: n})
	}
	if !o.known {
		o.err = refuse(kerr.RequestTimedOut, "the timeout of the request has passed; the batch may or may not be in the log")
	}
	if o.err == nil {
		out.BaseOffset = o.base
		return out
	}
	out.ErrorCode, out.ErrorMessage = codeOf(o.err), messageOf(o.err)
	if v.version >= produceByID && out.ErrorCode == kerr.UnknownTopicOrPartition.Code && ingest.ReasonOf(o.err) == ingest.ReasonUnknownTopic {
		out.ErrorCode = kerr.UnknownTopicID.Code
	}
	if inside && v.version >= produceLeader && out.ErrorCode == kerr.NotLeaderForPartition.Code {
		v.tellLeader(&out, in)
	}
	return out
}

func (v *produceView) tellLeader(out *kmsg.ProduceResponseTopicPartition, in *kmsg.ProduceResponse) {
	if v.known == nil {
		v.known = v.server.brokers(v.index, v.dialled())
	}
	id, epoch := leaderIn(v.index, v.known, v.topic, out.Partition)
	if id < 0 || id == BrokerID(v.server.Self) {
		return // the client asks for it until there is another
	}
	out.CurrentLeader.LeaderID, out.CurrentLeader.LeaderEpoch = id, epoch
	if slices.ContainsFunc(in.Brokers, func(b kmsg.ProduceResponseBroker) bool { return b.NodeID == id }) {
		return
	}
	for _, b := range v.known {
		if b.id == id {
			told := kmsg.NewProduceResponseBroker()
			told.NodeID, told.Host, told.Port, told.Rack = b.id, b.host, b.port, rack(b.zone)
			in.Brokers = append(in.Brokers, told)
		}
	}
}
