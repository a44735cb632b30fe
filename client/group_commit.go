package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"connectrpc.com/connect"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// Commit stores that everything below the positions is processed; it is durable when Commit returns nil. Partitions at or above
// their offset already stay as they are. The error joins an *Error for each partition that could not be committed, with topic and partition in its
// metadata; the others are committed. Without an answer within SessionTimeout, or when ctx ends, the error says so, and the
// commit may have been stored or not. An error that is ErrOutcomeUnknown is about one that was sent and not answered before what the error
// says came about, such as the loss of the partition: that too may have been stored.
func (g *GroupConsumer) Commit(ctx context.Context, positions ...Position) error {
	want := map[logKey]offsetAt{}
	g.mu.Lock()
	for _, p := range positions {
		for n, offset := range p.Offsets {
			key := logKey{p.Topic, n}
			at := offsetAt{offset, -1}
			if h := g.held[key]; h != nil && h.polled.offset == offset {
				at = h.polled
			}
			if old, twice := want[key]; !twice || old.offset < offset {
				want[key] = at
			}
		}
	}
	g.mu.Unlock()
	return g.commit(ctx, want)
}

// CommitPolled is Commit of everything that Poll has returned.
func (g *GroupConsumer) CommitPolled(ctx context.Context) error {
	want := map[logKey]offsetAt{}
	g.mu.Lock()
	for key, h := range g.held {
		if h.polled.offset >= 0 {
			want[key] = h.polled
		}
	}
	g.mu.Unlock()
	return g.commit(ctx, want)
}

// processed is how far the application is done with partitions, all when none is named.
func (g *GroupConsumer) processed(keys []logKey) map[logKey]offsetAt {
	g.mu.Lock()
	defer g.mu.Unlock()
	if keys == nil {
		keys = slices.Collect(maps.Keys(g.held))
	}
	out := make(map[logKey]offsetAt, len(keys))
	for _, key := range keys {
		if h := g.held[key]; h != nil && h.processed.offset > h.committed && !g.replaced(key, h) {
			out[key] = h.processed
		}
	}
	return out
}

// autoCommit commits from time to time what was processed.
func (g *GroupConsumer) autoCommit() {
	timer := g.c.clock.NewTimer(g.cfg.AutoCommit)
	defer timer.Stop()
	for {
		select {
		case <-timer.C():
		case <-g.ctx.Done():
			return
		}
		if err := g.commit(g.ctx, g.processed(nil)); err != nil && g.ctx.Err() == nil {
			g.c.log.Warn("commit what was processed; it will be tried again", "group", g.group, "error", err)
		}
		timer.Reset(g.cfg.AutoCommit)
	}
}

// beginAtEnd commits where partitions begin that are read from their end, so that another member begins there as well.
func (g *GroupConsumer) beginAtEnd(ctx context.Context, topic string, from map[int32]int64) error {
	want := make(map[logKey]offsetAt, len(from))
	for n, offset := range from {
		want[logKey{topic, n}] = offsetAt{offset, -1}
	}
	if err := g.commit(ctx, want); err != nil {
		return &Error{Code: connect.CodeUnavailable, Reason: reasonUnavailable, Message: "commit where the group begins: " + err.Error(), Retryable: true, cause: err}
	}
	return nil
}

