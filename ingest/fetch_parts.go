package ingest

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tidemark-io/tidemark/ingest/wal"
	"github.com/tidemark-io/tidemark/meta"
)

// PartTarget asks for one partition of any topic from an offset on.
type PartTarget struct {
	Topic     meta.TopicID
	Partition int32
	Offset    int64
	// MaxBytes caps what is given of the partition; 0: as much as of all.
	MaxBytes int
	// Epoch is the one at which the caller believes it to be led; 0: it does not know. Another is ErrOldEpoch or ErrNewEpoch.
	Epoch meta.Epoch
}

// FetchPartsRequest asks for batches of partitions of many topics.
type FetchPartsRequest struct {
	Parts []PartTarget
	// MaxBytes caps the answer, all partitions together, and each partition has its own cap besides. The first batch of the first partition that has
	// one is given even when it is larger.
	MaxBytes int
	// MinBytes is what to wait for, up to MaxWait; of many partitions 1 MiB at most.
	MinBytes int
	MaxWait  time.Duration
	// Reserve, when there is one, is asked once it is known what is to be read, and before it is read, for room for so many bytes. It does not block; when
	// it says no, nothing is read and the answer is ErrNoRoom. It may be asked again, for what is to be read after that.
	Reserve func(bytes int64) bool
	// Buffer, when there is one, gives memory for so many bytes that are read from the object store. What is fetched may lie in it: the caller uses it
	// for something else only when it is through with the answer, or when the call has failed. One goroutine calls it at a time.
	Buffer func(bytes int) []byte
}

// PartFetched is what came of a PartTarget. With Err, which is an *Error, nothing else counts.
type PartFetched struct {
	PartitionBatches

	Topic meta.TopicID
	// LeaderEpoch is the one at which this node leads the partition. It is 0, and HighWatermark and LogStartOffset are -1, for a partition that this
	// node is about to lead: there is nothing to be told of it yet.
	LeaderEpoch meta.Epoch
	Err         error
}

var (
	// ErrNoRoom says that FetchPartsRequest.Reserve said no.
	ErrNoRoom = errors.New("there is no room for what was to be read")
	// ErrOldEpoch says that the caller believes in a leader of the past. It comes in an error of ReasonNotLeader.
	ErrOldEpoch = errors.New("the leader epoch is not the newest")
	// ErrNewEpoch says that the caller knows of a newer leader than this node does. It comes in an error of ReasonNotLeader.
	ErrNewEpoch = errors.New("the leader epoch is newer than this node knows")
)

// GreatestFetchParts is how many partitions one fetch may name.
const GreatestFetchParts = 10_000

// A fetch of more than fewParts partitions waits for no more than manyPartsMinBytes: the node looks at each of them for what it waits for.
const (
	fewParts          = 100
	manyPartsMinBytes = 1 << 20
)

// FetchParts is Fetch for partitions of many topics, each of which stands for itself: what goes wrong with one is in its Err, and has the call answered
// at once. Offsets that were given up with a disk are passed over, so what is given may begin above the offset that was asked for; NextOffset is behind it. The
// answer has one element for each of r.Parts, in their order.
//
// The call itself fails when the node serves nothing, when ctx ends, and with ErrNoRoom.
func (n *Node) FetchParts(ctx context.Context, r FetchPartsRequest) ([]PartFetched, error) {
	began := n.deps.Clock.Now()
	ctx, span := n.deps.Telemetry.Span(ctx, "tidemark.fetch")
	out, err := n.fetchParts(ctx, r, began)
	EndSpan(span, err)
	if err != nil {
		if !errors.Is(err, ErrNoRoom) {
			n.deps.Telemetry.FetchFailed(ctx, err)
		}
		return nil, err
	}
	n.deps.Telemetry.Fetched(ctx, n.deps.Clock.Now().Sub(began))
	return out, nil
}

func (n *Node) fetchParts(ctx context.Context, r FetchPartsRequest, began time.Time) ([]PartFetched, error) {
	if len(r.Parts) > GreatestFetchParts {
		return nil, Errorf(ReasonTooLarge, "a fetch names at most %d partitions, not %d", GreatestFetchParts, len(r.Parts))
	}
	if r.MaxBytes <= 0 || r.MaxBytes > GreatestFetchBytes {
		r.MaxBytes = GreatestFetchBytes
	}
	r.MinBytes = min(max(r.MinBytes, 1), r.MaxBytes)
	if len(r.Parts) > fewParts {
		r.MinBytes = min(r.MinBytes, manyPartsMinBytes)
	}
	f := partsFetch{node: n, request: r, left: r.MaxBytes, out: make([]PartFetched, len(r.Parts)), deadline: began.Add(r.MaxWait)}
	f.todo = make([]int, len(r.Parts))
	for k, p := range r.Parts {
		f.todo[k] = k
		f.out[k].Topic, f.out[k].Partition = p.Topic, p.Partition
	}
	for attempt := 1; len(f.todo) > 0; attempt++ {
		again, err := f.round(ctx, attempt == readAttempts)
		switch {
		case ctx.Err() != nil:
			return nil, callerGone(ctx, "fetch")
		case err != nil:
			return nil, err
		case again:
			attempt = 0
		}
	}
	return f.out, nil
}

