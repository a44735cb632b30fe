package client

import (
	"context"
	"errors"
	"slices"
	"time"
)

// handOver is how long Poll spends at most on the commit of partitions that it gives up.
const handOver = 10 * time.Second

// Poll waits for the next piece of any partition that this member has, and runs the callbacks that are due before. It returns ctx's error
// when that ends first, ErrClosed after Close, else an *Error. After a Retryable one, or after ctx's, Poll may be called again and
// goes on; any other is final. Calling Poll says that what it returned before is processed.
//
// It may take longer than ctx says while callbacks run and, for at most 10 s, while partitions that are given up are committed.
func (g *GroupConsumer) Poll(ctx context.Context) (*Batches, error) {
	g.polling.Lock()
	defer g.polling.Unlock()
	if !g.enter() {
		return nil, ErrClosed
	}
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		g.reconcile()
		if err := g.trouble(); err != nil {
			return nil, err
		}
		b, err := g.r.poll(ctx, g.bell)
		if errors.Is(err, errOther) {
			continue
		}
		if err != nil {
			return nil, err
		}
		g.mu.Lock()
		h := g.held[logKey{b.Topic, b.Partition}]
		if h != nil {
			h.polled = offsetAt{b.Next, b.leaderEpoch()}
		}
		g.mu.Unlock()
		if h != nil { // else it was lost this very moment
			return b, nil
		}
	}
}

// enter begins a Poll: the first one starts everything, and all say that what was returned is processed.
func (g *GroupConsumer) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	if !g.started {
		g.started = true
		g.r.start()
		g.loops.Go(g.keep)
		if g.cfg.AutoCommit > 0 {
			g.loops.Go(g.autoCommit)
		}
	}
	for _, h := range g.held {
		h.processed = h.polled
	}
	return true
}

// trouble is what Poll has to tell.
func (g *GroupConsumer) trouble() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fatal != nil {
		return g.fatal
	}
	if e := g.problem; e != nil {
		g.problem = nil
		return e
	}
	return nil
}

// reconcile brings what the application has in line with what the coordinator gave: it tells what was lost, then gives up what was
// revoked, then takes what is new. polling is held.
func (g *GroupConsumer) reconcile() {
	for {
		g.mu.Lock()
		lost := g.lost
		g.lost = nil
		revoked := g.surplus()
		if len(lost) == 0 && len(revoked) == 0 {
			added := g.takeNew()
			g.mu.Unlock()
			g.call(g.cfg.OnAssign, added)
			return
		}
		g.mu.Unlock()
		g.call(g.cfg.OnLost, lost)
		if len(revoked) > 0 {
			ctx, cancel := context.WithTimeout(g.ctx, handOver)
			err := g.giveUp(ctx, revoked)
			cancel()
			if err != nil {
				g.c.log.Warn("commit what is given up; it will be read again", "group", g.group, "error", err)
			}
		}
	}
}

// surplus is what the application has and the coordinator did not give; mu is held.
func (g *GroupConsumer) surplus() []logKey {
	var out []logKey
	for key, h := range g.held {
		if _, ok := g.target[key]; !ok || g.replaced(key, h) {
			out = append(out, key)
		}
	}
	return out
}

// those are the holdings of partitions; mu is held.
func (g *GroupConsumer) those(keys []logKey) map[logKey]*holding {
	out := make(map[logKey]*holding, len(keys))
	for _, key := range keys {
		out[key] = g.held[key]
	}
	return out
}

// replaced tells that a topic was deleted and made again under its name since the application has the partition; mu is held.
func (g *GroupConsumer) replaced(key logKey, h *holding) bool {
	a, ok := g.target[key]
	return ok && a.topicID != h.topicID
}

// takeNew begins to read what the application does not have yet; mu is held.
func (g *GroupConsumer) takeNew() []logKey {
	var added []logKey
	var parts []*readPartition
	for key, a := range g.target {
		if g.held[key] != nil {
			continue
		}
		at := offsetAt{a.committed, -1}
		next := a.committed
		if next < 0 {
			next = nextIsStart
			if g.cfg.FromEnd {
				next = nextIsEnd
			}
		}
		g.held[key] = &holding{topicID: a.topicID, polled: at, processed: at, committed: a.committed, sent: a.committed, before: a.committed}
		added = append(added, key)
		parts = append(parts, &readPartition{key: key, topicID: a.topicID, next: next, end: noEnd})
	}
	if len(parts) > 0 {
		g.r.add(parts)
	}
	return added
}

// giveUp hands partitions over: OnRevoke, then the commit of what was processed, then nothing of them is read any more.
func (g *GroupConsumer) giveUp(ctx context.Context, keys []logKey) (err error) {
	g.mu.Lock()
	g.revoking = make(map[logKey]bool, len(keys))
	for _, key := range keys {
		g.revoking[key] = true
	}
	g.mu.Unlock()
	g.call(g.cfg.OnRevoke, keys)
	if g.cfg.AutoCommit > 0 {
		err = g.commit(ctx, g.processed(keys))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.revoking = nil
	g.drop(keys)
	return err
}

// drop forgets partitions that the application had; mu is held.
func (g *GroupConsumer) drop(keys []logKey) {
	for _, key := range keys {
		delete(g.held, key)
	}
	g.r.remove(keys)
	g.move()
}

// lose takes partitions away from the application without asking; mu is held.
func (g *GroupConsumer) lose(keys []logKey) {
	for _, key := range keys {
		if g.held[key] != nil && !g.revoking[key] {
			g.lost = append(g.lost, key)
		}
	}
	g.drop(keys)
	wake(g.bell)
}

// move tells those who wait for a change of the membership or of what the application has; mu is held.
func (g *GroupConsumer) move() {
	close(g.member.moved)
	g.member.moved = make(chan struct{})
}

func (g *GroupConsumer) call(f func(map[string][]int32), keys []logKey) {
	if f == nil || len(keys) == 0 {
		return
	}
	by := map[string][]int32{}
	for _, key := range keys {
		by[key.topic] = append(by[key.topic], key.partition)
	}
	for _, partitions := range by {
		slices.Sort(partitions)
	}
	f(by)
}

// Close gives up all partitions, OnRevoke first, commits what was processed unless AutoCommit is off, and leaves the group at once, unless the
// member has an InstanceID. What the last Poll returned is committed only if CommitPolled or Commit did so before. When ctx ends
// first, the coordinator hears nothing of it and gives the partitions to others after SessionTimeout. Closing twice is harmless.
func (g *GroupConsumer) Close(ctx context.Context) error {
	g.mu.Lock()
	first := !g.closed
	g.closed = true
	g.mu.Unlock()
	g.r.close(ErrClosed) // ends a Poll
	g.polling.Lock()
	defer g.polling.Unlock()
	if !first {
		return nil
	}
	g.mu.Lock()
	g.target = map[logKey]assignment{}
	lost := g.lost
	g.lost = nil
	held := g.surplus()
	g.mu.Unlock()
	g.call(g.cfg.OnLost, lost)
	var err error
	if len(held) > 0 {
		err = g.giveUp(ctx, held)
	}
	g.cancel()
	g.loops.Wait()
	return errors.Join(err, g.leave(ctx))
}
