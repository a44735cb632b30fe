package meta

import (
	"context"
	"fmt"
)

// Drain marks a node, so that it lets go of what it leads and nothing new is given to it, or with cancel takes the mark away. The mark
// outlives the node's restarts. A node that nobody knows is ErrUnknownNode; the last one that could lead anything is ErrLastNode.
func (c *Client) Drain(ctx context.Context, f *Follower, node NodeID, cancel bool) error {
	key := c.keys.Drain(node)
	return c.retry(ctx, "drain node "+string(node), func() (bool, error) {
		revision, err := c.Revision(ctx)
		if err != nil {
			return !retryable(err), err
		}
		if err := f.WaitFor(ctx, revision); err != nil {
			return true, err
		}
		at, drain := f.drainOf(node)
		switch {
		case cancel && at == 0, !cancel && drain.Wanted:
			return true, nil
		case !cancel:
			if err := f.canDrain(node); err != nil {
				return true, err
			}
		}
		txn := Txn{If: []Compare{IfMod(key, at)}, Then: []Op{DeleteOp(key)}}
		if !cancel {
			txn.Then = []Op{PutOp(key, encodeJSON(drainValue{Version: valueVersion}))}
		}
		result, err := c.kv.Txn(ctx, txn)
		return err == nil && result.Succeeded, err
	})
}

// drainOf is the mark on a node, with its revision, 0 when there is none.
func (f *Follower) drainOf(node NodeID) (Revision, Drain) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.view.drainRevs[node], f.view.drains[node]
}

func (f *Follower) canDrain(node NodeID) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	_, alive := f.view.nodes[node]
	if _, leads := f.view.assigned[node]; !alive && !leads {
		return fmt.Errorf("%w: %s", ErrUnknownNode, node)
	}
	if !f.view.heir(node) {
		return fmt.Errorf("%w: start another node, or cancel the drain of one, before node %s is drained", ErrLastNode, node)
	}
	return nil
}

// Stopping tells the cluster that a node is about to stop: others take what it lets go, and it is given nothing more. The mark
// goes with the registration. It tries once: a stop does not wait for an etcd that is away.
func (c *Client) Stopping(ctx context.Context, reg Registration) error {
	key := c.keys.Drain(reg.Node)
	_, err := c.kv.Txn(ctx, Txn{
		If:   []Compare{IfMod(c.keys.Node(reg.Node), reg.NodeRev), IfAbsent(key)},
		Then: []Op{PutLeasedOp(key, encodeJSON(drainValue{Version: valueVersion, Stopping: true}), reg.Lease)},
	})
	if err != nil {
		return fmt.Errorf("tell that node %s stops: %w", reg.Node, err)
	}
	return nil // refused: it is being drained already, or is not registered any more
}