// partsFetch is a FetchParts under way. A round plans and reads everything that is to do, and leaves to the next what was gone before it was read.
type partsFetch struct {
	node     *Node
	request  FetchPartsRequest
	deadline time.Time
	left     int // of MaxBytes
	todo     []int
	out      []PartFetched
	// confirmed are those of which etcd says that this node leads them, once something rests on it.
	confirmed map[int]bool
}

// round is one look at everything that is to do. again says that what is left is sure to come.
func (f *partsFetch) round(ctx context.Context, last bool) (again bool, err error) {
	i, refused := f.node.reading()
	if refused != nil {
		return false, refused
	}
	call := &fetchCall{maxBytes: f.left, minBytes: f.request.MinBytes, deadline: f.deadline, each: true, reply: make(chan fetchPlan, 1)}
	call.partitions = make([]fetchTarget, len(f.todo))
	for n, k := range f.todo {
		p := f.request.Parts[k]
		call.partitions[n] = fetchTarget{id: meta.Partition{Topic: p.Topic, Partition: p.Partition}, offset: p.Offset, maxBytes: p.MaxBytes, epoch: p.Epoch}
	}
	plan, refused := i.awaitPlan(ctx, call)
	if refused != nil {
		return false, refused
	}
	if doubted := f.doubted(plan); len(doubted) > 0 {
		f.confirm(ctx, i, doubted)
		return true, nil
	}
	read, err := i.readPlan(ctx, plan, f.left, true, f.request.Reserve, f.request.Buffer)
	if err != nil {
		return false, err
	}
	var missing []int
	trimmed := false
	for n, k := range f.todo {
		got := read[n]
		switch {
		case got.Err == nil:
			for _, b := range got.Batches {
				f.left -= len(b)
			}
		case last || plan.partitions[n].err != nil:
			got.Err = readError(i.topicName(got.Topic), got.Err)
		default:
			trimmed = trimmed || errors.Is(got.Err, wal.ErrTrimmed)
			missing = append(missing, k)
			continue
		}
		f.out[k] = got
	}
	f.todo = missing
	f.deadline = time.Time{} // there is something to answer with
	return trimmed && i.nextRevision(ctx), nil
}

// doubted are those that are told to be out of range while nobody has asked etcd whether this node leads them.
func (f *partsFetch) doubted(plan fetchPlan) (out []int) {
	for n, k := range f.todo {
		if err := plan.partitions[n].err; err != nil && err.Reason == ReasonOffsetOutOfRange && !f.confirmed[k] {
			out = append(out, k)
		}
	}
	return out
}

// confirm asks etcd for the leaders of some, and is through with those that this node does not lead.
func (f *partsFetch) confirm(ctx context.Context, i *incarnation, doubted []int) {
	ids := make([]meta.Partition, len(doubted))
	for n, k := range doubted {
		ids[n] = meta.Partition{Topic: f.request.Parts[k].Topic, Partition: f.request.Parts[k].Partition}
	}
	states, err := i.confirmedStates(ctx, ids)
	if f.confirmed == nil {
		f.confirmed = make(map[int]bool, len(doubted))
	}
	for n, k := range doubted {
		f.confirmed[k] = true
		refused := err
		if err == nil {
			refused = states[n].Err
		}
		if f.out[k].Err = refused; refused != nil {
			f.deadline = time.Time{} // it is told at once
		}
	}
	f.todo = slices.DeleteFunc(f.todo, func(k int) bool { return f.out[k].Err != nil })
}

// awaitPlan asks the loop where the batches are, and waits for them as long as the call says.
func (i *incarnation) awaitPlan(ctx context.Context, call *fetchCall) (fetchPlan, *Error) {
	if !i.post(func(now time.Time) { i.core.fetchAsked(call, now) }) {
		return fetchPlan{}, beginsAnew()
	}
	select {
	case plan := <-call.reply:
		return plan, plan.err
	case <-ctx.Done():
		i.post(func(time.Time) { i.core.fetchCanceled(call) })
		return fetchPlan{}, callerGone(ctx, "fetch")
	}
}

// topicName is for people: the id of a topic that is not known any more.
func (i *incarnation) topicName(id meta.TopicID) string {
	if t, ok := i.follower.TopicByID(id); ok {
		return t.Name
	}
	return id.String()
}

func wrongEpoch(topic string, partition int32, asked, leads meta.Epoch) *Error {
	cause := ErrOldEpoch
	if asked > leads {
		cause = ErrNewEpoch
	}
	return Errorf(ReasonNotLeader, "topic %s partition %d is led at epoch %d, not %d: %w", topic, partition, leads, asked, cause)
}
