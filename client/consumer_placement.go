package client

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"
)

// Where partitions are read.
//
// All partitions of a topic with one leader are read over one stream, the main one of that leader. A stream ends as a whole, so that one
// partition which its node does not serve would take the others with it again and again. Therefore a partition that failed comes back in a
// trial stream beside the main one, and those that fail on are split up: after each failure into twice as many trial
// streams, up to maxTrials. A trial stream that proves healthy becomes the main one, or is merged into it.
//
// Changing what a stream reads means to open another one in its place; it goes on at the next offsets.

const (
	noEnd = int64(-1) // readPartition.end

	// readPartition.next of a partition of which it is not known yet where it is read from.
	nextIsStart = int64(-1)
	nextIsEnd   = int64(-2)

	maxTrials = 64
	// provenAfter is how long a stream has lasted when it counts as healthy without having brought anything.
	provenAfter = time.Second
)

// logKey names a partition.
type logKey struct {
	topic     string
	partition int32
}

// readPartition is one partition of a reader.
type readPartition struct {
	key     logKey
	topicID string // empty: whatever topic has the name
	next    int64  // behind what was received
	end     int64  // where to stop, or noEnd

	stream   *readStream // nil while it waits for one
	at       *endpoint   // where it was read last; nil after a failure
	failures int         // in a row
	failedAt *endpoint   // where it failed last
	retryAt  time.Time
	since    time.Time // when a server last answered for it, or its silence was last told
}

func (p *readPartition) done() bool { return p.end != noEnd && p.next >= p.end }

// lane names a stream among those of a reader. There is at most one of each.
type lane struct {
	topic, topicID string
	at             *endpoint
	trial          int32 // 0 is the main stream
}

// readStream is one stream of batches. All but ctx, cancel, room and what does not change of lane is guarded by the reader's mu.
type readStream struct {
	lane     lane
	parts    map[int32]*readPartition // nil until the first answer of a stream that asks where partitions begin
	ctx      context.Context
	cancel   context.CancelFunc
	room     chan struct{} // Poll took what was given
	opened   time.Time
	answered bool     // something came
	brought  bool     // a piece came
	gave     *Batches // waits for Poll
	stopped  bool     // what it receives is not wanted any more
}

func (s *readStream) healthy(now time.Time) bool {
	return s.brought || s.answered && now.Sub(s.opened) >= provenAfter
}

func (s *readStream) take(p *readPartition) {
	s.parts[p.key.partition] = p
	p.stream, p.at = s, s.lane.at
}

// giveUp leaves the partitions to other streams. What waits for Poll is read again by those.
func (s *readStream) giveUp() {
	s.stopped = true
	for _, p := range s.parts {
		p.stream = nil
	}
	if s.gave != nil {
		s.parts[s.gave.Partition].next = s.gave.From
		s.gave = nil
	}
}

// placement is which partitions there are and which streams read them.
type placement struct {
	parts   map[logKey]*readPartition
	streams map[lane]*readStream
}

// nodes is what a placement needs to know of the cluster.
type nodes interface {
	leader(topic string, partition int32) (*endpoint, bool)
	any() *endpoint
}

// place brings the streams up to date: it returns those to stop, which are out of the placement already, those to open, and when
// to place again at the latest, zero for when something happens. It does nothing but decide.
func (pl *placement) place(now time.Time, known nodes) (stop, open []*readStream, again time.Time) {
	wake := func(t time.Time) {
		if again.IsZero() || t.Before(again) {
			again = t
		}
	}
	leave := func(s *readStream) {
		delete(pl.streams, s.lane)
		stop = append(stop, s)
		s.giveUp()
	}
	var somebody *endpoint
	wanted := func(p *readPartition) *endpoint {
		if e, ok := known.leader(p.key.topic, p.key.partition); ok {
			return e
		}
		if p.at != nil {
			return p.at
		}
		if somebody == nil {
			somebody = known.any()
		}
		return somebody
	}
	for _, s := range slices.Collect(maps.Values(pl.streams)) {
		for _, p := range s.parts {
			if wanted(p) != s.lane.at {
				leave(s)
				break
			}
		}
	}
	for _, s := range slices.Collect(maps.Values(pl.streams)) {
		if s.lane.trial == 0 {
			continue
		}
		if !s.healthy(now) {
			wake(s.opened.Add(provenAfter))
			continue
		}
		for _, p := range s.parts {
			p.failures = 0
		}
		main := s.lane
		main.trial = 0
		if _, there := pl.streams[main]; there {
			leave(s)
			continue
		}
		delete(pl.streams, s.lane)
		s.lane.trial = 0
		pl.streams[main] = s
	}
	fresh := map[lane]*readStream{}
	for _, p := range pl.parts {
		if p.stream != nil || p.done() {
			continue
		}
		if p.retryAt.After(now) {
			if e, ok := known.leader(p.key.topic, p.key.partition); !ok || e == p.failedAt {
				wake(p.retryAt)
				continue
			}
		}
		l := lane{topic: p.key.topic, topicID: p.topicID, at: wanted(p)}
		if p.failures > 0 {
			l.trial = 1 + p.key.partition%int32(min(maxTrials, 1<<min(p.failures-1, 30)))
		}
		s := fresh[l]
		if s == nil {
			s = &readStream{lane: l, parts: map[int32]*readPartition{}, opened: now}
			fresh[l] = s
			open = append(open, s)
			if old := pl.streams[l]; old != nil {
				leave(old)
				for _, q := range old.parts {
					if !q.done() {
						s.take(q)
					}
				}
			}
			pl.streams[l] = s
		}
		s.take(p)
	}
	slices.SortFunc(open, func(a, b *readStream) int {
		return cmp.Or(cmp.Compare(a.lane.topic, b.lane.topic), cmp.Compare(a.lane.trial, b.lane.trial))
	})
	return stop, open, again
}