// commit stores offsets, one call at a time.
func (g *GroupConsumer) commit(ctx context.Context, want map[logKey]offsetAt) error {
	if len(want) == 0 {
		return nil
	}
	select {
	case g.committing <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-g.committing }()
	failed, doubt := map[logKey]*Error{}, map[logKey]bool{}
	begin := g.c.clock.Now()
	for try := 0; ; try++ {
		g.mu.Lock()
		req := g.commitRequest(want, failed)
		member, moved := g.member, g.member.moved
		g.mu.Unlock()
		if len(req.GetOffsets()) == 0 {
			return joinFailed(failed, doubt)
		}
		e := g.ask(ctx, func(ctx context.Context, to *endpoint) error {
			answer, err := to.group.Commit(ctx, req)
			if err == nil {
				g.committed(req, answer, failed)
			}
			return err
		})
		if e == nil {
			return joinFailed(failed, doubt)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if maybeCommitted(e) {
			for _, o := range req.GetOffsets() {
				doubt[logKey{o.GetTopic(), o.GetPartition()}] = true
			}
		}
		wait := g.c.backoff(try, e.RetryAfter)
		switch e.Reason {
		case ReasonIllegalGeneration, ReasonUnknownMember, ReasonFencedInstance:
			g.mu.Lock()
			now := g.member
			g.mu.Unlock()
			if !member.joining && now.id == member.id && now.generation == member.generation {
				wake(g.hurry) // the heartbeat will hear the same
				return inDoubt(e, len(doubt) > 0)
			}
		case ReasonRebalanceInProgress:
			wake(g.hurry)
		default:
			if !groupRetryable(e) {
				return inDoubt(e, len(doubt) > 0)
			}
		}
		if g.c.clock.Now().Sub(begin)+wait >= g.cfg.SessionTimeout {
			return inDoubt(e, len(doubt) > 0)
		}
		if !g.pause(ctx, wait, moved) {
			return context.Cause(ctx)
		}
	}
}

// commitRequest is about what of want is not committed yet. Partitions that are not this member's go to failed. mu is held.
func (g *GroupConsumer) commitRequest(want map[logKey]offsetAt, failed map[logKey]*Error) *tidemarkv1.CommitRequest {
	req := &tidemarkv1.CommitRequest{Member: g.membership()}
	for key, at := range want {
		h := g.held[key]
		switch {
		case at.offset < 0:
			failed[key] = g.commitError(key, connect.CodeInvalidArgument, "INVALID_REQUEST", fmt.Sprintf("there is no offset %d", at.offset))
		case h == nil, g.replaced(key, h):
			failed[key] = g.commitError(key, connect.CodeFailedPrecondition, ReasonNotAssigned, "the partition is not this member's (any more)")
		case at.offset > h.committed:
			if at.offset < h.sent { // an earlier commit may have been stored
				at = offsetAt{h.sent, -1}
			}
			h.before, h.sent = h.sent, at.offset
			req.Offsets = append(req.Offsets, &tidemarkv1.OffsetCommit{
				Topic: key.topic, TopicId: h.topicID, Partition: key.partition, Offset: at.offset, LeaderEpoch: at.epoch,
			})
		}
	}
	slices.SortFunc(req.GetOffsets(), func(a, b *tidemarkv1.OffsetCommit) int {
		return cmp.Or(cmp.Compare(a.GetTopic(), b.GetTopic()), cmp.Compare(a.GetPartition(), b.GetPartition()))
	})
	return req
}

// committed notes an answer.
func (g *GroupConsumer) committed(req *tidemarkv1.CommitRequest, answer *tidemarkv1.CommitResponse, failed map[logKey]*Error) {
	for _, e := range answer.GetErrors() {
		key := logKey{e.GetTopic(), e.GetPartition()}
		failed[key] = g.commitError(key, connect.CodeFailedPrecondition, e.GetReason(), e.GetMessage())
		failed[key].Retryable = retryableReason(e.GetReason())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, o := range req.GetOffsets() {
		key := logKey{o.GetTopic(), o.GetPartition()}
		switch h := g.held[key]; {
		case h == nil, h.topicID != o.GetTopicId(): // it was about another log
		case failed[key] == nil:
			h.committed = max(h.committed, o.GetOffset())
		default:
			h.sent = max(h.committed, h.before) // it was refused, so it was not stored; of those before it nothing is known
		}
	}
}

func (g *GroupConsumer) commitError(key logKey, code connect.Code, reason, message string) *Error {
	return &Error{
		Code: code, Reason: reason, Message: fmt.Sprintf("commit %s/%d of group %s: %s", key.topic, key.partition, g.group, message),
		Metadata: map[string]string{"topic": key.topic, "partition": strconv.Itoa(int(key.partition))},
	}
}

// maybeCommitted tells whether a commit that failed may have been stored all the same, now or later.
func maybeCommitted(e *Error) bool {
	switch e.Reason {
	case ReasonIllegalGeneration, ReasonUnknownMember, ReasonFencedInstance, ReasonRebalanceInProgress:
		return false // the coordinator has refused it
	}
	return !neverSent(e)
}

// inDoubt is an error that claims nothing of what was sent before it, if that is in doubt.
func inDoubt(e *Error, doubt bool) *Error {
	if !doubt {
		return e
	}
	out := *e
	out.Outcome = OutcomeUnknown
	return &out
}

// joinFailed joins the errors of partitions, of which those in doubt may have been committed before.
func joinFailed(failed map[logKey]*Error, doubt map[logKey]bool) error {
	errs := make([]error, 0, len(failed))
	for _, key := range slices.SortedFunc(maps.Keys(failed), func(a, b logKey) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
	}) {
		errs = append(errs, inDoubt(failed[key], doubt[key]))
	}
	return errors.Join(errs...)
}

// pause waits for a time, or until the membership changes; false when ctx ended.
func (g *GroupConsumer) pause(ctx context.Context, wait time.Duration, moved <-chan struct{}) bool {
	t := g.c.clock.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C():
		return true
	case <-moved:
		return true
	case <-ctx.Done():
		return false
	}
}
