package ingest

import (
	"container/heap"
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
	// each: what goes wrong with a partition concerns that partition alone and is told at once, offsets that were lost are passed over, and a partition
	// that is about to be led counts as one with nothing new. Otherwise the first error fails the call, and lost offsets are told.
	each bool
	// reply takes exactly one plan and has room for it.
	reply chan fetchPlan

	waiting bool
	at      int // in the fetcher's deadlines, while waiting
	// While waiting, for each partition; and how many bytes the call could be given, only with each.
	waits []fetchWaiting
	total int
}

// fetchWaiting is one partition of a call that waits.
type fetchWaiting struct {
	place int   // in the fetcher's list of the partition
	next  int64 // behind what is counted in the call's total, or where counting begins
}

type fetchTarget struct {
	id     meta.Partition
	offset int64
	// maxBytes caps what is given of the partition, and epoch is the one at which it must be led; 0 is any. Only with fetchCall.each.
	maxBytes int
	epoch    meta.Epoch
}

// fetchPlan says where the batches of an answer are; the caller reads them without the loop.
type fetchPlan struct {
	partitions []partitionPlan
	err        *Error
}

// partitionPlan is one partition's part. With fromTier the offset lies below the tail: look it up in the index.
type partitionPlan struct {
	fetchTarget
	leads      meta.Epoch // at which it is led
	start, hwm int64
	fromTier   bool
	tail       []plannedBatch
	lost       meta.OffsetRange // when the offset lies in it
	err        *Error           // only with fetchCall.each
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
	// available counts the bytes that could be given from an offset, up to enough of them. When it is less, next is where there is no more.
	available(target fetchTarget, enough int) (n int, next int64, err *Error)
	// plan lists where the batches are: none when maxBytes is not above 0, else at least one.
	plan(target fetchTarget, maxBytes int) (partitionPlan, *Error)
	// passLost moves an offset that was lost to the first behind it that was not.
	passLost(target fetchTarget) fetchTarget
}

// fetcher is the step machine of fetches and long polls: it answers as soon as enough bytes are there, or at the deadline
// with what there is. It does no I/O and holds no clock.
type fetcher struct {
	view        logView
	byPartition map[meta.Partition][]fetchWait
	deadlines   deadlines // every waiting call
}

// fetchWait is a call that waits for a partition, the call's n-th.
type fetchWait struct {
	call *fetchCall
	n    int
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
		for n, t := range e.call.partitions {
			list := f.byPartition[t.id]
			e.call.waits[n].place = len(list)
			f.byPartition[t.id] = append(list, fetchWait{call: e.call, n: n})
		}
		heap.Push(&f.deadlines, e.call)
	case fetchAdvanced:
		if len(f.byPartition[e.id]) == 0 {
			return time.Time{}
		}
		for _, w := range slices.Clone(f.byPartition[e.id]) {
			if !w.call.waiting {
				continue // answered already, by another of its partitions
			}
			if ready, err := f.stirred(w); ready || err != nil {
				f.remove(w.call)
				f.answer(w.call, err)
			}
		}
		return time.Time{} // whoever still waits has asked for its time already
	case fetchTick:
		for len(f.deadlines) > 0 && !e.now.Before(f.deadlines[0].deadline) {
			call := f.deadlines[0]
			var err *Error
			if !call.each {
				_, err = f.ready(call)
			}
			f.remove(call)
			f.answer(call, err)
		}
	case fetchCanceled:
		f.remove(e.call)
	case fetchEnded:
		for len(f.deadlines) > 0 {
			call := f.deadlines[0]
			f.remove(call)
			f.answer(call, e.cause)
		}
	}
	if len(f.deadlines) == 0 {
		return time.Time{}
	}
	return f.deadlines[0].deadline
}

// stirred is ready after something has happened to one partition of a call that waits. A call may name thousands, so that of one in which each stands for
// itself only that partition is looked at, and only what is new of it is counted.
func (f *fetcher) stirred(w fetchWait) (bool, *Error) {
	if !w.call.each {
		return f.ready(w.call)
	}
	return f.count(w.call, w.n) || w.call.total >= w.call.minBytes, nil
}

