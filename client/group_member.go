package client

import (
	"context"
	"sync"
	"time"

	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// callTimeout is how long one call about a membership may take, other than a join. It is longer than a node looks for a coordinator that is away, and than
// the lease of a dead one lasts, so that a call which meets a change of coordinators has the new one's answer, and is not in doubt. A node that
// does not answer at all is found out earlier, by its connection.
const callTimeout = 12 * time.Second

// groupRetryable tells whether a call about a group may be made again for what it was answered.
func groupRetryable(e *Error) bool {
	return retryableRead(e) || e.Reason == reasonNotCoordinator || e.Reason == ReasonRebalanceInProgress
}

// ask makes one call to a node, which forwards it to the coordinator.
func (g *GroupConsumer) ask(ctx context.Context, f func(ctx context.Context, to *endpoint) error) *Error {
	to := g.c.any()
	ctx, cancel := context.WithTimeout(ctx, min(callTimeout, max(g.cfg.SessionTimeout/2, time.Second)))
	defer cancel()
	if err := f(ctx, to); err != nil {
		g.c.failed(to, err)
		return g.c.errorFrom(to.url, err)
	}
	g.c.worked(to)
	return nil
}

// membership is how calls name the member; mu is held.
func (g *GroupConsumer) membership() *tidemarkv1.Membership {
	return &tidemarkv1.Membership{Group: g.group, MemberId: g.member.id, InstanceId: g.cfg.InstanceID, Generation: g.member.generation}
}

// keep joins the group, keeps the membership alive, and joins again when it is told to.
func (g *GroupConsumer) keep() {
	for {
		answer, ok := g.join()
		if !ok {
			return
		}
		if less, wait := g.adopt(answer); less {
			g.awaitRelease(wait)
			continue // the others wait to hear that it is given up
		}
		if g.beat(nil) == pulseRejoin && g.eager() {
			g.awaitRelease(g.revokeAll())
		}
	}
}

// join is in the group when it returns true; false when the consumer ended.
func (g *GroupConsumer) join() (*tidemarkv1.JoinResponse, bool) {
	g.mu.Lock()
	told := g.member.heard
	g.mu.Unlock()
	for try := 0; ; try++ {
		g.mu.Lock()
		member := g.member.id != ""
		req := &tidemarkv1.JoinRequest{
			Group: g.group, MemberId: g.member.id, InstanceId: g.cfg.InstanceID, ClientId: g.cfg.ClientID, Topics: g.topics, Strategy: g.cfg.Strategy,
			Owned: topicPartitions(g.target), SessionTimeoutMs: int32(g.cfg.SessionTimeout.Milliseconds()), RebalanceTimeoutMs: int32(g.cfg.RebalanceTimeout.Milliseconds()),
		}
		g.member.joining = true
		g.mu.Unlock()
		if g.ctx.Err() != nil {
			return nil, false
		}
		answer, e := g.joinOnce(req, member)
		if g.ctx.Err() != nil {
			return nil, false
		}
		if e == nil {
			return answer, true
		}
		g.c.log.Info("join a group", "group", g.group, "error", e)
		now := g.c.clock.Now()
		if !g.stillMember(e, now) && !groupRetryable(e) && e.Reason != ReasonUnknownMember && e.Reason != ReasonIllegalGeneration {
			g.end(e)
			return nil, false
		}
		if groupRetryable(e) && now.Sub(told) >= g.cfg.SessionTimeout {
			told = now
			g.mu.Lock()
			g.problem = e.again()
			g.mu.Unlock()
			wake(g.bell)
		}
		if !g.pause(g.ctx, g.c.backoff(try, e.RetryAfter), nil) {
			return nil, false
		}
	}
}

// joinOnce makes one call. A member sends heartbeats while it waits for the others, and gives up waiting when one says that it is none any more,
// or when nothing was heard for the session timeout.
func (g *GroupConsumer) joinOnce(req *tidemarkv1.JoinRequest, member bool) (*tidemarkv1.JoinResponse, *Error) {
	to := g.c.any()
	ctx, cancel := context.WithTimeout(g.ctx, g.cfg.RebalanceTimeout+callTimeout)
	defer cancel()
	var out *Error // of the heartbeats
	var beats sync.WaitGroup
	if member {
		beats.Go(func() {
			if out = g.beatWhileJoining(ctx); out != nil {
				cancel()
			}
		})
	}
	answer, err := to.group.Join(ctx, req)
	cancel()
	beats.Wait()
	switch {
	case err == nil:
		g.c.worked(to)
		return answer, nil
	case out != nil:
		if groupRetryable(out) {
			g.c.avoid(to, false) // it does not answer
		}
		return nil, out
	}
	g.c.failed(to, err)
	return nil, g.c.errorFrom(to.url, err)
}

// beatWhileJoining returns why the member is to wait no more; nil when ctx ended.
func (g *GroupConsumer) beatWhileJoining(ctx context.Context) *Error {
	every := g.beatEvery()
	for try := 0; ; {
		left := g.silenceLeft()
		wait := every
		if try > 0 {
			wait = min(every, g.c.backoff(try-1, 0))
		}
		if !g.pause(ctx, max(min(wait, left), 0), nil) {
			return nil
		}
		beat, cancel := context.WithTimeout(ctx, max(g.silenceLeft(), time.Millisecond))
		_, e := g.heartbeat(beat)
		cancel()
		select {
		case <-ctx.Done(): // what came of the heartbeat does not matter any more
			return nil
		default:
		}
		switch {
		case e == nil:
			try = 0
			continue
		case !groupRetryable(e) && e.Reason != ReasonIllegalGeneration: // the answer that tells the generation may be on its way
			return e
		case g.silenceLeft() <= 0:
			return e
		}
		try++
	}
}

// silenceLeft is how much longer the member may hear nothing.
func (g *GroupConsumer) silenceLeft() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.member.heard.Add(g.cfg.SessionTimeout).Sub(g.c.clock.Now())
}

