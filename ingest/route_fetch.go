package ingest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

const (
	// fetchGrace is how long an answer that has enough waits for the leaders that have not answered yet.
	fetchGrace = 5 * time.Millisecond
	// owedEvery is how often a fetch that waits for more than that looks whether it still has to.
	owedEvery = 100 * time.Millisecond
)

// Fetch reads from every leader that the request touches, at once. It answers when MinBytes have come and a moment more has passed, at
// the latest after MaxWait.
//
// Only leaders that wait for something to come are left behind then. One that has something, as far as the index knows, is waited for up to MaxWait
// and the way there and back: if it takes longer to read than the others, as from the object store, it would otherwise be asked again with
// every fetch and never get to answer one.
//
// A partition whose leader is away is asked for again whenever the index changes, until MaxWait is over, and then is answered without
// batches, at the offset asked for and with what the index knows of its ends: a long poll sees no error when a leader dies, however often it is
// repeated. ListLeaders tells what such a partition waits for. A fetch that does not wait, with MaxWait 0, is refused with NOT_LEADER instead when no leader at all
// could be asked, because nothing would tell its answer from one that says that there is nothing more.
func (r *Router) Fetch(ctx context.Context, q FetchRequest) ([]PartitionBatches, error) {
	h, refused := r.here(ctx)
	if refused != nil {
		return nil, refused
	}
	if h.forwarded || len(q.Partitions) == 0 {
		out, err := h.home.Fetch(ctx, q)
		if err != nil && len(q.Partitions) > 0 {
			err = r.nameLeader(h.index, q.Topic, q.Partitions[0].Partition, err)
		}
		return out, err
	}
	if q.MaxBytes <= 0 || q.MaxBytes > GreatestFetchBytes {
		q.MaxBytes = GreatestFetchBytes
	}
	q.MinBytes = min(max(q.MinBytes, 1), q.MaxBytes)
	least, most := q.Partitions[0].Partition, q.Partitions[0].Partition
	for _, p := range q.Partitions {
		least, most = min(least, p.Partition), max(most, p.Partition)
	}
	topic, err := h.named(ctx, q.Topic, q.TopicID, most+1)
	if err != nil {
		return nil, err
	}
	q.TopicID = topic.ID
	for _, number := range []int32{least, most} {
		if number < 0 || number >= topic.Partitions {
			return nil, unknownPartition(q.Topic, number, topic.Partitions)
		}
	}
	f := &spreadFetch{
		router: r, topic: topic, request: q, deadline: r.clock.Now().Add(q.MaxWait), open: slices.Clone(q.Partitions),
		got: make(map[int32]PartitionBatches, len(q.Partitions)),
	}
	return f.run(ctx)
}

// spreadFetch is one fetch on its way to several leaders. Its fields are run's alone.
type spreadFetch struct {
	router   *Router
	topic    meta.Topic
	request  FetchRequest
	deadline time.Time

	open    []FetchPartition // nobody is being asked for
	asking  []*leaderPart    // leaders that have not answered
	got     map[int32]PartitionBatches
	bytes   int
	news    bool  // something has come that is worth an answer by itself
	away    error // why a leader could not be asked, the last time
	answers chan leaderFetched
	work    sync.WaitGroup
}

// leaderFetched is what came of asking one leader.
type leaderFetched struct {
	asked *leaderPart
	got   []PartitionBatches
	err   error
}

