package ingest

import (
	"slices"
	"time"

	"github.com/tidemark-io/tidemark/ingest/wal"
	"github.com/tidemark-io/tidemark/meta"
)

// FetchPartition asks for one partition from an offset on.
type FetchPartition struct {
	Partition int32
	Offset    int64
}

// FetchRequest asks for batches of one topic.
type FetchRequest struct {
	Topic string
	// TopicID is the id that the topic must have; the zero id means any.
	TopicID    meta.TopicID
	Partitions []FetchPartition
	// MaxBytes caps the answer, all partitions together; the first batch is given even when it is larger.
	MaxBytes int
	// MinBytes is what to wait for, up to MaxWait.
	MinBytes int
	MaxWait  time.Duration
}

// PartitionBatches is a piece of one partition's log.
type PartitionBatches struct {
	Partition int32
	// Batches are whole batches one behind the other, in one or more slices; shared and read only. The first may begin below
	// the offset asked for.
	Batches [][]byte
	// Lost says that the offset asked for was given up with the disk of a node, and which ones were with it: there are no batches, and
	// NextOffset lies behind them. What stands before a lost range and what stands behind it come in two answers.
	Lost []meta.OffsetRange
	// NextOffset is where to go on.
	NextOffset     int64
	HighWatermark  int64
	LogStartOffset int64
}

// fetchCall is one fetch on its way through the node.
type fetchCall struct {
	partitions []fetchTarget
	maxBytes   int
	minBytes   int
	deadline   time.Time
	// reply takes exactly one plan and has room for it.
	reply chan fetchPlan

	waiting bool
}

type fetchTarget struct {
	id     meta.Partition
	offset int64
}

// fetchPlan says where the batches of an answer are; the caller reads them without the loop.
type fetchPlan struct {
	partitions []partitionPlan
	err        *Error
}

// partitionPlan is one partition's part. With fromTier the offset lies below the tail: look it up in the index.
type partitionPlan struct {
	fetchTarget
	start, hwm int64
	fromTier   bool
	tail       []plannedBatch
	lost       meta.OffsetRange // when the offset lies in it
}

// plannedBatch is a batch of the tail as it was when the plan was made: bytes, or where the log has them.
type plannedBatch struct {
	bytes      []byte
	at         wal.LSN
	base, next int64
	size       int
	appendTime int64
	id         meta.Partition
	epoch      meta.Epoch
}

// logView is what a fetch needs to know of the partitions. It answers for the moment of the call.
type logView interface {
	// isComing tells whether a partition is about to be led, and worth waiting for.
	isComing(id meta.Partition) bool
	// available counts the bytes that could be given from an offset, up to enough of them.
	available(target fetchTarget, enough int) (int, *Error)
	// plan lists where the batches are: none when maxBytes is not above 0, else at least one.
	plan(target fetchTarget, maxBytes int) (partitionPlan, *Error)
}

// fetcher is the step machine of fetches and long polls: it answers as soon as enough bytes are there, or at the deadline
// with what there is. It does no I/O and holds no clock.
type fetcher struct {
	view        logView
	byPartition map[meta.Partition][]*fetchCall
	deadlines   []*fetchCall // every waiting call, in no order
}

type fetchEvent interface{ isFetchEvent() }

type (
	// fetchAsked: a call has come.
	fetchAsked struct {
		call *fetchCall
		now  time.Time
	}
	// fetchAdvanced: the high watermark of a partition went up, or the partition was lost or is led.
	fetchAdvanced struct{ id meta.Partition }
	// fetchTick: time has passed.
	fetchTick struct{ now time.Time }
	// fetchCanceled: the caller is gone.
	fetchCanceled struct{ call *fetchCall }
	// fetchEnded: the node stops; everyone is told cause.
	fetchEnded struct{ cause *Error }
)

func (fetchAsked) isFetchEvent()    {}
func (fetchAdvanced) isFetchEvent() {}
func (fetchTick) isFetchEvent()     {}
func (fetchCanceled) isFetchEvent() {}
func (fetchEnded) isFetchEvent()    {}

// Step applies one event and returns when to tick again; zero for never.
func (f *fetcher) Step(event fetchEvent) time.Time {
	switch e := event.(type) {
	case fetchAsked:
		ready, err := f.ready(e.call)
		if err != nil || ready || !e.now.Before(e.call.deadline) {
			f.answer(e.call, err)
			break
		}
		e.call.waiting = true
		for _, t := range e.call.partitions {
			f.byPartition[t.id] = append(f.byPartition[t.id], e.call)
		}
		f.deadlines = append(f.deadlines, e.call)
	case fetchAdvanced:
		if len(f.byPartition[e.id]) == 0 {
			return time.Time{}
		}
		for _, call := range slices.Clone(f.byPartition[e.id]) {
			if !call.waiting {
				continue // answered already, by another of its partitions
			}
			if ready, err := f.ready(call); ready || err != nil {
				f.remove(call)
				f.answer(call, err)
			}
		}
		return time.Time{} // whoever still waits has asked for its time already
	case fetchTick:
		for _, call := range append([]*fetchCall(nil), f.deadlines...) {
			if !e.now.Before(call.deadline) {
				_, err := f.ready(call)
				f.remove(call)
				f.answer(call, err)
			}
		}
	case fetchCanceled:
		f.remove(e.call)
	case fetchEnded:
		for _, call := range append([]*fetchCall(nil), f.deadlines...) {
			f.remove(call)
			f.answer(call, e.cause)
		}
	}
	var next time.Time
	for _, call := range f.deadlines {
		if next.IsZero() || call.deadline.Before(next) {
			next = call.deadline
		}
	}
	return next
}

func (f *fetcher) ready(call *fetchCall) (bool, *Error) {
	total := 0
	for _, t := range call.partitions {
		if f.view.isComing(t.id) {
			return false, nil
		}
		n, err := f.view.available(t, call.minBytes-total)
		if err != nil {
			return false, err
		}
		total += n
	}
	return total >= call.minBytes, nil
}

func (f *fetcher) answer(call *fetchCall, err *Error) {
	if err != nil {
		call.reply <- fetchPlan{err: err}
		return
	}
	left := call.maxBytes
	plan := fetchPlan{partitions: make([]partitionPlan, 0, len(call.partitions))}
	for _, t := range call.partitions {
		p, err := f.view.plan(t, left)
		if err != nil {
			call.reply <- fetchPlan{err: err}
			return
		}
		for _, b := range p.tail {
			left -= b.size
		}
		plan.partitions = append(plan.partitions, p)
	}
	call.reply <- plan
}

func (f *fetcher) remove(call *fetchCall) {
	if !call.waiting {
		return
	}
	call.waiting = false
	for _, t := range call.partitions {
		f.byPartition[t.id] = without(f.byPartition[t.id], call)
		if len(f.byPartition[t.id]) == 0 {
			delete(f.byPartition, t.id)
		}
	}
	f.deadlines = without(f.deadlines, call)
}

func without(list []*fetchCall, call *fetchCall) []*fetchCall {
	for i, c := range list {
		if c == call {
			last := len(list) - 1
			list[i], list[last] = list[last], nil
			return list[:last]
		}
	}
	return list
}
