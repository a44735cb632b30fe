package query

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/client"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/query/column"
	"github.com/tidemark-io/tidemark/query/tail"
)

// A position above the end of a partition.
//
// Every position that somebody was acknowledged is at or below the ends that are asked for after it. So one above them is a mistake: of a topic that was
// deleted and made again, of records that were acknowledged before they were safe (acks=1) and lost, or a made-up one. It may
// still come true, and is waited for a moment, but not for as long as the query may take: many that wait for nothing would leave no
// room for others.

// aheadWait is how long a query waits for the log to come to a position that nobody was acknowledged.
const aheadWait = 10 * time.Second

// errAhead ends the waiting. It never leaves this file.
var errAhead = errors.New("the log did not come to the position")

// above is the first partition of which more is asked than there is, -1 when there is none.
func above(atLeast, ends map[int32]int64) int32 {
	for _, n := range slices.Sorted(maps.Keys(atLeast)) {
		if atLeast[n] > ends[n] {
			return n
		}
	}
	return -1
}

// covering are offsets at or above both.
func covering(ends, atLeast map[int32]int64) map[int32]int64 {
	out := maps.Clone(ends)
	for n, offset := range atLeast {
		out[n] = max(out[n], offset)
	}
	return out
}

// snapAbove takes a snapshot that covers atLeast, which is above ends, when the log comes there within aheadWait and the query's own time.
func (s *Service) snapAbove(ctx context.Context, t meta.Topic, atLeast, ends map[int32]int64, schema *column.Schema) (snapshot, error) {
	limited, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	timer := s.clock.NewTimer(aheadWait)
	watching.Go(func() {
		defer timer.Stop()
		select {
		case <-timer.C():
			cancel(errAhead)
		case <-limited.Done():
		}
	})
	snap, err := s.tail.Snapshot(limited, t, covering(ends, atLeast), schema)
	cancel(nil)
	watching.Wait()
	switch {
	case err == nil:
		return snap, nil
	case errors.Is(context.Cause(limited), errAhead) && ctx.Err() == nil:
		return s.snapLate(ctx, t, atLeast, schema)
	case reasonOf(context.Cause(ctx)) == ReasonTimeout && onlyAhead(err, ends):
		return nil, notReached(t.Name, atLeast, ends)
	}
	return nil, tailError(err)
}

// snapLate is the last attempt, when the waiting is over: either the log is there by now, and only the tail is behind it, or never.
func (s *Service) snapLate(ctx context.Context, t meta.Topic, atLeast map[int32]int64, schema *column.Schema) (snapshot, error) {
	ends, err := s.log.EndOffsets(ctx, t.Name, t.ID.String())
	if client.IsNotFound(err) {
		return nil, errGone
	}
	if err != nil {
		return nil, unavailable("ask for the ends of topic "+t.Name, err)
	}
	if above(atLeast, ends) >= 0 {
		return nil, notReached(t.Name, atLeast, ends)
	}
	snap, err := s.tail.Snapshot(ctx, t, ends, schema)
	if err != nil {
		return nil, tailError(err)
	}
	return snap, nil
}

// onlyAhead tells of a tail that ended its waiting whether it had everything below the ends.
func onlyAhead(err error, ends map[int32]int64) bool {
	lag, is := errors.AsType[*tail.LagError](err)
	if !is || len(lag.Partitions) == 0 {
		return false
	}
	return !slices.ContainsFunc(lag.Partitions, func(l tail.Lag) bool { return l.Reached < ends[l.Partition] })
}

// notReached names the first partition that does not come to the position.
func notReached(topic string, atLeast, ends map[int32]int64) *Error {
	n := above(atLeast, ends)
	return errorf(ReasonPositionNotReached, "at_least asks for offset %d of partition %d of topic %s, which ends at %d, and nobody was acknowledged there",
		atLeast[n], n, topic, ends[n]).
		with("topic", topic).with("partition", strconv.Itoa(int(n))).
		with("asked", strconv.FormatInt(atLeast[n], 10)).with("end", strconv.FormatInt(ends[n], 10)).
		with("next", "The position may be that of a topic that was deleted and made again, or of records sent with acks=1, which may be lost: ask without it.")
}