func (f *spreadFetch) run(ctx context.Context) ([]PartitionBatches, error) {
	began := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer f.work.Wait()
	defer cancel()
	// Every answer has a place, so that nobody who answers late is left behind.
	f.answers = make(chan leaderFetched, len(f.open))
	clock := f.router.clock
	timer := clock.NewTimer(0)
	defer timer.Stop()
	changed, refused := f.ask(ctx)
	if refused != nil {
		return nil, refused
	}
	var again time.Time // when the open ones are asked for at the latest
	if len(f.open) > 0 {
		again = clock.Now().Add(askAgain)
	}
	var enough time.Time // when what has come is given
	for {
		now := clock.Now()
		if (f.news || f.bytes >= f.request.MinBytes) && enough.IsZero() {
			enough = now.Add(fetchGrace)
		}
		late := !now.Before(f.deadline)
		owed := !enough.IsZero() && !now.Before(enough) && f.owed()
		switch {
		case len(f.asking) == 0 && (len(f.open) == 0 || late),
			len(f.asking) == 0 && !enough.IsZero(),
			!enough.IsZero() && !now.Before(enough) && !owed,
			!now.Before(f.deadline.Add(peerSlack)):
			return f.answer()
		}
		wake := f.deadline.Add(peerSlack)
		if !late {
			wake = f.deadline
		}
		if owed {
			enough = now.Add(owedEvery)
		}
		if !enough.IsZero() && enough.Before(wake) {
			wake = enough
		}
		var index <-chan struct{}
		if len(f.open) > 0 && !late {
			index = changed
			if again.Before(wake) {
				wake = again
			}
		}
		timer.Reset(wake.Sub(now))
		select {
		case a := <-f.answers:
			if err := f.take(a); err != nil {
				return nil, err
			}
			if len(f.open) > 0 && again.IsZero() {
				again = clock.Now().Add(askAgain)
			}
			continue
		case <-index:
			if again.Sub(clock.Now()) > askAgain-askAgainLeast { // the index changes with every commit
				again, changed = clock.Now().Add(askAgainLeast), nil
				continue
			}
		case <-timer.C():
			if len(f.open) == 0 || clock.Now().Before(again) || !clock.Now().Before(f.deadline) {
				continue
			}
		case <-began.Done():
			return nil, callerGone(began, "fetch from topic "+f.topic.Name)
		}
		if changed, refused = f.ask(ctx); refused != nil {
			return nil, refused
		}
		again = time.Time{}
		if len(f.open) > 0 {
			again = clock.Now().Add(askAgain)
		}
	}
}

// ask asks the leaders of what is open, and returns what is closed when the index knows more. It fails when the topic is gone.
func (f *spreadFetch) ask(ctx context.Context) (changed <-chan struct{}, refused error) {
	h, ok := f.here(ctx)
	if !ok {
		return nil, nil
	}
	changed = h.index.Changed()
	if _, there := h.index.TopicByID(f.topic.ID); !there {
		return nil, unknownTopic(f.topic.Name)
	}
	parts, open, away := splitFetch(h, f.topic, f.open)
	if away != nil && away.Reason != ReasonNotLeader {
		return nil, away
	}
	f.open = open
	if away != nil {
		f.away = away
	}
	left := max(f.request.MaxBytes-f.bytes, 1)
	for _, part := range parts {
		q := f.request
		q.Partitions = part.partitions
		// Each may give its share and one batch.
		q.MaxBytes = max(left/len(parts), 1)
		q.MinBytes = min(max(f.request.MinBytes/len(parts), 1), q.MaxBytes)
		q.MaxWait = max(f.deadline.Sub(f.router.clock.Now()), 0)
		f.asking = append(f.asking, &part)
		f.work.Go(func() {
			got, err := f.fetchFrom(ctx, h, part.node, q)
			f.answers <- leaderFetched{&part, got, err}
		})
	}
	return changed, nil
}

// owed tells whether a leader that has not answered yet has something to give, and still leads it, as far as the index knows.
func (f *spreadFetch) owed() bool {
	if len(f.asking) == 0 {
		return false
	}
	index := f.router.indexNow()
	if index == nil {
		return false
	}
	for _, part := range f.asking {
		for _, p := range part.partitions {
			id := meta.Partition{Topic: f.topic.ID, Partition: p.Partition}
			if l, led := index.Leader(id); led && l.Node == part.node && index.End(id) > p.Offset {
				return true
			}
		}
	}
	return false
}

