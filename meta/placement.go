package meta

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tidemark-io/tidemark/proof/failpoint"
)

// Place brings the assignment of partitions to what it should be, if the caller's node is the controller or can become it, and returns
// when f shows it. It makes one transaction after the other, each planned from the index of f: see Index.PlanPlacement. With balance
// it also asks nodes that lead more than their share to let some partitions go.
//
// The first result is a revision at which all that could be assigned was, the second tells whether the node is the controller.
func (c *Client) Place(ctx context.Context, f *Follower, reg Registration, balance bool) (Revision, bool, error) {
	wait := retryFirst
	for {
		step, at, err := f.planPlacement(reg, balance)
		if err != nil {
			return 0, false, fmt.Errorf("assign partitions: %w", err)
		}
		if len(step.Txn.Then) == 0 {
			return at, step.Controls, nil
		}
		if step.What == electedStep {
			// Only who keeps up with etcd stands for it.
			revision, err := c.Revision(ctx)
			if err == nil {
				err = f.WaitFor(ctx, revision)
			}
			if err != nil {
				return 0, false, fmt.Errorf("assign partitions: %w", err)
			}
		}
		failpoint.Here(failpoint.AssignBeforeSend)
		result, err := c.kv.Txn(ctx, step.Txn)
		failpoint.Here(failpoint.AssignAfterAnswer)
		switch {
		case err == nil:
			wait = retryFirst
			// The answer's revision is that of the change, or one at which a compare had failed: the next plan sees why.
			if err := f.WaitFor(ctx, result.Revision); err != nil {
				return 0, false, fmt.Errorf("assign partitions: %w", err)
			}
			if result.Succeeded && step.Moves > 0 {
				c.logger.InfoContext(ctx, "assigned partitions", "what", step.What, "partitions", step.Moves, "to", step.To, "revision", result.Revision)
			}
		case hopeless(err) || ctx.Err() != nil:
			return 0, false, fmt.Errorf("assign partitions: %w", err)
		default:
			// It may have been made, or may yet be. The next plan compares the same placement, so at most one of the two is.
			c.logger.DebugContext(ctx, "an assignment is planned again", "cause", err)
			if err := c.pauseAndCatchUp(ctx, f, wait); err != nil {
				return 0, false, fmt.Errorf("assign partitions: %w", err)
			}
			wait = min(2*wait, retryLongest)
		}
	}
}

// ResignControl gives up being the controller, if f shows that the node is.
func (c *Client) ResignControl(ctx context.Context, f *Follower, reg Registration) error {
	f.mu.RLock()
	at := f.view.controller
	f.mu.RUnlock()
	if at == nil || at.node != reg.Node || at.incarnation != reg.Incarnation {
		return nil
	}
	key := c.keys.Controller()
	if _, err := c.kv.Txn(ctx, Txn{If: []Compare{IfMod(key, at.rev)}, Then: []Op{DeleteOp(key)}}); err != nil {
		return fmt.Errorf("give up being the controller: %w", err)
	}
	return nil
}

func (c *Client) pauseAndCatchUp(ctx context.Context, f *Follower, wait time.Duration) error {
	t := c.clock.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C():
	case <-ctx.Done():
		return ctx.Err()
	}
	revision, err := c.Revision(ctx)
	if err != nil {
		if hopeless(err) || ctx.Err() != nil {
			return err
		}
		return nil // no answer this time either
	}
	return f.WaitFor(ctx, revision)
}

// planPlacement plans from the follower's index, and tells its revision.
func (f *Follower) planPlacement(reg Registration, balance bool) (PlacementStep, Revision, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	step, err := f.view.PlanPlacement(reg, balance)
	return step, f.view.revision, err
}

// electedStep is the step that makes a node the controller.
const electedStep = "elected"

// ErrRoom says that no node has room for more partitions.
var ErrRoom = errors.New("no node has room for more partitions")

// placementState is what a deletion is planned from, at one revision.
type placementState struct {
	revision  Revision
	placement *KeyValue
	topics    []Topic
	assigned  map[NodeID]Assignment
}

func (c *Client) readPlacement(ctx context.Context) (placementState, error) {
	s := placementState{assigned: make(map[NodeID]Assignment)}
	for _, dir := range []string{"placement", dirTopics, dirAssign} {
		kvs, revision, err := c.kv.Range(ctx, c.keys.prefix+dir, s.revision)
		if err != nil {
			return s, fmt.Errorf("read %s: %w", dir, err)
		}
		s.revision = revision
		for _, kv := range kvs {
			if err := s.take(c.keys, dir, kv); err != nil {
				return s, err
			}
		}
	}
	return s, nil
}

func (s *placementState) take(k Keys, dir string, kv KeyValue) (err error) {
	name := strings.TrimPrefix(kv.Key, k.prefix+dir)
	switch {
	case kv.Key == k.Placement():
		s.placement = &kv
	case dir == dirTopics:
		var t Topic
		if t, err = decodeTopic(name, kv); err == nil {
			s.topics = append(s.topics, t)
		}
	case dir == dirAssign:
		s.assigned[NodeID(name)], err = decodeAssignment(NodeID(name), kv)
	}
	return err
}

// nextPlacement writes the chain's key anew; the value only counts, for people.
func nextPlacement(k Keys, at *KeyValue) Op {
	v := counterValue{Version: valueVersion}
	if at != nil {
		if err := decodeJSON(at.Key, at.Value, &v); err != nil {
			v = counterValue{Version: valueVersion} // its revision is what counts
		}
	}
	return placementOp(k, v.Next)
}

func placementOp(k Keys, count int64) Op {
	return PutOp(k.Placement(), encodeJSON(counterValue{Version: valueVersion, Next: count + 1}))
}