// beatEvery is the time between two heartbeats: a member hears of a rebalance well before that is over.
func (g *GroupConsumer) beatEvery() time.Duration {
	return min(g.cfg.SessionTimeout/3, 3*time.Second, max(g.cfg.RebalanceTimeout/8, 50*time.Millisecond))
}

// stillMember draws from an error what it means for the membership: false when everything was lost by it.
func (g *GroupConsumer) stillMember(e *Error, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case e.Reason == ReasonUnknownMember:
		g.member.id = ""
	case e.Reason == ReasonIllegalGeneration:
	case groupRetryable(e) && now.Sub(g.member.heard) < g.cfg.SessionTimeout:
		return true
	}
	keys := make([]logKey, 0, len(g.held))
	for key := range g.held {
		keys = append(keys, key)
	}
	clear(g.target)
	g.lose(keys)
	return false
}

// end is the end of the membership for good.
func (g *GroupConsumer) end(e *Error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fatal = e
	g.member.joining = false
	g.move()
	wake(g.bell)
}

// adopt takes an assignment. less tells that something was taken away, of which the application still has wait.
func (g *GroupConsumer) adopt(answer *tidemarkv1.JoinResponse) (less bool, wait map[logKey]*holding) {
	g.mu.Lock()
	defer g.mu.Unlock()
	target := make(map[logKey]assignment, len(answer.GetAssigned()))
	for _, a := range answer.GetAssigned() {
		target[logKey{a.GetTopic(), a.GetPartition()}] = assignment{topicID: a.GetTopicId(), committed: max(a.GetCommitted(), -1)}
	}
	for key, had := range g.target {
		now, kept := target[key]
		if !kept || now.topicID != had.topicID { // a topic that was made again is another one
			less = true
		}
	}
	g.member.id, g.member.generation, g.member.joining, g.member.heard = answer.GetMemberId(), answer.GetGeneration(), false, g.c.clock.Now()
	g.target, g.problem = target, nil
	if g.closed {
		g.target = map[logKey]assignment{}
	}
	wait = g.those(g.surplus())
	g.move()
	wake(g.bell)
	return less, wait
}

// revokeAll takes everything back from the application.
func (g *GroupConsumer) revokeAll() map[logKey]*holding {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.target)
	wake(g.bell)
	return g.those(g.surplus())
}