// ready looks at all partitions of a call.
func (f *fetcher) ready(call *fetchCall) (bool, *Error) {
	call.total = 0
	if call.waits == nil {
		call.waits = make([]fetchWaiting, len(call.partitions))
	}
	for n, t := range call.partitions {
		if call.each {
			call.waits[n].next = t.offset
			if f.count(call, n) {
				return true, nil
			}
			continue
		}
		if f.view.isComing(t.id) {
			return false, nil
		}
		more, _, err := f.view.available(t, call.minBytes-call.total)
		if err != nil {
			return false, err
		}
		call.total += more
	}
	return call.total >= call.minBytes, nil
}

// count adds to the total of a call what there is of its n-th partition and not counted yet. It is true when something is wrong there: that is told at once.
func (f *fetcher) count(call *fetchCall, n int) bool {
	t := call.partitions[n]
	if f.view.isComing(t.id) {
		return false
	}
	t.offset = call.waits[n].next
	more, next, err := f.view.available(f.view.passLost(t), call.minBytes-call.total)
	if err != nil {
		return true
	}
	call.total += more
	call.waits[n].next = next
	return false
}

func (f *fetcher) answer(call *fetchCall, err *Error) {
	if err != nil {
		call.reply <- fetchPlan{err: err}
		return
	}
	left, given := call.maxBytes, false
	plan := fetchPlan{partitions: make([]partitionPlan, 0, len(call.partitions))}
	for _, t := range call.partitions {
		var p partitionPlan
		if call.each {
			p = f.planOf(t, left, given)
		} else if p, err = f.view.plan(t, left); err != nil {
			call.reply <- fetchPlan{err: err}
			return
		}
		for _, b := range p.tail {
			left -= b.size
		}
		given = given || p.fromTier || len(p.tail) > 0
		plan.partitions = append(plan.partitions, p)
	}
	call.reply <- plan
}

// planOf plans one partition of a call in which each stands for itself. The first batch is given even when it is larger than the caps, but
// only once in an answer: given tells that another partition comes before with something.
func (f *fetcher) planOf(t fetchTarget, left int, given bool) partitionPlan {
	if f.view.isComing(t.id) {
		return partitionPlan{fetchTarget: t, start: -1, hwm: -1}
	}
	t = f.view.passLost(t)
	if _, _, err := f.view.available(t, 1); err != nil {
		return partitionPlan{fetchTarget: t, err: err}
	}
	if t.maxBytes > 0 {
		left = min(left, t.maxBytes)
	}
	p, err := f.view.plan(t, left)
	if err != nil {
		return partitionPlan{fetchTarget: t, err: err}
	}
	if given && len(p.tail) > 0 && p.tail[0].size > left {
		p.tail = nil
	}
	return p
}

func (f *fetcher) remove(call *fetchCall) {
	if !call.waiting {
		return
	}
	call.waiting = false
	for n, t := range call.partitions {
		list, place := f.byPartition[t.id], call.waits[n].place
		last := len(list) - 1
		moved := list[last]
		list[place], list[last] = moved, fetchWait{}
		moved.call.waits[moved.n].place = place
		if last == 0 {
			delete(f.byPartition, t.id)
		} else {
			f.byPartition[t.id] = list[:last]
		}
	}
	call.waits = nil
	heap.Remove(&f.deadlines, call.at)
}

// deadlines is a heap of calls, the one that waits the shortest first.
type deadlines []*fetchCall

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].deadline.Before(d[j].deadline) }

func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].at, d[j].at = i, j
}

// Push is heap.Interface's.
func (d *deadlines) Push(x any) {
	call := x.(*fetchCall) //nolint:errcheck,forcetypeassert // heap gives back what it was given
	call.at = len(*d)
	*d = append(*d, call)
}

// Pop is heap.Interface's.
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	call := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	return call
}