// here finds this node; false while it begins anew. The leaders may be there all the same, but nobody here knows who they are.
func (f *spreadFetch) here(ctx context.Context) (here, bool) {
	h, refused := f.router.here(ctx)
	if refused != nil {
		f.away = refused
		return h, false
	}
	return h, true
}

func (f *spreadFetch) fetchFrom(ctx context.Context, h here, node meta.NodeID, q FetchRequest) ([]PartitionBatches, error) {
	if node == f.router.self {
		return h.home.Fetch(ctx, q)
	}
	remote, refused := f.router.remote(node)
	if refused != nil {
		return nil, refused
	}
	return remote.fetch(ctx, q)
}

// take notes an answer.
func (f *spreadFetch) take(a leaderFetched) error {
	f.asking = slices.DeleteFunc(f.asking, func(p *leaderPart) bool { return p == a.asked })
	switch {
	case a.err == nil:
		for _, p := range a.got {
			f.got[p.Partition] = p
			f.news = f.news || len(p.Lost) > 0
			for _, b := range p.Batches {
				f.bytes += len(b)
			}
		}
		return nil
	case leaderAway(a.err):
		f.open = append(f.open, a.asked.partitions...)
		f.away = a.err
		return nil
	}
	return a.err
}

// answer puts together what has come, in the order of the request and not above its cap, and what the index knows of the rest.
func (f *spreadFetch) answer() ([]PartitionBatches, error) {
	if len(f.got) == 0 && f.request.MaxWait <= 0 && f.away != nil {
		return nil, Errorf(ReasonNotLeader, "no leader of the partitions of topic %s that were asked for can be asked now: %w", f.topic.Name, f.away).WithRetryAfter(askAgain)
	}
	index := f.router.indexNow()
	out := make([]PartitionBatches, 0, len(f.request.Partitions))
	left := f.request.MaxBytes
	for _, asked := range f.request.Partitions {
		p, ok := f.got[asked.Partition]
		if !ok {
			// Whoever asks for an offset has seen the high watermark at it or above; the mark must not go back.
			p = PartitionBatches{Partition: asked.Partition, NextOffset: asked.Offset, HighWatermark: asked.Offset}
			if index != nil {
				id := meta.Partition{Topic: f.topic.ID, Partition: asked.Partition}
				p.HighWatermark, p.LogStartOffset = max(asked.Offset, index.End(id)), index.Start(id)
			}
		}
		size := 0
		for _, b := range p.Batches {
			size += len(b)
		}
		if size > 0 && left <= 0 {
			p.Batches, p.NextOffset, size = nil, asked.Offset, 0
		}
		left -= size
		out = append(out, p)
	}
	return out, nil
}

// indexNow is the index of this node; nil while it begins anew.
func (r *Router) indexNow() clusterIndex {
	h, refused := r.here(context.Background())
	if refused != nil {
		return nil
	}
	return h.index
}

// leaderPart is what one leader is asked for.
type leaderPart struct {
	node       meta.NodeID
	partitions []FetchPartition
}

// splitFetch shares partitions out among their leaders, by node; open are those that nobody can be asked for, and away says why for one of
// them.
func splitFetch(h here, topic meta.Topic, wanted []FetchPartition) (parts []leaderPart, open []FetchPartition, away *Error) {
	for _, p := range wanted {
		to := h.leaderOf(topic, p.Partition)
		if to.refused != nil {
			open = append(open, p)
			if away == nil || to.refused.Reason != ReasonNotLeader {
				away = to.refused
			}
			continue
		}
		i := slices.IndexFunc(parts, func(part leaderPart) bool { return part.node == to.node })
		if i < 0 {
			i = len(parts)
			parts = append(parts, leaderPart{node: to.node})
		}
		parts[i].partitions = append(parts[i].partitions, p)
	}
	return parts, open, away
}