// awaitRelease waits, as a living member, until the application has given up what it has of partitions. When it does not call Poll in time they are
// lost to it. What it has got again meanwhile, of a topic that was made anew, is another matter.
func (g *GroupConsumer) awaitRelease(given map[logKey]*holding) {
	limit := g.c.clock.Now().Add(g.cfg.RebalanceTimeout / 4 * 3)
	g.beat(func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		var left []logKey
		for key, h := range given {
			if g.held[key] == h {
				left = append(left, key)
			}
		}
		if len(left) > 0 && !g.c.clock.Now().Before(limit) {
			g.c.log.Warn("Poll was not called in time: partitions are given up without the application", "group", g.group, "partitions", len(left))
			g.lose(left)
			left = nil
		}
		return len(left) == 0
	})
}

type pulse uint8

const (
	pulseRejoin pulse = iota // the coordinator says to join again
	pulseOut                 // of the group: everything is lost
	pulseEnd                 // of the consumer
	pulseDone                // what was waited for has come
)

// beat sends heartbeats until the coordinator says to join again, or, unless done is nil, until that is true, whatever the coordinator
// says of joining. done is asked with every heartbeat, and when something of the membership has changed.
func (g *GroupConsumer) beat(done func() bool) pulse {
	every := g.beatEvery()
	timer := g.c.clock.NewTimer(every)
	defer timer.Stop()
	for try := 0; ; {
		g.mu.Lock()
		moved := g.member.moved
		g.mu.Unlock()
		if done != nil && done() {
			return pulseDone
		}
		select {
		case <-timer.C():
		case <-g.hurry:
		case <-moved:
			continue
		case <-g.ctx.Done():
			return pulseEnd
		}
		rejoin, e := g.heartbeat(g.ctx)
		now := g.c.clock.Now()
		switch {
		case g.ctx.Err() != nil:
			return pulseEnd
		case e == nil:
			try = 0
			if rejoin && done == nil {
				return pulseRejoin
			}
			timer.Reset(every)
		default:
			g.c.log.Info("heartbeat of a group", "group", g.group, "error", e)
			if !g.stillMember(e, now) {
				return pulseOut
			}
			timer.Reset(min(every, g.c.backoff(try, 0)))
			try++
		}
	}
}

// heartbeat sends one, and notes when the coordinator has heard of the member.
func (g *GroupConsumer) heartbeat(ctx context.Context) (rejoin bool, e *Error) {
	g.mu.Lock()
	req := &tidemarkv1.HeartbeatRequest{Member: g.membership()}
	g.mu.Unlock()
	sent := g.c.clock.Now()
	e = g.ask(ctx, func(ctx context.Context, to *endpoint) error {
		answer, err := to.group.Heartbeat(ctx, req)
		rejoin = answer.GetRejoin()
		return err
	})
	if e != nil && e.Reason == ReasonRebalanceInProgress {
		rejoin, e = true, nil
	}
	if e == nil {
		g.mu.Lock()
		g.member.heard = sent
		g.mu.Unlock()
	}
	return rejoin, e
}

// leave gives the partitions to the others at once. A member with a name of its own comes back.
func (g *GroupConsumer) leave(ctx context.Context) error {
	g.mu.Lock()
	req := &tidemarkv1.LeaveRequest{Member: g.membership()}
	g.member.id = ""
	g.mu.Unlock()
	if req.GetMember().GetMemberId() == "" || g.cfg.InstanceID != "" {
		return nil
	}
	begin := g.c.clock.Now()
	for try := 0; ; try++ {
		e := g.ask(ctx, func(ctx context.Context, to *endpoint) error {
			_, err := to.group.Leave(ctx, req)
			return err
		})
		switch {
		case e == nil, e.Reason == ReasonUnknownMember, e.Reason == ReasonIllegalGeneration, e.Reason == ReasonFencedInstance:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !groupRetryable(e) || g.c.clock.Now().Sub(begin) >= g.cfg.SessionTimeout:
			return e
		}
		if !g.pause(ctx, g.c.backoff(try, e.RetryAfter), nil) {
			return context.Cause(ctx)
		}
	}
}

// topicPartitions lists partitions by topic.
func topicPartitions(of map[logKey]assignment) []*tidemarkv1.TopicPartitions {
	by := map[string]*tidemarkv1.TopicPartitions{}
	var out []*tidemarkv1.TopicPartitions
	for key := range of {
		t := by[key.topic]
		if t == nil {
			t = &tidemarkv1.TopicPartitions{Topic: key.topic}
			by[key.topic] = t
			out = append(out, t)
		}
		t.Partitions = append(t.Partitions, key.partition)
	}
	return out
}
